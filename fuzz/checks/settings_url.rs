//! Addresses in the settings: what is accepted is written back as it was meant, and nothing shows the code.

use b24_janitor::settings::{ServerUrl, WebhookUrl};
use secrecy::ExposeSecret;

/// The shortest code that is looked for in texts: a shorter one is part of words by chance.
const SHORTEST: usize = 9;

/// Reads the text as a webhook's address and as a server's.
pub(crate) fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(server) = ServerUrl::parse(text) {
        assert_eq!(ServerUrl::parse(server.as_str()), Ok(server.clone()));
        assert!(server.as_str().ends_with(server.host()));
        assert!(!server.as_str().contains(['@', '?', '#']), "{server}");
    }
    match WebhookUrl::parse(text) {
        Ok(webhook) => {
            let secret = webhook.secret();
            let secret = secret.expose_secret();
            let again = WebhookUrl::parse(secret).expect("what was read is read again");
            assert_eq!(again.secret().expose_secret(), secret);
            let code = secret.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
            assert!(!code.is_empty() && code.bytes().all(|byte| byte.is_ascii_alphanumeric()));
            let shown = format!("{webhook} {webhook:?} {}", webhook.host());
            let elsewhere = webhook.host().contains(code);
            assert!(code.len() < SHORTEST || elsewhere || !shown.contains(code), "the code is shown");
            let method = webhook.method_url("crm.item.list");
            assert_eq!(method.as_str(), format!("{secret}crm.item.list"));
            assert!(
                method.scheme() == "https"
                    || method.scheme() == "http" && !webhook.host().contains("bitrix24")
            );
        }
        Err(error) => {
            let example = "https://example.bitrix24.com/rest/1/abcdef0123456789/";
            let shown = format!("{error} {}", error.remedy).replace(example, "");
            let last = text.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
            let is_code = last.len() >= SHORTEST && last.bytes().all(|byte| byte.is_ascii_digit());
            assert!(!is_code || !shown.contains(last), "the code is shown");
        }
    }
}
