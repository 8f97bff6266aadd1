//! From the text of a setting to its type. Every refusal says what would be right and repeats nothing.

#[cfg(test)]
mod tests;

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::num::{NonZero, NonZeroU32};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::Uri;
use actix_web::http::header::HeaderName;
use domain::{PasswordPolicy, SitePrefix};
use ipnet::IpNet;
use token_jwt::{KeyPair, KeyPairAlgorithm, TokenType};
use zeroize::Zeroizing;

use super::{Algorithm, Dsn, EdgeFault, EngineName, Environment, Location, LogFormat, Secret, edges::End};
use crate::introspection_clients::ConfiguredClients;

/// What is wrong with a value, as the end of a sentence that begins with the setting's name.
pub(super) type Wrong = String;

/// The most bytes of a text that every token carries; all of them together leave room in the 8192 bytes that a
/// token may have.
const LONGEST_CLAIM: usize = 255;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

pub(super) fn environment(text: &str) -> Result<Environment, Wrong> {
    let known = [Environment::Development, Environment::Production];
    let named = known.into_iter().find(|environment| environment.as_str() == text);
    named.map_or_else(|| wrong("must be development or production"), Ok)
}

pub(super) fn address(text: &str) -> Result<SocketAddr, Wrong> {
    text.parse().or_else(|_| wrong("must be an IP address and a port, such as 127.0.0.1:8000"))
}

/// Networks, or addresses that are networks of their own.
pub(super) fn trusted_proxies(text: &str) -> Result<api::TrustedProxies, Wrong> {
    let network = |item: &str| item.parse().or_else(|_| item.parse::<IpAddr>().map(IpNet::from)).ok();
    let networks = items(text).map(network).collect::<Option<Vec<_>>>();
    let Some(networks) = networks else {
        return wrong("must be networks with commas between them, such as 10.0.0.0/8,2001:db8::7");
    };
    api::TrustedProxies::new(networks).ok_or_else(|| {
        "holds every client, and so every client could choose the address that it is counted by; name the networks \
         of your proxies alone"
            .to_owned()
    })
}

pub(super) fn client_ip_header(text: &str) -> Result<api::ClientIpHeader, Wrong> {
    api::ClientIpHeader::parse(text)
        .ok_or_else(|| "must be x-forwarded-for, forwarded or x-real-ip".to_owned())
}

pub(super) fn origins(text: &str) -> Result<Vec<api::Origin>, Wrong> {
    items(text).map(api::Origin::parse).collect::<Option<_>>().ok_or_else(|| {
        "must be origins as browsers write them, with commas between them, such as \
         https://app.example.com,http://localhost:3000,tauri://localhost: in lower case, without a slash at the end, a \
         path, a * or the scheme's own port; null and file:// cannot be allowed"
            .to_owned()
    })
}

/// Names of headers. A `*` means every header only without credentials, which this service's pages send.
pub(super) fn header_names(text: &str) -> Result<Vec<HeaderName>, Wrong> {
    let name = |item: &str| HeaderName::from_str(item).ok().filter(|name| name.as_str() != "*");
    items(text).map(name).collect::<Option<_>>().ok_or_else(|| {
        "must be names of headers with commas between them, such as x-tenant,x-client-version; * is not one".to_owned()
    })
}

/// `None` for an empty text: there is no such page.
pub(super) fn change_password_page(text: &str) -> Result<Option<String>, Wrong> {
    if text.is_empty() {
        return Ok(None);
    }
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic()) && !text.contains(['\\', '"', '<', '>']);
    // A browser takes what follows two slashes for a host.
    let is_path = text.starts_with('/') && !text.starts_with("//");
    let is_url = text.parse::<Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri
                .authority()
                .is_some_and(|authority| !authority.host().is_empty() && !authority.as_str().contains('@'))
    });
    if is_plain && (is_path || is_url) {
        return Ok(Some(text.to_owned()));
    }
    wrong(
        "must be an http or https URL without a login, such as https://app.example.com/account/password, or a path \
         that begins with one slash",
    )
}

/// The parts of a list; an empty text has none.
fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(move |_| !text.is_empty())
}

/// How many requests a minute.
pub(super) fn quota(text: &str) -> Result<NonZeroU32, Wrong> {
    number(text, NonZeroU32::MIN, const { NonZeroU32::new(1_000_000_000).unwrap() })
}

