use super::*;

/// A block with these bytes in it, in lines of 64 characters.
fn pem(label: &str, bytes: &[u8]) -> String {
    let base64 = STANDARD.encode(bytes);
    let lines: Vec<&str> =
        base64.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn leaf() -> String {
    pem("CERTIFICATE", &[1; 100])
}

fn intermediate() -> String {
    pem("CERTIFICATE", &[2; 100])
}

fn key() -> String {
    pem("PRIVATE KEY", &[3; 48])
}

fn certificate_fault(text: &str) -> Fault {
    certificates(text.as_bytes()).unwrap_err()
}

fn key_fault(text: &str) -> Fault {
    private_key(text.as_bytes()).unwrap_err()
}

/// An element of DER.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    [&[tag, 0x82, length[0], length[1]], content].concat()
}

fn sequence(elements: &[&[u8]]) -> Vec<u8> {
    element(0x30, &elements.concat())
}

#[test]
fn chain_is_read_whatever_stands_between_its_blocks() {
    let chain = Ok(vec![vec![1; 100], vec![2; 100]]);
    let (leaf, intermediate) = (leaf(), intermediate());
    let joined = format!("{leaf}{intermediate}");
    for text in [
        joined.clone(),
        joined.trim_end().to_owned(),
        joined.replace('\n', "\r\n"),
        joined.replace('\n', "\r"),
        joined.replace("-----\n", "-----  \n"),
        format!(
            "Subject: CN = BEGIN of the END\nFingerprint: {}\n{leaf}\n\n# the next one\n{intermediate}end",
            "AB:".repeat(32)
        ),
        format!("{}\n{leaf}{intermediate}", "ab".repeat(32)),
        format!("{}{leaf}{intermediate}{}", key(), pem("DH PARAMETERS", b"x")),
        joined.replacen("CERTIFICATE", "X509 CERTIFICATE", 2),
    ] {
        assert_eq!(certificates(text.as_bytes()), chain, "{text}");
    }
}

#[test]
fn line_that_looks_like_pem_and_is_none_is_refused() {
    let (leaf, intermediate) = (leaf(), intermediate());
    for (text, fault) in [
        (format!("{}{intermediate}", leaf.trim_end()), LineFault::Joined),
        (leaf.replace("CERTIFICATE-----\n", "CERTIFICATE-----"), LineFault::Joined),
        (leaf.replace('\n', " "), LineFault::Joined),
        (leaf.replace('\n', "\\n"), LineFault::WrittenLineEnds),
        (format!("{leaf}{}", intermediate.replacen("-----BEGIN", "----BEGIN", 1)), LineFault::Misspelt),
        (format!("{leaf}{}", intermediate.replacen("-----BEGIN", " -----BEGIN", 1)), LineFault::Misspelt),
        (format!("{leaf}{}", intermediate.replacen("-----BEGIN", "-----Begin", 1)), LineFault::Misspelt),
        (format!("{leaf}{}", intermediate.replace("-----", "\u{2014}\u{2014}")), LineFault::Misspelt),
        (
            format!("{leaf}{}", intermediate.replacen("CERTIFICATE-----", "CERTIFICATE----", 1)),
            LineFault::Misspelt,
        ),
        (format!("\u{feff}{leaf}{intermediate}"), LineFault::ByteOrderMark),
        (format!("{leaf}\u{feff}{intermediate}"), LineFault::ByteOrderMark),
        (format!("{leaf}{}", &intermediate[..90]), LineFault::BeginWithoutEnd),
        (format!("{}{intermediate}", &leaf[..90]), LineFault::Joined),
        (format!("{}\n{intermediate}", &leaf[..90]), LineFault::BeginWithoutEnd),
        (format!("{leaf}-----END CERTIFICATE-----\n"), LineFault::EndWithoutBegin),
        (format!("{leaf}{}", &intermediate[28..]), LineFault::BytesOutside),
        (leaf.replace("END CERTIFICATE", "END PRIVATE KEY"), LineFault::OtherEnd),
        (format!("{leaf}{}", intermediate.replacen("AgIC", "A*IC", 1)), LineFault::NotBase64),
        (format!("{leaf}-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"), LineFault::NoBytes),
    ] {
        let Fault::Line(_, found) = certificate_fault(&text) else { panic!("{text}") };
        assert_eq!(found, fault, "{text}");
    }
    assert_eq!(
        certificate_fault(&format!("words\n{}{intermediate}", leaf.trim_end())),
        Fault::Line(6, LineFault::Joined)
    );
}

