//! Refresh tokens: what session and which generation, and a MAC that only this deployment can make.
//!
//! The MAC covers also a nonce of the session, which stands in the store, so that neither the store nor the key alone
//! yields a token; and a text is a function of these, so that it can be given again byte for byte.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::ports::RefreshTokens;
use domain::{Generation, Nonce, RefreshClaim, SessionId};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::WeakSecret;
use crate::key_ring::MIN_SECRET_BYTES;

/// 64 bytes in base64url: key id, session, generation, MAC.
const LENGTH: usize = 86;

/// Sets these MACs apart from whatever else is made under the same key, one day or by mistake.
const PURPOSE: &[u8] = b"auth-api refresh token 1";

/// Writes refresh tokens under one key, and reads those of the one before it too.
pub struct MacRefreshTokens {
    current: Key,
    previous: Option<Key>,
}

struct Key {
    id: [u8; 8],
    /// The MAC as it is before the first byte that differs from token to token.
    begun: Hmac<Sha256>,
}

/// The parts of a text, none of which is proven.
struct Parts {
    key_id: [u8; 8],
    claim: RefreshClaim,
    mac: [u8; 32],
}

impl MacRefreshTokens {
    /// Tokens under this key, which has at least [`MIN_SECRET_BYTES`], and under the one that it replaced.
    pub fn new(current: &[u8], previous: Option<&[u8]>) -> Result<Self, WeakSecret> {
        Ok(Self { current: Key::new(current)?, previous: previous.map(Key::new).transpose()? })
    }
}

impl RefreshTokens for MacRefreshTokens {
    fn write(&self, claim: &RefreshClaim, nonce: &Nonce) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new([0; 64]);
        bytes[..8].copy_from_slice(&self.current.id);
        bytes[8..24].copy_from_slice(claim.session.as_bytes());
        bytes[24..32].copy_from_slice(&claim.generation.number().to_be_bytes());
        bytes[32..].copy_from_slice(&self.current.mac(claim, nonce).finalize().into_bytes());
        let mut text = Zeroizing::new(String::with_capacity(LENGTH));
        URL_SAFE_NO_PAD.encode_string(bytes.as_slice(), &mut text);
        text
    }

    fn read(&self, text: &str) -> Option<RefreshClaim> {
        Parts::parse(text).map(|parts| parts.claim)
    }

    fn is_genuine(&self, text: &str, nonce: &Nonce) -> bool {
        let Some(Parts { key_id, claim, mac }) = Parts::parse(text) else { return false };
        let mut keys = [Some(&self.current), self.previous.as_ref()].into_iter().flatten();
        let Some(key) = keys.find(|key| key.id == key_id) else { return false };
        // In constant time.
        key.mac(&claim, nonce).verify_slice(&mac).is_ok()
    }
}

impl Parts {
    /// Reads the one spelling there is: this engine refuses padding, whitespace, and bits that no encoder sets.
    fn parse(text: &str) -> Option<Self> {
        if text.len() != LENGTH {
            return None;
        }
        let bytes: [u8; 64] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
        let (key_id, rest) = bytes.split_first_chunk()?;
        let (session, rest) = rest.split_first_chunk()?;
        let (generation, mac) = rest.split_first_chunk()?;
        let generation = Generation::new(i64::from_be_bytes(*generation))?;
        let claim = RefreshClaim { session: SessionId::from_bytes(*session), generation };
        Some(Self { key_id: *key_id, claim, mac: mac.try_into().ok()? })
    }
}

impl Key {
    fn new(secret: &[u8]) -> Result<Self, WeakSecret> {
        if secret.len() < MIN_SECRET_BYTES {
            return Err(WeakSecret);
        }
        #[expect(clippy::expect_used, reason = "HMAC takes keys of any length (RFC 2104, section 2)")]
        let keyed = Hmac::<Sha256>::new_from_slice(secret).expect("a key of any length");
        // The same key has the same id on every instance, and the id tells no more of it than a token does.
        let named = keyed.clone().chain_update(b"auth-api refresh key id").finalize().into_bytes();
        let mut id = [0; 8];
        id.copy_from_slice(&named[..8]);
        Ok(Self { id, begun: keyed.chain_update(PURPOSE).chain_update(id) })
    }

