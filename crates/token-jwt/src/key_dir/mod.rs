//! A folder of key files, and the life of a key in it.
//!
//! A key is *next* once its file is there: it is published and does not sign. From a time that its file tells it is
//! *active* and signs, until the next one's time. Then it is *verifying*: tokens that it signed still hold. When the
//! last of them has expired it is *unneeded*, and somebody may retire it, which removes the file. Nothing but the
//! clock takes a key from one to the next, so that there is no step that could be forgotten or half done, and every
//! instance that has the folder takes it at the same moment.

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::key_file::{SUFFIX, StoredKey, UnusableKeyFile};
use crate::key_pair::{KeyPair, KeyPairAlgorithm, NotGenerated};
use crate::key_ring::{self, KeyRing, NoSigningKey};
use crate::private_files;

/// How long a new key is published before it signs, unless an operator says otherwise. Backends keep what is published
/// for the five minutes that we allow, `PyJWT` as long, `jose` for ten, and Istio for twenty.
pub const DEFAULT_LEAD_TIME: Duration = Duration::from_hours(1);

/// What clocks may differ by, and servers be late by in seeing a file, before a token outlives its key.
const MARGIN: Duration = Duration::from_mins(1);

/// Many times what a key file has.
const LARGEST_FILE: u64 = 64 * 1024;

/// Keeps the commands of several people apart.
const LOCK: &str = ".lock";

/// What is not finished yet and has no name.
const UNFINISHED: &str = ".unfinished";

/// A folder of key files, as one configuration uses it.
#[derive(Clone, Debug)]
pub struct KeyFolder {
    /// Where it is.
    pub path: PathBuf,
    /// What new keys are for, and new tokens signed with.
    pub algorithm: KeyPairAlgorithm,
    /// How long a token holds at most.
    pub token_lifetime: Duration,
}

/// Where a key is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// It will sign.
    Next,
    /// It signs.
    Active,
    /// It signs no more, and tokens that it signed hold.
    Verifying,
    /// No token that it signed holds.
    Unneeded,
}

/// What there is to say of a key, but for the key itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFacts {
    /// The name of the key.
    pub id: String,
    /// What it is for.
    pub algorithm: KeyPairAlgorithm,
    /// Where it is in its life.
    pub state: KeyState,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it takes over, or did.
    pub signs_from: Timestamp,
    /// When the last token that it signed will have expired. Unknown as long as it signs, and for a key of another
    /// algorithm than the configured one: the files do not tell when the servers were told to use another.
    pub needed_until: Option<Timestamp>,
}

/// When a new key takes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takeover {
    /// When it has been published for so long.
    Announced(Duration),
    /// Now, because nobody should trust the one before any more. Whoever keeps a copy of what is published may refuse
    /// new tokens until they look again.
    AtOnce,
}

/// How a rotation stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// The key that takes over.
    pub id: String,
    /// When.
    pub signs_from: Timestamp,
    /// Whether it was made now; otherwise an earlier rotation made it.
    pub is_new: bool,
}

/// What the folder looked like from outside. Another look is different whenever a file was changed, replaced, added
/// or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glance(Result<Vec<(OsString, u64, i64, i64)>, ErrorKind>);

