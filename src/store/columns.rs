//! How values of the program stand in columns: times as Unix milliseconds, words as text, counts as integers.

use std::fmt::Write as _;

use jiff::Timestamp;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, Type, ValueRef};
use rusqlite::{Connection, Row, RowIndex};

use super::ids::JobId;
use crate::core::lead::LeadId;
use crate::core::outcome::Outcome;
use crate::core::rule::{LeadEvent, Mode};

/// The column value of a time.
pub(super) fn ms(at: Timestamp) -> i64 {
    at.as_millisecond()
}

/// A time from a column that is never null.
pub(super) fn at(row: &Row<'_>, column: impl RowIndex) -> rusqlite::Result<Timestamp> {
    from_ms(row.get(column)?)
}

/// A time from a column that may be null.
pub(super) fn at_opt(row: &Row<'_>, column: impl RowIndex) -> rusqlite::Result<Option<Timestamp>> {
    row.get::<_, Option<i64>>(column)?.map(from_ms).transpose()
}

/// The time of a column value.
pub(super) fn from_ms(value: i64) -> rusqlite::Result<Timestamp> {
    Timestamp::from_millisecond(value)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, Type::Integer, Box::new(error)))
}

/// A count from a column; the schema keeps counts from being negative.
pub(super) fn count(row: &Row<'_>, column: impl RowIndex) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(unsigned)
}

/// The count that a query with one value gives.
pub(super) fn count_of(db: &Connection, sql: &str, params: impl rusqlite::Params) -> rusqlite::Result<u64> {
    db.prepare_cached(sql)?.query_row(params, |row| row.get::<_, i64>(0)).map(unsigned)
}

/// The column value of a count.
pub(super) fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The count of a column value.
pub(super) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// Success where a statement changed exactly the one row that it meant.
pub(super) fn exactly_one(changed: usize) -> rusqlite::Result<()> {
    if changed == 1 { Ok(()) } else { Err(rusqlite::Error::StatementChangedRows(changed)) }
}

/// That a statement changed, or found, as many rows as it was meant for.
pub(super) fn exactly(meant: usize, changed: usize) -> rusqlite::Result<()> {
    if changed == meant { Ok(()) } else { Err(rusqlite::Error::StatementChangedRows(changed)) }
}

/// Ids as a JSON list, for `IN (SELECT value FROM json_each(?))`: one statement for all of them.
pub(super) fn id_list(ids: impl IntoIterator<Item = JobId>) -> String {
    let mut list = String::from("[");
    for id in ids {
        // Writing into a string can't fail.
        write!(list, "{}{}", if list.len() > 1 { "," } else { "" }, id.0).ok();
    }
    list.push(']');
    list
}

impl ToSql for LeadId {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::from(i64::from(*self)))
    }
}

impl FromSql for LeadId {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<LeadId> {
        let id = i64::column_result(value)?;
        LeadId::try_from(id).map_err(|_| FromSqlError::OutOfRange(id))
    }
}

/// A word that stands in a column.
macro_rules! word_column {
    ($name:ty) => {
        impl rusqlite::types::ToSql for $name {
            fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
                Ok(rusqlite::types::ToSqlOutput::from(self.as_str()))
            }
        }

        impl rusqlite::types::FromSql for $name {
            fn column_result(value: rusqlite::types::ValueRef<'_>) -> rusqlite::types::FromSqlResult<$name> {
                <$name>::parse(value.as_str()?).ok_or(rusqlite::types::FromSqlError::InvalidType)
            }
        }
    };
}
pub(super) use word_column;

/// An enum of words: the word in output and in the database, and back.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// All of them, in the order of reports.
            pub const ALL: &'static [$name] = &[$($name::$variant,)+];

            /// The word in output and in the database.
            pub fn as_str(self) -> &'static str {
                match self {
                    $($name::$variant => $word,)+
                }
            }

            /// The variant of that word.
            pub fn parse(word: &str) -> Option<$name> {
                $name::ALL.iter().copied().find(|known| known.as_str() == word)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        crate::store::columns::word_column!($name);
    };
}
pub(super) use words;

word_column!(Outcome);
word_column!(LeadEvent);

impl ToSql for Mode {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::from(self.as_str()))
    }
}

impl FromSql for Mode {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Mode> {
        let word = value.as_str()?;
        [Mode::Plan, Mode::Delete]
            .into_iter()
            .find(|mode| mode.as_str() == word)
            .ok_or(FromSqlError::InvalidType)
    }
}
