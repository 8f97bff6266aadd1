//! The real server, in a folder of its own, as an operator runs it in production.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::ambient::{now, secret};
use crate::client::Connection;
use crate::database::{self, Database, Place};
use crate::{Result, callers, traces};

/// How long a client may wait for its password to be hashed, which is the default.
pub(crate) const DEADLINE: Duration = Duration::from_secs(5);

/// A server that does not listen by then will not.
const PATIENCE: Duration = Duration::from_mins(1);

/// How often a start is looked at: often enough to time it by, seldom enough not to slow it down.
const GLANCE: Duration = Duration::from_micros(500);

/// A folder for a server, and what it is to be told.
pub(crate) struct Deployment {
    auth_api: PathBuf,
    folder: TempDir,
    database: Database,
    settings: Vec<(&'static str, String)>,
}

/// A server that listens. It is killed when it is dropped.
pub(crate) struct Server {
    deployment: Deployment,
    process: Child,
    pub(crate) address: SocketAddr,
}

impl Deployment {
    /// An empty folder and a database without tables, with the defaults of production but for bcrypt's cost, and without
    /// the limits that production insists on: they are there to keep from happening what is measured here.
    pub(crate) fn new(auth_api: &Path, place: &Place, cost: u32) -> Result<Self> {
        let mut settings = vec![
            ("AUTH_ENV", "development".to_owned()),
            ("AUTH_LOG__FORMAT", "json".to_owned()),
            ("AUTH_LIMITS__ENABLED", "false".to_owned()),
            ("AUTH_HTTP__ADDR", "127.0.0.1:0".to_owned()),
            ("AUTH_OPS__ADDR", "127.0.0.1:0".to_owned()),
            ("AUTH_TOKEN__SECRET", secret()?),
            ("AUTH_SESSION__REFRESH_KEY", secret()?),
            ("AUTH_PASSWORD__BCRYPT_COST", cost.to_string()),
            ("AUTH_HASHING__DEADLINE", format!("{}s", DEADLINE.as_secs())),
        ];
        // Counted like everybody, and never refused: what counting costs is measured too.
        let folder = tempfile::tempdir()?;
        traces::note_folder(folder.path());
        let database = match place {
            Place::Sqlite => Database::Sqlite(folder.path().join("data/auth.db")),
            Place::Postgres(cluster) => {
                let (database, url) = database::create(cluster)?;
                settings.push(("AUTH_DATABASE__URL", url));
                // As on SQLite, so that a start does the same on both.
                settings.push(("AUTH_DATABASE__MIGRATE_ON_START", "true".to_owned()));
                database
            }
        };
        Ok(Self { auth_api: std::path::absolute(auth_api)?, folder, database, settings })
    }

    /// Makes the tables, and returns where the database is. No server has it open.
    pub(crate) fn migrate(&self) -> Result<Database> {
        let migrated = self.command(&["migrate", "up"])?.status()?;
        if !migrated.success() {
            return Err(format!("auth-api migrate up: {migrated}\n{}", self.log_text()).into());
        }
        Ok(self.database.clone())
    }

    /// Starts the server and returns when it listens.
    pub(crate) fn serve(self) -> Result<Server> {
        let process = self.command(&["serve"])?.spawn()?;
        traces::note_process(&process);
        let mut server = Server { deployment: self, process, address: ([127, 0, 0, 1], 0).into() };
        let begun = now();
        while begun.elapsed() < PATIENCE && server.process.try_wait()?.is_none() {
            if let Some(address) = server.deployment.listening() {
                server.address = address.parse()?;
                return Ok(server);
            }
            thread::sleep(GLANCE);
        }
        Err(format!("auth-api does not listen:\n{}", server.deployment.log_text()).into())
    }

    /// Nothing of our own environment reaches it, nor a `.env` of where we were started.
    fn command(&self, arguments: &[&str]) -> Result<Command> {
        let log = File::options().create(true).append(true).open(self.log())?;
        let mut command = Command::new(&self.auth_api);
        command.args(arguments).env_clear().envs(self.settings.iter().map(|(name, value)| (name, value)));
        command.current_dir(self.folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Ok(command)
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn log_text(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    fn listening(&self) -> Option<String> {
        let log = self.log_text();
        let line = log.lines().find(|line| line.contains("\"listening\""))?;
        let line: Value = serde_json::from_str(line).ok()?;
        line["address"].as_str()?.strip_prefix("http://").map(str::to_owned)
    }
}

impl Server {
    /// Returns when the server says that a login would be served.
    pub(crate) fn wait_until_ready(&self) -> Result<()> {
        let mut connection = Connection::open(self.address)?;
        let begun = now();
        while begun.elapsed() < PATIENCE {
            if connection.ask(&callers::ready())?.status == 200 {
                return Ok(());
            }
            thread::sleep(GLANCE);
        }
        Err("the server does not get ready".into())
    }

    /// How many MiB of memory it has in use.
    pub(crate) fn resident_memory(&self) -> Result<f64> {
        self.memory("VmRSS:")
    }

    /// How many MiB of memory it had in use at most.
    pub(crate) fn most_memory(&self) -> Result<f64> {
        self.memory("VmHWM:")
    }

    /// Stops it, which it has to do without complaint. So is its log: an error in it is one nobody has been
    /// told of.
    pub(crate) fn stop(mut self) -> Result<()> {
        kill_process(Pid::from_child(&self.process), Signal::TERM)?;
        let status = self.process.wait()?;
        if !status.success() {
            return Err(format!("the server stopped with {status}").into());
        }
        for line in BufReader::new(File::open(self.deployment.log())?).lines() {
            let line = line?;
            if line.contains("\"level\":\"ERROR\"") {
                return Err(format!("the server logged {line}").into());
            }
        }
        Ok(())
    }

    fn memory(&self, what: &str) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let kibibytes = status.lines().find_map(|line| line.strip_prefix(what)?.strip_suffix("kB"));
        let kibibytes: u32 = kibibytes.ok_or("the system does not tell how much memory")?.trim().parse()?;
        Ok(f64::from(kibibytes) / 1024.0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail when it has ended already, which is as well.
        _ = self.process.kill();
        _ = self.process.wait();
        traces::forget_process(&self.process);
    }
}
