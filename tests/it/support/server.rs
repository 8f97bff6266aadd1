//! The real server: the binary `auth-api` in a folder of its own, on a port of its own.
//!
//! A [`Deployment`] is a folder and settings; it runs commands and starts servers, one after the other or
//! several at once. A [`Server`] is one process that listens.

use std::any::Any;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Condvar, LazyLock, Mutex};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::Value;
use tempfile::TempDir;

use super::future_migration;
use super::lock::Lock;
use super::sqlite;

/// Far longer than anything takes here; a test that waits as long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// A folder and settings. Clones share the folder, which goes with the last of them and of their servers.
#[derive(Clone)]
pub(crate) struct Deployment {
    folder: Arc<TempDir>,
    settings: Vec<(String, String)>,
    elsewhere: Option<Arc<dyn Elsewhere>>,
}

/// A database that is not in the folder.
pub(crate) trait Elsewhere: Send + Sync {
    fn url(&self) -> String;

    /// All that it keeps.
    fn contents(&self) -> Vec<u8>;

    /// Does to it what somebody can who may write to it.
    fn tamper(&self, sql: &str);

    /// Keeps everybody from changing users and sessions, until it is dropped.
    fn lock(&self) -> Box<dyn Any>;

    /// Migrates it as a later release does that does this too, and tells how many migrations were applied.
    fn upgrade(&self, sql: &str) -> usize;
}

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Finished {
    /// The exit code.
    pub(crate) code: i32,
    /// What it answered.
    pub(crate) stdout: String,
    /// What else it said.
    pub(crate) stderr: String,
}

/// A server that listens. It is killed when it is dropped.
pub(crate) struct Server {
    deployment: Deployment,
    process: Child,
    base_url: String,
    ops_url: Option<String>,
    log: Arc<Log>,
}

/// What a server has logged so far, and will.
pub(crate) struct Log {
    written: Mutex<Written>,
    grown: Condvar,
}

#[derive(Default)]
struct Written {
    lines: Vec<String>,
    ended: bool,
}

