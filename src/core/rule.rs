//! The meaning of the rules files, without their text: what [`crate::rules`] produces and everything else uses.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::age::Age;
use super::condition::Condition;
use super::lead::LeadId;
use super::notify::Target;
use super::schedule::Schedule;
use super::spots::Spots;

/// The name of a rule or a protection: `^[a-z0-9][a-z0-9-]*$`, at most [`RuleName::MAX_LENGTH`] characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RuleName(String);

/// A text that can't be a rule's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a name: use small letters, digits and hyphens, starting with a letter or digit")]
pub struct BadName(String);

impl RuleName {
    /// The longest name: it stands in tables, labels and file names.
    pub const MAX_LENGTH: usize = 64;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for RuleName {
    type Error = BadName;

    fn try_from(name: String) -> Result<RuleName, BadName> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let starts = name.bytes().next().is_some_and(plain);
        if starts && name.len() <= RuleName::MAX_LENGTH && name.bytes().all(|b| plain(b) || b == b'-') {
            Ok(RuleName(name))
        } else {
            Err(BadName(name.chars().take(RuleName::MAX_LENGTH).collect()))
        }
    }
}

impl std::str::FromStr for RuleName {
    type Err = BadName;

    fn from_str(name: &str) -> Result<RuleName, BadName> {
        RuleName::try_from(name.to_owned())
    }
}

impl From<RuleName> for String {
    fn from(name: RuleName) -> String {
        name.0
    }
}

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a rule may delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// It reports what it would delete; nothing is enqueued.
    #[default]
    Plan,
    /// It enqueues deletions.
    Delete,
}

impl Mode {
    /// The word in rules and output.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Plan => "plan",
            Mode::Delete => "delete",
        }
    }
}

/// A lead event of the portal (<https://apidocs.bitrix24.com/api-reference/crm/leads/events/index.html>).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LeadEvent {
    /// A lead was created, or restored from the recycle bin.
    #[serde(rename = "ONCRMLEADADD")]
    Add,
    /// A lead was changed.
    #[serde(rename = "ONCRMLEADUPDATE")]
    Update,
    /// A lead was deleted; our own deletions come back as this.
    #[serde(rename = "ONCRMLEADDELETE")]
    Delete,
}

impl LeadEvent {
    /// All of them.
    pub const ALL: [LeadEvent; 3] = [LeadEvent::Add, LeadEvent::Update, LeadEvent::Delete];

    /// The portal's name of the event.
    pub fn as_str(self) -> &'static str {
        match self {
            LeadEvent::Add => "ONCRMLEADADD",
            LeadEvent::Update => "ONCRMLEADUPDATE",
            LeadEvent::Delete => "ONCRMLEADDELETE",
        }
    }

    /// The event of that name, whatever its case; `None` for every other event of the portal.
    pub fn parse(name: &str) -> Option<LeadEvent> {
        LeadEvent::ALL.into_iter().find(|event| event.as_str().eq_ignore_ascii_case(name))
    }
}

/// How long the copy of a deleted lead is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeepCopy {
    /// No copy is made.
    None,
    /// So long after the deletion.
    For(Age),
}

/// The caps of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Limits {
    /// A run that would touch more leads than this is held.
    pub max_matches: u64,
    /// A run that would touch more than this share of the readable leads, in percent, is held (ignored under 50).
    pub max_percent: u8,
    /// At most so many deletions in any 24 hours; the rest waits.
    pub deletes_per_day: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { max_matches: 1000, max_percent: 20, deletes_per_day: 10_000 }
    }
}

