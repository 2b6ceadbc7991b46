//! What the service does beside its work: it notices what other processes wrote into the database (`pause`, `approve`,
//! `run`), answers the requests of commands, shows that it lives, keeps the portal's pace, tidies up, and asks a portal that stopped whether it
//! is back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use super::context::{Context, EngineError};
use super::evaluator::{self, Evaluated};
use super::explain;
use super::guards::{Guards, Watch};
use super::notify;
use super::pace::PaceKeeper;
use super::plan;
use super::pulse::Part;
use super::restore;
use super::simulate;
use crate::core::age::Age;
use crate::core::lead::LeadId;
use crate::core::rule::RuleSet;
use crate::metrics;
use crate::store::RunId;
use crate::store::Store;
use crate::store::requests::{self, Request, RequestState};
use crate::store::runs::{self, Trigger};
use crate::store::{control, copies, events, jobs, notices, prune};

/// How often the database is asked whether another process wrote: `pause` must act within a second.
pub const FOREIGN_CHANGES_EVERY: SignedDuration = SignedDuration::from_millis(250);
/// How often the service writes that it lives; the distance from the last one to the next start is a gap.
const HEARTBEAT_EVERY: SignedDuration = SignedDuration::from_secs(20);
/// How often old rows are looked for.
const TIDY_EVERY: SignedDuration = SignedDuration::from_mins(1);
/// How often the jobs are counted for the metrics, if anything changed: counting reads every job that is kept.
const PUBLISH_EVERY: SignedDuration = SignedDuration::from_secs(2);
/// Rows pruned in one transaction, so that the writer is never held long.
const PRUNE_ROWS: u32 = 1000;
/// History that is kept whatever `keep_history` says.
const HISTORY_AT_LEAST: Age = Age::days(8);
/// How long it is kept which notices were sent and which were given up: long enough to ask why nobody was told.
const KEEP_NOTICES: Age = Age::days(8);
/// A service that was silent for longer than this may have missed events.
pub(super) const SILENCE_IS_A_GAP: SignedDuration = SignedDuration::from_secs(60);
/// How often a plan says how far it is: a person looks about as often.
const PROGRESS_EVERY: SignedDuration = SignedDuration::from_secs(2);
/// A turn of this loop takes milliseconds; a database that another process holds answers after five seconds.
const TURN_WITHIN: Duration = Duration::from_secs(90);

/// Runs until the service stops. `look_every` is how often other processes' writes are looked for.
pub(super) async fn run(ctx: Context, tasks: TaskTracker, look_every: SignedDuration, guards: Guards) {
    let mut watch = Watch::new(guards, ctx.clock.now());
    let mut pace = PaceKeeper::default();
    let mut heartbeat_due = Timestamp::MIN;
    let mut tidy_due = Timestamp::MIN;
    let mut changes = ctx.store.changes();
    changes.mark_changed();
    let mut publish_due = Timestamp::MIN;
    let mut known = Known::default();
    while !ctx.stop.is_cancelled() {
        let now = ctx.clock.now();
        ctx.pulse.beat(Part::Control, TURN_WITHIN);
        if watch.disk(&ctx, now) {
            // The heartbeat is a change, and wakes whoever waited for room.
            heartbeat_due = Timestamp::MIN;
        }
        let step = async {
            if ctx.store.poll_foreign_changes().await? {
                tell_changes(&ctx, &mut known).await?;
            }
            take_requests(&ctx, &tasks).await?;
            pace.step(&ctx.store, &ctx.portal, now).await?;
            if now >= heartbeat_due {
                ctx.store.write(move |db| control::heartbeat(db, now)).await?;
                heartbeat_due = now.checked_add(HEARTBEAT_EVERY).unwrap_or(Timestamp::MAX);
            }
            watch.events(&ctx, now).await?;
            if now >= tidy_due {
                tidy(&ctx, now).await?;
                tidy_due = now.checked_add(TIDY_EVERY).unwrap_or(Timestamp::MAX);
            }
            // A sender that is gone means that the store is closed, and the next step says so.
            if now >= publish_due && changes.has_changed().unwrap_or(false) {
                changes.borrow_and_update();
                publish_metrics(&ctx).await?;
                publish_due = now.checked_add(PUBLISH_EVERY).unwrap_or(Timestamp::MAX);
            }
            Ok::<(), EngineError>(())
        };
        if let Err(error) = step.await {
            error!(%error, "the database does not answer");
        }
        tokio::select! {
            biased;
            () = ctx.clock.sleep_until(now.checked_add(look_every).unwrap_or(Timestamp::MAX)) => {}
            () = ctx.stop.cancelled() => return,
        }
    }
}

