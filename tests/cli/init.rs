//! `init`: from a webhook's address to files that `check` passes, and the proof that events arrive.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crate::home::{Home, objects};
use crate::http::{self, FORM, TOKEN};
use crate::output::timeless;
use crate::portal::Portal;
use crate::service::{Process, until};

const ZONE: [&str; 3] = ["init", "--timezone", "Europe/Berlin"];

/// A directory without rules, for this portal.
fn empty(portal: &Portal) -> Home {
    let home = Home::new(portal, "");
    fs::remove_file(home.path("rules.yaml")).unwrap();
    home
}

/// What was said or written, without the portal's port.
fn placeless(portal: &Portal, text: &str) -> String {
    let webhook = portal.webhook();
    let host = webhook.split('/').nth(2).unwrap();
    timeless(&text.replace(host, "PORTAL"))
}

#[test]
fn init_writes_commented_files_that_check_passes_and_that_delete_nothing() {
    let portal = Portal::with_leads(2000);
    let home = empty(&portal);
    let told = home.ok(&[&ZONE[..], &["--events-url", "https://janitor.example.com", "--no-wait"]].concat());
    insta::assert_snapshot!("init", placeless(&portal, &told));
    insta::assert_snapshot!(
        "init_rules",
        placeless(&portal, &fs::read_to_string(home.path("rules.yaml")).unwrap())
    );
    let environment = fs::read_to_string(home.path("environment")).unwrap();
    insta::assert_snapshot!("init_environment", placeless(&portal, &environment));
    assert_eq!(home.files(), ["environment", "rules.yaml"]);
    let mode = |name: &str| fs::metadata(home.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("environment"), mode("rules.yaml") & 0o444), (0o600, 0o444));

    // The files alone are enough, as a shell takes them.
    let alone = Home::without_portal(&fs::read_to_string(home.path("rules.yaml")).unwrap());
    alone.write("environment", &environment);
    let program = assert_cmd::cargo::cargo_bin!("b24-janitor");
    let script = format!(
        "set -a; . ./environment; set +a; '{0}' check --online && '{0}' plan --json",
        program.display()
    );
    let output = alone.wrap(Command::new("sh"), &["-c", &script]).output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success() && err.is_empty(), "{out}{err}");

    // What it counted is what a plan finds, less the protected; and every rule only plans.
    let plans = objects(&out.lines().filter(|line| line.starts_with('{')).collect::<Vec<_>>().join("\n"));
    let counted = home.object(&[&ZONE[..], &["--no-wait", "--json"]].concat());
    for (plan, proposed) in plans.iter().zip(counted["proposed"].as_array().unwrap()) {
        assert_eq!((&plan["rule"], &plan["matched"]), (&proposed["rule"], &proposed["leads"]));
        assert_eq!(plan["mode"], "plan", "{plan}");
    }
    portal.assert_pace_kept();
}

#[test]
fn nothing_that_exists_is_written_over_and_init_says_what_it_left_alone() {
    let portal = Portal::with_leads(60);
    let home = Home::new(&portal, crate::home::JUNK);
    home.write("environment", "B24_WEBHOOK_URL=mine\n");
    let told = home.ok(&["init", "--no-wait"]);
    for name in ["rules.yaml", "environment"] {
        assert!(told.contains(&format!("left alone: {name} was there already")), "{told}");
    }
    assert_eq!(fs::read_to_string(home.path("rules.yaml")).unwrap(), crate::home::JUNK);
    assert_eq!(fs::read_to_string(home.path("environment")).unwrap(), "B24_WEBHOOK_URL=mine\n");
    let object = home.object(&["init", "--no-wait", "--json"]);
    assert_eq!(object["files"][0]["state"], "kept", "{object}");

    home.write("rules.yaml", &crate::home::JUNK.replace("JUNK }", "JUNKK }"));
    let refused = home.fails(2, &["init", "--no-wait"]);
    assert!(refused.err.contains("unknown-stage"), "{}", refused.err);
}