impl Deployment {
    /// An empty folder, in development, with the cheapest hashes there are, a log for machines, and no limits: all tests
    /// come from one network. The issuer does not follow from the port, so that tokens outlive a restart.
    pub(crate) fn new() -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let deployment = Self { folder, settings: Vec::new(), elsewhere: None };
        deployment
            .set("AUTH_HTTP__ADDR", "127.0.0.1:0")
            .set("AUTH_OPS__ADDR", "127.0.0.1:0")
            .set("AUTH_PASSWORD__BCRYPT_COST", "10")
            .set("AUTH_LOG__FORMAT", "json")
            .set("AUTH_LIMITS__ENABLED", "false")
            .set("AUTH_TOKEN__ISSUER", "http://localhost:8000")
    }

    /// An empty folder and nothing set, as for a newcomer.
    pub(crate) fn bare() -> Self {
        Self { settings: Vec::new(), ..Self::new() }
    }

    /// Takes a variable out of the environment.
    pub(crate) fn unset(mut self, name: &str) -> Self {
        self.settings.retain(|(other, _)| other != name);
        self
    }

    /// Sets a variable of the environment, in place of what it was.
    pub(crate) fn set(mut self, name: &str, value: impl Into<String>) -> Self {
        self.settings.retain(|(other, _)| other != name);
        self.settings.push((name.to_owned(), value.into()));
        self
    }

    /// Has it keep users in a database that is not in its folder.
    #[cfg(postgres)]
    pub(crate) fn on(self, database: Arc<dyn Elsewhere>) -> Self {
        let url = database.url();
        Self { elsewhere: Some(database), ..self.set("AUTH_DATABASE__URL", url) }
    }

    /// All that its database keeps.
    pub(crate) fn all_that_is_kept(&self) -> Vec<u8> {
        match &self.elsewhere {
            Some(database) => database.contents(),
            None => fs::read(self.folder().join("data/auth.db")).unwrap(),
        }
    }

    /// Does to its database what somebody can who may write to it.
    pub(crate) fn tamper(&self, sql: &str) {
        match &self.elsewhere {
            Some(database) => database.tamper(sql),
            None => sqlite::tamper_with(self.folder(), sql),
        }
    }

    /// Somebody else who is about to change users and sessions in its database and takes their time, until they are
    /// dropped.
    pub(crate) fn lock(&self) -> Box<dyn Any> {
        match &self.elsewhere {
            Some(database) => database.lock(),
            None => Box::new(Lock::take(&self.folder().join("data/auth.db"))),
        }
    }

    /// Migrates its database as a later release does that does this too, and tells how many migrations were applied.
    pub(crate) fn upgrade(&self, sql: &str) -> usize {
        if let Some(database) = &self.elsewhere {
            return database.upgrade(sql);
        }
        let (path, folder) =
            (self.folder().join("data/auth.db"), future_migration::migrations("sqlite", sql));
        store_sqlite::migrations::up_from(&path, folder.path()).unwrap().len()
    }

    /// The folder it runs in.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Puts a file into the folder.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// `auth-api` with these arguments, not started yet. The environment of the test does not reach it.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&*BINARY);
        command.args(arguments).env_clear().envs(self.settings.iter().cloned()).current_dir(self.folder());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs `auth-api` with these arguments to its end, with nothing on standard input.
    pub(crate) fn run(&self, arguments: &[&str]) -> Finished {
        self.run_with(arguments, "")
    }

    /// Runs `auth-api` with these arguments to its end, with `input` on standard input.
    pub(crate) fn run_with(&self, arguments: &[&str], input: &str) -> Finished {
        let mut process = self.command(arguments).stdin(Stdio::piped()).spawn().unwrap();
        // A server that should have been refused would go on for ever.
        let pid = Pid::from_child(&process);
        let (ended, watched) = mpsc::channel::<()>();
        thread::spawn(move || {
            if watched.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                _ = kill_process(pid, Signal::KILL);
            }
        });
        // A command that refuses its arguments does not read, and closes the pipe.
        _ = process.stdin.take().unwrap().write_all(input.as_bytes());
        let output = process.wait_with_output().unwrap();
        drop(ended);
        Finished {
            code: output.status.code().expect("an exit code, and not a signal"),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Starts `auth-api serve` and returns when it listens.
    pub(crate) fn serve(&self) -> Server {
        self.serve_by(self.command(&["serve"]))
    }

    /// The same as the first process on a terminal, which closes when the file is dropped. It still logs into a pipe.
    pub(crate) fn serve_on_a_terminal(&self) -> (Server, File) {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let path = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
        let other_side = File::options().read(true).write(true).open(path).unwrap();
        let own = self.command(&["serve"]);
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg(own.get_program()).args(own.get_args()).current_dir(self.folder());
        command.env_clear().envs(self.settings.iter().cloned());
        command.stdin(other_side).stderr(Stdio::piped());
        (self.serve_by(command), File::from(terminal))
    }

    fn serve_by(&self, mut command: Command) -> Server {
        let mut process = command.stdout(Stdio::null()).spawn().unwrap();
        drop(command);
        let log = Log::follow(process.stderr.take().unwrap());
        let listening = log.wait_for("a listening server", |line| line["message"] == "listening");
        let base_url = listening["address"].as_str().unwrap().to_owned();
        let ops_url = listening["ops"].as_str().map(str::to_owned);
        Server { deployment: self.clone(), process, base_url, ops_url, log }
    }
}

impl Finished {
    /// The answer as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Server {
    /// A server in a folder of its own.
    pub(crate) fn start() -> Self {
        Deployment::new().serve()
    }

    /// `http://127.0.0.1:` and its port, or `https://` where it speaks TLS.
    pub(crate) fn base_url(&self) -> &str {
        &self.base_url
    }

    /// The same of its listener for operators, which it must have.
    pub(crate) fn ops_url(&self) -> &str {
        self.ops_url.as_deref().expect("a listener for operators")
    }

    /// `127.0.0.1:` and its port.
    pub(crate) fn ops_address(&self) -> &str {
        self.ops_url().split_once("://").unwrap().1
    }

