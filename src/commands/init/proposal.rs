//! What the portal holds, and the rules that it suggests: a rule for each stage of dead leads, and one for leads that
//! nobody touches.
//!
//! The counts are the portal's own answers to the same filters that a run would send. They are for orientation; what a
//! rule selects is what `plan` says.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::failure::Failure;
use crate::core::figure::thousands;
use crate::core::filter::server_filter;
use crate::portal::{CallError, Portal, Stage};
use crate::rules::{self, Input};

/// The most stages that get a rule: portals have a handful of failed ones, and each costs a request.
const MAX_STAGES: usize = 10;

/// The most characters of a stage's name that are repeated; it is for recognising it.
const MAX_NAME: usize = 60;

/// How many leads a run may select before it waits for a person: the default of `limits.max_matches`.
const HELD_OVER: u64 = 1000;

/// What the portal holds.
pub(super) struct Found {
    /// All leads that the webhook may read.
    pub(super) leads: u64,
    /// Those with an amount of money.
    with_money: u64,
    /// The rules.
    pub(super) rules: Vec<Proposed>,
}

/// One rule, and how many leads it concerns.
pub(super) struct Proposed {
    name: String,
    /// "JUNK (Junk lead)", without a line break.
    what: String,
    /// "older than 90 days".
    how_old: &'static str,
    /// The rule's lines below `schedule`.
    selection: String,
    leads: u64,
}

impl Proposed {
    /// "4,210 JUNK (Junk lead) leads older than 90 days".
    pub(super) fn finding(&self) -> String {
        let leads = if self.leads == 1 { "lead" } else { "leads" };
        format!("{} {} {leads} {}: rule {}", thousands(self.leads), self.what, self.how_old, self.name)
    }

    pub(super) fn json(&self) -> Value {
        json!({ "rule": self.name, "leads": self.leads })
    }

    fn yaml(&self) -> String {
        let description = json!(format!("{} leads {}", self.what, self.how_old));
        let held = if self.leads > HELD_OVER {
            format!(
                "    # Over {} leads: its runs wait for `b24-janitor approve`, or for a higher limits.max_matches.\n",
                thousands(HELD_OVER)
            )
        } else {
            String::new()
        };
        format!(
            "  # {} leads when this file was written.\n  - name: {}\n    description: {description}\n    \
             schedule: \"15 3 * * *\"         # every night at 3:15\n{}{held}    \
             # mode: delete                 # remove the first # once `b24-janitor plan {}` shows what you expect\n",
            thousands(self.leads),
            self.name,
            self.selection,
            self.name,
        )
    }
}

/// Asks the portal.
pub(super) async fn look(portal: &Portal, now: Timestamp) -> Result<Found, Failure> {
    let stages = portal.stages().await.map_err(unanswered)?;
    let leads = portal.count().await.map_err(unanswered)?;
    let mut proposed = propose(&stages);
    for rule in &mut proposed {
        rule.leads = count(portal, rule, now).await?;
    }
    let mut money = serde_json::Map::new();
    money.insert(">opportunity".to_owned(), Value::from(0));
    let with_money = portal.count_of(&money).await.map_err(unanswered)?;
    Ok(Found { leads, with_money, rules: proposed })
}

fn unanswered(error: CallError) -> Failure {
    Failure::of(format!("the portal did not answer as it should: {}; {}", error.fault, error.remedy))
}

fn propose(stages: &[Stage]) -> Vec<Proposed> {
    let dead = stages.iter().filter(|stage| stage.semantics.as_deref() == Some("F")).take(MAX_STAGES);
    let mut rules: Vec<Proposed> = Vec::new();
    for stage in dead {
        let name = name(&stage.id, &rules);
        rules.push(Proposed {
            name,
            what: what(stage),
            how_old: "older than 90 days",
            selection: format!(
                "    match: {{ stageId: {} }}\n    older_than: 90d                # since the lead was created\n",
                json!(stage.id)
            ),
            leads: 0,
        });
    }
    rules.push(Proposed {
        name: "untouched".to_owned(),
        what: "open".to_owned(),
        how_old: "that nobody has touched for a year",
        selection: "    match: { stageSemanticId: P }   # in progress: neither converted nor failed\n    \
                    older_than: { field: lastActivityTime, age: 365d }\n"
            .to_owned(),
        leads: 0,
    });
    rules
}

/// `old-junk` for the stage `JUNK`; a number behind it where that is taken.
fn name(stage: &str, taken: &[Proposed]) -> String {
    let plain: String = stage
        .chars()
        .take(40)
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .collect();
    let first = format!("old-{plain}");
    let is_free = |name: &String| taken.iter().all(|rule| rule.name != *name);
    std::iter::once(first.clone())
        .chain((2..=taken.len() + 2).map(|number| format!("{first}-{number}")))
        .find(is_free)
        .unwrap_or(first)
}

