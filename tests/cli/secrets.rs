//! Busy runs with planted secrets, at trace level, through events, faults and broken connections: neither output, log,
//! pages, metrics, arguments nor files show one, in plain text, percent-encoded or in base64. Files are their owner's.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;

use b24_janitor::sandbox::{Fault, FaultKind, Lead, OauthApp, SandboxOptions};

use crate::home::{Home, JUNK};
use crate::http::{self, FORM};
use crate::portal::Portal;
use crate::service::{Service, until};

const CODE: &str = "pl4ntedwebh00kc0de";
const TOKEN: &str = "pl4nted.application+t0ken/";
const OTHER_TOKEN: &str = "pl4nted-second-t0ken";
const ADMIN: &str = "pl4nted=admin&t0ken";
const KEY: &str = "pl4nted+client/key=";
const REFRESH: &str = "pl4nted-refresh-t0ken";

/// A text as it may be found elsewhere.
fn forms(secret: &str) -> Vec<String> {
    let encoded: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    let mut forms = vec![secret.to_owned(), encoded.to_lowercase(), encoded];
    // At each of the three places that it can have in a group of three bytes, without the digits of its neighbours.
    for before in 0..3 {
        let text = [&b"xx"[..before], secret.as_bytes()].concat();
        let whole = base64(&text[..text.len() / 3 * 3]);
        forms.push(whole[if before == 0 { 0 } else { 4 }..].to_owned());
    }
    forms
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks_exact(3) {
        let bits = u32::from(group[0]) << 16 | u32::from(group[1]) << 8 | u32::from(group[2]);
        text.extend([18, 12, 6, 0].map(|shift| char::from(DIGITS[(bits >> shift & 63) as usize])));
    }
    text
}

/// Everything that was seen, with where it came from.
#[derive(Default)]
struct Seen(Vec<(String, Vec<u8>)>);

impl Seen {
    fn add(&mut self, what: impl Into<String>, text: impl Into<Vec<u8>>) {
        self.0.push((what.into(), text.into()));
    }

    /// Runs a command, whatever it says and however it ends.
    fn run(&mut self, home: &Home, args: &[&str]) {
        let ended = home.run(args);
        self.add(format!("{args:?}"), ended.out + &ended.err);
    }

    fn assert_without(&self, secrets: &[&str]) {
        for secret in secrets {
            for form in forms(secret) {
                for (what, text) in &self.0 {
                    let found = text.windows(form.len()).position(|window| window == form.as_bytes());
                    let around = found.map(|at| {
                        let part = &text[at.saturating_sub(200)..(at + 100).min(text.len())];
                        String::from_utf8_lossy(part).into_owned()
                    });
                    assert!(around.is_none(), "{what} shows {secret} as {form}: {around:?}");
                }
            }
        }
    }
}

