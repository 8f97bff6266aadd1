//! What access tokens say, and what signs them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use token_jwt::{GivenKeys, KeyPair, KeyPairAlgorithm, TokenType};

use super::keys::{DefaultValue, Key, Setting};
use super::reading::Reading;
use super::{Environment, Http, Secret, Warning, local_url, readers};

/// What tokens say, and what signs them.
#[derive(Clone, Debug)]
pub struct Token {
    /// What signs them.
    pub algorithm: Algorithm,
    /// Where key files are.
    pub keys_dir: PathBuf,
    /// What signs and verifies in place of the key files, if it was given.
    pub given_keys: Option<GivenKeys>,
    /// The `typ`.
    pub token_type: TokenType,
    /// What signs them with HS256, if it was given.
    pub secret: Option<Secret>,
    /// The `iss`.
    pub issuer: String,
    /// Whether that follows from the listener.
    pub(crate) is_issuer_derived: bool,
    /// The `aud`, if there is one.
    pub audience: Option<String>,
    /// How long they hold.
    pub access_ttl: Duration,
    /// The `client_id`.
    pub client_id: String,
}

/// What tokens are signed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// The secret, by which whoever verifies can sign too.
    Hs256,
    /// A key pair, whose public half anybody may have.
    KeyPair(KeyPairAlgorithm),
}

pub(crate) fn is_https(url: &str) -> bool {
    url.starts_with("https://")
}

pub(crate) static TOKEN_ALGORITHM: Setting<Algorithm> = Setting {
    key: Key::text(
        "AUTH_TOKEN__ALGORITHM",
        DefaultValue::Text("HS256"),
        "what tokens are signed with: HS256, by AUTH_TOKEN__SECRET, or EdDSA, ES256 or RS256, by a private key",
    ),
    read: readers::algorithm,
};

pub(crate) static TOKEN_KEYS_DIR: Setting<PathBuf> = Setting {
    key: Key::text(
        "AUTH_TOKEN__KEYS_DIR",
        DefaultValue::Text("data/keys"),
        "the folder of the key files of EdDSA, ES256 and RS256",
    ),
    read: readers::folder,
};

pub(crate) static TOKEN_PRIVATE_KEY: Setting<Arc<KeyPair>> = Setting {
    key: Key::secret(
        "AUTH_TOKEN__PRIVATE_KEY",
        DefaultValue::Unset,
        "the private key that signs tokens, in PEM, instead of the folder",
    )
    .live()
    .trimmed(),
    read: readers::private_key,
};

pub(crate) static TOKEN_PRIVATE_KEY_FILE: Key = Key::text(
    "AUTH_TOKEN__PRIVATE_KEY_FILE",
    DefaultValue::Unset,
    "a file to read AUTH_TOKEN__PRIVATE_KEY from",
);

pub(crate) static TOKEN_PRIVATE_KEY_PREVIOUS: Setting<Arc<KeyPair>> = Setting {
    key: Key::secret(
        "AUTH_TOKEN__PRIVATE_KEY_PREVIOUS",
        DefaultValue::Unset,
        "what AUTH_TOKEN__PRIVATE_KEY was before, or will be: it is published and verifies",
    )
    .live()
    .trimmed(),
    read: readers::private_key,
};

pub(crate) static TOKEN_PRIVATE_KEY_PREVIOUS_FILE: Key = Key::text(
    "AUTH_TOKEN__PRIVATE_KEY_PREVIOUS_FILE",
    DefaultValue::Unset,
    "a file to read AUTH_TOKEN__PRIVATE_KEY_PREVIOUS from",
);

pub(crate) static TOKEN_TYPE: Setting<TokenType> = Setting {
    key: Key::text(
        "AUTH_TOKEN__TYPE",
        DefaultValue::Text("at+jwt"),
        "the typ of access tokens: at+jwt or JWT",
    ),
    read: readers::token_type,
};

pub(crate) static TOKEN_SECRET: Setting<Secret> = Setting {
    key: Key::secret(
        "AUTH_TOKEN__SECRET",
        DefaultValue::Depends("in development made once and kept in data/token-secret; in production none"),
        "what signs tokens with HS256; 32 bytes or more",
    ),
    read: readers::secret,
};

pub(crate) static TOKEN_SECRET_FILE: Key =
    Key::text("AUTH_TOKEN__SECRET_FILE", DefaultValue::Unset, "a file to read AUTH_TOKEN__SECRET from");

pub(crate) static TOKEN_ISSUER: Setting<String> = Setting {
    key: Key::text(
        "AUTH_TOKEN__ISSUER",
        DefaultValue::Depends(
            "in development http://localhost and the port of AUTH_HTTP__ADDR, https where AUTH_TLS__CERT_PATH is set; in \
             production http://localhost:8000, with a warning",
        ),
        "the URL clients know this server by; the iss of its tokens",
    ),
    read: readers::issuer,
};

