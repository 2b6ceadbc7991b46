//! `restore`: deleted leads again from their copies, by the running service or, without one, by this process.

use std::io::IsTerminal;
use std::time::Duration;

use serde_json::{Value, json};

use super::failure::Failure;
use super::print::{Out, ask, complain};
use super::run::{await_answer, submit};
use super::words::{Zones, command, insist_on_rule, moment};
use super::workshop::{self, Whose};
use crate::cli::RestoreArgs;
use crate::clock::Clock;
use crate::core::lead::LeadId;
use crate::core::rule::RuleSet;
use crate::engine::restore::{self as engine, BIN_FIRST, Listener, MAX_LEADS, NEVER};
use crate::engine::{Context, pace};
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::store::restores::{self, Which};
use crate::store::{Lock, RunId, Store, requests, runs};

/// How long a request in flight may take to end after an interruption: the client gives up after 75 s.
const GRACE: Duration = Duration::from_secs(80);

/// Restores.
pub(super) async fn restore(settings: &Settings, args: &RestoreArgs) -> Result<(), Failure> {
    let out = Out::new(args.json.json);
    let rules = workshop::load_rules(settings)?;
    let which = which(args, &rules)?;
    let owner = workshop::whose(&settings.db)?;
    let store = workshop::open_store(&settings.db, false)?;
    let done = match consent(settings, &store, &which, args).await {
        Ok(()) => match owner {
            Whose::Service(_) => by_service(settings, &store, &which, args, out).await,
            Whose::Ours(lock) => here(settings, rules, &store, &which, args, out, lock).await,
        },
        Err(why) => Err(why),
    };
    store.close().await;
    tell(settings, out, &done?)
}

fn which(args: &RestoreArgs, rules: &RuleSet) -> Result<Which, Failure> {
    if let Some(run) = args.run {
        return Ok(Which::Run(RunId(run)));
    }
    if let (Some(rule), Some(since)) = (&args.rule, &args.since) {
        let since = moment(since, &Zones::of(rules), Some(rule), Clock::System.now())?;
        return Ok(Which::Rule { rule: rule.clone(), since });
    }
    let leads: Result<Vec<LeadId>, _> = args.leads.iter().copied().map(LeadId::try_from).collect();
    let mut leads = leads.map_err(|error| Failure::usage(error.to_string()))?;
    let mut seen = std::collections::HashSet::new();
    leads.retain(|lead| seen.insert(*lead));
    Ok(Which::Leads(leads))
}

/// Points to the recycle bin, and goes on only where a person said so.
async fn consent(
    settings: &Settings,
    store: &Store,
    which: &Which,
    args: &RestoreArgs,
) -> Result<(), Failure> {
    let selection = which.clone();
    let leads = store.read(move |db| restores::select(db, &selection, MAX_LEADS + 1)).await?;
    if leads.is_empty() {
        return Err(nothing(settings, store, which).await);
    }
    if leads.len() > MAX_LEADS as usize {
        return Err(Failure::from(crate::engine::EngineError::TooManyToRestore(MAX_LEADS)));
    }
    if args.from_copy {
        return Ok(());
    }
    complain(BIN_FIRST);
    if !std::io::stdin().is_terminal() || args.json.json {
        return Err(Failure::usage(
            "nothing was restored: if the recycle bin does not have them, add --from-copy",
        ));
    }
    ask(&format!("Create {} leads again from their copies? [y/N] ", leads.len()));
    let line = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map(|_| line)
    });
    let stopped = super::serve::asked_to_stop();
    let answer = tokio::select! {
        line = line => line.map_err(|error| Failure::of(error.to_string()))??,
        () = stopped => String::new(),
    };
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::of("nothing was restored")),
    }
}

async fn nothing(settings: &Settings, store: &Store, which: &Which) -> Failure {
    match which {
        Which::Leads(_) => Failure::usage("name at least one lead"),
        Which::Run(run) => {
            let id = *run;
            match store.read(move |db| runs::get(db, id)).await {
                Ok(None) => {
                    Failure::of(format!("there is no run {run}; {} lists them", command(settings, "runs")))
                }
                Ok(Some(_)) => Failure::of(format!("run {run} has deleted nothing")),
                Err(error) => Failure::from(error),
            }
        }
        Which::Rule { rule, since } => match insist_on_rule(settings, Some(rule)) {
            Err(failure) => failure,
            Ok(()) => Failure::of(format!("rule {rule} has deleted nothing since {since}")),
        },
    }
}

