//! `restore` and `export` as processes: alone and beside a service, for people and for programs, and their exit status.

use b24_janitor::sandbox::{Fault, FaultKind};
use serde_json::Value;

use crate::home::{Home, JUNK, is_time, keys, objects};
use crate::portal::Portal;
use crate::service::{Process, Service, until};

/// A portal whose junk our rule has deleted, and the junk's ids.
fn drained(portal: &Portal) -> (Home, Vec<u32>) {
    let home = Home::new(portal, JUNK);
    let junk = portal.in_stage("JUNK");
    home.ok(&["run", "junk", "--wait"]);
    assert!(!junk.is_empty() && portal.in_stage("JUNK").is_empty());
    (home, junk)
}

fn word(id: u32) -> String {
    id.to_string()
}

#[test]
fn restore_points_to_the_recycle_bin_and_does_nothing_unless_told_to() {
    let portal = Portal::with_leads(60);
    let (home, junk) = drained(&portal);
    let asked = home.fails(2, &["restore", &word(junk[0])]);
    assert!(asked.err.contains("recycle bin first") && asked.err.contains("--from-copy"), "{}", asked.err);
    for wrong in [
        &["restore"][..],
        &["restore", "0", "--yes"],
        &["restore", "--rule", "junk", "--yes"],
        &["restore", "--run", "1", "7"],
        &["restore", "--rule", "junk", "--since", "yesterday", "--yes"],
    ] {
        home.fails(2, wrong);
    }
    assert!(home.fails(1, &["restore", "--run", "77", "--yes"]).err.contains("there is no run 77"));
    assert_eq!(portal.in_stage("JUNK"), [] as [u32; 0]);
}

#[test]
fn restore_creates_what_a_run_deleted_once_and_says_what_did_not_come_back() {
    let portal = Portal::with_leads(60);
    let (home, junk) = drained(&portal);
    let told = home.ok(&["restore", &word(junk[0]), "--from-copy"]);
    for part in ["NEW LEAD", "restored", "differs in", "createdTime", "timeline", "30 days"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let report = home.object(&["restore", "--run", "1", "--yes", "--json"]);
    assert_eq!(keys(&report), "leads left");
    let leads = report["leads"].as_array().unwrap();
    assert_eq!(leads.len(), junk.len());
    assert_eq!(keys(&leads[0]), "differs files lead_id method new_lead_id result why");
    assert_eq!(
        (&leads[0]["lead_id"], &leads[0]["result"]),
        (&Value::from(junk[0]), &"already_restored".into())
    );
    assert!(leads[1..].iter().all(|lead| lead["result"] == "restored"), "{report}");
    assert_eq!(portal.in_stage("JUNK").len(), junk.len());
    let again = home.object(&["restore", "--rule", "junk", "--since", "1h", "--yes", "--json"]);
    assert!(again["leads"].as_array().unwrap().iter().all(|lead| lead["result"] == "already_restored"));
    assert_eq!(portal.in_stage("JUNK").len(), junk.len());
    // And the rule lets them be.
    let run = home.object(&["run", "junk", "--json"]);
    assert_eq!((&run["enqueued"], &run["protected"]), (&Value::from(0), &Value::from(junk.len())));
    portal.assert_pace_kept();
}

#[test]
fn a_lead_that_can_not_be_restored_is_exit_status_1_with_the_reason() {
    let portal = Portal::with_leads(60);
    let (home, junk) = drained(&portal);
    portal.sandbox.set_fault(Fault::error("crm.item.import", "ACCESS_DENIED", "Access denied", 400));
    portal.sandbox.set_fault(Fault::error("crm.item.add", "ACCESS_DENIED", "Access denied", 400));
    let failed = home.fails(1, &["restore", &word(junk[0]), "999999", "--yes"]);
    assert!(
        failed.out.contains("ACCESS_DENIED") && failed.out.contains("no deletion of it is known"),
        "{}",
        failed.out
    );
    assert!(failed.err.contains("2 leads were not restored"), "{}", failed.err);
}

#[test]
fn explain_tells_a_restore_of_the_deleted_lead_and_of_the_new_one() {
    let portal = Portal::with_leads(60);
    let (home, junk) = drained(&portal);
    let old = word(junk[0]);
    assert_eq!(home.object(&["explain", &old, "--json"])["restores"], Value::Array(Vec::new()));
    let report = home.object(&["restore", &old, "--yes", "--json"]);
    let new = report["leads"][0]["new_lead_id"].to_string();
    for lead in [&old, &new] {
        let told = home.object(&["explain", lead, "--json"]);
        let restore = &told["restores"][0];
        assert_eq!(keys(restore), "error finished_at job_id lead_id new_lead_id sent_at state");
        assert_eq!(
            (&restore["state"], restore["new_lead_id"].to_string()),
            (&"restored".into(), new.clone())
        );
    }
    let words = home.ok(&["explain", &old]);
    assert!(words.contains(&format!("restored as lead {new}")), "{words}");
    let words = home.ok(&["explain", &new]);
    assert!(words.contains(&format!("created by the restore of lead {old}")), "{words}");
}

#[test]
fn beside_a_service_restore_goes_through_it() {
    let portal = Portal::with_leads(60);
    let (home, junk) = drained(&portal);
    let service = Service::start(&home);
    let report = home.object(&["restore", "--run", "1", "--yes", "--json"]);
    assert!(report["leads"].as_array().unwrap().iter().all(|lead| lead["result"] == "restored"), "{report}");
    assert_eq!(portal.in_stage("JUNK").len(), junk.len());
    service.stop();
    portal.assert_pace_kept();
}

#[test]
fn an_interrupted_restore_ends_with_its_lead_and_goes_on_from_there() {
    for beside in [false, true] {
        let portal = Portal::with_leads(60);
        let (home, junk) = drained(&portal);
        let service = beside.then(|| Service::start(&home));
        portal.sandbox.set_fault(Fault::new(FaultKind::Late { seconds: 0.3 }).on("crm.item.import"));
        let mut restoring = Process::start(home.command(&["restore", "--run", "1", "--yes"]));
        until("the first lead", || (!portal.in_stage("JUNK").is_empty()).then_some(()));
        restoring.signal("INT");
        assert_eq!(restoring.ended().code(), Some(1), "{}", restoring.log());
        assert!(restoring.log().contains("interrupted"), "{}", restoring.log());
        assert!(portal.in_stage("JUNK").len() < junk.len());
        portal.sandbox.clear_faults();
        if beside {
            // The lead that the service was at ends first.
            until("the service is done", || {
                let told = home.run(&["restore", "--run", "1", "--yes", "--json"]);
                (told.code == Some(0)).then_some(())
            });
        } else {
            home.ok(&["restore", "--run", "1", "--yes"]);
        }
        assert_eq!(portal.in_stage("JUNK").len(), junk.len(), "beside: {beside}");
        drop(service);
    }
}

#[test]
fn export_writes_every_finished_job_in_both_forms() {
    let portal = Portal::with_leads(60);
    let (home, junk) = drained(&portal);
    home.ok(&["restore", &word(junk[0]), "--yes"]);
    home.fails(2, &["export"]);
    let lines = objects(&home.ok(&["export", "--jsonl"]));
    assert_eq!(lines.len(), junk.len());
    let line = &lines[0];
    assert_eq!(
        keys(line),
        "attempts created_at due_at finished_at first_sent_at id last_error last_sent_at lead_id outcome reason restored_as \
         rule run_id run_started_at trigger"
    );
    assert_eq!(
        (&line["outcome"], &line["rule"], &line["trigger"]),
        (&"deleted".into(), &"junk".into(), &"manual".into())
    );
    assert!(
        ["created_at", "due_at", "finished_at", "first_sent_at", "run_started_at"]
            .iter()
            .all(|key| is_time(&line[*key]))
    );
    assert!(line["restored_as"].is_u64() && lines[1]["restored_as"].is_null());
    let sheet = home.ok(&["export", "--csv"]);
    let mut rows = csv::Reader::from_reader(sheet.as_bytes());
    let columns: Vec<String> = rows.headers().unwrap().iter().map(str::to_owned).collect();
    let rows: Vec<csv::StringRecord> = rows.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), lines.len());
    for (row, line) in rows.iter().zip(&lines) {
        for (column, cell) in columns.iter().zip(row) {
            let told = match &line[column.as_str()] {
                Value::Null => String::new(),
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            assert_eq!(cell, told, "{column}");
        }
    }
    assert_eq!(home.ok(&["export", "--jsonl", "--since", "2099-01-01"]), "");
    assert_eq!(objects(&home.ok(&["export", "--jsonl", "--since", "1h"])).len(), junk.len());
    home.fails(2, &["export", "--csv", "--since", "soon"]);
}

