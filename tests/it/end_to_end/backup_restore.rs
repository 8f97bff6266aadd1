//! What an operator does with everything at once: backups, and the move to another database.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, SqliteConnection};
use serde_json::json;

use crate::support::client::{Client, PASSWORD};
use crate::support::server::{Deployment, Finished};

/// That it was refused: by exit code, with one line that says why, and no answer.
#[track_caller]
fn assert_refused(finished: &Finished, code: i32, why: &str) {
    assert_eq!((finished.code, finished.stdout.as_str()), (code, ""), "{finished:?}");
    let errors: Vec<_> = finished.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert!(errors.len() == 1 && errors[0].contains(why), "{finished:?}");
}

#[track_caller]
fn assert_done(finished: &Finished) {
    assert_eq!(finished.code, 0, "{finished:?}");
}

fn create(deployment: &Deployment, name: &str) {
    assert_done(&deployment.run_with(&["users", "create", name], PASSWORD));
}

fn names(deployment: &Deployment) -> Vec<String> {
    let users = deployment.run(&["users", "list", "--json"]).json();
    users.as_array().unwrap().iter().map(|user| user["username"].as_str().unwrap().to_owned()).collect()
}

fn head(deployment: &Deployment) -> String {
    let verified = deployment.run(&["audit", "verify"]);
    assert_done(&verified);
    verified.stdout.trim().to_owned()
}

