//! Settings of the database that would lead to another one, or to it in clear, and what becomes of them.

use std::fs;

use crate::support::cli::create;
use crate::support::server::{Deployment, Finished};

const SECRETS: [(&str, &str); 2] = [
    ("AUTH_TOKEN__SECRET", "mE0Wk8Qn1vTzr4YbXc7uJdL2gHs9aPfR5oKiN3tB6yM="),
    ("AUTH_SESSION__REFRESH_KEY", "Zt5cVb1mQ8wXe7yRu3iKo0pLa9sDf4gHj2kNq6lTzWY="),
];

fn production() -> Deployment {
    let production = Deployment::bare().set("AUTH_ENV", "production");
    SECRETS.into_iter().fold(production, |deployment, (name, value)| deployment.set(name, value))
}

fn assert_refused(refused: &Finished, setting: &str, why: &str) {
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.stderr.contains(&format!("error: {setting} ")), "{refused:?}");
    assert!(refused.stderr.contains(why), "{refused:?}");
}

fn warnings(checked: &Finished) -> usize {
    checked.stderr.lines().filter(|line| line.contains("may cross it unencrypted")).count()
}

#[test]
fn production_refuses_a_database_in_clear_by_default() {
    for url in [
        "postgres://ann@db.example/auth",
        "postgres://ann@10.0.0.7/auth?sslrootcert=ca.pem",
        "postgresql://ann@localhost,db.example/auth",
        "postgres:///auth?host=/run/postgresql,db.example",
    ] {
        let deployment = production().set("AUTH_DATABASE__URL", url);
        for arguments in [
            &["config", "check"][..],
            &["serve"],
            &["migrate", "up"],
            &["migrate", "status"],
            &["users", "list"],
        ] {
            assert_refused(&deployment.run(arguments), "AUTH_DATABASE__URL", "sslmode=verify-full");
        }
        let named = production().set("AUTH_DATABASE__URL_FILE", "url");
        named.write("url", &format!("{url}\n"));
        assert_refused(&named.run(&["config", "check"]), "AUTH_DATABASE__URL", "sslmode=verify-full");

        let development = deployment.set("AUTH_ENV", "development");
        development.write("ca.pem", &authority());
        let checked = development.run(&["config", "check"]);
        assert_eq!((checked.code, warnings(&checked)), (0, 0), "{checked:?}");
    }
}

#[test]
fn production_warns_of_a_database_in_clear_by_choice() {
    for (url, expected) in [
        ("postgres://ann@db.example/auth?sslmode=disable", 1),
        ("postgres://ann@db.example/auth?sslmode=prefer", 1),
        ("postgres://ann@db.example/auth?sslmode=require", 0),
        ("postgres://ann@localhost/auth", 0),
        ("postgres://ann@127.0.0.1,[::1]/auth", 0),
        ("postgres:///auth?host=/run/postgresql", 0),
    ] {
        let checked = production().set("AUTH_DATABASE__URL", url).run(&["config", "check"]);

        assert_eq!((checked.code, warnings(&checked)), (0, expected), "{url} {checked:?}");
    }
    let allow = production().set("AUTH_DATABASE__URL", "postgres://ann@db.example/auth?sslmode=allow");
    assert_refused(&allow.run(&["config", "check"]), "AUTH_DATABASE__URL", "sslmode");
}

#[test]
fn production_copies_to_no_database_in_clear_by_default() {
    let deployment = production();
    deployment.write("url", "postgres://ann@db.example/auth\n");
    let here = "sqlite://data/auth.db";
    let there = "postgres://ann@db.example/auth";

    for (arguments, option) in [
        (["--from", here, "--to", there], "--to"),
        (["--from", there, "--to", here], "--from"),
        (["--from", here, "--to-file", "url"], "--to"),
        (["--from-file", "url", "--to", here], "--from"),
    ] {
        let refused = deployment.run(&[&["database", "copy"], &arguments[..]].concat());

        assert_refused(&refused, option, "sslmode=verify-full");
    }
}

#[test]
fn database_path_with_stray_characters_makes_no_database() {
    for stray in ["\n", "\r\n", "\r", " ", "\t", "\u{a0}", "\u{feff}", "\u{200b}", "'", "\""] {
        let url = format!("sqlite://data/auth.db{stray}");
        let by_file = Deployment::new().set("AUTH_DATABASE__URL_FILE", "url");
        // One line end after the URL is no part of it, and has two forms.
        by_file.write("url", &format!("{url}\n\n"));
        let by_variable = Deployment::new().set("AUTH_DATABASE__URL", &url);

        for deployment in [by_file, by_variable] {
            for arguments in [&["serve"][..], &["migrate", "up"], &["config", "check"]] {
                assert_refused(&deployment.run(arguments), "AUTH_DATABASE__URL", "ends with");
            }
            assert!(!deployment.folder().join("data").exists(), "{stray:?}");
        }

        let deployment = Deployment::new();
        create(&deployment, "ann");
        for arguments in [
            &["database", "copy", "--from", "sqlite://data/auth.db", "--to", &url.replace("auth", "b")][..],
            &["database", "copy", "--from", &url, "--to", "sqlite://b.db"],
            &["database", "backup", &format!("backup{stray}")],
            &["users", "export", "--output", &format!("users{stray}")],
        ] {
            let refused = deployment.run(arguments);
            assert!(refused.code == 2 && refused.stderr.contains("ends with"), "{refused:?}");
        }
        let left = fs::read_dir(deployment.folder()).unwrap().map(|file| file.unwrap().file_name());
        assert_eq!(left.collect::<Vec<_>>(), ["data"]);
    }
}

#[test]
fn pool_size_is_a_number_from_1_to_256() {
    let check =
        |size: &str| Deployment::bare().set("AUTH_DATABASE__POOL_SIZE", size).run(&["config", "check"]);

    for size in ["1", "16", "256"] {
        assert_eq!(check(size).code, 0, "{size}");
    }
    for size in ["0", "257", "-1", "many"] {
        assert_refused(&check(size), "AUTH_DATABASE__POOL_SIZE", "from 1 to 256");
    }
}

fn authority() -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap().pem()
}
