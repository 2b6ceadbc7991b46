//! The people who are told by notices: a service that takes them or refuses them, and what must be true of what arrived.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::post;
use b24_janitor::engine::Courier;
use b24_janitor::store::notices;
use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;

use crate::sim::wires::Wire;
use crate::sim::world::{Checked, World};

/// How soon people are told where nothing fails.
const TOLD_WITHIN: SignedDuration = SignedDuration::from_hours(2);

/// Brings notices over the wire, as long as the process `dead` belongs to lives.
pub(crate) fn courier(wire: &Wire, dead: &Arc<AtomicBool>) -> Courier {
    let (wire, dead) = (wire.clone(), Arc::clone(dead));
    let take = post(move |body: String| async move {
        if dead.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if wire.deaf.load(Ordering::SeqCst) {
            return StatusCode::BAD_GATEWAY;
        }
        let now = wire.clock.now();
        let mut ledger = wire.ledger();
        ledger.line(now, &format!("notice {body}"));
        ledger.told.push(body);
        StatusCode::OK
    });
    let address = |_: &str| Ok(Some(SecretString::from("https://hooks.invalid/tell")));
    Courier::in_process(Router::new().route("/tell", take), Arc::new(address))
}

impl World {
    /// What is recorded as sent was told; and no run that is held went by unsaid.
    pub(crate) async fn check_notices(&self) -> Checked {
        const UNSAID: &str = "SELECT id, held_at FROM runs WHERE state = 'held' AND NOT EXISTS
            (SELECT 1 FROM notices WHERE run_id = runs.id AND occasion = 'held')";
        const SENT: &str = "SELECT count(*) FROM notices WHERE state = 'sent'";
        let both = self
            .read(|db| {
                let sent: u64 =
                    db.prepare_cached(SENT)?.query_row([], |row| row.get::<_, i64>(0))?.unsigned_abs();
                let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
                let unsaid =
                    db.prepare_cached(UNSAID)?.query_map([], row)?.collect::<rusqlite::Result<Vec<_>>>()?;
                Ok((sent, unsaid))
            })
            .await?;
        let Some((sent, unsaid)) = both else { return Ok(()) };
        let ledger = self.wire.ledger();
        if (ledger.told.len() as u64) < sent {
            return Err(format!("{sent} notices are recorded as sent, {} arrived", ledger.told.len()));
        }
        for (run, held_at) in unsaid {
            let at = Timestamp::from_millisecond(held_at).map_err(|error| error.to_string())?;
            let mut then = ledger.versions.iter().filter(|version| version.from <= at && at <= version.until);
            if !self.skews && then.all(|version| version.spec.notify) {
                return Err(format!("run {run} is held since {at} and nobody is told"));
            }
        }
        Ok(())
    }

    /// Once nothing fails any more, what happened is told within two hours: a try is at most as far from the next, and a loop
    /// with nothing to do looks every five minutes here.
    pub(crate) async fn check_all_told(&self) -> Checked {
        let before = self.service_now()?.saturating_sub(TOLD_WITHIN).map_err(|error| error.to_string())?;
        match self.read(move |db| notices::any_before(db, before)).await? {
            Some(true) => Err(format!("notices from before {before} still wait")),
            Some(false) | None => Ok(()),
        }
    }
}
