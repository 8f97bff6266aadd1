//! Users who come from elsewhere, with the hashes that were made of their passwords there.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::ports::UnusableHash;
use crate::{Account, Attempt, InvalidUsername, PasswordHash, Subject, UserId, Username, UsernameKey};

/// How far ahead of our clock a time may be. Programs have written the time of day of their own zone for UTC, and
/// their clocks were wrong.
const AHEAD: Duration = Duration::from_hours(24);

/// The greatest number that may be kept: the greatest that every reader of JSON reads as it is (RFC 8259, section 6).
/// Were there none left above it, nobody could sign up any more.
const GREATEST: i64 = (1 << 53) - 1;

/// What a file says of a user. Nothing of it is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The number that they had.
    pub id: Option<i64>,
    /// The name.
    pub username: String,
    /// What was kept of the password.
    pub password_hash: PasswordHash,
    /// When the account was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Since when it is disabled, if it is.
    pub disabled_at: Option<Timestamp>,
}

/// What becomes of the numbers that users had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbers {
    /// Everybody gets another.
    New,
    /// They are kept.
    Kept,
}

/// A user who may be kept, if nothing that is kept already is in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedUser {
    /// The number to keep; without it they get one.
    pub id: Option<UserId>,
    /// The name to take.
    pub name: Username,
    /// What is kept of the password.
    pub password_hash: PasswordHash,
    /// When the account was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Since when it is disabled, if it is.
    pub disabled_at: Option<Timestamp>,
}

/// Why somebody cannot be imported, whoever is here already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unimportable {
    /// Nobody here could have the name.
    #[error(transparent)]
    Username(#[from] InvalidUsername),
    /// No password could be verified with the hash.
    #[error(transparent)]
    Hash(#[from] UnusableHash),
    /// A time that no account can have.
    #[error("{field} is before 1970 or in the future")]
    Time {
        /// Which one.
        field: &'static str,
    },
    /// Numbers are to be kept, and there is none that can be.
    #[error("there is no number to keep, which is one from 1 to {GREATEST}")]
    NoNumber,
    /// Numbers are to be kept, and a later one was seen already.
    #[error("its number is not greater than the one before; sort the users by number to keep them")]
    OutOfOrder,
    /// Somebody before them has the same name.
    #[error("somebody before has the same name, in this spelling or another")]
    SameName {
        /// Where they stand.
        first: i64,
    },
}

/// How importing somebody ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Importation {
    /// They are a user, of this number.
    Done(UserId),
    /// They were here already, and stay as they are.
    AlreadyThere,
    /// Something that is kept is in the way.
    Refused(Conflict),
}

/// What is in the way of somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Conflict {
    /// Somebody else has the name.
    #[error("somebody else has the name, in this spelling or another")]
    UsernameTaken,
    /// The number was given before, or skipped.
    #[error("the number was given before, or one above it")]
    NumberGiven,
    /// They are here already, and have another number.
    #[error("the user is there already, under another number")]
    OtherNumber,
}

/// Tells of users, one after the other, whether they could all be imported. It keeps a digest of each name.
pub struct Admission {
    numbers: Numbers,
    now: Timestamp,
    names: HashMap<[u8; 16], i64>,
    last: i64,
}

impl ImportedUser {
    /// What importing them comes to where this account has their name. It is theirs if it was made at the same
    /// microsecond, and has changed since as they changed it.
    pub fn compared_with(&self, there: &Account) -> Importation {
        if self.created_at != there.user.created_at {
            return Importation::Refused(Conflict::UsernameTaken);
        }
        match self.id {
            Some(id) if id != there.user.id => Importation::Refused(Conflict::OtherNumber),
            _ => Importation::AlreadyThere,
        }
    }

    /// What importing them comes to where nobody has their name and numbers up to `last` were given; nothing if they
    /// can be.
    pub fn after(&self, last: UserId) -> Option<Importation> {
        let given = self.id.is_some_and(|id| id <= last);
        given.then_some(Importation::Refused(Conflict::NumberGiven))
    }

    /// The part of an attempt that is about them.
    pub fn part_of(&self, attempt: &Attempt) -> Attempt {
        Attempt { subject: Subject::from(&self.name), ..attempt.clone() }
    }
}

