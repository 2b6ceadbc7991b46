//! Attacks on the event listener of the real process, over real sockets: what each is answered, that a valid event still
//! gets its 200 right after it, and what it leaves behind in memory and descriptors. The table is the test's output.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use crate::home::{Home, JUNK};
use crate::http::{self, FORM, TOKEN};
use crate::portal::Portal;
use crate::service::{Service, until};

/// Connections of the attacks that open many: well over what a portal opens, well under what a process may.
const MANY: usize = 300;

/// What the whole series may add to the process's memory, in KiB. It is the allocator's and SQLite's ease, not a leak's
/// size: a listener that held 64 KiB for every connection would be far over.
const MAX_GROWTH_KIB: u64 = 48 * 1024;

/// A status that stands for a connection that was closed without an answer.
const CLOSED: u16 = 0;

struct Attack {
    name: &'static str,
    bytes: Vec<u8>,
    /// The statuses of all answers on the connection, in order.
    answers: &'static [u16],
}

fn attack(name: &'static str, bytes: impl Into<Vec<u8>>, answers: &'static [u16]) -> Attack {
    Attack { name, bytes: bytes.into(), answers }
}

/// A POST with these further header lines.
fn post(headers: &str, body: &str) -> String {
    format!("POST /bitrix24/events HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM}\r\n{headers}\r\n{body}")
}

fn sized(body: &str) -> String {
    post(&format!("Content-Length: {}\r\nConnection: close\r\n", body.len()), body)
}

fn attacks() -> Vec<Attack> {
    let event = http::event("ONCRMLEADADD", 7, TOKEN);
    let length = event.len();
    let hidden = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    let keys: String = (0..10_000).map(|key| format!("{key:x}=&")).collect();
    let chunk = format!("{length:x}\r\n{event}\r\n0\r\n\r\n");
    let chunked = "Transfer-Encoding: chunked\r\n";
    let two = format!("{}{}", post(&format!("Content-Length: {length}\r\n"), &event), sized(&event));
    let pipelined = format!("{}{}", "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n".repeat(99), sized(&event));
    vec![
        attack("a stray % in the body", sized("event=%zz&a=%"), &[400]),
        attack("bytes that are no UTF-8", sized("event=%ff%fe"), &[400]),
        attack("10,000 keys", sized(&keys), &[400]),
        attack("nested keys", sized(&format!("a{}=1", "[x]".repeat(20_000))), &[403]),
        attack("a key twice", sized(&format!("{event}&auth[application_token]={TOKEN}")), &[400]),
        attack("a body of 100 KiB", sized(&"x=1&".repeat(25 * 1024)), &[413]),
        attack("an announced exabyte", post("Content-Length: 1152921504606846976\r\n\r\n", ""), &[413]),
        attack(
            "100 KiB in chunks",
            post(chunked, &format!("19000\r\n{}\r\n0\r\n\r\n", "x".repeat(0x19000))),
            &[413],
        ),
        attack(
            "Content-Length and Transfer-Encoding",
            post(&format!("Content-Length: 4\r\n{chunked}"), &format!("{chunk}{hidden}")),
            &[200],
        ),
        attack(
            "two lengths that differ",
            post(&format!("Content-Length: {length}\r\nContent-Length: 5\r\n"), &event),
            &[400],
        ),
        attack("a list of lengths", post(&format!("Content-Length: {length}, 5\r\n"), &event), &[400]),
        attack("a length with a sign", post(&format!("Content-Length: +{length}\r\n"), &event), &[400]),
        attack("an unknown transfer encoding", post("Transfer-Encoding: xchunked\r\n", &chunk), &[400]),
        attack("chunked, but not last", post("Transfer-Encoding: chunked, identity\r\n", &chunk), &[400]),
        attack("a folded header", post("X: a\r\n b\r\nContent-Length: 0\r\n", ""), &[400]),
        attack("a blank before the colon", post(&format!("Content-Length : {length}\r\n"), &event), &[400]),
        attack("a null byte in a header", post("X: a\0b\r\nContent-Length: 0\r\n", ""), &[400]),
        attack(
            "a chunk's extension of 20 KiB",
            post(chunked, &format!("1;{}\r\nx\r\n0\r\n\r\n", "a".repeat(20_000))),
            &[400],
        ),
        attack("a chunk's size that overflows", post(chunked, "fffffffffffffffff\r\nx"), &[400]),
        attack("no number as a chunk's size", post(chunked, "zz\r\nx\r\n0\r\n\r\n"), &[400]),
        attack(
            "trailers of 20 KiB",
            post(chunked, &format!("0\r\nX: {}\r\n\r\n", "a".repeat(20_000))),
            &[400],
        ),
        attack("a header of 64 KiB", post(&format!("X: {}\r\n", "a".repeat(64 * 1024)), ""), &[431]),
        attack("200 headers", post(&"X: y\r\n".repeat(200), ""), &[431]),
        attack(
            "an address of 60 KiB",
            format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(60_000)),
            &[431],
        ),
        attack("no HTTP at all", "\x16\x03\x01\x02\x00\x01\x00\x01\x7f\x03\x03", &[400]),
        attack("HTTP/2 by prior knowledge", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[400]),
        attack("line feeds alone", sized(&event).replace("\r\n", "\n"), &[200]),
        attack("two events in a pipeline", two, &[200, 200]),
        attack("100 requests in a pipeline", pipelined, &[200; 100]),
        attack("the wrong type", sized(&event).replace(FORM, "text/plain"), &[415]),
        attack("no token", sized("event=ONCRMLEADADD&data[FIELDS][ID]=7"), &[403]),
    ]
}

