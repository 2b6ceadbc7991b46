//! From the portal's answers to settled jobs: what is sure is settled, what is unsure is confirmed by `crm.item.get`,
//! what is refused inside a batch is tried once more alone.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tracing::{debug, info, warn};

use super::context::{Context, EngineError};
use super::lane::{Batch, Doomed};
use crate::core::decide::{LastLook, last_look};
use crate::core::freshness::is_fresh;
use crate::core::lead::LeadId;
use crate::core::outcome::{
    Attempt, Change, DeleteReply, Fault, Outcome, PORTAL_MAY_STILL_WORK, Presence, after_confirmation,
    after_delete, finish_gone,
};
use crate::core::retry;
use crate::portal::{CallError, Class, Sent, Work, says_not_found};
use crate::store::JobId;
use crate::store::jobs::{self, CopyToKeep, Job};
use crate::store::protections::{self, ProtectionReason};
use crate::store::{control, events};

/// A lead whose deletion the portal refused is left alone this long, doubled each time.
const FAILED_PROTECTION: SignedDuration = SignedDuration::from_hours(24);
/// The text that stands for a certain "not found" to a deletion that was sent alone.
const NOT_FOUND_ALONE: &str = "not found";
/// The doubling ends here: after 2⁶ days a person has had time to look.
const FAILED_DOUBLINGS: u32 = 6;

/// Settles one claim.
pub(super) struct Settling<'a> {
    pub ctx: &'a Context,
    pub batch: &'a Batch,
    /// When the deletions were recorded as sent.
    pub sent_at: Timestamp,
}

