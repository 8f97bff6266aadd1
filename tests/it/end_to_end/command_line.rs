//! What an operator does at the command line.

use std::process::Stdio;

use domain::ports::{NewUser, UserRepo};
use domain::{PasswordHash, Username};
use futures_util::future::join_all;
use jiff::Timestamp;

use crate::support::audit_fixtures::tried;
use crate::support::cli::{PASSWORD, assert_refused, create, log_in, names};
use crate::support::server::{Deployment, Server};
use crate::support::sqlite;

#[test]
fn whoever_only_looks_makes_no_database() {
    let deployment = Deployment::new();

    for arguments in [&["users", "list"][..], &["users", "show", "ann"]] {
        let refused = deployment.run(arguments);

        assert_eq!(refused.code, 1, "{refused:?}");
        assert!(refused.stderr.contains("no database yet"), "{refused:?}");
        assert!(!deployment.folder().join("data/auth.db").exists());
    }
}

#[test]
fn a_name_or_a_password_that_cannot_be_chosen_is_refused_with_the_reason() {
    let deployment = Deployment::new();

    assert_refused(&create(&deployment, "an"), "too short");
    assert_refused(&create(&deployment, "ann\u{1b}[31m"), "characters");
    let with = |password: &str| deployment.run_with(&["users", "create", "ann"], password);
    assert_refused(&with(""), "at least 8");
    assert_refused(&with("password1\n"), "easy to guess");
    assert_refused(&with(&"x".repeat(300)), "256");
    assert_refused(&with(&"x".repeat(100_000)), "256");
    assert_eq!(names(&deployment), [""; 0]);
}

#[test]
fn a_password_is_never_an_argument() {
    let deployment = Deployment::new();

    for arguments in
        [&["users", "create", "ann", PASSWORD][..], &["users", "create", "ann", "--password", PASSWORD]]
    {
        assert_eq!(deployment.run(arguments).code, 2);
    }
    deployment.run(&["migrate", "up"]);
    assert_eq!(names(&deployment), [""; 0]);
}

#[test]
fn a_password_loses_one_line_end_and_nothing_else() {
    let server = Server::start();
    let deployment = server.deployment();
    let runtime = tokio::runtime::Runtime::new().unwrap();

    for (input, password) in
        [(" kq7wzmv1 \n", " kq7wzmv1 "), ("kq7wzmv1\r\n", "kq7wzmv1"), ("kq7wzmv1", "kq7wzmv1")]
    {
        deployment.run(&["users", "delete", "ann", "--yes"]);
        let created = deployment.run_with(&["users", "create", "ann"], input);
        assert_eq!(created.code, 0, "{created:?}");

        assert_eq!(runtime.block_on(log_in(&server, password)), 200, "{input:?}");
    }
    assert_refused(&deployment.run_with(&["users", "set-password", "ann"], "kq7wzmv1\n\n"), "line end");
}

#[test]
fn a_bulk_that_cannot_succeed_stops_at_the_first_refusal() {
    let deployment = Deployment::new();

    let refused = deployment.run_with(&["users", "create", "test", "--count", "1000000"], "password");

    assert_eq!(refused.code, 3, "{refused:?}");
    assert!(refused.stderr.contains("easy to guess"), "{refused:?}");
    assert_refused(
        &deployment.run_with(&["users", "create", &"x".repeat(60), "--count", "10000"], PASSWORD),
        "64",
    );
    // Its first nine names are too short, and the hundredth is not.
    assert_refused(&deployment.run_with(&["users", "create", "", "--count", "100"], PASSWORD), "too short");
}

#[tokio::test]
async fn a_list_is_whole_however_long_it_is() {
    let store = sqlite::fresh();
    let new = |number: u32| NewUser {
        name: Username::parse(&format!("user-{number}")).unwrap(),
        password_hash: PasswordHash::new("none".to_owned()),
        at: "2026-11-22T12:00:00Z".parse().unwrap(),
    };
    // As many at once as the store lets wait.
    for numbers in (1..=1001).collect::<Vec<_>>().chunks(100) {
        let insert = |number: &u32| store.insert(new(*number), tried(Timestamp::UNIX_EPOCH));
        let inserted = join_all(numbers.iter().map(insert)).await;
        assert!(inserted.iter().all(Result::is_ok));
    }

    let deployment =
        Deployment::new().set("AUTH_DATABASE__URL", format!("sqlite://{}", store.path().display()));

    assert_eq!(names(&deployment).len(), 1001);
}

#[test]
fn an_answer_that_nobody_reads_is_no_error() {
    let deployment = Deployment::new();
    create(&deployment, "ann");

    for arguments in [&["users", "list"][..], &["users", "list", "--json"], &["config", "show"], &["openapi"]]
    {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = deployment.command(arguments).stdout(writer).stderr(Stdio::piped()).output().unwrap();

        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "", "{arguments:?}");
    }
}

#[test]
fn a_database_out_of_reach_stops_every_command_and_its_password_is_not_told() {
    let deployment = Deployment::new().set("AUTH_DATABASE__URL", "postgres://ann:xcanaryx@127.0.0.1:1/auth");

    for arguments in [&["serve"][..], &["users", "list"], &["migrate", "up"], &["migrate", "status"]] {
        let refused = deployment.run(arguments);

        assert_eq!(refused.code, 1, "{refused:?}");
        assert!(refused.stderr.contains("the database postgres://127.0.0.1:1/auth: no server answers"));
        assert!(!format!("{refused:?}").contains("canary"), "{refused:?}");
    }
}

#[test]
fn the_openapi_document_is_printed() {
    let document = Deployment::new().run(&["openapi"]).json();

    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    assert!(document["paths"]["/api/login"]["post"].is_object());
}

#[test]
fn a_healthcheck_tells_a_ready_server_from_none() {
    let server = Server::start();
    let deployment = server.deployment().clone().set("AUTH_HTTP__ADDR", server.address());

    let ready = deployment.run(&["healthcheck"]);
    server.stop();
    let gone = deployment.run(&["healthcheck"]);

    assert_eq!((ready.code, ready.stdout.as_str()), (0, "ready\n"), "{ready:?}");
    assert_eq!(gone.code, 1, "{gone:?}");
}

#[test]
fn every_command_explains_itself() {
    let deployment = Deployment::new();
    for command in [
        &[][..],
        &["serve"],
        &["migrate"],
        &["migrate", "status"],
        &["users"],
        &["users", "create"],
        &["config"],
        &["healthcheck"],
    ] {
        let help = deployment.run(&[command, &["--help"]].concat());

        assert_eq!(help.code, 0, "{help:?}");
        assert!(help.stdout.contains("Usage:"), "{help:?}");
    }
    assert!(deployment.run(&["--help"]).stdout.contains("Exit codes:"));
    assert!(deployment.run(&["config", "--help"]).stdout.contains("AUTH_TOKEN__ACCESS_TTL"));
}
