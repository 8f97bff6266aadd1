use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use domain::ports::{Clock as _, PortError, Readiness as _, UserRepo};
use domain::{Attempt, Origin};
use futures_util::future::join_all;
use futures_util::{FutureExt, poll};

use super::*;
use crate::calling_thread::Connection;
use crate::schema::users;
use crate::testing::{Fixture, attempt, is_done, is_unavailable, person};

#[tokio::test]
async fn writes_that_wait_together_are_committed_together() {
    let fixture = Fixture::new();
    let release = fixture.hold_the_writer().await;

    let names: Vec<_> = (0..100).map(|n| format!("user{n}")).collect();
    let mut writes =
        Box::pin(join_all(names.iter().map(|name| fixture.store.insert(person(name), attempt()))));
    assert!(poll!(&mut writes).is_pending());
    // Last in the queue, it looks at what others see while it runs.
    let mut outsider = fixture.outsider();
    let mut last = Box::pin(fixture.store.write(async move |connection: &mut Connection| {
        let count = || users::table.count();
        let inside = diesel_async::RunQueryDsl::get_result::<i64>(count(), connection).await?;
        Ok((inside, count().get_result::<i64>(&mut outsider)?))
    }));
    assert!(poll!(&mut last).is_pending());
    drop(release);

    assert_eq!(last.await.unwrap(), (100, 0));
    assert!(writes.await.iter().all(is_done));
    assert_eq!(fixture.names(), names);
}

#[tokio::test]
async fn it_tells_how_many_wait_and_in_how_many_batches_they_were_done() {
    let fixture = Fixture::new();
    let before = fixture.store.load();
    let release = fixture.hold_the_writer().await;

    let mut writes =
        Box::pin(join_all((0..100).map(|_| fixture.store.write(async |_: &mut Connection| Ok(())))));
    assert!(poll!(&mut writes).is_pending());
    let held = fixture.store.load();
    drop(release);
    assert!(writes.await.iter().all(Result::is_ok));

    let after = fixture.store.load();
    assert_eq!((before.writes_waiting, held.writes_waiting, after.writes_waiting), (0, 100, 0));
    assert_eq!(after.batches.count - before.batches.count, 2, "the one that was held up, and the hundred");
    assert_eq!(after.writes - before.writes, 101);
}

#[tokio::test]
async fn a_write_that_fails_leaves_its_neighbours_alone() {
    let fixture = Fixture::new();
    let release = fixture.hold_the_writer().await;

    let mut writes = Box::pin(async {
        tokio::join!(
            fixture.store.insert(person("ann"), attempt()),
            fixture.store.write(async |connection: &mut Connection| {
                connection.spawn_blocking(insert_unfinished).await?;
                Err::<(), _>(StoreError::failed("on purpose"))
            }),
            fixture.store.write(async |connection: &mut Connection| {
                connection.spawn_blocking(insert_unfinished).await?;
                panic!("on purpose") as Result<(), StoreError>
            }),
            fixture.store.insert(person("bob"), attempt()),
        )
    });
    assert!(poll!(&mut writes).is_pending());
    drop(release);
    let (ann, failed, panicked, bob) = writes.await;

    assert!(is_done(&ann) && is_done(&bob));
    assert!(matches!(PortError::from(failed.unwrap_err()), PortError::Failed(_)));
    assert!(matches!(PortError::from(panicked.unwrap_err()), PortError::Failed(_)));
    assert_eq!(fixture.names(), ["ann", "bob"]);
}

#[tokio::test]
async fn write_that_panics_closes_its_connection() {
    let fixture = Fixture::new();
    let make_temporary_table = async |connection: &mut Connection| {
        Ok(connection.batch_execute("CREATE TEMP TABLE of_this_connection (x)").await?)
    };
    fixture.store.write(make_temporary_table).await.unwrap();
    assert!(fixture.store.write(make_temporary_table).await.is_err());

    let panics = async |_: &mut Connection| -> Result<(), StoreError> { panic!("on purpose") };
    assert!(fixture.store.write(panics).await.is_err());

    fixture.store.write(make_temporary_table).await.unwrap();
}

#[tokio::test]
async fn write_that_waits_for_another_task_is_an_error() {
    let fixture = Fixture::new();

    let waiting = fixture
        .store
        .write(async |_: &mut Connection| std::future::pending::<Result<(), StoreError>>().await);

    assert!(matches!(PortError::from(waiting.await.unwrap_err()), PortError::Failed(_)));
    assert!(is_done(&fixture.store.insert(person("ann"), attempt()).await));
}

