//! Brings letters to where they go outside the portal, with the secrets that their addresses are.
//!
//! Invariants: a secret is fetched when it is needed and kept by nobody; nothing that comes back, neither an answer nor a
//! reason, has one in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use secrecy::{ExposeSecret, SecretString};
use tracing::warn;

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
    /// Of a message that some of its recipients did not get yet: by its id, who has it. After a restart these get it twice.
    partly: Arc<Mutex<BTreeMap<String, BTreeSet<String>>>>,
}

/// The most messages that it is remembered of who has them: of twenty targets each gets one of five kinds at a time.
const PARTLY: usize = 100;

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
        Ok(Courier { means: Some((Poster::over_network()?, secrets)), ..Courier::default() })
    }

    /// HTTP to a router in this process, whatever the address's host; for rehearsals and tests.
    pub fn in_process(router: axum::Router, secrets: Secrets) -> Courier {
        Courier { means: Some((Poster::in_process(router), secrets)), ..Courier::default() }
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

    /// Mails a letter: what the server said, or why it did not take it. Where it refused some of the recipients for good, the
    /// letter has arrived, unless it is a test; where it may take them later, a later try is for them alone.
    pub(super) async fn mail(&self, to: &Email, letter: &Letter) -> Result<String, String> {
        let named = |why: String| format!("{}: {why}", to.smtp.as_str());
        let url = self.secret(&to.smtp).map_err(named)?;
        let server = email::server(&url).map_err(named)?;
        let hidden = server.secrets();
        let have = self.partly().remove(&letter.id).unwrap_or_default();
        let sent = email::send(&server, to, letter, have).await.map_err(|why| shown(&why, &hidden))?;
        let refused = shown(&sent.refused.join("; "), &hidden);
        match (sent.refused.is_empty(), sent.took.len()) {
            (true, _) => Ok(shown(&sent.said, &hidden)),
            (false, 0) => Err(refused),
            (false, took) if sent.again => {
                let mut partly = self.partly();
                if partly.len() >= PARTLY {
                    partly.pop_first();
                }
                partly.insert(letter.id.clone(), sent.took);
                Err(format!("{took} of {} have it; {refused}", to.to.len()))
            }
            (false, took) if letter.occasion == Letter::TEST => {
                Err(format!("{took} of {} have it; {refused}", to.to.len()))
            }
            (false, took) => {
                warn!(refused, took, "a mail server refuses some of the recipients of a notice for good");
                Ok(format!("{took} of {} have it; {refused}", to.to.len()))
            }
        }
    }

    fn partly(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, BTreeSet<String>>> {
        self.partly.lock().unwrap_or_else(PoisonError::into_inner)
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

#[cfg(test)]
#[path = "../../../tests/notices/smtp.rs"]
mod smtp;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::notice::Occasion;

    /// A letter to two recipients, by this server.
    fn to_two(server: &smtp::Server) -> (Courier, Email, Letter) {
        let url = format!("smtp://{}", server.address);
        let secrets: Secrets = Arc::new(move |_: &str| Ok(Some(SecretString::from(url.clone()))));
        let courier = Courier::over_network(secrets).unwrap();
        let to = Email {
            to: vec!["boss@example.org".to_owned(), "ops@example.org".to_owned()],
            from: "janitor@example.org".to_owned(),
            smtp: Variable::parse("JANITOR_SMTP_URL").unwrap(),
        };
        let told = ("Something.".to_owned(), "junk".to_owned(), 3, 4);
        let at = "2026-11-25T10:00:00Z".parse().unwrap();
        let letter = Letter::of(("mail", 1), "acme.bitrix24.com", Occasion::Held, told, at, 0);
        (courier, to, letter)
    }

    #[tokio::test]
    async fn a_later_try_is_for_those_alone_who_do_not_have_it_yet() {
        let refused: (&str, &[&str]) = ("boss@example.org", &["451 greylisted, come back"]);
        let server = smtp::Server::refusing("250 queued", &[refused]).await;
        let (courier, to, letter) = to_two(&server);
        let first = courier.mail(&to, &letter).await.unwrap_err();
        assert!(
            first.starts_with("1 of 2 have it; boss@example.org: ") && first.contains("greylisted"),
            "{first}"
        );
        courier.mail(&to, &letter).await.unwrap();
        let heard = server.heard();
        let asked = |who: &str| heard.matches(&format!("RCPT TO:<{who}>")).count();
        assert_eq!((asked("boss@example.org"), asked("ops@example.org")), (2, 1), "{heard}");
    }

    #[tokio::test]
    async fn a_recipient_who_is_refused_for_good_keeps_a_notice_from_nobody_and_is_asked_for_once() {
        let server =
            smtp::Server::refusing("250 queued", &[("boss@example.org", &["550 no such user"; 9])]).await;
        let (courier, to, letter) = to_two(&server);
        let said = courier.mail(&to, &letter).await.unwrap();
        assert!(said.starts_with("1 of 2 have it; boss@example.org: "), "{said}");
        assert_eq!(server.heard().matches("DATA\n").count(), 1);
    }
}
