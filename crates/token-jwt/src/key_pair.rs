//! Key pairs: a private half that signs, a public one that anybody may have.

use std::fmt;
use std::sync::LazyLock;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RsaKeyPair, RsaPublicKeyComponents,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::PublicKeyMaterial;
use jsonwebtoken::{Algorithm, DecodingKey};
use sha2::{Digest, Sha256};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::pem;

/// What new RSA keys have: 2048 bits are good until 2030 only (NIST SP 800-57, part 1, table 4).
const RSA_SIZE: KeySize = KeySize::Rsa3072;

/// What such a key is called in a text.
pub(crate) const LABEL: &str = "PRIVATE KEY";

static RANDOM: LazyLock<SystemRandom> = LazyLock::new(SystemRandom::new);

/// The algorithms whose keys come in pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyPairAlgorithm {
    /// Ed25519 (RFC 8037).
    EdDsa,
    /// ECDSA on P-256 (RFC 7518, section 3.4).
    Es256,
    /// RSA with PKCS #1 v1.5 padding (RFC 7518, section 3.3).
    Rs256,
}

/// A private key, and what there is to say of it in public.
///
/// The private half is parsed once, here: `jsonwebtoken` would do it at every signature, which for RSA takes
/// longer than to sign.
pub struct KeyPair {
    algorithm: KeyPairAlgorithm,
    private: PrivateKey,
    public: PublicKeyMaterial,
    id: String,
}

/// The text is no key to sign with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("there is no whole private key of this algorithm, or it is too short")]
pub struct UnusableKey;

/// The library made no key, as when it has no randomness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("cannot make a key")]
pub struct NotGenerated;

enum PrivateKey {
    EdDsa(Ed25519KeyPair),
    Es256(EcdsaKeyPair),
    Rs256(RsaKeyPair),
}

impl KeyPairAlgorithm {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::EdDsa, Self::Es256, Self::Rs256];

    /// As it stands in headers and settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
        }
    }

    /// The one of this name, which is compared letter by letter.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == name)
    }

    pub(crate) fn for_verification(self) -> Algorithm {
        match self {
            Self::EdDsa => Algorithm::EdDSA,
            Self::Es256 => Algorithm::ES256,
            Self::Rs256 => Algorithm::RS256,
        }
    }
}

