//! `simulate`: what each rule would delete on each of the next days, as tables with bars. Deletes nothing.

use std::sync::Arc;

use comfy_table::Table;
use jiff::Timestamp;
use jiff::civil::Date;

use super::alone;
use super::failure::Failure;
use super::print::Out;
use super::run::ask_service;
use super::workshop::{self, Whose};
use crate::cli::SimulateArgs;
use crate::clock::Clock;
use crate::core::rule::Mode;
use crate::core::simulate::{Begin, Day, Forecast, Window};
use crate::engine::simulate::{self as engine, Report};
use crate::settings::Settings;

/// The longest bar, in columns, where the terminal is wide enough; its own width is taken where it is known.
const WIDEST: u16 = 100;
/// What stands left of the bars: the date and four numbers.
const LEFT_OF_BARS: u16 = 50;
/// The shortest longest bar: less tells no days apart.
const NARROWEST: u16 = 10;

/// Simulates, and tells one rule or all of them.
pub(super) async fn simulate(settings: &Settings, args: &SimulateArgs) -> Result<(), Failure> {
    let rules = workshop::load_rules(settings)?;
    if let Some(name) = &args.rule {
        workshop::named(&rules, name)?;
    }
    let now = Clock::System.now();
    let window = Window { begin: begin(args.at.as_deref(), now)?, now, days: args.days };
    let out = Out::new(args.json.json);
    let bar = out.progress(0, "reading leads");
    bar.set_style(indicatif::ProgressStyle::default_spinner());
    let report: Report = match workshop::whose(&settings.db)? {
        Whose::Service(_) => {
            let store = workshop::open_store(&settings.db, false)?;
            bar.set_message("asking the running service");
            let asked = serde_json::to_value(engine::Asked::of(&rules, window))?;
            let report = ask_service(settings, &store, "simulate", &asked).await;
            bar.finish_and_clear();
            serde_json::from_value(report?)?
        }
        Whose::Ours(lock) => {
            let shown = bar.clone();
            let report = alone::look(settings, rules, lock, async move |ctx| {
                let rules = ctx.rules();
                workshop::insist(ctx, &rules).await?;
                let read = |read| shown.set_message(format!("{read} leads read"));
                Ok(engine::simulate(ctx, &Arc::clone(&rules), window, read).await?)
            })
            .await;
            bar.finish_and_clear();
            report?
        }
    };
    tell(out, &report, args.rule.as_deref())
}

/// Where the simulation begins: what has passed can't be foretold.
fn begin(at: Option<&str>, now: Timestamp) -> Result<Begin, Failure> {
    let Some(text) = at else { return Ok(Begin::At(now)) };
    let passed = || Failure::usage(format!("--at {text}: that has passed; leave it out to begin now"));
    if let Ok(at) = text.parse::<Timestamp>() {
        return if at < now { Err(passed()) } else { Ok(Begin::At(at)) };
    }
    match text.parse::<Date>() {
        Ok(date) if text.len() == "2026-01-31".len() => {
            // The date of the zone that is furthest behind: today somewhere is not over yet.
            let behind = jiff::tz::Offset::constant(-12).to_datetime(now).date();
            if date < behind { Err(passed()) } else { Ok(Begin::On(date)) }
        }
        Ok(_) | Err(_) => Err(Failure::usage(format!(
            "--at {text}: write a date (2026-01-31), or a time with its offset (2026-01-31T08:00:00+01:00)"
        ))),
    }
}

fn tell(out: Out, report: &Report, only: Option<&str>) -> Result<(), Failure> {
    let told = report.rules.iter().filter(|rule| only.is_none_or(|name| name == rule.rule));
    for forecast in told {
        out.object(forecast)?;
        tell_rule(out, forecast)?;
    }
    out.say(format!(
        "made from {} leads as they are now: no change of a lead, no new lead and no approval is foretold, and a deletion \
         counts on the day it is due; nothing was deleted or enqueued",
        report.leads
    ))?;
    Ok(())
}

fn tell_rule(out: Out, forecast: &Forecast) -> Result<(), Failure> {
    let Forecast { rule, mode, days, total, waiting } = forecast;
    let as_if = match mode {
        Mode::Delete => "",
        Mode::Plan => ", as if it alone said `mode: delete`",
    };
    let count = match days.len() {
        1 => "1 day".to_owned(),
        count => format!("{count} days"),
    };
    out.say(format!("{rule} (mode {}): {total} deletions in {count}{as_if}", mode.as_str()))?;
    let most = days.iter().map(|day| day.would_delete).max().unwrap_or_default();
    let shown: Vec<&Day> = days.iter().filter(|day| is_worth_a_line(day)).collect();
    let rows = shown.iter().map(|day| row(day, most)).collect::<Vec<_>>();
    if !rows.is_empty() {
        out.table(&["day", "deleted", "protected", "can't be judged", ""], rows)?;
    }
    if shown.len() < days.len() {
        out.say(format!("days on which nothing happens are left out: {}", days.len() - shown.len()))?;
    }
    if *waiting > 0 {
        out.say(format!("{waiting} more wait at the end for their grace period or for deletes_per_day"))?;
    }
    Ok(())
}

fn is_worth_a_line(day: &Day) -> bool {
    day.would_delete + day.protected + day.undecidable > 0 || day.held.is_some()
}

fn row(day: &Day, most: u64) -> Vec<String> {
    let what = match &day.held {
        Some(why) if day.would_delete == 0 => format!("HELD: {why}"),
        Some(why) => format!("{} HELD: {why}", bar(day.would_delete, most, width(), unicode())),
        None => bar(day.would_delete, most, width(), unicode()),
    };
    vec![
        day.date.to_string(),
        day.would_delete.to_string(),
        day.protected.to_string(),
        day.undecidable.to_string(),
        what,
    ]
}

/// How long the longest bar may be.
fn width() -> u16 {
    let terminal = Table::new().width().unwrap_or(80);
    terminal.saturating_sub(LEFT_OF_BARS).clamp(NARROWEST, WIDEST)
}

/// Whether the terminal shows more than ASCII, by the locale.
fn unicode() -> bool {
    let set = ["LC_ALL", "LC_CTYPE", "LANG"].map(std::env::var);
    let locale = set.into_iter().flatten().find(|value| !value.is_empty()).unwrap_or_default();
    let locale = locale.to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

/// A bar whose length is to `width` as `value` is to `most`; something is never drawn as nothing.
fn bar(value: u64, most: u64, width: u16, unicode: bool) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    if value == 0 || most == 0 {
        return String::new();
    }
    let steps = if unicode { 8 } else { 1 };
    let length = u128::from(value) * u128::from(width) * steps / u128::from(most);
    let length = usize::try_from(length).unwrap_or_default().max(1);
    if !unicode {
        return "#".repeat(length);
    }
    let rest = EIGHTHS.get(length % 8).copied().unwrap_or_default();
    format!("{}{rest}", "█".repeat(length / 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_keep_the_proportions_and_never_hide_a_deletion() {
        assert_eq!(bar(10, 10, 4, true), "████");
        assert_eq!(bar(5, 10, 4, true), "██");
        assert_eq!(bar(3, 16, 4, true), "▊");
        assert_eq!(bar(1, 1_000_000, 4, true), "▏");
        assert_eq!(bar(0, 10, 4, true), "");
        assert_eq!((bar(5, 10, 4, false), bar(1, 1000, 4, false)), ("##".to_owned(), "#".to_owned()));
    }
}
