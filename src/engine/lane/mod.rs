//! One lane of the worker: claims due jobs, reads their leads, judges them once more, keeps copies, deletes, settles.
//! Up to eight lanes run side by side; each has at most one request in flight.
//!
//! Properties wanted: a lead is deleted only if it was read at most [`FRESH`](crate::core::freshness::FRESH) before its deletion was sent and its rule,
//! as it stood at the sending, selected it then; every job claimed is settled or given back; nothing is sent that is not
//! first recorded as sent.
//!
//! Races, and how each is decided:
//! * a colleague revives the lead after the read: the portal has no conditional delete, so the window is kept as short
//!   as one request, and an event of the lead that came in since the read sends the job back to be read again;
//! * `pause` between the claim and the request: looked for in the transaction that records the sending;
//! * the rules change between the claim and the request: the batch is judged again, by the rules in force;
//! * the process dies after the sending was recorded: the job is *unknown* at the next start, and is read when the
//!   portal can no longer be working on it;
//! * the answer is lost: the same, without the restart.

mod ahead;
mod batch;
mod last_look;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tracing::{Instrument, debug, error, error_span, warn};

pub(super) use batch::{Batch, Doomed};
use batch::{Judged, Reading};

use super::context::{Context, EngineError};
use super::pulse::Part;
use super::settle::Settling;
use crate::core::batch_size::{self, BatchSize};
use crate::core::lead::LeadId;
use crate::core::rule::{Mode, Rule};
use crate::portal::{BatchRequest, Permit, Work};
use crate::store::jobs::{self, CopyToKeep, Job};
use crate::store::{ClaimId, JobId, Room};
use crate::store::{control, events};

/// After this many failed reads in a row the pauses between them grow no more: about five minutes.
const READ_FAILURES: u32 = 6;
/// How long jobs that were claimed and read ahead wait for the next request's permission; then they are given back.
const AHEAD_PATIENCE: Duration = Duration::from_secs(2);
/// How long a lane sleeps when nothing wakes it: a safety net, and how soon a day's cap is looked at again.
const IDLE: SignedDuration = SignedDuration::from_secs(30);
/// How often a lane that waits for the pace says that it lives.
const STIRS_EVERY: Duration = Duration::from_secs(30);
/// What a lane does between two signs of life takes no longer: a request of 75 s, or one that is tried patiently for ten
/// minutes, after a wait for the portal's budget of ten minutes.
const STEP_WITHIN: Duration = Duration::from_secs(25 * 60);
/// How much longer than its sleep a lane may be silent.
const WAKES_WITHIN: Duration = Duration::from_secs(60);
/// How long a lane that could claim nothing of what is due asks for no place in the portal's bucket, whatever changes
/// meanwhile: places that are taken for nothing are missing to others.
const BARRED: SignedDuration = SignedDuration::from_secs(5);
/// How often a batch is read again because events of its leads keep coming, before its jobs are given back.
const REREADS: u32 = 3;

/// One lane.
pub(super) struct Lane {
    pub ctx: Context,
    /// 0 for the first; lanes from `portal.concurrency` on stand idle.
    pub index: usize,
    /// Shared by all lanes: the portal is one.
    pub size: Arc<Mutex<BatchSize>>,
    /// Shared by all lanes: what the very first request read for those that have nothing yet.
    pub handed_over: Arc<Mutex<VecDeque<Batch>>>,
    /// The last claims of this lane, the newest last: where the database fails in the middle of a turn, they are what
    /// it may have left behind.
    pub claims: Mutex<Vec<ClaimId>>,
    /// Reads of leads before their deletion that failed, in a row.
    pub failed_reads: AtomicU32,
    /// After a failed read nothing is begun before this moment.
    pub resting_until: Mutex<Timestamp>,
}

/// What a lane did with its turn.
enum Turn {
    /// It worked; there may be more.
    Worked(Option<Batch>),
    /// There is nothing to do until something changes or this moment comes.
    Idle(Timestamp),
    /// Nothing is begun before this moment, whatever changes.
    Rest(Timestamp),
    /// What is due could not be claimed: a day's cap, or another lane was faster.
    Barred,
}

