//! The programs that are measured, each a process of its own: this one again, as the service or as the bare handler, or
//! nginx where it is installed.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::time::Instant;

use anyhow::{Context, Result, bail};
use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::post;

use crate::load::TOKEN;

/// The variable that makes this program one of the others.
pub(crate) const ROLE: &str = "JANITOR_BENCH_ROLE";

/// How long a program may take until it answers.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running program; it ends with this value.
pub(crate) struct Running {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    /// From its start until it answered, in milliseconds.
    pub ready_after: f64,
}

impl Running {
    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end, and waits.
    pub(crate) fn stop(mut self) -> Result<()> {
        Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status()?;
        let asked = Instant::now();
        while self.child.try_wait()?.is_none() {
            if asked.elapsed() > PATIENCE {
                bail!("the program did not end");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// If this process was started as one of the programs, what became of it.
pub(crate) fn role() -> Option<Result<()>> {
    match std::env::var(ROLE).ok()?.as_str() {
        "bare" => Some(bare()),
        "service" => {
            use clap::Parser;
            let cli = b24_janitor::cli::Cli::parse();
            Some(match b24_janitor::commands::run(cli) {
                code if code == std::process::ExitCode::SUCCESS => Ok(()),
                code => Err(anyhow::anyhow!("{code:?}")),
            })
        }
        other => Some(Err(anyhow::anyhow!("no such role: {other}"))),
    }
}

/// What an axum handler costs that reads the body, finds the token and does nothing else.
fn bare() -> Result<()> {
    let address: SocketAddr = std::env::args().nth(1).context("an address")?.parse()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(address).await?;
        let router = Router::new().route(
            "/bitrix24/events",
            post(async |body: Bytes| {
                let pairs: Vec<(String, String)> = match serde_urlencoded::from_bytes(&body) {
                    Ok(pairs) => pairs,
                    Err(_) => return (StatusCode::BAD_REQUEST, "no form\n"),
                };
                match pairs.iter().any(|(key, value)| key == "auth[application_token]" && value == TOKEN) {
                    true => (StatusCode::OK, "ok\n"),
                    false => (StatusCode::FORBIDDEN, "no\n"),
                }
            }),
        );
        axum::serve(listener, router).await?;
        Ok(())
    })
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn start(mut command: Command, address: SocketAddr) -> Result<Running> {
    let started = Instant::now();
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let mut running = Running { child, address, ready_after: 0.0 };
    loop {
        if std::net::TcpStream::connect(address).is_ok() {
            running.ready_after = started.elapsed().as_secs_f64() * 1000.0;
            return Ok(running);
        }
        if let Some(status) = running.child.try_wait()? {
            bail!("{command:?} ended at once: {status}");
        }
        if started.elapsed() > PATIENCE {
            bail!("{command:?} does not answer");
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// The bare handler.
pub(crate) fn bare_handler() -> Result<Running> {
    let address = free_address()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.env(ROLE, "bare").arg(address.to_string());
    start(command, address)
}

/// The service as it is installed, with its database and rules in `dir`.
pub(crate) fn service(dir: &Path, webhook: &str) -> Result<Running> {
    let address = free_address()?;
    let mut command = Command::new(std::env::current_exe()?);
    command
        .env(ROLE, "service")
        .env("B24_WEBHOOK_URL", webhook)
        .env("B24_APPLICATION_TOKEN", TOKEN)
        .arg("serve")
        .args(["--listen", &address.to_string(), "--admin-listen", "off", "--log", "warn"])
        .arg("--db")
        .arg(dir.join("bench.db"))
        .arg("--rules")
        .arg(dir.join("rules.yaml"));
    start(command, address)
}

/// nginx that answers 200 to everything, where it is installed.
pub(crate) fn nginx(dir: &Path) -> Result<Option<Running>> {
    let program =
        ["/usr/sbin/nginx", "/usr/bin/nginx"].into_iter().map(PathBuf::from).find(|path| path.exists());
    let Some(program) = program else { return Ok(None) };
    let address = free_address()?;
    let config = dir.join("nginx.conf");
    std::fs::write(
        &config,
        format!(
            "daemon off; master_process off; worker_processes 1; pid {dir}/nginx.pid; error_log {dir}/nginx.log;\n\
             events {{ worker_connections 1024; }}\n\
             http {{ access_log off; keepalive_requests 100000000; client_body_temp_path {dir}/nginx-body;\n\
             proxy_temp_path {dir}/nginx-1; fastcgi_temp_path {dir}/nginx-2; uwsgi_temp_path {dir}/nginx-3;\n\
             scgi_temp_path {dir}/nginx-4; server {{ listen {address}; location / {{ return 200 'ok'; }} }} }}\n",
            dir = dir.display()
        ),
    )?;
    let mut command = Command::new(program);
    command.arg("-c").arg(config);
    start(command, address).map(Some)
}
