//! An explanation for people: each condition with its answer, then what became of the lead.

use std::io;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::print::Out;
use super::words::Zones;
use crate::core::trace::{Line, Ruling};
use crate::core::truth::Truth;
use crate::store::protections::ProtectionReason;
use crate::store::restores::RestoreLine;

/// Colours of answers, or none.
#[derive(Clone, Copy)]
pub(super) struct Paint {
    on: bool,
}

const GREEN: u8 = 32;
const RED: u8 = 31;
const YELLOW: u8 = 33;
const BOLD: u8 = 1;

impl Paint {
    pub(super) fn new(on: bool) -> Paint {
        Paint { on }
    }

    fn paint(self, text: &str, code: u8) -> String {
        if self.on { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// The answer to a condition.
    fn truth(self, truth: Truth) -> String {
        match truth {
            Truth::Yes => self.paint(truth.words(), GREEN),
            Truth::No => self.paint(truth.words(), RED),
            Truth::Undecidable => self.paint(truth.words(), YELLOW),
        }
    }
}

/// Tells all of it.
pub(super) fn tell(out: Out, paint: Paint, zones: &Zones, told: &Value) -> io::Result<()> {
    let id = told.get("lead_id").map(ToString::to_string).unwrap_or_default();
    match text(told, "presence") {
        "present" => {
            let stage = match text(told, "stage_name") {
                "" => text(told, "stage").to_owned(),
                name => format!("{} ({name})", text(told, "stage")),
            };
            out.say(format!("lead {id}: stage {stage}, created {}", text(told, "created")))?;
        }
        "gone" => out.say(format!("lead {id}: the portal has no such lead (any more)"))?,
        "unreadable" => out.say(format!(
            "lead {id}: it exists, but this webhook may not read it: {}",
            text(told, "portal_error")
        ))?,
        _ => out.say(format!("lead {id}: the portal did not answer; this is what the database knows"))?,
    }
    for rule in list(told, "rules") {
        tell_rule(out, paint, zones, rule)?;
    }
    tell_protections(out, paint, list(told, "protections"))?;
    tell_history(out, zones, told)
}

fn tell_rule(out: Out, paint: Paint, zones: &Zones, rule: &Value) -> io::Result<()> {
    out.say("")?;
    let left_alone = rule.get("own_protection").is_some_and(|own| !own.is_null());
    let verdict: Ruling = read(rule, "verdict")?;
    let words = verdict.words(text(rule, "protected_by"), left_alone);
    let verdict = match verdict {
        Ruling::Delete if !left_alone => paint.paint(&words, RED),
        Ruling::Delete | Ruling::Protected | Ruling::NoMatch => paint.paint(&words, GREEN),
        Ruling::Undecidable => paint.paint(&words, YELLOW),
    };
    let name = paint.paint(text(rule, "rule"), BOLD);
    out.say(format!("rule {name} (mode {}): {verdict}", text(rule, "mode")))?;
    tell_line(out, paint, &read(rule, "selection")?, 1)?;
    let converted = match (text(rule, "converted"), rule.get("include_converted").and_then(Value::as_bool)) {
        (_, Some(true)) => "may be converted: include_converted",
        ("no", _) => "not converted",
        ("yes", _) => "converted, hence protected",
        _ => "not known whether it is converted, hence protected",
    };
    out.say(format!("  {converted}"))?;
    if let Some(own) = rule.get("own_protection").filter(|own| !own.is_null()) {
        let why: ProtectionReason = read(own, "reason")?;
        out.say(format!(
            "  left alone until {}: {}",
            zones.text(Some(text(rule, "rule")), text(own, "until")),
            why.says()
        ))?;
    }
    if let Some(run) = rule.get("held_run").filter(|run| !run.is_null()) {
        out.say(format!("  run {run} of this rule is held: scheduled runs wait for `approve`"))?;
    }
    tell_due(out, zones, rule)
}

fn tell_due(out: Out, zones: &Zones, rule: &Value) -> io::Result<()> {
    let time = |key: &str| zones.text(Some(text(rule, "rule")), text(rule, key));
    let job = rule.get("job").filter(|job| !job.is_null());
    match (job, time("due_at").as_str()) {
        (Some(job), "") => out.say(format!("  job {job} is running"))?,
        (Some(job), due) => out.say(format!("  job {job} waits, due at {due}; it is judged again before"))?,
        (None, "") => {
            let why = match (text(rule, "verdict"), text(rule, "mode")) {
                ("delete", "plan") => ": mode is plan, nothing would be deleted",
                _ => "",
            };
            out.say(format!("  next run {}{why}", time("next_run")))?;
        }
        (None, due) => {
            out.say(format!("  next run {}; its deletion would be due at {due}", time("next_run")))?;
        }
    }
    let events: Vec<&str> = list(rule, "listens").iter().filter_map(Value::as_str).collect();
    if !events.is_empty() {
        out.say(format!("  looks at once on {}", events.join(", ")))?;
    }
    Ok(())
}

/// One condition, and what it is made of one step further in.
fn tell_line(out: Out, paint: Paint, line: &Line, depth: usize) -> io::Result<()> {
    line.told().into_iter().try_for_each(|told| {
        let indent = "  ".repeat(depth + told.depth);
        out.say(format!("{indent}{}: {}", told.said, paint.truth(told.truth)))
    })
}

fn tell_protections(out: Out, paint: Paint, protections: &[Value]) -> io::Result<()> {
    if protections.is_empty() {
        return Ok(());
    }
    out.say("\nprotections")?;
    for protection in protections {
        let flag = |key| protection.get(key).and_then(Value::as_bool).unwrap_or(false);
        let covers = match (flag("protects"), flag("by_id")) {
            (true, true) => paint.paint("protects it, by its id", GREEN),
            (true, false) => paint.paint("protects it", GREEN),
            (false, _) => "doesn't protect it".to_owned(),
        };
        out.say(format!("  {}: {covers}", text(protection, "name")))?;
        if let Some(condition) = read::<Option<Line>>(protection, "condition")? {
            tell_line(out, paint, &condition, 2)?;
        }
    }
    Ok(())
}

fn tell_history(out: Out, zones: &Zones, told: &Value) -> io::Result<()> {
    let jobs = list(told, "jobs");
    out.say(if jobs.is_empty() { "\nno jobs" } else { "\njobs, the last first" })?;
    for job in jobs {
        let time = |object: &Value, key: &str| zones.text(Some(text(job, "rule")), text(object, key));
        let state = match text(job, "outcome") {
            "" => text(job, "state"),
            outcome => outcome,
        };
        let when = match text(job, "finished_at") {
            "" => format!("due at {}", time(job, "due_at")),
            _ => format!("at {}", time(job, "finished_at")),
        };
        let (id, run) = (number(job, "id"), number(job, "run_id"));
        out.say(format!("  job {id} of {} (run {run}): {state}, {when}", text(job, "rule")))?;
        for words in [text(job, "reason"), text(job, "last_error")] {
            if !words.is_empty() {
                out.say(format!("    {words}"))?;
            }
        }
        for attempt in list(job, "sent") {
            let result = match (text(attempt, "result"), text(attempt, "error")) {
                ("", _) => "no answer yet".to_owned(),
                (result, "") => result.to_owned(),
                (result, error) => format!("{result}: {error}"),
            };
            let sent = time(attempt, "sent_at");
            out.say(format!("    attempt {} sent at {sent}: {result}", number(attempt, "number")))?;
        }
    }
    match told.get("copy").filter(|copy| !copy.is_null()) {
        Some(copy) => out.say(format!("copy exists until {}", zones.text(None, text(copy, "expires_at"))))?,
        None => out.say("no copy")?,
    }
    for restore in read::<Vec<RestoreLine>>(told, "restores")? {
        let lead = if restore.new_lead_id.map(i64::from) == Some(number(told, "lead_id")) {
            format!("created by the restore of lead {}", restore.lead_id)
        } else {
            restore.says()
        };
        out.say(format!("restore of job {} at {}: {lead}", restore.job_id, zones.local(restore.sent_at)))?;
    }
    let events = list(told, "events");
    out.say(if events.is_empty() { "no events" } else { "events, the last first" })?;
    for event in events {
        let result = match (text(event, "result"), text(event, "error")) {
            ("", _) => "not evaluated yet".to_owned(),
            (result, "") => result.to_owned(),
            (result, error) => format!("{result}: {error}"),
        };
        out.say(format!(
            "  {} at {}: {result}",
            text(event, "event"),
            zones.text(None, text(event, "received_at"))
        ))?;
    }
    Ok(())
}

/// A part of the explanation that has a type of its own.
fn read<T: DeserializeOwned>(object: &Value, key: &str) -> io::Result<T> {
    T::deserialize(object.get(key).unwrap_or(&Value::Null)).map_err(io::Error::other)
}

fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn number(object: &Value, key: &str) -> i64 {
    object.get(key).and_then(Value::as_i64).unwrap_or_default()
}

fn list<'a>(object: &'a Value, key: &str) -> &'a [Value] {
    object.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}
