//! `init`: from a webhook's address to rules that `check` passes and an environment file, then the proof that the
//! portal's events arrive.
//!
//! Nothing that exists is ever written over, and no secret is shown, logged or taken as a flag. What it writes only plans.

mod ask;
mod files;
mod outgoing;
mod proposal;

use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use self::files::Written;
use super::failure::Failure;
use super::print::{Out, complain};
use super::turns::Turns;
use super::workshop;
use crate::cli::InitArgs;
use crate::clock::Clock;
use crate::core::age::Age;
use crate::core::figure::thousands;
use crate::core::rule::{PortalLimits, RuleSet};
use crate::engine::online;
use crate::portal::Portal;
use crate::rules::{self, Input};
use crate::settings::{Settings, WebhookUrl};

/// The history of a set of rules that is only there to ask the portal.
const NO_HISTORY: Age = Age::days(1);

/// Sets the service up, until it is done or the command is told to stop.
pub(super) async fn init(mut settings: Settings, args: &InitArgs) -> Result<(), Failure> {
    if settings.log_is_default {
        // While it waits, the listener reports that the event is not stored; that is as it should be.
        settings.log = "warn,b24_janitor::http::events=off".to_owned();
        settings.log_is_default = false;
    }
    workshop::start_log(&settings, true);
    let asked_to_stop = super::serve::asked_to_stop();
    tokio::select! {
        done = set_up(settings, args) => done,
        () = asked_to_stop => Err(Failure::of("interrupted: what is written stays, nothing else was begun")),
    }
}

async fn set_up(mut settings: Settings, args: &InitArgs) -> Result<(), Failure> {
    let out = Out::new(args.json.json);
    let rules_file = rules_file(&settings)?;
    let environment = args.env_file.clone().unwrap_or_else(|| rules_file.with_file_name("environment"));
    let told_url = args.events_url.as_deref().map(outgoing::whole_url).transpose()?;
    know_the_portal(&mut settings, out).await?;
    let host = settings.portal_host().unwrap_or_default();

    let nothing = RuleSet {
        rules: Vec::new(),
        protections: Vec::new(),
        portal: PortalLimits::default(),
        keep_history: NO_HISTORY,
        notify: Vec::new(),
    };
    let turns = Turns::of(&settings, &nothing).await?;
    let looked = look(&turns.portal, &nothing).await;
    turns.over().await?;
    let found = looked?;
    out.say(format!("{host} has {} leads", thousands(found.leads)))?;
    for proposed in &found.rules {
        out.say(format!("you have {}", proposed.finding()))?;
    }

    let rules = write_rules(out, &rules_file, &host, &found, args).await?;
    let url = match told_url {
        Some(url) => Some(url),
        None => ask_events_url().await?,
    };
    outgoing::tell_steps(out, url.as_deref())?;
    know_the_token(&mut settings, url.is_some()).await?;
    let settings_written = files::write_environment(&environment, &settings, &host)?;
    for written in [&rules, &settings_written] {
        out.say(written.to_string())?;
    }
    let turns = Turns::of(&settings, &nothing).await?;
    let checked = check(&turns.portal, &settings, &rules_file).await;
    turns.over().await?;
    checked?;
    out.say("checked: the portal knows every field and stage of the rules")?;

    let waits = !args.no_wait && !settings.application_tokens.is_empty();
    let proof = if waits { Some(outgoing::wait(&settings, args.wait_seconds, out).await?) } else { None };
    let proven = proof.as_ref().is_some_and(|proof| proof.event.is_some());
    out.object(&json!({
        "portal": host,
        "leads": found.leads,
        "proposed": found.rules.iter().map(proposal::Proposed::json).collect::<Vec<Value>>(),
        "files": [rules.json(), settings_written.json()],
        "events_url": url,
        "event": proof.as_ref().and_then(|proof| proof.event.clone()),
    }))?;
    if let Some(proof) = proof.filter(|_| !proven) {
        return Err(Failure::of(proof.why_not(args.wait_seconds)));
    }
    tell_what_next(out, &settings, &rules_file, &environment)
}

