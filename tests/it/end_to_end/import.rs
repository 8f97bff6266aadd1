//! Users who come from elsewhere, and go there.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Child;

use diesel::connection::SimpleConnection;
use futures_util::StreamExt;
use futures_util::stream;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::client::{Client, PASSWORD};
use crate::support::python_service::{self, LONG, PASSWORDS};
use crate::support::server::{Deployment, Finished};

/// A database that is up to date.
fn migrated(deployment: Deployment) -> Deployment {
    let migrated = deployment.run(&["migrate", "up"]);
    assert_eq!(migrated.code, 0, "{migrated:?}");
    deployment
}

/// The line of a user whose password is the first of [`PASSWORDS`].
fn line(id: usize, name: &str) -> String {
    let user = json!({
        "id": id, "username": name, "password_hash": PASSWORDS[0].1,
        "created_at": format!("2023-05-06T07:08:09.{id:06}Z"), "updated_at": "2024-05-06T07:08:09.000000Z",
        "disabled_at": null,
    });
    user.to_string() + "\n"
}

fn lines(users: usize) -> String {
    (1..=users).map(|id| line(id, &format!("user{id}"))).collect()
}

fn users(deployment: &Deployment) -> Vec<Value> {
    deployment.run(&["users", "list", "--json"]).json().as_array().unwrap().clone()
}

fn names(deployment: &Deployment) -> Vec<String> {
    users(deployment).iter().map(|user| user["username"].as_str().unwrap().to_owned()).collect()
}

/// What was imported, there already and refused.
fn summary(imported: usize, there: usize, refused: usize) -> String {
    format!("imported {imported} users; {there} were there already; {refused} were refused\n")
}

fn assert_imported(finished: &Finished, imported: usize, there: usize) {
    assert_eq!(finished.code, 0, "{finished:?}");
    let note = finished.stdout.strip_prefix(&summary(imported, there, 0)).expect("a summary");
    let (users, text) = note.split_once(' ').unwrap_or(("0", ""));
    assert_eq!(users, (imported + there).to_string(), "{finished:?}");
    assert!(users == "0" || text.contains("72 bytes") && text.contains("users set-password"), "{note}");
}

/// The exit code, and the lines that say what is wrong.
fn errors(finished: &Finished) -> (i32, Vec<&str>) {
    let errors = finished.stderr.lines().filter_map(|line| line.strip_prefix("error: ")).collect();
    (finished.code, errors)
}

/// An import that has written some users and goes on with others.
fn under_way(deployment: &Deployment, file: &str) -> Child {
    let mut import = deployment.command(&["users", "import", file]).spawn().unwrap();
    let mut said = BufReader::new(import.stderr.take().unwrap()).lines().map(Result::unwrap);
    let first = said.find(|line| line.contains("\"event\":\"import\""));
    assert!(first.is_some_and(|line| line.contains("success")));
    // Somebody has to read on, or it would wait for that.
    std::thread::spawn(move || said.for_each(drop));
    import
}

#[tokio::test]
async fn ten_thousand_users_of_the_python_service_come_and_every_33rd_logs_in_with_their_password() {
    let deployment = migrated(super::deployment());
    let all = (1..=10_000).map(|id| python_service::user(id, &format!("user{id}")));
    let path = python_service::database(deployment.folder(), all);

    let imported = deployment.run(&["users", "import", path.to_str().unwrap()]);

    assert_eq!(imported.code, 0, "{imported:?}");
    let (counts, note) = imported.stdout.split_once('\n').unwrap();
    assert_eq!(format!("{counts}\n"), summary(10_000, 0, 0));
    assert!(note.contains("72 bytes") && note.contains("users set-password"), "{note}");
    let server = deployment.serve();
    let client = Client::of(&server);
    // Their passwords are four, so any of them tell as much as all of one row in four.
    let logins = stream::iter((1..=10_000).step_by(33)).map(|id| {
        let (client, name) = (client.clone(), format!("USER{id}"));
        async move {
            let password = PASSWORDS[id % PASSWORDS.len()].0;
            (id, client.log_in(&name, password).await.status.as_u16())
        }
    });
    let answers: Vec<_> = logins.buffer_unordered(4).collect().await;
    assert_eq!(answers.len(), 304);
    assert!(answers.iter().all(|(_, status)| *status == 200), "{answers:?}");
    client.log_in("user1", PASSWORDS[0].0).await.assert_problem(401, "invalid_credentials");
    client.log_in("user3", LONG).await.assert_problem(401, "invalid_credentials");
    let token = client.log_in("user42", PASSWORDS[42 % 4].0).await.token();
    let me = client.me(&token).await.json();
    assert_eq!(me["created_at"], "2023-05-06T07:08:09.000042Z");
    assert_eq!(me["updated_at"], "2024-05-06T07:08:09.000000Z");
}

