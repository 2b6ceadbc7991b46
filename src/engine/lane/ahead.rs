//! Claims that a lane holds beside the one it works on: what it read ahead, what it hands to other lanes, what it gives
//! back. The invariant: every claim is remembered by one lane, which ends it after a failed turn, or waits to be taken over.

use std::sync::PoisonError;

use tracing::warn;

use super::super::context::EngineError;
use super::{Batch, Lane};
use crate::core::batch_size;
use crate::store::jobs;
use crate::store::{ClaimId, JobId};

/// A lane has at most the claim it works on and those it read ahead, in its first turn one for every lane; one more, in
/// case a give-back failed.
const CLAIMS_REMEMBERED: usize = 10;

impl Lane {
    /// Ends the claims that a failed turn left behind; those that were settled are none any more.
    pub(super) async fn abandon(&self) -> Result<(), EngineError> {
        let now = self.ctx.clock.now();
        let claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let abandoned = self
            .ctx
            .store
            .write(move |db| {
                let mut abandoned = 0;
                for claim in claims {
                    abandoned += jobs::abandon_claim(db, claim, now)?;
                }
                Ok(abandoned)
            })
            .await?;
        if abandoned > 0 {
            warn!(jobs = abandoned, "took back what a failed turn had claimed; sent ones are read later");
        }
        Ok(())
    }

    /// What the lane works on next: what it read ahead itself, or what another lane read for whoever has nothing. What
    /// nobody took in time goes back, however busy the lanes are, and is read again by whoever claims it.
    pub(super) async fn look_ahead(&self, ahead: Option<Batch>) -> Result<Option<Batch>, EngineError> {
        let mut ahead = ahead;
        while let Some(batch) = self.take_over(|batch| ahead.is_none() || !self.is_fresh(batch, 0)) {
            if self.is_fresh(&batch, 0) { ahead = Some(batch) } else { self.give_back(Some(batch)).await? }
        }
        Ok(ahead)
    }

    /// The first batch that was handed over, if it is wanted.
    pub(super) fn take_over(&self, wanted: impl Fn(&Batch) -> bool) -> Option<Batch> {
        let mut batches = self.handed_over.lock().unwrap_or_else(PoisonError::into_inner);
        let batch = batches.pop_front_if(|batch| wanted(batch))?;
        drop(batches);
        self.remember(batch.claim.id);
        Some(batch)
    }

    /// Leaves batches to whichever lane comes first: their claims are no longer this one's.
    pub(super) fn hand_over(&self, batches: Vec<Batch>) {
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        claims.retain(|claim| batches.iter().all(|batch| batch.claim.id != *claim));
        drop(claims);
        self.handed_over.lock().unwrap_or_else(PoisonError::into_inner).extend(batches);
    }

    pub(super) fn remember(&self, claim: ClaimId) {
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        if claims.len() >= CLAIMS_REMEMBERED {
            claims.remove(0);
        }
        claims.push(claim);
    }

    /// Claims and has read what comes after the request that is about to be sent: as much as the budgets will have room
    /// for, and none at all rather than nothing. While nothing is known of the portal the request itself is small, so
    /// it reads whole batches, and one for every lane.
    pub(super) async fn claim_ahead(&self) -> Result<Vec<Batch>, EngineError> {
        let learnt = self.size.lock().unwrap_or_else(PoisonError::into_inner).is_learnt();
        let (batches, size) = match learnt {
            true => (1, self.batch_size()),
            false => (usize::from(self.ctx.portal.suggested_concurrency()), batch_size::MAX - 1),
        };
        let mut ahead = Vec::new();
        for _ in 0..batches {
            let room = self.ctx.portal.room_for_deletions(size);
            if room == 0 {
                break;
            }
            let Some(batch) = self.claim(room).await? else { break };
            ahead.push(batch);
        }
        Ok(ahead)
    }

    /// Gives back what is more than a batch may hold by what was learnt since it was claimed.
    pub(super) async fn trim(&self, batch: &mut Batch) -> Result<(), EngineError> {
        let size = self.batch_size();
        if batch.claim.jobs.len() > size {
            let claim = batch.claim.id;
            let surplus: Vec<JobId> = batch.claim.jobs.drain(size..).map(|job| job.id).collect();
            self.ctx.store.write(move |db| jobs::release_some(db, claim, &surplus)).await?;
        }
        Ok(())
    }

    pub(super) async fn give_back_all(&self, batches: Vec<Batch>) -> Result<(), EngineError> {
        for batch in batches {
            self.give_back(Some(batch)).await?;
        }
        Ok(())
    }

    pub(super) async fn give_back(&self, batch: Option<Batch>) -> Result<(), EngineError> {
        let Some(batch) = batch else { return Ok(()) };
        let claim = batch.claim.id;
        self.ctx.store.write(move |db| jobs::release_claim(db, claim)).await?;
        Ok(())
    }
}
