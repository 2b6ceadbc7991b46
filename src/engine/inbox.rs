//! Turns stored events into decisions: coalesced by lead, up to 50 leads a request.
//!
//! Races, and how each is decided:
//! * an event arrives while its lead is being evaluated: the row taken is not the row it joins, so it is evaluated
//!   again;
//! * an event arrives for a lead between its re-read and its deletion: the worker looks for it in the transaction that
//!   marks the deletion as sent, and reads again (see [`super::lane`]);
//! * our own deletions come back as `ONCRMLEADDELETE`: a job that is being deleted is left alone;
//! * events of a lead in the wrong order (update after delete): the lead is absent from the list, and processed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::{SignedDuration, Timestamp};
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use super::by_event::{self, EventMatches};
use super::context::{Context, EngineError};
use super::sweep::{Swept, start_sweep};
use crate::core::batch_size;
use crate::core::decide::{LastLook, Verdict, decide, last_look, whole_seconds};
use crate::core::lead::{Lead, LeadId, read_time};
use crate::core::outcome::Outcome;
use crate::core::rule::{LeadEvent, RuleSet};
use crate::core::undo;
use crate::portal::{CallError, Class};
use crate::store::EventId;
use crate::store::control;
use crate::store::events::{self, PendingLead};
use crate::store::jobs::{self, JobState, LeadGone};
use crate::store::protections::{self, ProtectionReason};
use crate::store::restores;

/// A lead older than this when its ADD event comes is no new lead but one restored from the recycle bin.
const RESTORED_IF_OLDER: SignedDuration = SignedDuration::from_hours(1);
/// How long the inbox sleeps when nothing wakes it: a safety net under the change notice of the store.
const IDLE: SignedDuration = SignedDuration::from_secs(60);

/// How long the inbox looks whether more events come before it reads the leads of those that did: an automation of the
/// portal changes a lead several times in a moment, and one reading sees it all.
const CALM_LOOK: SignedDuration = SignedDuration::from_millis(200);
/// As many events within [`CALM_LOOK`] are a storm, a hundred a second: each reading would be out of date at once.
const STORM_EVENTS: u64 = 20;
/// A storm that does not end is not waited for any longer than so many looks, ten seconds; counted, since the clock may be
/// set meanwhile.
const STORM_LOOKS: u32 = 50;

/// Processes events until the service stops.
pub(super) async fn run(ctx: Context, tasks: TaskTracker) {
    let (mut changes, mut arrivals) = (ctx.store.changes(), ctx.store.arrivals());
    let mut unchecked = ctx.unchecked_changes();
    let mut tries = 0;
    let swept = Arc::new(tokio::sync::Mutex::new(Swept::new()));
    let sweeping = Arc::new(AtomicBool::new(false));
    // Requests until the events are looked at whether they storm.
    let mut calm_for = 0;
    while !ctx.stop.is_cancelled() {
        changes.borrow_and_update();
        arrivals.borrow_and_update();
        unchecked.mark_unchanged();
        let step = async {
            if ctx.store.read(|db| Ok(control::portal_stop(db)?.is_some())).await? {
                // Every call would be refused; the end of the stop is a change that wakes.
                return Ok(false);
            }
            if awaits_check(&ctx) {
                return Ok(false);
            }
            if !sweeping.load(Ordering::SeqCst) {
                start_sweep(&ctx, &tasks, &sweeping, &swept).await?;
            }
            if calm_for == 0 {
                calm_for = calm(&ctx).await?;
            }
            calm_for = calm_for.saturating_sub(1);
            process_some(&ctx).await
        };
        let until = match step.await {
            Ok(true) => {
                tries = 0;
                continue;
            }
            Ok(false) => {
                tries = 0;
                ctx.clock.now().checked_add(ctx.clock.idle(IDLE)).unwrap_or(Timestamp::MAX)
            }
            Err(EngineError::Stopping) => return,
            Err(error) => {
                warn!(error = %error, "events wait: they could not be evaluated");
                tries += 1;
                let at = ctx.retry_at(ctx.clock.now(), tries);
                tokio::select! {
                    biased;
                    () = ctx.clock.sleep_until(at) => {}
                    () = ctx.stop.cancelled() => return,
                }
                continue;
            }
        };
        tokio::select! {
            biased;
            _ = changes.changed() => {}
            _ = arrivals.changed() => {}
            _ = unchecked.changed() => {}
            () = ctx.clock.sleep_until(until) => {}
            () = ctx.stop.cancelled() => return,
        }
    }
}

