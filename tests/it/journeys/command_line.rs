//! What an operator does at the command line.

use std::process::Stdio;

use domain::ports::{NewUser, UserRepo};
use domain::{PasswordHash, Username};
use futures_util::future::join_all;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::support::attempts::tried;
use crate::support::lock::Lock;
use crate::support::server::{Deployment, Finished, Server};
use crate::support::sqlite;

const PASSWORD: &str = "kq7wzmv1 river";

fn create(deployment: &Deployment, name: &str) -> Finished {
    deployment.run_with(&["users", "create", name], PASSWORD)
}

fn show(deployment: &Deployment, name: &str) -> Value {
    deployment.run(&["users", "show", name, "--json"]).json()
}

fn names(deployment: &Deployment) -> Vec<String> {
    let users = deployment.run(&["users", "list", "--json"]).json();
    users.as_array().unwrap().iter().map(|user| user["username"].as_str().unwrap().to_owned()).collect()
}

/// That it was refused: by exit code, with one line that says why, and no answer.
fn assert_refused(finished: &Finished, why: &str) {
    assert_eq!((finished.code, finished.stdout.as_str()), (3, ""), "{finished:?}");
    let errors: Vec<_> = finished.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert!(errors.len() == 1 && errors[0].contains(why), "{finished:?}");
}

async fn log_in(server: &Server, password: &str) -> u16 {
    let body = json!({"username": "ann", "password": password});
    let request = reqwest::Client::new().post(server.url("/api/login")).json(&body);
    request.send().await.unwrap().status().as_u16()
}

#[test]
fn a_user_who_is_created_is_listed_and_shown() {
    let deployment = Deployment::new();

    let created = create(&deployment, "Ann.Lee");

    assert_eq!(created.code, 0, "{created:?}");
    assert!(created.stdout.contains("Ann.Lee"), "{created:?}");
    let shown = show(&deployment, "ann.LEE");
    assert_eq!(shown["username"], "Ann.Lee");
    assert_eq!(shown["disabled_at"], Value::Null);
    assert_eq!(deployment.run(&["users", "list", "--json"]).json(), json!([shown]));
    let table = deployment.run(&["users", "list"]).stdout;
    assert!(table.starts_with("ID") && table.contains("Ann.Lee"), "{table}");
}

#[test]
fn nobody_is_listed_as_an_empty_array() {
    let deployment = Deployment::new();
    deployment.run(&["migrate", "up"]);

    assert_eq!(deployment.run(&["users", "list", "--json"]).json(), json!([]));
}

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
fn whoever_only_looks_waits_for_nobody_who_writes() {
    let deployment = Deployment::new();
    create(&deployment, "ann");
    let _lock = Lock::take(&deployment.folder().join("data/auth.db"));

    assert_eq!(names(&deployment), ["ann"]);
    assert_eq!(show(&deployment, "ann")["username"], "ann");
}

#[test]
fn a_taken_name_is_refused_in_any_spelling() {
    let deployment = Deployment::new();
    create(&deployment, "ann");

    assert_refused(&create(&deployment, "ANN"), "taken");
    assert_eq!(names(&deployment), ["ann"]);
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
        [(" kq7wzmv1 \n", " kq7wzmv1 "), ("kq7wzmv1\r\n", "kq7wzmv1"), ("kq7wzmv1\n\n", "kq7wzmv1\n")]
    {
        deployment.run(&["users", "delete", "ann", "--yes"]);
        let created = deployment.run_with(&["users", "create", "ann"], input);
        assert_eq!(created.code, 0, "{created:?}");

        assert_eq!(runtime.block_on(log_in(&server, password)), 200, "{input:?}");
    }
}

