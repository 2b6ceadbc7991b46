//! What systemd is told. Without systemd (`NOTIFY_SOCKET` unset) every function does nothing.
//!
//! A notification that cannot be sent is logged and otherwise ignored: systemd then acts by its own timeouts, which
//! is what should happen to a service that can no longer speak to it.

use std::io;
use std::time::Duration;

use sd_notify::NotifyState;

/// Listening and recovered: `systemctl start` returns now. Also ends a reload.
pub fn ready() {
    report(sd_notify::notify(&[NotifyState::Ready]));
}

/// A reload begins; [`ready`] ends it. The monotonic time is what `Type=notify-reload` (systemd 253) insists on; older
/// versions ignore it.
pub fn reloading() {
    report(
        NotifyState::monotonic_usec_now().and_then(|now| sd_notify::notify(&[NotifyState::Reloading, now])),
    );
}

/// The shutdown has begun.
pub fn stopping() {
    report(sd_notify::notify(&[NotifyState::Stopping]));
}

/// One line for `systemctl status`. Line breaks in it become spaces, since a line is one assignment in the protocol.
pub fn status(text: &str) {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    report(sd_notify::notify(&[NotifyState::Status(&line)]));
}

/// Feeds the watchdog. Call it only after something has proved that the service works, a store round trip say.
pub fn watchdog() {
    report(sd_notify::notify(&[NotifyState::Watchdog]));
}

/// How often to call [`watchdog`]: half of `WatchdogSec=`, as sd_watchdog_enabled(3) advises; `None` without one.
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|period| period / 2).filter(|half| !half.is_zero())
}

fn report(sent: io::Result<()>) {
    if let Err(error) = sent {
        tracing::warn!(%error, "systemd could not be notified");
    }
}
