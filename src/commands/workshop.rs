//! What commands are made of: settings, rules, the database, the portal, an engine. Each command takes what it needs.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use super::failure::Failure;
use super::print::{Out, complain};
use super::{tokens, words};
use crate::clock::Clock;
use crate::core::rule::{Rule, RuleSet};
use crate::engine::{Context, Engine, EngineError, Parts, online, pace};
use crate::metrics::Metrics;
use crate::portal::{Access, Observer, Places, Portal, PortalOptions, Transport};
use crate::rules;
use crate::settings::{Flags, LogFormat, Need, Settings, Source};
use crate::store::{Lock, LockError, OpenError, OpenOptions, Store, Threads};

/// Reads the settings; every problem in one pass.
pub(super) fn settings(flags: &Flags, need: Need) -> Result<Settings, Failure> {
    Settings::load(flags, &Source::process(), need).map_err(|problems| Failure::settings(&problems))
}

/// Sends the log to standard error. `quiet` commands log warnings only, unless the settings say otherwise.
pub(super) fn start_log(settings: &Settings, quiet: bool) {
    let filter = if quiet && settings.log_is_default { "warn" } else { settings.log.as_str() };
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let stderr = BoxMakeWriter::new(std::io::stderr);
    // Under systemd the journal stamps the time and keeps the colours out.
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr).with_ansi(Out::color());
    // A second call (a test in the same process) keeps the first subscriber.
    let _ = match (settings.log_format, journal) {
        (LogFormat::Json, _) => log.json().try_init(),
        (LogFormat::Text, true) => log.without_time().with_target(false).try_init(),
        (LogFormat::Text, false) => log.with_target(false).try_init(),
    };
}

/// Loads the rules; every problem of all files, as a compiler prints them.
pub(super) fn load_rules(settings: &Settings) -> Result<RuleSet, Failure> {
    match rules::load(&settings.rules) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                complain(warning.render(false));
            }
            without_token(&loaded.rules, settings)?;
            Ok(loaded.rules)
        }
        Err(problems) => {
            Err(Failure::Usage(problems.iter().map(|problem| problem.render(Out::color())).collect()))
        }
    }
}

/// A rule with `events` needs the token that events are recognised by.
pub(super) fn without_token(rules: &RuleSet, settings: &Settings) -> Result<(), Failure> {
    if !settings.application_tokens.is_empty() {
        return Ok(());
    }
    let problems: Vec<String> = rules
        .rules
        .iter()
        .filter(|rule| !rule.events.is_empty())
        .map(|rule| {
            format!(
                "{}:{}: error[events-without-token]: rule {} has `events`, but B24_APPLICATION_TOKEN is not set\n  \
                 help: set it to the token that Bitrix24 shows for the outgoing webhook, or remove `events` from the rule",
                rule.place.file, rule.place.line, rule.name
            )
        })
        .collect();
    if problems.is_empty() { Ok(()) } else { Err(Failure::Usage(problems)) }
}

/// Opens the database of a service, or the one that commands share with it.
pub(super) fn open_store(path: &Path, create: bool) -> Result<Store, Failure> {
    match Store::open(path, OpenOptions { threads: Threads::Own, create }) {
        Ok(store) => Ok(store),
        Err(OpenError::Missing { .. }) => Err(Failure::of(format!(
            "there is no database at {}: start `b24-janitor serve` first, or name another with --db or JANITOR_DB",
            path.display()
        ))),
        Err(error) => Err(Failure::Failed(anyhow::Error::new(error))),
    }
}

/// Who works on the database.
pub(super) enum Whose {
    /// This process, alone; the lock is held as long as this lives.
    Ours(Lock),
    /// A running service, whose process id is this, where it is known.
    Service(Option<u32>),
}

/// Takes the database's lock, or finds out who has it.
pub(super) fn whose(path: &Path) -> Result<Whose, Failure> {
    match Lock::acquire(path) {
        Ok(lock) => Ok(Whose::Ours(lock)),
        Err(LockError::Held { pid, .. }) => Ok(Whose::Service(pid)),
        Err(error) => Err(Failure::Failed(anyhow::Error::new(error))),
    }
}

/// The rule of that name, or an error that lists the names there are.
pub(super) fn named<'a>(rules: &'a RuleSet, name: &str) -> Result<&'a Rule, Failure> {
    rules.rule(name).ok_or_else(|| words::no_rule(rules, name))
}

