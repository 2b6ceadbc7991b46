//! The command line: definitions and help, nothing else. Values are read and checked in [`crate::settings`].

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// What `--version` says: the version, and the commit that it was built from.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("B24_JANITOR_COMMIT"), ")");

const AFTER_HELP: &str = "\
First steps:
  b24-janitor demo                 see the whole job on this machine, without a portal
  b24-janitor init                 write rules.yaml and an environment file for your portal
  b24-janitor check                validate rules.yaml; prints when each rule runs next
  b24-janitor plan                 what each rule would delete now; deletes nothing
  b24-janitor serve                the service

Settings come from environment variables (B24_WEBHOOK_URL, B24_APPLICATION_TOKEN, JANITOR_…); a flag beats its variable.
Exit status: 0 done, 1 failed, 2 wrong usage, settings or rules, 3 held: a person has to approve.";

/// Deletes dead Bitrix24 leads by rules: safely, within the portal's limits, and says why.
#[derive(Debug, Parser)]
#[command(name = "b24-janitor", version = VERSION, after_help = AFTER_HELP, max_term_width = 110)]
pub struct Cli {
    /// Settings that several commands share.
    #[command(flatten)]
    pub settings: SettingsFlags,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Settings that are no secret, as flags.
#[derive(Debug, Args)]
pub struct SettingsFlags {
    /// Rules file, or directory of *.yaml [env: JANITOR_RULES] [default: rules.yaml]
    #[arg(long, global = true, value_name = "PATH", help_heading = "Settings")]
    pub rules: Option<PathBuf>,
    /// Database file [env: JANITOR_DB] [default: janitor.db]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Settings")]
    pub db: Option<PathBuf>,
    /// What to log, a tracing filter such as `info` or `b24_janitor=debug` [env: JANITOR_LOG] [default: info; commands
    /// that end by themselves: warn]
    #[arg(long, global = true, value_name = "FILTER", help_heading = "Settings")]
    pub log: Option<String>,
    /// How to log [env: JANITOR_LOG_FORMAT] [default: text]
    #[arg(long, global = true, value_name = "text|json", help_heading = "Settings")]
    pub log_format: Option<String>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the service: receive events, run rules on their schedules, delete
    Serve(ServeArgs),
    /// See the whole job on this machine: a simulated portal, sample leads, rules, events, deletions
    Demo(DemoArgs),
    /// Run the simulated portal alone, to rehearse rules on it
    Sandbox(Box<SandboxArgs>),
    /// Set up for a portal: check the webhook, propose rules, write commented files, wait for the first event
    Init(InitArgs),
    /// Validate settings and rules; print each rule with its next five times
    Check(CheckArgs),
    /// Test rules on sample leads: *.test.yaml, a lead and what a rule must say of it
    Test(TestArgs),
    /// Report what each rule would delete now; deletes nothing and enqueues nothing
    Plan(PlanArgs),
    /// Show what each rule would delete on each of the next days, from the leads as they are now; deletes nothing
    Simulate(SimulateArgs),
    /// Explain one lead: every rule, condition by condition, its protections, jobs and history
    Explain(ExplainArgs),
    /// Evaluate a rule now and enqueue what it selects
    Run(RunArgs),
    /// List the runs, newest first
    Runs(RunsArgs),
    /// Approve a held run: enqueue exactly the leads it found
    Approve(ApproveArgs),
    /// List jobs: one job is one deletion of one lead
    Jobs(JobsArgs),
    /// Try a failed job again
    Retry(JobArgs),
    /// Cancel a waiting job, and protect its lead from that rule for 30 days
    Cancel(JobArgs),
    /// Create deleted leads again from their copies; the portal's recycle bin keeps more, so look there first
    Restore(RestoreArgs),
    /// Write every finished job, oldest first: rule, run, times, attempts, outcome, reason; or every run (--runs)
    Export(ExportArgs),
    /// Stop deleting, within a second and across restarts, until `resume`
    Pause(JsonArgs),
    /// Delete again after `pause`, or after the portal refused every call
    Resume(JsonArgs),
    /// Show events, jobs, and what stops the work, if anything
    Status(JsonArgs),
    /// Try whether notices arrive: `notify test`
    Notify(NotifyArgs),
    /// Print the rules' JSON Schema, for editors
    Schema(SchemaArgs),
    /// Print a script that completes commands and flags in a shell
    Completions(CompletionsArgs),
}

/// Machine-readable output.
#[derive(Debug, Clone, Copy, Args)]
pub struct JsonArgs {
    /// Print JSON: one object, or one object a line for lists
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Public listener: POST /bitrix24/events and GET /healthz [env: JANITOR_LISTEN] [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Admin listener: /, /metrics, /readyz; `off` disables it [env: JANITOR_ADMIN_LISTEN] [default: 127.0.0.1:8081]
    #[arg(long, value_name = "ADDRESS|off")]
    pub admin_listen: Option<String>,
    /// Without an event for so long (24h, 2d) rules with events sweep, and /readyz says so; `off`: never [env:
    /// JANITOR_SILENCE_ALARM] [default: off]
    #[arg(long, value_name = "AGE|off")]
    pub silence_alarm: Option<String>,
}

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// How many sample leads the simulated portal holds
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    pub leads: u32,
    /// The same seed makes the same leads
    #[arg(long, default_value_t = 24)]
    pub seed: u64,
    /// Where to keep the demo's database and rules [default: a new temporary directory]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    #[command(flatten)]
    /// Output.
    pub json: JsonArgs,
}

/// How the simulated portal reports a missing lead to `crm.lead.delete`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum NotFoundStyle {
    /// ERROR_CORE, "Item was not found."
    Item,
    /// ERROR_CORE, "Lead was not found."
    Lead,
    /// Empty code, "Access denied.": a webhook without rights to all leads
    Restricted,
    /// Empty code, "Not found", as the documentation says
    Docs,
}

