//! What a person is called: as typed, as compared, and as tried at a login.

use std::fmt;

use precis_profiles::UsernameCaseMapped;
use precis_profiles::precis_core::profile::Profile;
use thiserror::Error;
use unicode_normalization::UnicodeNormalization;
use unicode_security::MixedScript;
use zeroize::Zeroizing;

/// The fewest characters a username has, counted after mapping.
pub const MIN_USERNAME_LENGTH: usize = 3;

/// The most characters a username has, counted after mapping.
pub const MAX_USERNAME_LENGTH: usize = 64;

/// The ASCII characters, besides letters and digits, that a name may hold: those an e-mail address needs.
const PUNCTUATION: &str = "@._-+";

/// No mapping makes a name this much shorter, so longer input is refused before any table is asked.
const LONGEST_RAW_BYTES: usize = 1024;

/// A name a person logs in with: as typed, and as compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Username {
    typed: String,
    key: UsernameKey,
}

/// The form of a name that decides whether two names are the same one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UsernameKey(String);

/// What somebody gave for a name at a login. Every text is one: what cannot be a name is merely wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginName {
    /// A name somebody may have.
    Possible(Username),
    /// A text that nobody's name can be.
    Impossible(StrayText),
}

/// The first 256 bytes of a text that is no name. It may be a password in the wrong field, so it is wiped
/// when dropped, and does not show itself.
#[derive(Clone, PartialEq, Eq)]
pub struct StrayText(Zeroizing<String>);

/// Why a text cannot be a username.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InvalidUsername {
    /// Fewer than [`MIN_USERNAME_LENGTH`] characters.
    #[error("the name is too short")]
    TooShort,
    /// More than [`MAX_USERNAME_LENGTH`] characters.
    #[error("the name is too long")]
    TooLong,
    /// A character that the profile, or our choice of punctuation, leaves out; or letters of several scripts.
    #[error("the name has characters that a name cannot have")]
    InvalidCharacters,
}

impl Username {
    /// Accepts 3 to 64 characters of the PRECIS `UsernameCaseMapped` profile (RFC 8265, section 3.3), of one
    /// script (UTS #39, section 5.1), with `@ . _ - +` as the only ASCII punctuation.
    pub fn parse(raw: &str) -> Result<Self, InvalidUsername> {
        if raw.is_empty() {
            return Err(InvalidUsername::TooShort);
        }
        if raw.len() > LONGEST_RAW_BYTES {
            return Err(InvalidUsername::TooLong);
        }
        let key = canonical(raw)?;
        if !has_valid_characters(&key) {
            return Err(InvalidUsername::InvalidCharacters);
        }
        match key.chars().count() {
            ..MIN_USERNAME_LENGTH => Err(InvalidUsername::TooShort),
            MIN_USERNAME_LENGTH..=MAX_USERNAME_LENGTH => {
                Ok(Self { typed: raw.nfc().collect(), key: UsernameKey(key) })
            }
            _ => Err(InvalidUsername::TooLong),
        }
    }

    /// Every rule that a text breaks which is no username, the length first.
    pub fn broken_rules(raw: &str) -> Vec<InvalidUsername> {
        if raw.is_empty() {
            return vec![InvalidUsername::TooShort];
        }
        if raw.len() > LONGEST_RAW_BYTES {
            return vec![InvalidUsername::TooLong];
        }
        let key = canonical(raw).ok();
        // What has no canonical form is counted as it would be kept.
        let length = key.as_deref().map_or_else(|| raw.nfc().count(), |key| key.chars().count());
        let length = match length {
            ..MIN_USERNAME_LENGTH => Some(InvalidUsername::TooShort),
            MIN_USERNAME_LENGTH..=MAX_USERNAME_LENGTH => None,
            _ => Some(InvalidUsername::TooLong),
        };
        let has_invalid = !key.is_some_and(|key| has_valid_characters(&key));
        length.into_iter().chain(has_invalid.then_some(InvalidUsername::InvalidCharacters)).collect()
    }

    /// A name as a store kept it. Rules may have tightened since it was taken, and it stays its owner's.
    pub fn from_stored(typed: String, key: String) -> Self {
        Self { typed, key: UsernameKey(key) }
    }

    /// As its owner typed it, in NFC.
    pub fn as_typed(&self) -> &str {
        &self.typed
    }

    /// As it is compared.
    pub fn key(&self) -> &UsernameKey {
        &self.key
    }
}

impl UsernameKey {
    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl LoginName {
    /// Takes whatever was typed.
    pub fn from_typed(raw: &str) -> Self {
        match Username::parse(raw) {
            Ok(name) => Self::Possible(name),
            Err(_) => Self::Impossible(StrayText::from_start_of(raw)),
        }
    }
}

impl StrayText {
    fn from_start_of(raw: &str) -> Self {
        Self(Zeroizing::new(raw[..raw.floor_char_boundary(256)].to_owned()))
    }

    /// The text, for whoever makes a digest of it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for StrayText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StrayText(..)")
    }
}

/// Whether a canonical text has letters of one script and no other ASCII punctuation than a name may have.
fn has_valid_characters(key: &str) -> bool {
    let is_valid = |c: char| !c.is_ascii() || c.is_ascii_alphanumeric() || PUNCTUATION.contains(c);
    key.chars().all(is_valid) && key.is_single_script()
}