impl Lane {
    /// Works until the service stops; the request in flight is finished and settled first.
    pub(super) async fn run(self) {
        let mut changes = self.ctx.store.changes();
        let mut rules = self.ctx.rules.clone();
        let mut unchecked = self.ctx.unchecked_changes();
        let mut ahead: Option<Batch> = None;
        let mut failures = 0;
        let mut barred_until = Timestamp::MIN;
        while !self.ctx.stop.is_cancelled() {
            if self.index >= usize::from(rules.borrow_and_update().portal.concurrency) {
                if let Err(error) = self.give_back(ahead.take()).await {
                    error!(%error, lane = self.index, "could not give back claimed jobs; the next start does it");
                }
                self.ctx.pulse.rest(self.part());
                tokio::select! {
                    biased;
                    changed = rules.changed() => if changed.is_err() { self.ctx.stop.cancelled().await },
                    () = self.ctx.stop.cancelled() => {}
                }
                continue;
            }
            self.stir();
            changes.borrow_and_update();
            unchecked.mark_unchanged();
            let turn = async {
                if failures > 0 {
                    self.abandon().await?;
                }
                self.turn(ahead.take(), barred_until).await
            };
            let until = match turn.await {
                Ok(Turn::Worked(next)) => {
                    failures = 0;
                    ahead = next;
                    continue;
                }
                Ok(Turn::Idle(until)) => until,
                Ok(Turn::Rest(until)) => {
                    self.sleeps(until);
                    tokio::select! {
                        biased;
                        () = self.ctx.clock.sleep_until(until) => {}
                        () = self.ctx.stop.cancelled() => {}
                    }
                    continue;
                }
                Ok(Turn::Barred) => {
                    let now = self.ctx.clock.now();
                    barred_until = now.checked_add(BARRED).unwrap_or(Timestamp::MAX);
                    now.checked_add(self.ctx.clock.idle(IDLE)).unwrap_or(Timestamp::MAX)
                }
                Err(error) => {
                    failures += 1;
                    error!(%error, lane = self.index, "the worker could not go on; trying again");
                    let at = self.ctx.retry_at(self.ctx.clock.now(), failures);
                    self.sleeps(at);
                    tokio::select! {
                        biased;
                        () = self.ctx.clock.sleep_until(at) => {}
                        () = self.ctx.stop.cancelled() => {}
                    }
                    continue;
                }
            };
            self.sleeps(until);
            tokio::select! {
                biased;
                _ = changes.changed() => {}
                // What was barred may be claimed now.
                _ = unchecked.changed() => barred_until = Timestamp::MIN,
                () = self.ctx.clock.sleep_until(until) => {}
                () = self.ctx.stop.cancelled() => {}
            }
        }
        self.ctx.pulse.rest(self.part());
        let ended = async {
            self.give_back(ahead).await?;
            while let Some(batch) = self.take_over(|_| true) {
                self.give_back(Some(batch)).await?;
            }
            if failures > 0 { self.abandon().await } else { Ok(()) }
        };
        if let Err(error) = ended.await {
            error!(%error, "could not give back claimed jobs; the next start does it");
        }
    }

    fn part(&self) -> Part {
        Part::Lane(self.index)
    }

    /// A sign of life, before a step of the work.
    fn stir(&self) {
        self.ctx.pulse.beat(self.part(), STEP_WITHIN);
    }

    /// A sign of life, before a sleep.
    fn sleeps(&self, until: Timestamp) {
        let sleep = Duration::try_from(until.duration_since(self.ctx.clock.now())).unwrap_or_default();
        self.ctx.pulse.beat(self.part(), sleep + WAKES_WITHIN);
    }

    fn batch_size(&self) -> usize {
        let size = self.size.lock().unwrap_or_else(PoisonError::into_inner).next();
        // One failure is the weather; from the second on a lead in the batch may be what the portal stumbles over.
        let repeated = self.failed_reads.load(Ordering::SeqCst).saturating_sub(1);
        (size >> repeated.min(READ_FAILURES)).max(1)
    }

