//! The program's metrics, as one value: what is counted, under which names, and their text form for Prometheus.
//!
//! The names on the wire are a contract with users' dashboards. Labels are bounded: a label is a word of ours, a
//! method of the portal that we call, or the name of a rule; nothing that a stranger sends becomes a label.
//! A [`Metrics`] is no global: every test has its own.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, prometheus_text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// The `Content-Type` of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// Upper bounds of the buckets of `janitor_portal_request_seconds`: fine below a second, where a healthy portal
/// answers; 15 is what a batch aims at, 60 is where the portal cuts a request, 75 is our own timeout.
const REQUEST_SECONDS: [f64; 12] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0, 60.0, 75.0];

/// What became of a request to the event listener: the label `result` of `janitor_events_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventResult {
    /// Committed to the inbox; answered 200.
    Stored,
    /// Authentic, but no lead event; answered 200.
    Ignored,
    /// No form, no event, or an id that is none; answered 400.
    Malformed,
    /// Wrong or missing token; answered 403.
    Forbidden,
    /// The body did not arrive in time; answered 408.
    TooSlow,
    /// The body is over the limit; answered 413.
    TooLarge,
    /// Another content type than a form; answered 415.
    WrongType,
    /// It could not be stored; answered 503.
    NotStored,
}

impl EventResult {
    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            EventResult::Stored => "stored",
            EventResult::Ignored => "ignored",
            EventResult::Malformed => "malformed",
            EventResult::Forbidden => "forbidden",
            EventResult::TooSlow => "too_slow",
            EventResult::TooLarge => "too_large",
            EventResult::WrongType => "wrong_type",
            EventResult::NotStored => "not_stored",
        }
    }
}

impl EncodeLabelValue for EventResult {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        EncodeLabelValue::encode(&self.as_str(), encoder)
    }
}

