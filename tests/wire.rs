//! The exchanges with the portal, byte for byte where it matters, and what every answer is taken for.

#![cfg(test)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use axum::routing::post;
use b24_janitor::clock::Clock;
use b24_janitor::core::lead::LeadId;
use b24_janitor::core::outcome::{DeleteReply, Fault, Presence};
use b24_janitor::core::rule::{DeleteMethod, PortalLimits};
use b24_janitor::portal::{CallError, CallRecord, Class, Portal, PortalOptions, Sent, Transport, Work};
use proptest::prelude::*;
use secrecy::SecretString;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wiremock::matchers::{body_json, header, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

const CODE: &str = "s3cr3tc0de9xyz";

fn limits(delete_method: DeleteMethod) -> PortalLimits {
    PortalLimits { requests_per_second: 1000.0, burst: 10_000, delete_method, ..PortalLimits::default() }
}

fn options(base: &str, limits: PortalLimits) -> PortalOptions {
    let webhook = SecretString::from(format!("{base}/rest/1/{CODE}/"));
    PortalOptions { webhook, limits, clock: Clock::System, observer: None }
}

fn portal_at(base: &str, delete_method: DeleteMethod) -> Portal {
    Portal::new(Portal::http().unwrap(), options(base, limits(delete_method)))
}

fn id(number: i64) -> LeadId {
    LeadId::try_from(number).unwrap()
}

fn ids(numbers: &[i64]) -> Vec<LeadId> {
    numbers.iter().map(|number| id(*number)).collect()
}

fn url(name: &str) -> String {
    format!("/rest/1/{CODE}/{name}")
}

async fn answering(name: &str, template: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(method("POST")).and(path(url(name))).respond_with(template).mount(&server).await;
    server
}

fn ok(body: Value) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(body)
}

fn html(status: u16) -> ResponseTemplate {
    ResponseTemplate::new(status).set_body_raw("<html><body>Oops</body></html>", "text/html; charset=utf-8")
}

/// The variant of a reply, for tables.
fn kind(reply: &DeleteReply) -> &'static str {
    match reply {
        DeleteReply::Deleted => "Deleted",
        DeleteReply::NotFound => "NotFound",
        DeleteReply::Unsure(_) => "Unsure",
        DeleteReply::Refused(_) => "Refused",
        DeleteReply::MethodPaused(_) => "MethodPaused",
        DeleteReply::Busy(_) => "Busy",
        DeleteReply::NotExecuted(_) => "NotExecuted",
        DeleteReply::Stopped(_) => "Stopped",
        DeleteReply::Unknown(_) => "Unknown",
    }
}

// ---------------------------------------------------------------- requests

#[tokio::test]
async fn a_list_is_a_json_post_with_keyset_order_and_no_count() {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .and(path(url("crm.item.list")))
        .and(header("content-type", "application/json"))
        .and(header("accept", "application/json"))
        .and(header("user-agent", concat!("b24-janitor/", env!("CARGO_PKG_VERSION"))))
        .and(body_json(json!({
            "entityTypeId": 1,
            "select": ["id", "stageId"],
            "filter": { "stageId": "JUNK", "<createdTime": "2024-01-31T00:00:00+00:00", ">id": 100 },
            "order": { "id": "ASC" },
            "start": -1,
        })))
        .respond_with(ok(
            json!({ "result": { "items": [{ "id": 101, "stageId": "JUNK" }, { "id": "102" }] } }),
        ))
        .expect(1)
        .mount(&server)
        .await;
    let filter = json!({ "stageId": "JUNK", "<createdTime": "2024-01-31T00:00:00+00:00" });
    let portal = portal_at(&server.uri(), DeleteMethod::Lead);
    let page =
        portal.list(filter.as_object().unwrap(), Some(id(100)), &["stageId".to_owned()]).await.unwrap();
    assert_eq!(page.leads.iter().map(|lead| lead.id).collect::<Vec<_>>(), ids(&[101, 102]));
    assert!(page.last);
}

#[tokio::test]
async fn the_keyset_never_lowers_a_bound_that_the_rule_itself_sets() {
    let server = answering("crm.item.list", ok(json!({ "result": { "items": [] } }))).await;
    let portal = portal_at(&server.uri(), DeleteMethod::Lead);
    let filter = json!({ ">id": 5000 });
    portal.list(filter.as_object().unwrap(), Some(id(100)), &[]).await.unwrap();
    let sent: Value = server.received_requests().await.unwrap()[0].body_json().unwrap();
    assert_eq!(sent["filter"], json!({ ">id": 5000 }));
}

#[tokio::test]
async fn a_full_page_is_not_the_last_and_ids_out_of_order_are_an_error() {
    let items = |ids: &[i64]| json!({ "result": { "items": ids.iter().map(|id| json!({ "id": id })).collect::<Vec<_>>() } });
    let full: Vec<i64> = (1..=50).collect();
    for (name, list, after, last) in [
        ("a full page", full.clone(), None, Ok(false)),
        ("49", full[..49].to_vec(), None, Ok(true)),
        ("51 on a page", (1..=51).collect(), None, Err(())),
        ("descending", vec![3, 2], None, Err(())),
        ("repeated", vec![3, 3], None, Err(())),
        ("not after the key", vec![7, 8], Some(id(7)), Err(())),
    ] {
        let server = answering("crm.item.list", ok(items(&list))).await;
        let page = portal_at(&server.uri(), DeleteMethod::Lead).list(&Map::new(), after, &[]).await;
        match (page, last) {
            (Ok(page), Ok(last)) => assert_eq!(page.last, last, "{name}"),
            (Err(error), Err(())) => assert_eq!(error.class, Class::Malformed, "{name}"),
            (page, _) => panic!("{name}: {page:?}"),
        }
    }
}

