//! URLs, bodies, credentials, and the methods around leads.

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
    assert_eq!(total("application/vnd.api+json", good).await, 1);
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
async fn an_applications_token_expires_and_is_renewed_once_per_refresh_token() {
    let app = OauthApp {
        client_id: "local.1".to_owned(),
        client_secret: "secret".to_owned(),
        refresh_token: "first".to_owned(),
    };
    let sandbox = portal(SandboxOptions { oauth: Some(app), ..SandboxOptions::raised() });
    let renew = async |secret: &str, refresh: &str| {
        let query = format!(
            "grant_type=refresh_token&client_id=local.1&client_secret={secret}&refresh_token={refresh}"
        );
        get(&sandbox, &format!("/oauth/token/?{query}")).await
    };
    let scope = async |token: &str| get(&sandbox, &format!("/rest/scope?auth={token}")).await;
    assert_eq!(renew("wrong", "first").await.1["error"], "invalid_client");
    let (status, tokens) = renew("secret", "first").await;
    assert_eq!((status, &tokens["expires_in"]), (200, &json!(3600)));
    let access = tokens["access_token"].as_str().unwrap();
    assert_eq!(scope(access).await.0, 200);
    let unknown = error(401, "invalid_token", "Unable to get application by token");
    assert_eq!(scope("nonsense").await, unknown);
    sleep(Duration::from_secs(3600)).await;
    let expired = error(401, "expired_token", "The access token provided has expired");
    assert_eq!(scope(access).await, expired);
    assert_eq!(renew("secret", "first").await.1["error"], "invalid_grant", "it was replaced");
    let (_, tokens) = renew("secret", tokens["refresh_token"].as_str().unwrap()).await;
    let path = "/rest/crm.lead.list?auth=nonsense";
    let bearer = format!("Bearer {}", tokens["access_token"].as_str().unwrap());
    let request = Request::get(path).header("authorization", bearer).body(Body::empty()).unwrap();
    assert_eq!(send(&sandbox, request).await.0, 200, "the header wins");
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

#[tokio::test]
async fn the_same_router_is_served_over_http_until_the_shutdown() {
    let sandbox = free();
    leads(&sandbox, 1);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = sandbox.webhook_url(listener.local_addr().unwrap());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn({
        let sandbox = sandbox.clone();
        async move { sandbox.serve(listener, async { stopped.await.unwrap() }).await }
    });
    let client = reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap();
    let get = async |method: &str| client.get(format!("{url}{method}")).send().await;
    assert_eq!(get("crm.lead.get?id=1").await.unwrap().status(), 200);
    sandbox.set_fault(Fault::new(FaultKind::Drop).nth(0, 1));
    let broken = get("crm.lead.delete?id=1").await;
    assert!(broken.is_err(), "not even a status line arrives: {broken:?}");
    assert_eq!(sandbox.lead_count(), 0);
    stop.send(()).unwrap();
    server.await.unwrap().unwrap();
    assert!(get("profile").await.is_err());
}
