//! `run RULE`: evaluates a rule now and enqueues; `--wait` follows the drain.
//!
//! Beside a running service the command asks it to do the work, since the portal's pace is one. Without a service it
//! takes the database's lock and does the work itself.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::failure::Failure;
use super::print::Out;
use super::words::{Zones, command};
use super::workshop::{self, Whose};
use crate::cli::RunArgs;
use crate::clock::Clock;
use crate::core::estimate::{Estimate, Load, estimate};
use crate::core::rule::RuleSet;
use crate::engine::evaluator::{self, Evaluated};
use crate::engine::{pace, remedy_of};
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::store::RunId;
use crate::store::requests::{self, RequestState};
use crate::store::runs;
use crate::store::runs::Trigger;
use crate::store::{Store, control, jobs};

/// How often an answer or a progress is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Each how many looks it is made sure that the service still lives: once in two seconds, for a command that waits
/// minutes.
const LOOKS_AT_LOCK: u32 = 8;
/// Each how many looks the estimate of the rest is made anew: the pace is written every five seconds.
const LOOKS_AT_PACE: u32 = 20;
/// How long a running service may take to notice a request; it looks four times a second.
const NOTICE_WITHIN: Duration = Duration::from_secs(10);
/// How many looks without any progress, with jobs due, before the command says why it gives up: two minutes, longer
/// than a lost answer takes to be settled.
const PATIENCE: u32 = 480;
/// How long a request in flight may take to end when the drain is over or abandoned.
const GRACE: Duration = Duration::from_secs(30);

/// Runs one rule.
pub(super) async fn run(settings: &Settings, args: &RunArgs) -> Result<(), Failure> {
    let out = Out::new(args.json.json);
    let rules = workshop::load_rules(settings)?;
    let wanted = workshop::named(&rules, &args.rule)?;
    let (rule, rule_text) = (wanted.name.to_string(), wanted.text());
    let begun = Clock::System.now();
    match workshop::whose(&settings.db)? {
        Whose::Service(_) => {
            let store = workshop::open_store(&settings.db, false)?;
            let bar = out.progress(0, "the running service evaluates");
            let run = ask_service(settings, &store, "run", &json!({ "rule": rule, "text": rule_text })).await;
            bar.finish_and_clear();
            conclude(out, &run?, args.wait.then_some(begun), &store, (settings, &rules)).await
        }
        Whose::Ours(lock) => {
            let store = workshop::open_store(&settings.db, true)?;
            let done = run_here(settings, rules, store.clone(), &rule, args.wait.then_some(begun), out).await;
            store.close().await;
            drop(lock);
            done
        }
    }
}

async fn run_here(
    settings: &Settings,
    rules: RuleSet,
    store: Store,
    name: &str,
    wait_since: Option<Timestamp>,
    out: Out,
) -> Result<(), Failure> {
    let asked_to_stop = super::serve::asked_to_stop();
    tokio::pin!(asked_to_stop);
    let engine = tokio::select! {
        engine = workshop::engine(settings, rules, store.clone(), Metrics::new()) => engine?,
        () = &mut asked_to_stop => return Err(Failure::of("interrupted: nothing was enqueued")),
    };
    let rules = engine.context().rules();
    let rule = workshop::named(&rules, name)?;
    let hurried = engine.context().hurried();
    let evaluation = evaluator::evaluate(&hurried, &rules, rule, Trigger::Manual);
    let run = tokio::select! {
        evaluated = evaluation => match evaluated? {
            Evaluated::Run(run) => serde_json::to_value(&*run)?,
            Evaluated::SkippedHeld(run) => return Err(Failure::of(format!("run {run} of this rule is held"))),
        },
        () = &mut asked_to_stop => {
            engine.stop(GRACE).await;
            return Err(Failure::of("interrupted: nothing was enqueued"));
        }
    };
    if wait_since.is_some() {
        engine.spawn_worker();
    }
    let done = tokio::select! {
        done = conclude(out, &run, wait_since, &store, (settings, &rules)) => done,
        () = &mut asked_to_stop => {
            Err(Failure::of("interrupted: what is enqueued waits in the database; run again or start the service"))
        }
    };
    if !engine.stop(GRACE).await {
        out.say("a request was still open; the leads of it are read again at the next start")?;
    }
    done
}

