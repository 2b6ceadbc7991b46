//! `runs` and `approve`.

use super::failure::Failure;
use super::print::Out;
use super::workshop::{load_rules, open_store};
use crate::cli::{ApproveArgs, RunsArgs};
use crate::clock::Clock;
use crate::core::rule::Mode;
use crate::settings::Settings;
use crate::store::RunId;
use crate::store::runs::{self, Approval, Run, RunFilter, RunState};

/// Lists runs, newest first.
pub(super) async fn list(settings: &Settings, args: &RunsArgs) -> Result<(), Failure> {
    let out = Out::new(args.json.json);
    let store = open_store(&settings.db, false)?;
    let filter = RunFilter { rule: args.rule.clone(), limit: args.limit, ..RunFilter::default() };
    let runs = store.read(move |db| runs::list(db, &filter)).await?;
    for run in &runs {
        out.object(run)?;
    }
    if runs.is_empty() {
        out.say("no runs yet: a rule runs by its schedule, or now with `b24-janitor run RULE`")?;
        return Ok(());
    }
    let head = [
        "run",
        "rule",
        "trigger",
        "state",
        "matched",
        "protected",
        "undecidable",
        "waiting",
        "enqueued",
        "started",
        "why",
    ];
    out.table(&head, runs.iter().map(row).collect())?;
    for run in runs.iter().filter(|run| run.state == RunState::Held) {
        out.say(format!(
            "run {} is held: to enqueue its {} leads, `b24-janitor approve {} --count {}`",
            run.id, run.would_enqueue, run.id, run.would_enqueue
        ))?;
    }
    Ok(())
}

fn row(run: &Run) -> Vec<String> {
    vec![
        run.id.to_string(),
        run.rule.clone(),
        run.trigger.as_str().to_owned(),
        run.state.as_str().to_owned(),
        run.matched.to_string(),
        run.protected.to_string(),
        run.undecidable.to_string(),
        run.already_waiting.to_string(),
        run.enqueued.to_string(),
        run.started_at.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
        run.error.clone().or_else(|| run.held_reason.clone()).unwrap_or_default(),
    ]
}

/// Approves exactly one held run, by its id and its count.
pub(super) async fn approve(settings: &Settings, args: &ApproveArgs) -> Result<(), Failure> {
    let out = Out::new(args.json.json);
    let rules = load_rules(settings)?;
    let store = open_store(&settings.db, false)?;
    let (id, count, now) = (RunId(args.run), args.count, Clock::System.now());
    let run = store
        .read(move |db| runs::get(db, id))
        .await?
        .ok_or_else(|| Failure::of(format!("there is no run {id}; `b24-janitor runs` lists them")))?;
    let rule = rules.rule(&run.rule);
    let text = rule.map(crate::core::rule::Rule::text);
    let grace = rule.map_or(0, |rule| rule.grace_period.seconds().unsigned_abs());
    let mode = rule.map_or(Mode::Plan, |rule| rule.mode);
    let approval =
        store.write(move |db| runs::approve(db, id, count, text.as_deref(), mode, grace, now)).await?;
    store.close().await;
    match approval {
        Approval::Approved { enqueued, already_waiting } => {
            out.object(&serde_json::json!({
                "run": id, "result": "approved", "enqueued": enqueued, "already_waiting": already_waiting,
            }))?;
            out.say(format!(
                "run {id} is approved: {enqueued} leads enqueued, {already_waiting} were waiting already"
            ))?;
            out.say("each lead is read and judged again before its deletion")?;
            Ok(())
        }
        Approval::WrongCount { actual } => Err(Failure::of(format!(
            "run {id} would enqueue {actual} leads, not {count}: look at `b24-janitor runs` again; nothing was enqueued"
        ))),
        Approval::NotHeld(state) => Err(Failure::of(format!("run {id} is {}, not held", state.as_str()))),
        Approval::RuleChanged => Err(Failure::of(format!(
            "rule {} has changed since run {id}: run it again with `b24-janitor run {}`",
            run.rule, run.rule
        ))),
        Approval::Expired => Err(Failure::of(format!(
            "run {id} was held for more than 24 hours and has expired: run it again with `b24-janitor run {}`",
            run.rule
        ))),
        Approval::NoSuchRun => {
            Err(Failure::of(format!("there is no run {id}; `b24-janitor runs` lists them")))
        }
    }
}
