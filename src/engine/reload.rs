//! Puts a version of the rules into force: tells the store, adjusts the waiting jobs, sets the pace.

use std::collections::BTreeSet;

use tracing::info;

use super::context::{Context, EngineError};
use crate::core::decide::rule_of_job;
use crate::core::notice::Occasion;
use crate::core::outcome::Outcome;
use crate::core::rule::RuleSet;
use crate::store::control::{self, UncheckedRules};
use crate::store::{jobs, notices, runs};

/// Protections of `before` that `after` no longer has, by name.
pub fn vanished_protections(before: &RuleSet, after: &RuleSet) -> Vec<String> {
    let names = |rules: &RuleSet| -> BTreeSet<String> {
        rules.protections.iter().map(|protection| protection.name.to_string()).collect()
    };
    names(before).difference(&names(after)).cloned().collect()
}

/// Notes the rules' texts (only times after a text was first seen are made up), spares waiting jobs whose rule is gone
/// or in mode `plan`, moves the due times of the others to a longer grace period, and writes down which rules are
/// unchecked and who is told what.
pub(super) async fn apply(
    ctx: &Context,
    rules: &RuleSet,
    unchecked: UncheckedRules,
) -> Result<(), EngineError> {
    ctx.portal.set_limits(rules.portal);
    let now = ctx.clock.now();
    let texts: Vec<(String, String)> =
        rules.rules.iter().map(|rule| (rule.name.to_string(), rule.text())).collect();
    let told: Vec<(String, Occasion)> = rules
        .notify
        .iter()
        .flat_map(|target| target.on.iter().map(|occasion| (target.name.to_string(), *occasion)))
        .collect();
    let known = rules.clone();
    let spared = ctx
        .store
        .write(move |db| {
            runs::note_rules(db, &texts, now)?;
            control::set_unchecked(db, &unchecked, now)?;
            notices::subscribe(db, &told, now)?;
            let mut spared = 0;
            for name in jobs::waiting_rules(db)? {
                match rule_of_job(&known, &name) {
                    Ok(rule) => {
                        jobs::extend_grace(db, &name, rule.grace_period.seconds().unsigned_abs())?;
                    }
                    Err(reason) => spared += jobs::spare_rule(db, &name, &reason, now)?,
                }
            }
            Ok(spared)
        })
        .await?;
    if spared > 0 {
        info!(jobs = spared, "spared: their rule is gone or only plans now");
    }
    for _ in 0..spared {
        ctx.metrics.job_finished(Outcome::Spared.as_str());
    }
    Ok(())
}
