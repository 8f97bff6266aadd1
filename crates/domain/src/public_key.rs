//! What others verify access tokens with.

/// All that verifies the tokens of this service, as anybody may see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKeySet {
    /// The algorithms that tokens may be signed with (RFC 7518, section 3.1; RFC 8037, section 3.1); the first one
    /// is that of new tokens.
    pub algorithms: Vec<&'static str>,
    /// The keys that are public: none where one secret signs and verifies.
    pub keys: Vec<PublicKey>,
}

/// One key, by which nobody can sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    /// What tokens name it by.
    pub id: String,
    /// The one algorithm that it is for.
    pub algorithm: &'static str,
    /// The key itself.
    pub material: PublicKeyMaterial,
}

/// The numbers a public key is made of, each in base64url as a JSON Web Key has them. There is no place for a
/// private one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicKeyMaterial {
    /// RSA (RFC 7518, section 6.3.1).
    Rsa {
        /// The modulus.
        n: String,
        /// The exponent.
        e: String,
    },
    /// A point on an elliptic curve (RFC 7518, section 6.2.1).
    EllipticCurve {
        /// The curve.
        curve: &'static str,
        /// The one coordinate.
        x: String,
        /// The other.
        y: String,
    },
    /// A point on an Edwards curve (RFC 8037, section 2).
    EdwardsCurve {
        /// The curve.
        curve: &'static str,
        /// The point.
        x: String,
    },
}
