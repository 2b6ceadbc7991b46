//! Who brings notices: the secrets of this process, and whether those that the rules name are there.

use std::sync::Arc;

use super::failure::Failure;
use crate::core::rule::RuleSet;
use crate::engine::Courier;
use crate::settings::Source;

/// Who brings notices, with the secrets of this process: from variables, files and credentials, read when needed.
pub(super) fn courier() -> Result<Courier, Failure> {
    let source = Source::process();
    let secrets = Arc::new(move |name: &str| {
        source.secret(name).map_err(|problem| format!("{}; {}", problem.message, problem.remedy))
    });
    Courier::over_network(secrets).map_err(|error| Failure::Failed(anyhow::Error::new(error)))
}

/// The secrets of notices that are not there or are no addresses, each with the place of its target.
pub(super) fn without_secrets(rules: &RuleSet, courier: &Courier) -> Vec<String> {
    let wrong = rules.notify.iter().flat_map(|target| {
        courier.check(target).into_iter().map(move |(variable, why)| {
            format!(
                "{}:{}: error[notify-secret]: target {}: {}: {why}",
                target.place.file,
                target.place.line,
                target.name,
                variable.as_str()
            )
        })
    });
    wrong.collect()
}
