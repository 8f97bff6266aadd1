//! Which servers, and how to talk to them: a URL as libpq takes it.

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use thiserror::Error;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

use crate::error::OpenError;
use crate::tls;

/// The schemes that are PostgreSQL's.
pub const SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];

/// How long all servers together may take to be found out of reach, unless `connect_timeout` says how long each may.
const PATIENCE: Duration = Duration::from_secs(3);

/// The options that the driver reads by itself.
const PASSED_ON: [&str; 11] = [
    "application_name",
    "channel_binding",
    "dbname",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "options",
    "password",
    "port",
    "tcp_user_timeout",
    "user",
];

/// The options that the driver does not read as libpq would.
const OURS: [&str; 5] = ["connect_timeout", "host", "sslmode", "sslrootcert", "target_session_attrs"];

/// A database: its servers, who connects to them, and how. It has a password in it, and never shows it.
#[derive(Clone, PartialEq)]
pub struct Url {
    pub(crate) servers: Vec<Server>,
    pub(crate) tls: Tls,
    /// Whether `sslmode` stands in the URL.
    names_ssl_mode: bool,
    shown: String,
}

/// Why data may cross a network unencrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plaintext {
    /// The URL has no `sslmode`, and the default is `prefer`.
    ByDefault,
    /// The URL says `sslmode=disable` or `prefer`.
    Chosen,
}

/// One of the servers.
#[derive(Clone, PartialEq)]
pub(crate) struct Server {
    pub(crate) config: Config,
    /// How long to wait for it to take a connection.
    pub(crate) patience: Duration,
    pub(crate) shown: String,
}

/// What `sslmode` and `sslrootcert` ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tls {
    Disabled,
    /// If there is any to be had.
    Preferred(Trust),
    Required(Trust),
}

/// Whom to take for the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    Anybody,
    /// Whoever has a certificate under one of these.
    Certified(Roots),
    /// Who has one of the server's own name as well.
    CertifiedByName(Roots),
}

/// Where the certificates are under which others are trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Roots {
    System,
    File(PathBuf),
}

/// What is wrong with a URL, as the end of a sentence that begins with its name. Of the URL, only the names of options
/// are told.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InvalidUrl {
    /// Another kind of URL, or none.
    #[error("must be as in postgres://user:password@host:5432/database, with what is special in it as %XX")]
    Malformed,
    /// Nobody to connect to.
    #[error("names no host; a socket's folder is written ?host=/var/run/postgresql")]
    NoHost,
    /// Ports and hosts do not match.
    #[error("must have one port for all hosts, or one for each")]
    Ports,
    /// An option that libpq may know, and this program does not.
    #[error("has an option that is not known{}; known are {}", quoted(.name.as_deref()), known())]
    UnknownOption {
        /// Its name, if it is one.
        name: Option<String>,
    },
    /// An option that cannot have this value.
    #[error("has a value of {option} that is not supported; write {right}")]
    InvalidOption {
        /// Which one.
        option: &'static str,
        /// What it can be.
        right: &'static str,
    },
    /// A value that the driver cannot read.
    #[error(
        "has a value of {option} that cannot be read; see \"Parameter Key Words\" in the documentation of libpq"
    )]
    Unreadable {
        /// Which one.
        option: &'static str,
    },
    /// `sslmode=verify-full` without anything to verify by.
    #[error("asks for a verified certificate and needs sslrootcert too: a file in PEM, or `system`")]
    NoRoots,
    /// The system's certificates are for everybody, so that a name alone makes a difference.
    #[error("has sslrootcert=system, which goes with sslmode=verify-full only")]
    SystemWithoutName,
}

impl Url {
    /// Reads the certificates that `sslrootcert` names, as a connection would.
    pub fn check_root_certificates(&self) -> Result<(), OpenError> {
        tls::connector(&self.tls).map(drop).map_err(|problem| problem.at(self))
    }

