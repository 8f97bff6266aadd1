//! Sessions: what one login opens, and what is known of it until it ends.

pub(crate) mod cache;
mod cache_epochs;
mod cache_invalidation;
pub(crate) mod refresh_rotation;

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use uuid::{Builder, Uuid};

use crate::user::plain_number;
use crate::{Lineage, Misuse, UserId};

/// The most live sessions of one user. Whoever opens one more ends their oldest.
pub const MOST_SESSIONS: u32 = 100;

/// The most networks that are remembered of one user.
pub const MOST_KNOWN_NETWORKS: u32 = 8;

/// How long a network is remembered after the last login from it.
pub const KNOWN_NETWORK_TTL: Duration = Duration::from_hours(90 * 24);

/// The most bytes that are kept of what a client says it is.
const LONGEST_USER_AGENT: usize = 256;

/// The identifier of a session: a UUID of version 7 (RFC 9562, section 5.7), so that newer ones sort later.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(Uuid);

/// Which of the refresh tokens of a session is meant: they are counted from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(i64);

/// What makes the tokens of one session unlike those of every other, chosen at random when it is opened. No
/// token can be made of it without a key that no store has.
#[derive(Clone, PartialEq, Eq)]
pub struct Nonce(pub [u8; 16]);

/// What a client says it is, cut to what is worth keeping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserAgent(String);

/// A session, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Which one.
    pub id: SessionId,
    /// Whose.
    pub user: UserId,
    /// What its refresh tokens hang on.
    pub nonce: Nonce,
    /// Which of its refresh tokens are good for what.
    pub lineage: Lineage,
    /// When somebody logged in.
    pub created_at: Timestamp,
    /// When a refresh token was last exchanged for the next, or the login.
    pub last_used_at: Timestamp,
    /// When it ends unless it is used before; never later than `ends_at`.
    pub expires_at: Timestamp,
    /// When it ends however much it is used.
    pub ends_at: Timestamp,
    /// When it was ended, if it was.
    pub ended_at: Option<Timestamp>,
    /// From where somebody logged in.
    pub address: Option<IpAddr>,
    /// With what.
    pub user_agent: Option<UserAgent>,
}

/// Why a session was ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndCause {
    /// Its user logged out.
    LoggedOut,
    /// Its user ended it from another one.
    Revoked,
    /// Its user opened more than there may be.
    CrowdedOut,
    /// One of its refresh tokens was shown when it was good for nothing any more.
    Misused(Misuse),
    /// The account was disabled.
    Disabled,
    /// The password was changed.
    PasswordChanged,
    /// An operator ended it.
    RevokedByOperator,
    /// A backend ended it.
    RevokedByClient,
}

/// How long sessions live, and how forgiving they are.
#[derive(Clone, Copy, Debug)]
pub struct SessionRules {
    /// How long one lives without being used.
    pub idle_ttl: Duration,
    /// How long one lives at most.
    pub absolute_ttl: Duration,
    /// How long a refresh token that was exchanged is taken for a second tab's.
    pub grace: Duration,
}

impl SessionId {
    /// A new one, of this moment and of 74 of the 128 random bits. A time before 1970 counts as 1970.
    pub fn new(now: Timestamp, random: [u8; 16]) -> Self {
        let milliseconds = u64::try_from(now.as_millisecond()).unwrap_or(0);
        let [_, _, _, _, _, _, random @ ..] = random;
        Self(Builder::from_unix_timestamp_millis(milliseconds, &random).into_uuid())
    }

    /// One that was kept, or came in a token.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// What is kept of it.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// Reads the one spelling that `Display` writes: small letters and four hyphens.
    pub fn parse(text: &str) -> Option<Self> {
        let id = Uuid::try_parse(text).ok()?;
        let is_canonical = *id.hyphenated().encode_lower(&mut Uuid::encode_buffer()) == *text;
        is_canonical.then_some(Self(id))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({self})")
    }
}

impl Generation {
    /// That of the refresh token which a login hands out.
    pub const FIRST: Self = Self(1);

    /// The generation of this number, if there can be one.
    pub fn new(number: i64) -> Option<Self> {
        (number >= Self::FIRST.0).then_some(Self(number))
    }

    /// Its number, one or more.
    pub fn number(self) -> i64 {
        self.0
    }

    /// The one that follows. Nobody lives to see the last one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// How many steps it is behind `other`; nothing if it is ahead.
    pub fn behind(self, other: Self) -> Option<usize> {
        usize::try_from(other.0 - self.0).ok()
    }

    /// Reads the one spelling that `Display` writes: no sign, no leading zero.
    pub fn parse(text: &str) -> Option<Self> {
        plain_number(text).and_then(Self::new)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nonce(..)")
    }
}

impl UserAgent {
    /// The first 256 bytes of what a client says, without what could be more than text; `None` if that leaves
    /// nothing.
    pub fn from_header(raw: &str) -> Option<Self> {
        let text: String = raw.chars().filter(|character| !character.is_control()).collect();
        let text = text[..text.floor_char_boundary(LONGEST_USER_AGENT)].trim().to_owned();
        (!text.is_empty()).then_some(Self(text))
    }

