//! `plan`: what each rule would delete now, and what has changed since the last plan. Deletes nothing, enqueues nothing.

use serde::Deserialize;
use serde_json::{Value, json};

use super::alone;
use super::failure::Failure;
use super::print::{Out, Sheet, complain};
use super::run::ask_service;
use super::words::Zones;
use super::workshop::{self, Whose};
use crate::cli::PlanArgs;
use crate::core::estimate::Estimate;
use crate::engine::plan as engine;
use crate::settings::Settings;

/// The columns of `plan --csv`.
const COLUMNS: [&str; 5] = ["rule", "id", "stage", "created", "responsible"];

/// Reports one rule or all of them.
pub(super) async fn plan(settings: &Settings, args: &PlanArgs) -> Result<(), Failure> {
    let rules = workshop::load_rules(settings)?;
    let names: Vec<String> = match &args.rule {
        Some(name) => vec![workshop::named(&rules, name)?.name.to_string()],
        None => rules.rules.iter().map(|rule| rule.name.to_string()).collect(),
    };
    let out = Out::new(args.json.json);
    let mut told =
        Told { out, zones: Zones::of(&rules), sheet: args.csv.then(|| Sheet::new(&COLUMNS)).transpose()? };
    match workshop::whose(&settings.db)? {
        Whose::Service(_) => {
            let store = workshop::open_store(&settings.db, false)?;
            for name in &names {
                let bar = out.progress(0, "asking the running service");
                let text = workshop::named(&rules, name)?.text();
                let asked = json!({ "rule": name, "text": text, "list": args.csv });
                let report = ask_service(settings, &store, "plan", &asked).await;
                bar.finish_and_clear();
                told.tell(&report?)?;
            }
        }
        Whose::Ours(lock) => {
            let told = &mut told;
            alone::look(settings, rules, lock, async move |ctx| {
                let rules = ctx.rules();
                workshop::insist(ctx, &rules).await?;
                for name in &names {
                    let Some(rule) = rules.rule(name) else { continue };
                    let bar = out.progress(0, "reading leads");
                    bar.set_style(indicatif::ProgressStyle::default_spinner());
                    let shown = |read| bar.set_message(format!("{name}: {read} leads read"));
                    let report = engine::plan(ctx, &rules, rule, args.csv, shown).await;
                    bar.finish_and_clear();
                    told.tell(&serde_json::to_value(report?)?)?;
                }
                Ok(())
            })
            .await?;
        }
    }
    if told.sheet.is_none() {
        out.say("nothing was deleted or enqueued")?;
    }
    Ok(())
}

/// Where the reports go.
struct Told {
    out: Out,
    zones: Zones,
    sheet: Option<Sheet>,
}

impl Told {
    fn tell(&mut self, report: &Value) -> Result<(), Failure> {
        match &mut self.sheet {
            Some(sheet) => list(sheet, report),
            None => tell(self.out, &self.zones, report),
        }
    }
}

/// The selected leads, a line each.
fn list(sheet: &mut Sheet, report: &Value) -> Result<(), Failure> {
    let rule = text(report, "rule");
    let leads = report.get("leads").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for lead in leads {
        let id = number(lead, "id").to_string();
        let row = [rule, id.as_str(), text(lead, "stage"), text(lead, "created"), text(lead, "responsible")];
        sheet.row(&row)?;
    }
    if leads.len() == engine::MAX_LISTED {
        complain(format!("{rule}: only the first {} leads are listed", engine::MAX_LISTED));
    }
    Ok(())
}

fn number(object: &Value, key: &str) -> u64 {
    object.get(key).and_then(Value::as_u64).unwrap_or_default()
}

fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn tell(out: Out, zones: &Zones, report: &Value) -> Result<(), Failure> {
    out.object(report)?;
    if out.json {
        return Ok(());
    }
    let number = |key: &str| number(report, key);
    let text = |key: &str| text(report, key);
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
    tell_difference(out, zones, report)?;
    if number("would_delete") > 0
        && let Some(estimate) = report.get("estimate")
    {
        out.say(format!("  would take        {}", Estimate::deserialize(estimate)?))?;
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

/// What has changed since the last plan of the rule.
fn tell_difference(out: Out, zones: &Zones, report: &Value) -> Result<(), Failure> {
    let Some(at) = report.get("previous").and_then(Value::as_str) else { return Ok(()) };
    let changed = match report.get("rule_changed").and_then(Value::as_bool) {
        Some(true) => "; the rule was changed since",
        Some(false) | None => "",
    };
    out.say(format!(
        "  since the plan of {}{changed}",
        zones.text(report.get("rule").and_then(Value::as_str), at)
    ))?;
    for (title, key) in [("newly selected", "newly"), ("no longer", "no_longer")] {
        let Some(difference) = report.get(key) else { continue };
        let count = number(difference, "count");
        let ids: Vec<String> = difference
            .get("sample")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .map(ToString::to_string)
            .collect();
        let more = if count > ids.len() as u64 { ", …" } else { "" };
        let shown = if ids.is_empty() { String::new() } else { format!(" (leads {}{more})", ids.join(", ")) };
        out.say(format!("  {title:<17} {count}{shown}"))?;
    }
    Ok(())
}
