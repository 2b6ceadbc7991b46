//! Injected faults: what a portal, or the network before it, can do to a request.
//!
//! A fault names a method (single or inside a batch), skips some matching requests and then strikes some or all, by
//! count or at random from the sandbox's seed. The first fault that strikes a request wins.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One fault to inject.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// What happens.
    pub kind: FaultKind,
    /// The method struck, in lower case; none strikes every request. `batch` strikes batches, a nested method's name
    /// strikes the batches that hold it as well.
    #[serde(default)]
    pub method: Option<String>,
    /// How many matching requests pass first.
    #[serde(default)]
    pub skip: u64,
    /// How many are struck then; none means all.
    #[serde(default)]
    pub times: Option<u64>,
    /// The chance, 0 to 1, that a matching request is struck.
    #[serde(default = "certain")]
    pub probability: f64,
    /// Whether the request's work is done before a faulty page is returned, for the kinds that leave it open.
    #[serde(default)]
    pub executed: bool,
}

fn certain() -> f64 {
    1.0
}

/// What a fault does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// The connection breaks before anything is done.
    Refuse,
    /// Everything is done, then the connection breaks without an answer.
    Drop,
    /// Everything is done, and the answer comes this many seconds later; over 60 s a client has given up.
    Late {
        /// Seconds of tokio's clock.
        seconds: f64,
    },
    /// Everything is done, and the JSON ends in its middle.
    Truncated,
    /// An HTML page with this status (200, 502, 503 …) instead of an answer.
    Html {
        /// The HTTP status.
        status: u16,
    },
    /// A PHP fatal error: status 500, text that is no JSON.
    Fatal,
    /// Status 200 and no body.
    Empty,
    /// A redirect (302) of the portal to another host.
    Redirect {
        /// The base of the `Location` header, without a path.
        to: String,
    },
    /// An error body under HTTP 200.
    ErrorInOk {
        /// The code.
        code: String,
        /// The text.
        text: String,
    },
    /// The last `count` commands of a batch are absent from all its maps.
    MissingKeys {
        /// How many commands.
        count: usize,
    },
    /// The method answers this error; in a batch only its commands do. On `batch`, or without a method, the whole
    /// batch is refused, as by an error of the portal's level.
    Error {
        /// The code, such as `OVERLOAD_LIMIT`.
        code: String,
        /// The text.
        text: String,
        /// The HTTP status of a single call.
        status: u16,
    },
    /// The list method forgets its filter.
    FilterIgnored,
}

impl FaultKind {
    /// Whether it strikes a method's call rather than the whole request.
    fn strikes_calls(&self) -> bool {
        match self {
            FaultKind::Error { .. } | FaultKind::FilterIgnored => true,
            FaultKind::Refuse
            | FaultKind::Drop
            | FaultKind::Late { .. }
            | FaultKind::Truncated
            | FaultKind::Html { .. }
            | FaultKind::Fatal
            | FaultKind::Empty
            | FaultKind::Redirect { .. }
            | FaultKind::ErrorInOk { .. }
            | FaultKind::MissingKeys { .. } => false,
        }
    }
}

impl Fault {
    /// A fault that strikes every request.
    pub fn new(kind: FaultKind) -> Fault {
        Fault { kind, method: None, skip: 0, times: None, probability: 1.0, executed: false }
    }

    /// Strikes this method only.
    #[must_use]
    pub fn on(mut self, method: &str) -> Fault {
        self.method = Some(method.to_ascii_lowercase());
        self
    }

    /// Strikes `times` matching requests after `skip` of them.
    #[must_use]
    pub fn nth(mut self, skip: u64, times: u64) -> Fault {
        self.skip = skip;
        self.times = Some(times);
        self
    }

    /// Strikes with this chance.
    #[must_use]
    pub fn with_probability(mut self, probability: f64) -> Fault {
        self.probability = probability;
        self
    }

    /// Does the work before it returns the faulty page.
    #[must_use]
    pub fn after_executing(mut self) -> Fault {
        self.executed = true;
        self
    }

    /// An [`FaultKind::Error`] of a method.
    pub fn error(method: &str, code: &str, text: &str, status: u16) -> Fault {
        Fault::new(FaultKind::Error { code: code.to_owned(), text: text.to_owned(), status }).on(method)
    }
}

/// What is wrong with the text of a fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FaultTextError {
    /// The kind is unknown.
    #[error(
        "unknown fault `{0}`; known: refuse, drop, late, truncated, html, fatal, empty, redirect, error_in_ok, \
         missing_keys, error, filter_ignored"
    )]
    Kind(String),
    /// A setting is unknown or its value can't be read.
    #[error(
        "can't read `{0}`; settings are method, skip, times, probability, executed, seconds, status, to, code, text, count"
    )]
    Setting(String),
}

/// Reads the command line's form: `KIND[,setting=value…]`, such as `drop,method=crm.lead.delete,skip=3,times=1`.
impl FromStr for Fault {
    type Err = FaultTextError;

