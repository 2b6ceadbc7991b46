//! `/metrics` of a running service after real work, read by a parser that is not ours.

use prometheus_parse::{Scrape, Value};

use crate::home::JUNK;
use crate::http::{self, FORM, TOKEN, event};
use crate::notify::Hook;
use crate::portal::Portal;
use crate::service::{Service, until};

/// The metrics that are promised: name, kind, labels.
const PROMISED: [(&str, &str, &[&str]); 10] = [
    ("janitor_events_total", "counter", &["event", "result"]),
    ("janitor_jobs", "gauge", &["state"]),
    ("janitor_jobs_finished_total", "counter", &["outcome"]),
    ("janitor_portal_requests_total", "counter", &["method", "result"]),
    ("janitor_portal_request_seconds", "histogram", &[]),
    ("janitor_portal_operating_seconds", "gauge", &["method"]),
    ("janitor_rule_last_run_timestamp_seconds", "gauge", &["rule"]),
    ("janitor_rules_last_reload_successful", "gauge", &[]),
    ("janitor_paused", "gauge", &[]),
    ("janitor_build_info", "gauge", &["version"]),
];

struct Answer(String, Scrape);

impl Answer {
    fn of(service: &Service) -> Answer {
        let (status, text) = http::get(service.admin, "/metrics");
        assert_eq!(status, 200, "{text}");
        let scrape = Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).unwrap();
        Answer(text, scrape)
    }

    /// The value of the metric with these labels; those of a counter and of a gauge alike.
    fn number(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let has = |sample: &&prometheus_parse::Sample| {
            sample.metric == name
                && labels.iter().all(|(label, value)| sample.labels.get(label) == Some(value))
        };
        match self.1.samples.iter().find(has)?.value {
            Value::Counter(value) | Value::Gauge(value) | Value::Untyped(value) => Some(value),
            Value::Histogram(_) | Value::Summary(_) => None,
        }
    }
}

#[test]
fn after_real_work_every_promised_metric_is_there_with_its_kind_labels_and_unit() {
    let (portal, hook) = (Portal::with_leads(120), Hook::start());
    let junk = portal.in_stage("JUNK");
    let rules = JUNK.replace("    mode:", "    events: [ONCRMLEADUPDATE]\n    mode:")
        + "notify:\n  - { name: ops, on: [finished], http: { url_env: JANITOR_NOTIFY_OPS } }\n";
    let home = hook.home_with(&portal, &rules).with("B24_APPLICATION_TOKEN", TOKEN);
    let service = Service::start(&home);
    let (status, _) =
        http::post(service.public, "/bitrix24/events", FORM, &event("ONCRMLEADUPDATE", 1, TOKEN));
    assert_eq!(status, 200);
    http::post(service.public, "/bitrix24/events", FORM, &event("ONCRMLEADUPDATE", 1, "wrong"));
    home.ok(&["run", "junk", "--wait"]);
    home.ok(&["pause"]);
    until("the notice", || (!hook.got().is_empty()).then_some(()));
    let deleted = [("outcome", "deleted")];
    let told = until("the metrics of all that", || {
        let told = Answer::of(&service);
        let settled = told.number("janitor_jobs_finished_total", &deleted) == Some(junk.len() as f64)
            && told.number("janitor_paused", &[]) == Some(1.0)
            && told.number("janitor_notices_total", &[("target", "ops"), ("result", "sent")]) == Some(1.0);
        settled.then_some(told)
    });
    let Answer(text, scrape) = &told;
    for (name, kind, labels) in PROMISED {
        assert!(text.contains(&format!("# TYPE {name} {kind}\n")), "{name} is no {kind}:\n{text}");
        let help = text.lines().find(|line| line.starts_with(&format!("# HELP {name} ")));
        assert!(help.is_some_and(|help| help.len() > name.len() + 12), "{name} is not explained");
        let samples: Vec<_> = scrape.samples.iter().filter(|sample| sample.metric == name).collect();
        assert!(!samples.is_empty(), "{name} has no value:\n{text}");
        for sample in samples {
            let mut found: Vec<&str> = sample.labels.keys().map(String::as_str).collect();
            found.sort_unstable();
            assert_eq!(found, labels, "{name}");
            let fits = match &sample.value {
                Value::Counter(_) => kind == "counter",
                Value::Gauge(_) => kind == "gauge",
                Value::Histogram(buckets) => kind == "histogram" && buckets.len() > 3,
                Value::Summary(_) | Value::Untyped(_) => false,
            };
            assert!(fits, "{name}: {:?}", sample.value);
        }
    }
    let stats = portal.sandbox.stats();
    let sent = |method: &str| {
        let of_method = |sample: &&prometheus_parse::Sample| {
            sample.metric == "janitor_portal_requests_total" && sample.labels.get("method") == Some(method)
        };
        let values = scrape.samples.iter().filter(of_method).map(|sample| match sample.value {
            Value::Counter(value) => value,
            _ => f64::NAN,
        });
        values.sum::<f64>()
    };
    assert!(sent("batch") >= 1.0 && sent("batch") <= stats.requests_by_method["batch"] as f64, "{text}");
    assert_eq!(
        told.number("janitor_events_total", &[("event", "ONCRMLEADUPDATE"), ("result", "stored")]),
        Some(1.0)
    );
    assert_eq!(told.number("janitor_jobs", &[("state", "done")]), Some(junk.len() as f64));
    assert_eq!(told.number("janitor_rules_last_reload_successful", &[]), Some(1.0));
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    assert_eq!(told.number("janitor_build_info", &version), Some(1.0));
    // Seconds, not milliseconds: of the epoch, and of the portal's work on these few deletions.
    let now = portal.sandbox.now().as_second() as f64;
    let ran = told.number("janitor_rule_last_run_timestamp_seconds", &[("rule", "junk")]).unwrap();
    assert!((now - ran).abs() < 600.0, "{ran} and {now}");
    let operating = told.number("janitor_portal_operating_seconds", &[("method", "crm.lead.delete")]);
    assert!(operating.is_some_and(|seconds| seconds > 0.0 && seconds < 480.0), "{text}");
    service.stop();
}
