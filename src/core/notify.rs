//! Whom notices go to (`notify:`), and by which way: names of secrets, never secrets.

use std::collections::BTreeSet;
use std::ops::Range;

use super::notice::{Letter, Occasion};
use super::rule::{Place, RuleName};

/// The most targets of all files together: a team, its chat, its boss and its monitoring are four.
pub const MAX_TARGETS: usize = 20;

/// A target of notices.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// Its name, unique over all files.
    pub name: RuleName,
    /// What it is told.
    pub on: BTreeSet<Occasion>,
    /// How.
    pub way: Way,
    /// Where it is written, for messages.
    pub place: Place,
}

/// How a notice reaches its target.
#[derive(Debug, Clone, PartialEq)]
pub enum Way {
    /// An HTTP POST.
    Http(HttpPost),
    /// An e-mail.
    Email(Email),
    /// A notification in the portal itself
    /// (<https://apidocs.bitrix24.com/api-reference/chats/notifications/im-notify-system-add.html>).
    Chat {
        /// The portal's user who is told.
        user_id: u32,
    },
}

impl Way {
    /// The key in rules.
    pub fn as_str(&self) -> &'static str {
        match self {
            Way::Http(_) => "http",
            Way::Email(_) => "email",
            Way::Chat { .. } => "chat",
        }
    }

    /// The variables that its secrets stand in.
    pub fn variables(&self) -> Vec<&Variable> {
        match self {
            Way::Http(post) => std::iter::once(&post.url).chain(&post.token).collect(),
            Way::Email(email) => vec![&email.smtp],
            Way::Chat { .. } => Vec::new(),
        }
    }
}

/// An HTTP POST of JSON.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpPost {
    /// Where the address stands.
    pub url: Variable,
    /// Where a bearer token stands.
    pub token: Option<Variable>,
    /// The body.
    pub body: Template,
}

/// An e-mail.
#[derive(Debug, Clone, PartialEq)]
pub struct Email {
    /// Whom to.
    pub to: Vec<String>,
    /// Whom from.
    pub from: String,
    /// Where the mail server's address stands, with user and password.
    pub smtp: Variable,
}

/// The name of an environment variable that holds a secret of notices: the service takes it as it takes its own secrets,
/// also from `NAME_FILE` and from a systemd credential.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Variable(String);

impl Variable {
    /// How such names begin. Others are refused: whoever may write rules must not be able to have another secret, such as
    /// the portal's webhook, sent to an address of his own.
    pub const PREFIXES: [&'static str; 2] = ["JANITOR_NOTIFY_", "JANITOR_SMTP_"];

    /// The longest name: it stands in messages.
    pub const MAX_LENGTH: usize = 64;

    /// The variable of that name; `None` where it can't be one.
    pub fn parse(name: &str) -> Option<Variable> {
        let rest = Variable::PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix))?;
        let plain = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
        let good = !rest.is_empty() && name.len() <= Variable::MAX_LENGTH && rest.bytes().all(plain);
        // NAME_FILE is where the secret NAME is read from.
        (good && !rest.ends_with("_FILE")).then(|| Variable(name.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a body can say of a notice, by the words between braces.
const FIELDS: [&str; 8] = ["text", "title", "occasion", "rule", "run", "count", "time", "portal"];

/// A JSON text with `{{placeholders}}`. What is put in is escaped as JSON, so that it ends no text and adds no key.
///
/// ```
/// use b24_janitor::core::{notice::Letter, notify::Template};
///
/// let body = Template::parse(r#"{"chat_id": "-1001", "text": "{{text}}"}"#).unwrap();
/// let letter = Letter::test("acme.bitrix24.com", "ops", jiff::Timestamp::UNIX_EPOCH);
/// assert!(body.render(&letter).starts_with(r#"{"chat_id": "-1001", "text": "Notices of b24-janitor"#));
/// assert!(Template::parse(r#"{"text": "{{message}}"}"#).is_err(), "there is no such placeholder");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    /// One of [`FIELDS`].
    Field(&'static str),
}

/// What is wrong with a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadTemplate {
    /// The code of the diagnostic.
    pub code: &'static str,
    /// Where, as a byte range of the template.
    pub span: Range<usize>,
    /// What.
    pub message: String,
    /// What to write instead.
    pub help: String,
}

impl Template {
    /// The body where none is written: what Slack, Mattermost and Google Chat take.
    pub const DEFAULT: &'static str = r#"{"text": "{{text}}"}"#;

    /// The template of a text.
    ///
    /// # Errors
    /// Where a placeholder is unknown or not closed, or where no JSON would come of it.
    pub fn parse(text: &str) -> Result<Template, BadTemplate> {
        let list = || FIELDS.map(|field| format!("{{{{{field}}}}}")).join(", ");
        let mut parts = Vec::new();
        let (mut rest, mut at) = (text, 0);
        while let Some((before, after)) = rest.split_once("{{") {
            parts.push(Part::Text(before.to_owned()));
            let opened = at + before.len();
            let Some((name, behind)) = after.split_once("}}") else {
                return Err(BadTemplate {
                    code: "bad-placeholder",
                    span: opened..opened + 2,
                    message: "this `{{` has no `}}` after it".to_owned(),
                    help: format!("write one of {}", list()),
                });
            };
            let closed = opened + 2 + name.len() + 2;
            let Some(field) = FIELDS.into_iter().find(|field| *field == name.trim()) else {
                return Err(BadTemplate {
                    code: "bad-placeholder",
                    span: opened..closed,
                    message: "there is no such placeholder".to_owned(),
                    help: format!("write one of {}", list()),
                });
            };
            parts.push(Part::Field(field));
            (rest, at) = (behind, closed);
        }
        parts.push(Part::Text(rest.to_owned()));
        let template = Template(parts);
        // Quotes and a line break show whether every placeholder stands where JSON takes any text.
        let sample = Letter {
            id: String::new(),
            portal: "a".to_owned(),
            occasion: "test",
            title: "a".to_owned(),
            text: "\"a\"\n".to_owned(),
            rule: "a".to_owned(),
            run: 1,
            count: 1,
            at: jiff::Timestamp::UNIX_EPOCH,
        };
        match serde_json::from_str::<serde_json::Value>(&template.render(&sample)) {
            Ok(_) => Ok(template),
            Err(error) => Err(BadTemplate {
                code: "bad-body",
                span: 0..text.len(),
                message: format!("no JSON comes of this body: {error}"),
                help: format!(
                    "put placeholders for text between double quotes inside the body, and the body between single ones: \
                     '{}'",
                    Template::DEFAULT
                ),
            }),
        }
    }

    /// The body for a notice.
    pub fn render(&self, letter: &Letter) -> String {
        let mut body = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => body.push_str(text),
                Part::Field(field) => body.push_str(&escaped(&value(field, letter))),
            }
        }
        body
    }
}

