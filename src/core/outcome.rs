//! What the portal answered to one deletion, and what that makes of the job: one result for every combination.
//!
//! The invariants: "not found" is success, `already_gone` only if no earlier attempt of ours could have deleted the
//! lead; an answer that is not certain never settles a job; what was surely not executed gives the attempt back.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// The portal's own words about a refusal or a failure, never with a secret in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The JSON `error` code as sent (it may be empty), or a word of ours in angle brackets (`<timeout>`).
    pub code: String,
    /// The description, bounded in length.
    pub text: String,
}

impl Fault {
    /// The longest description that is kept, in characters: enough for every text of the portal.
    pub const MAX_TEXT: usize = 300;

    /// A fault; the text is cut to [`Fault::MAX_TEXT`] characters and freed of control characters.
    pub fn new(code: impl Into<String>, text: impl AsRef<str>) -> Fault {
        let text = text.as_ref().chars().filter(|c| !c.is_control()).take(Fault::MAX_TEXT).collect();
        Fault { code: code.into().chars().filter(|c| !c.is_control()).take(64).collect(), text }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.code.is_empty(), self.text.is_empty()) {
            (true, true) => f.write_str("an error without code or text"),
            (true, false) => f.write_str(&self.text),
            (false, true) => f.write_str(&self.code),
            (false, false) => write!(f, "{}: {}", self.code, self.text),
        }
    }
}

/// The answer to the deletion of one lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeleteReply {
    /// The portal says it deleted the lead.
    Deleted,
    /// The portal says for certain that there is no such lead.
    NotFound,
    /// A code or text that may mean "not found" or something else: `crm.item.get` must decide.
    Unsure(Fault),
    /// A denial or a veto: final for this lead.
    Refused(Fault),
    /// The method's operating budget is used up; surely not executed.
    MethodPaused(Fault),
    /// A passing refusal (too many requests, the portal's authorisation server is away); surely not executed.
    Busy(Fault),
    /// Surely not executed: the request was not sent, or its key is in neither map of a batch's reply.
    NotExecuted(Fault),
    /// The portal refuses everything until a person acts; surely not executed.
    Stopped(Fault),
    /// No trustworthy answer to a request that was sent: it may have been executed, or may still be.
    Unknown(Fault),
}

/// What `crm.item.get` says about a lead.
#[derive(Debug, Clone, PartialEq)]
pub enum Presence {
    /// It is there, with these fields.
    Present(super::lead::Lead),
    /// `NOT_FOUND`: it does not exist. Raised before any permission check, hence authoritative.
    Gone,
    /// It is there, but this webhook may not read it.
    Unreadable(Fault),
}

/// How a job ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// We deleted the lead.
    Deleted,
    /// Somebody else had deleted it.
    AlreadyGone,
    /// It no longer matched, or is protected.
    Spared,
    /// A person cancelled the job.
    Cancelled,
    /// The portal refuses to delete this lead.
    Failed,
}

impl Outcome {
    /// All of them, in the order of reports.
    pub const ALL: [Outcome; 5] =
        [Outcome::Deleted, Outcome::AlreadyGone, Outcome::Spared, Outcome::Cancelled, Outcome::Failed];

    /// The word in output and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Deleted => "deleted",
            Outcome::AlreadyGone => "already_gone",
            Outcome::Spared => "spared",
            Outcome::Cancelled => "cancelled",
            Outcome::Failed => "failed",
        }
    }

    /// The outcome of that word.
    pub fn parse(word: &str) -> Option<Outcome> {
        Outcome::ALL.into_iter().find(|outcome| outcome.as_str() == word)
    }
}

