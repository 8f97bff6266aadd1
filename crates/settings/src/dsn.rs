//! Where error reports go.

use std::fmt;

use actix_web::http::Uri;
use zeroize::Zeroizing;

use super::readers::Wrong;

/// The address that a server which speaks Sentry's protocol gives out for a project, in which there is a key:
/// `https://KEY@sentry.example/7`.
#[derive(Clone)]
pub struct Dsn {
    /// Up to the project, without the key and without a slash at the end.
    base: String,
    project: String,
    key: Zeroizing<String>,
}

impl Dsn {
    /// Reads one as it is given out.
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        let wrong =
            || "must be the http or https URL of a project, as in https://KEY@sentry.example/7".to_owned();
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let scheme =
            uri.scheme_str().filter(|scheme| matches!(*scheme, "http" | "https")).ok_or_else(wrong)?;
        let (login, host) = uri.authority().and_then(|it| it.as_str().rsplit_once('@')).ok_or_else(wrong)?;
        // There used to be a secret after it, which nobody asks for any more.
        let key = login.split_once(':').map_or(login, |(key, _)| key);
        let (path, project) = uri.path().rsplit_once('/').ok_or_else(wrong)?;
        let is_word = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if host.is_empty()
            || uri.query().is_some()
            || text.contains('#')
            || !is_word(key)
            || !is_word(project)
        {
            return Err(wrong());
        }
        let (base, project) = (format!("{scheme}://{host}{path}"), project.to_owned());
        Ok(Self { base, project, key: Zeroizing::new(key.to_owned()) })
    }

    /// The URL that takes reports.
    pub fn envelopes(&self) -> String {
        format!("{}/api/{}/envelope/", self.base, self.project)
    }

    /// What they are sent with, in the header `X-Sentry-Auth`.
    pub fn authorization(&self) -> String {
        let client = concat!("auth-api/", env!("CARGO_PKG_VERSION"));
        format!("Sentry sentry_version=7, sentry_client={client}, sentry_key={}", *self.key)
    }
}

impl fmt::Debug for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dsn(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dsn_says_where_reports_go_and_with_which_key() {
        for (text, url, key) in [
            (
                "https://abc123@o1.ingest.sentry.io/42",
                "https://o1.ingest.sentry.io/api/42/envelope/",
                "abc123",
            ),
            ("http://abc:old@127.0.0.1:9000/42", "http://127.0.0.1:9000/api/42/envelope/", "abc"),
            ("https://abc@glitchtip.example/base/7", "https://glitchtip.example/base/api/7/envelope/", "abc"),
        ] {
            let dsn = Dsn::parse(text).unwrap();

            assert_eq!(dsn.envelopes(), url);
            assert!(dsn.authorization().ends_with(&format!("sentry_key={key}")), "{}", dsn.authorization());
            assert_eq!(format!("{dsn:?}"), "Dsn(..)");
        }
    }

    #[test]
    fn what_is_none_is_refused_and_not_repeated() {
        for text in [
            "canary",
            "https://sentry.example/7",
            "https://canary@sentry.example",
            "https://canary@sentry.example/",
            "https://@sentry.example/7",
            "ftp://canary@sentry.example/7",
            "https://canary@sentry.example/7?x=1",
            "https://can ary@sentry.example/7",
        ] {
            assert!(!Dsn::parse(text).unwrap_err().contains("canary"), "{text}");
        }
    }
}
