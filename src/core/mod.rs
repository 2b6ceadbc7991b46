//! The decisions of the program, as pure functions: values and a time in, values out.
//!
//! Nothing in here does I/O, reads a clock, draws a random number or is async, so that every decision can be
//! property-tested and simulated, and so that `plan`, the evaluator and the worker's last check are the same code.
