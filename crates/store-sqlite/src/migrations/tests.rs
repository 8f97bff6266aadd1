use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::thread;

use domain::ports::{Requester, SessionRepo as _, Throttle as _, UserRepo as _};
use domain::{LoginName, ThrottleRules, UserId};
use tempfile::TempDir;
use tokio::runtime::Handle;

use super::*;
use crate::SqliteStore;
use crate::schema::{audit_events, sessions, throttles};
use crate::testing::{
    Fixture, attempt, audit_key, handed, is_unavailable, key, login, open, person, run_alone, settings,
    without_power,
};

#[test]
fn every_migration_goes_down_and_up_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = settings(&folder).path;
    let all = up(&path).unwrap();
    let whole = schema(&path);
    assert!(!all.is_empty() && whole.keys().any(|name| name == "users"));

    for (kept, newest) in all.iter().enumerate().rev() {
        let before = schema(&path);
        assert_eq!(down(&path, None).unwrap().as_ref(), Some(newest));
        let after = schema(&path);
        assert_ne!(after, before);
        assert_eq!(up(&path).unwrap(), all[kept..]);
        assert_eq!(schema(&path), whole);
        for reverted in all[kept..].iter().rev() {
            assert_eq!(down(&path, None).unwrap().as_ref(), Some(reverted));
        }
        assert_eq!(schema(&path), after);
    }

    assert_eq!(schema(&path), BTreeMap::new());
    assert_eq!(down(&path, None).unwrap(), None);
    assert_eq!(up(&path).unwrap(), all);
    assert_eq!(schema(&path), whole);
    assert_eq!(up(&path).unwrap(), []);
}

/// Migrations that take away what the release before the last one needed, which nobody runs any more.
const CONTRACTIONS: [&str; 0] = [];

#[test]
fn each_migration_leaves_what_the_release_before_it_needs() {
    let folder = tempfile::tempdir().unwrap();
    let path = settings(&folder).path;
    let steps = up(&path).unwrap();
    let mut after = schema(&path);

    for step in steps.into_iter().rev().map(|step| step.to_string()) {
        down(&path, None).unwrap();
        let before = schema(&path);
        if !CONTRACTIONS.contains(&&*step) {
            for (name, declared) in &before {
                let kept = after.get(name).unwrap_or_else(|| panic!("{step} removes {name}"));
                let added = added(declared, kept).unwrap_or_else(|| panic!("{step} changes {name}"));
                let may_be_left_out = !added.contains("NOT NULL") || added.contains("DEFAULT");
                assert!(may_be_left_out && !added.contains("CHECK"), "{step} asks more of {name}: {added}");
            }
            let are_unique = after.iter().filter(|(_, declared)| declared.starts_with("CREATE UNIQUE"));
            for (name, declared) in are_unique.filter(|(name, _)| !before.contains_key(*name)) {
                let table = declared.split(' ').skip_while(|word| *word != "ON").nth(1).unwrap();
                assert!(!before.contains_key(table), "{step} asks more of {table}: {name}");
            }
        }
        after = before;
    }
}

/// What a declaration has beyond an older one, if it is only columns.
fn added<'now>(before: &str, now: &'now str) -> Option<&'now str> {
    match before.rsplit_once(')') {
        Some((head, tail)) => now.strip_prefix(head)?.strip_suffix(tail)?.strip_suffix(')'),
        None => (before == now).then_some(""),
    }
}

#[test]
fn the_first_migration_marks_the_file_and_its_way_back_unmarks_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = settings(&folder).path;

    up(&path).unwrap();
    assert_eq!(application_id(&mut outsider(&path)), Ok(APPLICATION_ID));
    while down(&path, None).unwrap().is_some() {}
    assert_eq!(application_id(&mut outsider(&path)), Ok(0));
}

#[test]
fn the_status_tells_what_is_applied_and_makes_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = settings(&folder).path;
    let applied = || status(&path).unwrap().iter().map(|it| it.applied).collect::<Vec<_>>();

    assert!(applied().iter().all(|applied| !applied));
    assert_eq!((down(&path, None).unwrap(), redo(&path, None).unwrap()), (None, None));
    assert!(!path.exists());
    let all = up(&path).unwrap();
    assert!(applied().iter().all(|applied| *applied));
    down(&path, None).unwrap();
    assert_eq!(applied().iter().filter(|applied| **applied).count(), all.len() - 1);
    assert_eq!(status(&path).unwrap()[0].migration.to_string(), "0001_users");
}

