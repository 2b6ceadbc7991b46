//! A running service with its portal, and the pages that it has.

use b24_janitor::sandbox::Lead;

use crate::home::{Home, JUNK};
use crate::portal::Portal;
use crate::service::{Service, until};
use crate::webdriver::Browser;

pub(crate) const ADMIN_TOKEN: &str = "a-token-of-the-tests";
/// How many leads the portal has; some are junk.
const LEADS: usize = 60;

/// A service whose rule `junk` deletes the portal's junk when somebody runs it.
pub(crate) struct Site {
    pub(crate) portal: Portal,
    pub(crate) service: Service,
    home: Home,
}

impl Site {
    pub(crate) fn new() -> Site {
        Site::with(JUNK, |home| home)
    }

    /// Whoever wants to see a page must sign in.
    pub(crate) fn guarded() -> Site {
        Site::with(JUNK, |home| home.with("JANITOR_ADMIN_TOKEN", ADMIN_TOKEN))
    }

    /// A run of the rule is held, because it selects too much.
    pub(crate) fn capped() -> Site {
        Site::with(&JUNK.replace("max_matches: 100000", "max_matches: 1"), |home| home)
    }

    pub(crate) fn with(rules: &str, change: impl FnOnce(Home) -> Home) -> Site {
        let portal = Portal::with_leads(LEADS);
        let home = change(Home::new(&portal, rules));
        let service = Service::start(&home);
        Site { portal, service, home }
    }

    pub(crate) fn junk(&self) -> Vec<u32> {
        self.portal.in_stage("JUNK")
    }

    /// Adds junk with this title.
    pub(crate) fn add_junk(&self, title: &str) -> u32 {
        let mut lead = Lead::new(title, self.portal.sandbox.now());
        lead.move_to("JUNK", lead.created);
        self.portal.sandbox.insert(lead)
    }

    /// Runs a command beside the service and returns its exit status.
    pub(crate) fn run(&self, args: &[&str]) -> Option<i32> {
        self.home.run(args).code
    }

    /// Opens a page of the service.
    pub(crate) fn open(&self, browser: &Browser, path: &str) {
        browser.goto(&format!("http://{}{path}", self.service.admin));
    }

    /// Runs the rule by its button, waits until its leads are gone, and returns their ids.
    pub(crate) fn drain(&self, browser: &Browser) -> Vec<u32> {
        let junk = self.junk();
        assert!(!junk.is_empty());
        self.open(browser, "/rules/junk");
        browser.press("form[action='/rules/junk/run'] button");
        until("the deletion of the junk", || self.junk().is_empty().then_some(()));
        junk
    }

    /// Makes a plan of the rule by its button.
    pub(crate) fn plan(&self, browser: &Browser) {
        self.open(browser, "/rules/junk/plan");
        browser.press("form[action='/rules/junk/plan'] button");
        until("the plan", || {
            self.open(browser, "/rules/junk/plan");
            (!browser.all("form[action='/rules/junk/plan'] button").is_empty()).then_some(())
        });
    }
}
