//! What a person is called: as typed, as compared, and as tried at a login.

use std::fmt;

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use thiserror::Error;
use unicode_normalization::UnicodeNormalization;
use unicode_security::{MixedScript, RestrictionLevel, RestrictionLevelDetection};
use zeroize::Zeroizing;

use crate::precis;

/// The fewest characters a username has, counted after mapping.
pub const MIN_USERNAME_LENGTH: usize = 3;

/// The most characters a username has that is no e-mail address, counted after mapping.
pub const MAX_USERNAME_LENGTH: usize = 64;

/// The most characters a username has that is an e-mail address: the longest path of SMTP (RFC 5321, section
/// 4.5.3.1.3) without its angle brackets.
pub const MAX_ADDRESS_LENGTH: usize = 254;

/// The ASCII characters, besides letters and digits, that a name may hold.
const PUNCTUATION: &str = "@._-+";

/// Those that stand before the `@` of an e-mail address: `atext` (RFC 5321, section 4.1.2) and dots. A local part in
/// quotation marks is none.
const LOCAL_PART_PUNCTUATION: &str = "!#$%&'*+-/=?^_`{|}~.";

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
    /// More than [`MAX_USERNAME_LENGTH`] characters, or more than [`MAX_ADDRESS_LENGTH`] in an e-mail address.
    #[error("the name is too long")]
    TooLong,
    /// A character that the profile, or our choice of punctuation, leaves out; or letters of several scripts.
    #[error("the name has characters that a name cannot have")]
    InvalidCharacters,
}

impl Username {
    /// Accepts 3 to 64 characters of the PRECIS `UsernameCaseMapped` profile (RFC 8265, section 3.3), of one
    /// script (UTS #39, section 5.1), with `@ . _ - +` as the only ASCII punctuation.
    ///
    /// An e-mail address may have 254 characters, each `atext` character before the `@`, and a domain of any script
    /// behind it. Its key is in NFC and lower case, with the domain as A-labels (RFC 5890, section 2.3.2.1).
    pub fn parse(raw: &str) -> Result<Self, InvalidUsername> {
        match Self::judge(raw) {
            (Some(key), broken) if broken.is_empty() => {
                Ok(Self { typed: raw.nfc().collect(), key: UsernameKey(key) })
            }
            (_, broken) => Err(broken.last().copied().unwrap_or(InvalidUsername::InvalidCharacters)),
        }
    }

    /// Every rule that a text breaks which is no username, the length first.
    pub fn broken_rules(raw: &str) -> Vec<InvalidUsername> {
        Self::judge(raw).1
    }