pub(crate) static TOKEN_AUDIENCE: Setting<Option<String>> = Setting {
    key: Key::text(
        "AUTH_TOKEN__AUDIENCE",
        DefaultValue::Text("auth-api"),
        "the aud of tokens; empty, with AUTH_TOKEN__TYPE=JWT only, leaves it out",
    )
    .or_empty(),
    read: readers::audience,
};

pub(crate) static TOKEN_ACCESS_TTL: Setting<Duration> = Setting {
    key: Key::text(
        "AUTH_TOKEN__ACCESS_TTL",
        DefaultValue::Text("15m"),
        "how long an access token holds, less up to 5 % at random",
    ),
    read: readers::access_ttl,
};

pub(crate) static TOKEN_CLIENT_ID: Setting<String> = Setting {
    key: Key::text("AUTH_TOKEN__CLIENT_ID", DefaultValue::Text("auth-api"), "the client_id of tokens"),
    read: readers::client_id,
};

impl Reading {
    pub(crate) fn warn_of_issuer(
        &mut self,
        environment: Option<Environment>,
        http: Option<&Http>,
        token: Option<&Token>,
    ) {
        let is_meant_for_tls =
            environment == Some(Environment::Production) || http.is_some_and(|http| http.tls.is_some());
        if is_meant_for_tls && token.is_some_and(|token| !is_https(&token.issuer)) {
            self.sources.warnings.push(Warning(format!(
                "{} is no https URL, so tokens and problems name another address than clients do, and browsers that keep \
                 the refresh token in a cookie cannot refresh; set it to the URL that clients know",
                TOKEN_ISSUER.key.name
            )));
        }
    }

    pub(crate) fn token(&mut self, environment: Option<Environment>, http: Option<&Http>) -> Option<Token> {
        let algorithm = self.read(&TOKEN_ALGORITHM);
        let keys_dir = self.read(&TOKEN_KEYS_DIR);
        let given_keys = self.given_keys(algorithm);
        let token_type = self.read(&TOKEN_TYPE);
        let secret = self.read(&TOKEN_SECRET);
        let is_issuer_derived =
            environment != Some(Environment::Production) && !self.is_set(&TOKEN_ISSUER.key);
        let default = match http {
            Some(http) if is_issuer_derived => local_url::of(http.address, http.tls.is_some()),
            _ => local_url::IN_PRODUCTION.to_owned(),
        };
        let issuer = self.read_or(&TOKEN_ISSUER, &default);
        let audience = self.read(&TOKEN_AUDIENCE);
        let access_ttl = self.read(&TOKEN_ACCESS_TTL);
        let client_id = self.read(&TOKEN_CLIENT_ID);
        let (token_type, audience) = (token_type?, audience?);
        if audience.is_none() && token_type == TokenType::AccessToken {
            self.refuse(
                &TOKEN_AUDIENCE.key,
                "is empty, which an at+jwt cannot be (RFC 9068); name an audience or set AUTH_TOKEN__TYPE=JWT",
            );
        }
        Some(Token {
            algorithm: algorithm?,
            keys_dir: keys_dir?,
            given_keys,
            token_type,
            secret,
            issuer: issuer?,
            is_issuer_derived,
            audience,
            access_ttl: access_ttl?,
            client_id: client_id?,
        })
    }

    pub(crate) fn given_keys(&mut self, algorithm: Option<Algorithm>) -> Option<GivenKeys> {
        let signing = self.read(&TOKEN_PRIVATE_KEY);
        let verifying = self.read(&TOKEN_PRIVATE_KEY_PREVIOUS);
        let key = &TOKEN_PRIVATE_KEY.key;
        let Some(signing) = signing else {
            // If it was given and is no good, that is said already.
            if verifying.is_some() && !self.sources.texts.contains_key(key.name) {
                self.refuse(
                    &TOKEN_PRIVATE_KEY_PREVIOUS.key,
                    "only verifies, and AUTH_TOKEN__PRIVATE_KEY, which signs, is not set",
                );
            }
            return None;
        };
        match algorithm? {
            Algorithm::Hs256 => self.refuse(
                key,
                "signs nothing where AUTH_TOKEN__ALGORITHM is HS256; set that to EdDSA, ES256 or RS256, or take this \
                 away",
            ),
            Algorithm::KeyPair(algorithm) if algorithm != signing.algorithm() => {
                let (is, must_be) = (signing.algorithm().as_str(), algorithm.as_str());
                self.refuse(key, &format!("is a key of {is}, and AUTH_TOKEN__ALGORITHM is {must_be}"));
            }
            Algorithm::KeyPair(_) => {}
        }
        if verifying.as_ref().is_some_and(|verifying| verifying.id() == signing.id()) {
            self.refuse(&TOKEN_PRIVATE_KEY_PREVIOUS.key, "is the same key as AUTH_TOKEN__PRIVATE_KEY");
        }
        Some(GivenKeys { signing, verifying })
    }
}
