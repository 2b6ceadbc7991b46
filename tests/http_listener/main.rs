//! The two listeners as their clients meet them: status codes and limits of the event listener, the admin listener's
//! guard, the accept loop over real sockets, and what systemd hands over and is told.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail like tests")]

mod admin;
mod approvals;
mod events;
mod leads;
mod pages;
mod site;
mod sockets;
mod support;
mod systemd;
