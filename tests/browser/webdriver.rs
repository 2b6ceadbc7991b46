//! The smallest WebDriver client (<https://www.w3.org/TR/webdriver2/>): one chromedriver and one headless Chromium for all
//! tests, which take turns.
//!
//! No crate does this here: `fantoccini` brings a licence that `deny.toml` does not know, and `thirtyfour` changes the order
//! of every JSON object in the test build.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use serde_json::{Value, json};

use crate::service::until;

/// The key of an element's reference in every answer.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
/// Longer than any command takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Set where a test may not be skipped.
const REQUIRED: &str = "JANITOR_BROWSER_REQUIRED";

/// The browser that runs, if any; the last test that holds it ends it.
static RUNNING: Mutex<Weak<Mutex<Browser>>> = Mutex::new(Weak::new());

/// A browser for all tests; `None` where no chromedriver is installed, which is said on standard error.
pub(crate) fn shared() -> Option<Arc<Mutex<Browser>>> {
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(browser) = running.upgrade() {
        return Some(browser);
    }
    let browser = Arc::new(Mutex::new(Browser::start()?));
    *running = Arc::downgrade(&browser);
    Some(browser)
}

/// One test's turn, with nothing left of the test before.
pub(crate) fn turn(browser: &Mutex<Browser>) -> MutexGuard<'_, Browser> {
    let mut browser = browser.lock().unwrap_or_else(PoisonError::into_inner);
    browser.forget();
    browser
}

/// A chromedriver and its session.
pub(crate) struct Browser {
    driver: Child,
    address: SocketAddr,
    session: String,
}

/// An element of the page that is open.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Element(String);

/// A tab of the browser.
pub(crate) struct Tab(String);