#[test]
fn private_key_is_read_in_each_form() {
    for (label, form) in [
        ("PRIVATE KEY", KeyForm::Pkcs8),
        ("RSA PRIVATE KEY", KeyForm::Pkcs1),
        ("EC PRIVATE KEY", KeyForm::Sec1),
    ] {
        let key = pem(label, &[3; 48]);
        for text in [
            key.clone(),
            format!("{}{key}", pem("EC PARAMETERS", b"x")),
            format!("{}{key}", leaf()),
            format!("Algorithm: any\n{key}\n"),
        ] {
            let expected = PrivateKey { form, der: Zeroizing::new(vec![3; 48]) };
            assert_eq!(private_key(text.as_bytes()), Ok(expected), "{text}");
        }
    }
}

#[test]
fn what_is_no_key_is_told_apart() {
    let old = pem("RSA PRIVATE KEY", &[3; 48]).replacen(
        "-----\n",
        "-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n",
        1,
    );
    for (text, fault) in [
        (pem("ENCRYPTED PRIVATE KEY", b"x"), Fault::Encrypted),
        (old, Fault::Encrypted),
        (leaf(), Fault::CertificateForKey),
        (pem("PUBLIC KEY", b"x"), Fault::PublicKeyForKey),
        (pem("RSA PUBLIC KEY", b"x"), Fault::PublicKeyForKey),
        (pem("EC PARAMETERS", b"x"), Fault::ParametersOnly),
        (pem("CERTIFICATE REQUEST", b"x"), Fault::RequestForKey),
        (pem("OPENSSH PRIVATE KEY", b"x"), Fault::OpenSsh),
        (pem("DSA PRIVATE KEY", b"x"), Fault::Foreign("a private key of DSA")),
        (pem("TSS2 PRIVATE KEY", b"x"), Fault::Foreign("a key that only a TPM can use")),
        (pem("AGE ENCRYPTED FILE", b"x"), Fault::Age),
        ("-----BEGIN PGP MESSAGE-----\nVersion: 1\n\naGVsbG8=\n=aBcD\n".to_owned(), Fault::Pgp),
        (pem("SOMETHING", b"x"), Fault::OtherBlock),
        (STANDARD.encode(key()), Fault::PemInBase64),
        (format!("{}{}", key(), key()), Fault::SeveralKeys),
        (format!("{}{}", key(), pem("PUBLIC KEY", b"x")), Fault::PublicKey),
        (String::new(), Fault::Empty),
        (" \n".to_owned(), Fault::Empty),
        ("hunter2".to_owned(), Fault::NotPem),
        ("{\"kty\":\"OKP\"}".to_owned(), Fault::Json),
        ("PuTTY-User-Key-File-3: ssh-ed25519\n".to_owned(), Fault::Putty),
        ("ssh-ed25519 AAAA ann@host".to_owned(), Fault::OpenSshPublic),
        ("MC4CAQAwBQYDK2VwBCIEIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".to_owned(), Fault::BareBase64),
    ] {
        assert_eq!(key_fault(&text), fault, "{text}");
    }
    let utf16: Vec<u8> =
        [0xfeff].into_iter().chain(key().encode_utf16()).flat_map(u16::to_le_bytes).collect();
    assert_eq!(private_key(&utf16), Err(Fault::Utf16));
}

#[test]
fn what_is_no_certificate_is_told_apart() {
    for (text, fault) in [
        (key(), Fault::KeyForCertificate),
        (pem("TRUSTED CERTIFICATE", b"x"), Fault::TrustedCertificate),
        (pem("CERTIFICATE REQUEST", b"x"), Fault::Request),
        (pem("PKCS7", b"x"), Fault::Pkcs7),
        (pem("PUBLIC KEY", b"x"), Fault::PublicKey),
        (pem("DH PARAMETERS", b"x"), Fault::ParametersForCertificate),
        ("{\"kty\":\"OKP\"}".to_owned(), Fault::JsonForCertificate),
        ("PuTTY-User-Key-File-3: ssh-ed25519\n".to_owned(), Fault::KeyForCertificate),
        (STANDARD.encode(leaf()), Fault::PemInBase64),
        (format!("{}{}", leaf(), pem("X509 CRL", b"x")), Fault::RevocationList),
        (format!("{}{}", leaf(), pem("SOMETHING", b"x")), Fault::OtherBlock),
        (String::new(), Fault::Empty),
    ] {
        assert_eq!(certificate_fault(&text), fault, "{text}");
    }
}

