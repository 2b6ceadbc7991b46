//! The service's own event listener, as `serve` has it; the stories use it too.

use b24_janitor::commands::intake::intake;
use b24_janitor::engine::Context;
use b24_janitor::sandbox::SandboxOptions;
use secrecy::SecretString;
use tokio_util::task::TaskTracker;

/// The listener of a service that runs; what it starts ends with that service.
pub(crate) fn listener(ctx: &Context) -> axum::Router {
    let token = SecretString::from(SandboxOptions::default().application_token);
    b24_janitor::http::public(Some(intake(ctx, vec![token], None, &TaskTracker::new())))
}
