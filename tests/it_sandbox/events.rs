//! The outgoing webhook.

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