#[tokio::test]
async fn when_sqlite_rolls_back_nothing_of_the_batch_is_taken_for_saved() {
    let fixture = Fixture::new();
    let release = fixture.hold_the_writer().await;

    let mut writes = Box::pin(async {
        tokio::join!(
            fixture.store.insert(person("ann"), attempt()),
            // As SQLite does by itself on some failures.
            fixture
                .store
                .write(async |connection: &mut Connection| Ok(connection.batch_execute("ROLLBACK").await?)),
            fixture.store.insert(person("bob"), attempt()),
        )
    });
    assert!(poll!(&mut writes).is_pending());
    drop(release);
    let (ann, rollback, bob) = writes.await;

    assert!(is_unavailable(&ann) && is_unavailable(&bob));
    assert!(matches!(PortError::from(rollback.unwrap_err()), PortError::Unavailable(_)));
    assert_eq!(fixture.names(), [""; 0]);
    assert!(is_done(&fixture.store.insert(person("eve"), attempt()).await));
}

#[tokio::test]
async fn callers_who_leave_change_nothing_about_their_writes() {
    let fixture = Fixture::new();

    for round in 0..5 {
        for n in 0..100 {
            let _ = fixture.store.insert(person(&format!("user{round}.{n}")), attempt()).now_or_never();
        }
        assert!(is_done(&fixture.store.insert(person(&format!("stayed{round}")), attempt()).await));
    }

    assert_eq!(fixture.names().len(), 505);
}

#[tokio::test]
async fn more_writes_than_may_wait_are_refused_at_once() {
    let fixture = Fixture::new();
    let release = fixture.hold_the_writer().await;

    let mut writes =
        Box::pin(join_all((0..QUEUE).map(|_| fixture.store.write(async |_: &mut Connection| Ok(())))));
    assert!(poll!(&mut writes).is_pending());

    assert!(is_unavailable(&fixture.store.insert(person("ann"), attempt()).await));
    drop(release);
    assert!(writes.await.iter().all(Result::is_ok));
    assert!(is_done(&fixture.store.insert(person("ann"), attempt()).await));
}

#[tokio::test]
async fn flood_of_one_network_leaves_room_for_others() {
    let fixture = Fixture::new();
    let release = fixture.hold_the_writer().await;
    let from = |address: [u8; 4]| Attempt {
        origin: Origin::Request { address: address.into(), request_id: String::new(), user_agent: None },
        ..attempt()
    };
    let names: Vec<_> = (0..QUEUE).map(|n| format!("user{n}")).collect();
    let mut flood =
        Box::pin(join_all(names.iter().map(|name| fixture.store.insert(person(name), from([192, 0, 2, 1])))));
    assert!(poll!(&mut flood).is_pending());

    let mut ann = Box::pin(fixture.store.insert(person("ann"), from([192, 0, 2, 2])));
    assert!(poll!(&mut ann).is_pending());
    drop(release);

    assert!(is_done(&ann.await));
    let flood = flood.await;
    assert_eq!(flood.iter().filter(|answer| is_done(answer)).count(), QUEUE * 3 / 4);
    assert_eq!(flood.iter().filter(|answer| is_unavailable(answer)).count(), QUEUE / 4);
}

#[tokio::test]
async fn a_file_that_another_process_keeps_locked_is_unavailable_until_it_lets_go() {
    let fixture = Fixture::new();
    let mut outsider = fixture.outsider();

    outsider.batch_execute("BEGIN IMMEDIATE").unwrap();
    let locked = fixture.store.insert(person("ann"), attempt()).await;
    let read = fixture.store.find_by_name(crate::testing::key("ann")).await;
    outsider.batch_execute("ROLLBACK").unwrap();

    assert!(is_unavailable(&locked));
    assert!(matches!(read, Ok(None)), "readers do not wait for writers");
    assert!(is_done(&fixture.store.insert(person("ann"), attempt()).await));
}

#[tokio::test]
async fn a_full_file_is_unavailable_until_there_is_room() {
    let fixture = Fixture::new();
    fixture.tamper("PRAGMA max_page_count = 1").await;

    let mut acknowledged = Vec::new();
    let refused = loop {
        let name = format!("user{}", acknowledged.len());
        let answer = fixture.store.insert(person(&name), attempt()).await;
        if !is_done(&answer) {
            break answer;
        }
        acknowledged.push(name);
    };
    assert!(is_unavailable(&refused));
    assert_eq!(fixture.names(), acknowledged);

    fixture.tamper("PRAGMA max_page_count = 1000000").await;
    assert!(is_done(&fixture.store.insert(person("ann"), attempt()).await));
}

