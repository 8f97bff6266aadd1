//! Connection poolers that break prepared statements, found by what they do.
//!
//! In transaction mode a pooler such as PgBouncer lends one server connection to many clients in turn. Before 1.21, or
//! with `max_prepared_statements=0`, it passes the names of prepared statements on as they are. A client then finds its
//! statement missing, or that of another client in its place.

use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Statement};

use crate::connection::{FIRST_STATEMENT, Servers};
use crate::error::OpenProblem;

/// Which server process answers, and whether it has this statement under a name that the driver gives. A pooler that
/// supports prepared statements gives them names of its own.
const PROBE: &str = "SELECT pg_backend_pid(), EXISTS (SELECT FROM pg_catalog.pg_prepared_statements \
     WHERE name ~ '^s[0-9]+$' AND statement LIKE '%pg_backend_pid(), EXISTS%')";

/// What a client is told whose statement is not the server's, or whose name for it is another client's.
const FOREIGN_STATEMENT: [SqlState; 2] =
    [SqlState::DUPLICATE_PSTATEMENT, SqlState::INVALID_SQL_STATEMENT_NAME];

/// What a client met in one transaction.
struct Probed {
    process: i32,
    keeps_name: bool,
    /// Kept, since the driver removes it from the server when it is dropped, in a transaction of its own.
    _statement: Statement,
}

/// Succeeds without a pooler, and with one that supports prepared statements.
///
/// A pooler is recognised when one client meets two server processes, or two clients meet one.
pub(crate) async fn refuse_unsupported(servers: &Servers) -> Result<(), OpenProblem> {
    let first = servers.connect_raw_patiently().await?;
    let mut met = Vec::new();
    for _ in 0..2 {
        let Some(probed) = probe(&first).await? else { return Ok(()) };
        met.push((0, probed));
    }
    // A server that has no connection left for a second one is no pooler, or a pooler in session mode.
    let Ok(second) = servers.connect_raw().await else { return Ok(()) };
    let Ok(probed) = timeout(FIRST_STATEMENT, probe(&second)).await else { return Ok(()) };
    let Some(probed) = probed? else { return Ok(()) };
    met.push((1, probed));
    for (number, client) in [(0, &first), (1, &second)] {
        let Some(probed) = probe(client).await? else { return Ok(()) };
        met.push((number, probed));
    }
    let is_shared = met.iter().any(|(number, one)| {
        met.iter().any(|(other, another)| (number == other) != (one.process == another.process))
    });
    if is_shared && met.iter().any(|(_, probed)| probed.keeps_name) {
        Err(OpenProblem::Pooler)
    } else {
        Ok(())
    }
}

/// `None` if the server does not know what is asked, which only PostgreSQL itself has to.
async fn probe(client: &Client) -> Result<Option<Probed>, OpenProblem> {
    // PgBouncer in statement mode refuses transactions.
    client.batch_execute("BEGIN").await.map_err(|_| OpenProblem::Pooler)?;
    let probed = async {
        let statement = client.prepare(PROBE).await?;
        let row = client.query_one(&statement, &[]).await?;
        client.batch_execute("COMMIT").await?;
        let (process, keeps_name) = (row.try_get(0)?, row.try_get(1)?);
        Ok::<_, tokio_postgres::Error>(Probed { process, keeps_name, _statement: statement })
    };
    match probed.await {
        Ok(probed) => Ok(Some(probed)),
        // A new client has none yet, so these are another client's.
        Err(error) if error.code().is_some_and(|code| FOREIGN_STATEMENT.contains(code)) => {
            Err(OpenProblem::Pooler)
        }
        Err(_) => Ok(None),
    }
}