#[tokio::test]
async fn leads_by_ids_asks_for_every_field_and_takes_only_what_it_asked_for() {
    let server = MockServer::start().await;
    Mock::given(body_json(json!({
        "entityTypeId": 1,
        "select": ["*", "ufCrm_*"],
        "filter": { "@id": [3, 9] },
        "order": { "id": "ASC" },
        "start": -1,
    })))
    .respond_with(ok(json!({ "result": { "items": [{ "id": 9, "title": "x" }] } })))
    .mount(&server)
    .await;
    let portal = portal_at(&server.uri(), DeleteMethod::Lead);
    assert_eq!(portal.leads_by_ids(&ids(&[9, 3])).await.unwrap().len(), 1);

    for body in [json!([{ "id": 9 }, { "id": 4 }]), json!([{ "id": 9 }, { "id": 9 }])] {
        let server = answering("crm.item.list", ok(json!({ "result": { "items": body } }))).await;
        let error =
            portal_at(&server.uri(), DeleteMethod::Lead).leads_by_ids(&ids(&[9, 3])).await.unwrap_err();
        assert_eq!(error.class, Class::Malformed);
    }
}

#[tokio::test]
async fn a_batch_deletes_with_literal_ids_and_reads_the_next_leads_last() {
    for (delete_method, d3, d12) in [
        (DeleteMethod::Lead, "crm.lead.delete?id=3", "crm.lead.delete?id=12"),
        (DeleteMethod::Item, "crm.item.delete?entityTypeId=1&id=3", "crm.item.delete?entityTypeId=1&id=12"),
    ] {
        let done = if delete_method == DeleteMethod::Lead { json!(true) } else { json!([]) };
        let server = answering(
            "batch",
            ok(json!({ "result": {
                "result": { "d3": done, "d12": done, "r": { "items": [{ "id": 21 }] } },
                "result_error": [],
                "result_time": {
                    "d3": { "processing": 0.25, "operating": 1.5, "operating_reset_at": 1_705_765_533 },
                    "d12": { "processing": 0.5, "operating": 2, "operating_reset_at": 1_705_765_533 },
                },
            } })),
        )
        .await;
        let portal = portal_at(&server.uri(), delete_method);
        let permit = portal.permit(Work::Delete { leads: 2 }).await;
        let reply = portal.delete_batch(permit, &ids(&[12, 3]), &ids(&[21, 20])).await.unwrap();
        assert_eq!(reply.replies, vec![(id(12), DeleteReply::Deleted), (id(3), DeleteReply::Deleted)]);
        assert_eq!(reply.read.unwrap().unwrap()[0].id, id(21));
        assert_eq!(reply.delete_seconds, vec![0.5, 0.25]);
        assert!(reply.sent_at <= reply.finished_at);

        let request = &server.received_requests().await.unwrap()[0];
        let sent: Value = request.body_json().unwrap();
        assert_eq!(
            sent,
            json!({ "halt": 0, "cmd": {
                "d3": d3,
                "d12": d12,
                "r": "crm.item.list?entityTypeId=1&select%5B0%5D=%2A&select%5B1%5D=ufCrm_%2A\
                      &filter%5B%40id%5D%5B0%5D=20&filter%5B%40id%5D%5B1%5D=21&order%5Bid%5D=ASC&start=-1",
            } })
        );
        let text = String::from_utf8(request.body.clone()).unwrap();
        assert!(text.find("\"r\":").unwrap() > text.rfind("\"d").unwrap(), "the list comes last: {text}");
        assert!(!text.contains("$result"));
    }
}

#[tokio::test]
async fn one_deletion_alone_is_not_a_batch() {
    for (delete_method, name, body, result) in [
        (DeleteMethod::Lead, "crm.lead.delete", json!({ "id": 7 }), json!(true)),
        (DeleteMethod::Item, "crm.item.delete", json!({ "entityTypeId": 1, "id": 7 }), json!([])),
    ] {
        let server = MockServer::start().await;
        Mock::given(path(url(name)))
            .and(body_json(body))
            .respond_with(ok(json!({ "result": result })))
            .expect(1)
            .mount(&server)
            .await;
        let portal = portal_at(&server.uri(), delete_method);
        let permit = portal.permit(Work::Delete { leads: 1 }).await;
        assert_eq!(portal.delete_one(permit, id(7)).await, Ok(DeleteReply::Deleted));
    }
}

