//! A file that is being written beside the place where it is going to be, so that half of it is never taken for all.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::private_files;

/// What SQLite may keep beside a file, part of which may stand there alone.
const BESIDE: [&str; 3] = ["-wal", "-shm", "-journal"];

/// A new file. Until it is kept it has `.partial` after its name, and it goes if it is not. What a kill leaves there is removed by
/// whoever writes the same file next.
pub struct Draft {
    place: PathBuf,
    pub(crate) partial: PathBuf,
    /// What is written. It is locked, so that it can be told from what a kill left behind.
    pub file: File,
    is_kept: bool,
}

impl Draft {
    /// Begins an empty file, which only its owner may read, for a place where nothing is: else this is `AlreadyExists`, and
    /// `ResourceBusy` while another process writes there.
    pub fn begin(place: &Path) -> io::Result<Self> {
        let place = std::path::absolute(place)?;
        if is_there(&place) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let partial = with_ending(&place, ".partial");
        let create = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial);
        let file = match create() {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let left_over = File::open(&partial)?;
                lock(&left_over)?;
                // Somebody else may have taken it away by now, and be writing there. Who does has its lock until then.
                if !is_at(&left_over, &partial)? {
                    return Err(busy());
                }
                remove_what_is_beside(&partial);
                fs::remove_file(&partial)?;
                create().map_err(|error| match error.kind() {
                    ErrorKind::AlreadyExists => busy(),
                    _ => error,
                })?
            }
            created => created?,
        };
        if let Some(folder) = partial.parent() {
            private_files::give_to_owner_of(folder, &file)?;
        }
        lock(&file)?;
        // Whoever came between the two took the first for a left-over.
        if !is_at(&file, &partial)? {
            return Err(busy());
        }
        Ok(Self { place, partial, file, is_kept: false })
    }

    /// Gives the file its name, once it is on disk. If something else has it by now, this is `AlreadyExists`.
    pub fn keep(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        // A link takes no other file's place, as a rename would.
        match fs::hard_link(&self.partial, &self.place) {
            Ok(()) => fs::remove_file(&self.partial)?,
            Err(_) if is_there(&self.place) => return Err(ErrorKind::AlreadyExists.into()),
            // Not every file system has links.
            Err(_) => fs::rename(&self.partial, &self.place)?,
        }
        self.is_kept = true;
        if let Some(folder) = self.place.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.is_kept {
            // What cannot be removed now is the next time.
            _ = fs::remove_file(&self.partial);
            remove_what_is_beside(&self.partial);
        }
    }
}

/// SQLite leaves its journal when it could not write to the end.
fn remove_what_is_beside(partial: &Path) {
    for beside in beside(partial) {
        _ = fs::remove_file(beside);
    }
}

pub(crate) fn beside(file: &Path) -> [PathBuf; 3] {
    BESIDE.map(|ending| with_ending(file, ending))
}

fn with_ending(file: &Path, ending: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Also a link that leads nowhere.
pub(crate) fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// Whether a file that is open still has this name.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let there = match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        there => there?,
    };
    let open = file.metadata()?;
    Ok((open.dev(), open.ino()) == (there.dev(), there.ino()))
}

fn lock(file: &File) -> io::Result<()> {
    file.try_lock().map_err(|refused| match refused {
        TryLockError::WouldBlock => busy(),
        TryLockError::Error(error) => error,
    })
}

fn busy() -> io::Error {
    io::Error::new(ErrorKind::ResourceBusy, "another process is writing it just now")
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap());
        names.collect()
    }

    #[test]
    fn a_file_has_its_name_when_it_is_kept_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("all");

        let mut draft = Draft::begin(&place).unwrap();
        draft.file.write_all(b"whole").unwrap();

        assert_eq!(names(folder.path()), ["all.partial"]);
        draft.keep().unwrap();
        assert_eq!(names(folder.path()), ["all"]);
        assert_eq!(fs::read(&place).unwrap(), b"whole");
        assert_eq!(fs::metadata(&place).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_is_given_up_goes_and_what_a_kill_left_is_no_obstacle() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("all");

        drop(Draft::begin(&place).unwrap());

        assert!(names(folder.path()).is_empty());
        fs::write(folder.path().join("all.partial"), "half, and more than that").unwrap();
        Draft::begin(&place).unwrap().keep().unwrap();
        assert_eq!(fs::read(&place).unwrap(), b"");
    }

    #[test]
    fn nothing_is_overwritten_and_two_do_not_write_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("all");
        let draft = Draft::begin(&place).unwrap();

        let other = Draft::begin(&place).err().unwrap();
        fs::write(&place, "somebody else's").unwrap();
        let kept = draft.keep();

        assert_eq!(other.kind(), ErrorKind::ResourceBusy);
        assert_eq!(kept.unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(Draft::begin(&place).err().unwrap().kind(), ErrorKind::AlreadyExists);
        assert_eq!(names(folder.path()), ["all"]);
        assert_eq!(fs::read(&place).unwrap(), b"somebody else's");
    }
}
