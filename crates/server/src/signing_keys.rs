//! What signs tokens: the secret, keys that were given, or those of a folder, which is looked at while the server runs.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use domain::ports::Clock;
use settings::{Algorithm, Config, Environment, Secret, Token};
use thiserror::Error;
use token_jwt::{GivenKeys, JwtIssuer, KeyFolder, KeyFolderError, KeyRing};
use tokio::signal::unix::Signal;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info, warn};

use crate::causes;

/// How often the folder is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Why there is nothing to sign with.
#[derive(Debug, Error)]
pub(crate) enum KeysError {
    /// Production has to be given one.
    #[error(
        "AUTH_TOKEN__KEYS_DIR has no key to sign with, and production makes none; make one with `auth-api keys \
         generate`"
    )]
    Missing(#[source] KeyFolderError),
    #[error("AUTH_TOKEN__KEYS_DIR cannot be used")]
    Folder(#[from] KeyFolderError),
    #[error("cannot sign tokens")]
    Secret(#[from] token_jwt::WeakSecret),
}

/// Where a configuration has its keys.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// There is a secret.
    Secret,
    /// In the configuration itself, and so they change with it.
    Given(GivenKeys),
    /// In files.
    Folder(KeyFolder),
}

impl Source {
    pub(crate) fn of(token: &Token) -> Self {
        match (token.algorithm, &token.given_keys) {
            (Algorithm::Hs256, _) => Self::Secret,
            (Algorithm::KeyPair(_), Some(given)) => Self::Given(given.clone()),
            (Algorithm::KeyPair(algorithm), None) => {
                let (path, token_lifetime) = (token.keys_dir.clone(), token.access_ttl);
                Self::Folder(KeyFolder { path, algorithm, token_lifetime })
            }
        }
    }
}

/// The keys to start with; in development a first one is made now if there is none yet.
pub(crate) fn ring(
    config: &Config,
    secret: Option<&Secret>,
    clock: &dyn Clock,
) -> Result<KeyRing, KeysError> {
    let folder = match Source::of(&config.token) {
        Source::Secret => return Ok(KeyRing::hs256(secret.map(Secret::expose).unwrap_or_default())?),
        Source::Given(keys) => {
            if has_key_files(&config.token.keys_dir) {
                warn!(
                    folder = %config.token.keys_dir.display(),
                    "the key files are not used, because AUTH_TOKEN__PRIVATE_KEY is set"
                );
            }
            return Ok(KeyRing::of_given(keys));
        }
        Source::Folder(folder) => folder,
    };
    match (folder.ring(), config.environment) {
        (Err(error @ KeyFolderError::NoSigningKey { .. }), Environment::Production) => {
            Err(KeysError::Missing(error))
        }
        (Err(KeyFolderError::NoSigningKey { .. }), Environment::Development) => {
            if let Some(id) = folder.generate_if_none(clock.now())? {
                info!(key = id, folder = %folder.path.display(), "made a key for development");
            }
            Ok(folder.ring()?)
        }
        (ring, _) => Ok(ring?),
    }
}

/// Tells whether [`ring`] would find something to sign with, and makes nothing.
pub(crate) fn check(token: &Token, environment: Environment) -> Result<(), KeysError> {
    // Given keys were looked at with the rest of the configuration.
    let Source::Folder(folder) = Source::of(token) else { return Ok(()) };
    match (folder.ring(), environment) {
        (Err(error @ KeyFolderError::NoSigningKey { .. }), Environment::Production) => {
            Err(KeysError::Missing(error))
        }
        (Err(KeyFolderError::NoSigningKey { .. }), Environment::Development) | (Ok(_), _) => Ok(()),
        (Err(error), _) => Err(error.into()),
    }
}

/// Whether somebody may think that these sign.
fn has_key_files(folder: &Path) -> bool {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.path().extension().is_some_and(|extension| extension == "pem"))
}

/// Keeps an issuer's keys those of the folder, for ever: looks at it once a second, and reads it when it has changed
/// or `hang_up` asks for it. What cannot be used changes nothing and is logged once.
pub(crate) async fn follow(source: Source, issuer: Arc<JwtIssuer>, mut hang_up: Signal) {
    // What is no file changes with the settings, if at all.
    let Source::Folder(folder) = source else { return };
    let mut clock = interval(LOOK);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Nothing, so that the first look reads what may have changed since the start.
    let mut seen = None;
    let mut told = None;
    let mut signing = issuer.signing_key_id();
    loop {
        let is_asked = tokio::select! {
            _ = clock.tick() => false,
            Some(()) = hang_up.recv() => true,
        };
        let task = (folder.clone(), issuer.clone(), seen.clone());
        let looked = tokio::task::spawn_blocking(move || {
            let (folder, issuer, seen) = task;
            // Before the reading, so that what changes meanwhile shows at the next look.
            let glance = folder.glance();
            if !is_asked && seen.as_ref() == Some(&glance) {
                return (seen, None);
            }
            match read_again(&folder, &issuer, is_asked) {
                Ok(()) => (Some(glance), None),
                // What could not be read now may be read at the next look, with nothing changed in the folder.
                Err(failure) => ((!failure.may_pass()).then_some(glance), Some(failure)),
            }
        });
        let (now_seen, failure) = looked.await.unwrap_or((None, None));
        if let Some(failure) = &failure {
            keys_stay(failure, &mut told);
        } else if now_seen != seen {
            told = None;
        }
        seen = now_seen;
        let now_signing = issuer.signing_key_id();
        if now_signing != signing {
            info!(key = now_signing, "signing with another key");
            signing = now_signing;
        }
    }
}

/// Why the keys stay as they are.
#[derive(Debug, Error)]
enum KeysStay {
    #[error(transparent)]
    Folder(#[from] KeyFolderError),
    #[error(transparent)]
    SelfTest(#[from] token_jwt::SelfTestError),
}

impl KeysStay {
    /// Whether it may be gone with nothing changed in the folder.
    fn may_pass(&self) -> bool {
        matches!(self, Self::Folder(KeyFolderError::Folder(..) | KeyFolderError::Unreadable(..)))
    }
}

/// The error names the file that is no good.
fn read_again(folder: &KeyFolder, issuer: &JwtIssuer, is_asked: bool) -> Result<(), KeysStay> {
    let ring = folder.ring()?;
    let keys = ring.key_ids().collect::<Vec<_>>().join(" ");
    issuer.replace_keys(ring)?;
    info!(keys, asked = is_asked, "read the signing keys");
    Ok(())
}

/// Says so, unless it was the last thing that was said.
fn keys_stay(failure: &KeysStay, told: &mut Option<String>) {
    let cause = causes::chain(failure);
    if told.as_ref() != Some(&cause) {
        error!(cause, "the signing keys stay as they were");
        *told = Some(cause);
    }
}
