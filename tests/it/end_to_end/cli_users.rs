//! What an operator does with accounts.

use std::io::Write as _;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::cli::{PASSWORD, assert_refused, create, log_in, names};
use crate::support::server::Deployment;

fn show(deployment: &Deployment, name: &str) -> Value {
    deployment.run(&["users", "show", name, "--json"]).json()
}

#[test]
fn a_user_who_is_created_is_listed_and_shown() {
    let deployment = super::deployment();

    let created = create(&deployment, "Ann.Lee");

    assert_eq!(created.code, 0, "{created:?}");
    assert!(created.stdout.contains("Ann.Lee"), "{created:?}");
    let mut shown = show(&deployment, "ann.LEE");
    assert_eq!(shown["username"], "Ann.Lee");
    assert_eq!(shown.as_object_mut().unwrap().remove("wrong_passwords"), Some(json!({})));
    assert_eq!(shown["disabled_at"], Value::Null);
    assert_eq!(deployment.run(&["users", "list", "--json"]).json(), json!([shown]));
    let table = deployment.run(&["users", "list"]).stdout;
    assert!(table.starts_with("ID") && table.contains("Ann.Lee"), "{table}");
}

#[test]
fn nobody_is_listed_as_an_empty_array() {
    let deployment = super::deployment();
    deployment.run(&["migrate", "up"]);

    assert_eq!(deployment.run(&["users", "list", "--json"]).json(), json!([]));
}

#[test]
fn whoever_only_looks_waits_for_nobody_who_writes() {
    let deployment = super::deployment();
    create(&deployment, "ann");
    let _lock = deployment.lock();

    assert_eq!(names(&deployment), ["ann"]);
    assert_eq!(show(&deployment, "ann")["username"], "ann");
}

#[test]
fn a_taken_name_is_refused_in_any_spelling() {
    let deployment = super::deployment();
    create(&deployment, "ann");

    assert_refused(&create(&deployment, "ANN"), "taken");
    assert_eq!(names(&deployment), ["ann"]);
}

#[tokio::test]
async fn what_an_operator_does_to_an_account_holds_for_the_running_server() {
    let server = super::deployment().serve();
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
    let deployment = super::deployment();
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
    let deployment = super::deployment();
    deployment.run(&["migrate", "up"]);

    for command in ["show", "disable", "enable"] {
        assert_refused(&deployment.run(&["users", command, "nobody"]), "no user nobody");
    }
    assert_refused(&deployment.run(&["users", "delete", "nobody", "--yes"]), "no user nobody");
    assert_refused(&deployment.run_with(&["users", "set-password", "nobody"], PASSWORD), "no user nobody");
}

#[test]
fn nothing_is_deleted_unless_somebody_says_yes() {
    let deployment = super::deployment();
    create(&deployment, "ann");

    let unasked = deployment.run_with(&["users", "delete", "ann"], "y\n");

    assert_eq!(unasked.code, 2, "{unasked:?}");
    assert!(unasked.stderr.contains("--yes"), "{unasked:?}");
    assert_eq!(names(&deployment), ["ann"]);
}

#[test]
fn many_test_users_are_made_at_once_and_those_who_exist_are_left_alone() {
    // Where few may wait, fewer are made at once, and none is turned away.
    let deployment = super::deployment().set("AUTH_HASHING__QUEUE", "2");
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
fn a_list_is_by_number_and_as_long_as_asked_for() {
    let deployment = super::deployment();
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

#[test]
fn interrupted_creation_finishes_what_it_began_and_goes_on() {
    let deployment = super::deployment();
    deployment.run(&["migrate", "up"]);
    for signal in [Signal::INT, Signal::TERM] {
        let before = users(&deployment);
        let mut command = deployment.command(&["users", "create", "test", "--count", "1000"]);
        let mut process = command.stdin(Stdio::piped()).spawn().unwrap();
        process.stdin.take().unwrap().write_all(PASSWORD.as_bytes()).unwrap();
        while users(&deployment) == before {}

        kill_process(Pid::from_child(&process), signal).unwrap();
        let ended = process.wait_with_output().unwrap();

        assert_eq!(ended.status.code(), Some(1), "{ended:?}");
        assert!(String::from_utf8_lossy(&ended.stderr).contains("interrupted; the same command goes on"));
    }
}

fn users(deployment: &Deployment) -> usize {
    deployment.run(&["users", "list", "--json"]).json().as_array().unwrap().len()
}

#[test]
fn commands_that_list_need_no_secret() {
    let deployment = super::deployment();
    create(&deployment, "ann");
    let refresh_key = std::fs::read_to_string(deployment.folder().join("data/refresh-key")).unwrap();
    std::fs::remove_file(deployment.folder().join("data/refresh-key")).unwrap();
    let production = deployment
        .clone()
        .set("AUTH_ENV", "production")
        .unset("AUTH_LIMITS__ENABLED")
        .unset("AUTH_TOKEN__SECRET")
        .unset("AUTH_SESSION__REFRESH_KEY");

    for arguments in [
        &["users", "list", "--json"][..],
        &["sessions", "list", "ann", "--json"],
        &["audit", "list", "--json"],
    ] {
        let listed = production.run(arguments);
        assert_eq!(listed.code, 0, "{arguments:?}: {listed:?}");
    }
    assert_eq!(names(&production), ["ann"]);
    for arguments in [
        &["audit", "verify"][..],
        &["audit", "list", "--user", "ann"],
        &["users", "disable", "ann"],
        &["sessions", "revoke", "ann"],
    ] {
        let refused = production.run(arguments);
        assert_eq!(refused.code, 2, "{arguments:?}: {refused:?}");
        assert!(refused.stderr.contains("AUTH_SESSION__REFRESH_KEY is not set"), "{refused:?}");
    }

    // Changes need the key that seals their events, and no more.
    let sealed = production.clone().set("AUTH_AUDIT__KEY", refresh_key.trim_end());
    assert_eq!(sealed.run(&["users", "disable", "ann"]).code, 0);
    assert_eq!(sealed.run_with(&["users", "create", "bob"], PASSWORD).code, 0);
    assert_eq!(sealed.run(&["audit", "verify"]).code, 0);
    assert!(!deployment.folder().join("data/refresh-key").exists(), "no secret was made");
}
