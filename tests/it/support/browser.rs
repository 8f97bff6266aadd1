//! A real browser, driven over WebDriver (W3C), whose requests are plain JSON.
//!
//! The crates that speak it leave out the one thing these tests are for, the browser's own log of errors and
//! requests, so the few commands that are needed are sent by hand.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::external_tools::{is_installed, skip};

const NEEDS: &str = "Debian's packages chromium and chromium-driver";

/// The key under which WebDriver answers an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Runs the driver in a process group that ends with the test, however that ends: standard input is a pipe from the test,
/// and the system closes it when the process is gone.
const DRIVER: &str = "chromedriver --port=$0 < /dev/null & read -r _; kill -KILL 0";

/// Resolves when the page has an element for the selector, and fails when none has come after ten seconds.
const APPEARS: &str = r"
    const [selector, text, done] = arguments;
    const seen = () => [...document.querySelectorAll(selector)].some((it) => it.textContent.includes(text));
    if (seen()) return done(true);
    const late = setTimeout(() => done(false), 10000);
    new MutationObserver((_, observer) => {
        if (seen()) { observer.disconnect(); clearTimeout(late); done(true); }
    }).observe(document, { childList: true, subtree: true, characterData: true });
";

/// Resolves with the text of the first element for the selector once it holds the one and is not the other.
const CHANGES: &str = r"
    const [selector, text, before, done] = arguments;
    const now = () => document.querySelector(selector)?.textContent ?? '';
    const changed = () => now().includes(text) && now() !== before;
    if (changed()) return done(now());
    const late = setTimeout(() => done(null), 10000);
    new MutationObserver((_, observer) => {
        if (changed()) { observer.disconnect(); clearTimeout(late); done(now()); }
    }).observe(document, { childList: true, subtree: true, characterData: true });
";

/// Chromium without a window and without a network but this machine's own.
pub(crate) struct Browser {
    driver: Child,
    session: String,
    http: reqwest::Client,
    _profile: TempDir,
}

/// One of the pages that are open.
pub(crate) struct Tab(String);

impl Browser {
    /// Starts one. Where there is none, says so loudly, or fails if nothing may be skipped.
    pub(crate) async fn start(test: &str) -> Option<Self> {
        if ["chromium", "chromedriver"].into_iter().all(is_installed) {
            return Some(Self::launch().await);
        }
        skip(test, NEEDS);
        None
    }

    /// Starts what drives the browser, and returns by which port and what more it says.
    fn drive() -> Option<(Child, u16, impl Iterator<Item = String>)> {
        // Where there is no IPv6 it does not tell which one it took of its own accord.
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut driver = Command::new("sh")
            .args(["-c", DRIVER, &free.to_string()])
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(driver.stdout.take().unwrap()).lines().map_while(Result::ok);
        if !said.any(|line| line.contains("started successfully")) {
            end(&mut driver);
            return None;
        }
        Some((driver, free, said))
    }

