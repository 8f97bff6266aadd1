//! The backends that may ask about tokens, as an operator configured them.
//!
//! Of a secret only the SHA-256 digest is configured, so that whoever reads the configuration cannot speak for a
//! backend. A digest this fast is right for a secret that a machine made: nobody can try 256 bits. It would be wrong
//! for one that a person made up, which is why the ones that people make up are refused as far as they can be known.

use std::fmt;

use data_encoding::HEXLOWER;
use domain::ports::Clients;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroizing;

use super::keys::{DefaultValue, Key, Setting};
use super::{Secret, readers};

/// The most backends; each of them is looked at for every request of any.
const MOST: usize = 100;

/// The longest identifier.
const LONGEST_ID: usize = 64;

/// What is no secret: nothing at all, what people type, and what the specifications print.
const GIVEAWAYS: [&str; 25] = [
    "",
    "-",
    "abc",
    "admin",
    "changeme",
    "change-me",
    "changethis",
    "client",
    "client-secret",
    "client_secret",
    "default",
    "example",
    "password",
    "placeholder",
    "secret",
    "supersecret",
    "test",
    "x",
    // RFC 6749, section 2.3.1 and the examples that follow; RFC 7662, section 2.1; OpenID Connect.
    "7Fjfp0ZBr1KtDRbnfVdmIw",
    "gX1fBat3bV",
    "23410913-abewfq.123483",
    "ZJYCqe3GGRvdrudKyZS0XhGv_Z45DuKhCUk0gBR1vZk",
    "cf136dc3c1fc93f31185e5885805d",
    "notasecret",
    "hunter2",
];

/// Backends by their identifiers, each with the digest of its secret.
#[derive(Clone, Default)]
pub struct ConfiguredClients(Vec<(String, [u8; 32])>);

/// Why a text does not configure backends. Tells the rule and repeats nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidClients {
    /// Not a list of pairs.
    #[error("must be pairs id:digest with commas between them, such as shop:DIGEST,stock:DIGEST")]
    NotPairs,
    /// An identifier that would not survive its way through a header.
    #[error("has an id that is not 1 to {LONGEST_ID} of the characters A-Z a-z 0-9 . _ -")]
    Id,
    /// No SHA-256 digest.
    #[error("has a digest that is not 64 of the characters 0-9 a-f, as sha256sum prints it")]
    Digest,
    /// The digest of what is no secret.
    #[error(
        "has the digest of an empty text or of an example, or one that is none; make the secret with \
         `openssl rand -hex 32`"
    )]
    Example,
    /// One identifier for two.
    #[error("has an id twice")]
    Twice,
    /// More than can be looked at for each request.
    #[error("has more than {MOST} clients")]
    TooMany,
}

impl ConfiguredClients {
    /// Reads `id:digest` pairs with commas between them; blanks around a pair are nobody's.
    pub fn parse(text: &str) -> Result<Self, InvalidClients> {
        let mut clients: Vec<(String, [u8; 32])> = Vec::new();
        if text.trim().is_empty() {
            return Ok(Self(clients));
        }
        for pair in text.split(',').map(str::trim) {
            let (id, digest) = pair.split_once(':').ok_or(InvalidClients::NotPairs)?;
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            if !(1..=LONGEST_ID).contains(&id.len()) || !id.bytes().all(plain) {
                return Err(InvalidClients::Id);
            }
            let bytes = from_hex(digest).ok_or(InvalidClients::Digest)?;
            // What is no random secret's text is no digest's either: a row, a repetition, a key from a tutorial.
            let is_random = Secret::parse(Zeroizing::new(digest.to_owned())).is_ok();
            if !is_random || is_giveaway(&bytes) {
                return Err(InvalidClients::Example);
            }
            if clients.iter().any(|(other, _)| other == id) {
                return Err(InvalidClients::Twice);
            }
            clients.push((id.to_owned(), bytes));
        }
        if clients.len() > MOST { Err(InvalidClients::TooMany) } else { Ok(Self(clients)) }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Clients for ConfiguredClients {
    fn admits(&self, id: &str, secret: &str) -> bool {
        let shown = digest(secret.as_bytes());
        // All of them are compared, whichever it is, and both halves of each.
        let admitted = self.0.iter().fold(Choice::from(0), |admitted, (known, digest)| {
            admitted | (known.as_bytes().ct_eq(id.as_bytes()) & digest.ct_eq(&shown))
        });
        admitted.into()
    }
}

impl fmt::Debug for ConfiguredClients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(id, _)| id)).finish()
    }
}

fn digest(text: &[u8]) -> [u8; 32] {
    Sha256::digest(text).into()
}

