//! Sockets from systemd and notifications to it. Both speak through the environment of a process, so each test starts
//! this binary again with one ignored test as the service.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use b24_janitor::http::{listen, notify};

/// Puts two inherited sockets where systemd would, as descriptors 3 and 4, and becomes the program given as arguments.
const AS_SYSTEMD_DOES: &str = "exec 3<&0 4<&1 0</dev/null 1>&2; LISTEN_FDS=2 LISTEN_PID=$$ exec \"$@\"";

fn service(test: &str) -> Vec<String> {
    let program = std::env::current_exe().unwrap().into_os_string().into_string().unwrap();
    vec![program, "--exact".into(), format!("systemd::{test}"), "--ignored".into(), "--nocapture".into()]
}

fn succeeded(output: &Output) -> String {
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    text
}

#[test]
fn sockets_from_systemd_are_the_public_one_and_then_the_admin_one() {
    let public = TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = TcpListener::bind("127.0.0.1:0").unwrap();
    let expected = format!("public={} admin={}", public.local_addr().unwrap(), admin.local_addr().unwrap());
    let output = Command::new("sh")
        .args(["-c", AS_SYSTEMD_DOES, "sh"])
        .args(service("started_with_sockets"))
        .stdin(Stdio::from(OwnedFd::from(public)))
        .stdout(Stdio::from(OwnedFd::from(admin)))
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let text = succeeded(&output);
    assert!(text.contains(&expected), "{expected} is not in\n{text}");
}

#[tokio::test]
#[ignore = "the service of `sockets_from_systemd_are_the_public_one_and_then_the_admin_one`"]
async fn started_with_sockets() {
    let (public, admin) = listen::from_systemd().unwrap();
    let address = |listener: Option<tokio::net::TcpListener>| listener.unwrap().local_addr().unwrap();
    eprintln!("public={} admin={}", address(public), address(admin));
}

#[tokio::test]
async fn without_systemd_there_are_no_sockets_and_notifying_does_nothing() {
    let (public, admin) = listen::from_systemd().unwrap();
    assert!(public.is_none() && admin.is_none());
    notify::ready();
    assert_eq!(notify::watchdog_interval(), None);
}

#[test]
fn systemd_is_told_in_its_own_words() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let service = service("started_with_notify_socket");
    let output = Command::new(&service[0])
        .args(&service[1..])
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "60000000")
        .output()
        .unwrap();
    let text = succeeded(&output);
    assert!(text.contains("interval=Some(30s)"), "{text}");
    let mut told = Vec::new();
    for _ in 0..6 {
        let mut bytes = [0; 1024];
        let length = socket.recv(&mut bytes).unwrap();
        told.push(String::from_utf8(bytes[..length].to_vec()).unwrap());
    }
    assert_eq!(told[0], "READY=1\n");
    assert_eq!(told[1], "STATUS=3 jobs waiting READY=1\n", "a line break would be another assignment");
    assert_eq!(told[2], "WATCHDOG=1\n");
    let since_boot = told[3].strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().trim_end();
    assert!(since_boot.parse::<u64>().unwrap() > 0);
    assert_eq!(told[4..], ["READY=1\n", "STOPPING=1\n"]);
}

#[test]
#[ignore = "the service of `systemd_is_told_in_its_own_words`"]
fn started_with_notify_socket() {
    notify::ready();
    notify::status("3 jobs waiting\nREADY=1");
    notify::watchdog();
    notify::reloading();
    notify::ready();
    notify::stopping();
    eprintln!("interval={:?}", notify::watchdog_interval());
}

#[test]
fn the_socket_unit_lists_the_public_address_first_and_the_service_takes_its_sockets() {
    let socket = include_str!("../../systemd/b24-janitor.socket");
    let addresses: Vec<&str> = socket.lines().filter_map(|line| line.strip_prefix("ListenStream=")).collect();
    assert_eq!(addresses, ["127.0.0.1:8080", "127.0.0.1:8081"]);
    let service = include_str!("../../systemd/b24-janitor.service");
    for line in ["Sockets=b24-janitor.socket", "Type=notify", "RestartPreventExitStatus=2"] {
        assert!(service.lines().any(|l| l == line), "{line}");
    }
}