#[test]
fn der_is_named_for_what_it_holds() {
    let algorithm = sequence(&[&element(0x06, &[0x2b, 0x65, 0x70])]);
    let rubbish = [0xff; 300];
    let (octets, bits) = (element(0x04, &rubbish), element(0x03, &rubbish));
    let content = sequence(&[&element(0xa0, &rubbish)]);
    for (der, for_key, for_certificate) in [
        (sequence(&[&[2, 1, 0], &algorithm, &octets]), Fault::KeyInDer, Fault::KeyForCertificate),
        (sequence(&[&[2, 1, 0], &element(2, &rubbish)]), Fault::KeyInDer, Fault::KeyForCertificate),
        (sequence(&[&[2, 1, 1], &octets]), Fault::KeyInDer, Fault::KeyForCertificate),
        (sequence(&[&algorithm, &octets]), Fault::EncryptedInDer, Fault::EncryptedInDer),
        (sequence(&[&algorithm, &bits]), Fault::PublicKeyForKey, Fault::PublicKeyInDer),
        (sequence(&[&content, &algorithm, &bits]), Fault::CertificateForKey, Fault::CertificateInDer),
        (
            sequence(&[&sequence(&[&[2, 1, 0], &algorithm]), &algorithm, &bits]),
            Fault::RequestForKey,
            Fault::Request,
        ),
        (sequence(&[&[2, 1, 3], &content]), Fault::Pkcs12, Fault::Pkcs12),
        (sequence(&[&element(0x06, &[0x2a]), &octets]), Fault::Pkcs7, Fault::Pkcs7),
        (sequence(&[&rubbish]), Fault::OtherDer, Fault::OtherDer),
        (rubbish.to_vec(), Fault::NotPem, Fault::NotPem),
    ] {
        assert_eq!(private_key(&der), Err(for_key));
        assert_eq!(certificates(&der), Err(for_certificate));
    }
}

#[test]
fn kind_of_a_key_is_told_by_its_structure() {
    let curve = |identifier: &[u8]| element(6, identifier);
    let pkcs8 = |algorithm: &[&[u8]], inside: &[u8]| {
        sequence(&[&[2, 1, 0], &sequence(algorithm), &element(4, inside)])
    };
    let sec1 = |parameters: &[u8]| sequence(&[&[2, 1, 1], &element(4, &[7; 32]), &element(0xa0, parameters)]);
    let rsa = |modulus: &[u8]| sequence(&[&[2, 1, 0], &element(2, modulus), &element(2, &[1, 0, 1])]);
    let elliptic = element(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1]);
    let p384 = curve(&[0x2b, 0x81, 4, 0, 34]);
    let of_1024_bits = rsa(&[&[0], &[0x80; 128][..]].concat());
    let rsa_identifier = element(6, &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1]);
    for (form, der, kind) in [
        (KeyForm::Sec1, sec1(&p384), Some(KeyKind::Named("P-384"))),
        (KeyForm::Sec1, sec1(&sequence(&[&[2, 1, 1]])), Some(KeyKind::ExplicitCurve)),
        (KeyForm::Sec1, sec1(&curve(&[0x2b])), None),
        (KeyForm::Pkcs8, pkcs8(&[&elliptic, &p384], b""), Some(KeyKind::Named("P-384"))),
        (KeyForm::Pkcs8, pkcs8(&[&curve(&[0x2b, 0x65, 112])], b""), Some(KeyKind::Named("Ed25519"))),
        (KeyForm::Pkcs8, pkcs8(&[&rsa_identifier, &[5, 0]], &of_1024_bits), Some(KeyKind::Rsa(1024))),
        (KeyForm::Pkcs1, of_1024_bits, Some(KeyKind::Rsa(1024))),
        (KeyForm::Pkcs1, rsa(&[0x7f; 256]), Some(KeyKind::Rsa(2047))),
        (KeyForm::Pkcs1, rsa(&[0]), None),
        (KeyForm::Pkcs8, b"damaged".to_vec(), None),
    ] {
        assert_eq!(PrivateKey { form, der: Zeroizing::new(der) }.kind(), kind, "{form:?}");
    }
}
