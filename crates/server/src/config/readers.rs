//! From the text of a setting to its type. Every refusal says what would be right and repeats nothing.

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

use super::{Algorithm, Dsn, EdgeFault, EngineName, Environment, Location, LogFormat, Secret};
use crate::clients::ConfiguredClients;

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
pub(crate) fn lead_time(text: &str) -> Result<Duration, Wrong> {
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
    if text.starts_with(['\'', '"']) || text.ends_with(['\'', '"']) {
        return wrong("begins or ends with a quotation mark, which would be a part of it; remove it");
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
pub(crate) const TRACES: &str = "/v1/traces";

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_one_number_and_one_unit() {
        let read = |text| duration(text, Duration::ZERO, 100 * DAY);

        assert_eq!(read("10s"), Ok(10 * SECOND));
        assert_eq!(read("15m"), Ok(15 * 60 * SECOND));
        assert_eq!(read("12h"), Ok(12 * HOUR));
        assert_eq!(read("14d"), Ok(14 * DAY));
        assert_eq!(read("500ms"), Ok(SECOND / 2));
        for text in [
            "",
            "s",
            "10",
            "10 s",
            "-10s",
            "+10s",
            "1.5s",
            "1h30m",
            "10S",
            "10y",
            "99999999999999999999d",
            "٣s",
        ] {
            assert_eq!(read(text), Err(()), "{text:?}");
        }
    }

    #[test]
    fn no_time_is_a_grace_but_neither_a_deadline_nor_a_lifetime() {
        assert_eq!(grace("0s"), Ok(Duration::ZERO));
        assert_eq!(grace("2000ms"), Ok(2 * SECOND));
        assert!(grace("999ms").unwrap_err().contains("whole seconds"));
        assert!(hashing_deadline("0s").is_err());
        assert!(hashing_deadline("10s").is_err());
        assert!(access_ttl("0s").is_err());
        assert!(access_ttl("1s").is_err());
        assert!(access_ttl("2s").is_ok());
        assert!(access_ttl("1500ms").is_err());
    }

    #[test]
    fn a_number_keeps_to_its_range() {
        assert_eq!(bcrypt_cost("10"), Ok(10));
        assert_eq!(bcrypt_cost("16"), Ok(16));
        for text in ["9", "17", "", "12.0", "twelve", "-12", "99999999999"] {
            assert!(bcrypt_cost(text).is_err(), "{text:?}");
        }
        assert!(password_policy("7").is_err());
        assert!(password_policy("8").is_ok());
        assert!(workers("0").is_err());
    }

    #[test]
    fn a_database_is_a_file_on_sqlite() {
        assert_eq!(sqlite_path("sqlite://data/auth.db"), Ok(PathBuf::from("data/auth.db")));
        assert_eq!(sqlite_path("sqlite:///var/lib/auth.db"), Ok(PathBuf::from("/var/lib/auth.db")));
        for text in [
            "",
            "data/auth.db",
            "sqlite://",
            "sqlite://:memory:",
            "sqlite://a.db?mode=ro",
            "mysql://db",
            "sqlite:a",
        ] {
            assert!(location(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn stray_characters_in_the_url_of_a_database_are_refused() {
        for url in ["sqlite://data/auth.db", "sqlite:///var/lib/auth.db", "postgres://ann:hunter2@db/auth"] {
            assert!(location(url).is_ok(), "{url}");
            for stray in ["\n", "\r\n", "\n\n", "\r", "\t", " ", "\u{a0}", "\u{3000}", "\u{2028}"] {
                assert!(location(&format!("{url}{stray}")).is_err(), "{url}{stray:?}");
                assert!(location(&format!("{stray}{url}")).is_err(), "{stray:?}{url}");
            }
            for stray in ["\u{feff}", "\u{200b}", "\u{200e}", "\u{2060}", "\u{202c}", "\u{ad}", "'", "\""] {
                assert!(location(&format!("{url}{stray}")).is_err(), "{url}{stray:?}");
                assert!(location(&format!("{stray}{url}")).is_err(), "{stray:?}{url}");
            }
            let (scheme, rest) = url.split_once("://").unwrap();
            for inner in ["\n", "\t", "\u{1b}", "\u{7f}", "\u{85}"] {
                assert!(location(&format!("{scheme}://{inner}{rest}")).is_err(), "{url} {inner:?}");
                assert!(location(&url.replace("auth", &format!("au{inner}th"))).is_err(), "{url} {inner:?}");
            }
        }
        assert!(location("sqlite:// data/auth.db").is_err());
        assert!(location("sqlite://\u{feff}data/auth.db").is_err());
        // Those within a path are its own.
        assert_eq!(sqlite_path("sqlite://my data/auth.db"), Ok(PathBuf::from("my data/auth.db")));
        for text in
            ["sqlite:data/auth.db", "sqlite:/data/auth.db", "sqlite3://a.db", "SQLITE://a.db", "sqlite"]
        {
            assert!(location(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_scheme_tells_what_a_database_is_on() {
        assert!(matches!(location("sqlite://auth.db"), Ok(Location::Sqlite(_))));
        for text in ["postgres://ann:hunter2@db/auth", "postgresql://db1,db2/auth?sslmode=require"] {
            assert!(matches!(location(text), Ok(Location::Postgres(_))), "{text}");
        }
        assert!(location("postgres://ann:hunter2@db/auth?sslmod=x").unwrap_err().contains("`sslmod`"));
    }

    #[test]
    fn idle_timeout_is_from_a_second_to_a_day() {
        assert_eq!(idle_timeout("75s"), Ok(75 * SECOND));
        assert_eq!(idle_timeout("10m"), Ok(600 * SECOND));
        assert_eq!((idle_timeout("1s"), idle_timeout("24h")), (Ok(SECOND), Ok(DAY)));
        for text in ["0s", "999ms", "25h", "75", ""] {
            assert!(idle_timeout(text).is_err(), "{text}");
        }
    }

    #[test]
    fn host_names_are_plain_and_have_no_port() {
        assert_eq!(host_names(""), Ok(vec![]));
        assert_eq!(
            host_names("Auth-API, ops.example.com"),
            Ok(vec!["auth-api".into(), "ops.example.com".into()])
        );
        for text in ["*", "a:9464", "a,", "https://a", "a b", "[::1]", "\u{e4}.example", "a."] {
            assert!(host_names(text).is_err(), "{text}");
        }
    }

    #[test]
    fn proxies_are_networks_and_never_everybody() {
        let read = |text| trusted_proxies(text).is_ok();

        for text in ["", "10.0.0.0/8", "192.0.2.7", "10.0.0.0/8, 2001:db8::/32,::1"] {
            assert!(read(text), "{text}");
        }
        for text in [
            "*",
            "0.0.0.0/0",
            "::/0",
            "0.0.0.0/1,128.0.0.0/1",
            "10.0.0.0/33",
            "10.0.0",
            "proxy.internal",
            "10.0.0.0/8,",
            ",",
        ] {
            assert!(!read(text), "{text}");
        }
    }

    #[test]
    fn one_origin_that_is_none_spoils_the_list() {
        assert_eq!(origins("").unwrap().len(), 0);
        assert_eq!(origins("https://app.example, http://localhost:3000").unwrap().len(), 2);
        for text in ["https://app.example,", "https://app.example,*", "https://app.example/"] {
            assert!(origins(text).unwrap_err().contains("without a slash"), "{text}");
        }
    }

    #[test]
    fn origin_of_an_app_is_taken_and_one_that_many_share_is_not() {
        for text in ["tauri://localhost", "capacitor://localhost", "chrome-extension://abcdefghijklmnop"] {
            assert_eq!(origins(text).unwrap().len(), 1, "{text}");
        }
        for text in ["null", "file://", "file:///", "https://app.example,null"] {
            assert!(origins(text).unwrap_err().contains("null and file://"), "{text}");
        }
    }

    #[test]
    fn header_names_are_tokens() {
        assert_eq!(header_names("").unwrap().len(), 0);
        assert_eq!(header_names("X-Tenant, x-client-version").unwrap(), ["x-tenant", "x-client-version"]);
        for text in ["*", "x tenant", "x-tenant,", "x-tenant: 1", "x-t\u{e9}nant", "x-tenant;y"] {
            assert!(header_names(text).unwrap_err().contains("names of headers"), "{text}");
        }
    }

    #[test]
    fn change_password_page_is_a_web_url_or_a_path() {
        assert_eq!(change_password_page(""), Ok(None));
        for text in
            ["https://app.example/password?x=1#y", "http://localhost:3000/password", "/account/password"]
        {
            assert_eq!(change_password_page(text), Ok(Some(text.to_owned())));
        }
        for text in [
            "//evil.example",
            "account/password",
            "app.example/password",
            "javascript:alert(1)",
            "ftp://app.example",
            "https://",
            "https://ann:hunter2@app.example",
            "/a b",
            "/a\n",
            "/\\evil.example",
            "https://b\u{fc}cher.example",
        ] {
            assert!(change_password_page(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_algorithm_is_named_as_in_a_token() {
        assert_eq!(algorithm("HS256"), Ok(Algorithm::Hs256));
        assert_eq!(algorithm("EdDSA"), Ok(Algorithm::KeyPair(KeyPairAlgorithm::EdDsa)));
        assert_eq!(algorithm("ES256"), Ok(Algorithm::KeyPair(KeyPairAlgorithm::Es256)));
        assert_eq!(algorithm("RS256"), Ok(Algorithm::KeyPair(KeyPairAlgorithm::Rs256)));
        for text in ["", "none", "hs256", "HS512", "eddsa", "Ed25519", "PS256"] {
            assert!(algorithm(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_folder_has_a_path() {
        assert_eq!(folder("/etc/auth-api/keys"), Ok(PathBuf::from("/etc/auth-api/keys")));
        assert!(folder("").is_err());
        for text in ["a\nb", "data/keys\n", "data/keys ", " data/keys", "data/keys\u{200b}"] {
            assert!(folder(text).is_err() && file(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_issuer_is_a_url_that_paths_can_be_appended_to() {
        for text in [
            "http://localhost:8000",
            "https://auth.example.com",
            "https://example.com/auth",
            "http://[::1]:8000",
        ] {
            assert_eq!(issuer(text).as_deref(), Ok(text));
        }
        for text in [
            "",
            "auth.example.com",
            "ftp://example.com",
            "http://",
            "https://example.com/",
            "https://example.com/auth/",
            "https://example.com?x=1",
            "https://example.com#x",
            "https://ann:hunter2@example.com",
            "https://exam ple.com",
            "https://example.com\n",
        ] {
            assert!(issuer(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_collector_has_a_url_without_a_login() {
        for text in ["http://collector:4318", "https://otlp.example/base/", "http://[::1]:4318"] {
            assert_eq!(otlp_endpoint(text), Ok(text.to_owned()));
        }
        for text in [
            "",
            "collector:4318",
            "grpc://collector:4317",
            "http://",
            "http://a:b@c:4318",
            "http://c?x",
            "http://collector:4318/v1/traces",
            "http://collector:4318/v1/traces/",
        ] {
            assert!(otlp_endpoint(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_every_token_carries_has_at_most_255_bytes() {
        let url = |length: usize| format!("https://{}", "a".repeat(length - "https://".len()));

        assert_eq!(issuer(&url(255)), Ok(url(255)));
        assert!(issuer(&url(256)).unwrap_err().contains("at most 255 bytes"));
        for read in [client_id, |text: &str| audience(text).map(Option::unwrap)] {
            assert!(read(&"a".repeat(255)).is_ok());
            assert!(read(&"a".repeat(256)).unwrap_err().contains("1 to 255 bytes"));
        }
    }

    #[test]
    fn only_the_audience_may_be_empty() {
        assert_eq!(audience(""), Ok(None));
        assert_eq!(audience("auth-api"), Ok(Some("auth-api".to_owned())));
        assert!(client_id("").is_err());
        assert!(client_id("a\nb").is_err());
    }
}
