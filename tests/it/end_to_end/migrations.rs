//! How the schema changes, also beside servers that run.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::{join, join_all};
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use crate::support::cli::{create, names};
use crate::support::client::Client;
use crate::support::consistency_checker::{self, Account, Chance};
use crate::support::future_migration;

/// What a later release may add: columns that may be empty or have a default, tables, and indices.
const EXPANSION: &str = "
    ALTER TABLE users ADD COLUMN locale text;
    CREATE TABLE factors (user_id integer NOT NULL REFERENCES users (id) ON DELETE CASCADE, secret text NOT NULL);
    ALTER TABLE sessions ADD COLUMN device text NOT NULL DEFAULT 'unknown';
    CREATE INDEX sessions_of_device ON sessions (device);
    ALTER TABLE audit_events ADD COLUMN device text;
";

#[tokio::test]
async fn whoever_is_served_notices_nothing_of_a_later_migration_that_adds() {
    let deployment = super::deployment().set("AUTH_SESSION__GRACE", "0s").set("AUTH_HASHING__DEADLINE", "9s");
    let server = deployment.serve();
    let client = Client::of(&server);
    let mut chance = Chance(consistency_checker::seed());
    let mut accounts: Vec<_> = (0..8).map(|n| Account::new(format!("user{n}"), chance.next())).collect();
    let (tell, mut done) = watch::channel(0_usize);
    let is_over = AtomicBool::new(false);

    let load = join_all(accounts.iter_mut().map(async |account| {
        while !is_over.load(Ordering::SeqCst) {
            let step = account.choose();
            let answer = account.send(&client, step).await.unwrap();
            account.settle(&answer);
            assert_eq!(client.get("/health/ready").await.status, 200);
            tell.send_modify(|done| *done += 1);
        }
    }));
    let upgrade = async {
        done.wait_for(|done| *done >= 200).await.unwrap();
        let deployment = deployment.clone();
        let applied = spawn_blocking(move || deployment.upgrade(EXPANSION)).await.unwrap();
        assert_eq!(applied, 1);
        let before = *done.borrow();
        done.wait_for(|done| *done >= before + 400).await.unwrap();
        is_over.store(true, Ordering::SeqCst);
    };
    join(load, upgrade).await;

    join_all(accounts.iter_mut().map(|account| account.check(&client))).await;
    // What serves may be the older release; what is started has to be the later one.
    let refused = format!("the schema was made by a newer release (it has {})", future_migration::VERSION);
    for arguments in [&["serve"][..], &["users", "list"], &["audit", "verify"], &["migrate", "down"]] {
        let started = deployment.run(arguments);
        assert_eq!(started.code, 1, "{started:?}");
        assert!(started.stderr.contains(&refused), "{started:?}");
    }
    assert_eq!(client.get("/health/ready").await.status, 200);
    assert!(server.stop().success());
}

#[test]
fn the_schema_goes_up_and_down_and_says_where_it_is() {
    // Production, and no secret: who migrates does not sign.
    let deployment = super::unmigrated()
        .set("AUTH_ENV", "production")
        .set("AUTH_LIMITS__ENABLED", "true")
        .set("AUTH_DATABASE__MIGRATE_ON_START", "false");
    let applied = || {
        let status = deployment.run(&["migrate", "status", "--json"]).json();
        let status = status.as_array().unwrap().clone();
        assert!(!status.is_empty());
        status.iter().all(|migration| migration["applied"] == true)
    };
    let run_with = |arguments: &[&str]| {
        let finished = deployment.run(&[&["migrate"], arguments].concat());
        assert_eq!(finished.code, 0, "{finished:?}");
        finished.stdout
    };
    let run = |command| run_with(&[command]);
    let delete = |command| run_with(&[command, "--yes-delete-data"]);

    assert!(!applied());
    assert!(run("up").starts_with("applied 0001_users"));
    assert!(applied());
    assert_eq!(run("up"), "nothing to apply\n");
    assert!(delete("redo").contains("0004_throttles; deleted throttles (0 rows)"));
    assert!(run("status").contains("yes"));
    assert!(delete("down").contains("0004_throttles"));
    assert!(delete("down").contains("0003_audit_events"));
    assert!(delete("down").contains("0002_sessions"));
    assert!(delete("down").contains("0001_users"));
    assert!(!applied());
    assert_eq!(run("down"), "nothing to take back\n");
}

