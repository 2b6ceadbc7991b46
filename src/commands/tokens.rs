//! Keeps a local application's tokens in the database: one row, replaced as a whole, since a renewal makes the refresh
//! token before it void.
//!
//! With the tokens stands which settings they came from: given another portal, application or refresh token, the
//! settings win over what is stored; otherwise the stored tokens are newer than the settings.

use std::sync::Arc;

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

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
pub(super) fn access(settings: &OAuthSettings, store: &Store) -> Access {
    Access::OAuth(OAuthOptions {
        portal_url: settings.portal.as_str().to_owned(),
        client_id: settings.client_id.clone(),
        client_secret: settings.client_secret.clone(),
        refresh_token: settings.refresh_token.clone(),
        server: settings.server.as_str().to_owned(),
        vault: vault(settings.clone(), store.clone()),
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
                // The parser's words could repeat a part of the row.
                let Ok(row) = serde_json::from_str::<Row>(&row) else {
                    return Err("the row is not what this version writes".to_owned());
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
