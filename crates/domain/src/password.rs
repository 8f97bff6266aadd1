//! Passwords: what they are, which are good enough, and what is kept of them.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use crate::Username;

/// The most code points a password has, counted in NFC.
pub const MAX_PASSWORD_LENGTH: usize = 256;

/// The fewest code points any policy may ask for (NIST SP 800-63B-4, section 3.1.1.2, as a second factor).
const SHORTEST_MIN_LENGTH: usize = 8;

/// Fewer guesses than this, by zxcvbn's estimate, and a password is common, or little more.
///
/// A million is what remains out of reach of somebody who may fail a hundred times in a row, with room to
/// spare; a higher bar would refuse eight random digits, which the length rule allows.
const FEWEST_GUESSES: f64 = 6.0;

/// How many characters are estimated at a time.
const WINDOW: usize = 32;

/// Names of this product, which make poor passwords for it.
const CONTEXT: [&str; 4] = ["authentication", "authentication api", "auth-api", "authapi"];

/// A text that somebody typed as a password, in NFC, at most 256 code points, wiped when dropped.
///
/// Clones share one copy in memory. It never shows itself:
///
/// ```
/// let password = domain::Password::parse("correct horse").unwrap();
/// assert_eq!(format!("{password:?}"), "Password(..)");
/// ```
///
/// ```compile_fail
/// println!("{}", domain::Password::parse("correct horse").unwrap());
/// ```
#[derive(Clone)]
pub struct Password(Arc<Zeroizing<String>>);

/// What a store keeps of a password: a text with a scheme prefix that only the hasher reads.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

/// Which passwords a new account, or a changed one, may have: long enough, and hard enough to guess.
#[derive(Clone, Copy, Debug)]
pub struct PasswordPolicy {
    min_length: usize,
}

/// Why a password cannot be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PasswordProblem {
    /// Fewer code points than the policy asks for.
    #[error("the password is too short, it needs at least {at_least} characters")]
    TooShort {
        /// What the policy asks for.
        at_least: usize,
    },
    /// More than [`MAX_PASSWORD_LENGTH`] code points.
    #[error("the password is too long")]
    TooLong,
    /// A NUL, which bcrypt cannot tell from the end.
    #[error("the password has a character that a password cannot have")]
    InvalidCharacters,
    /// One that is common, repeats itself, or follows from the username.
    #[error("the password is too easy to guess")]
    TooGuessable,
}

impl Password {
    /// Accepts any text of at most 256 code points, and changes nothing but its spelling in Unicode: NFC, so
    /// that one password typed on two keyboards is one password (NIST SP 800-63B-4, section 3.1.1.2).
    pub fn parse(raw: &str) -> Result<Self, PasswordProblem> {
        // Composition shrinks a text to a quarter of its code points at most, so a longer one cannot fit.
        if raw.chars().nth(4 * MAX_PASSWORD_LENGTH).is_some() {
            return Err(PasswordProblem::TooLong);
        }
        // Sized before it is filled: a string that grows leaves copies of itself behind.
        let mut text = Zeroizing::new(String::with_capacity(3 * raw.len()));
        text.extend(raw.nfc());
        if text.chars().nth(MAX_PASSWORD_LENGTH).is_some() {
            return Err(PasswordProblem::TooLong);
        }
        Ok(Self(Arc::new(text)))
    }

    /// The secret, for whoever hashes it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

impl PasswordHash {
    /// Takes a hash as the hasher made it, or as a store kept it. What it cannot read, the hasher refuses.
    pub fn new(encoded: String) -> Self {
        Self(encoded)
    }

    /// The encoded text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(..)")
    }
}

impl PasswordPolicy {
    /// A policy that asks for `min_length` code points; `None` below eight.
    pub fn new(min_length: usize) -> Option<Self> {
        (SHORTEST_MIN_LENGTH..=MAX_PASSWORD_LENGTH).contains(&min_length).then_some(Self { min_length })
    }

    /// The fewest code points it accepts.
    pub fn min_length(&self) -> usize {
        self.min_length
    }

    /// Judges by length and guessability, with the username as context, and never by classes of characters.
    pub fn judge(&self, password: &Password, username: &Username) -> Result<(), PasswordProblem> {
        let text = password.expose();
        if text.contains('\0') {
            return Err(PasswordProblem::InvalidCharacters);
        }
        if text.chars().count() < self.min_length {
            return Err(PasswordProblem::TooShort { at_least: self.min_length });
        }
        if is_guessable(text, username) { Err(PasswordProblem::TooGuessable) } else { Ok(()) }
    }
}

fn is_guessable(text: &str, username: &Username) -> bool {
    let key = username.key().as_str();
    let parts = key.split(['@', '.', '_', '-', '+']).filter(|part| part.chars().count() >= 3);
    let context: Vec<&str> = [key, username.as_typed()].into_iter().chain(parts).chain(CONTEXT).collect();
    let lower = Zeroizing::new(text.to_lowercase());
    context.iter().any(|word| lower.as_str() == word.to_lowercase())
        || windows(text).all(|window| zxcvbn::zxcvbn(window, &context).guesses_log10() < FEWEST_GUESSES)
}