    async fn launch() -> Self {
        // It ends where somebody else has the port by then.
        let (driver, port, said) = (0..5).find_map(|_| Self::drive()).expect("a driver that starts");
        // Whoever drives the browser talks all the while; a closed pipe would end it.
        std::thread::spawn(move || said.for_each(drop));

        let profile = tempfile::tempdir().unwrap();
        let arguments = [
            "--headless=new".to_owned(),
            "--no-sandbox".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--disable-quic".to_owned(),
            "--no-first-run".to_owned(),
            "--disable-background-networking".to_owned(),
            "--disable-component-update".to_owned(),
            "--disable-sync".to_owned(),
            "--window-size=1280,1600".to_owned(),
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1".to_owned(),
            format!("--user-data-dir={}", profile.path().display()),
        ];
        let capabilities = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
        } } });
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let session = format!("http://127.0.0.1:{port}/session");
        let mut browser = Self { driver, session, http, _profile: profile };
        let opened = browser.command("POST", "", &capabilities).await;
        browser.session = format!("{}/{}", browser.session, opened["sessionId"].as_str().unwrap());
        browser
    }

    pub(crate) async fn open(&self, url: &str) {
        self.command("POST", "/url", &json!({ "url": url })).await;
    }

    /// Waits until something that the selector finds holds the text.
    pub(crate) async fn wait_for(&self, selector: &str, text: &str) {
        let script = json!({ "script": APPEARS, "args": [selector, text] });
        let appeared = self.command("POST", "/execute/async", &script).await;
        assert_eq!(appeared, true, "{selector} with {text:?}, on {}", self.text("body").await);
    }

    /// Waits until what the selector finds holds the text and is another than `before`, and returns it.
    pub(crate) async fn wait_for_another(&self, selector: &str, text: &str, before: &str) -> String {
        let script = json!({ "script": CHANGES, "args": [selector, text, before] });
        let now = self.command("POST", "/execute/async", &script).await;
        let Some(now) = now.as_str() else {
            panic!("{selector} with {text:?} after {before:?}, on {}", self.text("body").await)
        };
        now.to_owned()
    }

    /// The tab that is driven.
    pub(crate) async fn tab(&self) -> Tab {
        Tab(self.command("GET", "/window", &Value::Null).await.as_str().unwrap().to_owned())
    }

    /// Opens one beside it, which is driven from now on.
    pub(crate) async fn open_tab(&self, url: &str) -> Tab {
        let opened = self.command("POST", "/window/new", &json!({ "type": "tab" })).await;
        let tab = Tab(opened["handle"].as_str().unwrap().to_owned());
        self.turn_to(&tab).await;
        self.open(url).await;
        tab
    }

    /// Drives this one from now on.
    pub(crate) async fn turn_to(&self, tab: &Tab) {
        self.command("POST", "/window", &json!({ "handle": tab.0 })).await;
    }

    pub(crate) async fn click(&self, selector: &str) {
        let element = self.find(selector).await;
        // Scrolled to first, as a person would.
        let script = json!({
            "script": "arguments[0].scrollIntoView({ block: 'center' })",
            "args": [{ ELEMENT: element }],
        });
        self.command("POST", "/execute/sync", &script).await;
        self.command("POST", &format!("/element/{element}/click"), &json!({})).await;
    }

    pub(crate) async fn clear(&self, selector: &str) {
        let element = self.find(selector).await;
        self.command("POST", &format!("/element/{element}/clear"), &json!({})).await;
    }

    pub(crate) async fn type_into(&self, selector: &str, text: &str) {
        let element = self.find(selector).await;
        self.command("POST", &format!("/element/{element}/value"), &json!({ "text": text })).await;
    }

    pub(crate) async fn text(&self, selector: &str) -> String {
        let element = self.find(selector).await;
        let text = self.command("GET", &format!("/element/{element}/text"), &Value::Null).await;
        text.as_str().unwrap().to_owned()
    }

    /// What the browser complained of since it was last asked: script errors, failed requests, violations of
    /// the page's policy. Not its hints to whoever wrote the page, such as that an input could be filled in by itself, and
    /// not what it says of pages of its own, as of the one that a new tab begins with.
    pub(crate) async fn complaints(&self) -> Vec<String> {
        let entries = self.command("POST", "/se/log", &json!({ "type": "browser" })).await;
        let complaints = entries.as_array().unwrap().iter().filter(|entry| entry["level"] != "DEBUG");
        let told = complaints.filter_map(|entry| entry["message"].as_str());
        told.filter(|message| !is_its_own(message)).map(str::to_owned).collect()
    }

    /// The URL of every request since it was last asked, but for those of its own pages.
    pub(crate) async fn requests(&self) -> Vec<String> {
        let entries = self.command("POST", "/se/log", &json!({ "type": "performance" })).await;
        let sent = |entry: &Value| {
            let message: Value = serde_json::from_str(entry["message"].as_str()?).ok()?;
            let message = &message["message"];
            let is_sent = message["method"] == "Network.requestWillBeSent";
            is_sent.then(|| message["params"]["request"]["url"].as_str().map(str::to_owned))?
        };
        entries.as_array().unwrap().iter().filter_map(sent).filter(|url| !is_its_own(url)).collect()
    }

    async fn find(&self, selector: &str) -> String {
        let using = json!({ "using": "css selector", "value": selector });
        let found = self.command("POST", "/element", &using).await;
        found[ELEMENT].as_str().unwrap_or_else(|| panic!("{selector}: {found}")).to_owned()
    }

    async fn command(&self, method: &str, path: &str, body: &Value) -> Value {
        let request = self.http.request(method.parse().unwrap(), format!("{}{path}", self.session));
        let request = if method == "POST" { request.json(body) } else { request };
        let mut answer: Value = request.send().await.unwrap().json().await.unwrap();
        assert!(answer["value"]["error"].is_null(), "{path}: {answer}");
        answer["value"].take()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        end(&mut self.driver);
    }
}

