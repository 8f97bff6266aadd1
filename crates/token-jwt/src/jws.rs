//! A token in its compact serialisation (RFC 7515, section 7.1), taken apart and nothing forgiven.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// Ours have some five hundred bytes, and with the longest name, issuer, audience and client id some four thousand.
const LONGEST_TOKEN: usize = 8192;

/// Three segments, each canonical base64url, not yet trusted in anything.
pub(crate) struct Compact<'a> {
    /// The first two segments with the dot between them: what is signed.
    pub(crate) message: &'a str,
    /// The third, as it stands.
    pub(crate) signature: &'a str,
    header: Vec<u8>,
    payload: Vec<u8>,
}

/// What a header must say. Members that point at keys, such as `jku` and `x5c`, are ignored: a key comes
/// from the ring or not at all.
#[derive(Deserialize)]
pub(crate) struct Header<'a> {
    #[serde(borrow)]
    pub(crate) alg: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) typ: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) kid: Cow<'a, str>,
    #[serde(default, deserialize_with = "crate::present")]
    crit: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "crate::present")]
    b64: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "crate::present")]
    enc: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "crate::present")]
    zip: Option<IgnoredAny>,
}

impl<'a> Compact<'a> {
    /// Takes three segments of the base64url alphabet, without padding or stray bits, and nothing around
    /// them.
    pub(crate) fn parse(token: &'a str) -> Option<Self> {
        if token.len() > LONGEST_TOKEN {
            return None;
        }
        let (message, signature) = token.rsplit_once('.')?;
        let (header, payload) = message.split_once('.')?;
        // This engine refuses padding, whitespace, a further dot, and bits that no encoder sets: two texts
        // never stand for one token.
        let decode = |segment| URL_SAFE_NO_PAD.decode(segment).ok().filter(|bytes| !bytes.is_empty());
        decode(signature)?;
        Some(Self { message, signature, header: decode(header)?, payload: decode(payload)? })
    }

    /// The header, unless it asks for something that must be understood (RFC 7515, section 4.1.11) or says
    /// that this is no plain signed token.
    pub(crate) fn header(&self) -> Option<Header<'_>> {
        let header: Header<'_> = object(&self.header)?;
        let Header { crit, b64, enc, zip, .. } = &header;
        [crit, b64, enc, zip].iter().all(|member| member.is_none()).then_some(header)
    }

    /// The claims, once the signature was found good.
    pub(crate) fn claims<'b, T: Deserialize<'b>>(&'b self) -> Option<T> {
        object(&self.payload)
    }
}

/// Reads a JSON object. Without the look at its first byte an array of the members' values would pass.
fn object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Option<T> {
    if json.first() == Some(&b'{') { serde_json::from_slice(json).ok() } else { None }
}
