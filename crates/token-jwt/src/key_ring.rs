//! The keys: one signs, each verifies what it signed, with its own algorithm and no other.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::{PublicKey, PublicKeySet};
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, crypto};
use serde::Serialize;
use sha2::Sha256;
use thiserror::Error;

use crate::jws::{Compact, Header};
use crate::key_file::StoredKey;
use crate::key_pair::{KeyPair, KeyPairAlgorithm};
use crate::static_keys::GivenKeys;

/// The shortest secret that HS256 may have, in bytes (RFC 7518, section 3.2), and refresh tokens.
pub const MIN_SECRET_BYTES: usize = 32;

/// The secret is shorter than [`MIN_SECRET_BYTES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a secret needs at least {MIN_SECRET_BYTES} bytes")]
pub struct WeakSecret;

/// There are keys, perhaps, but none of the algorithm to sign with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("there is no key of the algorithm {} to sign with", .0.as_str())]
pub struct NoSigningKey(pub KeyPairAlgorithm);

/// The keys in use.
pub struct KeyRing {
    /// The one that began to sign last comes first.
    keys: Vec<Key>,
    /// What new tokens are signed with; keys of another one only verify.
    algorithm: Algorithm,
}

struct Key {
    id: String,
    algorithm: Algorithm,
    /// As it stands in headers (RFC 7518, section 3.1).
    algorithm_name: &'static str,
    signing: SigningKey,
    verifying: DecodingKey,
    signs_from: Timestamp,
}

enum SigningKey {
    Secret(EncodingKey),
    Pair(Arc<KeyPair>),
}

/// Neither the key nor the library says more.
#[derive(Debug, Error)]
pub(crate) enum SignError {
    #[error("cannot write a token as JSON")]
    Json(#[from] serde_json::Error),
    #[error("cannot sign")]
    Secret(#[from] jsonwebtoken::errors::Error),
    #[error("cannot sign")]
    Pair(#[from] aws_lc_rs::error::Unspecified),
}

#[derive(Serialize)]
struct NewHeader<'a> {
    alg: &'a str,
    typ: &'a str,
    kid: &'a str,
}

impl KeyRing {
    /// A ring of one HS256 key.
    pub fn hs256(secret: &[u8]) -> Result<Self, WeakSecret> {
        Ok(Self { keys: vec![Key::hs256(secret)?], algorithm: Algorithm::HS256 })
    }

    /// A ring of key pairs, of which one of `algorithm` signs.
    pub fn of_pairs(
        pairs: impl IntoIterator<Item = StoredKey>,
        algorithm: KeyPairAlgorithm,
    ) -> Result<Self, NoSigningKey> {
        let of_pair = |StoredKey { pair, signs_from, .. }| Key::of_pair(Arc::new(pair), signs_from);
        let mut keys: Vec<Key> = pairs.into_iter().map(of_pair).collect();
        // The id decides between two of the same moment, so that every instance decides alike.
        keys.sort_by(|one, other| (other.signs_from, &other.id).cmp(&(one.signs_from, &one.id)));
        let ring = Self { keys, algorithm: algorithm.for_verification() };
        if ring.candidates().next().is_none() { Err(NoSigningKey(algorithm)) } else { Ok(ring) }
    }

    /// A ring of the keys that were given, of which the same one signs at any time.
    pub fn of_given(GivenKeys { signing, verifying }: GivenKeys) -> Self {
        let algorithm = signing.algorithm().for_verification();
        // Of two of the same moment, the first signs.
        let pairs = [Some(signing), verifying].into_iter().flatten();
        Self { keys: pairs.map(|pair| Key::of_pair(pair, Timestamp::MIN)).collect(), algorithm }
    }

    /// The compact form of `claims`, signed, with a header of exactly `alg`, `typ` and `kid`.
    pub(crate) fn sign(
        &self,
        typ: &str,
        claims: &impl Serialize,
        now: Timestamp,
    ) -> Result<String, SignError> {
        let Key { id, algorithm, algorithm_name, signing, .. } = self.signing_key(now);
        let header = serde_json::to_vec(&NewHeader { alg: algorithm_name, typ, kid: id })?;
        let mut token = URL_SAFE_NO_PAD.encode(header);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(serde_json::to_vec(claims)?, &mut token);
        let signature = match signing {
            SigningKey::Secret(secret) => crypto::sign(token.as_bytes(), secret, *algorithm)?,
            SigningKey::Pair(pair) => URL_SAFE_NO_PAD.encode(pair.sign(token.as_bytes())?),
        };
        token.push('.');
        token.push_str(&signature);
        Ok(token)
    }

    /// The ids of the keys that verify; that of the one that began to sign last comes first.
    pub fn key_ids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|key| &*key.id)
    }