#[tokio::test]
async fn batches_that_break_the_portals_limits_are_never_sent() {
    let server = answering("batch", ok(json!({ "result": true }))).await;
    let portal = portal_at(&server.uri(), DeleteMethod::Lead);
    let many: Vec<LeadId> = (1..=51).map(id).collect();
    for (name, delete, read) in [
        ("nothing", vec![], ids(&[1])),
        ("51 deletions", many.clone(), vec![]),
        ("50 deletions and a list", many[..50].to_vec(), ids(&[60])),
        ("51 leads to read", ids(&[60]), many.clone()),
        ("a lead twice", ids(&[4, 4]), vec![]),
    ] {
        let permit = portal.permit(Work::Delete { leads: delete.len() }).await;
        let error = portal.delete_batch(permit, &delete, &read).await.unwrap_err();
        assert_eq!((error.class, error.sent), (Class::Final, Sent::No), "{name}");
    }
    assert!(server.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_lead_is_present_gone_or_unreadable() {
    let cases = [
        (200, json!({ "result": { "item": { "id": 7, "title": "x" } } }), "Present"),
        (400, json!({ "error": "NOT_FOUND", "error_description": "Item was not found." }), "Gone"),
        (400, json!({ "error": "ACCESS_DENIED", "error_description": "Доступ запрещен" }), "Unreadable"),
        (
            401,
            json!({ "error": "ACCESS_DENIED", "error_description": "REST is available only on commercial plans." }),
            "StopPortal",
        ),
        (404, json!({ "error": "NOT_FOUND", "error_description": "no route" }), "Final"),
        (502, json!({ "error": "NOT_FOUND", "error_description": "no backend" }), "Retry"),
        (200, json!({ "result": { "item": { "id": 8 } } }), "Malformed"),
        (200, json!({ "result": [] }), "Malformed"),
        (200, json!({ "result": true }), "Malformed"),
    ];
    for (status, body, expected) in cases {
        let server = answering("crm.item.get", ResponseTemplate::new(status).set_body_json(&body)).await;
        let got = match portal_at(&server.uri(), DeleteMethod::Lead).get(id(7)).await {
            Ok(Presence::Present(lead)) => {
                assert_eq!(lead.id, id(7));
                "Present".to_owned()
            }
            Ok(Presence::Gone) => "Gone".to_owned(),
            Ok(Presence::Unreadable(_)) => "Unreadable".to_owned(),
            Err(error) => format!("{:?}", error.class),
        };
        assert_eq!(got, expected, "{status} {body}");
    }
}

#[tokio::test]
async fn fields_stages_scopes_and_counts_are_read() {
    let server = answering(
        "crm.item.fields",
        ok(json!({ "result": { "fields": {
        "id": { "type": "integer", "isMultiple": false, "isReadOnly": true, "title": "ID" },
        "ufCrm_1": { "type": "string", "isMultiple": true, "title": "Tags" },
    } } })),
    )
    .await;
    let portal = portal_at(&server.uri(), DeleteMethod::Lead);
    portal.probe().await.unwrap();
    let fields = portal.lead_fields().await.unwrap();
    assert_eq!((fields["id"].kind.as_str(), fields["id"].is_read_only), ("integer", true));
    assert!(fields["ufCrm_1"].is_multiple);

    let server = MockServer::start().await;
    for (start, body) in [
        (0, json!({ "result": [{ "STATUS_ID": "NEW", "NAME": "Neu", "SEMANTICS": null }], "next": 50 })),
        (50, json!({ "result": [{ "STATUS_ID": "JUNK", "NAME": "Müll", "SEMANTICS": "F" }] })),
    ] {
        let request =
            json!({ "filter": { "ENTITY_ID": "STATUS" }, "order": { "SORT": "ASC" }, "start": start });
        Mock::given(path(url("crm.status.list")))
            .and(body_json(request))
            .respond_with(ok(body))
            .expect(1)
            .mount(&server)
            .await;
    }
    Mock::given(path(url("scope")))
        .respond_with(ok(json!({ "result": ["crm", "user"] })))
        .mount(&server)
        .await;
    Mock::given(path(url("crm.item.list")))
        .and(body_json(json!({ "entityTypeId": 1, "select": ["id"], "order": { "id": "ASC" }, "start": 0 })))
        .respond_with(ok(json!({ "result": { "items": [{ "id": 1 }] }, "total": 1234, "next": 50 })))
        .mount(&server)
        .await;
    let portal = portal_at(&server.uri(), DeleteMethod::Lead);
    let stages = portal.stages().await.unwrap();
    assert_eq!(stages.iter().map(|stage| stage.id.as_str()).collect::<Vec<_>>(), ["NEW", "JUNK"]);
    assert_eq!(stages[1].semantics.as_deref(), Some("F"));
    assert_eq!(portal.scopes().await.unwrap(), ["crm", "user"]);
    assert_eq!(portal.count().await, Ok(1234));
}

// ---------------------------------------------------------------- answers

/// What a single deletion is answered: status, body, and what it is taken for with either method. A class with `?`
/// means that the request may have been executed, one with `!` that it surely was not.
#[rustfmt::skip]
const ALONE: &[(&str, u16, &str, &str, &str)] = &[
    // name, status, body, crm.lead.delete, crm.item.delete
    ("true", 200, r#"{"result":true}"#, "Deleted", "Unknown"),
    ("empty list", 200, r#"{"result":[]}"#, "Unknown", "Deleted"),
    ("null", 200, r#"{"result":null}"#, "Unknown", "Unknown"),
    ("false", 200, r#"{"result":false}"#, "Unknown", "Unknown"),
    ("number", 200, r#"{"result":1}"#, "Unknown", "Unknown"),
    ("full list", 200, r#"{"result":[1]}"#, "Unknown", "Unknown"),
    ("object", 200, r#"{"result":{}}"#, "Unknown", "Unknown"),
    ("bad id", 400, r#"{"error":"","error_description":"ID is not defined or invalid."}"#, "Unsure", "Unsure"),
    ("denied", 400, r#"{"error":"","error_description":"Access denied."}"#, "Unsure", "Unsure"),
    ("gone, as documented", 400, r#"{"error":"","error_description":"Not found"}"#, "NotFound", "Unsure"),
    ("gone, English", 400, r#"{"error":"ERROR_CORE","error_description":"Item was not found."}"#, "NotFound", "Unsure"),
    ("gone, Russian", 400, r#"{"error":"ERROR_CORE","error_description":"Элемент не найден"}"#, "NotFound", "Unsure"),
    ("gone, old English", 400, r#"{"error":"ERROR_CORE","error_description":"Lead was not found."}"#, "NotFound", "Unsure"),
    ("gone, old Russian", 400, r#"{"error":"ERROR_CORE","error_description":"Лид не найден"}"#, "NotFound", "Unsure"),
    ("gone, as siblings say", 400, r#"{"error":"ERROR_CORE","error_description":"Element not found"}"#, "NotFound", "Unsure"),
    ("gone, German", 400, r#"{"error":"ERROR_CORE","error_description":"Element wurde nicht gefunden."}"#, "Unsure", "Unsure"),
    ("veto", 400, r#"{"error":"ERROR_CORE","error_description":"Not on a Friday"}"#, "Unsure", "Unsure"),
    ("veto naming it", 400, r#"{"error":"ERROR_CORE","error_description":"Order of lead 7 not found"}"#, "Unsure", "Unsure"),
    ("item gone", 400, r#"{"error":"NOT_FOUND","error_description":"Элемент не найден"}"#, "Unsure", "NotFound"),
    ("item gone under 200", 200, r#"{"error":"NOT_FOUND","error_description":"x"}"#, "Unsure", "NotFound"),
    ("a gateway's 404", 404, r#"{"error":"NOT_FOUND","error_description":"x"}"#, "Unsure", "Unsure"),
    ("item denied", 400, r#"{"error":"ACCESS_DENIED","error_description":"Access denied"}"#, "Unsure", "Refused"),
    ("second check", 400, r#"{"error":"CRM_ITEM_DELETE_ACCESS_DENIED","error_description":"x"}"#, "Unsure", "Refused"),
    ("item veto", 400, r#"{"error":"TERMINATED_BY_EVENT_COMPATIBLE","error_description":"x"}"#, "Unsure", "Refused"),
    ("no id", 400, r#"{"error":"100","error_description":"Could not find value for parameter {id}"}"#, "Unsure", "Unsure"),
    ("digits as number", 400, r#"{"error":100,"error_description":"x"}"#, "Unsure", "Unsure"),
    ("bad type", 400, r#"{"error":"ENTITY_TYPE_NOT_SUPPORTED","error_description":"x"}"#, "Unsure", "Unsure"),
    ("bad argument", 400, r#"{"error":"ERROR_ARGUMENT","error_description":"x","argument":"id"}"#, "Unsure", "Unsure"),
    ("bad value", 400, r#"{"error":"INVALID_ARG_VALUE","error_description":"x"}"#, "Unsure", "Unsure"),
    ("encoding", 200, r#"{"error":"WRONG_ENCODING","error_description":"Wrong request encoding"}"#, "Unsure", "Unsure"),
    ("unheard of", 400, r#"{"error":"SOMETHING_NEW","error_description":"x"}"#, "Unsure", "Unsure"),
    ("error under 200", 200, r#"{"error":"ERROR_CORE","error_description":"x"}"#, "Unsure", "Unsure"),
    ("SQL", 500, r#"{"error":"ERROR_CORE","error_description":"SQL query error!"}"#, "Retry?", "Retry?"),
    ("SQL under 400", 400, r#"{"error":"ERROR_CORE","error_description":"SQL query error!"}"#, "Unknown", "Unknown"),
    ("internal", 500, r#"{"error":"INTERNAL_SERVER_ERROR","error_description":"x"}"#, "Retry?", "Retry?"),
    ("unexpected", 500, r#"{"error":"ERROR_UNEXPECTED_ANSWER","error_description":"x"}"#, "Retry?", "Retry?"),
    ("unheard of 500", 500, r#"{"error":"SOMETHING_NEW","error_description":"x"}"#, "Retry?", "Retry?"),
    ("too many", 503, r#"{"error":"QUERY_LIMIT_EXCEEDED","error_description":"Too many requests"}"#, "PausePortal!", "PausePortal!"),
    ("budget", 429, r#"{"error":"OPERATION_TIME_LIMIT","error_description":"x"}"#, "PauseMethod!", "PauseMethod!"),
    ("overload", 401, r#"{"error":"OVERLOAD_LIMIT","error_description":"x"}"#, "StopPortalForPerson!", "StopPortalForPerson!"),
    ("overload, old", 503, r#"{"error":"OVERLOAD_LIMIT","error_description":"x"}"#, "StopPortalForPerson!", "StopPortalForPerson!"),
    ("no auth", 401, r#"{"error":"NO_AUTH_FOUND","error_description":"x"}"#, "StopPortal!", "StopPortal!"),
    ("https", 401, r#"{"error":"INVALID_REQUEST","error_description":"Https required."}"#, "StopPortal!", "StopPortal!"),
    ("revoked", 401, r#"{"error":"INVALID_CREDENTIALS","error_description":"x"}"#, "StopPortal!", "StopPortal!"),
    ("revoked, old", 403, r#"{"error":"INVALID_CREDENTIALS","error_description":"x"}"#, "StopPortal!", "StopPortal!"),
    ("scope", 401, r#"{"error":"insufficient_scope","error_description":"x"}"#, "StopPortal!", "StopPortal!"),
    ("token", 401, r#"{"error":"expired_token","error_description":"x"}"#, "RefreshToken!", "RefreshToken!"),
    ("bad token", 401, r#"{"error":"invalid_token","error_description":"x"}"#, "RefreshToken!", "RefreshToken!"),
    ("user", 401, r#"{"error":"user_access_error","error_description":"x"}"#, "StopPortal!", "StopPortal!"),
    ("plan", 401, r#"{"error":"ACCESS_DENIED","error_description":"REST is available only by subscription."}"#, "StopPortal!", "StopPortal!"),
    ("plan, old", 403, r#"{"error":"ACCESS_DENIED","error_description":"x"}"#, "StopPortal!", "StopPortal!"),
    ("fired", 401, r#"{"error":"authorization_error","error_description":"x"}"#, "StopPortal!", "StopPortal!"),
    ("extranet", 403, r#"{"error":"allowed_only_intranet_user","error_description":"x"}"#, "StopPortal!", "StopPortal!"),
    ("auth server away", 401, r#"{"error":"CONNECTION_ERROR","error_description":"x"}"#, "Retry!", "Retry!"),
    ("no app", 401, r#"{"error":"APPLICATION_NOT_FOUND","error_description":"x"}"#, "StopPortal!", "StopPortal!"),
    ("not installed", 401, r#"{"error":"ERROR_OAUTH","error_description":"x"}"#, "StopPortal!", "StopPortal!"),
    ("unpaid", 401, r#"{"error":"PAYMENT_REQUIRED","error_description":"x"}"#, "StopPortal!", "StopPortal!"),
    ("wrong client", 401, r#"{"error":"WRONG_CLIENT","error_description":"x"}"#, "StopPortal!", "StopPortal!"),
    ("auth type", 403, r#"{"error":"WRONG_AUTH_TYPE","error_description":"x"}"#, "StopPortal!", "StopPortal!"),
    ("confirm", 401, r#"{"error":"METHOD_CONFIRM_WAITING","error_description":"x"}"#, "StopPortal!", "StopPortal!"),
    ("confirm denied", 403, r#"{"error":"METHOD_CONFIRM_DENIED","error_description":"x"}"#, "StopPortalForPerson!", "StopPortalForPerson!"),
    ("no method", 404, r#"{"error":"ERROR_METHOD_NOT_FOUND","error_description":"x"}"#, "StopPortal!", "StopPortal!"),
    ("portal deleted", 403, r#"{"error":"PORTAL_DELETED","error_description":"x"}"#, "StopPortal!", "StopPortal!"),
    ("portal deleted, 410", 410, r#"{"error":"PORTAL_DELETED","error_description":"x"}"#, "StopPortal!", "StopPortal!"),
    ("unheard of 401", 401, r#"{"error":"SOMETHING_NEW","error_description":"x"}"#, "StopPortal?", "StopPortal?"),
    ("nothing", 200, "", "Malformed?", "Malformed?"),
    ("half", 200, r#"{"result":tr"#, "Malformed?", "Malformed?"),
    ("list for an envelope", 200, r#"[{"result":true}]"#, "Malformed?", "Malformed?"),
    ("no result", 200, r#"{"time":{}}"#, "Malformed?", "Malformed?"),
    ("result under 500", 500, r#"{"result":true}"#, "Retry?", "Retry?"),
    ("result under 400", 400, r#"{"result":true}"#, "StopPortal?", "StopPortal?"),
    ("fatal PHP", 500, "PHP Fatal error: Uncaught Error", "Retry?", "Retry?"),
    ("empty 502", 502, "", "Retry?", "Retry?"),
    ("not JSON 403", 403, "forbidden", "StopPortal?", "StopPortal?"),
];

#[tokio::test]
async fn every_answer_to_a_deletion_alone_is_taken_for_what_it_is() {
    for (name, status, body, as_lead, as_item) in ALONE {
        for (delete_method, expected) in [(DeleteMethod::Lead, as_lead), (DeleteMethod::Item, as_item)] {
            let template =
                ResponseTemplate::new(*status).set_body_raw(*body, "application/json; charset=utf-8");
            let server = answering(delete_method.as_str(), template).await;
            let portal = portal_at(&server.uri(), delete_method);
            let permit = portal.permit(Work::Delete { leads: 1 }).await;
            let got = match portal.delete_one(permit, id(7)).await {
                Ok(reply) => kind(&reply).to_owned(),
                Err(error) => verdict(&error),
            };
            assert_eq!(got, **expected, "{name}, {}", delete_method.as_str());
        }
    }
}

fn verdict(error: &CallError) -> String {
    assert!(error.remedy.ends_with('.') && error.remedy.len() > 20, "a remedy is a sentence: {error:?}");
    format!("{:?}{}", error.class, if error.sent == Sent::Maybe { '?' } else { '!' })
}

#[tokio::test]
async fn pages_and_redirects_are_never_success() {
    for (status, expected) in [
        (200, "Malformed?"),
        (301, "StopPortal?"),
        (403, "StopPortal?"),
        (404, "StopPortal?"),
        (429, "PausePortal?"),
        (500, "Retry?"),
        (502, "Retry?"),
        (503, "PausePortal?"),
        (504, "Retry?"),
    ] {
        let server = answering("batch", html(status)).await;
        let portal = portal_at(&server.uri(), DeleteMethod::Lead);
        let permit = portal.permit(Work::Delete { leads: 1 }).await;
        let error = portal.delete_batch(permit, &ids(&[7]), &[]).await.unwrap_err();
        assert_eq!(verdict(&error), expected, "HTML under {status}");
        assert_eq!(kind(&error.as_reply()), "Unknown", "HTML under {status}");
    }
    // JSON that claims to be a page is a page.
    let page = ResponseTemplate::new(200).set_body_raw(r#"{"result":true}"#, "text/html");
    let server = answering("crm.lead.delete", page).await;
    let portal = portal_at(&server.uri(), DeleteMethod::Lead);
    let permit = portal.permit(Work::Delete { leads: 1 }).await;
    assert_eq!(portal.delete_one(permit, id(7)).await.unwrap_err().class, Class::Malformed);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = MockServer::start().await;
    Mock::given(wiremock::matchers::any())
        .respond_with(ok(json!({ "result": true })))
        .mount(&elsewhere)
        .await;
    for status in [301, 302, 303, 307, 308] {
        let target = format!("{}{}", elsewhere.uri(), url("crm.lead.delete"));
        let server =
            answering("crm.lead.delete", ResponseTemplate::new(status).insert_header("Location", target))
                .await;
        let portal = portal_at(&server.uri(), DeleteMethod::Lead);
        let permit = portal.permit(Work::Delete { leads: 1 }).await;
        let error = portal.delete_one(permit, id(7)).await.unwrap_err();
        assert_eq!(error.class, Class::StopPortal);
        assert!(error.remedy.contains("B24_WEBHOOK_URL"), "{}", error.remedy);
    }
    assert!(elsewhere.received_requests().await.unwrap().is_empty());
}

/// What a deletion inside a batch is answered under `result_error`.
#[rustfmt::skip]
const NESTED: &[(&str, &str, &str, &str)] = &[
    // code, text, crm.lead.delete, crm.item.delete
    ("ERROR_CORE", "Item was not found.", "Unsure", "Unsure"),
    ("", "Not found", "Unsure", "Unsure"),
    ("", "Access denied.", "Unsure", "Unsure"),
    ("", "ID is not defined or invalid.", "Unsure", "Unsure"),
    ("ERROR_CORE", "Not on a Friday", "Unsure", "Unsure"),
    ("ERROR_CORE", "SQL query error!", "Unknown", "Unknown"),
    ("NOT_FOUND", "Item was not found.", "Unsure", "NotFound"),
    ("ACCESS_DENIED", "Access denied", "Unsure", "Refused"),
    ("ACCESS_DENIED", "REST is available only on commercial plans.", "Stopped", "Stopped"),
    ("CRM_ITEM_DELETE_ACCESS_DENIED", "x", "Unsure", "Refused"),
    ("TERMINATED_BY_EVENT_COMPATIBLE", "x", "Unsure", "Refused"),
    ("OPERATION_TIME_LIMIT", "Method is blocked due to operation time limit.", "MethodPaused", "MethodPaused"),
    ("QUERY_LIMIT_EXCEEDED", "Too many requests", "Busy", "Busy"),
    ("CONNECTION_ERROR", "x", "Busy", "Busy"),
    ("INTERNAL_SERVER_ERROR", "x", "Unknown", "Unknown"),
    ("insufficient_scope", "x", "Stopped", "Stopped"),
    ("expired_token", "x", "Stopped", "Stopped"),
    ("INVALID_CREDENTIALS", "x", "Stopped", "Stopped"),
    ("OVERLOAD_LIMIT", "x", "Stopped", "Stopped"),
    ("ERROR_METHOD_NOT_FOUND", "x", "Stopped", "Stopped"),
    ("ERROR_BATCH_LENGTH_EXCEEDED", "x", "NotExecuted", "NotExecuted"),
    ("ERROR_BATCH_METHOD_NOT_ALLOWED", "x", "NotExecuted", "NotExecuted"),
    ("100", "x", "Unsure", "Unsure"),
    ("SOMETHING_NEW", "x", "Unsure", "Unsure"),
];

#[tokio::test]
async fn every_answer_to_a_deletion_in_a_batch_is_taken_for_what_it_is() {
    for (code, text, as_lead, as_item) in NESTED {
        for (delete_method, expected) in [(DeleteMethod::Lead, as_lead), (DeleteMethod::Item, as_item)] {
            let error = json!({ "error": code, "error_description": text });
            let body =
                json!({ "result": { "result": [], "result_error": { "d7": error }, "result_time": [] } });
            let server = answering("batch", ok(body)).await;
            let portal = portal_at(&server.uri(), delete_method);
            let permit = portal.permit(Work::Delete { leads: 1 }).await;
            let reply = portal.delete_batch(permit, &ids(&[7]), &[]).await.unwrap();
            assert_eq!(kind(&reply.replies[0].1), *expected, "{code} {text}, {}", delete_method.as_str());
            assert_eq!(reply.read, None);
        }
    }
}

#[tokio::test]
async fn a_batch_answers_for_every_id_and_for_nothing_else() {
    let denied = json!({ "error": "NOT_FOUND", "error_description": "x" });
    let cases = [
        (
            "missing key",
            json!({ "result": { "d1": [] }, "result_error": [] }),
            Ok(["Deleted", "NotExecuted"]),
        ),
        (
            "both maps",
            json!({ "result": { "d1": [], "d2": [] }, "result_error": { "d2": denied } }),
            Ok(["Deleted", "Unknown"]),
        ),
        (
            "odd result",
            json!({ "result": { "d1": true, "d2": null }, "result_error": {} }),
            Ok(["Unknown", "Unknown"]),
        ),
        (
            "empty maps as lists",
            json!({ "result": [], "result_error": [] }),
            Ok(["NotExecuted", "NotExecuted"]),
        ),
        (
            "an error that is no object",
            json!({ "result": [], "result_error": { "d1": "x", "d2": [] } }),
            Ok(["Unsure", "Unsure"]),
        ),
        (
            "another's keys",
            json!({ "result": { "d1": [], "d3": [] }, "result_error": [] }),
            Err("Malformed?"),
        ),
        ("a list of results", json!({ "result": [[], []], "result_error": [] }), Err("Malformed?")),
        (
            "an unasked list",
            json!({ "result": { "d1": [], "r": {} }, "result_error": [] }),
            Err("Malformed?"),
        ),
        ("a key in disguise", json!({ "result": { "d01": [] }, "result_error": [] }), Err("Malformed?")),
        ("no maps", json!([]), Err("Malformed?")),
        ("no errors map", json!({ "result": { "d1": [], "d2": [] } }), Err("Malformed?")),
        ("a truth", json!(true), Err("Malformed?")),
    ];
    for (name, result, expected) in cases {
        let server = answering("batch", ok(json!({ "result": result }))).await;
        let portal = portal_at(&server.uri(), DeleteMethod::Item);
        let permit = portal.permit(Work::Delete { leads: 2 }).await;
        match (portal.delete_batch(permit, &ids(&[1, 2]), &[]).await, expected) {
            (Ok(reply), Ok(kinds)) => {
                let got: Vec<&str> = reply.replies.iter().map(|(_, reply)| kind(reply)).collect();
                assert_eq!(got, kinds, "{name}");
            }
            (Err(error), Err(expected)) => assert_eq!(verdict(&error), expected, "{name}"),
            (got, _) => panic!("{name}: {got:?}"),
        }
    }
}

#[tokio::test]
async fn the_list_in_a_batch_fails_by_itself() {
    let cases = [
        (json!({ "d1": [], "r": { "items": [{ "id": 5 }] } }), json!([]), Ok(1)),
        (json!({ "d1": [], "r": { "items": [] } }), json!([]), Ok(0)),
        (json!({ "d1": [], "r": { "items": [{ "id": 6 }] } }), json!([]), Err("<malformed>")),
        (json!({ "d1": [], "r": [] }), json!([]), Err("<malformed>")),
        (json!({ "d1": [] }), json!([]), Err("<not executed>")),
        (
            json!({ "d1": [] }),
            json!({ "r": { "error": "OPERATION_TIME_LIMIT", "error_description": "x" } }),
            Err("OPERATION_TIME_LIMIT"),
        ),
    ];
    for (result, errors, expected) in cases {
        let body = json!({ "result": { "result": result, "result_error": errors } });
        let server = answering("batch", ok(body)).await;
        let portal = portal_at(&server.uri(), DeleteMethod::Item);
        let permit = portal.permit(Work::Delete { leads: 1 }).await;
        let reply = portal.delete_batch(permit, &ids(&[1]), &ids(&[5])).await.unwrap();
        assert_eq!(reply.replies, vec![(id(1), DeleteReply::Deleted)]);
        match (reply.read.unwrap(), expected) {
            (Ok(leads), Ok(count)) => assert_eq!(leads.len(), count),
            (Err(fault), Err(code)) => assert_eq!(fault.code, code),
            (read, _) => panic!("{read:?}"),
        }
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-zA-Z0-9 .]{0,8}".prop_map(Value::from),
    ];
    let key = prop_oneof![
        Just("d1"),
        Just("d2"),
        Just("r"),
        Just("error"),
        Just("error_description"),
        Just("items"),
        Just("id"),
        Just("operating"),
        Just("operating_reset_at"),
        Just("result"),
        Just("result_error"),
        Just("result_time"),
    ];
    leaf.prop_recursive(4, 32, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key.clone().prop_map(str::to_owned), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_comes_back_only_the_documented_success_is_a_deletion(
        status in prop::sample::select(vec![200_u16, 400, 500]),
        (results, errors, times, top) in (any_json(), any_json(), any_json(), any_json()),
        whole in any::<bool>(),
    ) {
        let body = if whole {
            json!({ "result": { "result": results, "result_error": errors, "result_time": times }, "time": top })
        } else {
            top
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let replies = runtime.block_on(async {
            let answer = body.to_string();
            let router = Router::new().fallback(post(move || async move {
                let head = Response::builder().status(status).header("content-type", "application/json");
                head.body(Body::from(answer)).unwrap()
            }));
            let portal = in_process(router, limits(DeleteMethod::Lead));
            let permit = portal.permit(Work::Delete { leads: 2 }).await;
            portal.delete_batch(permit, &ids(&[1, 2]), &ids(&[3])).await
        });
        if let Ok(reply) = replies {
            prop_assert_eq!(status, 200);
            prop_assert_eq!(reply.replies.iter().map(|(id, _)| *id).collect::<Vec<_>>(), ids(&[1, 2]));
            for (id, reply) in reply.replies {
                let said = body["result"]["result"].get(format!("d{id}")) == Some(&Value::Bool(true));
                prop_assert!(reply != DeleteReply::NotFound, "never certain in a batch");
                prop_assert!(reply != DeleteReply::Deleted || said, "{:?} from {}", reply, body);
            }
        }
    }
}

#[test]
fn the_table_names_each_error_once_and_says_what_to_do() {
    let mut seen = std::collections::BTreeSet::new();
    for row in b24_janitor::portal::TABLE {
        assert!(seen.insert((row.code.to_ascii_lowercase(), format!("{:?}", row.on))), "{} twice", row.code);
        assert!(row.remedy.ends_with('.'), "{}: {}", row.code, row.remedy);
        assert!(row.page.ends_with(".html"), "{}: {}", row.code, row.page);
    }
}

// ---------------------------------------------------------------- the wire itself

#[tokio::test]
async fn what_never_left_is_told_apart_from_what_was_never_answered() {
    // Nobody listens.
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = delete_at(&format!("http://{free}")).await;
    assert_eq!((verdict(&error).as_str(), error.fault.code.as_str()), ("Retry!", "<no connection>"));
    assert_eq!(kind(&error.as_reply()), "Busy");
    // No such name.
    let error = delete_at("http://no-such-host.invalid").await;
    assert_eq!(verdict(&error), "Retry!");
    // The request is taken, and then the line is cut: before, in, and in the middle of the reply.
    let head =
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 200\r\n\r\n{\"result\":true";
    for reply in ["", "HTTP/1.1 200 O", head] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            assert!(stream.read(&mut request).await.unwrap() > 0);
            stream.write_all(reply.as_bytes()).await.unwrap();
        });
        let error = delete_at(&format!("http://{address}")).await;
        assert_eq!(verdict(&error), "Retry?", "after {reply:?}");
        assert_eq!(kind(&error.as_reply()), "Unknown");
        server.await.unwrap();
    }
}

async fn delete_at(base: &str) -> CallError {
    let portal = portal_at(base, DeleteMethod::Lead);
    let permit = portal.permit(Work::Delete { leads: 1 }).await;
    portal.delete_one(permit, id(7)).await.unwrap_err()
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_webhooks_code_is_in_no_error_no_debug_text_and_no_log() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);

    let echo = json!({ "error": "SOMETHING", "error_description": format!("{}no such page /rest/1/{CODE}/x", " ".repeat(285)) });
    let server = answering("crm.item.get", ResponseTemplate::new(404).set_body_json(echo)).await;
    let portal = portal_at(&server.uri(), DeleteMethod::Lead);
    let mut seen = vec![format!("{portal:?}"), format!("{:?}", Portal::http().unwrap())];
    let echoed = portal.get(id(7)).await.unwrap_err();
    assert!(!echoed.fault.text.contains(&CODE[..4]), "not even its beginning: {}", echoed.fault.text);
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for error in [
        echoed,
        delete_at(&format!("http://{free}")).await,
        delete_at("http://no-such-host.invalid").await,
        delete_at("http://bad host").await,
        portal.count().await.unwrap_err(),
    ] {
        seen.extend([format!("{error:?}"), format!("{error}")]);
    }
    drop(guard);
    seen.push(String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned());
    for text in seen {
        assert!(!text.contains(CODE), "{text}");
    }
}

fn in_process(router: Router, limits: PortalLimits) -> Portal {
    let clock = Clock::starting_at("2026-03-01T00:00:00Z".parse().unwrap());
    Portal::new(
        Transport::InProcess(router),
        PortalOptions { clock, ..options("https://portal.example", limits) },
    )
}

fn json_response(body: &Value) -> Response {
    Response::builder().header("content-type", "application/json").body(Body::from(body.to_string())).unwrap()
}

#[tokio::test(start_paused = true)]
async fn in_process_the_same_request_arrives() {
    let handler = |request: axum::extract::Request| async move {
        assert_eq!(request.uri().path(), url("crm.lead.delete"));
        assert_eq!(request.headers()["host"], "portal.example");
        assert_eq!(request.headers()["content-type"], "application/json");
        let body = axum::body::to_bytes(request.into_body(), 1000).await.unwrap();
        assert_eq!(body.as_ref(), br#"{"id":7}"#);
        json_response(&json!({ "result": true }))
    };
    let portal = in_process(Router::new().fallback(post(handler)), limits(DeleteMethod::Lead));
    let permit = portal.permit(Work::Delete { leads: 1 }).await;
    assert_eq!(portal.delete_one(permit, id(7)).await, Ok(DeleteReply::Deleted));
}

#[tokio::test(start_paused = true)]
async fn after_75_seconds_without_an_answer_nobody_knows_and_the_portal_goes_on() {
    let finished = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&finished);
    let handler = move || async move {
        tokio::time::sleep(Duration::from_secs(100)).await;
        count.fetch_add(1, Ordering::SeqCst);
        json_response(&json!({ "result": true }))
    };
    let portal = in_process(Router::new().fallback(post(handler)), limits(DeleteMethod::Lead));
    let permit = portal.permit(Work::Delete { leads: 1 }).await;
    let started = tokio::time::Instant::now();
    let error = portal.delete_one(permit, id(7)).await.unwrap_err();
    assert_eq!((verdict(&error).as_str(), error.fault.code.as_str()), ("Retry?", "<timeout>"));
    assert_eq!(started.elapsed().as_secs(), 75);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(finished.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn in_process_a_broken_body_is_a_lost_connection() {
    let handler = || async {
        let pieces = [Ok::<_, std::io::Error>("{\"result\":"), Err(std::io::Error::other("cut"))];
        Response::builder()
            .header("content-type", "application/json")
            .body(Body::from_stream(futures_util::stream::iter(pieces)))
            .unwrap()
    };
    let portal = in_process(Router::new().fallback(post(handler)), limits(DeleteMethod::Lead));
    let permit = portal.permit(Work::Delete { leads: 1 }).await;
    let error = portal.delete_one(permit, id(7)).await.unwrap_err();
    assert_eq!((verdict(&error).as_str(), error.fault.code.as_str()), ("Retry?", "<connection lost>"));
}

// ---------------------------------------------------------------- the pace

fn always(body: Value) -> Router {
    Router::new().fallback(post(move || {
        let response = json_response(&body);
        async move { response }
    }))
}

#[tokio::test(start_paused = true)]
async fn requests_go_out_as_the_bucket_allows() {
    let portal = in_process(always(json!({ "result": { "items": [] } })), PortalLimits::default());
    let started = tokio::time::Instant::now();
    for _ in 0..49 {
        portal.leads_by_ids(&ids(&[1])).await.unwrap();
    }
    assert!(started.elapsed() < Duration::from_millis(100), "the burst goes at once");
    for _ in 0..20 {
        portal.leads_by_ids(&ids(&[1])).await.unwrap();
    }
    let took = started.elapsed().as_secs_f64();
    assert!((9.9..10.2).contains(&took), "then two a second: {took}");
}

#[tokio::test(start_paused = true)]
async fn after_a_503_the_next_permit_waits() {
    let handler = || async {
        let body = r#"{"error":"QUERY_LIMIT_EXCEEDED","error_description":"Too many requests"}"#;
        Response::builder()
            .status(503)
            .header("content-type", "application/json")
            .body(Body::from(body))
            .unwrap()
    };
    let portal = in_process(Router::new().fallback(post(handler)), PortalLimits::default());
    assert_eq!(portal.probe().await.unwrap_err().class, Class::PausePortal);
    let started = tokio::time::Instant::now();
    let _permit = portal.permit(Work::Read).await;
    assert!(started.elapsed() >= Duration::from_secs(1));
}

/// A batch's reply that deletes lead 1 and reports these sums, `ahead` seconds before the oldest drops.
fn batch_reply(operating: f64, ahead: f64) -> Value {
    let time = json!({ "processing": 0.2, "operating": operating, "operating_reset_at": 1000.0 + ahead, "finish": 1000.0 });
    json!({ "result": { "result": { "d1": true }, "result_error": [], "result_time": { "d1": time } },
            "time": { "finish": 1000.0 } })
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_would_pass_the_operating_budget_waits_and_reads_go_on() {
    let portal = in_process(always(batch_reply(479.9, 300.0)), PortalLimits::default());
    let permit = portal.permit(Work::Delete { leads: 1 }).await;
    portal.delete_batch(permit, &ids(&[1]), &[]).await.unwrap();
    let started = tokio::time::Instant::now();
    drop(portal.permit(Work::Read).await);
    assert!(started.elapsed() < Duration::from_millis(10));
    let permit = portal.permit(Work::Delete { leads: 10 }).await;
    let waited = started.elapsed().as_secs();
    assert!((300..=303).contains(&waited), "{waited}");
    drop(permit);
}

#[tokio::test(start_paused = true)]
async fn a_paused_method_in_a_batch_holds_back_the_next_deletion() {
    let error = json!({ "error": "OPERATION_TIME_LIMIT", "error_description": "x" });
    let body = json!({ "result": { "result": [], "result_error": { "d1": error } } });
    let portal = in_process(always(body), PortalLimits::default());
    let permit = portal.permit(Work::Delete { leads: 1 }).await;
    let reply = portal.delete_batch(permit, &ids(&[1]), &[]).await.unwrap();
    assert!(matches!(reply.replies[0].1, DeleteReply::MethodPaused(_)));
    let started = tokio::time::Instant::now();
    let _permit = portal.permit(Work::Delete { leads: 1 }).await;
    assert_eq!(started.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn permits_in_flight_count_and_a_dropped_one_frees_the_next() {
    let limits = PortalLimits { method_seconds: 30.0, ..PortalLimits::default() };
    let portal = in_process(always(batch_reply(0.0, 0.0)), limits);
    // 49 leads at half a second each, the first estimate.
    let first = portal.permit(Work::Delete { leads: 49 }).await;
    let waiting = portal.clone();
    let second = tokio::spawn(async move { waiting.permit(Work::Delete { leads: 49 }).await });
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!second.is_finished(), "49 s would pass 30 s");
    // One that gives up while it waits takes nothing with it.
    let gave_up =
        tokio::time::timeout(Duration::from_secs(1), portal.permit(Work::Delete { leads: 49 })).await;
    assert!(gave_up.is_err());
    drop(first);
    let second = tokio::time::timeout(Duration::from_secs(1), second).await.unwrap().unwrap();
    drop(second);
    drop(portal.permit(Work::Delete { leads: 49 }).await);
}

#[tokio::test(start_paused = true)]
async fn every_exchange_is_observed() {
    let records: Arc<Mutex<Vec<CallRecord>>> = Arc::default();
    let seen = Arc::clone(&records);
    let clock = Clock::starting_at("2026-03-01T00:00:00Z".parse().unwrap());
    let portal = Portal::new(
        Transport::InProcess(always(batch_reply(12.5, 300.0))),
        PortalOptions {
            clock,
            observer: Some(Arc::new(move |record: &CallRecord| seen.lock().unwrap().push(record.clone()))),
            ..options("https://portal.example", PortalLimits::default())
        },
    );
    let permit = portal.permit(Work::Delete { leads: 1 }).await;
    portal.delete_batch(permit, &ids(&[1]), &[]).await.unwrap();
    portal.get(id(1)).await.unwrap_err();
    let records = records.lock().unwrap();
    let told: Vec<_> = records.iter().map(|record| (record.method, record.result)).collect();
    assert_eq!(told, [("batch", "ok"), ("crm.item.get", "ok")]);
    assert_eq!(records[0].nested, [("crm.lead.delete", 12.5)]);
}

#[test]
fn a_fault_in_a_batch_has_a_remedy() {
    let fault = Fault::new("INVALID_CREDENTIALS", "x");
    assert!(b24_janitor::portal::remedy(&fault).contains("B24_WEBHOOK_URL"));
}
