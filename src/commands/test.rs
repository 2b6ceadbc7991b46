//! `test`: unit tests of rules. No portal and no database are needed, and nothing is deleted.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::failure::Failure;
use super::print::{Out, complain};
use crate::cli::TestArgs;
use crate::core::rule::RuleSet;
use crate::rules::{self, CaseResult, Diagnostic, Input, Tests};
use crate::settings::{Settings, Source};

/// The rules beside a file of tests, where nothing names others.
pub(super) const BESIDE: &str = "rules.yaml";

/// Runs the cases of the files, or of every file beside the rules. All files are read before the first case is run, so
/// that everything that is wrong with them is told at once.
pub(super) fn test(settings: &Settings, flags_rules: bool, args: &TestArgs) -> Result<(), Failure> {
    let out = Out::new(args.json.json);
    let mut problems = Problems::default();
    let inputs = inputs(settings, args, &mut problems)?;
    let chosen =
        (flags_rules || Source::process().env.contains_key("JANITOR_RULES")).then_some(&settings.rules);
    let mut sets: HashMap<PathBuf, Option<RuleSet>> = HashMap::new();
    let mut read: Vec<(Tests, PathBuf)> = Vec::new();
    for input in &inputs {
        let Some(tests) = problems.keep(rules::parse_tests(input)) else { continue };
        let path = rules_of(&tests, chosen.map(PathBuf::as_path));
        sets.entry(path.clone())
            .or_insert_with(|| problems.keep(rules::load(&path)).map(|loaded| loaded.rules));
        read.push((tests, path));
    }
    let mut results = Vec::new();
    for (tests, path) in &read {
        let Some(Some(rules)) = sets.get(path) else { continue };
        results.extend(
            problems
                .keep(rules::run_cases(tests, rules))
                .unwrap_or_default()
                .into_iter()
                .map(|result| (tests, result)),
        );
    }
    problems.tell(out)?;
    let total = results.len();
    let mut failed = 0;
    for (tests, result) in &results {
        failed += usize::from(!result.passed());
        tell(out, tests, result)?;
    }
    let cases = if total == 1 { "case" } else { "cases" };
    if failed > 0 {
        return Err(Failure::of(format!("{failed} of {total} {cases} failed")));
    }
    out.say(format!("{total} {cases} passed"))?;
    Ok(())
}

fn inputs(settings: &Settings, args: &TestArgs, problems: &mut Problems) -> Result<Vec<Input>, Failure> {
    if args.files.is_empty() {
        let found = problems.keep(rules::read_tests(&settings.rules));
        if found.as_ref().is_some_and(Vec::is_empty) {
            return Err(Failure::usage(format!(
                "there is no *.test.yaml beside the rules ({}): write one, or name a file",
                settings.rules.display()
            )));
        }
        return Ok(found.unwrap_or_default());
    }
    Ok(args.files.iter().filter_map(|path| problems.keep(rules::read_file(path))).collect())
}

/// The rules that a file is about: those that it names, else those that the command was told, else those beside it.
fn rules_of(tests: &Tests, chosen: Option<&Path>) -> PathBuf {
    let beside = |name: &str| Path::new(tests.file()).with_file_name("").join(name);
    match (&tests.rules, chosen) {
        (Some(named), _) => beside(named),
        (None, Some(chosen)) => chosen.to_owned(),
        (None, None) => beside(BESIDE),
    }
}

fn tell(out: Out, tests: &Tests, result: &CaseResult<'_>) -> Result<(), Failure> {
    let CaseResult { case, decision, reason } = result;
    out.object(&json!({
        "file": tests.file(),
        "line": case.line,
        "case": case.name,
        "rule": case.rule,
        "expected": case.expect,
        "expected_reason": case.reason,
        "decision": decision,
        "reason": reason,
        "passed": result.passed(),
    }))?;
    if result.passed() {
        out.say(format!("ok      {}", case.name))?;
        return Ok(());
    }
    out.say(format!("FAILED  {} ({}:{})", case.name, tests.file(), case.line))?;
    let wanted = match &case.reason {
        Some(part) => format!("{} because of \"{part}\"", case.expect),
        None => case.expect.to_string(),
    };
    out.say(format!("        {} must say {wanted}", case.rule))?;
    out.say(format!("        it says  {decision}: {reason}"))?;
    Ok(())
}

/// What is wrong with the files, gathered.
#[derive(Default)]
struct Problems(Vec<Diagnostic>);

impl Problems {
    fn keep<T>(&mut self, read: Result<T, Vec<Diagnostic>>) -> Option<T> {
        match read {
            Ok(value) => Some(value),
            Err(problems) => {
                self.0.extend(problems);
                None
            }
        }
    }

    fn tell(&self, out: Out) -> Result<(), Failure> {
        for problem in &self.0 {
            out.object(&problem.to_json())?;
            if !out.json {
                complain(problem.render(Out::color()));
            }
        }
        match self.0.len() {
            0 => Ok(()),
            _ if out.json => Err(Failure::Usage(Vec::new())),
            1 => Err(Failure::usage("1 problem in the files; no case was run")),
            count => Err(Failure::usage(format!("{count} problems in the files; no case was run"))),
        }
    }
}
