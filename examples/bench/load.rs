//! A sender of events: so many connections, each sends its next event when the one before is answered.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What a load met.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Met {
    /// Answers of 200 a second.
    pub per_second: f64,
    /// The median time to an answer, in milliseconds.
    pub p50: f64,
    /// Of a hundred answers the slowest, in milliseconds.
    pub p99: f64,
    /// How many events were answered 200.
    pub answered: u64,
}

/// The token that the events carry.
pub(crate) const TOKEN: &str = "benchbenchbenchbenchbenchbench00";

/// The body of an event as the portal sends it, for this lead.
pub(crate) fn body(lead: u64) -> String {
    format!(
        "event=ONCRMLEADUPDATE&event_handler_id=5&data%5BFIELDS%5D%5BID%5D={lead:08}&ts=1736405807\
         &auth%5Bdomain%5D=some-domain.bitrix24.com&auth%5Bclient_endpoint%5D=https%3A%2F%2Fsome-domain.bitrix24.com%2Frest%2F\
         &auth%5Bserver_endpoint%5D=https%3A%2F%2Foauth.bitrix.info%2Frest%2F\
         &auth%5Bmember_id%5D=a223c6b3710f85df22e9377d6c4f7553&auth%5Bapplication_token%5D={TOKEN}"
    )
}

fn request(lead: u64) -> Vec<u8> {
    let body = body(lead);
    format!(
        "POST /bitrix24/events HTTP/1.1\r\nHost: janitor.example\r\nUser-Agent: Bitrix24 Webhook Engine\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Sends events of different leads, from `first` on, for `time` over `connections`.
pub(crate) async fn load(
    address: SocketAddr,
    connections: u64,
    time: Duration,
    first: u64,
    leads: u64,
) -> Result<Met> {
    let begun = Instant::now();
    let senders: Vec<_> = (0..connections)
        .map(|index| tokio::spawn(sender(address, begun + time, first, leads, index, connections)))
        .collect();
    let mut took: Vec<u32> = Vec::new();
    for sender in senders {
        took.extend(sender.await??);
    }
    let seconds = begun.elapsed().as_secs_f64();
    took.sort_unstable();
    let at = |share: f64| {
        let index = (took.len() as f64 * share) as usize;
        f64::from(took.get(index.min(took.len().saturating_sub(1))).copied().unwrap_or_default()) / 1000.0
    };
    Ok(Met {
        per_second: took.len() as f64 / seconds,
        p50: at(0.5),
        p99: at(0.99),
        answered: took.len() as u64,
    })
}

/// One connection; how long each answer took, in microseconds.
async fn sender(
    address: SocketAddr,
    until: Instant,
    first: u64,
    leads: u64,
    index: u64,
    step: u64,
) -> Result<Vec<u32>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut took = Vec::new();
    let mut answer = Vec::with_capacity(1024);
    let mut sent = index;
    while Instant::now() < until {
        let request = request(first + sent % leads);
        sent += step;
        let started = Instant::now();
        stream.write_all(&request).await?;
        answer.clear();
        while !is_whole(&answer)? {
            if stream.read_buf(&mut answer).await? == 0 {
                bail!("the connection was closed");
            }
        }
        took.push(u32::try_from(started.elapsed().as_micros()).unwrap_or(u32::MAX));
    }
    Ok(took)
}

/// Whether this is a whole answer of 200; an error for any other.
fn is_whole(answer: &[u8]) -> Result<bool> {
    let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(false) };
    let head = std::str::from_utf8(answer.get(..end).unwrap_or_default())?;
    if !head.starts_with("HTTP/1.1 200") {
        bail!("{}", head.lines().next().unwrap_or_default());
    }
    let length = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .context("an answer without its length")?;
    Ok(answer.len() >= end + 4 + length.1.trim().parse::<usize>()?)
}