/// Arguments of `sandbox`.
#[derive(Debug, Args)]
pub struct SandboxArgs {
    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:8090", value_name = "ADDRESS")]
    pub listen: String,
    /// How many sample leads
    #[arg(long, default_value_t = 1000)]
    pub leads: u32,
    /// The same seed makes the same leads
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Where to send the outgoing webhook's events
    #[arg(long, value_name = "URL")]
    pub events_url: Option<String>,
    /// The outgoing webhook's token
    #[arg(long, default_value = "sandbox-application-token", value_name = "TOKEN")]
    pub application_token: String,
    /// Requests a second that the bucket drains
    #[arg(long, default_value_t = 2.0)]
    pub requests_per_second: f64,
    /// Requests that the bucket holds
    #[arg(long, default_value_t = 50)]
    pub burst: u32,
    /// Operating seconds a method may use in the window
    #[arg(long, default_value_t = 480.0)]
    pub method_seconds: f64,
    /// Length of the operating window, in seconds
    #[arg(long, default_value_t = 600)]
    pub window_seconds: u32,
    /// Operating seconds one deletion costs
    #[arg(long, default_value_t = 0.05)]
    pub delete_seconds: f64,
    /// Share of the cost that a call really takes (0: answers at once, 1: as long as it costs)
    #[arg(long, default_value_t = 0.0)]
    pub sleep_scale: f64,
    /// How a missing lead is reported to crm.lead.delete
    #[arg(long, value_enum, default_value_t = NotFoundStyle::Item)]
    pub not_found: NotFoundStyle,
    /// Answer texts in Russian
    #[arg(long)]
    pub russian: bool,
    /// A fault, repeatable: KIND[,setting=value…], for example `drop,method=batch,skip=6,times=1` loses the seventh
    /// batch's answer
    #[arg(long = "fault", value_name = "FAULT")]
    pub faults: Vec<String>,
}

/// Arguments of `init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Where the settings go, secrets included [default: `environment` beside the rules]
    #[arg(long, value_name = "FILE")]
    pub env_file: Option<PathBuf>,
    /// Time zone of the schedules, Region/City [default: asked for; this machine's without a terminal]
    #[arg(long, value_name = "ZONE")]
    pub timezone: Option<String>,
    /// Where the portal reaches this service, https://HOST; shown as the URL to paste [default: asked for]
    #[arg(long, value_name = "URL")]
    pub events_url: Option<String>,
    /// Don't wait for the portal's first event
    #[arg(long)]
    pub no_wait: bool,
    /// How long to wait for the portal's first event, in seconds
    #[arg(long, value_name = "N", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub wait_seconds: u64,
    /// Where to wait for it: the public listener [env: JANITOR_LISTEN] [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    #[command(flatten)]
    /// Output.
    pub json: JsonArgs,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Also ask the portal: fields, stages, scope
    #[arg(long)]
    pub online: bool,
    /// How to print: for people, one JSON object a line, or annotations of GitHub Actions
    #[arg(long, value_enum, default_value_t = CheckFormat::Text)]
    pub format: CheckFormat,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
}

/// How `check` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CheckFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
    /// `::error file=…,line=…,col=…::message`, which GitHub Actions shows beside the line; the rest as text
    Github,
}

/// Arguments of `test`.
#[derive(Debug, Args)]
pub struct TestArgs {
    /// Files of tests [default: every *.test.yaml beside the rules]
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    /// Output.
    pub json: JsonArgs,
}

/// Arguments of `schema`.
#[derive(Debug, Args)]
pub struct SchemaArgs {
    /// The schema of files of tests (*.test.yaml) instead
    #[arg(long)]
    pub tests: bool,
}

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// Arguments of `plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// The rule; all rules if left out
    pub rule: Option<String>,
    /// Print the selected leads as CSV, a line each: rule, id, stage, created, responsible
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
    #[command(flatten)]
    /// Output.
    pub json: JsonArgs,
}