async fn by_service(
    settings: &Settings,
    store: &Store,
    which: &Which,
    args: &RestoreArgs,
    out: Out,
) -> Result<Value, Failure> {
    let bar = out.progress(1, "restoring");
    let hears = |progress: &str| {
        if let Some((done, total)) = progress.split_once('/')
            && let (Ok(done), Ok(total)) = (done.parse(), total.parse())
        {
            bar.set_length(total);
            bar.set_position(done);
        }
    };
    let id = submit(store, "restore", &json!({ "which": which, "again": args.again })).await?;
    let stopped = super::serve::asked_to_stop();
    let answered = tokio::select! {
        answered = await_answer(settings, store, id, hears) => answered,
        () = stopped => {
            store.write(move |db| requests::abandon(db, id)).await?;
            Err(Failure::of(
                "interrupted: the lead that the service is at is finished, the others are not begun; the same command goes on, and \
                 restores none twice",
            ))
        }
    };
    bar.finish_and_clear();
    answered
}

/// Without a service, under its lock.
async fn here(
    settings: &Settings,
    rules: RuleSet,
    store: &Store,
    which: &Which,
    args: &RestoreArgs,
    out: Out,
    lock: Lock,
) -> Result<Value, Failure> {
    store.write(restores::sending_to_unknown).await?;
    let metrics = Metrics::new();
    let portal = workshop::portal(settings, &rules, Some(store), &metrics).await?;
    let ctx = Context::observing(workshop::parts(store.clone(), portal, metrics), rules);
    let bar = out.progress(1, "restoring");
    let hears = |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    };
    let hurried = ctx.hurried();
    let rules = ctx.rules();
    let work = engine::restore(&hurried, &rules, which, args.again, Listener::Here(&hears));
    tokio::pin!(work);
    let stopped = super::serve::asked_to_stop();
    let report = tokio::select! {
        report = &mut work => report,
        () = stopped => {
            ctx.stop.cancel();
            match tokio::time::timeout(GRACE, &mut work).await {
                Ok(report) => report,
                Err(_) => Err(crate::engine::EngineError::Stopping),
            }
        }
    };
    bar.finish_and_clear();
    pace::close(store, &ctx.portal, ctx.clock.now()).await?;
    drop(lock);
    Ok(serde_json::to_value(report?)?)
}

fn tell(settings: &Settings, out: Out, report: &Value) -> Result<(), Failure> {
    out.object(report)?;
    let leads = report.get("leads").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let text = |lead: &Value, key: &str| lead.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let id = |lead: &Value, key: &str| {
        lead.get(key).and_then(Value::as_i64).map_or_else(|| "-".to_owned(), |id| id.to_string())
    };
    let rows = leads
        .iter()
        .map(|lead| {
            let mut notes = vec![text(lead, "why")];
            for (key, words) in [("differs", "differs in"), ("files", "files not restored in")] {
                let names: Vec<&str> = lead
                    .get(key)
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
                    .collect();
                if !names.is_empty() {
                    notes.push(format!("{words} {}", names.join(", ")));
                }
            }
            notes.retain(|note| !note.is_empty());
            vec![
                id(lead, "lead_id"),
                id(lead, "new_lead_id"),
                text(lead, "result").replace('_', " "),
                text(lead, "method"),
                notes.join("; "),
            ]
        })
        .collect();
    out.table(&["lead", "new lead", "result", "by", "notes"], rows)?;
    let count = |word: &str| leads.iter().filter(|lead| text(lead, "result") == word).count();
    let (restored, already) = (count("restored"), count("already_restored"));
    let left = report.get("left").and_then(Value::as_u64).unwrap_or_default();
    out.say(format!(
        "{restored} restored, {already} were restored already, {} unknown, {} failed, {} not possible",
        count("unknown"),
        count("failed"),
        count("not_possible")
    ))?;
    if restored > 0 {
        out.say(NEVER)?;
        out.say("the new leads are protected from every rule for 30 days")?;
    }
    if left > 0 {
        return Err(Failure::of(format!(
            "interrupted: {left} leads were not begun; the same command goes on, and restores none twice"
        )));
    }
    let not = leads.len() - restored - already;
    if not > 0 {
        return Err(Failure::of(format!(
            "{not} leads were not restored; {} says more about one",
            command(settings, "explain LEAD_ID")
        )));
    }
    Ok(())
}
