//! The end of a seed: nothing fails any more, and everything that is due must come to its end.

use std::time::Duration;

use b24_janitor::core::outcome::Outcome;
use b24_janitor::store::runs::{Run, RunState};
use b24_janitor::store::{events, jobs};

use crate::sim::checks::Seen;
use crate::sim::oracle;
use crate::sim::world::{Checked, World};

/// How long the service has to settle what is open: the longest grace period, the longest waits after failures.
const SETTLED_WITHIN: Duration = Duration::from_secs(4 * 24 * 3600);
/// The longest pause between two tries of a notice, and then some.
const ALL_TOLD: Duration = Duration::from_secs(4 * 3600);
const MINUTES: Duration = Duration::from_secs(600);
/// How often a run is tried before it counts as failed.
const TRIES: u32 = 12;

impl World {
    /// Ends the faults, waits, and takes the accounts.
    pub(crate) async fn finish(&mut self, seen: &mut Seen) -> Checked {
        self.wire.line("the end of all faults");
        self.sandbox.clear_faults();
        self.permit_all();
        self.set_weather([0, 0, 0]);
        self.ears(false);
        self.kill().await;
        self.dies_at = 0;
        self.start().await?;
        self.pause(false).await?;
        let last = self.last_rules();
        self.reload(last).await?;
        self.retry().await?;
        self.settle(seen).await?;
        let mut judged = Vec::new();
        let names: Vec<&str> =
            self.spec.rules.iter().filter(|rule| rule.delete).map(|rule| rule.name).collect();
        for name in names {
            judged.push((name, self.clock.now(), self.service_now()?));
            self.must_run(name).await?;
        }
        self.settle(seen).await?;
        for (name, at, now) in judged {
            let Some(rule) = self.spec.rule(name) else { continue };
            for lead in self.sandbox.leads() {
                let id = lead.id;
                let selected = oracle::selects(&self.spec, rule, &lead, now.as_second());
                if selected && !self.is_protected(id, name, now.as_millisecond()).await? {
                    return Err(format!(
                        "rule {name} selected lead {id} at {at} and it is still there: {lead:?}"
                    ));
                }
            }
        }
        self.check_cancelled().await?;
        // More than the longest pause between two tries, and then what was held back.
        self.advance(ALL_TOLD).await;
        self.check_all_told().await?;
        let both = self
            .read(|db| {
                let runs = db.query_row("SELECT count(*) FROM runs", [], |row| row.get::<_, u32>(0))?;
                Ok((jobs::counts(db)?, runs))
            })
            .await?;
        if let Some((counts, runs)) = both {
            (self.counts.jobs, self.counts.runs) = (counts.total(), runs.into());
            let all = [
                Outcome::Deleted,
                Outcome::AlreadyGone,
                Outcome::Spared,
                Outcome::Cancelled,
                Outcome::Failed,
            ];
            for outcome in all {
                *self.counts.outcomes.entry(outcome.as_str().to_owned()).or_default() += counts.of(outcome);
            }
        }
        Ok(())
    }

    /// Lets time pass until no job is open and no event is pending.
    async fn settle(&mut self, seen: &mut Seen) -> Checked {
        let begun = self.clock.now();
        loop {
            self.advance(MINUTES).await;
            self.approve(true).await?;
            self.check(seen).await?;
            let open = self.read(|db| Ok((jobs::counts(db)?, events::counts(db)?))).await?;
            let Some((counts, pending)) = open else { return Err("the service died at the end".to_owned()) };
            if counts.waiting + counts.running + pending.pending == 0 {
                return Ok(());
            }
            if self.clock.now().duration_since(begun).unsigned_abs() > SETTLED_WITHIN {
                let open: Vec<_> = seen.open().collect();
                return Err(format!("not settled: {counts:?}, {pending:?}, {open:?}"));
            }
        }
    }

    async fn must_run(&mut self, name: &'static str) -> Checked {
        for _ in 0..TRIES {
            match self.run(name).await? {
                Some(Run { state: RunState::Enqueued, .. }) => return Ok(()),
                Some(Run { state: RunState::Held, .. }) => return self.approve(true).await,
                _ => self.approve(true).await?,
            }
            self.advance(MINUTES).await;
        }
        Err(format!("rule {name} can't be run though nothing fails"))
    }

    async fn is_protected(&self, lead: u32, rule: &'static str, now: i64) -> Checked<bool> {
        let found = self
            .read(move |db| {
                db.prepare_cached(
                    "SELECT EXISTS (SELECT 1 FROM lead_protections
                     WHERE lead_id = ?1 AND rule IN ('', ?2) AND until > ?3)",
                )?
                .query_row((lead, rule, now), |row| row.get(0))
            })
            .await?;
        Ok(found.unwrap_or(false))
    }

    /// What a person cancelled is not taken up again by the same rule.
    async fn check_cancelled(&self) -> Checked {
        let again = self
            .read(|db| {
                db.query_row(
                    "SELECT count(*) FROM jobs AS first JOIN jobs AS later
                        ON later.lead_id = first.lead_id AND later.rule = first.rule AND later.id > first.id
                        -- A job that had failed may be retried and cancelled after the next one was made.
                        AND later.created_at > first.finished_at
                     WHERE first.outcome = 'cancelled'",
                    [],
                    |row| row.get::<_, u32>(0),
                )
            })
            .await?;
        match again {
            Some(0) | None => Ok(()),
            Some(jobs) => {
                Err(format!("{jobs} jobs are of leads that a person had cancelled for the same rule"))
            }
        }
    }
}
