//! A PostgreSQL of one's own for as long as a test or a measurement lasts, made of the programs that are installed. It is
//! never run as root, and goes with the process that began it, however that ends.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "nothing can be tested or measured without it"
)]

mod programs;

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::thread;

use rustix::process::{Pid, Signal, getuid, kill_process};
use tempfile::TempDir;
use thiserror::Error;
use tokio::runtime::Builder;
use tokio_postgres::{NoTls, SimpleQueryMessage};

use crate::programs::programs;

/// Makes a cluster in the folder `$1`, a standby of the one in `$4` if there is that, starts it, says so, and waits until
/// whoever began this is gone, however they went: then the pipe closes. What is stopped by then is woken, and takes
/// everything with it.
const KEEPER: &str = r#"
    fail() { cat "$1/initdb.log" "$1/log" >&2 2> /dev/null; rm -rf "$1"; exit 1; }
    data="$1/data" programs="$2" options="$3"
    if [ "$4" ]; then
        "$programs/pg_basebackup" --pgdata="$data" --host="$4" --username=postgres --write-recovery-conf \
            --checkpoint=fast --no-sync
    else
        "$programs/initdb" --pgdata="$data" --username=postgres --auth-local=trust --auth-host=scram-sha-256 \
            --pwfile="$1/password" --encoding=UTF8 --no-sync
    fi > "$1/initdb.log" 2>&1 || fail "$1"
    "$programs/pg_ctl" --pgdata="$data" --log="$1/log" --options="$options" --wait start > /dev/null || fail "$1"
    echo started
    cat > /dev/null
    if read -r pid < "$data/postmaster.pid"; then kill -CONT "$pid"; kill -QUIT "$pid"; fi 2> /dev/null
    while [ -e "$data/postmaster.pid" ] && kill -0 "$pid" 2> /dev/null; do sleep 0.1; done
    rm -rf "$1"
"#;

/// The password of the user `postgres`, for those who come over the network.
pub const PASSWORD: &str = "wide green rivers hum";

/// A server of our own, which goes when this does, or when the process ends.
#[derive(Debug)]
pub struct Cluster {
    folder: PathBuf,
    programs: PathBuf,
    durability: Durability,
    options: String,
    /// Its folder, which the keeper removes.
    _keeper: Keeper,
}

#[derive(Debug)]
struct Keeper(Child);

/// Why there is no server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NotStarted {
    /// Its programs are not installed.
    #[error("there is no PostgreSQL; install it (apt install postgresql)")]
    Missing,
    /// It has told why on standard error.
    #[error("PostgreSQL does not start; see above")]
    Failed,
}

/// What a commit is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// It is on the disk before it is answered.
    Full,
    /// Nothing has to outlive the machine, and many tests share the server. How commits are answered stays as it is.
    None,
}

impl Cluster {
    /// Starts a server with more options, such as `-c work_mem=8MB`, which listens on a socket.
    pub fn start(durability: Durability, more: &str) -> Result<Self, NotStarted> {
        if programs().is_none() {
            return Err(NotStarted::Missing);
        }
        Self::start_in(Self::folder(), durability, more)
    }

    /// Starts a server that follows this one, and has this one wait for it at every commit.
    #[must_use = "it stops when it is dropped"]
    pub fn standby(&self) -> Self {
        let standby = Self::launch(Self::folder(), self.durability, "", Some(&self.folder));
        let standby = standby.expect("the same programs");
        let alone = self.url("postgres");
        // Each by itself, since neither can be in a transaction with the other.
        execute(&alone, "ALTER SYSTEM SET synchronous_standby_names = '*'");
        execute(&alone, "SELECT pg_reload_conf()");
        standby
    }

    /// Makes a primary of a standby.
    pub fn promote(&self) {
        self.control(&["promote"]);
    }

    /// A folder that the server may read and write, for what is to be there before it starts.
    pub fn folder() -> PathBuf {
        let folder = TempDir::with_prefix("pg").unwrap().keep();
        std::fs::write(folder.join("password"), PASSWORD).unwrap();
        if let Some((user, group)) = *UNPRIVILEGED {
            chown(folder.join("password"), Some(user), Some(group)).unwrap();
            chown(&folder, Some(user), Some(group)).unwrap();
        }
        folder
    }

    /// Starts a server in such a folder.
    pub fn start_in(folder: PathBuf, durability: Durability, more: &str) -> Result<Self, NotStarted> {
        Self::launch(folder, durability, more, None)
    }

