//! The same deletions by published clients, through `tests/clients/drain.py`.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use tokio::process::Command;
use tokio::time::Instant;

use crate::cases::Case;
use crate::drain::{Figures, delete_by_hand, portal};

/// What the script prints.
#[derive(Deserialize)]
struct Reported {
    deleted: usize,
    already_gone: usize,
    other: usize,
    note: String,
}

/// Runs a case with a published client.
pub(crate) async fn theirs(case: &Case, client: &str, python: &Path) -> Result<Figures> {
    let (portal, webhook, mut expected) = portal(case).await?;
    let ids: Vec<String> = expected.iter().map(u32::to_string).collect();
    delete_by_hand(case, &portal, &mut expected);
    let list = std::env::temp_dir().join(format!("b24-janitor-bench-ids-{}", std::process::id()));
    std::fs::write(&list, ids.join("\n"))?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/drain.py");
    let started = Instant::now();
    let output = Command::new(python)
        .arg(script)
        .args([client, &webhook])
        .arg(&list)
        .stdin(Stdio::null())
        .output()
        .await
        .context("the Python of --peers")?;
    let seconds = started.elapsed().as_secs_f64();
    let text = String::from_utf8_lossy(&output.stdout);
    let Some(line) = text.lines().last() else {
        bail!("{}", String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or("no output"));
    };
    let reported: Reported = serde_json::from_str(line).context("what the client's script prints")?;
    let stats = portal.stats();
    let said = (reported.deleted, reported.already_gone, reported.other);
    Ok(Figures::of(case, client, seconds, &stats, &expected, said, reported.note))
}
