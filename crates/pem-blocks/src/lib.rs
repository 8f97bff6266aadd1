//! Keys and certificates in PEM (RFC 7468), strictly.
//!
//! Other parsers pass over what they do not understand, and so serve half of a chain. Here text may stand between blocks,
//! but a line that looks like a part of a block and is none is a [`Fault`]. A fault says what the file is and which
//! command mends it. It never repeats what stands in the file.

mod der;
mod fault;
mod kind;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use self::der::Der;
pub use self::fault::{Fault, LineFault};
pub use self::kind::KeyKind;

/// A certificate in DER.
pub type Certificate = Vec<u8>;

/// A private key in DER.
#[derive(Debug, PartialEq, Eq)]
pub struct PrivateKey {
    /// The structure that it is in.
    pub form: KeyForm,
    /// Its bytes.
    pub der: Zeroizing<Vec<u8>>,
}

impl PrivateKey {
    /// What it is a key of, or `None` if that cannot be told.
    pub fn kind(&self) -> Option<KeyKind> {
        KeyKind::of(self.form, &self.der)
    }
}

/// The structures of private keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyForm {
    /// Of any algorithm (RFC 5958).
    Pkcs8,
    /// Of RSA (RFC 8017).
    Pkcs1,
    /// Of an elliptic curve (RFC 5915).
    Sec1,
}

/// The certificates of a file, in its order, at least one. Private keys and parameters beside them are left out.
pub fn certificates(text: &[u8]) -> Result<Vec<Certificate>, Fault> {
    let blocks = blocks(text).map_err(|fault| match fault {
        Fault::KeyInDer | Fault::Putty => Fault::KeyForCertificate,
        Fault::Json => Fault::JsonForCertificate,
        fault => fault,
    })?;
    let mut certificates = Vec::new();
    let mut has_key = false;
    for block in blocks {
        match block.label {
            "CERTIFICATE" | "X509 CERTIFICATE" => certificates.push(block.der.to_vec()),
            label if is_parameters(label) => {}
            label if label.ends_with("PRIVATE KEY") => has_key = true,
            label => return Err(other_block(label)),
        }
    }
    match certificates.is_empty() {
        false => Ok(certificates),
        true if has_key => Err(Fault::KeyForCertificate),
        true => Err(Fault::ParametersForCertificate),
    }
}

/// The one private key of a file. Certificates and parameters beside it are left out.
pub fn private_key(text: &[u8]) -> Result<PrivateKey, Fault> {
    let blocks = blocks(text).map_err(|fault| match fault {
        Fault::CertificateInDer => Fault::CertificateForKey,
        Fault::PublicKeyInDer => Fault::PublicKeyForKey,
        Fault::Request => Fault::RequestForKey,
        fault => fault,
    })?;
    let mut key = None;
    let mut without = Fault::ParametersOnly;
    for block in blocks {
        let form = match block.label {
            "ENCRYPTED PRIVATE KEY" => return Err(Fault::Encrypted),
            _ if block.is_encrypted => return Err(Fault::Encrypted),
            "PRIVATE KEY" => KeyForm::Pkcs8,
            "RSA PRIVATE KEY" => KeyForm::Pkcs1,
            "EC PRIVATE KEY" => KeyForm::Sec1,
            "CERTIFICATE" | "X509 CERTIFICATE" => {
                without = Fault::CertificateForKey;
                continue;
            }
            "PUBLIC KEY" | "RSA PUBLIC KEY" if key.is_none() => {
                without = Fault::PublicKeyForKey;
                continue;
            }
            "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => {
                without = Fault::RequestForKey;
                continue;
            }
            label if is_parameters(label) => continue,
            label => return Err(other_block(label)),
        };
        if key.replace(PrivateKey { form, der: block.der }).is_some() {
            return Err(Fault::SeveralKeys);
        }
    }
    key.ok_or(without)
}

/// Blocks of other programs. Their content is not base64 as RFC 7468 has it, so it is not decoded.
fn foreign_block(label: &str) -> Option<Fault> {
    match label {
        "AGE ENCRYPTED FILE" => Some(Fault::Age),
        "PGP MESSAGE" => Some(Fault::Pgp),
        _ if label.starts_with("PGP ") => Some(Fault::Foreign("a key or signature of PGP")),
        _ if label.starts_with("SSH2 ") => Some(Fault::Foreign("a key for SSH")),
        _ => None,
    }
}

fn is_parameters(label: &str) -> bool {
    label.ends_with(" PARAMETERS")
}

fn other_block(label: &str) -> Fault {
    match label {
        "TRUSTED CERTIFICATE" => Fault::TrustedCertificate,
        "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => Fault::Request,
        "PKCS7" | "PKCS #7 SIGNED DATA" | "CMS" => Fault::Pkcs7,
        "OPENSSH PRIVATE KEY" => Fault::OpenSsh,
        "PUBLIC KEY" | "RSA PUBLIC KEY" => Fault::PublicKey,
        "X509 CRL" => Fault::RevocationList,
        "TSS2 PRIVATE KEY" => Fault::Foreign("a key that only a TPM can use"),
        "DSA PRIVATE KEY" => Fault::Foreign("a private key of DSA"),
        _ => Fault::OtherBlock,
    }
}

