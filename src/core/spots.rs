//! Where the conditions of a rule are written, so that what only the portal can find is shown at its place too. It is
//! beside the condition, not in it: what a rule means, and whether two rules mean the same, has nothing to do with it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// The places of one leaf of a condition, as byte ranges of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spot {
    /// The field's name.
    pub field: Range<usize>,
    /// The operator's name, or the value where it stands alone.
    pub test: Range<usize>,
    /// The values, in the order of the test's own; of an age the age.
    pub values: Vec<Range<usize>>,
}

/// The places of every leaf of a condition, in the order in which a walk through the condition meets them.
#[derive(Clone, Default)]
pub struct Spots {
    /// The text of the file.
    pub text: Arc<str>,
    /// A place a leaf.
    pub leaves: Vec<Spot>,
    /// The lines of the whole entry, as bytes of the text.
    pub entry: Range<usize>,
}

/// The longest entry that is shown whole, in bytes: thousands of times what people write.
const MAX_WRITTEN: usize = 32 * 1024;

impl Spots {
    /// The entry as it is written, moved to the left as a whole; a very long one is cut.
    pub fn written(&self) -> String {
        let mut entry = self.text.get(self.entry.clone()).unwrap_or_default();
        let too_long = entry.len() > MAX_WRITTEN;
        if too_long {
            let end = (0..=MAX_WRITTEN).rev().find(|end| entry.is_char_boundary(*end)).unwrap_or_default();
            entry = entry.get(..end).unwrap_or_default();
        }
        let filled = entry.lines().filter(|line| !line.trim().is_empty());
        let indent = filled.map(|line| line.len() - line.trim_start_matches(' ').len()).min().unwrap_or(0);
        let mut written = String::new();
        for line in entry.lines() {
            written.push_str(line.get(indent..).unwrap_or_default());
            written.push('\n');
        }
        if too_long {
            written.push_str("…\n");
        }
        written
    }
}

impl PartialEq for Spots {
    /// Always: where something is written is no part of what it means.
    fn eq(&self, _other: &Spots) -> bool {
        true
    }
}

impl fmt::Debug for Spots {
    /// Without the file's text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.leaves).finish()
    }
}
