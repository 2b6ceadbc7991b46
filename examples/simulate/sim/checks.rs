//! What must hold after every step.

use std::collections::BTreeMap;

use b24_janitor::core::outcome::Outcome;
use b24_janitor::sandbox::Deletion;
use b24_janitor::store::jobs;
use futures_util::FutureExt;
use jiff::{SignedDuration, Timestamp};

use crate::sim::oracle;
use crate::sim::world::{Checked, World};

/// How old what is believed of a lead may be when its deletion is sent, by the documentation, and a moment more.
const FRESH: SignedDuration = SignedDuration::from_millis(2010);
/// The same for a portal whose lists are always slow.
const SLOW: SignedDuration = SignedDuration::from_millis(15_010);
/// The time that the daily cap counts, but for how long a request may be under way.
const DAY: SignedDuration = SignedDuration::from_secs(24 * 3600 - 120);
/// How soon `pause` acts.
const PAUSE: SignedDuration = SignedDuration::from_secs(1);

/// What is watched of a job.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job {
    lead: u32,
    run: i64,
    /// The place of its rule's name.
    rule: usize,
    created_at: i64,
    outcome: Option<Outcome>,
    finished_at: Option<i64>,
    attempts: u32,
}

/// What was seen of the service so far.
#[derive(Default)]
pub(crate) struct Seen {
    deletions: usize,
    sent: usize,
    jobs: BTreeMap<i64, Job>,
    /// Which job's attempt deleted a lead.
    by_job: BTreeMap<u32, i64>,
    /// When each rule deleted.
    of_rule: BTreeMap<String, Vec<Timestamp>>,
}

impl Seen {
    /// The jobs that are not done.
    pub(crate) fn open(&self) -> impl Iterator<Item = (&i64, &Job)> {
        self.jobs.iter().filter(|(_, job)| job.outcome.is_none())
    }
}

impl World {
    /// Everything that must hold now.
    pub(crate) async fn check(&self, seen: &mut Seen) -> Checked {
        if self.running()?.engine.crashed().now_or_never().is_some() {
            return Err("a part of the service panicked".to_owned());
        }
        if self.is_dead() {
            return Ok(());
        }
        self.check_limits()?;
        self.check_pauses(seen)?;
        self.check_deletions(seen).await?;
        self.check_moves(seen).await?;
        self.check_sums(seen).await?;
        self.check_notices().await?;
        self.check_events().await
    }

    fn check_limits(&self) -> Checked {
        let stats = self.sandbox.stats();
        if !self.skews && !self.shared && (stats.refused_503, stats.refused_429) != (0, 0) {
            return Err(format!(
                "the portal refused for our pace: {} times 503, {} times 429",
                stats.refused_503, stats.refused_429
            ));
        }
        Ok(())
    }

    fn check_pauses(&self, seen: &mut Seen) -> Checked {
        let ledger = self.wire.ledger();
        for sent in &ledger.sent[seen.sent..] {
            for (from, until) in &ledger.pauses {
                if sent.at.duration_since(*from) > PAUSE && sent.at < *until {
                    return Err(format!(
                        "paused since {from}, and at {} leads {:?} were deleted",
                        sent.at, sent.leads
                    ));
                }
            }
        }
        seen.sent = ledger.sent.len();
        Ok(())
    }

