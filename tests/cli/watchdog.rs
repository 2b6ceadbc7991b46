//! systemd's watchdog: what feeds it, and what stops feeding it.

use std::os::unix::net::UnixDatagram;

use crate::home::{Home, JUNK};
use crate::portal::Portal;
use crate::service::{Service, until};

/// Whether the watchdog was fed since the last look.
fn fed(socket: &UnixDatagram) -> bool {
    let mut bytes = [0; 1024];
    let mut fed = false;
    while let Ok(length) = socket.recv(&mut bytes) {
        fed |= bytes[..length].starts_with(b"WATCHDOG=1");
    }
    fed
}

#[test]
fn a_database_that_hangs_leaves_the_watchdog_unfed_until_it_answers() {
    const UNFED: &str = "the watchdog goes unfed";
    let portal = Portal::with_leads(10);
    let home = Home::new(&portal, JUNK);
    let path = home.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_nonblocking(true).unwrap();
    let mut command = home.command(&["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "1000000");
    let service = Service::from(command);
    until("food", || fed(&socket).then_some(()));
    // Paused, a lane has nothing to do, and is alive all the same.
    home.ok(&["pause"]);
    until("food while paused", || fed(&socket).then_some(()));

    #[expect(clippy::disallowed_methods, reason = "only holds the database")]
    let holder = rusqlite::Connection::open(home.path("janitor.db")).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let complaints = || service.process.log().matches(UNFED).count();
    until("a complaint", || (complaints() > 0).then_some(()));
    fed(&socket);
    let before = complaints();
    until("two more", || (complaints() >= before + 2).then_some(()));
    assert!(!fed(&socket), "a service whose database hangs is as good as dead");

    holder.execute_batch("COMMIT").unwrap();
    until("food again", || fed(&socket).then_some(()));
    service.stop();
}
