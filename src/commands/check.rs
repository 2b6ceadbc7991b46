//! `check`: the settings and the rules, every mistake in one pass; with `--online` also what only the portal knows.

use jiff::Timestamp;
use serde_json::json;

use super::failure::Failure;
use super::print::{Out, complain};
use super::workshop;
use crate::cli::CheckArgs;
use crate::clock::Clock;
use crate::core::rule::{Rule, RuleSet};
use crate::engine::online::{self, Finding};
use crate::metrics::Metrics;
use crate::rules::{self, Diagnostic};
use crate::settings::{Flags, Need, Settings};

/// How many of a rule's next times are shown.
const NEXT: usize = 5;

/// Checks, and says what it found.
pub(super) async fn check(flags: &Flags, args: &CheckArgs) -> Result<(), Failure> {
    let out = Out::new(args.json.json);
    let need = if args.online { Need::Portal } else { Need::NoPortal };
    let settings = workshop::settings(flags, need)?;
    workshop::start_log(&settings, true);
    let loaded = match rules::load(&settings.rules) {
        Ok(loaded) => loaded,
        Err(problems) => return Err(tell_problems(out, &problems)?),
    };
    for warning in &loaded.warnings {
        tell_problem(out, warning)?;
    }
    let now = Clock::System.now();
    for rule in &loaded.rules.rules {
        tell_rule(out, rule, now)?;
    }
    hints(out, &settings, &loaded.rules)?;
    if args.online {
        online_checks(out, &settings, &loaded.rules).await?;
    }
    Ok(())
}

fn tell_problem(out: Out, problem: &Diagnostic) -> Result<(), Failure> {
    out.object(&problem.to_json())?;
    if !out.json {
        complain(problem.render(Out::color()));
    }
    Ok(())
}

fn tell_problems(out: Out, problems: &[Diagnostic]) -> Result<Failure, Failure> {
    for problem in problems {
        tell_problem(out, problem)?;
    }
    let count = problems.len();
    let message = if count == 1 { "1 problem".to_owned() } else { format!("{count} problems") };
    if out.json {
        return Ok(Failure::Usage(Vec::new()));
    }
    Ok(Failure::usage(format!("{message} in the rules; nothing was loaded")))
}

fn tell_rule(out: Out, rule: &Rule, now: Timestamp) -> Result<(), Failure> {
    let zone = rule.schedule.zone();
    let next: Vec<String> = rule
        .schedule
        .next_fires(now, NEXT)
        .into_iter()
        .map(|at| at.to_zoned_datetime(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string())
        .collect();
    out.object(&json!({ "rule": rule.name, "mode": rule.mode, "next": next }))?;
    out.say(format!("{} ({})", rule.name, rule.mode.as_str()))?;
    if let Some(description) = &rule.description {
        out.say(format!("  {description}"))?;
    }
    out.say(format!("  selects  {}", rule.selection))?;
    if !rule.events.is_empty() {
        let events: Vec<&str> = rule.events.iter().map(|event| event.as_str()).collect();
        out.say(format!("  events   {}", events.join(", ")))?;
    }
    out.say(format!("  schedule {} in {}; next:", rule.schedule.text(), rule.schedule.zone_name()))?;
    for at in next {
        out.say(format!("    {at}"))?;
    }
    Ok(())
}

/// What the service would need and this check can do without: its secrets may live where only the service sees them.
fn hints(out: Out, settings: &Settings, rules: &RuleSet) -> Result<(), Failure> {
    let mut hints: Vec<(&str, String)> = Vec::new();
    if settings.portal_host().is_none() {
        hints.push((
            "no-webhook",
            "neither B24_WEBHOOK_URL nor a whole local application (B24_PORTAL_URL, B24_OAUTH_…) is set here; `serve`, \
             `plan` and `run` need one"
                .to_owned(),
        ));
    }
    let listening: Vec<&str> =
        rules.rules.iter().filter(|rule| !rule.events.is_empty()).map(|rule| rule.name.as_str()).collect();
    if settings.application_tokens.is_empty() && !listening.is_empty() {
        let message = format!(
            "B24_APPLICATION_TOKEN is not set here; `serve` refuses rules with `events` without it: {}",
            listening.join(", ")
        );
        hints.push(("events-without-token", message));
    }
    for (code, message) in hints {
        out.object(&json!({
            "severity": "warning", "file": null, "line": null, "column": null, "code": code, "message": message,
            "help": null,
        }))?;
        if !out.json {
            complain(format!("warning[{code}]: {message}"));
        }
    }
    let deleting = rules.rules.iter().filter(|rule| rule.mode == crate::core::rule::Mode::Delete).count();
    let valid = match rules.rules.len() {
        1 => "1 rule is valid".to_owned(),
        count => format!("{count} rules are valid"),
    };
    out.say(format!("{valid}; {deleting} may delete, {} only plan", rules.rules.len() - deleting))?;
    Ok(())
}

async fn online_checks(out: Out, settings: &Settings, rules: &RuleSet) -> Result<(), Failure> {
    let portal = workshop::portal(settings, rules, None, &Metrics::new()).await?;
    let findings = online::check(&portal, rules).await;
    let (mut wrong, mut unchecked) = (0, 0);
    for Finding { severity, code, file, line, message, help } in &findings {
        let is_error = *severity == "error";
        wrong += usize::from(is_error);
        unchecked += usize::from(!is_error);
        out.object(&json!({
            "severity": severity, "file": file, "line": line, "column": 1, "code": code, "message": message,
            "help": help,
        }))?;
        if !out.json {
            let place = if file.is_empty() { "portal".to_owned() } else { format!("{file}:{line}:1") };
            complain(format!("{place}: {severity}[{code}]: {message}\n  help: {help}"));
        }
    }
    if wrong > 0 {
        return Err(Failure::Usage(Vec::new()));
    }
    // A deployment that checks first must not go on because the portal happened to be away.
    if unchecked > 0 {
        return Err(Failure::of("the rules are valid, but what only the portal knows was not checked"));
    }
    out.say("the portal knows every field and stage of the rules")?;
    out.say(
        "not checked: whether this webhook may delete leads; the portal has no way to ask without deleting",
    )?;
    Ok(())
}
