//! The one writer of this process. Every change passes here.
//!
//! A write is a closure. All that wait when the writer turns to them share one transaction and one sync of the
//! disk, each in a savepoint, so that one that fails leaves its neighbours alone. Callers are answered after the
//! commit that holds their work, and whoever stops waiting for the answer changes nothing about it.
//!
//! Its connection alone can tell what other processes commit from what this one does, so it also looks out for them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use domain::ports::{Clock, Requester};
use domain::{Distribution, Durations};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::connection::{self, Role};
use crate::editions::{Concerns, Editions};
use crate::error::{OpenProblem, StoreError};
use crate::file::OpenFile;
use crate::schema::pragma_data_version::dsl::{data_version, pragma_data_version};
use crate::write_queue::{self, Receiver, Refused, Sender};

/// How many writes of clients may wait, and as many of the background. All fit in one batch, so that a locked file keeps
/// nobody waiting for longer than two busy timeouts: the batch under way, and their own.
const QUEUE: usize = 256;

/// How often to look what other processes did while there is nothing to write: twice within the second for which a
/// look holds.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long a batch takes, told apart up to the two busy timeouts that it may last.
const BATCHES: [Duration; 10] = [
    Duration::from_micros(250),
    Duration::from_millis(1),
    Duration::from_micros(2500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_millis(2500),
    Duration::from_secs(10),
];

pub(crate) struct Writer {
    queue: Sender<Box<dyn Write>>,
    task: Mutex<Option<JoinHandle<()>>>,
    done: Arc<Done>,
}

/// What was done so far, whatever came of it.
struct Done {
    writes: AtomicU64,
    batches: Durations,
    clock: Arc<dyn Clock>,
}

/// What a caller wants done, and who waits for the answer.
trait Write: Send {
    /// Does it, and tells whether to keep what was done.
    fn run(&mut self, connection: &mut SqliteConnection) -> bool;

    /// Whom it may concern.
    fn concerns(&self) -> Concerns;

    /// Answers, once it is known what became of the transaction.
    fn answer(self: Box<Self>, transaction: &Result<(), StoreError>);
}

struct Waiting<Work, T> {
    work: Option<Work>,
    concerns: Concerns,
    outcome: Result<T, StoreError>,
    caller: oneshot::Sender<Result<T, StoreError>>,
    _counted: TaskTrackerToken,
}

impl Writer {
    /// Starts the writer on `runtime`. As a reader it refuses whatever comes.
    pub(crate) fn start(
        connection: SqliteConnection,
        role: Role,
        file: Arc<OpenFile>,
        busy_timeout: Duration,
        editions: Arc<Editions>,
        clock: Arc<dyn Clock>,
        runtime: &Handle,
    ) -> Result<Self, OpenProblem> {
        let (queue, waiting) = write_queue::queue(QUEUE);
        let anchor = connection::anchor(file.url())?;
        let done = Arc::new(Done { writes: AtomicU64::default(), batches: Durations::new(&BATCHES), clock });
        let desk = Desk {
            connection: Some(connection),
            seen: None,
            role,
            file,
            busy_timeout,
            editions,
            done: done.clone(),
        };
        let task = runtime.spawn(write_what_waits(desk, anchor, waiting));
        Ok(Self { queue, task: Mutex::new(Some(task)), done })
    }

    /// Has `work` done in a transaction for `requester`, and answers when it is on disk. `work` opens no transaction of its
    /// own.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        counted: TaskTrackerToken,
        requester: Requester,
        concerns: Concerns,
        work: impl FnOnce(&mut SqliteConnection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (caller, answer) = oneshot::channel();
        let outcome = Err(not_run());
        let waiting = Waiting { work: Some(work), concerns, outcome, caller, _counted: counted };
        self.queue.push(requester, Box::new(waiting)).map_err(|refused| match refused {
            Refused::Full => StoreError::unavailable("too many writes are waiting"),
            Refused::Shut => StoreError::unavailable("the store is closed"),
            Refused::Abandoned => not_run(),
        })?;
        answer.await.unwrap_or_else(|_| Err(not_run()))
    }

    /// Lets nothing more in.
    pub(crate) fn shut(&self) {
        self.queue.shut();
    }

    /// Lets nothing more in, and waits until the rest is done and the connection closed.
    pub(crate) async fn close(&self) {
        self.shut();
        let task = self.task.lock().take();
        if let Some(task) = task {
            // It fails only when its runtime is gone, and then it is closed too.
            let _ = task.await;
        }
    }

    /// How many writes wait.
    pub(crate) fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// How many writes were done, and how long their batches took.
    pub(crate) fn done(&self) -> (u64, Distribution) {
        (self.done.writes.load(Ordering::Relaxed), self.done.batches.distribution())
    }
}

/// What the writer works with. It goes to the blocking side with a batch, and comes back.
struct Desk {
    connection: Option<SqliteConnection>,
    /// What the connection last said about the commits of others; nothing if it was not asked yet.
    seen: Option<i64>,
    role: Role,
    file: Arc<OpenFile>,
    busy_timeout: Duration,
    editions: Arc<Editions>,
    done: Arc<Done>,
}

async fn write_what_waits(mut desk: Desk, anchor: SqliteConnection, mut waiting: Receiver<Box<dyn Write>>) {
    // When the time is up, nobody writes.
    while let Some(writes) =
        timeout(LOOK_EVERY, waiting.take_all()).await.unwrap_or_else(|_| Some(Vec::new()))
    {
        let (role, file, busy_timeout) = (desk.role, desk.file.clone(), desk.busy_timeout);
        let editions = desk.editions.clone();
        let done = desk.done.clone();
        let worked = spawn_blocking(move || {
            desk.work(writes);
            desk
        });
        desk = worked.await.unwrap_or_else(|_| {
            // A connection that panicked is not to be trusted; the next batch opens another. Nor is it known how
            // far it came.
            editions.count(Concerns::Everybody);
            Desk { connection: None, seen: None, role, file, busy_timeout, editions, done }
        });
    }
    let _ = spawn_blocking(move || {
        desk.close();
        drop(anchor);
    })
    .await;
}

impl Done {
    fn note(&self, batch: &[Box<dyn Write>], begun: Duration) {
        self.writes.fetch_add(batch.len() as u64, Ordering::Relaxed);
        self.batches.note(self.clock.monotonic().saturating_sub(begun));
    }
}

impl Desk {
    fn work(&mut self, mut batch: Vec<Box<dyn Write>>) {
        let transaction = match &mut *batch {
            [] => Ok(()),
            batch => {
                let begun = self.done.clock.monotonic();
                let transaction = self.transact(batch).map_err(StoreError::into_unavailable);
                self.done.note(batch, begun);
                transaction
            }
        };
        // Whatever became of the transaction: one that failed may have failed after it was on disk.
        for write in &batch {
            self.editions.count(write.concerns());
        }
        self.look();
        for write in batch {
            write.answer(&transaction);
        }
    }

    /// Looks whether others have changed the file.
    fn look(&mut self) {
        let editions = self.editions.clone();
        editions.look(|| {
            self.file.still_there()?;
            let mut connection = self.take_connection()?;
            let version = pragma_data_version.select(data_version).get_result(&mut connection);
            self.connection = Some(connection);
            let version = version?;
            // What a connection says can be compared only with what the same one said before.
            Ok::<_, StoreError>(self.seen.replace(version) != Some(version))
        });
    }

    fn transact(&mut self, batch: &mut [Box<dyn Write>]) -> Result<(), StoreError> {
        let mut connection = self.take_connection()?;
        if let Err(error) = connection.batch_execute("BEGIN IMMEDIATE") {
            self.connection = Some(connection);
            return Err(error.into());
        }
        let done = run_all(&mut connection, batch)
            .and_then(|()| self.file.still_there())
            .and_then(|()| Ok(connection.batch_execute("COMMIT")?));
        // SQLite may have rolled back by itself, and says then that there is nothing to roll back. Whatever
        // else keeps a transaction open ends with the connection.
        if done.is_ok() || is_rolled_back(connection.batch_execute("ROLLBACK")) {
            self.connection = Some(connection);
        }
        done
    }

    fn take_connection(&mut self) -> Result<SqliteConnection, StoreError> {
        if let Some(connection) = self.connection.take() {
            return Ok(connection);
        }
        self.seen = None;
        self.reconnect()
    }

    fn reconnect(&self) -> Result<SqliteConnection, StoreError> {
        self.file.still_there()?;
        let connection = connection::connect(self.file.url(), self.role, self.busy_timeout)
            .map_err(StoreError::unavailable)?;
        self.file.still_there()?;
        Ok(connection)
    }

    fn close(self) {
        // Folding in takes the write lock, and a reader left nothing in the log.
        if let Some(mut connection) = self.connection
            && self.role == Role::Writer
        {
            // What cannot be folded in now stays in the log, as safe as it was.
            let _ = connection.batch_execute("PRAGMA wal_checkpoint(TRUNCATE)");
        }
    }
}

fn run_all(connection: &mut SqliteConnection, batch: &mut [Box<dyn Write>]) -> Result<(), StoreError> {
    for write in batch {
        connection.batch_execute("SAVEPOINT work")?;
        if !write.run(connection) {
            // On some failures, a full disk for one, SQLite rolls back the whole transaction. Then there is no
            // savepoint, this fails, and nothing of the batch is taken for saved.
            connection.batch_execute("ROLLBACK TO work")?;
        }
        connection.batch_execute("RELEASE work")?;
    }
    Ok(())
}

fn is_rolled_back(rollback: diesel::QueryResult<()>) -> bool {
    rollback.err().is_none_or(|error| error.to_string().contains("no transaction is active"))
}

impl<Work, T> Write for Waiting<Work, T>
where
    Work: FnOnce(&mut SqliteConnection) -> Result<T, StoreError> + Send,
    T: Send,
{
    fn run(&mut self, connection: &mut SqliteConnection) -> bool {
        if let Some(work) = self.work.take() {
            self.outcome = catch_unwind(AssertUnwindSafe(|| work(connection)))
                .unwrap_or_else(|_| Err(StoreError::failed("a write panicked")));
        }
        self.outcome.is_ok()
    }

    fn concerns(&self) -> Concerns {
        self.concerns
    }

    fn answer(self: Box<Self>, transaction: &Result<(), StoreError>) {
        // Nobody may be listening any more, and what is done is done.
        let _ = self.caller.send(transaction.clone().and(self.outcome));
    }
}

fn not_run() -> StoreError {
    StoreError::unavailable("the writer stopped before it came to this write")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Read as _, Write as _};
    use std::path::Path;
    use std::process::{Command, Stdio};

    use diesel::prelude::*;
    use domain::ports::{Clock as _, PortError, Readiness as _, SessionRepo as _, UserRepo};
    use domain::{Attempt, Origin, SessionId, UserId};
    use futures_util::future::join_all;
    use futures_util::{FutureExt, poll};

    use super::*;
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
        let mut last = Box::pin(fixture.store.write(Concerns::Nobody, move |connection| {
            let count = users::table.count();
            Ok((count.get_result::<i64>(connection)?, count.get_result::<i64>(&mut outsider)?))
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
            Box::pin(join_all((0..100).map(|_| fixture.store.write(Concerns::Nobody, |_| Ok(())))));
        assert!(poll!(&mut writes).is_pending());
        let held = fixture.store.load();
        drop(release);
        assert!(writes.await.iter().all(Result::is_ok));

        let after = fixture.store.load();
        assert_eq!((before.writes_waiting, held.writes_waiting, after.writes_waiting), (0, 100, 0));
        assert_eq!(
            after.batches.count - before.batches.count,
            2,
            "the one that was held up, and the hundred"
        );
        assert_eq!(after.writes - before.writes, 101);
    }

    #[tokio::test]
    async fn a_write_that_fails_leaves_its_neighbours_alone() {
        let fixture = Fixture::new();
        let release = fixture.hold_the_writer().await;

        let mut writes = Box::pin(async {
            tokio::join!(
                fixture.store.insert(person("ann"), attempt()),
                fixture.store.write(Concerns::Nobody, |connection| {
                    insert_unfinished(connection);
                    Err::<(), _>(StoreError::failed("on purpose"))
                }),
                fixture.store.write(Concerns::Nobody, |connection| {
                    insert_unfinished(connection);
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
    async fn when_sqlite_rolls_back_nothing_of_the_batch_is_taken_for_saved() {
        let fixture = Fixture::new();
        let release = fixture.hold_the_writer().await;

        let mut writes = Box::pin(async {
            tokio::join!(
                fixture.store.insert(person("ann"), attempt()),
                // As SQLite does by itself on some failures.
                fixture.store.write(Concerns::Nobody, |connection| Ok(connection.batch_execute("ROLLBACK")?)),
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
            Box::pin(join_all((0..QUEUE).map(|_| fixture.store.write(Concerns::Nobody, |_| Ok(())))));
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
        let mut flood = Box::pin(join_all(
            names.iter().map(|name| fixture.store.insert(person(name), from([192, 0, 2, 1]))),
        ));
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
        let present = || fixture.store.edition(SessionId::from_bytes([7; 16]), UserId(1));
        let release = fixture.hold_the_writer().await;
        let before = present();

        // Its caller leaves, so the answer goes off in the hands of the writer.
        let _ = fixture.store.write(Concerns::Nobody, |_| Ok(Bomb)).now_or_never();
        drop(release);
        fixture.tasks.close();
        fixture.tasks.wait().await;

        assert_ne!(present(), before, "nobody knows how far it came");
        assert!(is_done(&fixture.store.insert(person("ann"), attempt()).await));
        assert_eq!(fixture.names(), ["ann"]);
    }

    #[tokio::test]
    async fn a_writer_that_another_process_keeps_waiting_cannot_tell_an_edition() {
        let fixture = Fixture::new();
        let present = || fixture.store.edition(SessionId::from_bytes([7; 16]), UserId(1));
        assert!(present().is_some());

        let release = fixture.hold_the_writer().await;
        fixture.clock.advance(Duration::from_secs(1));
        assert_eq!(present(), None);

        drop(release);
        fixture.store.insert(person("ann"), attempt()).await.unwrap();
        assert!(present().is_some());
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

    fn insert_unfinished(connection: &mut SqliteConnection) {
        connection
            .batch_execute(
                "INSERT INTO users (username, username_key, password_hash, created_at, updated_at)
                 VALUES ('eve', 'eve', '', 0, 0)",
            )
            .unwrap();
    }
}
