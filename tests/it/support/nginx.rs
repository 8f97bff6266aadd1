//! nginx before a server, as an operator configures it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::thread;

use tempfile::TempDir;

use super::dev_proxy::PAGE;
use super::external_tools::{is_installed, skip};

/// One nginx with one server, which ends when it is dropped.
pub(crate) struct Nginx {
    process: Child,
    /// `http://127.0.0.1:` and a port of its own.
    pub(crate) origin: String,
    _folder: TempDir,
}

impl Nginx {
    /// Starts one whose server has this page at [`PAGE`] and the locations that are made for its origin. Where there is no nginx, says so loudly, or
    /// fails if nothing may be skipped.
    pub(crate) fn start(test: &str, page: &str, mut locations: impl FnMut(&str) -> String) -> Option<Self> {
        if !is_installed("nginx") {
            skip(test, "Debian's package nginx");
            return None;
        }
        let started = (0..5).find_map(|_| Self::launch(page, &mut locations));
        Some(started.expect("an nginx that starts"))
    }

    /// `None` if another program took the port before.
    fn launch(page: &str, locations: &mut impl FnMut(&str) -> String) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().display();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let origin = format!("http://127.0.0.1:{port}");
        fs::write(folder.path().join("page.html"), page).unwrap();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {at}/{kind};"))
            .concat();
        let configuration = format!(
            "daemon off; master_process off; pid {at}/pid; error_log stderr notice; events {{}}\n\
             http {{ access_log off; {temporary}\n\
             server {{ listen 127.0.0.1:{port};\n\
             location = {PAGE} {{ default_type text/html; charset utf-8; alias {at}/page.html; }}\n\
             {} }} }}\n",
            locations(&origin)
        );
        fs::write(folder.path().join("nginx.conf"), configuration).unwrap();
        let mut process = Command::new("nginx")
            .arg("-p")
            .arg(folder.path())
            .args(["-c", "nginx.conf", "-e", "stderr"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It chooses how to wait for events after it has begun to listen.
        let mut said = BufReader::new(process.stderr.take().unwrap()).lines().map_while(Result::ok);
        let mut before = Vec::new();
        let listens = said.any(|line| {
            before.push(line);
            before.last().is_some_and(|line| line.contains("event method"))
        });
        if !listens {
            process.wait().unwrap();
            let is_taken = before.iter().any(|line| line.contains("Address already in use"));
            assert!(is_taken, "nginx does not start: {before:#?}");
            return None;
        }
        // A closed pipe would end it.
        thread::spawn(move || said.for_each(drop));
        Some(Self { process, origin, _folder: folder })
    }

    /// The URL of its page.
    pub(crate) fn page(&self) -> String {
        format!("{}{PAGE}", self.origin)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Both fail when it has ended already, which is as well.
        _ = self.process.kill();
        _ = self.process.wait();
    }
}
