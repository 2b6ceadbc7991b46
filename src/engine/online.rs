//! Checks of rules that need the portal: fields and their types, stages, sources and scope, against `crm.item.fields`,
//! `crm.status.list` and `scope`.
//!
//! An error means that the rule would not do what it says; what could not be asked is told as not checked, never passed
//! over. The right to delete can't be read, and is never tried out.

mod types;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use self::types::{Asked, mismatch};
use super::context::Context;
use crate::core::compare::Test;
use crate::core::condition::Condition;
use crate::core::field::{FieldKind, FieldName};
use crate::core::outcome::Fault;
use crate::core::rule::{Place, RuleSet};
use crate::portal::{CallError, Class, FieldInfo, Portal, Sent, Stage};

/// How long a start or a reload waits for the portal; then the rules are unchecked for the time being. systemd gives a
/// start 90 s.
pub const WITHIN: Duration = Duration::from_secs(20);

/// What a finding is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum About {
    /// The portal or the webhook, hence every rule.
    Portal,
    /// The rule of this name.
    Rule(String),
    /// A protection, hence every rule.
    Protection,
}

/// Something wrong or odd, or something that could not be checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// `error` or `warning`.
    pub severity: &'static str,
    /// A word for the kind of finding; [`NOT_CHECKED`] where the portal gave no answer.
    pub code: &'static str,
    /// What it is about.
    pub about: About,
    /// Where that is written; no file and line 0 where it is about the portal.
    pub place: Place,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
}

/// The code of a finding that says what the portal was not asked.
pub const NOT_CHECKED: &str = "not-checked";

impl Finding {
    /// Whether the rules must not be used with it.
    pub fn is_error(&self) -> bool {
        self.severity == "error"
    }
}

impl fmt::Display for Finding {
    /// As the diagnostics of rules files are written: place, severity, code, message; then what to do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            place if place.file.is_empty() => f.write_str("portal")?,
            place => write!(f, "{}:{}:1", place.file, place.line)?,
        }
        write!(f, ": {}[{}]: {}\n  help: {}", self.severity, self.code, self.message, self.help)
    }
}

/// What the portal says of a set of rules.
#[derive(Debug, Default)]
pub struct Report {
    /// What was found, what could not be checked among it.
    pub findings: Vec<Finding>,
    /// Why something could not be checked: the portal's first error.
    pub unanswered: Option<CallError>,
}

impl Report {
    /// What must be changed before the rules can be used.
    pub fn errors(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.is_error())
    }

    /// The rules that the errors concern.
    pub fn refused(&self, rules: &RuleSet) -> BTreeSet<String> {
        let mut refused = BTreeSet::new();
        for finding in self.errors() {
            match &finding.about {
                About::Rule(name) => {
                    refused.insert(name.clone());
                }
                About::Portal | About::Protection => {
                    refused.extend(rules.rules.iter().map(|rule| rule.name.to_string()));
                }
            }
        }
        refused
    }

    fn unchecked(&mut self, what: &str, error: CallError) {
        self.findings.push(Finding {
            severity: "warning",
            code: NOT_CHECKED,
            about: About::Portal,
            place: Place::default(),
            message: format!("{what} could not be checked: {}", error.fault),
            help: error.remedy.to_owned(),
        });
        self.unanswered.get_or_insert(error);
    }

    fn add(&mut self, owner: &Owner<'_>, code: &'static str, message: String, help: String) {
        self.push(owner, "error", code, message, help);
    }

    fn push(
        &mut self,
        owner: &Owner<'_>,
        severity: &'static str,
        code: &'static str,
        message: String,
        help: String,
    ) {
        let finding = Finding {
            severity,
            code,
            about: owner.about.clone(),
            place: owner.place.clone(),
            message: format!("{}: {message}", owner.name),
            help,
        };
        // A rule may name a field twice.
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }
}

/// A rule or a protection, by what messages say of it.
struct Owner<'r> {
    name: &'r str,
    about: About,
    place: &'r Place,
}

