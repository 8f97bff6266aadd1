//! Passwords that outlive a change of the engine, and hashes that the rest of the world can read.

use std::io::Write;
use std::process::{Command, Stdio};

use diesel::prelude::*;

use crate::support::client::{Client, PASSWORD};
use crate::support::external_tools::{is_installed, skip};
use crate::support::server::{Deployment, Server};

diesel::table! {
    users (username_key) {
        username_key -> Text,
        password_hash -> Text,
    }
}

/// At 72 bytes the longest that bcrypt takes whole, with letters that are more than one byte each.
const LONGEST: &str = "zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich sagt";

#[tokio::test]
async fn a_hash_of_either_engine_opens_with_the_other_and_with_the_systems_own_bcrypt() {
    assert_eq!(LONGEST.len(), 72);
    for (engine, other) in [("lanes", "reference"), ("reference", "lanes")] {
        let deployment = Deployment::new().set("AUTH_HASHING__ENGINE", engine);
        let server = deployment.serve();
        let client = Client::of(&server);
        for (name, password) in [("ann", PASSWORD), ("ben", LONGEST)] {
            assert_eq!(client.sign_up(name, password).await.status, 201);
        }
        server.stop();

        let server = deployment.clone().set("AUTH_HASHING__ENGINE", other).serve();

        let client = Client::of(&server);
        for (name, password) in [("ann", PASSWORD), ("ben", LONGEST)] {
            assert_eq!(client.log_in(name, password).await.status, 200, "{engine} then {other}");
            assert_eq!(client.log_in(name, &format!("{password}!")).await.status, 401);
            let hash = hash_of(&server, name);
            assert!(hash.starts_with("$2b$10$"), "{hash}");
            if !is_installed("perl") {
                return skip("the system's own bcrypt", "Debian's package perl-base");
            }
            assert_eq!(crypt(password, &hash), hash, "made by {engine}");
            assert_ne!(crypt(&password.replacen('e', "a", 1), &hash), hash);
        }
    }
}

/// What crypt(3) makes of a password by the settings of a hash. On Debian that is libxcrypt's.
fn crypt(password: &str, hash: &str) -> String {
    let script = "chomp(my ($password, $hash) = <STDIN>); print crypt($password, $hash)";
    let mut perl = Command::new("perl");
    perl.args(["-e", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut perl = perl.spawn().unwrap();
    writeln!(perl.stdin.take().unwrap(), "{password}\n{hash}").unwrap();
    String::from_utf8(perl.wait_with_output().unwrap().stdout).unwrap()
}

fn hash_of(server: &Server, name: &str) -> String {
    let path = server.deployment().folder().join("data/auth.db");
    let mut connection = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    let hashes = users::table.filter(users::username_key.eq(name)).select(users::password_hash);
    hashes.first(&mut connection).unwrap()
}