#[tokio::test]
async fn a_redo_leaves_the_schema_and_empties_what_the_newest_migration_made() {
    let fixture = Fixture::new();
    fixture.store.insert(person("ann"), attempt()).await.unwrap();
    fixture.store.open(login(UserId(1)), attempt()).await.unwrap();
    let noon = jiff::Timestamp::UNIX_EPOCH;
    let counter = fixture.store.counter(LoginName::from_typed("ann"), None, noon).await.unwrap();
    fixture.store.admit(counter, Requester::Bulk, noon, ThrottleRules { most_failures: 100 }).await.unwrap();
    fixture.store.close().await;
    assert_eq!(throttles::table.count().get_result(&mut fixture.outsider()), Ok(1));
    let before = schema(&fixture.path());

    let redone = redo(&fixture.path(), None).unwrap();

    assert_eq!(redone.as_ref(), known().unwrap().last().map(Migration::of).as_ref());
    assert_eq!(schema(&fixture.path()), before);
    assert_eq!(fixture.names(), ["ann"]);
    assert_eq!(sessions::table.count().get_result(&mut fixture.outsider()), Ok(1));
    assert_eq!(audit_events::table.count().get_result(&mut fixture.outsider()), Ok(2));
    assert_eq!(throttles::table.count().get_result(&mut fixture.outsider()), Ok(0));
}

#[test]
fn of_eight_who_start_on_one_empty_file_one_migrates_and_all_serve() {
    for _ in 0..10 {
        let folder = tempfile::tempdir().unwrap();
        let barrier = Barrier::new(8);
        let settings = Settings::new(settings(&folder).path);

        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    barrier.wait();
                    open(&settings).unwrap();
                });
            }
        });

        assert!(pending(&mut outsider(&settings.path), known().unwrap()).unwrap().is_empty());
    }
}

#[test]
fn of_four_processes_that_start_on_one_empty_file_all_serve() {
    let folder = tempfile::tempdir().unwrap();
    let path = settings(&folder).path;

    let mut starters: Vec<_> = (0..4)
        .map(|_| {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "migrations::tests::one_of_four_processes", "--ignored"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    // They wait for the path, so that they start together.
    for starter in &mut starters {
        starter.stdin.take().unwrap().write_all(path.to_str().unwrap().as_bytes()).unwrap();
    }

    for starter in starters {
        let ended = starter.wait_with_output().unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stdout));
    }
    assert!(pending(&mut outsider(&path), known().unwrap()).unwrap().is_empty());
}

#[test]
#[ignore = "run by the test above, with a path on its standard input"]
fn one_of_four_processes() {
    let mut path = String::new();
    std::io::stdin().read_to_string(&mut path).unwrap();
    if !path.is_empty() {
        open(&Settings::new(path)).unwrap();
    }
}

#[test]
fn what_is_not_a_database_is_refused_and_left_alone() {
    for content in [b"hello".to_vec(), b"# a text\n".repeat(2000), vec![0xff; 9000]] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(settings(&folder).path, content).unwrap();

        refused_and_left_alone(&folder, "is not a SQLite database");
    }
}

#[test]
fn somebody_elses_database_is_refused_and_left_alone() {
    for sql in [
        "CREATE TABLE notes (text)",
        "CREATE TABLE users (id)",
        "PRAGMA application_id = 252006673",
        "PRAGMA journal_mode = WAL; CREATE TABLE notes (text)",
        "CREATE TABLE __diesel_schema_migrations (version TEXT PRIMARY KEY, run_on TIMESTAMP);
         INSERT INTO __diesel_schema_migrations VALUES ('0001', '')",
    ] {
        let folder = tempfile::tempdir().unwrap();
        sqlite(&settings(&folder).path, sql);

        refused_and_left_alone(&folder, "belongs to another application");
    }
}

#[test]
fn a_schema_of_a_newer_release_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = settings(&folder).path;
    up(&path).unwrap();
    sqlite(&path, "INSERT INTO __diesel_schema_migrations (version) VALUES ('9998'), ('9999')");

    refused_and_left_alone(&folder, "newer release (it has 9998, 9999); upgrade");
}

