//! One deleted lead: what there is to create it from, the requests that create it, and what became of them.
//!
//! Invariant: *sending* is committed before each request, and an answer that is lost is looked up before anything else is sent.

use std::collections::HashMap;

use jiff::Timestamp;
use serde_json::{Map, Value};
use tracing::{info, warn};

use super::{Became, Told};
use crate::core::lead::{LeadId, read_time};
use crate::core::outcome::{PORTAL_MAY_STILL_WORK, Presence};
use crate::core::rule::{KeepCopy, RuleSet};
use crate::core::undo::{self, Draft};
use crate::engine::context::{Context, EngineError};
use crate::portal::{CallError, Class, Creation, Sent};
use crate::store::JobId;
use crate::store::restores::{self, RestoreState, Undoable};

/// How often a request that surely did nothing is made again before the lead is given up for now.
const TRIES: u32 = 3;

/// A restore of some leads, one after the other.
pub(super) struct Restoring<'a> {
    ctx: &'a Context,
    rules: &'a RuleSet,
    again: bool,
    learnt: Learnt,
}

/// What the portal has refused in this restore already, so that it isn't asked for with each lead again.
#[derive(Debug, Default)]
struct Learnt {
    /// We may not import.
    may_not_import: bool,
    /// When a lead that is there was created: none may be created before it.
    newest: Option<Timestamp>,
}

impl Learnt {
    /// The ways to create a lead that are worth a request, the best first.
    fn ways<'f>(
        &self,
        copy: &Map<String, Value>,
        whole: &'f Map<String, Value>,
        less: &'f Map<String, Value>,
    ) -> Vec<(Creation, &'f Map<String, Value>)> {
        let created = copy.get("createdTime").and_then(read_time);
        let too_old = matches!((created, self.newest), (Some(created), Some(newest)) if created < newest);
        let mut ways = Vec::new();
        if !self.may_not_import {
            if whole.len() > less.len() && !too_old {
                ways.push((Creation::Import, whole));
            }
            ways.push((Creation::Import, less));
        }
        ways.push((Creation::Add, less));
        ways
    }
}

/// A deletion with everything that a restore needs.
struct Wanted {
    lead: LeadId,
    job: JobId,
    marker: String,
    copy: Map<String, Value>,
}

impl Wanted {
    fn told(&self, result: Became, why: Option<String>) -> Told {
        Told {
            lead_id: self.lead,
            result,
            new_lead_id: None,
            method: None,
            why,
            differs: None,
            files: Vec::new(),
        }
    }
}

fn marker(undoable: &Undoable) -> Option<String> {
    let (job, (_, taken_at)) = (undoable.job_id?, undoable.copy.as_ref()?);
    Some(undo::marker(undoable.lead_id, job.0, *taken_at))
}