    /// One that was kept.
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Session {
    /// Whether its tokens hold.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.ended_at.is_none() && now < self.expires_at
    }

    /// The same session with its next generation of tokens, used now.
    #[must_use]
    pub fn rotated(self, lineage: Lineage, now: Timestamp, rules: &SessionRules) -> Self {
        Self { lineage, last_used_at: now, expires_at: rules.expiry(now, self.ends_at), ..self }
    }

    /// How long its refresh token holds from `now` on, if nobody uses it.
    pub fn time_left(&self, now: Timestamp) -> Duration {
        Duration::try_from(self.expires_at.duration_since(now)).unwrap_or_default()
    }
}

impl SessionRules {
    /// When a session that is opened now ends however much it is used.
    pub fn end(&self, now: Timestamp) -> Timestamp {
        now.saturating_add(self.absolute_ttl).unwrap_or(Timestamp::MAX)
    }

    /// When a session that is used now, and ends at `ends_at`, expires unless it is used again.
    pub fn expiry(&self, now: Timestamp, ends_at: Timestamp) -> Timestamp {
        now.saturating_add(self.idle_ttl).unwrap_or(Timestamp::MAX).min(ends_at)
    }
}

impl EndCause {
    /// Its name in a log, and in a store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LoggedOut => "logged_out",
            Self::Revoked => "revoked",
            Self::CrowdedOut => "crowded_out",
            Self::Misused(misuse) => misuse.as_str(),
            Self::Disabled => "disabled",
            Self::PasswordChanged => "password_changed",
            Self::RevokedByOperator => "revoked_by_operator",
            Self::RevokedByClient => "revoked_by_client",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn an_identifier_is_a_uuid_of_version_7_of_its_moment() {
        // The example of RFC 9562, appendix A.6.
        let chance = 0x0000_0000_0000_0cc3_18c4_dc0c_0c07_398f_u128.to_be_bytes();
        let id = SessionId::new(at("2022-02-22T19:22:22Z"), chance);

        assert_eq!(id.to_string(), "017f22e2-79b0-7cc3-98c4-dc0c0c07398f");
        assert_eq!(SessionId::parse("017f22e2-79b0-7cc3-98c4-dc0c0c07398f"), Some(id));
    }

    #[test]
    fn newer_identifiers_sort_later_and_two_of_one_moment_differ() {
        let id = |time, chance| SessionId::new(at(time), [chance; 16]);

        assert!(id("2026-11-22T12:00:00.001Z", 0xff) < id("2026-11-22T12:00:00.002Z", 0));
        assert_ne!(id("2026-11-22T12:00:00Z", 1), id("2026-11-22T12:00:00Z", 2));
    }

    #[test]
    fn an_identifier_has_one_spelling() {
        for text in [
            "",
            "017F22E2-79B0-7CC3-98C4-DC0C0C07398F",
            "017f22e279b07cc398c4dc0c0c07398f",
            "{017f22e2-79b0-7cc3-98c4-dc0c0c07398f}",
            "017f22e2-79b0-7cc3-98c4-dc0c0c07398",
            "017f22e2-79b0-7cc3-98c4-dc0c0c07398f0",
            "017f22e2-79b0-7cc3-98c4-dc0c0c07398g",
            "+17f22e2-79b0-7cc3-98c4-dc0c0c07398f",
        ] {
            assert_eq!(SessionId::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_generation_is_counted_from_one_and_has_one_spelling() {
        assert_eq!(Generation::parse("1"), Some(Generation::FIRST));
        assert_eq!(Generation::parse("41").map(Generation::next), Generation::new(42));
        for text in ["", "0", "-1", "+1", "01", "1.0", " 1", "9223372036854775808"] {
            assert_eq!(Generation::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn what_a_client_says_it_is_is_cut_between_characters_and_has_no_controls() {
        let user_agent = |raw: &str| UserAgent::from_header(raw).map(|it| it.as_str().to_owned());

        assert_eq!(user_agent("curl/8.0\r\n\u{1b}[31m"), Some("curl/8.0[31m".to_owned()));
        assert_eq!(user_agent(&"é".repeat(200)).map(|text| text.len()), Some(256));
        assert_eq!(user_agent("\t "), None);
    }

    #[test]
    fn a_session_expires_when_it_is_idle_and_ends_however_much_it_is_used() {
        let hours = |hours| Duration::from_hours(hours);
        let rules = SessionRules { idle_ttl: hours(2), absolute_ttl: hours(5), grace: hours(0) };
        let noon = at("2026-11-22T12:00:00Z");

        let ends_at = rules.end(noon);

        assert_eq!(rules.expiry(noon, ends_at), noon + hours(2));
        assert_eq!(rules.expiry(noon + hours(4), ends_at), noon + hours(5));
    }
}
