//! What the portal calls stages, sources and users, for pages. Names are a help: where the portal is stopped, slow or silent,
//! codes and ids stand alone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Mutex;

use crate::core::lead::{Lead, LeadId};
use crate::core::rule::RuleSet;
use crate::core::trace;
use crate::engine::Context;
use crate::engine::online::may_see_users;
use crate::store::control;

/// How long a page waits for names.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long names are kept: people rename stages seldom, and load pages often.
const KEPT: SignedDuration = SignedDuration::from_mins(10);
/// How soon a portal that did not tell them is asked again.
const ASK_AGAIN: SignedDuration = SignedDuration::from_mins(1);
/// The most users whose names are kept; they are asked for a page of a list at a time.
const MAX_USERS: usize = 1000;

/// Names as far as they are known.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    /// Of stages by their codes, and of users by their ids.
    pub(super) names: trace::Names,
    /// Of sources, by their codes.
    pub(super) sources: BTreeMap<String, String>,
}

#[derive(Default)]
struct Kept {
    known: Known,
    /// Users that the portal did not name either.
    asked: BTreeSet<i64>,
    until: Option<Timestamp>,
}

/// The names, asked for once in a while.
#[derive(Default)]
pub(super) struct Names(Mutex<Kept>);

impl Names {
    /// The names of all stages and sources, and of these users.
    pub(super) async fn of(&self, ctx: &Context, users: &[i64]) -> Known {
        // One page asks at a time; the others get its answer.
        let mut kept = self.0.lock().await;
        let now = ctx.clock.now();
        let ends = |after: SignedDuration| Some(now.checked_add(after).unwrap_or(Timestamp::MAX));
        let fresh = kept.until.is_some_and(|until| now < until);
        if !fresh {
            // Until the portal tells them anew, the old ones are better than none.
            kept.asked.clear();
            kept.until = ends(ASK_AGAIN);
        }
        let missing: Vec<i64> = users.iter().copied().filter(|id| !kept.asked.contains(id)).collect();
        if fresh && missing.is_empty() || !reachable(ctx).await {
            return kept.known.clone();
        }
        let known = kept.asked.len().max(kept.known.names.users.len());
        if known + missing.len() > MAX_USERS {
            kept.asked.clear();
            kept.known.names.users.clear();
        }
        let asking = async {
            let stages = if fresh { None } else { Some(ctx.portal.stages().await.ok()?) };
            let sources = if fresh { None } else { Some(ctx.portal.sources().await.ok()?) };
            // A call beyond the webhook's scope would only be refused.
            let users = if missing.is_empty() || !may_see_users(&ctx.portal.scopes().await.ok()?) {
                BTreeMap::new()
            } else {
                ctx.portal.users(&missing).await.ok()?
            };
            Some((stages, sources, users))
        };
        if let Ok(Some((stages, sources, users))) = tokio::time::timeout(PATIENCE, asking).await {
            if let (Some(stages), Some(sources)) = (stages, sources) {
                kept.known.names.stages = stages.into_iter().map(|stage| (stage.id, stage.name)).collect();
                kept.known.sources = sources.into_iter().map(|source| (source.id, source.name)).collect();
                kept.until = ends(KEPT);
            }
            kept.known.names.users.extend(users);
        }
        kept.asked.extend(missing);
        kept.known.clone()
    }
}

/// Whether the portal was not found to refuse every call.
async fn reachable(ctx: &Context) -> bool {
    matches!(ctx.store.read(control::portal_stop).await, Ok(None))
}

/// The users whom rules and protections name, a hundred at most.
pub(super) fn users_of(rules: &RuleSet) -> Vec<i64> {
    const MOST: usize = 100;
    let mut found = BTreeSet::new();
    // A lead without fields adds nobody to those whom the conditions name.
    let Ok(id) = LeadId::try_from(1) else { return Vec::new() };
    let lead = Lead::new(id, serde_json::Map::new());
    let guards = rules.protections.iter().filter_map(|protection| protection.condition.as_ref());
    let parts = rules.rules.iter().map(|rule| &rule.selection).chain(guards);
    parts.for_each(|part| found.extend(trace::users_in(part, &lead)));
    found.into_iter().take(MOST).collect()
}
