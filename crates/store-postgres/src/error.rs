//! Errors of opening a database, which an operator reads, and errors of serving, which become a [`PortError`].

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use diesel::result::{ConnectionError, DatabaseErrorKind};
use domain::ports::PortError;
use thiserror::Error;
use tokio_postgres::error::{DbError, SqlState};

/// Why a database was not opened, or its migrations were not run. Nothing was changed.
#[derive(Debug)]
pub struct OpenError {
    /// Which database: its servers and its name, without who connects and with which password.
    pub database: String,
    /// What is the matter with it.
    pub problem: OpenProblem,
}

/// What is the matter with a database, and what to do about it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenProblem {
    /// No server that could be asked.
    #[error("no server answers; {}", .0.way())]
    Unreachable(#[source] ConnectError),
    /// The server is there and takes no connection at this moment.
    #[error("the server takes no connection now; {}", .0.way())]
    Busy(#[source] ConnectError),
    /// Another kind of server listens there.
    #[error("what answers there is no PostgreSQL server; correct the host and port")]
    OtherProtocol(#[source] ConnectError),
    /// The server does not know who this is.
    #[error("the server refuses this user {}", .0.credentials())]
    Credentials(#[source] ConnectError),
    /// It asks for a password, and the URL has none.
    #[error("the server asks for a password, and the URL has none")]
    NoPassword(#[source] ConnectError),
    /// The server has no such database.
    #[error("the server has no database of this name; make it with `createdb`")]
    NoDatabase(#[source] ConnectError),
    /// The database itself takes no connections.
    #[error("this database takes no connections; `ALTER DATABASE … ALLOW_CONNECTIONS true` changes that")]
    Closed(#[source] ConnectError),
    /// The role lacks CONNECT.
    #[error("this user may not connect to this database; `GRANT CONNECT ON DATABASE … TO …` allows it")]
    NoPermission(#[source] ConnectError),
    /// The role may not create the tables.
    #[error(
        "this user may not create tables in the schema {0}; allow it with `GRANT CREATE ON SCHEMA {0} TO …`, or run \
         `auth-api migrate up` as a user who may"
    )]
    NoCreate(String),
    /// No schema of `search_path` exists, or this user may use none of them.
    #[error(
        "this user has no schema to work in; make one of its search_path, or `GRANT USAGE, CREATE ON SCHEMA public TO …`"
    )]
    NoSchema,
    /// The tables belong to another role, which granted nothing.
    #[error(
        "this user may not read and write the table {0}; connect as its owner, or `GRANT ALL ON ALL TABLES IN SCHEMA … TO …`"
    )]
    NoTableRights(String),
    /// The server is not who it should be, or speaks no TLS.
    #[error("no TLS with the server as sslmode asks for it; {}", .0.tls())]
    Tls(#[source] ConnectError),
    /// The file that `sslrootcert` names is of no use.
    #[error("the certificates that sslrootcert names cannot be used; it is a file in PEM, or `system`")]
    RootCertificates(#[source] Box<dyn Error + Send + Sync>),
    /// Somebody else's tables. They were left as they are.
    #[error("this database has tables of another application; choose another database, or another schema")]
    Foreign,
    /// Migrated by a later release. It was left as it is.
    #[error("the schema was made by a newer release (it has {}); upgrade this program", .versions.join(", "))]
    Newer {
        /// The versions that this release does not know.
        versions: Vec<String>,
    },
    /// Migrations wait, and nobody allowed to run them.
    #[error("migrations are pending ({}); run `auth-api migrate up`", .migrations.join(", "))]
    Pending {
        /// Their names, oldest first.
        migrations: Vec<String>,
    },
    /// Names in other scripts have no place in it.
    #[error(
        "the {which} encoding is {found}, which cannot store every name; use a database in UTF-8, made by \
         `createdb --encoding=UTF8 --template=template0 NAME`"
    )]
    Encoding {
        /// Whose: the server's or the client's.
        which: &'static str,
        /// What it is, as PostgreSQL names it.
        found: String,
    },
    /// A connection pooler between us and the server loses prepared statements.
    #[error(
        "a connection pooler gives one prepared statement to another client: use PgBouncer 1.21 or later with \
         max_prepared_statements above 0, or pool_mode=session, or connect to PostgreSQL directly"
    )]
    Pooler,
    /// Commits are answered before they are on disk.
    #[error("synchronous_commit is off for this user, which can lose what was answered; switch it on")]
    AsynchronousCommit,
    /// Another session holds a lock on a table that is read first.
    #[error(
        "another session kept a table locked for {} seconds; end it, or try again later (pg_locks and pg_stat_activity \
         show it)", .waited.as_secs()
    )]
    Locked {
        /// How long was waited.
        waited: Duration,
        /// What the server said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The server accepted the connection and does not answer.
    #[error("the server did not answer within {} seconds; see whether it is paused or overloaded", .waited.as_secs())]
    Silent {
        /// How long was waited.
        waited: Duration,
    },
    /// A migration failed, and was rolled back.
    #[error("a migration failed and was rolled back")]
    Migration(#[source] Box<dyn Error + Send + Sync>),
    /// The threads for it could not be started.
    #[error("cannot start the threads that talk to the server")]
    Runtime(#[source] io::Error),
    /// Anything else that PostgreSQL says.
    #[error("PostgreSQL failed")]
    Failed(#[source] Box<dyn Error + Send + Sync>),
}

/// Why there is no connection to a server.
#[derive(Debug, Error)]
#[error("cannot connect to {server}")]
pub struct ConnectError {
    /// Its address.
    pub server: String,
    /// What became of the attempt.
    #[source]
    pub cause: ConnectCause,
}

/// What became of an attempt to connect.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConnectCause {
    /// Nothing.
    #[error("it does not answer")]
    NoAnswer,
    /// The server, or the way to it, refused.
    #[error(transparent)]
    Refused(#[from] tokio_postgres::Error),
    /// The first thing that was asked failed.
    #[error(transparent)]
    Setup(#[from] ConnectionError),
    /// The connection is accepted, and its first statement waits. A pooler does so while all its connections are lent.
    #[error("it accepts the connection and keeps its first statement waiting")]
    Queued,
    /// A standby, or a session that `default_transaction_read_only` holds for.
    #[error("it accepts no changes")]
    ReadOnly,
}

/// What goes wrong while serving.
#[derive(Clone, Debug)]
pub(crate) struct StoreError {
    kind: Kind,
    source: Arc<dyn Error + Send + Sync>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Of the moment: the same may work when it is done anew.
    Passing,
    /// It may work in a moment, and not in this one.
    Unavailable,
    /// It will not work until somebody looks.
    Failed,
}

/// A row that no code of ours wrote.
#[derive(Debug, Error)]
#[error("the row of {table} with id {id} has a {column} that cannot be: {found}")]
pub(crate) struct BrokenRow {
    pub(crate) table: &'static str,
    pub(crate) column: &'static str,
    pub(crate) id: String,
    pub(crate) found: String,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the database {}: {}", self.database, self.problem)
    }
}

impl Error for OpenError {
    /// What caused the problem: the problem itself is told already.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.problem.source()
    }
}

impl OpenProblem {
    pub(crate) fn at(self, database: impl fmt::Display) -> OpenError {
        OpenError { database: database.to_string(), problem: self }
    }
}

impl From<diesel::result::Error> for OpenProblem {
    fn from(error: diesel::result::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl From<ConnectError> for OpenProblem {
    fn from(error: ConnectError) -> Self {
        if matches!(error.cause, ConnectCause::Queued) {
            return Self::Busy(error);
        }
        let ConnectCause::Refused(cause) = &error.cause else { return Self::Unreachable(error) };
        match cause.code() {
            Some(&SqlState::INVALID_PASSWORD | &SqlState::INVALID_AUTHORIZATION_SPECIFICATION) => {
                Self::Credentials(error)
            }
            Some(&SqlState::INVALID_CATALOG_NAME) => Self::NoDatabase(error),
            Some(&SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE) => Self::Closed(error),
            Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Self::NoPermission(error),
            Some(&SqlState::CANNOT_CONNECT_NOW) => Self::Busy(error),
            _ if error.is_connection_limit() => Self::Busy(error),
            None if is_about_tls(cause) => Self::Tls(error),
            None if lacks_password(cause) => Self::NoPassword(error),
            None if asks_for_other_authentication(cause) => Self::Credentials(error),
            None if is_no_answer_of_postgres(cause) => Self::OtherProtocol(error),
            _ => Self::Unreachable(error),
        }
    }
}

impl ConnectError {
    /// Whether the server, or a pooler before it, has as many connections as it takes.
    pub(crate) fn is_connection_limit(&self) -> bool {
        self.cause.is_connection_limit()
    }

    fn refusal(&self) -> Option<&tokio_postgres::Error> {
        match &self.cause {
            ConnectCause::Refused(error) => Some(error),
            _ => None,
        }
    }

    fn code(&self) -> Option<&SqlState> {
        self.refusal().and_then(tokio_postgres::Error::code)
    }

    /// What to do about a server that is not there, or takes nobody.
    fn way(&self) -> &'static str {
        match self.code() {
            _ if self.is_connection_limit() => {
                return "all connections of the server, of this user or of the pooler are taken; end some, or raise \
                        max_connections, the role's CONNECTION LIMIT or the pooler's default_pool_size, or lower \
                        AUTH_DATABASE__POOL_SIZE";
            }
            Some(&SqlState::CANNOT_CONNECT_NOW) => return "it is starting or stopping; try again in a moment",
            _ => {}
        }
        let told = self.refusal().and_then(Error::source);
        let kind = told.and_then(|told| told.downcast_ref::<io::Error>()).map(io::Error::kind);
        match (&self.cause, kind, told.map(ToString::to_string)) {
            (ConnectCause::ReadOnly, ..) => {
                "it accepts no changes: it is a standby, or default_transaction_read_only is on; name the primary, or all \
                 hosts with commas between them"
            }
            (ConnectCause::NoAnswer, ..) => {
                "it is silent; see whether it runs (`pg_isready -h HOST -p PORT`), and whether a firewall is in the way"
            }
            (_, Some(io::ErrorKind::ConnectionRefused), _) => {
                "nothing listens there; start PostgreSQL, or correct the host and port (`pg_isready -h HOST -p PORT`)"
            }
            (_, Some(io::ErrorKind::NotFound), _) => {
                "there is no such socket; start PostgreSQL, or correct the folder and port (`pg_isready -h FOLDER -p PORT`)"
            }
            (_, Some(io::ErrorKind::PermissionDenied), _) => {
                "this user may not use the socket; let it enter the folder, or connect by host and port"
            }
            (_, Some(io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset), _) => {
                "it hangs up at once; its log says why"
            }
            (_, _, Some(told)) if told.contains("lookup address") => {
                "the host's name is not known; correct it, or see what `getent hosts HOST` finds"
            }
            _ => "check the hosts and ports, and that one of them accepts changes",
        }
    }

    /// The end of a sentence that begins with "the server refuses this user". Messages may be in any language, so the
    /// function that reports the error tells which one it is.
    fn credentials(&self) -> &'static str {
        let error = self.refusal().and_then(tokio_postgres::Error::as_db_error);
        let routine = error.and_then(DbError::routine).unwrap_or_default();
        let message = error.map(DbError::message).unwrap_or_default();
        match (self.code(), routine) {
            (Some(&SqlState::INVALID_PASSWORD), _) => {
                "or this password; try them with `psql`, and set another with `ALTER ROLE … PASSWORD`"
            }
            (None, _) => {
                "without an authentication method that is not supported here; name scram-sha-256 for it in pg_hba.conf"
            }
            (_, "InitializeSessionUserId") if message.ends_with("does not exist") => {
                "because there is no such role; make it with `CREATE ROLE … LOGIN PASSWORD …`, or correct the URL"
            }
            (_, "InitializeSessionUserId") => {
                "because its role may not log in; `ALTER ROLE … LOGIN` allows it"
            }
            (_, "ClientAuthentication") if message.ends_with("no encryption") => {
                "here: pg_hba.conf has no line for this user, database and address without TLS; add one, or set \
                 sslmode=require or verify-full in the URL where it has a hostssl line"
            }
            (_, "ClientAuthentication") => {
                "here: pg_hba.conf has no line for this user, database and address; add one, and reload the server"
            }
            (_, "auth_failed") => {
                "by the method that pg_hba.conf names, such as peer, which admits only the system's user of that name; \
                 connect by host with a password, or run as that user"
            }
            _ => "here; see its log, its pg_hba.conf, and whether the role may log in (`\\du`)",
        }
    }

    fn tls(&self) -> &'static str {
        use rustls::{CertificateError as C, Error as E};
        match self.refusal().and_then(tls_error) {
            Some(E::InvalidCertificate(C::UnknownIssuer | C::BadSignature)) => {
                "its certificate is signed by none of those that sslrootcert names; name the file with its authority's \
                 certificate (`openssl s_client -starttls postgres -connect HOST:PORT -showcerts` shows what it sends)"
            }
            Some(E::InvalidCertificate(C::NotValidForName | C::NotValidForNameContext { .. })) => {
                "its certificate is for another name; use that name in the URL, or sslmode=verify-ca"
            }
            Some(E::InvalidCertificate(C::Expired | C::ExpiredContext { .. })) => {
                "its certificate has expired; renew it on the server"
            }
            Some(E::InvalidCertificate(C::NotValidYet | C::NotValidYetContext { .. })) => {
                "its certificate is not valid yet; check the clocks of both machines (`date -u`)"
            }
            None if self
                .refusal()
                .and_then(Error::source)
                .is_some_and(|it| it.to_string().contains("not support TLS")) =>
            {
                "it speaks none; set `ssl = on` there, or say sslmode=disable where nobody can read the network"
            }
            _ => "check its certificate, its name and sslrootcert",
        }
    }
}

/// What rustls says, wherever it stands among the causes.
fn tls_error(error: &tokio_postgres::Error) -> Option<&rustls::Error> {
    let mut cause = Error::source(error);
    while let Some(error) = cause {
        let inside = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let found = inside.and_then(|inside| inside.downcast_ref()).or_else(|| error.downcast_ref());
        if found.is_some() {
            return found;
        }
        cause = error.source();
    }
    None
}

/// The driver keeps to itself what kind of error it is, but not its words.
fn is_no_answer_of_postgres(error: &tokio_postgres::Error) -> bool {
    let told = error.to_string();
    let cause = Error::source(error).map(ToString::to_string).unwrap_or_default();
    told.starts_with("unexpected message")
        || told.starts_with("error parsing response")
        || cause.contains("bytes remaining on stream")
}

impl ConnectCause {
    /// Whether the server, or a pooler before it, has as many connections as it takes.
    pub(crate) fn is_connection_limit(&self) -> bool {
        let Self::Refused(error) = self else { return matches!(self, Self::Queued) };
        // PgBouncer gives no code of its own, and its words are in English always.
        let is_pooler_limit = |told: &DbError| told.message().starts_with("no more connections allowed");
        error.code() == Some(&SqlState::TOO_MANY_CONNECTIONS)
            || error.as_db_error().is_some_and(is_pooler_limit)
    }

    /// Whether nothing was there that could have refused.
    pub(crate) fn is_of_the_way(&self) -> bool {
        matches!(self, Self::Refused(error) if error.to_string().starts_with("error connecting"))
    }
}

/// The driver keeps to itself what kind of error it is, but not its words.
fn is_about_tls(error: &tokio_postgres::Error) -> bool {
    error.to_string().contains("TLS")
}

fn asks_for_other_authentication(error: &tokio_postgres::Error) -> bool {
    let told = Error::source(error).map(ToString::to_string);
    told.is_some_and(|told| told.contains("unsupported authentication method"))
}

fn lacks_password(error: &tokio_postgres::Error) -> bool {
    let told = std::error::Error::source(error).map(ToString::to_string);
    told.is_some_and(|told| told.contains("password missing"))
}

impl StoreError {
    /// Something of the moment: worth another try at once, and `Unavailable` if that fails too.
    pub(crate) fn passing(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind: Kind::Passing, source: Arc::from(source.into()) }
    }

    pub(crate) fn unavailable(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind: Kind::Unavailable, source: Arc::from(source.into()) }
    }

    pub(crate) fn failed(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind: Kind::Failed, source: Arc::from(source.into()) }
    }

    /// Whether what did not happen for this may be done anew.
    pub(crate) fn is_passing(&self) -> bool {
        self.kind == Kind::Passing
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

impl Error for StoreError {
    /// What caused the cause: the cause itself is told already.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.source()
    }
}

