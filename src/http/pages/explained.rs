//! An explanation of a lead as its page shows it: conditions line by line, times in the zones of their rules.
//!
//! Personal data (the title, the copy's values) only for whoever holds the admin token. Limits: of a copy at most [`MAX_FIELDS`] fields, each cut at [`MAX_CHARACTERS`].

use serde_json::{Map, Value};

use super::moment::{Moment, Zones};
use crate::core::lead::LeadId;
use crate::core::rule::{LeadEvent, Mode, RuleSet};
use crate::core::trace::{Line, ProtectionTrace, Ruling, Said};
use crate::core::truth::Truth;
use crate::engine::explain::{Explanation, JobExplained, RuleExplained};
use crate::store::copies::Copy;
use crate::store::events::EventLine;
use crate::store::jobs::JobState;
use crate::store::restores::{RestoreLine, RestoreState};

/// The most fields of a copy on a page: a portal with many user fields has some hundred.
pub(super) const MAX_FIELDS: usize = 500;
/// A longer value is cut: a comment can be a whole letter.
const MAX_CHARACTERS: usize = 2000;
/// How deep the table of conditions is indented.
const MAX_DEPTH: usize = 6;

/// A lead.
pub(super) struct Explained {
    pub(super) id: LeadId,
    pub(super) at: Moment,
    pub(super) presence: &'static str,
    pub(super) is_present: bool,
    pub(super) portal_error: Option<String>,
    pub(super) title: Option<String>,
    /// Whether personal data is shown.
    pub(super) personal: bool,
    pub(super) stage: Option<String>,
    pub(super) created: Option<String>,
    pub(super) rules: Vec<Judged>,
    pub(super) protections: Vec<Guard>,
    pub(super) jobs: Vec<Job>,
    pub(super) copy: Option<Kept>,
    pub(super) restores: Vec<Restore>,
    pub(super) events: Vec<Event>,
    /// Whether the copy may be made a lead of.
    pub(super) may_restore: bool,
}

