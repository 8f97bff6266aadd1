//! The answers that are errors (RFC 9457).
//!
//! [`code`] lists them, [`field`] says what can be wrong with a field, and [`from_domain`] turns errors of use cases into
//! problems. A request that cannot be read makes one with [`Problem::new`]; an answer that the framework makes by itself
//! becomes one by its status. No problem repeats a value that was sent, and the cause of one is for the log alone.

mod code;
mod field;
mod from_domain;

use std::error::Error;
use std::fmt;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, HttpResponseBuilder, ResponseError};
use serde::Serialize;
use utoipa::ToSchema;

pub(crate) use self::code::Code;
pub(crate) use self::field::{FieldCode, FieldError};

/// When a store that did not answer is worth another try.
const STORE_RETRY: Duration = Duration::from_secs(5);

/// An answer that is an error.
#[derive(Debug)]
pub(crate) struct Problem {
    code: Code,
    /// What is said in place of the sentence of the code.
    detail: Option<String>,
    errors: Vec<FieldError>,
    allow: Option<&'static str>,
    retry_after: Option<Duration>,
    /// Whether the time for it was over.
    is_overdue: bool,
    cause: Option<Box<dyn Error + Send + Sync>>,
}

/// What was lacking to answer a request, where an operator has to tell one from the other: clients are told to come back,
/// whatever it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lack {
    /// The store did not answer, or cannot do what it is for.
    Database,
    /// It was not done in the time that a request has.
    Time,
    /// There was no room to hash a password, or no turn for another one of the same account.
    Hashing,
}

/// An error, as `application/problem+json` (RFC 9457).
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemView<'a> {
    /// The address of a page that explains this error.
    #[serde(rename = "type")]
    #[schema(format = "uri")]
    kind: String,
    /// What happened, the same for every problem of this code.
    title: &'a str,
    /// The HTTP status.
    #[schema(value_type = u16, minimum = 400, maximum = 599)]
    status: u16,
    /// What an application may show to its user: one short sentence. The page that `type` names tells developers what
    /// to do.
    detail: &'a str,
    /// What happened, for programs.
    code: &'a str,
    /// What happened, for libraries that know RFC 6749 (section 5.2): with `invalid_request` and `invalid_client`, the
    /// same as `code`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    error: Option<&'static str>,
    /// With `validation_failed` and `username_taken`: every field that is wrong, once for each rule that it breaks.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
    /// The identifier of the request, as in the header `X-Request-Id` and in the server's log.
    request_id: &'a str,
}

/// What a problem needs to know of the request that it answers.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) issuer: &'a str,
    pub(crate) request_id: &'a str,
}

impl Problem {
    pub(crate) fn new(code: Code) -> Self {
        Self {
            code,
            detail: None,
            errors: Vec::new(),
            allow: None,
            retry_after: None,
            is_overdue: false,
            cause: None,
        }
    }

    pub(crate) fn validation(errors: Vec<FieldError>) -> Self {
        Self { errors, ..Self::new(Code::ValidationFailed) }
    }

    /// For a username that somebody else has.
    pub(crate) fn username_taken() -> Self {
        let taken = FieldError::new("username", FieldCode::Taken);
        Self { errors: vec![taken], ..Self::new(Code::UsernameTaken) }
    }

    /// The same with another sentence. It may repeat what a client sent only where that is of a known form.
    pub(crate) fn with_detail(self, detail: impl Into<String>) -> Self {
        Self { detail: Some(detail.into()), ..self }
    }

    /// For a known path and a method that it has not; `allow` lists those that it has.
    pub(crate) fn method_not_allowed(allow: &'static str) -> Self {
        Self { allow: Some(allow), ..Self::new(Code::MethodNotAllowed) }
    }

    /// For somebody who has to wait for so long.
    pub(crate) fn too_many_requests(wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..Self::new(Code::TooManyRequests) }
    }

    /// For an answer that the framework made by itself.
    pub(crate) fn from_status(status: StatusCode) -> Self {
        Self::new(match status.as_u16() {
            404 => Code::NotFound,
            405 => Code::MethodNotAllowed,
            408 => Code::RequestTimeout,
            413 => Code::BodyTooLarge,
            414 => Code::UriTooLong,
            415 => Code::UnsupportedMediaType,
            429 => Code::TooManyRequests,
            431 => Code::HeadersTooLarge,
            400..=499 => Code::MalformedRequest,
            _ => Code::Internal,
        })
    }

    pub(crate) fn code(&self) -> Code {
        self.code
    }

    /// What an application may show to its user.
    pub(crate) fn detail(&self) -> &str {
        self.detail.as_deref().unwrap_or(self.code.detail())
    }

    #[cfg(test)]
    pub(crate) fn errors(&self) -> &[FieldError] {
        &self.errors
    }

    /// What was lacking, if that is the problem.
    pub(crate) fn lack(&self) -> Option<Lack> {
        match self.code {
            Code::Unavailable if self.is_overdue => Some(Lack::Time),
            Code::Unavailable => Some(Lack::Database),
            Code::Overloaded => Some(Lack::Hashing),
            _ => None,
        }
    }

    /// What to write into the log, once, where the problem is answered.
    pub(crate) fn cause(&self) -> Option<String> {
        let mut cause: &dyn Error = self.cause.as_deref()?;
        let mut chain = cause.to_string();
        while let Some(source) = cause.source() {
            chain.push_str(": ");
            chain.push_str(&source.to_string());
            cause = source;
        }
        Some(chain)
    }

    pub(crate) fn render(&self, context: Context<'_>) -> HttpResponse {
        let status = self.code.status();
        let mut response = HttpResponseBuilder::new(status);
        if let Some(allow) = self.allow {
            response.insert_header((ALLOW, allow));
        }
        if let Some(wait) = self.retry_after {
            response.insert_header((RETRY_AFTER, whole_seconds(wait)));
        }
        if let Some(challenge) = self.code.challenge() {
            response.insert_header((WWW_AUTHENTICATE, challenge));
        }
        response.insert_header((CONTENT_TYPE, "application/problem+json"));
        response.json(ProblemView {
            kind: format!("{}/problems/{}", context.issuer, self.code.as_str()),
            title: self.code.title(),
            status: status.as_u16(),
            detail: self.detail(),
            code: self.code.as_str(),
            error: self.code.oauth_error(),
            errors: &self.errors,
            request_id: context.request_id,
        })
    }
}