/// Arguments of `simulate`.
#[derive(Debug, Args)]
pub struct SimulateArgs {
    /// The rule; all rules if left out
    pub rule: Option<String>,
    /// From when on: a date (its midnight in each rule's zone), or a time with offset (RFC 3339) [default: now]
    #[arg(long, value_name = "DATE")]
    pub at: Option<String>,
    /// How many days, the first included
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=366))]
    pub days: u16,
    #[command(flatten)]
    /// Output.
    pub json: JsonArgs,
}

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The lead's id
    #[arg(value_name = "LEAD_ID")]
    pub lead: i64,
    /// Also write the lead as tests of the rules, without personal data, into a new file NAME.test.yaml
    #[arg(long, value_name = "FILE")]
    pub save_test: Option<PathBuf>,
    #[command(flatten)]
    /// Output.
    pub json: JsonArgs,
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The rule
    pub rule: String,
    /// Wait until the jobs that are due now are done, with a progress bar
    #[arg(long)]
    pub wait: bool,
    #[command(flatten)]
    /// Output.
    pub json: JsonArgs,
}

/// Arguments of `runs`.
#[derive(Debug, Args)]
pub struct RunsArgs {
    /// Only runs of this rule
    #[arg(long)]
    pub rule: Option<String>,
    /// At most so many
    #[arg(long, default_value_t = 50)]
    pub limit: u32,
    #[command(flatten)]
    /// Output.
    pub json: JsonArgs,
}

/// Arguments of `approve`.
#[derive(Debug, Args)]
pub struct ApproveArgs {
    /// The run's id, as `runs` shows it
    pub run: i64,
    /// How many leads the run would enqueue, as `runs` shows it: proof that you looked
    #[arg(long)]
    pub count: u64,
    #[command(flatten)]
    /// Output.
    pub json: JsonArgs,
}

/// Arguments of `jobs`.
#[derive(Debug, Args)]
pub struct JobsArgs {
    /// Only jobs in this state or with this outcome: waiting, running, done, deleted, already_gone, spared, cancelled, failed
    #[arg(long)]
    pub state: Option<String>,
    /// Only jobs of this rule
    #[arg(long)]
    pub rule: Option<String>,
    /// Only jobs of this lead
    #[arg(long, value_name = "ID")]
    pub lead: Option<i64>,
    /// At most so many, newest first [default: 50 for people, all with --json]
    #[arg(long)]
    pub limit: Option<u64>,
    #[command(flatten)]
    /// Output.
    pub json: JsonArgs,
}

/// Arguments of `retry` and `cancel`.
#[derive(Debug, Args)]
pub struct JobArgs {
    /// The job's id, as `jobs` shows it
    pub job: i64,
    #[command(flatten)]
    /// Output.
    pub json: JsonArgs,
}

/// Arguments of `restore`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["leads", "run", "rule"]))]
pub struct RestoreArgs {
    /// The deleted leads, by the ids they had
    #[arg(value_name = "LEAD_ID")]
    pub leads: Vec<i64>,
    /// All that this run deleted
    #[arg(long, value_name = "RUN")]
    pub run: Option<i64>,
    /// All that this rule deleted since --since
    #[arg(long, requires = "since")]
    pub rule: Option<String>,
    /// From when on: a date, a time with offset (RFC 3339), or an age (24h, 7d)
    #[arg(long, value_name = "TIME", requires = "rule")]
    pub since: Option<String>,
    /// Restore from the copies, without being asked: the recycle bin does not have them
    #[arg(long, visible_alias = "yes")]
    pub from_copy: bool,
    /// Create also leads whose earlier restore lost its answer, once you have looked for them in the portal
    #[arg(long)]
    pub again: bool,
    #[command(flatten)]
    /// Output.
    pub json: JsonArgs,
}

/// Arguments of `export`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("format").required(true).args(["csv", "jsonl"]))]
pub struct ExportArgs {
    /// As CSV, with a line of column names
    #[arg(long)]
    pub csv: bool,
    /// As one JSON object a line
    #[arg(long, visible_alias = "json")]
    pub jsonl: bool,
    /// The runs instead of the jobs: rule and its text, numbers, what held it, and when it was approved, superseded or
    /// expired
    #[arg(long)]
    pub runs: bool,
    /// Only jobs that ended from then on, or runs that began then: a date, a time with offset (RFC 3339), or an age (24h, 7d)
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
}

/// Arguments of `notify`.
#[derive(Debug, Args)]
pub struct NotifyArgs {
    /// What to do.
    #[command(subcommand)]
    pub what: NotifyCommand,
}

/// What `notify` can do.
#[derive(Debug, Subcommand)]
pub enum NotifyCommand {
    /// Send a test notice to each target of `notify:`, and say what came back
    Test(NotifyTestArgs),
}

/// Arguments of `notify test`.
#[derive(Debug, Args)]
pub struct NotifyTestArgs {
    /// The target; without it every one
    #[arg(value_name = "TARGET")]
    pub target: Option<String>,
    #[command(flatten)]
    /// Output.
    pub json: JsonArgs,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_definitions_are_consistent() {
        super::Cli::command().debug_assert();
    }
}
