//! The commit that the program is built from, for `--version`: `B24_JANITOR_COMMIT` where it is set, as in a build from
//! an archive; else what git says, of a release build. A debug build says only that it is one, since it would
//! otherwise be compiled again after every commit.

use std::process::Command;

const GIVEN: &str = "B24_JANITOR_COMMIT";

fn main() {
    println!("cargo::rerun-if-env-changed={GIVEN}");
    println!("cargo::rerun-if-changed=build.rs");
    let given = std::env::var(GIVEN).ok().filter(|commit| !commit.is_empty());
    let is_release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let commit = match given {
        Some(commit) => commit,
        None if is_release => of_git().unwrap_or_else(|| "unknown commit".to_owned()),
        None => "debug build".to_owned(),
    };
    println!("cargo::rustc-env={GIVEN}={commit}");
}

/// The commit's first twelve digits, `+` behind them if tracked files were changed; nothing outside a repository.
fn of_git() -> Option<String> {
    for file in ["HEAD", "index"] {
        println!("cargo::rerun-if-changed={}", git(&["rev-parse", "--git-path", file])?);
    }
    if let Some(branch) = git(&["symbolic-ref", "--quiet", "HEAD"]) {
        println!("cargo::rerun-if-changed={}", git(&["rev-parse", "--git-path", &branch])?);
    }
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let is_changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|s| !s.is_empty());
    Some(if is_changed { commit + "+" } else { commit })
}

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok().map(|text| text.trim().to_owned())
}
