//! `export`: the audit. Every finished job, oldest first, a page at a time: memory does not grow with the history.

use super::failure::Failure;
use super::print::{Out, Sheet};
use super::words::{Zones, moment};
use super::workshop::open_store;
use crate::cli::ExportArgs;
use crate::clock::Clock;
use crate::settings::Settings;
use crate::store::audit::{self, Line};
use crate::store::{JobId, RunId};

/// Rows fetched at a time: a reader that is open for long keeps the database's log from being emptied.
const PAGE: u32 = 1000;

const COLUMNS: &[&str] = &[
    "id",
    "lead_id",
    "rule",
    "run_id",
    "trigger",
    "run_started_at",
    "outcome",
    "reason",
    "attempts",
    "created_at",
    "due_at",
    "first_sent_at",
    "last_sent_at",
    "finished_at",
    "last_error",
    "restored_as",
];

/// Writes every finished job.
pub(super) async fn export(settings: &Settings, args: &ExportArgs) -> Result<(), Failure> {
    let since = match &args.since {
        Some(text) => Some(moment(text, &Zones::read(settings), None, Clock::System.now())?),
        None => None,
    };
    let out = Out::new(args.jsonl);
    let store = open_store(&settings.db, false)?;
    let mut sheet = if args.csv { Some(Sheet::new(COLUMNS)?) } else { None };
    let mut after = JobId(0);
    loop {
        let page = store.read(move |db| audit::page(db, after, since, PAGE)).await?;
        for line in &page.lines {
            match &mut sheet {
                Some(sheet) => row(sheet, line)?,
                None => out.object(line)?,
            }
        }
        match page.next {
            Some(next) => after = next,
            None => break,
        }
    }
    store.close().await;
    Ok(())
}

fn row(sheet: &mut Sheet, line: &Line) -> Result<(), Failure> {
    let number = |value: Option<i64>| value.map(|value| value.to_string()).unwrap_or_default();
    let time = |at: Option<jiff::Timestamp>| at.map(|at| at.to_string()).unwrap_or_default();
    let JobId(id) = line.id;
    let RunId(run) = line.run_id;
    let cells = [
        id.to_string(),
        line.lead_id.to_string(),
        line.rule.clone(),
        run.to_string(),
        line.trigger.clone(),
        time(Some(line.run_started_at)),
        line.outcome.as_str().to_owned(),
        line.reason.clone().unwrap_or_default(),
        line.attempts.to_string(),
        time(Some(line.created_at)),
        time(Some(line.due_at)),
        time(line.first_sent_at),
        time(line.last_sent_at),
        time(Some(line.finished_at)),
        line.last_error.clone().unwrap_or_default(),
        number(line.restored_as.map(i64::from)),
    ];
    let cells: Vec<&str> = cells.iter().map(String::as_str).collect();
    sheet.row(&cells)
}