/// The file that the rules go to: `--rules`, or `rules.yaml` in the directory that it names.
fn rules_file(settings: &Settings) -> Result<PathBuf, Failure> {
    let path = &settings.rules;
    let file = if path.is_dir() { path.join("rules.yaml") } else { path.clone() };
    let directory = file.parent().filter(|directory| !directory.as_os_str().is_empty());
    match directory {
        Some(directory) if !directory.is_dir() => Err(Failure::usage(format!(
            "there is no directory {}: make it first, or name another with --rules",
            directory.display()
        ))),
        Some(_) | None => Ok(file),
    }
}

/// The webhook's address, from the settings or from the person at the terminal.
async fn know_the_portal(settings: &mut Settings, out: Out) -> Result<(), Failure> {
    if settings.portal_host().is_some() {
        return Ok(());
    }
    outgoing::tell_incoming_steps(out)?;
    let address = ask::secret("The incoming webhook's address (not shown): ").await?.ok_or_else(|| {
        Failure::usage(
            "B24_WEBHOOK_URL is not set, and there is no terminal to ask for it; set it, or put the address into a \
             file and name that in B24_WEBHOOK_URL_FILE",
        )
    })?;
    let webhook = WebhookUrl::parse(address.expose_secret())
        .map_err(|error| Failure::usage(format!("the address: {}; {}", error.message, error.remedy)))?;
    settings.webhook = Some(webhook);
    Ok(())
}

/// What the portal holds, if its webhook may say.
async fn look(portal: &Portal, nothing: &RuleSet) -> Result<proposal::Found, Failure> {
    insist_on_scope(portal, nothing).await?;
    proposal::look(portal, Clock::System.now()).await
}

/// The code of `check --online`, on no rules at all: does the portal answer, and may the webhook use the CRM?
async fn insist_on_scope(portal: &Portal, nothing: &RuleSet) -> Result<(), Failure> {
    let said = online::check(portal, nothing).await;
    if let Some(error) = said.unanswered {
        return Err(Failure::of(format!(
            "the portal did not answer as it should: {}; {}",
            error.fault, error.remedy
        )));
    }
    let wrong: Vec<String> = said.errors().map(ToString::to_string).collect();
    if wrong.is_empty() { Ok(()) } else { Err(Failure::Usage(wrong)) }
}

async fn write_rules(
    out: Out,
    file: &Path,
    host: &str,
    found: &proposal::Found,
    args: &InitArgs,
) -> Result<Written, Failure> {
    if file.exists() {
        return Ok(Written::kept(file));
    }
    let zone = zone(args, out).await?;
    let text = proposal::rules_text(host, &zone, found);
    // What is wrong here can only be the time zone, and nothing was written yet.
    rules::parse(&[Input { file: file.display().to_string(), bytes: text.clone().into_bytes() }]).map_err(
        |problems| Failure::Usage(problems.iter().map(|problem| problem.render(Out::color())).collect()),
    )?;
    files::write_new(file, &text, files::READABLE)
}

/// The time zone of the schedules: as told, else as the machine has it, else UTC.
async fn zone(args: &InitArgs, out: Out) -> Result<String, Failure> {
    if let Some(zone) = &args.timezone {
        return Ok(zone.clone());
    }
    let system = jiff::tz::TimeZone::system();
    let here = system.iana_name().filter(|name| name.contains('/')).unwrap_or("UTC");
    let answer = ask::line(&format!("Time zone of the schedules [{here}]: ")).await?;
    let zone = answer.filter(|answer| !answer.is_empty()).unwrap_or_else(|| here.to_owned());
    out.say(format!("schedules are in the time zone {zone}"))?;
    Ok(zone)
}