impl Conflict {
    /// Its name in a log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UsernameTaken => "username_taken",
            Self::NumberGiven => "number_given",
            Self::OtherNumber => "other_number",
        }
    }
}

impl Admission {
    pub(crate) fn new(numbers: Numbers, now: Timestamp) -> Self {
        Self { numbers, now, names: HashMap::new(), last: 0 }
    }

    /// Checks the user who stands at `place`, after those who were checked before. `usable` tells whether passwords
    /// could be verified with a hash.
    pub(crate) fn admit(
        &mut self,
        place: i64,
        candidate: Candidate,
        usable: impl FnOnce(&PasswordHash) -> Result<(), UnusableHash>,
    ) -> Result<ImportedUser, Unimportable> {
        let Candidate { id, username, password_hash, created_at, updated_at, disabled_at } = candidate;
        let name = Username::parse(&username)?;
        usable(&password_hash)?;
        let disabled_at = disabled_at.map(|at| self.time("disabled_at", at)).transpose()?;
        let user = ImportedUser {
            id: self.number(id)?,
            name,
            password_hash,
            created_at: self.time("created_at", created_at)?,
            updated_at: self.time("updated_at", updated_at)?,
            disabled_at,
        };
        if let Some(first) = self.names.get(&digest(user.name.key())) {
            return Err(Unimportable::SameName { first: *first });
        }
        self.names.insert(digest(user.name.key()), place);
        self.last = user.id.map_or(self.last, |id| id.0);
        Ok(user)
    }

    fn number(&self, id: Option<i64>) -> Result<Option<UserId>, Unimportable> {
        if self.numbers == Numbers::New {
            return Ok(None);
        }
        let id = id.filter(|id| (1..=GREATEST).contains(id)).ok_or(Unimportable::NoNumber)?;
        if id > self.last { Ok(Some(UserId(id))) } else { Err(Unimportable::OutOfOrder) }
    }

    /// A time that can be, in the microseconds that a store keeps.
    fn time(&self, field: &'static str, time: Timestamp) -> Result<Timestamp, Unimportable> {
        let latest = self.now.saturating_add(AHEAD).unwrap_or(Timestamp::MAX);
        if !(Timestamp::UNIX_EPOCH..=latest).contains(&time) {
            return Err(Unimportable::Time { field });
        }
        Timestamp::from_microsecond(time.as_microsecond()).map_err(|_| Unimportable::Time { field })
    }
}

