//! How fast requests may go out: the portal's leaky bucket, kept on our side of the wire.
//!
//! The portal's bucket holds `burst` requests and drains at `rate` a second; a request that finds it full is answered
//! 503 (<https://apidocs.bitrix24.com/limits.html>). The invariant: in any window of `t` seconds at most
//! `burst + rate·t` places are given, whatever the calls; a place is taken when it is reserved, not when the answer is
//! there, so requests in flight count; and capacity that is free is given at once.
//!
//! A 503 in spite of that means that others share the address: the rate is halved, everything pauses for a moment
//! that grows, and the rate comes back by equal steps.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// By how much the way of one request to the portal may differ from another's. Two requests sent apart can arrive
/// together, so as many places as drain in this time stay unused. Half a second covers a TLS handshake that one has to
/// make and the other has not.
const JITTER: SignedDuration = SignedDuration::from_millis(500);

/// At most this share of the burst is given up for [`JITTER`], so that a small burst remains usable.
const LARGEST_MARGIN: f64 = 0.25;

/// The first pause after a 503: at the slowest plan's rate two places have drained by then.
const FIRST_PAUSE: SignedDuration = SignedDuration::from_secs(1);

/// The longest pause after a 503. The bucket of the slowest plan is empty again after 25 s without traffic.
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_secs(30);

/// After this long without a 503 the pauses begin again with [`FIRST_PAUSE`].
const CALM: SignedDuration = SignedDuration::from_secs(60);

/// The smallest share of the configured rate: four halvings. Below it waiting is no longer pacing but an outage.
const SMALLEST_SHARE: f64 = 1.0 / 16.0;

/// How much of the configured rate comes back a second: a halved rate is whole again after a minute.
const RECOVERY_PER_SECOND: f64 = 1.0 / 120.0;

/// The bucket as a value. Times are arguments; a time before the last one counts as the last one.
///
/// ```
/// use b24_janitor::core::pace::Bucket;
/// use jiff::Timestamp;
///
/// // Four places, of which two drain a second; one stays unused, since requests overtake each other on their way.
/// let mut bucket = Bucket::new(2.0, 4);
/// let now: Timestamp = "2026-11-25T12:00:00Z".parse().unwrap();
/// let sent: Vec<Timestamp> = (0..5).map(|_| bucket.reserve(now)).collect();
/// assert_eq!(sent.iter().filter(|at| **at == now).count(), 3);
/// assert!(now < sent[3] && sent[3] < sent[4]);
/// ```
///
/// ```
/// use b24_janitor::core::pace::Bucket;
/// use jiff::Timestamp;
///
/// let now: Timestamp = "2026-11-25T12:00:00Z".parse().unwrap();
/// let mut bucket = Bucket::new(2.0, 50);
/// let sent: Vec<Timestamp> = (0..51).map(|_| bucket.reserve(now)).collect();
/// assert!(sent[..20].iter().all(|at| *at == now), "a burst goes out at once");
/// assert!(sent[50] > now, "then the rate counts");
/// ```
#[derive(Debug, Clone)]
pub struct Bucket {
    rate: f64,
    burst: f64,
    /// How many places were full at `at`.
    level: f64,
    at: Option<Timestamp>,
    /// Which part of `rate` is used, at `at`.
    share: f64,
    refusals: u32,
    refused_at: Option<Timestamp>,
    paused_until: Option<Timestamp>,
}

/// What of a [`Bucket`] outlives its process, in places and in seconds from the moment it was saved. Read from a file,
/// so nothing in it is believed beyond what a bucket can be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SavedBucket {
    level: f64,
    /// How long after that moment the level is reached: places may be given for later.
    ahead: f64,
    share: f64,
    refusals: u32,
    refused_ago: Option<f64>,
    paused_for: f64,
}

/// How long ahead a place may have been given, for a file that says nonsense: a pause and a burst at the slowest share.
const FARTHEST_AHEAD: f64 = 600.0;

impl Bucket {
    /// An empty bucket that drains `rate` requests a second (more than 0) and holds `burst` of them (at least 1).
    pub fn new(rate: f64, burst: u32) -> Bucket {
        Bucket {
            rate: usable_rate(rate),
            burst: f64::from(burst.max(1)),
            level: 0.0,
            at: None,
            share: 1.0,
            refusals: 0,
            refused_at: None,
            paused_until: None,
        }
    }

    /// Takes a place and says when its request may be sent: `now` where capacity is free, else as soon as it will be.
    /// The answers never go back in time.
    pub fn reserve(&mut self, now: Timestamp) -> Timestamp {
        let at = self.earliest(now);
        self.settle(at);
        self.level = (self.level + 1.0).min(self.capacity());
        at
    }

    /// When a place reserved at `now` would be; takes nothing.
    pub fn earliest(&self, now: Timestamp) -> Timestamp {
        let start = self.at.map_or(now, |at| at.max(now));
        let start = self.paused_until.map_or(start, |until| until.max(start));
        let over = self.level_at(start) + 1.0 - self.capacity();
        if over <= 0.0 {
            return start;
        }
        let rate = self.rate * self.share_at(start);
        // One nanosecond more than the division says: rounding must not hand out a place too early.
        later(start, over / rate, SignedDuration::from_nanos(1))
    }