/// Why a folder's keys were not used or not changed.
#[derive(Debug, Error)]
pub enum KeyFolderError {
    /// Nobody could look into it.
    #[error("cannot read the key folder {}", .0.display())]
    Folder(PathBuf, #[source] io::Error),
    /// Anybody could put a key of their own there.
    #[error("others on this machine can write in the key folder {}; chmod 700 it, and look what is in it", .0.display())]
    OpenToOthers(PathBuf),
    /// A file could not be read.
    #[error("cannot read the key file {}", .0.display())]
    Unreadable(PathBuf, #[source] io::Error),
    /// A file is no key to use.
    #[error("the key file {} {problem}", path.display())]
    Unusable {
        /// Which one.
        path: PathBuf,
        /// Why not.
        problem: UnusableKeyFile,
    },
    /// There is nothing to sign with.
    #[error("there is no {} key in {}", algorithm.as_str(), path.display())]
    NoSigningKey {
        /// The folder.
        path: PathBuf,
        /// What there is none of.
        algorithm: KeyPairAlgorithm,
    },
    /// A first key is made once.
    #[error("there is the {} key {id} already", algorithm.as_str())]
    HasKey {
        /// Its name.
        id: String,
        /// What it is for.
        algorithm: KeyPairAlgorithm,
    },
    /// No file has that name.
    #[error("there is no key {0}")]
    UnknownKey(String),
    /// Without it, no token could be made.
    #[error("the key {0} is the one that signs")]
    Signs(String),
    /// Without it, good tokens would be refused.
    #[error("tokens that the key {id} signed may still hold")]
    StillNeeded {
        /// Its name.
        id: String,
        /// When they will have expired, if the files tell.
        until: Option<Timestamp>,
    },
    /// The disk, or whoever may write to it, is against it.
    #[error("cannot write in the key folder {}", .0.display())]
    Write(PathBuf, #[source] io::Error),
    /// The library made no key.
    #[error(transparent)]
    NotGenerated(#[from] NotGenerated),
}

impl KeyFolder {
    /// The keys to sign and verify with. One file that is no good spoils the folder: a key that is left out without a
    /// word would refuse good tokens.
    pub fn ring(&self) -> Result<KeyRing, KeyFolderError> {
        KeyRing::of_pairs(self.keys()?, self.algorithm).map_err(|NoSigningKey(_)| self.no_signing_key())
    }

    /// What there is, from the one that signs last to the one that signed first.
    pub fn list(&self, now: Timestamp) -> Result<Vec<KeyFacts>, KeyFolderError> {
        let keys = self.keys()?;
        Ok(keys.iter().map(|key| self.facts(&keys, key, now)).collect())
    }

    /// What it looks like from outside, which costs little.
    pub fn glance(&self) -> Glance {
        let look = || {
            let mut files = Vec::new();
            for entry in fs::read_dir(&self.path)? {
                let entry = entry?;
                // A file that is gone again was not there.
                let Ok(file) = fs::metadata(entry.path()) else { continue };
                files.push((entry.file_name(), file.ino(), file.ctime(), file.ctime_nsec()));
            }
            files.sort();
            Ok::<_, io::Error>(files)
        };
        Glance(look().map_err(|error| error.kind()))
    }

    /// Makes the first key of the algorithm, which signs at once.
    pub fn generate(&self, now: Timestamp) -> Result<String, KeyFolderError> {
        let _alone = self.lock()?;
        match self.keys()?.iter().find(|key| key.pair.algorithm() == self.algorithm) {
            Some(key) => {
                Err(KeyFolderError::HasKey { id: key.pair.id().to_owned(), algorithm: self.algorithm })
            }
            None => self.make(now, now),
        }
    }

    /// Makes the first key of the algorithm unless there is one. Of many who ask at once, one does.
    pub fn generate_if_none(&self, now: Timestamp) -> Result<Option<String>, KeyFolderError> {
        match self.generate(now) {
            Ok(id) => Ok(Some(id)),
            Err(KeyFolderError::HasKey { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a key that takes over. If one is to take over already, that one stays the next.
    pub fn rotate(&self, now: Timestamp, takeover: Takeover) -> Result<Rotation, KeyFolderError> {
        let _alone = self.lock()?;
        let mut keys = self.keys()?;
        let newest = keys.iter_mut().find(|key| key.pair.algorithm() == self.algorithm);
        let newest = newest.ok_or_else(|| self.no_signing_key())?;
        let is_new = newest.signs_from <= now;
        let signs_from = match takeover {
            Takeover::Announced(lead_time) if is_new => now + lead_time,
            Takeover::Announced(_) => newest.signs_from,
            Takeover::AtOnce => now,
        };
        if is_new {
            return Ok(Rotation { id: self.make(now, signs_from)?, signs_from, is_new });
        }
        newest.signs_from = signs_from;
        self.write(newest)?;
        Ok(Rotation { id: newest.pair.id().to_owned(), signs_from, is_new })
    }

    /// Removes the key of this name, or every one that is unneeded; answers which. One that tokens may still need is
    /// removed only if `at_once` says that they shall be refused, and the one that signs never.
    pub fn retire(
        &self,
        id: Option<&str>,
        now: Timestamp,
        at_once: bool,
    ) -> Result<Vec<String>, KeyFolderError> {
        let _alone = self.lock()?;
        let mut keys = self.list(now)?;
        match id {
            None => keys.retain(|key| key.state == KeyState::Unneeded),
            Some(id) => keys.retain(|key| key.id == id),
        }
        if let (Some(id), []) = (id, &keys[..]) {
            return Err(KeyFolderError::UnknownKey(id.to_owned()));
        }
        for key in &keys {
            match key.state {
                KeyState::Active => return Err(KeyFolderError::Signs(key.id.clone())),
                KeyState::Verifying if !at_once => {
                    let (id, until) = (key.id.clone(), key.needed_until);
                    return Err(KeyFolderError::StillNeeded { id, until });
                }
                KeyState::Verifying | KeyState::Next | KeyState::Unneeded => {}
            }
        }
        let removed =
            keys.iter().try_for_each(|key| fs::remove_file(self.path.join(format!("{}{SUFFIX}", key.id))));
        removed.and_then(|()| sync(&self.path)).map_err(|error| self.not_written(error))?;
        Ok(keys.into_iter().map(|key| key.id).collect())
    }

    /// Every key, the one that signs last first.
    fn keys(&self) -> Result<Vec<StoredKey>, KeyFolderError> {
        let fail = |error| KeyFolderError::Folder(self.path.clone(), error);
        let entries = match fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(fail(error)),
        };
        if fs::metadata(&self.path).map_err(fail)?.mode() & 0o022 != 0 {
            return Err(KeyFolderError::OpenToOthers(self.path.clone()));
        }
        let mut keys = Vec::new();
        for entry in entries {
            let name = entry.map_err(fail)?.file_name();
            // Editors and our own writing keep what is unfinished under names that begin with a dot.
            if let Some(name) = name.to_str().filter(|name| name.ends_with(SUFFIX) && !name.starts_with('.'))
            {
                keys.push(self.read(name)?);
            }
        }
        keys.sort_by(|one, other| (other.signs_from, other.pair.id()).cmp(&(one.signs_from, one.pair.id())));
        Ok(keys)
    }

    fn read(&self, name: &str) -> Result<StoredKey, KeyFolderError> {
        let path = self.path.join(name);
        let unusable = |problem| KeyFolderError::Unusable { path: path.clone(), problem };
        let text = match read_private(&path) {
            Ok(Some(text)) => text,
            Ok(None) => return Err(unusable(UnusableKeyFile::OpenToOthers)),
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                return Err(unusable(UnusableKeyFile::Malformed));
            }
            Err(error) => return Err(KeyFolderError::Unreadable(path, error)),
        };
        StoredKey::parse(name, &text).map_err(unusable)
    }

    fn facts(&self, keys: &[StoredKey], key: &StoredKey, now: Timestamp) -> KeyFacts {
        let signing_ones = || keys.iter().filter(|key| key.pair.algorithm() == self.algorithm);
        let active = key_ring::signing_at(signing_ones, |key| key.signs_from, now);
        let is_active = active.is_some_and(|active| active.pair.id() == key.pair.id());
        let is_signing_one = key.pair.algorithm() == self.algorithm;
        let successor = signing_ones().take_while(|newer| newer.pair.id() != key.pair.id()).last();
        let (state, needed_until) = match successor {
            _ if is_active => (KeyState::Active, None),
            _ if is_signing_one && key.signs_from > now => (KeyState::Next, None),
            Some(successor) if is_signing_one => {
                let until = successor.signs_from + self.token_lifetime + MARGIN;
                (if until <= now { KeyState::Unneeded } else { KeyState::Verifying }, Some(until))
            }
            _ => (KeyState::Verifying, None),
        };
        KeyFacts {
            id: key.pair.id().to_owned(),
            algorithm: key.pair.algorithm(),
            state,
            created_at: key.created_at,
            signs_from: key.signs_from,
            needed_until,
        }
    }

    fn make(&self, created_at: Timestamp, signs_from: Timestamp) -> Result<String, KeyFolderError> {
        let key = StoredKey { pair: KeyPair::generate(self.algorithm)?, created_at, signs_from };
        self.write(&key)?;
        Ok(key.pair.id().to_owned())
    }

    /// Puts the file there, or another in its place, whole or not at all.
    fn write(&self, key: &StoredKey) -> Result<(), KeyFolderError> {
        let text = key.to_text()?;
        let unfinished = self.path.join(UNFINISHED);
        let write = || {
            if let Err(error) = fs::remove_file(&unfinished)
                && error.kind() != ErrorKind::NotFound
            {
                return Err(error);
            }
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
            private_files::give_to_owner_of(&self.path, &file)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&unfinished, self.path.join(key.file_name()))?;
            sync(&self.path)
        };
        write().map_err(|error| self.not_written(error))
    }

    /// Keeps other commands out until the answer is dropped. Makes the folder if it is missing.
    fn lock(&self) -> Result<File, KeyFolderError> {
        let lock = || {
            private_files::create_folder(&self.path)?;
            let path = self.path.join(LOCK);
            let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
            private_files::give_to_owner_of(&self.path, &file)?;
            file.lock()?;
            Ok(file)
        };
        lock().map_err(|error| self.not_written(error))
    }

    fn not_written(&self, error: io::Error) -> KeyFolderError {
        KeyFolderError::Write(self.path.clone(), error)
    }

    fn no_signing_key(&self) -> KeyFolderError {
        KeyFolderError::NoSigningKey { path: self.path.clone(), algorithm: self.algorithm }
    }
}

impl KeyState {
    /// In a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Next => "next",
            Self::Active => "active",
            Self::Verifying => "verifying",
            Self::Unneeded => "unneeded",
        }
    }
}

/// The text of a file, unless others than its owner may open it.
fn read_private(path: &Path) -> io::Result<Option<Zeroizing<String>>> {
    // To open a pipe would be to wait for whoever writes into it.
    if !fs::metadata(path)?.is_file() {
        return Err(ErrorKind::InvalidData.into());
    }
    let file = File::open(path)?;
    if file.metadata()?.mode() & 0o077 != 0 {
        return Ok(None);
    }
    let mut text = Zeroizing::new(String::with_capacity(8 * 1024));
    file.take(LARGEST_FILE).read_to_string(&mut text)?;
    Ok(Some(text))
}

/// Sees to it that a name that was given or taken away stays so when the power fails.
fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