    /// The id of the key that signs at this moment.
    pub fn signing_key_id(&self, now: Timestamp) -> &str {
        &self.signing_key(now).id
    }

    /// Whether the key that the header names signed this token, with that key's own algorithm.
    pub(crate) fn signed(&self, header: &Header<'_>, token: &Compact<'_>) -> bool {
        let named = self.keys.iter().find(|key| key.id == header.kid);
        named.is_some_and(|key| {
            header.alg == key.algorithm_name
                && crypto::verify(token.signature, token.message.as_bytes(), &key.verifying, key.algorithm)
                    .unwrap_or(false)
        })
    }

    /// What others verify with. A secret is shared by hand with whoever may have it, and never published.
    pub(crate) fn public_keys(&self) -> PublicKeySet {
        let mut algorithms: Vec<_> = self.candidates().take(1).map(|key| key.algorithm_name).collect();
        for key in &self.keys {
            if !algorithms.contains(&key.algorithm_name) {
                algorithms.push(key.algorithm_name);
            }
        }
        PublicKeySet { algorithms, keys: self.keys.iter().filter_map(Key::public).collect() }
    }

    fn signing_key(&self, now: Timestamp) -> &Key {
        // The ring was made with a candidate, so the last resort is never asked.
        signing_at(|| self.candidates(), |key| key.signs_from, now).unwrap_or(&self.keys[0])
    }

    fn candidates(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter().filter(|key| key.algorithm == self.algorithm)
    }
}

impl Key {
    fn hs256(secret: &[u8]) -> Result<Self, WeakSecret> {
        if secret.len() < MIN_SECRET_BYTES {
            return Err(WeakSecret);
        }
        // Only an empty secret is refused.
        let signing = EncodingKey::from_secret(secret).map_err(|_| WeakSecret)?;
        let verifying = DecodingKey::from_secret(secret).map_err(|_| WeakSecret)?;
        Ok(Self {
            id: secret_key_id(secret),
            algorithm: Algorithm::HS256,
            algorithm_name: "HS256",
            signing: SigningKey::Secret(signing),
            verifying,
            signs_from: Timestamp::MIN,
        })
    }

    fn of_pair(pair: Arc<KeyPair>, signs_from: Timestamp) -> Self {
        Self {
            id: pair.id().to_owned(),
            algorithm: pair.algorithm().for_verification(),
            algorithm_name: pair.algorithm().as_str(),
            verifying: pair.verifying(),
            signing: SigningKey::Pair(pair),
            signs_from,
        }
    }

    fn public(&self) -> Option<PublicKey> {
        match &self.signing {
            SigningKey::Secret(_) => None,
            SigningKey::Pair(pair) => Some(PublicKey {
                id: self.id.clone(),
                algorithm: self.algorithm_name,
                material: pair.public().clone(),
            }),
        }
    }
}