    fn resting_until(&self) -> Timestamp {
        *self.resting_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn turn(&self, ahead: Option<Batch>, barred_until: Timestamp) -> Result<Turn, EngineError> {
        let mut ahead = self.look_ahead(ahead).await?;
        if let Some(batch) = &mut ahead {
            self.trim(batch).await?;
        }
        let idle = self.ctx.clock.now().checked_add(self.ctx.clock.idle(IDLE)).unwrap_or(Timestamp::MAX);
        let rest = self.resting_until();
        if ahead.is_none() && rest > self.ctx.clock.now() {
            return Ok(Turn::Rest(rest));
        }
        if ahead.is_none()
            && let Some(until) = self.nothing_due(idle, barred_until).await?
        {
            return Ok(Turn::Idle(until));
        }
        // The first answer says how large a batch may be: until then one lane is enough.
        if self.index > 0 && !self.size.lock().unwrap_or_else(PoisonError::into_inner).is_learnt() {
            self.give_back(ahead).await?;
            return Ok(Turn::Idle(idle));
        }
        let Some((permit, ahead)) = self.permission(ahead).await? else { return Ok(Turn::Idle(idle)) };
        let batch = match ahead {
            Some(batch) => Some(batch),
            None => self.claim(permit.leads()).await?,
        };
        match batch {
            Some(batch) => {
                // What every line of the log about a batch carries, also where only errors are logged.
                let span = error_span!("batch", claim = batch.claim.id.0, leads = batch.claim.jobs.len());
                Ok(Turn::Worked(self.work(permit, batch).instrument(span).await?))
            }
            None => Ok(Turn::Barred),
        }
    }

    /// `None` if something is due now and may be asked for; else when to look again.
    async fn nothing_due(
        &self,
        idle: Timestamp,
        barred_until: Timestamp,
    ) -> Result<Option<Timestamp>, EngineError> {
        let now = self.ctx.clock.now();
        if self.ctx.room() != Room::Enough {
            return Ok(Some(idle));
        }
        let next = self
            .ctx
            .store
            .read(|db| {
                let stopped = control::paused(db)? || control::portal_stop(db)?.is_some();
                if stopped { Ok(None) } else { jobs::next_due(db) }
            })
            .await?;
        Ok(match next {
            Some(due) if due <= now && barred_until > now => Some(barred_until),
            Some(due) if due <= now => None,
            Some(due) => Some(due.min(idle)),
            None => Some(idle),
        })
    }

    /// Waits for the pace. Jobs read ahead are given back if that takes long: what was read would be stale, and a
    /// waiting job can be cancelled while a claimed one can't. `None` if the service is stopping, or this lane stands
    /// back because others share the portal's address.
    async fn permission(&self, ahead: Option<Batch>) -> Result<Option<(Permit, Option<Batch>)>, EngineError> {
        if self.index >= usize::from(self.ctx.portal.suggested_concurrency()) {
            self.give_back(ahead).await?;
            return Ok(None);
        }
        if let Some(batch) = ahead {
            let leads = batch.claim.jobs.len();
            tokio::select! {
                biased;
                permit = self.ctx.portal.permit(Work::Delete { leads }) => return Ok(Some((permit, Some(batch)))),
                () = tokio::time::sleep(AHEAD_PATIENCE) => self.give_back(Some(batch)).await?,
                () = self.ctx.stop.cancelled() => {
                    self.give_back(Some(batch)).await?;
                    return Ok(None);
                }
            }
        }
        let permit = self.ctx.portal.permit(Work::DeleteUpTo { leads: self.batch_size() });
        tokio::pin!(permit);
        loop {
            tokio::select! {
                biased;
                permit = &mut permit => return Ok(Some((permit, None))),
                () = self.ctx.stop.cancelled() => return Ok(None),
                () = tokio::time::sleep(STIRS_EVERY) => self.stir(),
            }
        }
    }

    /// Claims due jobs: those whose outcome is unknown and can now be read come first.
    async fn claim(&self, limit: usize) -> Result<Option<Batch>, EngineError> {
        if self.ctx.room() != Room::Enough {
            return Ok(None);
        }
        let now = self.ctx.clock.now();
        let (rules, unchecked) = self.ctx.in_force();
        let cap = |rule: &Rule| match unchecked.contains(rule.name.as_str()) {
            true => 0,
            false => rule.limits.deletes_per_day,
        };
        let caps: Vec<(String, u64)> = rules
            .rules
            .iter()
            .filter(|rule| rule.mode == Mode::Delete)
            .map(|rule| (rule.name.to_string(), cap(rule)))
            .collect();
        // One command of the batch is kept free for reading the next leads.
        let limit = limit.min(batch_size::MAX - 1);
        let claim = self
            .ctx
            .store
            .write(move |db| {
                if control::paused(db)? || control::portal_stop(db)?.is_some() {
                    return Ok(None);
                }
                match jobs::claim_unknown(db, now, limit, &caps)? {
                    Some(claim) => Ok(Some(claim)),
                    None => jobs::claim_due(db, now, limit, &caps),
                }
            })
            .await?;
        if let Some(claim) = &claim {
            self.remember(claim.id);
        }
        Ok(claim.map(|claim| Batch { claim, rules, read: None }))
    }

    /// One request's worth of work; the jobs claimed and read ahead for the next one, if any.
    async fn work(&self, permit: Permit, mut batch: Batch) -> Result<Option<Batch>, EngineError> {
        let mut rereads = 0;
        let judged = loop {
            self.stir();
            // As the rules stand now: they may have been reloaded while this batch waited for the pace.
            batch.rules = self.ctx.rules();
            // A reload that the portal could not be asked about: what it changed deletes nothing before it is checked.
            if batch.claim.jobs.iter().any(|job| self.ctx.require_checked(&job.rule).is_err()) {
                self.give_back(Some(batch)).await?;
                return Ok(None);
            }
            if !self.is_fresh(&batch, rereads) && !self.read(&mut batch).await? {
                return Ok(None);
            }
            let judged = self.judge(&mut batch).await?;
            if judged.doomed.is_empty() {
                return Ok(None);
            }
            if self.is_fresh(&batch, rereads)
                && !self.touched_since_read(&batch, &judged.doomed).await?
                && self.is_by_rules_in_force(&batch)
            {
                break judged;
            }
            rereads += 1;
            if rereads > REREADS {
                debug!("leads keep changing; their jobs wait");
                self.put_off(&batch, "the lead keeps changing").await?;
                return Ok(None);
            }
            batch.read = None;
        };
        let Judged { doomed, absent } = judged;
        let mut ahead = self.claim_ahead().await?;
        let Some(sent_at) = self.mark_sent(&batch, &doomed).await? else {
            self.give_back(Some(batch)).await?;
            self.give_back_all(ahead).await?;
            return Ok(None);
        };
        // The commits before this took their time too, and nothing has left yet.
        if !self.is_fresh(&batch, rereads) || !self.is_by_rules_in_force(&batch) {
            self.put_off(&batch, "the reading became too old, or the rules changed, before it was sent")
                .await?;
            self.give_back_all(ahead).await?;
            return Ok(None);
        }
        let leads = |jobs: &[Job]| jobs.iter().map(|job| job.lead_id).collect::<Vec<LeadId>>();
        let ids: Vec<LeadId> = doomed.iter().map(|doomed| doomed.job.lead_id).collect();
        let mut request = BatchRequest::deleting(&ids).asking(&leads(&absent));
        for batch in &ahead {
            request = request.listing(&leads(&batch.claim.jobs));
        }
        self.stir();
        let answer = self.ctx.portal.delete_batch(permit, &request).await;
        self.stir();
        let settling = Settling { ctx: &self.ctx, batch: &batch, sent_at };
        match answer {
            Ok(mut reply) => {
                let lists = std::mem::take(&mut reply.lists);
                for (batch, list) in ahead.iter_mut().zip(lists) {
                    batch.read = list.ok().map(|leads| Reading::listed(&reply, leads));
                }
                let mut ahead = ahead.into_iter();
                let next = ahead.next();
                // Before the commit that wakes the other lanes.
                self.hand_over(ahead.collect());
                self.learn(|size| size.answered(ids.len(), reply.seconds));
                settling.replies(&doomed, reply.replies).await?;
                self.answered(&batch, &absent, reply.presence, sent_at).await?;
                Ok(next)
            }
            Err(error) => {
                warn!(error = %error.fault, deletions = ids.len(), "a batch of deletions got no answer");
                // An answer that was lost at once says nothing about how long a batch may be.
                let took = self.ctx.clock.now().duration_since(sent_at).as_secs_f64();
                if took > batch_size::SLOW_SECONDS {
                    self.learn(|size| size.timed_out(ids.len()));
                }
                settling.no_answer(&doomed, &error).await?;
                // Nothing but the questions is left of this claim.
                self.give_back(Some(batch)).await?;
                self.give_back_all(ahead).await?;
                Ok(None)
            }
        }
    }

    fn learn(&self, how: impl FnOnce(&mut BatchSize)) {
        how(&mut self.size.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Records that the deletions are about to be sent, and keeps the copies, in one transaction. `None` if they must
    /// not be sent: the service was paused, or an event of one of the leads came in.
    async fn mark_sent(&self, batch: &Batch, doomed: &[Doomed]) -> Result<Option<Timestamp>, EngineError> {
        let Some(asked_at) = batch.read.as_ref().map(|read| read.asked_at) else { return Ok(None) };
        let now = self.ctx.clock.now();
        let claim = batch.claim.id;
        let leads: Vec<LeadId> = doomed.iter().map(|doomed| doomed.job.lead_id).collect();
        let to_send: Vec<(JobId, Option<CopyToKeep>)> =
            doomed.iter().map(|doomed| (doomed.job.id, doomed.copy.clone())).collect();
        let wanted = to_send.len();
        let marked = self
            .ctx
            .store
            .write(move |db| {
                let stopped = control::paused(db)? || control::portal_stop(db)?.is_some();
                if stopped || events::any_change_since(db, &leads, asked_at.heard_since())? {
                    return Ok(0);
                }
                Ok(jobs::mark_sent(db, claim, &to_send, now)?.len())
            })
            .await?;
        if marked == wanted {
            debug!(jobs = marked, claim = %claim, "deleting");
            return Ok(Some(now));
        }
        if marked != 0 {
            error!(marked, wanted, "claimed jobs changed under the worker; none of them is sent");
            self.put_off(batch, "the job changed under the worker").await?;
        }
        Ok(None)
    }
}
