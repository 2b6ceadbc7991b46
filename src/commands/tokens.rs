//! Keeps a local application's tokens in the database: one row, replaced as a whole, since a renewal makes the refresh
//! token before it void.
//!
//! With the tokens stands which settings they came from: given another portal, application or refresh token, the
//! settings win over what is stored; otherwise the stored tokens are newer than the settings.

use std::sync::Arc;

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::portal::{Access, OAuthOptions, Tokens, Vault};
use crate::settings::OAuthSettings;
use crate::store::{Store, control};

/// The key of the row.
const KEY: &str = "oauth_tokens";

/// The row. Its secrets are in no `Debug`: it has none.
#[derive(Serialize, Deserialize)]
struct Row {
    portal: String,
    client_id: String,
    /// The refresh token of the settings that these tokens descend from.
    given: String,
    access: String,
    refresh: String,
    server: String,
    renewed_at: Timestamp,
    expires_at: Timestamp,
}

impl Row {
    fn descends_from(&self, settings: &OAuthSettings) -> bool {
        self.portal == settings.portal.as_str()
            && self.client_id == settings.client_id
            && self.given == settings.refresh_token.expose_secret()
    }

    fn tokens(self) -> Tokens {
        Tokens {
            access: SecretString::from(self.access),
            refresh: SecretString::from(self.refresh),
            server: self.server,
            renewed_at: self.renewed_at,
            expires_at: self.expires_at,
        }
    }
}

/// The access of a local application whose tokens are kept in this store.
pub(super) fn access(settings: &OAuthSettings, store: Store) -> Access {
    Access::OAuth(OAuthOptions {
        portal_url: settings.portal.as_str().to_owned(),
        client_id: settings.client_id.clone(),
        client_secret: settings.client_secret.clone(),
        refresh_token: settings.refresh_token.clone(),
        server: settings.server.as_str().to_owned(),
        vault: vault(settings.clone(), store),
    })
}

