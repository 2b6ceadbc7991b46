//! Approval of a held run: by the command and by the page, against the rules as they stand at that moment.

use jiff::Timestamp;

use crate::core::rule::{Mode, Rule, RuleSet};
use crate::store::runs::{self, Approval, Run};
use crate::store::{RunId, Store, StoreError};

/// Who approves, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Approver {
    /// A person at the admin page, by a session of the admin token.
    SignedIn,
    /// Whoever sent the admin token itself, such as a script.
    Token,
    /// Whoever reaches an admin listener that has no token.
    Anybody,
    /// A user of this machine, by the command.
    User(String),
}

impl Approver {
    fn words(&self) -> String {
        match self {
            Approver::SignedIn => "the admin page, signed in".to_owned(),
            Approver::Token => "a script with the admin token".to_owned(),
            Approver::Anybody => "the admin listener, which needs no token".to_owned(),
            Approver::User(name) => format!("the command line, {name}"),
        }
    }
}

/// Enqueues exactly the leads of a held run if `count` is how many they are and its rule has not changed since; says
/// what came of it, with the run as it was before. Who approved is recorded with it. `None` if there is no such run.
pub async fn approve(
    store: &Store,
    rules: &RuleSet,
    id: RunId,
    count: u64,
    approver: &Approver,
    now: Timestamp,
) -> Result<Option<(Run, Approval)>, StoreError> {
    let Some(run) = store.read(move |db| runs::get(db, id)).await? else { return Ok(None) };
    let rule = rules.rule(&run.rule);
    let text = rule.map(Rule::text);
    let grace = rule.map_or(0, |rule| rule.grace_period.seconds().unsigned_abs());
    let mode = rule.map_or(Mode::Plan, |rule| rule.mode);
    let who = approver.words();
    let approval = store
        .write(move |db| {
            let approval = runs::approve(db, id, count, text.as_deref(), mode, grace, now)?;
            if matches!(approval, Approval::Approved { .. }) {
                runs::set_approver(db, id, &who, now)?;
            }
            Ok(approval)
        })
        .await?;
    Ok(Some((run, approval)))
}
