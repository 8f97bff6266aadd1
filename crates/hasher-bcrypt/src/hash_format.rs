//! Stored hashes as text.
//!
//! `$2b$12$<salt><digest>` for passwords of up to 72 bytes, and for longer ones passlib's
//! `$bcrypt-sha256$v=2,t=2b,r=12$<salt>$<digest>`, which runs bcrypt over an HMAC-SHA-256 of the password,
//! so that nothing is truncated. Salts and digests are in bcrypt's own base64.

use base64::Engine;
use base64::alphabet::BCRYPT;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use domain::ports::UnusableHash;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::MAX_COST;

/// The most bytes of a password that bcrypt reads.
pub(crate) const BCRYPT_BYTES: usize = 72;

/// The lowest cost bcrypt has. Hashes from elsewhere may be this cheap until their owners log in.
const LOWEST_COST: u32 = 4;

/// Other programs leave stray bits in the last character of a salt; they carry nothing.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &BCRYPT,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true),
);

const SHA256_PREFIX: &str = "$bcrypt-sha256$v=2,t=2b,r=";

/// How a password becomes the bytes that bcrypt reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// As it is, in the version that is written today.
    Bcrypt,
    /// As it is, in a version from elsewhere: `$2a$` or `$2y$`, which compute the same for every password
    /// in UTF-8 that fits.
    ForeignBcrypt,
    /// By way of an HMAC, for any length.
    BcryptSha256,
}

/// A hash that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredHash {
    pub(crate) scheme: Scheme,
    pub(crate) cost: u32,
    pub(crate) salt: Salt,
    pub(crate) digest: [u8; 23],
}

/// A salt, as bytes for bcrypt and as the text that keys the HMAC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Salt {
    pub(crate) bytes: [u8; 16],
    text: String,
}

impl Scheme {
    /// The scheme that a new hash of this password has.
    pub(crate) fn for_password(password: &str) -> Self {
        if password.len() <= BCRYPT_BYTES { Self::Bcrypt } else { Self::BcryptSha256 }
    }

    /// The bytes that bcrypt is to read, or nothing when no hash of this scheme can be of this password:
    /// bcrypt itself would cut it, or end it at a NUL, and match something that nobody typed.
    pub(crate) fn input(self, password: &str, salt: &Salt) -> Option<Zeroizing<Vec<u8>>> {
        if password.is_empty() || password.contains('\0') {
            return None;
        }
        match self {
            Self::Bcrypt | Self::ForeignBcrypt => {
                (password.len() <= BCRYPT_BYTES).then(|| Zeroizing::new(password.as_bytes().to_vec()))
            }
            Self::BcryptSha256 => Some(keyed_digest(password, salt)),
        }
    }
}

impl Salt {
    pub(crate) fn new(bytes: [u8; 16]) -> Self {
        Self { bytes, text: BASE64.encode(bytes) }
    }

    fn parse(text: &str) -> Option<Self> {
        let bytes = BASE64.decode(text).ok()?.try_into().ok()?;
        Some(Self { bytes, text: text.to_owned() })
    }
}

impl StoredHash {
    /// Reads a hash; nothing when it is of no format we know or of a cost beyond the bounds.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::inspect(text).ok()
    }

    /// Reads a hash, or tells what is the matter with it.
    pub(crate) fn inspect(text: &str) -> Result<Self, UnusableHash> {
        let stored = Self::of_any_cost(text).ok_or(UnusableHash::Format)?;
        if (LOWEST_COST..=MAX_COST).contains(&stored.cost) {
            return Ok(stored);
        }
        Err(UnusableHash::Cost { cost: stored.cost, least: LOWEST_COST, most: MAX_COST })
    }

    fn of_any_cost(text: &str) -> Option<Self> {
        if let Some(rest) = text.strip_prefix(SHA256_PREFIX) {
            let (cost, rest) = rest.split_once('$')?;
            let (salt, digest) = rest.split_once('$')?;
            return Self::from_parts(Scheme::BcryptSha256, cost, salt, digest);
        }
        let (scheme, rest) = if let Some(rest) = text.strip_prefix("$2b$") {
            (Scheme::Bcrypt, rest)
        } else {
            (Scheme::ForeignBcrypt, text.strip_prefix("$2a$").or_else(|| text.strip_prefix("$2y$"))?)
        };
        let (cost, rest) = rest.split_once('$')?;
        let (salt, digest) = rest.split_at_checked(22)?;
        (cost.len() == 2).then(|| Self::from_parts(scheme, cost, salt, digest))?
    }

    fn from_parts(scheme: Scheme, cost: &str, salt: &str, digest: &str) -> Option<Self> {
        if cost.is_empty() || !cost.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let cost = cost.parse().ok()?;
        let digest = BASE64.decode(digest).ok()?.try_into().ok()?;
        Some(Self { scheme, cost, salt: Salt::parse(salt)?, digest })
    }
}

