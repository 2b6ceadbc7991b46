//! Wrong settings and wrong usage: everything in one pass, exit status 2, no secret shown; and the help texts.

use std::process::Command;

use b24_janitor::sandbox::SandboxOptions;

use crate::home::{Home, JUNK};
use crate::http;
use crate::portal::Portal;
use crate::service::Service;

const COMMANDS: &[&str] = &[
    "serve", "demo", "sandbox", "check", "plan", "run", "runs", "approve", "jobs", "retry", "cancel",
    "pause", "resume", "status",
];

#[test]
fn every_wrong_setting_is_told_in_one_pass_and_no_secret_is_shown() {
    let home = Home::without_portal(JUNK)
        .with("B24_WEBHOOK_URL", "http://portal.example/rest/1/s3cr3tcode/")
        .with("B24_APPLICATION_TOKEN", "s3cr3t token")
        .with("JANITOR_ADMIN_TOKEN", "s3cr3t admin")
        .with("JANITOR_LOG", "inof")
        .with("JANITOR_LOG_FORMAT", "xml")
        .with("JANITOR_DB", "/tmp/");
    let ended = home.fails(2, &["serve", "--listen", "nowhere", "--admin-listen", "127.0.0.1"]);
    for name in [
        "B24_WEBHOOK_URL",
        "B24_APPLICATION_TOKEN",
        "JANITOR_ADMIN_TOKEN",
        "JANITOR_LOG (--log)",
        "JANITOR_LOG_FORMAT (--log-format)",
        "JANITOR_DB (--db)",
        "JANITOR_LISTEN (--listen)",
        "JANITOR_ADMIN_LISTEN (--admin-listen)",
    ] {
        let told = ended.err.lines().filter(|line| line.starts_with(&format!("error: {name}"))).count();
        assert_eq!(told, 1, "{name} in\n{}", ended.err);
    }
    assert_eq!(ended.err.lines().count(), 8, "{}", ended.err);
    assert!(!ended.err.contains("s3cr3t"), "{}", ended.err);
    assert_eq!(ended.out, "");
    assert_eq!(home.files(), ["rules.yaml"], "nothing was begun");
}

#[test]
fn a_command_that_asks_the_portal_needs_its_address_and_others_do_not() {
    let home = Home::without_portal(JUNK);
    for args in [["serve", "--"].as_slice(), &["plan"], &["run", "junk"], &["check", "--online"]] {
        let ended = home.fails(2, args);
        assert!(ended.err.starts_with("error: B24_WEBHOOK_URL: it is not set"), "{args:?}: {}", ended.err);
    }
    home.ok(&["check"]);
}

#[test]
fn a_missing_database_is_named_with_what_to_do() {
    let home = Home::without_portal(JUNK);
    for args in [
        ["jobs"].as_slice(),
        &["runs"],
        &["status"],
        &["pause"],
        &["resume"],
        &["retry", "1"],
        &["cancel", "1"],
    ] {
        let ended = home.fails(1, args);
        let expected = "error: there is no database at janitor.db: start `b24-janitor serve` first, or name \
                        another with --db or JANITOR_DB\n";
        assert_eq!(ended.err, expected, "{args:?}");
    }
    assert_eq!(home.files(), ["rules.yaml"], "looking for a database must not make one");
}

#[test]
fn an_unknown_rule_is_answered_with_the_names_of_the_others() {
    let two = format!("{JUNK}  - {{ name: old, schedule: '@daily', match: {{ stageId: '7' }} }}\n");
    let home = Home::without_portal(&two).with("B24_WEBHOOK_URL", "http://127.0.0.1:9/rest/1/code/");
    let meant = "error: there is no rule `jnuk`: did you mean `junk`? The rules are: junk, old\n";
    for args in [["run", "jnuk"], ["plan", "jnuk"]] {
        assert_eq!(home.fails(2, &args).err, meant);
    }
    assert_eq!(
        home.fails(2, &["plan", "xyz"]).err,
        "error: there is no rule `xyz`; the rules are: junk, old\n"
    );
    drop(b24_janitor::store::Store::open(
        &home.path("janitor.db"),
        b24_janitor::store::OpenOptions { threads: b24_janitor::store::Threads::Inline, create: true },
    ));
    for args in [["jobs", "--rule", "jnuk"], ["runs", "--rule", "jnuk"]] {
        assert_eq!(home.fails(2, &args).err, meant);
    }
    assert!(home.ok(&["jobs", "--rule", "junk"]).starts_with("no jobs"));
}

#[test]
fn a_rule_with_events_needs_the_token() {
    let rules = JUNK.replace("    mode: delete", "    events: [ONCRMLEADADD]\n    mode: delete");
    let home = Home::without_portal(&rules).with("B24_WEBHOOK_URL", "http://127.0.0.1:9/rest/1/code/");
    let ended = home.fails(2, &["serve", "--listen", "127.0.0.1:0", "--admin-listen", "off"]);
    assert!(ended.err.contains("error[events-without-token]"), "{}", ended.err);
    assert!(ended.err.contains("B24_APPLICATION_TOKEN"), "{}", ended.err);
}