    /// Every part has one length, so that no two rows of parts are one message.
    fn mac(&self, claim: &RefreshClaim, nonce: &Nonce) -> Hmac<Sha256> {
        self.begun
            .clone()
            .chain_update(claim.session.as_bytes())
            .chain_update(claim.generation.number().to_be_bytes())
            .chain_update(nonce.0)
    }
}

impl fmt::Debug for MacRefreshTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MacRefreshTokens(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: Nonce = Nonce([9; 16]);

    fn tokens() -> MacRefreshTokens {
        MacRefreshTokens::new(&[1; 32], None).unwrap()
    }

    fn claim() -> RefreshClaim {
        RefreshClaim { session: SessionId::from_bytes([7; 16]), generation: Generation::new(42).unwrap() }
    }

    #[test]
    fn a_token_is_read_as_it_was_written_and_written_the_same_again() {
        let text = tokens().write(&claim(), &NONCE);

        assert_eq!(text.len(), LENGTH);
        assert_eq!(tokens().read(&text), Some(claim()));
        assert!(tokens().is_genuine(&text, &NONCE));
        assert_eq!(tokens().write(&claim(), &NONCE), text);
    }

    #[test]
    fn another_session_generation_nonce_or_key_is_another_token() {
        let text = tokens().write(&claim(), &NONCE);
        let other_session = RefreshClaim { session: SessionId::from_bytes([8; 16]), ..claim() };
        let next = RefreshClaim { generation: claim().generation.next(), ..claim() };

        let mac_of = |text: &str| text[43..].to_owned();
        for other in [other_session, next] {
            assert_ne!(mac_of(&tokens().write(&other, &NONCE)), mac_of(&text));
        }
        assert!(!tokens().is_genuine(&text, &Nonce([8; 16])));
        assert!(!MacRefreshTokens::new(&[2; 32], None).unwrap().is_genuine(&text, &NONCE));
    }

    #[test]
    fn no_character_can_be_another_one() {
        let text = tokens().write(&claim(), &NONCE);

        for index in 0..text.len() {
            for other in ["A", "B", "_", "=", " ", "+"] {
                let mut changed = text.to_string();
                changed.replace_range(index..=index, other);
                assert!(changed == *text || !tokens().is_genuine(&changed, &NONCE), "{changed}");
            }
        }
    }

    #[test]
    fn what_no_encoder_writes_is_not_read() {
        let text = tokens().write(&claim(), &NONCE).to_string();
        let zeroth = text[..32].to_owned() + &"A".repeat(LENGTH - 32);
        // 64 bytes end in a character of two bits; its neighbours in the alphabet decode to the same bytes.
        let last = text.chars().next_back().unwrap();
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let stray = alphabet.chars().nth(alphabet.find(last).unwrap() + 1).unwrap();

        for bad in [
            String::new(),
            text[..85].to_owned(),
            format!("{text}="),
            format!("{text}A"),
            format!(" {}", &text[1..]),
            format!("{}\n", &text[..85]),
            format!("{}é", &text[..84]),
            format!("{}{stray}", &text[..85]),
            zeroth,
            "A".repeat(100_000),
        ] {
            assert_eq!(tokens().read(&bad), None, "{bad:.100}");
            assert!(!tokens().is_genuine(&bad, &NONCE));
        }
    }

    #[test]
    fn tokens_of_the_previous_key_hold_until_it_goes() {
        let old = tokens().write(&claim(), &NONCE);
        let both = MacRefreshTokens::new(&[2; 32], Some(&[1; 32])).unwrap();

        assert!(both.is_genuine(&old, &NONCE));
        let new = both.write(&claim(), &NONCE);
        assert!(both.is_genuine(&new, &NONCE) && !tokens().is_genuine(&new, &NONCE));
        // The old MAC under the new key's name.
        let forged = format!("{}{}", &new[..10], &old[10..]);
        assert!(!both.is_genuine(&forged, &NONCE));
    }

    #[test]
    fn a_short_key_makes_no_tokens() {
        assert!(MacRefreshTokens::new(&[1; 31], None).is_err());
        assert!(MacRefreshTokens::new(&[1; 32], Some(&[2; 31])).is_err());
    }
}
