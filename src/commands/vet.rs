//! What the service asks of rules before it takes them into force, at start and at reload: that they can be read, that
//! their own tests pass, and that the portal knows what they name.

use std::path::Path;

use tracing::warn;

use super::failure::Failure;
use super::{courier, workshop};
use crate::clock::Clock;
use crate::core::rule::RuleSet;
use crate::engine::Courier;
use crate::engine::online::{self, NOT_CHECKED};
use crate::portal::{CallError, Portal};
use crate::rules::{self, CaseResult, Diagnostic, Tests};
use crate::settings::Settings;

/// Reads the rules and runs the tests beside them. Oddities are logged.
///
/// # Errors
/// Everything that is wrong, an entry each: mistakes in the files, cases that fail, a token or a secret of notices that
/// is missing.
pub(super) fn load(settings: &Settings, courier: &Courier) -> Result<RuleSet, Vec<String>> {
    let loaded = rules::load(&settings.rules).map_err(|problems| rendered(&problems))?;
    for warning in loaded.warnings.iter().chain(&rules::lint(&loaded.rules, Clock::System.now())) {
        warn!("{}", warning.render(false));
    }
    if let Err(Failure::Usage(problems)) = workshop::without_token(&loaded.rules, settings) {
        return Err(problems);
    }
    let secrets = courier::without_secrets(&loaded.rules, courier);
    if !secrets.is_empty() {
        return Err(secrets);
    }
    test(&settings.rules, &loaded.rules)?;
    Ok(loaded.rules)
}

fn rendered(problems: &[Diagnostic]) -> Vec<String> {
    problems.iter().map(|problem| problem.render(false)).collect()
}

/// Runs the `*.test.yaml` beside the rules, but for those that are about other rules.
fn test(path: &Path, rules: &RuleSet) -> Result<(), Vec<String>> {
    let mut wrong = Vec::new();
    for input in rules::read_tests(path).map_err(|problems| rendered(&problems))? {
        match rules::parse_tests(&input) {
            Ok(tests) => wrong.extend(failures(&tests, path, rules)),
            Err(problems) => wrong.extend(rendered(&problems)),
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

fn failures(tests: &Tests, path: &Path, rules: &RuleSet) -> Vec<String> {
    let named = tests.rules.as_ref().map(|named| Path::new(tests.file()).with_file_name(named));
    let own;
    let judge = match &named {
        Some(named) if !same_file(named, path) => {
            // A file of the directory that is loaded is tested alone, as `test` does it; another one is not ours.
            if !(path.is_dir() && named.parent().is_some_and(|parent| same_file(parent, path))) {
                return Vec::new();
            }
            match rules::load(named) {
                Ok(loaded) => own = loaded.rules,
                Err(problems) => return rendered(&problems),
            }
            &own
        }
        Some(_) | None => rules,
    };
    match rules::run_cases(tests, judge) {
        Ok(results) => {
            results.iter().filter(|result| !result.passed()).map(|result| failure(tests, result)).collect()
        }
        Err(problems) => rendered(&problems),
    }
}

fn same_file(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        (Ok(_) | Err(_), _) => false,
    }
}

fn failure(tests: &Tests, result: &CaseResult<'_>) -> String {
    let CaseResult { case, decision, reason } = result;
    let because = case.reason.as_ref().map_or(String::new(), |part| format!(" because of \"{part}\""));
    format!(
        "{}:{}:1: error[failed-test]: {}: {} must say {}{because}\n  it says {decision}: {reason}",
        tests.file(),
        case.line,
        case.name,
        case.rule,
        case.expect
    )
}

/// Asks the portal about the rules, for a moment; what is only odd is logged. `Some` is why it could not be asked.
///
/// # Errors
/// What the portal does not know, an entry each.
pub(super) async fn ask(portal: &Portal, rules: &RuleSet) -> Result<Option<CallError>, Vec<String>> {
    let report = online::check_rules(portal, rules).await;
    for odd in report.findings.iter().filter(|finding| !finding.is_error() && finding.code != NOT_CHECKED) {
        warn!("{odd}");
    }
    let wrong: Vec<String> = report.errors().map(ToString::to_string).collect();
    if !wrong.is_empty() {
        return Err(wrong);
    }
    if let Some(error) = &report.unanswered {
        warn!(
            error = %error.fault, remedy = error.remedy,
            "the portal could not be asked about the rules: what is new in them neither runs nor deletes until it was"
        );
    }
    Ok(report.unanswered)
}