impl Settling<'_> {
    /// Settles the jobs of a batch that was answered.
    pub(super) async fn replies(
        &self,
        doomed: &[Doomed],
        replies: Vec<(LeadId, DeleteReply)>,
    ) -> Result<(), EngineError> {
        let replies: HashMap<LeadId, DeleteReply> = replies.into_iter().collect();
        let mut sure = Vec::new();
        let mut unsure: Vec<(&Job, Fault)> = Vec::new();
        let mut stopped: Option<Fault> = None;
        for doomed in doomed {
            let job = &doomed.job;
            let missing =
                DeleteReply::NotExecuted(Fault::new("<no answer>", "the batch did not execute this command"));
            let reply = replies.get(&job.lead_id).unwrap_or(&missing);
            if let DeleteReply::Stopped(fault) = reply {
                stopped = Some(fault.clone());
            }
            match (after_delete(reply, &self.attempt(job)), reply) {
                (Some(change), _) => sure.push((job.id, explained(change, &doomed.why))),
                (None, DeleteReply::Unsure(fault)) => unsure.push((job, fault.clone())),
                (None, _) => {}
            }
        }
        self.settle(sure).await?;
        if let Some(fault) = stopped {
            let row = crate::portal::find(&fault.code, &fault.text, None);
            let needs_person = row.is_some_and(|row| row.class == Class::StopPortalForPerson);
            self.ctx.stop_portal(&fault, crate::portal::remedy(&fault), needs_person).await;
        }
        if unsure.is_empty() { Ok(()) } else { self.confirm(unsure).await }
    }

    /// Settles the jobs of a batch that was not answered: surely not sent, or unknown.
    pub(super) async fn no_answer(&self, doomed: &[Doomed], error: &CallError) -> Result<(), EngineError> {
        self.ctx.note(error).await;
        let reply = reply_of(error);
        let changes = doomed
            .iter()
            .filter_map(|doomed| {
                let change = after_delete(&reply, &self.attempt(&doomed.job))?;
                Some((doomed.job.id, change))
            })
            .collect();
        self.settle(changes).await
    }

    /// When jobs of this claim are tried again after so many tries. The jitter is the claim's, not the job's: jobs that
    /// failed together come back together and fit into one request again.
    pub(super) fn retry_at(&self, now: Timestamp, tries: u32) -> Timestamp {
        const GOLDEN: f64 = 0.618_033_988_749_895;
        #[expect(clippy::cast_precision_loss, reason = "a claim's number only spreads the jitter")]
        let jitter = (self.batch.claim.id.0 as f64 * GOLDEN).fract();
        retry::at(now, tries, jitter)
    }

    fn attempt(&self, job: &Job) -> Attempt {
        let now = self.ctx.clock.now();
        Attempt {
            // The lead was read as present just before the sending, so an earlier unknown attempt did not delete it.
            unknown_before: false,
            sent_at: self.sent_at,
            now,
            retry_at: self.retry_at(now, job.attempts),
        }
    }

    /// Asks `crm.item.get` about deletions whose answer was unsure.
    async fn confirm(&self, unsure: Vec<(&Job, Fault)>) -> Result<(), EngineError> {
        let leads: Vec<LeadId> = unsure.iter().map(|(job, _)| job.lead_id).collect();
        let found = match self.ctx.patiently(|| self.ctx.portal.presence(&leads)).await {
            Ok(found) => found.into_iter().collect::<HashMap<_, _>>(),
            Err(error) => {
                let changes = unsure.iter().map(|(job, _)| (job.id, self.unknown(&error.fault))).collect();
                return self.settle(changes).await;
            }
        };
        let mut changes = Vec::new();
        let mut alone: Vec<(&Job, &Fault, crate::core::lead::Lead)> = Vec::new();
        for (job, answer) in &unsure {
            match found.get(&job.lead_id) {
                Some(Ok(presence)) => {
                    let attempt = Attempt { unknown_before: may_have_deleted(answer), ..self.attempt(job) };
                    match (after_confirmation(presence, answer, false, &attempt), presence) {
                        (Some(change), _) => changes.push((job.id, change)),
                        (None, Presence::Present(lead)) => alone.push((*job, answer, lead.clone())),
                        (None, Presence::Gone | Presence::Unreadable(_)) => {}
                    }
                }
                Some(Err(fault)) => changes.push((job.id, self.unknown(fault))),
                None => changes.push((job.id, self.unknown(answer))),
            }
        }
        self.settle(changes).await?;
        for (job, answer, lead) in alone {
            let now = self.ctx.clock.now();
            let change = match last_look(&self.ctx.rules(), &job.rule, &lead, now) {
                LastLook::Spare(reason) => {
                    Change::Finish { outcome: Outcome::Spared, reason: Some(reason), error: None }
                }
                LastLook::Delete(..) => self.delete_alone(job, Some(answer), None).await?,
            };
            self.settle(vec![(job.id, change)]).await?;
        }
        Ok(())
    }

    /// An answer that could not be confirmed: the lead is read again when the portal can no longer be working on it.
    fn unknown(&self, fault: &Fault) -> Change {
        let settle_at = self.sent_at.checked_add(PORTAL_MAY_STILL_WORK).unwrap_or(Timestamp::MAX);
        Change::Unknown { settle_at, error: fault.to_string() }
    }

    /// Back to waiting: surely not executed.
    fn put_off(&self, job: &Job, error: Option<String>) -> Change {
        let due_at = self.retry_at(self.ctx.clock.now(), job.attempts.saturating_add(1));
        Change::Release { due_at, error, give_back: true }
    }

    /// Deletes the lead of a job alone that a list had left out and `crm.item.get` found; nothing was sent for it yet.
    pub(super) async fn delete_found(&self, doomed: &Doomed) -> Result<(), EngineError> {
        let change = self.delete_alone(&doomed.job, None, doomed.copy.clone()).await?;
        self.settle(vec![(doomed.job.id, explained(change, &doomed.why))]).await
    }

    /// The lead is still there after an error inside a batch (`before`), where another lead's error can leak into this
    /// one's: it is deleted once more, alone, and that answer is final for the attempt.
    async fn delete_alone(
        &self,
        job: &Job,
        before: Option<&Fault>,
        copy: Option<CopyToKeep>,
    ) -> Result<Change, EngineError> {
        let permit = self.ctx.portal.permit(Work::Delete { leads: 1 }).await;
        // The permission may have taken long: what the lead holds now decides.
        let mut again = false;
        let (lead, asked_at, answered_at) = loop {
            let asked_at = self.ctx.clock.moment();
            let lead = match self.ctx.portal.get(job.lead_id).await {
                Ok(Presence::Present(lead)) => lead,
                Ok(Presence::Gone) => return Ok(finish_gone(before.is_some_and(may_have_deleted))),
                Ok(Presence::Unreadable(fault)) | Err(CallError { fault, .. }) => {
                    return Ok(match before {
                        Some(_) => self.unknown(&fault),
                        // Nothing was sent, so whoever may have deleted it meanwhile, it was not us.
                        None => self.put_off(job, Some(fault.to_string())),
                    });
                }
            };
            let answered_at = self.ctx.clock.moment();
            if again || is_fresh(asked_at, answered_at, answered_at, again) {
                break (lead, asked_at, answered_at);
            }
            again = true;
        };
        let sent_at = answered_at.wall;
        let rules = self.ctx.rules();
        match last_look(&rules, &job.rule, &lead, sent_at) {
            LastLook::Spare(reason) => {
                return Ok(Change::Finish { outcome: Outcome::Spared, reason: Some(reason), error: None });
            }
            // The grace period may have become longer since the job was claimed.
            LastLook::Delete(rule, _) if rule.grace_period.after(job.created_at) > sent_at => {
                let due_at = rule.grace_period.after(job.created_at);
                return Ok(Change::Release { due_at, error: None, give_back: true });
            }
            LastLook::Delete(..) => {}
        }
        let (claim, id, lead_id) = (self.batch.claim.id, job.id, job.lead_id);
        let marked = self
            .ctx
            .store
            .write(move |db| {
                let stopped = control::paused(db)? || control::portal_stop(db)?.is_some();
                if stopped || events::any_change_since(db, &[lead_id], asked_at.heard_since())? {
                    return Ok(Vec::new());
                }
                jobs::mark_sent(db, claim, &[(id, copy)], sent_at)
            })
            .await?;
        // The commit took its time too, and nothing has left yet.
        let stale = !is_fresh(asked_at, answered_at, self.ctx.clock.moment(), again);
        let judged_anew =
            !Arc::ptr_eq(&rules, &self.ctx.rules()) || self.ctx.require_checked(&job.rule).is_err();
        if marked.is_empty() || stale || judged_anew {
            // Paused, stopped, changed by a colleague, read too long ago, or other rules in force: the first answer was
            // an error, so nothing has happened yet.
            return Ok(self.put_off(job, None));
        }
        let attempt = Attempt { sent_at, ..self.attempt(job) };
        let reply = match self.ctx.portal.delete_one(permit, job.lead_id).await {
            Ok(reply) => reply,
            Err(error) => {
                self.ctx.note(&error).await;
                reply_of(&error)
            }
        };
        let answer = match reply {
            DeleteReply::Unsure(answer) => answer,
            // The lead was there a moment ago, and a veto may use the same words.
            DeleteReply::NotFound => Fault::new("", NOT_FOUND_ALONE),
            reply => match after_delete(&reply, &attempt) {
                Some(change) => return Ok(change),
                None => return Ok(self.unknown(&Fault::new("<unsure>", ""))),
            },
        };
        let attempt = Attempt { unknown_before: may_have_deleted(&answer), ..attempt };
        match self.ctx.portal.get(job.lead_id).await {
            Ok(presence) => Ok(after_confirmation(&presence, &answer, true, &attempt).unwrap_or_else(|| {
                // `alone` leaves nothing open; should it ever, the job is read again rather than lost.
                self.unknown(&answer)
            })),
            Err(error) => Ok(Change::Unknown {
                settle_at: sent_at.checked_add(PORTAL_MAY_STILL_WORK).unwrap_or(Timestamp::MAX),
                error: error.fault.to_string(),
            }),
        }
    }

    /// Writes the changes in one transaction; a job that another hand changed meanwhile is left as it is.
    pub(super) async fn settle(&self, changes: Vec<(JobId, Change)>) -> Result<(), EngineError> {
        if changes.is_empty() {
            return Ok(());
        }
        let (claim, now) = (self.batch.claim.id, self.ctx.clock.now());
        let failed: Vec<(JobId, LeadId)> = self
            .batch
            .claim
            .jobs
            .iter()
            .filter(|job| changes.iter().any(|(id, change)| *id == job.id && is_failure(change)))
            .map(|job| (job.id, job.lead_id))
            .collect();
        let outcomes: Vec<(&Job, Outcome)> = changes
            .iter()
            .filter_map(|(id, change)| match change {
                Change::Finish { outcome, .. } => {
                    Some((self.batch.claim.jobs.iter().find(|job| job.id == *id)?, *outcome))
                }
                Change::Release { .. } | Change::Unknown { .. } => None,
            })
            .collect();
        let settled = self
            .ctx
            .store
            .write(move |db| {
                let settled = jobs::settle(db, claim, &changes, now)?;
                for (_, lead) in failed.into_iter().filter(|(job, _)| !settled.stale.contains(job)) {
                    // The failure that was just written down is one of them.
                    let earlier =
                        protections::failures_of_lead(db, lead)?.saturating_sub(1).min(FAILED_DOUBLINGS);
                    let until = now.checked_add(FAILED_PROTECTION * (1 << earlier)).unwrap_or(Timestamp::MAX);
                    protections::protect_lead(db, lead, None, ProtectionReason::Failed, until, now)?;
                }
                Ok(settled)
            })
            .await?;
        let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
        for (job, outcome) in outcomes {
            if !settled.stale.contains(&job.id) {
                self.ctx.metrics.job_finished(outcome.as_str());
                *counts.entry(outcome.as_str()).or_default() += 1;
                debug!(
                    job = job.id.0, run_id = job.run_id.0, rule = job.rule, lead = %job.lead_id, claim = claim.0,
                    outcome = outcome.as_str(), "job finished"
                );
            }
        }
        if !counts.is_empty() {
            let ended: Vec<String> = counts.iter().map(|(word, count)| format!("{count} {word}")).collect();
            info!(%claim, "jobs finished: {}", ended.join(", "));
        }
        if !settled.stale.is_empty() {
            warn!(
                jobs = settled.stale.len(),
                "a late answer changed nothing: the jobs were settled otherwise"
            );
        }
        Ok(())
    }
}