impl std::fmt::Display for StoredHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { scheme, cost, salt: Salt { text: salt, .. }, digest } = self;
        let digest = BASE64.encode(digest);
        match scheme {
            Scheme::Bcrypt | Scheme::ForeignBcrypt => write!(f, "$2b${cost:02}${salt}{digest}"),
            Scheme::BcryptSha256 => write!(f, "{SHA256_PREFIX}{cost}${salt}${digest}"),
        }
    }
}

/// passlib's `bcrypt_sha256`, version 2: the HMAC is keyed by the salt's text, so that hashes of the bare
/// SHA-256 stolen elsewhere cannot be tried here, and written in base64, so that it holds no NUL.
fn keyed_digest(password: &str, salt: &Salt) -> Zeroizing<Vec<u8>> {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length (RFC 2104, section 2)")]
    let mut mac = Hmac::<Sha256>::new_from_slice(salt.text.as_bytes()).expect("a key of any length");
    mac.update(password.as_bytes());
    let digest = Zeroizing::new(<[u8; 32]>::from(mac.finalize().into_bytes()));
    Zeroizing::new(STANDARD.encode(*digest).into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: &str = "abcdefghijklmnopqrstuO";
    const DIGEST: &str = "XjepqA3mtnGbHm.2ER7B2EBL3jUYr4a";

    #[test]
    fn what_is_written_is_read_back() {
        for text in [
            format!("$2b$12${SALT}{DIGEST}"),
            format!("$2b$04${SALT}{DIGEST}"),
            format!("$bcrypt-sha256$v=2,t=2b,r=12${SALT}${DIGEST}"),
        ] {
            assert_eq!(StoredHash::parse(&text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn versions_from_elsewhere_are_read_as_foreign() {
        for version in ["2a", "2y"] {
            let stored = StoredHash::parse(&format!("${version}$10${SALT}{DIGEST}")).unwrap();
            assert_eq!((stored.scheme, stored.cost), (Scheme::ForeignBcrypt, 10));
        }
    }

    #[test]
    fn whatever_else_stands_in_the_column_is_refused() {
        let long = "$".repeat(100_000);
        for text in [
            "",
            "$",
            "$2b$",
            "$2b$12$",
            "plain",
            "\u{fffd}\0",
            &long,
            &format!("$2x$12${SALT}{DIGEST}"),
            &format!("$2b$1${SALT}{DIGEST}"),
            &format!("$2b$+9${SALT}{DIGEST}"),
            &format!("$2b$03${SALT}{DIGEST}"),
            &format!("$2b$17${SALT}{DIGEST}"),
            &format!("$2b$31${SALT}{DIGEST}"),
            &format!("$2b$12${SALT}{DIGEST}x"),
            &format!("$2b$12${SALT}{}", &DIGEST[1..]),
            &format!("$2b$12${SALT}é{}", &DIGEST[2..]),
            &format!("$2b$12$é{}{DIGEST}", &SALT[2..]),
            &format!("$bcrypt-sha256$v=1,t=2b,r=12${SALT}${DIGEST}"),
            &format!("$bcrypt-sha256$v=2,t=2b,r=31${SALT}${DIGEST}"),
            &format!("$bcrypt-sha256$v=2,t=2b,r=12${SALT}{DIGEST}"),
            &format!("$bcrypt-sha256$v=2,t=2b,r=${SALT}${DIGEST}"),
            &format!("$argon2id$v=19$m=65536,t=3,p=4${SALT}${DIGEST}"),
        ] {
            assert_eq!(StoredHash::parse(text), None, "{text:.80}");
        }
    }

    #[test]
    fn a_cost_beyond_the_bounds_is_told_from_another_format() {
        let inspect = |text: &str| StoredHash::inspect(text).map(|stored| stored.cost);
        let beyond = |cost| Err(UnusableHash::Cost { cost, least: 4, most: 16 });

        assert_eq!(inspect(&format!("$2b$16${SALT}{DIGEST}")), Ok(16));
        assert_eq!(inspect(&format!("$2b$17${SALT}{DIGEST}")), beyond(17));
        assert_eq!(inspect(&format!("$2y$03${SALT}{DIGEST}")), beyond(3));
        assert_eq!(inspect(&format!("$bcrypt-sha256$v=2,t=2b,r=31${SALT}${DIGEST}")), beyond(31));
        assert_eq!(inspect(&format!("$2b$17${SALT}{DIGEST}x")), Err(UnusableHash::Format));
        assert_eq!(inspect("$argon2id$v=19$m=65536,t=3,p=4$c2FsdA$aGFzaA"), Err(UnusableHash::Format));
    }

    #[test]
    fn bcrypt_is_for_72_bytes_and_the_keyed_digest_for_more() {
        assert_eq!(Scheme::for_password(&"a".repeat(72)), Scheme::Bcrypt);
        assert_eq!(Scheme::for_password(&"a".repeat(73)), Scheme::BcryptSha256);
        // 71 bytes and a character of two: 73.
        assert_eq!(Scheme::for_password(&format!("{}é", "a".repeat(71))), Scheme::BcryptSha256);
    }
}