/// Asks the portal about the webhook and everything that the rules name. What it does not answer is reported as not
/// checked.
pub async fn check(portal: &Portal, rules: &RuleSet) -> Report {
    let mut report = Report::default();
    match portal.scopes().await {
        Ok(scopes) if scopes.iter().any(|scope| scope == "crm") => {}
        Ok(_) => report.findings.push(Finding {
            severity: "error",
            code: "missing-scope",
            about: About::Portal,
            place: Place::default(),
            message: "the webhook lacks the scope `crm`".to_owned(),
            help: "in Bitrix24 open the incoming webhook and add CRM (crm) to its permissions".to_owned(),
        }),
        Err(error) => report.unchecked("the webhook's scope", error),
    }
    let asker = Asker { portal, patient: None };
    asker.fields(rules, &mut report).await;
    asker.stages(rules, &mut report).await;
    asker.sources(rules, &mut report).await;
    report
}

/// Asks the portal once about everything that the rules name, for at most [`WITHIN`]; after the first call that fails
/// the others are not made.
pub async fn check_rules(portal: &Portal, rules: &RuleSet) -> Report {
    let asker = Asker { portal, patient: None };
    match tokio::time::timeout(WITHIN, asker.all(rules)).await {
        Ok(report) => report,
        Err(_) => {
            let mut report = Report::default();
            let fault = Fault::new("<slow>", format!("no answer within {} s", WITHIN.as_secs()));
            let (class, remedy) =
                (Class::Retry, "nothing to do unless it persists: the portal is asked again");
            let error = CallError { class, fault, http_status: None, sent: Sent::Maybe, remedy };
            report.unchecked(FIELDS_OF_RULES, error);
            report
        }
    }
}

/// The same with the patience of a read: for a command that has nothing else to do.
pub async fn check_patiently(ctx: &Context, rules: &RuleSet) -> Report {
    Asker { portal: &ctx.portal, patient: Some(ctx) }.all(rules).await
}

const FIELDS_OF_RULES: &str = "the fields of the rules";

#[derive(Clone, Copy)]
struct Asker<'a> {
    portal: &'a Portal,
    /// Tries again where this is set.
    patient: Option<&'a Context>,
}

impl Asker<'_> {
    async fn all(self, rules: &RuleSet) -> Report {
        let mut report = Report::default();
        self.fields(rules, &mut report).await;
        if report.unanswered.is_none() {
            self.stages(rules, &mut report).await;
        }
        if report.unanswered.is_none() {
            self.sources(rules, &mut report).await;
        }
        report
    }

    async fn ask<T, Reply>(self, call: impl Fn() -> Reply) -> Result<T, CallError>
    where
        Reply: Future<Output = Result<T, CallError>>,
    {
        match self.patient {
            Some(ctx) => ctx.patiently(call).await,
            None => call().await,
        }
    }

    async fn fields(self, rules: &RuleSet, report: &mut Report) {
        match self.ask(|| self.portal.lead_fields()).await {
            Ok(known) => {
                each_leaf(rules, &mut |owner, field, asked| judge_field(owner, field, asked, &known, report));
            }
            Err(error) => report.unchecked(FIELDS_OF_RULES, error),
        }
    }

    async fn stages(self, rules: &RuleSet, report: &mut Report) {
        if codes(rules, "stageId").is_empty() {
            return;
        }
        match self.ask(|| self.portal.stages()).await {
            Ok(stages) => judge_codes(rules, "stageId", &stages, |owner, code, known| {
                let message = format!("the portal has no stage `{code}`");
                report.add(owner, "unknown-stage", message, nearest(code, known, "stage"));
            }),
            Err(error) => report.unchecked("the stages of the rules", error),
        }
    }

    /// A source that was removed from the portal may still stand in its leads, so this is no error.
    async fn sources(self, rules: &RuleSet, report: &mut Report) {
        if codes(rules, "sourceId").is_empty() {
            return;
        }
        match self.ask(|| self.portal.sources()).await {
            Ok(sources) => judge_codes(rules, "sourceId", &sources, |owner, code, known| {
                let message = format!("the portal's list of sources has no `{code}`");
                report.push(owner, "warning", "unknown-source", message, nearest(code, known, "source"));
            }),
            Err(error) => report.unchecked("the sources of the rules", error),
        }
    }
}