fn what(stage: &Stage) -> String {
    let told: String = stage.name.chars().filter(|c| !c.is_control()).take(MAX_NAME).collect();
    if told.is_empty() || told == stage.id { stage.id.clone() } else { format!("{} ({told})", stage.id) }
}

/// How many leads the portal counts for a rule, by the filter that a run would send.
async fn count(portal: &Portal, rule: &Proposed, now: Timestamp) -> Result<u64, Failure> {
    let text = format!("version: 1\ntimezone: UTC\nrules:\n{}", rule.yaml());
    let input = Input { file: "the proposed rule".to_owned(), bytes: text.into_bytes() };
    let parsed = rules::parse(&[input])
        .map_err(|problems| Failure::Usage(problems.iter().map(|problem| problem.render(false)).collect()))?;
    let Some(rule) = parsed.rules.rules.first() else { return Ok(0) };
    portal.count_of(&server_filter(rule, now).json).await.map_err(unanswered)
}

/// The rules file.
pub(super) fn rules_text(host: &str, zone: &str, found: &Found) -> String {
    let mut text = format!(
        "# yaml-language-server: $schema=rules.schema.json\n\
         # The line above lets an editor check this file, once b24-janitor schema > rules.schema.json was run here.\n\
         #\n\
         # Rules of b24-janitor for {host}, written by `b24-janitor init`. It is yours now: change it.\n\
         # As it stands it deletes nothing: every rule only plans. After each change:\n\
         #\n\
         #     b24-janitor check --online   # the rules, and whether the portal knows their fields and stages\n\
         #     b24-janitor plan             # what each rule would delete now; deletes nothing\n\
         \n\
         version: 1\n\
         timezone: {}          # of schedules and dates\n\
         \n\
         defaults:\n  \
           mode: plan                       # plan: report only. delete: delete.\n  \
           grace_period: 24h                # so long a selected lead waits before it is deleted\n  \
           keep_copy: 30d                   # so long a deleted lead's data are kept in the database\n  \
           limits:                          # a run over one of the first two waits until a person approves it\n    \
             max_matches: 1000              # leads in one run\n    \
             max_percent: 20                # share of all leads, in percent\n    \
             deletes_per_day: 10000         # deletions in any 24 hours; the rest waits\n\
         \n\
         # Beats every rule. Converted leads are protected anyway.\n\
         protect:\n  \
           # {} leads have an amount of money, when this file was written.\n  \
           - name: has-money\n    \
             match: {{ opportunity: {{ gt: 0 }} }}\n\
         \n\
         rules:\n",
        json!(zone),
        thousands(found.with_money),
    );
    let rules: Vec<String> = found.rules.iter().map(Proposed::yaml).collect();
    text.push_str(&rules.join("\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(id: &str, name: &str, semantics: &str) -> Stage {
        Stage { id: id.to_owned(), name: name.to_owned(), semantics: Some(semantics.to_owned()) }
    }

    /// The rules that these stages suggest are valid, whatever people call their stages; each is the rule of its stage.
    #[test]
    fn a_portals_words_never_break_the_file() {
        let stages = [
            stage("JUNK", "Junk: \"leads\" # all\n- name: evil", "F"),
            stage("7", "007", "F"),
            stage("no", "", "F"),
            stage("NO", "\u{1b}[31m'", "F"),
            stage("SPAM/1", "Спам", "F"),
            stage("CONVERTED", "Converted", "S"),
        ];
        let mut rules = propose(&stages);
        rules.iter_mut().for_each(|rule| rule.leads = 1001);
        let found = Found { leads: 5000, with_money: 3, rules };
        let text = rules_text("example.bitrix24.com", "Europe/Berlin", &found);
        let parsed = rules::parse(&[Input { file: "rules.yaml".to_owned(), bytes: text.into_bytes() }]);
        let parsed = parsed.unwrap_or_else(|problems| panic!("{}", problems[0].render(false)));
        assert!(parsed.warnings.is_empty(), "{:?}", parsed.warnings);
        let names: Vec<&str> = parsed.rules.rules.iter().map(|rule| rule.name.as_str()).collect();
        assert_eq!(names, ["old-junk", "old-7", "old-no", "old-no-2", "old-spam-1", "untouched"]);
        for rule in &parsed.rules.rules {
            assert_eq!(rule.mode, crate::core::rule::Mode::Plan, "{}", rule.name.as_str());
        }
    }
}
