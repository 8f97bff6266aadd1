//! A private key that somebody hands over as a text, in an environment variable or a file of theirs.

use std::sync::Arc;

use pem_blocks::{Fault, KeyForm, KeyKind, PrivateKey};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::key_pair::{KeyPair, KeyPairAlgorithm};

/// The keys that an operator gives a deployment in place of a folder.
#[derive(Clone, Debug)]
pub struct GivenKeys {
    /// The one that signs.
    pub signing: Arc<KeyPair>,
    /// One that only verifies: the one that signed before, or the one that will sign next.
    pub verifying: Option<Arc<KeyPair>>,
}

/// Why a text is no key to sign with. Says nothing of what stands in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum UnusableKeyText {
    /// Not one private key in PEM (RFC 7468).
    #[error(transparent)]
    Pem(#[from] Fault),
    /// A private key that signs no tokens.
    #[error(
        "is {0}; EdDSA needs one of Ed25519, ES256 one of P-256 and RS256 one of RSA with 2048 bits or more; `openssl genpkey \
         -algorithm ed25519 -out NEW` makes one"
    )]
    OtherKind(KeyKind),
    /// A key for this algorithm in a structure of its own.
    #[error("is a key for {} in an older form; `openssl pkey -in FILE -out NEW` writes it in PKCS #8", .0.as_str())]
    OlderForm(KeyPairAlgorithm),
    /// A private key of which no more can be told.
    #[error("is a private key, but not in PKCS #8; `openssl pkey -in FILE -out NEW` writes it so")]
    OtherForm,
    /// Damaged.
    #[error(
        "holds no whole private key of EdDSA (Ed25519), ES256 (P-256) or RS256 (of 2048 bits or more); `openssl pkey -in \
         FILE -noout -text` shows what it is, and `openssl genpkey -algorithm ed25519 -out NEW` makes one"
    )]
    NoKey,
}

impl KeyPair {
    /// Reads a private key in PKCS #8 and PEM, of whichever algorithm it is. What stands before it is for people, as in
    /// our own key files, and the ends of its lines may be written out as `\n`: some that set an environment take only
    /// one line, and no backslash is in any PEM.
    pub fn from_text(text: &str) -> Result<Self, UnusableKeyText> {
        let lines = Zeroizing::new(text.replace("\\n", "\n"));
        let key = pem_blocks::private_key(lines.as_bytes())?;
        refuse_other_kinds(&key)?;
        let read = |algorithm| Self::from_pkcs8(algorithm, &key.der).ok();
        // What is behind a key was cut off, or belongs to another one.
        let is_last = lines.trim_end().ends_with("-----");
        KeyPairAlgorithm::ALL.into_iter().find_map(read).filter(|_| is_last).ok_or(UnusableKeyText::NoKey)
    }
}

/// The algorithm is named first: who converts a key that cannot be used has done it in vain.
fn refuse_other_kinds(key: &PrivateKey) -> Result<(), UnusableKeyText> {
    let algorithm = match key.kind() {
        None => None,
        Some(KeyKind::Rsa(2048..)) => Some(KeyPairAlgorithm::Rs256),
        Some(KeyKind::Named("P-256")) => Some(KeyPairAlgorithm::Es256),
        Some(KeyKind::Named("Ed25519")) => Some(KeyPairAlgorithm::EdDsa),
        Some(other) => return Err(UnusableKeyText::OtherKind(other)),
    };
    match (key.form, algorithm) {
        (KeyForm::Pkcs8, _) => Ok(()),
        (_, Some(algorithm)) => Err(UnusableKeyText::OlderForm(algorithm)),
        (_, None) => Err(UnusableKeyText::OtherForm),
    }
}

#[cfg(test)]
mod tests {
    use pem_blocks::LineFault;

    use super::*;
    use crate::key_pair::LABEL;
    use crate::pem;

    #[test]
    fn a_key_of_each_algorithm_is_read_however_its_lines_end() {
        for algorithm in KeyPairAlgorithm::ALL {
            let pair = KeyPair::generate(algorithm).unwrap();
            let text = pair.to_pem().unwrap();

            for text in [
                text.to_string(),
                text.trim_end().to_owned(),
                format!("{}\n \n", *text),
                text.replace('\n', "\r\n"),
                text.replace('\n', "\\n"),
                format!("Algorithm: any\nSigns-From: whenever\n{}", *text),
            ] {
                let read = KeyPair::from_text(&text).unwrap();

                assert_eq!((read.algorithm(), read.id()), (algorithm, pair.id()));
            }
        }
    }

    #[test]
    fn what_is_no_key_is_told_apart() {
        let refusal = |text: &str| KeyPair::from_text(text).unwrap_err();
        let good = KeyPair::generate(KeyPairAlgorithm::Es256).unwrap().to_pem().unwrap();
        let labelled = |label: &str| pem::encode(label, b"something");

        let fault = |text: &str| match refusal(text) {
            UnusableKeyText::Pem(fault) => fault,
            other => panic!("{other}"),
        };
        for (text, expected) in [
            (String::new(), Fault::Empty),
            ("hunter2".to_owned(), Fault::NotPem),
            ("MC4CAQAwBQYDK2VwBCIEIA==MC4CAQAwBQYDK2VwBCIEIA==".to_owned(), Fault::BareBase64),
            (good.replace("BEGIN", "Begin"), Fault::Line(1, LineFault::Misspelt)),
            (good.replace('\n', " "), Fault::Line(1, LineFault::Joined)),
            (good[..good.len() - 40].to_owned(), Fault::Line(1, LineFault::BeginWithoutEnd)),
            (format!("{}{}", *good, *good), Fault::SeveralKeys),
            (labelled("ENCRYPTED PRIVATE KEY").to_string(), Fault::Encrypted),
            (labelled("PUBLIC KEY").to_string(), Fault::PublicKeyForKey),
            (labelled("CERTIFICATE").to_string(), Fault::CertificateForKey),
        ] {
            assert_eq!(fault(&text), expected, "{text}");
        }
        for label in ["EC PRIVATE KEY", "RSA PRIVATE KEY"] {
            assert_eq!(refusal(&labelled(label)), UnusableKeyText::OtherForm, "{label}");
        }
        for text in [labelled(LABEL).to_string(), format!("{}words", *good)] {
            assert_eq!(refusal(&text), UnusableKeyText::NoKey, "{text}");
        }
    }
}
