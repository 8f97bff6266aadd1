//! The `TokenIssuer` port on JSON Web Tokens (RFC 7519), in the profile for OAuth access tokens (RFC 9068).
//!
//! Promises that a token which verifies is one that this deployment issued, letter by letter, for the
//! purpose it is shown for, and that it holds now (RFC 8725). The only crate that sees a signing key.
//! Refuses to know who may have a token.
//!
//! Start reading at [`JwtIssuer`]. `key_ring` holds the keys, `key_pair` is one that has a public half, `compact` takes
//! a token apart. The `RefreshTokens` port, whose tokens are no JWTs, is `refresh`.

mod jws;
mod key_dir;
mod key_file;
mod key_pair;
mod key_reload;
mod key_ring;
mod pem;
mod private_files;
mod refresh_token;
mod static_keys;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::ports::{Clock, Entropy, PortError, TokenIssuer};
use domain::{
    AccessClaims, AccessToken, Bearer, Generation, Grant, InvalidToken, MAX_ADDRESS_LENGTH, PublicKeySet,
    SessionId, UserId, Username,
};
use jiff::Timestamp;
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::jws::Compact;
pub use crate::key_dir::{
    DEFAULT_LEAD_TIME, Glance, KeyFacts, KeyFolder, KeyFolderError, KeyState, Rotation, Takeover,
};
pub use crate::key_file::{StoredKey, UnusableKeyFile};
pub use crate::key_pair::{KeyPair, KeyPairAlgorithm, NotGenerated, UnusableKey};
pub use crate::key_ring::{KeyRing, MIN_SECRET_BYTES, NoSigningKey, WeakSecret};
pub use crate::refresh_token::MacRefreshTokens;
pub use crate::static_keys::{GivenKeys, UnusableKeyText};

/// How far another instance's clock may be ahead of ours. Expiry has no leeway: whoever is late refreshes.
const LEEWAY_SECONDS: i64 = 5;

/// How much earlier than now a token says it was issued, for verifiers whose clock is behind and that allow no leeway.
const BACKDATED_SECONDS: i64 = 1;

/// What the tokens of this deployment say besides whose they are.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Claim `iss`, the URL under which clients know this service.
    pub issuer: String,
    /// Claim `aud`; without one, the claim is left out, and refused where it stands.
    pub audience: Option<String>,
    /// Header `typ`.
    pub token_type: TokenType,
    /// Claim `client_id`.
    pub client_id: String,
    /// The longest lifetime a token may claim.
    pub max_lifetime: Duration,
}

/// What a token says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenType {
    /// `at+jwt`, an access token and nothing else (RFC 9068, section 2.1).
    AccessToken,
    /// `JWT`, for verifiers that refuse the other one.
    Jwt,
}