/// Asks the running service, and waits for its answer.
pub(super) async fn ask_service(
    settings: &Settings,
    store: &Store,
    kind: &'static str,
    args: &Value,
) -> Result<Value, Failure> {
    let id = submit(store, kind, args).await?;
    await_answer(settings, store, id, |_| ()).await
}

/// Asks the running service; the request's id.
pub(super) async fn submit(store: &Store, kind: &'static str, args: &Value) -> Result<i64, Failure> {
    let (args, now) = (args.to_string(), Clock::System.now());
    Ok(store.write(move |db| requests::submit(db, kind, &args, now)).await?)
}

/// Waits for the answer to a request; `hears` is told how far it is.
pub(super) async fn await_answer(
    settings: &Settings,
    store: &Store,
    id: i64,
    hears: impl Fn(&str),
) -> Result<Value, Failure> {
    let asked = tokio::time::Instant::now();
    let mut looks = 0;
    loop {
        match store.read(move |db| requests::poll(db, id)).await? {
            RequestState::Done { ok, result } => {
                let result: Value = serde_json::from_str(&result)?;
                return match (ok, result.get("error").and_then(Value::as_str)) {
                    (true, _) => Ok(result),
                    (false, error) => Err(Failure::of(error.unwrap_or("the service could not do it"))),
                };
            }
            RequestState::Pending
                if asked.elapsed() > NOTICE_WITHIN
                    // Taken back, so that it is not done after all when nobody expects it any more.
                    && store.write(move |db| requests::withdraw(db, id)).await? =>
            {
                return Err(Failure::of(
                    "the process that holds the database does not answer; is it a `serve`? `b24-janitor status` names it",
                ));
            }
            state @ (RequestState::Pending | RequestState::Taken { .. }) => {
                if let RequestState::Taken { progress: Some(progress) } = &state {
                    hears(progress);
                }
                if looks % LOOKS_AT_LOCK == LOOKS_AT_LOCK - 1
                    && let Whose::Ours(_) = workshop::whose(&settings.db)?
                {
                    return Err(Failure::of(
                        "the process that worked on the database ended before it answered: try again; `b24-janitor runs` shows how far it was",
                    ));
                }
                looks += 1;
                tokio::time::sleep(LOOK_EVERY).await;
            }
            RequestState::Unknown => return Err(Failure::of("the request has vanished from the database")),
        }
    }
}

/// Says what came of the evaluation. `wait_since` is when the command began, where it is to follow the jobs.
async fn conclude(
    out: Out,
    run: &Value,
    wait_since: Option<Timestamp>,
    store: &Store,
    (settings, rules): (&Settings, &RuleSet),
) -> Result<(), Failure> {
    let text = |key: &str| run.get(key).and_then(Value::as_str).unwrap_or_default();
    let number = |key: &str| run.get(key).and_then(Value::as_u64).unwrap_or_default();
    let id = run.get("id").and_then(Value::as_i64).unwrap_or_default();
    let state = text("state");
    if !(wait_since.is_some() && state == "enqueued") {
        out.object(run)?;
    }
    if state == "failed" {
        return Err(Failure::of(format!("run {id} failed, nothing was enqueued: {}", text("error"))));
    }
    out.say(format!(
        "run {id} of {}: matched {}, protected {}, can't be judged {}, already waiting {}",
        text("rule"),
        number("matched"),
        number("protected"),
        number("undecidable"),
        number("already_waiting")
    ))?;
    match state {
        "planned" => {
            out.say(format!(
                "mode is plan: {} leads would be enqueued, nothing was. `mode: delete` in the rule lets it delete",
                number("would_enqueue")
            ))?;
            Ok(())
        }
        "enqueued" => {
            out.say(format!("enqueued {} deletions", number("enqueued")))?;
            match wait_since {
                Some(since) => follow(out, run, since, store, (settings, rules)).await,
                None => {
                    if number("enqueued") > 0 {
                        out.say("a running service deletes them when they are due; without one, add --wait")?;
                    }
                    Ok(())
                }
            }
        }
        "held" => {
            let count = number("would_enqueue");
            let held = store.read(move |db| runs::get(db, RunId(id))).await?;
            let reason = held.and_then(|run| run.held_reason).unwrap_or_default();
            out.say(format!("HELD: {reason}"))?;
            out.say(format!(
                "nothing was enqueued; to let it: {}",
                command(settings, &format!("approve {id} --count {count}"))
            ))?;
            Err(Failure::Held)
        }
        other => Err(Failure::of(format!("run {id} is {other}"))),
    }
}