/// A deletion says in the history which conditions it was for.
fn explained(change: Change, why: &str) -> Change {
    match change {
        Change::Finish { outcome: Outcome::Deleted, reason: None, error } => {
            Change::Finish { outcome: Outcome::Deleted, reason: Some(why.to_owned()), error }
        }
        other => other,
    }
}

fn is_failure(change: &Change) -> bool {
    matches!(change, Change::Finish { outcome: Outcome::Failed, .. })
}

/// Whether a deletion that was answered so can have been executed all the same: a handler of the portal that fails after
/// the deletion answers with a text of its own. "Not found" and "Access denied." come before anything is done.
fn may_have_deleted(answer: &Fault) -> bool {
    let denied = answer.text.starts_with("Access denied") || answer.code == "ACCESS_DENIED";
    !(says_not_found(answer) || denied || answer.text == NOT_FOUND_ALONE)
}

/// What an error of a whole request says about each deletion in it.
fn reply_of(error: &CallError) -> DeleteReply {
    let fault = error.fault.clone();
    match (error.sent, error.class) {
        (Sent::Maybe, _) => DeleteReply::Unknown(fault),
        (Sent::No, Class::PauseMethod) => DeleteReply::MethodPaused(fault),
        (Sent::No, Class::Retry | Class::PausePortal) => DeleteReply::Busy(fault),
        (Sent::No, Class::RefreshToken | Class::StopPortal | Class::StopPortalForPerson) => {
            DeleteReply::Stopped(fault)
        }
        (Sent::No, Class::Final | Class::Confirm | Class::Malformed) => DeleteReply::NotExecuted(fault),
    }
}