/// Of keys in order, the newest first: the one that began to sign last. Before any has begun, which a clock that was
/// set back makes possible, the one that begins first: a login is worth more than the order.
pub(crate) fn signing_at<'a, K: 'a, I: Iterator<Item = &'a K>>(
    newest_first: impl Fn() -> I,
    signs_from: impl Fn(&K) -> Timestamp,
    now: Timestamp,
) -> Option<&'a K> {
    newest_first().find(|key| signs_from(key) <= now).or_else(|| newest_first().last())
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
impl KeyRing {
    /// A ring whose key verifies nothing that it signs.
    pub(crate) fn broken() -> Self {
        let key =
            Key { verifying: DecodingKey::from_secret(b"another").unwrap(), ..Key::hs256(&[8; 32]).unwrap() };
        Self { keys: vec![key], algorithm: Algorithm::HS256 }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::jws::Compact;

    const SECOND: jiff::SignedDuration = jiff::SignedDuration::from_secs(1);

    fn noon() -> Timestamp {
        "2026-11-22T12:00:00Z".parse().unwrap()
    }

    fn pair(algorithm: KeyPairAlgorithm) -> KeyPair {
        KeyPair::generate(algorithm).unwrap()
    }

    /// The same pair once more, for another ring.
    fn copy(pair: &KeyPair) -> KeyPair {
        KeyPair::from_pem(pair.algorithm(), &pair.to_pem().unwrap()).unwrap()
    }

    fn ring<'a>(
        pairs: impl IntoIterator<Item = (&'a KeyPair, Timestamp)>,
        algorithm: KeyPairAlgorithm,
    ) -> KeyRing {
        let pairs = pairs.into_iter().map(|(pair, signs_from)| StoredKey {
            pair: copy(pair),
            created_at: noon(),
            signs_from,
        });
        KeyRing::of_pairs(pairs, algorithm).unwrap()
    }

    fn verifies(ring: &KeyRing, token: &str) -> bool {
        let token = Compact::parse(token).unwrap();
        ring.signed(&token.header().unwrap(), &token)
    }

    fn token(ring: &KeyRing, now: Timestamp) -> String {
        ring.sign("at+jwt", &json!({ "sub": "1" }), now).unwrap()
    }

    #[test]
    fn a_short_secret_makes_no_ring() {
        assert_eq!(KeyRing::hs256(&[7; 31]).unwrap_err(), WeakSecret);
        assert!(KeyRing::hs256(&[7; 32]).is_ok());
    }

    #[test]
    fn a_key_signs_from_its_time_until_that_of_the_next_and_verifies_before_and_after() {
        for algorithm in KeyPairAlgorithm::ALL {
            let [old, new] = [pair(algorithm), pair(algorithm)];
            let takeover = noon() + 10 * SECOND;
            let both = ring([(&old, noon()), (&new, takeover)], algorithm);

            let before = token(&both, takeover - SECOND);
            let after = token(&both, takeover);

            assert_eq!(both.signing_key_id(takeover - SECOND), old.id());
            assert_eq!(both.signing_key_id(takeover), new.id());
            assert_eq!(both.signing_key_id(noon() - SECOND), old.id(), "a clock that was set back");
            assert!(verifies(&both, &before) && verifies(&both, &after));
            assert!(verifies(&ring([(&old, noon())], algorithm), &before));
            assert!(!verifies(&ring([(&old, noon())], algorithm), &after), "an unknown key");
            assert!(!verifies(&ring([(&new, noon())], algorithm), &before), "a retired key");
        }
    }

    #[test]
    fn a_key_of_another_algorithm_than_the_configured_one_verifies_and_does_not_sign() {
        let [old, new] = [pair(KeyPairAlgorithm::Es256), pair(KeyPairAlgorithm::EdDsa)];
        let before = token(&ring([(&old, noon())], KeyPairAlgorithm::Es256), noon());

        let both = ring([(&new, noon()), (&old, noon() + SECOND)], KeyPairAlgorithm::EdDsa);

        assert!(verifies(&both, &before));
        assert_eq!(both.signing_key_id(noon() + SECOND), new.id());
        assert_eq!(both.public_keys().algorithms, ["EdDSA", "ES256"]);
        let none = KeyRing::of_pairs(
            [StoredKey { pair: old, created_at: noon(), signs_from: noon() }],
            KeyPairAlgorithm::EdDsa,
        );
        assert_eq!(none.unwrap_err(), NoSigningKey(KeyPairAlgorithm::EdDsa));
    }

    #[test]
    fn a_key_verifies_its_own_algorithm_only() {
        let pairs = KeyPairAlgorithm::ALL.map(pair);
        for signing in &pairs {
            let all = ring(pairs.iter().map(|pair| (pair, noon())), signing.algorithm());
            let good = token(&all, noon());
            let (_, rest) = good.split_once('.').unwrap();
            for alg in ["none", "HS256", "EdDSA", "ES256", "RS256", "PS256", "ES384", "RS512", "Ed25519"] {
                for named in &pairs {
                    let header = json!({ "alg": alg, "typ": "at+jwt", "kid": named.id() }).to_string();
                    let header = URL_SAFE_NO_PAD.encode(header);
                    // The signature is of another header, but for the right one.
                    let message = format!("{header}.{}", rest.split_once('.').unwrap().0);
                    let signature = URL_SAFE_NO_PAD.encode(signing.sign(message.as_bytes()).unwrap());

                    let right = alg == signing.algorithm().as_str() && named.id() == signing.id();

                    assert_eq!(verifies(&all, &format!("{message}.{signature}")), right, "{alg} {signing:?}");
                }
            }
        }
    }

    #[test]
    fn the_public_half_in_any_encoding_is_no_secret() {
        for algorithm in KeyPairAlgorithm::ALL {
            let pair = pair(algorithm);
            let ring = ring([(&pair, noon())], algorithm);
            let raw = pair.verifying().try_get_as_bytes().unwrap().to_vec();
            let der = pair.public_der();
            let mut secrets = vec![raw.clone(), der.clone()];
            for bytes in [&raw, &der] {
                secrets.push(base64::engine::general_purpose::STANDARD.encode(bytes).into_bytes());
                secrets.push(URL_SAFE_NO_PAD.encode(bytes).into_bytes());
                for label in ["PUBLIC KEY", "RSA PUBLIC KEY", "CERTIFICATE"] {
                    for end in ["", "\n", "\r\n"] {
                        secrets.push(
                            format!("{}{end}", crate::pem::encode(label, bytes).trim_end()).into_bytes(),
                        );
                    }
                }
            }
            match pair.public() {
                domain::PublicKeyMaterial::Rsa { n, e } => {
                    secrets.push(n.clone().into_bytes());
                    secrets.push(URL_SAFE_NO_PAD.decode(n).unwrap());
                    secrets.push(json!({ "kty": "RSA", "n": n, "e": e }).to_string().into_bytes());
                }
                domain::PublicKeyMaterial::EllipticCurve { curve, x, y } => {
                    secrets.push(format!("{x}{y}").into_bytes());
                    secrets
                        .push(json!({ "kty": "EC", "crv": curve, "x": x, "y": y }).to_string().into_bytes());
                }
                domain::PublicKeyMaterial::EdwardsCurve { curve, x } => {
                    secrets.push(x.clone().into_bytes());
                    secrets.push(json!({ "kty": "OKP", "crv": curve, "x": x }).to_string().into_bytes());
                }
            }
            for secret in secrets {
                for (alg, hmac) in [
                    ("HS256", Algorithm::HS256),
                    ("HS384", Algorithm::HS384),
                    (algorithm.as_str(), Algorithm::HS256),
                ] {
                    let header = json!({ "alg": alg, "typ": "at+jwt", "kid": pair.id() }).to_string();
                    let message = format!("{}.e30", URL_SAFE_NO_PAD.encode(header));
                    let key = EncodingKey::from_secret(&secret).unwrap();
                    let signature = crypto::sign(message.as_bytes(), &key, hmac).unwrap();

                    assert!(!verifies(&ring, &format!("{message}.{signature}")), "{alg} {algorithm:?}");
                }
            }
        }
    }

    #[test]
    fn every_pair_is_published_whether_it_signs_yet_or_still_or_not() {
        let pairs: BTreeMap<String, KeyPair> =
            (0..3).map(|_| pair(KeyPairAlgorithm::EdDsa)).map(|pair| (pair.id().to_owned(), pair)).collect();
        let times = [noon() - SECOND, noon(), noon() + SECOND];

        let published = ring(pairs.values().zip(times), KeyPairAlgorithm::EdDsa).public_keys();

        assert_eq!(published.algorithms, ["EdDSA"]);
        let mut ids: Vec<_> = published.keys.iter().map(|key| key.id.clone()).collect();
        ids.sort();
        assert_eq!(ids, pairs.keys().cloned().collect::<Vec<_>>());
        for key in &published.keys {
            assert_eq!((&key.material, key.algorithm), (pairs[&key.id].public(), "EdDSA"));
        }
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