    /// The key, if there is one, and every rule that the text breaks.
    fn judge(raw: &str) -> (Option<String>, Vec<InvalidUsername>) {
        if raw.is_empty() {
            return (None, vec![InvalidUsername::TooShort]);
        }
        if raw.len() > LONGEST_RAW_BYTES {
            return (None, vec![InvalidUsername::TooLong]);
        }
        let address = address_key(raw);
        let is_address = address.is_some();
        let key = address.or_else(|| enforce(raw));
        let is_name = |key: &String| has_only(key, PUNCTUATION) && key.as_str().is_single_script();
        let is_valid = is_address || key.as_ref().is_some_and(is_name);
        let typed = raw.nfc().count();
        // What has no canonical form is counted as it would be kept.
        let length = key.as_ref().map_or(typed, |key| key.chars().count());
        let is_meant_as_address = is_address || !is_valid && raw.contains('@');
        let longest = if is_meant_as_address { MAX_ADDRESS_LENGTH } else { MAX_USERNAME_LENGTH };
        let wrong_length = if length < MIN_USERNAME_LENGTH {
            Some(InvalidUsername::TooShort)
        } else if length > longest || typed > MAX_ADDRESS_LENGTH {
            Some(InvalidUsername::TooLong)
        } else {
            None
        };
        let invalid = (!is_valid).then_some(InvalidUsername::InvalidCharacters);
        (key, wrong_length.into_iter().chain(invalid).collect())
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
    /// Takes whatever was typed, without the blanks around it, which no name has and keyboards add.
    pub fn from_typed(raw: &str) -> Self {
        match Username::parse(raw.trim_matches(is_blank)) {
            Ok(name) => Self::Possible(name),
            Err(_) => Self::Impossible(StrayText::from_start_of(raw)),
        }
    }
}

/// Whether no name begins or ends with it, and nobody sees it: a blank, a line end, a zero-width space, a directional
/// mark or a byte order mark. The joiners may end a name in scripts of India.
fn is_blank(c: char) -> bool {
    c.is_whitespace()
        || matches!(c, '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
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

/// The key of an e-mail address, or `None` if it is none.
fn address_key(raw: &str) -> Option<String> {
    let mapped = precis::map_width(raw);
    let (local, domain) = mapped.split_once('@')?;
    let local = enforce(local)?;
    if !has_only(&local, LOCAL_PART_PUNCTUATION) || !local.as_str().is_single_script() {
        return None;
    }
    // What IDNA would remove is refused, and what it would take for a letter.
    let is_label = |label: &str| precis::is_allowed(label) && is_readable_label(label);
    // UTS #46 takes the ideographic full stop, which some keyboards type, for a dot.
    let domain = domain.replace('\u{3002}', ".");
    if !domain.split('.').all(is_label) {
        return None;
    }
    let idna = Uts46::new();
    let ascii =
        idna.to_ascii(domain.as_bytes(), AsciiDenyList::STD3, Hyphens::CheckFirstLast, DnsLength::Verify);
    let ascii = ascii.ok()?;
    // One that comes as A-labels has to be what it would be as letters.
    let (unicode, _) = idna.to_unicode(ascii.as_bytes(), AsciiDenyList::STD3, Hyphens::CheckFirstLast);
    unicode.split('.').all(is_label).then(|| format!("{local}@{ascii}"))
}

/// Whether a label is of one script, or of Latin together with the scripts of Chinese, Japanese or Korean (UTS #39, section
/// 5.2, "Highly Restrictive"), as domains of these countries are.
fn is_readable_label(label: &str) -> bool {
    label.is_single_script() || label.check_restriction_level(RestrictionLevel::HighlyRestrictive)
}

fn has_only(key: &str, punctuation: &str) -> bool {
    key.chars().all(|c| !c.is_ascii() || c.is_ascii_alphanumeric() || punctuation.contains(c))
}

/// Some texts need the rules more than once (RFC 8265, section 3.3.3, and RFC 7564, section 7). What the second round
/// still changes would compare unequal to its own stored key one day.
fn enforce(text: &str) -> Option<String> {
    let once = precis::enforce(text)?;
    (precis::enforce(&once)? == once).then_some(once)
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
    fn address_may_have_every_character_of_atext() {
        assert_eq!(key("O'Brien@Example.com"), "o'brien@example.com");
        assert_eq!(key("a!#$%&'*+-/=?^_`{|}~.b@example.com"), "a!#$%&'*+-/=?^_`{|}~.b@example.com");
        assert_eq!(key("ＡＮＮ＠ｅｘａｍｐｌｅ．ｃｏｍ"), "ann@example.com");
        for c in "!#$%&'*+-/=?^_`{|}~.".chars() {
            assert_eq!(key(&format!("a{c}b@example.com")), format!("a{c}b@example.com"));
        }
        for c in "\"(),:;<>[\\] \t\u{7f}".chars() {
            let refused = Username::parse(&format!("a{c}b@example.com"));
            assert_eq!(refused, Err(InvalidUsername::InvalidCharacters), "{c:?}");
        }
        for raw in
            ["\"ann\"@example.com", "\"a b\"@example.com", "o'brien", "o'brien@", "o'brien@a@b", "@o'brien"]
        {
            assert_eq!(Username::parse(raw), Err(InvalidUsername::InvalidCharacters), "{raw}");
        }
    }

    #[test]
    fn domain_of_an_address_is_of_any_script() {
        for (raw, expected) in [
            ("ann@Bücher.example", "ann@xn--bcher-kva.example"),
            ("ann@bu\u{308}cher.example", "ann@xn--bcher-kva.example"),
            ("ann@XN--BCHER-KVA.example", "ann@xn--bcher-kva.example"),
            ("ann@пример.рф", "ann@xn--e1afmkfd.xn--p1ai"),
            ("ann@例え.テスト", "ann@xn--r8jz45g.xn--zckzah"),
            ("мария@example.com", "мария@example.com"),
            ("МАРИЯ@пример.рф", "мария@xn--e1afmkfd.xn--p1ai"),
            ("محمد@مثال.إختبار", "محمد@xn--mgbh0fb.xn--kgbechtv"),
            ("ann@東京abc.example", "ann@xn--abc-dm9di64i.example"),
            ("ann@例え。テスト", "ann@xn--r8jz45g.xn--zckzah"),
            ("ann@faß.example", "ann@xn--fa-hia.example"),
            ("ann@localhost", "ann@localhost"),
            ("ann@127.0.0.1", "ann@127.0.0.1"),
        ] {
            assert_eq!(key(raw), expected, "{raw}");
            assert_eq!(key(expected), expected);
        }
        for raw in [
            "o'brien@p\u{430}ypal.com",
            "o'brien@xn--pypal-4ve.com",
            "ann@i\u{2764}.example",
            "o'brien@xn--i-7iq.example",
            "ann@exa\u{ad}mple.com",
            "ann@exa\u{200b}mple.com",
            "o'brien@-a.example",
            "o'brien@a_b.example",
            "o'brien@example..com",
            "o'brien@example.com.",
            "o'brien@[127.0.0.1]",
            "o'brien@xn--a.example",
        ] {
            assert_eq!(Username::parse(raw), Err(InvalidUsername::InvalidCharacters), "{raw}");
        }
    }

    #[test]
    fn address_has_at_most_254_characters() {
        let domain = format!("{}.{}.{}.example", "b".repeat(63), "c".repeat(63), "d".repeat(53));
        let address = |local: usize| format!("{}@{domain}", "a".repeat(local));

        assert_eq!(address(64).len(), 254);
        assert_eq!(key(&address(64)), address(64));
        assert_eq!(Username::parse(&address(65)), Err(InvalidUsername::TooLong));
        assert_eq!(Username::parse(&"a".repeat(65)), Err(InvalidUsername::TooLong));
        // As A-labels it is longer.
        let long = format!("{}@{}.example", "a".repeat(220), "ü".repeat(20));
        assert_eq!(Username::parse(&long), Err(InvalidUsername::TooLong));
    }

    #[test]
    fn letters_after_unicode_6_3_are_welcome() {
        for name in [
            "王\u{2c386}王",
            "\u{1e900}\u{1e901}\u{1e902}",
            "\u{30000}\u{31350}\u{2ebf0}",
            "\u{1c90}\u{1c91}\u{1c92}",
        ] {
            let name = Username::parse(name).unwrap();
            assert_eq!(Username::parse(name.key().as_str()).unwrap().key(), name.key());
        }
    }

    #[test]
    fn blanks_around_a_login_name_are_trimmed() {
        for blank in [
            " ", "\t", "\r\n", "\u{a0}", "\u{2009}", "\u{3000}", "\u{feff}", "\u{200b}", "\u{200e}",
            "\u{2066}",
        ] {
            let typed = format!("{blank}Ann{blank}{blank}");
            let LoginName::Possible(name) = LoginName::from_typed(&typed) else { panic!("{typed:?}") };
            assert_eq!((name.as_typed(), name.key().as_str()), ("Ann", "ann"), "{typed:?}");
            // Whoever signs up is told.
            assert_eq!(Username::parse(&typed), Err(InvalidUsername::InvalidCharacters), "{typed:?}");
        }
        assert!(matches!(LoginName::from_typed("an n"), LoginName::Impossible(_)));
        let joiner = "क\u{94d}क\u{94d}\u{200d}";
        let LoginName::Possible(name) = LoginName::from_typed(joiner) else { panic!("{joiner}") };
        assert_eq!(name.as_typed(), joiner);
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
            (&format!("{}@example.com", "a".repeat(100)), &[]),
            (&format!("{}@example.com", "a".repeat(300)), &[TooLong]),
            (&format!("{}@exam ple.com", "a".repeat(100)), &[InvalidCharacters]),
            (&format!("{}@a_b", "a".repeat(100)), &[TooLong]),
        ] {
            assert_eq!(Username::broken_rules(raw), broken, "{raw}");
            assert_eq!(Username::parse(raw).is_ok(), broken.is_empty(), "{raw}");
        }
    }
}
