//! `jobs`, `retry`, `cancel`: they act on the database, and a running service follows within a second.

use std::io;

use super::failure::Failure;
use super::print::Out;
use super::words::{Zones, command, insist_on_rule};
use super::workshop::open_store;
use crate::cli::{JobArgs, JobsArgs};
use crate::clock::Clock;
use crate::core::lead::LeadId;
use crate::core::outcome::Outcome;
use crate::settings::Settings;
use crate::store::JobId;
use crate::store::jobs::{self, Cancel, Job, JobFilter, JobState, Retry};

/// Rows fetched at a time: an export must not hold a reader open for long.
const PAGE: u32 = 1000;
/// Rows shown to a person who did not say how many.
const SHOWN: u64 = 50;

/// Lists jobs, newest first.
pub(super) async fn list(settings: &Settings, args: &JobsArgs) -> Result<(), Failure> {
    let out = Out::new(args.json.json);
    let (state, outcome) = state_or_outcome(args.state.as_deref())?;
    let lead =
        args.lead.map(LeadId::try_from).transpose().map_err(|error| Failure::usage(error.to_string()))?;
    let store = open_store(&settings.db, false)?;
    let mut left = args.limit.unwrap_or(if out.json { u64::MAX } else { SHOWN });
    let zones = Zones::read(settings);
    let (mut after, mut shown, mut more) = (None, Vec::new(), false);
    while left > 0 {
        let limit = PAGE.min(u32::try_from(left).unwrap_or(PAGE));
        let filter = JobFilter {
            state,
            outcome,
            rule: args.rule.clone(),
            lead,
            after,
            limit: limit + 1,
            newest_first: true,
            ..JobFilter::default()
        };
        let mut page = store.read(move |db| jobs::list(db, &filter)).await?;
        more = page.len() as u64 > u64::from(limit);
        page.truncate(limit as usize);
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        left -= page.len() as u64;
        for job in page {
            if out.json { out.object(&job)? } else { shown.push(row(&job, &zones)) }
        }
        if !more {
            break;
        }
    }
    if after.is_none() {
        insist_on_rule(settings, args.rule.as_deref())?;
    }
    if out.json {
        return Ok(());
    }
    if shown.is_empty() {
        out.say("no jobs")?;
        return Ok(());
    }
    out.table(&["job", "lead", "rule", "state", "due or done", "attempts", "why"], shown)?;
    if more {
        out.say("… and more: --limit N, or --json for all")?;
    }
    Ok(())
}

fn state_or_outcome(word: Option<&str>) -> Result<(Option<JobState>, Option<Outcome>), Failure> {
    let Some(word) = word else { return Ok((None, None)) };
    match (JobState::parse(word), Outcome::parse(word)) {
        (Some(state), _) => Ok((Some(state), None)),
        (None, Some(outcome)) => Ok((Some(JobState::Done), Some(outcome))),
        (None, None) => Err(Failure::usage(format!(
            "--state {word}: write waiting, running or done, or an outcome: deleted, already_gone, spared, cancelled, failed"
        ))),
    }
}

fn row(job: &Job, zones: &Zones) -> Vec<String> {
    let state = job.outcome.map_or(job.state.as_str(), Outcome::as_str);
    vec![
        job.id.to_string(),
        job.lead_id.to_string(),
        job.rule.clone(),
        state.to_owned(),
        zones.of_rule(&job.rule, job.finished_at.unwrap_or(job.due_at)),
        job.attempts.to_string(),
        job.why(),
    ]
}

/// Puts a failed job back to waiting, due now.
pub(super) async fn retry(settings: &Settings, args: &JobArgs) -> Result<(), Failure> {
    let (id, now) = (JobId(args.job), Clock::System.now());
    let store = open_store(&settings.db, false)?;
    let done = store.write(move |db| jobs::retry(db, id, now)).await?;
    store.close().await;
    let out = Out::new(args.json.json);
    match done {
        Retry::Requeued => told(out, id, "requeued", "waits again, due now"),
        Retry::NotFailed(state, outcome) => {
            let word = outcome.map_or(state.as_str(), Outcome::as_str);
            Err(Failure::of(format!("job {id} is {word}: only a failed job can be retried")))
        }
        Retry::LiveJobExists(other) => {
            Err(Failure::of(format!("job {id}: its lead already has the live job {other}")))
        }
        Retry::NoSuchJob => Err(no_such(settings, id)),
    }
}

/// Cancels a waiting job.
pub(super) async fn cancel(settings: &Settings, args: &JobArgs) -> Result<(), Failure> {
    let (id, now) = (JobId(args.job), Clock::System.now());
    let store = open_store(&settings.db, false)?;
    let done = store.write(move |db| jobs::cancel(db, id, now)).await?;
    store.close().await;
    let out = Out::new(args.json.json);
    match done {
        Cancel::Cancelled => {
            told(out, id, "cancelled", "is cancelled; its lead is protected from that rule for 30 days")
        }
        Cancel::Running => Err(Failure::of(format!(
            "job {id} is running: its deletion was or is about to be sent to the portal"
        ))),
        Cancel::AlreadyDone(outcome) => {
            Err(Failure::of(format!("job {id} is done already: {}", outcome.as_str())))
        }
        Cancel::NoSuchJob => Err(no_such(settings, id)),
    }
}

fn told(out: Out, id: JobId, word: &str, sentence: &str) -> Result<(), Failure> {
    out.object(&serde_json::json!({ "job": id, "result": word }))?;
    let said: io::Result<()> = out.say(format!("job {id} {sentence}"));
    Ok(said?)
}

fn no_such(settings: &Settings, id: JobId) -> Failure {
    Failure::of(format!("there is no job {id}; {} lists them", command(settings, "jobs")))
}