/// A request with an admin token.
fn administer(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn bearer(address: SocketAddr, path: &str) -> String {
    let head = format!("Host: {address}\r\nAuthorization: Bearer {ADMIN}\r\nConnection: close");
    administer(address, &format!("GET {path} HTTP/1.1\r\n{head}\r\n\r\n"))
}

fn visit(seen: &mut Seen, service: &Service) {
    for path in ["/", "/metrics", "/readyz"] {
        let answer = bearer(service.admin, path);
        assert!(!answer.starts_with("HTTP/1.1 4"), "{answer}");
        seen.add(path, answer);
    }
    let form: String =
        url::form_urlencoded::Serializer::new(String::new()).append_pair("token", ADMIN).finish();
    let (length, address) = (form.len(), service.admin);
    let login = administer(
        address,
        &format!(
            "POST /login HTTP/1.1\r\nHost: {address}\r\nContent-Type: {FORM}\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n{form}"
        ),
    );
    assert!(login.starts_with("HTTP/1.1 303 "), "{login}");
    seen.add("the login", login);
    let pid = service.process.pid();
    seen.add("the arguments", fs::read(format!("/proc/{pid}/cmdline")).unwrap());
}

/// What lies in the directory while the service runs, so that the database's log is there too.
fn files(seen: &mut Seen, home: &Home) {
    for name in home.files() {
        let path = home.path(&name);
        if path.is_file() {
            seen.add(&*name, fs::read(&path).unwrap());
            if name.starts_with("janitor.db") {
                let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
                assert_eq!(mode, 0o600, "{name}: {mode:o}");
            }
        }
    }
}

fn fault(kind: FaultKind) -> Fault {
    Fault { kind, method: None, skip: 0, times: Some(1), probability: 1.0, executed: false }
}

fn faults(secrets: &str) -> Vec<Fault> {
    let echo =
        |code: &str| FaultKind::ErrorInOk { code: code.to_owned(), text: format!("you said {secrets}") };
    vec![
        fault(FaultKind::Refuse),
        fault(FaultKind::Drop),
        fault(FaultKind::Truncated),
        fault(FaultKind::Html { status: 502 }),
        fault(FaultKind::Fatal),
        fault(FaultKind::Redirect { to: format!("https://elsewhere.example/{secrets}") }),
        fault(echo("INTERNAL_SERVER_ERROR")),
        fault(echo(secrets)),
    ]
}

const COMMANDS: &[&[&str]] = &[
    &["check", "--online"],
    &["plan"],
    &["explain", "7"],
    &["run", "junk"],
    &["status", "--json"],
    &["runs", "--json"],
    &["jobs", "--json"],
];

/// The commands against a portal that fails in a new way each time, then the service with events.
fn busy(seen: &mut Seen, home: &Home, portal: &Portal, secrets: &str) {
    for fault in faults(secrets) {
        portal.sandbox.set_fault(fault);
        seen.run(home, &["check", "--online"]);
        seen.run(home, &["resume"]);
    }
    let mut service = Service::start(home);
    let event = |token: &str| {
        let token: String = url::form_urlencoded::byte_serialize(token.as_bytes()).collect();
        let body = http::event("ONCRMLEADUPDATE", 7, &token);
        http::post(service.public, "/bitrix24/events", FORM, &body)
    };
    assert_eq!((event(TOKEN).0, event(OTHER_TOKEN).0, event("pl4nted wrong").0), (200, 200, 403));
    COMMANDS.iter().for_each(|args| seen.run(home, args));
    faults(secrets).into_iter().for_each(|fault| portal.sandbox.set_fault(fault));
    seen.run(home, &["run", "junk"]);
    until("something to be deleted", || {
        seen.run(home, &["resume"]);
        (home.jobs("deleted") > 0).then_some(())
    });
    visit(seen, &service);
    files(seen, home);
    service.process.signal("TERM");
    assert_eq!(service.process.ended().code(), Some(0));
    let log = service.process.log();
    assert!(log.contains("TRACE") || log.contains("DEBUG"), "the log is not at trace level");
    seen.add("the log", log);
}

fn with_tokens(home: Home) -> Home {
    home.with("B24_APPLICATION_TOKEN", &format!("{TOKEN},{OTHER_TOKEN}"))
        .with("JANITOR_ADMIN_TOKEN", ADMIN)
        .with("JANITOR_LOG", "trace")
}

/// A rule that events start too.
fn rules() -> String {
    JUNK.replace("    mode:", "    events: [ONCRMLEADADD, ONCRMLEADUPDATE]\n    mode:")
}

/// What a person has written into a lead.
const PERSONAL: &str = "pl4nted Wunderlich, +49 30 1234";

fn shows_no_secret_and_nothing_personal(format: &str) {
    let portal =
        Portal::start(SandboxOptions { leads: 40, code: CODE.to_owned(), ..SandboxOptions::raised() });
    let mut lead = Lead::new(PERSONAL, "2026-01-01T00:00:00Z".parse().unwrap());
    lead.move_to("JUNK", lead.created);
    let lead = portal.sandbox.insert(lead).to_string();
    // A rule that asks for the text of it; what it asks for stands in the file, and may be told.
    let rules = rules().replace("stageId: JUNK", "stageId: JUNK, title: { empty: false }");
    let home = with_tokens(Home::new(&portal, &rules)).with("JANITOR_LOG_FORMAT", format);
    let mut seen = Seen::default();
    seen.run(&home, &["explain", &lead, "--json"]);
    busy(&mut seen, &home, &portal, CODE);
    seen.run(&home, &["export", "--csv"]);
    seen.run(&home, &["export", "--runs", "--jsonl"]);
    seen.assert_without(&[CODE, TOKEN, OTHER_TOKEN, ADMIN, "pl4nted wrong"]);
    // A lead's copy is in the database, and nowhere else.
    seen.0.retain(|(what, _)| !what.starts_with("janitor.db"));
    seen.assert_without(&[PERSONAL, "Wunderlich"]);
}

#[test]
fn a_busy_run_with_a_webhook_shows_no_secret_and_nothing_personal() {
    shows_no_secret_and_nothing_personal("text");
}

#[test]
fn a_busy_run_that_logs_in_json_shows_no_secret_and_nothing_personal() {
    shows_no_secret_and_nothing_personal("json");
}

#[test]
fn a_busy_run_with_an_application_shows_no_secret_and_stores_only_its_tokens() {
    let oauth = OauthApp {
        client_id: "local.1".to_owned(),
        client_secret: KEY.to_owned(),
        refresh_token: REFRESH.to_owned(),
    };
    let portal = Portal::start(SandboxOptions { leads: 40, oauth: Some(oauth), ..SandboxOptions::raised() });
    let webhook = portal.webhook();
    let base = webhook.split("/rest/").next().unwrap().to_owned();
    let home = with_tokens(Home::without_portal(&rules()))
        .with("B24_PORTAL_URL", &base)
        .with("B24_OAUTH_SERVER", &base)
        .with("B24_OAUTH_CLIENT_ID", "local.1")
        .with("B24_OAUTH_CLIENT_SECRET", KEY)
        .with("B24_OAUTH_REFRESH_TOKEN", REFRESH);
    let mut seen = Seen::default();
    busy(&mut seen, &home, &portal, KEY);
    seen.assert_without(&[KEY, TOKEN, OTHER_TOKEN, ADMIN]);
    // The database keeps the tokens, the one that was given included; nothing else may show one.
    seen.0.retain(|(what, _)| !what.starts_with("janitor.db"));
    seen.assert_without(&[REFRESH, "refresh00000001", "access00000001"]);
}

#[test]
fn a_portal_that_can_t_be_reached_gets_no_secret_into_an_error() {
    // A port that nobody listens on, and one that speaks no TLS and says so.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = plain.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in plain.incoming().map_while(Result::ok) {
            let mut stream = stream;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let mut seen = Seen::default();
    for url in [
        format!("http://{closed}/rest/1/{CODE}/"),
        format!("https://{closed}/rest/1/{CODE}/"),
        format!("https://{address}/rest/1/{CODE}/"),
        format!("https://name-that-does-not-exist.invalid/rest/1/{CODE}/"),
        format!("https://example.invalid/rest/1/{CODE}/profile.json"),
    ] {
        let home = with_tokens(Home::without_portal(JUNK)).with("B24_WEBHOOK_URL", &url);
        for args in [&["check", "--online"][..], &["status"]] {
            seen.run(&home, args);
        }
        files(&mut seen, &home);
    }
    let all: String = seen.0.iter().map(|(_, text)| String::from_utf8_lossy(text).into_owned()).collect();
    assert!(all.contains("refused"), "no refused connection was met");
    seen.assert_without(&[CODE, TOKEN, OTHER_TOKEN, ADMIN]);
}
