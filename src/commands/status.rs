//! `status`, `pause`, `resume`.

use jiff::Timestamp;
use serde::Serialize;

use super::failure::Failure;
use super::print::Out;
use super::words::{Zones, command};
use super::workshop::{Whose, open_store, whose};
use crate::clock::Clock;
use crate::engine::{remedy_of, silence};
use crate::rules;
use crate::settings::Settings;
use crate::store::control::{self, PortalStop, UncheckedRules};
use crate::store::runs;
use crate::store::{Disk, Room, events, jobs};

#[derive(Serialize)]
struct Status {
    events: events::EventCounts,
    jobs: jobs::JobCounts,
    paused: bool,
    last_error: Option<String>,
    portal_stop: Option<PortalStop>,
    held_runs: Vec<i64>,
    capped: Vec<CappedRule>,
    unchecked: UncheckedRules,
    next_due: Option<Timestamp>,
    silent_since: Option<Timestamp>,
    disk: Option<DiskSpace>,
    service: Service,
}

/// A rule whose due jobs wait for its `deletes_per_day`.
#[derive(Serialize)]
struct CappedRule {
    rule: String,
    deletes_per_day: u64,
    frees_at: Option<Timestamp>,
}

#[derive(Serialize)]
struct DiskSpace {
    free_bytes: u64,
    problem: Option<String>,
}

#[derive(Serialize)]
struct Service {
    running: bool,
    pid: Option<u32>,
    last_heartbeat: Option<Timestamp>,
}

/// Prints what waits, what was done, and what stops the work.
pub(super) async fn status(settings: &Settings, out: Out) -> Result<(), Failure> {
    let store = open_store(&settings.db, false)?;
    let (running, pid) = match whose(&settings.db)? {
        Whose::Ours(lock) => {
            drop(lock);
            (false, None)
        }
        Whose::Service(pid) => (true, pid),
    };
    let disk = Disk::of(&settings.db)
        .free()
        .ok()
        .map(|free_bytes| DiskSpace { free_bytes, problem: Room::judge(Room::Enough, free_bytes).says() });
    let now = Clock::System.now();
    // Rules that can't be read are told by `check`, and by the service that has other ones in force.
    let loaded = rules::load(&settings.rules).ok();
    let caps: Vec<(String, u64)> = loaded
        .iter()
        .flat_map(|loaded| &loaded.rules.rules)
        .map(|rule| (rule.name.to_string(), rule.limits.deletes_per_day))
        .collect();
    let zones = loaded.as_ref().map_or_else(|| Zones::read(settings), |loaded| Zones::of(&loaded.rules));
    let status = store
        .read(move |db| {
            let capped = jobs::capped_rules(db, now, &caps)?;
            let cap_of = |rule: &str| caps.iter().find(|(name, _)| name == rule).map_or(0, |(_, cap)| *cap);
            let capped = capped
                .into_iter()
                .map(|one| CappedRule {
                    deletes_per_day: cap_of(&one.rule),
                    rule: one.rule,
                    frees_at: one.frees_at,
                })
                .collect();
            let held = runs::all_held(db)?.into_iter().map(|run| run.id.0).collect();
            Ok(Status {
                events: events::counts(db)?,
                jobs: jobs::counts(db)?,
                paused: control::paused(db)?,
                last_error: control::last_error(db)?.map(|(error, at)| format!("{at} {error}")),
                portal_stop: control::portal_stop(db)?,
                held_runs: held,
                capped,
                unchecked: control::unchecked(db)?,
                next_due: jobs::next_due(db)?,
                silent_since: control::silent_since(db)?,
                disk,
                service: Service { running, pid, last_heartbeat: control::last_heartbeat(db)? },
            })
        })
        .await?;
    out.object(&status)?;
    let service = match (status.service.running, status.service.pid) {
        (true, Some(pid)) => format!("running (pid {pid})"),
        (true, None) => "running".to_owned(),
        (false, _) => "not running".to_owned(),
    };
    out.say(format!("service   {service}"))?;
    out.say(format!("events    {} pending, {} received", status.events.pending, status.events.total))?;
    let jobs = &status.jobs;
    out.say(format!("jobs      {} waiting, {} running", jobs.waiting, jobs.running))?;
    out.say(format!(
        "finished  {} deleted, {} already gone, {} spared, {} cancelled, {} failed",
        jobs.deleted, jobs.already_gone, jobs.spared, jobs.cancelled, jobs.failed
    ))?;
    if let Some(due) = status.next_due {
        out.say(format!("next due  {}", zones.local(due)))?;
    }
    if status.paused {
        out.say(format!("PAUSED: nothing is deleted until {}", command(settings, "resume")))?;
    }
    if let Some(stop) = &status.portal_stop {
        out.say(format!(
            "STOPPED by the portal since {}: {} {}",
            zones.local(stop.since),
            stop.code,
            stop.text
        ))?;
        out.say(format!("  {}", remedy_of(stop)))?;
    }
    if !status.unchecked.rules.is_empty() {
        let names = status.unchecked.rules.join(", ");
        out.say(format!("NOT CHECKED against the portal, so they neither run nor delete: {names}"))?;
        for why in &status.unchecked.why {
            out.say(format!("  {why}"))?;
        }
    }
    if let Some(problem) = status.disk.as_ref().and_then(|disk| disk.problem.as_ref()) {
        out.say(format!("DISK: {problem}"))?;
    }
    if let Some(since) = status.silent_since {
        out.say(format!("SILENT: {}", silence(zones.text(None, &since.to_string()))))?;
    }
    for run in &status.held_runs {
        out.say(format!("HELD: run {run} waits for approval; see {}", command(settings, "runs")))?;
    }
    for CappedRule { rule, deletes_per_day, frees_at } in &status.capped {
        let on = match frees_at {
            Some(at) => format!("the next may go at {}", zones.of_rule(rule, *at)),
            None => "the next may go when those in flight are answered".to_owned(),
        };
        out.say(format!("DAY CAP: rule {rule} has used up its deletes_per_day of {deletes_per_day}; {on}"))?;
    }
    if let Some(error) = &status.last_error {
        let (at, error) = error.split_once(' ').unwrap_or_default();
        let error = format!("{} {error}", zones.text(None, at));
        out.say(format!("last error  {error}"))?;
    }
    Ok(())
}

/// Stops the deleting, until [`resume`].
pub(super) async fn pause(settings: &Settings, out: Out) -> Result<(), Failure> {
    let store = open_store(&settings.db, false)?;
    let now = Clock::System.now();
    store.write(move |db| control::set_paused(db, true, now)).await?;
    out.object(&serde_json::json!({ "paused": true }))?;
    out.say(format!(
        "paused: nothing is claimed any more; requests in flight are finished. {} goes on",
        command(settings, "resume")
    ))?;
    store.close().await;
    Ok(())
}

/// Lets the deleting go on, after `pause` or after the portal refused every call.
pub(super) async fn resume(settings: &Settings, out: Out) -> Result<(), Failure> {
    let store = open_store(&settings.db, false)?;
    let now = Clock::System.now();
    store
        .write(move |db| {
            control::clear_portal_stop(db)?;
            control::set_paused(db, false, now)
        })
        .await?;
    out.object(&serde_json::json!({ "paused": false }))?;
    out.say("resumed: jobs that are due are deleted")?;
    store.close().await;
    Ok(())
}
