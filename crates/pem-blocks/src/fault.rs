//! What is wrong with a file, and the command that mends it.

use thiserror::Error;

use crate::der::Der;

/// Why a file has no use, as the end of a sentence that begins with its name. FILE in a command is that file, NEW the one
/// to use in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Fault {
    /// Nothing, or blanks.
    #[error("is empty")]
    Empty,
    /// As some shells write it.
    #[error("is in UTF-16; `iconv -f UTF-16 -t UTF-8 FILE > NEW` writes it as text that can be read")]
    Utf16,
    /// Text or bytes of some other kind.
    #[error("is not PEM, which begins with a line such as -----BEGIN CERTIFICATE-----")]
    NotPem,
    /// As Kubernetes keeps the data of its secrets.
    #[error("is PEM that was encoded in base64 once more; `base64 -d FILE > NEW` decodes it")]
    PemInBase64,
    /// A block without the lines around it.
    #[error("has base64 without the BEGIN and END lines of PEM around it")]
    BareBase64,
    /// A JWK, mostly.
    #[error(
        "is JSON and not PEM; convert the key, or make one with `openssl genpkey -algorithm EC -pkeyopt \
         ec_paramgen_curve:P-256 -out NEW`"
    )]
    Json,
    /// The same in place of a certificate.
    #[error("is JSON and not PEM; the certificate in PEM is needed")]
    JsonForCertificate,
    /// Of `PuTTY`.
    #[error(
        "is a key of PuTTY for SSH; `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out NEW` makes one \
         that can be used here"
    )]
    Putty,
    /// Of `OpenSSH`. Its own program converts some of them and leaves others as they are.
    #[error(
        "is a key of OpenSSH; `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out NEW` makes one that can \
         be used here"
    )]
    OpenSsh,
    /// The public half, as `OpenSSH` writes it.
    #[error(
        "is a public key of OpenSSH, and cannot be used here; a private key or a certificate in PEM is needed"
    )]
    OpenSshPublic,
    /// A certificate without PEM around it.
    #[error("is a certificate in DER; `openssl x509 -inform DER -in FILE -out NEW` writes it in PEM")]
    CertificateInDer,
    /// A private key without PEM around it.
    #[error("is a private key in DER; `openssl pkey -inform DER -in FILE -out NEW` writes it in PEM")]
    KeyInDer,
    /// An encrypted private key without PEM around it.
    #[error(
        "is a private key in DER and encrypted with a passphrase; `openssl pkcs8 -inform DER -in FILE -out NEW` writes it \
         in PEM and without one"
    )]
    EncryptedInDer,
    /// A public key without PEM around it.
    #[error("is a public key in DER, and a private key or a certificate is needed")]
    PublicKeyInDer,
    /// A container of Windows and Java.
    #[error(
        "is a PKCS #12 container; `openssl pkcs12 -in FILE -nokeys -out NEW` writes its certificates, and \
         `openssl pkcs12 -in FILE -nocerts -nodes -out NEW` its key"
    )]
    Pkcs12,
    /// Certificates in an envelope.
    #[error(
        "is a PKCS #7 envelope; `openssl pkcs7 -in FILE -print_certs -out NEW` writes its certificates (with -inform DER \
         if it does not begin with -----BEGIN)"
    )]
    Pkcs7,
    /// DER of some other structure.
    #[error("is in DER, and neither a key nor a certificate; PEM is needed")]
    OtherDer,
    /// PKCS #8 or the older form of `OpenSSL`.
    #[error("is encrypted with a passphrase; `openssl pkey -in FILE -out NEW` writes it without one")]
    Encrypted,
    /// Swapped, mostly.
    #[error("has a certificate and no private key; the key that the certificate was made for is needed")]
    CertificateForKey,
    /// Swapped, mostly.
    #[error("has a private key and no certificate; the certificate that was made for the key is needed")]
    KeyForCertificate,
    /// Only what everybody may know.
    #[error("has the public key only; the private key is needed")]
    PublicKeyForKey,
    /// A public key beside something that is needed.
    #[error("has a public key in it; remove that block, or give the certificate")]
    PublicKey,
    /// What a certificate is asked for with.
    #[error(
        "has a certificate request, which a certificate authority turns into a certificate; that certificate is needed"
    )]
    Request,
    /// The same in place of a key.
    #[error("has a certificate request and no private key; the key that it was made with is needed")]
    RequestForKey,
    /// A form of `OpenSSL`'s own.
    #[error(
        "has a certificate in the TRUSTED form of OpenSSL; `openssl x509 -in FILE -out NEW` writes it without it"
    )]
    TrustedCertificate,
    /// Which certificates are revoked.
    #[error("has a list of revoked certificates in it; remove that block")]
    RevocationList,
    /// `openssl ecparam` without `-genkey`.
    #[error(
        "has parameters of an algorithm only; `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out NEW` \
         makes a key"
    )]
    ParametersOnly,
    /// The same in place of a certificate.
    #[error("has parameters of an algorithm only; the certificate is needed")]
    ParametersForCertificate,
    /// A file that another program encrypted.
    #[error("is encrypted by age; `age -d -o NEW FILE` decrypts it")]
    Age,
    /// A file that another program encrypted.
    #[error("is encrypted by PGP; `gpg -o NEW -d FILE` decrypts it")]
    Pgp,
    /// A block of another program, or of an algorithm that is not supported.
    #[error("has {0} in it, which cannot be used here; a private key or a certificate in PEM is needed")]
    Foreign(&'static str),
    /// Which of them is meant cannot be known.
    #[error("has more than one private key; keep one")]
    SeveralKeys,
    /// A label that is not known.
    #[error("has a block that is neither a certificate nor a private key; remove it, or name another file")]
    OtherBlock,
    /// A line that was meant to be a part of a block.
    #[error("cannot be understood at line {0}: {1}")]
    Line(usize, LineFault),
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LineFault {
    /// As `cat` makes of files whose last line has no end.
    #[error("it joins several lines; put each BEGIN line and each END line on a line of its own")]
    Joined,
    /// As environment files write it.
    #[error("its line ends are written as \\n; write real ones")]
    WrittenLineEnds,
    /// As some editors put it there.
    #[error("a byte order mark stands before it; save the file as UTF-8 without one")]
    ByteOrderMark,
    /// Indented, or with other dashes.
    #[error("write this BEGIN or END line with five hyphens at both ends and nothing before them")]
    Misspelt,
    /// Cut off.
    #[error("a block that begins here or before has no END line; copy the file again")]
    BeginWithoutEnd,
    /// Cut off at the other side.
    #[error("this END line has no BEGIN line before it; copy the file again")]
    EndWithoutBegin,
    /// Two blocks mixed.
    #[error("the END line is that of another kind than the BEGIN line; copy the file again")]
    OtherEnd,
    /// Damaged.
    #[error("the block that begins here is not base64; copy the file again")]
    NotBase64,
    /// Nothing between the lines.
    #[error("the block that ends here is empty; copy the file again")]
    NoBytes,
    /// Without the lines around them.
    #[error("it is base64 outside of a block; copy the file again")]
    BytesOutside,
}

impl From<Der> for Fault {
    fn from(der: Der) -> Self {
        match der {
            Der::Certificate => Self::CertificateInDer,
            Der::PrivateKey => Self::KeyInDer,
            Der::EncryptedKey => Self::EncryptedInDer,
            Der::PublicKey => Self::PublicKeyInDer,
            Der::Request => Self::Request,
            Der::Pkcs7 => Self::Pkcs7,
            Der::Pkcs12 => Self::Pkcs12,
            Der::Other => Self::OtherDer,
        }
    }
}

impl Fault {
    /// What a text without any block may be.
    pub(crate) fn of_text_without_blocks(text: &str, der: Option<Der>) -> Self {
        let text = text.trim();
        let is_base64 =
            |byte: u8| byte.is_ascii_alphanumeric() || byte.is_ascii_whitespace() || b"+/=".contains(&byte);
        if let Some(der) = der {
            der.into()
        } else if text.starts_with('{') {
            Self::Json
        } else if text.starts_with("PuTTY-User-Key-File") {
            Self::Putty
        } else if text.starts_with("ssh-") || text.starts_with("ecdsa-sha2-") {
            Self::OpenSshPublic
        } else if text.len() >= 32 && text.bytes().all(is_base64) {
            // The base64 of five hyphens.
            if text.starts_with("LS0tLS") { Self::PemInBase64 } else { Self::BareBase64 }
        } else {
            Self::NotPem
        }
    }
}
