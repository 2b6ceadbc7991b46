//! One HTTP request under `/rest`, from the limits through the method or batch to what goes back.
//!
//! The order is the portal's: bucket, credentials, method and scope, operating time, call. Work runs in its own task,
//! because a client that hangs up doesn't stop the portal. A request holds the state's lock only between awaits.

use std::time::Duration;

use super::Sandbox;
use super::batch;
use super::faults::{Fault, FaultKind};
use super::limits::Usage;
use super::methods::{self, Answer, Call, RestError};
use super::options::BatchCharge;
use super::php::{Arr, Val};
use super::time;

/// What the server sends back.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Reply {
    /// A JSON body.
    Json(u16, String),
    /// A body that is no JSON.
    Page { status: u16, content_type: &'static str, body: String },
    /// `Location`.
    Redirect(String),
    /// The connection breaks.
    Reset,
}

/// One request as it arrived.
#[derive(Debug)]
pub(super) struct Incoming {
    /// In lower case.
    pub(super) method: String,
    pub(super) params: Arr,
    pub(super) auth: Auth,
}

/// What the URL says about the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Auth {
    /// No user and code in the path.
    Missing,
    /// They are not the webhook's.
    Wrong,
    /// They are.
    Valid,
    /// No user and code, but an access token.
    Token(String),
}

/// One run of PHP: what lasts over the calls of a batch.
#[derive(Debug, Default)]
pub(super) struct Hit {
    /// Virtual seconds so far.
    pub(super) seconds: f64,
    /// Whether the calls come from a batch.
    pub(super) batched: bool,
    /// See [`Call::stale`].
    pub(super) stale: Option<String>,
}

/// Why a call has no answer.
#[derive(Debug)]
pub(super) enum Stop {
    /// The method or the server refused.
    Error(RestError),
    /// The request took too long.
    Cut,
}

impl Sandbox {
    /// Answers a request under `/rest`.
    pub(super) async fn handle(&self, incoming: Incoming) -> Reply {
        let sandbox = self.clone();
        tokio::spawn(async move { sandbox.answer(incoming).await }).await.unwrap_or_else(|_| fatal())
    }

    async fn answer(&self, incoming: Incoming) -> Reply {
        let nested = batch::methods(&incoming.params);
        let (allowed, fault) = {
            let mut state = self.lock();
            let now_us = self.inner.clock.now().as_microsecond();
            let stats = &mut state.stats;
            stats.requests += 1;
            *stats.requests_by_method.entry(incoming.method.clone()).or_default() += 1;
            stats.in_flight += 1;
            stats.most_in_flight = stats.most_in_flight.max(stats.in_flight);
            let (rate, burst) = (state.options.requests_per_second, state.options.burst);
            let allowed = state.bucket.take(now_us, rate, burst);
            let fault = if allowed { state.faults.strike_request(&incoming.method, &nested) } else { None };
            state.stats.refused_503 += u64::from(!allowed);
            state.stats.faults += u64::from(fault.is_some());
            (allowed, fault)
        };
        let mut hit = Hit { batched: incoming.method == "batch", ..Hit::default() };
        let reply = if allowed {
            self.faulty(fault, &incoming, &mut hit).await
        } else {
            error(&RestError::new(503, "QUERY_LIMIT_EXCEEDED", "Too many requests"))
        };
        let mut state = self.lock();
        state.stats.in_flight -= 1;
        state.stats.longest_request_seconds = state.stats.longest_request_seconds.max(hit.seconds);
        reply
    }

