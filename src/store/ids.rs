//! The ids that the store gives out: one type a table, so that a run can't be passed for a job.

use std::fmt;

use rusqlite::types::{FromSql, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use serde::{Deserialize, Serialize};

/// A text that is no id of the store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an id: write its decimal digits")]
pub struct NotAnId(String);

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = NotAnId;

            /// Decimal digits only: no sign, no space.
            fn from_str(text: &str) -> Result<$name, NotAnId> {
                if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && let Ok(id) = text.parse() {
                    return Ok($name(id));
                }
                Err(NotAnId(text.chars().take(32).collect()))
            }
        }

        impl ToSql for $name {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                self.0.to_sql()
            }
        }

        impl FromSql for $name {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<$name> {
                i64::column_result(value).map($name)
            }
        }
    };
}

id!(
    /// A job: one deletion of one lead.
    JobId
);
id!(
    /// A run: one evaluation of a rule.
    RunId
);
id!(
    /// A stored event.
    EventId
);
id!(
    /// A claim: the jobs that went to the worker together. A later claim of the same job has another id, which is how
    /// a stale completion is told from a current one.
    ClaimId
);
