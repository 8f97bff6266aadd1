//! A private key that somebody hands over as a text, in an environment variable or a file of theirs.

use std::sync::Arc;

use thiserror::Error;
use zeroize::Zeroizing;

use crate::key_pair::{KeyPair, KeyPairAlgorithm, LABEL};

/// How a block of PEM begins, whatever is in it.
const BEGIN: &str = "-----BEGIN ";

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
    /// Not even a block of PEM (RFC 7468).
    #[error(
        "must be a private key in PEM, from its BEGIN line to its END line; the ends of lines may be written as \\n"
    )]
    NoPem,
    /// Whoever gives the key would have to give its passphrase beside it.
    #[error("is encrypted; `openssl pkey -in FILE` writes it without a passphrase")]
    Encrypted,
    /// A public key, a certificate, or a private key in a form of its algorithm's own.
    #[error("is no private key in PKCS #8; `openssl pkey -in FILE` writes one so")]
    OtherForm,
    /// Damaged, too small, or of a kind that signs no tokens.
    #[error("holds no whole private key of EdDSA (Ed25519), ES256 (P-256) or RS256 (of 2048 bits or more)")]
    NoKey,
}

impl KeyPair {
    /// Reads a private key in PKCS #8 and PEM, of whichever algorithm it is. What stands before it is for people, as in
    /// our own key files, and the ends of its lines may be written out as `\n`: some that set an environment take only
    /// one line, and no backslash is in any PEM.
    pub fn from_text(text: &str) -> Result<Self, UnusableKeyText> {
        let lines = Zeroizing::new(text.replace("\\n", "\n"));
        let block = &lines[lines.find(BEGIN).ok_or(UnusableKeyText::NoPem)?..];
        let label = block[BEGIN.len()..].split("-----").next().unwrap_or_default();
        match label {
            LABEL => {}
            "ENCRYPTED PRIVATE KEY" => return Err(UnusableKeyText::Encrypted),
            _ => return Err(UnusableKeyText::OtherForm),
        }
        let read = |algorithm| Self::from_pem(algorithm, block.trim_ascii_end()).ok();
        KeyPairAlgorithm::ALL.into_iter().find_map(read).ok_or(UnusableKeyText::NoKey)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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

        for text in ["", "hunter2", "MC4CAQAwBQYDK2VwBCIEIA==", &good.replace("BEGIN", "Begin")] {
            assert_eq!(refusal(text), UnusableKeyText::NoPem, "{text}");
        }
        assert_eq!(refusal(&labelled("ENCRYPTED PRIVATE KEY")), UnusableKeyText::Encrypted);
        for label in ["EC PRIVATE KEY", "RSA PRIVATE KEY", "PUBLIC KEY", "CERTIFICATE", ""] {
            assert_eq!(refusal(&labelled(label)), UnusableKeyText::OtherForm, "{label}");
        }
        for text in [
            labelled(LABEL).to_string(),
            good[..good.len() - 40].to_owned(),
            good.replace('\n', " "),
            format!("{}{}", *good, *good),
            format!("{}words", *good),
        ] {
            assert_eq!(refusal(&text), UnusableKeyText::NoKey, "{text}");
        }
    }
}