impl Browser {
    fn start() -> Option<Browser> {
        let mut command = Command::new("chromedriver");
        command.arg("--port=0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut driver = match command.spawn() {
            Ok(driver) => driver,
            Err(error) => {
                assert!(
                    std::env::var_os(REQUIRED).is_none(),
                    "{REQUIRED} is set, and no chromedriver starts: {error}"
                );
                eprintln!("SKIPPED: no chromedriver starts ({error}); install chromium and chromium-driver");
                return None;
            }
        };
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| {
                Some(line.split_once("successfully on port ")?.1.trim_end_matches('.').to_owned())
            })
            .unwrap();
        std::thread::spawn(move || lines.for_each(drop));
        let address = SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap()));
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--window-size=1280,900",
        ];
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
            "timeouts": { "pageLoad": 30000, "script": 30000 },
        } } });
        let mut browser = Browser { driver, address, session: String::new() };
        let made = browser.ask("POST", "/session", &wanted).unwrap();
        browser.session = format!("/session/{}", made["sessionId"].as_str().unwrap());
        Some(browser)
    }

    /// Takes back everything that a test may have set.
    fn forget(&mut self) {
        self.goto("about:blank");
        self.cdp("Network.clearBrowserCookies", json!({}));
        self.scripts(true);
        self.dark(false);
        self.size(1280, 900);
        self.complaints();
    }

    /// Opens an address and waits until it is loaded.
    pub(crate) fn goto(&self, url: &str) {
        self.post("/url", json!({ "url": url }));
    }

    /// Opens another tab and goes there; returns the one that was left.
    pub(crate) fn tab(&self) -> Tab {
        let left = Tab(self.get("/window").as_str().unwrap().to_owned());
        let opened = self.post("/window/new", json!({ "type": "tab" }));
        self.post("/window", json!({ "handle": opened["handle"] }));
        left
    }

    /// Closes this tab and goes back to another one, whose page is as it was left.
    pub(crate) fn back(&self, to: &Tab) {
        self.ask("DELETE", &format!("{}/window", self.session), &Value::Null).unwrap();
        self.post("/window", json!({ "handle": to.0 }));
    }

    pub(crate) fn title(&self) -> String {
        self.get("/title").as_str().unwrap().to_owned()
    }

    /// The elements that a CSS selector finds.
    pub(crate) fn all(&self, css: &str) -> Vec<Element> {
        let found = self.post("/elements", json!({ "using": "css selector", "value": css }));
        found
            .as_array()
            .unwrap()
            .iter()
            .map(|one| Element(one[ELEMENT].as_str().unwrap().to_owned()))
            .collect()
    }

    /// The first element that a CSS selector finds; waits for it.
    pub(crate) fn one(&self, css: &str) -> Element {
        until(css, || self.all(css).into_iter().next())
    }

    /// The text of the first element that a CSS selector finds, as a reader sees it.
    pub(crate) fn text(&self, css: &str) -> String {
        // A live part may be replaced between finding it and reading it.
        until(css, || {
            let element = self.all(css).into_iter().next()?;
            Some(self.ask("GET", &self.of(&element, "text"), &Value::Null).ok()?.as_str()?.to_owned())
        })
    }

    /// Clicks, and waits for the page that the click leads to.
    pub(crate) fn press(&self, css: &str) {
        let before = self.one("html");
        let pressed = until(css, || {
            let element = self.all(css).into_iter().next()?;
            self.ask("POST", &self.of(&element, "click"), &json!({})).ok()
        });
        assert_eq!(pressed, Value::Null);
        self.left(&before);
    }

    /// Waits until the page of this element is gone, and the next one is loaded.
    pub(crate) fn left(&self, before: &Element) {
        until("the next page", || (self.all("html").first() != Some(before)).then_some(()));
        self.one("footer, main.login");
    }

    /// Clicks what leads to no other page.
    pub(crate) fn click(&self, css: &str) {
        let element = self.one(css);
        self.ask("POST", &self.of(&element, "click"), &json!({})).unwrap();
    }

    /// Replaces what a field holds.
    pub(crate) fn fill(&self, css: &str, text: &str) {
        let element = self.one(css);
        self.ask("POST", &self.of(&element, "clear"), &json!({})).unwrap();
        self.ask("POST", &self.of(&element, "value"), &json!({ "text": text })).unwrap();
    }

    /// Presses one key of the keyboard, wherever the focus is.
    pub(crate) fn key(&self, key: char) {
        let actions = json!([{ "type": "keyDown", "value": key }, { "type": "keyUp", "value": key }]);
        self.post(
            "/actions",
            json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": actions }] }),
        );
    }

    /// The element that has the focus.
    pub(crate) fn focused(&self) -> Element {
        Element(self.get("/element/active")[ELEMENT].as_str().unwrap().to_owned())
    }

    /// The value of a script of ours; the page's policy does not apply to it.
    pub(crate) fn eval(&self, script: &str) -> Value {
        self.post("/execute/sync", json!({ "script": script, "args": [] }))
    }

    /// The same for a script that calls its last argument with its value.
    pub(crate) fn eval_later(&self, script: &str) -> Value {
        self.post("/execute/async", json!({ "script": script, "args": [] }))
    }

    /// What the browser has complained of since this was last asked: errors, warnings, and what a page's policy has
    /// blocked. That the login page comes with the status 401 is as it should be.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let log = self.post("/se/log", json!({ "type": "browser" }));
        let entries = log.as_array().unwrap().iter();
        let loud = entries.filter(|entry| matches!(entry["level"].as_str(), Some("WARNING" | "SEVERE")));
        let messages = loud.map(|entry| entry["message"].as_str().unwrap().to_owned());
        messages.filter(|message| !message.ends_with("a status of 401 (Unauthorized)")).collect()
    }

    /// Whether pages may run scripts.
    pub(crate) fn scripts(&self, allowed: bool) {
        self.cdp("Emulation.setScriptExecutionDisabled", json!({ "value": !allowed }));
    }

    /// Whether the person prefers a dark scheme.
    pub(crate) fn dark(&self, dark: bool) {
        let value = if dark { "dark" } else { "light" };
        let features = json!([{ "name": "prefers-color-scheme", "value": value }]);
        self.cdp("Emulation.setEmulatedMedia", json!({ "features": features }));
    }

    /// The size of the screen in CSS pixels.
    pub(crate) fn size(&self, width: u32, height: u32) {
        let metrics =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.cdp("Emulation.setDeviceMetricsOverride", metrics);
    }

    /// What the screen shows, as a PNG.
    pub(crate) fn screenshot(&self) -> Vec<u8> {
        from_base64(self.get("/screenshot").as_str().unwrap())
    }

    /// A command of the DevTools protocol (<https://chromedevtools.github.io/devtools-protocol/>).
    pub(crate) fn cdp(&self, method: &str, params: Value) -> Value {
        self.post("/goog/cdp/execute", json!({ "cmd": method, "params": params }))
    }

    fn of(&self, element: &Element, what: &str) -> String {
        format!("{}/element/{}/{what}", self.session, element.0)
    }

    fn get(&self, path: &str) -> Value {
        self.ask("GET", &format!("{}{path}", self.session), &Value::Null).unwrap()
    }

    fn post(&self, path: &str, body: Value) -> Value {
        self.ask("POST", &format!("{}{path}", self.session), &body).unwrap()
    }

    /// One command; the error is what the driver says.
    fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let mut stream = TcpStream::connect(self.address).map_err(|error| error.to_string())?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let body = if method == "POST" { body.to_string() } else { String::new() };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).unwrap();
        let mut reader = BufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if line.trim().is_empty() {
                break;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut answer = vec![0; length];
        reader.read_exact(&mut answer).unwrap();
        let mut answer: Value = serde_json::from_slice(&answer).unwrap();
        let value = answer["value"].take();
        if value["error"].is_string() { Err(format!("{method} {path}: {value}")) } else { Ok(value) }
    }
}

fn from_base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::new();
    let (mut held, mut bits) = (0_u32, 0);
    for digit in text.bytes().filter_map(|byte| DIGITS.iter().position(|one| *one == byte)) {
        held = (held << 6) | u32::try_from(digit).unwrap();
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from((held >> bits) & 0xff).unwrap());
        }
    }
    bytes
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.ask("DELETE", &self.session, &Value::Null);
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
