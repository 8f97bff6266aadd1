//! What TLS is spoken with: a certificate and its key, in files that are looked at while the server runs.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use domain::ports::Clock;
use jiff::{SignedDuration, Timestamp};
use parking_lot::RwLock;
use pem_blocks::{KeyForm, KeyKind, PrivateKey};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::version::{TLS12, TLS13};
use rustls::{InconsistentKeys, ServerConfig};
use settings::{Tls, Warning};
use thiserror::Error;
use tokio::signal::unix::Signal;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info, warn};
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{Decode, Reader, SliceReader, Tag, Tagged};
use zeroize::Zeroizing;

use crate::causes;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// How long before its end a certificate is warned of, and how often.
const WARN_BEFORE: SignedDuration = SignedDuration::from_hours(14 * 24);
const WARN_EVERY: SignedDuration = SignedDuration::from_hours(24);

/// No file that is meant is longer; a device that never ends is not read.
const LONGEST: u64 = 1 << 20;

/// id-ecPublicKey (RFC 5480, section 2.1.1).
const ELLIPTIC_CURVE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");

/// Why there is nothing to speak TLS with. The key file is not quoted, and neither is an error that might.
#[derive(Debug, Error)]
pub(crate) enum TlsError {
    #[error("{}, which {key} names, cannot be read{}", path.display(), advice(source))]
    Unreadable { key: &'static str, path: PathBuf, source: io::Error },
    #[error("{}, which {key} names, {fault}", path.display())]
    Pem { key: &'static str, path: PathBuf, fault: pem_blocks::Fault },
    #[error(
        "{}, which AUTH_TLS__KEY_PATH names, is {kind}, which TLS here does not support; `openssl genpkey -algorithm EC \
         -pkeyopt ec_paramgen_curve:P-256 -out NEW` makes a key, for which a certificate has to be made",
        path.display()
    )]
    OtherKind { path: PathBuf, kind: KeyKind },
    #[error(
        "{}, which AUTH_TLS__KEY_PATH names, has a key whose curve is given by parameters instead of its name; `openssl pkey \
         -in FILE -ec_param_enc named_curve -out NEW` writes the name, and its certificate has to be made anew",
        .0.display()
    )]
    ExplicitCurve(PathBuf),
    #[error(
        "{}, which AUTH_TLS__CERT_PATH names, has a certificate whose curve is given by parameters instead of its name; make \
         it anew from a key that names its curve",
        .0.display()
    )]
    ExplicitCurveInCertificate(PathBuf),
    #[error(
        "{}, which AUTH_TLS__KEY_PATH names, has a private key that is damaged, or of an algorithm that TLS here does not \
         know; `openssl pkey -in FILE -noout -text` shows it, and `openssl genpkey -algorithm EC -pkeyopt \
         ec_paramgen_curve:P-256 -out NEW` makes one, for which a certificate has to be made",
        .0.display()
    )]
    UnusableKey(PathBuf),
    #[error(
        "certificate {number} of {}, which AUTH_TLS__CERT_PATH names, is damaged; copy the file again, and see what \
         `openssl storeutl -noout -text -certs FILE` says",
        path.display()
    )]
    UnusableCertificate { path: PathBuf, number: usize },
    #[error(
        "the certificate that AUTH_TLS__CERT_PATH names is of another key than the one that AUTH_TLS__KEY_PATH names; \
         `openssl x509 -in CERT -noout -pubkey` and `openssl pkey -in KEY -pubout` print the same for a pair"
    )]
    Mismatch,
    #[error(
        "the file that AUTH_TLS__CERT_PATH names has the certificate of this key as number {0}; put it first, before those \
         that it is signed with"
    )]
    NotFirst(usize),
    #[error("the certificate that AUTH_TLS__CERT_PATH names has expired, on {0}; renew it")]
    Expired(Timestamp),
    #[error(
        "the certificate that AUTH_TLS__CERT_PATH names is not valid before {0}; check the clock of this machine (`date -u`)"
    )]
    NotYetValid(Timestamp),
    #[error("cannot set up TLS")]
    Protocol(#[from] rustls::Error),
}

/// What to do about a file that cannot be read, as the end of a sentence.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "; correct the path, which starts at the folder where auth-api runs",
        io::ErrorKind::PermissionDenied => {
            "; let the user that auth-api runs as read it, and enter each folder above it (`namei -l FILE` shows them)"
        }
        io::ErrorKind::IsADirectory => "; name a file in it",
        _ => "",
    }
}

/// A certificate with its key, and when it ends.
struct Pair {
    certified: Arc<CertifiedKey>,
    ends: Timestamp,
}

/// The pair in force.
pub(crate) struct InForce {
    source: Tls,
    pair: RwLock<Pair>,
}

impl std::fmt::Debug for InForce {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("InForce").field("source", &self.source).finish_non_exhaustive()
    }
}

