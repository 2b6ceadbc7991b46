//! `plan`: what each rule would delete now. Deletes nothing, enqueues nothing.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::failure::Failure;
use super::print::Out;
use super::run::ask_service;
use super::workshop::{self, Whose};
use crate::cli::PlanArgs;
use crate::core::rule::RuleSet;
use crate::engine::{Context, evaluator, pace};
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::store::Store;

/// Reports one rule or all of them.
pub(super) async fn plan(settings: &Settings, args: &PlanArgs) -> Result<(), Failure> {
    let out = Out::new(args.json.json);
    let rules = workshop::load_rules(settings)?;
    let names: Vec<String> = match &args.rule {
        Some(name) => vec![workshop::named(&rules, name)?.name.to_string()],
        None => rules.rules.iter().map(|rule| rule.name.to_string()).collect(),
    };
    match workshop::whose(&settings.db)? {
        Whose::Service(_) => {
            let store = workshop::open_store(&settings.db, false)?;
            for name in &names {
                let bar = out.progress(0, "asking the running service");
                let report = ask_service(
                    settings,
                    &store,
                    "plan",
                    &json!({ "rule": name, "text": workshop::named(&rules, name)?.text() }),
                )
                .await;
                bar.finish_and_clear();
                tell(out, &report?)?;
            }
        }
        Whose::Ours(lock) => {
            // A local application's renewed tokens must not go with a scratch file.
            let kept = settings.db.exists() || settings.oauth.is_some();
            let scratch = if kept { None } else { Some(Scratch::new()?) };
            let path =
                scratch.as_ref().map_or_else(|| settings.db.clone(), |scratch| scratch.0.join("plan.db"));
            let asked_to_stop = super::serve::asked_to_stop();
            let store = workshop::open_store(&path, true)?;
            let done = tokio::select! {
                done = plan_here(settings, rules, store.clone(), &names, out) => done,
                () = asked_to_stop => Err(Failure::of("interrupted: nothing was deleted or enqueued")),
            };
            store.close().await;
            drop(scratch);
            drop(lock);
            done?;
        }
    }
    out.say("nothing was deleted or enqueued")?;
    Ok(())
}

/// A directory for a database that nobody needs afterwards; nobody else can read it, and it goes with this.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Scratch, Failure> {
        let name = format!("b24-janitor-plan-{}-{:016x}", std::process::id(), fastrand::u64(..));
        let path = std::env::temp_dir().join(name);
        // Fails where the name is taken, so that nobody can put a database or a link there first.
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Where it can't be removed, the system's tidying does it.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn plan_here(
    settings: &Settings,
    rules: RuleSet,
    store: Store,
    names: &[String],
    out: Out,
) -> Result<(), Failure> {
    let metrics = Metrics::new();
    let portal = workshop::portal(settings, &rules, Some(&store), &metrics).await?;
    let ctx = Context::observing(workshop::parts(store, portal, metrics), rules);
    let rules = ctx.rules();
    workshop::insist(&ctx, &rules).await?;
    for name in names {
        let Some(rule) = rules.rule(name) else { continue };
        let bar = out.progress(0, "reading leads");
        bar.set_style(indicatif::ProgressStyle::default_spinner());
        let report =
            evaluator::plan(&ctx, &rules, rule, |read| bar.set_message(format!("{name}: {read} leads read")))
                .await;
        bar.finish_and_clear();
        tell(out, &serde_json::to_value(report?)?)?;
    }
    pace::close(&ctx.store, &ctx.portal, ctx.clock.now()).await?;
    Ok(())
}

fn tell(out: Out, report: &Value) -> Result<(), Failure> {
    out.object(report)?;
    if out.json {
        return Ok(());
    }
    let number = |key: &str| report.get(key).and_then(Value::as_u64).unwrap_or_default();
    let text = |key: &str| report.get(key).and_then(Value::as_str).unwrap_or_default();
    out.say(format!("{} (mode {})", text("rule"), text("mode")))?;
    out.say(format!("  would delete      {}", number("would_delete")))?;
    out.say(format!(
        "  matched           {}, of which protected {}, already waiting {}",
        number("matched"),
        number("protected"),
        number("already_waiting")
    ))?;
    out.say(format!("  can't be judged   {} (kept)", number("undecidable")))?;
    if let Some(held) = report.get("held").and_then(Value::as_str) {
        out.say(format!("  WOULD BE HELD     {held}"))?;
    }
    for (title, key) in
        [("by stage", "by_stage"), ("by source", "by_source"), ("by responsible", "by_responsible")]
    {
        let Some(Value::Object(counts)) = report.get(key) else { continue };
        if counts.is_empty() {
            continue;
        }
        let counts: Vec<String> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
        out.say(format!("  {title:<17} {}", counts.join(", ")))?;
    }
    let Some(Value::Array(sample)) = report.get("sample") else { return Ok(()) };
    if !sample.is_empty() {
        let cell = |lead: &Value, key: &str| match lead.get(key) {
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => String::new(),
        };
        let rows = sample
            .iter()
            .map(|lead| ["id", "stage", "created", "reason"].iter().map(|key| cell(lead, key)).collect())
            .collect();
        out.table(&["lead", "stage", "created", "why"], rows)?;
    }
    Ok(())
}
