//! The admin pages as a person meets them: in a real browser, beside the real program and a simulated portal.
//!
//! Needs chromium and chromium-driver; without them every test is skipped with a notice on standard error, and with
//! `JANITOR_BROWSER_REQUIRED=1` it fails. `JANITOR_AXE` names a file `axe.min.js` (<https://github.com/dequelabs/axe-core>),
//! which then looks at every page; `JANITOR_SCREENSHOTS` names a folder, and the pages are photographed into it.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test that can't go on has failed"
)]

#[path = "../cli/home.rs"]
#[expect(dead_code, reason = "shared with the tests of the commands, which use more of it")]
mod home;
mod look;
mod orders;
#[path = "../cli/portal.rs"]
#[expect(dead_code, reason = "shared with the tests of the commands, which use more of it")]
mod portal;
mod screenshots;
#[path = "../cli/service.rs"]
#[expect(dead_code, reason = "shared with the tests of the commands, which use more of it")]
mod service;
mod site;
mod webdriver;
