//! What listing in chained pages promises: every lead once, in order, in few requests, and never more than was asked.

#![cfg(test)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use axum::routing::post;
use b24_janitor::clock::Clock;
use b24_janitor::core::lead::LeadId;
use b24_janitor::core::outcome::DeleteReply;
use b24_janitor::core::rule::PortalLimits;
use b24_janitor::portal::{
    Access, BatchRequest, CallError, Class, Page, Portal, PortalOptions, Transport, Work,
};
use b24_janitor::sandbox::{BatchCharge, Fault, FaultKind, Lead, Sandbox, SandboxOptions};
use proptest::prelude::*;
use secrecy::SecretString;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

const NOW: &str = "2026-11-25T00:00:00Z";

fn portal_of(router: Router, path: &str, clock: Clock, limits: PortalLimits) -> Portal {
    let webhook = SecretString::from(format!("https://portal.example{path}"));
    let options =
        PortalOptions { access: Access::Webhook(webhook), limits, clock, observer: None, pace: None };
    Portal::new(Transport::InProcess(router), options)
}

/// A sandbox and a client of it, both on tokio's clock.
fn pair(options: SandboxOptions, limits: PortalLimits) -> (Sandbox, Portal) {
    let clock = Clock::starting_at(NOW.parse().unwrap());
    let sandbox = Sandbox::new(options, clock);
    let portal = portal_of(sandbox.router(), &sandbox.webhook_path(), clock, limits);
    (sandbox, portal)
}

/// No limit in the way.
fn free(leads: usize) -> (Sandbox, Portal) {
    let limits = PortalLimits {
        requests_per_second: 1e5,
        burst: 1_000_000,
        method_seconds: 1e8,
        ..PortalLimits::default()
    };
    pair(SandboxOptions { leads, ..SandboxOptions::raised() }, limits)
}

fn filter(json: Value) -> Map<String, Value> {
    json.as_object().unwrap().clone()
}

fn numbers(page: &Page) -> Vec<u32> {
    page.leads.iter().map(|lead| lead.id.get()).collect()
}

