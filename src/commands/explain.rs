//! `explain LEAD_ID`: the lead against every rule, and what became of it. Changes nothing.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};

use super::alone;
use super::failure::Failure;
use super::judged::{self, Paint};
use super::print::{Out, complain};
use super::run::ask_service;
use super::words::Zones;
use super::workshop::{self, Whose};
use crate::cli::ExplainArgs;
use crate::core::lead::LeadId;
use crate::engine::explain as engine;
use crate::settings::Settings;

/// What tells a file of tests from rules in a directory of both.
const ENDING: &str = ".test.yaml";

/// Explains one lead.
pub(super) async fn explain(settings: &Settings, args: &ExplainArgs) -> Result<(), Failure> {
    let out = Out::new(args.json.json);
    let lead = LeadId::try_from(args.lead).map_err(|error| Failure::usage(error.to_string()))?;
    let as_test = args.save_test.is_some();
    if let Some(file) = &args.save_test {
        check_name(file)?;
    }
    let rules = workshop::load_rules(settings)?;
    let zones = Zones::of(&rules);
    let mut told = match workshop::whose(&settings.db)? {
        Whose::Service(_) => {
            let store = workshop::open_store(&settings.db, false)?;
            let bar = out.progress(0, "asking the running service");
            let asked = json!({ "lead": lead, "as_test": as_test });
            let told = ask_service(settings, &store, "explain", &asked).await;
            bar.finish_and_clear();
            told?
        }
        Whose::Ours(lock) => {
            alone::look(settings, rules, lock, async |ctx| {
                let told = engine::explain(ctx, &ctx.rules(), lead, as_test).await?;
                Ok(serde_json::to_value(&told)?)
            })
            .await?
        }
    };
    let test = told.as_object_mut().and_then(|told| told.remove("test"));
    out.object(&told)?;
    if !out.json {
        judged::tell(out, Paint::new(out.colors_answers()), &zones, &told)?;
    }
    let presence = told.get("presence").and_then(Value::as_str).unwrap_or_default();
    if presence == "unknown" {
        let error = told.get("portal_error").and_then(Value::as_str).unwrap_or_default();
        return Err(Failure::of(format!("the portal did not answer: {error}")));
    }
    match (&args.save_test, test) {
        (None, _) => Ok(()),
        (Some(file), Some(test)) => save(out, settings, file, lead, &test),
        (Some(_), None) => Err(Failure::of(format!("no test was written: the lead is {presence}"))),
    }
}

fn check_name(file: &Path) -> Result<(), Failure> {
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if !name.ends_with(ENDING) || name.len() == ENDING.len() {
        return Err(Failure::usage(format!(
            "--save-test {}: the name must end with {ENDING}, so that it isn't taken for rules",
            file.display()
        )));
    }
    if file.exists() {
        return Err(Failure::usage(format!("--save-test {}: there is such a file already", file.display())));
    }
    Ok(())
}

/// Writes the cases. The file names its rules, unless they are the ones that `test` looks for beside it.
fn save(out: Out, settings: &Settings, file: &Path, lead: LeadId, test: &Value) -> Result<(), Failure> {
    let cases = test.get("cases").and_then(Value::as_u64).unwrap_or_default();
    let notes = test.get("notes").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let notes: Vec<&str> = notes.iter().filter_map(Value::as_str).collect();
    if cases == 0 {
        notes.iter().for_each(|note| complain(format!("note: {note}")));
        return Err(Failure::of("no test was written: no rule can be tested without the lead's texts"));
    }
    let mut text =
        format!("# Lead {lead}, written by `b24-janitor explain {lead} --save-test`. No personal data.\n");
    for note in &notes {
        text.push_str(&format!("# {note}\n"));
    }
    if let Some(rules) = rules_seen_from(file, &settings.rules)? {
        text.push_str(&format!("rules: {}\n", Value::from(rules)));
    }
    text.push_str(test.get("yaml").and_then(Value::as_str).unwrap_or_default());
    let mut created = OpenOptions::new().write(true).create_new(true).open(file)?;
    created.write_all(text.as_bytes())?;
    for note in &notes {
        out.say(format!("note: {note}"))?;
    }
    let word = if cases == 1 { "case" } else { "cases" };
    out.say(format!("wrote {cases} {word}: `b24-janitor test {}`", file.display()))?;
    Ok(())
}

/// The rules as the file is to name them: beside it by their name alone, elsewhere by their whole path.
fn rules_seen_from(file: &Path, rules: &Path) -> Result<Option<String>, Failure> {
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    };
    let (folder, rules) = (fs::canonicalize(folder)?, fs::canonicalize(rules)?);
    let name = rules.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if rules.parent() != Some(folder.as_path()) {
        return Ok(Some(rules.display().to_string()));
    }
    Ok((name != super::test::BESIDE).then_some(name))
}
