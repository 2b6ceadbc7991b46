//! Photographs of the pages with a database like that of a busy portal, for the documentation. Only where
//! `JANITOR_SCREENSHOTS` names the folder to write them to.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use crate::home::Home;
use crate::portal::Portal;
use crate::service::{Service, until};
use crate::webdriver::{Browser, shared, turn};

const RULES: &str = r#"version: 1
timezone: Europe/Berlin
defaults: { mode: delete, limits: { max_matches: 100000, max_percent: 100 } }
protect:
  - { name: big-deals, match: { opportunity: { gte: 100000 } } }
rules:
  - name: junk
    description: Junk that nobody has touched for three months
    schedule: "15 3 * * *"
    match: { stageId: JUNK }
    older_than: 90d
  - name: new-and-forgotten
    description: New leads that nobody ever worked on
    schedule: "30 4 * * 1"
    match: { stageId: NEW, opportunity: { lt: 1000 } }
    older_than: 180d
    mode: plan
  - name: spam
    description: What the form's filter missed
    schedule: "0 5 * * *"
    match: { stageId: JUNK, sourceId: WEBFORM }
    limits: { max_matches: 1 }
"#;

/// The largest photograph, in bytes: the documentation is read over slow lines too.
const LARGEST: usize = 150_000;

/// Forty days of runs and 100,000 jobs, most of them done.
const FILL: &str = "
INSERT INTO rule_texts (text) VALUES ('a rule');
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400)
INSERT INTO runs (rule, text_id, \"trigger\", mode, state, matched, protected, enqueued, started_at, finished_at)
SELECT iif(i % 3, 'junk', 'spam'), (SELECT max(id) FROM rule_texts), 'schedule', 'delete', 'enqueued', 250 + i % 11, i % 11, 250,
    ?1 - (401 - i) * 8640000, ?1 - (401 - i) * 8640000 + 40000 FROM n;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
INSERT INTO jobs (lead_id, rule, run_id, state, outcome, reason, due_at, created_at, finished_at, grace_seconds)
SELECT 1000 + i, iif((i / 250 + 1) % 3, 'junk', 'spam'), 1 + (i - 1) / 250, iif(i > 99400, 'waiting', 'done'),
    CASE WHEN i > 99400 THEN NULL WHEN i % 97 = 0 THEN 'spared' WHEN i % 53 = 0 THEN 'already_gone'
        WHEN i % 9001 = 0 THEN 'failed' ELSE 'deleted' END,
    iif(i % 97 = 0 AND i <= 99400, 'it does not match any more', NULL),
    iif(i > 99400, ?1 + (i - 99400) * 300000, ?1 - (100001 - i) * 34560),
    ?1 - (100001 - i) * 34560, iif(i > 99400, NULL, ?1 - (100001 - i) * 34560 + (i * i % 7919) * 3000), 0 FROM n;
INSERT INTO counters (name, key, value) SELECT 'jobs_finished', outcome, count(*) FROM jobs WHERE state = 'done'
    GROUP BY outcome ON CONFLICT (name, key) DO UPDATE SET value = excluded.value;
";

fn fill(file: &Path, now: i64) {
    let db = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
    for statement in FILL.split(";\n").filter(|statement| !statement.trim().is_empty()) {
        let mut statement = db.prepare(statement).unwrap();
        let wants = statement.parameter_count();
        statement.execute(rusqlite::params_from_iter((0..wants).map(|_| now))).unwrap();
    }
}

fn photograph(browser: &Browser, folder: &Path, name: &str) {
    let picture = browser.screenshot();
    assert!(picture.len() < LARGEST, "{name}: {} bytes", picture.len());
    std::fs::write(folder.join(format!("{name}.png")), picture).unwrap();
}

#[test]
fn the_pages_are_photographed_for_the_documentation() {
    let Some(folder) = std::env::var_os("JANITOR_SCREENSHOTS").map(PathBuf::from) else { return };
    let Some(browser) = shared() else { return };
    let browser = turn(&browser);
    std::fs::create_dir_all(&folder).unwrap();
    let portal = Portal::with_leads(400);
    let home = Home::new(&portal, RULES);
    home.ok(&["run", "new-and-forgotten"]);
    let lead = portal.in_stage("JUNK")[0];
    fill(&home.path("janitor.db"), portal.sandbox.now().as_millisecond());
    let service = Service::start(&home);
    let open = |path: &str| browser.goto(&format!("http://{}{path}", service.admin));
    open("/rules/junk");
    browser.press("form[action='/rules/junk/run'] button");
    until("the deletion of the junk", || portal.sandbox.lead(lead).is_none().then_some(()));
    open("/rules/spam");
    browser.press("form[action='/rules/spam/run'] button");
    open("/rules/new-and-forgotten/plan");
    browser.press("form[action='/rules/new-and-forgotten/plan'] button");
    until("the plan", || {
        open("/rules/new-and-forgotten/plan");
        (browser.all("table.bars").len() > 1).then_some(())
    });
    let pages = [
        ("overview", "/".to_owned()),
        ("jobs", "/jobs".to_owned()),
        ("runs", "/runs".to_owned()),
        ("rules", "/rules".to_owned()),
        ("rule", "/rules/junk".to_owned()),
        ("plan", "/rules/new-and-forgotten/plan".to_owned()),
        ("lead", format!("/leads/{lead}")),
    ];
    browser.size(1280, 720);
    for (name, path) in &pages {
        open(path);
        photograph(&browser, &folder, name);
        browser.dark(true);
        photograph(&browser, &folder, &format!("{name}-dark"));
        browser.dark(false);
    }
    browser.size(390, 844);
    for (name, path) in &pages {
        open(path);
        photograph(&browser, &folder, &format!("{name}-phone"));
    }
}
