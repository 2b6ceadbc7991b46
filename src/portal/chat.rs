//! A notification in the portal's own chat:
//! <https://apidocs.bitrix24.com/api-reference/chats/notifications/im-notify-system-add.html>.
//!
//! It is the least urgent call of all: it takes its place in the bucket in the line of those who list, so no deletion
//! waits for it. Nothing here is repeated.

use serde_json::json;

use super::{CallError, Portal};

const NOTIFY: &str = "im.notify.system.add";

impl CallError {
    /// Whether the webhook or application may not use the method at all: the scope that it needs was not granted. The
    /// portal says so in one of two ways (<https://apidocs.bitrix24.com/error-codes.html>).
    pub fn lacks_scope(&self) -> bool {
        ["insufficient_scope", "ERROR_METHOD_NOT_FOUND"]
            .iter()
            .any(|code| self.fault.code.eq_ignore_ascii_case(code))
    }
}

impl Portal {
    /// The portal's host, with its port where it names one.
    pub fn host(&self) -> &str {
        self.inner.endpoint.host()
    }

    /// Notifies a user of the portal. The webhook needs the scope `im`.
    ///
    /// # Errors
    /// Every [`CallError`]; [`CallError::lacks_scope`] where the scope is missing.
    pub async fn notify_user(&self, user_id: u32, text: &str) -> Result<(), CallError> {
        let params = json!({ "USER_ID": user_id, "MESSAGE": text });
        let permit = self.inner.gate.aside(NOTIFY).await;
        let flight = permit.start(&[NOTIFY.to_owned()]);
        let exchange = self.exchange_once(NOTIFY, &params).await;
        let reply = self.conclude(NOTIFY, exchange, flight, Vec::new())?;
        if let Some(seconds) = reply.cost.seconds {
            self.inner.gate.learn(NOTIFY, seconds);
        }
        Ok(())
    }
}
