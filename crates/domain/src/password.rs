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

/// How many characters are estimated.
const ESTIMATED: usize = 64;

/// Characters that zxcvbn takes for one letter, where it has several (`4` and `@` for `a`). It tries every combination of
/// those that a text has, and so the time that it takes grows with their product.
const SUBSTITUTES: [&str; 4] = ["4@", "({[<", "69", "$5"];

/// The most work of one estimate: combinations of substitutes, times the square of the characters. All [`ESTIMATED`]
/// characters may have nine combinations. The parts of any password together take at most eight milliseconds on Zen 4.
const MAX_ESTIMATE_WORK: usize = 9 * ESTIMATED * ESTIMATED;

/// A text of so many characters is estimated in one piece: there is no room in it for many combinations.
const MIN_ESTIMATED: usize = 12;

/// Names of this product, without blanks and signs. They make poor passwords for it.
const PRODUCT: [&str; 3] = ["authentication", "authenticationapi", "authapi"];

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

/// A password that somebody chooses for an account of this name. Long enough; whether it is hard enough to
/// guess is still to be [judged](Self::judge).
#[derive(Clone, Debug)]
pub struct NewPassword {
    password: Password,
    username: Username,
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

    /// Every rule that a password breaks at first sight: its length, and characters that no password can have. Never
    /// classes of characters.
    pub fn broken_rules(self, password: &Password) -> Vec<PasswordProblem> {
        let text = password.expose();
        let is_short = text.chars().count() < self.min_length;
        let short = is_short.then_some(PasswordProblem::TooShort { at_least: self.min_length });
        let invalid = text.contains('\0').then_some(PasswordProblem::InvalidCharacters);
        short.into_iter().chain(invalid).collect()
    }

    /// Accepts a password that breaks none of these rules.
    pub fn admit(self, password: Password, username: Username) -> Result<NewPassword, PasswordProblem> {
        match self.broken_rules(&password).into_iter().next() {
            Some(problem) => Err(problem),
            None => Ok(NewPassword { password, username }),
        }
    }

    /// Accepts a password for an account whose name is not known, as where that is not valid either. It is judged by
    /// itself then: the product's name, which is no good password anyway, stands in for the account's.
    pub fn admit_nameless(self, password: Password) -> Result<NewPassword, PasswordProblem> {
        self.admit(password, Username::from_stored(PRODUCT[0].to_owned(), PRODUCT[0].to_owned()))
    }
}

impl NewPassword {
    /// Judges how hard the password is to guess, with the username as context. This takes some milliseconds, at most
    /// twenty for any password, so it belongs on a thread of its own.
    pub fn judge(&self) -> Result<(), PasswordProblem> {
        if is_guessable(self.password.expose(), &self.username) {
            return Err(PasswordProblem::TooGuessable);
        }
        Ok(())
    }

    /// The password.
    pub fn password(&self) -> &Password {
        &self.password
    }
}

/// What is left without the name must be hard to guess. A part stands for the whole: if one is hard to guess the whole
/// is. So the beginning is looked at, and in several parts where the estimate would take too long in one.
fn is_guessable(text: &str, username: &Username) -> bool {
    let lower = lowercase(text);
    let name = lowercase(username.as_typed());
    let backwards: String = name.chars().rev().collect();
    let key = username.key().as_str();
    let rest = Zeroizing::new([key, &name, &backwards].iter().fold(lower.to_string(), |rest, name| {
        let rest = Zeroizing::new(rest);
        rest.replace(name, "")
    }));
    let mut letters = Zeroizing::new(String::with_capacity(lower.len()));
    letters.extend(lower.chars().filter(|letter| letter.is_alphanumeric()));
    if PRODUCT.contains(&letters.as_str()) {
        return true;
    }
    let parts_of = |name| str::split(name, |c: char| !c.is_alphanumeric());
    let local_part = key.split_once('@').map(|(local, _)| local);
    // The domain of an address is in letters as it was typed, and in ASCII in the key.
    let parts =
        parts_of(key).chain(parts_of(&name)).chain(local_part).filter(|part| part.chars().count() >= 3);
    let context: Vec<&str> = parts.chain(PRODUCT).collect();
    let begin = rest.char_indices().nth(ESTIMATED).map_or(rest.as_str(), |(end, _)| &rest[..end]);
    parts_to_estimate(begin)
        .into_iter()
        .all(|part| zxcvbn::zxcvbn(part, &context).guesses_log10() < FEWEST_GUESSES)
}

/// The text in as few parts as the work of each estimate allows; one part if it is empty.
fn parts_to_estimate(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        let ends = rest.char_indices().map(|(begin, letter)| begin + letter.len_utf8());
        let fits = |(count, end): &(usize, usize)| {
            *count <= MIN_ESTIMATED || combinations(&rest[..*end]) * count * count <= MAX_ESTIMATE_WORK
        };
        let end = (1..).zip(ends).take_while(fits).last().map_or(0, |(_, end)| end);
        let (part, left) = rest.split_at(end);
        parts.push(part);
        rest = left;
        if rest.is_empty() {
            return parts;
        }
    }
}

