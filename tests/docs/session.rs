//! The blocks of a page as one session of `bash`, with the sandbox as the portal and a home of its own.
//!
//! Addresses and directories that the pages name are replaced by free ports and by directories of the session; `systemctl`
//! does nothing there. A command of ours must end with 0, or with the status that its comment names (`exit 3`).

use std::fs;
use std::net::TcpListener;
use std::process::Command;

use crate::pages::Page;

/// What is there before the first block.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// Nothing.
    Bare,
    /// A portal, rules of `init`, a database in which a run is held.
    WithDatabase,
}

const PRELUDE: &str = r#"
set -u
janitor=@program@
b24-janitor() {
    "$janitor" "$@"
    local status=$?
    [ "$status" = "${expect:-0}" ] || { echo "ended with $status: b24-janitor $*"; echo "$*" >>"$HOME/failures"; }
}
background() {
    "$janitor" "$@" >>"$HOME/background.log" 2>&1 &
    for _ in $(seq 400); do
        case $1 in
            serve) curl -fs "http://$JANITOR_LISTEN/healthz" >/dev/null && return ;;
            sandbox) curl -fs "http://@portal@/sandbox/stats" >/dev/null && return ;;
        esac
        read -rt 0.05 <> <(:) || true
    done
    echo "never ready: $*" >>"$HOME/failures"
}
systemctl() { :; }
trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT
export JANITOR_LISTEN=@public@ JANITOR_ADMIN_LISTEN=@admin@ TZ=UTC
cd "$HOME"
"#;

const DATABASE: &str = r#"
background sandbox --listen @portal@ --leads 2000
mkdir -p "$HOME/state" "$HOME/backups"
export B24_WEBHOOK_URL=http://@portal@/rest/1/sandboxcode/ B24_APPLICATION_TOKEN=sandbox-application-token
export JANITOR_DB=$HOME/state/janitor.db
b24-janitor init --no-wait
sed -i 's/# mode: delete/mode: delete/; s/max_matches: 1000/max_matches: 100/' rules.yaml
expect=3 b24-janitor run old-junk
"#;

fn free_ports() -> [String; 3] {
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().to_string())
}

fn line(line: &str) -> String {
    let expected =
        line.split_once("exit ").and_then(|(_, rest)| rest.get(..1)).filter(|_| line.contains('#'));
    match expected {
        _ if line.starts_with("b24-janitor sandbox") => {
            line.replacen("b24-janitor sandbox", "background sandbox --listen @portal@", 1)
        }
        _ if line.starts_with("b24-janitor serve") => line.replacen("b24-janitor", "background", 1),
        // A drill that nobody reads is none: a database that is not whole must fail.
        _ if line.contains("PRAGMA integrity_check") => {
            let command = line.split(" # ").next().unwrap().trim_end();
            format!(
                "[ \"$({command})\" = ok ] || echo 'not whole: {name}' >>\"$HOME/failures\"",
                name = "drill.db"
            )
        }
        Some(status) if line.starts_with("b24-janitor") => format!("expect={status} {line}"),
        Some(_) | None => line.to_owned(),
    }
}

/// Runs the blocks of a page that are to be run.
pub(crate) fn run(page: &str, start: Start) {
    for program in ["bash", "curl", "sqlite3"] {
        if Command::new(program).arg("--version").output().is_err() {
            return;
        }
    }
    let blocks: Vec<String> =
        Page::read(page).blocks("sh").filter(|block| block.run).map(|block| block.text).collect();
    assert!(!blocks.is_empty(), "{page} has nothing to run");
    let home = tempfile::tempdir().unwrap();
    let [sandbox, public, admin] = free_ports();
    let mut script = PRELUDE.to_owned();
    if start == Start::WithDatabase {
        script.push_str(DATABASE);
    }
    for text in blocks.iter().flat_map(|block| block.lines()) {
        script.push_str(&line(text));
        script.push('\n');
    }
    let state = home.path().join("state").display().to_string();
    let program = assert_cmd::cargo::cargo_bin!("b24-janitor").display().to_string();
    let script = script
        .replace("127.0.0.1:8090", &sandbox)
        .replace("127.0.0.1:8080", &public)
        .replace("@portal@", &sandbox)
        .replace("@public@", &public)
        .replace("@admin@", &admin)
        .replace("@program@", &program)
        .replace("/var/lib/b24-janitor", &state)
        .replace("/var/backups", &home.path().join("backups").display().to_string());
    let output = Command::new("bash")
        .args(["-c", &script])
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .env("HOME", home.path())
        .env("TMPDIR", home.path())
        .output()
        .unwrap();
    let told =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let failures = fs::read_to_string(home.path().join("failures")).unwrap_or_default();
    assert!(failures.is_empty(), "{page}:\n{failures}\nthe session:\n{told}");
    assert!(!told.contains("command not found") && !told.contains("No such file"), "{page}:\n{told}");
}
