//! Random rules, as a value that is written as YAML for the service and judged by the oracle without it.

use std::fmt::Write as _;

use fastrand::Rng;

/// The names that rules can have: a reload changes what a name means.
const NAMES: [&str; 4] = ["alpha", "beta", "gamma", "delta"];
/// Stages that colleagues and rules use.
pub(crate) const STAGES: [&str; 6] = ["NEW", "IN_PROCESS", "7", "PROCESSED", "CONVERTED", "JUNK"];
/// Sources that colleagues and rules use.
pub(crate) const SOURCES: [&str; 4] = ["WEB", "CALL", "PARTNER", "CALLBACK"];
const SCHEDULES: [&str; 6] =
    ["@hourly", "7 */3 * * *", "30 4 * * *", "15 3,15 * * *", "0 */6 * * *", "*/30 8-17 * * *"];

/// The place of a rule's name among all names.
pub(crate) fn number(name: &str) -> usize {
    NAMES.iter().position(|known| *known == name).unwrap_or(NAMES.len())
}

/// What is older than so many hours, by which date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Date {
    Created,
    Moved,
    Activity,
    Updated,
}

impl Date {
    fn field(self) -> &'static str {
        match self {
            Date::Created => "createdTime",
            Date::Moved => "movedTime",
            Date::Activity => "lastActivityTime",
            Date::Updated => "updatedTime",
        }
    }
}

/// One rule.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RuleSpec {
    pub(crate) name: &'static str,
    schedule: &'static str,
    events: bool,
    pub(crate) stages: Vec<&'static str>,
    pub(crate) source: Option<&'static str>,
    pub(crate) cheaper_than: Option<u32>,
    pub(crate) not_of: Option<u32>,
    pub(crate) title: Option<&'static str>,
    pub(crate) older: Option<(Date, u32)>,
    pub(crate) converted: bool,
    pub(crate) grace_hours: u32,
    pub(crate) delete: bool,
    max_matches: u32,
    max_percent: u32,
    pub(crate) per_day: u32,
}

/// One protection.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Guard {
    DearerThan(u32),
    Source(&'static str),
    Pinned(Vec<u32>),
}

/// The rules file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Spec {
    pub(crate) rules: Vec<RuleSpec>,
    pub(crate) guards: Vec<Guard>,
    concurrency: u8,
    burst: u32,
    item_method: bool,
    /// Whether people are told of held and ended runs and of a portal that stops.
    pub(crate) notify: bool,
}

impl RuleSpec {
    fn random(name: &'static str, rng: &mut Rng) -> RuleSpec {
        let mut stages: Vec<&'static str> = vec!["JUNK"];
        if rng.u8(0..3) == 0 {
            stages.push("7");
        }
        if rng.u8(0..6) == 0 {
            stages.push("CONVERTED");
        }
        if rng.u8(0..6) == 0 {
            stages = vec!["PROCESSED"];
        }
        let dates = [Date::Created, Date::Moved, Date::Activity, Date::Updated];
        RuleSpec {
            name,
            schedule: SCHEDULES[rng.usize(..SCHEDULES.len())],
            events: rng.bool(),
            stages,
            source: (rng.u8(0..5) == 0).then(|| SOURCES[rng.usize(..SOURCES.len())]),
            cheaper_than: (rng.u8(0..4) == 0).then(|| rng.u32(1..20) * 500),
            not_of: (rng.u8(0..4) == 0).then(|| rng.u32(1..=5)),
            title: (rng.u8(0..8) == 0).then_some("call"),
            older: (rng.u8(0..2) == 0).then(|| (dates[rng.usize(..4)], rng.u32(1..60))),
            converted: rng.u8(0..4) == 0,
            grace_hours: if rng.bool() { 0 } else { rng.u32(1..6) },
            delete: rng.u8(0..6) > 0,
            max_matches: if rng.u8(0..5) == 0 { rng.u32(1..20) } else { 1000 },
            max_percent: if rng.u8(0..4) == 0 { 20 } else { 100 },
            per_day: if rng.u8(0..5) == 0 { rng.u32(2..15) } else { 10_000 },
        }
    }