impl<'a> Restoring<'a> {
    pub(super) fn new(ctx: &'a Context, rules: &'a RuleSet, again: bool) -> Restoring<'a> {
        Restoring { ctx, rules, again, learnt: Learnt::default() }
    }

    /// Which of these leads are there already, by their markers.
    pub(super) async fn there(&self, chunk: &[Undoable]) -> Result<HashMap<String, LeadId>, EngineError> {
        let markers: Vec<String> = chunk.iter().filter_map(marker).collect();
        let ctx = self.ctx;
        let found = ctx.patiently(|| ctx.portal.leads_by_origin(undo::ORIGINATOR, &markers)).await?;
        Ok(found
            .iter()
            .filter_map(|lead| Some((undo::marker_of(lead.fields())?.to_owned(), lead.id)))
            .collect())
    }

    /// Restores one lead, unless it is there already or nothing says from what.
    pub(super) async fn one(
        &mut self,
        undoable: Undoable,
        there: &HashMap<String, LeadId>,
    ) -> Result<Told, EngineError> {
        let wanted = match self.wanted(&undoable) {
            Ok(wanted) => wanted,
            Err(why) => {
                return Ok(Told {
                    lead_id: undoable.lead_id,
                    result: Became::NotPossible,
                    new_lead_id: None,
                    method: None,
                    why: Some(why),
                    differs: None,
                    files: Vec::new(),
                });
            }
        };
        let (lead, job) = (wanted.lead, wanted.job);
        let before = self.ctx.store.read(move |db| restores::of_job(db, lead, job)).await?;
        if let Some(new) = before.as_ref().and_then(|before| before.new_lead_id) {
            return Ok(Told { new_lead_id: Some(new), ..wanted.told(Became::AlreadyRestored, None) });
        }
        if let Some(new) = there.get(&wanted.marker) {
            let why = "the portal has it already, from an earlier restore".to_owned();
            return self.finish(&wanted, *new, Became::AlreadyRestored, None, Some(why)).await;
        }
        match before.as_ref().map(|before| before.state) {
            Some(RestoreState::Sending) => {
                return Ok(wanted.told(Became::Unknown, Some("another restore is at work on it".to_owned())));
            }
            Some(RestoreState::Unknown) => {
                let sent_at = before.map_or(Timestamp::MIN, |before| before.sent_at);
                let found = self.look_up(&wanted, sent_at, "its earlier answer was lost").await?;
                if found.result != Became::Unknown || !self.again {
                    return Ok(found);
                }
            }
            Some(RestoreState::Missing) if !self.again => {
                return Ok(wanted.told(Became::Unknown, Some(cant_tell(&wanted))));
            }
            Some(RestoreState::Missing | RestoreState::Restored | RestoreState::Failed) | None => {}
        }
        self.create(&wanted).await
    }

    /// What is needed of a deletion, or why it can't be undone.
    fn wanted(&self, undoable: &Undoable) -> Result<Wanted, String> {
        let Some(job) = undoable.job_id else {
            return Err("no deletion of it is known here".to_owned());
        };
        let Some((fields, _)) = &undoable.copy else { return Err(self.why_no_copy(undoable)) };
        if undoable.deleted_at.is_none() {
            return Err("it is not certain yet that it was deleted".to_owned());
        }
        let copy =
            serde_json::from_str(fields).map_err(|error| format!("its copy can't be read: {error}"))?;
        let marker = marker(undoable).unwrap_or_default();
        Ok(Wanted { lead: undoable.lead_id, job, marker, copy })
    }

    fn why_no_copy(&self, undoable: &Undoable) -> String {
        let rule = undoable.rule.as_deref().and_then(|name| self.rules.rule(name));
        let bin = "look into the portal's recycle bin";
        match rule.map(|rule| (&rule.name, &rule.keep_copy)) {
            Some((name, KeepCopy::None)) => {
                format!("no copy: rule {name} says `keep_copy: none`; {bin}")
            }
            Some((name, KeepCopy::For(age))) => {
                format!(
                    "no copy: rule {name} keeps one for {age}, and it has expired or was not kept then; {bin}"
                )
            }
            None => format!("no copy: it has expired, or none was kept; {bin}"),
        }
    }

    async fn create(&mut self, wanted: &Wanted) -> Result<Told, EngineError> {
        let ctx = self.ctx;
        let (lead, job, again, now) = (wanted.lead, wanted.job, self.again, ctx.clock.now());
        let marker = wanted.marker.clone();
        if !ctx.store.write(move |db| restores::begin(db, (lead, job, &marker), again, now)).await? {
            return Ok(wanted.told(Became::Unknown, Some("another restore is at work on it".to_owned())));
        }
        let draft = Draft::new(&wanted.copy, &wanted.marker);
        let less = draft.without_history();
        let ways = self.learnt.ways(&wanted.copy, &draft.fields, &less);
        let mut sent_at = now;
        let mut refusal = String::new();
        for (index, (how, fields)) in ways.into_iter().enumerate() {
            let mut tries = 0;
            loop {
                if index > 0 || tries > 0 {
                    let (marker, now) = (wanted.marker.clone(), ctx.clock.now());
                    ctx.store.write(move |db| restores::next_try(db, &marker, now)).await?;
                    sent_at = now;
                }
                let error = match ctx.portal.create(how, fields).await {
                    Ok(new) => return self.finish(wanted, new, Became::Restored, Some(how), None).await,
                    Err(error) => error,
                };
                if error.refused_as_such() {
                    refusal = format!("{}: {}", error.fault, error.remedy);
                    self.learn(how, fields.len() > less.len(), &error).await;
                    break;
                }
                ctx.note(&error).await;
                if error.sent == Sent::Maybe {
                    return self.lost(wanted, sent_at, &error).await;
                }
                tries += 1;
                if tries >= TRIES || !passes(error.class) || ctx.stop.is_cancelled() {
                    return self.failed(wanted, format!("{}: {}", error.fault, error.remedy)).await;
                }
                let at = ctx.retry_at(ctx.clock.now(), tries);
                tokio::select! {
                    () = ctx.clock.sleep_until(at) => {}
                    () = ctx.stop.cancelled() => {}
                }
            }
        }
        self.failed(wanted, refusal).await
    }

    /// A refusal that holds for other leads too.
    async fn learn(&mut self, how: Creation, with_history: bool, error: &CallError) {
        match (how, error.fault.code.as_str()) {
            (Creation::Import, "ACCESS_DENIED" | "ERROR_METHOD_NOT_FOUND") => {
                self.learnt.may_not_import = true
            }
            (Creation::Import, _) if with_history && self.learnt.newest.is_none() => {
                // What can't be read is asked for with the next lead again.
                self.learnt.newest = self.ctx.portal.newest_created().await.unwrap_or_default();
            }
            (Creation::Import | Creation::Add, _) => {}
        }
    }

    async fn failed(&self, wanted: &Wanted, why: String) -> Result<Told, EngineError> {
        let (marker, error, now) = (wanted.marker.clone(), why.clone(), self.ctx.clock.now());
        self.ctx
            .store
            .write(move |db| restores::ended(db, &marker, RestoreState::Failed, &error, now))
            .await?;
        Ok(wanted.told(Became::Failed, Some(why)))
    }

    async fn lost(
        &self,
        wanted: &Wanted,
        sent_at: Timestamp,
        error: &CallError,
    ) -> Result<Told, EngineError> {
        let (marker, text, now) = (wanted.marker.clone(), error.fault.to_string(), self.ctx.clock.now());
        warn!(lead = %wanted.lead, error = %error.fault, "the answer to a restore was lost: the lead is looked up");
        self.ctx
            .store
            .write(move |db| restores::ended(db, &marker, RestoreState::Unknown, &text, now))
            .await?;
        self.look_up(wanted, sent_at, &error.fault.to_string()).await
    }

    /// Looks for a lead that may have been created, once the portal can no longer be at it.
    async fn look_up(&self, wanted: &Wanted, sent_at: Timestamp, why: &str) -> Result<Told, EngineError> {
        let ctx = self.ctx;
        let at = sent_at.checked_add(PORTAL_MAY_STILL_WORK).unwrap_or(Timestamp::MAX);
        tokio::select! {
            () = ctx.clock.sleep_until(at) => {}
            () = ctx.stop.cancelled() => {
                let why = format!("{why}; the next start looks it up");
                return Ok(wanted.told(Became::Unknown, Some(why)));
            }
        }
        let markers = [wanted.marker.clone()];
        match ctx.patiently(|| ctx.portal.leads_by_origin(undo::ORIGINATOR, &markers)).await {
            Ok(found) => match found.first() {
                Some(new) => self.finish(wanted, new.id, Became::Restored, None, None).await,
                None => {
                    let (marker, now, why) = (wanted.marker.clone(), ctx.clock.now(), why.to_owned());
                    ctx.store
                        .write(move |db| restores::ended(db, &marker, RestoreState::Missing, &why, now))
                        .await?;
                    Ok(wanted.told(Became::Unknown, Some(cant_tell(wanted))))
                }
            },
            Err(error) => {
                let why = format!("{why}; and it could not be looked up: {}", error.fault);
                Ok(wanted.told(Became::Unknown, Some(why)))
            }
        }
    }

    /// The lead is there: its id and its protection are written down, its own origin is put back, and it is compared.
    async fn finish(
        &self,
        wanted: &Wanted,
        new: LeadId,
        result: Became,
        method: Option<Creation>,
        why: Option<String>,
    ) -> Result<Told, EngineError> {
        let ctx = self.ctx;
        let (lead, job, marker, now) = (wanted.lead, wanted.job, wanted.marker.clone(), ctx.clock.now());
        ctx.store.write(move |db| restores::restored(db, (lead, job, &marker), new, now)).await?;
        info!(lead = %wanted.lead, new = %new, "lead restored from its copy");
        let draft = Draft::new(&wanted.copy, &wanted.marker);
        let mut why = why;
        if let Some(origin) = &draft.origin
            && let Err(error) = ctx.patiently(|| ctx.portal.set_fields(new, origin)).await
        {
            why = Some(format!("its origin could not be put back: {}", error.fault));
        }
        let differs = match ctx.patiently(|| ctx.portal.get(new)).await {
            Ok(Presence::Present(found)) => Some(undo::differing(&wanted.copy, found.fields())),
            Ok(Presence::Gone | Presence::Unreadable(_)) | Err(_) => None,
        };
        Ok(Told { new_lead_id: Some(new), method, differs, files: draft.files, ..wanted.told(result, why) })
    }
}

fn passes(class: Class) -> bool {
    match class {
        Class::Retry | Class::PauseMethod | Class::PausePortal => true,
        Class::RefreshToken
        | Class::StopPortal
        | Class::StopPortalForPerson
        | Class::Final
        | Class::Confirm
        | Class::Malformed => false,
    }
}

fn cant_tell(wanted: &Wanted) -> String {
    format!(
        "the portal may have created it, but shows no lead with originId {}: look for it there as an administrator; if it \
         is not there, `--again` creates it",
        wanted.marker
    )
}