pub(super) fn ipv6_prefix(text: &str) -> Result<SitePrefix, Wrong> {
    number(text, 32, 64).and_then(|bits| SitePrefix::new(bits).ok_or_else(|| "is out of range".to_owned()))
}

/// `None` for an empty text: no listener.
pub(super) fn ops_address(text: &str) -> Result<Option<SocketAddr>, Wrong> {
    if text.is_empty() { Ok(None) } else { address(text).map(Some) }
}

pub(super) fn flag(text: &str) -> Result<bool, Wrong> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => wrong("must be true or false"),
    }
}

/// How long requests in flight may take at a stop, in whole seconds as the HTTP server counts it. None at all is
/// a choice one can make.
pub(super) fn grace(text: &str) -> Result<Duration, Wrong> {
    whole_seconds(text, Duration::ZERO, HOUR)
        .or_else(|()| wrong("must be a time in whole seconds such as 20s, from 0s to 1h"))
}

/// How long a connection may wait for its next request.
pub(super) fn idle_timeout(text: &str) -> Result<Duration, Wrong> {
    duration(text, SECOND, 24 * HOUR).or_else(|()| wrong("must be a time such as 75s, from 1s to 24h"))
}

/// Names of hosts, without ports, in lower case.
pub(super) fn host_names(text: &str) -> Result<Vec<String>, Wrong> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let name = |item: &str| {
        let is_name = (1..=253).contains(&item.len()) && item.bytes().all(plain) && !item.ends_with('.');
        is_name.then(|| item.to_ascii_lowercase())
    };
    items(text).map(name).collect::<Option<_>>().ok_or_else(|| {
        "must be host names without ports, with commas between them, such as auth-api,ops.example.com"
            .to_owned()
    })
}

/// How long a password may wait for its turn and be hashed. Ten seconds are what many clients wait for an
/// answer; the one that says why must reach them before.
pub(super) fn hashing_deadline(text: &str) -> Result<Duration, Wrong> {
    duration(text, Duration::from_millis(100), Duration::from_millis(9_500))
        .or_else(|()| wrong("must be a time such as 5s, from 100ms to 9500ms"))
}

/// How long an access token holds. What cannot be taken back should not hold for long. A token says that it was issued a
/// second ago, so one that lives for a second would expire at once.
pub(super) fn access_ttl(text: &str) -> Result<Duration, Wrong> {
    whole_seconds(text, 2 * SECOND, 30 * DAY)
        .or_else(|()| wrong("must be a time in whole seconds such as 15m, from 2s to 30d"))
}

/// How long a session lives.
pub(super) fn session_ttl(text: &str) -> Result<Duration, Wrong> {
    whole_seconds(text, SECOND, 3650 * DAY)
        .or_else(|()| wrong("must be a time in whole seconds such as 14d, from 1s to 3650d"))
}

/// How long a key is published before it signs. Backends may keep what is published for five minutes at least.
pub fn lead_time(text: &str) -> Result<Duration, Wrong> {
    duration(text, 5 * 60 * SECOND, 30 * DAY)
        .or_else(|()| wrong("must be a time such as 1h, from 5m to 30d; --now has the key sign at once"))
}

/// How long attempts are kept.
pub(super) fn audit_keep(text: &str) -> Result<Duration, Wrong> {
    whole_seconds(text, DAY, 36_500 * DAY)
        .or_else(|()| wrong("must be a time in whole seconds such as 400d, from 1d to 36500d"))
}

/// How far tabs may be apart. Whoever steals a refresh token goes unnoticed for as long.
pub(super) fn session_grace(text: &str) -> Result<Duration, Wrong> {
    duration(text, Duration::ZERO, 60 * SECOND)
        .or_else(|()| wrong("must be a time such as 10s, from 0s to 60s"))
}

pub(super) fn bcrypt_cost(text: &str) -> Result<u32, Wrong> {
    number(text, 10, 16)
}

pub(super) fn password_policy(text: &str) -> Result<PasswordPolicy, Wrong> {
    let least = number(text, 8, domain::MAX_PASSWORD_LENGTH)?;
    PasswordPolicy::new(least).ok_or_else(|| "asks for less than a password may have".to_owned())
}

pub(super) fn failures(text: &str) -> Result<u32, Wrong> {
    number(text, 10, 100)
}

