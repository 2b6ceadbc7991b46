//! The last look of a lane: reads the leads of claimed jobs immediately before their deletion, judges them by the rules
//! in force, and settles what is gone or kept. A reading has an age, and nothing is done with one that is too old.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use jiff::{SignedDuration, Timestamp};
use tracing::warn;

use super::super::context::EngineError;
use super::super::settle::Settling;
use super::{Batch, Doomed, Judged, Lane, READ_FAILURES, Reading};
use crate::core::decide::{LastLook, last_look};
use crate::core::freshness::is_fresh;
use crate::core::lead::{Lead, LeadId};
use crate::core::outcome::{Change, Fault, Outcome, Presence, finish_gone};
use crate::core::rule::{KeepCopy, Rule};
use crate::core::undo;
use crate::portal::{Asked, CallError, Class};
use crate::store::JobId;
use crate::store::events;
use crate::store::jobs::{CopyToKeep, Job};
use crate::store::protections::{self, LeadProtection, ProtectionReason};
use crate::store::restores;

/// A lead that alone can't be read waits this long before it is asked about again.
const UNREADABLE_WAITS: SignedDuration = SignedDuration::from_hours(1);

impl Lane {
    /// Whether what was read may still be acted on.
    pub(super) fn is_fresh(&self, batch: &Batch, rereads: u32) -> bool {
        let Some(read) = &batch.read else { return false };
        is_fresh(read.at, read.answered_at, self.ctx.clock.moment(), rereads > 0)
    }

    /// Whether the rules in force are those that the batch was judged by.
    pub(super) fn is_by_rules_in_force(&self, batch: &Batch) -> bool {
        Arc::ptr_eq(&batch.rules, &self.ctx.rules())
    }

    /// Reads the leads of the batch; `false` if the portal did not answer and the jobs were given back. Leads that may be
    /// deleted already are asked about one by one: a list would only say that some are absent.
    pub(super) async fn read(&self, batch: &mut Batch) -> Result<bool, EngineError> {
        let leads: Vec<LeadId> = batch.claim.jobs.iter().map(|job| job.lead_id).collect();
        let asking = batch.claim.jobs.iter().all(|job| job.unknown_before);
        let found = match asking {
            true => self.ctx.portal.presence_timed(&leads).await,
            false => self.ctx.portal.leads_by_ids_timed(&leads).await.map(|(leads, sent_at)| {
                (leads.into_iter().map(|lead| (lead.id, Ok(Presence::Present(lead)))).collect(), sent_at)
            }),
        };
        match found {
            Ok((found, sent_at)) => {
                let answered_at = self.ctx.clock.moment();
                let found = found.into_iter().collect();
                batch.read = Some(Reading { at: sent_at, answered_at, asked_at: sent_at, found });
                self.failed_reads.store(0, Ordering::SeqCst);
                Ok(true)
            }
            Err(error) => {
                warn!(error = %error.fault, "could not read leads before their deletion");
                self.ctx.note(&error).await;
                self.could_not_read(batch, &error).await?;
                Ok(false)
            }
        }
    }

    /// Puts off a batch whose leads could not be read. The next one is half as large, so that one lead that the portal
    /// stumbles over ends up alone, and comes later, so that a portal that is down is not asked all the time.
    pub(super) async fn could_not_read(&self, batch: &Batch, error: &CallError) -> Result<(), EngineError> {
        let failures = self.failed_reads.fetch_add(1, Ordering::SeqCst).saturating_add(1);
        let now = self.ctx.clock.now();
        let until = self.ctx.retry_at(now, failures.min(READ_FAILURES));
        *self.resting_until.lock().unwrap_or_else(PoisonError::into_inner) = until;
        let alone = batch.claim.jobs.len() == 1;
        let text = error.fault.to_string();
        if alone && matches!(error.class, Class::Final | Class::Malformed | Class::Confirm) {
            let due_at = now.checked_add(UNREADABLE_WAITS).unwrap_or(Timestamp::MAX);
            let release =
                |job: &Job| (job.id, Change::Release { due_at, error: Some(text.clone()), give_back: true });
            let changes = batch.claim.jobs.iter().map(release).collect();
            // It was this lead, not the portal: the others go on.
            self.failed_reads.store(0, Ordering::SeqCst);
            return Settling { ctx: &self.ctx, batch, sent_at: now }.settle(changes).await;
        }
        self.put_off(batch, &text).await
    }

