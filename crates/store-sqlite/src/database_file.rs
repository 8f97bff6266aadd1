//! The database file as the operating system sees it: made private, and told from its replacement.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use crate::error::{OpenProblem, StoreError};
use crate::private_files;

/// Where the file is, or will be.
#[derive(Clone, Debug)]
pub(crate) struct Location {
    path: PathBuf,
    url: String,
}

/// A file that connections are open on, perhaps with its write-ahead log.
#[derive(Debug)]
pub(crate) struct OpenFile {
    location: Location,
    watched: Vec<(PathBuf, Identity)>,
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

    /// The same for whoever may not change it.
    pub(crate) fn reading_url(&self) -> String {
        // A path has no `?`, which is encoded.
        self.url.replace("?mode=rw", "?mode=ro")
    }

    /// The same for a file that nobody changes: SQLite makes nothing beside it, takes no lock and looks for no log.
    pub(crate) fn unchanging_url(&self) -> String {
        format!("{}&immutable=1", self.url)
    }

    pub(crate) fn exists(&self) -> Result<bool, OpenProblem> {
        self.path.try_exists().map_err(OpenProblem::Folder)
    }

    /// Makes an empty file that only we may read, before SQLite would make one that others may.
    pub(crate) fn create(&self) -> Result<(), OpenProblem> {
        // Closing any handle of a file drops every POSIX lock this process holds on it, SQLite's too. So ours is
        // closed before anybody here can have opened the file, and a file that exists is never opened this way.
        static CREATING: Mutex<()> = Mutex::new(());
        let _turn = CREATING.lock();
        if let Some(folder) = self.path.parent() {
            private_files::create_folder(folder).map_err(OpenProblem::Folder)?;
        }
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.path) {
            // SQLite gives what it makes beside a file to the file's owner.
            Ok(file) => match self.path.parent() {
                Some(folder) => private_files::give_to_owner_of(folder, &file).map_err(OpenProblem::Folder),
                None => Ok(()),
            },
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

    /// Where SQLite keeps the log: beside the file itself, if the path leads there by symbolic links.
    pub(crate) fn log(&self) -> Result<PathBuf, OpenProblem> {
        let mut log = fs::canonicalize(&self.path).map_err(OpenProblem::Folder)?.into_os_string();
        log.push("-wal");
        Ok(PathBuf::from(log))
    }

    pub(crate) fn identity(&self) -> Result<Identity, OpenProblem> {
        Identity::of(&self.path).map_err(OpenProblem::Folder)
    }
}

impl OpenFile {
    /// A file that is going to be written. `before` is what was at the location before a connection was opened
    /// on it.
    pub(crate) fn new(location: Location, before: Identity) -> Result<Self, OpenProblem> {
        let log = location.log()?;
        let log_identity = Identity::of(&log).map_err(OpenProblem::Folder)?;
        let mut file = Self::without_log(location, before)?;
        file.watched.push((log, log_identity));
        Ok(file)
    }

    /// A file that is only going to be read: there may be no log, and nothing of ours would be lost with it.
    pub(crate) fn without_log(location: Location, before: Identity) -> Result<Self, OpenProblem> {
        if location.identity()? != before {
            return Err(OpenProblem::Replaced);
        }
        let watched = vec![(location.path.clone(), before)];
        Ok(Self { location, watched })
    }

    pub(crate) fn url(&self) -> &str {
        self.location.url()
    }

    /// Succeeds while the path still leads to the file that is open. Without this, SQLite would go on writing
    /// to a file that has no name any more, and nobody would ever see what we said was saved.
    pub(crate) fn still_there(&self) -> Result<(), StoreError> {
        let same =
            |(path, identity): &(PathBuf, Identity)| Identity::of(path).is_ok_and(|it| it == *identity);
        if self.watched.iter().all(same) {
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

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs::Permissions;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use domain::ports::UserRepo;
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Level, Metadata, Subscriber};

    use super::*;
    use crate::Settings;
    use crate::testing::{Fixture, attempt, is_done, is_unavailable, key, open, person, settings};

    #[test]
    fn a_folder_that_is_made_is_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("made/here/auth.db");
        open(&Settings::new(&path)).unwrap();
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        assert_eq!(mode(path.parent().unwrap().parent().unwrap()), 0o700);
    }

    #[tokio::test]
    async fn files_that_are_made_are_for_their_owner_only() {
        let fixture = Fixture::new();
        fixture.store.insert(person("ann"), attempt()).await.unwrap();
        for path in [fixture.path(), fixture.log_path(), fixture.path().with_extension("db-shm")] {
            assert_eq!(mode(&path), 0o600, "{}", path.display());
        }
    }

