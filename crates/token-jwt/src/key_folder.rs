//! A folder of key files, and the life of a key in it.
//!
//! A key is *next* once its file is there: it is published and does not sign. From a time that its file tells it is
//! *active* and signs, until the next one's time. Then it is *verifying*: tokens that it signed still hold. When the
//! last of them has expired it is *unneeded*, and somebody may retire it, which removes the file. Nothing but the
//! clock takes a key from one to the next, so that there is no step that could be forgotten or half done, and every
//! instance that has the folder takes it at the same moment.

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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Barrier;

    use jiff::SignedDuration;
    use tempfile::TempDir;

    use super::*;

    const SECOND: SignedDuration = SignedDuration::from_secs(1);
    const LEAD_TIME: Duration = Duration::from_mins(20);

    fn noon() -> Timestamp {
        "2026-11-22T12:00:00Z".parse().unwrap()
    }

    fn folder() -> (TempDir, KeyFolder) {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("data/keys");
        let token_lifetime = Duration::from_mins(15);
        (temporary, KeyFolder { path, algorithm: KeyPairAlgorithm::EdDsa, token_lifetime })
    }

    fn file(folder: &KeyFolder, id: &str) -> PathBuf {
        folder.path.join(format!("{id}.pem"))
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    fn states(folder: &KeyFolder, now: Timestamp) -> Vec<(String, KeyState)> {
        folder.list(now).unwrap().into_iter().map(|key| (key.id, key.state)).collect()
    }

    #[test]
    fn the_first_key_signs_at_once_and_only_its_owner_reads_it() {
        let (_temporary, folder) = folder();

        let id = folder.generate(noon()).unwrap();

        assert_eq!((mode(&folder.path), mode(&file(&folder, &id))), (0o700, 0o600));
        assert_eq!(folder.ring().unwrap().signing_key_id(noon()), id);
        assert_eq!(states(&folder, noon()), [(id.clone(), KeyState::Active)]);
        let again = folder.generate(noon() + SECOND);
        assert!(matches!(again, Err(KeyFolderError::HasKey { id: there, .. }) if there == id));
        assert_eq!(folder.generate_if_none(noon()).unwrap(), None);
    }

    #[test]
    fn of_many_who_make_the_first_key_at_once_one_does() {
        let (_temporary, folder) = folder();
        let start = Barrier::new(8);

        let made = std::thread::scope(|scope| {
            let makers: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        folder.generate_if_none(noon()).unwrap()
                    })
                })
                .collect();
            makers.into_iter().filter_map(|maker| maker.join().unwrap()).count()
        });

        assert_eq!((made, folder.list(noon()).unwrap().len()), (1, 1));
    }

    #[test]
    fn a_key_goes_from_next_to_active_to_verifying_to_unneeded_by_the_clock_alone() {
        let (_temporary, folder) = folder();
        let old = folder.generate(noon()).unwrap();

        let rotation = folder.rotate(noon() + SECOND, Takeover::Announced(LEAD_TIME)).unwrap();

        let (new, takeover) = (rotation.id, rotation.signs_from);
        assert!(rotation.is_new);
        assert_eq!(takeover, noon() + SECOND + LEAD_TIME);
        let unneeded = takeover + folder.token_lifetime + MARGIN;
        for (at, of_new, of_old) in [
            (noon() + SECOND, KeyState::Next, KeyState::Active),
            (takeover - SECOND, KeyState::Next, KeyState::Active),
            (takeover, KeyState::Active, KeyState::Verifying),
            (unneeded - SECOND, KeyState::Active, KeyState::Verifying),
            (unneeded, KeyState::Active, KeyState::Unneeded),
        ] {
            assert_eq!(states(&folder, at), [(new.clone(), of_new), (old.clone(), of_old)], "{at}");
            let signing = if of_new == KeyState::Active { &new } else { &old };
            assert_eq!(folder.ring().unwrap().signing_key_id(at), signing, "{at}");
        }
        let needed_until: Vec<_> =
            folder.list(takeover).unwrap().iter().map(|key| key.needed_until).collect();
        assert_eq!(needed_until, [None, Some(unneeded)]);
    }

    #[test]
    fn a_rotation_that_is_under_way_is_not_begun_again_and_can_be_hurried() {
        let (_temporary, folder) = folder();
        let old = folder.generate(noon()).unwrap();
        let begun = folder.rotate(noon() + SECOND, Takeover::Announced(LEAD_TIME)).unwrap();

        let again = folder.rotate(noon() + 2 * SECOND, Takeover::Announced(LEAD_TIME)).unwrap();
        assert_eq!(again, Rotation { is_new: false, ..begun.clone() });
        let hurried = folder.rotate(noon() + 3 * SECOND, Takeover::AtOnce).unwrap();

        let now = noon() + 3 * SECOND;
        assert_eq!(hurried, Rotation { id: begun.id.clone(), signs_from: now, is_new: false });
        assert_eq!(states(&folder, now), [(begun.id, KeyState::Active), (old, KeyState::Verifying)]);
        let next = folder.rotate(noon() + 4 * SECOND, Takeover::AtOnce).unwrap();
        assert!(next.is_new);
        assert_eq!(folder.ring().unwrap().signing_key_id(noon() + 4 * SECOND), next.id);
    }

    #[test]
    fn a_key_is_retired_when_nobody_needs_it_or_when_somebody_says_so_and_never_the_one_that_signs() {
        let (_temporary, folder) = folder();
        let first = folder.generate(noon()).unwrap();
        let second = folder.rotate(noon() + SECOND, Takeover::AtOnce).unwrap().id;
        let third = folder.rotate(noon() + 2 * SECOND, Takeover::AtOnce).unwrap().id;
        let next = folder.rotate(noon() + 3 * SECOND, Takeover::Announced(LEAD_TIME)).unwrap().id;
        let soon = noon() + 4 * SECOND;

        assert_eq!(folder.retire(None, soon, false).unwrap(), [""; 0]);
        let needed = folder.retire(Some(&first), soon, false);
        assert!(matches!(needed, Err(KeyFolderError::StillNeeded { until: Some(_), .. })), "{needed:?}");
        for at_once in [false, true] {
            let signs = folder.retire(Some(&third), soon, at_once);
            assert!(matches!(signs, Err(KeyFolderError::Signs(_))), "{signs:?}");
            let unknown = folder.retire(Some("../x"), soon, at_once);
            assert!(matches!(unknown, Err(KeyFolderError::UnknownKey(_))), "{unknown:?}");
        }
        assert_eq!(folder.list(soon).unwrap().len(), 4);

        assert_eq!(folder.retire(Some(&second), soon, true).unwrap(), [second]);
        assert_eq!(folder.retire(Some(&next), soon, false).unwrap(), [next]);
        let later = noon() + folder.token_lifetime + MARGIN + 10 * SECOND;
        assert_eq!(folder.retire(None, later, false).unwrap(), [first]);
        assert_eq!(states(&folder, later), [(third, KeyState::Active)]);
    }

    #[test]
    fn keys_of_another_algorithm_go_on_verifying_and_are_retired_by_hand() {
        let (_temporary, edwards) = folder();
        let old = edwards.generate(noon()).unwrap();
        let curve = KeyFolder { algorithm: KeyPairAlgorithm::Es256, ..edwards.clone() };
        let missing = curve.ring();
        assert!(matches!(missing, Err(KeyFolderError::NoSigningKey { .. })), "{missing:?}");

        let new = curve.generate(noon() + SECOND).unwrap();

        assert_eq!(edwards.ring().unwrap().signing_key_id(noon() + SECOND), old);
        assert_eq!(curve.ring().unwrap().signing_key_id(noon()), new);
        let much_later = noon() + SignedDuration::from_hours(1000);
        let expected = [(new, KeyState::Active), (old.clone(), KeyState::Verifying)];
        assert_eq!(states(&curve, much_later), expected);
        assert!(matches!(
            curve.retire(Some(&old), much_later, false),
            Err(KeyFolderError::StillNeeded { until: None, .. })
        ));
        assert_eq!(curve.retire(Some(&old), much_later, true).unwrap(), [old]);
    }

    #[test]
    fn one_file_that_is_no_good_spoils_the_folder_and_is_named() {
        let (_temporary, folder) = folder();
        let id = folder.generate(noon()).unwrap();
        let path = file(&folder, &id);
        let text = fs::read_to_string(&path).unwrap();
        let refusal = || folder.ring().unwrap_err().to_string();

        for open in [0o640, 0o604, 0o660, 0o601] {
            fs::set_permissions(&path, Permissions::from_mode(open)).unwrap();
            assert!(refusal().contains("chmod 600"), "{open:o}");
            assert!(refusal().contains(&id), "{open:o}");
        }
        fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
        folder.ring().unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();

        let private = text.lines().nth(4).unwrap();
        for (spoilt, what) in [
            (text[..text.len() - 40].to_owned(), "holds no whole private key"),
            (text.replace("Algorithm", "Alg"), "is not a key file"),
            (String::new(), "is not a key file"),
        ] {
            fs::write(&path, spoilt).unwrap();
            assert!(refusal().contains(what) && refusal().contains(&id), "{}", refusal());
            assert!(!refusal().contains(private), "{}", refusal());
        }
        fs::write(&path, [0xff; 10]).unwrap();
        assert!(refusal().contains("is not a key file"), "{}", refusal());
        fs::write(&path, &text).unwrap();
        fs::rename(&path, folder.path.join("other.pem")).unwrap();
        assert!(refusal().contains("is not named after the key in it"), "{}", refusal());
        fs::rename(folder.path.join("other.pem"), &path).unwrap();
        fs::create_dir(folder.path.join("folder.pem")).unwrap();
        assert!(refusal().contains("folder.pem"), "{}", refusal());
        fs::remove_dir(folder.path.join("folder.pem")).unwrap();

        fs::write(folder.path.join(".editor.pem"), "x").unwrap();
        fs::write(folder.path.join("README"), "x").unwrap();
        folder.ring().unwrap();
        fs::set_permissions(&folder.path, Permissions::from_mode(0o770)).unwrap();
        assert!(refusal().contains("chmod 700"), "{}", refusal());
    }

    #[test]
    fn a_glance_shows_every_change() {
        let (_temporary, folder) = folder();
        let mut seen = vec![folder.glance()];
        let mut look = |what: &str| {
            let glance = folder.glance();
            assert!(!seen.contains(&glance), "{what}");
            assert_eq!(glance, folder.glance(), "{what}");
            seen.push(glance);
        };

        let id = folder.generate(noon()).unwrap();
        look("a key");
        folder.rotate(noon() + SECOND, Takeover::Announced(LEAD_TIME)).unwrap();
        look("another key");
        folder.rotate(noon() + 2 * SECOND, Takeover::AtOnce).unwrap();
        look("another file of the same name");
        fs::set_permissions(file(&folder, &id), Permissions::from_mode(0o640)).unwrap();
        look("another mode");
        fs::remove_file(file(&folder, &id)).unwrap();
        look("one key less");
    }

    #[test]
    fn no_two_keys_are_the_same() {
        let (_temporary, folder) = folder();
        folder.generate(noon()).unwrap();
        for second in 1..20 {
            folder.rotate(noon() + second * SECOND, Takeover::AtOnce).unwrap();
        }

        let ids: BTreeSet<_> = folder.list(noon()).unwrap().into_iter().map(|key| key.id).collect();

        assert_eq!(ids.len(), 20);
        assert!(ids.iter().all(|id| id.len() == 43 && !id.starts_with('-')), "{ids:?}");
    }
}
