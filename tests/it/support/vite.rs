//! The development server of Vite before a server, with the proxy that its documentation shows.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::thread;

use tempfile::TempDir;

use super::external_tools::{is_installed, skip};

/// The last one that runs on the Node.js of Debian 12. Its proxy has the same defaults as that of Vite 7.
const VERSION: &str = "6.4.6";

/// One Vite, which ends when it is dropped.
pub(crate) struct Vite {
    process: Child,
    /// `http://127.0.0.1:` and a port of its own; its start page is the one that was given.
    pub(crate) origin: String,
    _folder: TempDir,
}

impl Vite {
    /// Starts one that serves this page and passes `/api` on to this URL. Where there is none and none to be had, says so
    /// loudly, or fails if nothing may be skipped.
    pub(crate) fn start(test: &str, page: &str, api: &str) -> Option<Self> {
        let Some(vite) = &*VITE else {
            skip(test, "npm, and npm to reach a package index (apt install nodejs npm)");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let origin = format!("http://127.0.0.1:{port}");
        let configuration = format!(
            "export default {{ cacheDir: 'cache', server: {{ host: '127.0.0.1', port: {port}, strictPort: true, \
             proxy: {{ '/api': '{api}' }} }} }};"
        );
        fs::write(folder.path().join("vite.config.mjs"), configuration).unwrap();
        fs::write(folder.path().join("index.html"), page).unwrap();
        let mut process = Command::new("node")
            .arg(vite)
            .current_dir(folder.path())
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(process.stdout.take().unwrap()).lines().map_while(Result::ok);
        assert!(said.any(|line| line.contains("Local:")), "Vite does not start");
        // A closed pipe would end it.
        thread::spawn(move || said.for_each(drop));
        Some(Self { process, origin, _folder: folder })
    }
}

impl Drop for Vite {
    fn drop(&mut self) {
        // Both fail when it has ended already, which is as well.
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

/// Vite's program, beside what Cargo builds. Installed once, and found there by every later run.
static VITE: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    let test = std::env::current_exe().unwrap();
    let tools = test.ancestors().nth(3).unwrap().join("tools");
    let folder = tools.join("vite");
    // Another run of the tests may be at it.
    fs::create_dir_all(&folder).unwrap();
    let alone = File::create(tools.join("vite.lock")).unwrap();
    alone.lock().unwrap();
    let module = folder.join("node_modules/vite");
    let manifest = format!("\"version\": \"{VERSION}\"");
    let is_there =
        || fs::read_to_string(module.join("package.json")).is_ok_and(|text| text.contains(&manifest));
    let install = || {
        let mut npm = Command::new("npm");
        npm.args(["install", "--silent", "--no-audit", "--no-fund", "--no-save", "--prefix"]).arg(&folder);
        npm.arg(format!("vite@{VERSION}")).stdin(Stdio::null()).stdout(Stdio::null());
        is_installed("npm") && npm.status().is_ok_and(|status| status.success())
    };
    (is_there() || (install() && is_there())).then(|| module.join("bin/vite.js"))
});
