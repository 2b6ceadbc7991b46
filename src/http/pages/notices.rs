//! What came of an order, told on the page that the browser is sent to. The address carries a random name only, so that
//! no link can put words onto a page; who read a notice has taken it.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::http::sessions;

/// The parameter of an address that names a notice.
pub(super) const PARAMETER: &str = "notice";

/// The most notices that wait to be read: each is read a moment after it was left, by one of a few people.
const MAX_NOTICES: usize = 64;

/// The longest notice, in characters: a reload of many files with many mistakes can say very much.
const MAX_TEXT: usize = 16 * 1024;

/// What came of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Notice {
    /// Whether it was carried out.
    pub(super) good: bool,
    pub(super) text: String,
}

/// The notices that nobody has read yet, the oldest first.
#[derive(Default)]
pub(super) struct Notices(Mutex<VecDeque<(String, Notice)>>);

impl Notices {
    /// Leaves a notice and returns its name; `None` if the system gives no random one.
    pub(super) fn leave(&self, mut notice: Notice) -> Option<String> {
        let name = sessions::random().ok()?;
        if let Some((end, _)) = notice.text.char_indices().nth(MAX_TEXT) {
            notice.text.truncate(end);
            notice.text.push('…');
        }
        let mut waiting = self.waiting();
        if waiting.len() >= MAX_NOTICES {
            waiting.pop_front();
        }
        waiting.push_back((name.clone(), notice));
        Some(name)
    }

    /// Takes the notice that the query of an address names.
    pub(super) fn named_in(&self, query: &str) -> Option<Notice> {
        let name = query.split('&').find_map(|pair| pair.strip_prefix(PARAMETER)?.strip_prefix('='))?;
        let mut waiting = self.waiting();
        let at = waiting.iter().position(|(known, _)| sessions::same(known, name))?;
        waiting.remove(at).map(|(_, notice)| notice)
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<(String, Notice)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_read_once_by_its_name_and_the_oldest_unread_one_makes_room() {
        let notices = Notices::default();
        let leave = |text: &str| notices.leave(Notice { good: true, text: text.to_owned() }).unwrap();
        let read = |name: &str| notices.named_in(&format!("a=b&notice={name}")).map(|notice| notice.text);
        let (first, second) = (leave("first"), leave("second"));
        assert_eq!(read(&second).as_deref(), Some("second"));
        assert_eq!((read(&second), read("")), (None, None));
        for _ in 0..MAX_NOTICES {
            leave("more");
        }
        assert_eq!(read(&first), None);
        assert_eq!(notices.waiting().len(), MAX_NOTICES);
        let long = leave(&"ü".repeat(MAX_TEXT + 9));
        assert_eq!(read(&long).unwrap().chars().count(), MAX_TEXT + 1);
    }
}