    /// Back to waiting, to be tried again later; nothing was sent.
    pub(super) async fn put_off(&self, batch: &Batch, error: &str) -> Result<(), EngineError> {
        let now = self.ctx.clock.now();
        let settling = Settling { ctx: &self.ctx, batch, sent_at: now };
        let changes = batch
            .claim
            .jobs
            .iter()
            .map(|job| {
                let due_at = settling.retry_at(now, job.attempts.saturating_add(1));
                (job.id, Change::Release { due_at, error: Some(error.to_owned()), give_back: true })
            })
            .collect();
        Settling { ctx: &self.ctx, batch, sent_at: now }.settle(changes).await
    }

    /// Settles the jobs of leads that are no longer to be deleted; they leave the batch. Where none is left to delete,
    /// the leads that the list left out are asked about at once; otherwise the request that deletes the others asks.
    pub(super) async fn judge(&self, batch: &mut Batch) -> Result<Judged, EngineError> {
        let now = self.ctx.clock.now();
        let nothing = || Judged { doomed: Vec::new(), absent: Vec::new() };
        let Some(read) = &batch.read else { return Ok(nothing()) };
        let protected = self.protected(batch).await?;
        let mut verdicts: Vec<(Job, Verdict)> = Vec::new();
        let mut absent: Vec<Job> = Vec::new();
        for job in &batch.claim.jobs {
            let found = read.found.get(&job.lead_id);
            if found.is_some() {
                verdicts.push((job.clone(), self.verdict_on(batch, &protected, job, found, now)));
            } else {
                absent.push(job.clone());
            }
        }
        let some_doomed = verdicts.iter().any(|(_, verdict)| matches!(verdict, Verdict::Delete { .. }));
        if !some_doomed && !absent.is_empty() {
            let leads: Vec<LeadId> = absent.iter().map(|job| job.lead_id).collect();
            match self.ctx.portal.presence(&leads).await {
                Ok(found) => {
                    let found: HashMap<_, _> = found.into_iter().collect();
                    for job in std::mem::take(&mut absent) {
                        let presence = found.get(&job.lead_id);
                        let verdict = self.verdict_on(batch, &protected, &job, presence, now);
                        verdicts.push((job, verdict));
                    }
                }
                Err(error) => {
                    self.ctx.note(&error).await;
                    self.could_not_read(batch, &error).await?;
                    batch.claim.jobs.clear();
                    return Ok(nothing());
                }
            }
        }
        let mut doomed = Vec::new();
        let mut changes: Vec<(JobId, Change)> = Vec::new();
        for (job, verdict) in verdicts {
            match verdict {
                Verdict::Delete { copy, why } => doomed.push(Doomed { job, why, copy }),
                Verdict::Settle(change) => changes.push((job.id, change)),
            }
        }
        let settled: HashSet<JobId> = changes.iter().map(|(job, _)| *job).collect();
        Settling { ctx: &self.ctx, batch, sent_at: now }.settle(changes).await?;
        batch.claim.jobs.retain(|job| !settled.contains(&job.id));
        Ok(Judged { doomed, absent })
    }

    /// Settles the jobs whose leads a list had left out, by what `crm.item.get` said in the request that deleted the
    /// others. One that is there after all is deleted alone.
    pub(super) async fn answered(
        &self,
        batch: &Batch,
        absent: &[Job],
        presence: Vec<Asked>,
        sent_at: Timestamp,
    ) -> Result<(), EngineError> {
        if absent.is_empty() {
            return Ok(());
        }
        let now = self.ctx.clock.now();
        let settling = Settling { ctx: &self.ctx, batch, sent_at };
        let protected = self.protected(batch).await?;
        let found: HashMap<_, _> = presence.into_iter().collect();
        let mut sure = Vec::new();
        let mut alone = Vec::new();
        for job in absent {
            match self.verdict_on(batch, &protected, job, found.get(&job.lead_id), now) {
                Verdict::Settle(change) => sure.push((job.id, change)),
                Verdict::Delete { copy, why } => alone.push(Doomed { job: job.clone(), why, copy }),
            }
        }
        settling.settle(sure).await?;
        for doomed in alone {
            settling.delete_found(&doomed).await?;
        }
        Ok(())
    }