#[test]
fn a_disk_that_fills_up_is_not_ready_and_keeps_all_that_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    // No file of this process may grow beyond the limit, and the signal about it is not to kill it. Nobody
    // needs to be root for that, as for a small disk.
    let mut child = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 500; exec \"$@\"", "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "writer::tests::somebody_on_a_disk_that_fills_up", "--ignored", "--nocapture"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(folder.path().to_str().unwrap().as_bytes()).unwrap();
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success());

    let output = String::from_utf8(ended.stdout).unwrap();
    let acknowledged: Vec<_> = output.lines().filter(|line| line.starts_with("user")).collect();
    assert!(acknowledged.len() > 5, "{output}");
    let fixture = Fixture::on(folder);
    assert_eq!(fixture.names(), acknowledged);
}

#[tokio::test]
#[ignore = "run by the test above, with a folder on its standard input"]
async fn somebody_on_a_disk_that_fills_up() {
    let mut folder = String::new();
    std::io::stdin().read_to_string(&mut folder).unwrap();
    if folder.is_empty() {
        return;
    }
    let fixture = Fixture::at(Path::new(&folder));
    let insert = async |n| fixture.store.insert(person(&format!("user{n}")), attempt()).await;

    let mut n = 0;
    while is_done(&insert(n).await) {
        println!("user{n}");
        n += 1;
        assert!(n < 1000, "the disk does not fill up");
    }
    assert!(is_unavailable(&insert(n).await));
    // A look takes less room than a sign-up. A few of them, and there is none.
    while fixture.store.check().await.is_ok() {
        fixture.clock.advance(Duration::from_secs(1));
        assert!(fixture.clock.monotonic() < Duration::from_secs(5), "still ready");
    }
    assert!(is_unavailable(&fixture.store.check().await));
    // As when the power fails: nothing is closed or folded in.
    std::process::exit(0);
}

#[tokio::test]
async fn a_file_that_may_only_be_read_is_unavailable_for_writing() {
    let fixture = Fixture::new();
    fixture.tamper("PRAGMA query_only = ON").await;

    assert!(is_unavailable(&fixture.store.insert(person("ann"), attempt()).await));
    assert_eq!(fixture.names(), [""; 0]);
}

#[tokio::test]
async fn a_writer_that_panics_goes_on_with_another_connection() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("on purpose");
        }
    }
    let fixture = Fixture::new();
    let release = fixture.hold_the_writer().await;

    // Its caller leaves, so the answer goes off in the hands of the writer.
    let _ = fixture.store.write(async |_: &mut Connection| Ok(Bomb)).now_or_never();
    drop(release);
    fixture.tasks.close();
    fixture.tasks.wait().await;

    assert!(is_done(&fixture.store.insert(person("ann"), attempt()).await));
    assert_eq!(fixture.names(), ["ann"]);
}

#[tokio::test]
async fn closing_finishes_what_waits_and_lets_nothing_more_in() {
    let fixture = Fixture::new();
    let release = fixture.hold_the_writer().await;
    let mut waiting = Box::pin(fixture.store.insert(person("ann"), attempt()));
    assert!(poll!(&mut waiting).is_pending());

    let mut closed = Box::pin(fixture.store.close());
    assert!(poll!(&mut closed).is_pending());
    let late = fixture.store.insert(person("bob"), attempt()).await;
    drop(release);
    closed.await;

    assert!(is_done(&waiting.await));
    assert!(is_unavailable(&late));
    assert!(is_unavailable(&fixture.store.find_by_name(crate::testing::key("ann")).await));
    assert!(!fs::exists(fixture.log_path()).unwrap(), "the log is folded in");
    assert_eq!(fixture.names(), ["ann"]);
    fixture.store.close().await;
}

#[tokio::test]
async fn closing_folds_the_log_in_also_while_another_process_stays() {
    let fixture = Fixture::new();
    fixture.store.insert(person("ann"), attempt()).await.unwrap();
    let mut outsider = fixture.outsider();
    assert_eq!(users::table.count().get_result(&mut outsider), Ok(1_i64));

    fixture.store.close().await;

    assert_eq!(fs::metadata(fixture.log_path()).unwrap().len(), 0);
}

#[tokio::test]
async fn a_write_that_waits_counts_as_a_task() {
    let fixture = Fixture::new();
    let release = fixture.hold_the_writer().await;
    let _ = fixture.store.insert(person("ann"), attempt()).now_or_never();
    fixture.tasks.close();

    let mut tasks = Box::pin(fixture.tasks.wait());
    assert!(poll!(&mut tasks).is_pending());
    drop(release);
    tasks.await;

    assert_eq!(fixture.names(), ["ann"]);
}

fn insert_unfinished(connection: &mut SqliteConnection) -> QueryResult<()> {
    diesel::connection::SimpleConnection::batch_execute(
        connection,
        "INSERT INTO users (username, username_key, password_hash, created_at, updated_at)
         VALUES ('eve', 'eve', '', 0, 0)",
    )
}
