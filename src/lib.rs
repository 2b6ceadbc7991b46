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
//!
//! # Examples
//! A database with nothing in it; whoever reads one of a running service does the same with `create: false`:
//!
//! ```
//! use b24_janitor::store::{OpenOptions, Store, Threads};
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let directory = tempfile::tempdir().unwrap();
//! let options = OpenOptions { threads: Threads::Own, create: true };
//! let store = Store::open(&directory.path().join("janitor.db"), options).unwrap();
//! let jobs: i64 = store
//!     .read(|db| db.query_row("SELECT count(*) FROM jobs", [], |row| row.get(0)))
//!     .await
//!     .unwrap();
//! assert_eq!(jobs, 0);
//! # });
//! ```
//!
//! What a rule says of a lead: [`core::decide::decide`]. When a rule runs: [`core::schedule::Schedule`].

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