fn files(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// Does something to a file as another program would.
fn tamper(file: &Path, sql: &str) {
    SqliteConnection::establish(file.to_str().unwrap()).unwrap().batch_execute(sql).unwrap();
}

/// A deployment with a database that has ann in it, and a backup of that named `backup`.
fn backed_up() -> Deployment {
    let deployment = Deployment::new();
    create(&deployment, "ann");
    assert_done(&deployment.run(&["database", "backup", "backup"]));
    deployment
}

/// Moves the database away, as somebody does who is going to restore another one.
fn move_away(deployment: &Deployment) {
    let data = deployment.folder().join("data");
    for name in files(&data).iter().filter(|name| name.starts_with("auth.db")) {
        fs::rename(data.join(name), data.join(format!("old-{name}"))).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_has_everybody_who_was_answered_before_and_serves_where_it_is_restored() {
    let server = Deployment::new().serve();
    let deployment = server.deployment().clone();
    let client = Client::of(&server);
    let refresh_token = {
        assert_eq!(client.sign_up("ann", PASSWORD).await.status, 201);
        client.log_in("ann", PASSWORD).await.refresh_token()
    };
    let answered = Arc::new(Mutex::new(Vec::new()));
    let is_over = Arc::new(AtomicBool::new(false));
    let crowd: Vec<_> = (0..4)
        .map(|lane| {
            let (client, answered, is_over) = (client.clone(), answered.clone(), is_over.clone());
            tokio::spawn(async move {
                for number in 0.. {
                    let name = format!("somebody-{lane}-{number}");
                    assert_eq!(client.sign_up(&name, PASSWORD).await.status, 201);
                    answered.lock().unwrap().push(name);
                    if is_over.load(Ordering::SeqCst) {
                        break;
                    }
                }
            })
        })
        .collect();
    while answered.lock().unwrap().len() < 8 {
        tokio::task::yield_now().await;
    }

    let before = answered.lock().unwrap().clone();
    let head = head(&deployment);
    let backup = deployment.clone();
    let backup = tokio::task::spawn_blocking(move || backup.run(&["database", "backup", "backup"])).await;
    is_over.store(true, Ordering::SeqCst);
    for lane in crowd {
        lane.await.unwrap();
    }
    assert_done(&backup.unwrap());
    assert!(server.stop().success());
    assert_eq!(fs::metadata(deployment.folder().join("backup")).unwrap().mode() & 0o777, 0o600);
    assert!(!files(deployment.folder()).contains(&"backup.partial".to_owned()));

    move_away(&deployment);
    assert_done(&deployment.run(&["database", "restore", "backup"]));
    let restored = deployment.folder().join("data/auth.db");
    assert_eq!(fs::metadata(&restored).unwrap().mode() & 0o777, 0o600);
    let there = names(&deployment);
    assert!(before.iter().all(|name| there.contains(name)), "{before:?} {there:?}");
    assert_done(&deployment.run(&["audit", "verify", "--head", &head]));
    let server = deployment.serve();
    let client = Client::of(&server);
    assert_eq!(client.log_in(before.last().unwrap(), PASSWORD).await.status, 200);
    let refreshed = client.post("/api/refresh", &json!({ "refresh_token": refresh_token })).await;
    assert_eq!(refreshed.status, 200);
}

#[test]
fn a_backup_is_never_written_over_a_file_and_what_a_kill_left_is_in_nobodys_way() {
    let deployment = backed_up();
    let backup = deployment.folder().join("backup");
    let before = fs::read(&backup).unwrap();

    assert_refused(&deployment.run(&["database", "backup", "backup"]), 3, "is there already");
    assert_eq!(fs::read(&backup).unwrap(), before);

    let partial = deployment.write("second.partial", "what a kill left behind");
    deployment.write("second.partial-journal", "and what SQLite did");
    let held = fs::File::open(&partial).unwrap();
    held.lock().unwrap();
    assert_refused(&deployment.run(&["database", "backup", "second"]), 3, "another process is writing it");
    drop(held);
    assert_done(&deployment.run(&["database", "backup", "second"]));
    assert_eq!(files(deployment.folder()), ["backup", "data", "second"]);
}

#[test]
fn a_backup_that_cannot_be_made_leaves_nothing() {
    let deployment = Deployment::new();
    assert_refused(
        &deployment.run(&["database", "backup", "backup"]),
        1,
        "there is no database yet, and nothing to back up",
    );
    create(&deployment, "ann");
    assert_refused(
        &deployment.run(&["database", "backup", "no/such/folder"]),
        1,
        "cannot be read or written",
    );

    let path = deployment.folder().join("data/auth.db");
    tamper(&path, "INSERT INTO __diesel_schema_migrations (version) VALUES ('9999')");
    assert_refused(&deployment.run(&["database", "backup", "backup"]), 1, "newer release (it has 9999)");
    tamper(&path, "PRAGMA application_id = 7");
    assert_refused(&deployment.run(&["database", "backup", "backup"]), 1, "belongs to another application");

    assert_eq!(files(deployment.folder()), ["data"]);
}

#[test]
fn nothing_is_restored_where_anything_is() {
    let deployment = backed_up();
    let data = deployment.folder().join("data");

    assert_refused(&deployment.run(&["database", "restore", "backup"]), 3, "stop every server");
    for file in ["auth.db", "auth.db-wal", "auth.db-shm", "auth.db-journal"] {
        move_away(&deployment);
        fs::write(data.join(file), "").unwrap();
        assert_refused(&deployment.run(&["database", "restore", "backup"]), 3, &format!("{file} already"));
        assert_eq!(fs::read(data.join(file)).unwrap(), b"");
        fs::remove_file(data.join(file)).unwrap();
    }

    assert_done(&deployment.run(&["database", "restore", "backup"]));
    assert_eq!(names(&deployment), ["ann"]);
}

#[test]
fn what_is_no_backup_of_ours_is_not_restored() {
    let deployment = backed_up();
    let folder = deployment.folder();
    move_away(&deployment);
    let data = files(&folder.join("data"));
    let copy = |name: &str| {
        fs::copy(folder.join("backup"), folder.join(name)).unwrap();
        folder.join(name)
    };
    tamper(&copy("foreign"), "PRAGMA application_id = 7");
    tamper(&copy("newer"), "INSERT INTO __diesel_schema_migrations (version) VALUES ('9999')");
    tamper(
        &copy("stray"),
        "PRAGMA foreign_keys = OFF; INSERT INTO known_networks VALUES (99, '192.0.2.7', 0)",
    );
    copy("in-use");
    deployment.write("in-use-wal", "");
    let mut bytes = fs::read(folder.join("backup")).unwrap();
    let page = bytes.len() / 4096 / 2 * 4096;
    bytes[page..page + 64].fill(0xff);
    fs::write(folder.join("damaged"), &bytes).unwrap();
    bytes.truncate(bytes.len() / 2);
    fs::write(folder.join("cut-off"), &bytes).unwrap();
    deployment.write("text", "hello, this is a text and not a database");
    deployment.write("empty", "");

    for (file, why) in [
        ("foreign", "belongs to another application"),
        ("newer", "newer release (it has 9999)"),
        ("stray", "a row of known_networks refers to one that is not there"),
        ("in-use", "in-use-wal beside it"),
        ("damaged", "damaged"),
        ("cut-off", "damaged"),
        ("text", "not a SQLite database"),
        ("empty", "nothing in it"),
        ("missing", "No such file"),
    ] {
        let refused = deployment.run(&["database", "restore", file]);
        assert_refused(&refused, 1, why);
        assert!(refused.stderr.contains(&format!("{file}: ")), "{refused:?}");
        assert_eq!(files(&folder.join("data")), data, "{file}");
    }
}

#[test]
fn a_backup_of_an_older_release_is_restored_and_brought_up_to_date() {
    let deployment = Deployment::new();
    create(&deployment, "ann");
    assert_done(&deployment.run(&["migrate", "down", "--yes"]));
    assert_done(&deployment.run(&["database", "backup", "backup"]));
    move_away(&deployment);

    assert_done(&deployment.run(&["database", "restore", "backup"]));

    assert!(deployment.run(&["migrate", "status"]).stdout.contains("no"));
    assert_done(&deployment.run(&["migrate", "up"]));
    assert_eq!(names(&deployment), ["ann"]);
}

#[test]
fn a_copy_takes_everything_into_another_file() {
    let deployment = Deployment::new();
    create(&deployment, "ann");
    let head = head(&deployment);

    let copied =
        deployment.run(&["database", "copy", "--from", "sqlite://data/auth.db", "--to", "sqlite://b.db"]);

    assert_done(&copied);
    assert!(
        copied.stdout.lines().any(|line| line.starts_with("users") && line.contains(" 1 ")),
        "{copied:?}"
    );
    assert!(copied.stdout.contains("copied everything to sqlite://b.db"), "{copied:?}");
    assert_eq!(fs::metadata(deployment.folder().join("b.db")).unwrap().mode() & 0o777, 0o600);
    let deployment = deployment.set("AUTH_DATABASE__URL", "sqlite://b.db");
    assert_eq!(names(&deployment), ["ann"]);
    assert_done(&deployment.run(&["audit", "verify", "--head", &head]));
}

#[test]
fn a_copy_that_would_come_over_something_or_from_nowhere_is_refused() {
    let deployment = backed_up();
    let copy = |from: &str, to: &str| deployment.run(&["database", "copy", "--from", from, "--to", to]);
    let ours = "sqlite://data/auth.db";
    fs::copy(deployment.folder().join("backup"), deployment.folder().join("full.db")).unwrap();
    fs::copy(deployment.folder().join("backup"), deployment.folder().join("older.db")).unwrap();
    let older = deployment.clone().set("AUTH_DATABASE__URL", "sqlite://older.db");
    assert_done(&older.run(&["migrate", "down", "--yes"]));
    fs::copy(deployment.folder().join("backup"), deployment.folder().join("newer.db")).unwrap();
    let newer = deployment.folder().join("newer.db");
    tamper(&newer, "INSERT INTO __diesel_schema_migrations (version) VALUES ('9999')");
    tamper(&deployment.folder().join("foreign.db"), "CREATE TABLE users (name)");

    assert_refused(&copy(ours, "sqlite://full.db"), 3, "sqlite://full.db is not empty");
    assert_refused(&copy(ours, ours), 2, "a copy needs two databases");
    assert_refused(&copy(ours, "sqlite://./data/../data/auth.db"), 2, "a copy needs two databases");
    assert_refused(&copy(ours, "sqlite://older.db"), 1, "with AUTH_DATABASE__URL set to this database");
    assert_refused(&copy(ours, "sqlite://newer.db"), 1, "newer release (it has 9999)");
    assert_refused(&copy(ours, "sqlite://foreign.db"), 1, "belongs to another application");
    assert_refused(
        &copy("sqlite://missing.db", "sqlite://new.db"),
        1,
        "there is no database yet, and nothing to copy",
    );
    assert_refused(
        &copy("sqlite://older.db", "sqlite://new.db"),
        1,
        "with AUTH_DATABASE__URL set to this database",
    );
    assert_refused(&copy("sqlite://newer.db", "sqlite://new.db"), 1, "newer release");
    assert_refused(&copy("sqlite://foreign.db", "sqlite://new.db"), 1, "belongs to another application");
    assert_refused(&copy(ours, "mysql://db/auth"), 2, "--to must be sqlite://");
    assert_refused(&copy("postgres://db/auth?sslmod=x", ours), 2, "--from has an option that is not known");
    assert_refused(&copy(ours, "postgres://127.0.0.1:1/auth?sslmode=disable"), 1, "no server answers");

    assert!(!deployment.folder().join("new.db").exists(), "nothing is made for a source that cannot be read");
    assert_eq!(names(&deployment), ["ann"]);
}

#[test]
fn no_password_is_taken_from_an_argument_and_a_file_may_have_one() {
    let deployment = backed_up();
    let ours = "sqlite://data/auth.db";

    for url in ["postgres://ann:hunter2@db/auth", "postgres://db/auth?user=ann&password=hunter2"] {
        for (option, other) in [("--from", "--to"), ("--to", "--from")] {
            let refused = deployment.run(&["database", "copy", option, url, other, ours]);
            assert_refused(&refused, 2, &format!("name that with {option}-file"));
            assert!(!refused.stderr.contains("hunter2"), "{refused:?}");
        }
    }
    let file = deployment.write("url", "postgres://ann:hunter2@127.0.0.1:1/auth?sslmode=disable\n");
    let refused = deployment.run(&["database", "copy", "--from-file", file.to_str().unwrap(), "--to", ours]);
    assert_refused(&refused, 1, "127.0.0.1:1/auth: no server answers");
    assert!(!refused.stderr.contains("hunter2"), "{refused:?}");
    let refused = deployment.run(&["database", "copy", "--from", ours, "--to-file", "missing"]);
    assert_refused(&refused, 2, "--to-file names a file that cannot be read");
}

#[cfg(postgres)]
mod onto_postgres {
    use std::process::Child;

    use tokio_postgres::NoTls;

    use super::*;
    use crate::support::postgres::Database;

    // The URL is in a file, since that of a server which was given may have a password.
    const COPY: [&str; 6] = ["database", "copy", "--from", "sqlite://data/auth.db", "--to-file", "url"];

    fn copy(deployment: &Deployment, database: &Database) -> Finished {
        deployment.write("url", &database.url());
        deployment.run(&COPY)
    }

    fn begin_to_copy(deployment: &Deployment, database: &Database) -> Child {
        deployment.write("url", &database.url());
        deployment.command(&COPY).spawn().unwrap()
    }

    /// Keeps everybody from writing events, until it is dropped.
    struct NoEvents<'database> {
        database: &'database Database,
        _client: tokio_postgres::Client,
    }

    impl<'database> NoEvents<'database> {
        async fn in_(database: &'database Database) -> Self {
            let (client, connection) = tokio_postgres::connect(&database.url(), NoTls).await.unwrap();
            tokio::spawn(connection);
            client.batch_execute("BEGIN; LOCK TABLE audit_events IN SHARE MODE").await.unwrap();
            Self { database, _client: client }
        }

        /// Returns when somebody wants to write events: by then they have written users and sessions.
        fn wait_for_somebody(&self) {
            let waiting = "SELECT 1 FROM pg_locks WHERE relation = 'audit_events'::regclass AND NOT granted";
            while self.database.ask(waiting).is_empty() {}
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn after_a_copy_everybody_goes_on_as_before() {
        let server = Deployment::new().serve();
        let client = Client::of(&server);
        for name in ["ann", "bob", "eve"] {
            assert_eq!(client.sign_up(name, PASSWORD).await.status, 201);
        }
        let first = client.log_in("ann", PASSWORD).await;
        let refreshed = client.post("/api/refresh", &json!({ "refresh_token": first.refresh_token() })).await;
        let deployment = server.deployment().clone();
        assert_done(&deployment.run(&["users", "delete", "--yes", "eve"]));
        assert!(server.stop().success());
        let head = head(&deployment);
        let database = Database::empty();

        assert_done(&copy(&deployment, &database));

        let deployment = deployment.set("AUTH_DATABASE__URL", database.url());
        assert_done(&deployment.run(&["audit", "verify", "--head", &head]));
        let server = deployment.serve();
        let client = Client::of(&server);
        for name in ["ann", "bob"] {
            assert_eq!(client.log_in(name, PASSWORD).await.status, 200);
        }
        assert_eq!(client.me(&refreshed.token()).await.status, 200);
        let body = json!({ "refresh_token": refreshed.refresh_token() });
        assert_eq!(client.post("/api/refresh", &body).await.status, 200);
        let newcomer = client.sign_up("mia", PASSWORD).await;
        assert_eq!(newcomer.json()["id"], 4, "eve's number is not given again: {newcomer:?}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_copy_that_is_killed_leaves_nothing_and_the_next_one_succeeds() {
        let deployment = backed_up();
        let database = Database::migrated();
        let nobody = NoEvents::in_(&database).await;

        let mut copying = begin_to_copy(&deployment, &database);
        nobody.wait_for_somebody();
        copying.kill().unwrap();
        assert_eq!(copying.wait().unwrap().code(), None, "it was killed before it ended");
        drop(nobody);

        database.ask(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity \
             WHERE datname = current_database() AND application_name = 'auth-api'",
        );
        assert_eq!(database.ask("SELECT count(*) FROM users"), [["0"]]);
        assert_done(&copy(&deployment, &database));
        assert_eq!(database.ask("SELECT username FROM users"), [["ann"]]);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_copy_of_a_database_that_is_written_to_says_so() {
        let deployment = backed_up();
        let database = Database::migrated();
        let nobody = NoEvents::in_(&database).await;

        let copying = begin_to_copy(&deployment, &database);
        nobody.wait_for_somebody();
        tamper(&deployment.folder().join("data/auth.db"), "UPDATE users SET updated_at = updated_at + 1");
        drop(nobody);
        let ended = copying.wait_with_output().unwrap();

        assert_eq!(ended.status.code(), Some(1), "{ended:?}");
        let told = String::from_utf8(ended.stderr).unwrap();
        assert!(told.contains("something has written to the source"), "{told}");
        assert_eq!(database.ask("SELECT username FROM users"), [["ann"]]);
    }

    #[test]
    fn a_copy_onto_a_database_that_somebody_uses_is_refused() {
        let deployment = backed_up();
        let foreign = Database::empty();
        foreign.ask("CREATE TABLE users (name text)");
        let newer = Database::migrated();
        newer.ask("INSERT INTO __diesel_schema_migrations (version) VALUES ('9999')");
        let full = Database::empty();
        assert_done(&copy(&deployment, &full));

        assert_refused(&copy(&deployment, &full), 3, "is not empty");
        assert_refused(&copy(&deployment, &foreign), 1, "tables of another application");
        assert_refused(&copy(&deployment, &newer), 1, "newer release (it has 9999)");
        let same = deployment.run(&["database", "copy", "--from-file", "url", "--to-file", "url"]);
        assert_refused(&same, 2, "a copy needs two databases");
        deployment.write("url", &full.url().replace("auth_api_test_", "nobodys_"));
        assert_refused(&deployment.run(&COPY), 1, "no database of this name");

        assert_eq!(full.ask("SELECT username FROM users"), [["ann"]]);
        assert_eq!(foreign.ask("SELECT count(*) FROM users"), [["0"]]);
        assert_eq!(newer.ask("SELECT count(*) FROM users"), [["0"]]);
    }

    #[test]
    fn the_target_is_the_configured_database_unless_another_one_is_named() {
        let deployment = backed_up();
        let database = Database::empty();
        let file = deployment.write("url", &format!("{}\n", database.url()));
        let deployment = deployment.set("AUTH_DATABASE__URL_FILE", file.to_str().unwrap());

        assert_done(&deployment.run(&["database", "copy", "--from", "sqlite://data/auth.db"]));

        assert_eq!(names(&deployment), ["ann"]);
    }

    #[test]
    fn backups_of_postgresql_are_its_own_programs_affair() {
        let deployment = Deployment::new().set("AUTH_DATABASE__URL", "postgres://db.invalid/auth");

        assert_refused(&deployment.run(&["database", "backup", "backup"]), 2, "use `pg_dump");
        assert_refused(&deployment.run(&["database", "restore", "backup"]), 2, "use `pg_restore");
    }
}
