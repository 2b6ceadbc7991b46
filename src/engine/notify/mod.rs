//! Sends the notices that wait in the database: a loop of its own, so that no work ever waits for a target.
//!
//! The invariants: a target gets one notice at a time and holds up no other target; what was sent is recorded, and what
//! was not is tried again from the database for a day, over restarts too. A process that dies between sending and
//! recording sends that notice once more: at least once, never none.

mod courier;
mod email;
mod http;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

pub use courier::{Courier, Secrets};
pub use http::NoPoster;

use super::context::{Context, EngineError};
use crate::core::notice::{self, Letter};
use crate::core::notify::{Target, Way};
use crate::store::StoreError;
use crate::store::control;
use crate::store::notices::{self, Sent, Waiting};

/// How often it is looked for new notices: a person does not notice five seconds.
const LOOK_EVERY: SignedDuration = SignedDuration::from_secs(5);
/// How long a notice may be on its way: a call of the portal takes 75 s at most, and it may have to wait its turn.
const WITHIN: Duration = Duration::from_secs(90);
/// How long a target rests when it can't be recorded that it was told: it would be told the same again and again.
const UNRECORDED_REST: SignedDuration = SignedDuration::from_mins(10);

/// Targets that are being told something, and a bell for when one of them is done.
#[derive(Clone, Default)]
struct UnderWay {
    targets: Arc<Mutex<BTreeSet<String>>>,
    done: Arc<Notify>,
}

impl UnderWay {
    fn has(&self, target: &str) -> bool {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner).contains(target)
    }

    fn begin(&self, target: &str) -> Mark {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner).insert(target.to_owned());
        Mark { target: target.to_owned(), of: self.clone() }
    }
}

/// A target that is being told something; the mark goes with it.
struct Mark {
    target: String,
    of: UnderWay,
}

impl Drop for Mark {
    fn drop(&mut self) {
        self.of.targets.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.target);
        self.of.done.notify_one();
    }
}

/// Runs until the service stops.
pub(super) async fn run(ctx: Context, tasks: TaskTracker) {
    let mut rules = ctx.rules.clone();
    let under_way = UnderWay::default();
    while !ctx.stop.is_cancelled() {
        let targets = rules.borrow_and_update().notify.clone();
        let now = ctx.clock.now();
        let look = now.checked_add(ctx.clock.idle(LOOK_EVERY)).unwrap_or(Timestamp::MAX);
        let next = if targets.is_empty() {
            ctx.metrics.set_notices_waiting(0);
            Timestamp::MAX
        } else {
            match send_due(&ctx, &tasks, &targets, &under_way).await {
                Ok(next) => next.min(look),
                Err(error) => {
                    warn!(%error, "could not look for notices");
                    look
                }
            }
        };
        tokio::select! {
            biased;
            () = ctx.stop.cancelled() => return,
            changed = rules.changed() => if changed.is_err() { return },
            () = under_way.done.notified() => {}
            () = ctx.clock.sleep_until(next), if next < Timestamp::MAX => {}
        }
    }
}

/// What is due at a moment.
struct Due {
    /// At most one notice a target.
    now: Vec<(Target, Waiting)>,
    /// When the next one may be.
    next: Timestamp,
    /// How many wait in all.
    waiting: u64,
}

/// Sends what is due to every target that is not being told something; says when the next notice may be due.
async fn send_due(
    ctx: &Context,
    tasks: &TaskTracker,
    targets: &[Target],
    under_way: &UnderWay,
) -> Result<Timestamp, StoreError> {
    let now = ctx.clock.now();
    let free: Vec<Target> =
        targets.iter().filter(|target| !under_way.has(target.name.as_str())).cloned().collect();
    let oldest = before(now, notice::TRIED_FOR);
    if ctx.store.read(move |db| notices::any_before(db, oldest)).await? {
        let given_up = ctx.store.write(move |db| notices::expire(db, oldest, now)).await?;
        for (target, many) in given_up {
            error!(target, notices = many, "notices are given up: they could not be sent within a day");
            ctx.metrics.notices(&target, "given_up", many);
        }
    }
    // A portal that refuses every call is not asked for more; it may be back within the day.
    let (heads, sent, stopped) = ctx
        .store
        .read(move |db| {
            let sent = notices::sent_since(db, before(now, notice::WINDOW))?;
            Ok((notices::heads(db)?, sent, control::portal_stop(db)?.is_some()))
        })
        .await?;
    let may_ask = |target: &&Target| !(stopped && matches!(target.way, Way::Chat { .. }));
    let due = choose(&heads, &sent, free.iter().filter(may_ask), now);
    ctx.metrics.set_notices_waiting(due.waiting);
    for (target, notice) in due.now {
        let mark = under_way.begin(target.name.as_str());
        let on = ctx.clone();
        ctx.spawn(tasks, async move { deliver(on, target, notice, mark).await });
    }
    Ok(due.next)
}

fn before(now: Timestamp, by: SignedDuration) -> Timestamp {
    now.checked_sub(by).unwrap_or(Timestamp::MIN)
}