/// The beginning and the end of a text, or the whole if it is short. A part that is hard to guess makes the
/// whole hard to guess; and estimating a hundred characters that were chosen for it takes a second.
fn windows(text: &str) -> impl Iterator<Item = &str> {
    let begin = text.char_indices().nth(WINDOW).map_or(text, |(end, _)| &text[..end]);
    let end = text.char_indices().nth_back(WINDOW - 1).map_or(text, |(start, _)| &text[start..]);
    [begin, end].into_iter().take(if begin.len() < text.len() { 2 } else { 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(password: &str) -> Result<(), PasswordProblem> {
        let username = Username::parse("Annabelle.Smith@mail.example").unwrap();
        PasswordPolicy::new(8).unwrap().judge(&Password::parse(password).unwrap(), &username)
    }

    #[test]
    fn a_password_is_normalised_to_nfc_and_nothing_else() {
        let text = |raw| Password::parse(raw).unwrap().expose().to_owned();

        assert_eq!(text("cafe\u{301} au lait"), text("caf\u{e9} au lait"));
        assert_ne!(text("ﬁrst light"), text("first light"));
        assert_eq!(text("  Two Blanks  "), "  Two Blanks  ");
    }

    #[test]
    fn the_longest_password_has_256_code_points_after_normalisation() {
        assert!(Password::parse(&"𝔘".repeat(256)).is_ok());
        assert!(Password::parse(&"e\u{301}".repeat(256)).is_ok());
        assert_eq!(Password::parse(&"a".repeat(257)).unwrap_err(), PasswordProblem::TooLong);
        assert_eq!(Password::parse(&"e\u{301}".repeat(257)).unwrap_err(), PasswordProblem::TooLong);
        assert_eq!(Password::parse(&"a".repeat(16_000)).unwrap_err(), PasswordProblem::TooLong);
    }

    #[test]
    fn length_is_counted_in_code_points_whatever_their_bytes() {
        assert_eq!(judged("𝔘𝔫𝔦𝔠𝔬𝔡𝔢🦀"), Ok(()));
        assert_eq!(judged("𝔘𝔫𝔦𝔠𝔬𝔡𝔢"), Err(PasswordProblem::TooShort { at_least: 8 }));
        assert_eq!(judged("kq7wzmv1"), Ok(()));
        assert_eq!(judged("kq7wzmv"), Err(PasswordProblem::TooShort { at_least: 8 }));
    }

    #[test]
    fn no_class_of_characters_is_asked_for() {
        for password in ["83917462", "qlxmwvbz", "a long phrase with blanks", "ZHQXWVKM"] {
            assert_eq!(judged(password), Ok(()), "{password}");
        }
    }

    #[test]
    fn what_is_common_repeats_or_names_somebody_is_too_guessable() {
        for password in [
            "password",
            "Password1",
            "P@ssw0rd",
            "12345678",
            "qwertyuiop",
            "iloveyou1",
            "aaaaaaaaaaaa",
            "abcabcabcabc",
            "annabelle",
            "Annabelle.Smith@mail.example",
            "annabellesmith",
            "elllebanna",
            "auth-api",
            "Authentication API",
            "20251122",
        ] {
            assert_eq!(judged(password), Err(PasswordProblem::TooGuessable), "{password}");
        }
    }

    #[test]
    fn a_long_password_is_as_good_as_its_better_end() {
        let random = "kq7wzmv1plo94trr";
        let common = "password".repeat(10);

        assert_eq!(judged(&format!("{random}{common}")), Ok(()));
        assert_eq!(judged(&format!("{common}{random}")), Ok(()));
        assert_eq!(judged(&format!("{common}{common}")), Err(PasswordProblem::TooGuessable));
        assert_eq!(judged(&"🦀".repeat(256)), Err(PasswordProblem::TooGuessable));
    }

    #[test]
    fn a_name_of_any_length_is_no_password_for_its_owner() {
        let name = "kq7wzmv1plo94trr.xbn27fjq8s.vd65hgm1@mail.example";
        let policy = PasswordPolicy::new(8).unwrap();
        let judge = |password: &str| {
            policy.judge(&Password::parse(password).unwrap(), &Username::parse(name).unwrap())
        };

        assert_eq!(judge(name), Err(PasswordProblem::TooGuessable));
        assert_eq!(judge(&name.to_uppercase()), Err(PasswordProblem::TooGuessable));
        assert_eq!(judge("kq7wzmv1plo94trs.xbn27fjq8s"), Ok(()));
    }

    #[test]
    fn windows_cover_a_short_text_whole_and_both_ends_of_a_long_one() {
        let short = "é".repeat(32);
        assert_eq!(windows(&short).collect::<Vec<_>>(), [short.as_str()]);
        let long = format!("{}{}", "é".repeat(32), "x");
        assert_eq!(windows(&long).collect::<Vec<_>>(), [short.as_str(), &long["é".len()..]]);
        assert_eq!(windows("").collect::<Vec<_>>(), [""]);
    }

    #[test]
    fn nul_cannot_be_chosen() {
        assert_eq!(judged("kq7wzmv1\0tail"), Err(PasswordProblem::InvalidCharacters));
    }

    #[test]
    fn no_policy_asks_for_less_than_eight() {
        assert!(PasswordPolicy::new(7).is_none());
        assert_eq!(PasswordPolicy::new(8).unwrap().min_length(), 8);
        assert!(PasswordPolicy::new(257).is_none());
    }

    #[test]
    fn secrets_do_not_show_in_debug_output() {
        assert_eq!(format!("{:?}", Password::parse("hunter2 hunter2").unwrap()), "Password(..)");
        assert_eq!(format!("{:?}", PasswordHash::new("$2b$12$abc".to_owned())), "PasswordHash(..)");
    }
}