#[test]
fn migrate_down_names_what_it_deletes_and_needs_yes() {
    let deployment = super::deployment();
    create(&deployment, "ann");

    for command in ["down", "redo"] {
        let refused = deployment.run(&["migrate", command]);

        assert_eq!((refused.code, refused.stdout.as_str()), (3, ""), "{refused:?}");
        assert!(refused.stderr.contains("0004_throttles deletes throttles (0 rows)"), "{refused:?}");
        assert!(refused.stderr.contains("--yes"), "{refused:?}");
        let status = deployment.run(&["migrate", "status", "--json"]).json();
        assert!(status.as_array().unwrap().iter().all(|migration| migration["applied"] == true), "{status}");
    }
    let down = |consent: &[&str]| deployment.run(&[&["migrate", "down"], consent].concat());
    for deleted in ["throttles (0 rows)", "audit_events (1 row)", "sessions (0 rows)"] {
        let done = down(&["--yes"]);
        assert!(done.code == 0 && done.stdout.contains(deleted), "{done:?}");
    }
    let refused = down(&[]);
    assert!(refused.code == 3 && refused.stderr.contains("users (1 row)"), "{refused:?}");
    assert_eq!(deployment.run(&["migrate", "up"]).code, 0);
    assert_eq!(names(&deployment), ["ann"]);
}

#[test]
fn migrate_down_deletes_no_data_in_production_by_yes_alone() {
    let deployment = super::deployment();
    create(&deployment, "ann");
    let production = deployment.clone().set("AUTH_ENV", "production").set("AUTH_LIMITS__ENABLED", "true");

    for arguments in [&["down"][..], &["down", "--yes"], &["redo"], &["redo", "--yes"]] {
        let refused = production.run(&[&["migrate"], arguments].concat());

        assert_eq!((refused.code, refused.stdout.as_str()), (3, ""), "{refused:?}");
        assert!(refused.stderr.contains("throttles (0 rows)"), "{refused:?}");
        assert!(refused.stderr.contains("--yes-delete-data"), "{refused:?}");
    }
    assert_eq!(names(&deployment), ["ann"]);
    assert_eq!(production.run(&["migrate", "down", "--yes-delete-data"]).code, 0);
}

#[test]
fn migrate_down_asks_on_a_terminal() {
    let deployment = super::deployment();
    create(&deployment, "ann");
    let answer = |text: &str| {
        let command = deployment.command(&["migrate", "down"]);
        let mut terminal = Command::new("script");
        terminal.args(["--quiet", "--return", "--command"]);
        terminal.arg(format!("{} migrate down", command.get_program().display())).arg("/dev/null");
        terminal.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        terminal.current_dir(deployment.folder()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = terminal.spawn().unwrap();
        process.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = process.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };

    let (code, asked) = answer("n\n");
    assert_eq!(code, Some(3), "{asked}");
    assert!(asked.contains("taking back 0004_throttles deletes throttles (0 rows). Go on? [y/N]"), "{asked}");
    assert!(asked.contains("nothing was deleted"), "{asked}");

    let (code, asked) = answer("y\n");
    assert_eq!(code, Some(0), "{asked}");
    assert!(deployment.run(&["migrate", "status"]).stdout.contains("no"));
}

#[test]
fn a_schema_that_is_not_up_to_date_stops_a_start_that_may_not_migrate() {
    let deployment = super::unmigrated().set("AUTH_DATABASE__MIGRATE_ON_START", "false");

    for arguments in [&["serve"][..], &["users", "list"]] {
        let refused = deployment.run(arguments);

        assert_eq!(refused.code, 1, "{refused:?}");
        assert!(refused.stderr.contains("migrate up"), "{refused:?}");
    }
}
