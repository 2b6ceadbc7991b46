//! `export`: the audit. Every finished job, or every run, oldest first, a page at a time: memory does not grow with the
//! history.

use jiff::Timestamp;
use serde::Serialize;

use super::failure::Failure;
use super::print::{Out, Sheet};
use super::words::{Zones, moment};
use super::workshop::open_store;
use crate::cli::ExportArgs;
use crate::clock::Clock;
use crate::settings::Settings;
use crate::store::audit::{self, Line};
use crate::store::runs::{self, Run};
use crate::store::{JobId, RunId, Store};

/// Rows fetched at a time: a reader that is open for long keeps the database's log from being emptied.
const PAGE: u32 = 1000;

const JOB_COLUMNS: &[&str] = &[
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

const RUN_COLUMNS: &[&str] = &[
    "id",
    "rule",
    "trigger",
    "mode",
    "state",
    "matched",
    "protected",
    "undecidable",
    "left_out",
    "already_waiting",
    "would_enqueue",
    "enqueued",
    "started_at",
    "held_at",
    "held_reason",
    "approved_at",
    "approved_by",
    "finished_at",
    "error",
    "rule_text",
];

/// A run as the audit tells it: the object of `runs --json` with what it leaves out.
#[derive(Serialize)]
struct RunLine<'a> {
    #[serde(flatten)]
    run: &'a Run,
    left_out: u64,
    held_at: Option<Timestamp>,
    held_reason: Option<&'a str>,
    approved_at: Option<Timestamp>,
    rule_text: &'a str,
}

/// Writes every finished job, or every run.
pub(super) async fn export(settings: &Settings, args: &ExportArgs) -> Result<(), Failure> {
    let since = match &args.since {
        Some(text) => Some(moment(text, &Zones::read(settings), None, Clock::System.now())?),
        None => None,
    };
    let out = Out::new(args.jsonl);
    let store = open_store(&settings.db, false)?;
    let columns = if args.runs { RUN_COLUMNS } else { JOB_COLUMNS };
    let mut sheet = if args.csv { Some(Sheet::new(columns)?) } else { None };
    match args.runs {
        true => all_runs(&store, since, &mut sheet, out).await?,
        false => all_jobs(&store, since, &mut sheet, out).await?,
    }
    store.close().await;
    Ok(())
}

async fn all_jobs(
    store: &Store,
    since: Option<Timestamp>,
    sheet: &mut Option<Sheet>,
    out: Out,
) -> Result<(), Failure> {
    let mut after = JobId(0);
    loop {
        let page = store.read(move |db| audit::page(db, after, since, PAGE)).await?;
        for line in &page.lines {
            match sheet {
                Some(sheet) => job_row(sheet, line)?,
                None => out.object(line)?,
            }
        }
        match page.next {
            Some(next) => after = next,
            None => return Ok(()),
        }
    }
}

async fn all_runs(
    store: &Store,
    since: Option<Timestamp>,
    sheet: &mut Option<Sheet>,
    out: Out,
) -> Result<(), Failure> {
    let mut after = RunId(0);
    loop {
        let (page, next) = store.read(move |db| runs::page(db, after, since, PAGE)).await?;
        for run in &page {
            let line = RunLine {
                run,
                left_out: run.left_out,
                held_at: run.held_at,
                held_reason: run.held_reason.as_deref(),
                approved_at: run.approved_at,
                rule_text: &run.rule_text,
            };
            match sheet {
                Some(sheet) => run_row(sheet, &line)?,
                None => out.object(&line)?,
            }
        }
        match next {
            Some(next) => after = next,
            None => return Ok(()),
        }
    }
}

fn time(at: Option<Timestamp>) -> String {
    at.map(|at| at.to_string()).unwrap_or_default()
}

fn job_row(sheet: &mut Sheet, line: &Line) -> Result<(), Failure> {
    let number = |value: Option<i64>| value.map(|value| value.to_string()).unwrap_or_default();
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
    row(sheet, &cells)
}

fn run_row(sheet: &mut Sheet, line: &RunLine<'_>) -> Result<(), Failure> {
    let run = line.run;
    let RunId(id) = run.id;
    let cells = [
        id.to_string(),
        run.rule.clone(),
        run.trigger.as_str().to_owned(),
        run.mode.as_str().to_owned(),
        run.state.as_str().to_owned(),
        run.matched.to_string(),
        run.protected.to_string(),
        run.undecidable.to_string(),
        line.left_out.to_string(),
        run.already_waiting.to_string(),
        run.would_enqueue.to_string(),
        run.enqueued.to_string(),
        time(Some(run.started_at)),
        time(line.held_at),
        line.held_reason.unwrap_or_default().to_owned(),
        time(line.approved_at),
        run.approved_by.clone().unwrap_or_default(),
        time(run.finished_at),
        run.error.clone().unwrap_or_default(),
        line.rule_text.to_owned(),
    ];
    row(sheet, &cells)
}

fn row(sheet: &mut Sheet, cells: &[String]) -> Result<(), Failure> {
    let cells: Vec<&str> = cells.iter().map(String::as_str).collect();
    sheet.row(&cells)
}
