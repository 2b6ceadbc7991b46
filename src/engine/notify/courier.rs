//! Brings letters to where they go outside the portal, with the secrets that their addresses are.
//!
//! Invariants: a secret is fetched when it is needed and kept by nobody; nothing that comes back, neither an answer nor a
//! reason, has one in it.

use std::fmt;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

use super::email;
use super::http::{self, NoPoster, Poster};
use crate::core::notice::Letter;
use crate::core::notify::{Email, HttpPost, Target, Variable, Way};
use crate::portal::mask;

/// Fetches the secret of a variable: nothing where it is not set, or why it can't be read.
pub type Secrets = Arc<dyn Fn(&str) -> Result<Option<SecretString>, String> + Send + Sync>;

/// The most characters of an answer that are passed on: an error fits, a page does not.
const SAID: usize = 200;

/// Brings letters; cheap to clone. The default one has no secrets, so it can bring none.
#[derive(Clone, Default)]
pub struct Courier {
    means: Option<(Poster, Secrets)>,
}

impl fmt::Debug for Courier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.means.is_some() { "Courier(..)" } else { "Courier" })
    }
}

impl Courier {
    /// Over the network: TLS by rustls, no redirects.
    ///
    /// # Errors
    /// When the HTTP client can't be set up, for example without any certificate authority on the system.
    pub fn over_network(secrets: Secrets) -> Result<Courier, NoPoster> {
        Ok(Courier { means: Some((Poster::over_network()?, secrets)) })
    }

    /// HTTP to a router in this process, whatever the address's host; for rehearsals and tests.
    pub fn in_process(router: axum::Router, secrets: Secrets) -> Courier {
        Courier { means: Some((Poster::in_process(router), secrets)) }
    }

    /// What is wrong with the secrets of a target, each with its variable.
    pub fn check(&self, target: &Target) -> Vec<(Variable, String)> {
        let mut wrong = Vec::new();
        for variable in target.way.variables() {
            let checked = self.secret(variable).and_then(|secret| match &target.way {
                Way::Http(post) if post.url == *variable => http::address(&secret).map(drop),
                Way::Http(_) => http::token(&secret).map(drop),
                Way::Email(_) => email::server(&secret).map(drop),
                Way::Chat { .. } => Ok(()),
            });
            if let Err(why) = checked {
                wrong.push((variable.clone(), why));
            }
        }
        wrong
    }

    fn secret(&self, variable: &Variable) -> Result<SecretString, String> {
        let Some((_, secrets)) = &self.means else {
            return Err("this process brings no notices".to_owned());
        };
        secrets(variable.as_str())?.ok_or_else(|| "it is not set".to_owned())
    }

    /// POSTs a letter: what was answered, or why it did not arrive.
    pub(super) async fn post(&self, to: &HttpPost, letter: &Letter) -> Result<String, String> {
        let named = |variable: &Variable, why: String| format!("{}: {why}", variable.as_str());
        let url = self.secret(&to.url).map_err(|why| named(&to.url, why))?;
        let address = http::address(&url).map_err(|why| named(&to.url, why))?;
        let token = match &to.token {
            None => None,
            Some(variable) => {
                let token = self.secret(variable).map_err(|why| named(variable, why))?;
                Some(http::token(&token).map_err(|why| named(variable, why))?)
            }
        };
        let Some((poster, _)) = &self.means else { return Err("this process brings no notices".to_owned()) };
        let hidden: Vec<SecretString> =
            address.secrets().into_iter().chain(token.as_ref().map(|token| token.text().clone())).collect();
        let body = to.body.render(letter);
        let answered = poster.post(&address, token.as_ref(), body).await;
        answered.map(|said| shown(&said, &hidden)).map_err(|why| shown(&why, &hidden))
    }

    /// Mails a letter: what the server said, or why it did not take it.
    pub(super) async fn mail(&self, to: &Email, letter: &Letter) -> Result<String, String> {
        let named = |why: String| format!("{}: {why}", to.smtp.as_str());
        let url = self.secret(&to.smtp).map_err(named)?;
        let server = email::server(&url).map_err(named)?;
        let hidden = server.secrets();
        let answered = email::send(&server, to, letter).await;
        answered.map(|said| shown(&said, &hidden)).map_err(|why| shown(&why, &hidden))
    }
}

/// A stranger's words without our secrets, without control characters, and not many of them.
fn shown(text: &str, hidden: &[SecretString]) -> String {
    // Between two halves of a secret a control character would hide it from the mask and then go.
    let plain: String = text.chars().filter(|c| !c.is_control()).collect();
    let masked = mask(&plain, hidden.iter().map(|secret| secret.expose_secret()), []);
    let mut short: String = masked.chars().take(SAID).collect();
    if short.len() < masked.len() {
        short.push('…');
    }
    short
}