    fn launch(
        folder: PathBuf,
        durability: Durability,
        more: &str,
        primary: Option<&Path>,
    ) -> Result<Self, NotStarted> {
        let programs = programs().ok_or(NotStarted::Missing)?;
        let listening = format!("-c unix_socket_directories={} -c listen_addresses=", folder.display());
        let options = [durability.options(), &listening, more].join(" ");
        let mut keeper = unprivileged("sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(&folder)
            .arg(&programs)
            .arg(&options)
            .args(primary)
            .current_dir(&folder)
            // Whoever ends the tests with all of their group is to leave somebody who clears up.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut said).unwrap();
        let keeper = Keeper(keeper);
        if said != "started\n" {
            return Err(NotStarted::Failed);
        }
        Ok(Self { folder, programs, durability, options, _keeper: keeper })
    }

    /// A database in it, by way of its socket.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@/{database}?host={}", self.folder.display())
    }

    /// The socket that it listens on.
    pub fn socket(&self) -> PathBuf {
        self.folder.join(".s.PGSQL.5432")
    }

    /// Stops it as a power cut would.
    pub fn crash(&self) {
        self.control(&["--mode=immediate", "stop"]);
    }

    /// Starts it again.
    pub fn restart(&self) {
        let log = format!("--log={}", self.folder.join("log").display());
        let options = format!("--options={}", self.options);
        self.control(&[&log, &options, "start"]);
    }

    /// Stops every process of it where it is.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Has every process of it go on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn control(&self, arguments: &[&str]) {
        let program = self.programs.join("pg_ctl");
        let data = format!("--pgdata={}", self.folder.join("data").display());
        let mut command = unprivileged(program.to_str().unwrap());
        command.args([&data, "--wait", "--silent"]).args(arguments).current_dir(&self.folder);
        assert!(command.stdout(Stdio::null()).status().unwrap().success(), "pg_ctl {arguments:?}");
    }

    fn signal(&self, signal: Signal) {
        let note = std::fs::read_to_string(self.folder.join("data/postmaster.pid")).unwrap();
        let postmaster: i32 = note.lines().next().unwrap().parse().unwrap();
        // The one that starts others goes first.
        for pid in std::iter::once(postmaster).chain(children(postmaster)) {
            // One that has ended meanwhile is as still.
            _ = kill_process(Pid::from_raw(pid).unwrap(), signal);
        }
    }
}

impl Durability {
    fn options(self) -> &'static str {
        match self {
            Self::Full => "",
            Self::None => {
                "-c fsync=off -c full_page_writes=off -c max_connections=300 -c shared_buffers=32MB"
            }
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        _ = self.0.wait();
    }
}

fn children(of: i32) -> Vec<i32> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|process| process.file_name().to_str()?.parse::<i32>().ok());
    // After the name, which is in brackets: the state, and whose child it is.
    let parent = |pid: &i32| -> Option<i32> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
    };
    pids.filter(|pid| parent(pid) == Some(of)).collect()
}

/// Who runs the server when root runs the tests, whom PostgreSQL does not serve.
static UNPRIVILEGED: LazyLock<Option<(u32, u32)>> = LazyLock::new(|| {
    let id = |option: &str, user: &str| -> Option<u32> {
        let output = Command::new("id").args([option, user]).output().ok()?;
        String::from_utf8(output.stdout).ok()?.trim().parse().ok()
    };
    getuid().is_root().then(|| {
        let both = |user: &str| Some((id("-u", user)?, id("-g", user)?));
        both("postgres").or_else(|| both("nobody")).expect("a user other than root")
    })
});

fn unprivileged(program: &str) -> Command {
    let mut command = Command::new(program);
    if let Some((user, group)) = *UNPRIVILEGED {
        command.uid(user).gid(group);
    }
    command
}

/// Runs statements on a connection of their own, wherever it is called from.
pub fn execute(url: &str, statements: &str) -> Vec<Vec<String>> {
    let work = async {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
        tokio::spawn(connection);
        let answers = client.simple_query(statements).await;
        let answers = answers.unwrap_or_else(|error| panic!("{statements}: {error:?}"));
        let row = |answer: SimpleQueryMessage| match answer {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|column| row.get(column).unwrap_or("NULL").to_owned()).collect())
            }
            _ => None,
        };
        answers.into_iter().filter_map(row).collect()
    };
    thread::scope(|scope| {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        scope.spawn(move || runtime.block_on(work)).join().unwrap()
    })
}