impl InForce {
    /// What the files have now.
    pub(crate) fn read(source: &Tls, now: Timestamp) -> Result<Arc<Self>, TlsError> {
        let pair = Pair::read(source, now)?;
        if is_readable_by_others(&source.key_path) {
            warn!("{}", Warning::readable_by_others("the file that AUTH_TLS__KEY_PATH names"));
        }
        info!(ends = %pair.ends, "read the certificate");
        Ok(Arc::new(Self { source: source.clone(), pair: RwLock::new(pair) }))
    }

    /// How clients are spoken to: TLS 1.2 and 1.3 with the suites that the library offers, which all have forward
    /// secrecy and authenticated encryption, and HTTP/1.1 inside. Sessions are resumed as the library does, by what
    /// it keeps in memory, with no ticket key that would have to be changed.
    pub(crate) fn server_config(self: &Arc<Self>) -> Result<Arc<ServerConfig>, TlsError> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// Keeps the pair that of the files, for ever: looks at them once a second, and reads them when they have changed
    /// or `hang_up` asks for it. What cannot be used changes nothing. It is logged once, if it is still so at the next look:
    /// whoever replaces two files has replaced one of them for a moment.
    pub(crate) async fn follow(self: Arc<Self>, clock: Arc<dyn Clock>, mut hang_up: Signal) {
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = None;
        let (mut failed, mut told) = (None, None);
        let mut warned = None;
        loop {
            let is_asked = tokio::select! {
                _ = ticks.tick() => false,
                Some(()) = hang_up.recv() => true,
            };
            let now = clock.now();
            let (this, before) = (self.clone(), seen);
            let looked = tokio::task::spawn_blocking(move || {
                // Before the reading, so that what changes meanwhile shows at the next look.
                let glance = glance(&this.source);
                let is_changed = is_asked || before != Some(glance);
                (glance, is_changed.then(|| this.read_again(now)))
            });
            let Ok((glance, outcome)) = looked.await else { continue };
            // What could not be used may be usable at the next look, with nothing changed that a glance sees.
            seen = (!matches!(outcome, Some(Err(_)))).then_some(glance);
            match outcome {
                None => {}
                Some(Ok(is_another)) => {
                    (failed, told) = (None, None);
                    if is_another || is_asked {
                        info!(ends = %self.ends(), asked = is_asked, "read the certificate");
                    }
                }
                Some(Err(failure)) => {
                    let cause = Some(causes::chain(&failure));
                    if is_asked || failed == cause && told != cause {
                        error!(cause, "the certificate stays as it was");
                        told.clone_from(&cause);
                    }
                    failed = cause;
                }
            }
            self.warn_of_end(now, &mut warned);
        }
    }

    /// Tells whether the pair is another one now.
    fn read_again(&self, now: Timestamp) -> Result<bool, TlsError> {
        let pair = Pair::read(&self.source, now)?;
        let mut in_force = self.pair.write();
        let is_another = in_force.certified.cert != pair.certified.cert;
        *in_force = pair;
        Ok(is_another)
    }

    /// When the certificate in force ends.
    pub(crate) fn ends(&self) -> Timestamp {
        self.pair.read().ends
    }

    fn warn_of_end(&self, now: Timestamp, warned: &mut Option<Timestamp>) {
        let ends = self.ends();
        let is_near = ends.duration_since(now) < WARN_BEFORE;
        if is_near && warned.is_none_or(|warned| now.duration_since(warned).abs() >= WARN_EVERY) {
            warn!(%ends, "the certificate that AUTH_TLS__CERT_PATH names ends soon");
            *warned = Some(now);
        }
        if !is_near {
            *warned = None;
        }
    }
}

impl ResolvesServerCert for InForce {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.pair.read().certified.clone())
    }
}

impl Pair {
    fn read(source: &Tls, now: Timestamp) -> Result<Self, TlsError> {
        let (chain, validities) = certificates(&source.cert_path)?;
        let key = signing_key(&source.key_path)?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Ok(()) => {}
            Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                return Err(mismatch(source, certified));
            }
            Err(_) => return Err(unusable_certificate(&source.cert_path, 1)),
        }
        let (begins, ends) = *validities.first().ok_or_else(|| unusable_certificate(&source.cert_path, 1))?;
        if now >= ends {
            return Err(TlsError::Expired(ends));
        }
        if now < begins {
            return Err(TlsError::NotYetValid(begins));
        }
        Ok(Self { certified: Arc::new(certified), ends })
    }
}

/// What a start would find wrong: each file by itself, then the pair.
pub(crate) fn faults(source: &Tls, now: Timestamp) -> Vec<TlsError> {
    let of_files = [certificates(&source.cert_path).err(), signing_key(&source.key_path).err()];
    let of_files: Vec<TlsError> = of_files.into_iter().flatten().collect();
    if of_files.is_empty() { Vec::from_iter(check(source, now).err()) } else { of_files }
}

/// Tells whether a start would find a pair that it can use.
pub(crate) fn check(source: &Tls, now: Timestamp) -> Result<(), TlsError> {
    Pair::read(source, now).map(drop)
}

