//! What every page promises to every reader: nothing scrolls sideways on a phone, nothing that the browser complains of,
//! and that it can be used without seeing it.

use serde_json::Value;

use crate::site::{ADMIN_TOKEN, Site};
use crate::webdriver::{Browser, shared, turn};

/// The narrowest phone.
const PHONE: (u32, u32) = (360, 740);

/// What is wrong with a page's structure, as lines.
const STRUCTURE: &str = r#"
const wrong = [];
const say = (what, one) => wrong.push(`${what}: ${one.outerHTML.slice(0, 160)}`);
for (const one of document.querySelectorAll("input:not([type=hidden]), select, textarea"))
  if (!one.labels.length && !one.ariaLabel) say("no label", one);
for (const one of document.querySelectorAll("button, a"))
  if (!one.textContent.trim() && !one.ariaLabel) say("no name", one);
for (const one of document.querySelectorAll("table"))
  if (!one.caption || !one.querySelector("th[scope=col]")) say("no caption or headers", one);
for (const one of document.querySelectorAll("[id]"))
  if (document.querySelectorAll(`[id="${CSS.escape(one.id)}"]`).length > 1) say("an id twice", one);
for (const name of ["main", "h1"])
  if (document.querySelectorAll(name).length !== 1) wrong.push(`not one ${name}`);
if (!document.documentElement.lang) wrong.push("no language");
let level = 0;
for (const one of document.querySelectorAll("h1, h2, h3, h4, h5, h6")) {
  const next = Number(one.tagName[1]);
  if (next > level + 1) say("a level of headings is left out", one);
  level = next;
}
return wrong;
"#;

/// Runs axe and gives what it finds, as lines.
const AXE: &str = r#"
const done = arguments[arguments.length - 1];
axe.run(document, { resultTypes: ["violations"] }).then(
  (result) => done(result.violations.flatMap((one) =>
    one.nodes.map((node) => `${one.id}: ${node.html.slice(0, 160)} ${node.failureSummary}`))),
  (error) => done([String(error)]),
);
"#;

/// Opens every page of a service with deleted, restored and waiting leads, a plan, and a held run; `look` sees each.
pub(crate) fn each_page(browser: &Browser, mut look: impl FnMut(&str)) {
    let site = Site::capped();
    let lead = site.junk()[0];
    site.open(browser, "/rules/junk");
    browser.press("form[action='/rules/junk/run'] button");
    crate::service::until("a held run", || {
        site.open(browser, "/runs");
        (!browser.all("article.held").is_empty()).then_some(())
    });
    site.plan(browser);
    for path in
        ["/", "/jobs", "/runs", "/rules", "/rules/junk", "/rules/junk/plan", &format!("/leads/{lead}")]
    {
        site.open(browser, path);
        look(path);
    }
    let guarded = Site::guarded();
    guarded.open(browser, "/");
    look("the login page");
    browser.fill("#token", ADMIN_TOKEN);
    browser.press("main.login button");
    let lead = guarded.drain(browser)[0];
    guarded.open(browser, "/");
    browser.press("form[action='/pause'] button");
    for path in ["/", "/jobs", "/runs", "/rules/junk", &format!("/leads/{lead}")] {
        guarded.open(browser, path);
        look(&format!("{path} after a drain"));
    }
}

fn lines(found: &Value) -> Vec<String> {
    found.as_array().unwrap().iter().map(|line| line.as_str().unwrap().to_owned()).collect()
}

/// Opens everything that can be opened.
fn unfold(browser: &Browser) {
    browser.eval("for (const one of document.querySelectorAll('details')) one.open = true;");
}

#[test]
fn on_a_phone_no_page_scrolls_sideways() {
    let Some(browser) = shared() else { return };
    let browser = turn(&browser);
    browser.size(PHONE.0, PHONE.1);
    each_page(&browser, |page| {
        unfold(&browser);
        let widths = browser
            .eval("return [document.documentElement.scrollWidth, document.documentElement.clientWidth]");
        assert_eq!(widths, serde_json::json!([PHONE.0, PHONE.0]), "{page}");
    });
}

#[test]
fn no_page_makes_the_browser_complain() {
    let Some(browser) = shared() else { return };
    let browser = turn(&browser);
    each_page(&browser, |page| assert_eq!(browser.complaints(), [] as [String; 0], "{page}"));
}

#[test]
fn a_picture_without_words_and_a_pale_text_are_found() {
    const FAULTS: &str = r#"
const main = document.querySelector("main");
main.append(document.createElement("img"));
const pale = document.createElement("p");
pale.textContent = "pale";
pale.style.color = "rgb(200, 200, 200)";
pale.style.backgroundColor = "rgb(255, 255, 255)";
main.append(pale, document.createElement("button"));
"#;
    let Some(browser) = shared() else { return };
    let browser = turn(&browser);
    let site = Site::new();
    site.open(&browser, "/");
    assert_eq!(lines(&browser.eval(STRUCTURE)), [] as [String; 0]);
    browser.eval(FAULTS);
    let found = lines(&browser.eval(STRUCTURE));
    assert!(found.len() == 1 && found[0].starts_with("no name: <button>"), "{found:?}");
    let Some(axe) = std::env::var_os("JANITOR_AXE") else { return };
    browser.eval(&std::fs::read_to_string(axe).unwrap());
    let found = lines(&browser.eval_later(AXE));
    for rule in ["image-alt: <img", "color-contrast: <p", "button-name: <button"] {
        assert!(found.iter().any(|line| line.starts_with(rule)), "{rule}: {found:#?}");
    }
    assert_eq!(found.len(), 3, "{found:#?}");
}

#[test]
fn every_page_can_be_used_without_seeing_it() {
    let Some(browser) = shared() else { return };
    let browser = turn(&browser);
    let axe = std::env::var_os("JANITOR_AXE").map(|path| std::fs::read_to_string(path).unwrap());
    if axe.is_none() {
        eprintln!(
            "SKIPPED in part: JANITOR_AXE names no axe.min.js, so only the structure of the pages is looked at"
        );
    }
    let mut wrong = Vec::new();
    each_page(&browser, |page| {
        unfold(&browser);
        let mut add = |scheme: &str, found: &Value| {
            wrong.extend(lines(found).into_iter().map(|line| format!("{page}, {scheme}: {line}")));
        };
        add("structure", &browser.eval(STRUCTURE));
        if let Some(axe) = &axe {
            browser.eval(axe);
            for (dark, scheme) in [(false, "light"), (true, "dark")] {
                browser.dark(dark);
                add(scheme, &browser.eval_later(AXE));
            }
            browser.dark(false);
        }
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