/// Follows the rule's jobs until those that are due are done, also the ones that an earlier run enqueued. `since` is
/// the moment from which on finished ones are counted.
async fn follow(
    out: Out,
    run: &Value,
    since: Timestamp,
    store: &Store,
    (settings, rules): (&Settings, &RuleSet),
) -> Result<(), Failure> {
    let rule = run.get("rule").and_then(Value::as_str).unwrap_or_default().to_owned();
    let cap = rules.rule(&rule).map_or(u64::MAX, |rule| rule.limits.deletes_per_day);
    let mut bar = None;
    let (mut last, mut still, mut wanted, mut looks) = (None, 0, 0, 0);
    let progress = loop {
        let (now, name) = (Clock::System.now(), rule.clone());
        let (progress, paused, stop, used) = store
            .read(move |db| {
                Ok((
                    jobs::progress_of_rule(db, &name, since, now)?,
                    control::paused(db)?,
                    control::portal_stop(db)?,
                    jobs::used_today(db, &name, now)?,
                ))
            })
            .await?;
        // What was due stays wanted when a refusal puts it off for a while.
        wanted = wanted.max(progress.due + progress.running + progress.done());
        let bar = bar.get_or_insert_with(|| out.progress(wanted, "deleting"));
        bar.set_length(wanted);
        bar.set_position(progress.done());
        if looks % LOOKS_AT_PACE == 0 {
            let estimate = remaining(store, rules, wanted.saturating_sub(progress.done())).await;
            bar.set_message(estimate.to_string());
        }
        looks += 1;
        if progress.done() >= wanted {
            break progress;
        }
        still = if last == Some(progress) { still + 1 } else { 0 };
        last = Some(progress);
        let why = if paused {
            Some(format!("the service is paused: {}", command(settings, "resume")))
        } else if let Some(stop) = stop {
            Some(format!("the portal refuses every call: {} {}; {}", stop.code, stop.text, remedy_of(&stop)))
        } else if progress.running == 0 && used >= cap {
            Some(format!("deletes_per_day is used up: {used} of {cap} in 24 hours; the rest waits"))
        } else if still > PATIENCE {
            Some(format!(
                "nothing has moved for two minutes; {} and the log say more",
                command(settings, "status")
            ))
        } else {
            None
        };
        if let Some(why) = why.filter(|_| progress.running == 0 || still > PATIENCE) {
            bar.abandon();
            tell_progress(out, run, progress, (settings, rules))?;
            return Err(Failure::of(why));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    tell_progress(out, run, progress, (settings, rules))
}

/// How long the rest would take, by what deletions have cost so far: whoever deletes keeps that in the database.
async fn remaining(store: &Store, rules: &RuleSet, leads: u64) -> Estimate {
    let pace = pace::recall(store).await;
    let method = rules.portal.delete_method.as_str();
    estimate(&Load {
        leads,
        limits: rules.portal,
        seconds_per_delete: pace.and_then(|pace| pace.seconds_of(method)),
        level: 0.0,
        used_seconds: 0.0,
    })
}

fn tell_progress(
    out: Out,
    run: &Value,
    progress: jobs::RuleProgress,
    (settings, rules): (&Settings, &RuleSet),
) -> Result<(), Failure> {
    let mut object = run.clone();
    if let Some(object) = object.as_object_mut() {
        object.insert("jobs".to_owned(), serde_json::to_value(progress)?);
    }
    out.object(&object)?;
    out.say(format!(
        "done: {} deleted, {} already gone, {} spared, {} cancelled, {} failed",
        progress.deleted, progress.already_gone, progress.spared, progress.cancelled, progress.failed
    ))?;
    if progress.later > 0 {
        let rule = run.get("rule").and_then(Value::as_str).unwrap_or_default();
        let first = progress.next_due.map(|at| Zones::of(rules).of_rule(rule, at));
        let next = first.map(|at| format!(", the first at {at}")).unwrap_or_default();
        out.say(format!("{} are due later{next}", progress.later))?;
    }
    if progress.failed > 0 {
        out.say(format!("failed ones: {}", command(settings, "jobs --state failed")))?;
    }
    Ok(())
}