impl From<diesel::result::Error> for StoreError {
    fn from(error: diesel::result::Error) -> Self {
        Self { kind: Kind::of(&error), source: Arc::new(error) }
    }
}

impl From<BrokenRow> for StoreError {
    fn from(error: BrokenRow) -> Self {
        Self::failed(error)
    }
}

impl From<StoreError> for PortError {
    fn from(error: StoreError) -> Self {
        let source = Box::new(error.source);
        match error.kind {
            Kind::Passing | Kind::Unavailable => Self::Unavailable(source),
            Kind::Failed => Self::Failed(source),
        }
    }
}

impl Kind {
    /// diesel tells the codes of a few errors and of the others only their text, which may be in any language. Our
    /// statements are few, and right; so what is not about what they say is about the server: it stops, gives up on a
    /// lock, breaks a deadlock, is full, or had its tables taken away.
    fn of(error: &diesel::result::Error) -> Self {
        use diesel::result::Error as E;
        match error {
            E::DatabaseError(
                DatabaseErrorKind::UniqueViolation
                | DatabaseErrorKind::ForeignKeyViolation
                | DatabaseErrorKind::RestrictViolation
                | DatabaseErrorKind::ExclusionViolation
                | DatabaseErrorKind::NotNullViolation
                | DatabaseErrorKind::CheckViolation,
                _,
            )
            | E::InvalidCString(_)
            | E::NotFound
            | E::QueryBuilderError(_)
            | E::DeserializationError(_)
            | E::SerializationError(_) => Self::Failed,
            _ => Self::Passing,
        }
    }
}