/// What becomes of a claimed job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It is done.
    Finish {
        /// How.
        outcome: Outcome,
        /// Why, for people; ids, stages, dates and numbers only.
        reason: Option<String>,
        /// The portal's words, where they led to this.
        error: Option<String>,
    },
    /// Back to waiting.
    Release {
        /// When it is due again.
        due_at: Timestamp,
        /// The portal's words, where there are any.
        error: Option<String>,
        /// Whether the attempt does not count, because it was surely not executed.
        give_back: bool,
    },
    /// The deletion may have happened or may still happen: read the lead at `settle_at`, not before.
    Unknown {
        /// The earliest moment at which a read is conclusive.
        settle_at: Timestamp,
        /// What happened instead of an answer.
        error: String,
    },
}

/// How long after a request was recorded as sent the portal may still be working on it: connecting may take 15 s, the
/// portal cuts requests at 60 s (<https://apidocs.bitrix24.com/limits.html>), and 15 s are a margin for queues.
pub const PORTAL_MAY_STILL_WORK: SignedDuration = SignedDuration::from_secs(90);

/// What [`after_delete`] needs to know of the job and of the attempt.
#[derive(Debug, Clone, Copy)]
pub struct Attempt {
    /// Whether an earlier attempt ended unknown and no read has since proved that the lead survived it.
    pub unknown_before: bool,
    /// When the request was sent.
    pub sent_at: Timestamp,
    /// When the answer was there.
    pub now: Timestamp,
    /// When to try again, where the reply asks for another try (from [`super::retry`]).
    pub retry_at: Timestamp,
}

/// The outcome of a lead that surely is gone.
pub fn gone(unknown_before: bool) -> Outcome {
    if unknown_before { Outcome::Deleted } else { Outcome::AlreadyGone }
}

/// What a reply makes of the job. `None` where only `crm.item.get` can tell: ask it, then [`after_confirmation`].
pub fn after_delete(reply: &DeleteReply, attempt: &Attempt) -> Option<Change> {
    let release = |fault: &Fault, give_back| {
        Some(Change::Release { due_at: attempt.retry_at, error: Some(fault.to_string()), give_back })
    };
    match reply {
        DeleteReply::Deleted => Some(Change::Finish { outcome: Outcome::Deleted, reason: None, error: None }),
        DeleteReply::NotFound => Some(finish_gone(attempt.unknown_before)),
        DeleteReply::Unsure(_) => None,
        DeleteReply::Refused(fault) => Some(failed(fault)),
        DeleteReply::MethodPaused(fault) | DeleteReply::Busy(fault) | DeleteReply::Stopped(fault) => {
            release(fault, true)
        }
        DeleteReply::NotExecuted(fault) => release(fault, true),
        DeleteReply::Unknown(fault) => Some(Change::Unknown {
            settle_at: attempt.sent_at.checked_add(PORTAL_MAY_STILL_WORK).unwrap_or(Timestamp::MAX),
            error: fault.to_string(),
        }),
    }
}

/// What `crm.item.get` makes of a job whose deletion was answered with something unsure. `alone` says whether that
/// deletion was sent by itself, outside a batch, where its answer is final for the attempt.
///
/// `None` means: present after an answer inside a batch, where another lead's error may have leaked into this one's;
/// delete it once more, alone.
pub fn after_confirmation(
    presence: &Presence,
    answer: &Fault,
    alone: bool,
    attempt: &Attempt,
) -> Option<Change> {
    match presence {
        Presence::Gone => Some(finish_gone(attempt.unknown_before)),
        Presence::Present(_) | Presence::Unreadable(_) if alone => Some(failed(answer)),
        Presence::Present(_) => None,
        Presence::Unreadable(fault) => Some(failed(fault)),
    }
}

/// The end of a job whose lead surely is gone, with the reason.
pub fn finish_gone(unknown_before: bool) -> Change {
    let reason = if unknown_before {
        "gone after an attempt of ours whose answer was lost"
    } else {
        "the portal has no such lead any more"
    };
    Change::Finish { outcome: gone(unknown_before), reason: Some(reason.to_owned()), error: None }
}

fn failed(fault: &Fault) -> Change {
    Change::Finish {
        outcome: Outcome::Failed,
        reason: Some("the portal refuses to delete this lead".to_owned()),
        error: Some(fault.to_string()),
    }
}