impl Lack {
    pub(crate) const ALL: [Self; 3] = [Self::Database, Self::Time, Self::Hashing];

    /// What operators know it by.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Time => "time",
            Self::Hashing => "hashing",
        }
    }
}

/// As many as have to pass: whoever comes back after them is not too early.
pub(crate) fn whole_seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code.as_str())
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.code.status()
    }

    /// A placeholder: the edge, which knows the request, renders the problem.
    fn error_response(&self) -> HttpResponse {
        HttpResponse::new(self.code.status())
    }
}

#[cfg(test)]
mod tests {
    use actix_web::body::to_bytes;
    use domain::PasswordProblem;
    use domain::ports::{HasherError, PortError};

    use super::*;
    use crate::net::Overdue;

    const CONTEXT: Context<'_> = Context { issuer: "https://auth.example", request_id: "r-1" };

    async fn body(problem: &Problem) -> serde_json::Value {
        serde_json::from_slice(&to_bytes(problem.render(CONTEXT).into_body()).await.unwrap()).unwrap()
    }

    #[actix_web::test]
    async fn a_problem_says_what_happened_and_what_to_do() {
        let problem = Problem::from(PasswordProblem::TooShort { at_least: 15 });

        let expected = serde_json::json!({
            "type": "https://auth.example/problems/validation_failed",
            "title": "The request is not valid",
            "status": 422,
            "detail": "Some of the fields are not valid.",
            "code": "validation_failed",
            "errors": [
                { "field": "password", "code": "too_short", "message": "Use at least 15 characters." },
            ],
            "request_id": "r-1",
        });
        assert_eq!(body(&problem).await, expected);
    }

    #[actix_web::test]
    async fn a_cause_is_for_the_log_and_never_in_the_answer() {
        let problem = Problem::from(PortError::Unavailable("the disk is full".into()));

        assert_eq!(problem.cause().as_deref(), Some("the disk is full"));
        assert!(!body(&problem).await.to_string().contains("disk"));
        let response = problem.render(CONTEXT);
        assert_eq!(response.headers().get(RETRY_AFTER).unwrap(), "5");
    }

    #[test]
    fn what_is_lacking_is_told_apart_where_the_answer_is_the_same() {
        let late = Problem::from(Overdue::Handler);
        let away = Problem::from(PortError::Unavailable("the disk is full".into()));
        assert_eq!((late.code(), late.retry_after), (away.code(), away.retry_after));

        assert_eq!([late.lack(), away.lack()], [Some(Lack::Time), Some(Lack::Database)]);
        let busy = Problem::from(HasherError::Overloaded { retry_after: Duration::from_secs(1) });
        assert_eq!(busy.lack(), Some(Lack::Hashing));
        assert_eq!(Problem::from(PortError::Failed("broken".into())).lack(), None);
        for code in Code::ALL {
            let is_lack = Problem::new(code).lack().is_some();
            assert_eq!(is_lack, code.status() == StatusCode::SERVICE_UNAVAILABLE, "{code:?}");
        }
    }

    #[actix_web::test]
    async fn what_rfc_6749_has_a_name_for_is_called_by_it_too() {
        for code in Code::ALL {
            let body = body(&Problem::new(code)).await;
            let expected = match code {
                Code::InvalidClient => Some("invalid_client"),
                Code::InvalidRequest => Some("invalid_request"),
                _ => None,
            };
            assert_eq!(body.get("error").map(|error| error.as_str().unwrap()), expected, "{code:?}");
        }
    }

    #[actix_web::test]
    async fn who_waits_as_long_as_they_are_told_has_waited_long_enough() {
        for (millis, told) in [(1, "1"), (1000, "1"), (1001, "2"), (299_500, "300")] {
            let problem = Problem::too_many_requests(Duration::from_millis(millis));
            assert_eq!(problem.render(CONTEXT).headers().get(RETRY_AFTER).unwrap(), told);
        }
    }
}
