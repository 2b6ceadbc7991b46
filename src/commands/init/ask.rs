//! Questions to the person at the terminal; without a terminal there is no answer.
//!
//! A secret is typed with the echo switched off, by `stty`, and the echo comes back however the question ends.

use std::io::{self, BufRead, IsTerminal, Read};
use std::process::{Command, Stdio};

use secrecy::SecretString;

use super::super::failure::Failure;
use super::super::print::{ask, complain};

/// The longest answer, in bytes: an address or a token is far shorter, and a file poured into the terminal ends here.
const MAX_ANSWER: u64 = 4096;

/// Asks for a line; `None` where nobody can be asked.
pub(super) async fn line(question: &str) -> Result<Option<String>, Failure> {
    if !can_ask() {
        return Ok(None);
    }
    ask(question);
    read().await.map(Some)
}

/// Asks for a line that is not shown while it is typed; `None` where nobody can be asked.
pub(super) async fn secret(question: &str) -> Result<Option<SecretString>, Failure> {
    if !can_ask() {
        return Ok(None);
    }
    let hidden = Hidden::new()?;
    ask(question);
    let answer = read().await;
    drop(hidden);
    answer.map(SecretString::from).map(Some)
}

/// Questions go to standard error, so that `--json` keeps standard output to itself.
fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

async fn read() -> Result<String, Failure> {
    let read = tokio::task::spawn_blocking(|| {
        let mut answer = String::new();
        io::stdin().lock().take(MAX_ANSWER).read_line(&mut answer).map(|_| answer)
    });
    let answer = read.await.map_err(|error| Failure::Failed(anyhow::Error::new(error)))??;
    if answer.is_empty() {
        return Err(Failure::of("the input ended; nothing was done since the last question"));
    }
    Ok(answer.trim().to_owned())
}

/// The terminal shows nothing of what is typed while this lives.
struct Hidden;

impl Hidden {
    fn new() -> Result<Hidden, Failure> {
        if echo(false) {
            return Ok(Hidden);
        }
        Err(Failure::usage(
            "this terminal can't hide what is typed (`stty -echo` failed): put the secret into a file and name it in \
             B24_WEBHOOK_URL_FILE or B24_APPLICATION_TOKEN_FILE",
        ))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        echo(true);
        // The line break of the answer was not shown either.
        complain("");
    }
}

fn echo(on: bool) -> bool {
    let switch = if on { "echo" } else { "-echo" };
    Command::new("stty").arg(switch).stdin(Stdio::inherit()).status().is_ok_and(|status| status.success())
}