/// Half of SHA-256: enough for two names never to have the same, and little to keep of millions.
fn digest(name: &UsernameKey) -> [u8; 16] {
    let whole: [u8; 32] = Sha256::digest(name.as_str().as_bytes()).into();
    let mut half = [0; 16];
    half.copy_from_slice(&whole[..16]);
    half
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ann, hash, noon, username};

    fn candidate(username: &str) -> Candidate {
        Candidate {
            id: Some(7),
            username: username.to_owned(),
            password_hash: hash("kept"),
            created_at: noon(),
            updated_at: noon(),
            disabled_at: None,
        }
    }

    fn admit(admission: &mut Admission, place: i64, it: Candidate) -> Result<ImportedUser, Unimportable> {
        admission.admit(place, it, |_| Ok(()))
    }

    #[test]
    fn whoever_can_be_imported_is_as_the_file_says() {
        let mut admission = Admission::new(Numbers::New, noon());
        let later = "2026-11-22T12:00:00.1234569Z".parse().unwrap();

        let user = admit(&mut admission, 1, Candidate { disabled_at: Some(later), ..candidate("Ann") });

        let expected = ImportedUser {
            id: None,
            name: username("Ann"),
            password_hash: hash("kept"),
            created_at: noon(),
            updated_at: noon(),
            disabled_at: Some(noon()),
        };
        assert_eq!(user, Ok(expected));
    }

    #[test]
    fn who_shows_a_candidate_shows_no_hash() {
        let shown = format!("{:?}", candidate("ann"));

        assert!(shown.contains("ann") && !shown.contains("kept"), "{shown}");
    }

    #[test]
    fn names_hashes_and_times_that_cannot_be_are_refused() {
        let mut admission = Admission::new(Numbers::New, noon());
        let day = Duration::from_hours(24);
        let microsecond = Duration::from_micros(1);

        let short = admit(&mut admission, 1, candidate("an"));
        let foreign = admission.admit(2, candidate("ann"), |_| Err(UnusableHash::Format));
        let tomorrow = admit(&mut admission, 3, Candidate { created_at: noon() + day, ..candidate("bob") });
        let later = admit(
            &mut admission,
            4,
            Candidate { created_at: noon() + day + microsecond, ..candidate("eve") },
        );
        let before = Timestamp::UNIX_EPOCH - microsecond;
        let old = admit(&mut admission, 5, Candidate { updated_at: before, ..candidate("eve") });
        let never = admit(&mut admission, 6, Candidate { disabled_at: Some(before), ..candidate("eve") });

        assert_eq!(short, Err(InvalidUsername::TooShort.into()));
        assert_eq!(foreign, Err(UnusableHash::Format.into()));
        assert!(tomorrow.is_ok());
        assert_eq!(later, Err(Unimportable::Time { field: "created_at" }));
        assert_eq!(old, Err(Unimportable::Time { field: "updated_at" }));
        assert_eq!(never, Err(Unimportable::Time { field: "disabled_at" }));
    }

    #[test]
    fn the_second_of_one_name_is_refused_and_told_where_the_first_stands() {
        let mut admission = Admission::new(Numbers::New, noon());
        let refused = Candidate { created_at: Timestamp::MIN, ..candidate("ann") };

        assert!(admit(&mut admission, 3, refused).is_err());
        assert!(admit(&mut admission, 4, candidate("Ann")).is_ok());
        assert_eq!(admit(&mut admission, 9, candidate("ａｎｎ")), Err(Unimportable::SameName { first: 4 }));
    }

    #[test]
    fn numbers_that_are_kept_must_ascend() {
        let mut admission = Admission::new(Numbers::Kept, noon());
        let mut numbered =
            |id: Option<i64>, name| admit(&mut admission, 1, Candidate { id, ..candidate(name) });

        assert_eq!(numbered(None, "ann"), Err(Unimportable::NoNumber));
        assert_eq!(numbered(Some(0), "ann"), Err(Unimportable::NoNumber));
        assert_eq!(numbered(Some(1 << 53), "ann"), Err(Unimportable::NoNumber));
        assert_eq!(numbered(Some(5), "ann").unwrap().id, Some(UserId(5)));
        assert_eq!(numbered(Some(5), "bob"), Err(Unimportable::OutOfOrder));
        assert_eq!(numbered(Some(6), "bob").unwrap().id, Some(UserId(6)));
    }

    #[test]
    fn who_was_made_at_the_same_moment_is_the_same_and_keeps_a_number_if_it_is_the_same() {
        let mut admission = Admission::new(Numbers::Kept, noon());
        let kept = admit(&mut admission, 1, candidate("ann")).unwrap();
        let new = ImportedUser { id: None, ..kept.clone() };
        let (there, mut other) = (ann(), ann());
        other.user.created_at += Duration::from_micros(1);

        assert_eq!(kept.compared_with(&there), Importation::AlreadyThere);
        assert_eq!(new.compared_with(&there), Importation::AlreadyThere);
        assert_eq!(new.compared_with(&other), Importation::Refused(Conflict::UsernameTaken));
        let elsewhere = ImportedUser { id: Some(UserId(8)), ..kept };
        assert_eq!(elsewhere.compared_with(&there), Importation::Refused(Conflict::OtherNumber));
    }

    #[test]
    fn a_number_is_kept_above_the_last_one_that_was_given() {
        let mut admission = Admission::new(Numbers::Kept, noon());
        let kept = admit(&mut admission, 1, candidate("ann")).unwrap();

        assert_eq!(kept.after(UserId(6)), None);
        assert_eq!(kept.after(UserId(7)), Some(Importation::Refused(Conflict::NumberGiven)));
        assert_eq!(ImportedUser { id: None, ..kept }.after(UserId(7)), None);
    }
}
