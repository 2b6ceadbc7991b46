//! The sandbox against the facts about Bitrix24 that the rest of the program is built on.
//!
//! Each test states one documented fact; the page or source file it comes from is named in the module it exercises.
//! Requests go through the router in process, under paused time.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that can't go on has failed")]

use axum::body::Body;
use axum::http::{Request, StatusCode};
use b24_janitor::clock::Clock;
use b24_janitor::sandbox::{
    BatchCharge, Fault, FaultKind, Language, Lead, NotFoundStyle, Sandbox, SandboxOptions,
};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::time::{Duration, Instant, sleep};
use tower::ServiceExt;

const NOW: &str = "2026-11-25T00:00:00Z";

/// A reply: status and JSON, or the text where it is none.
type Reply = (u16, Value);

fn portal(options: SandboxOptions) -> Sandbox {
    Sandbox::new(options, Clock::starting_at(NOW.parse().unwrap()))
}

/// A portal without limits in the way.
fn free() -> Sandbox {
    portal(SandboxOptions::raised())
}

fn lead(sandbox: &Sandbox, fields: Value) -> u32 {
    let mut lead = Lead::new("lead", sandbox.now());
    for (name, value) in fields.as_object().unwrap() {
        assert!(lead.set(name, value), "{name}");
    }
    sandbox.insert(lead)
}

fn leads(sandbox: &Sandbox, count: u32) {
    for _ in 0..count {
        lead(sandbox, json!({}));
    }
}