    /// Reads a URL as libpq would (<https://www.postgresql.org/docs/current/libpq-connect.html>), and refuses options
    /// that it would ignore. Without `target_session_attrs`, a server is one that takes changes.
    pub fn parse(text: &str) -> Result<Self, InvalidUrl> {
        let rest = SCHEMES.into_iter().find_map(|scheme| text.strip_prefix(scheme));
        let rest = rest.ok_or(InvalidUrl::Malformed)?;
        let (base, query) = rest.split_once('?').unwrap_or((rest, ""));
        // A password with an @ in it, as it is: what comes after would be taken for a host, and shown.
        if base.matches('@').count() > 1 {
            return Err(InvalidUrl::Malformed);
        }
        let mut passed_on = Vec::new();
        let mut ours = [const { None }; OURS.len()];
        for option in query.split('&').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').ok_or(InvalidUrl::Malformed)?;
            let name = decoded(name)?;
            if let Some(place) = OURS.iter().position(|ours| *ours == name) {
                ours[place] = Some(decoded(value)?);
            } else if PASSED_ON.contains(&name.as_str()) {
                passed_on.push(option);
            } else {
                return Err(InvalidUrl::unknown(name));
            }
        }
        let [connect_timeout, hosts, ssl_mode, root_certificates, target] = ours;

        let driver = Config::from_str(&format!("postgres://{base}?{}", passed_on.join("&")));
        let mut driver = driver.map_err(|error| InvalidUrl::unreadable(&error))?;
        driver.target_session_attrs(target_session_attrs(target.as_deref())?);
        let tls = tls(ssl_mode.as_deref(), root_certificates.as_deref())?;
        let hosts = hosts.map_or_else(|| driver.get_hosts().to_owned(), |listed| listed_hosts(&listed));
        let servers = servers(&driver, &hosts, connect_timeout.as_deref(), &tls)?;
        let names: Vec<&str> = servers.iter().map(|server| server.shown.as_str()).collect();
        let shown = format!("postgres://{}/{}", names.join(","), driver.get_dbname().unwrap_or_default());
        Ok(Self { servers, tls, names_ssl_mode: ssl_mode.is_some(), shown })
    }

    /// Whether and why data may cross a network unencrypted. A socket and a loopback address are no network.
    pub fn plaintext(&self) -> Option<Plaintext> {
        if matches!(self.tls, Tls::Required(_)) || self.servers.iter().all(Server::is_local) {
            return None;
        }
        Some(if self.names_ssl_mode { Plaintext::Chosen } else { Plaintext::ByDefault })
    }

    /// Whether it has a password in it.
    pub fn has_password(&self) -> bool {
        self.servers.iter().any(|server| server.config.get_password().is_some())
    }
}

impl Server {
    fn is_local(&self) -> bool {
        self.config.get_hosts().iter().all(|host| match host {
            Host::Unix(_) => true,
            Host::Tcp(name) => {
                let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
                name.eq_ignore_ascii_case("localhost")
                    || address.is_ok_and(|address| address.to_canonical().is_loopback())
            }
        })
    }
}

impl fmt::Display for Url {
    /// The servers and the database's name, without who connects.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Url({self})")
    }
}

impl InvalidUrl {
    /// Whatever is not a plain word may be a password that lost its way.
    fn unknown(name: String) -> Self {
        let is_word = name.len() <= 32 && name.chars().all(|one| one.is_ascii_lowercase() || one == '_');
        Self::UnknownOption { name: Some(name).filter(|_| is_word) }
    }

    fn unreadable(error: &tokio_postgres::Error) -> Self {
        let told = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
        let option = PASSED_ON.into_iter().find(|option| told.contains(&format!("`{option}`")));
        option.map_or(Self::Malformed, |option| Self::Unreadable { option })
    }
}

/// What `host` names, each by its name or by the folder of its socket. It takes the place of hosts before the `?`.
fn listed_hosts(hosts: &str) -> Vec<Host> {
    let host = |host: &str| match host.strip_prefix('/') {
        Some(_) => Host::Unix(host.into()),
        None => Host::Tcp(host.to_owned()),
    };
    hosts.split(',').filter(|host| !host.is_empty()).map(host).collect()
}

