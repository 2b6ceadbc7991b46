//! Deleting and getting: each row of the tables of answers.

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