/// Called at start: downtime is a gap, since the portal never sends an event again. A time shorter than `longer_than` is
/// none: where systemd holds the sockets, the events of a restart waited in the kernel. The first start of a database
/// has missed nothing.
pub async fn note_downtime(
    store: &Store,
    now: Timestamp,
    longer_than: SignedDuration,
) -> Result<(), EngineError> {
    let missed = store
        .write(move |db| {
            let last = control::last_heartbeat(db)?;
            let missed = last.filter(|last| now.duration_since(*last) > longer_than);
            if let Some(last) = missed {
                events::record_gap(db, &format!("the service was down since {last}"), now)?;
            }
            control::heartbeat(db, now)?;
            Ok(missed)
        })
        .await?;
    if let Some(since) = missed {
        info!(%since, "the service was down: rules with events sweep once");
    }
    Ok(())
}

/// What was last known of the things that a person steers by commands.
#[derive(Default)]
struct Known {
    paused: Option<bool>,
    stopped: Option<bool>,
    approved: Option<RunId>,
}

/// Logs what a person did by a command beside the service.
async fn tell_changes(ctx: &Context, known: &mut Known) -> Result<(), EngineError> {
    let (paused, stopped, approved) = ctx
        .store
        .read(|db| Ok((control::paused(db)?, control::portal_stop(db)?.is_some(), runs::last_approved(db)?)))
        .await?;
    match (known.paused.replace(paused), paused) {
        (Some(true), false) => info!("resumed by a person"),
        (Some(false) | None, true) => info!("paused by a person: nothing is deleted until `resume`"),
        (Some(true), true) | (Some(false) | None, false) => {}
    }
    if known.stopped.replace(stopped) == Some(true) && !stopped {
        info!("the portal's stop was ended: deletions go on");
    }
    if let Some(run) = &approved
        && known.approved.as_ref() != Some(&run.id)
        && ctx.clock.now().duration_since(run.approved_at.unwrap_or(Timestamp::MIN)) < HEARTBEAT_EVERY
    {
        info!(run = %run.id, rule = run.rule, enqueued = run.enqueued, "run approved by a person");
        known.approved = Some(run.id);
    }
    Ok(())
}

async fn publish_metrics(ctx: &Context) -> Result<(), EngineError> {
    let (counts, paused) = ctx.store.read(|db| Ok((jobs::counts(db)?, control::paused(db)?))).await?;
    let (stopped, held) =
        ctx.store.read(|db| Ok((control::portal_stop(db)?.is_some(), runs::held_count(db)?))).await?;
    ctx.metrics.set_portal_stopped(stopped);
    ctx.metrics.set_runs_held(held);
    let done = counts.total() - counts.waiting - counts.running;
    ctx.metrics.set_jobs(metrics::JobCounts { waiting: counts.waiting, running: counts.running, done });
    ctx.metrics.set_paused(paused);
    Ok(())
}

