//! What every answer to a deletion is taken for: one case a row.

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use axum::routing::post;
use b24_janitor::core::outcome::{DeleteReply, Fault};
use b24_janitor::core::rule::DeleteMethod;
use b24_janitor::portal::{BatchRequest, Class, Work};
use proptest::prelude::*;
use serde_json::{Value, json};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::{CODE, answering, html, id, ids, in_process, kind, limits, ok, portal_at, url, verdict};

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
        let error = portal.delete_batch(permit, &BatchRequest::deleting(&ids(&[7]))).await.unwrap_err();
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
            let reply = portal.delete_batch(permit, &BatchRequest::deleting(&ids(&[7]))).await.unwrap();
            assert_eq!(kind(&reply.replies[0].1), *expected, "{code} {text}, {}", delete_method.as_str());
            assert!(reply.lists.is_empty());
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
            json!({ "result": { "d1": [], "r0": {} }, "result_error": [] }),
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
        match (portal.delete_batch(permit, &BatchRequest::deleting(&ids(&[1, 2]))).await, expected) {
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
        (json!({ "d1": [], "r0": { "items": [{ "id": 5 }] } }), json!([]), Ok(1)),
        (json!({ "d1": [], "r0": { "items": [] } }), json!([]), Ok(0)),
        (json!({ "d1": [], "r0": { "items": [{ "id": 6 }] } }), json!([]), Err("<malformed>")),
        (json!({ "d1": [], "r0": [] }), json!([]), Err("<malformed>")),
        (json!({ "d1": [] }), json!([]), Err("<not executed>")),
        (
            json!({ "d1": [] }),
            json!({ "r0": { "error": "OPERATION_TIME_LIMIT", "error_description": "x" } }),
            Err("OPERATION_TIME_LIMIT"),
        ),
    ];
    for (result, errors, expected) in cases {
        let body = json!({ "result": { "result": result, "result_error": errors } });
        let server = answering("batch", ok(body)).await;
        let portal = portal_at(&server.uri(), DeleteMethod::Item);
        let permit = portal.permit(Work::Delete { leads: 1 }).await;
        let reply = portal
            .delete_batch(permit, &BatchRequest::deleting(&ids(&[1])).listing(&ids(&[5])))
            .await
            .unwrap();
        assert_eq!(reply.replies, vec![(id(1), DeleteReply::Deleted)]);
        match (reply.lists.into_iter().next().unwrap(), expected) {
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
        Just("r0"),
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
            portal.delete_batch(permit, &BatchRequest::deleting(&ids(&[1, 2])).listing(&ids(&[3]))).await
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

#[test]
fn a_fault_in_a_batch_has_a_remedy() {
    let fault = Fault::new("INVALID_CREDENTIALS", "x");
    assert!(b24_janitor::portal::remedy(&fault).contains("B24_WEBHOOK_URL"));
}

#[tokio::test]
async fn a_webhooks_code_that_the_portal_repeats_is_shown_by_no_error() {
    let halves = format!("{}\u{1}{}", &CODE[..5], &CODE[5..]);
    let replies = [
        ResponseTemplate::new(200).set_body_json(json!({ "result": CODE })),
        ResponseTemplate::new(200).set_body_json(json!({ "result": { "x".repeat(75): CODE } })),
        ResponseTemplate::new(400).set_body_json(json!({ "error": CODE, "error_description": "x" })),
        ResponseTemplate::new(400).set_body_json(json!({ "error": "x", "error_description": halves })),
        ResponseTemplate::new(200).set_body_raw("x", &format!("text/html; for={CODE}")),
    ];
    for reply in replies {
        let server = answering("crm.lead.delete", reply).await;
        let portal = portal_at(&server.uri(), DeleteMethod::Lead);
        let permit = portal.permit(Work::Delete { leads: 1 }).await;
        let answer = format!("{:?}", portal.delete_one(permit, id(7)).await);
        assert!(answer.contains("***") && !answer.contains(&CODE[..6]), "{answer}");
    }
}