struct Block<'a> {
    label: &'a str,
    /// As `OpenSSL` says it in the lines before the bytes (RFC 1421, section 4.6.1.1).
    is_encrypted: bool,
    der: Zeroizing<Vec<u8>>,
}

/// All blocks, at least one.
fn blocks(bytes: &[u8]) -> Result<Vec<Block<'_>>, Fault> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(Fault::Empty);
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) || bytes.get(1) == Some(&0) {
        return Err(Fault::Utf16);
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Err(Der::of(bytes).map_or(Fault::NotPem, Fault::from));
    };
    if !text.lines().any(looks_like_boundary) {
        return Err(Fault::of_text_without_blocks(text, Der::of(bytes)));
    }
    // Old Macintosh line ends are still made by some consoles.
    let lines = text.split('\n').flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r'));
    let mut lines = (1..).zip(lines);
    let mut blocks = Vec::new();
    while let Some((number, line)) = lines.next() {
        match boundary(line) {
            Some(Boundary::Begin(label)) => match foreign_block(label) {
                Some(fault) => return Err(fault),
                None => blocks.push(block(label, number, &mut lines)?),
            },
            Some(Boundary::End(_)) => return Err(Fault::Line(number, LineFault::EndWithoutBegin)),
            None => look_outside(line).map_err(|fault| Fault::Line(number, fault))?,
        }
    }
    Ok(blocks)
}

/// The block that begins on line `begin`, up to its end.
fn block<'a>(
    label: &'a str,
    begin: usize,
    lines: &mut impl Iterator<Item = (usize, &'a str)>,
) -> Result<Block<'a>, Fault> {
    let mut base64 = Zeroizing::new(String::with_capacity(1 << 14));
    let mut is_encrypted = false;
    for (number, line) in lines {
        let fail = |fault| Err(Fault::Line(number, fault));
        match boundary(line) {
            Some(Boundary::End(end)) if end == label => {
                let decoded = STANDARD.decode(base64.as_bytes()).map(Zeroizing::new);
                let Ok(der) = decoded else { return Err(Fault::Line(begin, LineFault::NotBase64)) };
                // Its bytes are not looked at: a passphrase is between them and a key.
                return if der.is_empty() {
                    fail(LineFault::NoBytes)
                } else {
                    Ok(Block { label, is_encrypted, der })
                };
            }
            Some(Boundary::End(_)) => return fail(LineFault::OtherEnd),
            Some(Boundary::Begin(_)) => return fail(LineFault::BeginWithoutEnd),
            None if looks_like_boundary(line) => return fail(fault_of_boundary(line)),
            // A header, as `Proc-Type: 4,ENCRYPTED`; base64 has no colon.
            None if base64.is_empty() && line.contains(':') => {
                is_encrypted |= line.starts_with("Proc-Type:") && line.contains("ENCRYPTED");
            }
            None => base64.extend(line.split_ascii_whitespace()),
        }
    }
    Err(Fault::Line(begin, LineFault::BeginWithoutEnd))
}

enum Boundary<'a> {
    Begin(&'a str),
    End(&'a str),
}

/// A line that begins or ends a block, blanks behind it left out.
fn boundary(line: &str) -> Option<Boundary<'_>> {
    let inner = line.trim_end().strip_prefix("-----")?.strip_suffix("-----")?;
    let is_label = |label: &str| !label.contains('-') && !label.is_empty();
    if let Some(label) = inner.strip_prefix("BEGIN ").filter(|label| is_label(label)) {
        return Some(Boundary::Begin(label));
    }
    inner.strip_prefix("END ").filter(|label| is_label(label)).map(Boundary::End)
}

/// Whether a line was meant to begin or end a block, as far as that can be told.
fn looks_like_boundary(line: &str) -> bool {
    let upper = line.to_uppercase();
    let has_word = ["BEGIN", "END"].into_iter().any(|word| upper.contains(word));
    let has_label =
        ["CERTIFICATE", "KEY", "PARAMETERS", "PKCS7", "X509", "CMS"].into_iter().any(|it| upper.contains(it));
    let is_dash = |c: char| matches!(c, '-' | '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe58}' | '\u{ff0d}');
    let dashes = line.chars().filter(|c| is_dash(*c)).count();
    has_word && (line.contains("-----BEGIN") || line.contains("-----END") || has_label && dashes >= 2)
}

/// Refuses a line outside of a block that was meant to be a part of one.
fn look_outside(line: &str) -> Result<(), LineFault> {
    if looks_like_boundary(line) {
        return Err(fault_of_boundary(line));
    }
    // Fingerprints are in hexadecimal digits, with or without colons.
    let line = line.trim();
    let is_base64 = line.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte));
    let is_hex = line.bytes().all(|byte| byte.is_ascii_hexdigit());
    if line.len() >= 48 && is_base64 && !is_hex { Err(LineFault::BytesOutside) } else { Ok(()) }
}

fn fault_of_boundary(line: &str) -> LineFault {
    let count = line.matches("-----BEGIN").count() + line.matches("-----END").count();
    if line.starts_with('\u{feff}') {
        LineFault::ByteOrderMark
    } else if line.contains("\\n") {
        LineFault::WrittenLineEnds
    } else if count > 1 || count == 1 && line.trim().len() > 80 {
        LineFault::Joined
    } else {
        LineFault::Misspelt
    }
}

#[cfg(test)]
mod tests;