#[test]
fn wrong_words_on_the_command_line_end_with_status_2() {
    let home = Home::without_portal(JUNK);
    for args in [
        ["frob"].as_slice(),
        &[],
        &["jobs", "--state", "finished"],
        &["jobs", "--lead", "0"],
        &["approve", "1"],
        &["sandbox", "--fault", "explode"],
        &["sandbox", "--sleep-scale", "-1"],
    ] {
        home.fails(2, args);
    }
    let ended = home.run(&["jobs", "--state", "finished"]);
    assert!(ended.err.contains("already_gone"), "{}", ended.err);
}

#[test]
fn every_command_has_a_help_text() {
    let home = Home::without_portal(JUNK);
    for command in COMMANDS {
        let help = home.ok(&[command, "--help"]);
        assert!(help.contains(&format!("Usage: b24-janitor {command}")), "{help}");
        // A sentence before the usage, and one for every flag.
        assert!(!help.starts_with("Usage"), "{help}");
    }
    insta::assert_snapshot!("help", home.ok(&["--help"]));
}

#[test]
fn defaults_in_the_help_are_those_that_apply() {
    let home = Home::without_portal(JUNK);
    let serve = home.ok(&["serve", "--help"]);
    for default in
        ["127.0.0.1:8080", "127.0.0.1:8081", "janitor.db", "JANITOR_LISTEN", "JANITOR_ADMIN_LISTEN"]
    {
        assert!(serve.contains(default), "{default} in\n{serve}");
    }
    assert!(serve.contains("JANITOR_LOG_FORMAT"), "{serve}");
    let ended = home.fails(1, &["status"]);
    assert!(ended.err.contains("janitor.db"), "{}", ended.err);
}

#[test]
fn the_example_of_a_fault_in_the_help_is_one_that_is_understood() {
    let home = Home::without_portal(JUNK);
    let help = home.ok(&["sandbox", "--help"]).split_whitespace().collect::<Vec<_>>().join(" ");
    let example = help.split_once("for example `").unwrap().1.split('`').next().unwrap().to_owned();
    // The address can't be bound, so that the command ends once the fault was read.
    let ended = home.fails(1, &["sandbox", "--fault", &example, "--listen", "192.0.2.1:1"]);
    assert!(ended.err.contains("cannot listen"), "{}", ended.err);
}

#[test]
fn the_version_is_the_packages() {
    let home = Home::without_portal(JUNK);
    // The commit of a release build, or that it is none; one word could not be told from a part of the version.
    let told = home.ok(&["--version"]);
    let commit = told.strip_prefix(concat!("b24-janitor ", env!("CARGO_PKG_VERSION"), " ("));
    assert!(commit.is_some_and(|rest| rest.len() > 4 && rest.ends_with(")\n")), "{told}");
}

#[test]
fn a_closed_standard_output_is_no_error() {
    let home = Home::without_portal(JUNK);
    let program = assert_cmd::cargo::cargo_bin!("b24-janitor").to_str().unwrap().to_owned();
    let script = format!("{{ '{program}' check; echo status $? >&2; }} | head -1");
    let output = home.wrap(Command::new("sh"), &["-c", &script]).output().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap().lines().last(), Some("status 0"));
}

#[test]
fn secrets_reach_neither_the_most_talkative_log_nor_the_database() {
    let portal = Portal::start(SandboxOptions {
        leads: 60,
        code: "s3cr3tcode".to_owned(),
        ..SandboxOptions::default()
    });
    let home = Home::new(&portal, JUNK)
        .with("B24_APPLICATION_TOKEN", "s3cr3ttoken")
        .with("JANITOR_ADMIN_TOKEN", "s3cr3tadmin")
        .with("JANITOR_LOG", "trace");
    let service = Service::start(&home);
    let event = http::event("ONCRMLEADADD", 1, "s3cr3ttoken");
    assert_eq!(http::post(service.public, "/bitrix24/events", http::FORM, &event).0, 200);
    assert_eq!(http::get(service.admin, "/metrics").0, 401);
    let run = home.run(&["run", "junk", "--wait"]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    let log = service.stop() + &run.out + &run.err;
    assert!(log.contains("TRACE") || log.contains("DEBUG"), "{log}");
    let database = std::fs::read(home.path("janitor.db")).unwrap();
    let everything = log + &String::from_utf8_lossy(&database);
    for secret in ["s3cr3tcode", "s3cr3ttoken", "s3cr3tadmin"] {
        assert!(!everything.contains(secret), "{secret}");
    }
}

#[test]
fn the_webhooks_address_may_come_from_a_file_and_not_twice() {
    let portal = Portal::with_leads(10);
    let home = Home::without_portal(JUNK).with("B24_WEBHOOK_URL_FILE", "webhook");
    home.write("webhook", &format!("{}\n", portal.webhook()));
    home.ok(&["check", "--online"]);
    let home = home.with("B24_WEBHOOK_URL", &portal.webhook());
    let ended = home.fails(2, &["check", "--online"]);
    assert!(ended.err.contains("it is set more than once"), "{}", ended.err);
}
