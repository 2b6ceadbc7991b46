//! `schema`: the rules language as a JSON Schema, on standard output.

use super::failure::Failure;
use super::print::Out;
use crate::cli::SchemaArgs;
use crate::rules::schema;

/// Prints the schema of rules files, or of files of tests.
pub(super) fn schema(args: &SchemaArgs) -> Result<(), Failure> {
    let schema = if args.tests { schema::of_tests() } else { schema::of_rules() };
    Out::new(false).say(serde_json::to_string_pretty(&schema)?)?;
    Ok(())
}