/// The issuer could not be made.
#[derive(Debug, Error)]
#[error(
    "a token that was just signed does not verify: the issuer, audience and client_id are too long, or the cryptography does not work on this machine"
)]
pub struct SelfTestError(#[source] Option<PortError>);

/// Issues tokens and verifies them.
pub struct JwtIssuer {
    keys: RwLock<Arc<KeyRing>>,
    profile: Profile,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

/// The claims, every one of which every token has. `aud` alone depends on the profile.
#[derive(Debug, Serialize, Deserialize)]
struct Claims<'a> {
    #[serde(borrow)]
    iss: Cow<'a, str>,
    #[serde(borrow)]
    sub: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    aud: Option<Cow<'a, str>>,
    exp: i64,
    iat: i64,
    /// Never issued; honoured when it is there.
    #[serde(default, deserialize_with = "present", skip_serializing)]
    nbf: Option<i64>,
    /// `<generation>.<random>`.
    #[serde(borrow)]
    jti: Cow<'a, str>,
    #[serde(borrow)]
    sid: Cow<'a, str>,
    #[serde(borrow)]
    client_id: Cow<'a, str>,
    #[serde(borrow)]
    preferred_username: Cow<'a, str>,
}

impl JwtIssuer {
    /// Makes an issuer and has it prove that what it signs verifies and what is tampered with does not, so
    /// that a missing cryptographic provider shows at the start and not at the first login.
    pub fn new(
        keys: KeyRing,
        profile: Profile,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, SelfTestError> {
        let issuer = Self { keys: RwLock::new(Arc::new(keys)), profile, clock, entropy };
        issuer.test_itself()?;
        Ok(issuer)
    }

    fn test_itself(&self) -> Result<(), SelfTestError> {
        let grant = Grant {
            subject: UserId(1),
            // As long as a name can be, so that no user's token is longer than this one.
            username: Username::from_stored("\u{1d518}".repeat(MAX_ADDRESS_LENGTH), "self-test".to_owned()),
            session: SessionId::from_bytes([0; 16]),
            generation: Generation::FIRST,
            issued_at: self.clock.now(),
            lifetime: self.profile.max_lifetime,
        };
        let token = self.issue(&grant).map_err(|error| SelfTestError(Some(error)))?;
        // The signature's first character holds six whole bits, so another one is another signature.
        let (signed, signature) = token.text.rsplit_once('.').unwrap_or_default();
        let flipped = if signature.starts_with('A') { 'B' } else { 'A' };
        let tampered = format!("{signed}.{flipped}{}", signature.get(1..).unwrap_or_default());
        let Grant { subject, session, generation, .. } = grant;
        let bearer = Bearer { user: subject, session, generation };
        let proven = self.verify(&token.text) == Ok(bearer) && self.verify(&tampered).is_err();
        if proven { Ok(()) } else { Err(SelfTestError(None)) }
    }

    /// What `take` takes of what a token says and whose it is, if it is one of ours, whole, and holds now.
    fn read<T>(
        &self,
        token: &str,
        take: impl FnOnce(Claims<'_>, Bearer) -> Result<T, InvalidToken>,
    ) -> Result<T, InvalidToken> {
        let token = Compact::parse(token).ok_or(InvalidToken::Invalid)?;
        let header = token.header().ok_or(InvalidToken::Invalid)?;
        if !self.profile.token_type.is_named_by(&header.typ) || !self.keys().signed(&header, &token) {
            return Err(InvalidToken::Invalid);
        }
        let claims: Claims<'_> = token.claims().ok_or(InvalidToken::Invalid)?;
        let bearer = self.check(&claims)?;
        take(claims, bearer)
    }

    fn check(&self, claims: &Claims<'_>) -> Result<Bearer, InvalidToken> {
        let Profile { issuer, audience, client_id, max_lifetime, .. } = &self.profile;
        let now = self.clock.now().as_second();
        let lifetime = claims.exp.checked_sub(claims.iat).and_then(|seconds| u64::try_from(seconds).ok());
        let sound = claims.iss == *issuer
            && claims.aud.as_deref() == audience.as_deref()
            && claims.client_id == *client_id
            && !claims.preferred_username.is_empty()
            && claims.iat.max(claims.nbf.unwrap_or(i64::MIN)) <= now + LEEWAY_SECONDS
            && lifetime.is_some_and(|seconds| Duration::from_secs(seconds) <= *max_lifetime);
        match claims.bearer().filter(|_| sound) {
            None => Err(InvalidToken::Invalid),
            Some(_) if claims.exp <= now => Err(InvalidToken::Expired),
            Some(bearer) => Ok(bearer),
        }
    }
}

impl Claims<'_> {
    fn bearer(&self) -> Option<Bearer> {
        let user = UserId::parse(&self.sub).filter(|UserId(id)| *id > 0)?;
        let session = SessionId::parse(&self.sid)?;
        let (generation, random) = self.jti.split_once('.')?;
        let generation = Generation::parse(generation).filter(|_| !random.is_empty())?;
        Some(Bearer { user, session, generation })
    }
}

impl TokenIssuer for JwtIssuer {
    fn issue(&self, grant: &Grant) -> Result<AccessToken, PortError> {
        let issued_at = grant.issued_at.as_second().saturating_sub(BACKDATED_SECONDS);
        let lifetime = grant.lifetime.as_secs();
        let claims = Claims {
            iss: (&*self.profile.issuer).into(),
            sub: grant.subject.to_string().into(),
            aud: self.profile.audience.as_deref().map(Cow::from),
            exp: issued_at.saturating_add_unsigned(lifetime),
            iat: issued_at,
            nbf: None,
            jti: format!("{}.{}", grant.generation, URL_SAFE_NO_PAD.encode(self.entropy.draw())).into(),
            sid: grant.session.to_string().into(),
            client_id: (&*self.profile.client_id).into(),
            preferred_username: grant.username.as_typed().into(),
        };
        let text = self
            .keys()
            .sign(self.profile.token_type.as_str(), &claims, grant.issued_at)
            .map_err(|error| PortError::Failed(Box::new(error)))?;
        Ok(AccessToken { text: text.into(), lifetime: Duration::from_secs(lifetime) })
    }

    fn verify(&self, token: &str) -> Result<Bearer, InvalidToken> {
        self.read(token, |_, bearer| Ok(bearer))
    }

    fn inspect(&self, token: &str) -> Result<AccessClaims, InvalidToken> {
        let time = |seconds| Timestamp::from_second(seconds).map_err(|_| InvalidToken::Invalid);
        self.read(token, |claims, bearer| {
            Ok(AccessClaims {
                bearer,
                id: claims.jti.into_owned(),
                issuer: claims.iss.into_owned(),
                audience: claims.aud.map(Cow::into_owned),
                client_id: claims.client_id.into_owned(),
                issued_at: time(claims.iat)?,
                expires_at: time(claims.exp)?,
            })
        })
    }

    fn public_keys(&self) -> PublicKeySet {
        self.keys().public_keys()
    }
}

impl TokenType {
    /// As it stands in the header.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AccessToken => "at+jwt",
            Self::Jwt => "JWT",
        }
    }

    /// Media types compare without case, and `application/` may be left out (RFC 7515, section 4.1.9; RFC
    /// 9068, section 4).
    fn is_named_by(self, typ: &str) -> bool {
        match self {
            Self::AccessToken => {
                typ.eq_ignore_ascii_case("at+jwt") || typ.eq_ignore_ascii_case("application/at+jwt")
            }
            Self::Jwt => typ == "JWT",
        }
    }
}

impl fmt::Debug for JwtIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtIssuer").field("profile", &self.profile).finish_non_exhaustive()
    }
}

/// Reads an optional member that is there: `null` is of the wrong type, not absent.
fn present<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests;
