//! The database file as the operating system sees it: made private, and told from its replacement.

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::error::{OpenProblem, StoreError};

/// Where the file is, or will be.
#[derive(Clone, Debug)]
pub(crate) struct Location {
    path: PathBuf,
    url: String,
}

/// A file that connections are open on, with its write-ahead log.
#[derive(Debug)]
pub(crate) struct OpenFile {
    location: Location,
    log: PathBuf,
    identity: Identity,
    log_identity: Identity,
}

/// What stays the same when a file is renamed, and differs when another takes its name. While we have it open,
/// the file system gives its number to no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
}

impl Location {
    pub(crate) fn new(path: &Path) -> Result<Self, OpenProblem> {
        let path = std::path::absolute(path).map_err(OpenProblem::Folder)?;
        let url = url(path.to_str().ok_or(OpenProblem::Path)?)?;
        Ok(Self { path, url })
    }

    /// What SQLite is to open. It does not make a file that is gone.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn exists(&self) -> Result<bool, OpenProblem> {
        self.path.try_exists().map_err(OpenProblem::Folder)
    }

    /// Makes an empty file that only we may read, before SQLite would make one that others may.
    pub(crate) fn create(&self) -> Result<(), OpenProblem> {
        // Closing any handle of a file drops every POSIX lock this process holds on it, SQLite's too. So ours is
        // closed before anybody here can have opened the file, and a file that exists is never opened this way.
        static CREATING: Mutex<()> = Mutex::new(());
        let _turn = CREATING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(folder) = self.path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(OpenProblem::Folder)?;
        }
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.path) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(OpenProblem::Folder(error)),
        }
    }

    pub(crate) fn warn_if_others_may_read(&self) -> Result<(), OpenProblem> {
        let mode = fs::metadata(&self.path).map_err(OpenProblem::Folder)?.mode();
        if mode & 0o077 != 0 {
            let path = self.path.display();
            tracing::warn!(%path, "others on this machine may read the database; run `chmod 600` on it");
        }
        Ok(())
    }

    pub(crate) fn identity(&self) -> Result<Identity, OpenProblem> {
        Identity::of(&self.path).map_err(OpenProblem::Folder)
    }
}

impl OpenFile {
    /// `before` is what was at the location before a connection was opened on it.
    pub(crate) fn new(location: Location, before: Identity) -> Result<Self, OpenProblem> {
        // SQLite follows symbolic links and keeps the log beside the file they lead to.
        let mut log = fs::canonicalize(&location.path).map_err(OpenProblem::Folder)?.into_os_string();
        log.push("-wal");
        let log = PathBuf::from(log);
        let log_identity = Identity::of(&log).map_err(OpenProblem::Folder)?;
        if location.identity()? != before {
            return Err(OpenProblem::Replaced);
        }
        Ok(Self { location, log, identity: before, log_identity })
    }

    pub(crate) fn url(&self) -> &str {
        self.location.url()
    }

    /// Succeeds while the path still leads to the file that is open. Without this, SQLite would go on writing
    /// to a file that has no name any more, and nobody would ever see what we said was saved.
    pub(crate) fn still_there(&self) -> Result<(), StoreError> {
        let same = |path: &Path, identity| Identity::of(path).is_ok_and(|found| found == identity);
        if same(&self.location.path, self.identity) && same(&self.log, self.log_identity) {
            return Ok(());
        }
        let path = self.location.path.display();
        Err(StoreError::unavailable(format!(
            "{path} or its -wal file was deleted, moved or replaced while in use; \
             put the same files back, or stop this program and start it again"
        )))
    }
}

impl Identity {
    fn of(path: &Path) -> io::Result<Self> {
        let found = fs::metadata(path)?;
        Ok(Self { device: found.dev(), inode: found.ino() })
    }
}

/// A `file:` address (<https://www.sqlite.org/uri.html>), because only there can SQLite be told not to create.
fn url(path: &str) -> Result<String, OpenProblem> {
    let mut url = "file:".to_owned();
    for byte in path.bytes() {
        match byte {
            0 => return Err(OpenProblem::Path),
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => url.push(byte.into()),
            // Writing into a string cannot fail.
            _ => drop(write!(url, "%{byte:02x}")),
        }
    }
    url.push_str("?mode=rw");
    Ok(url)
}
