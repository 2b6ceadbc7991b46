//! Writes what a package needs beside the program: man pages and shell completions, from the definitions of the
//! command line. `cargo run --example package_files -- DIRECTORY`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use b24_janitor::cli::Cli;
use clap::{Command, CommandFactory};
use clap_complete::Shell;

fn main() -> io::Result<()> {
    let target = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let (man, completions) = (target.join("man"), target.join("completions"));
    fs::create_dir_all(&man)?;
    fs::create_dir_all(&completions)?;
    let mut command = Cli::command();
    command.build();
    page(&command, "b24-janitor", &man)?;
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        page(sub, &format!("b24-janitor-{}", sub.get_name()), &man)?;
    }
    for (shell, file) in
        [(Shell::Bash, "b24-janitor"), (Shell::Zsh, "_b24-janitor"), (Shell::Fish, "b24-janitor.fish")]
    {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "b24-janitor", &mut script);
        fs::write(completions.join(file), script)?;
    }
    Ok(())
}

/// One page of section 1, named as the command is called.
fn page(command: &Command, name: &str, directory: &Path) -> io::Result<()> {
    // A page's name is one word; `command` alone would be titled `b24-janitor check`.
    // clap wants names that live as long as the program; there are two dozen.
    let name: &'static str = name.to_owned().leak();
    let command = command.clone().name(name).version(env!("CARGO_PKG_VERSION"));
    let mut text = Vec::new();
    clap_mangen::Man::new(command).section("1").manual("b24-janitor").render(&mut text)?;
    fs::write(directory.join(format!("{name}.1")), text)
}