fn judge_field(
    owner: &Owner<'_>,
    field: &FieldName,
    asked: Asked<'_>,
    known: &BTreeMap<String, FieldInfo>,
    report: &mut Report,
) {
    let Some(info) = known.get(field.as_str()) else {
        let names: Vec<&str> = known.keys().map(String::as_str).collect();
        let message = format!("the portal has no field `{field}`");
        report.add(owner, "unknown-field", message, nearest(field.as_str(), &names, "field"));
        return;
    };
    if field.kind() == FieldKind::Custom
        && let Some(found) = mismatch(field, info, asked)
    {
        report.add(owner, found.code, found.message, found.help);
    }
}

/// Every leaf of the rules and the protections.
fn each_leaf(rules: &RuleSet, look: &mut impl FnMut(&Owner<'_>, &FieldName, Asked<'_>)) {
    for rule in &rules.rules {
        let about = About::Rule(rule.name.to_string());
        leaves(&rule.selection, &Owner { name: rule.name.as_str(), about, place: &rule.place }, look);
    }
    for protection in &rules.protections {
        let (name, place) = (protection.name.as_str(), &protection.place);
        if let Some(condition) = &protection.condition {
            leaves(condition, &Owner { name, about: About::Protection, place }, look);
        }
    }
}

fn leaves(
    condition: &Condition,
    owner: &Owner<'_>,
    look: &mut impl FnMut(&Owner<'_>, &FieldName, Asked<'_>),
) {
    match condition {
        Condition::All(parts) | Condition::Any(parts) => {
            parts.iter().for_each(|part| leaves(part, owner, look));
        }
        Condition::Not(part) => leaves(part, owner, look),
        Condition::Field { field, test } => look(owner, field, Asked::Test(test)),
        Condition::OlderThan { field, .. } => look(owner, field, Asked::Age),
    }
}

fn codes_of<'a>(asked: &Asked<'a>) -> impl Iterator<Item = &'a str> {
    let values = match asked {
        Asked::Test(Test::TextIn { values, .. }) => values.as_slice(),
        Asked::Test(
            Test::Contains(_)
            | Test::StartsWith(_)
            | Test::NumberIn { .. }
            | Test::NumberOrder { .. }
            | Test::TimeOrder { .. }
            | Test::Flag(_)
            | Test::Empty(_),
        )
        | Asked::Age => &[],
    };
    values.iter().map(crate::core::compare::Text::as_str)
}

/// The codes that the rules compare a field with.
fn codes(rules: &RuleSet, of: &str) -> BTreeSet<String> {
    let mut codes = BTreeSet::new();
    each_leaf(rules, &mut |_, field, asked| {
        if field.as_str() == of {
            codes.extend(codes_of(&asked).map(str::to_owned));
        }
    });
    codes
}

fn judge_codes(
    rules: &RuleSet,
    of: &str,
    known: &[Stage],
    mut unknown: impl FnMut(&Owner<'_>, &str, &[&str]),
) {
    let known: Vec<&str> = known.iter().map(|known| known.id.as_str()).collect();
    each_leaf(rules, &mut |owner, field, asked| {
        if field.as_str() == of {
            codes_of(&asked)
                .filter(|code| !known.iter().any(|known| known.eq_ignore_ascii_case(code)))
                .for_each(|code| unknown(owner, code, &known));
        }
    });
}

fn nearest(name: &str, known: &[&str], what: &str) -> String {
    let nearest = known
        .iter()
        .map(|known| (strsim::jaro_winkler(&known.to_lowercase(), &name.to_lowercase()), known))
        .filter(|(score, _)| *score >= 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match nearest {
        Some((_, near)) => format!("did you mean `{near}`?"),
        None => format!("the portal's own list of {what}s is in CRM settings"),
    }
}
