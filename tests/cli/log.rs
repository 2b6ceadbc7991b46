//! The log: every line about a run or a batch carries the ids that lead to it, in both formats.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::home::{Home, JUNK};
use crate::http::{self, FORM};
use crate::portal::Portal;
use crate::service::{Service, until};

const TOKEN: &str = "t0ken";

/// A rule by schedule and event, and another one beside it.
fn rules() -> String {
    let events = JUNK.replace("    mode:", "    events: [ONCRMLEADUPDATE]\n    mode:");
    let seven = JUNK.split("rules:\n").last().unwrap().replace("name: junk", "name: seven");
    events + &seven.replace("stageId: JUNK", "stageId: '7'")
}

/// Runs of both rules and an event, at debug level, and the log of it.
fn busy(home: &Home, portal: &Portal) -> String {
    let mut service = Service::start(home);
    let lead = portal.in_stage("JUNK")[0];
    let body = http::event("ONCRMLEADUPDATE", lead, TOKEN);
    assert_eq!(http::post(service.public, "/bitrix24/events", FORM, &body).0, 200);
    home.ok(&["run", "junk", "--wait"]);
    home.ok(&["run", "seven", "--wait"]);
    until("all of it", || {
        (portal.in_stage("JUNK").len() + portal.in_stage("7").len() == 0 && home.jobs("running") == 0)
            .then_some(())
    });
    service.process.signal("TERM");
    assert_eq!(service.process.ended().code(), Some(0));
    service.process.log()
}

fn home(portal: &Portal, format: &str) -> Home {
    Home::new(portal, &rules())
        .with("B24_APPLICATION_TOKEN", TOKEN)
        .with("JANITOR_LOG", "b24_janitor=debug")
        .with("JANITOR_LOG_FORMAT", format)
}

/// The span of a line of the JSON log.
fn span<'a>(line: &'a Value, name: &str) -> &'a Value {
    let spans = line["spans"].as_array().unwrap_or_else(|| panic!("no spans: {line}"));
    spans.iter().find(|span| span["name"] == name).unwrap_or_else(|| panic!("no span {name}: {line}"))
}

#[test]
fn in_json_each_deletion_has_its_job_run_and_claim_and_each_run_its_id() {
    let portal = Portal::with_leads(150);
    let home = home(&portal, "json");
    let log = busy(&home, &portal);
    let lines: Vec<Value> = log
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let about = |message: &'static str| {
        lines
            .iter()
            .filter(move |line| line["fields"]["message"].as_str().is_some_and(|text| text == message))
    };

    let jobs: BTreeMap<u64, Value> =
        home.objects(&["jobs", "--json"]).into_iter().map(|job| (job["id"].as_u64().unwrap(), job)).collect();
    let mut deleted = 0;
    for line in about("job finished") {
        let fields = &line["fields"];
        let job = &jobs[&fields["job"].as_u64().unwrap()];
        assert_eq!((&fields["run_id"], &fields["rule"]), (&job["run_id"], &job["rule"]), "{line}");
        assert_eq!(fields["lead"].as_str().unwrap(), job["lead_id"].to_string(), "{line}");
        let batch = span(line, "batch");
        assert_eq!(batch["claim"], fields["claim"], "{line}");
        assert!(batch["leads"].as_u64().is_some_and(|leads| (1..=49).contains(&leads)), "{line}");
        deleted += u64::from(fields["outcome"] == "deleted");
    }
    assert_eq!(deleted, home.jobs("deleted"));

    let runs: BTreeMap<u64, Value> =
        home.objects(&["runs", "--json"]).into_iter().map(|run| (run["id"].as_u64().unwrap(), run)).collect();
    let finished: Vec<&Value> = about("run finished").collect();
    assert_eq!(finished.len(), runs.len(), "{log}");
    assert!(runs.values().any(|run| run["trigger"] == "event"));
    for line in finished {
        let of = span(line, "run");
        assert_eq!(of["rule"], runs[&of["run_id"].as_u64().unwrap()]["rule"], "{line}");
    }
}

#[test]
fn the_text_log_names_the_run_and_the_batch_and_holds_no_escape_where_nobody_looks() {
    let portal = Portal::with_leads(60);
    let log = busy(&home(&portal, "text"), &portal);
    assert!(log.contains("run{rule=\"junk\" run_id=1}: run finished "), "{log}");
    assert!(
        log.lines().any(|line| line.contains("batch{claim=1 leads=") && line.contains("job finished")),
        "{log}"
    );
    assert!(!log.contains('\u{1b}'), "the log goes to no terminal");
}