    async fn faulty(&self, fault: Option<Fault>, incoming: &Incoming, hit: &mut Hit) -> Reply {
        let Some(fault) = fault else { return self.execute(incoming, hit, 0, false).await };
        match fault.kind {
            FaultKind::Refuse => return Reply::Reset,
            FaultKind::MissingKeys { count } => {
                return self.execute(incoming, hit, count, fault.executed).await;
            }
            FaultKind::Drop => {
                self.execute(incoming, hit, 0, false).await;
                return Reply::Reset;
            }
            FaultKind::Late { seconds } => {
                let reply = self.execute(incoming, hit, 0, false).await;
                sleep(seconds).await;
                hit.seconds += seconds;
                return reply;
            }
            FaultKind::Truncated => {
                return match self.execute(incoming, hit, 0, false).await {
                    Reply::Json(status, body) => {
                        Reply::Json(status, body.chars().take(body.chars().count() / 2).collect())
                    }
                    other @ (Reply::Page { .. } | Reply::Redirect(_) | Reply::Reset) => other,
                };
            }
            FaultKind::Html { .. }
            | FaultKind::Fatal
            | FaultKind::Empty
            | FaultKind::Redirect { .. }
            | FaultKind::ErrorInOk { .. }
            | FaultKind::Error { .. }
            | FaultKind::FilterIgnored => {}
        }
        if fault.executed {
            self.execute(incoming, hit, 0, false).await;
        }
        match fault.kind {
            FaultKind::Html { status } => html(status),
            FaultKind::Empty => Reply::Json(200, String::new()),
            FaultKind::Redirect { to } => {
                Reply::Redirect(format!("{to}{}{}", self.webhook_path(), incoming.method))
            }
            FaultKind::ErrorInOk { code, text } => error(&RestError::new(200, &code, text)),
            FaultKind::Refuse
            | FaultKind::Drop
            | FaultKind::Late { .. }
            | FaultKind::Truncated
            | FaultKind::MissingKeys { .. }
            | FaultKind::Error { .. }
            | FaultKind::FilterIgnored
            | FaultKind::Fatal => fatal(),
        }
    }

    async fn execute(&self, incoming: &Incoming, hit: &mut Hit, lose: usize, lost_executed: bool) -> Reply {
        let refused = match &incoming.auth {
            Auth::Missing => Some(RestError::new(401, "NO_AUTH_FOUND", "Wrong authorization data")),
            Auth::Wrong => Some(RestError::new(401, "INVALID_CREDENTIALS", "Invalid request credentials")),
            Auth::Token(token) => {
                let checked = self.lock().tokens.check(token, self.seconds() as i64);
                checked.err().or_else(|| self.refusal(&incoming.method))
            }
            Auth::Valid => self.refusal(&incoming.method),
        };
        if let Some(refused) = refused {
            return error(&refused);
        }
        let started = self.seconds();
        let answer = if incoming.method == "batch" {
            self.batch(&incoming.params, hit, lose, lost_executed).await.map(|result| {
                let usage = self.batch_usage();
                (Answer::of(result), self.time(started, hit.seconds, usage))
            })
        } else {
            self.call(hit, &incoming.method, &incoming.params).await
        };
        match answer {
            Ok((answer, time)) => {
                let mut body = Arr::new();
                body.field("result", answer.result);
                for (name, value) in [("next", answer.next), ("total", answer.total)] {
                    if let Some(value) = value {
                        body.field(name, value as i64);
                    }
                }
                body.field("time", time);
                Reply::Json(200, to_json(&body))
            }
            Err(Stop::Error(refused)) => error(&refused),
            Err(Stop::Cut) => html(504),
        }
    }

    /// What refuses a request before its method is looked at; a batch as a whole can only be refused here.
    fn refusal(&self, method: &str) -> Option<RestError> {
        let mut state = self.lock();
        if method != "batch" {
            return methods::check(&state, method).err();
        }
        match state.faults.strike_call(method)?.kind {
            FaultKind::Error { code, text, status } => {
                state.stats.faults += 1;
                Some(RestError::new(status, &code, text))
            }
            FaultKind::Refuse
            | FaultKind::Drop
            | FaultKind::Late { .. }
            | FaultKind::Truncated
            | FaultKind::Html { .. }
            | FaultKind::Fatal
            | FaultKind::Empty
            | FaultKind::Redirect { .. }
            | FaultKind::ErrorInOk { .. }
            | FaultKind::MissingKeys { .. }
            | FaultKind::FilterIgnored => None,
        }
    }

