//! `POST /rules/reload` on the admin listener: the rules are read anew, exactly as by SIGHUP.
//!
//! Who may ask for it: [`super::guard`].

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;

use super::Answer;

/// Reloads the rules: how many are in force now, or everything that is wrong with them while the old ones stay.
pub type Reload = Arc<dyn Fn() -> Answer<Result<usize, Vec<String>>> + Send + Sync>;

/// How long a caller waits for the outcome: longer than the portal is given to say what it knows of the rules (20 s).
/// The reload goes on without him.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Reloads, and says what came of it: 200, or 422 with the problems.
pub(super) async fn reload(rules: &Reload) -> (StatusCode, String) {
    match tokio::time::timeout(TIMEOUT, rules()).await {
        Ok(Ok(count)) => {
            let rules = if count == 1 { "1 rule".to_owned() } else { format!("{count} rules") };
            (StatusCode::OK, format!("rules reloaded: {rules} in force"))
        }
        Ok(Err(problems)) => {
            let text = format!("not reloaded; the old rules stay in force:\n{}", problems.join("\n"));
            (StatusCode::UNPROCESSABLE_ENTITY, text)
        }
        Err(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "the reload goes on; /readyz says what comes of it".to_owned())
        }
    }
}
