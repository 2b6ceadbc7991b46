//! The two webhooks as a person creates them in Bitrix24, and the wait for the first event that proves the second.
//!
//! The names of the menus are those of <https://apidocs.bitrix24.com/local-integrations/local-webhooks.html>. The event
//! that proves the way is answered 503: no service runs yet that could keep it, and only what is stored is answered 200.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Notify;
use url::Url;

use super::super::failure::Failure;
use super::super::print::Out;
use crate::http::events::{Intake, Received, ReceivedEvent, SinkError};
use crate::http::{self, listen};
use crate::metrics::Metrics;
use crate::settings::Settings;

/// The path that the event listener answers to.
const PATH: &str = "/bitrix24/events";
/// How long the answer to the event may take to leave.
const GRACE: Duration = Duration::from_secs(5);

/// How to make the incoming webhook.
pub(super) fn tell_incoming_steps(out: Out) -> Result<(), Failure> {
    for line in [
        "In Bitrix24, as the user that is to delete (it must be allowed to read and delete all leads):",
        "  1. Applications → Developer resources → Common use cases → Other → Inbound webhook",
        "  2. Assign permissions: CRM (crm), and no other; then Create",
        "  3. copy the webhook's address, https://HOST/rest/USER/CODE/; it is a secret",
    ] {
        out.say(line)?;
    }
    Ok(())
}

/// How to make the outgoing webhook.
pub(super) fn tell_steps(out: Out, url: Option<&str>) -> Result<(), Failure> {
    let paste = url.unwrap_or("https://YOUR-HOST/bitrix24/events");
    out.say("So that the portal reports new and changed leads, in Bitrix24:")?;
    for line in [
        "  1. Applications → Developer resources → Common use cases → Other → Outbound webhook".to_owned(),
        format!("  2. handler URL: {paste}"),
        "  3. events: lead created, updated and deleted (ONCRMLEADADD, ONCRMLEADUPDATE, ONCRMLEADDELETE)"
            .to_owned(),
        "  4. Create; the form then shows a token, which becomes B24_APPLICATION_TOKEN".to_owned(),
    ] {
        out.say(line)?;
    }
    if url.is_none() {
        out.say("  Without it rules run by their schedules alone; it can be made at any time.")?;
    }
    Ok(())
}

/// The listener's whole address at the host that was named.
pub(super) fn whole_url(text: &str) -> Result<String, Failure> {
    let wrong = |what: &str| Failure::usage(format!("--events-url = {text:?}: {what}; write https://HOST"));
    let mut url = Url::parse(text).map_err(|_| wrong("it is not a web address"))?;
    if !matches!(url.scheme(), "https" | "http") || url.host_str().is_none() {
        return Err(wrong("it does not begin with https://"));
    }
    if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() {
        return Err(wrong("there is a `?`, a `#` or a user name in it"));
    }
    match url.path() {
        "/" => url.set_path(PATH),
        PATH => {}
        // A proxy may hang the service under a path of its own.
        path if path.ends_with(PATH) => {}
        _ => return Err(wrong("its path is another than /bitrix24/events")),
    }
    Ok(url.to_string())
}

/// What came while we waited.
pub(super) struct Proof {
    /// The first lead event with the right token.
    pub(super) event: Option<Value>,
    /// How many requests came with another token.
    strangers: u64,
}

impl Proof {
    /// Why there is no event, as far as it can be known.
    pub(super) fn why_not(&self, seconds: u64) -> String {
        let what = match self.strangers {
            0 => {
                "nothing reached this listener: is the handler URL right, and does the proxy before it lead here?"
            }
            _ => {
                "requests came, but with another token: B24_APPLICATION_TOKEN must be the one that the form of this \
                 outgoing webhook shows"
            }
        };
        format!(
            "no event of the portal arrived within {seconds} s; {what} The files are written; --no-wait skips this"
        )
    }
}

/// Listens as the service would, until the first event of a lead or the end of the time.
pub(super) async fn wait(settings: &Settings, seconds: u64, out: Out) -> Result<Proof, Failure> {
    let listener = listen::bind(&settings.listen.to_string()).await.map_err(|error| {
        Failure::of(format!(
            "{error}; if the service runs already, `b24-janitor status` counts its events; --no-wait skips the wait"
        ))
    })?;
    let address = listener.local_addr()?;
    out.say(format!(
        "waiting on {address} for the portal's first event, {seconds} s at most: change a lead"
    ))?;
    let first: Arc<Mutex<Option<ReceivedEvent>>> = Arc::default();
    let arrived = Arc::new(Notify::new());
    let metrics = Metrics::new();
    let (for_sink, tell) = (Arc::clone(&first), Arc::clone(&arrived));
    let intake = Intake {
        tokens: settings.application_tokens.clone(),
        sink: Arc::new(move |received| {
            let came = match received {
                Received::Lead(event) => {
                    for_sink.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(event);
                    tell.notify_one();
                    Err(SinkError("no service runs yet".to_owned()))
                }
                Received::Other(_) => Ok(()),
            };
            Box::pin(std::future::ready(came))
        }),
        on_refused: Arc::new(|_| {}),
        metrics: metrics.clone(),
    };
    let until = async {
        tokio::select! {
            () = arrived.notified() => {}
            () = tokio::time::sleep(Duration::from_secs(seconds)) => {}
        }
    };
    listen::serve(listener, http::public(Some(intake)), until, GRACE).await;
    let event = first.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(event) = &event {
        out.say(format!("it works: the portal reported {} of lead {}", event.event.as_str(), event.lead_id))?;
        out.say("(that event is not kept, since no service runs yet; the schedules find its lead)")?;
    }
    let event = event.map(|event| json!({ "event": event.event.as_str(), "lead_id": event.lead_id }));
    Ok(Proof { event, strangers: metrics.events_forbidden() })
}
