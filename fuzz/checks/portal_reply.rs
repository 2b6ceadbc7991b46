//! A reply of the portal, or of the authorisation server, to every call that we make: no bytes make it panic; a deletion
//! is believed only from a whole JSON object under a status of success; nobody's words carry our secrets on.
//!
//! Input: a byte for the call, one for the status, one for the content type, and the body, in which `$` stands for a
//! secret that the server knows from the request and repeats.

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use b24_janitor::clock::Clock;
use b24_janitor::core::lead::LeadId;
use b24_janitor::core::outcome::{DeleteReply, Fault, Presence};
use b24_janitor::core::rule::{DeleteMethod, PortalLimits};
use b24_janitor::portal::{
    Access, BatchRequest, OAuthOptions, Portal, PortalOptions, Transport, Vault, Work,
};
use secrecy::SecretString;
use serde_json::{Map, Value};
use std::sync::Arc;
use tokio::runtime::Builder;

/// The webhook's code, the application's key and its refresh token alike.
const SECRET: &str = "s3cr3tc0de9xyz";

const STATUSES: [u16; 12] = [200, 201, 204, 302, 400, 401, 403, 404, 429, 500, 502, 503];

const TYPES: [&str; 4] =
    ["application/json; charset=utf-8", "text/html", "", "text/json; note=s3cr3tc0de9xyz"];

/// Sends one reply to one call.
pub(crate) fn check(data: &[u8]) {
    let [call, status, kind, body @ ..] = data else { return };
    let status = STATUSES[usize::from(*status) % STATUSES.len()];
    let kind = TYPES[usize::from(*kind) % TYPES.len()];
    let mut sent = Vec::with_capacity(body.len());
    for byte in body {
        match byte {
            b'$' => sent.extend_from_slice(SECRET.as_bytes()),
            other => sent.push(*other),
        }
    }
    let believable = is_success(status, &sent);
    // Paused time: where the reply asks for a long wait, it passes at once.
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(ask(*call, status, kind, sent, believable));
}

/// Whether a reply may be taken for success: a JSON object with a result, no error, under 2xx.
fn is_success(status: u16, body: &[u8]) -> bool {
    match serde_json::from_slice(body) {
        Ok(Value::Object(body)) => {
            (200..300).contains(&status)
                && body.contains_key("result")
                && body.get("error").is_none_or(Value::is_null)
        }
        Ok(_) | Err(_) => false,
    }
}