/// Ends the driver with the browser, whose processes are of its group.
fn end(driver: &mut Child) {
    // It fails when all have ended already.
    _ = kill_process_group(Pid::from_child(driver), Signal::KILL);
    _ = driver.wait();
}

/// Whether this begins with the URL of a page that the browser brings along.
fn is_its_own(text: &str) -> bool {
    text.starts_with("chrome://") || text.starts_with("chrome-untrusted://")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;

    use super::*;

    /// The processes of a group that have not ended.
    fn members(group: i32) -> Vec<String> {
        let stats = fs::read_dir("/proc").unwrap().flatten();
        let stats = stats.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
        // After the name: state, parent, group (proc_pid_stat(5)).
        let is_member = |stat: &String| {
            let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
            fields[2] == group.to_string() && fields[0] != "Z"
        };
        stats.filter(is_member).collect()
    }

    /// Each has been sent SIGKILL, so a few looks are enough.
    fn assert_end(group: i32) {
        let is_over = (0..20_000).any(|_| {
            std::thread::yield_now();
            members(group).is_empty()
        });
        assert!(is_over, "{:?}", members(group));
    }

    fn group(browser: &Browser) -> i32 {
        Pid::from_child(&browser.driver).as_raw_nonzero().get()
    }

    #[tokio::test]
    async fn browser_ends_with_its_test() {
        let Some(browser) = Browser::start("browser_ends_with_its_test").await else { return };
        let group = group(&browser);
        assert!(members(group).len() > 3, "{:?}", members(group));

        drop(browser);

        assert_end(group);
    }

    #[tokio::test]
    async fn browser_ends_when_its_test_panics() {
        let Some(browser) = Browser::start("browser_ends_when_its_test_panics").await else { return };
        let group = group(&browser);

        let panicked = tokio::spawn(async move {
            let _browser = browser;
            panic!("as a test does that fails");
        });

        assert!(panicked.await.unwrap_err().is_panic());
        assert_end(group);
    }

    #[test]
    fn browser_ends_when_its_test_is_killed() {
        if !["chromium", "chromedriver"].into_iter().all(is_installed) {
            return skip("browser_ends_when_its_test_is_killed", NEEDS);
        }
        let mut test = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "support::browser::tests::stays_until_it_is_killed",
                "--ignored",
                "--nocapture",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(test.stdout.take().unwrap()).lines().map_while(Result::ok);
        let group =
            said.find_map(|line| line.strip_prefix("the group is ")?.parse().ok()).expect("a browser");
        assert!(members(group).len() > 3, "{:?}", members(group));

        test.kill().unwrap();

        test.wait().unwrap();
        assert_end(group);
    }

    #[tokio::test]
    #[ignore = "another test runs it in a process of its own"]
    async fn stays_until_it_is_killed() {
        let browser = Browser::start("stays_until_it_is_killed").await.unwrap();
        println!("\nthe group is {}", group(&browser));
        // Ends with the other test.
        _ = std::io::stdin().read_to_end(&mut Vec::new());
    }
}
