//! Files that hold another thing than the certificate or the key that they are named for.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PKCS_ECDSA_P384_SHA384};

use super::tls::{Pair, speak};
use crate::support::server::{Deployment, Finished, Server};

const REQUEST: &str = "GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// A leaf, the intermediate that signed it, and the key of the leaf.
struct Chain {
    leaf: String,
    intermediate: String,
    key: String,
}

impl Chain {
    fn new() -> Self {
        let mut parameters = CertificateParams::new(Vec::<String>::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf =
            CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        Self { leaf: leaf.pem(), intermediate: issuer.pem(), key: key.serialize_pem() }
    }

    fn whole(&self) -> String {
        format!("{}{}", self.leaf, self.intermediate)
    }

    /// As `cat` joins files whose last line has no end.
    fn joined(&self) -> String {
        format!("{}{}", self.leaf.trim_end(), self.intermediate)
    }

    fn put_into(&self, deployment: Deployment) -> Deployment {
        deployment.write("cert.pem", &self.whole());
        write_key(&deployment, &self.key);
        deployment.set("AUTH_TLS__CERT_PATH", "cert.pem").set("AUTH_TLS__KEY_PATH", "key.pem")
    }
}

fn write_key(deployment: &Deployment, key: impl AsRef<[u8]>) {
    let path = deployment.folder().join("key.pem");
    fs::write(&path, key).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// The beginning of a key in PKCS #1 (RFC 8017, appendix A.1.2), as far as its modulus.
fn rsa_of_1024_bits() -> String {
    let modulus = [&[0x02, 0x81, 129, 0][..], &[0x80; 128]].concat();
    let content = [&[0x02, 1, 0][..], &modulus].concat();
    let key = [&[0x30, 0x81, u8::try_from(content.len()).unwrap()][..], &content].concat();
    labelled("RSA PRIVATE KEY", &BASE64_STANDARD.encode(key))
}

/// A block with this label and the bytes of another one.
fn labelled(label: &str, pem: &str) -> String {
    let lines: String =
        pem.lines().filter(|line| !line.starts_with('-')).flat_map(|line| [line, "\n"]).collect();
    format!("-----BEGIN {label}-----\n{lines}-----END {label}-----\n")
}

fn der(pem: &str) -> Vec<u8> {
    let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    BASE64_STANDARD.decode(base64).unwrap()
}

/// That a start and a check are refused with one error, which names the setting and says all of this.
fn assert_refused(deployment: &Deployment, setting: &str, told: &[&str]) {
    for command in [&["config", "check"][..], &["serve"]] {
        let refused = deployment.run(command);
        assert_eq!(refused.code, 2, "{told:?}: {refused:?}");
        assert_told(&refused, setting, told);
    }
}

fn assert_told(refused: &Finished, setting: &str, told: &[&str]) {
    let errors: Vec<_> = refused.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{refused:?}");
    assert!(errors[0].contains(setting), "{setting}: {refused:?}");
    for told in told {
        assert!(errors[0].contains(told), "{told}: {refused:?}");
    }
}

#[test]
fn chain_that_is_not_understood_stops_the_start() {
    let chain = Chain::new();
    let deployment = chain.put_into(Deployment::new());
    assert_eq!(deployment.run(&["config", "check"]).code, 0);
    for (text, told) in [
        (chain.joined(), "joins several lines"),
        (
            format!("{}{}", chain.leaf, chain.intermediate.replace("-----BEGIN", " -----BEGIN")),
            "five hyphens",
        ),
        (format!("\u{feff}{}", chain.whole()), "byte order mark"),
        (
            format!("{}{}", chain.leaf, labelled("TRUSTED CERTIFICATE", &chain.intermediate)),
            "openssl x509 -in FILE -out NEW",
        ),
        (format!("{}{}", chain.leaf, &chain.intermediate[..200]), "no END line"),
        (format!("{}{}", chain.leaf, labelled("CERTIFICATE", &chain.key)), "certificate 2"),
        (format!("{}{}", chain.intermediate, chain.leaf), "put it first"),
    ] {
        deployment.write("cert.pem", &text);

        assert_refused(&deployment, "AUTH_TLS__CERT_PATH", &[told]);
    }
}

#[test]
fn renewal_that_is_not_understood_keeps_the_old_chain() {
    let (chain, renewed) = (Chain::new(), Chain::new());
    let server = chain.put_into(Deployment::new()).serve();

    write_key(server.deployment(), &renewed.key);
    server.deployment().write("cert.pem", &renewed.joined());
    server.hang_up();

    let is_refused = |line: &serde_json::Value| {
        line["message"] == "the certificate stays as it was"
            && line["cause"].as_str().unwrap().contains("joins several lines")
    };
    server.log().wait_for("a refusal", is_refused);
    assert!(trusts(&server, &chain), "the chain that was served before");
    assert!(!trusts(&server, &renewed));
}

/// Whether a client that trusts the intermediate's certificate alone gets an answer.
fn trusts(server: &Server, chain: &Chain) -> bool {
    let answer: io::Result<_> = speak(server, &Pair::trusted(&chain.intermediate), REQUEST);
    answer.is_ok_and(|spoken| spoken.answer.starts_with("HTTP/1.1 200 "))
}

#[test]
fn file_that_is_no_tls_key_is_named_for_what_it_is() {
    let chain = Chain::new();
    let deployment = chain.put_into(Deployment::new());
    let old = labelled("RSA PRIVATE KEY", &chain.key).replacen(
        "-----\n",
        "-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n",
        1,
    );
    for (text, told) in [
        (labelled("ENCRYPTED PRIVATE KEY", &chain.key), &["encrypted", "openssl pkey -in FILE -out NEW"][..]),
        (old, &["encrypted", "openssl pkey"]),
        (labelled("PUBLIC KEY", &chain.key), &["public key only"]),
        (labelled("EC PARAMETERS", &chain.key), &["parameters", "openssl genpkey"]),
        (labelled("CERTIFICATE REQUEST", &chain.key), &["certificate request"]),
        (labelled("OPENSSH PRIVATE KEY", &chain.key), &["OpenSSH", "openssl genpkey"]),
        (chain.leaf.clone(), &["has a certificate and no private key"]),
        (format!("{}{}", chain.key, Chain::new().key), &["more than one private key"]),
        (format!("{}\n", chain.key.trim_end().replace('\n', " ")), &["joins several lines"]),
        (labelled("PRIVATE KEY", &chain.leaf), &["damaged", "openssl pkey -in FILE -noout -text"]),
        (rsa_of_1024_bits(), &["an RSA key of 1024 bits", "openssl genpkey"]),
        (labelled("TSS2 PRIVATE KEY", &chain.key), &["only a TPM can use"]),
        (Chain::new().key, &["of another key", "openssl x509 -in CERT -noout -pubkey"]),
        (String::new(), &["is empty"]),
    ] {
        write_key(&deployment, text);

        assert_refused(&deployment, "AUTH_TLS__KEY_PATH", told);
    }
    write_key(&deployment, der(&chain.key));
    assert_refused(
        &deployment,
        "AUTH_TLS__KEY_PATH",
        &["in DER", "openssl pkey -inform DER -in FILE -out NEW"],
    );
    let folder = deployment.clone().set("AUTH_TLS__KEY_PATH", ".");
    assert_refused(&folder, "AUTH_TLS__KEY_PATH", &["is a directory", "name a file in it"]);
    let nowhere = deployment.set("AUTH_TLS__KEY_PATH", "nowhere.pem");
    assert_refused(&nowhere, "AUTH_TLS__KEY_PATH", &["correct the path"]);
}

#[test]
fn file_that_is_no_certificate_is_named_for_what_it_is() {
    let chain = Chain::new();
    let deployment = chain.put_into(Deployment::new());
    for (text, told) in [
        (chain.key.clone(), &["has a private key and no certificate"][..]),
        (labelled("CERTIFICATE REQUEST", &chain.leaf), &["certificate request"]),
        (labelled("PKCS7", &chain.leaf), &["PKCS #7", "openssl pkcs7 -in FILE -print_certs -out NEW"]),
        (labelled("PUBLIC KEY", &chain.leaf), &["public key"]),
        (
            labelled("CERTIFICATE", &chain.key),
            &["certificate 1 of cert.pem", "openssl storeutl -noout -text -certs FILE"],
        ),
        ("{\"kty\":\"EC\"}".to_owned(), &["is JSON and not PEM; the certificate in PEM is needed"]),
        (BASE64_STANDARD.encode(&chain.leaf), &["base64 once more", "base64 -d FILE > NEW"]),
        (labelled("AGE ENCRYPTED FILE", &chain.leaf), &["encrypted by age", "age -d -o NEW FILE"]),
        ("words".to_owned(), &["is not PEM"]),
        (String::new(), &["is empty"]),
    ] {
        deployment.write("cert.pem", &text);

        assert_refused(&deployment, "AUTH_TLS__CERT_PATH", told);
    }
    fs::write(deployment.folder().join("cert.pem"), der(&chain.leaf)).unwrap();
    assert_refused(
        &deployment,
        "AUTH_TLS__CERT_PATH",
        &["in DER", "openssl x509 -inform DER -in FILE -out NEW"],
    );
}

#[test]
fn check_names_the_certificate_and_the_key_where_both_are_broken() {
    let chain = Chain::new();
    let deployment = chain.put_into(Deployment::new());
    deployment.write("cert.pem", "words");
    write_key(&deployment, "words");

    let refused = deployment.run(&["config", "check"]);

    assert_eq!(refused.code, 2, "{refused:?}");
    for file in ["cert.pem, which AUTH_TLS__CERT_PATH", "key.pem, which AUTH_TLS__KEY_PATH"] {
        assert!(refused.stderr.contains(file), "{file}: {refused:?}");
    }
}

#[test]
fn check_reads_the_root_certificates_of_a_database_url() {
    let deployment = Deployment::bare().set(
        "AUTH_DATABASE__URL",
        "postgres://ann@db.example/auth?sslmode=verify-full&sslrootcert=nowhere.pem",
    );

    let refused = deployment.run(&["config", "check"]);

    assert!(refused.code == 2 && refused.stderr.contains("nowhere.pem"), "{refused:?}");
}

#[test]
fn combined_file_and_parameters_before_a_key_are_understood() {
    let chain = Chain::new();
    let deployment = chain.put_into(Deployment::new());
    let parameters = labelled("EC PARAMETERS", &chain.key);

    write_key(&deployment, format!("{parameters}{}", chain.key));
    assert_eq!(deployment.run(&["config", "check"]).code, 0);

    write_key(&deployment, format!("{}{}", chain.whole(), chain.key));
    let combined = deployment.set("AUTH_TLS__CERT_PATH", "key.pem");
    assert_eq!(combined.run(&["config", "check"]).code, 0);
}

#[test]
fn file_that_may_not_be_read_tells_what_to_do() {
    let chain = Chain::new();
    let deployment = chain.put_into(Deployment::new());
    fs::set_permissions(deployment.folder(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(deployment.folder().join("key.pem"), fs::Permissions::from_mode(0o0)).unwrap();
    let mut check = deployment.command(&["config", "check"]);
    if fs::metadata(deployment.folder()).unwrap().uid() == 0 {
        // Root reads everything.
        check.uid(65534).gid(65534);
    }

    let refused = check.output().unwrap();

    let told = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{told}");
    assert!(
        told.contains("AUTH_TLS__KEY_PATH names, cannot be read; let the user that auth-api runs as"),
        "{told}"
    );
}

#[test]
fn file_that_is_no_signing_key_is_named_for_what_it_is() {
    let chain = Chain::new();
    let deployment = Deployment::bare()
        .set("AUTH_TOKEN__ALGORITHM", "ES256")
        .set("AUTH_TOKEN__PRIVATE_KEY_FILE", "key.pem");
    write_key(&deployment, &chain.key);
    assert_eq!(deployment.run(&["config", "check"]).code, 0);
    for (text, told) in [
        (labelled("ENCRYPTED PRIVATE KEY", &chain.key), &["encrypted", "openssl pkey -in FILE -out NEW"][..]),
        (labelled("EC PRIVATE KEY", &chain.key), &["not in PKCS #8", "openssl pkey -in FILE -out NEW"]),
        (labelled("PUBLIC KEY", &chain.key), &["public key only"]),
        (chain.leaf.clone(), &["has a certificate and no private key"]),
        (format!("{}{}", chain.key.trim_end(), chain.leaf), &["joins several lines"]),
        (
            labelled("PRIVATE KEY", &chain.leaf),
            &["no whole private key", "openssl genpkey -algorithm ed25519"],
        ),
        (
            KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap().serialize_pem(),
            &["is a private key of P-384", "ES256 one of P-256"],
        ),
        (rsa_of_1024_bits(), &["an RSA key of 1024 bits", "2048 bits or more"]),
        ("{\"kty\":\"EC\"}".to_owned(), &["is JSON"]),
        (String::new(), &["is empty"]),
    ] {
        write_key(&deployment, text);

        assert_refused(&deployment, "AUTH_TOKEN__PRIVATE_KEY in the file that", told);
    }
    write_key(&deployment, der(&chain.key));
    assert_refused(&deployment, "AUTH_TOKEN__PRIVATE_KEY", &["in DER", "openssl pkey -inform DER"]);
}