pub(super) fn engine(text: &str) -> Result<EngineName, Wrong> {
    match text {
        "lanes" => Ok(EngineName::Lanes),
        "reference" => Ok(EngineName::Reference),
        _ => wrong("must be lanes or reference"),
    }
}

pub(super) fn lanes(text: &str) -> Result<usize, Wrong> {
    number(text, 1, hasher_bcrypt::MAX_LANES)
}

pub(super) fn workers(text: &str) -> Result<usize, Wrong> {
    number(text, 1, 256)
}

pub(super) fn queue(text: &str) -> Result<usize, Wrong> {
    number(text, 1, 1_000_000)
}

pub(super) fn pool_size(text: &str) -> Result<NonZero<usize>, Wrong> {
    number(text, NonZero::<usize>::MIN, const { NonZero::new(256).unwrap() })
}

pub(super) fn max_connections(text: &str) -> Result<NonZero<usize>, Wrong> {
    number(text, const { NonZero::new(8).unwrap() }, const { NonZero::new(1_000_000).unwrap() })
}

/// The URL of a database, whose scheme tells what it is on.
pub(super) fn location(text: &str) -> Result<Location, Wrong> {
    plain_ends(text)?;
    if store_postgres::SCHEMES.into_iter().any(|scheme| text.starts_with(scheme)) {
        return store_postgres::Url::parse(text).map(Location::Postgres).map_err(|error| error.to_string());
    }
    sqlite_path(text).map(Location::Sqlite)
}

/// `sqlite://` and a path, relative to the working directory unless it begins with a slash.
fn sqlite_path(text: &str) -> Result<PathBuf, Wrong> {
    match text.strip_prefix("sqlite://") {
        // A store is one file shared by several connections, which `:memory:` is not; and what looks like
        // parameters would end up in the file's name.
        Some(path) if !path.is_empty() && !path.contains([':', '?', '#', '\0']) && !path.ends_with('/') => {
            plain_ends(path)?;
            Ok(PathBuf::from(path))
        }
        _ => wrong(
            "must be sqlite:// and the path of a file, such as sqlite://data/auth.db, or the postgres:// URL of a \
             database",
        ),
    }
}

/// Written as in the header of a token, where case counts.
pub(super) fn algorithm(text: &str) -> Result<Algorithm, Wrong> {
    let key_pair = || KeyPairAlgorithm::parse(text).map(Algorithm::KeyPair);
    let algorithm = if text == "HS256" { Some(Algorithm::Hs256) } else { key_pair() };
    algorithm.ok_or_else(|| "must be HS256, EdDSA, ES256 or RS256".to_owned())
}

/// Refuses a text that would name another file than the one that is meant, which would be made.
pub(super) fn plain_ends(text: &str) -> Result<(), Wrong> {
    if let Some(fault) = EdgeFault::of(text) {
        return Err(fault.to_string());
    }
    if text.contains(char::is_control) {
        return wrong("has a line end or another control character in it; remove it");
    }
    let is_quote = ['\'', '"'];
    if text.starts_with(is_quote) || text.ends_with(is_quote) {
        let end = if text.starts_with(is_quote) { End::First } else { End::Last };
        return Err(format!("{end} with a quotation mark, which would be a part of it; remove it"));
    }
    Ok(())
}

pub(super) fn folder(text: &str) -> Result<PathBuf, Wrong> {
    plain_ends(text)?;
    if text.is_empty() {
        return wrong("must be the path of a folder, such as data/keys");
    }
    Ok(PathBuf::from(text))
}

pub(super) fn file(text: &str) -> Result<PathBuf, Wrong> {
    plain_ends(text)?;
    if text.is_empty() {
        return wrong("must be the path of a file");
    }
    Ok(PathBuf::from(text))
}

/// Of whichever algorithm it is.
pub(super) fn private_key(text: &str) -> Result<Arc<KeyPair>, Wrong> {
    KeyPair::from_text(text).map(Arc::new).map_err(|unusable| unusable.to_string())
}

pub(super) fn token_type(text: &str) -> Result<TokenType, Wrong> {
    match text {
        "at+jwt" => Ok(TokenType::AccessToken),
        "JWT" => Ok(TokenType::Jwt),
        _ => wrong("must be at+jwt or JWT"),
    }
}

pub(super) fn secret(text: &str) -> Result<Secret, Wrong> {
    Secret::parse(Zeroizing::new(text.to_owned())).map_err(|weak| weak.to_string())
}

