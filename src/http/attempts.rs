//! How often an address presented a wrong token lately.
//!
//! It never decides about a right one at the public listener: behind a reverse proxy all senders share an address, and
//! an event that is refused is lost. Limits: [`MAX_FAILURES`] in [`WINDOW`], `MAX_ADDRESSES` remembered.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The failures of an address in a [`WINDOW`] that are answered patiently: a person who mistypes, and a portal whose
/// webhook was replaced, stay below.
pub const MAX_FAILURES: u32 = 20;

/// How long failures count, from the first one.
pub const WINDOW: Duration = Duration::from_secs(60);

/// The most addresses that are remembered, 100 bytes each; past it the oldest window is forgotten.
const MAX_ADDRESSES: usize = 4096;

/// Where a connection comes from; in the extensions of every request that came over a socket.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) IpAddr);

/// Failures by address.
#[derive(Default)]
pub(super) struct Attempts(Mutex<HashMap<IpAddr, (Instant, u32)>>);

impl Attempts {
    /// Counts a failure. Whether the address is past the limit now.
    pub(super) fn failed(&self, peer: Option<Peer>) -> bool {
        let (from, now) = (source(peer), Instant::now());
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if windows.len() >= MAX_ADDRESSES && !windows.contains_key(&from) {
            let oldest = windows.iter().min_by_key(|(_, (start, _))| *start).map(|(from, _)| *from);
            oldest.map(|oldest| windows.remove(&oldest));
        }
        let window = windows.entry(from).or_insert((now, 0));
        if now.duration_since(window.0) >= WINDOW {
            *window = (now, 0);
        }
        window.1 = window.1.saturating_add(1);
        window.1 > MAX_FAILURES
    }

    /// Whether the address has used up its failures.
    pub(super) fn exhausted(&self, peer: Option<Peer>) -> bool {
        let windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        windows
            .get(&source(peer))
            .is_some_and(|(start, count)| start.elapsed() < WINDOW && *count >= MAX_FAILURES)
    }
}

/// Whom failures are counted for: an IPv4 address, or the /64 that one customer has of IPv6. Requests that came over no
/// socket share one.
fn source(peer: Option<Peer>) -> IpAddr {
    match peer.map(|peer| peer.0.to_canonical()) {
        Some(IpAddr::V6(address)) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)))
        }
        Some(address @ IpAddr::V4(_)) => address,
        None => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(text: &str) -> Option<Peer> {
        Some(Peer(text.parse().unwrap()))
    }

    #[tokio::test(start_paused = true)]
    async fn failures_count_by_address_and_for_a_minute() {
        let attempts = Attempts::default();
        for _ in 0..MAX_FAILURES {
            assert!(!attempts.exhausted(peer("192.0.2.1")));
            assert!(!attempts.failed(peer("192.0.2.1")));
        }
        assert!(attempts.exhausted(peer("::ffff:192.0.2.1")) && attempts.failed(peer("192.0.2.1")));
        assert!(!attempts.exhausted(peer("192.0.2.2")) && !attempts.failed(peer("192.0.2.2")));
        tokio::time::advance(WINDOW).await;
        assert!(!attempts.exhausted(peer("192.0.2.1")) && !attempts.failed(peer("192.0.2.1")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_customers_ipv6_addresses_count_together_and_memory_is_bounded() {
        let attempts = Attempts::default();
        for host in 0..=MAX_FAILURES {
            assert_eq!(attempts.failed(peer(&format!("2001:db8::{host:x}"))), host == MAX_FAILURES);
        }
        for network in 0..2 * MAX_ADDRESSES {
            attempts.failed(peer(&format!("2001:db8:1:{network:x}::1")));
        }
        assert_eq!(attempts.0.lock().unwrap().len(), MAX_ADDRESSES);
    }
}