/// Sends everything, half-closes, and reads the statuses of all answers.
fn launch(address: SocketAddr, bytes: &[u8]) -> Vec<u16> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    // The listener may hang up before it has everything.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut part) {
        answer.extend_from_slice(&part[..read]);
    }
    let text = String::from_utf8_lossy(&answer);
    let statuses: Vec<u16> = text.split("HTTP/1.1 ").skip(1).map(|rest| rest[..3].parse().unwrap()).collect();
    if statuses.is_empty() { vec![CLOSED] } else { statuses }
}

/// Resident memory in KiB, and open descriptors.
fn footprint(pid: u32) -> (u64, usize) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    let resident = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    (resident, fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count())
}

#[test]
fn each_attack_is_answered_and_a_valid_event_is_taken_after_it() {
    let portal = Portal::with_leads(10);
    let home = Home::new(&portal, JUNK).with("B24_APPLICATION_TOKEN", TOKEN).with("JANITOR_LOG", "trace");
    let mut service = Service::start(&home);
    let pid = service.process.pid();
    let valid = || {
        let event = http::event("ONCRMLEADADD", 7, TOKEN);
        assert_eq!(http::post(service.public, "/bitrix24/events", FORM, &event).0, 200);
    };
    valid();
    let first = footprint(pid);
    let mut table = vec![format!(
        "{:<40} {:<14} {:>8} {:>8} {:>4} {:>4}",
        "attack", "answer", "KiB", "after", "fds", "after"
    )];
    let mut wrong = Vec::new();
    let mut row = |name: &str, answers: &str, before: (u64, usize)| {
        let after = until("the attack's descriptors to close", || {
            let after = footprint(pid);
            (after.1 <= first.1 + 2).then_some(after)
        });
        table.push(format!(
            "{name:<40} {answers:<14} {:>8} {:>8} {:>4} {:>4}",
            before.0, after.0, before.1, after.1
        ));
    };
    for attack in attacks() {
        let before = footprint(pid);
        let answers = launch(service.public, &attack.bytes);
        valid();
        let shown = match answers.as_slice() {
            [CLOSED] => "closed".to_owned(),
            [one] => one.to_string(),
            many => format!("{} × {}", many.len(), many[0]),
        };
        row(attack.name, &shown, before);
        assert!(!answers.contains(&404), "{}: a request was smuggled", attack.name);
        // A reset can overtake an answer to bytes that nobody reads.
        let hung_up = answers == [CLOSED] && attack.answers[0] >= 400;
        if answers != attack.answers && !hung_up {
            wrong.push(format!("{}: {answers:?} instead of {:?}", attack.name, attack.answers));
        }
    }

    let before = footprint(pid);
    let half = post("Content-Length: 600\r\n", "event=ONCRMLEADADD");
    let slow: Vec<TcpStream> = (0..MANY)
        .map(|number| {
            let mut stream = TcpStream::connect(service.public).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            // Thirds: nothing, half a head, half a body.
            let bytes: &[u8] = [b"".as_slice(), b"POST /bitrix24/ev", half.as_bytes()][number % 3];
            stream.write_all(bytes).unwrap();
            stream
        })
        .collect();
    valid();
    for mut stream in slow {
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        if !(answer.is_empty() || answer.starts_with("HTTP/1.1 408 ")) {
            wrong.push(format!("slow: {answer}"));
        }
    }
    row("300 slow-loris connections", "closed or 408", before);

    let before = footprint(pid);
    let guess = sized("event=ONCRMLEADADD&auth[application_token]=s3cr3tguess");
    for _ in 0..MANY {
        if launch(service.public, guess.as_bytes()) != [403] {
            wrong.push("a guess was not answered 403".to_owned());
        }
        valid();
    }
    row("300 guesses of the token", "300 × 403", before);

    eprintln!("{}", table.join("\n"));
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), table.join("\n"));
    let last = footprint(pid);
    assert!(last.0 < first.0 + MAX_GROWTH_KIB, "from {first:?} to {last:?}");
    service.process.signal("TERM");
    service.process.ended();
    let log = service.process.log();
    for private in [TOKEN, "s3cr3tguess", "some-domain", "ONCRMLEADADD&"] {
        assert!(!log.contains(private), "the log at trace level shows {private}");
    }
}