async fn tidy(ctx: &Context, now: Timestamp) -> Result<(), EngineError> {
    let keep = ctx.rules().keep_history;
    // The day's caps and the doubling after refusals are counted over the history: a week of it is always kept.
    let before = keep.before(now).min(HISTORY_AT_LEAST.before(now));
    let expired = ctx
        .store
        .write(move |db| {
            copies::expire(db, now, PRUNE_ROWS)?;
            requests::expire(db, now)?;
            prune::prune(db, before, PRUNE_ROWS)?;
            notices::prune(db, KEEP_NOTICES.before(now), PRUNE_ROWS)?;
            runs::expire_held(db, now)
        })
        .await?;
    if expired > 0 {
        warn!(runs = expired, "held runs expired: nobody approved them within 24 hours");
    }
    Ok(())
}

async fn take_requests(ctx: &Context, tasks: &TaskTracker) -> Result<(), EngineError> {
    let now = ctx.clock.now();
    if !ctx.store.read(requests::any_pending).await? {
        return Ok(());
    }
    for request in ctx.store.write(move |db| requests::take(db, now)).await? {
        let (ctx, rules) = (ctx.clone(), ctx.rules());
        let on = ctx.clone();
        on.spawn(tasks, async move { answer(ctx, rules, request).await });
    }
    Ok(())
}

/// A request of a command that needs the portal: the pace is one, so the running service does it.
async fn answer(ctx: Context, rules: Arc<RuleSet>, request: Request) {
    let outcome = match request.kind.as_str() {
        "run" => run_rule(&ctx.hurried(), &rules, &request.args_json).await,
        "plan" => plan_rule(&ctx.hurried(), &rules, &request).await,
        "restore" => restore_leads(&ctx.hurried(), &rules, &request).await,
        "notify" => test_notices(&ctx, &request.args_json).await,
        "explain" => explain_lead(&ctx.hurried(), &rules, &request.args_json).await,
        "simulate" => simulate_days(&ctx.hurried(), &rules, &request.args_json).await,
        "place" => Ok(take_place(&ctx).await),
        other => Err(format!("this service does not know the request `{other}`")),
    };
    let id = request.id;
    if let Ok(RequestState::Unknown) = ctx.store.read(move |db| requests::poll(db, id)).await {
        info!(kind = request.kind, "a command went away before its answer");
        return;
    }
    let now = ctx.clock.now();
    let (ok, result) = match outcome {
        Ok(value) => (true, value.to_string()),
        Err(message) => (false, json!({ "error": message }).to_string()),
    };
    if let Err(error) = ctx.store.write(move |db| requests::answer(db, request.id, ok, &result, now)).await {
        error!(%error, "could not answer a command");
    }
}

fn argument(args: &str) -> Result<Value, String> {
    serde_json::from_str(args).map_err(|error| error.to_string())
}

fn named_rule<'a>(rules: &'a RuleSet, args: &str) -> Result<&'a crate::core::rule::Rule, String> {
    let args = argument(args)?;
    let text = |key: &str| args.get(key).and_then(Value::as_str);
    same_rule(rules, text("rule").unwrap_or_default(), text("text"))
}

/// The rule of that name, if it is the one that the command has read.
fn same_rule<'a>(
    rules: &'a RuleSet,
    name: &str,
    in_file: Option<&str>,
) -> Result<&'a crate::core::rule::Rule, String> {
    let rule = rules.rule(name).ok_or_else(|| {
        let names: Vec<&str> = rules.rules.iter().map(|rule| rule.name.as_str()).collect();
        format!(
            "the running service has no rule `{name}`; it has: {}. If it is new in the file, reload the service first: \
             `systemctl reload b24-janitor`, or SIGHUP",
            names.join(", ")
        )
    })?;
    // What a person sees in the file and what the service does must be the same rule.
    if in_file.is_some_and(|text| text != rule.text()) {
        return Err(format!(
            "rule `{name}` in the file is not the one that the running service has loaded: reload the service first, \
             `systemctl reload b24-janitor` or SIGHUP"
        ));
    }
    Ok(rule)
}

