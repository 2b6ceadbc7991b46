//! A restored lead beside the copy that it was made from, field by field.
//!
//! Personal data: the values only for whoever holds the admin token. Limits: at most [`MAX_FIELDS`] fields.

use serde_json::{Map, Value};

use super::explained::{MAX_FIELDS, fields_of, value};
use crate::core::lead::LeadId;
use crate::core::undo::{self, Back};

/// A copy and the lead that was made from it.
pub(super) struct Compared {
    pub(super) new: LeadId,
    /// Each field; none where the new lead could not be read.
    pub(super) fields: Vec<Field>,
    pub(super) more: usize,
}

/// A field of both.
pub(super) struct Field {
    pub(super) name: String,
    pub(super) old: String,
    pub(super) new: String,
    pub(super) says: &'static str,
    pub(super) tag: &'static str,
}

impl Compared {
    /// The copy's fields as JSON, and the new lead's; `None` where it can't be read.
    pub(super) fn of(copy: &str, id: LeadId, new: Option<&Map<String, Value>>, personal: bool) -> Compared {
        let Some(new) = new else { return Compared { new: id, fields: Vec::new(), more: 0 } };
        let copy = fields_of(copy);
        let all = undo::compared(&copy, new);
        let more = all.len().saturating_sub(MAX_FIELDS);
        let fields = all.into_iter().take(MAX_FIELDS).map(|(name, back)| Field {
            old: value(copy.get(&name), personal),
            new: value(new.get(&name), personal),
            name,
            says: back.as_str(),
            tag: match back {
                Back::Same => "good",
                Back::Differs => "warn",
                Back::CantCome => "bad",
            },
        });
        Compared { new: id, fields: fields.collect(), more }
    }
}
