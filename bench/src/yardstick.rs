//! What the server is measured against, so that a figure outlives the machine it was taken on.

use std::hint::black_box;
use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::panic::resume_unwind;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use actix_web::http::header::ContentType;
use actix_web::rt::System;
use actix_web::web::{self, Bytes};
use actix_web::{App, HttpResponse, HttpServer};
use rustix::process::setpriority_process;
use rustix::thread::gettid;

use crate::Result;
use crate::ambient::{now, random};
use crate::callers::PASSWORD;
use crate::database::{Database, Sessions};
use crate::machine::cores;
use crate::stats::number;
use crate::traces;

/// That of the server's hashing threads.
const NICENESS: i32 = 10;

const SALT: [u8; 16] = *b"a grain of salt.";

/// How many hashes a second the `bcrypt` crate makes, one after the other on each of these threads.
///
/// Each is timed from its first hash to the end of its last, so that no part of a hash is counted or lost. It
/// gives way to others as the server's hashing threads do; otherwise whatever else runs on the machine would
/// take from the one and not from the other.
pub(crate) fn bcrypt_per_second(threads: usize, cost: u32, length: Duration) -> f64 {
    let work = || {
        // Where the system does not allow it, the server's threads could not either.
        _ = setpriority_process(Some(gettid()), NICENESS);
        let begun = now();
        let mut hashes = 0.0;
        while begun.elapsed() < length {
            black_box(bcrypt::bcrypt(cost, SALT, black_box(PASSWORD.as_bytes())));
            hashes += 1.0;
        }
        hashes / begun.elapsed().as_secs_f64()
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic))).sum()
    })
}

/// What the server's store keeps of [`PASSWORD`], made by the `bcrypt` crate.
pub(crate) fn hash(cost: u32) -> Result<String> {
    Ok(bcrypt::hash_with_salt(PASSWORD, cost, SALT)?.format_for_version(bcrypt::Version::TwoB))
}

/// Changes of sessions one after the other, as a server makes them that gives each request a transaction of its own:
/// `BEGIN`, one prepared `UPDATE` of one row, `COMMIT`. Each commit writes to the write-ahead log and waits for one `fsync`
/// of it. On SQLite a checkpoint every thousand pages adds two more; on PostgreSQL each of the three is a round trip.
///
/// It has the table, the indexes, the settings and the disk of the server, and nothing else to do.
pub(crate) struct OneByOne {
    connection: Box<dyn Sessions>,
    sessions: Vec<[u8; 16]>,
    commits: i64,
}

impl OneByOne {
    /// Opens so many sessions in a database that no server uses.
    pub(crate) fn open(database: &Database, sessions: usize) -> Result<Self> {
        database.populate(1, "")?;
        let mut connection = database.sessions()?;
        let sessions = (0..sessions).map(|_| random()).collect::<std::result::Result<Vec<_>, _>>()?;
        for id in &sessions {
            connection.open(id)?;
        }
        Ok(Self { connection, sessions, commits: 0 })
    }

    /// How many it commits in a second, in turn over all sessions.
    pub(crate) fn commits_per_second(&mut self, length: Duration) -> Result<f64> {
        let begun = now();
        let before = self.commits;
        for id in self.sessions.iter().cycle() {
            if begun.elapsed() >= length {
                break;
            }
            self.commits += 1;
            self.connection.change(id, self.commits)?;
        }
        Ok(number(usize::try_from(self.commits - before)?) / begun.elapsed().as_secs_f64())
    }
}

/// A process that answers every `GET /api/me` with the same bytes and does nothing else. It is killed when it
/// is dropped.
pub(crate) struct BareHandler {
    process: Child,
    pub(crate) address: SocketAddr,
}

impl BareHandler {
    /// The subcommand that [`serve_bare`] is behind.
    pub(crate) const COMMAND: &str = "bare-handler";

    pub(crate) fn start(body: &[u8]) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([Self::COMMAND, str::from_utf8(body)?]);
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        traces::note_process(&process);
        let output = process.stdout.take();
        let mut handler = Self { process, address: (Ipv4Addr::LOCALHOST, 0).into() };
        let mut line = String::new();
        BufReader::new(output.ok_or("the bare handler has no output")?).read_line(&mut line)?;
        handler.address = line.trim().parse()?;
        Ok(handler)
    }
}

impl Drop for BareHandler {
    fn drop(&mut self) {
        // Both fail when it has ended already, which is as well.
        _ = self.process.kill();
        _ = self.process.wait();
        traces::forget_process(&self.process);
    }
}

/// Prints where it listens, and then answers with `body` for ever, with as many workers as the server has.
pub(crate) fn serve_bare(body: String) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let body = Bytes::from(body);
    System::new().block_on(async move {
        let server = HttpServer::new(move || {
            let body = body.clone();
            let answer = move || {
                let body = body.clone();
                async move { HttpResponse::Ok().content_type(ContentType::json()).body(body) }
            };
            App::new().route("/api/me", web::get().to(answer))
        });
        let server = server.workers(cores()).listen(listener)?.run();
        announce(address);
        server.await
    })
}

#[expect(clippy::print_stdout, reason = "whoever started it reads where it listens")]
fn announce(address: SocketAddr) {
    println!("{address}");
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use diesel::connection::SimpleConnection;

    use super::*;
    use crate::database::{connect, newest_generation};

    #[test]
    fn every_commit_is_counted_and_is_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("auth.db");
        let schema = ["0001_users", "0002_sessions"].map(|migration| {
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations/sqlite");
            std::fs::read_to_string(root.join(migration).join("up.sql")).unwrap()
        });
        connect(&path).unwrap().batch_execute(&schema.concat()).unwrap();
        let mut one_by_one = OneByOne::open(&Database::Sqlite(path.clone()), 3).unwrap();

        let pace = one_by_one.commits_per_second(Duration::from_millis(50)).unwrap();

        assert!(pace > 0.0 && one_by_one.commits > 0);
        assert_eq!(newest_generation(&path).unwrap(), Some(one_by_one.commits));
    }

    #[test]
    fn the_hash_is_of_everybodys_password_at_its_cost() {
        let hash = hash(4).unwrap();

        assert!(hash.starts_with("$2b$04$"), "{hash}");
        assert!(bcrypt::verify(PASSWORD, &hash).unwrap());
    }
}