fn servers(
    driver: &Config,
    hosts: &[Host],
    connect_timeout: Option<&str>,
    tls: &Tls,
) -> Result<Vec<Server>, InvalidUrl> {
    let ports = driver.get_ports();
    if hosts.is_empty() {
        return Err(InvalidUrl::NoHost);
    }
    if ports.len() > 1 && ports.len() != hosts.len() {
        return Err(InvalidUrl::Ports);
    }
    let count = u32::try_from(hosts.len()).unwrap_or(u32::MAX);
    let patience = match connect_timeout.map(str::parse::<u16>) {
        None | Some(Ok(0)) => PATIENCE / count,
        Some(Ok(seconds)) => Duration::from_secs(seconds.into()),
        Some(Err(_)) => {
            return Err(InvalidUrl::InvalidOption {
                option: "connect_timeout",
                right: "a number of seconds",
            });
        }
    };
    let server = |(number, host): (usize, &Host)| {
        let port = ports.get(number).or(ports.first()).copied().unwrap_or(5432);
        let mut config = of_everybody(driver);
        config.port(port).connect_timeout(patience);
        let shown = match host {
            Host::Tcp(name) => {
                config.host(name).ssl_mode(match tls {
                    Tls::Disabled => SslMode::Disable,
                    Tls::Preferred(_) => SslMode::Prefer,
                    Tls::Required(_) => SslMode::Require,
                });
                format!("{name}:{port}")
            }
            // Whatever sslmode says, as libpq has it: nobody listens on a socket.
            Host::Unix(folder) => {
                config.host_path(folder).ssl_mode(SslMode::Disable);
                format!("{}:{port}", folder.display())
            }
        };
        Server { config, patience, shown }
    };
    Ok(hosts.iter().enumerate().map(server).collect())
}

/// What holds for every server alike. The driver would try them in turn by itself, each for as long as it takes.
fn of_everybody(driver: &Config) -> Config {
    let mut config = Config::new();
    config
        .application_name(driver.get_application_name().unwrap_or("auth-api"))
        .channel_binding(driver.get_channel_binding())
        .keepalives(driver.get_keepalives())
        .keepalives_idle(driver.get_keepalives_idle())
        .target_session_attrs(driver.get_target_session_attrs());
    if let Some(user) = driver.get_user() {
        config.user(user);
    }
    if let Some(password) = driver.get_password() {
        config.password(password);
    }
    if let Some(name) = driver.get_dbname() {
        config.dbname(name);
    }
    if let Some(options) = driver.get_options() {
        config.options(options);
    }
    if let Some(interval) = driver.get_keepalives_interval() {
        config.keepalives_interval(interval);
    }
    if let Some(timeout) = driver.get_tcp_user_timeout() {
        config.tcp_user_timeout(*timeout);
    }
    config
}

fn target_session_attrs(value: Option<&str>) -> Result<TargetSessionAttrs, InvalidUrl> {
    match value {
        None | Some("read-write" | "primary") => Ok(TargetSessionAttrs::ReadWrite),
        Some("any") => Ok(TargetSessionAttrs::Any),
        Some(_) => Err(InvalidUrl::InvalidOption {
            option: "target_session_attrs",
            right: "read-write, primary or any, since accounts are not only read",
        }),
    }
}

fn tls(mode: Option<&str>, roots: Option<&str>) -> Result<Tls, InvalidUrl> {
    let roots = roots.filter(|roots| !roots.is_empty()).map(|roots| match roots {
        "system" => Roots::System,
        file => Roots::File(file.into()),
    });
    let is_system = roots == Some(Roots::System);
    let mode = mode.unwrap_or(if is_system { "verify-full" } else { "prefer" });
    if is_system && mode != "verify-full" {
        return Err(InvalidUrl::SystemWithoutName);
    }
    // As libpq has it: whoever names certificates wants them looked at, in every mode.
    let trust = roots.clone().map_or(Trust::Anybody, Trust::Certified);
    Ok(match mode {
        "disable" => Tls::Disabled,
        "prefer" => Tls::Preferred(trust),
        "require" => Tls::Required(trust),
        "verify-ca" => Tls::Required(Trust::Certified(roots.ok_or(InvalidUrl::NoRoots)?)),
        "verify-full" => Tls::Required(Trust::CertifiedByName(roots.ok_or(InvalidUrl::NoRoots)?)),
        _ => {
            return Err(InvalidUrl::InvalidOption {
                option: "sslmode",
                right: "disable, prefer, require, verify-ca or verify-full",
            });
        }
    })
}

fn decoded(text: &str) -> Result<String, InvalidUrl> {
    let text = percent_decode_str(text).decode_utf8().map_err(|_| InvalidUrl::Malformed)?;
    Ok(text.into_owned())
}

fn quoted(name: Option<&str>) -> String {
    name.map(|name| format!(", `{name}`")).unwrap_or_default()
}

fn known() -> String {
    let mut known = [&PASSED_ON[..], &OURS].concat();
    known.sort_unstable();
    known.join(", ")
}