#[tokio::test]
async fn what_an_operator_does_to_an_account_holds_for_the_running_server() {
    let server = Server::start();
    let deployment = server.deployment();
    create(deployment, "ann");
    assert_eq!(log_in(&server, PASSWORD).await, 200);

    assert_eq!(deployment.run(&["users", "disable", "Ann"]).code, 0);
    assert!(show(deployment, "ann")["disabled_at"].is_string());
    assert_eq!(log_in(&server, PASSWORD).await, 401);

    assert_eq!(deployment.run(&["users", "enable", "ann"]).code, 0);
    assert_eq!(show(deployment, "ann")["disabled_at"], Value::Null);
    assert_eq!(log_in(&server, PASSWORD).await, 200);

    assert_refused(&deployment.run_with(&["users", "set-password", "ann"], "password"), "easy to guess");
    assert_eq!(deployment.run_with(&["users", "set-password", "ann"], "another vx9 lantern").code, 0);
    assert_eq!(log_in(&server, PASSWORD).await, 401);
    assert_eq!(log_in(&server, "another vx9 lantern").await, 200);

    assert_eq!(deployment.run(&["users", "delete", "ann", "--yes"]).code, 0);
    assert_eq!(log_in(&server, "another vx9 lantern").await, 401);
    assert_eq!(names(deployment), [""; 0]);
}

#[test]
fn what_an_operator_does_is_put_on_record_without_names() {
    let deployment = Deployment::new();
    create(&deployment, "somebody");

    for (command, event) in [("disable", "disable"), ("enable", "enable"), ("delete", "delete")] {
        let yes = if command == "delete" { &["--yes"][..] } else { &[] };
        let done = deployment.run(&[&["users", command, "somebody"][..], yes].concat());

        let line: Value = serde_json::from_str(done.stderr.lines().next().unwrap()).unwrap();
        assert_eq!((&line["event"], &line["outcome"]), (&json!(event), &json!("success")), "{line}");
        assert_eq!((&line["client"], &line["user_id"]), (&json!("command_line"), &json!(1)), "{line}");
        assert!(!done.stderr.contains("somebody"), "{done:?}");
    }
}

#[test]
fn nobody_gets_an_exit_code_of_its_own() {
    let deployment = Deployment::new();
    deployment.run(&["migrate", "up"]);

    for command in ["show", "disable", "enable"] {
        assert_refused(&deployment.run(&["users", command, "nobody"]), "no user nobody");
    }
    assert_refused(&deployment.run(&["users", "delete", "nobody", "--yes"]), "no user nobody");
    assert_refused(&deployment.run_with(&["users", "set-password", "nobody"], PASSWORD), "no user nobody");
}

#[test]
fn nothing_is_deleted_unless_somebody_says_yes() {
    let deployment = Deployment::new();
    create(&deployment, "ann");

    let unasked = deployment.run_with(&["users", "delete", "ann"], "y\n");

    assert_eq!(unasked.code, 2, "{unasked:?}");
    assert!(unasked.stderr.contains("--yes"), "{unasked:?}");
    assert_eq!(names(&deployment), ["ann"]);
}

#[test]
fn many_test_users_are_made_at_once_and_those_who_exist_are_left_alone() {
    // Where few may wait, fewer are made at once, and none is turned away.
    let deployment = Deployment::new().set("AUTH_HASHING__QUEUE", "2");
    let make = |count| deployment.run_with(&["users", "create", "test", "--count", count], PASSWORD);

    let first = make("3");
    let second = make("5");

    assert_eq!((first.code, second.code), (0, 0), "{first:?} {second:?}");
    assert_eq!(first.stdout, "created 3 users; 0 existed already\n");
    assert_eq!(second.stdout, "created 2 users; 3 existed already\n");
    let mut names = names(&deployment);
    names.sort();
    assert_eq!(names, ["test-1", "test-2", "test-3", "test-4", "test-5"]);
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

#[test]
fn a_list_is_by_number_and_as_long_as_asked_for() {
    let deployment = Deployment::new();
    for name in ["cleo", "ann", "bob"] {
        create(&deployment, name);
    }

    let listed = |limit| {
        let users = deployment.run(&["users", "list", "--json", "--limit", limit]).json();
        users.as_array().unwrap().iter().map(|user| user["username"].clone()).collect::<Vec<_>>()
    };

    assert_eq!(listed("2"), ["cleo", "ann"]);
    assert_eq!(listed("3"), ["cleo", "ann", "bob"]);
    assert_eq!(listed("1000"), ["cleo", "ann", "bob"]);
    assert_eq!(listed("0"), [""; 0]);
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
