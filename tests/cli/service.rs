//! A process that runs until it is told to stop, its log, and waiting for things to happen.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::time::Instant;

use crate::home::Home;

/// Longer than anything takes that these tests wait for, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Waits until `look` finds something.
pub(crate) fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, look)
}

/// Waits until `look` finds something, at most so long.
pub(crate) fn within<T>(longest: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < longest, "waited {longest:?} for: {what}");
        thread::sleep(LOOK_EVERY);
    }
}

/// A running process; killed when this is dropped.
pub(crate) struct Process {
    child: Child,
    log: Arc<Mutex<String>>,
    followers: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts it and follows its standard output and standard error.
    pub(crate) fn start(mut command: Command) -> Process {
        let mut child = command.spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        // Either may be something else than a pipe to us.
        let out = child.stdout.take().map(|out| follow(out, Arc::clone(&log)));
        let err = child.stderr.take().map(|err| follow(err, Arc::clone(&log)));
        let followers = out.into_iter().chain(err).collect();
        Process { child, log, followers }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits for a line that holds this text, and returns the first.
    pub(crate) fn line(&mut self, text: &str) -> String {
        until(text, || {
            let ended = self.child.try_wait().unwrap().is_some();
            if ended {
                self.read_to_its_end();
            }
            let log = self.log();
            let found = log.lines().find(|line| line.contains(text)).map(str::to_owned);
            assert!(found.is_some() || !ended, "ended before `{text}`:\n{log}");
            found
        })
    }

    /// Sends a signal by its short name.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for its end.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let status = until("the end of the process", || self.child.try_wait().unwrap());
        self.read_to_its_end();
        status
    }

    fn read_to_its_end(&mut self) {
        self.followers.drain(..).for_each(|follower| follower.join().unwrap());
    }

    /// Kills it as a power loss would.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("the log of process {}:\n{}", self.pid(), self.log());
        }
    }
}

fn follow(from: impl Read + Send + 'static, log: Arc<Mutex<String>>) -> JoinHandle<()> {
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let mut log = log.lock().unwrap();
            log.push_str(&line);
            log.push('\n');
        }
    })
}

/// A running `serve` that has said it is ready.
pub(crate) struct Service {
    pub(crate) process: Process,
    pub(crate) public: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Service {
    pub(crate) fn start(home: &Home) -> Service {
        let args = ["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
        Service::from(home.command(&args))
    }

    pub(crate) fn from(command: Command) -> Service {
        let json = command.get_envs().any(|(name, value)| {
            name == "JANITOR_LOG_FORMAT" && value.is_some_and(|format| format == "json")
        });
        let mut process = Process::start(command);
        let [ready, public, admin] = match json {
            true => ["\"message\":\"ready\"", "\"listener\":\"public\"", "\"listener\":\"admin\""],
            false => [" ready ", "listener=\"public\"", "listener=\"admin\""],
        };
        process.line(ready);
        let (public, admin) = (address(&process.line(public)), address(&process.line(admin)));
        Service { process, public, admin }
    }

    /// Asks it to stop; it must end well.
    pub(crate) fn stop(mut self) -> String {
        self.process.signal("TERM");
        let status = self.process.ended();
        assert_eq!(status.code(), Some(0), "{}", self.process.log());
        self.process.log()
    }
}

/// The address in a line of the log, as text or JSON.
fn address(line: &str) -> SocketAddr {
    let told = line.split_once("\"address\":\"").or_else(|| line.split_once("address=")).unwrap().1;
    told.split(|c: char| c == '"' || c.is_whitespace()).next().unwrap().parse().unwrap()
}