fn vault(settings: OAuthSettings, store: Store) -> Vault {
    let (loading, from) = (store.clone(), settings.clone());
    Vault {
        load: Arc::new(move || {
            let (store, settings) = (loading.clone(), from.clone());
            Box::pin(async move {
                let row = store.read(|db| control::get(db, KEY)).await.map_err(|error| error.to_string())?;
                let Some(row) = row else { return Ok(None) };
                // The parser's words could repeat a part of the row, so they are not logged.
                let Ok(row) = serde_json::from_str::<Row>(&row) else {
                    warn!(
                        "the stored tokens are not what this version writes: those of the settings are used"
                    );
                    return Ok(None);
                };
                Ok(row.descends_from(&settings).then(|| row.tokens()))
            })
        }),
        keep: Arc::new(move |tokens| {
            let (store, settings) = (store.clone(), settings.clone());
            Box::pin(async move {
                let at = tokens.renewed_at;
                let row = Row {
                    portal: settings.portal.as_str().to_owned(),
                    client_id: settings.client_id,
                    given: settings.refresh_token.expose_secret().to_owned(),
                    access: tokens.access.expose_secret().to_owned(),
                    refresh: tokens.refresh.expose_secret().to_owned(),
                    server: tokens.server,
                    renewed_at: at,
                    expires_at: tokens.expires_at,
                };
                let row =
                    serde_json::to_string(&row).map_err(|_| "they can't be written as JSON".to_owned())?;
                store
                    .write(move |db| control::set(db, KEY, &row, at))
                    .await
                    .map_err(|error| error.to_string())
            })
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::time::Duration;

    use tempfile::TempDir;

    use super::*;
    use crate::clock::Clock;
    use crate::core::rule::PortalLimits;
    use crate::portal::{CallError, Portal, PortalOptions, Transport};
    use crate::sandbox::{OauthApp, Sandbox, SandboxOptions};
    use crate::settings::ServerUrl;
    use crate::store::{OpenOptions, Threads};

    fn settings(refresh_token: &str) -> OAuthSettings {
        OAuthSettings {
            client_id: "local.1".to_owned(),
            client_secret: SecretString::from("s3cr3tkey"),
            refresh_token: SecretString::from(refresh_token),
            portal: ServerUrl::parse("https://portal.example").unwrap(),
            server: ServerUrl::parse("https://oauth.bitrix.info").unwrap(),
        }
    }

    fn sandbox(clock: Clock) -> Sandbox {
        let oauth = Some(OauthApp {
            client_id: "local.1".to_owned(),
            client_secret: "s3cr3tkey".to_owned(),
            refresh_token: "s3cr3tgiven".to_owned(),
        });
        Sandbox::new(SandboxOptions { oauth, ..SandboxOptions::default() }, clock)
    }

    fn open(path: &Path) -> Store {
        Store::open(path, OpenOptions { threads: Threads::Inline, create: true }).unwrap()
    }

    /// A process from start to end: opens the file, asks the portal once, closes.
    async fn process(
        path: &Path,
        sandbox: &Sandbox,
        clock: Clock,
        settings: &OAuthSettings,
    ) -> Result<(), CallError> {
        let store = open(path);
        let options = PortalOptions {
            access: access(settings, store.clone()),
            limits: PortalLimits::default(),
            clock,
            observer: None,
            pace: None,
        };
        let done = Portal::new(Transport::InProcess(sandbox.router()), options).probe().await;
        store.close().await;
        done
    }

    async fn row(path: &Path) -> serde_json::Value {
        let store = open(path);
        let row = store.read(|db| control::get(db, KEY)).await.unwrap().unwrap();
        store.close().await;
        serde_json::from_str(&row).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn the_rotated_tokens_survive_a_restart_and_only_they_are_valid() {
        let clock = Clock::starting_at("2026-03-01T00:00:00Z".parse().unwrap());
        let (dir, sandbox) = (TempDir::new().unwrap(), sandbox(clock));
        let path = dir.path().join("janitor.db");
        let settings = settings("s3cr3tgiven");
        for (renewals, later) in [(1, 0), (1, 60), (2, 3600), (2, 60), (3, 48 * 3600)] {
            tokio::time::advance(Duration::from_secs(later)).await;
            process(&path, &sandbox, clock, &settings).await.unwrap();
            assert_eq!(row(&path).await["refresh"], format!("refresh{renewals:08}"));
        }
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[tokio::test(start_paused = true)]
    async fn another_refresh_token_portal_or_application_in_the_settings_wins_over_what_is_stored() {
        let clock = Clock::starting_at("2026-03-01T00:00:00Z".parse().unwrap());
        let (dir, sandbox) = (TempDir::new().unwrap(), sandbox(clock));
        let path = dir.path().join("janitor.db");
        let given = settings("s3cr3tgiven");
        process(&path, &sandbox, clock, &given).await.unwrap();
        let other_portal =
            OAuthSettings { portal: ServerUrl::parse("https://other.example").unwrap(), ..given.clone() };
        let other_client = OAuthSettings { client_id: "local.2".to_owned(), ..given.clone() };
        for other in [settings("s3cr3tother"), other_portal, other_client] {
            let error = process(&path, &sandbox, clock, &other).await.unwrap_err();
            // The sandbox knows none of them; that it was asked at all is the point.
            assert!(matches!(error.fault.code.as_str(), "invalid_grant" | "invalid_client"), "{error}");
        }
        assert_eq!(row(&path).await["refresh"], "refresh00000001", "a failed renewal replaces nothing");
        process(&path, &sandbox, clock, &given).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_row_that_cannot_be_read_is_no_obstacle_to_the_token_of_the_settings() {
        let clock = Clock::starting_at("2026-03-01T00:00:00Z".parse().unwrap());
        let (dir, sandbox) = (TempDir::new().unwrap(), sandbox(clock));
        let path = dir.path().join("janitor.db");
        let (store, now) = (open(&path), clock.now());
        store.write(move |db| control::set(db, KEY, r#"{"access":"x"}"#, now)).await.unwrap();
        store.close().await;
        process(&path, &sandbox, clock, &settings("s3cr3tgiven")).await.unwrap();
        assert_eq!(row(&path).await["refresh"], "refresh00000001");
    }
}