/// How many jobs are in each state: `janitor_jobs{state}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JobCounts {
    /// Jobs that are due or will be.
    pub waiting: u64,
    /// Jobs claimed by the worker.
    pub running: u64,
    /// Finished jobs that the database still has.
    pub done: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabels {
    event: &'static str,
    result: EventResult,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NoticeLabels {
    target: String,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MethodLabel {
    method: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RuleLabel {
    rule: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VersionLabel {
    version: &'static str,
}

type FloatGauge = Gauge<f64, AtomicU64>;

/// All metrics of one process. Clones share the same numbers.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    events: Family<EventLabels, Counter>,
    jobs: Family<StateLabel, Gauge>,
    finished: Family<OutcomeLabel, Counter>,
    requests: Family<RequestLabels, Counter>,
    request_seconds: Histogram,
    operating: Family<MethodLabel, FloatGauge>,
    rule_last_run: Family<RuleLabel, FloatGauge>,
    rules_seen: Arc<Mutex<BTreeSet<String>>>,
    reload: Gauge,
    paused: Gauge,
    silent: Gauge,
    notices: Family<NoticeLabels, Counter>,
    notices_waiting: Gauge,
    stopped: Gauge,
    held: Gauge,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

impl Metrics {
    /// A fresh set: counters at zero, `janitor_rules_last_reload_successful` at 0 until the first load is reported.
    pub fn new() -> Metrics {
        let mut registry = Registry::with_prefix("janitor");
        let events = Family::default();
        let jobs = Family::default();
        let finished = Family::default();
        let requests = Family::default();
        let request_seconds = Histogram::new(REQUEST_SECONDS);
        let operating = Family::default();
        let rule_last_run = Family::default();
        let reload = Gauge::default();
        let paused = Gauge::default();
        let silent = Gauge::default();
        let notices = Family::default();
        let notices_waiting = Gauge::default();
        let stopped = Gauge::default();
        let held = Gauge::default();
        let build: Family<VersionLabel, Gauge> = Family::default();
        build.get_or_create(&VersionLabel { version: crate::VERSION }).set(1);

        // Counters are registered without `_total`, which the encoder appends; `build_info` is a plain gauge because
        // the library's `Info` would append a second `_info`.
        registry.register("events", "Requests to the event listener, by event and result", events.clone());
        registry.register("jobs", "Jobs in the database, by state", jobs.clone());
        registry.register("jobs_finished", "Jobs finished since the start, by outcome", finished.clone());
        registry.register(
            "portal_requests",
            "HTTP requests to the portal, by method and result",
            requests.clone(),
        );
        registry.register(
            "portal_request_seconds",
            "Duration of HTTP requests to the portal",
            request_seconds.clone(),
        );
        registry.register(
            "portal_operating_seconds",
            "Operating time that the portal last reported as used, by method",
            operating.clone(),
        );
        registry.register(
            "rule_last_run_timestamp_seconds",
            "When the rule was last evaluated, Unix time",
            rule_last_run.clone(),
        );
        registry.register(
            "rules_last_reload_successful",
            "1 if the rules now in force are those in the files, 0 if the last load failed",
            reload.clone(),
        );
        registry.register("paused", "1 while an administrator has paused deletions", paused.clone());
        registry.register(
            "events_silent",
            "1 while no event has come for longer than JANITOR_SILENCE_ALARM",
            silent.clone(),
        );
        registry.register(
            "notices",
            "Notices sent, failed and given up since the start, by target",
            notices.clone(),
        );
        registry.register(
            "notices_waiting",
            "Notices that are not sent yet, those that will be summed up included",
            notices_waiting.clone(),
        );
        registry.register(
            "portal_stopped",
            "1 while the portal refuses every call and deletions wait",
            stopped.clone(),
        );
        registry.register("runs_held", "Runs that wait for a person to approve them", held.clone());
        registry.register("build_info", "The running version; always 1", build);

        Metrics {
            registry: Arc::new(registry),
            events,
            jobs,
            finished,
            requests,
            request_seconds,
            operating,
            rule_last_run,
            rules_seen: Arc::default(),
            reload,
            paused,
            silent,
            notices,
            notices_waiting,
            stopped,
            held,
        }
    }

    /// One request to the event listener. `event` is a lead event's name, `other` for every other event of the
    /// portal, `none` where the request was refused before its event was looked at.
    pub fn event_received(&self, event: &'static str, result: EventResult) {
        self.events.get_or_create(&EventLabels { event, result }).inc();
    }

    /// How many requests to the event listener came with a wrong token, or without one.
    pub fn events_forbidden(&self) -> u64 {
        self.events.get_or_create(&EventLabels { event: "none", result: EventResult::Forbidden }).get()
    }

    /// One HTTP request to the portal: the method, one of our words for how it ended, how long it took, and the
    /// `time.operating` of the reply where it had one
    /// (<https://apidocs.bitrix24.com/limits.html>).
    pub fn portal_request(
        &self,
        method: &'static str,
        result: &'static str,
        took: Duration,
        operating_seconds: Option<f64>,
    ) {
        self.requests.get_or_create(&RequestLabels { method, result }).inc();
        self.request_seconds.observe(took.as_secs_f64());
        if let Some(seconds) = operating_seconds {
            self.operating.get_or_create(&MethodLabel { method }).set(seconds);
        }
    }

    /// The operating time of a method whose reply came inside a batch, and so has no request of its own.
    pub fn portal_operating(&self, method: &'static str, seconds: f64) {
        self.operating.get_or_create(&MethodLabel { method }).set(seconds);
    }

    /// One job ended; `outcome` is the word of [`crate::core::outcome::Outcome::as_str`].
    pub fn job_finished(&self, outcome: &'static str) {
        self.finished.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// How many jobs are in each state now.
    pub fn set_jobs(&self, counts: JobCounts) {
        let JobCounts { waiting, running, done } = counts;
        for (state, count) in [("waiting", waiting), ("running", running), ("done", done)] {
            self.jobs.get_or_create(&StateLabel { state }).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// A rule was evaluated at `at`.
    pub fn rule_ran(&self, rule: &str, at: Timestamp) {
        self.rules_seen.lock().unwrap_or_else(PoisonError::into_inner).insert(rule.to_owned());
        self.rule_last_run.get_or_create(&RuleLabel { rule: rule.to_owned() }).set(whole_seconds(at));
    }

    /// The rules that exist now: the series of all others end, so that a removed rule raises no alarm for ever.
    pub fn keep_rules(&self, names: &BTreeSet<String>) {
        let mut seen = self.rules_seen.lock().unwrap_or_else(PoisonError::into_inner);
        for gone in seen.difference(names) {
            self.rule_last_run.remove(&RuleLabel { rule: gone.clone() });
        }
        seen.retain(|rule| names.contains(rule));
    }

    /// The rules were loaded, at start or by a reload, or could not be.
    pub fn reload(&self, ok: bool) {
        self.reload.set(i64::from(ok));
    }

    /// Whether no event has come for longer than the silence alarm.
    pub fn set_silent(&self, silent: bool) {
        self.silent.set(i64::from(silent));
    }

    /// Notices to a target: `sent`, `failed` (each try that will be repeated) or `given_up`.
    pub fn notices(&self, target: &str, result: &'static str, many: u64) {
        self.notices.get_or_create(&NoticeLabels { target: target.to_owned(), result }).inc_by(many);
    }

    /// How many notices are not sent yet.
    pub fn set_notices_waiting(&self, waiting: u64) {
        self.notices_waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }

    /// Whether the portal refuses every call.
    pub fn set_portal_stopped(&self, stopped: bool) {
        self.stopped.set(i64::from(stopped));
    }

    /// How many runs wait for a person.
    pub fn set_runs_held(&self, held: u64) {
        self.held.set(i64::try_from(held).unwrap_or(i64::MAX));
    }

    /// Whether deletions are paused.
    pub fn set_paused(&self, paused: bool) {
        self.paused.set(i64::from(paused));
    }

    /// Everything in Prometheus' text format 0.0.4 ([`CONTENT_TYPE`]).
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing into a String cannot fail; a partial text would be refused by Prometheus, which is right.
        if let Err(error) = prometheus_text::encode(&mut text, &self.registry) {
            tracing::error!(%error, "the metrics could not be encoded");
        }
        text
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "seconds since 1970 stay exact in an f64 for 285 million years"
)]
fn whole_seconds(at: Timestamp) -> f64 {
    at.as_second() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_the_name_that_dashboards_use() {
        let metrics = Metrics::new();
        metrics.event_received("ONCRMLEADADD", EventResult::Stored);
        metrics.event_received("ONCRMLEADADD", EventResult::Stored);
        metrics.event_received("none", EventResult::Forbidden);
        metrics.portal_request("crm.item.list", "ok", Duration::from_millis(300), Some(1.25));
        metrics.portal_operating("crm.lead.delete", 12.5);
        metrics.job_finished("deleted");
        metrics.set_jobs(JobCounts { waiting: 3, running: 2, done: 10 });
        metrics.rule_ran("old-junk", Timestamp::from_second(1_742_807_175).unwrap());
        metrics.reload(true);
        metrics.set_paused(true);
        let text = metrics.encode();
        for line in [
            "janitor_events_total{event=\"ONCRMLEADADD\",result=\"stored\"} 2",
            "janitor_events_total{event=\"none\",result=\"forbidden\"} 1",
            "janitor_jobs{state=\"waiting\"} 3",
            "janitor_jobs{state=\"running\"} 2",
            "janitor_jobs{state=\"done\"} 10",
            "janitor_jobs_finished_total{outcome=\"deleted\"} 1",
            "janitor_portal_requests_total{method=\"crm.item.list\",result=\"ok\"} 1",
            "janitor_portal_request_seconds_bucket{le=\"0.25\"} 0",
            "janitor_portal_request_seconds_bucket{le=\"0.5\"} 1",
            "janitor_portal_request_seconds_count 1",
            "janitor_portal_operating_seconds{method=\"crm.item.list\"} 1.25",
            "janitor_portal_operating_seconds{method=\"crm.lead.delete\"} 12.5",
            "janitor_rule_last_run_timestamp_seconds{rule=\"old-junk\"} 1742807175.0",
            "janitor_rules_last_reload_successful 1",
            "janitor_paused 1",
            &format!("janitor_build_info{{version=\"{}\"}} 1", crate::VERSION),
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing from\n{text}");
        }
    }

    #[test]
    fn before_anything_happened_nothing_looks_healthy_or_paused() {
        let text = Metrics::new().encode();
        assert!(text.contains("janitor_rules_last_reload_successful 0"), "{text}");
        assert!(text.contains("janitor_paused 0"), "{text}");
    }

    #[test]
    fn the_series_of_a_removed_rule_ends_and_the_others_stay() {
        let metrics = Metrics::new();
        metrics.rule_ran("gone", Timestamp::UNIX_EPOCH);
        metrics.rule_ran("stays", Timestamp::UNIX_EPOCH);
        metrics.keep_rules(&BTreeSet::from(["stays".to_owned()]));
        let text = metrics.encode();
        assert!(!text.contains("rule=\"gone\""), "{text}");
        assert!(text.contains("rule=\"stays\""), "{text}");
    }
}
