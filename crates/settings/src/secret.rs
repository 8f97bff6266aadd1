//! What signs tokens, and which texts are too weak to.

use std::fmt;

use thiserror::Error;
use zeroize::Zeroizing;

use super::EdgeFault;

/// The fewest bytes, as many as HMAC-SHA-256 makes of them (RFC 7518, section 3.2).
const SHORTEST: usize = 32;

/// Of 32 random hexadecimal digits, fewer than one in ten million have less variety than this.
const FEWEST_DIFFERENT_BYTES: usize = 8;

/// What stands in examples, templates and tutorials, and never by chance in 32 random characters: in lower case
/// and without what may stand between the words.
const GIVEAWAYS: [&str; 12] = [
    "changeme",
    "changethis",
    "replace",
    "example",
    "placeholder",
    "secret",
    "password",
    "insecure",
    "qwerty",
    "correcthorsebatterystaple",
    // The keys printed in FastAPI's tutorial and beside many an HS256, which found their way into deployments.
    "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
    "gqdstcksx0nhjpouxoyg5mbej1xt0ufiwdvvvbrk",
];

/// The secret that signs tokens: long, not a pattern, and not from an example. Wiped when dropped; it never
/// shows itself.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

/// Why a text cannot be the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WeakSecret {
    /// What stands at its ends is hardly meant to be a part of it.
    #[error(transparent)]
    Edge(EdgeFault),
    /// A file with more than the secret in it.
    #[error("has several lines; keep one, with the secret alone on it")]
    SeveralLines,
    /// Fewer than 32 bytes.
    #[error("is shorter than 32 bytes; make one with `openssl rand -base64 48`")]
    TooShort,
    /// Few different characters, a repetition, or a row of neighbours.
    #[error("is too regular to be random; make one with `openssl rand -base64 48`")]
    TooRegular,
    /// It has a word of an example in it.
    #[error("looks like it comes from an example; make one with `openssl rand -base64 48`")]
    Example,
}

impl Secret {
    /// Accepts 32 bytes or more that could be random. Nobody can tell that a text is random, only that it is
    /// not: this refuses what people type when they are asked for 32 characters.
    pub fn parse(text: Zeroizing<String>) -> Result<Self, WeakSecret> {
        if let Some(fault) = EdgeFault::of(&text) {
            return Err(WeakSecret::Edge(fault));
        }
        if text.contains(['\n', '\r']) {
            return Err(WeakSecret::SeveralLines);
        }
        let bytes = text.as_bytes();
        if bytes.len() < SHORTEST {
            return Err(WeakSecret::TooShort);
        }
        let mut bare = Zeroizing::new(text.to_ascii_lowercase());
        bare.retain(char::is_alphanumeric);
        if GIVEAWAYS.iter().any(|word| bare.contains(word)) {
            return Err(WeakSecret::Example);
        }
        if different(bytes) < FEWEST_DIFFERENT_BYTES || is_repetition(bytes) || is_row(bytes) {
            return Err(WeakSecret::TooRegular);
        }
        Ok(Self(text))
    }

    /// The bytes, for whoever signs.
    pub fn expose(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

fn different(bytes: &[u8]) -> usize {
    let mut seen = [false; 256];
    for byte in bytes {
        seen[usize::from(*byte)] = true;
    }
    seen.iter().filter(|seen| **seen).count()
}

/// Whether the text is one piece of at most half its length, over and over.
fn is_repetition(bytes: &[u8]) -> bool {
    (1..=bytes.len() / 2).any(|piece| bytes.iter().zip(&bytes[piece..]).all(|(one, other)| one == other))
}

/// Whether more than half of the characters follow from the one before, as in `abcdef` or `998877`.
fn is_row(bytes: &[u8]) -> bool {
    let steps = bytes.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) <= 1).count();
    2 * steps > bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> Option<WeakSecret> {
        Secret::parse(Zeroizing::new(text.to_owned())).err()
    }

    #[test]
    fn what_generators_make_is_accepted() {
        for text in [
            "mE0Wk8Qn1vTzr4YbXc7uJdL2gHs9aPfR5oKiN3tB6yM=",
            "7d1f0c9e3b5a48627e8d9c0b1a2f3e4d",
            "84093471626358190274650938172645",
            "Kq7 wzm Vx1 plo 94t rrd hbn 0cu e5s",
        ] {
            assert_eq!(refusal(text), None, "{text}");
        }
    }

    #[test]
    fn thirty_one_bytes_are_too_short_and_thirty_two_are_not() {
        assert_eq!(refusal("7d1f0c9e3b5a48627e8d9c0b1a2f3e4"), Some(WeakSecret::TooShort));
        assert_eq!(refusal("7d1f0c9e3b5a48627e8d9c0b1a2f3e4d"), None);
        assert_eq!(refusal(""), Some(WeakSecret::TooShort));
    }

    #[test]
    fn secret_of_several_lines_is_refused() {
        let text = "mE0Wk8Qn1vTzr4YbXc7uJdL2gHs9aPfR5oKiN3tB6yM=\nand more";
        assert_eq!(refusal(text), Some(WeakSecret::SeveralLines));
    }

    #[test]
    fn what_people_type_to_fill_the_space_is_refused() {
        for text in [
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "aaaaaaaabbbbbbbbccccccccdddddddd",
            "k7Qz9xk7Qz9xk7Qz9xk7Qz9xk7Qz9xk7",
            "kq7wzmv1plo94trrkq7wzmv1plo94trr",
            "abcdefghijklmnopqrstuvwxyz0123456789",
            "98765432109876543210abcdefghijkl",
        ] {
            assert_eq!(refusal(text), Some(WeakSecret::TooRegular), "{text}");
        }
    }

    #[test]
    fn what_stands_in_tutorials_is_refused() {
        for text in [
            "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
            "a-string-secret-at-least-256-bits-long",
            "please-CHANGE-ME-9f8a7b6c5d4e3f2a1b0c",
            "my-super-Secret-k7Qz9xW3mVp1LrT8",
            "change_this k7Qz9xW3mVp1LrT8 9f8a7b6c5d",
            "correcthorsebatterystaplecorrecthorse",
            "Correct Horse Battery Staple, 9f8a7b6c5d",
            "GQDstcKsx0NHjPOuXOYg5MbeJ1XT0uFiwDVvVBrk",
        ] {
            assert_eq!(refusal(text), Some(WeakSecret::Example), "{text}");
        }
    }

    #[test]
    fn it_does_not_show_in_debug_output() {
        let secret = Secret::parse(Zeroizing::new("7d1f0c9e3b5a48627e8d9c0b1a2f3e4d".to_owned())).unwrap();

        assert_eq!(format!("{secret:?}"), "Secret(..)");
    }
}