/// The portal's client; its exchanges are counted in `metrics`. It goes on with the pace in `store`, whose lock this
/// process holds; without a store it begins anew.
pub(super) async fn portal(
    settings: &Settings,
    rules: &RuleSet,
    store: Option<&Store>,
    metrics: &Metrics,
) -> Result<Portal, Failure> {
    observed_portal(settings, rules, store, metrics, Arc::new(|_| ())).await
}

/// As [`portal`]; `also` hears of the exchanges.
pub(super) async fn observed_portal(
    settings: &Settings,
    rules: &RuleSet,
    store: Option<&Store>,
    metrics: &Metrics,
    also: Observer,
) -> Result<Portal, Failure> {
    let access = access(settings, store)?;
    let transport = transport()?;
    let counted = counting(metrics.clone());
    let observer: Observer = Arc::new(move |call| {
        counted(call);
        also(call);
    });
    let pace = match store {
        Some(store) => pace::recall(store).await,
        None => None,
    };
    let portal = Portal::new(
        transport,
        PortalOptions { access, limits: rules.portal, clock: Clock::System, observer: Some(observer), pace },
    );
    if let Some(store) = store {
        pace::keep(store, &portal, Clock::System.now()).await?;
    }
    Ok(portal)
}

/// The portal's client beside a service that keeps the pace: it takes a place there before each request.
pub(super) fn portal_beside(
    settings: &Settings,
    rules: &RuleSet,
    metrics: &Metrics,
    places: Places,
) -> Result<Portal, Failure> {
    let options = PortalOptions {
        access: access(settings, None)?,
        limits: rules.portal,
        clock: Clock::System,
        observer: Some(counting(metrics.clone())),
        pace: None,
    };
    Ok(Portal::beside(transport()?, options, places))
}

fn transport() -> Result<Transport, Failure> {
    Portal::http().map_err(|error| Failure::Failed(anyhow::Error::new(error)))
}

/// How the portal knows us. A local application's tokens are kept in the database even by a command that needs it for
/// nothing else: a renewed token that is not kept is lost to the service as well.
fn access(settings: &Settings, store: Option<&Store>) -> Result<Access, Failure> {
    match (&settings.webhook, &settings.oauth) {
        (Some(webhook), _) => Ok(Access::Webhook(webhook.secret())),
        (None, Some(oauth)) => {
            let store = match store {
                Some(store) => store.clone(),
                None => open_store(&settings.db, true)?,
            };
            Ok(tokens::access(oauth, store))
        }
        (None, None) => Err(Failure::usage("B24_WEBHOOK_URL is not set: this command asks the portal")),
    }
}

/// Counts exchanges with the portal.
pub(super) fn counting(metrics: Metrics) -> Observer {
    Arc::new(move |call| {
        let took = Duration::try_from_secs_f64(call.seconds).unwrap_or_default();
        metrics.portal_request(call.method, call.result, took, call.operating);
        for (method, seconds) in &call.nested {
            metrics.portal_operating(method, *seconds);
        }
    })
}

/// What an engine is made of.
pub(super) fn parts(store: Store, portal: Portal, metrics: Metrics) -> Parts {
    Parts { store, portal, clock: Clock::System, metrics, seed: fastrand::u64(..) }
}

/// An engine over the settings' portal and this store, once the portal has confirmed the rules.
pub(super) async fn engine(
    settings: &Settings,
    rules: RuleSet,
    store: Store,
    metrics: Metrics,
) -> Result<Engine, Failure> {
    let portal = portal(settings, &rules, Some(&store), &metrics).await?;
    let looking = parts(store.clone(), portal.clone(), metrics.clone());
    insist(&Context::observing(looking, rules.clone()), &rules).await?;
    Ok(Engine::start(parts(store, portal, metrics), rules).await?)
}

/// Asks the portal about the rules for a command that works by itself, with patience.
pub(super) async fn insist(ctx: &Context, rules: &RuleSet) -> Result<(), Failure> {
    let report = online::check_patiently(ctx, rules).await;
    let wrong: Vec<String> = report.errors().map(ToString::to_string).collect();
    if !wrong.is_empty() {
        return Err(Failure::Usage(wrong));
    }
    match report.unanswered {
        None => Ok(()),
        Some(error) => Err(Failure::from(EngineError::from(error))),
    }
}