impl KeyPair {
    /// A new one, of the randomness of the cryptographic library, which is seeded by the operating system.
    pub fn generate(algorithm: KeyPairAlgorithm) -> Result<Self, NotGenerated> {
        loop {
            let pair = Self::new(match algorithm {
                KeyPairAlgorithm::EdDsa => PrivateKey::EdDsa(Ed25519KeyPair::generate()?),
                KeyPairAlgorithm::Es256 => {
                    PrivateKey::Es256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?)
                }
                KeyPairAlgorithm::Rs256 => PrivateKey::Rs256(RsaKeyPair::generate(RSA_SIZE)?),
            });
            // The id becomes the name of a file and an argument, and one in 64 would look like an option there.
            if !pair.id.starts_with('-') {
                return Ok(pair);
            }
        }
    }

    /// Reads what [`Self::to_pem`] wrote, or any other program, if it is a key for `algorithm` and of a size that
    /// will do.
    pub fn from_pem(algorithm: KeyPairAlgorithm, text: &str) -> Result<Self, UnusableKey> {
        let der = pem::decode(LABEL, text).ok_or(UnusableKey)?;
        Self::from_pkcs8(algorithm, &der)
    }

    /// The private key as a text that any other program reads (RFC 5208 in RFC 7468).
    pub fn to_pem(&self) -> Result<Zeroizing<String>, NotGenerated> {
        Ok(pem::encode(LABEL, &self.to_pkcs8()?))
    }

    pub(crate) fn from_pkcs8(algorithm: KeyPairAlgorithm, der: &[u8]) -> Result<Self, UnusableKey> {
        let private = match algorithm {
            KeyPairAlgorithm::EdDsa => Ed25519KeyPair::from_pkcs8(der).map(PrivateKey::EdDsa),
            KeyPairAlgorithm::Es256 => {
                EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der).map(PrivateKey::Es256)
            }
            KeyPairAlgorithm::Rs256 => RsaKeyPair::from_pkcs8(der).map(PrivateKey::Rs256),
        };
        private.map(Self::new).map_err(|_| UnusableKey)
    }

    fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, NotGenerated> {
        Ok(Zeroizing::new(match &self.private {
            PrivateKey::EdDsa(pair) => AsDer::<Pkcs8V1Der<'_>>::as_der(pair)?.as_ref().to_vec(),
            PrivateKey::Es256(pair) => pair.to_pkcs8v1()?.as_ref().to_vec(),
            PrivateKey::Rs256(pair) => AsDer::<Pkcs8V1Der<'_>>::as_der(pair)?.as_ref().to_vec(),
        }))
    }

    fn new(private: PrivateKey) -> Self {
        let (algorithm, public) = match &private {
            PrivateKey::EdDsa(pair) => {
                let x = URL_SAFE_NO_PAD.encode(pair.public_key());
                (KeyPairAlgorithm::EdDsa, PublicKeyMaterial::EdwardsCurve { curve: "Ed25519", x })
            }
            PrivateKey::Es256(pair) => {
                // A byte that says that both coordinates follow, then these (SEC 1, section 2.3.3).
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                let [x, y] = [x, y].map(|coordinate| URL_SAFE_NO_PAD.encode(coordinate));
                (KeyPairAlgorithm::Es256, PublicKeyMaterial::EllipticCurve { curve: "P-256", x, y })
            }
            PrivateKey::Rs256(pair) => {
                let RsaPublicKeyComponents { n, e } =
                    RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
                let [n, e] = [n, e].map(|number| URL_SAFE_NO_PAD.encode(number));
                (KeyPairAlgorithm::Rs256, PublicKeyMaterial::Rsa { n, e })
            }
        };
        Self { algorithm, private, id: thumbprint(&public), public }
    }

    /// Its thumbprint, which is the same wherever the key is.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What it is for.
    pub fn algorithm(&self) -> KeyPairAlgorithm {
        self.algorithm
    }

    pub(crate) fn public(&self) -> &PublicKeyMaterial {
        &self.public
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Unspecified> {
        match &self.private {
            PrivateKey::EdDsa(pair) => Ok(pair.try_sign(message)?.as_ref().to_vec()),
            PrivateKey::Es256(pair) => Ok(pair.sign(&*RANDOM, message)?.as_ref().to_vec()),
            PrivateKey::Rs256(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &*RANDOM, message, &mut signature)?;
                Ok(signature)
            }
        }
    }

    pub(crate) fn verifying(&self) -> DecodingKey {
        match &self.private {
            PrivateKey::EdDsa(pair) => DecodingKey::from_ed_der(pair.public_key().as_ref()),
            PrivateKey::Es256(pair) => DecodingKey::from_ec_der(pair.public_key().as_ref()),
            PrivateKey::Rs256(pair) => DecodingKey::from_rsa_der(pair.public_key().as_ref()),
        }
    }
}

#[cfg(test)]
impl KeyPair {
    /// The public half as programs exchange it (RFC 5280, `SubjectPublicKeyInfo`).
    pub(crate) fn public_der(&self) -> Vec<u8> {
        use aws_lc_rs::encoding::PublicKeyX509Der;

        let der: PublicKeyX509Der<'static> = match &self.private {
            PrivateKey::EdDsa(pair) => pair.public_key().as_der(),
            PrivateKey::Es256(pair) => pair.public_key().as_der(),
            PrivateKey::Rs256(pair) => pair.public_key().as_der(),
        }
        .unwrap();
        der.as_ref().to_vec()
    }
}

