//! What a person does with the buttons, the keyboard and the forms, and what the pages then say.

use crate::service::until;
use crate::site::{ADMIN_TOKEN, Site};
use crate::webdriver::{Browser, shared, turn};

const ENTER: char = '\u{E007}';
const TAB: char = '\u{E004}';
/// More presses of Tab than any page has things to reach before its first button.
const MOST_TABS: usize = 40;

fn says(browser: &Browser, css: &str, part: &str) {
    let text = browser.text(css);
    assert!(text.contains(part), "{part}: {text}");
}

fn sign_in(browser: &Browser, token: &str) {
    browser.fill("#token", token);
    browser.press("main.login button");
}

#[test]
fn deleting_is_paused_and_resumed_by_the_button() {
    let Some(browser) = shared() else { return };
    let browser = turn(&browser);
    let site = Site::new();
    pause_and_resume(&browser, &site);
}

fn pause_and_resume(browser: &Browser, site: &Site) {
    site.open(browser, "/");
    says(browser, "#switch", "Not paused.");
    browser.press("form[action='/pause'] button");
    says(browser, "#switch .notice", "Paused.");
    assert_eq!(browser.all("form[action='/pause']"), []);
    browser.press("form[action='/resume'] button");
    says(browser, "#switch", "Not paused.");
}

#[test]
fn a_held_run_is_approved_with_the_right_count_and_not_with_another() {
    let Some(browser) = shared() else { return };
    let browser = turn(&browser);
    let site = Site::capped();
    approve(&browser, &site);
}

fn approve(browser: &Browser, site: &Site) {
    let junk = site.junk().len();
    assert!(junk > 1);
    site.open(browser, "/rules/junk");
    browser.press("form[action='/rules/junk/run'] button");
    until("a held run", || {
        site.open(browser, "/runs");
        (!browser.all("article.held").is_empty()).then_some(())
    });
    says(browser, "article.held", &format!("{junk} leads"));
    browser.fill("article.held input[name=count]", &(junk - 1).to_string());
    browser.press("article.held button");
    says(browser, "[role=alert]", &format!("it would enqueue {junk} leads, and {} was typed", junk - 1));
    assert_eq!(site.junk().len(), junk);
    browser.fill("article.held input[name=count]", &junk.to_string());
    browser.press("article.held button");
    says(browser, "[role=status]", &format!("{junk} leads enqueued"));
    assert_eq!(browser.all("article.held"), []);
    until("the deletion of the junk", || site.junk().is_empty().then_some(()));
}

#[test]
fn a_plan_of_a_rule_shows_how_many_leads_it_selects() {
    let Some(browser) = shared() else { return };
    let browser = turn(&browser);
    let site = Site::new();
    let junk = site.junk();
    site.plan(&browser);
    says(&browser, "main table", &format!("would be deleted {}", junk.len()));
    assert_eq!(site.junk(), junk, "a plan deletes nothing");
}

#[test]
fn a_deleted_lead_is_restored_from_its_page_once() {
    let Some(browser) = shared() else { return };
    let browser = turn(&browser);
    let site = Site::new();
    restore(&browser, &site);
}

fn restore(browser: &Browser, site: &Site) {
    let lead = site.drain(browser)[0];
    let page = format!("/leads/{lead}");
    site.open(browser, &page);
    browser.click("#confirm");
    browser.press(&format!("form[action='{page}/restore'] button"));
    until("the restored lead", || (site.junk().len() == 1).then_some(()));
    site.open(browser, &page);
    says(browser, "main", &format!("lead {}", site.junk()[0]));
    // The button is gone, or it says that it was done: either way there is one new lead.
    if !browser.all("#confirm").is_empty() {
        browser.click("#confirm");
        browser.press(&format!("form[action='{page}/restore'] button"));
        says(browser, "main > .notice", "already");
    }
    assert_eq!(site.junk().len(), 1);
}

#[test]
fn restore_pressed_in_two_tabs_makes_one_lead() {
    let Some(browser) = shared() else { return };
    let browser = turn(&browser);
    let site = Site::new();
    let lead = site.drain(&browser)[0];
    let before = site.portal.sandbox.ids_where(|_| true).len();
    let page = format!("/leads/{lead}");
    let button = format!("form[action='{page}/restore'] button");
    site.open(&browser, &page);
    browser.click("#confirm");
    let first = browser.tab();
    site.open(&browser, &page);
    browser.click("#confirm");
    browser.press(&button);
    until("the restored lead", || (site.junk().len() == 1).then_some(()));
    let new = site.junk()[0];
    says(&browser, "main > .notice, [role=status]", &format!("Restored as lead {new}."));
    // The page of the first tab was loaded before, and still has the button.
    browser.back(&first);
    browser.press(&button);
    says(&browser, "[role=alert]", &format!("It is restored already, as lead {new}"));
    assert_eq!(site.junk(), [new]);
    assert_eq!(site.portal.sandbox.ids_where(|_| true).len(), before + 1);
}