async fn ask(call: u8, status: u16, kind: &'static str, body: Vec<u8>, believable: bool) {
    let item = call & 0x80 != 0;
    let application = call & 0x40 != 0;
    let portal = portal(status, kind, body, item, application);
    let (one, two) = (id(7), id(8));
    match call & 0x0f {
        0 | 1 => {
            let permit = portal.permit(Work::Delete { leads: 1 }).await;
            match portal.delete_one(permit, one).await {
                Ok(reply) => judge(&reply, believable),
                Err(error) => quiet(&error),
            }
        }
        2..=5 => {
            let permit = portal.permit(Work::Delete { leads: 2 }).await;
            match portal
                .delete_batch(permit, &BatchRequest::deleting(&[one, two]).asking(&[id(6)]).listing(&[id(9)]))
                .await
            {
                Ok(reply) => {
                    assert!(believable, "a batch believed");
                    assert_eq!(reply.replies.len(), 2);
                    reply.replies.iter().for_each(|(_, reply)| judge(reply, believable));
                    for list in &reply.lists {
                        match list {
                            Ok(leads) => assert!(leads.iter().all(|lead| lead.id == id(9))),
                            Err(fault) => quiet(fault),
                        }
                    }
                    for (lead, presence) in &reply.presence {
                        match presence {
                            Ok(Presence::Present(found)) => assert!(found.id == *lead && *lead == id(6)),
                            Ok(Presence::Gone) => {}
                            Err(fault) | Ok(Presence::Unreadable(fault)) => quiet(fault),
                        }
                    }
                }
                Err(error) => {
                    judge(&error.as_reply(), false);
                    quiet(&error);
                }
            }
        }
        6 => match portal.get(one).await {
            Ok(Presence::Present(lead)) => assert!(believable && lead.id == one),
            Ok(Presence::Gone) => assert!(!believable, "gone by a success"),
            Ok(Presence::Unreadable(fault)) => quiet(&fault),
            Err(error) => quiet(&error),
        },
        7 | 8 => match portal.presence(&[one, two]).await {
            Ok(found) => {
                assert!(believable && found.len() == 2);
                for (_, presence) in found {
                    if let Err(fault) | Ok(Presence::Unreadable(fault)) = presence {
                        quiet(&fault);
                    }
                }
            }
            Err(error) => quiet(&error),
        },
        9 => match portal.list(&Map::new(), Some(one), &[]).await {
            Ok(page) => {
                let ids: Vec<LeadId> = page.leads.iter().map(|lead| lead.id).collect();
                assert!(believable && ids.len() <= 50 && ids.is_sorted_by(|a, b| a < b));
                assert!(ids.iter().all(|id| *id > one), "the keyset was not honoured");
            }
            Err(error) => quiet(&error),
        },
        10 | 11 => match portal.list_chain(&Map::new(), None, &[], 4).await {
            Ok(page) => {
                let ids: Vec<LeadId> = page.leads.iter().map(|lead| lead.id).collect();
                assert!(believable && ids.is_sorted_by(|a, b| a < b));
            }
            Err(error) => quiet(&error),
        },
        12 => match portal.leads_by_ids(&[one, two]).await {
            Ok(leads) => assert!(believable && leads.len() <= 2),
            Err(error) => quiet(&error),
        },
        13 => {
            portal.lead_fields().await.err().iter().for_each(quiet);
            portal.scopes().await.err().iter().for_each(quiet);
        }
        14 => portal.stages().await.err().iter().for_each(quiet),
        _ => portal.count().await.err().iter().for_each(quiet),
    }
}

fn judge(reply: &DeleteReply, believable: bool) {
    match reply {
        DeleteReply::Deleted => assert!(believable, "a deletion believed"),
        DeleteReply::NotFound => {}
        DeleteReply::Unsure(fault)
        | DeleteReply::Refused(fault)
        | DeleteReply::MethodPaused(fault)
        | DeleteReply::Busy(fault)
        | DeleteReply::NotExecuted(fault)
        | DeleteReply::Stopped(fault)
        | DeleteReply::Unknown(fault) => quiet(fault),
    }
}

/// Neither what people read nor what developers read of an error holds the secret.
fn quiet<E: std::fmt::Display + std::fmt::Debug>(error: &E) {
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains(SECRET), "a secret is shown: {shown}");
    assert!(shown.chars().count() < 8 * Fault::MAX_TEXT, "an error of {} characters", shown.len());
}

fn id(number: i64) -> LeadId {
    LeadId::try_from(number).expect("an id")
}

fn portal(status: u16, kind: &'static str, body: Vec<u8>, item: bool, application: bool) -> Portal {
    let router = Router::new().fallback(move || {
        let body = body.clone();
        async move {
            let answer = Response::builder().status(status);
            let answer = if kind.is_empty() { answer } else { answer.header("content-type", kind) };
            answer.body(Body::from(body)).expect("an answer")
        }
    });
    let access = if application {
        Access::OAuth(OAuthOptions {
            portal_url: "https://example.bitrix24.com".to_owned(),
            client_id: "local.1".to_owned(),
            client_secret: SecretString::from(SECRET),
            refresh_token: SecretString::from(SECRET),
            server: "https://oauth.example.com".to_owned(),
            vault: Vault {
                load: Arc::new(|| Box::pin(async { Ok(None) })),
                keep: Arc::new(|_| Box::pin(async { Ok(()) })),
            },
        })
    } else {
        Access::Webhook(SecretString::from(format!("https://example.bitrix24.com/rest/1/{SECRET}/")))
    };
    let delete_method = if item { DeleteMethod::Item } else { DeleteMethod::Lead };
    let options = PortalOptions {
        access,
        limits: PortalLimits { delete_method, ..PortalLimits::default() },
        clock: Clock::starting_at("2026-11-25T12:00:00Z".parse().expect("a time")),
        observer: None,
        pace: None,
    };
    Portal::new(Transport::InProcess(router), options)
}
