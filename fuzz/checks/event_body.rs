//! The body of an event, through the listener's own routes: no bytes make it panic, nothing is handed on without a
//! valid token, and what is handed on is what a lenient reader of forms finds in the body too.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use b24_janitor::http::events::{Intake, MAX_BODY, Received};
use b24_janitor::metrics::Metrics;
use http_body_util::BodyExt;
use secrecy::SecretString;
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt;

const TOKENS: [&str; 2] = ["fuzzed-token-1", "t2"];

/// The longest answer, in bytes: a few fixed words.
const MAX_ANSWER: usize = 64;

struct Bench {
    runtime: Runtime,
    router: Router,
    handed_on: Arc<Mutex<Vec<Received>>>,
}

thread_local! {
    static BENCH: RefCell<Option<Bench>> = const { RefCell::new(None) };
}

fn bench() -> Bench {
    let handed_on: Arc<Mutex<Vec<Received>>> = Arc::default();
    let sink = Arc::clone(&handed_on);
    let router = b24_janitor::http::public(Some(Intake {
        tokens: TOKENS.into_iter().map(SecretString::from).collect(),
        sink: Arc::new(move |received| {
            sink.lock().unwrap_or_else(PoisonError::into_inner).push(received);
            Box::pin(async { Ok(()) })
        }),
        on_refused: Arc::new(|_| {}),
        metrics: Metrics::new(),
    }));
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    Bench { runtime, router, handed_on }
}

/// One body as it is, and one with a valid token at its end, so that most inputs get past the token.
pub(crate) fn check(data: &[u8]) {
    BENCH.with_borrow_mut(|bench_of_thread| {
        let bench = bench_of_thread.get_or_insert_with(bench);
        bench.send(data);
        bench.send(&[data, b"&auth%5Bapplication_token%5D=t2"].concat());
    });
}

impl Bench {
    fn send(&self, body: &[u8]) {
        let request = Request::post("/bitrix24/events")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::from(body.to_vec()))
            .expect("a request");
        let (status, answer) = self.runtime.block_on(async {
            let answer = self.router.clone().oneshot(request).await.expect("an answer");
            let status = answer.status().as_u16();
            (status, answer.into_body().collect().await.expect("a body").to_bytes())
        });
        let handed_on = std::mem::take(&mut *self.handed_on.lock().unwrap_or_else(PoisonError::into_inner));
        assert!([200, 400, 403, 413].contains(&status), "{status}");
        assert!(answer.len() <= MAX_ANSWER, "an answer says a few words and repeats nothing");
        assert_eq!(status == 413, body.len() > MAX_BODY);
        if status != 200 {
            assert!(handed_on.is_empty(), "refused with {status} and handed on all the same");
            return;
        }
        let [received] = handed_on.as_slice() else { panic!("200 for {} events", handed_on.len()) };
        let values = |key: &str| -> Vec<String> {
            let pairs = url::form_urlencoded::parse(body);
            pairs.filter(|(name, _)| name == key).map(|(_, value)| value.into_owned()).collect()
        };
        let token = values("auth[application_token]");
        assert!(matches!(token.as_slice(), [token] if TOKENS.contains(&token.as_str())), "no valid token");
        let event = values("event");
        let [event] = event.as_slice() else { panic!("{} events named", event.len()) };
        match received {
            Received::Other(name) => assert!(name.chars().count() <= 253 && !name.contains(char::is_control)),
            Received::Lead(lead) => {
                assert!(event.eq_ignore_ascii_case(lead.event.as_str()), "another event");
                let id = values("data[FIELDS][ID]");
                let [id] = id.as_slice() else { panic!("{} ids", id.len()) };
                assert_eq!(id.parse::<u32>().ok().map(|id| id.to_string()), Some(lead.lead_id.to_string()));
                assert!(
                    lead.lead_id.to_string().parse::<i32>().is_ok_and(|id| id > 0),
                    "an id outside 1 to 2^31-1"
                );
            }
        }
    }
}