    /// What the portal's word on a lead makes of its job.
    fn verdict_on(
        &self,
        batch: &Batch,
        protected: &HashMap<LeadId, LeadProtection>,
        job: &Job,
        presence: Option<&Result<Presence, Fault>>,
        now: Timestamp,
    ) -> Verdict {
        let again = |error: Option<String>| {
            let settling = Settling { ctx: &self.ctx, batch, sent_at: now };
            let due_at = settling.retry_at(now, job.attempts.saturating_add(1));
            Verdict::Settle(Change::Release { due_at, error, give_back: true })
        };
        match presence {
            Some(Ok(Presence::Present(lead))) => self.verdict(batch, protected, job, lead, now),
            Some(Ok(Presence::Gone)) => Verdict::Settle(finish_gone(job.unknown_before)),
            Some(Ok(Presence::Unreadable(fault))) => {
                spared(format!("can't be judged: the webhook may not read this lead ({fault})"))
            }
            Some(Err(fault)) => again(Some(fault.to_string())),
            None => again(None),
        }
    }

    /// What a lead's fields make of its job, by the rules that the batch is judged by.
    fn verdict(
        &self,
        batch: &Batch,
        protected: &HashMap<LeadId, LeadProtection>,
        job: &Job,
        lead: &Lead,
        now: Timestamp,
    ) -> Verdict {
        if let Some(protection) = protected.get(&job.lead_id) {
            return spared(format!("protected: {}", protection.reason.as_str()));
        }
        match last_look(&batch.rules, &job.rule, lead, now) {
            // The grace period may have become longer since the job was enqueued, or while its run was on.
            LastLook::Delete(rule, _) if rule.grace_period.after(job.created_at) > now => {
                let due_at = rule.grace_period.after(job.created_at);
                Verdict::Settle(Change::Release { due_at, error: None, give_back: true })
            }
            LastLook::Delete(rule, why) => Verdict::Delete { copy: copy_of(rule, lead, now), why },
            LastLook::Spare(reason) => spared(reason),
        }
    }

    /// Leads that the program protects from itself, perhaps only since they were enqueued.
    pub(super) async fn protected(
        &self,
        batch: &Batch,
    ) -> Result<HashMap<LeadId, LeadProtection>, EngineError> {
        let now = self.ctx.clock.now();
        let jobs: Vec<(LeadId, String)> =
            batch.claim.jobs.iter().map(|job| (job.lead_id, job.rule.clone())).collect();
        // A lead that a restore of ours has just created, and whose id is not known yet.
        let marked: Vec<(LeadId, String)> = batch
            .read
            .iter()
            .flat_map(|read| &read.found)
            .filter_map(|(id, presence)| match presence {
                Ok(Presence::Present(lead)) => Some((*id, undo::marker_of(lead.fields())?.to_owned())),
                Ok(Presence::Gone | Presence::Unreadable(_)) | Err(_) => None,
            })
            .collect();
        let found = self
            .ctx
            .store
            .read(move |db| {
                let mut found = HashMap::new();
                for (lead, rule) in jobs {
                    found.extend(protections::lead_protections(db, &[lead], &rule, now)?);
                }
                for (lead, marker) in marked {
                    if restores::by_marker(db, &marker)?.is_some_and(|known| known.new_lead_id.is_none()) {
                        found.insert(lead, LeadProtection { reason: ProtectionReason::Restored, until: now });
                    }
                }
                Ok(found)
            })
            .await?;
        Ok(found)
    }

    pub(super) async fn touched_since_read(
        &self,
        batch: &Batch,
        doomed: &[Doomed],
    ) -> Result<bool, EngineError> {
        let Some(asked_at) = batch.read.as_ref().map(|read| read.asked_at) else { return Ok(true) };
        let leads: Vec<LeadId> = doomed.iter().map(|doomed| doomed.job.lead_id).collect();
        Ok(self
            .ctx
            .store
            .read(move |db| events::any_change_since(db, &leads, asked_at.heard_since()))
            .await?)
    }
}

/// What becomes of a claimed job.
enum Verdict {
    /// Its lead is to be deleted.
    Delete { copy: Option<CopyToKeep>, why: String },
    /// Nothing needs to be sent.
    Settle(Change),
}

fn spared(reason: String) -> Verdict {
    Verdict::Settle(Change::Finish { outcome: Outcome::Spared, reason: Some(reason), error: None })
}

fn copy_of(rule: &Rule, lead: &Lead, now: Timestamp) -> Option<CopyToKeep> {
    match rule.keep_copy {
        KeepCopy::None => None,
        KeepCopy::For(age) => Some(CopyToKeep {
            fields_json: serde_json::Value::Object(lead.fields().clone()).to_string(),
            expires_at: age.after(now),
        }),
    }
}
