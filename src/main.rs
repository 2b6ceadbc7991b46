//! Parses the command line, runs one command, ends with its exit status.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    b24_janitor::commands::run(b24_janitor::cli::Cli::parse())
}