/// Waits until no more than a few events come at a time; for how many requests there is work then.
async fn calm(ctx: &Context) -> Result<usize, EngineError> {
    if !ctx.store.read(events::any_pending).await? {
        return Ok(0);
    }
    let mut counts = ctx.store.read(events::counts).await?;
    for _ in 0..STORM_LOOKS {
        let look = ctx.clock.now().checked_add(CALM_LOOK).unwrap_or(Timestamp::MAX);
        tokio::select! {
            biased;
            () = ctx.clock.sleep_until(look) => {}
            () = ctx.stop.cancelled() => return Err(EngineError::Stopping),
        }
        let before = counts.total;
        counts = ctx.store.read(events::counts).await?;
        if counts.total.saturating_sub(before) < STORM_EVENTS {
            break;
        }
    }
    let rows = usize::try_from(counts.pending).unwrap_or(usize::MAX);
    Ok(rows.div_ceil(batch_size::MAX))
}

/// Whether a rule that listens is unchecked because the portal could not be asked: its events wait for that. Where the
/// portal found mistakes, the other rules' events do not wait for a person to mend them; a gap is recorded instead.
fn awaits_check(ctx: &Context) -> bool {
    let unchecked = ctx.unchecked();
    let mut listening = unchecked.of.rules.iter().filter(|rule| !rule.events.is_empty());
    !unchecked.refused && listening.any(|rule| unchecked.rules.contains(rule.name.as_str()))
}

/// Takes and processes up to 50 leads' events; whether there were any.
pub(super) async fn process_some(ctx: &Context) -> Result<bool, EngineError> {
    let now = ctx.clock.now();
    if !ctx.store.read(events::any_pending).await? {
        return Ok(false);
    }
    let pending = ctx.store.write(move |db| events::take_pending(db, batch_size::MAX, now)).await?;
    if pending.is_empty() {
        return Ok(false);
    }
    let ids = ids_of(&pending);
    if let Err(error) = process(ctx, pending).await {
        give_back(ctx, ids).await;
        return Err(error);
    }
    Ok(true)
}

/// Gives events back that could not be evaluated; tries until the store takes it, since nothing else would look at them
/// before the next start.
async fn give_back(ctx: &Context, ids: Vec<EventId>) {
    let mut tries = 0;
    loop {
        let taken = ids.clone();
        let Err(error) = ctx.store.write(move |db| events::release(db, &taken)).await else { return };
        warn!(%error, "events could not be given back; trying again");
        tries += 1;
        let at = ctx.retry_at(ctx.clock.now(), tries);
        tokio::select! {
            biased;
            () = ctx.clock.sleep_until(at) => {}
            () = ctx.stop.cancelled() => return,
        }
    }
}

fn ids_of(pending: &[PendingLead]) -> Vec<EventId> {
    pending.iter().flat_map(|lead| lead.events.iter().map(|event| event.id)).collect()
}

async fn process(ctx: &Context, pending: Vec<PendingLead>) -> Result<(), EngineError> {
    let (gone, alive): (Vec<PendingLead>, Vec<PendingLead>) = pending
        .into_iter()
        .partition(|lead| lead.events.iter().any(|event| event.event == LeadEvent::Delete));
    if !gone.is_empty() {
        leads_gone(ctx, &gone).await?;
    }
    let (rules, unchecked) = ctx.in_force();
    let wanted = rules.rules.iter().any(|rule| !rule.events.is_empty());
    let live = {
        let leads: Vec<LeadId> = alive.iter().map(|lead| lead.lead_id).collect();
        ctx.store.read(move |db| jobs::live_jobs(db, &leads)).await?
    };
    // Without a rule that listens, only leads with a waiting job are worth a request.
    let (read, skipped): (Vec<PendingLead>, Vec<PendingLead>) =
        alive.into_iter().partition(|lead| wanted || live.contains_key(&lead.lead_id));
    finish(ctx, ids_of(&skipped), "no rule listens", None).await?;
    read_and_decide(ctx, &rules, &unchecked, read).await
}

/// `ONCRMLEADDELETE` settles a waiting job without a call to the portal.
async fn leads_gone(ctx: &Context, gone: &[PendingLead]) -> Result<(), EngineError> {
    let now = ctx.clock.now();
    let leads: Vec<LeadId> = gone.iter().map(|lead| lead.lead_id).collect();
    let ids = ids_of(gone);
    let outcomes: Vec<Outcome> = ctx
        .store
        .write(move |db| {
            let mut outcomes = Vec::new();
            for lead in leads {
                match jobs::lead_gone(db, lead, now)? {
                    LeadGone::Finished(_, outcome) => outcomes.push(outcome),
                    LeadGone::LeftAlone(_) | LeadGone::NoJob => {}
                }
            }
            events::finish(db, &ids, "lead is gone", None, now)?;
            Ok(outcomes)
        })
        .await?;
    for outcome in outcomes {
        ctx.metrics.job_finished(outcome.as_str());
    }
    Ok(())
}

