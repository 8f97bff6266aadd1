//! Documents that others keep for a while and then ask for again.

use std::hash::{DefaultHasher, Hash, Hasher};

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, EntityTag, Header, IfNoneMatch};
use actix_web::{HttpRequest, HttpResponse};
use domain::ports::PortError;
use serde::Serialize;

use crate::problem::Problem;

/// How long such a document may be kept without another look, five minutes. A key is published for longer before it
/// signs.
const KEPT: &str = "public, max-age=300";

/// Answers `document` as JSON, or with 304 if the client has it (RFC 9110, section 13.1.2).
pub(crate) fn json(request: &HttpRequest, document: &impl Serialize) -> Result<HttpResponse, Problem> {
    let json = serde_json::to_vec(document).map_err(|error| PortError::Failed(error.into()))?;
    let tag = tag(&json);
    let is_known = match IfNoneMatch::parse(request) {
        Ok(IfNoneMatch::Any) => true,
        Ok(IfNoneMatch::Items(tags)) => tags.iter().any(|known| known.weak_eq(&tag)),
        Err(_) => false,
    };
    let mut answer = if is_known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    answer.insert_header((CACHE_CONTROL, KEPT)).insert_header((ETAG, tag));
    if is_known {
        return Ok(answer.finish());
    }
    Ok(answer.insert_header((CONTENT_TYPE, "application/json")).body(json))
}

/// The same for the same bytes, in every instance of this version. Nobody gains by two documents of one tag: both
/// are ours.
fn tag(json: &[u8]) -> EntityTag {
    let mut hasher = DefaultHasher::new();
    json.hash(&mut hasher);
    EntityTag::new_strong(format!("{:016x}", hasher.finish()))
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::IF_NONE_MATCH;
    use actix_web::test::TestRequest;

    use super::*;

    fn answer(document: &str, if_none_match: Option<&str>) -> HttpResponse {
        let mut request = TestRequest::get();
        if let Some(tags) = if_none_match {
            request = request.insert_header((IF_NONE_MATCH, tags));
        }
        json(&request.to_http_request(), &document).unwrap()
    }

    fn tag_of(answer: &HttpResponse) -> &str {
        answer.headers().get(ETAG).unwrap().to_str().unwrap()
    }

    #[test]
    fn who_has_a_document_is_not_sent_it_again() {
        let first = answer("one", None);
        let tag = tag_of(&first);
        assert_eq!(first.status(), 200);

        for known in [tag, &format!("W/{tag}"), &format!("\"other\", {tag}"), "*"] {
            let again = answer("one", Some(known));

            assert_eq!((again.status().as_u16(), tag_of(&again)), (304, tag), "{known}");
            assert_eq!(again.headers().get(CACHE_CONTROL).unwrap(), KEPT);
        }
        for known in ["\"other\"", "nonsense", ""] {
            assert_eq!(answer("one", Some(known)).status(), 200, "{known}");
        }
        assert_eq!(answer("another", Some(tag)).status(), 200);
    }
}
