//! Databases in a throw-away PostgreSQL.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU32, Ordering};

use test_postgres::Cluster;
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{Client, NoTls, Statement};

use super::{Account, Sessions, values};
use crate::Result;

/// As many times as a session has that is refreshed without a pause.
const BURST: u32 = 64;

/// Makes an empty one, and tells its URL.
pub(super) fn create(cluster: &Cluster) -> Result<String> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!("bench{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    execute(&cluster.url("postgres"), &format!("CREATE DATABASE {name}"))?;
    Ok(cluster.url(&name))
}

/// Adds users as [`super::Database::populate`] says, and leaves the tables as a server finds them that has been there for a
/// while.
pub(super) fn populate(url: &str, users: usize, hash: &str) -> Result<()> {
    execute(
        url,
        &format!(
            "INSERT INTO users (username, username_key, password_hash, created_at, updated_at)
             SELECT name, name, '{hash}', to_timestamp(number), to_timestamp(number)
             FROM (SELECT number, 'user' || lpad(number::text, 8, '0') AS name
                   FROM generate_series(1, {users}) AS numbers (number)) AS names"
        ),
    )?;
    execute(url, "VACUUM ANALYZE users")?;
    execute(url, "CHECKPOINT")
}

pub(super) fn add(url: &str, account: Account<'_>) -> Result<()> {
    let disabled_at = if account.is_disabled { "to_timestamp(1)" } else { "NULL" };
    execute(
        url,
        &format!(
            "INSERT INTO users (username, username_key, password_hash, disabled_at, created_at, updated_at)
             VALUES ({}, {disabled_at}, to_timestamp(1), to_timestamp(1))",
            values(account)
        ),
    )
}

/// A connection that changes sessions.
pub(super) struct Changer {
    client: Client,
    change: Statement,
    runtime: Runtime,
}

impl Changer {
    pub(super) fn open(url: &str) -> Result<Self> {
        let (client, runtime) = connect(url)?;
        // A round trip each for BEGIN, the change and COMMIT, as for whoever has a transaction for each request.
        let change = runtime.block_on(client.prepare(&format!(
            "UPDATE sessions
             SET generation = $2, superseded = {}, seen = false, recoveries = '{{}}', last_used_at = now(),
                 expires_at = now()
             WHERE id = $1::text::uuid",
            burst()
        )))?;
        Ok(Self { client, change, runtime })
    }
}

impl Sessions for Changer {
    fn open(&mut self, id: &[u8; 16]) -> Result<()> {
        let id = hex(id);
        let open = format!(
            "INSERT INTO sessions
                 (id, user_id, nonce, generation, superseded, seen, recoveries, created_at, last_used_at, expires_at,
                  ends_at)
             SELECT '{id}', min(id), decode('{id}', 'hex'), 1, {}, false, '{{}}', now(), now(), now(), 'infinity'
             FROM users",
            burst()
        );
        Ok(self.runtime.block_on(self.client.batch_execute(&open))?)
    }

    fn change(&mut self, id: &[u8; 16], number: i64) -> Result<()> {
        let Self { client, change, runtime } = self;
        let rows = runtime.block_on(async {
            let transaction = client.transaction().await?;
            let rows = transaction.execute(&*change, &[&hex(id), &number]).await?;
            transaction.commit().await?;
            Ok::<_, tokio_postgres::Error>(rows)
        })?;
        if rows == 1 { Ok(()) } else { Err("a session that is not there".into()) }
    }
}

fn burst() -> String {
    format!("array_fill(now(), ARRAY[{BURST}])")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        _ = write!(text, "{byte:02x}");
        text
    })
}

fn execute(url: &str, statement: &str) -> Result<()> {
    let (client, runtime) = connect(url)?;
    Ok(runtime.block_on(client.batch_execute(statement))?)
}

fn connect(url: &str) -> Result<(Client, Runtime)> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let client = runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        tokio::spawn(connection);
        Ok::<_, tokio_postgres::Error>(client)
    })?;
    Ok((client, runtime))
}