#[test]
fn without_a_terminal_or_with_a_wrong_webhook_nothing_is_asked_and_nothing_is_written() {
    let portal = Portal::with_leads(60);
    let nowhere = Home::without_portal("");
    fs::remove_file(nowhere.path("rules.yaml")).unwrap();
    assert!(nowhere.fails(2, &["init"]).err.contains("B24_WEBHOOK_URL_FILE"));

    let home = empty(&portal).with("B24_WEBHOOK_URL", &portal.webhook().replace("sandboxcode", "oldcode"));
    let refused = home.fails(1, &["init", "--no-wait"]);
    assert!(
        refused.err.contains("INVALID_CREDENTIALS") && !refused.err.contains("oldcode"),
        "{}",
        refused.err
    );

    let home = empty(&portal);
    let zone = home.fails(2, &["init", "--no-wait", "--timezone", "MSK"]);
    assert!(zone.err.contains("MSK"), "{}", zone.err);
    assert!(
        home.fails(2, &["init", "--events-url", "https://x.example.com/other"])
            .err
            .contains("/bitrix24/events")
    );
    assert!(home.fails(2, &["init", "--rules", "nowhere/rules.yaml"]).err.contains("nowhere"));
    for home in [&nowhere, &home] {
        assert_eq!(home.files(), [""; 0]);
    }
}

#[test]
fn a_secret_that_a_file_holds_stays_there_alone() {
    let portal = Portal::with_leads(60);
    let home = Home::without_portal("").with("B24_WEBHOOK_URL_FILE", "hook");
    fs::remove_file(home.path("rules.yaml")).unwrap();
    home.write("hook", &portal.webhook());
    home.ok(&[&ZONE[..], &["--no-wait"]].concat());
    let environment = fs::read_to_string(home.path("environment")).unwrap();
    let hook = fs::canonicalize(home.path("hook")).unwrap();
    assert!(environment.contains(&format!("B24_WEBHOOK_URL_FILE={}\n", hook.display())), "{environment}");
    assert!(!environment.contains("sandboxcode"), "{environment}");
}

#[test]
fn addresses_that_were_chosen_for_an_instance_are_kept_in_its_settings() {
    let portal = Portal::with_leads(60);
    let home = empty(&portal).with("JANITOR_LISTEN", "127.0.0.1:8082").with("JANITOR_ADMIN_LISTEN", "off");
    home.ok(&[&ZONE[..], &["--no-wait", "--rules", "."]].concat());
    let environment = fs::read_to_string(home.path("environment")).unwrap();
    for line in ["JANITOR_LISTEN=127.0.0.1:8082", "JANITOR_ADMIN_LISTEN=off"] {
        assert!(environment.lines().any(|written| written == line), "{environment}");
    }
    assert_eq!(home.files(), ["environment", "rules.yaml"]);
}

fn waiting(home: &Home, args: &[&str]) -> (Process, std::net::SocketAddr) {
    let args = [&ZONE[..], &["--listen", "127.0.0.1:0"], args].concat();
    let mut process = Process::start(home.command(&args));
    let line = process.line("waiting on ");
    let address = line.split(' ').nth(2).unwrap().parse().unwrap();
    (process, address)
}

#[test]
fn the_first_event_with_the_right_token_proves_the_way_and_is_not_accepted() {
    let portal = Portal::with_leads(60);
    let home = empty(&portal).with("B24_APPLICATION_TOKEN", TOKEN);
    let (mut process, address) = waiting(&home, &[]);
    let wrong = http::event("ONCRMLEADUPDATE", 7, "somebody-else");
    assert_eq!(http::post(address, "/bitrix24/events", FORM, &wrong).0, 403);
    // Nothing here could keep it, so it must not be told that it was kept.
    let right = http::event("ONCRMLEADUPDATE", 8, TOKEN);
    assert_eq!(http::post(address, "/bitrix24/events", FORM, &right).0, 503);
    assert_eq!(process.ended().code(), Some(0));
    let log = process.log();
    assert!(log.contains("the portal reported ONCRMLEADUPDATE of lead 8"), "{log}");
    assert!(!log.contains(TOKEN) && !log.contains("ERROR"), "{log}");
    assert!(fs::read_to_string(home.path("environment")).unwrap().contains(TOKEN));
}

