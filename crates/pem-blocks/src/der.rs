//! What a file in DER holds, as far as its first tags tell (X.690).

/// What may be mistaken for PEM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Der {
    Certificate,
    PrivateKey,
    EncryptedKey,
    PublicKey,
    /// A certificate request (RFC 2986).
    Request,
    Pkcs7,
    Pkcs12,
    /// A sequence of something else.
    Other,
}

pub(crate) const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
pub(crate) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(crate) const SEQUENCE: u8 = 0x30;

impl Der {
    /// `None` for what is not one sequence from its first byte to its last.
    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        let (SEQUENCE, content, []) = element(bytes)? else { return None };
        Some(Self::of_content(content).unwrap_or(Self::Other))
    }

    fn of_content(content: &[u8]) -> Option<Self> {
        let (first, inner, rest) = element(content)?;
        let (second, _, _) = element(rest)?;
        Some(match (first, inner, second) {
            (OBJECT_IDENTIFIER, ..) => Self::Pkcs7,
            (INTEGER, [3], SEQUENCE) => Self::Pkcs12,
            (INTEGER, [0 | 1], SEQUENCE | INTEGER | OCTET_STRING) => Self::PrivateKey,
            (SEQUENCE, _, BIT_STRING) => Self::PublicKey,
            (SEQUENCE, _, OCTET_STRING) => Self::EncryptedKey,
            // Its version comes first, which no certificate says so (RFC 2986, section 4; RFC 5280, section 4.1).
            (SEQUENCE, [INTEGER, 1, 0, ..], SEQUENCE) => Self::Request,
            (SEQUENCE, _, SEQUENCE) => Self::Certificate,
            _ => Self::Other,
        })
    }
}

/// The tag and the content of the first element, and what comes after it.
pub(crate) fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, length], rest) = bytes.split_first_chunk()?;
    let (length, rest) = if length < 0x80 {
        (usize::from(length), rest)
    } else {
        let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
        let append = |sum: usize, digit: &u8| sum.checked_mul(256)?.checked_add(usize::from(*digit));
        (digits.iter().try_fold(0, append)?, rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}