    #[test]
    fn a_file_that_others_may_read_is_used_with_one_warning() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(&folder);
        open(&settings).unwrap();
        assert_eq!(warnings(|| open(&settings).unwrap()), 0);

        for others_may in [0o640, 0o604, 0o620] {
            fs::set_permissions(&settings.path, Permissions::from_mode(others_may)).unwrap();
            assert_eq!(warnings(|| open(&settings).unwrap()), 1, "{others_may:o}");
            assert_eq!(mode(&settings.path), others_may, "what an operator chose is left alone");
        }
    }

    #[test]
    fn a_path_means_itself_whatever_characters_it_has() {
        for name in ["plain", "a b", "50%41", "what?mode=memory", "a#b", "ä\u{1f600}", "file:x", ":memory:"]
        {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join(name);

            open(&Settings::new(&path)).unwrap();

            let made: Vec<_> = fs::read_dir(&folder).unwrap().map(|it| it.unwrap().file_name()).collect();
            assert_eq!(made, [OsStr::new(name)]);
        }
    }

    #[test]
    fn a_path_that_sqlite_cannot_be_given_is_refused() {
        let folder = tempfile::tempdir().unwrap();

        for name in [b"\xff.db".as_slice(), b"a\0b"] {
            let refused = open(&Settings::new(folder.path().join(OsStr::from_bytes(name)))).unwrap_err();
            assert!(matches!(refused.problem, OpenProblem::Path | OpenProblem::Folder(_)), "{refused}");
        }
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_cannot_be_is_said_to_be_the_trouble() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();

        let refused = open(&Settings::new(folder.path().join("file/auth.db"))).unwrap_err();

        assert!(matches!(refused.problem, OpenProblem::Folder(_)), "{refused}");
        let refused = open(&Settings::new(folder.path())).unwrap_err();
        assert!(matches!(refused.problem, OpenProblem::Connection(_)), "{refused}");
        assert!(refused.to_string().contains(&*folder.path().to_string_lossy()), "{refused}");
    }

    #[tokio::test]
    async fn a_deleted_file_takes_no_more_writes_and_answers_no_more() {
        let fixture = Fixture::new();
        fixture.store.insert(person("ann"), attempt()).await.unwrap();

        fs::remove_file(fixture.path()).unwrap();

        assert!(is_unavailable(&fixture.store.insert(person("bob"), attempt()).await));
        assert!(is_unavailable(&fixture.store.find_by_name(key("ann")).await));
    }

    #[tokio::test]
    async fn a_file_in_the_place_of_another_is_neither_read_nor_written_until_that_one_is_back() {
        let fixture = Fixture::new();
        fixture.store.insert(person("ann"), attempt()).await.unwrap();
        let other = Fixture::new();
        other.store.insert(person("eve"), attempt()).await.unwrap();
        other.store.close().await;
        let (path, aside) = (fixture.path(), fixture.folder.join("aside"));
        fs::rename(&path, &aside).unwrap();
        fs::copy(other.path(), &path).unwrap();
        let before = fs::read(&path).unwrap();

        let answers = (
            fixture.store.insert(person("bob"), attempt()).await,
            fixture.store.find_by_name(key("eve")).await,
        );
        assert!(is_unavailable(&answers.0) && is_unavailable(&answers.1), "{answers:?}");
        assert_eq!(fs::read(&path).unwrap(), before);

        fs::rename(&aside, &path).unwrap();
        assert!(is_done(&fixture.store.insert(person("bob"), attempt()).await));
        assert_eq!(fixture.names(), ["ann", "bob"]);
    }

    #[tokio::test]
    async fn a_deleted_log_stops_writes_and_loses_none_once_the_store_is_closed() {
        let fixture = Fixture::new();
        fixture.store.insert(person("ann"), attempt()).await.unwrap();

        fs::remove_file(fixture.log_path()).unwrap();
        assert!(is_unavailable(&fixture.store.insert(person("bob"), attempt()).await));
        fixture.store.close().await;

        assert_eq!(fixture.names(), ["ann"]);
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    fn warnings(during: impl FnOnce()) -> usize {
        let warned = Arc::new(AtomicUsize::new(0));
        tracing::subscriber::with_default(Warnings(warned.clone()), during);
        warned.load(Ordering::SeqCst)
    }

    struct Warnings(Arc<AtomicUsize>);

    impl Subscriber for Warnings {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            *metadata.level() == Level::WARN
        }

        fn event(&self, _: &Event<'_>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }
}