#[test]
fn pending_migrations_stop_a_start_that_may_not_run_them() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { migrate: false, ..settings(&folder) };

    for _ in 0..2 {
        let refused = open(&settings).unwrap_err().to_string();
        assert!(refused.contains("pending (0001_users"), "{refused}");
        assert!(refused.ends_with("run `auth-api migrate up`"), "{refused}");
        assert!(!settings.path.exists() || schema(&settings.path).is_empty());
        // The second time round there is a file, and nothing in it.
        fs::write(&settings.path, "").unwrap();
    }

    up(&settings.path).unwrap();
    open(&settings).unwrap();
}

#[test]
fn whoever_only_reads_makes_nothing_and_migrates_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { access: Access::ReadOnly, ..settings(&folder) };

    let missing = open(&settings).unwrap_err().to_string();
    assert!(missing.contains("no database yet") && missing.contains("migrate up"), "{missing}");
    assert_eq!(contents(&folder), BTreeMap::new());

    fs::write(&settings.path, "").unwrap();
    let pending = open(&settings).unwrap_err().to_string();
    assert!(pending.contains("pending (0001_users"), "{pending}");
    assert_eq!(fs::read(&settings.path).unwrap(), b"");

    // Not in write-ahead logging until somebody serves it.
    up(&settings.path).unwrap();
    let before = contents(&folder);
    open(&settings).unwrap();
    assert_eq!(contents(&folder), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_only_reads_waits_for_no_writer_and_cannot_write() {
    let fixture = Fixture::new();
    fixture.store.insert(person("ann"), attempt()).await.unwrap();
    let mut outsider = fixture.outsider();
    outsider.batch_execute("BEGIN IMMEDIATE").unwrap();
    let log = fs::read(fixture.log_path()).unwrap();

    let settings = Settings { access: Access::ReadOnly, ..Settings::new(fixture.path()) };
    let (tasks, clock) = (fixture.tasks.clone(), fixture.clock.clone());
    let reading = SqliteStore::open(&settings, audit_key(), Handle::current(), tasks, clock).unwrap();

    assert!(reading.find_by_name(key("ann")).await.unwrap().is_some());
    assert!(is_unavailable(&reading.insert(person("bob"), attempt()).await));
    outsider.batch_execute("ROLLBACK").unwrap();
    reading.close().await;
    assert_eq!(fs::read(fixture.log_path()).unwrap(), log, "folding it in would take the write lock");
}

#[test]
fn a_migration_that_fails_is_rolled_back_with_those_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = settings(&folder).path;
    sqlite(&path, "PRAGMA user_version = 1");
    let mut connection = outsider(&path);
    // No room for the tables.
    connection.batch_execute("PRAGMA max_page_count = 2").unwrap();

    let problem = apply_pending(&mut connection, known).unwrap_err();

    assert!(matches!(problem, OpenProblem::Full), "{problem:?}");
    assert_eq!(schema(&path), BTreeMap::new());
    assert_eq!(application_id(&mut outsider(&path)), Ok(0));
    assert!(!up(&path).unwrap().is_empty());
}

#[test]
fn a_locked_file_is_not_waited_for_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&folder);
    open(&settings).unwrap();
    let mut outsider = outsider(&settings.path);
    outsider.batch_execute("BEGIN IMMEDIATE").unwrap();

    let refused = open(&settings).unwrap_err();

    assert!(matches!(refused.problem, OpenProblem::Locked), "{refused}");
    drop(outsider);
    open(&settings).unwrap();
}

#[test]
fn a_file_that_may_only_be_read_is_refused() {
    let folder = current();
    fs::set_permissions(settings(&folder).path, Permissions::from_mode(0o400)).unwrap();

    without_power("migrations::tests::somebody_whose_file_may_only_be_read", &folder);
}

#[test]
#[ignore = "run by the test above, with a folder on its standard input"]
fn somebody_whose_file_may_only_be_read() {
    let Some(folder) = handed() else { return };
    let settings = settings(&folder);
    assert!(fs::OpenOptions::new().append(true).open(&settings.path).is_err(), "nothing is tried");

    let refused = open(&settings).unwrap_err();

    assert!(matches!(refused.problem, OpenProblem::ReadOnly), "{refused:?}");
}

#[test]
fn a_folder_that_may_only_be_read_is_refused_and_shows_its_status() {
    let folder = current();
    fs::set_permissions(&folder, Permissions::from_mode(0o500)).unwrap();

    without_power("migrations::tests::somebody_whose_folder_may_only_be_read", &folder);
    fs::set_permissions(&folder, Permissions::from_mode(0o700)).unwrap();
}

