//! What the pure parts cost: one event's body, one lead against a rule, a schedule's next time, a rule's filter, the
//! meaning of an error. `cargo bench --bench decisions`.

#![expect(clippy::expect_used, reason = "a benchmark that can't be set up ends")]

use std::hint::black_box;
use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use b24_janitor::core::decide::decide;
use b24_janitor::core::filter::server_filter;
use b24_janitor::core::lead::Lead;
use b24_janitor::core::rule::RuleSet;
use b24_janitor::core::schedule::Schedule;
use b24_janitor::http::events::Intake;
use b24_janitor::metrics::Metrics;
use b24_janitor::portal;
use b24_janitor::rules::{self, Input};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use secrecy::SecretString;
use tower::ServiceExt;

const EVENT: &str = "event=ONCRMLEADUPDATE&event_handler_id=17&data%5BFIELDS%5D%5BID%5D=4711&ts=1790000000\
    &auth%5Bdomain%5D=example.bitrix24.com&auth%5Bclient_endpoint%5D=https%3A%2F%2Fexample.bitrix24.com%2Frest%2F\
    &auth%5Bserver_endpoint%5D=https%3A%2F%2Foauth.bitrix.info%2Frest%2F&auth%5Bmember_id%5D=0123456789abcdef\
    &auth%5Bapplication_token%5D=benchmark-token";

const RULES: &str = "version: 1\ntimezone: Europe/Berlin\nprotect:\n  - { name: has-money, match: { opportunity: { gt: 0 } } }\n\
    rules:\n  - name: old-junk\n    schedule: \"15 3 * * *\"\n    \
    match: { stageId: { in: [JUNK, \"7\"] }, sourceId: CALLBACK, title: { contains: test }, assignedById: [1, 2, 3] }\n    \
    older_than: 90d\n";

fn rule_set() -> RuleSet {
    let input = Input { file: "rules.yaml".to_owned(), bytes: RULES.into() };
    rules::parse(&[input]).map_err(|problems| format!("{problems:?}")).expect("the rules are right").rules
}

fn now() -> Timestamp {
    "2026-11-25T12:00:00Z".parse().expect("a time")
}

fn lead() -> Lead {
    let item = serde_json::json!({
        "id": 4711, "title": "A TEST lead", "stageId": "JUNK", "stageSemanticId": "F", "sourceId": "CALLBACK",
        "createdTime": "2026-01-02T03:04:05+03:00", "assignedById": 2, "opportunity": 0, "currencyId": "EUR",
        "opened": "Y", "utmSource": null,
    });
    Lead::from_item(item).map_err(|error| error.to_string()).expect("a lead")
}

fn event(c: &mut Criterion) {
    let router = b24_janitor::http::public(Some(Intake {
        tokens: vec![SecretString::from("benchmark-token".to_owned())],
        sink: Arc::new(|_| Box::pin(async { Ok(()) })),
        on_refused: Arc::new(|_| ()),
        metrics: Metrics::new(),
    }));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let request = || {
        Request::post("/bitrix24/events")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::from(EVENT))
            .expect("a request")
    };
    c.bench_function("event: read, checked and handed on", |b| {
        b.iter_batched(
            || (router.clone(), request()),
            |(router, request)| runtime.block_on(router.oneshot(request)),
            BatchSize::SmallInput,
        );
    });
}

fn judging(c: &mut Criterion) {
    let (rules, lead) = (rule_set(), lead());
    let rule = rules.rules.first().expect("one rule");
    c.bench_function("lead: judged by a rule and a protection", |b| {
        b.iter(|| decide(rule, &rules.protections, black_box(&lead), now()));
    });
    let text = serde_json::to_string(lead.fields()).expect("JSON");
    c.bench_function("lead: read from JSON", |b| {
        b.iter(|| serde_json::from_str(black_box(&text)).map(Lead::from_item));
    });
    c.bench_function("filter: built for a rule", |b| b.iter(|| server_filter(black_box(rule), now())));
}

fn schedules(c: &mut Criterion) {
    let zone = TimeZone::get("Europe/Berlin").expect("the zone");
    let parse = || Schedule::parse("15 3 * * 1-5", zone.clone(), "Europe/Berlin", None);
    let schedule = parse().map_err(|error| error.message).expect("a schedule");
    c.bench_function("schedule: read", |b| b.iter(parse));
    c.bench_function("schedule: next time", |b| b.iter(|| schedule.next_fire(black_box(now()))));
}

fn errors(c: &mut Criterion) {
    c.bench_function("error: the last row of the table", |b| {
        let row = portal::TABLE.last().expect("rows");
        b.iter(|| portal::find(black_box(row.code), "", Some(400)));
    });
    c.bench_function("error: one that nobody mentions", |b| {
        b.iter(|| portal::find(black_box("NOBODY_MENTIONS_THIS"), "", Some(400)));
    });
}

criterion_group!(decisions, event, judging, schedules, errors);
criterion_main!(decisions);