fn value(field: &str, letter: &Letter) -> String {
    match field {
        "text" => letter.text.clone(),
        "title" => letter.title.clone(),
        "occasion" => letter.occasion.to_owned(),
        "rule" => letter.rule.clone(),
        "run" => letter.run.to_string(),
        "count" => letter.count.to_string(),
        "time" => letter.at.to_string(),
        "portal" => letter.portal.clone(),
        _ => String::new(),
    }
}

/// The text as it stands between the quotes of a JSON string.
fn escaped(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn letter(text: &str) -> Letter {
        Letter {
            text: text.to_owned(),
            ..Letter::test("acme.bitrix24.com", "ops", jiff::Timestamp::UNIX_EPOCH)
        }
    }

    #[test]
    fn only_names_made_for_notices_can_hold_their_secrets() {
        for good in ["JANITOR_NOTIFY_OPS_URL", "JANITOR_SMTP_URL", "JANITOR_NOTIFY_2"] {
            assert!(Variable::parse(good).is_some(), "{good}");
        }
        for bad in [
            "B24_WEBHOOK_URL",
            "JANITOR_ADMIN_TOKEN",
            "JANITOR_NOTIFY_",
            "JANITOR_NOTIFY_a",
            "PATH",
            "JANITOR_NOTIFY_URL_FILE",
            "https://hooks.example.org/T0",
        ] {
            assert!(Variable::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn every_placeholder_has_its_value() {
        let all = FIELDS.map(|field| format!("\"{field}\": \"{{{{ {field} }}}}\"")).join(", ");
        let body = Template::parse(&format!("{{{all}}}")).unwrap().render(&letter("it \"is\""));
        let value: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(value["text"], "it \"is\"");
        assert_eq!(value["title"], "b24-janitor, acme.bitrix24.com: a test");
        assert_eq!((&value["occasion"], &value["rule"]), (&"test".into(), &"".into()));
        assert_eq!((&value["run"], &value["count"]), (&"0".into(), &"0".into()));
        assert_eq!(
            (&value["time"], &value["portal"]),
            (&"1970-01-01T00:00:00Z".into(), &"acme.bitrix24.com".into())
        );
    }

    #[test]
    fn a_mistake_in_a_body_is_shown_where_it_is() {
        let bad = |text: &str| Template::parse(text).unwrap_err();
        assert_eq!(
            (bad(r#"{"a": "{{txt}}"}"#).code, bad(r#"{"a": "{{txt}}"}"#).span),
            ("bad-placeholder", 7..14)
        );
        assert_eq!(bad(r#"{"a": "{{text"}"#).span, 7..9);
        assert_eq!(bad(r#"{"a": {{text}}}"#).code, "bad-body");
        assert_eq!(bad("text").code, "bad-body");
        assert!(Template::parse(r#"{"a": {"n": {{count}}}}"#).is_ok());
    }

    proptest! {
        /// Whatever a notice says stays one text of the body.
        #[test]
        fn what_is_put_in_adds_nothing_to_the_body(text in any::<String>()) {
            let body = Template::parse(Template::DEFAULT).unwrap().render(&letter(&text));
            let value: serde_json::Value = serde_json::from_str(&body).unwrap();
            prop_assert_eq!(value, serde_json::json!({ "text": text }));
        }
    }
}
