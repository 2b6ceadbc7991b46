//! What a sandbox can be told to be: its size, its limits, its user, its manners.
//!
//! Every field is public and every default is the documented behaviour of the cloud, so that a test states only
//! what it changes.

use super::faults::Fault;
use super::oauth::OauthApp;

/// How `crm.lead.delete` says that the lead is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotFoundStyle {
    /// `ERROR_CORE`, "Item was not found.": the lead factory is on, as in the cloud.
    Item,
    /// `ERROR_CORE`, "Lead was not found.": the lead factory is off, as in builds before 25.600.
    Lead,
    /// An empty code and "Not found", as `crm-lead-delete.md` claims.
    Documented,
}

/// The language of the portal's localised texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// English.
    English,
    /// Russian.
    Russian,
}

/// Whose operating-time counter a batched call is charged to. The evidence differs, so all three can be rehearsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchCharge {
    /// The nested method's own counter, shared with its single calls (`limits.md`).
    Method,
    /// A counter of the nested method for batched calls alone (what the server's source does for webhooks).
    MethodBatched,
    /// The counter of `batch`.
    Batch,
}

/// The settings of a [`Sandbox`](super::Sandbox). `SandboxOptions::default()` has the documented limits.
#[derive(Debug, Clone)]
pub struct SandboxOptions {
    /// How many leads to generate. Default 0.
    pub leads: usize,
    /// The seed of the generator and of random faults. Default 1.
    pub seed: u64,
    /// The user that the webhook acts as. Default 1.
    pub user_id: u32,
    /// The webhook's secret code. Default `sandboxcode`.
    pub code: String,
    /// A local application that may call `/rest/{method}` with an access token and renew it at `/oauth/token/`.
    /// Default none.
    pub oauth: Option<OauthApp>,
    /// The server's offset from UTC, in seconds: dates are written in it. Default +03:00.
    pub utc_offset_seconds: i32,
    /// The language of localised error texts. Default English.
    pub language: Language,
    /// What `crm.lead.delete` says about a missing lead. Default [`NotFoundStyle::Item`].
    pub not_found: NotFoundStyle,
    /// The webhook's user sees and deletes only the leads assigned to him. Default false: an administrator.
    pub restricted: bool,
    /// The webhook's user may not import leads. Default false.
    pub import_denied: bool,
    /// The webhook's scopes. Default `crm` alone, as the documentation tells users to grant.
    pub scope: Vec<String>,
    /// Requests a second that drain from the leaky bucket (`limits.md`). Default 2.
    pub requests_per_second: f64,
    /// Requests that the bucket holds. Default 50.
    pub burst: f64,
    /// Operating seconds that a method may use in a window. Default 480.
    pub method_seconds: f64,
    /// The operating window in seconds, kept in ten baskets. Default 600.
    pub window_seconds: u32,
    /// Whether runs of 0.1 s and less are stored as well. The server's source doesn't; default true, the harder case.
    pub store_short_runs: bool,
    /// Whether a `time` object tells `operating` and `operating_reset_at`. Default true.
    pub tell_operating: bool,
    /// Who is charged for a batched call. Default [`BatchCharge::Method`].
    pub batch_charge: BatchCharge,
    /// Virtual seconds that one deletion takes. Default 0.05.
    pub delete_seconds: f64,
    /// Virtual seconds that one list takes. Default 0.02.
    pub list_seconds: f64,
    /// Virtual seconds that any other method takes. Default 0.01.
    pub other_seconds: f64,
    /// How much of the virtual seconds is really slept: 0 none (default), 1 all.
    pub sleep_scale: f64,
    /// Virtual seconds after which a request is cut with an HTML 504. Default 60.
    pub request_seconds: f64,
    /// Where to POST the outgoing webhook's events, if anywhere. Default none.
    pub events_url: Option<String>,
    /// The outgoing webhook's `application_token`.
    pub application_token: String,
    /// `auth[domain]` of the events. Default `127.0.0.1`.
    pub domain: String,
    /// `auth[member_id]` of the events.
    pub member_id: String,
    /// Faults to start with; more by [`Sandbox::set_fault`](super::Sandbox::set_fault).
    pub faults: Vec<Fault>,
}

impl Default for SandboxOptions {
    fn default() -> SandboxOptions {
        SandboxOptions {
            leads: 0,
            seed: 1,
            user_id: 1,
            code: "sandboxcode".to_owned(),
            oauth: None,
            utc_offset_seconds: 3 * 3600,
            language: Language::English,
            not_found: NotFoundStyle::Item,
            restricted: false,
            import_denied: false,
            scope: vec!["crm".to_owned()],
            requests_per_second: 2.0,
            burst: 50.0,
            method_seconds: 480.0,
            window_seconds: 600,
            store_short_runs: true,
            tell_operating: true,
            batch_charge: BatchCharge::Method,
            delete_seconds: 0.05,
            list_seconds: 0.02,
            other_seconds: 0.01,
            sleep_scale: 0.0,
            request_seconds: 60.0,
            events_url: None,
            application_token: "51856fefc120afa4b628cc82d3935cce".to_owned(),
            domain: "127.0.0.1".to_owned(),
            member_id: "a223c6b3710f85df22e9377d6c4f7553".to_owned(),
            faults: Vec::new(),
        }
    }
}

impl SandboxOptions {
    /// Limits so high that nothing on one machine reaches them: for `demo`, which shows the work and not the wait.
    pub fn raised() -> SandboxOptions {
        SandboxOptions {
            requests_per_second: 1e6,
            burst: 1e6,
            method_seconds: 1e9,
            delete_seconds: 0.0001,
            list_seconds: 0.0001,
            other_seconds: 0.0001,
            ..SandboxOptions::default()
        }
    }
}
