//! One module a command; the only layer that prints.

mod alone;
mod check;
mod completions;
mod courier;
mod demo;
mod explain;
mod export;
mod failure;
mod health;
mod init;
pub mod intake;
mod jobs;
mod judged;
mod notify;
mod plan;
mod print;
mod reload;
mod restore;
mod run;
mod runs;
mod sandbox;
mod schema;
mod serve;
mod simulate;
mod status;
mod test;
mod tokens;
mod turns;
mod vet;
mod words;
mod workshop;

use std::process::ExitCode;

use crate::cli::{Cli, Command, NotifyCommand, SettingsFlags};
use crate::settings::{Flags, Need};
use failure::Failure;
use print::{Out, complain};

/// Runs the command that was asked for; the exit status is that of the command line's contract.
pub fn run(cli: Cli) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(format!("error: cannot start: {error}"));
            return ExitCode::from(1);
        }
    };
    let ended = runtime.block_on(dispatch(cli));
    // What is still running has been told to stop and given its time.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            match &failure {
                Failure::Usage(messages) => {
                    messages.iter().for_each(|message| complain(message_line(message)))
                }
                Failure::Failed(error) => complain(format!("error: {error:#}")),
                Failure::Held => {}
            }
            failure.exit_code()
        }
    }
}

/// Diagnostics of rules begin with their place; every other message with `error:`.
fn message_line(message: &str) -> String {
    let is_diagnostic = message.lines().next().is_some_and(|line| line.contains("error["));
    if is_diagnostic { message.to_owned() } else { format!("error: {message}") }
}

fn flags(flags: &SettingsFlags) -> Flags {
    Flags {
        rules: flags.rules.clone(),
        db: flags.db.clone(),
        log: flags.log.clone(),
        log_format: flags.log_format.clone(),
        ..Flags::default()
    }
}

async fn dispatch(cli: Cli) -> Result<(), Failure> {
    let flags = flags(&cli.settings);
    let quiet = |need| -> Result<_, Failure> {
        let settings = workshop::settings(&flags, need)?;
        workshop::start_log(&settings, true);
        Ok(settings)
    };
    match cli.command {
        Command::Serve(args) => {
            let flags = Flags {
                listen: args.listen,
                admin_listen: args.admin_listen,
                silence_alarm: args.silence_alarm,
                ..flags
            };
            let settings = workshop::settings(&flags, Need::Portal)?;
            workshop::start_log(&settings, false);
            serve::serve(settings).await
        }
        Command::Demo(args) => demo::demo(&args).await,
        Command::Sandbox(args) => sandbox::sandbox(*args).await,
        Command::Init(args) => {
            let flags = Flags { listen: args.listen.clone(), ..flags };
            init::init(workshop::settings(&flags, Need::NoPortal)?, &args).await
        }
        Command::Check(args) => check::check(&flags, &args).await,
        Command::Test(args) => test::test(&quiet(Need::NoPortal)?, flags.rules.is_some(), &args),
        Command::Plan(args) => plan::plan(&quiet(Need::Portal)?, &args).await,
        Command::Simulate(args) => simulate::simulate(&quiet(Need::Portal)?, &args).await,
        Command::Explain(args) => explain::explain(&quiet(Need::Portal)?, &args).await,
        Command::Run(args) => run::run(&quiet(Need::Portal)?, &args).await,
        Command::Runs(args) => runs::list(&quiet(Need::NoPortal)?, &args).await,
        Command::Approve(args) => runs::approve(&quiet(Need::NoPortal)?, &args).await,
        Command::Jobs(args) => jobs::list(&quiet(Need::NoPortal)?, &args).await,
        Command::Retry(args) => jobs::retry(&quiet(Need::NoPortal)?, &args).await,
        Command::Cancel(args) => jobs::cancel(&quiet(Need::NoPortal)?, &args).await,
        Command::Restore(args) => restore::restore(&quiet(Need::Portal)?, &args).await,
        Command::Export(args) => export::export(&quiet(Need::NoPortal)?, &args).await,
        Command::Pause(args) => status::pause(&quiet(Need::NoPortal)?, Out::new(args.json)).await,
        Command::Resume(args) => status::resume(&quiet(Need::NoPortal)?, Out::new(args.json)).await,
        Command::Status(args) => status::status(&quiet(Need::NoPortal)?, Out::new(args.json)).await,
        Command::Notify(args) => match args.what {
            NotifyCommand::Test(args) => notify::test(&quiet(Need::Portal)?, &args).await,
        },
        Command::Schema(args) => schema::schema(&args),
        Command::Completions(args) => completions::completions(&args),
    }
}
