//! A command that sends its requests itself, with settings that may be others than the service's, and still at the one
//! pace: beside a running service it takes the turn for each request from it; without one it goes on with the pace in
//! the database, under its lock. Without a database there is no pace to share.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::failure::Failure;
use super::print::complain;
use super::run::submit;
use super::workshop::{self, Whose};
use crate::clock::Clock;
use crate::core::rule::RuleSet;
use crate::engine::pace;
use crate::metrics::Metrics;
use crate::portal::{Places, Portal};
use crate::settings::Settings;
use crate::store::requests::{self, RequestState};
use crate::store::{Lock, Store};

/// How often an answer is looked for. A turn is counted from the moment it is given, so it must be used at once.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How long a turn is waited for before the request is sent without one: longer than the bucket of a busy portal takes
/// to have room, and a service that is stuck does not keep a person from asking the portal what is wrong.
const TURN_WITHIN: Duration = Duration::from_secs(30);
/// Each how many looks it is made sure that the service still lives: twice a second.
const LOOKS_AT_LOCK: u32 = 50;

/// The portal, at the pace of whoever works on the database.
pub(super) struct Turns {
    pub(super) portal: Portal,
    ours: Option<(Store, Lock)>,
}

impl Turns {
    /// A client of the settings' portal.
    pub(super) async fn of(settings: &Settings, rules: &RuleSet) -> Result<Turns, Failure> {
        let metrics = Metrics::new();
        if !settings.db.exists() {
            return Ok(Turns {
                portal: workshop::portal(settings, rules, None, &metrics).await?,
                ours: None,
            });
        }
        match workshop::whose(&settings.db) {
            Ok(Whose::Ours(lock)) => {
                let store = workshop::open_store(&settings.db, false)?;
                let portal = workshop::portal(settings, rules, Some(&store), &metrics).await?;
                Ok(Turns { portal, ours: Some((store, lock)) })
            }
            Ok(Whose::Service(_)) => {
                let store = workshop::open_store(&settings.db, false)?;
                let portal = workshop::portal_beside(settings, rules, &metrics, places(store, &settings.db))?;
                Ok(Turns { portal, ours: None })
            }
            // Whoever may not read the database may ask the portal all the same.
            Err(_) => {
                complain(format!(
                    "warning: the database {} can't be read here, so a running service's pace is not shared",
                    settings.db.display()
                ));
                Ok(Turns { portal: workshop::portal(settings, rules, None, &metrics).await?, ours: None })
            }
        }
    }

    /// Nothing is sent any more.
    pub(super) async fn over(self) -> Result<(), Failure> {
        if let Some((store, lock)) = self.ours {
            pace::close(&store, &self.portal, Clock::System.now()).await?;
            store.close().await;
            drop(lock);
        }
        Ok(())
    }
}

/// Asks the running service for a turn before each request.
fn places(store: Store, db: &Path) -> Places {
    let db: PathBuf = db.to_owned();
    Arc::new(move || {
        let (store, db) = (store.clone(), db.clone());
        Box::pin(async move {
            // Without an answer the request is sent at the pace of this process alone, which begins with an empty bucket.
            let _ = tokio::time::timeout(TURN_WITHIN, turn(&store, &db)).await;
        })
    })
}

async fn turn(store: &Store, db: &Path) {
    let Ok(id) = submit(store, "place", &serde_json::json!({})).await else { return };
    let mut looks = 0u32;
    loop {
        match store.read(move |db| requests::poll(db, id)).await {
            Ok(RequestState::Pending | RequestState::Taken { .. }) => {}
            Ok(RequestState::Done { .. } | RequestState::Unknown) | Err(_) => return,
        }
        looks += 1;
        if looks.is_multiple_of(LOOKS_AT_LOCK)
            && let Ok(Whose::Ours(_)) = workshop::whose(db)
        {
            return;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