/// A rule against it.
pub(super) struct Judged {
    pub(super) rule: String,
    pub(super) mode: &'static str,
    pub(super) verdict: String,
    pub(super) tag: &'static str,
    pub(super) lines: Vec<Condition>,
    pub(super) converted: &'static str,
    pub(super) left_alone: Option<(&'static str, Moment)>,
    pub(super) held_run: Option<String>,
    pub(super) next_run: Option<Moment>,
    pub(super) due_at: Option<Moment>,
    pub(super) job: Option<String>,
    pub(super) listens: String,
    pub(super) only_plans: bool,
}

/// A condition.
pub(super) struct Condition {
    pub(super) depth: usize,
    pub(super) wanted: String,
    pub(super) actual: String,
    pub(super) names: Vec<String>,
    pub(super) answer: &'static str,
    pub(super) tag: &'static str,
}

/// A protection.
pub(super) struct Guard {
    pub(super) name: String,
    pub(super) covers: &'static str,
    pub(super) protects: bool,
    pub(super) lines: Vec<Condition>,
}

/// A job.
pub(super) struct Job {
    pub(super) id: String,
    pub(super) rule: String,
    pub(super) run: String,
    pub(super) state: &'static str,
    pub(super) when: Moment,
    pub(super) is_done: bool,
    pub(super) notes: Vec<String>,
    pub(super) sent: Vec<(u32, Moment, String)>,
}

/// The copy.
pub(super) struct Kept {
    pub(super) job: String,
    pub(super) taken: Moment,
    pub(super) deleted: Option<Moment>,
    pub(super) expires: Moment,
    pub(super) fields: Vec<(String, String)>,
    pub(super) more: usize,
}

/// A restore.
pub(super) struct Restore {
    pub(super) at: Moment,
    pub(super) says: String,
    /// The other lead: the new one of a deleted lead, the deleted one of a new lead.
    pub(super) other: Option<LeadId>,
    pub(super) tag: &'static str,
}

/// An event.
pub(super) struct Event {
    pub(super) name: &'static str,
    pub(super) at: Moment,
    pub(super) result: String,
}

impl Explained {
    /// What a page shows of an explanation, and of the copy with its fields; whether with `personal` data.
    pub(super) fn new(told: Explanation, copy: Option<Copy>, rules: &RuleSet, personal: bool) -> Explained {
        let zones = Zones::of(rules);
        let fields = copy.as_ref().map(|copy| fields_of(&copy.fields_json)).unwrap_or_default();
        let may_restore = copy.as_ref().is_some_and(|copy| {
            let again = |restore: &&RestoreLine| {
                restore.job_id == copy.job_id
                    && restore.lead_id == told.lead_id
                    && restore.state != RestoreState::Failed
            };
            copy.deleted_at.is_some() && !told.restores.iter().any(|restore| again(&restore))
        });
        let title = told.title.or_else(|| fields.get("title").and_then(Value::as_str).map(str::to_owned));
        let stage = told.stage.map(|code| match told.stage_name {
            Some(name) => format!("{code} ({name})"),
            None => code,
        });
        Explained {
            id: told.lead_id,
            at: zones.any(told.at),
            presence: presence(told.presence),
            is_present: told.presence == "present",
            portal_error: told.portal_error,
            title: title.filter(|_| personal).map(|title| cut(&title)),
            personal,
            stage,
            created: told.created,
            rules: told.rules.into_iter().map(|rule| judged(rule, &zones)).collect(),
            protections: told.protections.into_iter().map(guard).collect(),
            jobs: told.jobs.into_iter().map(|job| shown_job(job, &zones)).collect(),
            copy: copy.map(|copy| kept(&copy, &fields, &zones, personal)),
            restores: told.restores.iter().map(|restore| restored(restore, told.lead_id, &zones)).collect(),
            events: told.events.into_iter().map(|event| shown_event(event, &zones)).collect(),
            may_restore,
        }
    }
}

fn presence(word: &str) -> &'static str {
    match word {
        "present" => "The portal has it.",
        "gone" => "The portal has no such lead (any more).",
        "unreadable" => "It exists, but this webhook may not read it.",
        _ => "The portal did not answer; this is what the database knows.",
    }
}

fn judged(rule: RuleExplained, zones: &Zones) -> Judged {
    let time = |at| zones.of_rule(&rule.rule, at);
    let own = rule.own_protection.as_ref();
    let verdict = rule.trace.verdict;
    Judged {
        mode: rule.mode.as_str(),
        verdict: verdict.words(rule.trace.protected_by.as_deref().unwrap_or_default(), own.is_some()),
        tag: match verdict {
            Ruling::Delete if own.is_none() => "bad",
            Ruling::Delete | Ruling::Protected | Ruling::NoMatch => "good",
            Ruling::Undecidable => "warn",
        },
        lines: lines(&rule.trace.selection),
        converted: match (rule.trace.converted, rule.trace.include_converted) {
            (_, true) => "It may be converted: include_converted.",
            (Truth::No, false) => "It is not converted.",
            (Truth::Yes, false) => "It is converted, hence protected.",
            (Truth::Undecidable, false) => "It is not known whether it is converted, hence it is protected.",
        },
        left_alone: own.map(|own| (own.reason.says(), time(own.until))),
        held_run: rule.held_run.map(|run| run.to_string()),
        next_run: rule.next_run.map(time),
        due_at: rule.due_at.map(time),
        job: rule.job.map(|job| job.to_string()),
        listens: rule.listens.iter().copied().map(LeadEvent::as_str).collect::<Vec<_>>().join(", "),
        only_plans: verdict == Ruling::Delete && rule.mode == Mode::Plan,
        rule: rule.rule.clone(),
    }
}

