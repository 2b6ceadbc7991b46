//! New rules for a running service, asked for by SIGHUP or on the admin listener: all files or none; on a mistake the
//! old ones stay, and the log, the metric, `/readyz` and the page say so.

use tokio::signal::unix::Signal;
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info};

use super::health::Health;
use super::vet;
use crate::core::notice::Happening;
use crate::engine::{Courier, Engine};
use crate::http::notify;
use crate::http::reload::Reload;
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::store::control;
use crate::store::notices;

/// Who waits for a reload at the same time: more than people are in front of one service.
const WAITING: usize = 8;

/// What a reload came to: the number of rules, or everything that is wrong.
type Outcome = Result<usize, Vec<String>>;

/// Reloads that were asked for and not made yet.
pub(super) type Asked = mpsc::Receiver<oneshot::Sender<Outcome>>;

/// A hook that asks for a reload, and where that arrives.
pub(super) fn door() -> (Reload, Asked) {
    let (ask, asked) = mpsc::channel(WAITING);
    let hook: Reload = std::sync::Arc::new(move || {
        let ask = ask.clone();
        Box::pin(async move {
            let (told, outcome) = oneshot::channel();
            if ask.try_send(told).is_err() {
                return Err(vec!["others wait for a reload already, or the service stops".to_owned()]);
            }
            outcome.await.unwrap_or_else(|_| Err(vec!["the service stops".to_owned()]))
        })
    });
    (hook, asked)
}

/// The service that is reloaded.
pub(super) struct Reloading<'s> {
    pub(super) settings: &'s Settings,
    pub(super) engine: &'s Engine,
    pub(super) health: &'s Health,
    pub(super) metrics: &'s Metrics,
    pub(super) courier: &'s Courier,
}

impl Reloading<'_> {
    /// Reloads whenever it is asked for, one after the other. Never returns.
    pub(super) async fn whenever_asked(self, hangup: &mut Signal, asked: &mut Asked) {
        loop {
            let waiting = tokio::select! {
                signal = hangup.recv() => match signal {
                    Some(()) => None,
                    None => return std::future::pending().await,
                },
                waiting = asked.recv() => match waiting {
                    Some(waiting) => Some(waiting),
                    None => return std::future::pending().await,
                },
            };
            notify::reloading();
            let outcome = self.reload().await;
            record(self.engine, outcome.as_ref().err().map(Vec::as_slice).unwrap_or_default()).await;
            match &outcome {
                Ok(rules) => {
                    self.metrics.reload(true);
                    self.health.reloaded(None);
                    info!(rules, "rules reloaded");
                }
                Err(problems) => {
                    self.metrics.reload(false);
                    for problem in problems {
                        error!("{problem}");
                    }
                    error!(
                        problems = problems.len(),
                        "the rules were not reloaded; the old ones stay in force"
                    );
                    self.health.reloaded(Some(problems.join("\n")));
                }
            }
            // Whoever asked may have gone.
            let _gone = waiting.map(|waiting| waiting.send(outcome));
            notify::ready();
        }
    }

    async fn reload(&self) -> Outcome {
        let rules = vet::load(self.settings, self.courier)?;
        let count = rules.rules.len();
        let replaced = match vet::ask(&self.engine.context().portal, &rules).await? {
            None => self.engine.reload(rules).await,
            Some(why) => self.engine.reload_unchecked(rules, &why).await,
        };
        replaced.map_err(|error| vec![format!("{error}")])?;
        Ok(count)
    }
}

/// Records what came of taking rules into force, for `status`; no problem: they are in force. People are told of mistakes
/// that they have not been told of: who tries again and again is told once.
pub(super) async fn record(engine: &Engine, problems: &[String]) {
    let (problems, now) = (problems.to_vec(), engine.context().clock.now());
    let stored = engine
        .context()
        .store
        .write(move |db| {
            let known = control::failed_reload(db)?.is_some_and(|failed| failed.problems == problems);
            if !problems.is_empty() && !known {
                let failed = Happening::ReloadFailed { problems: problems.len() as u64 };
                notices::tell(db, &failed, now)?;
            }
            control::set_failed_reload(db, &problems, now)
        })
        .await;
    if let Err(error) = stored {
        error!(%error, "could not record what came of the rules");
    }
}