/// Whether the key is that of another certificate of the chain.
fn mismatch(source: &Tls, CertifiedKey { cert: chain, key, .. }: CertifiedKey) -> TlsError {
    if chain.first().is_some_and(has_explicit_curve) {
        return TlsError::ExplicitCurveInCertificate(source.cert_path.clone());
    }
    let is_of_key = |certificate: &CertificateDer<'static>| {
        CertifiedKey::new(vec![certificate.clone()], key.clone()).keys_match().is_ok()
    };
    chain.iter().position(is_of_key).map_or(TlsError::Mismatch, |index| TlsError::NotFirst(index + 1))
}

type Validity = (Timestamp, Timestamp);

/// The certificates of a file, the server's own first, and when each is valid. Those that clients check too are looked at, so
/// that a damaged one is not served.
fn certificates(path: &Path) -> Result<(Vec<CertificateDer<'static>>, Vec<Validity>), TlsError> {
    let key = "AUTH_TLS__CERT_PATH";
    let text = contents(key, path)?;
    let read = pem_blocks::certificates(&text);
    let chain = read.map_err(|fault| TlsError::Pem { key, path: path.to_owned(), fault })?;
    let chain: Vec<_> = chain.into_iter().map(CertificateDer::from).collect();
    let validities = (1..)
        .zip(&chain)
        .map(|(number, certificate)| validity(certificate).ok_or_else(|| unusable_certificate(path, number)));
    let validities = validities.collect::<Result<_, _>>()?;
    Ok((chain, validities))
}

fn unusable_certificate(path: &Path, number: usize) -> TlsError {
    TlsError::UnusableCertificate { path: path.to_owned(), number }
}

fn signing_key(path: &Path) -> Result<Arc<dyn SigningKey>, TlsError> {
    let key = "AUTH_TLS__KEY_PATH";
    let text = contents(key, path)?;
    let read = pem_blocks::private_key(&text);
    let read = read.map_err(|fault| TlsError::Pem { key, path: path.to_owned(), fault })?;
    let kind = read.kind();
    if kind == Some(KeyKind::ExplicitCurve) {
        return Err(TlsError::ExplicitCurve(path.to_owned()));
    }
    let PrivateKey { form, der } = read;
    // The library wipes what it is given.
    let der = der.to_vec();
    let der = match form {
        KeyForm::Pkcs8 => PrivateKeyDer::Pkcs8(der.into()),
        KeyForm::Pkcs1 => PrivateKeyDer::Pkcs1(der.into()),
        KeyForm::Sec1 => PrivateKeyDer::Sec1(der.into()),
    };
    provider().key_provider.load_private_key(der).map_err(|_| match kind {
        // Such a key is supported, so this one is damaged.
        None | Some(KeyKind::Rsa(2048..=8192) | KeyKind::Named("P-256" | "P-384" | "P-521" | "Ed25519")) => {
            TlsError::UnusableKey(path.to_owned())
        }
        Some(kind) => TlsError::OtherKind { path: path.to_owned(), kind },
    })
}

/// The cryptography that signs tokens too.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn contents(key: &'static str, path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let read = || {
        let metadata = fs::metadata(path)?;
        if metadata.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if !metadata.is_file() || metadata.len() > LONGEST {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is not a file of a megabyte at the most",
            ));
        }
        fs::read(path).map(Zeroizing::new)
    };
    read().map_err(|source| TlsError::Unreadable { key, path: path.to_owned(), source })
}

fn decoded(certificate: &CertificateDer<'_>) -> Option<x509_cert::Certificate> {
    let mut reader = SliceReader::new(certificate).ok()?;
    let certificate = x509_cert::Certificate::decode(&mut reader).ok()?;
    reader.finish(()).ok()?;
    Some(certificate)
}

/// Whether the algorithm of its key has parameters in the form of a sequence, as only curves without a name have
/// (RFC 5480, section 2.1.1).
fn has_explicit_curve(certificate: &CertificateDer<'static>) -> bool {
    let algorithm = decoded(certificate).map(|it| it.tbs_certificate.subject_public_key_info.algorithm);
    let parameters = algorithm.filter(|it| it.oid == ELLIPTIC_CURVE).and_then(|it| it.parameters);
    parameters.is_some_and(|parameters| parameters.tag() == Tag::Sequence)
}

/// From when to when a certificate is valid.
fn validity(certificate: &CertificateDer<'_>) -> Option<Validity> {
    let certificate = decoded(certificate)?;
    let validity = certificate.tbs_certificate.validity;
    let instant = |time: x509_cert::time::Time| {
        Timestamp::from_second(i64::try_from(time.to_unix_duration().as_secs()).ok()?).ok()
    };
    Some((instant(validity.not_before)?, instant(validity.not_after)?))
}

/// What shows that a file is another one: where it is, how long, and when it was written.
type Glance = Option<(u64, u64, u64, i64, i64)>;

fn glance(source: &Tls) -> [Glance; 2] {
    [&source.cert_path, &source.key_path].map(|path| {
        let seen = fs::metadata(path).ok()?;
        Some((seen.dev(), seen.ino(), seen.len(), seen.mtime(), seen.mtime_nsec()))
    })
}

fn is_readable_by_others(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o066 != 0)
}
