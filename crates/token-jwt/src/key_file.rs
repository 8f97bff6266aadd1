//! What stands in a key file: three lines for people, then the private key.
//!
//! Text before a PEM block is for readers and programs of others pass over it (RFC 7468, section 2), so that
//! `openssl pkey -in` shows such a file as it is.

use std::fmt::Write;

use jiff::Timestamp;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::key_pair::{KeyPair, KeyPairAlgorithm, NotGenerated};

/// How the name of such a file ends.
pub(crate) const SUFFIX: &str = ".pem";

/// A key pair as it is kept.
#[derive(Debug)]
pub struct StoredKey {
    /// The keys.
    pub pair: KeyPair,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it takes over from the pair before it. Until then it is published, so that whoever keeps a copy of what
    /// is published knows it when it signs.
    pub signs_from: Timestamp,
}

/// Why a file is no key to use. Says nothing of what stands in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum UnusableKeyFile {
    /// Somebody else may have the key.
    #[error(
        "is open to others on this machine; if they may have read it, take the key out of use, else chmod 600 it"
    )]
    OpenToOthers,
    /// It is not of the form that such files have.
    #[error(
        "is not a key file as `auth-api keys generate` writes them; give a key of another program by \
         AUTH_TOKEN__PRIVATE_KEY_FILE instead, and remove this file"
    )]
    Malformed,
    /// It is of that form, and has no key in it, or one that is too short.
    #[error(
        "holds no whole private key of the algorithm that it names; put it back from a backup, or remove it and make \
         another one with `auth-api keys rotate`"
    )]
    NoKey,
    /// The name is how a key is found.
    #[error(
        "is not named after the key in it; give it back the name that `auth-api keys` gave it, or remove it"
    )]
    OtherName,
}

impl StoredKey {
    /// The name of its file.
    pub(crate) fn file_name(&self) -> String {
        format!("{}{SUFFIX}", self.pair.id())
    }

    pub(crate) fn to_text(&self) -> Result<Zeroizing<String>, NotGenerated> {
        let Self { pair, created_at, signs_from } = self;
        let pem = pair.to_pem()?;
        let mut text = Zeroizing::new(String::with_capacity(pem.len() + 256));
        let algorithm = pair.algorithm().as_str();
        _ = write!(text, "Algorithm: {algorithm}\nCreated: {created_at:.6}\nSigns-From: {signs_from:.6}\n");
        text.push_str(&pem);
        Ok(text)
    }

    /// Reads a file of this name.
    pub(crate) fn parse(name: &str, text: &str) -> Result<Self, UnusableKeyFile> {
        let (algorithm, rest) = field("Algorithm: ", text)?;
        let (created_at, rest) = field("Created: ", rest)?;
        let (signs_from, pem) = field("Signs-From: ", rest)?;
        let algorithm = KeyPairAlgorithm::parse(algorithm).ok_or(UnusableKeyFile::Malformed)?;
        let time = |text: &str| text.parse().map_err(|_| UnusableKeyFile::Malformed);
        let (created_at, signs_from) = (time(created_at)?, time(signs_from)?);
        let pair = KeyPair::from_pem(algorithm, pem).map_err(|_| UnusableKeyFile::NoKey)?;
        let key = Self { pair, created_at, signs_from };
        if key.file_name() == name { Ok(key) } else { Err(UnusableKeyFile::OtherName) }
    }
}

/// The value of the first line, and what comes after it.
fn field<'a>(name: &str, text: &'a str) -> Result<(&'a str, &'a str), UnusableKeyFile> {
    let (line, rest) = text.split_once('\n').ok_or(UnusableKeyFile::Malformed)?;
    let value = line.trim_end_matches('\r').strip_prefix(name).ok_or(UnusableKeyFile::Malformed)?;
    Ok((value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(algorithm: KeyPairAlgorithm) -> StoredKey {
        StoredKey {
            pair: KeyPair::generate(algorithm).unwrap(),
            created_at: "2026-11-22T12:00:00.123456Z".parse().unwrap(),
            signs_from: "2026-11-22T12:15:00Z".parse().unwrap(),
        }
    }

    #[test]
    fn a_key_is_read_back_as_it_was_written() {
        for algorithm in KeyPairAlgorithm::ALL {
            let key = key(algorithm);
            let text = key.to_text().unwrap();

            for text in [text.to_string(), text.replace('\n', "\r\n")] {
                let read = StoredKey::parse(&key.file_name(), &text).unwrap();

                assert_eq!(read.pair.id(), key.pair.id());
                assert_eq!((read.created_at, read.signs_from), (key.created_at, key.signs_from));
            }
        }
    }

    #[test]
    fn what_is_wrong_is_told_apart_and_never_quoted() {
        let key = key(KeyPairAlgorithm::EdDsa);
        let (name, good) = (key.file_name(), key.to_text().unwrap());
        let parse = |name: &str, text: &str| StoredKey::parse(name, text).unwrap_err();

        for text in [
            "",
            "Algorithm: EdDSA\n",
            &good.replace("EdDSA", "HS256"),
            &good.replace("EdDSA", "eddsa"),
            &good.replace("2026-11-22T12:15:00", "soon"),
            &good.replace("Created", "Made"),
            key.pair.to_pem().unwrap().as_str(),
        ] {
            assert_eq!(parse(&name, text), UnusableKeyFile::Malformed, "{text}");
        }
        for text in [
            good.replace("EdDSA", "ES256"),
            good.replace("PRIVATE", "PUBLIC"),
            format!("{}\n", *good),
            good[..good.len() - 40].to_owned(),
        ] {
            assert_eq!(parse(&name, &text), UnusableKeyFile::NoKey, "{text}");
        }
        assert_eq!(parse("other.pem", &good), UnusableKeyFile::OtherName);
    }
}