    /// One call of a method, single or in a batch, with its `time` object.
    pub(super) async fn call(
        &self,
        hit: &mut Hit,
        method: &str,
        params: &Arr,
    ) -> Result<(Answer, Arr), Stop> {
        let started = self.seconds();
        let (cost, cut, slept, filter_ignored, counter) = {
            let mut state = self.lock();
            *state.stats.calls_by_method.entry(method.to_owned()).or_default() += 1;
            methods::check(&state, method).map_err(Stop::Error)?;
            let mut filter_ignored = false;
            if let Some(fault) = state.faults.strike_call(method) {
                state.stats.faults += 1;
                if let FaultKind::Error { code, text, status } = fault.kind {
                    return Err(Stop::Error(RestError::new(status, &code, text)));
                }
                filter_ignored = true;
            }
            let counter = counter(method, hit.batched, state.options.batch_charge);
            let (window, limit) = (state.options.window_seconds, state.options.method_seconds);
            if state.operating.usage(&counter, started, window).seconds >= limit {
                state.stats.refused_429 += 1;
                return Err(Stop::Error(RestError::new(
                    429,
                    "OPERATION_TIME_LIMIT",
                    "Method is blocked due to operation time limit.",
                )));
            }
            let cost = methods::cost(&state, method);
            let left = state.options.request_seconds - hit.seconds;
            (cost, cost > left, cost.min(left) * state.options.sleep_scale, filter_ignored, counter)
        };
        if slept > 0.0 {
            sleep(slept).await;
        }
        hit.seconds += cost;
        let now = self.inner.clock.now();
        let mut state = self.lock();
        let mut call = Call { method, params, now, filter_ignored, stale: &mut hit.stale };
        let answer = methods::run(&mut state, &mut call);
        let (window, short_too) = (state.options.window_seconds, state.options.store_short_runs);
        state.operating.charge(&counter, self.seconds(), window, cost, short_too);
        if cut {
            // PHP commits what it is in the middle of; only the answer is lost, with all that would have followed.
            state.stats.cut += 1;
            return Err(Stop::Cut);
        }
        let usage = state.operating.usage(&counter, self.seconds(), window);
        drop(state);
        let answer = answer.map_err(Stop::Error)?;
        Ok((answer, self.time(started, cost, usage)))
    }

    /// What the outer `time` of a batch tells: nothing is charged to it, unless the options say so.
    fn batch_usage(&self) -> Usage {
        let mut state = self.lock();
        let window = state.options.window_seconds;
        state.operating.usage("batch", self.seconds(), window)
    }

    fn time(&self, started: f64, seconds: f64, usage: Usage) -> Arr {
        let state = self.lock();
        let (offset, tell) = (state.offset(), state.options.tell_operating);
        drop(state);
        let finish = started + seconds;
        let mut time = Arr::new();
        time.field("start", started);
        time.field("finish", finish);
        time.field("duration", seconds);
        time.field("processing", seconds);
        time.field("date_start", time::format(started as i64, offset));
        time.field("date_finish", time::format(finish as i64, offset));
        if tell {
            time.field("operating_reset_at", usage.reset_at);
            time.field("operating", usage.seconds);
        }
        time
    }

    /// The clock in unix seconds.
    pub(super) fn seconds(&self) -> f64 {
        self.inner.clock.now().as_microsecond() as f64 / 1e6
    }
}

fn counter(method: &str, batched: bool, charge: BatchCharge) -> String {
    match (batched, charge) {
        (true, BatchCharge::Batch) => "batch".to_owned(),
        (true, BatchCharge::MethodBatched) => format!("batched {method}"),
        (true, BatchCharge::Method) | (false, _) => method.to_owned(),
    }
}

async fn sleep(seconds: f64) {
    tokio::time::sleep(Duration::try_from_secs_f64(seconds).unwrap_or_default()).await;
}

/// An error body.
pub(super) fn error(refused: &RestError) -> Reply {
    Reply::Json(refused.status, to_json(&refused.to_arr()))
}

/// A body as PHP writes it.
pub(super) fn to_json(body: &Arr) -> String {
    serde_json::to_string(&Val::Arr(body.clone())).unwrap_or_default()
}

fn html(status: u16) -> Reply {
    let body = format!(
        "<html>\r\n<head><title>{status}</title></head>\r\n<body>\r\n<center><h1>{status}</h1></center>\r\n\
         <hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
    );
    Reply::Page { status, content_type: "text/html; charset=UTF-8", body }
}

fn fatal() -> Reply {
    let body =
        "PHP Fatal error:  Uncaught TypeError: Unsupported operand types in crm/lib/item.php:512".to_owned();
    Reply::Page { status: 500, content_type: "text/html; charset=UTF-8", body }
}