/// Lists to the end as a survey does.
async fn all(portal: &Portal, filter: &Map<String, Value>, pages: usize) -> Result<Vec<u32>, CallError> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = portal.list_chain(filter, after, &["stageId".to_owned()], pages).await?;
        assert!(
            page.last || !page.leads.is_empty(),
            "a page that says neither leads nor the end goes round for ever"
        );
        after = page.leads.last().map(|lead| lead.id).or(after);
        found.extend(numbers(&page));
        if page.last {
            return Ok(found);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_hundred_thousand_leads_take_at_most_45_requests_and_none_is_refused() {
    let options = SandboxOptions { leads: 100_000, sleep_scale: 1.0, ..SandboxOptions::default() };
    let (sandbox, portal) = pair(options, PortalLimits::default());
    let found = all(&portal, &Map::new(), 50).await.unwrap();
    assert_eq!(found, sandbox.ids_where(|_| true));
    let stats = sandbox.stats();
    assert!(stats.requests <= 45, "{} requests", stats.requests);
    assert_eq!((stats.refused_503, stats.refused_429), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_slow_portal_gets_shorter_chains_within_its_operating_budget() {
    for batch_charge in [BatchCharge::Method, BatchCharge::MethodBatched, BatchCharge::Batch] {
        let options = SandboxOptions {
            leads: 60_000,
            sleep_scale: 1.0,
            list_seconds: 0.8,
            batch_charge,
            ..SandboxOptions::default()
        };
        let (sandbox, portal) = pair(options, PortalLimits::default());
        let began = Instant::now();
        let found = all(&portal, &Map::new(), 50).await.unwrap();
        assert_eq!(found.len(), 60_000);
        let stats = sandbox.stats();
        assert_eq!((stats.refused_503, stats.refused_429, stats.cut), (0, 0, 0), "{batch_charge:?}");
        assert!(stats.longest_request_seconds <= 16.0, "{}", stats.longest_request_seconds);
        // 961 s of work at 480 s in ten minutes: the budget is used up twice over, and waited for once or twice.
        let took = began.elapsed().as_secs();
        assert!(took < 1_900, "{batch_charge:?}: {took} s");
    }
}

#[tokio::test(start_paused = true)]
async fn a_chain_that_is_cut_off_halves_the_next_one() {
    let options =
        SandboxOptions { leads: 2_000, list_seconds: 14.0, sleep_scale: 1.0, ..SandboxOptions::raised() };
    let (sandbox, portal) = pair(options, PortalLimits::default());
    let error = portal.list_chain(&Map::new(), None, &[], 50).await.unwrap_err();
    assert_eq!(error.class, Class::Retry, "five pages of 14 s do not end within 60 s");
    let page = portal.list_chain(&Map::new(), None, &[], 50).await.unwrap();
    assert_eq!(page.leads.len(), 100);
    assert_eq!(sandbox.stats().requests, 2);
    let page = portal.list_chain(&Map::new(), page.leads.last().map(|lead| lead.id), &[], 50).await.unwrap();
    assert_eq!((page.leads.len(), page.last), (50, false), "one page of 14 s is what fits");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn every_lead_comes_once_and_in_order_whatever_their_number_and_the_gaps(
        count in prop_oneof![Just(0_u32), Just(50), Just(100), Just(250), 0_u32..700],
        gap in 1_u32..5, pages in 1_usize..60, after in 0_u32..900,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (sandbox, portal) = free(0);
            for index in 1..=count {
                let mut lead = Lead::new("lead", sandbox.now());
                lead.id = index * gap;
                sandbox.insert(lead);
            }
            let above = filter(json!({ ">id": after, "<=createdTime": "2026-11-25T00:00:00+00:00" }));
            let found = all(&portal, &above, pages).await.unwrap();
            assert_eq!(found, sandbox.ids_where(|lead| lead.id > after));
        });
    }
}

#[tokio::test(start_paused = true)]
async fn dates_lists_and_texts_mean_the_same_in_a_batch_as_alone() {
    let (sandbox, portal) = free(3_000);
    let now = sandbox.now().to_string();
    for filter in [
        json!({ "<=createdTime": "2026-06-01T00:00:00+00:00" }),
        json!({ ">createdTime": "2026-01-01T05:00:00+05:00", "=opened": "Y" }),
        json!({ "@stageId": ["JUNK", "NEW"], "!@assignedById": [1, 2] }),
        json!({ "!=stageId": "JUNK", ">=opportunity": 0.5, "<id": 2_000 }),
        json!({ "%title": "a", "<createdTime": now }),
        json!({ "%title": "a&b=c%20+d#e" }),
        json!({ "=sourceId": "" }),
    ] {
        let filter = self::filter(filter);
        let (mut alone, mut after) = (Vec::new(), None);
        loop {
            let page = portal.list(&filter, after, &[]).await.unwrap();
            after = page.leads.last().map(|lead| lead.id);
            alone.extend(numbers(&page));
            if page.last {
                break;
            }
        }
        assert_eq!(all(&portal, &filter, 50).await.unwrap(), alone, "{filter:?}");
    }
    assert!(sandbox.stats().requests_by_method["batch"] >= 7);
}

#[tokio::test(start_paused = true)]
async fn what_a_query_can_not_say_is_asked_page_by_page() {
    let (sandbox, portal) = free(300);
    let many: Vec<u32> = (1..=600).collect();
    for filter in [
        json!({ "%title": "$result[p00][items][0][id]" }),
        json!({ "@title": ["x", "see $RESULT[p00]"] }),
        json!({ "@id": many }),
        json!({ "@title": vec!["ж".repeat(200); 300] }),
        json!({ "@id": [] }),
        json!({ "=sourceId": null }),
        json!({ "0": { "logic": "OR", "=id": 7 } }),
        json!({ ">id": 1.5 }),
    ] {
        let page = portal.list_chain(&self::filter(filter), None, &[], 50).await.unwrap();
        assert!(page.leads.len() <= 50);
    }
    let stats = sandbox.stats();
    assert_eq!(stats.requests_by_method.get("batch"), None);
    assert_eq!(stats.requests_by_method["crm.item.list"], 8);
    // That is about those filters, not about the portal.
    let page = portal.list_chain(&Map::new(), None, &[], 50).await.unwrap();
    assert_eq!(page.leads.len(), 250);
}

/// A portal that answers a batch as `answer` says, and a list alone with the leads 1 … 10.
fn scripted(
    answer: impl Fn(&Value) -> Response + Clone + Send + Sync + 'static,
) -> (Portal, Arc<Mutex<Vec<String>>>) {
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = Arc::clone(&seen);
    let handler = move |request: Request| {
        let (answer, log) = (answer.clone(), Arc::clone(&log));
        async move {
            let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
            let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
            let body: Value = serde_json::from_slice(&body).unwrap();
            log.lock().unwrap().push(method.clone());
            if method == "batch" { answer(&body) } else { reply(200, &json!({ "result": page(1, 10) })) }
        }
    };
    let clock = Clock::starting_at(NOW.parse().unwrap());
    let router = Router::new().fallback(post(handler));
    (portal_of(router, "/rest/1/code/", clock, PortalLimits::default()), seen)
}

/// Commands and bytes of each batch.
type Sizes = Vec<(usize, usize)>;

/// A portal with full pages without end, and what it was asked: commands and bytes.
fn free_and_sizes() -> (Portal, Arc<Mutex<Sizes>>) {
    let sizes: Arc<Mutex<Sizes>> = Arc::default();
    let log = Arc::clone(&sizes);
    let (portal, _) = scripted(move |body| {
        let commands = body["cmd"].as_object().unwrap();
        log.lock().unwrap().push((commands.len(), body.to_string().len()));
        let pages: Map<String, Value> =
            (0..).zip(commands.keys()).map(|(n, key)| (key.clone(), page(n * 50 + 1, n * 50 + 50))).collect();
        reply(200, &batch_of(Value::Object(pages), json!([])))
    });
    (portal, sizes)
}

fn reply(status: u16, body: &Value) -> Response {
    let response = Response::builder().status(status).header("content-type", "application/json");
    response.body(Body::from(body.to_string())).unwrap()
}

fn page(from: u32, to: u32) -> Value {
    let items: Vec<Value> = (from..=to).map(|id| json!({ "id": id })).collect();
    json!({ "items": items })
}

fn batch_of(results: Value, errors: Value) -> Value {
    json!({ "result": { "result": results, "result_error": errors, "result_time": [] } })
}

/// What comes of one batch's answer: the leads and whether they are the last, or the class; the methods called; and
/// whether the next listing is chained.
async fn one(
    answer: impl Fn(&Value) -> Response + Clone + Send + Sync + 'static,
) -> (String, Vec<String>, bool) {
    let (portal, seen) = scripted(answer);
    let outcome = match portal.list_chain(&Map::new(), None, &[], 3).await {
        Ok(page) => format!("{} {}", page.leads.len(), page.last),
        Err(error) => format!("{:?}", error.class),
    };
    let methods = seen.lock().unwrap().clone();
    let _ = portal.list_chain(&Map::new(), None, &[], 3).await;
    let chained = seen.lock().unwrap()[methods.len()] == "batch";
    (outcome, methods, chained)
}

#[tokio::test(start_paused = true)]
async fn every_way_in_which_a_chain_can_end_is_taken_for_what_it_is() {
    let error = |code: &str| json!({ "error": code, "error_description": "x" });
    #[rustfmt::skip]
    let cases = [
        // name, results, errors, outcome, asked again alone, chained afterwards
        ("all full", json!({ "p00": page(1, 50), "p01": page(51, 100), "p02": page(101, 150) }), json!([]), "150 false", false, true),
        ("short page", json!({ "p00": page(1, 50), "p01": page(51, 60) }), json!({ "p02": error("INVALID_ARG_VALUE") }), "60 true", false, true),
        ("empty page", json!({ "p00": page(1, 50), "p01": { "items": [] } }), json!([]), "50 true", false, true),
        ("the first page again after a short one", json!({ "p00": page(1, 10), "p01": page(1, 10), "p02": page(1, 50) }), json!([]), "10 true", false, true),
        ("no leads", json!({ "p00": { "items": [] } }), json!([]), "0 true", false, true),
        ("references unknown", json!({ "p00": page(1, 50) }), json!({ "p01": error("INVALID_ARG_VALUE") }), "50 false", false, false),
        ("references ignored", json!({ "p00": page(1, 50), "p01": page(1, 50), "p02": page(1, 50) }), json!([]), "50 false", false, false),
        ("budget used up on the way", json!({ "p00": page(1, 50) }), json!({ "p01": error("OPERATION_TIME_LIMIT") }), "50 false", false, true),
        ("budget used up at once", json!([]), json!({ "p00": error("OPERATION_TIME_LIMIT") }), "PauseMethod", false, true),
        ("keys lost on the way", json!({ "p00": page(1, 50), "p01": page(51, 100) }), json!([]), "100 false", false, true),
        ("keys lost", json!([]), json!([]), "10 true", true, false),
        ("bad page on the way", json!({ "p00": page(1, 50), "p01": { "items": "x" } }), json!([]), "50 false", false, false),
        ("too many rows", json!({ "p00": page(1, 51) }), json!([]), "10 true", true, false),
        ("a filter refused", json!([]), json!({ "p00": error("INVALID_ARG_VALUE") }), "10 true", true, false),
        ("unclear", json!([]), json!({ "p00": error("ERROR_CORE") }), "10 true", true, false),
        ("lists not in batches", json!([]), json!({ "p00": error("ERROR_BATCH_METHOD_NOT_ALLOWED") }), "10 true", true, false),
        ("another request's keys", json!({ "p00": page(1, 50), "d7": true }), json!([]), "10 true", true, true),
        ("a result and an error", json!({ "p00": page(1, 50) }), json!({ "p00": error("NOT_FOUND") }), "10 true", true, false),
        ("access lost", json!([]), json!({ "p00": error("insufficient_scope") }), "StopPortal", false, true),
    ];
    for (name, results, errors, outcome, alone, chained) in cases {
        let body = batch_of(results, errors);
        let (got, methods, next) = one(move |_| reply(200, &body)).await;
        assert_eq!(got, outcome, "{name}");
        assert_eq!(methods, if alone { vec!["batch", "crm.item.list"] } else { vec!["batch"] }, "{name}");
        assert_eq!(next, chained, "{name}: chained afterwards");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_chain_is_told_of_the_budget_holds_back_the_next_one_and_single_pages_too() {
    let blocked = json!({ "p01": { "error": "OPERATION_TIME_LIMIT", "error_description": "x" } });
    let time = json!({ "operating": 479.9, "operating_reset_at": 1300, "finish": 1000 });
    let mut inside = batch_of(json!({ "p00": page(1, 50) }), json!([]));
    inside["result"]["result_time"] = json!({ "p00": time });
    let mut outside = batch_of(json!({ "p00": page(1, 50) }), json!([]));
    outside["time"] = time;
    for (name, body, chained, alone) in [
        ("refused", batch_of(json!({ "p00": page(1, 50) }), blocked), 10, 10),
        ("told of its lists", inside, 300, 300),
        ("told of itself", outside, 300, 0),
    ] {
        let (portal, _) = scripted(move |_| reply(200, &body));
        portal.list_chain(&Map::new(), None, &[], 50).await.unwrap();
        let began = Instant::now();
        portal.list(&Map::new(), None, &[]).await.unwrap();
        assert!(began.elapsed().as_secs().abs_diff(alone) <= 2, "{name}, alone: {:?}", began.elapsed());
        portal.list_chain(&Map::new(), None, &[], 50).await.unwrap();
        assert!(began.elapsed().as_secs().abs_diff(chained) <= 2, "{name}: {:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_filter_makes_a_chain_shorter_and_not_the_request_longer() {
    let (portal, sizes) = free_and_sizes();
    let long = filter(json!({ "@title": vec!["x".repeat(100); 200] }));
    for _ in 0..10 {
        portal.list_chain(&long, None, &[], 50).await.unwrap();
    }
    let sizes = sizes.lock().unwrap();
    assert!(sizes.iter().any(|(commands, _)| *commands > 5), "{sizes:?}");
    assert!(sizes.iter().all(|(_, bytes)| *bytes < 300 * 1024), "{sizes:?}");
}

#[tokio::test(start_paused = true)]
async fn a_portal_without_batches_is_listed_by_single_pages_and_asked_again_later() {
    #[rustfmt::skip]
    let cases = [
        ("no such method", 404, "ERROR_METHOD_NOT_FOUND", "10 true", false),
        ("not allowed", 405, "ERROR_BATCH_METHOD_NOT_ALLOWED", "10 true", false),
        ("too many", 503, "QUERY_LIMIT_EXCEEDED", "PausePortal", true),
        ("internal", 500, "INTERNAL_SERVER_ERROR", "Retry", true),
        ("revoked", 401, "INVALID_CREDENTIALS", "StopPortal", true),
    ];
    for (name, status, code, outcome, chained) in cases {
        let body = json!({ "error": code, "error_description": "x" });
        let (got, _, next) = one(move |_| reply(status, &body)).await;
        assert_eq!((got.as_str(), next), (outcome, chained), "{name}");
    }
    let html = |_: &Value| {
        Response::builder().header("content-type", "text/html").body(Body::from("<html></html>")).unwrap()
    };
    let (portal, seen) = scripted(html);
    for _ in 0..3 {
        portal.list_chain(&Map::new(), None, &[], 50).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(601)).await;
    portal.list_chain(&Map::new(), None, &[], 50).await.unwrap();
    let list = "crm.item.list";
    assert_eq!(*seen.lock().unwrap(), ["batch", list, "batch", list, list, "batch", list]);
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_list_itself_is_the_answer_and_no_reason_to_stop_chaining() {
    let (sandbox, portal) = free(300);
    let error = portal.list_chain(&filter(json!({ "=noSuchField": "x" })), None, &[], 50).await.unwrap_err();
    assert_eq!((error.class, error.fault.code.as_str()), (Class::Final, "INVALID_ARG_VALUE"));
    portal.list_chain(&Map::new(), None, &[], 50).await.unwrap();
    assert_eq!(sandbox.stats().requests_by_method["batch"], 2);
}

#[tokio::test(start_paused = true)]
async fn the_commands_are_literal_but_for_the_last_id_of_the_page_before() {
    let body: Arc<Mutex<Value>> = Arc::default();
    let seen = Arc::clone(&body);
    let (portal, _) = scripted(move |request| {
        *seen.lock().unwrap() = request.clone();
        reply(200, &batch_of(json!({ "p00": page(9, 9) }), json!([])))
    });
    let filter =
        filter(json!({ "<=createdTime": "2026-01-01T00:00:00+00:00", "@stageId": ["JUNK", "7"], ">id": 3 }));
    let after = LeadId::try_from(8).unwrap();
    portal.list_chain(&filter, Some(after), &["stageId".to_owned()], 2).await.unwrap();
    let fixed = "crm.item.list?entityTypeId=1&select%5B0%5D=id&select%5B1%5D=stageId\
                 &filter%5B%3C%3DcreatedTime%5D=2026-01-01T00%3A00%3A00%2B00%3A00\
                 &filter%5B%40stageId%5D%5B0%5D=JUNK&filter%5B%40stageId%5D%5B1%5D=7\
                 &order%5Bid%5D=ASC&start=-1&filter%5B%3Eid%5D=";
    let commands = json!({
        "p00": format!("{fixed}8"),
        "p01": format!("{fixed}%24result%5Bp00%5D%5Bitems%5D%5B49%5D%5Bid%5D"),
    });
    assert_eq!(*body.lock().unwrap(), json!({ "halt": 1, "cmd": commands }));
}

/// Deletes these leads, 10 a request, as a lane does, until there are none or `until` is done.
async fn delete_all(portal: Portal, ids: Vec<u32>, requests: Arc<Mutex<usize>>) {
    for ids in ids.chunks(10) {
        let ids: Vec<LeadId> = ids.iter().map(|id| LeadId::try_from(i64::from(*id)).unwrap()).collect();
        let permit = portal.permit(Work::Delete { leads: ids.len() }).await;
        let reply = portal.delete_batch(permit, &BatchRequest::deleting(&ids)).await.unwrap();
        assert!(reply.replies.iter().all(|(_, reply)| *reply == DeleteReply::Deleted));
        *requests.lock().unwrap() += 1;
    }
}

#[tokio::test(start_paused = true)]
async fn listings_and_due_deletions_take_turns_however_many_there_are_of_each() {
    // How many listings and how many lanes; each side has work for longer than the look lasts.
    for (listings, lanes) in [(1, 1), (4, 1), (1, 8), (3, 2)] {
        let options = SandboxOptions { leads: 20_000, delete_seconds: 0.001, ..SandboxOptions::default() };
        let limits = PortalLimits { burst: 1, ..PortalLimits::default() };
        let (sandbox, portal) = pair(options, limits);
        let doomed = sandbox.ids_where(|_| true);
        let (listed, deleted): (Arc<Mutex<usize>>, Arc<Mutex<usize>>) = Default::default();
        let mut tasks = Vec::new();
        for _ in 0..listings {
            let (portal, listed) = (portal.clone(), Arc::clone(&listed));
            tasks.push(tokio::spawn(async move {
                loop {
                    portal.list_chain(&Map::new(), None, &[], 5).await.unwrap();
                    *listed.lock().unwrap() += 1;
                }
            }));
        }
        for part in doomed.chunks(doomed.len() / lanes) {
            tasks.push(tokio::spawn(delete_all(portal.clone(), part.to_vec(), Arc::clone(&deleted))));
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        let (listed, deleted) = (*listed.lock().unwrap(), *deleted.lock().unwrap());
        let sum = listed + deleted;
        assert!(sum >= 115, "the whole rate is used: {sum}");
        assert!(deleted * 3 >= sum, "{listings} listings, {lanes} lanes: {deleted} of {sum} delete");
        assert!(listed * 3 >= sum, "{listings} listings, {lanes} lanes: {listed} of {sum} list");
        assert_eq!(sandbox.stats().refused_503, 0);
        tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

#[tokio::test(start_paused = true)]
async fn a_survey_and_deletions_beside_it_both_end_without_a_refusal() {
    let options =
        SandboxOptions { leads: 20_000, sleep_scale: 1.0, delete_seconds: 0.02, ..SandboxOptions::default() };
    let (sandbox, portal) = pair(options, PortalLimits::default());
    let doomed: Vec<u32> = sandbox.ids_where(|lead| lead.id % 20 == 0);
    let deleted: Arc<Mutex<usize>> = Arc::default();
    let lane = tokio::spawn(delete_all(portal.clone(), doomed, Arc::clone(&deleted)));
    let found = all(&portal, &Map::new(), 50).await.unwrap();
    assert!(found.windows(2).all(|pair| pair[0] < pair[1]));
    lane.await.unwrap();
    assert_eq!(sandbox.lead_count(), 19_000);
    let kept = sandbox.ids_where(|_| true);
    assert!(kept.iter().all(|id| found.binary_search(id).is_ok()), "a lead that stays is never passed over");
    let stats = sandbox.stats();
    assert_eq!((stats.refused_503, stats.refused_429), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn faults_on_the_way_lose_no_lead() {
    let (sandbox, portal) = free(3_000);
    for kind in [
        FaultKind::MissingKeys { count: 3 },
        FaultKind::Error { code: "OPERATION_TIME_LIMIT".to_owned(), text: "x".to_owned(), status: 429 },
        FaultKind::Truncated,
        FaultKind::Fatal,
    ] {
        sandbox.clear_faults();
        sandbox.set_fault(Fault::new(kind.clone()).on("crm.item.list").with_probability(0.1));
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let Ok(page) = portal.list_chain(&Map::new(), after, &[], 50).await else { continue };
            after = page.leads.last().map(|lead| lead.id).or(after);
            found.extend(numbers(&page));
            if page.last {
                break;
            }
        }
        assert_eq!(found, sandbox.ids_where(|_| true), "{kind:?}");
    }
}
