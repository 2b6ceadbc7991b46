//! The two list methods: the classic one's traps, the item one's refusals.

use super::*;

fn sample() -> Sandbox {
    let sandbox = free();
    lead(&sandbox, json!({ "stageId": "NEW", "title": "Alpha", "opportunity": 15000 }));
    lead(&sandbox, json!({ "stageId": "JUNK", "title": "beta", "dateClosed": "2026-01-01T00:00:00+00:00" }));
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
    assert_eq!(classic(&sandbox, json!({ "!%TITLE": "test" })).await, [3], "not negated on a built-in text");
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
        let page =
            async |start: i64| call(&sandbox, method, json!({ "entityTypeId": 1, "start": start })).await.1;
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
async fn rows_are_ordered_by_any_field_with_nulls_first() {
    let sandbox = free();
    for (title, closed) in [("b", json!(null)), ("a", json!("2026-01-02T00:00:00Z")), ("B", json!(null))] {
        lead(&sandbox, json!({ "title": title, "dateClosed": closed }));
    }
    let both = async |item: Value, classic: Value| {
        let params = json!({ "entityTypeId": 1, "order": item });
        let (_, items) = call(&sandbox, "crm.item.list", params).await;
        let (_, rows) = call(&sandbox, "crm.lead.list", json!({ "order": classic })).await;
        let ids = |rows: &Value, name: &str| -> Vec<String> {
            let rows = rows.as_array().unwrap();
            rows.iter().map(|row| row[name].to_string().replace('"', "")).collect()
        };
        let items = ids(&items["result"]["items"], "id");
        assert_eq!(items, ids(&rows["result"], "ID"));
        items.concat()
    };
    assert_eq!(both(json!({ "id": "DESC" }), json!({ "ID": "DESC" })).await, "321");
    assert_eq!(both(json!({ "title": "ASC" }), json!({ "TITLE": "ASC" })).await, "213");
    assert_eq!(both(json!({ "title": "DESC" }), json!({ "TITLE": "DESC" })).await, "132");
    assert_eq!(both(json!({ "dateClosed": "ASC" }), json!({ "DATE_CLOSED": "ASC" })).await, "132");
    assert_eq!(both(json!({ "dateClosed": "DESC" }), json!({ "DATE_CLOSED": "DESC" })).await, "213");
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
async fn text_compares_without_regard_to_case_accents_and_trailing_spaces() {
    let sandbox = free();
    for title in ["Élan", "Ёлка ", "other"] {
        lead(&sandbox, json!({ "title": title }));
    }
    for (text, id) in [("elan", 1), ("ÉLAN", 1), ("елка", 2)] {
        assert_eq!(items(&sandbox, json!({ "title": text })).await, [id]);
        assert_eq!(classic(&sandbox, json!({ "TITLE": text })).await, [id]);
    }
    assert_eq!(items(&sandbox, json!({ "%title": "LAN" })).await, [1]);
}

#[tokio::test(start_paused = true)]
async fn a_boolean_custom_field_is_filtered_by_one_and_zero() {
    let sandbox = free();
    lead(&sandbox, json!({ "ufCrm_1700000003": true }));
    assert_eq!(items(&sandbox, json!({ "ufCrm_1700000003": 1 })).await, [1]);
    assert_eq!(items(&sandbox, json!({ "ufCrm_1700000003": "Y" })).await, [0u64; 0]);
}
