//! Where a request is meant to go: under the path of the issuer, or with a slash too many.

use actix_web::HttpResponse;
use actix_web::dev::ServiceRequest;
use actix_web::http::Uri;
use actix_web::http::header::LOCATION;
use actix_web::http::uri::PathAndQuery;

/// Takes the path of the issuer off a request that a proxy passed on with it, unless something is there with it.
pub(crate) fn strip_base(request: &mut ServiceRequest, base: &str) {
    if base.is_empty() || is_known(request, request.match_info().as_str()) {
        return;
    }
    let Some(stripped) = stripped(request.uri(), base) else { return };
    request.match_info_mut().get_mut().update(&stripped);
    request.head_mut().uri = stripped;
}

fn stripped(uri: &Uri, base: &str) -> Option<Uri> {
    let rest = uri.path().strip_prefix(base)?;
    let path = if rest.is_empty() { "/" } else { rest };
    // `/authority` is not under `/auth`, and two slashes would be the beginning of a host.
    if !path.starts_with('/') || path.starts_with("//") {
        return None;
    }
    let target = match uri.query() {
        Some(query) => PathAndQuery::try_from(format!("{path}?{query}")),
        None => PathAndQuery::try_from(path),
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(target.ok()?);
    Uri::from_parts(parts).ok()
}

/// The answer to a path that has slashes at its end and is known without them: the known path, with the same method, body
/// and query (RFC 9110, section 15.4.9). It never leads to another host, since every known path begins with one slash.
pub(crate) fn without_trailing_slash(request: &ServiceRequest, base: &str) -> Option<HttpResponse> {
    let trimmed = request.match_info().as_str().strip_suffix('/')?.trim_end_matches('/');
    if !is_known(request, trimmed) {
        return None;
    }
    let path = request.uri().path().trim_end_matches('/');
    let location = match request.uri().query() {
        Some(query) => format!("{base}{path}?{query}"),
        None => format!("{base}{path}"),
    };
    Some(HttpResponse::PermanentRedirect().insert_header((LOCATION, location)).finish())
}

/// Whether something is there, by the path as the router reads it.
fn is_known(request: &ServiceRequest, path: &str) -> bool {
    !path.is_empty() && request.resource_map().match_pattern(path).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_is_taken_off_whole_segments_only() {
        let read = |uri: &str| stripped(&uri.parse().unwrap(), "/auth").map(|uri| uri.to_string());

        assert_eq!(read("/auth/api/me?x=/auth").as_deref(), Some("/api/me?x=/auth"));
        assert_eq!(read("/auth").as_deref(), Some("/"));
        assert_eq!(read("/auth/").as_deref(), Some("/"));
        assert_eq!(read("/auth?x").as_deref(), Some("/?x"));
        for uri in ["/", "/api/me", "/authority", "/x/auth/api/me", "/auth//evil.example"] {
            assert_eq!(read(uri), None, "{uri}");
        }
    }
}