/// One rule: which leads, when, and how carefully.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rule {
    /// Its name, unique over all files.
    pub name: RuleName,
    /// What it is for, in the administrator's words; not part of [`Rule::text`].
    #[serde(skip)]
    pub description: Option<String>,
    /// Whether it deletes or reports.
    pub mode: Mode,
    /// When it runs, in its time zone.
    pub schedule: Schedule,
    /// The events that make it look at a lead at once.
    pub events: BTreeSet<LeadEvent>,
    /// Which leads: `match` and `older_than` together.
    pub selection: Condition,
    /// Whether converted leads may be selected.
    pub include_converted: bool,
    /// How long a matched lead waits before its deletion is due.
    pub grace_period: Age,
    /// How long the lead's copy is kept.
    pub keep_copy: KeepCopy,
    /// Its caps; not part of [`Rule::text`].
    #[serde(skip)]
    pub limits: Limits,
    /// Where it is written, for messages; not part of [`Rule::text`].
    #[serde(skip)]
    pub place: Place,
    /// Where its conditions are written; not part of [`Rule::text`].
    #[serde(skip)]
    pub spots: Spots,
}

/// Where something is written in the rules files.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Place {
    /// The file's path as it was given.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
}

impl Rule {
    /// The rule's meaning as one canonical text, limits apart: two rules with the same text decide alike. It is what
    /// "a changed rule" and "the same rule text" are measured by.
    pub fn text(&self) -> String {
        // Serialising into a string fails only where a map key is no string, and there is no map in a rule.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The rule as it is written in its file, comments in it included.
    pub fn written(&self) -> String {
        self.spots.written()
    }
}

/// Leads that no rule may delete.
#[derive(Debug, Clone, PartialEq)]
pub struct Protection {
    /// Its name.
    pub name: RuleName,
    /// Leads protected by id.
    pub ids: BTreeSet<LeadId>,
    /// Leads protected by what they hold; what can't be judged is protected.
    pub condition: Option<Condition>,
    /// Where it is written, for messages; no part of its meaning.
    pub place: Place,
    /// Where its conditions are written; no part of its meaning.
    pub spots: Spots,
}

impl Protection {
    /// Whether both protect the same leads under the same name, wherever they are written.
    pub fn same(&self, other: &Protection) -> bool {
        (&self.name, &self.ids, &self.condition) == (&other.name, &other.ids, &other.condition)
    }
}

/// The method that deletes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
pub enum DeleteMethod {
    /// `crm.lead.delete`, the default.
    #[default]
    #[serde(rename = "crm.lead.delete")]
    Lead,
    /// `crm.item.delete` with entityTypeId 1: its `NOT_FOUND` is certain, and it has a budget of its own.
    #[serde(rename = "crm.item.delete")]
    Item,
}

impl DeleteMethod {
    /// The method's name.
    pub fn as_str(self) -> &'static str {
        match self {
            DeleteMethod::Lead => "crm.lead.delete",
            DeleteMethod::Item => "crm.item.delete",
        }
    }
}

/// What the portal allows (`portal:`), from
/// <https://apidocs.bitrix24.com/limits.html>.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PortalLimits {
    /// How fast the bucket drains: HTTP requests a second, more than 0.
    pub requests_per_second: f64,
    /// How many HTTP requests the bucket holds, at least 1.
    pub burst: u32,
    /// Operating seconds that one method may use in the portal's window, more than 0.
    pub method_seconds: f64,
    /// Requests in flight at the same time, 1 to 8.
    pub concurrency: u8,
    /// The method that deletes.
    pub delete_method: DeleteMethod,
}

impl Default for PortalLimits {
    fn default() -> PortalLimits {
        PortalLimits {
            requests_per_second: 2.0,
            burst: 50,
            method_seconds: 480.0,
            concurrency: 2,
            delete_method: DeleteMethod::Lead,
        }
    }
}

/// All rules files together: one version, taken whole or not at all.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleSet {
    /// The rules, in the order of files and entries.
    pub rules: Vec<Rule>,
    /// The protections of all files; each applies to every rule.
    pub protections: Vec<Protection>,
    /// The portal's limits.
    pub portal: PortalLimits,
    /// How long finished jobs, events and runs are kept.
    pub keep_history: Age,
    /// Who is told what happens, of all files.
    pub notify: Vec<Target>,
}

impl RuleSet {
    /// The rule of that name.
    pub fn rule(&self, name: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.name.as_str() == name)
    }
}