#[tokio::test]
async fn import_from_any_source_says_who_may_not_log_in() {
    let hashed = |id: usize, name: &str, hash: &str| line(id, name).replace(PASSWORDS[0].1, hash);
    let truncated = PASSWORDS[3].1;
    let php = truncated.replacen("$2b$", "$2y$", 1);
    let whole = "$bcrypt-sha256$v=2,t=2b,r=10$iJoYuIVFsKYKVMAk03iAh.$TQURpVpiVKLzYwCu5Z.I7LPMYLYy26O";
    let file = [hashed(1, "php", &php), hashed(2, "passlib", truncated), hashed(3, "whole", whole)].concat();
    let deployment = migrated(super::deployment());

    let imported = deployment.run_with(&["users", "import"], &file);

    assert_eq!(imported.code, 0, "{imported:?}");
    let note = imported.stdout.strip_prefix(&summary(3, 0, 0)).unwrap();
    assert!(note.starts_with("3 of these users have bcrypt hashes"), "{note}");
    assert!(note.contains("72 bytes") && note.contains("auth-api users set-password"), "{note}");
    let server = deployment.serve();
    let client = Client::of(&server);
    for name in ["php", "passlib"] {
        client.log_in(name, LONG).await.assert_problem(401, "invalid_credentials");
        let set = deployment.run_with(&["users", "set-password", name], LONG);
        assert_eq!(set.code, 0, "{set:?}");
        assert_eq!(client.log_in(name, LONG).await.status, 200);
    }
}

#[tokio::test]
async fn who_is_exported_is_imported_elsewhere_as_they_were() {
    let old = Deployment::new();
    let server = old.serve();
    let client = Client::of(&server);
    for name in ["Ann", "Zoé", "eve"] {
        assert_eq!(client.sign_up(name, PASSWORD).await.status, 201);
    }
    old.run(&["users", "disable", "eve"]);
    let new = migrated(super::deployment());

    let exported = old.run(&["users", "export"]);
    let imported = new.run_with(&["users", "import"], &exported.stdout);

    assert_imported(&imported, 3, 0);
    assert_eq!(exported.code, 0, "{exported:?}");
    assert_eq!(new.run(&["users", "export"]).stdout, exported.stdout);
    assert_eq!(users(&new), users(&old));
    let server = new.serve();
    let client = Client::of(&server);
    assert_eq!(client.log_in("zoé", PASSWORD).await.status, 200);
    assert_eq!(client.log_in("eve", PASSWORD).await.status, 401);
    assert_imported(&new.run_with(&["users", "import", "-"], &exported.stdout), 0, 3);
}

#[test]
fn an_export_has_a_user_in_each_line() {
    let deployment = migrated(super::deployment());
    deployment.run_with(&["users", "import"], &lines(1001));

    let exported = deployment.run(&["users", "export"]);

    let parsed: Vec<Value> = exported.stdout.lines().map(|line| line.parse().unwrap()).collect();
    let ids: Vec<_> = parsed.iter().map(|user| user["id"].as_i64().unwrap()).collect();
    assert_eq!(ids, (1..=1001).collect::<Vec<_>>());
    assert_eq!(parsed[6], line(7, "user7").parse::<Value>().unwrap());
    let hash = PASSWORDS[0].1;
    let seventh = format!(
        "{{\"id\":7,\"username\":\"user7\",\"password_hash\":\"{hash}\",\
         \"created_at\":\"2023-05-06T07:08:09.000007Z\",\"updated_at\":\"2024-05-06T07:08:09.000000Z\",\
         \"disabled_at\":null}}"
    );
    assert_eq!(exported.stdout.lines().nth(6), Some(&*seventh));
}