pub(super) fn clients(text: &str) -> Result<ConfiguredClients, Wrong> {
    ConfiguredClients::parse(text).map_err(|invalid| invalid.to_string())
}

/// An origin, perhaps with a path, that other texts are appended to: verifiers compare it byte for byte.
pub(super) fn issuer(text: &str) -> Result<String, Wrong> {
    if text.len() > LONGEST_CLAIM {
        return Err(format!("must have at most {LONGEST_CLAIM} bytes"));
    }
    let plain = !text.ends_with('/') && !text.contains(['?', '#', '@']);
    let parsed = text.parse::<Uri>().ok().filter(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
    });
    match parsed {
        Some(_) if plain => Ok(text.to_owned()),
        _ => wrong(
            "must be an http or https URL without a slash at the end, a query, a fragment or a login, such \
             as https://auth.example.com",
        ),
    }
}

pub(super) fn dsn(text: &str) -> Result<Dsn, Wrong> {
    Dsn::parse(text)
}

/// Where a collector takes traces, below its endpoint
/// (<https://opentelemetry.io/docs/specs/otlp/#otlphttp-request>).
pub const TRACES: &str = "/v1/traces";

/// An address that the paths of signals are appended to. A login in it would be shown with it.
pub(super) fn otlp_endpoint(text: &str) -> Result<String, Wrong> {
    let is_plain = !text.contains(['?', '#', '@']);
    if text.trim_end_matches('/').ends_with(TRACES) {
        return wrong("must be the collector's URL without `/v1/traces`, which is added to it");
    }
    let parsed = text.parse::<Uri>().ok().filter(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
    });
    match parsed {
        Some(_) if is_plain => Ok(text.to_owned()),
        _ => wrong(
            "must be an http or https URL without a query, a fragment or a login, such as http://collector:4318",
        ),
    }
}

/// `None` for an empty text: tokens without an audience.
pub(super) fn audience(text: &str) -> Result<Option<String>, Wrong> {
    if text.is_empty() { Ok(None) } else { claim(text).map(Some) }
}

pub(super) fn client_id(text: &str) -> Result<String, Wrong> {
    claim(text)
}

pub(super) fn log_level(text: &str) -> Result<tracing::Level, Wrong> {
    match text {
        "error" => Ok(tracing::Level::ERROR),
        "warn" => Ok(tracing::Level::WARN),
        "info" => Ok(tracing::Level::INFO),
        "debug" => Ok(tracing::Level::DEBUG),
        "trace" => Ok(tracing::Level::TRACE),
        _ => wrong("must be error, warn, info, debug or trace"),
    }
}

pub(super) fn log_format(text: &str) -> Result<LogFormat, Wrong> {
    match text {
        "pretty" => Ok(LogFormat::Pretty),
        "json" => Ok(LogFormat::Json),
        _ => wrong("must be pretty or json"),
    }
}

fn claim(text: &str) -> Result<String, Wrong> {
    if (1..=LONGEST_CLAIM).contains(&text.len()) && !text.contains(char::is_control) {
        Ok(text.to_owned())
    } else {
        Err(format!("must have 1 to {LONGEST_CLAIM} bytes and no control characters"))
    }
}

fn number<N>(text: &str, least: N, most: N) -> Result<N, Wrong>
where
    N: Copy + FromStr + PartialOrd + Display,
{
    match text.parse() {
        Ok(number) if least <= number && number <= most => Ok(number),
        _ => Err(format!("must be a whole number from {least} to {most}")),
    }
}

/// One number and one unit, `500ms`, `10s`, `15m`, `12h` or `14d`: nobody has to know how two would add up.
fn duration(text: &str, least: Duration, most: Duration) -> Result<Duration, ()> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).ok_or(())?);
    let milliseconds: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(()),
    };
    let count: u64 = digits.parse().map_err(|_| ())?;
    let duration = Duration::from_millis(count.checked_mul(milliseconds).ok_or(())?);
    if (least..=most).contains(&duration) { Ok(duration) } else { Err(()) }
}

fn whole_seconds(text: &str, least: Duration, most: Duration) -> Result<Duration, ()> {
    duration(text, least, most).and_then(|whole| if whole.subsec_nanos() == 0 { Ok(whole) } else { Err(()) })
}

fn wrong<T>(what: &str) -> Result<T, Wrong> {
    Err(what.to_owned())
}
