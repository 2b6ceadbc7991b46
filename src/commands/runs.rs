//! `runs` and `approve`.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::failure::Failure;
use super::print::Out;
use super::words::{Zones, command, insist_on_rule};
use super::workshop::{load_rules, open_store};
use crate::cli::{ApproveArgs, RunsArgs};
use crate::clock::Clock;
use crate::engine::{self, Approver};
use crate::settings::Settings;
use crate::store::RunId;
use crate::store::runs::{self, Approval, Run, RunFilter, RunState};

/// The longest name of a user that is recorded: what useradd makes has 32 characters, directories have longer ones.
const LONGEST_NAME: usize = 64;

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
        insist_on_rule(settings, args.rule.as_deref())?;
        let run = command(settings, &format!("run {}", args.rule.as_deref().unwrap_or("RULE")));
        out.say(format!("no runs yet: a rule runs by its schedule, or now with {run}"))?;
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
    let zones = Zones::read(settings);
    out.table(&head, runs.iter().map(|run| row(run, &zones)).collect())?;
    for run in runs.iter().filter(|run| run.state == RunState::Held) {
        out.say(format!(
            "run {} is held: to enqueue its {} leads, {}",
            run.id,
            run.would_enqueue,
            command(settings, &format!("approve {} --count {}", run.id, run.would_enqueue))
        ))?;
    }
    Ok(())
}

fn row(run: &Run, zones: &Zones) -> Vec<String> {
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
        zones.of_rule(&run.rule, run.started_at),
        run.error.clone().or_else(|| run.held_reason.clone()).unwrap_or_default(),
    ]
}

/// Approves exactly one held run, by its id and its count.
pub(super) async fn approve(settings: &Settings, args: &ApproveArgs) -> Result<(), Failure> {
    let out = Out::new(args.json.json);
    let rules = load_rules(settings)?;
    let store = open_store(&settings.db, false)?;
    let (id, count, now) = (RunId(args.run), args.count, Clock::System.now());
    let approved = engine::approve(&store, &rules, id, count, &Approver::User(user()), now).await?;
    store.close().await;
    let (run, approval) = approved.ok_or_else(|| no_such(settings, id))?;
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
            "run {id} would enqueue {actual} leads, not {count}: look at {} again; nothing was enqueued",
            command(settings, "runs")
        ))),
        Approval::NotHeld(_) if run.error.as_deref() == Some(runs::SUPERSEDED) => Err(Failure::of(format!(
            "run {id} was replaced by a later run of rule {}: there is nothing to approve; see {}",
            run.rule,
            command(settings, &format!("runs --rule {}", run.rule))
        ))),
        Approval::NotHeld(state) => Err(Failure::of(format!("run {id} is {}, not held", state.as_str()))),
        Approval::RuleChanged => Err(Failure::of(format!(
            "rule {} has changed since run {id}: run it again with {}",
            run.rule,
            command(settings, &format!("run {}", run.rule))
        ))),
        Approval::Expired => Err(Failure::of(format!(
            "run {id} was held for more than 24 hours and has expired: run it again with {}",
            command(settings, &format!("run {}", run.rule))
        ))),
        Approval::NoSuchRun => Err(no_such(settings, id)),
    }
}

/// Who runs this command: the user of the process, and whom sudo says that it is for. The latter is as good as sudo's
/// environment.
fn user() -> String {
    let Ok(uid) = fs::metadata("/proc/self").map(|of| of.uid()) else { return "an unknown user".to_owned() };
    let passwords = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let mut names = passwords.lines().filter_map(|line| {
        let mut parts = line.split(':');
        let name = parts.next()?;
        (parts.nth(1)?.parse() == Ok(uid)).then_some(name)
    });
    let user = match names.next() {
        Some(name) => format!("user {name}"),
        None => format!("user {uid}"),
    };
    let plain = |name: &String| {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@');
        !name.is_empty() && name.len() <= LONGEST_NAME && name.chars().all(good)
    };
    match std::env::var("SUDO_USER").ok().filter(plain) {
        Some(person) => format!("{user} by sudo of {person}"),
        None => user,
    }
}

fn no_such(settings: &Settings, id: RunId) -> Failure {
    Failure::of(format!("there is no run {id}; {} lists them", command(settings, "runs")))
}