/// Reads the leads and decides; on an error that is final for the request the batch is halved, so that one bad event
/// ends alone, as processed with its error.
async fn read_and_decide(
    ctx: &Context,
    rules: &Arc<RuleSet>,
    unchecked: &BTreeSet<String>,
    pending: Vec<PendingLead>,
) -> Result<(), EngineError> {
    let mut parts = vec![pending];
    while let Some(part) = parts.pop() {
        if part.is_empty() {
            continue;
        }
        let leads: Vec<LeadId> = part.iter().map(|lead| lead.lead_id).collect();
        match ctx.patiently(|| ctx.portal.leads_by_ids(&leads)).await {
            Ok(found) => decide_events(ctx, rules, unchecked, part, found).await?,
            Err(error) if is_final(&error) && part.len() > 1 => {
                let (left, right) = part.split_at(part.len() / 2);
                parts.push(left.to_vec());
                parts.push(right.to_vec());
            }
            Err(error) if is_final(&error) => {
                warn!(error = %error.fault, "an event could not be evaluated");
                finish(ctx, ids_of(&part), "error", Some(error.fault.to_string())).await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn is_final(error: &CallError) -> bool {
    match error.class {
        Class::Final | Class::Confirm => true,
        Class::Retry
        | Class::PauseMethod
        | Class::PausePortal
        | Class::RefreshToken
        | Class::StopPortal
        | Class::StopPortalForPerson
        | Class::Malformed => false,
    }
}

async fn finish(
    ctx: &Context,
    ids: Vec<EventId>,
    result: &'static str,
    error: Option<String>,
) -> Result<(), EngineError> {
    if ids.is_empty() {
        return Ok(());
    }
    let now = ctx.clock.now();
    Ok(ctx.store.write(move |db| events::finish(db, &ids, result, error.as_deref(), now)).await?)
}

async fn decide_events(
    ctx: &Context,
    rules: &Arc<RuleSet>,
    unchecked: &BTreeSet<String>,
    pending: Vec<PendingLead>,
    found: Vec<Lead>,
) -> Result<(), EngineError> {
    let now = whole_seconds(ctx.clock.now());
    let by_id: HashMap<LeadId, Lead> = found.into_iter().map(|lead| (lead.id, lead)).collect();
    let mut restored: Vec<LeadId> = pending
        .iter()
        .filter(|lead| is_restored(lead, by_id.get(&lead.lead_id)))
        .map(|lead| lead.lead_id)
        .collect();
    restored.extend(marked(ctx, &pending, &by_id).await?);
    protect_restored(ctx, &restored).await?;
    spare_kept(ctx, rules, &pending, &by_id, &restored, now).await?;

    let mut matches: BTreeMap<usize, EventMatches> = BTreeMap::new();
    let mut passed_over = false;
    for lead in &pending {
        let Some(found) = by_id.get(&lead.lead_id) else { continue };
        for (index, rule) in rules.rules.iter().enumerate() {
            if !lead.events.iter().any(|event| rule.events.contains(&event.event)) {
                continue;
            }
            if unchecked.contains(rule.name.as_str()) {
                passed_over = true;
                continue;
            }
            let verdict = decide(rule, &rules.protections, found, now);
            if verdict == Verdict::NoMatch {
                continue;
            }
            let entry = matches.entry(index).or_insert_with(|| EventMatches {
                selected: Vec::new(),
                protected: 0,
                undecidable: 0,
            });
            match verdict {
                Verdict::Delete => entry.selected.push(found.id),
                Verdict::Protected(_) => entry.protected += 1,
                Verdict::Undecidable => entry.undecidable += 1,
                Verdict::NoMatch => {}
            }
        }
    }
    for (index, matches) in matches {
        let Some(rule) = rules.rules.get(index) else { continue };
        // A run that selected nothing has nothing to tell, and events are many.
        if !matches.selected.is_empty() {
            by_event::enqueue_by_event(ctx, rule, matches).await?;
        }
    }
    if passed_over {
        note_passed_over(ctx).await?;
    }
    debug!(leads = pending.len(), "events evaluated");
    finish(ctx, ids_of(&pending), "evaluated", None).await
}

/// Events passed an unchecked rule by: it sweeps when it is checked.
async fn note_passed_over(ctx: &Context) -> Result<(), EngineError> {
    const REASON: &str = "a rule was not checked against the portal";
    let now = ctx.clock.now();
    ctx.store
        .write(move |db| {
            // One stands for all: what it asks for is one sweep.
            if events::open_gaps(db)?.iter().all(|gap| gap.reason != REASON) {
                events::record_gap(db, REASON, now)?;
            }
            Ok(())
        })
        .await?;
    Ok(())
}

fn is_restored(pending: &PendingLead, found: Option<&Lead>) -> bool {
    let Some(created) = found.and_then(|lead| lead.get("createdTime")).and_then(read_time) else {
        return false;
    };
    pending
        .events
        .iter()
        .filter(|event| event.event == LeadEvent::Add)
        .any(|event| event.portal_ts.unwrap_or(event.received_at).duration_since(created) > RESTORED_IF_OLDER)
}

/// Leads with the marker of a restore of ours whose id was not known until now: its answer was lost, or the database is an
/// older backup. One whose id is known was protected when it became known.
async fn marked(
    ctx: &Context,
    pending: &[PendingLead],
    by_id: &HashMap<LeadId, Lead>,
) -> Result<Vec<LeadId>, EngineError> {
    let marked: Vec<(LeadId, String, bool)> = pending
        .iter()
        .filter_map(|lead| {
            let marker = undo::marker_of(by_id.get(&lead.lead_id)?.fields())?;
            let added = lead.events.iter().any(|event| event.event == LeadEvent::Add);
            Some((lead.lead_id, marker.to_owned(), added))
        })
        .collect();
    if marked.is_empty() {
        return Ok(Vec::new());
    }
    let now = ctx.clock.now();
    let found = ctx
        .store
        .write(move |db| {
            let mut found = Vec::new();
            for (lead, marker, added) in marked {
                match restores::by_marker(db, &marker)? {
                    Some(known) if known.new_lead_id.is_some() => {}
                    Some(known) => {
                        restores::restored(db, (known.lead_id, known.job_id, &marker), lead, now)?;
                        found.push(lead);
                    }
                    None if added => found.push(lead),
                    None => {}
                }
            }
            Ok(found)
        })
        .await?;
    Ok(found)
}

async fn protect_restored(ctx: &Context, restored: &[LeadId]) -> Result<(), EngineError> {
    if restored.is_empty() {
        return Ok(());
    }
    info!(
        leads = restored.len(),
        "leads came back from the recycle bin or a copy: protected from every rule for 30 days"
    );
    let now = ctx.clock.now();
    let until = now.checked_add(restores::PROTECTED_FOR).unwrap_or(Timestamp::MAX);
    let restored = restored.to_vec();
    ctx.store
        .write(move |db| {
            for lead in restored {
                protections::protect_lead(db, lead, None, ProtectionReason::Restored, until, now)?;
            }
            Ok(())
        })
        .await?;
    Ok(())
}

/// An event that shows a waiting job's lead no longer matching spares it at once: a new match starts a new grace period.
/// So does one that shows the lead restored, which a run may have found before its event came.
async fn spare_kept(
    ctx: &Context,
    rules: &RuleSet,
    pending: &[PendingLead],
    by_id: &HashMap<LeadId, Lead>,
    restored: &[LeadId],
    now: Timestamp,
) -> Result<(), EngineError> {
    let leads: Vec<LeadId> = pending.iter().map(|lead| lead.lead_id).collect();
    let live = ctx.store.read(move |db| jobs::live_jobs(db, &leads)).await?;
    let mut spared: Vec<(LeadId, String)> = Vec::new();
    for (lead, job) in live {
        if job.state != JobState::Waiting {
            continue;
        }
        if restored.contains(&lead) {
            spared.push((lead, "protected: restored".to_owned()));
        } else if let Some(found) = by_id.get(&lead)
            && let LastLook::Spare(reason) = last_look(rules, &job.rule, found, now)
        {
            spared.push((lead, reason));
        }
    }
    if spared.is_empty() {
        return Ok(());
    }
    let count = ctx
        .store
        .write(move |db| {
            let mut count = 0u64;
            for (lead, reason) in &spared {
                count += u64::from(jobs::spare_waiting_of_lead(db, *lead, reason, now)?);
            }
            Ok(count)
        })
        .await?;
    for _ in 0..count {
        ctx.metrics.job_finished(Outcome::Spared.as_str());
    }
    Ok(())
}
