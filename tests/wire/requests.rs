//! What is sent, and how a good reply is read.

use b24_janitor::core::outcome::{DeleteReply, Presence};
use b24_janitor::core::rule::DeleteMethod;
use b24_janitor::portal::{BatchRequest, Class, Sent, Work};
use serde_json::{Map, Value, json};
use wiremock::matchers::{body_json, header, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::{answering, id, ids, ok, portal_at, url};
use b24_janitor::core::lead::LeadId;

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
                "result": { "d3": done, "d12": done, "r0": { "items": [{ "id": 21 }] } },
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
        let reply = portal
            .delete_batch(permit, &BatchRequest::deleting(&ids(&[12, 3])).listing(&ids(&[21, 20])))
            .await
            .unwrap();
        assert_eq!(reply.replies, vec![(id(12), DeleteReply::Deleted), (id(3), DeleteReply::Deleted)]);
        assert_eq!(reply.lists.into_iter().next().unwrap().unwrap()[0].id, id(21));
        assert_eq!(reply.delete_seconds, vec![0.5, 0.25]);
        assert!(reply.sent_at.wall <= reply.finished_at.wall);

        let request = &server.received_requests().await.unwrap()[0];
        let sent: Value = request.body_json().unwrap();
        assert_eq!(
            sent,
            json!({ "halt": 0, "cmd": {
                "d3": d3,
                "d12": d12,
                "r0": "crm.item.list?entityTypeId=1&select%5B0%5D=%2A&select%5B1%5D=ufCrm_%2A\
                      &filter%5B%40id%5D%5B0%5D=20&filter%5B%40id%5D%5B1%5D=21&order%5Bid%5D=ASC&start=-1",
            } })
        );
        let text = String::from_utf8(request.body.clone()).unwrap();
        assert!(text.find("\"r0\":").unwrap() > text.rfind("\"d").unwrap(), "the list comes last: {text}");
        assert!(!text.contains("$result"));
    }
}

/// The sum grows by the requests of other lanes too: it can't tell how old a list is that ran behind the deletions.
#[tokio::test]
async fn the_growth_of_a_methods_sum_is_not_taken_for_the_time_of_a_deletion() {
    let server = answering(
        "batch",
        ok(json!({ "result": {
            "result": { "d3": true, "d12": true, "r0": { "items": [] } },
            "result_error": [],
            "result_time": { "d3": { "operating": 1.5 }, "d12": { "operating": 9.5 } },
        } })),
    )
    .await;
    let portal = portal_at(&server.uri(), DeleteMethod::Lead);
    let permit = portal.permit(Work::Delete { leads: 2 }).await;
    let request = BatchRequest::deleting(&ids(&[3, 12])).listing(&ids(&[21]));
    let reply = portal.delete_batch(permit, &request).await.unwrap();
    assert_eq!(reply.delete_seconds, Vec::<f64>::new());
}

#[tokio::test]
async fn a_batch_deletes_then_asks_then_lists_and_each_answer_finds_its_question() {
    let server = answering(
        "batch",
        ok(json!({ "result": {
            "result": {
                "d3": true,
                "g6": { "item": { "id": 6, "stageId": "JUNK" } },
                "r0": { "items": [{ "id": 21 }] },
                "r1": { "items": [] },
            },
            "result_error": { "g5": { "error": "NOT_FOUND", "error_description": "Element was not found" } },
        } })),
    )
    .await;
    let portal = portal_at(&server.uri(), DeleteMethod::Lead);
    let permit = portal.permit(Work::Delete { leads: 1 }).await;
    let request = BatchRequest::deleting(&ids(&[3]))
        .asking(&ids(&[6, 5, 7]))
        .listing(&ids(&[21]))
        .listing(&ids(&[]))
        .listing(&ids(&[22]));
    let reply = portal.delete_batch(permit, &request).await.unwrap();
    assert_eq!(reply.replies, vec![(id(3), DeleteReply::Deleted)]);
    let [(six, Ok(Presence::Present(lead))), (five, Ok(Presence::Gone)), (seven, Err(fault))] =
        reply.presence.as_slice()
    else {
        panic!("{:?}", reply.presence)
    };
    assert_eq!((*six, lead.id, *five, *seven), (id(6), id(6), id(5), id(7)));
    assert_eq!(fault.code, "<not executed>");
    let listed: Vec<usize> = reply.lists.iter().map(|list| list.as_ref().unwrap().len()).collect();
    assert_eq!(listed, [1, 0]);

    let text = String::from_utf8(server.received_requests().await.unwrap()[0].body.clone()).unwrap();
    assert!(text.rfind("\"d").unwrap() < text.find("\"g").unwrap(), "{text}");
    assert!(text.rfind("\"g").unwrap() < text.find("\"r0").unwrap(), "{text}");
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
        let error =
            portal.delete_batch(permit, &BatchRequest::deleting(&delete).listing(&read)).await.unwrap_err();
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
