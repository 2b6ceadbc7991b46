//! b24-janitor deletes dead leads of a Bitrix24 portal by rules that an administrator writes.
//!
//! # Layers
//! A folder is a layer, and imports point one way, from left to right:
//!
//! ```text
//! main → commands → http, sandbox → engine → rules · store · portal → core
//! ```
//!
//! * [`core`]: the decisions, as pure functions of data and a time; no I/O, no clock, no async.
//! * [`rules`]: the rules files, from text to [`core::rule`], every mistake found in one pass.
//! * [`store`]: the SQLite file: events, runs, jobs, attempts, copies, state.
//! * [`portal`]: the client of Bitrix24's REST API, its pace and its errors.
//! * [`engine`]: the loops that join them: scheduler, evaluator, worker.
//! * [`http`]: the two listeners.
//! * [`sandbox`]: a simulated portal for rehearsals and tests; it shares no code with [`portal`].
//! * [`commands`]: one module a command; the only code that prints.
//!
//! [`clock`], [`watch`], [`metrics`] and [`settings`] are leaves that any layer above `core` may use.

pub mod cli;
pub mod clock;
pub mod commands;
pub mod core;
pub mod engine;
pub mod http;
pub mod metrics;
pub mod portal;
pub mod rules;
pub mod sandbox;
pub mod settings;
pub mod store;
pub mod watch;

/// The program's version, as Cargo.toml states it; also the `User-Agent` and `janitor_build_info`.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