/// Where the portal can reach the event listener, if anywhere.
async fn ask_events_url() -> Result<Option<String>, Failure> {
    let url =
        ask::line("Address at which the portal reaches this service, https://HOST (empty: no events): ")
            .await?;
    url.filter(|url| !url.is_empty()).map(|url| outgoing::whole_url(&url)).transpose()
}

/// The outgoing webhook's token, from the settings or from the person who has just created it.
async fn know_the_token(settings: &mut Settings, wanted: bool) -> Result<(), Failure> {
    if !wanted || !settings.application_tokens.is_empty() {
        return Ok(());
    }
    let token = ask::secret("The token that Bitrix24 shows (not shown here; empty: later): ").await?;
    let Some(token) = token.filter(|token| !token.expose_secret().is_empty()) else { return Ok(()) };
    if token.expose_secret().contains(|c: char| !c.is_ascii_graphic() || c == ',') {
        return Err(Failure::usage(
            "the token: it has characters other than letters and digits; copy it anew",
        ));
    }
    settings.application_tokens = vec![SecretString::from(token.expose_secret())];
    Ok(())
}

/// The files as they stand now, new or not, against the portal.
async fn check(portal: &Portal, settings: &Settings, file: &Path) -> Result<(), Failure> {
    let problems = |problems: Vec<rules::Diagnostic>| {
        Failure::Usage(problems.iter().map(|problem| problem.render(Out::color())).collect())
    };
    let loaded = rules::load(file).map_err(problems)?;
    workshop::without_token(&loaded.rules, settings)?;
    let said = online::check(portal, &loaded.rules).await;
    said.findings
        .iter()
        .filter(|finding| !finding.is_error())
        .for_each(|finding| complain(finding.to_string()));
    let wrong: Vec<String> = said.errors().map(ToString::to_string).collect();
    if !wrong.is_empty() {
        return Err(Failure::Usage(wrong));
    }
    match said.unanswered {
        None => Ok(()),
        Some(error) => Err(Failure::of(format!("the rules were not checked by the portal: {}", error.fault))),
    }
}

fn tell_what_next(out: Out, settings: &Settings, rules: &Path, environment: &Path) -> Result<(), Failure> {
    let named = if settings.rules == Path::new("rules.yaml") {
        String::new()
    } else {
        format!(" --rules {}", rules.display())
    };
    out.say("next:")?;
    if environment.exists() {
        let here =
            if environment.parent().is_none_or(|parent| parent.as_os_str().is_empty()) { "./" } else { "" };
        out.say(format!("  set -a; . {here}{}; set +a", environment.display()))?;
    }
    out.say(format!("  b24-janitor plan{named}     what each rule would delete now; deletes nothing"))?;
    match unit_of(environment) {
        Some(start) => out.say(format!("  {start}"))?,
        None => out.say(format!("  b24-janitor serve{named}    the service"))?,
    }
    out.say("every rule only plans until it says `mode: delete`")?;
    Ok(())
}

/// How the service is started that the packaged units make of this environment file, if it is theirs.
fn unit_of(environment: &Path) -> Option<String> {
    let inside = environment.strip_prefix("/etc/b24-janitor").ok()?.to_str()?;
    match inside.split('/').collect::<Vec<_>>().as_slice() {
        ["environment"] => Some("systemctl start b24-janitor.socket b24-janitor.service".to_owned()),
        [instance, "environment"] => Some(format!("systemctl enable --now b24-janitor@{instance}.service")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packaged_units_are_named_for_their_own_files_only() {
        let of = |path: &str| unit_of(Path::new(path));
        assert_eq!(
            of("/etc/b24-janitor/environment").as_deref(),
            Some("systemctl start b24-janitor.socket b24-janitor.service")
        );
        assert_eq!(
            of("/etc/b24-janitor/acme/environment").as_deref(),
            Some("systemctl enable --now b24-janitor@acme.service")
        );
        for other in ["environment", "/etc/b24-janitor/settings", "/etc/b24-janitor/a/b/environment"] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
