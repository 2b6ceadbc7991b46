//! The decisions of the program, as pure functions: values and a time in, values out.
//!
//! Nothing in here does I/O, reads a clock, draws a random number or is async, so that every decision can be
//! property-tested and simulated, and so that `plan`, the evaluator and the worker's last check are the same code.

pub mod age;
pub mod batch_size;
pub mod caps;
pub mod compare;
pub mod condition;
pub mod decide;
pub mod estimate;
pub mod field;
pub mod figure;
pub mod filter;
pub mod freshness;
pub mod lead;
pub mod notice;
pub mod notify;
pub mod operating;
pub mod outcome;
pub mod pace;
pub mod plan_diff;
pub mod retry;
pub mod rule;
pub mod schedule;
pub mod sentence;
pub mod sheet;
pub mod simulate;
pub mod spots;
pub mod trace;
pub mod truth;
pub mod undo;