#[test]
fn an_export_into_a_file_is_for_its_owner_and_takes_no_others_place() {
    let deployment = migrated(super::deployment());
    deployment.run_with(&["users", "import"], &lines(2));
    let export = || deployment.run(&["users", "export", "--output", "users.jsonl"]);

    let exported = export();
    let again = export();

    let file = deployment.folder().join("users.jsonl");
    assert_eq!((exported.code, &*exported.stdout), (0, "exported 2 users to users.jsonl\n"), "{exported:?}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(errors(&again).0, 1, "{again:?}");
    assert!(again.stderr.contains("users.jsonl"), "{again:?}");
    assert_eq!(fs::read_to_string(&file).unwrap(), deployment.run(&["users", "export"]).stdout);
    assert!(!deployment.folder().join("users.jsonl.partial").exists());
}

#[test]
fn an_export_that_is_broken_off_is_not_taken_for_a_whole_one() {
    let deployment = migrated(super::deployment());
    deployment.run_with(&["users", "import"], &lines(2000));

    let mut export = deployment.command(&["users", "export"]).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(export.stdout.take().unwrap()).read_line(&mut first).unwrap();
    let broken_off = export.wait_with_output().unwrap();

    assert!(first.contains("user1"), "{first}");
    let said = String::from_utf8(broken_off.stderr).unwrap();
    assert_eq!(broken_off.status.code(), Some(1), "{said}");
    assert!(said.contains("the export is not whole"), "{said}");
    fs::create_dir(deployment.folder().join("users.jsonl.partial")).unwrap();
    let in_the_way = deployment.run(&["users", "export", "--output", "users.jsonl"]);
    assert_eq!(in_the_way.code, 1, "{in_the_way:?}");
    assert!(!deployment.folder().join("users.jsonl").exists());
}

#[test]
fn what_comes_and_goes_is_in_the_audit_log_and_no_hash_is() {
    let deployment = migrated(super::deployment());

    let imported = deployment.run_with(&["users", "import"], &lines(2));
    let exported = deployment.run(&["users", "export"]);

    let listed = deployment.run(&["audit", "list", "--json"]);
    let listed = listed.json();
    let events: Vec<_> =
        listed.as_array().unwrap().iter().map(|it| [&it["event"], &it["username"]]).collect();
    assert_eq!(json!(events), json!([["import", "user1"], ["import", "user2"], ["export", null]]));
    assert_eq!(deployment.run(&["audit", "verify"]).code, 0);
    for said in [&imported.stdout, &imported.stderr, &exported.stderr, &listed.to_string()] {
        assert!(!said.contains("$2b$") && !said.contains(&PASSWORDS[0].1[7..]), "{said}");
    }
}

#[test]
fn one_user_who_cannot_come_keeps_all_out_and_each_is_named() {
    let deployment = migrated(super::deployment());
    let of = |name: &str, from: &str, to: &str| line(9, name).replace(from, to);
    let file = [
        line(1, "ann"),
        line(2, "an"),
        "no line of JSON\n".to_owned(),
        of("bob", "$2b$10$", "$2b$31$"),
        of("bob", PASSWORDS[0].1, "$argon2id$v=19$m=65536,t=3,p=4$c2FsdA$aGFzaA"),
        of("bob", "2023-05-06", "2123-05-06"),
        of("bob", "\"disabled_at\"", "\"e_mail\""),
        line(3, "ANN"),
        "x".repeat(100_000) + "\n",
        line(4, "cleo"),
    ]
    .concat();
    let reasons = [
        "line 2: the name is too short",
        "line 3: the line is no JSON, from column 2 on",
        "line 4: the hash has a cost of 31, and 4 to 16 are accepted",
        "line 5: the hash is of no format that is known here",
        "line 6: created_at is before 1970 or in the future",
        "line 7: there is an unknown field, e_mail",
        "line 8: line 1 has the same name, in this spelling or another",
        "line 9: the line is longer than 16384 bytes",
    ];

    let refused = deployment.run_with(&["users", "import"], &file);

    let report = [reasons.join("\n"), "8 of 10 users would be refused; nobody was imported\n".to_owned()];
    assert_eq!(refused.stdout, report.join("\n"));
    let (code, errors) = errors(&refused);
    assert_eq!(code, 3, "{refused:?}");
    assert!(errors.len() == 1 && errors[0].contains("--skip-refused"), "{errors:?}");
    assert!(names(&deployment).is_empty());

    let skipped = deployment.run_with(&["users", "import", "--skip-refused"], &file);

    assert_eq!(skipped.code, 3);
    assert!(skipped.stdout.starts_with(&[reasons.join("\n"), summary(2, 0, 8)].join("\n")), "{skipped:?}");
    assert_eq!(names(&deployment), ["ann", "cleo"]);
    let again = deployment.run_with(&["users", "import", "--skip-refused"], &file);
    assert_eq!(again.code, 3);
    assert!(again.stdout.starts_with(&[reasons.join("\n"), summary(0, 2, 8)].join("\n")), "{again:?}");
}

#[test]
fn of_a_file_that_is_something_else_a_hundred_lines_are_named_and_the_others_counted() {
    let deployment = migrated(super::deployment());
    let file = line(1, "ann") + &"no line of JSON\n".repeat(700);

    let refused = deployment.run_with(&["users", "import"], &file);
    let skipped = deployment.run_with(&["users", "import", "--skip-refused"], &file);

    let named = |finished: &Finished| finished.stdout.lines().filter(|it| it.starts_with("line ")).count();
    assert_eq!((refused.code, named(&refused)), (3, 100), "{refused:?}");
    let rest = "and 600 more\n700 of 701 users would be refused; nobody was imported\n";
    assert!(refused.stdout.ends_with(rest), "{refused:?}");
    assert_eq!((skipped.code, named(&skipped)), (3, 700), "{skipped:?}");
    assert!(skipped.stdout.contains(&summary(1, 0, 700)), "{skipped:?}");
}

#[test]
fn rows_of_the_python_service_that_cannot_come_are_named_by_their_ids() {
    let deployment = migrated(super::deployment());
    let hash = PASSWORDS[0].1;
    let rows = [
        python_service::user(3, "ann"),
        python_service::user(7, "somebody else"),
        format!("(8, 'bob', '{hash}', NULL, NULL)"),
        "(9, 'cleo', 'plain text', '2023-05-06 07:08:09', NULL)".to_owned(),
        python_service::user(12, "Ann"),
    ];
    let path = python_service::database(deployment.folder(), rows);

    let refused = deployment.run(&["users", "import", path.to_str().unwrap()]);

    let expected = "\
        the row with id 7: the name has characters that a name cannot have\n\
        the row with id 8: created_at is no time such as 2024-01-31 12:00:00.000000\n\
        the row with id 9: the hash is of no format that is known here\n\
        the row with id 12: the row with id 3 has the same name, in this spelling or another\n\
        4 of 5 users would be refused; nobody was imported\n";
    assert_eq!((refused.code, &*refused.stdout), (3, expected), "{refused:?}");
    assert!(names(&deployment).is_empty());
}

#[test]
fn a_name_that_somebody_else_has_keeps_all_out_too() {
    let deployment = migrated(super::deployment());
    deployment.run_with(&["users", "create", "user2"], PASSWORD);

    let refused = deployment.run_with(&["users", "import"], &lines(3));

    let expected = "line 2: somebody else has the name, in this spelling or another\n\
                    1 of 3 users would be refused; nobody was imported\n";
    assert_eq!((refused.code, &*refused.stdout), (3, expected), "{refused:?}");
    assert_eq!(names(&deployment), ["user2"]);
}

#[test]
fn numbers_are_kept_on_request_and_never_given_twice() {
    let deployment = migrated(super::deployment());
    let file = [line(5, "ann"), line(70, "bob")].concat();
    let import = |file: &str| deployment.run_with(&["users", "import", "--keep-ids"], file);
    let numbers = || users(&deployment).iter().map(|user| user["id"].as_i64().unwrap()).collect::<Vec<_>>();

    assert_imported(&import(&file), 2, 0);
    assert_imported(&import(&file), 0, 2);
    deployment.run_with(&["users", "create", "cleo"], PASSWORD);
    deployment.run(&["users", "delete", "cleo", "--yes"]);

    let refused = import(&[line(6, "dan"), line(71, "eve")].concat());
    let unsorted = import(&[line(100, "dan"), line(99, "eve")].concat());

    let given = "line 1: the number was given before, or one above it\n\
                 line 2: the number was given before, or one above it\n";
    assert_eq!(refused.code, 3, "{refused:?}");
    assert!(refused.stdout.starts_with(given), "{refused:?}");
    assert_eq!(unsorted.code, 3, "{unsorted:?}");
    assert!(unsorted.stdout.starts_with("line 2: its number is not greater"), "{unsorted:?}");
    assert_eq!(numbers(), [5, 70]);
    deployment.run_with(&["users", "create", "fay"], PASSWORD);
    assert!(numbers()[2] > 71, "{:?}", numbers());
}

#[test]
fn who_signs_up_while_numbers_are_kept_is_in_the_way_of_one_and_the_way_out_is_said() {
    let deployment = migrated(super::deployment());
    let import =
        |arguments: &[&str]| deployment.run_with(&[&["users", "import"], arguments].concat(), &lines(1200));
    // What was broken off after the first time.
    deployment.run_with(&["users", "import", "--keep-ids"], &lines(500));
    deployment.run_with(&["users", "create", "stranger"], PASSWORD);

    let refused = import(&["--keep-ids"]);
    let others = import(&["--keep-ids", "--skip-refused"]);
    let left = import(&[]);

    let expected = "line 501: the number was given before, or one above it\n\
                    1 of 1200 users would be refused; nobody was imported\n";
    assert_eq!((refused.code, &*refused.stdout), (3, expected), "{refused:?}");
    let said = errors(&refused).1;
    assert!(said.len() == 2 && said[1].contains("--keep-ids --skip-refused"), "{said:?}");
    assert_eq!(others.code, 3, "{others:?}");
    assert!(others.stdout.contains(&summary(699, 500, 1)), "{others:?}");
    assert_imported(&left, 1, 1199);
    let users = users(&deployment);
    let numbered = users.iter().filter(|user| user["username"] == format!("user{}", user["id"])).count();
    let last = &users[1200];
    assert_eq!((users.len(), numbered, last["username"].as_str()), (1201, 1199, Some("user501")), "{last:?}");
}

#[test]
fn an_import_that_is_overtaken_says_how_to_go_on_with_the_others() {
    let deployment = migrated(super::deployment());
    deployment.write("users.jsonl", &lines(5000));
    let mut import = deployment.command(&["users", "import", "--keep-ids", "users.jsonl"]).spawn().unwrap();
    let mut said = BufReader::new(import.stderr.take().unwrap()).lines().map(Result::unwrap);
    // It tells of five hundred users, more than a pipe holds, and so waits between two times until somebody reads on.
    assert!(said.any(|line| line.contains("\"event\":\"import\"")));
    let signed_up = deployment.run_with(&["users", "create", "stranger"], PASSWORD);

    let errors: Vec<_> = said.filter(|line| line.starts_with("error: ")).collect();

    assert_eq!(signed_up.stdout, "created stranger with number 501\n", "{signed_up:?}");
    assert_eq!(import.wait().unwrap().code(), Some(3));
    assert!(errors.len() == 3 && errors[1].contains("with --skip-refused"), "{errors:?}");
    assert!(errors[2].contains("without --keep-ids"), "{errors:?}");
    assert_eq!(users(&deployment).len(), 1000);
}

#[test]
fn an_import_that_was_killed_is_gone_on_with() {
    let deployment = migrated(super::deployment());
    deployment.write("users.jsonl", &lines(5000));

    let mut import = under_way(&deployment, "users.jsonl");
    import.kill().unwrap();
    import.wait().unwrap();

    let there = users(&deployment).len();
    assert!((500..5000).contains(&there) && there.is_multiple_of(500), "{there}");
    deployment.run_with(&["users", "set-password", "user1"], PASSWORD);
    let first = users(&deployment)[0].clone();
    assert_imported(&deployment.run(&["users", "import", "users.jsonl"]), 5000 - there, there);
    let users = users(&deployment);
    assert_eq!((users.len(), &users[0]), (5000, &first));
    assert_eq!(deployment.run(&["audit", "verify"]).code, 0);
}

#[test]
fn ctrl_c_ends_an_import_between_two_commits_and_says_how_to_go_on() {
    let deployment = migrated(super::deployment());
    deployment.write("users.jsonl", &lines(5000));

    let mut import = under_way(&deployment, "users.jsonl");
    kill_process(Pid::from_child(&import), Signal::INT).unwrap();
    let mut said = String::new();
    import.stdout.take().unwrap().read_to_string(&mut said).unwrap();

    assert_eq!(import.wait().unwrap().code(), Some(1));
    let there = users(&deployment).len();
    assert!((500..5000).contains(&there), "{there}");
    assert_eq!(said, summary(there, 0, 0));
    assert_imported(&deployment.run(&["users", "import", "users.jsonl"]), 5000 - there, there);
}

#[test]
fn what_is_no_source_of_users_is_refused_before_the_database_is_opened() {
    let deployment = super::deployment();
    let import = |path: &Path| deployment.run(&["users", "import", path.to_str().unwrap()]);
    let refused = |path: &Path, code: i32, why: &str| {
        let refused = import(path);
        assert_eq!(refused.code, code, "{refused:?}");
        assert!(refused.stdout.is_empty() && refused.stderr.contains(why), "{why}: {refused:?}");
    };
    let folder = deployment.folder();
    let ours = migrated(Deployment::new());
    let foreign = folder.join("foreign.db");
    python_service::connect(&foreign).batch_execute("CREATE TABLE people (id)").unwrap();

    refused(folder, 2, "a folder");
    refused(Path::new("/dev/zero"), 2, "a device");
    refused(Path::new("missing"), 1, "missing");
    refused(&ours.folder().join("data/auth.db"), 1, "of auth-api itself");
    refused(&foreign, 1, "not the Python service's");
    let input = fs::File::open(&foreign).unwrap();
    let piped = deployment.command(&["users", "import"]).stdin(input).output().unwrap();
    assert_eq!(piped.status.code(), Some(2), "{piped:?}");
}

#[test]
fn a_database_that_the_python_service_keeps_locked_is_said_to_be_locked() {
    let deployment = migrated(super::deployment());
    let path = python_service::database(deployment.folder(), [python_service::user(1, "ann")]);
    let mut service = python_service::connect(&path);
    service.batch_execute("BEGIN EXCLUSIVE").unwrap();

    let locked = deployment.run(&["users", "import", "app.db"]);

    assert_eq!(locked.code, 1, "{locked:?}");
    assert!(locked.stderr.contains("locked"), "{locked:?}");
    service.batch_execute("COMMIT").unwrap();
    assert_eq!(deployment.run(&["users", "import", "app.db"]).code, 0);
}

#[test]
fn nobody_is_imported_from_an_empty_file() {
    let deployment = migrated(super::deployment());

    assert_imported(&deployment.run_with(&["users", "import"], ""), 0, 0);
    assert_imported(&deployment.run_with(&["users", "import"], "\n\n"), 0, 0);
    assert!(names(&deployment).is_empty());
}
