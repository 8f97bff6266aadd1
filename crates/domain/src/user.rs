//! Who somebody is, and what only the use cases may see of them.

use std::fmt;

use jiff::Timestamp;

use crate::{PasswordHash, Username};

/// The number of a user, given once and never again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(pub i64);

/// A person with an account, as others may see them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The number.
    pub id: UserId,
    /// The name.
    pub name: Username,
    /// When the account was made, with microseconds.
    pub created_at: Timestamp,
    /// When its name, password or standing last changed, with microseconds.
    pub updated_at: Timestamp,
}

/// A user together with what logging in rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The person.
    pub user: User,
    /// What is kept of the password.
    pub password_hash: PasswordHash,
    /// Grows by one with every change of the password; a rehash of the same password leaves it alone.
    pub credentials_epoch: i64,
    /// Since when the account is disabled, if it is.
    pub disabled_at: Option<Timestamp>,
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl UserId {
    /// Reads the one spelling that `Display` writes: no sign, no leading zero.
    pub fn parse(text: &str) -> Option<Self> {
        plain_number(text).map(Self)
    }
}

/// A number in the one spelling that `Display` has for it.
pub(crate) fn plain_number(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_plain = text == "0" || matches!(digits.as_bytes(), [b'1'..=b'9', ..]);
    text.parse().ok().filter(|_| is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_id_has_one_spelling() {
        assert_eq!(UserId::parse("42"), Some(UserId(42)));
        for text in ["", "042", "+42", " 42", "42 ", "4.2", "0x2a", "99999999999999999999"] {
            assert_eq!(UserId::parse(text), None, "{text:?}");
        }
    }
}
