//! Who is signed in at the admin listener: random ids, in memory only, bounded and expiring.
//!
//! A restart signs everybody out. Ids and CSRF tokens are 256 random bits of the system, compared in constant time.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use subtle::ConstantTimeEq;
use tokio::time::Instant;

/// The hidden field of every form, with the session's token.
pub const CSRF_FIELD: &str = "csrf";

/// How long a session lasts from its login: a working day, after which a forgotten browser is signed out.
pub const LIFETIME: Duration = Duration::from_secs(12 * 60 * 60);

/// The most sessions at a time: far more than there are administrators. One more ends the oldest.
pub const MAX_SESSIONS: usize = 64;

/// Who asks, as far as pages need it; in the extensions of every request that a handler sees.
#[derive(Clone)]
pub(super) struct Visitor {
    /// What the forms of a page carry; `None` for whoever came with a token in a header, and gets no forms.
    pub(super) csrf: Option<String>,
    /// Whether there is a session to end.
    pub(super) signed_in: bool,
    /// Whether it is known to hold the admin token: others on a listener without one are shown no personal data, which
    /// the database's file keeps from them too.
    pub(super) holds_token: bool,
}

/// The system gave no randomness; nothing secret can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoRandomness;

/// 256 random bits, as 64 hexadecimal digits.
pub(super) fn random() -> Result<String, NoRandomness> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).map_err(|error| {
        tracing::error!(%error, "the system gives no random numbers: nobody can sign in");
        NoRandomness
    })?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Whether two texts are equal, in a time that depends on their lengths only.
pub(super) fn same(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

struct Session {
    id: String,
    csrf: String,
    since: Instant,
}

/// The sessions, the oldest first.
#[derive(Default)]
pub(super) struct Sessions(Mutex<Vec<Session>>);

impl Sessions {
    /// A new session's id.
    pub(super) fn open(&self) -> Result<String, NoRandomness> {
        let (id, csrf) = (random()?, random()?);
        let mut sessions = self.live();
        if sessions.len() >= MAX_SESSIONS {
            sessions.remove(0);
        }
        sessions.push(Session { id: id.clone(), csrf, since: Instant::now() });
        Ok(id)
    }

    /// The CSRF token of a session that is open.
    pub(super) fn csrf_of(&self, id: &str) -> Option<String> {
        // Every session is looked at, whichever it is.
        self.live().iter().fold(
            None,
            |found, session| if same(&session.id, id) { Some(session.csrf.clone()) } else { found },
        )
    }

    /// Ends a session.
    pub(super) fn close(&self, id: &str) {
        self.live().retain(|session| !same(&session.id, id));
    }

    fn live(&self) -> std::sync::MutexGuard<'_, Vec<Session>> {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|session| session.since.elapsed() < LIFETIME);
        sessions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_session_ends_by_logout_by_time_and_by_too_many_others() {
        let sessions = Sessions::default();
        let (first, second) = (sessions.open().unwrap(), sessions.open().unwrap());
        assert_ne!(first, second);
        assert_ne!(sessions.csrf_of(&first).unwrap(), sessions.csrf_of(&second).unwrap());
        sessions.close(&first);
        assert_eq!((sessions.csrf_of(&first), sessions.csrf_of("")), (None, None));
        for _ in 0..MAX_SESSIONS {
            assert!(sessions.csrf_of(&second).is_some());
            sessions.open().unwrap();
        }
        assert_eq!((sessions.csrf_of(&second), sessions.live().len()), (None, MAX_SESSIONS));
        tokio::time::advance(LIFETIME).await;
        assert_eq!(sessions.live().len(), 0);
    }
}