    fn from_str(text: &str) -> Result<Fault, FaultTextError> {
        let mut parts = text.split(',').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let mut fault = Fault::new(FaultKind::Refuse);
        let (mut seconds, mut status, mut count) = (61.0, None, 1);
        let (mut to, mut code, mut message) = (
            "https://renamed.bitrix24.example".to_owned(),
            "INTERNAL_SERVER_ERROR".to_owned(),
            String::new(),
        );
        for part in parts {
            let bad = || FaultTextError::Setting(part.to_owned());
            let (key, value) = part.split_once('=').ok_or_else(bad)?;
            match key {
                "method" => fault.method = Some(value.to_ascii_lowercase()),
                "skip" => fault.skip = value.parse().map_err(|_| bad())?,
                "times" => fault.times = Some(value.parse().map_err(|_| bad())?),
                "probability" => fault.probability = value.parse().map_err(|_| bad())?,
                "executed" => fault.executed = value.parse().map_err(|_| bad())?,
                "seconds" => seconds = value.parse().map_err(|_| bad())?,
                "status" => status = Some(value.parse().map_err(|_| bad())?),
                "count" => count = value.parse().map_err(|_| bad())?,
                "to" => to = value.to_owned(),
                "code" => code = value.to_owned(),
                "text" => message = value.to_owned(),
                _ => return Err(bad()),
            }
        }
        fault.kind = match name {
            "refuse" => FaultKind::Refuse,
            "drop" => FaultKind::Drop,
            "late" => FaultKind::Late { seconds },
            "truncated" => FaultKind::Truncated,
            "html" => FaultKind::Html { status: status.unwrap_or(502) },
            "fatal" => FaultKind::Fatal,
            "empty" => FaultKind::Empty,
            "redirect" => FaultKind::Redirect { to },
            "error_in_ok" => FaultKind::ErrorInOk { code, text: message },
            "missing_keys" => FaultKind::MissingKeys { count },
            "error" => FaultKind::Error { code, text: message, status: status.unwrap_or(500) },
            "filter_ignored" => FaultKind::FilterIgnored,
            other => return Err(FaultTextError::Kind(other.to_owned())),
        };
        Ok(fault)
    }
}

/// The faults of a sandbox and how often each has been met.
#[derive(Debug)]
pub(super) struct Faults {
    list: Vec<(Fault, u64)>,
    random: fastrand::Rng,
}

impl Faults {
    pub(super) fn new(faults: Vec<Fault>, seed: u64) -> Faults {
        let list = faults.into_iter().map(|fault| (fault, 0)).collect();
        Faults { list, random: fastrand::Rng::with_seed(seed) }
    }

    pub(super) fn add(&mut self, fault: Fault) {
        self.list.push((fault, 0));
    }

    pub(super) fn clear(&mut self) {
        self.list.clear();
    }

    /// The fault that strikes a whole request, given its method and the methods inside it.
    pub(super) fn strike_request(&mut self, method: &str, nested: &[String]) -> Option<Fault> {
        self.strike(false, |wanted| wanted == method || nested.iter().any(|name| name == wanted))
    }

    /// The fault that strikes one call of a method, single or in a batch.
    pub(super) fn strike_call(&mut self, method: &str) -> Option<Fault> {
        self.strike(true, |wanted| wanted == method)
    }

    fn strike(&mut self, calls: bool, matches: impl Fn(&str) -> bool) -> Option<Fault> {
        let mut struck = None;
        for (fault, met) in &mut self.list {
            let applies = fault.kind.strikes_calls() == calls && fault.method.as_deref().is_none_or(&matches);
            if !applies || struck.is_some() {
                continue;
            }
            let index = *met;
            *met += 1;
            let due = index >= fault.skip && fault.times.is_none_or(|times| index - fault.skip < times);
            if due && self.random.f64() < fault.probability {
                struck = Some(fault.clone());
            }
        }
        struck
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_strikes_the_requests_that_it_names() {
        let mut faults = Faults::new(vec![Fault::new(FaultKind::Drop).on("m").nth(1, 2)], 1);
        let struck: Vec<bool> = (0..5).map(|_| faults.strike_request("m", &[]).is_some()).collect();
        assert_eq!(struck, [false, true, true, false, false]);
        assert!(faults.strike_request("other", &[]).is_none());
    }

    #[test]
    fn the_command_lines_form_reads_every_setting_and_names_mistakes() {
        let fault: Fault = "html,method=Batch,skip=2,times=1,status=503,executed=true".parse().unwrap();
        let expected = Fault::new(FaultKind::Html { status: 503 }).on("batch").nth(2, 1).after_executing();
        assert_eq!(fault, expected);
        assert_eq!("explode".parse::<Fault>(), Err(FaultTextError::Kind("explode".to_owned())));
        assert_eq!("drop,skip=x".parse::<Fault>(), Err(FaultTextError::Setting("skip=x".to_owned())));
    }
}
