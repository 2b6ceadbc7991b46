//! `completions`: a script that completes commands and flags, on standard output.

use clap::CommandFactory;

use super::failure::Failure;
use super::print::Out;
use crate::cli::{Cli, CompletionsArgs};

/// Prints the script for a shell.
pub(super) fn completions(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut command = Cli::command();
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    Out::new(false).say(String::from_utf8_lossy(&script).trim_end())?;
    Ok(())
}
