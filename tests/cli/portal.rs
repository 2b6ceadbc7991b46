//! A simulated portal on a loopback listener, under the test's control.

use std::net::SocketAddr;
use std::sync::LazyLock;

use b24_janitor::clock::Clock;
use b24_janitor::sandbox::{Sandbox, SandboxOptions};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

/// A portal; it goes away with this.
pub(crate) struct Portal {
    pub(crate) sandbox: Sandbox,
    address: SocketAddr,
    _stop: oneshot::Sender<()>,
}

impl Portal {
    /// A portal with the documented limits and so many leads.
    pub(crate) fn with_leads(leads: usize) -> Portal {
        Portal::start(SandboxOptions { leads, ..SandboxOptions::default() })
    }

    pub(crate) fn start(options: SandboxOptions) -> Portal {
        let listener = RUNTIME.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let sandbox = Sandbox::new(options, Clock::System);
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = sandbox.clone();
        RUNTIME.spawn(async move {
            serving
                .serve(listener, async {
                    let _ = stopped.await;
                })
                .await
        });
        Portal { sandbox, address, _stop: stop }
    }

    pub(crate) fn webhook(&self) -> String {
        self.sandbox.webhook_url(self.address)
    }

    /// The ids of the leads in a stage.
    pub(crate) fn in_stage(&self, stage: &str) -> Vec<u32> {
        self.sandbox.ids_where(|lead| &*lead.stage == stage)
    }

    /// The ids of the leads in any other stage.
    pub(crate) fn not_in_stage(&self, stage: &str) -> Vec<u32> {
        self.sandbox.ids_where(|lead| &*lead.stage != stage)
    }

    /// No call was refused because of our pace.
    pub(crate) fn assert_pace_kept(&self) {
        let stats = self.sandbox.stats();
        assert_eq!((stats.refused_503, stats.refused_429), (0, 0));
    }
}