#[test]
#[ignore = "run by the test above, with a folder on its standard input"]
fn somebody_whose_folder_may_only_be_read() {
    let Some(folder) = handed() else { return };
    let settings = settings(&folder);
    assert!(fs::write(folder.join("another"), "").is_err(), "nothing is tried");

    // With a file that may not be written either, this is a read-only disk, and SQLite says less about it.
    for mode in [0o600, 0o400] {
        fs::set_permissions(&settings.path, Permissions::from_mode(mode)).unwrap();

        for refused in [open(&settings).unwrap_err(), up(&settings.path).unwrap_err()] {
            assert!(matches!(refused.problem, OpenProblem::ReadOnly | OpenProblem::Disk(_)), "{refused:?}");
            assert!(refused.to_string().contains("read-only"), "{refused}");
        }
        assert!(status(&settings.path).unwrap().iter().all(|it| it.applied), "{mode:o}");
    }
}

#[test]
fn a_full_disk_is_said_to_be_the_trouble() {
    let folder = current();

    // No file of this process may have a byte, and the signal about it is not to kill it.
    let full = ["sh", "-c", "trap '' XFSZ; ulimit -f 0; exec \"$@\"", "sh"];
    run_alone(&full, "migrations::tests::somebody_on_a_full_disk", &folder);
}

#[test]
#[ignore = "run by the test above, with a folder on its standard input"]
fn somebody_on_a_full_disk() {
    let Some(folder) = handed() else { return };
    let settings = settings(&folder);
    assert!(fs::write(folder.join("another"), "a byte").is_err(), "nothing is tried");

    for refused in [
        open(&settings).unwrap_err(),
        up(&settings.path).unwrap_err(),
        up(&folder.join("new.db")).unwrap_err(),
    ] {
        assert!(matches!(refused.problem, OpenProblem::Disk(_) | OpenProblem::Full), "{refused:?}");
        assert!(refused.to_string().contains("full"), "{refused}");
    }
}

#[test]
fn a_damaged_file_is_said_to_be_so() {
    let folder = current();
    let path = settings(&folder).path;
    let mut bytes = fs::read(&path).unwrap();
    bytes[100..4096].fill(0xa5);
    fs::write(&path, bytes).unwrap();

    let refused = open(&settings(&folder)).unwrap_err();

    assert!(matches!(refused.problem, OpenProblem::Damaged(_)), "{refused:?}");
    assert!(refused.to_string().contains("restore a backup"), "{refused}");
}

/// A folder with a database as the last process left it, closed.
fn current() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    open(&settings(&folder)).unwrap();
    folder
}

fn refused_and_left_alone(folder: &TempDir, why: &str) {
    let settings = settings(folder);
    let before = contents(folder);
    let refusals = [
        open(&settings).err(),
        open(&Settings { migrate: false, ..settings.clone() }).err(),
        up(&settings.path).err(),
        down(&settings.path, None).err(),
        redo(&settings.path, None).err(),
        status(&settings.path).err(),
    ];
    for refusal in refusals {
        let refusal = refusal.unwrap().to_string();
        assert!(refusal.contains(why), "{refusal}");
        assert!(refusal.contains("auth.db"), "{refusal}");
    }
    assert_eq!(contents(folder), before);
}

fn contents(folder: &TempDir) -> BTreeMap<OsString, Vec<u8>> {
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap());
    files.map(|file| (file.file_name(), fs::read(file.path()).unwrap())).collect()
}

/// Everything in the file but SQLite's and diesel's own tables, as it was declared.
fn schema(path: &Path) -> BTreeMap<String, String> {
    diesel::table! { sqlite_master (name) { name -> Text, sql -> Nullable<Text>, } }
    let entries: Vec<(String, Option<String>)> = sqlite_master::table
        .filter(sqlite_master::name.not_like("sqlite_sequence"))
        .filter(sqlite_master::name.not_like("%diesel%"))
        .select((sqlite_master::name, sqlite_master::sql))
        .load(&mut outsider(path))
        .unwrap();
    entries.into_iter().map(|(name, sql)| (name, sql.unwrap_or_default())).collect()
}

fn sqlite(path: &Path, sql: &str) {
    fs::write(path, fs::read(path).unwrap_or_default()).unwrap();
    outsider(path).batch_execute(sql).unwrap();
}

fn outsider(path: &Path) -> SqliteConnection {
    connection::connect(&url(path), Role::Writer, Duration::ZERO).unwrap()
}

fn url(path: &Path) -> String {
    format!("file:{}?mode=rw", path.display())
}
