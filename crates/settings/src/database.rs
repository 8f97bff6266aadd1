//! Where users are kept.

use std::fmt;
use std::num::NonZero;
use std::path::{Path, PathBuf};

use store_postgres::{OpenError, Plaintext};

use super::keys::{DefaultValue, Key, Setting};
use super::reading::Reading;
use super::{EdgeFault, Environment, Problem, Warning, line_end, readers, source};

/// What is wrong with the URL of a database to which production may connect in clear.
pub(crate) const UNENCRYPTED_DATABASE: &str = "names a server on a network and no sslmode, so users and password hashes may cross it \
     unencrypted; set sslmode=verify-full and sslrootcert in the URL, or sslmode=prefer or disable if nobody can listen \
     on that network";

/// Where users are kept.
#[derive(Clone, Debug)]
pub struct Database {
    /// Which database.
    pub location: Location,
    /// How many pooled connections to `PostgreSQL` one server has at most.
    pub pool_size: NonZero<usize>,
    /// Whether a start migrates.
    pub migrate_on_start: bool,
}

/// Which database, and on what.
#[derive(Clone, Debug, PartialEq)]
pub enum Location {
    /// The file of an `SQLite` database.
    Sqlite(PathBuf),
    /// A database of `PostgreSQL`, or of what speaks its protocol.
    Postgres(store_postgres::Url),
}

impl Location {
    /// Whether and why production may connect to it in clear.
    pub fn plaintext(&self, environment: Environment) -> Option<Plaintext> {
        match (self, environment) {
            (Self::Postgres(url), Environment::Production) => url.plaintext(),
            _ => None,
        }
    }

    /// Reads the certificates that `sslrootcert` names, as a connection would.
    pub fn check_root_certificates(&self) -> Result<(), OpenError> {
        match self {
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(url) => url.check_root_certificates(),
        }
    }

    /// Refuses one to which production may connect in clear, or warns where `option` chooses that.
    pub fn encrypted(
        self,
        option: &str,
        environment: Environment,
    ) -> Result<(Self, Option<Warning>), Problem> {
        match self.plaintext(environment) {
            Some(Plaintext::ByDefault) => Err(Problem::new(option, UNENCRYPTED_DATABASE)),
            Some(Plaintext::Chosen) => Ok((self, Some(Warning::unencrypted_database(option)))),
            None => Ok((self, None)),
        }
    }

    /// Refuses the path of a file, given as `argument`, with characters in it that are there by mistake.
    pub fn check_path(argument: &str, path: &Path) -> Result<(), Problem> {
        readers::plain_ends(&path.to_string_lossy()).map_err(|wrong| Problem::new(argument, wrong))
    }

    /// Reads the value of an option of the command line, where a password has no place.
    pub fn from_argument(option: &str, url: &str) -> Result<Self, Problem> {
        let location = readers::location(url).map_err(|wrong| Problem::new(option, wrong))?;
        match &location {
            Self::Postgres(url) if url.has_password() => Err(Problem::new(
                option,
                format!(
                    "has a password in it, which everybody on this machine can read in the list of processes; write the \
                     URL into a file of mode 600, and name that with {option}-file"
                ),
            )),
            _ => Ok(location),
        }
    }

    /// Reads the file that an option of the command line names, and tells whether others may do so too.
    pub fn from_file(option: &str, path: &Path) -> Result<(Self, Option<Warning>), Problem> {
        let read = source::read_file(path);
        let (mut url, readable_by_others) =
            read.map_err(|error| Problem::new(option, format!("names a file that cannot be read: {error}")))?;
        line_end::cut(&mut url);
        if let Some(fault) = EdgeFault::of(&url) {
            return Err(Problem::new(option, format!("names a file whose URL {fault}")));
        }
        let location = readers::location(&url);
        let location =
            location.map_err(|wrong| Problem::new(option, format!("names a file whose URL {wrong}")))?;
        let warning = readable_by_others && matches!(&location, Self::Postgres(url) if url.has_password());
        Ok((location, warning.then(|| Warning::readable_by_others(&path.display().to_string()))))
    }
}

impl fmt::Display for Location {
    /// As its URL, without who connects.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite://{}", path.display()),
            Self::Postgres(url) => url.fmt(f),
        }
    }
}

pub(crate) static DATABASE_URL: Setting<Location> = Setting {
    key: Key::text(
        "AUTH_DATABASE__URL",
        DefaultValue::Text("sqlite://data/auth.db"),
        "where users are kept: sqlite:// and the path of a file, or the postgres:// URL of a database",
    ),
    read: readers::location,
};

pub(crate) static DATABASE_URL_FILE: Key =
    Key::text("AUTH_DATABASE__URL_FILE", DefaultValue::Unset, "a file to read AUTH_DATABASE__URL from");

pub(crate) static DATABASE_POOL_SIZE: Setting<NonZero<usize>> = Setting {
    key: Key::number(
        "AUTH_DATABASE__POOL_SIZE",
        DefaultValue::Text("16"),
        "pooled connections of one server to PostgreSQL, 1 to 256",
    ),
    read: readers::pool_size,
};

pub(crate) static DATABASE_MIGRATE_ON_START: Setting<bool> = Setting {
    key: Key::flag(
        "AUTH_DATABASE__MIGRATE_ON_START",
        DefaultValue::Depends("true on SQLite, false on PostgreSQL"),
        "whether a start brings the database's schema up to date",
    ),
    read: readers::flag,
};

impl Reading {
    pub(crate) fn database(&mut self, environment: Option<Environment>) -> Option<Database> {
        let location = self.read(&DATABASE_URL);
        let setting = &DATABASE_URL.key;
        match environment.and_then(|environment| location.as_ref()?.plaintext(environment)) {
            Some(Plaintext::ByDefault) => self.refuse(setting, UNENCRYPTED_DATABASE),
            Some(Plaintext::Chosen) => {
                self.sources.warnings.push(Warning::unencrypted_database(setting.name));
            }
            None => {}
        }
        let pool_size = self.read(&DATABASE_POOL_SIZE);
        // A file has one server. A database may have several, of which one must not change the schema under the others
        // unless somebody means it to.
        let is_file = !matches!(location, Some(Location::Postgres(_)));
        let migrate_on_start = self.read_or(&DATABASE_MIGRATE_ON_START, &is_file.to_string());
        Some(Database { location: location?, pool_size: pool_size?, migrate_on_start: migrate_on_start? })
    }
}