fn canonical(raw: &str) -> Result<String, InvalidUsername> {
    let profile = UsernameCaseMapped::new();
    let enforce =
        |text: &str| profile.enforce(text).map(String::from).map_err(|_| InvalidUsername::InvalidCharacters);
    let once = enforce(raw)?;
    // Some texts need the rules more than once (RFC 8265, section 3.3.3, and RFC 7564, section 7). What the
    // second round still changes would compare unequal to its own stored key one day.
    if enforce(&once)? == once { Ok(once) } else { Err(InvalidUsername::InvalidCharacters) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(raw: &str) -> String {
        Username::parse(raw).unwrap().key().as_str().to_owned()
    }

    #[test]
    fn a_name_is_kept_as_typed_and_compared_without_case_and_width() {
        let name = Username::parse("Ann.Lee").unwrap();

        assert_eq!(name.as_typed(), "Ann.Lee");
        assert_eq!(name.key().as_str(), "ann.lee");
        assert_eq!(key("ＡＮＮ"), "ann");
        assert_eq!(key("ANN"), key("ann"));
    }

    #[test]
    fn composed_and_decomposed_spellings_are_one_name() {
        assert_eq!(key("zo\u{e9}"), key("zoe\u{301}"));
        assert_eq!(Username::parse("zoe\u{301}").unwrap().as_typed(), "zo\u{e9}");
    }

    #[test]
    fn an_email_address_can_serve_as_a_name() {
        assert_eq!(key("Ann.Lee+work_1@mail-host.example"), "ann.lee+work_1@mail-host.example");
    }

    #[test]
    fn names_of_many_scripts_are_welcome_one_script_at_a_time() {
        for name in ["Ünal", "мария", "田中さん", "محمد", "Ελένη", "ユーザー"] {
            assert!(Username::parse(name).is_ok(), "{name}");
        }
        // Cyrillic а among Latin letters.
        assert_eq!(Username::parse("p\u{430}ypal"), Err(InvalidUsername::InvalidCharacters));
    }

    #[test]
    fn control_bidirectional_zero_width_unassigned_and_other_punctuation_are_refused() {
        for raw in [
            "ann\0",
            "ann\n",
            "an\u{1b}n",
            "an\u{202e}n",
            "an\u{200b}n",
            "an\u{feff}n",
            "an\u{378}n",
            "an n",
            "ann!",
            "ann/..",
            "ann'--",
            "ann%",
            "ann\u{ff01}",
            "<ann>",
            "ann\u{1f600}",
            "ﬁona",
        ] {
            assert_eq!(Username::parse(raw), Err(InvalidUsername::InvalidCharacters), "{raw:?}");
        }
    }

    #[test]
    fn length_is_counted_in_characters_after_mapping() {
        assert_eq!(Username::parse(""), Err(InvalidUsername::TooShort));
        assert_eq!(Username::parse("an"), Err(InvalidUsername::TooShort));
        assert!(Username::parse("ann").is_ok());
        assert!(Username::parse("éée").is_ok());
        // Five code points that compose to two.
        assert_eq!(Username::parse("e\u{301}e\u{301}"), Err(InvalidUsername::TooShort));
        assert!(Username::parse(&"a".repeat(64)).is_ok());
        assert!(Username::parse(&"é".repeat(64)).is_ok());
        assert_eq!(Username::parse(&"a".repeat(65)), Err(InvalidUsername::TooLong));
        assert_eq!(Username::parse(&"a".repeat(16_000)), Err(InvalidUsername::TooLong));
    }

    #[test]
    fn a_key_is_its_own_key() {
        for raw in ["Ann", "Straße", "ΣΊΣΥΦΟΣ", "ÅNGSTRÖM", "Istanbul", "ＡｂＣ"] {
            let key = key(raw);
            assert_eq!(self::key(&key), key, "{raw}");
        }
    }

    #[test]
    fn what_cannot_be_a_name_is_still_a_login_name_cut_between_characters() {
        assert!(matches!(LoginName::from_typed("ann"), LoginName::Possible(_)));
        let LoginName::Impossible(kept) = LoginName::from_typed(&"é!".repeat(500)) else {
            panic!("possible")
        };
        assert!((251..=256).contains(&kept.expose().len()));
        assert_eq!(format!("{kept:?}"), "StrayText(..)");
    }

    #[test]
    fn every_broken_rule_is_named_and_a_name_breaks_none() {
        use InvalidUsername::{InvalidCharacters, TooLong, TooShort};

        let long = "a!".repeat(40);
        for (raw, broken) in [
            ("ann", &[][..]),
            ("", &[TooShort]),
            ("an", &[TooShort]),
            ("a!", &[TooShort, InvalidCharacters]),
            (" ", &[TooShort, InvalidCharacters]),
            ("ann!", &[InvalidCharacters]),
            (&"a".repeat(65), &[TooLong]),
            (&long, &[TooLong, InvalidCharacters]),
            (&"!".repeat(2000), &[TooLong]),
            ("p\u{430}", &[TooShort, InvalidCharacters]),
        ] {
            assert_eq!(Username::broken_rules(raw), broken, "{raw}");
            assert_eq!(Username::parse(raw).is_ok(), broken.is_empty(), "{raw}");
        }
    }
}
