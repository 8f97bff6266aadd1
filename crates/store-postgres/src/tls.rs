//! TLS as `sslmode` asks for it.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::database_url::{Roots, Tls, Trust};
use crate::error::OpenProblem;

/// What makes TLS of a connection.
pub(crate) fn connector(tls: &Tls) -> Result<MakeRustlsConnect, OpenProblem> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| OpenProblem::RootCertificates(error.into()))?;
    let config = match tls {
        // It takes one to connect without, too.
        Tls::Disabled | Tls::Preferred(Trust::Anybody) | Tls::Required(Trust::Anybody) => {
            let verifier = WhoeverSigns { roots: None, provider };
            config.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        }
        Tls::Preferred(Trust::Certified(roots)) | Tls::Required(Trust::Certified(roots)) => {
            let verifier = WhoeverSigns { roots: Some(load(roots)?), provider };
            config.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        }
        Tls::Preferred(Trust::CertifiedByName(roots)) | Tls::Required(Trust::CertifiedByName(roots)) => {
            let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(load(roots)?), provider);
            let verifier = verifier.build().map_err(|error| OpenProblem::RootCertificates(error.into()))?;
            config.with_webpki_verifier(verifier)
        }
    };
    Ok(MakeRustlsConnect::new(config.with_no_client_auth()))
}

fn load(roots: &Roots) -> Result<RootCertStore, OpenProblem> {
    let mut store = RootCertStore::empty();
    match roots {
        Roots::System => {
            let found = rustls_native_certs::load_native_certs();
            // Among the many of a system some may be odd; without them there is still whom to trust.
            store.add_parsable_certificates(found.certs);
        }
        Roots::File(path) => {
            let told = |what: &dyn std::fmt::Display| unreadable(format!("{} {what}", path.display()));
            let text = read(path).map_err(|error| told(&format_args!("cannot be read: {error}")))?;
            let certificates = pem_blocks::certificates(&text).map_err(|fault| told(&fault))?;
            for (number, certificate) in (1..).zip(certificates) {
                let added = store.add(CertificateDer::from(certificate));
                added.map_err(|error| {
                    told(&format_args!("has a certificate {number} that is damaged: {error}"))
                })?;
            }
        }
    }
    if store.is_empty() { Err(unreadable("there is no certificate")) } else { Ok(store) }
}

/// No list of authorities is longer; a device that never ends is not read.
const LARGEST_FILE: u64 = 16 << 20;

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let metadata = fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !metadata.is_file() || metadata.len() > LARGEST_FILE {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not a file of 16 megabytes at the most",
        ));
    }
    fs::read(path)
}

fn unreadable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> OpenProblem {
    OpenProblem::RootCertificates(error.into())
}

/// Takes anybody for the server who has the key of their certificate, and if there are roots, whose certificate is
/// under one of them. What its name is makes no difference.
#[derive(Debug)]
struct WhoeverSigns {
    roots: Option<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for WhoeverSigns {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(roots) = &self.roots {
            let certificate = ParsedCertificate::try_from(end_entity)?;
            let algorithms = self.provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&certificate, roots, intermediates, now, algorithms)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
