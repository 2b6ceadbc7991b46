//! The program as an administrator meets it: its commands, their output and exit status, and the life of the service,
//! as real processes beside a simulated portal on a loopback listener.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test that can't go on has failed"
)]

mod attacks;
mod check;
mod crash;
mod explain;
mod home;
mod http;
mod init;
mod killed;
mod listeners;
mod log;
mod metrics;
mod notify;
mod orders;
mod output;
mod pages;
mod plan_and_run;
mod portal;
mod refused;
mod reload;
mod rules;
mod secrets;
mod service;
mod settings;
mod simulate;
mod stop;
mod trust;
mod undo;
mod upgrade;
mod vetting;
mod watchdog;
