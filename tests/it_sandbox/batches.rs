//! Batches: shapes, order, references, leaks.

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
