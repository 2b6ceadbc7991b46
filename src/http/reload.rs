//! `POST /rules/reload` on the admin listener: the rules are read anew, exactly as by SIGHUP.
//!
//! It asks for no body and reads none. A browser sends a stranger's form to this address too, with the credentials that
//! it has for it; so a request that says that it comes from another origin is refused.

use std::sync::Arc;
use std::time::Duration;

use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::Response;

use super::{Answer, plain};

/// Reloads the rules: how many are in force now, or everything that is wrong with them while the old ones stay.
pub type Reload = Arc<dyn Fn() -> Answer<Result<usize, Vec<String>>> + Send + Sync>;

/// How long a caller waits for the outcome: longer than the portal is given to say what it knows of the rules (20 s).
/// The reload goes on without him.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Reloads, and says what came of it: 200, or 422 with the problems.
pub(super) async fn reload(rules: &Reload, headers: &HeaderMap) -> Response {
    if from_elsewhere(headers) {
        return plain(StatusCode::FORBIDDEN, "a page of another origin can't do this\n");
    }
    match tokio::time::timeout(TIMEOUT, rules()).await {
        Ok(Ok(count)) => {
            let rules = if count == 1 { "1 rule".to_owned() } else { format!("{count} rules") };
            plain(StatusCode::OK, format!("rules reloaded: {rules} in force\n"))
        }
        Ok(Err(problems)) => {
            let text = format!("not reloaded; the old rules stay in force:\n{}\n", problems.join("\n"));
            plain(StatusCode::UNPROCESSABLE_ENTITY, text)
        }
        Err(_) => {
            plain(StatusCode::SERVICE_UNAVAILABLE, "the reload goes on; /readyz says what comes of it\n")
        }
    }
}

/// Whether a browser says that another origin's page sent this. Programs send neither header.
fn from_elsewhere(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    if let Some(site) = text("sec-fetch-site")
        && !matches!(site, "same-origin" | "none")
    {
        return true;
    }
    let Some(origin) = text(header::ORIGIN.as_str()) else { return false };
    let host = text(header::HOST.as_str()).and_then(|host| host.parse::<Authority>().ok());
    let origin = origin.parse::<Uri>().ok().and_then(|origin| origin.authority().cloned());
    origin.is_none() || origin != host
}
