//! The keys: one signs, each verifies what it signed, with its own algorithm and no other.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::PublicKeySet;
use hmac::{Hmac, KeyInit, Mac};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, crypto};
use serde::Serialize;
use sha2::Sha256;
use thiserror::Error;

use crate::compact::{Compact, Header};

/// The shortest secret that HS256 may have, in bytes (RFC 7518, section 3.2).
pub const MIN_SECRET_BYTES: usize = 32;

/// The secret is shorter than [`MIN_SECRET_BYTES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a secret for HS256 needs at least {MIN_SECRET_BYTES} bytes")]
pub struct WeakSecret;

/// The keys in use. The first one signs.
pub struct KeyRing {
    keys: Vec<Key>,
}

struct Key {
    id: String,
    algorithm: Algorithm,
    /// As it stands in headers (RFC 7518, section 3.1).
    algorithm_name: &'static str,
    signing: EncodingKey,
    verifying: DecodingKey,
}

impl KeyRing {
    /// A ring of one HS256 key.
    pub fn hs256(secret: &[u8]) -> Result<Self, WeakSecret> {
        Ok(Self { keys: vec![Key::hs256(secret)?] })
    }

    /// The compact form of `claims`, signed, with a header of exactly `alg`, `typ` and `kid`.
    pub(crate) fn sign(&self, typ: &str, claims: &impl Serialize) -> jsonwebtoken::errors::Result<String> {
        let Key { id, algorithm, signing, .. } = &self.keys[0];
        let mut header = jsonwebtoken::Header::new(*algorithm);
        header.typ = Some(typ.to_owned());
        header.kid = Some(id.clone());
        jsonwebtoken::encode(&header, claims, signing)
    }

    /// Whether the key that the header names signed this token, with that key's own algorithm.
    pub(crate) fn signed(&self, header: &Header, token: &Compact<'_>) -> bool {
        let named = self.keys.iter().find(|key| key.id == header.kid);
        named.is_some_and(|key| {
            header.alg == key.algorithm_name
                && crypto::verify(token.signature, token.message.as_bytes(), &key.verifying, key.algorithm)
                    .unwrap_or(false)
        })
    }

    /// What others verify with. A secret is shared by hand with whoever may have it, and never published.
    pub(crate) fn public_keys(&self) -> PublicKeySet {
        PublicKeySet { algorithms: vec![self.keys[0].algorithm_name], keys: Vec::new() }
    }
}

impl Key {
    fn hs256(secret: &[u8]) -> Result<Self, WeakSecret> {
        if secret.len() < MIN_SECRET_BYTES {
            return Err(WeakSecret);
        }
        Ok(Self {
            id: secret_key_id(secret),
            algorithm: Algorithm::HS256,
            algorithm_name: "HS256",
            signing: EncodingKey::from_secret(secret),
            verifying: DecodingKey::from_secret(secret),
        })
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| &key.id)).finish()
    }
}

/// The same secret has the same id on every instance. It is a MAC under the secret, so that it tells no more
/// of it than a token does.
fn secret_key_id(secret: &[u8]) -> String {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length (RFC 2104, section 2)")]
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("a key of any length");
    mac.update(b"auth-api key id");
    URL_SAFE_NO_PAD.encode(&mac.finalize().into_bytes()[..8])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compact::Compact;

    #[test]
    fn a_short_secret_makes_no_ring() {
        assert_eq!(KeyRing::hs256(&[7; 31]).unwrap_err(), WeakSecret);
        assert!(KeyRing::hs256(&[7; 32]).is_ok());
    }

    #[test]
    fn the_first_key_signs_and_every_key_verifies_its_own() {
        let [old, new] = [[1; 32], [2; 32]].map(|secret| Key::hs256(&secret).unwrap());
        let before = KeyRing { keys: vec![Key::hs256(&[1; 32]).unwrap()] };
        let after = KeyRing { keys: vec![new, old] };
        let is_signed = |ring: &KeyRing, token: &str| {
            let token = Compact::parse(token).unwrap();
            ring.signed(&token.header().unwrap(), &token)
        };

        let claims = serde_json::json!({ "sub": "1" });
        let [older, newer] = [&before, &after].map(|ring| ring.sign("at+jwt", &claims).unwrap());

        assert!(is_signed(&after, &older));
        assert!(is_signed(&after, &newer));
        assert!(!is_signed(&before, &newer));
    }

    #[test]
    fn a_ring_shows_ids_and_no_secret() {
        let ring = KeyRing::hs256(b"canary canary canary canary canary").unwrap();

        assert!(!format!("{ring:?}").contains("canary"));
    }

    #[test]
    fn a_secret_is_not_published() {
        let ring = KeyRing::hs256(&[7; 32]).unwrap();

        assert_eq!(ring.public_keys(), PublicKeySet { algorithms: vec!["HS256"], keys: Vec::new() });
    }
}