#[test]
fn export_of_runs_tells_what_became_of_held_ones_and_when() {
    let portal = Portal::with_leads(60);
    let junk = portal.in_stage("JUNK").len();
    let rules = JUNK.replace("max_matches: 100000", "max_matches: 2");
    let home = Home::new(&portal, &rules).with("SUDO_USER", "alice");
    home.fails(3, &["run", "junk"]);
    home.fails(3, &["run", "junk"]);
    home.ok(&["approve", "2", "--count", &junk.to_string()]);
    let lines = objects(&home.ok(&["export", "--runs", "--jsonl"]));
    let why = format!("{junk} leads are over max_matches 2");
    assert_eq!(lines.len(), 2);
    for line in &lines {
        assert_eq!((&line["rule"], &line["trigger"]), (&"junk".into(), &"manual".into()), "{line}");
        assert_eq!(line["held_reason"], why.as_str());
        assert!(line["rule_text"].as_str().unwrap().contains("JUNK"), "{line}");
        for time in ["started_at", "held_at", "finished_at"] {
            assert!(is_time(&line[time]), "{time}: {line}");
        }
    }
    assert_eq!(
        (&lines[0]["state"], &lines[0]["error"]),
        (&"failed".into(), &"superseded by a later run".into())
    );
    assert!(lines[0]["approved_at"].is_null());
    assert_eq!((&lines[1]["state"], &lines[1]["enqueued"]), (&"enqueued".into(), &junk.into()));
    assert!(is_time(&lines[1]["approved_at"]), "{}", lines[1]);
    let by = lines[1]["approved_by"].as_str().unwrap().to_owned();
    assert!(by.starts_with("the command line, user ") && by.ends_with(" by sudo of alice"), "{by}");
    assert!(lines[0]["approved_by"].is_null());
    assert_eq!(home.objects(&["runs", "--json"])[0]["approved_by"], by.as_str());

    let sheet = home.ok(&["export", "--runs", "--csv"]);
    assert!(sheet.starts_with("id,rule,trigger,mode,state,matched,"), "{sheet}");
    assert!(sheet.lines().last().unwrap().contains(&by), "{sheet}");
    assert!(sheet.contains("superseded by a later run") && sheet.lines().count() == 3, "{sheet}");
    assert_eq!(home.ok(&["export", "--runs", "--jsonl", "--since", "2099-01-01"]), "");
}