fn lines(line: &Line) -> Vec<Condition> {
    let told = line.told().into_iter().map(|told| {
        let (wanted, actual, names) = match told.said {
            Said::Group(words) => (words.to_owned(), String::new(), Vec::new()),
            Said::Value { field, wanted, actual, names } => (
                format!("{field} {wanted}"),
                actual.unwrap_or("nothing: the field is missing").to_owned(),
                names.iter().map(|(code, name)| format!("{code}: {name}")).collect(),
            ),
        };
        let tag = match told.truth {
            Truth::Yes => "good",
            Truth::No => "bad",
            Truth::Undecidable => "warn",
        };
        Condition { depth: told.depth.min(MAX_DEPTH), wanted, actual, names, answer: told.truth.words(), tag }
    });
    told.collect()
}

fn guard(trace: ProtectionTrace) -> Guard {
    Guard {
        covers: match (trace.protects, trace.by_id) {
            (true, true) => "protects it, by its id",
            (true, false) => "protects it",
            (false, _) => "doesn't protect it",
        },
        protects: trace.protects,
        lines: trace.condition.as_ref().map(lines).unwrap_or_default(),
        name: trace.name,
    }
}

fn shown_job(explained: JobExplained, zones: &Zones) -> Job {
    let job = explained.job;
    let time = |at| zones.of_rule(&job.rule, at);
    let sent = explained.sent.into_iter().map(|attempt| {
        let result = answer(attempt.result, attempt.error, "no answer yet");
        (attempt.number, time(attempt.sent_at), result)
    });
    Job {
        id: job.id.to_string(),
        run: job.run_id.to_string(),
        state: job.outcome.map_or(job.state.as_str(), |outcome| outcome.as_str()),
        when: time(job.finished_at.unwrap_or(job.due_at)),
        is_done: job.state == JobState::Done,
        sent: sent.collect(),
        notes: job.reason.into_iter().chain(job.last_error).collect(),
        rule: job.rule,
    }
}

/// A value as the page shows it.
pub(super) fn value(value: Option<&Value>, personal: bool) -> String {
    match value {
        Some(Value::String(text)) if personal => cut(text),
        Some(value @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)))
            if personal =>
        {
            cut(&value.to_string())
        }
        Some(_) | None => String::new(),
    }
}

fn kept(copy: &Copy, fields: &Map<String, Value>, zones: &Zones, personal: bool) -> Kept {
    let shown = fields
        .iter()
        .take(MAX_FIELDS)
        .map(|(name, value)| (name.clone(), self::value(Some(value), personal)));
    Kept {
        job: copy.job_id.to_string(),
        taken: zones.any(copy.taken_at),
        deleted: copy.deleted_at.map(|at| zones.any(at)),
        expires: zones.any(copy.expires_at),
        fields: shown.collect(),
        more: fields.len().saturating_sub(MAX_FIELDS),
    }
}

pub(super) fn fields_of(json: &str) -> Map<String, Value> {
    serde_json::from_str(json).unwrap_or_default()
}

fn restored(restore: &RestoreLine, lead: LeadId, zones: &Zones) -> Restore {
    let created_this = restore.new_lead_id == Some(lead);
    Restore {
        at: zones.any(restore.sent_at),
        says: if created_this {
            format!("created by the restore of lead {}", restore.lead_id)
        } else {
            restore.says()
        },
        other: if created_this { Some(restore.lead_id) } else { restore.new_lead_id },
        tag: match restore.state {
            RestoreState::Restored => "good",
            RestoreState::Sending | RestoreState::Unknown | RestoreState::Missing => "warn",
            RestoreState::Failed => "bad",
        },
    }
}

fn shown_event(line: EventLine, zones: &Zones) -> Event {
    Event {
        name: line.event.event.as_str(),
        at: zones.any(line.event.received_at),
        result: answer(line.result, line.error, "not evaluated yet"),
    }
}

fn answer(result: Option<impl ToString>, error: Option<String>, none_yet: &str) -> String {
    match (result, error) {
        (None, _) => none_yet.to_owned(),
        (Some(result), None) => result.to_string(),
        (Some(result), Some(error)) => format!("{}: {error}", result.to_string()),
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_CHARACTERS) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
    }
}
