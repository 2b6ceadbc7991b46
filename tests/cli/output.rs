//! What commands print: the session that an administrator sees, the objects of `--json`, pipes and colours.

use std::process::Command;

use crate::home::{Home, JUNK, is_time, keys};
use crate::http;
use crate::portal::Portal;
use crate::service::Process;

/// A text with its times, versions and addresses taken out.
pub(crate) fn timeless(text: &str) -> String {
    let mut told = String::new();
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let date = rest.get(..10).filter(|date| date.parse::<jiff::civil::Date>().is_ok());
        let clock = rest.get(11..19).filter(|clock| clock.parse::<jiff::civil::Time>().is_ok());
        if date.is_some() && clock.is_some() {
            told.push_str("<time>");
            rest = rest[19..].trim_start_matches(|c: char| c.is_ascii_digit() || ".:+Z-".contains(c));
        } else {
            told.push(next);
            rest = &rest[next.len_utf8()..];
        }
    }
    told
}

#[test]
fn a_session_without_a_service_reads_well() {
    let portal = Portal::with_leads(60);
    let home = Home::new(&portal, JUNK);
    let mut session = String::new();
    for line in [
        "check",
        "check --online",
        "plan",
        "run junk",
        "jobs --limit 3",
        "status",
        "run junk --wait",
        "run junk --wait",
        "runs",
        "jobs --limit 2",
        "jobs --state failed",
        "status",
        "cancel 1",
        "retry 1",
        "retry 1000",
        "pause",
        "status",
        "resume",
    ] {
        let ended = home.run(&line.split(' ').collect::<Vec<_>>());
        let status = ended.code.unwrap();
        session.push_str(&format!("$ b24-janitor {line}\n{}{}", ended.out, ended.err));
        session.push_str(&if status == 0 { "\n".to_owned() } else { format!("exit status {status}\n\n") });
    }
    insta::assert_snapshot!("session", timeless(&session));
    portal.assert_pace_kept();
}

#[test]
fn json_has_exactly_the_documented_keys_and_times_with_an_offset() {
    let portal = Portal::with_leads(60);
    let home = Home::new(&portal, JUNK);

    let plan = home.object(&["plan", "--json"]);
    for key in ["rule", "matched", "protected", "undecidable", "would_delete", "held", "sample"] {
        assert!(plan.get(key).is_some(), "{key}");
    }
    assert_eq!(plan["matched"], plan["would_delete"]);
    assert!(is_time(&plan["sample"][0]["created"]), "{plan}");

    let run = home.object(&["run", "junk", "--json"]);
    let run_keys = "already_waiting approved_by enqueued error finished_at id matched mode protected rule started_at state \
                    trigger undecidable would_enqueue";
    assert_eq!(keys(&run), run_keys);

    let status = home.object(&["status", "--json"]);
    assert_eq!(keys(&status["events"]), "pending total");
    assert_eq!(keys(&status["jobs"]), "already_gone cancelled deleted failed running spared waiting");
    assert_eq!((&status["paused"], &status["last_error"]), (&false.into(), &serde_json::Value::Null));
    assert!(is_time(&status["next_due"]), "{status}");

    let runs = home.objects(&["runs", "--json"]);
    assert_eq!(keys(&runs[0]), run_keys);
    assert_eq!((&runs[0]["trigger"], &runs[0]["state"]), (&"manual".into(), &"enqueued".into()));
    assert!(is_time(&runs[0]["started_at"]) && is_time(&runs[0]["finished_at"]), "{}", runs[0]);

    let waiting = home.objects(&["jobs", "--json"]);
    assert_eq!(waiting.len() as u64, run["enqueued"].as_u64().unwrap());
    let waited = home.object(&["run", "junk", "--wait", "--json"]);
    assert_eq!(waited["jobs"]["deleted"].as_u64(), Some(waiting.len() as u64), "{waited}");
    let done = home.objects(&["jobs", "--json", "--state", "deleted"]);
    assert_eq!(done.len(), waiting.len());
    for job in waiting.iter().chain(&done) {
        let expected =
            "attempts created_at due_at finished_at id last_error lead_id outcome reason rule run_id state";
        assert_eq!(keys(job), expected);
        assert!(is_time(&job["due_at"]) && is_time(&job["created_at"]), "{job}");
    }
    assert_eq!((&waiting[0]["state"], &waiting[0]["outcome"]), (&"waiting".into(), &serde_json::Value::Null));
    assert_eq!((&done[0]["state"], &done[0]["outcome"]), (&"done".into(), &"deleted".into()));
    assert!(is_time(&done[0]["finished_at"]), "{}", done[0]);

    assert_eq!(home.objects(&["jobs", "--json", "--limit", "2"]).len(), 2);
    assert_eq!(home.objects(&["runs", "--json", "--limit", "1"])[0]["id"], 2, "newest first");
    for args in [["jobs", "--json", "--rule", "other"], ["runs", "--json", "--rule", "other"]] {
        assert_eq!(home.fails(2, &args).out, "", "{args:?}");
    }
    assert_eq!(home.object(&["pause", "--json"])["paused"], true);
    assert_eq!(home.object(&["resume", "--json"])["paused"], false);
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let portal = Portal::with_leads(2000);
    let home = Home::new(&portal, JUNK);
    home.ok(&["run", "junk"]);
    let program = assert_cmd::cargo::cargo_bin!("b24-janitor").to_str().unwrap().to_owned();
    for command in ["jobs --json", "jobs --limit 100000", "runs", "status"] {
        let script = format!("{{ '{program}' {command}; echo status $? >&2; }} | head -1");
        let output = home.wrap(Command::new("sh"), &["-c", &script]).output().unwrap();
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "status 0\n", "{command}");
        assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 1, "{command}");
    }
}