/// What to send now: of each target the oldest notice that the limits let through.
fn choose<'t>(
    heads: &[Waiting],
    sent: &[Sent],
    targets: impl Iterator<Item = &'t Target>,
    now: Timestamp,
) -> Due {
    let waiting = heads.iter().map(|head| head.more + 1).sum();
    let mut due = Due { now: Vec::new(), next: Timestamp::MAX, waiting };
    for target in targets {
        let mine = |to: &str| to == target.name.as_str();
        let times: Vec<Timestamp> = sent.iter().filter(|one| mine(&one.target)).map(|one| one.at).collect();
        for head in heads.iter().filter(|head| mine(&head.target)) {
            let like = |one: &&Sent| mine(&one.target) && one.occasion == head.occasion;
            let last = sent.iter().rev().find(like).map(|one| one.at);
            let at = notice::not_before(head.due_at, last, &times);
            if at <= now {
                due.now.push((target.clone(), head.clone()));
                break;
            }
            due.next = due.next.min(at);
        }
    }
    due
}

/// Sends one notice and records what came of it.
async fn deliver(ctx: Context, target: Target, notice: Waiting, mark: Mark) {
    let name = target.name.to_string();
    let rule = notice.rule.clone().unwrap_or_default();
    let told = (notice.text.clone(), rule, notice.run_id.unwrap_or_default(), notice.count);
    let to = (name.as_str(), notice.id);
    let letter = Letter::of(to, ctx.portal.host(), notice.occasion, told, notice.created_at, notice.more);
    let sent = tokio::select! {
        biased;
        // It waits in the database for the next start.
        () = ctx.stop.cancelled() => return,
        sent = send(&ctx, &target, &letter) => sent,
    };
    let now = ctx.clock.now();
    let occasion = notice.occasion.as_str();
    let recorded = match sent {
        Ok(said) => {
            info!(target = name, occasion, more = notice.more, said, "notice sent");
            ctx.metrics.notices(&name, "sent", 1);
            ctx.store.write(move |db| notices::sent(db, &notice, now)).await
        }
        Err(why) => {
            let tries = notice.tries;
            let last = notice.created_at.checked_add(notice::TRIED_FOR).unwrap_or(Timestamp::MAX);
            let next = Some(ctx.retry_at(now, tries)).filter(|next| *next < last);
            match next {
                Some(next) => {
                    let again_in = next.duration_since(now).as_secs();
                    warn!(
                        target = name,
                        occasion,
                        tries = tries + 1,
                        error = why,
                        again_in,
                        "a notice could not be sent"
                    );
                    ctx.metrics.notices(&name, "failed", 1);
                }
                None => {
                    error!(
                        target = name,
                        occasion,
                        error = why,
                        "a notice is given up: it could not be sent within a day"
                    );
                    ctx.metrics.notices(&name, "given_up", 1);
                }
            }
            ctx.store.write(move |db| notices::failed(db, &notice, &why, next, now)).await
        }
    };
    if let Err(error) = recorded {
        error!(%error, target = name, "what became of a notice could not be recorded; the target rests");
        let rested = now.checked_add(UNRECORDED_REST).unwrap_or(Timestamp::MAX);
        tokio::select! {
            biased;
            () = ctx.stop.cancelled() => {}
            () = ctx.clock.sleep_until(rested) => {}
        }
    }
    drop(mark);
}

/// Sends a letter by the target's way: what was answered, or why it did not arrive. Neither has a secret in it.
async fn send(ctx: &Context, target: &Target, letter: &Letter) -> Result<String, String> {
    let sending = async {
        match &target.way {
            Way::Http(post) => ctx.courier.post(post, letter).await,
            Way::Email(email) => ctx.courier.mail(email, letter).await,
            Way::Chat { user_id } => chat(ctx, *user_id, letter).await,
        }
    };
    match tokio::time::timeout(WITHIN, sending).await {
        Ok(sent) => sent,
        Err(_) => Err(format!("nothing came back within {} s", WITHIN.as_secs())),
    }
}

async fn chat(ctx: &Context, user_id: u32, letter: &Letter) -> Result<String, String> {
    match ctx.portal.notify_user(user_id, &letter.text).await {
        Ok(()) => Ok(format!("user {user_id} of the portal was notified")),
        Err(error) if error.lacks_scope() => Err(
            "the webhook may not send notifications: add the scope `im` (Chat and notifications) to it in Bitrix24, or \
             remove this target from `notify:`"
                .to_owned(),
        ),
        Err(error) => Err(error.fault.to_string()),
    }
}

/// What came of a test notice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tested {
    /// The target.
    pub target: String,
    /// `http`, `email` or `chat`.
    pub way: String,
    /// Whether it arrived.
    pub ok: bool,
    /// What was answered, or why it did not arrive.
    pub said: String,
}

/// Sends a test notice to the target of that name, or to every target, past all limits: a person waits for it.
///
/// # Errors
/// Where there is no such target. What a target answers is no error.
pub async fn test(ctx: &Context, name: Option<&str>) -> Result<Vec<Tested>, EngineError> {
    let rules = ctx.rules();
    let targets: Vec<&Target> =
        rules.notify.iter().filter(|target| name.is_none_or(|name| target.name.as_str() == name)).collect();
    if let (Some(name), true) = (name, targets.is_empty()) {
        return Err(EngineError::NoSuchTarget(name.to_owned()));
    }
    let now = ctx.clock.now();
    let tests = targets.into_iter().map(|target| async move {
        let letter = Letter::test(ctx.portal.host(), target.name.as_str(), now);
        let sent = send(ctx, target, &letter).await;
        let ok = sent.is_ok();
        let said = sent.unwrap_or_else(|why| why);
        Tested { target: target.name.to_string(), way: target.way.as_str().to_owned(), ok, said }
    });
    Ok(join_all(tests).await)
}