async fn run_rule(ctx: &Context, rules: &RuleSet, args: &str) -> Result<Value, String> {
    let rule = named_rule(rules, args)?;
    match evaluator::evaluate(ctx, rules, rule, Trigger::Manual).await {
        Ok(Evaluated::Run(run)) => serde_json::to_value(&*run).map_err(|error| error.to_string()),
        Ok(Evaluated::SkippedHeld(run)) => Err(format!("run {run} of this rule is held")),
        Err(error) => Err(error.to_string()),
    }
}

/// Plans, and says every now and then how many leads were read.
async fn plan_rule(ctx: &Context, rules: &RuleSet, request: &Request) -> Result<Value, String> {
    let rule = named_rule(rules, &request.args_json)?;
    let list = argument(&request.args_json)?.get("list").and_then(Value::as_bool).unwrap_or(false);
    let (id, read) = (request.id, AtomicU64::new(0));
    let work = plan::plan(ctx, rules, rule, list, |leads| read.store(leads, Ordering::Relaxed));
    tokio::pin!(work);
    let report = loop {
        let next = ctx.clock.now().checked_add(PROGRESS_EVERY).unwrap_or(Timestamp::MAX);
        tokio::select! {
            biased;
            report = &mut work => break report,
            () = ctx.clock.sleep_until(next) => {}
        }
        let leads = read.load(Ordering::Relaxed);
        // How far it is is a help: the plan goes on without it.
        let told = ctx.store.write(move |db| requests::tell(db, id, &leads.to_string())).await;
        if let Err(error) = told {
            warn!(%error, "the progress of a plan could not be told");
        }
    };
    match report {
        Ok(report) => serde_json::to_value(&report).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

async fn simulate_days(ctx: &Context, rules: &Arc<RuleSet>, args: &str) -> Result<Value, String> {
    let asked: simulate::Asked = serde_json::from_str(args).map_err(|error| error.to_string())?;
    for (name, text) in &asked.rules {
        same_rule(rules, name, Some(text))?;
    }
    match simulate::simulate(ctx, rules, asked.window, |_| ()).await {
        Ok(report) => serde_json::to_value(&report).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// A place in the bucket for a command that sends its requests itself.
async fn take_place(ctx: &Context) -> Value {
    tokio::select! {
        biased;
        () = ctx.portal.place() => json!({}),
        () = ctx.stop.cancelled() => json!({}),
    }
}

async fn explain_lead(ctx: &Context, rules: &RuleSet, args: &str) -> Result<Value, String> {
    let args = argument(args)?;
    let lead = args.get("lead").and_then(Value::as_i64).unwrap_or_default();
    let lead = LeadId::try_from(lead).map_err(|error| error.to_string())?;
    let as_test = args.get("as_test").and_then(Value::as_bool).unwrap_or(false);
    match explain::explain(ctx, rules, lead, as_test).await {
        Ok(told) => serde_json::to_value(&told).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

async fn test_notices(ctx: &Context, args: &str) -> Result<Value, String> {
    let args = argument(args)?;
    let target = args.get("target").and_then(Value::as_str);
    match notify::test(ctx, target).await {
        Ok(told) => serde_json::to_value(&told).map_err(|error| error.to_string()),
        Err(error) => Err(format!("{error}; if it is new in the rules, reload the service first")),
    }
}

async fn restore_leads(ctx: &Context, rules: &RuleSet, request: &Request) -> Result<Value, String> {
    let mut args = argument(&request.args_json)?;
    let again = args.get("again").and_then(Value::as_bool).unwrap_or(false);
    let which = args.get_mut("which").map(Value::take).unwrap_or_default();
    let which = serde_json::from_value(which).map_err(|error| error.to_string())?;
    let listener = restore::Listener::Request(request.id);
    match restore::restore(ctx, rules, &which, again, listener).await {
        Ok(report) => serde_json::to_value(&report).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}
