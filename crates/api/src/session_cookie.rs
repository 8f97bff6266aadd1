//! The cookie that carries the refresh token of a browser.
//!
//! It is `__Host-auth_refresh` wherever TLS is spoken: with that prefix browsers refuse it from anywhere but this host
//! over TLS, and with any other path (RFC 6265bis, section 4.1.3.2). Without TLS, as in development, it is
//! `auth_refresh`. Browsers share that name between all programs of one host, whatever their port, so a second one with
//! another path may come along. Of several the domain takes the newest that is genuine, and a login or a logout removes
//! the others.

use actix_web::HttpResponseBuilder;
use actix_web::http::header::{COOKIE, HeaderMap, SET_COOKIE};
use domain::RefreshToken;
use zeroize::Zeroizing;

use crate::{Api, Encryption};

const TLS_NAME: &str = "__Host-auth_refresh";
const PLAIN_NAME: &str = "auth_refresh";

/// The paths, but for `/`, whose cookies come to an endpoint that reads one.
const OTHER_PATHS: [&str; 4] = ["/api", "/api/", "/api/refresh", "/api/logout"];

/// The most cookies of one name that are looked at.
const MAX_VALUES: usize = 8;

/// Keeps a token in the browser.
pub(crate) fn set(answer: &mut HttpResponseBuilder, api: &Api, token: &RefreshToken) {
    let seconds = token.lifetime.as_secs();
    answer.append_header((SET_COOKIE, cookie(name(api), &token.text, "/", seconds, is_for_tls(api))));
}

/// Takes the token away.
pub(crate) fn remove(answer: &mut HttpResponseBuilder, api: &Api) {
    answer.append_header((SET_COOKIE, cookie(name(api), "", "/", 0, is_for_tls(api))));
}

/// Takes away what else a browser may send under one of the two names: the other name, and other paths.
pub(crate) fn remove_others(answer: &mut HttpResponseBuilder, api: &Api) {
    let mut remove = |name, path: &str, is_secure| {
        answer.append_header((SET_COOKIE, cookie(name, "", path, 0, is_secure)));
    };
    if is_for_tls(api) {
        remove(PLAIN_NAME, "/", true);
        return;
    }
    remove(TLS_NAME, "/", true);
    let base = api.settings.base_path();
    for path in OTHER_PATHS {
        remove(PLAIN_NAME, path, false);
        if !base.is_empty() {
            remove(PLAIN_NAME, &format!("{base}{path}"), false);
        }
    }
    if !base.is_empty() {
        remove(PLAIN_NAME, base, false);
        remove(PLAIN_NAME, &format!("{base}/"), false);
    }
}

/// The tokens that a browser sends, in the order in which it does: those of longer paths first.
pub(crate) fn values(headers: &HeaderMap, api: &Api) -> Vec<Zeroizing<String>> {
    values_of(name(api), headers).take(MAX_VALUES).map(|value| value.to_owned().into()).collect()
}

/// Whether a browser sends one at all, under either name.
pub(crate) fn is_sent(headers: &HeaderMap) -> bool {
    [TLS_NAME, PLAIN_NAME].into_iter().any(|name| values_of(name, headers).next().is_some())
}

/// Browsers send all of a host's cookies in one line, whatever their values are made of.
fn values_of<'a>(name: &'static str, headers: &'a HeaderMap) -> impl Iterator<Item = &'a str> {
    let pairs = headers.get_all(COOKIE).flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    let values =
        pairs.filter_map(move |pair| pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"="));
    values.filter_map(|value| str::from_utf8(value).ok())
}

fn name(api: &Api) -> &'static str {
    if is_for_tls(api) { TLS_NAME } else { PLAIN_NAME }
}

fn cookie(name: &str, value: &str, path: &str, seconds: u64, is_secure: bool) -> String {
    let secure = if is_secure { " Secure;" } else { "" };
    format!("{name}={value}; Path={path}; Max-Age={seconds}; HttpOnly;{secure} SameSite=Strict")
}

fn is_for_tls(api: &Api) -> bool {
    api.settings.encryption != Encryption::None
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    #[test]
    fn cookies_are_found_beside_others_in_their_order() {
        let found = |lines: &[&'static [u8]]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(COOKIE, HeaderValue::from_bytes(line).unwrap());
            }
            values_of("ours", &headers).map(str::to_owned).collect::<Vec<_>>()
        };

        for lines in [
            &[&b"ours=a.b-c_"[..]][..],
            &[b"theirs=1; ours=a.b-c_;x"],
            &["theirs=\u{e9}; ours=a.b-c_".as_bytes()],
            &[b"theirs=\xff", b"oursx=2;ours=a.b-c_"],
            &[b"ours=\xff; ours=a.b-c_"],
        ] {
            assert_eq!(found(lines), ["a.b-c_"], "{lines:?}");
        }
        assert_eq!(found(&[b"ours=1; ours=2", b"ours=3"]), ["1", "2", "3"]);
        for lines in [&[][..], &[&b"xours=1"[..]], &[b"ours"], &[b"ours=\xff"]] {
            assert!(found(lines).is_empty(), "{lines:?}");
        }
    }
}
