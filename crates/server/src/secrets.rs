//! The secret that signs tokens: the one that was given, or in development one that was made here once.

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use domain::ports::Entropy;
use thiserror::Error;
use tracing::{info, warn};
use zeroize::Zeroizing;

use crate::config::{Config, Environment, Secret, Warning, WeakSecret};
use crate::line_end;

/// Where development keeps the secret it made.
pub const DEVELOPMENT_SECRET: &str = "data/token-secret";

/// Why there is nothing to sign with.
#[derive(Debug, Error)]
pub enum SecretError {
    /// Production has to be given one.
    #[error(
        "AUTH_TOKEN__SECRET is not set, and production makes none; make one with `openssl rand -base64 48`, put it \
         into a file of mode 600 and name that in AUTH_TOKEN__SECRET_FILE"
    )]
    Missing,
    /// Development made one, and cannot keep it, or not read it again.
    #[error("cannot keep a development secret in {}; set AUTH_TOKEN__SECRET instead", path.display())]
    Kept {
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

/// The secret to sign with; in development it is made now if there is none yet.
pub fn signing_secret(config: &Config, entropy: &dyn Entropy) -> Result<Secret, SecretError> {
    match (&config.token.secret, config.environment) {
        (Some(secret), _) => Ok(secret.clone()),
        (None, Environment::Production) => Err(SecretError::Missing),
        (None, Environment::Development) => development_secret(Path::new(DEVELOPMENT_SECRET), entropy),
    }
}

/// Tells whether `signing_secret` would find one, and makes none.
pub fn check(config: &Config) -> Result<(), SecretError> {
    match (&config.token.secret, config.environment) {
        (Some(_), _) => Ok(()),
        (None, Environment::Production) => Err(SecretError::Missing),
        (None, Environment::Development) => kept(Path::new(DEVELOPMENT_SECRET)).map(|_| ()),
    }
}

fn development_secret(path: &Path, entropy: &dyn Entropy) -> Result<Secret, SecretError> {
    if let Some(secret) = kept(path)? {
        return Ok(secret);
    }
    let made = Zeroizing::new(hex([entropy.draw(), entropy.draw()].as_flattened()));
    let fail = |source| SecretError::Kept { path: path.to_path_buf(), source };
    if keep(path, &made, entropy).map_err(fail)? {
        info!(file = %path.display(), "made a secret for development");
    }
    // Read back whoever's came first.
    kept(path)?.ok_or_else(|| fail(io::ErrorKind::NotFound.into()))
}

fn kept(path: &Path) -> Result<Option<Secret>, SecretError> {
    let fail = |source| SecretError::Kept { path: path.to_path_buf(), source };
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(error)),
    };
    if file.metadata().map_err(fail)?.permissions().mode() & 0o066 != 0 {
        warn!("{}", Warning::readable_by_others(&path.display().to_string()));
    }
    let mut text = Zeroizing::new(String::with_capacity(4096));
    Read::take(&mut file, 4096).read_to_string(&mut text).map_err(fail)?;
    line_end::cut(&mut text);
    let secret = Secret::parse(text);
    secret.map(Some).map_err(|source| SecretError::Unusable { path: path.to_path_buf(), source })
}

/// Puts `text` at `path` unless something is there, whole or not at all; tells whether it did.
///
/// A link to a finished file and not a rename, which would take the place of what another process put there
/// and already signs with.
fn keep(path: &Path, text: &str, entropy: &dyn Entropy) -> io::Result<bool> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let unfinished = folder.join(format!(".token-secret.{}", hex(&entropy.draw())));
    let linked = write_durably(&unfinished, text).and_then(|()| fs::hard_link(&unfinished, path));
    // Whatever happened, nobody needs this name any more; if it stays, it is a copy that only its owner reads.
    _ = fs::remove_file(&unfinished);
    match linked {
        Ok(()) => File::open(folder)?.sync_all().map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

fn write_durably(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut hex, byte| {
        _ = write!(hex, "{byte:02x}");
        hex
    })
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

        let first = development_secret(&path, &SystemEntropy).unwrap();
        let again = development_secret(&path, &SystemEntropy).unwrap();

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
                        development_secret(&path, &SystemEntropy).unwrap().expose().to_vec()
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

        assert!(matches!(development_secret(&path, &SystemEntropy), Err(SecretError::Unusable { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "short\n");
    }
}