async fn send(sandbox: &Sandbox, request: Request<Body>) -> Reply {
    let response = sandbox.router().oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

fn post(path: &str, content_type: &str, body: impl Into<Body>) -> Request<Body> {
    Request::post(path).header("content-type", content_type).body(body.into()).unwrap()
}

async fn call(sandbox: &Sandbox, method: &str, params: Value) -> Reply {
    let path = format!("{}{method}", sandbox.webhook_path());
    send(sandbox, post(&path, "application/json", params.to_string())).await
}

async fn get(sandbox: &Sandbox, path_and_query: &str) -> Reply {
    send(sandbox, Request::get(path_and_query).body(Body::empty()).unwrap()).await
}

fn error(status: u16, code: &str, text: &str) -> Reply {
    (status, json!({ "error": code, "error_description": text }))
}

/// The ids of a classic list.
async fn classic(sandbox: &Sandbox, filter: Value) -> Vec<u64> {
    let (status, body) =
        call(sandbox, "crm.lead.list", json!({ "filter": filter, "select": ["ID"], "start": -1 })).await;
    assert_eq!(status, 200, "{body}");
    let rows = body["result"].as_array().unwrap();
    rows.iter().map(|row| row["ID"].as_str().unwrap().parse().unwrap()).collect()
}

async fn item_list(sandbox: &Sandbox, filter: Value) -> Reply {
    call(sandbox, "crm.item.list", json!({ "entityTypeId": 1, "filter": filter, "start": -1 })).await
}

/// The ids of an item list.
async fn items(sandbox: &Sandbox, filter: Value) -> Vec<u64> {
    let (status, body) = item_list(sandbox, filter).await;
    assert_eq!(status, 200, "{body}");
    body["result"]["items"].as_array().unwrap().iter().map(|row| row["id"].as_u64().unwrap()).collect()
}

async fn batch(sandbox: &Sandbox, cmd: Value) -> Value {
    let (status, body) = call(sandbox, "batch", json!({ "halt": 0, "cmd": cmd })).await;
    assert_eq!(status, 200, "{body}");
    body["result"].clone()
}

mod delete {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn crm_lead_delete_answers_true_and_the_lead_is_gone_at_once() {
        let sandbox = free();
        leads(&sandbox, 2);
        let (status, body) = call(&sandbox, "crm.lead.delete", json!({ "id": "1" })).await;
        assert_eq!((status, &body["result"]), (200, &json!(true)));
        assert!(sandbox.lead(1).is_none() && sandbox.lead(2).is_some());
        let deletions = sandbox.stats().deletions;
        assert_eq!((deletions[0].id, deletions[0].by.as_str()), (1, "crm.lead.delete"));
    }

    #[tokio::test(start_paused = true)]
    async fn crm_lead_delete_casts_its_id_and_prefers_the_upper_case_one() {
        let sandbox = free();
        leads(&sandbox, 15);
        let invalid = error(400, "", "ID is not defined or invalid.");
        for params in [json!({}), json!({ "id": 0 }), json!({ "id": -3 }), json!({ "id": "abc" })] {
            assert_eq!(call(&sandbox, "crm.lead.delete", params).await, invalid);
        }
        assert_eq!(call(&sandbox, "crm.lead.delete", json!({ "id": "12abc" })).await.0, 200);
        assert_eq!(call(&sandbox, "crm.lead.delete", json!({ "id": 13, "ID": 14 })).await.0, 200);
        // (int) of a non-empty array.
        assert_eq!(call(&sandbox, "crm.lead.delete", json!({ "id": [7] })).await.0, 200);
        let gone: Vec<u32> = (1..=15).filter(|id| sandbox.lead(*id).is_none()).collect();
        assert_eq!(gone, [1, 12, 14]);
    }

    #[tokio::test(start_paused = true)]
    async fn crm_lead_delete_has_as_many_words_for_a_missing_lead_as_there_are_builds() {
        let cases = [
            (NotFoundStyle::Item, Language::English, "ERROR_CORE", "Item was not found."),
            (NotFoundStyle::Item, Language::Russian, "ERROR_CORE", "Элемент не найден"),
            (NotFoundStyle::Lead, Language::English, "ERROR_CORE", "Lead was not found."),
            (NotFoundStyle::Lead, Language::Russian, "ERROR_CORE", "Лид не найден"),
            (NotFoundStyle::Documented, Language::English, "", "Not found"),
        ];
        for (not_found, language, code, text) in cases {
            let sandbox = portal(SandboxOptions { not_found, language, ..SandboxOptions::raised() });
            assert_eq!(call(&sandbox, "crm.lead.delete", json!({ "id": 9 })).await, error(400, code, text));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_restricted_user_hears_access_denied_for_missing_and_foreign_leads_alike() {
        let sandbox = portal(SandboxOptions { restricted: true, user_id: 3, ..SandboxOptions::raised() });
        let own = lead(&sandbox, json!({ "assignedById": 3 }));
        let foreign = lead(&sandbox, json!({ "assignedById": 4 }));
        let denied = error(400, "", "Access denied.");
        assert_eq!(call(&sandbox, "crm.lead.delete", json!({ "id": 99 })).await, denied);
        assert_eq!(call(&sandbox, "crm.lead.delete", json!({ "id": foreign })).await, denied);
        assert_eq!(call(&sandbox, "crm.lead.get", json!({ "id": 99 })).await, denied);
        assert_eq!(call(&sandbox, "crm.lead.get", json!({ "id": foreign })).await, denied);
        assert_eq!(items(&sandbox, json!({})).await, [u64::from(own)]);
        let gone = call(&sandbox, "crm.item.get", json!({ "entityTypeId": 1, "id": 99 })).await;
        assert_eq!(gone.1["error"], "NOT_FOUND", "existence is checked before permission");
        assert_eq!(call(&sandbox, "crm.lead.delete", json!({ "id": own })).await.0, 200);
    }

    #[tokio::test(start_paused = true)]
    async fn vetoes_and_denials_are_per_lead() {
        let sandbox = free();
        leads(&sandbox, 4);
        sandbox.veto(1, "Payroll still needs this lead");
        sandbox.deny(2);
        sandbox.hide(3);
        let veto = error(400, "ERROR_CORE", "Payroll still needs this lead");
        let item = |id: u32| json!({ "entityTypeId": 1, "id": id });
        assert_eq!(call(&sandbox, "crm.lead.delete", json!({ "id": 1 })).await, veto);
        assert_eq!(call(&sandbox, "crm.item.delete", item(1)).await, veto);
        let denied = error(400, "", "Access denied.");
        assert_eq!(call(&sandbox, "crm.lead.delete", json!({ "id": 2 })).await, denied);
        assert_eq!(call(&sandbox, "crm.lead.delete", json!({ "id": 3 })).await, denied);
        let denied = error(400, "ACCESS_DENIED", "Access denied");
        assert_eq!(call(&sandbox, "crm.item.delete", item(2)).await, denied);
        assert_eq!(call(&sandbox, "crm.item.get", item(2)).await.0, 200, "it can still be read");
        let unreadable = error(400, "ACCESS_DENIED", "You don't have permission to view this item.");
        assert_eq!(call(&sandbox, "crm.item.get", item(3)).await, unreadable);
        assert_eq!(items(&sandbox, json!({})).await, [1, 2, 4], "lists hide it");
        assert_eq!(sandbox.lead_count(), 4);
        sandbox.permit(1);
        assert_eq!(call(&sandbox, "crm.item.delete", item(1)).await.0, 200);
    }

    #[tokio::test(start_paused = true)]
    async fn crm_item_delete_answers_an_empty_array_and_codes() {
        let sandbox = free();
        leads(&sandbox, 1);
        let delete = async |params: Value| call(&sandbox, "crm.item.delete", params).await;
        assert_eq!(delete(json!({ "entityTypeId": 1, "id": 1 })).await.1["result"], json!([]));
        let missing = error(400, "NOT_FOUND", "Item was not found.");
        assert_eq!(delete(json!({ "entityTypeId": 1, "id": 1 })).await, missing);
        let no_id = error(400, "100", "Could not find value for parameter {id}");
        assert_eq!(delete(json!({ "entityTypeId": 1 })).await, no_id);
        assert_eq!(delete(json!({ "entityTypeId": 1, "ID": 1 })).await, no_id, "names are case-sensitive");
        let text = "Invalid value {abc} to match with parameter {id}. Should be value of type int.";
        assert_eq!(delete(json!({ "entityTypeId": 1, "id": "abc" })).await, error(400, "100", text));
        let spa = error(400, "NOT_FOUND", "Smart Process Automation was not found");
        assert_eq!(delete(json!({ "entityTypeId": 777, "id": 1 })).await, spa);
        let (status, body) = delete(json!({ "entityTypeId": 5, "id": 1 })).await;
        assert_eq!((status, &body["error"]), (400, &json!("ENTITY_TYPE_NOT_SUPPORTED")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_missing_lead_is_not_found_in_two_dialects() {
        let sandbox = free();
        assert_eq!(call(&sandbox, "crm.lead.get", json!({ "id": 5 })).await, error(400, "", "Not found"));
        let item = call(&sandbox, "crm.item.get", json!({ "entityTypeId": 1, "id": 5 })).await;
        assert_eq!(item, error(400, "NOT_FOUND", "Item was not found."));
    }

    #[tokio::test(start_paused = true)]
    async fn ids_are_never_used_twice() {
        let sandbox = free();
        leads(&sandbox, 3);
        call(&sandbox, "crm.lead.delete", json!({ "id": 3 })).await;
        let added = call(&sandbox, "crm.lead.add", json!({ "fields": { "TITLE": "new" } })).await;
        assert_eq!(added.1["result"], 4);
    }
}

mod lists {
    use super::*;

    fn sample() -> Sandbox {
        let sandbox = free();
        lead(&sandbox, json!({ "stageId": "NEW", "title": "Alpha", "opportunity": 15000 }));
        lead(
            &sandbox,
            json!({ "stageId": "JUNK", "title": "beta", "dateClosed": "2026-01-01T00:00:00+00:00" }),
        );
        lead(&sandbox, json!({ "stageId": "7", "title": "TEST gamma", "sourceDescription": "fair" }));
        sandbox
    }

    #[tokio::test(start_paused = true)]
    async fn the_classic_list_drops_what_it_does_not_know() {
        let sandbox = sample();
        assert_eq!(classic(&sandbox, json!({ "STATUS_ID": "JUNK" })).await, [2]);
        for widening in [
            json!({ "STATUSID": "JUNK" }),
            json!({ "status_id": "JUNK" }),
            json!({ "stageId": "JUNK" }),
            json!({ "@STATUS_ID": [] }),
            json!({ "STATUS_ID": [] }),
            json!({ "><ID": [1, 2] }),
            json!({ "WEBFORM_ID": 5 }),
            json!({ ">ID": [[5]] }),
        ] {
            assert_eq!(classic(&sandbox, widening.clone()).await, [1, 2, 3], "{widening}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_unparsable_date_in_the_classic_list_means_is_null() {
        let sandbox = sample();
        for filter in [json!({ "<DATE_CLOSED": "90 days ago-ish" }), json!({ ">DATE_CLOSED": "" })] {
            assert_eq!(classic(&sandbox, filter).await, [1, 3]);
        }
        let lost_plus = json!({ "<DATE_CLOSED": "2026-06-01T00:00:00 00:00" });
        assert_eq!(classic(&sandbox, lost_plus).await, [1, 3]);
        assert_eq!(classic(&sandbox, json!({ "<DATE_CLOSED": "2026-06-01T00:00:00+00:00" })).await, [2]);
    }

    #[tokio::test(start_paused = true)]
    async fn classic_negations_let_nulls_through_and_not_like_is_like() {
        let sandbox = sample();
        assert_eq!(classic(&sandbox, json!({ "!SOURCE_DESCRIPTION": "fair" })).await, [1, 2]);
        assert_eq!(classic(&sandbox, json!({ "!STATUS_ID": ["NEW", "JUNK"] })).await, [3]);
        assert_eq!(
            classic(&sandbox, json!({ "!%TITLE": "test" })).await,
            [3],
            "not negated on a built-in text"
        );
        assert_eq!(classic(&sandbox, json!({ "%TITLE": "TEST" })).await, [3]);
        assert_eq!(classic(&sandbox, json!({ "=%TITLE": "al%" })).await, [1]);
        assert_eq!(classic(&sandbox, json!({ "%STATUS_ID": "JUN" })).await, [0u64; 0], "% is = on a status");
        assert_eq!(classic(&sandbox, json!({ "SOURCE_DESCRIPTION": "" })).await, [1, 2]);
        assert_eq!(classic(&sandbox, json!({ "STATUS_ID": ["NEW", "7"] })).await, [1, 3], "arrays are ORed");
        assert_eq!(classic(&sandbox, json!({ "TITLE": "ALPHA" })).await, [1], "no regard to case");
    }

    #[tokio::test(start_paused = true)]
    async fn classic_scalars_are_strings_and_arguments_must_be_arrays() {
        let sandbox = sample();
        let (_, body) = call(&sandbox, "crm.lead.get", json!({ "id": 1 })).await;
        let row = &body["result"];
        assert_eq!(row["ID"], "1");
        assert_eq!(row["OPPORTUNITY"], "15000.00");
        assert_eq!(row["OPENED"], "Y");
        assert_eq!(row["DATE_CLOSED"], "");
        assert_eq!(row["DATE_CREATE"], "2026-11-25T03:00:00+03:00");
        for name in ["filter", "order"] {
            let reply = call(&sandbox, "crm.lead.list", json!({ name: "x" })).await;
            assert_eq!(reply, error(400, "", &format!("Parameter '{name}' must be array.")));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn custom_and_multiple_fields_of_the_classic_list_are_named_explicitly() {
        let sandbox = free();
        lead(&sandbox, json!({ "ufCrm_1700000000": "x" }));
        let select = async |select: Value| {
            let (_, body) = call(&sandbox, "crm.lead.list", json!({ "select": select })).await;
            body["result"][0].as_object().unwrap().keys().cloned().collect::<Vec<_>>()
        };
        assert!(!select(json!([])).await.contains(&"UF_CRM_1700000000".to_owned()));
        assert!(!select(json!(["*"])).await.contains(&"UF_CRM_1700000000".to_owned()));
        assert!(select(json!(["*", "UF_*"])).await.contains(&"UF_CRM_1700000000".to_owned()));
        assert_eq!(select(json!(["TITLE"])).await, ["ID", "TITLE"]);
    }

    #[tokio::test(start_paused = true)]
    async fn pages_hold_fifty_and_an_offset_is_floored_to_a_page() {
        let sandbox = free();
        leads(&sandbox, 120);
        for (method, rows) in [("crm.lead.list", "/result"), ("crm.item.list", "/result/items")] {
            let page = async |start: i64| {
                call(&sandbox, method, json!({ "entityTypeId": 1, "start": start })).await.1
            };
            let id = |body: &Value, at: usize| {
                let row = &body.pointer(rows).unwrap()[at];
                row.get("ID").or(row.get("id")).unwrap().to_string().trim_matches('"').to_owned()
            };
            let first = page(0).await;
            assert_eq!((&first["next"], &first["total"]), (&json!(50), &json!(120)));
            assert_eq!(first.pointer(rows).unwrap().as_array().unwrap().len(), 50);
            let floored = page(99).await;
            assert_eq!((id(&floored, 0).as_str(), &floored["next"]), ("51", &json!(100)));
            let last = page(100).await;
            assert_eq!(last.pointer(rows).unwrap().as_array().unwrap().len(), 20);
            assert!(last.get("next").is_none());
            let uncounted = page(-1).await;
            assert!(uncounted.get("next").is_none());
            let total = (method == "crm.lead.list").then(|| json!(0));
            assert_eq!(uncounted.get("total").cloned(), total);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_keyset_loop_sees_every_lead_once_while_leads_are_deleted() {
        let sandbox = free();
        leads(&sandbox, 170);
        let (mut last, mut seen) = (0, Vec::<u64>::new());
        loop {
            let page = items(&sandbox, json!({ ">id": last })).await;
            for id in &page {
                call(&sandbox, "crm.item.delete", json!({ "entityTypeId": 1, "id": id })).await;
            }
            last = *page.last().unwrap_or(&0);
            seen.extend(&page);
            if page.len() < 50 {
                break;
            }
        }
        assert_eq!(seen, (1..=170).collect::<Vec<u64>>());
        assert_eq!(sandbox.lead_count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_item_list_refuses_unknown_fields_bad_values_and_bad_orders() {
        let sandbox = sample();
        let invalid = |text: &str| error(400, "INVALID_ARG_VALUE", text);
        for (filter, text) in [
            (json!({ "statusId2": "X" }), "Invalid filter: field 'STATUS_ID2' is not allowed in filter"),
            (json!({ "stageid": "X" }), "Invalid filter: field 'STAGEID' is not allowed in filter"),
            (json!([{ "foo": 1 }]), "Invalid filter: field 'FOO' is not allowed in filter"),
            (json!({ ">id": [1] }), "Invalid filter: field 'ID' has invalid value"),
            (json!({ "@id": [[1]] }), "Invalid filter: field 'ID' has invalid value"),
        ] {
            assert_eq!(item_list(&sandbox, filter).await, invalid(text));
        }
        let order = async |order: Value| {
            call(&sandbox, "crm.item.list", json!({ "entityTypeId": 1, "order": order })).await
        };
        let unknown = invalid("Invalid order: field 'FOO' is not allowed in order");
        assert_eq!(order(json!({ "foo": "ASC" })).await, unknown);
        let (status, body) = order(json!({ "id": "UP" })).await;
        assert_eq!((status, &body["error"]), (400, &json!("INVALID_ARG_VALUE")));
        let (_, body) = order(json!({ "ID": "desc" })).await;
        assert_eq!(body["result"]["items"][0]["id"], 3);
        let text = "Invalid value {x} to match with parameter {filter}. Should be value of type array.";
        assert_eq!(item_list(&sandbox, json!("x")).await, error(400, "100", text));
    }

    #[tokio::test(start_paused = true)]
    async fn the_item_list_filters_as_sql_would() {
        let sandbox = sample();
        for (filter, ids) in [
            (json!({ "stageId": "junk" }), vec![2]),
            (json!({ "@stageId": ["NEW", "7"] }), vec![1, 3]),
            (json!({ "!@stageId": ["NEW"] }), vec![2, 3]),
            (json!({ "@id": [3, 1, 99] }), vec![1, 3]),
            (json!({ "@id": [] }), vec![]),
            (json!({ ">id": 1, "<=id": 2 }), vec![2]),
            (json!({ "!=sourceDescription": "fair" }), vec![1, 2]),
            (json!({ "=sourceDescription": null }), vec![1, 2]),
            (json!({ "%title": "A" }), vec![1, 2, 3]),
            (json!({ "!%title": "test" }), vec![1, 2]),
            (json!({ "=%title": "a%" }), vec![1]),
            (json!({ ">opportunity": 0 }), vec![1]),
            (json!({ "<dateClosed": "garbage" }), vec![]),
            (json!({ "=dateClosed": "garbage" }), vec![1, 3]),
            (json!({ "!=dateClosed": "garbage" }), vec![2]),
            (json!([{ "logic": "OR", "0": { "id": 1 }, "1": { "stageId": "7" } }]), vec![1, 3]),
            (json!({ "logic": "OR", "0": { "id": 1 }, "1": { "stageId": "7" } }), vec![1, 3]),
            (json!({ "STAGE_ID": "7" }), vec![3]),
        ] {
            assert_eq!(items(&sandbox, filter.clone()).await, ids, "{filter}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn item_rows_have_numbers_nulls_and_contacts_only_with_everything() {
        let sandbox = free();
        let fields = json!({ "title": "x", "opportunity": 12.5, "ufCrm_1700000005": ["a", "b"],
            "fm": [{ "typeId": "PHONE", "valueType": "WORK", "value": "+1" }] });
        let (_, added) = call(&sandbox, "crm.item.add", json!({ "entityTypeId": 1, "fields": fields })).await;
        let item = &added["result"]["item"];
        assert_eq!(item["id"], 1);
        assert_eq!(item["opportunity"], 12.5);
        assert_eq!(item["dateClosed"], Value::Null);
        assert_eq!(item["ufCrm_1700000005"], json!(["a", "b"]));
        assert_eq!((&item["hasPhone"], &item["hasEmail"]), (&json!("Y"), &json!("N")));
        assert_eq!(item["fm"][0]["value"], "+1");
        let select = json!({ "entityTypeId": 1, "select": ["title", "ufCrm_1700000005", "nonsense"] });
        let (_, listed) = call(&sandbox, "crm.item.list", select).await;
        let keys: Vec<&String> = listed["result"]["items"][0].as_object().unwrap().keys().collect();
        assert_eq!(keys, ["id", "title", "ufCrm_1700000005"]);
        let original = json!({ "entityTypeId": 1, "id": 1, "useOriginalUfNames": "Y" });
        let (_, got) = call(&sandbox, "crm.item.get", original).await;
        assert_eq!(got["result"]["item"]["UF_CRM_1700000005"], json!(["a", "b"]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_date_without_an_offset_is_in_the_servers_zone() {
        let sandbox = free();
        lead(&sandbox, json!({ "createdTime": "2026-01-01T00:00:00+00:00" }));
        assert_eq!(items(&sandbox, json!({ "<=createdTime": "2026-01-01T03:00:00" })).await, [1]);
        assert_eq!(items(&sandbox, json!({ "<createdTime": "2026-01-01T03:00:00" })).await, [0u64; 0]);
        assert_eq!(items(&sandbox, json!({ "=createdTime": "2026-01-01T00:00:00Z" })).await, [1]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_boolean_custom_field_is_filtered_by_one_and_zero() {
        let sandbox = free();
        lead(&sandbox, json!({ "ufCrm_1700000003": true }));
        assert_eq!(items(&sandbox, json!({ "ufCrm_1700000003": 1 })).await, [1]);
        assert_eq!(items(&sandbox, json!({ "ufCrm_1700000003": "Y" })).await, [0u64; 0]);
    }
}

mod batches {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn empty_maps_are_arrays_and_list_like_keys_become_lists() {
        let sandbox = free();
        leads(&sandbox, 3);
        let empty = json!({ "result": [], "result_error": [], "result_total": [], "result_next": [],
            "result_time": [] });
        assert_eq!(batch(&sandbox, json!({})).await, empty);
        let listed = batch(&sandbox, json!(["crm.lead.delete?id=1", "crm.lead.delete?id=2"])).await;
        assert_eq!(listed["result"], json!([true, true]));
        let sparse = batch(&sandbox, json!({ "5": "crm.lead.delete?id=3", "x": 7, "y": ["no"] })).await;
        assert_eq!(sparse["result"], json!({ "5": true }), "what is no string is passed over");
        assert_eq!(sparse["result_error"], json!([]));
    }

    #[tokio::test(start_paused = true)]
    async fn failed_commands_are_absent_from_result_and_have_no_time() {
        let sandbox = free();
        leads(&sandbox, 1);
        let answer = batch(
            &sandbox,
            json!({ "a_good": "crm.item.delete?entityTypeId=1&id=1", "b_bad": "crm.item.delete?entityTypeId=1&id=1",
                "c_list": "crm.item.list?entityTypeId=1&filter[%3Eid]=0" }),
        )
        .await;
        assert_eq!(answer["result"]["a_good"], json!([]));
        assert!(answer["result"].get("b_bad").is_none() && answer["result_time"].get("b_bad").is_none());
        assert_eq!(answer["result_error"]["b_bad"]["error"], "NOT_FOUND");
        assert!(answer["result_time"]["a_good"]["operating"].is_number());
        assert_eq!(answer["result_total"], json!({ "c_list": 0 }));
        assert_eq!(sandbox.stats().requests, 1, "a batch is one request");
    }

    #[tokio::test(start_paused = true)]
    async fn fifty_run_and_the_rest_are_refused_one_by_one() {
        let sandbox = free();
        leads(&sandbox, 60);
        let cmd: serde_json::Map<String, Value> =
            (1..=52).map(|id| (format!("d{id}"), json!(format!("crm.lead.delete?id={id}")))).collect();
        // serde_json sorts keys, so which two are beyond is a matter of their order on the wire.
        let answer = batch(&sandbox, Value::Object(cmd)).await;
        assert_eq!(answer["result"].as_object().unwrap().len(), 50);
        let refused = answer["result_error"].as_object().unwrap();
        assert_eq!(refused.len(), 2);
        assert!(refused.values().all(|error| error["error"] == "ERROR_BATCH_LENGTH_EXCEEDED"));
        assert_eq!(sandbox.lead_count(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn commands_run_in_the_order_of_the_body() {
        let sandbox = free();
        leads(&sandbox, 3);
        let body =
            r#"{"cmd":{"z":"crm.lead.delete?id=3","a":"crm.lead.delete?id=1","m":"crm.lead.delete?id=2"}}"#;
        let path = format!("{}batch", sandbox.webhook_path());
        send(&sandbox, post(&path, "application/json", body)).await;
        let order: Vec<u32> = sandbox.stats().deletions.iter().map(|deletion| deletion.id).collect();
        assert_eq!(order, [3, 1, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn nested_batches_are_refused_and_halt_leaves_the_rest_undone() {
        let sandbox = free();
        leads(&sandbox, 1);
        let cmd = json!({ "a": "batch?cmd[x]=profile", "b": "crm.lead.delete?id=1" });
        let (_, body) = call(&sandbox, "batch", json!({ "halt": 1, "cmd": cmd })).await;
        assert_eq!(body["result"]["result_error"]["a"]["error"], "ERROR_BATCH_METHOD_NOT_ALLOWED");
        assert_eq!(body["result"]["result"], json!([]));
        assert!(body["result"]["result_error"].get("b").is_none());
        assert!(sandbox.lead(1).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_missing_lead_hides_the_errors_of_later_commands() {
        let sandbox =
            portal(SandboxOptions { delete_seconds: 1.0, method_seconds: 2.0, ..SandboxOptions::raised() });
        leads(&sandbox, 2);
        sandbox.deny(1);
        let answer = batch(
            &sandbox,
            json!({ "a_denied": "crm.lead.delete?id=1", "b_missing": "crm.lead.delete?id=99",
                "c_blocked": "crm.lead.delete?id=2", "d_scope": "user.current",
                "e_item": "crm.item.delete?entityTypeId=1&id=99" }),
        )
        .await;
        let stale = json!({ "error": "ERROR_CORE", "error_description": "Item was not found." });
        assert_eq!(answer["result_error"]["a_denied"]["error_description"], "Access denied.");
        assert_eq!(answer["result_error"]["b_missing"], stale);
        assert_eq!(answer["result_error"]["c_blocked"], stale, "really OPERATION_TIME_LIMIT");
        assert_eq!(answer["result_error"]["d_scope"]["error"], "insufficient_scope");
        assert_eq!(answer["result_error"]["e_item"]["error"], "ERROR_CORE", "never the other way round");
        assert!(sandbox.lead(2).is_some());
        let single = call(&sandbox, "crm.lead.delete", json!({ "id": 2 })).await;
        assert_eq!(single.1["error"], "OPERATION_TIME_LIMIT", "the next request knows nothing of it");
        sandbox.configure(|options| options.method_seconds = 1e9);
        let clean = batch(
            &sandbox,
            json!({ "a": "crm.item.delete?entityTypeId=1&id=99", "b": "crm.item.delete?entityTypeId=1" }),
        )
        .await;
        assert_eq!(clean["result_error"]["a"]["error"], "NOT_FOUND");
        assert_eq!(clean["result_error"]["b"]["error"], "100", "crm.item.delete leaves nothing behind");
    }

    #[tokio::test(start_paused = true)]
    async fn references_chain_pages_and_a_broken_one_deletes_lead_one() {
        let sandbox = free();
        leads(&sandbox, 60);
        let first = "crm.item.list?entityTypeId=1&order[id]=ASC&filter[%3Eid]=0&start=-1";
        let chained = |at: usize| {
            format!(
                "crm.item.list?entityTypeId=1&order[id]=ASC&start=-1&filter[%3Eid]=$result[p1][items][{at}][id]"
            )
        };
        let answer = batch(&sandbox, json!({ "p1": first, "p2": chained(49), "p3": chained(70) })).await;
        assert_eq!(answer["result"]["p2"]["items"].as_array().unwrap().len(), 10);
        assert_eq!(answer["result_error"]["p3"]["error"], "INVALID_ARG_VALUE", "an array under >id");
        let trap = json!({ "p1": "crm.lead.list?filter[%3EID]=40&select[]=ID&start=-1",
            "p2": "crm.lead.list?filter[%3EID]=$result[p1][49][ID]&select[]=ID&start=-1",
            "p3": "crm.lead.delete?id=$result[p1][49][ID]" });
        let answer = batch(&sandbox, trap).await;
        assert_eq!(answer["result"]["p1"].as_array().unwrap().len(), 20);
        assert_eq!(answer["result"]["p2"][0]["ID"], "1", "the condition is dropped: the first page again");
        assert_eq!(answer["result"]["p3"], true);
        assert!(sandbox.lead(1).is_none(), "(int) of a non-empty array is 1");
    }
}

mod limits {
    use super::*;

    async fn profile(sandbox: &Sandbox) -> Reply {
        call(sandbox, "profile", json!({})).await
    }

    #[tokio::test(start_paused = true)]
    async fn the_fifty_first_request_at_once_is_refused_and_two_a_second_drain() {
        let sandbox = portal(SandboxOptions::default());
        for _ in 0..50 {
            assert_eq!(profile(&sandbox).await.0, 200);
        }
        let refused = error(503, "QUERY_LIMIT_EXCEEDED", "Too many requests");
        assert_eq!(profile(&sandbox).await, refused);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(profile(&sandbox).await.0, 200);
        assert_eq!(profile(&sandbox).await.0, 200);
        assert_eq!(profile(&sandbox).await, refused);
        assert_eq!(sandbox.stats().refused_503, 2);
        assert_eq!(sandbox.stats().requests_by_method["profile"], 54);
    }

    fn slow(batch_charge: BatchCharge) -> Sandbox {
        let options = SandboxOptions {
            delete_seconds: 2.0,
            method_seconds: 6.0,
            window_seconds: 60,
            batch_charge,
            ..SandboxOptions::raised()
        };
        let sandbox = portal(options);
        leads(&sandbox, 30);
        sandbox
    }

    async fn delete(sandbox: &Sandbox, id: u32) -> Reply {
        call(sandbox, "crm.item.delete", json!({ "entityTypeId": 1, "id": id })).await
    }

    #[tokio::test(start_paused = true)]
    async fn the_call_that_crosses_the_operating_limit_finishes_and_the_next_is_refused() {
        let sandbox = slow(BatchCharge::Method);
        let (_, body) = delete(&sandbox, 1).await;
        assert_eq!(body["time"]["operating"], 2);
        let now = sandbox.now().as_second();
        assert_eq!(body["time"]["operating_reset_at"], now + 60, "the basket began this second");
        delete(&sandbox, 2).await;
        let (status, body) = delete(&sandbox, 3).await;
        assert_eq!((status, &body["time"]["operating"]), (200, &json!(6)));
        let blocked = error(429, "OPERATION_TIME_LIMIT", "Method is blocked due to operation time limit.");
        assert_eq!(delete(&sandbox, 4).await, blocked, "no time object in an error");
        assert_eq!(call(&sandbox, "crm.lead.delete", json!({ "id": 4 })).await.0, 200, "its own budget");
        assert_eq!(sandbox.stats().refused_429, 1);
        sleep(Duration::from_secs(59)).await;
        assert_eq!(delete(&sandbox, 5).await.0, 429);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(delete(&sandbox, 5).await.0, 200, "the basket has dropped");
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_is_charged_as_the_options_say_and_blocked_command_by_command() {
        for charge in [BatchCharge::Method, BatchCharge::MethodBatched, BatchCharge::Batch] {
            let sandbox = slow(charge);
            let cmd: serde_json::Map<String, Value> = (10..15)
                .map(|id| (format!("d{id}"), json!(format!("crm.item.delete?entityTypeId=1&id={id}"))))
                .collect();
            let (status, body) = call(&sandbox, "batch", json!({ "cmd": cmd })).await;
            assert_eq!(status, 200);
            let result = &body["result"];
            assert_eq!(result["result"].as_object().unwrap().len(), 3);
            assert_eq!(result["result_error"]["d14"]["error"], "OPERATION_TIME_LIMIT");
            assert_eq!(result["result_time"]["d12"]["operating"], 6);
            let shared = charge == BatchCharge::Method;
            assert_eq!(delete(&sandbox, 1).await.0, if shared { 429 } else { 200 }, "{charge:?}");
            assert_eq!(body["time"]["operating"], if charge == BatchCharge::Batch { 6 } else { 0 });
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_over_sixty_seconds_is_cut_and_what_was_done_stays_done() {
        let sandbox =
            portal(SandboxOptions { delete_seconds: 25.0, sleep_scale: 1.0, ..SandboxOptions::default() });
        leads(&sandbox, 5);
        let cmd: Vec<String> = (1..=5).map(|id| format!("crm.lead.delete?id={id}")).collect();
        let started = Instant::now();
        let (status, body) = call(&sandbox, "batch", json!({ "cmd": cmd })).await;
        assert_eq!(started.elapsed(), Duration::from_secs(60));
        assert_eq!(status, 504);
        assert!(body.as_str().unwrap().starts_with("<html>"));
        assert_eq!(sandbox.ids_where(|_| true), [4, 5]);
        assert_eq!(sandbox.stats().cut, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_hangs_up_does_not_stop_the_portal() {
        let sandbox =
            portal(SandboxOptions { delete_seconds: 5.0, sleep_scale: 1.0, ..SandboxOptions::default() });
        leads(&sandbox, 2);
        let cmd = json!(["crm.lead.delete?id=1", "crm.lead.delete?id=2"]);
        let request = call(&sandbox, "batch", json!({ "cmd": cmd }));
        assert!(tokio::time::timeout(Duration::from_secs(1), request).await.is_err());
        assert_eq!(sandbox.lead_count(), 2);
        sleep(Duration::from_secs(20)).await;
        assert_eq!(sandbox.lead_count(), 0);
        assert_eq!(sandbox.stats().in_flight, 0);
    }
}

mod requests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn every_form_of_url_and_parameters_reaches_the_method() {
        let sandbox = free();
        leads(&sandbox, 3);
        let path = sandbox.webhook_path();
        for (method, ids) in [
            ("crm.lead.list?filter%5B%3EID%5D=2&select[]=ID", "3"),
            ("CRM.Lead.List.json?filter[ID]=1", "1"),
            ("crm.lead.list/?filter[ID]=2", "2"),
        ] {
            let (status, body) = get(&sandbox, &format!("{path}{method}")).await;
            assert_eq!((status, &body["result"][0]["ID"]), (200, &json!(ids)));
        }
        let form = post(
            &format!("{path}crm.lead.list?filter[ID]=1"),
            "application/x-www-form-urlencoded",
            "filter%5BID%5D=3",
        );
        assert_eq!(send(&sandbox, form).await.1["result"][0]["ID"], "3", "POST replaces GET");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_can_not_be_decoded_counts_as_no_parameters() {
        let sandbox = free();
        leads(&sandbox, 3);
        let path = format!("{}crm.lead.list", sandbox.webhook_path());
        let good = r#"{"filter":{"ID":2}}"#;
        let total = async |content_type: &str, body: &'static str| {
            send(&sandbox, post(&path, content_type, body)).await.1["total"].clone()
        };
        assert_eq!(total("application/json; charset=utf-8", good).await, 1);
        assert_eq!(total("application/json", r#"{"filter":{"ID":2}"#).await, 3);
        assert_eq!(total("text/plain", good).await, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn credentials_methods_and_scopes_are_checked_as_documented() {
        let sandbox = free();
        let wrong = error(401, "INVALID_CREDENTIALS", "Invalid request credentials");
        assert_eq!(get(&sandbox, "/rest/1/wrong/profile").await, wrong);
        assert_eq!(get(&sandbox, "/rest/2/sandboxcode/profile").await, wrong);
        let missing = error(401, "NO_AUTH_FOUND", "Wrong authorization data");
        assert_eq!(get(&sandbox, "/rest/profile").await, missing);
        let unknown = error(404, "ERROR_METHOD_NOT_FOUND", "Method not found!");
        assert_eq!(call(&sandbox, "crm.lead.destroy", json!({})).await, unknown);
        assert_eq!(call(&sandbox, "scope", json!({})).await.1["result"], json!(["crm"]));
        let (status, body) = call(&sandbox, "user.current", json!({})).await;
        assert_eq!((status, &body["error"]), (401, &json!("insufficient_scope")));
        sandbox.configure(|options| options.scope = vec!["user".to_owned()]);
        assert_eq!(call(&sandbox, "user.current", json!({})).await.1["result"]["ID"], "1");
        assert_eq!(call(&sandbox, "crm.lead.list", json!({})).await.0, 401);
        assert_eq!(call(&sandbox, "server.time", json!({})).await.1["result"], "2026-11-25T03:00:00+03:00");
    }

    #[tokio::test(start_paused = true)]
    async fn fields_and_stages_describe_the_leads() {
        let sandbox = free();
        let (_, item) = call(&sandbox, "crm.item.fields", json!({ "entityTypeId": 1 })).await;
        assert_eq!(item["result"]["fields"]["createdTime"]["type"], "datetime");
        assert_eq!(item["result"]["fields"]["ufCrm_1700000002"]["type"], "enumeration");
        let (_, classic) = call(&sandbox, "crm.lead.fields", json!({})).await;
        assert_eq!(classic["result"]["STATUS_ID"]["statusType"], "STATUS");
        assert!(classic["result"].get("WEBFORM_ID").is_none());
        let params = json!({ "filter": { "ENTITY_ID": "STATUS" }, "order": { "SORT": "ASC" } });
        let (_, stages) = call(&sandbox, "crm.status.list", params).await;
        let semantics: Vec<(&str, Option<&str>)> = stages["result"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| (row["STATUS_ID"].as_str().unwrap(), row["SEMANTICS"].as_str()))
            .collect();
        assert!(semantics.contains(&("7", None)) && semantics.contains(&("JUNK", Some("F"))));
        assert!(semantics.contains(&("CONVERTED", Some("S"))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_of_stage_moves_the_lead_and_closes_it() {
        let sandbox = free();
        leads(&sandbox, 1);
        sleep(Duration::from_secs(3600)).await;
        let fields = json!({ "id": 1, "fields": { "STATUS_ID": "JUNK", "DATE_CREATE": "2020-01-01" } });
        assert_eq!(call(&sandbox, "crm.lead.update", fields).await.1["result"], true);
        let changed = sandbox.lead(1).unwrap();
        let (now, created) = (sandbox.now().as_second(), changed.created);
        assert_eq!((changed.moved, changed.closed, changed.updated), (now, Some(now), now));
        assert_eq!(created, now - 3600, "read-only fields are passed over");
        sandbox.colleague_update(1, |lead| lead.stage = "NEW".into());
        assert_eq!(sandbox.lead(1).unwrap().closed, None);
    }
}

mod events {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn every_change_sends_the_documented_form_and_own_deletes_echo() {
        let sandbox = free();
        let mut received = sandbox.events();
        let id = sandbox.add_lead(Lead::new("from a form", sandbox.now()));
        sandbox.colleague_update(id, |lead| lead.opportunity = 5.0);
        call(&sandbox, "crm.lead.delete", json!({ "id": id })).await;
        let body = received.try_recv().unwrap();
        assert_eq!(
            body,
            "event=ONCRMLEADADD&event_handler_id=975&data%5BFIELDS%5D%5BID%5D=1&ts=1795564800\
             &auth%5Bdomain%5D=127.0.0.1&auth%5Bclient_endpoint%5D=https%3A%2F%2F127.0.0.1%2Frest%2F\
             &auth%5Bserver_endpoint%5D=https%3A%2F%2Foauth.bitrix.info%2Frest%2F\
             &auth%5Bmember_id%5D=a223c6b3710f85df22e9377d6c4f7553\
             &auth%5Bapplication_token%5D=51856fefc120afa4b628cc82d3935cce"
        );
        assert!(received.try_recv().unwrap().starts_with("event=ONCRMLEADUPDATE&"));
        assert!(received.try_recv().unwrap().starts_with("event=ONCRMLEADDELETE&"));
        call(&sandbox, "crm.lead.delete", json!({ "id": id })).await;
        assert!(received.try_recv().is_err(), "a deletion that found nothing raises nothing");
        assert_eq!(sandbox.stats().events, 3);
    }

    #[tokio::test]
    async fn an_event_is_delivered_once_whatever_the_receiver_says() {
        let receiver = wiremock::MockServer::start().await;
        let answer = wiremock::ResponseTemplate::new(500);
        wiremock::Mock::given(wiremock::matchers::method("POST")).respond_with(answer).mount(&receiver).await;
        let events_url = Some(format!("{}/bitrix24/events", receiver.uri()));
        let sandbox = portal(SandboxOptions { events_url, ..SandboxOptions::raised() });
        sandbox.start_event_delivery();
        for _ in 0..3 {
            sandbox.add_lead(Lead::new("x", sandbox.now()));
        }
        while sandbox.stats().events_lost < 3 {
            tokio::task::yield_now().await;
        }
        let requests = receiver.received_requests().await.unwrap();
        let ids: Vec<bool> = requests
            .iter()
            .zip(1..)
            .map(|(request, id)| {
                assert_eq!(request.headers["content-type"], "application/x-www-form-urlencoded");
                String::from_utf8_lossy(&request.body).contains(&format!("data%5BFIELDS%5D%5BID%5D={id}&"))
            })
            .collect();
        assert_eq!(ids, [true, true, true]);
    }
}

mod faults {
    use super::*;

    fn sandbox_with(fault: Fault) -> Sandbox {
        let sandbox = free();
        leads(&sandbox, 5);
        sandbox.set_fault(fault);
        sandbox
    }

    async fn raw(sandbox: &Sandbox, id: u32) -> (StatusCode, Option<String>, Result<String, ()>) {
        let path = format!("{}crm.lead.delete?id={id}", sandbox.webhook_path());
        let request = Request::get(&path).body(Body::empty()).unwrap();
        let response = sandbox.router().oneshot(request).await.unwrap();
        let location = response.headers().get("location").map(|to| to.to_str().unwrap().to_owned());
        let status = response.status();
        let body = response.into_body().collect().await.map_err(|_| ());
        (status, location, body.map(|body| String::from_utf8(body.to_bytes().to_vec()).unwrap()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_breaks_before_or_after_the_work() {
        let sandbox = sandbox_with(Fault::new(FaultKind::Drop).on("crm.lead.delete").nth(1, 1));
        assert!(raw(&sandbox, 1).await.2.is_ok());
        assert!(raw(&sandbox, 2).await.2.is_err());
        assert!(sandbox.lead(2).is_none(), "the work was done");
        assert!(raw(&sandbox, 3).await.2.is_ok());
        sandbox.set_fault(Fault::new(FaultKind::Refuse));
        assert!(raw(&sandbox, 4).await.2.is_err());
        assert!(sandbox.lead(4).is_some(), "nothing was done");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_comes_late() {
        let sandbox = sandbox_with(Fault::new(FaultKind::Late { seconds: 61.0 }));
        let started = Instant::now();
        assert!(raw(&sandbox, 1).await.2.unwrap().contains("true"));
        assert_eq!(started.elapsed(), Duration::from_secs(61));
    }

    #[tokio::test(start_paused = true)]
    async fn pages_that_are_no_answer() {
        let sandbox = sandbox_with(Fault::new(FaultKind::Truncated));
        let body = raw(&sandbox, 1).await.2.unwrap();
        assert!(body.starts_with('{') && serde_json::from_str::<Value>(&body).is_err());
        assert!(sandbox.lead(1).is_none());
        for (kind, status, text) in [
            (FaultKind::Html { status: 200 }, 200, "<html>"),
            (FaultKind::Html { status: 502 }, 502, "<html>"),
            (FaultKind::Html { status: 503 }, 503, "<html>"),
            (FaultKind::Fatal, 500, "PHP Fatal"),
            (FaultKind::Empty, 200, ""),
            (
                FaultKind::ErrorInOk { code: "WRONG_ENCODING".into(), text: "x".into() },
                200,
                r#"{"error":"WRONG"#,
            ),
        ] {
            let sandbox = sandbox_with(Fault::new(kind.clone()));
            let (got, _, body) = raw(&sandbox, 2).await;
            assert_eq!(got.as_u16(), status);
            assert!(body.as_ref().unwrap().starts_with(text.trim_end()), "{body:?}");
            assert!(sandbox.lead(2).is_some());
            sandbox.clear_faults();
            sandbox.set_fault(Fault::new(kind).after_executing());
            raw(&sandbox, 2).await;
            assert!(sandbox.lead(2).is_none(), "executed when asked");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_renamed_portal_redirects() {
        let to = "https://new.bitrix24.example".to_owned();
        let sandbox = sandbox_with(Fault::new(FaultKind::Redirect { to }));
        let (status, location, _) = raw(&sandbox, 1).await;
        assert_eq!(status, StatusCode::FOUND);
        assert_eq!(location.unwrap(), "https://new.bitrix24.example/rest/1/sandboxcode/crm.lead.delete");
        assert!(sandbox.lead(1).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_method_answers_a_chosen_error_alone_and_in_a_batch() {
        let fault = Fault::error("crm.item.delete", "INTERNAL_SERVER_ERROR", "Internal server error", 500);
        let sandbox = sandbox_with(fault);
        let params = json!({ "entityTypeId": 1, "id": 1 });
        let reply = call(&sandbox, "crm.item.delete", params).await;
        assert_eq!(reply, error(500, "INTERNAL_SERVER_ERROR", "Internal server error"));
        let cmd = json!({ "a": "crm.item.delete?entityTypeId=1&id=1", "b": "crm.lead.delete?id=2" });
        let answer = batch(&sandbox, cmd.clone()).await;
        assert_eq!(answer["result_error"]["a"]["error"], "INTERNAL_SERVER_ERROR");
        assert_eq!(answer["result"]["b"], true);
        sandbox.clear_faults();
        sandbox.set_fault(Fault::error(
            "batch",
            "OVERLOAD_LIMIT",
            "REST API is blocked due to overload.",
            401,
        ));
        let (status, body) = call(&sandbox, "batch", json!({ "cmd": cmd })).await;
        assert_eq!((status, &body["error"]), (401, &json!("OVERLOAD_LIMIT")));
        assert!(sandbox.lead(1).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn keys_go_missing_from_a_batch() {
        let cmd = json!({ "a": "crm.lead.delete?id=1", "b": "crm.lead.delete?id=2" });
        for executed in [false, true] {
            let mut fault = Fault::new(FaultKind::MissingKeys { count: 1 });
            fault.executed = executed;
            let sandbox = sandbox_with(fault);
            let answer = batch(&sandbox, cmd.clone()).await;
            assert_eq!(answer["result"], json!({ "a": true }));
            assert_eq!(answer["result_error"], json!([]));
            assert_eq!(sandbox.lead(2).is_none(), executed);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_filter_is_ignored() {
        let sandbox = sandbox_with(Fault::new(FaultKind::FilterIgnored).on("crm.item.list"));
        assert_eq!(items(&sandbox, json!({ "id": 2 })).await, [1, 2, 3, 4, 5]);
        assert_eq!(classic(&sandbox, json!({ "ID": 2 })).await, [2]);
        assert_eq!(item_list(&sandbox, json!({ "foo": 2 })).await.0, 400, "it is still checked");
    }
}

mod control {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_independent_query_agrees_with_the_rest_methods() {
        let sandbox = portal(SandboxOptions { leads: 300, seed: 7, ..SandboxOptions::raised() });
        let (_, body) = get(&sandbox, "/sandbox/leads?stage=JUNK&created_before=2026-06-01T00:00:00Z").await;
        let mut listed = Vec::<u64>::new();
        loop {
            let last = listed.last().copied().unwrap_or(0);
            let filter = json!({ "stageId": "JUNK", "<createdTime": "2026-06-01T00:00:00Z", ">id": last });
            let page = items(&sandbox, filter).await;
            listed.extend(&page);
            if page.len() < 50 {
                break;
            }
        }
        assert!(!listed.is_empty());
        assert_eq!(body["ids"], json!(listed));
        assert_eq!(body["count"], json!(listed.len()));
    }

    #[tokio::test(start_paused = true)]
    async fn colleagues_and_faults_work_over_http() {
        let sandbox = free();
        leads(&sandbox, 2);
        let deed = async |path: &str, body: Value| {
            send(&sandbox, post(&format!("/sandbox/{path}"), "application/json", body.to_string())).await
        };
        let update = json!({ "action": "update", "id": 1, "fields": { "stageId": "JUNK" } });
        assert_eq!(deed("colleague", update).await.0, 200);
        assert_eq!(&*sandbox.lead(1).unwrap().stage, "JUNK");
        assert_eq!(deed("colleague", json!({ "action": "delete", "id": 9 })).await.0, 404);
        assert_eq!(deed("colleague", json!({ "action": "delete", "id": 2 })).await.0, 200);
        let added = deed("colleague", json!({ "action": "add", "fields": { "title": "t" } })).await;
        assert_eq!(added.1["id"], 3);
        let unknown = json!({ "action": "update", "id": 1, "fields": { "stage": "X" } });
        assert_eq!(deed("colleague", unknown).await.0, 400);
        let fault = json!({ "kind": { "html": { "status": 502 } }, "times": 1 });
        assert_eq!(deed("faults", fault).await.0, 200);
        assert_eq!(call(&sandbox, "profile", json!({})).await.0, 502);
        assert_eq!(call(&sandbox, "profile", json!({})).await.0, 200);
        let (_, stats) = get(&sandbox, "/sandbox/stats").await;
        assert_eq!((&stats["requests"], &stats["deletions"][0]["by"]), (&json!(2), &json!("colleague")));
    }

    #[test]
    fn the_sandbox_is_an_independent_witness() {
        let mut folders = vec![std::path::PathBuf::from("src/sandbox")];
        let mut read = 0;
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let text = std::fs::read_to_string(&path).unwrap();
                for line in text.lines().filter(|line| line.trim_start().starts_with("use crate::")) {
                    let allowed = ["use crate::sandbox::", "use crate::clock::"];
                    assert!(allowed.iter().any(|start| line.starts_with(start)), "{path:?}: {line}");
                }
                read += 1;
            }
        }
        assert!(read > 15);
    }
}