    /// Each deletion of ours was of a lead that its rule selected at the last look.
    async fn check_deletions(&self, seen: &mut Seen) -> Checked {
        let deletions = self.sandbox.stats().deletions;
        for gone in &deletions[seen.deletions..] {
            seen.deletions += 1;
            if gone.by == "colleague" {
                continue;
            }
            let lead = gone.id;
            let rule = self
                .read(move |db| {
                    db.query_row(
                        "SELECT rule, created_at, grace_seconds, jobs.id FROM jobs JOIN attempts ON job_id = jobs.id WHERE lead_id = ?1
                         ORDER BY attempts.id DESC LIMIT 1",
                        [lead],
                        |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?, row.get::<_, i64>(3)?)),
                    )
                    .map(Some)
                    .or_else(|error| match error {
                        rusqlite::Error::QueryReturnedNoRows => Ok(None),
                        other => Err(other),
                    })
                })
                .await?
                .flatten();
            let Some((rule, created, grace, job)) = rule else {
                return Err(format!("lead {lead} was deleted and no job has an attempt at it"));
            };
            seen.by_job.insert(lead, job);
            let waited = gone.at.as_millisecond() - created;
            if !self.skews && waited < grace * 1000 {
                return Err(format!(
                    "lead {lead} was deleted after {waited} ms, before its grace period of {grace} s"
                ));
            }
            self.check_deletion(gone, &rule)?;
            let of_rule = seen.of_rule.entry(rule.clone()).or_default();
            of_rule.push(gone.at);
            self.check_day(of_rule, &rule)?;
        }
        Ok(())
    }

    fn check_deletion(&self, gone: &Deletion, name: &str) -> Checked {
        let ledger = self.wire.ledger();
        let lead = gone.id;
        let sent = ledger.sent.iter().rev().find(|sent| sent.at <= gone.at && sent.leads.contains(&lead));
        let Some(sent) = sent else {
            return Err(format!("lead {lead} was deleted and no request asked for it"));
        };
        let slow = ledger.slow_reads.iter().any(|at| {
            let age = sent.at.duration_since(*at);
            !age.is_negative() && age < SLOW
        });
        let fresh = if slow { SLOW } else { FRESH };
        let oldest = sent.at.saturating_sub(fresh).unwrap_or(Timestamp::MIN);
        // What an event told of before is known, however fresh the reading is.
        let told = ledger.changed.get(&lead).and_then(|told| told.iter().rfind(|at| **at < sent.at));
        let oldest = told.map_or(oldest, |told| oldest.max(*told));
        let clocks = ledger.shown(oldest, sent.at);
        let versions = ledger.leads.get(&lead).map(Vec::as_slice).unwrap_or_default();
        let believed = versions.iter().enumerate().filter(|(index, (at, _))| {
            let replaced = versions.get(index + 1).map_or(Timestamp::MAX, |(next, _)| *next);
            *at <= sent.at && replaced >= oldest
        });
        let in_force: Vec<_> = ledger
            .versions
            .iter()
            .filter(|version| version.from <= sent.at && sent.at <= version.until)
            .collect();
        for (_, (_, lead)) in believed {
            let selected = in_force.iter().any(|version| {
                version.spec.rule(name).is_some_and(|rule| {
                    clocks.iter().any(|now| oracle::selects(&version.spec, rule, lead, now.as_second()))
                })
            });
            if selected {
                return Ok(());
            }
        }
        let rules: Vec<_> = in_force.iter().map(|version| version.spec.yaml()).collect();
        Err(format!(
            "lead {lead} was deleted by rule {name} at {} (sent at {}), which does not select it: {:?}\n{}",
            gone.at,
            sent.at,
            versions.iter().rev().take(3).collect::<Vec<_>>(),
            rules.join("\n")
        ))
    }

    /// No rule deleted more in 24 hours than it ever was allowed to in that time.
    fn check_day(&self, deletions: &[Timestamp], name: &str) -> Checked {
        let Some(last) = deletions.last() else { return Ok(()) };
        let from = last.saturating_sub(DAY).unwrap_or(Timestamp::MIN);
        let count = deletions.iter().filter(|at| **at > from).count();
        let ledger = self.wire.ledger();
        let in_force = ledger.versions.iter().filter(|version| version.until >= from);
        let cap = in_force.filter_map(|version| version.spec.rule(name)).map(|rule| rule.per_day).max();
        let cap = cap.and_then(|cap| usize::try_from(cap).ok()).unwrap_or(0);
        // Deletions of one batch have one time in the books and several at the portal.
        if !self.skews && count > cap {
            return Err(format!(
                "rule {name} deleted {count} leads in the 24 hours to {last}, and may {cap}"
            ));
        }
        Ok(())
    }

    /// A job that is done stays so, and no job turns into another.
    async fn check_moves(&self, seen: &mut Seen) -> Checked {
        // Columns by their numbers: after every step every job is read.
        const ALL: &str = "SELECT id, lead_id, run_id, created_at, outcome, finished_at, attempts, rule FROM jobs ORDER BY id";
        let all = self
            .read(|db| {
                let mut find = db.prepare_cached(ALL)?;
                let mut rows = find.query([])?;
                let mut jobs = BTreeMap::new();
                while let Some(row) = rows.next()? {
                    let outcome = row.get_ref(4)?.as_str_or_null()?.map(Outcome::parse);
                    let job = Job {
                        lead: row.get(1)?,
                        run: row.get(2)?,
                        created_at: row.get(3)?,
                        outcome: outcome.flatten(),
                        finished_at: row.get(5)?,
                        attempts: row.get(6)?,
                        rule: super::spec::number(row.get_ref(7)?.as_str()?),
                    };
                    jobs.insert(row.get::<_, i64>(0)?, job);
                }
                Ok(jobs)
            })
            .await?;
        let Some(now) = all else { return Ok(()) };
        for (id, before) in &seen.jobs {
            let Some(after) = now.get(id) else { return Err(format!("job {id} is lost: {before:?}")) };
            let whose = |job: &Job| (job.lead, job.rule, job.run, job.created_at);
            if whose(before) != whose(after) {
                return Err(format!("job {id} became another: {before:?} -> {after:?}"));
            }
            let ended = before.outcome.is_some_and(|outcome| outcome != Outcome::Failed);
            if ended && (before.outcome, before.finished_at) != (after.outcome, after.finished_at) {
                return Err(format!("job {id} had ended: {before:?} -> {after:?}"));
            }
        }
        for (id, job) in &now {
            let says_gone = matches!(job.outcome, Some(Outcome::Deleted | Outcome::AlreadyGone));
            if says_gone && self.sandbox.lead(job.lead).is_some() {
                return Err(format!("job {id} says that the lead is gone, and it is not: {job:?}"));
            }
            if job.outcome == Some(Outcome::Deleted) && job.attempts == 0 {
                return Err(format!("job {id} says that we deleted the lead, and nothing was sent: {job:?}"));
            }
            // An attempt that was recorded and never left, in a crash, counts as ours: nobody can tell.
            if job.outcome == Some(Outcome::AlreadyGone) && seen.by_job.get(&job.lead) == Some(id) {
                return Err(format!("job {id} says that the lead was gone, and we deleted it: {job:?}"));
            }
        }
        seen.jobs = now;
        Ok(())
    }

    async fn check_sums(&self, seen: &Seen) -> Checked {
        const WRONG: &str = "SELECT id, state, matched FROM runs
            WHERE state = 'enqueued' AND matched <> protected + already_waiting + enqueued
            OR (SELECT count(*) FROM jobs WHERE run_id = runs.id) <> iif(state = 'enqueued', enqueued, 0) LIMIT 1";
        let both = self
            .read(|db| {
                let row = |row: &rusqlite::Row<'_>| {
                    let state = row.get::<_, String>(1)?;
                    Ok(format!("run {}, {state}, of {} leads", row.get::<_, i64>(0)?, row.get::<_, i64>(2)?))
                };
                let wrong = db.prepare_cached(WRONG)?.query_map([], row)?.next().transpose()?;
                Ok((wrong, jobs::counts(db)?))
            })
            .await?;
        let Some((wrong, counts)) = both else { return Ok(()) };
        if let Some(run) = wrong {
            return Err(format!("the numbers of a run don't add up: {run}"));
        }
        let rows = seen.jobs.len() as u64;
        let ended =
            [Outcome::Deleted, Outcome::AlreadyGone, Outcome::Spared, Outcome::Cancelled, Outcome::Failed];
        let ended: u64 = ended.iter().map(|outcome| counts.of(*outcome)).sum();
        // Nothing of a week is old enough to be pruned.
        if rows != ended + counts.waiting + counts.running {
            return Err(format!("{rows} jobs are stored, and counted are {counts:?}"));
        }
        Ok(())
    }

    /// What was answered 200 is stored.
    async fn check_events(&self) -> Checked {
        let stored = self
            .read(|db| {
                db.prepare_cached("SELECT lead_id, sum(repeats + 1) FROM events GROUP BY lead_id")?
                    .query_map([], |row| Ok((row.get::<_, u32>(0)?, row.get::<_, i64>(1)?.unsigned_abs())))?
                    .collect::<rusqlite::Result<BTreeMap<u32, u64>>>()
            })
            .await?;
        let Some(stored) = stored else { return Ok(()) };
        let ledger = self.wire.ledger();
        for (lead, heard) in &ledger.heard {
            let stored = stored.get(lead).copied().unwrap_or(0);
            if stored < *heard {
                return Err(format!("{heard} events of lead {lead} were answered 200, {stored} are stored"));
            }
        }
        let total: u64 = stored.values().sum();
        if total > ledger.delivered {
            return Err(format!("{total} events are stored, only {} were sent", ledger.delivered));
        }
        Ok(())
    }
}
