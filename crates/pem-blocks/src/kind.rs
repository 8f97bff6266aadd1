//! The algorithm of a private key, as far as its structure tells (RFC 5958, RFC 5915, RFC 8017 appendix A.1.2).

use std::fmt;

use crate::KeyForm;
use crate::der::{INTEGER, OBJECT_IDENTIFIER, SEQUENCE, element};

/// What a private key is a key of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyKind {
    /// RSA with a modulus of this many bits.
    Rsa(usize),
    /// An algorithm or a curve with a name.
    Named(&'static str),
    /// An elliptic curve that is given by its parameters instead of its name, which RFC 5480 section 2.1.1 forbids.
    ExplicitCurve,
}

/// The constructed tag of the field `parameters` of RFC 5915.
const CONTEXT_0: u8 = 0xa0;

/// Object identifiers without tag and length.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
const ELLIPTIC_CURVE: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
const NAMED: [(&[u8], &str); 18] = [
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7], "P-256"),
    (&[0x2b, 0x81, 4, 0, 33], "P-224"),
    (&[0x2b, 0x81, 4, 0, 34], "P-384"),
    (&[0x2b, 0x81, 4, 0, 35], "P-521"),
    (&[0x2b, 0x81, 4, 0, 10], "secp256k1"),
    (&[0x2b, 0x24, 3, 3, 2, 8, 1, 1, 7], "brainpoolP256r1"),
    (&[0x2b, 0x24, 3, 3, 2, 8, 1, 1, 11], "brainpoolP384r1"),
    (&[0x2b, 0x24, 3, 3, 2, 8, 1, 1, 13], "brainpoolP512r1"),
    (&[0x2b, 0x65, 110], "X25519"),
    (&[0x2b, 0x65, 111], "X448"),
    (&[0x2b, 0x65, 112], "Ed25519"),
    (&[0x2b, 0x65, 113], "Ed448"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10], "RSA-PSS"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 3, 1], "Diffie-Hellman"),
    (&[0x2a, 0x86, 0x48, 0xce, 0x38, 4, 1], "DSA"),
    (&[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 3, 17], "ML-DSA-44"),
    (&[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 3, 18], "ML-DSA-65"),
    (&[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 3, 19], "ML-DSA-87"),
];

impl KeyKind {
    /// `None` for a key that is damaged, or of an algorithm without a name here.
    pub(crate) fn of(form: KeyForm, der: &[u8]) -> Option<Self> {
        let (SEQUENCE, key, _) = element(der)? else { return None };
        let (INTEGER, _version, rest) = element(key)? else { return None };
        match form {
            KeyForm::Pkcs1 => Self::of_modulus(rest),
            KeyForm::Sec1 => {
                let (_, _private, rest) = element(rest)?;
                let (CONTEXT_0, curve, _) = element(rest)? else { return None };
                Self::of_curve(curve)
            }
            KeyForm::Pkcs8 => {
                let (SEQUENCE, algorithm, rest) = element(rest)? else { return None };
                let (OBJECT_IDENTIFIER, identifier, parameters) = element(algorithm)? else { return None };
                if identifier == ELLIPTIC_CURVE {
                    return Self::of_curve(parameters);
                }
                if identifier == RSA {
                    let (_, inside, _) = element(rest)?;
                    return Self::of(KeyForm::Pkcs1, inside);
                }
                Self::named(identifier)
            }
        }
    }

    fn of_modulus(rest: &[u8]) -> Option<Self> {
        let (INTEGER, modulus, _) = element(rest)? else { return None };
        let first = modulus.iter().position(|byte| *byte != 0)?;
        let unused = modulus.get(first)?.leading_zeros() as usize;
        Some(Self::Rsa(8 * (modulus.len() - first) - unused))
    }

    fn of_curve(curve: &[u8]) -> Option<Self> {
        match element(curve)? {
            (OBJECT_IDENTIFIER, identifier, _) => Self::named(identifier),
            (SEQUENCE, ..) => Some(Self::ExplicitCurve),
            _ => None,
        }
    }

    fn named(identifier: &[u8]) -> Option<Self> {
        NAMED.into_iter().find(|(known, _)| *known == identifier).map(|(_, name)| Self::Named(name))
    }
}

impl fmt::Display for KeyKind {
    /// With its article, as in "an RSA key of 1024 bits".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa(bits) => write!(f, "an RSA key of {bits} bits"),
            Self::Named(name) => write!(f, "a private key of {name}"),
            Self::ExplicitCurve => {
                f.write_str("a private key whose curve is given by parameters instead of its name")
            }
        }
    }
}