    /// The portal answered 503 at `now`. Refusals during a pause belong to the one that began it: they are the other
    /// requests that were in flight.
    pub fn refused(&mut self, now: Timestamp) {
        if self.paused_until.is_some_and(|until| now < until) {
            return;
        }
        self.settle(now);
        if self.refused_at.is_none_or(|last| now.duration_since(last) > CALM) {
            self.refusals = 0;
        }
        let pause = FIRST_PAUSE.saturating_mul(1_i32 << self.refusals.min(5)).min(LONGEST_PAUSE);
        self.refusals = self.refusals.saturating_add(1);
        self.refused_at = Some(now);
        self.share = (self.share / 2.0).max(SMALLEST_SHARE);
        self.level = self.level.max(self.capacity());
        self.paused_until = Some(now.checked_add(pause).unwrap_or(Timestamp::MAX));
    }

    /// Other limits from `now` on; what has been taken stays taken.
    pub fn set_limits(&mut self, rate: f64, burst: u32, now: Timestamp) {
        self.settle(now);
        self.rate = usable_rate(rate);
        self.burst = f64::from(burst.max(1));
    }

    /// What is to be kept at `now`.
    pub fn saved(&self, now: Timestamp) -> SavedBucket {
        let mut settled = self.clone();
        settled.settle(now);
        let from_now = |at: Timestamp| at.duration_since(now).as_secs_f64();
        SavedBucket {
            level: settled.level,
            ahead: settled.at.map_or(0.0, from_now),
            share: settled.share,
            refusals: settled.refusals,
            refused_ago: settled.refused_at.map(|at| -from_now(at)),
            paused_for: settled.paused_until.map_or(0.0, from_now).max(0.0),
        }
    }

    /// Goes on at `now` from what was saved at `saved_at`. If `more_was_sent`, nobody knows how much since then: the
    /// bucket is full at `now`, which no bucket that keeps its invariant can surpass.
    pub fn restore(&mut self, saved: &SavedBucket, saved_at: Timestamp, now: Timestamp, more_was_sent: bool) {
        let none = SignedDuration::ZERO;
        self.level = within(saved.level, 0.0, self.capacity()).unwrap_or(self.capacity());
        self.share = within(saved.share, SMALLEST_SHARE, 1.0).unwrap_or(SMALLEST_SHARE);
        self.at = Some(later(saved_at, within(saved.ahead, 0.0, FARTHEST_AHEAD).unwrap_or(0.0), none));
        self.refusals = saved.refusals;
        let ago = saved.refused_ago.and_then(|ago| SignedDuration::try_from_secs_f64(ago).ok());
        self.refused_at = ago.and_then(|ago| saved_at.checked_sub(ago).ok());
        let pause = within(saved.paused_for, 0.0, LONGEST_PAUSE.as_secs_f64()).unwrap_or(0.0);
        self.paused_until = (pause > 0.0).then(|| later(saved_at, pause, none));
        if more_was_sent {
            self.settle(now);
            self.level = self.capacity();
        }
    }

    /// The part of the configured rate that is in use at `now`, 1/16 to 1.
    pub fn share(&self, now: Timestamp) -> f64 {
        self.share_at(self.at.map_or(now, |at| at.max(now)))
    }

    /// How many places are free at `now`; 0 during a pause.
    pub fn free(&self, now: Timestamp) -> f64 {
        let start = self.at.map_or(now, |at| at.max(now));
        if self.paused_until.is_some_and(|until| until > start) {
            return 0.0;
        }
        (self.capacity() - self.level_at(start)).max(0.0)
    }

    /// Until when nothing is sent because the portal answered 503, if that is later than `now`.
    pub fn paused_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.paused_until.filter(|until| now < *until)
    }

    /// How many places are taken at `now`.
    pub fn level(&self, now: Timestamp) -> f64 {
        self.level_at(self.at.map_or(now, |at| at.max(now)))
    }

    /// How many places we use: the burst without the margin for [`JITTER`].
    fn capacity(&self) -> f64 {
        let margin = (self.rate * JITTER.as_secs_f64()).min(self.burst * LARGEST_MARGIN);
        (self.burst - margin).max(1.0)
    }

    fn settle(&mut self, now: Timestamp) {
        let now = self.at.map_or(now, |at| at.max(now));
        let (level, share) = (self.level_at(now), self.share_at(now));
        (self.level, self.share, self.at) = (level, share, Some(now));
    }

    fn elapsed(&self, now: Timestamp) -> f64 {
        self.at.map_or(0.0, |at| now.duration_since(at).as_secs_f64().max(0.0))
    }

    fn share_at(&self, now: Timestamp) -> f64 {
        (self.share + RECOVERY_PER_SECOND * self.elapsed(now)).min(1.0)
    }

    /// The level at `now`: what drains is the integral of the share, which grows evenly until it is whole.
    fn level_at(&self, now: Timestamp) -> f64 {
        let elapsed = self.elapsed(now);
        let growing = elapsed.min((1.0 - self.share) / RECOVERY_PER_SECOND);
        let grown = self.share * growing + RECOVERY_PER_SECOND * growing * growing / 2.0;
        (self.level - self.rate * (grown + (elapsed - growing))).max(0.0)
    }
}

/// A rate that can be divided by: settings have refused all others before.
fn usable_rate(rate: f64) -> f64 {
    if rate.is_finite() && rate > 0.0 { rate } else { 1e-6 }
}

/// The number, moved into the range; `None` where it is none.
fn within(number: f64, least: f64, most: f64) -> Option<f64> {
    number.is_finite().then(|| number.clamp(least, most))
}

/// `at` plus so many seconds plus `more`; the end of time where that is later.
fn later(at: Timestamp, seconds: f64, more: SignedDuration) -> Timestamp {
    SignedDuration::try_from_secs_f64(seconds)
        .ok()
        .and_then(|wait| wait.checked_add(more))
        .and_then(|wait| at.checked_add(wait).ok())
        .unwrap_or(Timestamp::MAX)
}
