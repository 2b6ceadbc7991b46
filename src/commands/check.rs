//! `check`: the settings and the rules, every mistake in one pass; with `--online` also what only the portal knows.

use jiff::Timestamp;
use serde_json::json;

use super::failure::Failure;
use super::print::{Out, complain};
use super::turns::Turns;
use super::{courier, workshop};
use crate::cli::{CheckArgs, CheckFormat};
use crate::clock::Clock;
use crate::core::rule::{KeepCopy, Protection, Rule, RuleSet};
use crate::engine::online::{self, Finding};
use crate::rules::{self, Diagnostic};
use crate::settings::{Flags, Need, Settings};

/// How many of a rule's next times are shown.
const NEXT: usize = 5;

/// One thing that is wrong or odd, wherever it was found.
struct Told<'a> {
    severity: &'a str,
    code: &'a str,
    /// The file, its line and column, where there is one.
    place: Option<(&'a str, u32, u32)>,
    message: &'a str,
    help: Option<&'a str>,
}

/// Where and how the command prints.
#[derive(Clone, Copy)]
struct Report {
    out: Out,
    github: bool,
}

impl Report {
    /// `people` is what stands on a terminal; every other form is made from the parts.
    fn tell(self, told: &Told<'_>, people: impl FnOnce() -> String) -> Result<(), Failure> {
        let (file, line, column) =
            told.place.map_or((None, None, None), |(f, l, c)| (Some(f), Some(l), Some(c)));
        self.out.object(&json!({
            "severity": told.severity, "file": file, "line": line, "column": column, "code": told.code,
            "message": told.message, "help": told.help,
        }))?;
        if self.github {
            self.out.say(annotation(told))?;
        } else if !self.out.json {
            complain(people());
        }
        Ok(())
    }

    fn diagnostic(self, problem: &Diagnostic) -> Result<(), Failure> {
        let message = problem.whole_message();
        let told = Told {
            severity: problem.severity.as_str(),
            code: problem.code,
            place: Some((&problem.file, problem.line, problem.column)),
            message: &message,
            help: problem.help.as_deref(),
        };
        self.tell(&told, || problem.render(Out::color()))
    }
}

/// A workflow command of GitHub Actions
/// (<https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands>). What is data is escaped, so
/// that no rules file can give commands of its own.
fn annotation(told: &Told<'_>) -> String {
    let data = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
    let place = told.place.filter(|(file, ..)| !file.is_empty());
    let place = place.map_or(String::new(), |(file, line, column)| {
        format!(" file={},line={line},col={column}", property(file))
    });
    let help = told.help.map_or(String::new(), |help| format!("\nhelp: {help}"));
    format!("::{}{place}::{}", told.severity, data(&format!("{} [{}]{help}", told.message, told.code)))
}

/// Checks, and says what it found.
pub(super) async fn check(flags: &Flags, args: &CheckArgs) -> Result<(), Failure> {
    let json = args.json || args.format == CheckFormat::Json;
    let report = Report { out: Out::new(json), github: args.format == CheckFormat::Github };
    let out = report.out;
    let need = if args.online { Need::Portal } else { Need::NoPortal };
    let settings = workshop::settings(flags, need)?;
    workshop::start_log(&settings, true);
    let loaded = match rules::load(&settings.rules) {
        Ok(loaded) => loaded,
        Err(problems) => return Err(tell_problems(report, &problems)?),
    };
    let now = Clock::System.now();
    for warning in loaded.warnings.iter().chain(&rules::lint(&loaded.rules, now)) {
        report.diagnostic(warning)?;
    }
    for rule in &loaded.rules.rules {
        tell_rule(out, rule, &loaded.rules.protections, now)?;
    }
    hints(report, &settings, &loaded.rules)?;
    if args.online {
        online_checks(report, &settings, &loaded.rules).await?;
    }
    Ok(())
}

fn tell_problems(report: Report, problems: &[Diagnostic]) -> Result<Failure, Failure> {
    for problem in problems {
        report.diagnostic(problem)?;
    }
    let count = problems.len();
    let message = if count == 1 { "1 problem".to_owned() } else { format!("{count} problems") };
    if report.out.json {
        return Ok(Failure::Usage(Vec::new()));
    }
    Ok(Failure::usage(format!("{message} in the rules; nothing was loaded")))
}

fn tell_rule(out: Out, rule: &Rule, protections: &[Protection], now: Timestamp) -> Result<(), Failure> {
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
    let mut kept: Vec<&str> = protections.iter().map(|protection| protection.name.as_str()).collect();
    if !rule.include_converted {
        kept.insert(0, "converted leads");
    }
    let kept = if kept.is_empty() { "nothing".to_owned() } else { kept.join(", ") };
    out.say(format!("  protects {kept}"))?;
    let copy = match rule.keep_copy {
        KeepCopy::None => "no copy".to_owned(),
        KeepCopy::For(age) => format!("a copy for {age}"),
    };
    let limits = &rule.limits;
    out.say(format!("  grace    {} before a deletion is due, {copy}", rule.grace_period))?;
    out.say(format!(
        "  caps     held over {} leads or {} % of all; {} deletions in 24 hours",
        limits.max_matches, limits.max_percent, limits.deletes_per_day
    ))?;
    out.say(format!("  schedule {} in {}; next:", rule.schedule.text(), rule.schedule.zone_name()))?;
    for at in next {
        out.say(format!("    {at}"))?;
    }
    Ok(())
}

/// What the service would need and this check can do without: its secrets may live where only the service sees them.
fn hints(report: Report, settings: &Settings, rules: &RuleSet) -> Result<(), Failure> {
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
    let courier = courier::courier()?;
    for target in &rules.notify {
        for (variable, why) in courier.check(target) {
            let message = format!(
                "{}: {why}; `serve` refuses to start without it: target {} of {}",
                variable.as_str(),
                target.name,
                target.place.file
            );
            hints.push(("notify-secret", message));
        }
    }
    for (code, message) in hints {
        let told = Told { severity: "warning", code, place: None, message: &message, help: None };
        report.tell(&told, || format!("warning[{code}]: {message}"))?;
    }
    let deleting = rules.rules.iter().filter(|rule| rule.mode == crate::core::rule::Mode::Delete).count();
    let valid = match rules.rules.len() {
        1 => "1 rule is valid".to_owned(),
        count => format!("{count} rules are valid"),
    };
    report.out.say(format!("{valid}; {deleting} may delete, {} only plan", rules.rules.len() - deleting))?;
    Ok(())
}

async fn online_checks(report: Report, settings: &Settings, rules: &RuleSet) -> Result<(), Failure> {
    let turns = Turns::of(settings, rules).await?;
    let said = online::check(&turns.portal, rules).await;
    turns.over().await?;
    for finding in &said.findings {
        let Finding { severity, code, written, message, help, .. } = finding;
        let told = Told {
            severity,
            code,
            place: written.as_ref().map(|at| (at.file.as_str(), at.line, at.column)),
            message,
            help: Some(help),
        };
        report.tell(&told, || finding.render(Out::color()))?;
    }
    if said.errors().next().is_some() {
        return Err(Failure::Usage(Vec::new()));
    }
    // A deployment that checks first must not go on because the portal happened to be away.
    if said.unanswered.is_some() {
        return Err(Failure::of("the rules are valid, but what only the portal knows was not checked"));
    }
    report.out.say("the portal knows every field and stage of the rules")?;
    report.out.say(
        "not checked: whether this webhook may delete leads; the portal has no way to ask without deleting",
    )?;
    Ok(())
}
