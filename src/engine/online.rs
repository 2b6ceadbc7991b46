//! Checks of rules that need the portal: fields and their types, stages, sources and scope, against `crm.item.fields`,
//! `crm.status.list`, `user.get` and `scope`.
//!
//! An error means that the rule would not do what it says; what could not be asked is told as not checked, never passed
//! over. The right to delete can't be read, and is never tried out.

mod leaf;
mod types;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use self::leaf::{Leaf, leaves};
use self::types::{Part, mismatch};
use super::context::Context;
use crate::core::field::FieldKind;
use crate::core::outcome::Fault;
use crate::core::rule::RuleSet;
use crate::core::trace::USER_FIELDS;
use crate::portal::{CallError, Class, FieldInfo, Portal, Sent, Stage};
use crate::rules::{Diagnostic, Severity};

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
    /// The same at the place where it is written; `None` where it is about the portal.
    pub written: Option<Box<Diagnostic>>,
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

impl Finding {
    fn of_portal(severity: &'static str, code: &'static str, message: String, help: String) -> Finding {
        Finding { severity, code, about: About::Portal, written: None, message, help }
    }

    /// For a terminal: as the diagnostics of rules files are written.
    pub fn render(&self, color: bool) -> String {
        match &self.written {
            Some(written) => written.render(color),
            None => {
                format!("portal: {}[{}]: {}\n  help: {}", self.severity, self.code, self.message, self.help)
            }
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
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

    /// What is about the portal first, then in the order of the files.
    fn sort(&mut self) {
        let place =
            |finding: &Finding| finding.written.as_ref().map(|at| (at.file.clone(), at.line, at.column));
        self.findings.sort_by_cached_key(place);
    }

    fn unchecked(&mut self, what: &str, error: CallError) {
        let message = format!("{what} could not be checked: {}", error.fault);
        self.findings.push(Finding::of_portal("warning", NOT_CHECKED, message, error.remedy.to_owned()));
        self.unanswered.get_or_insert(error);
    }

    fn add(
        &mut self,
        severity: Severity,
        code: &'static str,
        (leaf, part): (&Leaf<'_>, Part),
        message: String,
        help: String,
    ) {
        let message = format!("{}: {message}", leaf.owner);
        let mut written = match leaf.span(part) {
            Some(span) => {
                Diagnostic::about_condition(severity, code, leaf.place, (leaf.spots, span), &message)
            }
            None => Diagnostic::about_rule(severity, code, leaf.place, &message),
        };
        written.help(&help);
        let about = leaf.about.clone();
        let finding = Finding {
            severity: severity.as_str(),
            code,
            about,
            written: Some(Box::new(written)),
            message,
            help,
        };
        // What an alias repeats is wrong once.
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }
}

/// Asks the portal about the webhook and everything that the rules name. What it does not answer is reported as not
/// checked.
pub async fn check(portal: &Portal, rules: &RuleSet) -> Report {
    let mut report = Report::default();
    let scopes = portal.scopes().await;
    let sees_users = scopes.as_ref().is_ok_and(|scopes| may_see_users(scopes));
    match scopes {
        Ok(scopes) if scopes.iter().any(|scope| scope == "crm") => {}
        Ok(_) => report.findings.push(Finding::of_portal(
            "error",
            "missing-scope",
            "the webhook lacks the scope `crm`".to_owned(),
            "in Bitrix24 open the incoming webhook and add CRM (crm) to its permissions".to_owned(),
        )),
        Err(error) => report.unchecked("the webhook's scope", error),
    }
    let asker = Asker { portal, patient: None };
    asker.fields(rules, &mut report).await;
    asker.stages(rules, &mut report).await;
    asker.sources(rules, &mut report).await;
    asker.users(rules, sees_users, &mut report).await;
    report.sort();
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

/// Whether a webhook with these permissions may ask for users
/// (<https://apidocs.bitrix24.com/api-reference/user/user-get.html>).
pub fn may_see_users(scopes: &[String]) -> bool {
    scopes.iter().any(|scope| matches!(scope.as_str(), "user" | "user_basic" | "user_brief"))
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
        report.sort();
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
            Ok(known) => leaves(rules).iter().for_each(|leaf| judge_field(leaf, &known, report)),
            Err(error) => report.unchecked(FIELDS_OF_RULES, error),
        }
    }

    async fn stages(self, rules: &RuleSet, report: &mut Report) {
        if !asks(rules, "stageId") {
            return;
        }
        match self.ask(|| self.portal.stages()).await {
            Ok(stages) => judge_codes(rules, "stageId", &stages, |at, code, help| {
                let message = format!("the portal has no stage `{code}`");
                report.add(Severity::Error, "unknown-stage", at, message, help);
            }),
            Err(error) => report.unchecked("the stages of the rules", error),
        }
    }

    /// Users may be hidden from the webhook, so one that it does not see is no error.
    async fn users(self, rules: &RuleSet, sees_users: bool, report: &mut Report) {
        let all = leaves(rules);
        let named: Vec<&Leaf<'_>> =
            all.iter().filter(|leaf| USER_FIELDS.contains(&leaf.field.as_str())).collect();
        // The portal writes 0 where there is nobody.
        let ids: BTreeSet<i64> = named.iter().flat_map(|leaf| leaf.ids()).filter(|id| *id != 0).collect();
        if ids.is_empty() {
            return;
        }
        if !sees_users {
            let message = "whether the users of the rules exist was not checked: the webhook lacks the scope `user_brief`";
            let help = "nothing depends on it; to have them checked and named, add Users (minimum) (user_brief) to \
                        the webhook's permissions";
            let finding =
                Finding::of_portal("warning", "users-not-checked", message.to_owned(), help.to_owned());
            report.findings.push(finding);
            return;
        }
        let ids: Vec<i64> = ids.into_iter().collect();
        match self.ask(|| self.portal.users(&ids)).await {
            Ok(known) => {
                for leaf in named {
                    for (index, id) in leaf.ids().into_iter().enumerate() {
                        if id != 0 && !known.contains_key(&id) {
                            let message = format!("the portal shows this webhook no user {id}");
                            let help =
                                "the id of a user stands in the address of the user's profile".to_owned();
                            let at = (leaf, Part::Value(index));
                            report.add(Severity::Warning, "unknown-user", at, message, help);
                        }
                    }
                }
            }
            Err(error) => report.unchecked("the users of the rules", error),
        }
    }

    /// A source that was removed from the portal may still stand in its leads, so this is no error.
    async fn sources(self, rules: &RuleSet, report: &mut Report) {
        if !asks(rules, "sourceId") {
            return;
        }
        match self.ask(|| self.portal.sources()).await {
            Ok(sources) => judge_codes(rules, "sourceId", &sources, |at, code, help| {
                let message = format!("the portal's list of sources has no `{code}`");
                report.add(Severity::Warning, "unknown-source", at, message, help);
            }),
            Err(error) => report.unchecked("the sources of the rules", error),
        }
    }
}

fn judge_field(leaf: &Leaf<'_>, known: &BTreeMap<String, FieldInfo>, report: &mut Report) {
    let field = leaf.field;
    let Some(info) = known.get(field.as_str()) else {
        let names = known.iter().map(|(name, info)| (name.as_str(), info.title.as_str()));
        let help = nearest(field.as_str(), names, "field");
        let message = format!("the portal has no field `{field}`");
        report.add(Severity::Error, "unknown-field", (leaf, Part::Field), message, help);
        return;
    };
    if field.kind() == FieldKind::Custom
        && let Some(found) = mismatch(field, info, leaf.asked)
    {
        report.add(Severity::Error, found.code, (leaf, found.part), found.message, found.help);
    }
}

/// Whether the rules compare a field with codes.
fn asks(rules: &RuleSet, of: &str) -> bool {
    leaves(rules).iter().any(|leaf| leaf.field.as_str() == of && leaf.codes().next().is_some())
}

fn judge_codes(
    rules: &RuleSet,
    of: &str,
    known: &[Stage],
    mut unknown: impl FnMut((&Leaf<'_>, Part), &str, String),
) {
    for leaf in leaves(rules).iter().filter(|leaf| leaf.field.as_str() == of) {
        for (index, code) in leaf.codes().enumerate() {
            if !known.iter().any(|known| known.id.eq_ignore_ascii_case(code)) {
                let names = known.iter().map(|known| (known.id.as_str(), known.name.as_str()));
                let what = of.trim_end_matches("Id");
                unknown((leaf, Part::Value(index)), code, nearest(code, names, what));
            }
        }
    }
}

/// Names at least this similar (Jaro-Winkler, 0 to 1) are worth suggesting; below, a suggestion confuses.
const NEAR_ENOUGH: f64 = 0.8;

/// The known code that was probably meant; people also write what the portal shows them, so the names count too.
fn nearest<'k>(name: &str, known: impl Iterator<Item = (&'k str, &'k str)>, what: &str) -> String {
    let like = |known: &str| strsim::jaro_winkler(&known.to_lowercase(), &name.to_lowercase());
    let nearest = known
        .map(|(code, title)| (like(code).max(like(title)), code, title))
        .filter(|(score, _, _)| *score >= NEAR_ENOUGH)
        .reduce(|best, other| if other.0 > best.0 { other } else { best });
    match nearest {
        Some((_, code, title)) if title.is_empty() || title == code => format!("did you mean `{code}`?"),
        Some((_, code, title)) => format!("did you mean `{code}` ({title})?"),
        None => format!("the portal's own list of {what}s is in CRM settings"),
    }
}
