//! What signs tokens, what refresh tokens are made with and what seals the audit log: what was given, or in development
//! what was made here once.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use domain::AuditKey;
use domain::ports::Entropy;
use settings::line_end;
use settings::{Algorithm, Config, Environment, Secret, Warning, WeakSecret};
use store_sqlite::private_files;
use thiserror::Error;
use tracing::{info, warn};
use zeroize::Zeroizing;

/// All of them.
pub(crate) struct Secrets {
    /// What signs access tokens, if that is a secret and no private key.
    pub(crate) signing: Option<Secret>,
    /// What refresh tokens are made with.
    pub(crate) refresh: Secret,
    /// What the audit log is sealed with.
    pub(crate) audit: Secret,
}

/// One of them: the key that sets it, and where development keeps the one it made.
struct Place {
    key: &'static str,
    file: &'static str,
}

const SIGNING: Place = Place { key: "AUTH_TOKEN__SECRET", file: "data/token-secret" };

const REFRESH: Place = Place { key: "AUTH_SESSION__REFRESH_KEY", file: "data/refresh-key" };

/// Why a secret is not there, or cannot be used.
#[derive(Debug, Error)]
pub enum SecretError {
    /// Production has to be given one.
    #[error("{key} {}", settings::no_secret(key))]
    Missing {
        /// The setting.
        key: &'static str,
    },
    /// One secret for two purposes, so that whoever is given one has both.
    #[error("{key} is the secret that signs tokens; make another one with `openssl rand -base64 48`")]
    Shared {
        /// The setting.
        key: &'static str,
    },
    /// Development made one, and cannot keep it, or not read it again.
    #[error("cannot keep a development secret in {}; set {key} instead", path.display())]
    Kept {
        /// The setting.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// What development kept is no secret any more.
    #[error("the development secret in {} cannot be used; delete the file to have another one made", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: WeakSecret,
    },
}

impl Secrets {
    /// Those of this configuration; in development they are made now if there are none yet.
    pub(crate) fn take(config: &Config, entropy: &dyn Entropy) -> Result<Self, SecretError> {
        if let Some(fault) = faults(config).into_iter().next() {
            return Err(fault);
        }
        let take = |given: &Option<Secret>, place: &Place| match given {
            Some(secret) => Ok(secret.clone()),
            None => place.made(Path::new(place.file), entropy).inspect(|_| place.warn_if_open()),
        };
        let signs = config.token.algorithm == Algorithm::Hs256;
        let signing = signs.then(|| take(&config.token.secret, &SIGNING)).transpose()?;
        let refresh = take(&config.session.refresh_key, &REFRESH)?;
        let audit = config.audit.key.clone().unwrap_or_else(|| refresh.clone());
        Ok(Self { signing, refresh, audit })
    }
}

/// The key that events are sealed with: the one that was given, or else the key of refresh tokens.
pub(crate) struct AuditSecret {
    secret: Secret,
}

impl AuditSecret {
    /// In development it is made now if there is none yet.
    pub(crate) fn take(config: &Config, entropy: &dyn Entropy) -> Result<Self, SecretError> {
        Self::refuse_shared(config)?;
        let given = config.audit.key.as_ref().or(config.session.refresh_key.as_ref());
        let secret = match (given, config.environment) {
            (Some(secret), _) => secret.clone(),
            (None, Environment::Production) => return Err(SecretError::Missing { key: REFRESH.key }),
            (None, Environment::Development) => {
                REFRESH.made(Path::new(REFRESH.file), entropy).inspect(|_| REFRESH.warn_if_open())?
            }
        };
        Ok(Self { secret })
    }

    /// The one that there is, if there is one. None is made.
    pub(crate) fn find(config: &Config) -> Result<Option<Self>, SecretError> {
        Self::refuse_shared(config)?;
        let given = config.audit.key.as_ref().or(config.session.refresh_key.as_ref());
        let secret = match (given, config.environment) {
            (Some(secret), _) => Some(secret.clone()),
            (None, Environment::Production) => None,
            (None, Environment::Development) => REFRESH.kept(Path::new(REFRESH.file))?,
        };
        Ok(secret.map(|secret| Self { secret }))
    }

    pub(crate) fn key(&self) -> AuditKey {
        AuditKey::new(self.secret.expose())
    }

    fn refuse_shared(config: &Config) -> Result<(), SecretError> {
        let is_shared = |fault: &SecretError| matches!(fault, SecretError::Shared { .. });
        faults(config).into_iter().find(is_shared).map_or(Ok(()), Err)
    }
}