#[test]
fn nothing_is_coloured_in_a_pipe_or_against_the_readers_wish() {
    let portal = Portal::with_leads(60);
    for home in
        [Home::new(&portal, JUNK), Home::new(&portal, JUNK).with("NO_COLOR", "1").with("TERM", "xterm")]
    {
        home.write("wrong.yaml", "version: 2\n");
        for args in [
            ["plan"].as_slice(),
            &["run", "junk"],
            &["jobs"],
            &["check", "--rules", "wrong.yaml"],
            &["--help"],
            &["frob"],
        ] {
            let ended = home.run(args);
            assert!(!ended.out.contains('\u{1b}') && !ended.err.contains('\u{1b}'), "{args:?}");
        }
    }
}

#[test]
fn the_sandbox_is_a_portal_that_a_rehearsal_can_use_as_it_says() {
    let home = Home::without_portal(JUNK);
    let mut sandbox = Process::start(home.command(&["sandbox", "--listen", "127.0.0.1:0", "--leads", "60"]));
    let webhook = sandbox.line("webhook:").split_once("webhook: ").unwrap().1.trim().to_owned();
    let stats = sandbox.line("stats:").split_once("http://").unwrap().1.to_owned();
    let address = stats.split('/').next().unwrap().parse().unwrap();
    let told = sandbox.line("B24_WEBHOOK_URL=");
    assert!(told.contains(&webhook) && told.contains("b24-janitor plan"), "{told}");

    let home = home.with("B24_WEBHOOK_URL", &webhook);
    let deleted = home.object(&["run", "junk", "--wait", "--json"])["jobs"]["deleted"].as_u64().unwrap();
    assert!(deleted > 0);
    let (status, body) = http::get(address, "/sandbox/stats");
    let stats: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, stats["deletions"].as_array().unwrap().len() as u64), (200, deleted));
    assert_eq!((&stats["refused_503"], &stats["refused_429"]), (&0.into(), &0.into()));

    sandbox.signal("INT");
    assert_eq!(sandbox.ended().code(), Some(0));
}

/// What a shell command on a terminal writes, by the `script` of util-linux; `None` where there is none.
fn on_a_terminal(home: &Home, shell: &str) -> Option<String> {
    Command::new("script").arg("--version").output().ok()?;
    let program = assert_cmd::cargo::cargo_bin!("b24-janitor").to_str().unwrap();
    let shell = shell.replace("b24-janitor", &format!("'{program}'"));
    let output = home.wrap(Command::new("script"), &["-qec", &shell, "/dev/null"]).output().unwrap();
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn mistakes_are_coloured_on_a_terminal_and_not_in_a_file_of_them() {
    let home = Home::without_portal("version: 2\n").with("TERM", "xterm");
    let Some(shown) = on_a_terminal(&home, "b24-janitor check") else { return };
    assert!(shown.contains("\u{1b}[") && shown.contains("rules.yaml:1:10:"), "{shown}");
    on_a_terminal(&home, "b24-janitor check 2> mistakes.txt");
    let kept = std::fs::read_to_string(home.path("mistakes.txt")).unwrap();
    assert!(!kept.contains('\u{1b}') && kept.contains("rules.yaml:1:10:"), "{kept}");
    let home = home.with("NO_COLOR", "1");
    let shown = on_a_terminal(&home, "b24-janitor check").unwrap();
    assert!(!shown.contains('\u{1b}'), "{shown}");
}

#[test]
fn the_answers_of_explain_are_coloured_on_a_terminal_only() {
    let portal = Portal::with_leads(60);
    let home = Home::new(&portal, JUNK).with("TERM", "xterm");
    let Some(shown) = on_a_terminal(&home, "b24-janitor explain 4") else { return };
    assert!(shown.contains("\u{1b}[32myes\u{1b}[0m"), "{shown}");
    let home = home.with("NO_COLOR", "1");
    assert!(!on_a_terminal(&home, "b24-janitor explain 4").unwrap().contains('\u{1b}'));
}

#[test]
fn a_drain_shows_its_progress_on_a_terminal() {
    let portal = Portal::with_leads(200);
    let junk = portal.in_stage("JUNK").len();
    let home = Home::new(&portal, JUNK).with("TERM", "xterm");
    let Some(shown) = on_a_terminal(&home, "b24-janitor run junk --wait") else { return };
    assert!(shown.contains("limited by the time that deletions take"), "{shown}");
    assert!(shown.contains("deleting") && shown.contains(&format!("/{junk}")), "{shown}");
    assert!(shown.contains(&format!("done: {junk} deleted")), "{shown}");
}