#[test]
fn a_script_in_a_leads_title_is_shown_and_does_not_run() {
    const TITLE: &str =
        "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">";
    let Some(browser) = shared() else { return };
    let browser = turn(&browser);
    let site = Site::guarded();
    let lead = site.add_junk(TITLE);
    site.open(&browser, &format!("/leads/{lead}"));
    sign_in(&browser, ADMIN_TOKEN);
    site.open(&browser, &format!("/leads/{lead}"));
    says(&browser, "main dl", TITLE);
    assert!(!browser.title().contains("owned"), "{}", browser.title());
    site.plan(&browser);
    assert!(!browser.title().contains("owned"), "{}", browser.title());
    assert_eq!(browser.complaints(), [] as [String; 0]);
}

#[test]
fn with_scripts_switched_off_every_order_works() {
    let Some(browser) = shared() else { return };
    let browser = turn(&browser);
    assert!(scripts_run(&browser), "else the next line proves nothing");
    browser.scripts(false);
    assert!(!scripts_run(&browser));
    let site = Site::capped();
    pause_and_resume(&browser, &site);
    approve(&browser, &site);
    let site = Site::new();
    restore(&browser, &site);
}

/// Whether the script of a page runs.
fn scripts_run(browser: &Browser) -> bool {
    browser.goto("data:text/html,<title>off</title><script>document.title='on'</script>");
    browser.title() == "on"
}

#[test]
fn with_scripts_switched_off_an_open_page_stays_as_it_is_and_a_reload_shows_the_figures() {
    let Some(browser) = shared() else { return };
    let browser = turn(&browser);
    browser.scripts(false);
    let site = Site::new();
    site.open(&browser, "/");
    let before = browser.text("#queue");
    let junk = site.junk().len();
    assert_eq!(site.run(&["run", "junk", "--wait"]), Some(0));
    assert!(site.junk().is_empty());
    assert_eq!(browser.text("#queue"), before);
    let wanted = format!("Deleted\n{junk}\n");
    until("the count of deleted leads", || {
        site.open(&browser, "/");
        browser.text("#queue").contains(&wanted).then_some(())
    });
}

#[test]
fn only_the_admin_token_opens_the_pages_until_the_visitor_signs_out() {
    let Some(browser) = shared() else { return };
    let browser = turn(&browser);
    let site = Site::guarded();
    site.open(&browser, "/jobs");
    assert!(browser.all("header nav").is_empty());
    sign_in(&browser, "wrong");
    says(&browser, "[role=alert]", "token");
    assert!(browser.all("header nav").is_empty());
    sign_in(&browser, ADMIN_TOKEN);
    site.open(&browser, "/jobs");
    says(&browser, "h1", "Jobs");
    browser.press("form[action='/logout'] button");
    site.open(&browser, "/jobs");
    assert!(browser.all("header nav").is_empty());
}

#[test]
fn the_figures_of_an_open_page_change_without_a_reload() {
    let Some(browser) = shared() else { return };
    let browser = turn(&browser);
    let site = Site::new();
    site.open(&browser, "/");
    let page = browser.one("html");
    let junk = site.junk().len();
    let command = ["run", "junk"];
    assert_eq!(site.run(&command), Some(0));
    let wanted = format!("Deleted\n{junk}\n");
    until("the count of deleted leads", || browser.text("#queue").contains(&wanted).then_some(()));
    assert_eq!(browser.one("html"), page, "the page was loaded anew");
}

#[test]
fn the_keyboard_alone_pauses_deleting() {
    let Some(browser) = shared() else { return };
    let browser = turn(&browser);
    let site = Site::new();
    site.open(&browser, "/");
    let button = browser.one("form[action='/pause'] button");
    let reached = (0..MOST_TABS).any(|_| {
        browser.key(TAB);
        browser.focused() == button
    });
    assert!(reached, "Tab does not reach the button");
    let page = browser.one("html");
    browser.key(ENTER);
    browser.left(&page);
    says(&browser, "#switch .notice", "Paused.");
}