impl From<Unspecified> for NotGenerated {
    fn from(_: Unspecified) -> Self {
        Self
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPair")
            .field("algorithm", &self.algorithm)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// The digest of what makes a key, as JSON without blanks and with its members in order (RFC 7638, section 3).
fn thumbprint(key: &PublicKeyMaterial) -> String {
    // Nothing is escaped: curves have plain names, and base64url holds neither quotes nor backslashes.
    let members = match key {
        PublicKeyMaterial::Rsa { n, e } => format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#),
        PublicKeyMaterial::EllipticCurve { curve, x, y } => {
            format!(r#"{{"crv":"{curve}","kty":"EC","x":"{x}","y":"{y}"}}"#)
        }
        PublicKeyMaterial::EdwardsCurve { curve, x } => {
            format!(r#"{{"crv":"{curve}","kty":"OKP","x":"{x}"}}"#)
        }
    };
    URL_SAFE_NO_PAD.encode(Sha256::digest(members))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thumbprint_is_that_of_rfc_7638_and_rfc_8037() {
        let rsa = PublicKeyMaterial::Rsa {
            n: "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXj\
                BZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8\
                KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_x\
                BniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
                .to_owned(),
            e: "AQAB".to_owned(),
        };
        let edwards = PublicKeyMaterial::EdwardsCurve {
            curve: "Ed25519",
            x: "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo".to_owned(),
        };

        assert_eq!(thumbprint(&rsa), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
        assert_eq!(thumbprint(&edwards), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn a_pair_is_read_back_as_it_was_written_and_as_nothing_else() {
        for algorithm in KeyPairAlgorithm::ALL {
            let pair = KeyPair::generate(algorithm).unwrap();
            let (text, der) = (pair.to_pem().unwrap(), pair.to_pkcs8().unwrap());

            let read = KeyPair::from_pem(algorithm, &text).unwrap();

            assert_eq!((read.id(), read.public()), (pair.id(), pair.public()));
            for other in KeyPairAlgorithm::ALL.into_iter().filter(|other| *other != algorithm) {
                assert!(KeyPair::from_pem(other, &text).is_err(), "{other:?}");
            }
            assert!(KeyPair::from_pkcs8(algorithm, &der[..der.len() - 1]).is_err());
        }
    }

    #[test]
    fn new_rsa_keys_have_3072_bits() {
        let pair = KeyPair::generate(KeyPairAlgorithm::Rs256).unwrap();

        let PublicKeyMaterial::Rsa { n, e } = pair.public() else { panic!("not RSA") };
        let n = URL_SAFE_NO_PAD.decode(n).unwrap();
        assert_eq!((n.len(), n[0] >> 7), (3072 / 8, 1));
        assert_eq!(URL_SAFE_NO_PAD.decode(e).unwrap(), [1, 0, 1]);
    }

    #[test]
    fn an_rsa_key_of_2047_bits_is_refused() {
        // RFC 7518, section 3.3, asks for 2048. The library sees to it, and this that it goes on to. Made for this
        // test and used nowhere.
        let key = base64::engine::general_purpose::STANDARD.decode(
            "\
            MIIEuwIBADANBgkqhkiG9w0BAQEFAASCBKUwggShAgEAAoIBAGf75lcqoD+1j8S/F/q2wMhTkxBNgDeJO8scCHh9L2OJDGyiVyzuqqWVyTbH\
            xyTqXoZD3ob2Czi0XhvlFvxByaiIpOLsdpi+uNddmK+bbmSWR4dyB+lfDEBRulwXj55IbqxzAGC41BRFAFV2E+iXhVQ/JHH8RwVi8+p4RqaL\
            faFDN8lSwNYrdrTiOMUQrzkKALt703tsFO7FvjiDZQJ2OHE4yi0CLetahznwA9zLTJF0YsUxDcPP2pL3sjMZa7Hn/d2CQ2ojerPLVelLgHjx\
            eJCxS0TEaCvC8LtiT0P9+dHEn36yLm8Y/yOHG6uOKdw7lXBNHysigbSKsMbbDhIDWwMCAwEAAQKCAQBHZvfSXxjO5pOkXDvREvDqHklb5nvm\
            pruCSuueIQgLZy464nbOCczwCxyyGxiqRq1FsRD6x7UI6QG+Ud8otNwOeFYQ5KLDXCN8725LF4YEWBUh8rFwFK5K9FPtrNgXrlEg5Y8a24/1\
            ozQJex1Ml88b/IfAJaV3E22+UXziG+LWenLClKSXJCoLvT0RlcxZfloQJlxlgI6xUfmV3c1ZfarSboN4Gey6vAHG/smVumP03impTVK3kejb\
            AeFn4YyamsLVuH4JviZK4zJ073HXkbK+vTo9WuxWdk8TBi85IqBk/oEUvFX1ch/aegpLI8h9Qgs3XFMWDYiSzEzNaaANPj5hAoGBANf1bYMc\
            sWj9q52ioXHGvu720YBAAicShr3Jyvj8Ny3c8kMAztg1MJHyECrKo6AMmnU+8gWL3mohoWalixyl1nvR8wFwYwaMuOHRnB5Ep7fN5RTkVFzh\
            EcEuP+VjNrwOa2frJFijP9lQm+dfikQL5BGfeHZyXwAecDjpBKy5Ys17AoGAe0OLRjxm8cMkCJ/rwNXRT/cEy0ksw4me3IbX/KrtLhk2GYyU\
            smAugZF1mona+0PovO9jrZ3BOE1S5wCBpKMyQUWH11LebsD/g5lXTscI5pZ+qMtsRMMJiGxH9QmOJxzzZsYMuM7ogtRl/qtMqFBSXqNhkGUd\
            Ta5sS7xaB5vUvhkCgYEAhB5UFyhQqSi3+0Jpfo/Wc59wYAPIzVqaMDXqBRVYNKi9VZyC7ubrhf4PQf6ix+GuBRizPA1rzoYwlfmk96vFYg75\
            meHF01X4Lb7swd/Cs8I06ekea4wOLp862/0smTRBJVxH6ipFf4+/MXfTwPl9WAK10dD6qbn1cfusrnbkKU0CgYB6lEfrd+PT5oBuB0L2SGvX\
            vsnIsyNN7QzLN1mRDhXBsxamv7Ob06RL+3BdV1wqZXUMdm/E1s2whMy9pjZGmHhAirm0+tbygwFWSGaXk70ZOm4IxAsOMnrHbQ798huob9Tp\
            zmgWXMTCXiBz6rvX4dCYBpfedX93oc5WXp+VU3Vz+QKBgBNcFAXDNHmNwALBZdF8WyOKIA9R2sREJhu23v8PNMZT/vCJbH+EE3yF+CthzIrE\
            4URizq2Hv42JSKmPKI02xcOwAOl/Eo254nPGYlz0mNnO+qZb4b5Rq0cgBQCTr0Yv4tlStZ+kW1uBHOTofPn66s4/+Ya8xxvYia1fdsFZgnvZ",
        );

        assert!(KeyPair::from_pkcs8(KeyPairAlgorithm::Rs256, &key.unwrap()).is_err());
    }

    #[test]
    fn a_key_on_another_curve_is_refused() {
        let other = EcdsaKeyPair::generate(&aws_lc_rs::signature::ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();

        let der = other.to_pkcs8v1().unwrap();

        assert!(KeyPair::from_pkcs8(KeyPairAlgorithm::Es256, der.as_ref()).is_err());
    }

    #[test]
    fn a_pair_shows_its_name_and_nothing_else() {
        let pair = KeyPair::generate(KeyPairAlgorithm::EdDsa).unwrap();

        let shown = format!("{pair:?}");

        assert_eq!(shown, format!("KeyPair {{ algorithm: EdDsa, id: {:?}, .. }}", pair.id()));
    }
}
