//! Three-valued (Kleene) logic: what can't be judged stays visible until the very end.

use serde::{Deserialize, Serialize};

/// The result of judging a condition.
///
/// ```
/// use b24_janitor::core::truth::Truth::{No, Undecidable, Yes};
///
/// assert_eq!(Yes.and(Undecidable), Undecidable);
/// assert_eq!(No.and(Undecidable), No);
/// assert_eq!(Yes.or(Undecidable), Yes);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Truth {
    /// The condition holds.
    Yes,
    /// The condition does not hold.
    No,
    /// The lead's data do not say: a field is missing, null, unreadable, or a date in the future.
    Undecidable,
}

impl Truth {
    /// The answer for people.
    pub fn words(self) -> &'static str {
        match self {
            Truth::Yes => "yes",
            Truth::No => "no",
            Truth::Undecidable => "can't be judged",
        }
    }

    /// Both: `No` beats `Undecidable` beats `Yes`.
    #[must_use]
    pub fn and(self, other: Truth) -> Truth {
        match (self, other) {
            (Truth::No, _) | (_, Truth::No) => Truth::No,
            (Truth::Undecidable, _) | (_, Truth::Undecidable) => Truth::Undecidable,
            (Truth::Yes, Truth::Yes) => Truth::Yes,
        }
    }

    /// Either: `Yes` beats `Undecidable` beats `No`.
    #[must_use]
    pub fn or(self, other: Truth) -> Truth {
        match (self, other) {
            (Truth::Yes, _) | (_, Truth::Yes) => Truth::Yes,
            (Truth::Undecidable, _) | (_, Truth::Undecidable) => Truth::Undecidable,
            (Truth::No, Truth::No) => Truth::No,
        }
    }

    /// All of them; `Yes` for none.
    pub fn all(items: impl IntoIterator<Item = Truth>) -> Truth {
        items.into_iter().fold(Truth::Yes, Truth::and)
    }

    /// Any of them; `No` for none.
    pub fn any(items: impl IntoIterator<Item = Truth>) -> Truth {
        items.into_iter().fold(Truth::No, Truth::or)
    }

    /// Whether it is certain that the condition does not hold.
    pub fn is_no(self) -> bool {
        self == Truth::No
    }

    /// Whether it is certain that the condition holds.
    pub fn is_yes(self) -> bool {
        self == Truth::Yes
    }
}

impl std::ops::Not for Truth {
    type Output = Truth;

    fn not(self) -> Truth {
        match self {
            Truth::Yes => Truth::No,
            Truth::No => Truth::Yes,
            Truth::Undecidable => Truth::Undecidable,
        }
    }
}

impl From<bool> for Truth {
    fn from(holds: bool) -> Truth {
        if holds { Truth::Yes } else { Truth::No }
    }
}