    fn yaml(&self) -> String {
        let stages: Vec<String> = self.stages.iter().map(|stage| format!("\"{stage}\"")).collect();
        let mut wanted = format!("stageId: {{ in: [{}] }}", stages.join(", "));
        if let Some(source) = self.source {
            let _ = write!(wanted, ", sourceId: {source}");
        }
        if let Some(price) = self.cheaper_than {
            let _ = write!(wanted, ", opportunity: {{ lt: {price} }}");
        }
        if let Some(user) = self.not_of {
            let _ = write!(wanted, ", not: {{ assignedById: {user} }}");
        }
        if let Some(part) = self.title {
            let _ = write!(wanted, ", title: {{ contains: {part} }}");
        }
        let mut line = format!(
            "  - {{ name: {}, schedule: \"{}\", match: {{ {wanted} }}, grace_period: {}h, mode: {}, include_converted: {}, \
             limits: {{ max_matches: {}, max_percent: {}, deletes_per_day: {} }}",
            self.name,
            self.schedule,
            self.grace_hours,
            if self.delete { "delete" } else { "plan" },
            self.converted,
            self.max_matches,
            self.max_percent,
            self.per_day,
        );
        if let Some((date, hours)) = self.older {
            let _ = write!(line, ", older_than: {{ field: {}, age: {hours}h }}", date.field());
        }
        if self.events {
            line.push_str(", events: [ONCRMLEADADD, ONCRMLEADUPDATE]");
        }
        line.push_str(" }\n");
        line
    }
}

impl Spec {
    pub(crate) fn random(rng: &mut Rng) -> Spec {
        let rules = NAMES[..rng.usize(1..=3)].iter().map(|name| RuleSpec::random(name, rng)).collect();
        let mut guards = Vec::new();
        if rng.bool() {
            guards.push(Guard::DearerThan(rng.u32(0..20) * 1000));
        }
        if rng.u8(0..3) == 0 {
            guards.push(Guard::Pinned((0..4).map(|_| rng.u32(1..60)).collect()));
        }
        if rng.u8(0..6) == 0 {
            guards.push(Guard::Source("PARTNER"));
        }
        Spec {
            rules,
            guards,
            concurrency: 1 + rng.u8(..8) % rng.u8(1..=8),
            burst: if rng.bool() { 50 } else { rng.u32(1..6) },
            item_method: rng.bool(),
            notify: rng.u8(0..4) > 0,
        }
    }

    /// What an administrator makes of it: one part is another.
    pub(crate) fn edited(&self, rng: &mut Rng) -> Spec {
        let mut next = self.clone();
        match rng.u8(0..6) {
            0 => return Spec::random(rng),
            1 => next.concurrency = rng.u8(1..=8),
            2 => next.guards = Spec::random(rng).guards,
            3 => {
                let at = rng.usize(..next.rules.len());
                next.rules[at].delete ^= true;
            }
            4 => {
                let at = rng.usize(..next.rules.len());
                next.rules[at].grace_hours = rng.u32(0..6);
            }
            _ => {
                let at = rng.usize(..next.rules.len());
                next.rules[at] = RuleSpec::random(next.rules[at].name, rng);
            }
        }
        next
    }

    /// The same with no cap in the way.
    pub(crate) fn uncapped(&self) -> Spec {
        let mut next = self.clone();
        for rule in &mut next.rules {
            (rule.max_matches, rule.max_percent, rule.per_day) = (100_000, 100, 100_000);
        }
        next
    }

    pub(crate) fn rule(&self, name: &str) -> Option<&RuleSpec> {
        self.rules.iter().find(|rule| rule.name == name)
    }

    pub(crate) fn yaml(&self) -> String {
        let method = if self.item_method { "crm.item.delete" } else { "crm.lead.delete" };
        let mut text = format!(
            "version: 1\ntimezone: Etc/UTC\nportal: {{ concurrency: {}, burst: {}, delete_method: {method} }}\n",
            self.concurrency, self.burst
        );
        if !self.guards.is_empty() {
            text.push_str("protect:\n");
        }
        for (number, guard) in self.guards.iter().enumerate() {
            let what = match guard {
                Guard::DearerThan(price) => format!("match: {{ opportunity: {{ gt: {price} }} }}"),
                Guard::Source(source) => format!("match: {{ sourceId: {source} }}"),
                Guard::Pinned(ids) => format!("ids: {ids:?}"),
            };
            let _ = writeln!(text, "  - {{ name: guard-{number}, {what} }}");
        }
        if self.notify {
            text.push_str("notify: [{ name: ops, on: [held, finished, stopped], http: { url_env: JANITOR_NOTIFY_URL } }]\n");
        }
        text.push_str("rules:\n");
        for rule in &self.rules {
            text.push_str(&rule.yaml());
        }
        text
    }
}