    /// The URL of a path that begins with a slash.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base_url())
    }

    /// `127.0.0.1:` and its port, for those who speak to it without a client.
    pub(crate) fn address(&self) -> &str {
        self.base_url.split_once("://").unwrap().1
    }

    /// What it runs in and with.
    pub(crate) fn deployment(&self) -> &Deployment {
        &self.deployment
    }

    /// What it logs.
    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// Sends SIGTERM and returns at once.
    pub(crate) fn terminate(&self) {
        kill_process(Pid::from_child(&self.process), Signal::TERM).unwrap();
    }

    /// Sends SIGINT and returns at once.
    pub(crate) fn interrupt(&self) {
        kill_process(Pid::from_child(&self.process), Signal::INT).unwrap();
    }

    /// The number of its process.
    pub(crate) fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// Sends SIGHUP and returns at once.
    pub(crate) fn hang_up(&self) {
        kill_process(Pid::from_child(&self.process), Signal::HUP).unwrap();
    }

    /// Waits until the process is gone.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.log.wait_for_end();
        self.process.wait().unwrap()
    }

    /// Sends SIGTERM and waits until the process is gone.
    pub(crate) fn stop(mut self) -> ExitStatus {
        self.terminate();
        self.wait()
    }

    /// Ends the process with SIGKILL, as a power cut would.
    pub(crate) fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Stops it, and starts another in the same folder with the same settings, on another port.
    pub(crate) fn restart(self) -> Self {
        let deployment = self.deployment.clone();
        let status = self.stop();
        assert!(status.success(), "{status}");
        deployment.serve()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail when it has ended already, which is as well.
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

impl Log {
    /// The lines so far, as they were written.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.written.lock().unwrap().lines.clone()
    }

    /// The lines so far that are about an attempt, parsed.
    pub(crate) fn audit(&self) -> Vec<Value> {
        let lines = self.lines().into_iter().map(|line| parse(&line));
        lines.filter(|line| line["target"] == "audit" && line["event"].is_string()).collect()
    }

    /// The first line, past or to come, that `is_it` is true of. Blocks the thread until it is there, and fails
    /// the test if it does not come.
    pub(crate) fn wait_for(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        self.wait_for_all(what, 1, is_it)
    }

    /// The last of the first `count` lines that `is_it` is true of, likewise.
    pub(crate) fn wait_for_all(&self, what: &str, count: usize, is_it: impl Fn(&Value) -> bool) -> Value {
        let found = |written: &Written| {
            written.lines.iter().map(|line| parse(line)).filter(|line| is_it(line)).nth(count - 1)
        };
        let written = self.written.lock().unwrap();
        let pending = |written: &mut Written| !written.ended && found(written).is_none();
        let (written, _) = self.grown.wait_timeout_while(written, PATIENCE, pending).unwrap();
        found(&written).unwrap_or_else(|| panic!("{what} is not to be seen in {:#?}", written.lines))
    }

    fn wait_for_end(&self) {
        let written = self.written.lock().unwrap();
        let (written, late) =
            self.grown.wait_timeout_while(written, PATIENCE, |written| !written.ended).unwrap();
        assert!(!late.timed_out(), "the server goes on: {:#?}", written.lines);
    }

    fn follow(stderr: ChildStderr) -> Arc<Self> {
        let log = Arc::new(Self { written: Mutex::default(), grown: Condvar::new() });
        let followed = log.clone();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines() {
                followed.written.lock().unwrap().lines.push(line.unwrap());
                followed.grown.notify_all();
            }
            followed.written.lock().unwrap().ended = true;
            followed.grown.notify_all();
        });
        log
    }
}

/// A line that is no JSON object, as an error at the start, is only text.
fn parse(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|_| Value::String(line.to_owned()))
}

/// The binary, built by Cargo into the folder above the one where the tests are.
///
/// Cargo tells its place only to tests of its own package, and builds it only for them. So it may be missing
/// here, or be older than what it was made of: better no test than one of yesterday's server.
static BINARY: LazyLock<PathBuf> = LazyLock::new(|| {
    const BUILD: &str =
        "run the tests of the whole workspace, or `cargo build -p server` before those of one package";
    let test = std::env::current_exe().unwrap();
    let dependencies = test.parent().unwrap();
    let binary = dependencies.with_file_name("auth-api");
    let modified = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified());
    let Ok(built) = modified(&binary) else { panic!("there is no {}; {BUILD}", binary.display()) };
    for source in sources(dependencies) {
        let newer = modified(&source).is_ok_and(|changed| changed > built);
        assert!(!newer, "{} is older than {}; {BUILD}", binary.display(), source.display());
    }
    binary
});

/// What our libraries were made of when they were last built, as the compiler noted it beside them: files
/// that only tests read are not among it. Cargo's own list for the binary is there after `cargo build` alone.
fn sources(dependencies: &Path) -> BTreeSet<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let ours: Vec<String> = fs::read_dir(root.join("crates"))
        .unwrap()
        .map(|folder| folder.unwrap().file_name().into_string().unwrap().replace('-', "_"))
        .collect();
    let mut sources = BTreeSet::from([root.join("crates/server/src/main.rs")]);
    for note in fs::read_dir(dependencies).unwrap().map(|note| note.unwrap().path()) {
        let name = note.file_stem().unwrap().to_str().unwrap().rsplit_once('-').unwrap_or_default().0;
        if note.extension().is_none_or(|extension| extension != "d") || !ours.iter().any(|ours| ours == name)
        {
            continue;
        }
        for (made, of) in fs::read_to_string(note).unwrap().lines().filter_map(|line| line.split_once(": ")) {
            if Path::new(made).extension().is_some_and(|extension| extension == "rlib") {
                sources.extend(
                    of.replace("\\ ", "\0").split(' ').map(|path| root.join(path.replace('\0', " "))),
                );
            }
        }
    }
    assert!(sources.len() > ours.len(), "the compiler's notes are not where they were");
    sources
}