/// How many combinations of substitutes zxcvbn tries for this text.
fn combinations(text: &str) -> usize {
    let present = |substitutes: &str| substitutes.chars().filter(|it| text.contains(*it)).count();
    let alone: usize = SUBSTITUTES.iter().map(|substitutes| present(substitutes).max(1)).product();
    // Some stand for one of two letters, and each choice of the one is tried with and without the other.
    let (i, l, t) = (present("1!|").max(1), present("1|7").max(1), present("+7").max(1));
    alone * ((i * l + present("1|")) * t + i * present("7"))
}

/// Sized before it is filled: a string that grows leaves copies of itself behind.
fn lowercase(text: &str) -> Zeroizing<String> {
    let mut lower = Zeroizing::new(String::with_capacity(3 * text.len()));
    lower.extend(text.chars().flat_map(char::to_lowercase));
    lower
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(password: &str) -> Result<(), PasswordProblem> {
        judged_for("Annabelle.Smith@mail.example", password)
    }

    fn judged_for(username: &str, password: &str) -> Result<(), PasswordProblem> {
        let (password, username) = (Password::parse(password).unwrap(), Username::parse(username).unwrap());
        PasswordPolicy::new(8).unwrap().admit(password, username)?.judge()
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
            "authentication-api",
            "auth_api",
            "AUTH API",
            "20251122",
        ] {
            assert_eq!(judged(password), Err(PasswordProblem::TooGuessable), "{password}");
        }
    }

    #[test]
    fn a_long_password_is_as_good_as_its_best_part() {
        let random = "kq7wzmv1plo94trr";
        let common = "password".repeat(4);

        for good in
            [format!("{random}{common}"), format!("{common}{random}"), format!("{common}{random}{common}")]
        {
            assert_eq!(judged(&good), Ok(()), "{good}");
        }
        assert_eq!(judged(&common.repeat(8)), Err(PasswordProblem::TooGuessable));
        assert_eq!(judged(&"🦀".repeat(256)), Err(PasswordProblem::TooGuessable));
    }

    /// Every character that zxcvbn takes for a letter.
    const ALL_SUBSTITUTES: &str = "4@8({[<369!1|0$5+7%2";

    #[test]
    fn every_substitute_at_once_is_estimated_in_short_parts() {
        for text in [ALL_SUBSTITUTES.repeat(3), "1|7".repeat(21), "({[<!1|".repeat(9), "4@69$5({".repeat(8)] {
            let parts = parts_to_estimate(&text);

            assert_eq!(parts.concat(), text);
            assert!(parts.len() > 1, "{text}");
            for part in parts {
                let length = part.chars().count();
                let is_short = length <= MIN_ESTIMATED;
                assert!(is_short || combinations(part) * length * length <= MAX_ESTIMATE_WORK, "{part}");
            }
        }
        let phrase = "correct horse b4ttery st@ple, seven brown 0tters s1ng about it";
        for whole in ["", "password", phrase, &"1234567890".repeat(6), &"🦀".repeat(64)] {
            assert_eq!(parts_to_estimate(whole), [whole]);
        }
    }

    #[test]
    fn one_hard_part_makes_a_password_and_many_weak_ones_do_not() {
        assert_eq!(judged(&ALL_SUBSTITUTES.repeat(3)), Ok(()));
        assert_eq!(judged(&format!("{}kq7wzmv1plo", "1234567890".repeat(4))), Ok(()));
        for weak in ["1234567890".repeat(6), "1|7".repeat(21), "1|".repeat(32)] {
            assert_eq!(judged(&weak), Err(PasswordProblem::TooGuessable), "{weak}");
        }
    }

    #[test]
    fn what_is_made_of_the_name_is_no_password_for_its_owner_however_long_the_name() {
        for name in ["christopher.montgomery-smith@longmail.example", "Kq7wzmv1plo94trr.xbn27fjq8s", "Мария"]
        {
            let backwards: String = name.chars().rev().collect();
            for password in [
                name.to_owned(),
                name.to_uppercase(),
                format!("{name}1"),
                format!("{name}{name}"),
                format!("{backwards}!"),
                format!("password{name}"),
            ] {
                let refused = judged_for(name, &password).unwrap_err();
                assert!(
                    matches!(refused, PasswordProblem::TooGuessable | PasswordProblem::TooShort { .. }),
                    "{password}"
                );
            }
        }
        assert_eq!(judged_for("annabelle", "annabelle kq7wzmv1plo"), Ok(()));
        for password in ["m'gregorian!", "gregorian1", "bücherstube1"] {
            let refused = judged_for("m'gregorian@bücherstube.example", password);
            assert_eq!(refused, Err(PasswordProblem::TooGuessable), "{password}");
        }
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
