//! The metrics as others read them: a parser that is not ours, the dashboard and the alert rules of `docs/`.

#![expect(clippy::unwrap_used, reason = "a test that can't go on should stop")]

use std::collections::BTreeSet;
use std::time::Duration;

use b24_janitor::metrics::{EventResult, JobCounts, Metrics};
use jiff::Timestamp;
use prometheus_parse::{Scrape, Value};

/// The names that the documentation promises.
const PROMISED: [&str; 15] = [
    "janitor_build_info",
    "janitor_events_silent",
    "janitor_events_total",
    "janitor_jobs",
    "janitor_jobs_finished_total",
    "janitor_notices_total",
    "janitor_notices_waiting",
    "janitor_paused",
    "janitor_portal_operating_seconds",
    "janitor_portal_request_seconds",
    "janitor_portal_requests_total",
    "janitor_portal_stopped",
    "janitor_rule_last_run_timestamp_seconds",
    "janitor_rules_last_reload_successful",
    "janitor_runs_held",
];

/// What a service that has done everything once shows, as the parser reads it.
fn scrape() -> Scrape {
    let metrics = Metrics::new();
    metrics.event_received("ONCRMLEADADD", EventResult::Stored);
    metrics.portal_request("batch", "ok", Duration::from_millis(300), Some(1.25));
    metrics.job_finished("deleted");
    metrics.set_jobs(JobCounts { waiting: 3, running: 2, done: 10 });
    metrics.rule_ran("old-junk", Timestamp::from_second(1_742_807_175).unwrap());
    metrics.reload(true);
    metrics.notices("ops", "sent", 2);
    metrics.set_notices_waiting(1);
    metrics.set_runs_held(4);
    Scrape::parse(metrics.encode().lines().map(|line| Ok(line.to_owned()))).unwrap()
}

fn names() -> BTreeSet<String> {
    // The parser takes a histogram's sum and count for metrics of their own.
    let whole = |name: String| match name.strip_suffix("_sum").or_else(|| name.strip_suffix("_count")) {
        Some(histogram) => histogram.to_owned(),
        None => name,
    };
    scrape().samples.into_iter().map(|sample| whole(sample.metric)).collect()
}

fn read(file: &str) -> String {
    std::fs::read_to_string(format!("{}/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// Every word that begins like a metric of ours; a histogram is asked for by its parts.
fn used(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let ours = words.filter(|word| word.starts_with("janitor_"));
    let whole = |word: &str| {
        let parts = ["_bucket", "_sum", "_count"].iter().find_map(|part| word.strip_suffix(part));
        parts.unwrap_or(word).to_owned()
    };
    ours.map(whole).collect()
}

#[test]
fn another_parser_reads_every_promised_name_with_its_kind_and_labels() {
    let promised: BTreeSet<String> = PROMISED.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(names(), promised);
    let scrape = scrape();
    let of = |name: &str| scrape.samples.iter().find(|sample| sample.metric == name).unwrap();
    assert_eq!(of("janitor_events_total").value, Value::Counter(1.0));
    assert_eq!(of("janitor_events_total").labels.get("event"), Some("ONCRMLEADADD"));
    assert_eq!(of("janitor_events_total").labels.get("result"), Some("stored"));
    assert_eq!(of("janitor_jobs_finished_total").labels.get("outcome"), Some("deleted"));
    assert_eq!(of("janitor_portal_requests_total").labels.get("method"), Some("batch"));
    assert_eq!(of("janitor_portal_operating_seconds").value, Value::Gauge(1.25));
    assert_eq!(of("janitor_rule_last_run_timestamp_seconds").value, Value::Gauge(1_742_807_175.0));
    assert_eq!(of("janitor_runs_held").value, Value::Gauge(4.0));
    assert!(matches!(of("janitor_portal_request_seconds").value, Value::Histogram(_)));
}

#[test]
fn the_dashboard_is_json_and_asks_for_metrics_that_there_are() {
    let text = read("docs/grafana-dashboard.json");
    let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    assert!(panels.iter().all(|panel| !panel["targets"].as_array().unwrap().is_empty()));
    let unknown: Vec<String> = used(&text).difference(&names()).cloned().collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    let unused: Vec<String> = names().difference(&used(&text)).cloned().collect();
    assert!(unused.is_empty(), "the dashboard shows nothing of {unused:?}");
}

#[test]
fn the_alert_rules_are_yaml_and_ask_for_metrics_that_there_are() {
    let text = read("docs/alerts.yaml");
    let rules: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
    let rules = rules["groups"][0]["rules"].as_array().unwrap().clone();
    assert!(rules.len() >= 10);
    let mut seen = BTreeSet::new();
    for rule in &rules {
        assert!(seen.insert(rule["alert"].as_str().unwrap()), "{rule}");
        let asked = used(rule["expr"].as_str().unwrap());
        assert!(!asked.is_empty() && asked.is_subset(&names()), "{rule}");
        assert!(!rule["annotations"]["summary"].as_str().unwrap().is_empty(), "{rule}");
    }
}

#[test]
fn the_documentation_lists_every_metric_and_no_other() {
    let text = read("docs/operations.md");
    let table = text.split("\n## Metrics\n").nth(1).unwrap().split("\n## ").next().unwrap();
    assert_eq!(used(table), names());
}