#[test]
fn without_an_event_init_says_what_may_be_wrong_and_keeps_the_files() {
    let portal = Portal::with_leads(60);
    let home = empty(&portal).with("B24_APPLICATION_TOKEN", TOKEN);
    let (mut process, address) = waiting(&home, &["--wait-seconds", "2"]);
    let wrong = http::event("ONCRMLEADUPDATE", 7, "somebody-else");
    assert_eq!(http::post(address, "/bitrix24/events", FORM, &wrong).0, 403);
    assert_eq!(process.ended().code(), Some(1));
    assert!(process.log().contains("with another token"), "{}", process.log());
    assert_eq!(home.files(), ["environment", "rules.yaml"]);

    let (mut process, _) = waiting(&home, &[]);
    process.signal("INT");
    assert_eq!(process.ended().code(), Some(1));
    assert!(process.log().contains("interrupted"), "{}", process.log());
}

/// A command on a terminal, by the `script` of util-linux: what it shows, and keys for it.
struct Terminal {
    child: Child,
    keys: ChildStdin,
    seen: Arc<Mutex<String>>,
    watcher: JoinHandle<()>,
}

impl Terminal {
    /// `None` where there is no `script`.
    fn start(home: &Home, shell: &str) -> Option<Terminal> {
        Command::new("script").arg("--version").output().ok()?;
        let program = assert_cmd::cargo::cargo_bin!("b24-janitor").to_str().unwrap();
        let shell = shell.replace("b24-janitor", &format!("'{program}'"));
        let mut command = home.wrap(Command::new("script"), &["-qec", &shell, "/dev/null"]);
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let (keys, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let seen = Arc::new(Mutex::new(String::new()));
        let watching = Arc::clone(&seen);
        let watcher = std::thread::spawn(move || {
            let mut some = [0; 256];
            while let Ok(read @ 1..) = screen.read(&mut some) {
                watching.lock().unwrap().push_str(&String::from_utf8_lossy(&some[..read]));
            }
        });
        Some(Terminal { child, keys, seen, watcher })
    }

    /// Types once the question is there.
    fn answer(&mut self, question: &str, keys: &str) {
        until(question, || self.seen.lock().unwrap().contains(question).then_some(()));
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for its end: its status, and all that it showed.
    fn ended(mut self) -> (Option<i32>, String) {
        let status = self.child.wait().unwrap();
        self.watcher.join().unwrap();
        let screen = self.seen.lock().unwrap().clone();
        (status.code(), screen)
    }
}

#[test]
fn on_a_terminal_it_asks_and_a_secret_is_not_shown() {
    let portal = Portal::with_leads(60);
    let home = Home::without_portal("").with("TERM", "dumb");
    fs::remove_file(home.path("rules.yaml")).unwrap();
    let Some(mut terminal) = Terminal::start(&home, "b24-janitor init --no-wait") else { return };
    let webhook = portal.webhook();
    for (question, answer) in [
        ("(not shown): ", webhook.as_str()),
        ("Time zone", "Asia/Yekaterinburg"),
        ("reaches this service", "https://janitor.example.com"),
        ("empty: later): ", TOKEN),
    ] {
        terminal.answer(question, &format!("{answer}\n"));
    }
    let (status, screen) = terminal.ended();
    assert_eq!(status, Some(0), "{screen}");
    assert!(!screen.contains("sandboxcode") && !screen.contains(TOKEN), "{screen}");
    assert!(screen.contains("handler URL: https://janitor.example.com/bitrix24/events"), "{screen}");
    let environment = fs::read_to_string(home.path("environment")).unwrap();
    assert!(environment.contains(&webhook) && environment.contains(TOKEN), "{environment}");
    assert!(fs::read_to_string(home.path("rules.yaml")).unwrap().contains("Asia/Yekaterinburg"));
}

#[test]
fn ctrl_c_at_a_hidden_question_ends_it_and_the_terminal_shows_what_is_typed_again() {
    let home = Home::without_portal("").with("TERM", "dumb");
    let shell = "trap : INT; b24-janitor init; echo status $?; stty -a";
    let Some(mut terminal) = Terminal::start(&home, shell) else { return };
    terminal.answer("(not shown): ", "half-a-secret\u{3}");
    let (_, screen) = terminal.ended();
    assert!(screen.contains("interrupted") && screen.contains("status 1"), "{screen}");
    assert!(!screen.contains("half-a-secret") && screen.contains(" echo "), "{screen}");
}
