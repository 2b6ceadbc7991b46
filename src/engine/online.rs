//! Checks that need the portal: fields, stages and scope, against `crm.item.fields`, `crm.status.list` and `scope`.
//!
//! The right to delete can't be read, and is never tried out.

use std::collections::BTreeSet;

use crate::core::compare::Test;
use crate::core::condition::Condition;
use crate::core::rule::{Place, RuleSet};
use crate::portal::{CallError, Portal};

/// Something wrong, or something that could not be checked.
#[derive(Debug, Clone)]
pub struct Finding {
    /// `error` or `warning`.
    pub severity: &'static str,
    /// A word for the kind of finding.
    pub code: &'static str,
    /// The rules file; empty where it is about the portal.
    pub file: String,
    /// The line of the rule; 0 where it is about the portal.
    pub line: u32,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
}

/// Asks the portal about everything the rules name. What it does not answer is reported as not checked.
pub async fn check(portal: &Portal, rules: &RuleSet) -> Vec<Finding> {
    let mut findings = Vec::new();
    match portal.scopes().await {
        Ok(scopes) if scopes.iter().any(|scope| scope == "crm") => {}
        Ok(_) => findings.push(Finding {
            severity: "error",
            code: "missing-scope",
            file: String::new(),
            line: 0,
            message: "the webhook lacks the scope `crm`".to_owned(),
            help: "in Bitrix24 open the incoming webhook and add CRM (crm) to its permissions".to_owned(),
        }),
        Err(error) => findings.push(unchecked("the webhook's scope", &error)),
    }
    match portal.lead_fields().await {
        Ok(fields) => {
            let known: BTreeSet<String> = fields.into_keys().collect();
            each_condition(rules, |place, owner, condition| {
                for field in condition.fields() {
                    if !known.contains(field.as_str()) {
                        findings.push(unknown(
                            place,
                            "unknown-field",
                            owner,
                            "field",
                            field.as_str(),
                            known.iter(),
                        ));
                    }
                }
            });
        }
        Err(error) => findings.push(unchecked("the fields of the rules", &error)),
    }
    match portal.stages().await {
        Ok(stages) => {
            let known: BTreeSet<String> = stages.into_iter().map(|stage| stage.id).collect();
            each_condition(rules, |place, owner, condition| {
                for stage in stages_of(condition) {
                    if !known.iter().any(|known| known.eq_ignore_ascii_case(&stage)) {
                        findings.push(unknown(place, "unknown-stage", owner, "stage", &stage, known.iter()));
                    }
                }
            });
        }
        Err(error) => findings.push(unchecked("the stages of the rules", &error)),
    }
    findings
}

fn each_condition(rules: &RuleSet, mut look: impl FnMut(&Place, &str, &Condition)) {
    for rule in &rules.rules {
        look(&rule.place, rule.name.as_str(), &rule.selection);
    }
    let nowhere = Place::default();
    for protection in &rules.protections {
        if let Some(condition) = &protection.condition {
            look(&nowhere, protection.name.as_str(), condition);
        }
    }
}

fn stages_of(condition: &Condition) -> Vec<String> {
    match condition {
        Condition::All(parts) | Condition::Any(parts) => parts.iter().flat_map(stages_of).collect(),
        Condition::Not(part) => stages_of(part),
        Condition::Field { field, test: Test::TextIn { values, .. } } if field.as_str() == "stageId" => {
            values.iter().map(|value| value.as_str().to_owned()).collect()
        }
        Condition::Field { .. } | Condition::OlderThan { .. } => Vec::new(),
    }
}

fn unknown<'a>(
    place: &Place,
    code: &'static str,
    owner: &str,
    what: &str,
    name: &str,
    known: impl Iterator<Item = &'a String>,
) -> Finding {
    let nearest = known
        .map(|known| (strsim::jaro_winkler(&known.to_lowercase(), &name.to_lowercase()), known))
        .filter(|(score, _)| *score >= 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let help = match nearest {
        Some((_, near)) => format!("did you mean `{near}`?"),
        None => format!("the portal's own list of {what}s is in CRM settings"),
    };
    Finding {
        severity: "error",
        code,
        file: place.file.clone(),
        line: place.line,
        message: format!("{owner}: the portal has no {what} `{name}`"),
        help,
    }
}

fn unchecked(what: &str, error: &CallError) -> Finding {
    Finding {
        severity: "warning",
        code: "not-checked",
        file: String::new(),
        line: 0,
        message: format!("{what} could not be checked: {}", error.fault),
        help: error.remedy.to_owned(),
    }
}
