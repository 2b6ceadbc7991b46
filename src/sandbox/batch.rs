//! `batch`: commands in a row in one request, with references to earlier results.
//!
//! Bitrix24 docs: `settings/how-to-call-rest-api/batch.md`. The answer is HTTP 200 whatever its commands do. Beyond the
//! docs: a reference that doesn't resolve becomes the deepest part that was found, and an application exception of one
//! command hides the later ones' errors.

use super::Sandbox;
use super::methods::RestError;
use super::php::{Arr, Key, Val, parse_str};
use super::session::{Hit, Stop};

/// Commands in a batch; those beyond get `ERROR_BATCH_LENGTH_EXCEEDED` each.
const MAX_COMMANDS: usize = 50;

/// Methods that a batch refuses.
const FORBIDDEN: &[&str] = &["batch", "download", "upload"];

fn commands(params: &Arr) -> impl Iterator<Item = (&Key, &str)> {
    // Entries that are no strings are passed over without a word.
    let cmd = params.get("cmd").or_else(|| params.get("CMD")).and_then(Val::as_arr);
    cmd.into_iter().flat_map(Arr::iter).filter_map(|(key, value)| value.as_str().map(|text| (key, text)))
}

/// The methods inside a request, in lower case.
pub(super) fn methods(params: &Arr) -> Vec<String> {
    commands(params).map(|(_, text)| split(text).0).collect()
}

/// `parse_url`: the path and the query; a fragment is lost.
fn split(command: &str) -> (String, &str) {
    let command = command.split_once('#').map_or(command, |(before, _)| before);
    let (method, query) = command.split_once('?').unwrap_or((command, ""));
    let method = method.trim().trim_start_matches('/').to_ascii_lowercase();
    (method.strip_suffix(".json").map_or(method.clone(), str::to_owned), query)
}

/// The five maps of the answer.
#[derive(Default)]
struct Maps {
    result: Arr,
    error: Arr,
    total: Arr,
    next: Arr,
    time: Arr,
}

impl Sandbox {
    /// Runs a batch. The last `lose` commands are missing from the answer, executed or not (an injected fault).
    pub(super) async fn batch(
        &self,
        params: &Arr,
        hit: &mut Hit,
        lose: usize,
        lost_executed: bool,
    ) -> Result<Arr, Stop> {
        let halt = params.get("halt").is_some_and(|halt| halt.to_int() != 0);
        let count = commands(params).count();
        let mut maps = Maps::default();
        for (index, (key, command)) in commands(params).enumerate() {
            let lost = index + lose >= count;
            if lost && !lost_executed {
                continue;
            }
            let (method, query) = split(command);
            let failure = if index >= MAX_COMMANDS {
                Some(RestError::bad("ERROR_BATCH_LENGTH_EXCEEDED", "Max batch length exceeded"))
            } else if FORBIDDEN.contains(&method.as_str()) {
                Some(RestError::bad(
                    "ERROR_BATCH_METHOD_NOT_ALLOWED",
                    "Method is not allowed for batch usage",
                ))
            } else {
                let query = resolve_all(&parse_str(query), &maps.result);
                match self.call(hit, &method, &query).await {
                    Ok((answer, time)) if !lost => {
                        maps.result.set(key.clone(), answer.result);
                        if let Some(total) = answer.total {
                            maps.total.set(key.clone(), total as i64);
                        }
                        if let Some(next) = answer.next {
                            maps.next.set(key.clone(), next as i64);
                        }
                        maps.time.set(key.clone(), time);
                        None
                    }
                    Ok(_) => None,
                    Err(Stop::Cut) => return Err(Stop::Cut),
                    Err(Stop::Error(error)) => Some(disguised(error, hit.stale.as_deref())),
                }
            };
            if let Some(failure) = failure.filter(|_| !lost) {
                maps.error.set(key.clone(), failure.to_arr());
                if halt {
                    break;
                }
            }
        }
        let mut result = Arr::new();
        result.field("result", maps.result);
        result.field("result_error", maps.error);
        result.field("result_total", maps.total);
        result.field("result_next", maps.next);
        result.field("result_time", maps.time);
        Ok(result)
    }
}

/// PHP's application exception is not reset between commands: once set, it replaces later errors.
fn disguised(mut error: RestError, stale: Option<&str>) -> RestError {
    if let Some(text) = stale {
        if error.code != "insufficient_scope" {
            error.code = "ERROR_CORE".to_owned();
        }
        error.text = text.to_owned();
    }
    error
}

fn resolve_all(params: &Arr, results: &Arr) -> Arr {
    let mut resolved = Arr::new();
    for (key, value) in params.iter() {
        let key = match key {
            Key::Str(text) => Key::new(&resolve(text, results).to_text()),
            Key::Int(number) => Key::Int(*number),
        };
        let value = match value {
            Val::Str(text) => resolve(text, results),
            Val::Arr(array) => Val::Arr(resolve_all(array, results)),
            Val::Null | Val::Bool(_) | Val::Int(_) | Val::Float(_) => value.clone(),
        };
        resolved.set(key, value);
    }
    resolved
}

/// Replaces `$result[a][b]…` in a value. A path that breaks off yields the deepest part found. A reference that is
/// the whole value becomes that part whatever its type; inside a longer text only scalars are put in.
fn resolve(text: &str, results: &Arr) -> Val {
    const MARK: &str = "$result";
    let mut replaced = text.to_owned();
    let mut rest = text;
    while let Some(at) = rest.find(MARK) {
        let from = rest.get(at..).unwrap_or_default();
        let end = from.find(char::is_whitespace).unwrap_or(from.len());
        let (whole, after) = from.split_at(end);
        rest = after;
        let path: Vec<&str> = whole
            .split('[')
            .skip(1)
            .filter_map(|part| part.split_once(']').map(|(key, _)| key))
            .filter(|key| !key.is_empty())
            .collect();
        if path.is_empty() {
            continue;
        }
        let mut deepest: Option<&Val> = None;
        for key in path {
            let deeper = deepest.map_or_else(|| results.get(key), |value| value.get(key));
            match deeper.filter(|value| **value != Val::Null) {
                Some(deeper) => deepest = Some(deeper),
                None => break,
            }
        }
        let found = deepest.cloned().unwrap_or_else(|| Val::Arr(results.clone()));
        if whole == text {
            return found;
        }
        if found.is_numeric() || found.as_str().is_some() {
            replaced = replaced.replace(whole, &found.to_text());
        }
    }
    Val::Str(replaced)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_reference_yields_the_deepest_part_found() {
        let results: Val = serde_json::from_str(r#"{"a":[{"ID":"7"},{"ID":"8"}]}"#).unwrap();
        let results = results.as_arr().unwrap();
        assert_eq!(resolve("$result[a][1][ID]", results), Val::from("8"));
        assert_eq!(resolve("lead $result[a][1][ID] !", results), Val::from("lead 8 !"));
        assert_eq!(&resolve("$result[a][49][ID]", results), results.get("a").unwrap());
        assert_eq!(resolve("$result[b][0]", results), Val::Arr(results.clone()));
        assert_eq!(resolve("no reference", results), Val::from("no reference"));
    }
}
