//! Approval of a held run: by the command and by the page, against the rules as they stand at that moment.

use jiff::Timestamp;

use crate::core::rule::{Mode, Rule, RuleSet};
use crate::store::runs::{self, Approval, Run};
use crate::store::{RunId, Store, StoreError};

/// Enqueues exactly the leads of a held run if `count` is how many they are and its rule has not changed since; says
/// what came of it, with the run as it was before. `None` if there is no such run.
pub async fn approve(
    store: &Store,
    rules: &RuleSet,
    id: RunId,
    count: u64,
    now: Timestamp,
) -> Result<Option<(Run, Approval)>, StoreError> {
    let Some(run) = store.read(move |db| runs::get(db, id)).await? else { return Ok(None) };
    let rule = rules.rule(&run.rule);
    let text = rule.map(Rule::text);
    let grace = rule.map_or(0, |rule| rule.grace_period.seconds().unsigned_abs());
    let mode = rule.map_or(Mode::Plan, |rule| rule.mode);
    let approval =
        store.write(move |db| runs::approve(db, id, count, text.as_deref(), mode, grace, now)).await?;
    Ok(Some((run, approval)))
}