/// Also with the end of a line behind it, as `echo` writes one.
fn is_giveaway(bytes: &[u8; 32]) -> bool {
    GIVEAWAYS.iter().any(|text| {
        [text.to_string(), format!("{text}\n"), text.to_uppercase()]
            .iter()
            .any(|text| digest(text.as_bytes()) == *bytes)
    })
}

/// Small letters only: one digest has one spelling.
fn from_hex(text: &str) -> Option<[u8; 32]> {
    HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok()
}

pub(crate) static INTROSPECTION_CLIENTS: Setting<ConfiguredClients> = Setting {
    key: Key::secret(
        "AUTH_INTROSPECTION__CLIENTS",
        DefaultValue::Text(""),
        // No secret, and shown to nobody all the same: somebody may have made up what it is the digest of.
        "backends that may ask about tokens and revoke them: id:digest pairs with commas between them",
    )
    .trimmed(),
    read: readers::clients,
};

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(secret: &str) -> String {
        HEXLOWER.encode(&digest(secret.as_bytes()))
    }

    fn refusal(text: &str) -> Option<InvalidClients> {
        ConfiguredClients::parse(text).err()
    }

    #[test]
    fn a_backend_is_admitted_by_its_own_secret_and_nobody_elses() {
        let (shop, stock) = (hex("Kq7wzmVx1plo94trr"), hex("dhbn0cue5sTz9"));
        let clients = ConfiguredClients::parse(&format!("shop:{shop}, stock-2:{stock}")).unwrap();

        assert!(clients.admits("shop", "Kq7wzmVx1plo94trr") && clients.admits("stock-2", "dhbn0cue5sTz9"));
        for (id, secret) in [
            ("shop", "dhbn0cue5sTz9"),
            ("stock-2", "Kq7wzmVx1plo94trr"),
            ("shop", ""),
            ("shop", &*shop),
            ("shop", "Kq7wzmVx1plo94trr\n"),
            ("Shop", "Kq7wzmVx1plo94trr"),
            ("", "Kq7wzmVx1plo94trr"),
            ("bank", "Kq7wzmVx1plo94trr"),
        ] {
            assert!(!clients.admits(id, secret), "{id} {secret}");
        }
    }

    #[test]
    fn without_a_backend_nobody_is_admitted() {
        for text in ["", " "] {
            let clients = ConfiguredClients::parse(text).unwrap();
            assert!(clients.is_empty() && !clients.admits("", "") && !clients.admits("shop", "secret"));
        }
    }

    #[test]
    fn a_digest_is_that_of_sha256sum() {
        // FIPS 180-2, appendix B.2.
        let secret = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
        let digest = "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1";

        assert!(ConfiguredClients::parse(&format!("shop:{digest}")).unwrap().admits("shop", secret));
    }

    #[test]
    fn what_is_no_list_of_pairs_is_refused() {
        let good = hex("Kq7wzmVx1plo94trr");

        assert_eq!(refusal("shop"), Some(InvalidClients::NotPairs));
        for text in [format!("shop:{good},"), format!(",shop:{good}"), format!("shop:{good};bank:{good}")] {
            assert!(refusal(&text).is_some(), "{text}");
        }
        for id in ["", "a b", "a+b", "\u{e4}", "a\"b", "a/b", &"x".repeat(65)] {
            assert_eq!(refusal(&format!("{id}:{good}")), Some(InvalidClients::Id), "{id}");
        }
        for digest in [
            "",
            "Kq7wzmVx1plo94trr",
            &good[1..],
            &format!("{good}0"),
            &good.to_uppercase(),
            &good.replace('a', "g"),
        ] {
            assert_eq!(refusal(&format!("shop:{digest}")), Some(InvalidClients::Digest), "{digest}");
        }
        assert_eq!(refusal(&format!("shop:{good},shop:{}", hex("another"))), Some(InvalidClients::Twice));
        let many: Vec<_> = (0..=MOST).map(|n| format!("shop-{n}:{good}")).collect();
        assert_eq!(refusal(&many[1..].join(",")), None);
        assert_eq!(refusal(&many.join(",")), Some(InvalidClients::TooMany));
    }

    #[test]
    fn the_digest_of_what_is_no_secret_is_refused() {
        for digest in [
            hex(""),
            hex("\n"),
            hex("secret"),
            hex("SECRET"),
            hex("changeme\n"),
            hex("7Fjfp0ZBr1KtDRbnfVdmIw"),
            "0".repeat(64),
            "0123456789abcdef".repeat(4),
            "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7".to_owned(),
        ] {
            assert_eq!(refusal(&format!("shop:{digest}")), Some(InvalidClients::Example), "{digest}");
        }
    }

    #[test]
    fn a_digest_does_not_show_in_debug_output() {
        let clients = ConfiguredClients::parse(&format!("shop:{}", hex("Kq7wzmVx1plo94trr"))).unwrap();

        assert_eq!(format!("{clients:?}"), "[\"shop\"]");
    }
}