/// All that is wrong with the secrets: none is made for it.
pub fn faults(config: &Config) -> Vec<SecretError> {
    let mut faults = Vec::new();
    let mut find = |given: &Option<Secret>, place: &Place, is_used: bool| {
        let found = match (given, config.environment) {
            (Some(secret), _) => Ok(Some(secret.clone())),
            (None, _) if !is_used => Ok(None),
            (None, Environment::Production) => Err(SecretError::Missing { key: place.key }),
            (None, Environment::Development) => place.kept(Path::new(place.file)),
        };
        found.map_err(|fault| faults.push(fault)).ok().flatten()
    };
    let signing = find(&config.token.secret, &SIGNING, config.token.algorithm == Algorithm::Hs256);
    let refresh = find(&config.session.refresh_key, &REFRESH, true);
    let previous = config.session.previous_refresh_key.clone();
    let others = [
        (REFRESH.key, refresh),
        ("AUTH_SESSION__REFRESH_KEY_PREVIOUS", previous),
        ("AUTH_AUDIT__KEY", config.audit.key.clone()),
    ];
    for (key, other) in others {
        let is_shared =
            matches!((&signing, &other), (Some(one), Some(other)) if one.expose() == other.expose());
        if is_shared {
            faults.push(SecretError::Shared { key });
        }
    }
    faults
}

/// Warns of secrets that development keeps and others can read.
pub fn warn_of_open_files(config: &Config) {
    for (given, place) in [(&config.token.secret, &SIGNING), (&config.session.refresh_key, &REFRESH)] {
        if given.is_none() {
            place.warn_if_open();
        }
    }
}

impl Place {
    fn warn_if_open(&self) {
        let is_open = |metadata: fs::Metadata| metadata.permissions().mode() & 0o066 != 0;
        if fs::metadata(self.file).is_ok_and(is_open) {
            warn!("{}", Warning::readable_by_others(self.file));
        }
    }

    /// What is kept at `path`; it is made now if there is nothing yet.
    fn made(&self, path: &Path, entropy: &dyn Entropy) -> Result<Secret, SecretError> {
        if let Some(secret) = self.kept(path)? {
            return Ok(secret);
        }
        let made = Zeroizing::new(HEXLOWER.encode([entropy.draw(), entropy.draw()].as_flattened()));
        let fail = |source| SecretError::Kept { key: self.key, path: path.to_path_buf(), source };
        if keep(path, &made, entropy).map_err(fail)? {
            info!(file = %path.display(), "made a secret for development");
        }
        // Read back whoever's came first.
        self.kept(path)?.ok_or_else(|| fail(io::ErrorKind::NotFound.into()))
    }

    fn kept(&self, path: &Path) -> Result<Option<Secret>, SecretError> {
        let fail = |source| SecretError::Kept { key: self.key, path: path.to_path_buf(), source };
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fail(error)),
        };
        let mut text = Zeroizing::new(String::with_capacity(4096));
        Read::take(&mut file, 4096).read_to_string(&mut text).map_err(fail)?;
        line_end::cut(&mut text);
        let secret = Secret::parse(text);
        secret.map(Some).map_err(|source| SecretError::Unusable { path: path.to_path_buf(), source })
    }
}

/// Puts `text` at `path` unless something is there, whole or not at all; tells whether it did.
///
/// A link to a finished file and not a rename, which would take the place of what another process put there
/// and already signs with.
fn keep(path: &Path, text: &str, entropy: &dyn Entropy) -> io::Result<bool> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    private_files::create_folder(folder)?;
    let unfinished = folder.join(format!(".secret.{}", HEXLOWER.encode(&entropy.draw())));
    let linked = write_durably(folder, &unfinished, text).and_then(|()| fs::hard_link(&unfinished, path));
    // Whatever happened, nobody needs this name any more; if it stays, it is a copy that only its owner reads.
    _ = fs::remove_file(&unfinished);
    match linked {
        Ok(()) => File::open(folder)?.sync_all().map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

fn write_durably(folder: &Path, path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    private_files::give_to_owner_of(folder, &file)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;
    use crate::system::SystemEntropy;

    #[test]
    fn a_secret_is_made_once_and_only_its_owner_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data/token-secret");

        let first = SIGNING.made(&path, &SystemEntropy).unwrap();
        let again = SIGNING.made(&path, &SystemEntropy).unwrap();

        assert_eq!(first.expose(), again.expose());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing else is left behind");
    }

    #[test]
    fn of_many_who_make_one_at_once_all_use_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token-secret");
        let start = Barrier::new(8);

        let secrets: Vec<Vec<u8>> = std::thread::scope(|scope| {
            let makers: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        SIGNING.made(&path, &SystemEntropy).unwrap().expose().to_vec()
                    })
                })
                .collect();
            makers.into_iter().map(|maker| maker.join().unwrap()).collect()
        });

        assert!(secrets.iter().all(|secret| *secret == secrets[0]));
    }

    #[test]
    fn what_is_kept_and_no_secret_is_not_replaced_behind_anybodys_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token-secret");
        fs::write(&path, "short\n").unwrap();

        assert!(matches!(SIGNING.made(&path, &SystemEntropy), Err(SecretError::Unusable { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "short\n");
    }
}
