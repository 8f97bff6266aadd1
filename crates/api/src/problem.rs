//! The whole catalogue of answers that are errors (RFC 9457).
//!
//! Which one to use where: an error of a use case has its `From` below; a request that could not be read
//! makes one with [`Problem::new`]; whatever the framework makes up by itself is turned into one by its
//! status. No problem repeats a value that was sent, and the cause of one is for the log alone.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, HttpResponseBuilder, ResponseError};
use domain::ports::{HasherError, PortError};
use domain::{
    ChangePasswordError, ConfirmError, InvalidToken, InvalidUsername, LogInError, LogOutError,
    MAX_PASSWORD_LENGTH, MAX_USERNAME_LENGTH, MIN_USERNAME_LENGTH, PasswordProblem, RefreshError,
    RenameError, SignUpError, Throttled, UnknownClient, WhoamiError,
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::connection::Overdue;

/// When a store that did not answer is worth another try.
const STORE_RETRY: Duration = Duration::from_secs(5);

/// An answer that is an error.
#[derive(Debug)]
pub(crate) struct Problem {
    code: Code,
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

/// The codes, which clients may rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    MalformedRequest,
    InvalidCredentials,
    MissingToken,
    InvalidToken,
    TokenExpired,
    InvalidRefreshToken,
    InvalidRequest,
    InvalidClient,
    PasswordWrong,
    Forbidden,
    SignupDisabled,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    UsernameTaken,
    BodyTooLarge,
    UriTooLong,
    UnsupportedMediaType,
    ValidationFailed,
    TooManyRequests,
    HeadersTooLarge,
    Internal,
    Unavailable,
    Overloaded,
}

/// What is wrong with one field.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FieldError {
    /// The field's name; empty for an unknown field whose name is not a plain identifier.
    field: String,
    /// What is wrong, for programs.
    code: FieldCode,
    /// What is wrong, for people.
    message: String,
}

/// What can be wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FieldCode {
    Required,
    UnknownField,
    WrongType,
    TooShort,
    TooLong,
    InvalidCharacters,
    TooGuessable,
    Invalid,
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
    /// What to do about it.
    detail: &'a str,
    /// What happened, for programs.
    code: &'a str,
    /// What happened, for libraries that know RFC 6749 (section 5.2): with `invalid_request` and `invalid_client`, the
    /// same as `code`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    error: Option<&'static str>,
    /// With `validation_failed`: what is wrong with which field.
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
        Self { code, errors: Vec::new(), allow: None, retry_after: None, is_overdue: false, cause: None }
    }

    pub(crate) fn validation(errors: Vec<FieldError>) -> Self {
        Self { errors, ..Self::new(Code::ValidationFailed) }
    }

    /// For a password in this field that cannot be chosen.
    fn of_password(field: &str, error: PasswordProblem) -> Self {
        let mut field = FieldError::new(field, error.into());
        if let PasswordProblem::TooShort { at_least } = error {
            field.message = format!("must have at least {at_least} characters");
        }
        Self::validation(vec![field])
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
            detail: self.code.advice(),
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

impl Code {
    /// Every code, for the pages that explain them.
    pub(crate) const ALL: [Self; 24] = [
        Self::MalformedRequest,
        Self::InvalidCredentials,
        Self::MissingToken,
        Self::InvalidToken,
        Self::TokenExpired,
        Self::InvalidRefreshToken,
        Self::InvalidRequest,
        Self::InvalidClient,
        Self::PasswordWrong,
        Self::Forbidden,
        Self::SignupDisabled,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::RequestTimeout,
        Self::UsernameTaken,
        Self::BodyTooLarge,
        Self::UriTooLong,
        Self::UnsupportedMediaType,
        Self::ValidationFailed,
        Self::TooManyRequests,
        Self::HeadersTooLarge,
        Self::Internal,
        Self::Unavailable,
        Self::Overloaded,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::MalformedRequest => "malformed_request",
            Self::InvalidCredentials => "invalid_credentials",
            Self::MissingToken => "missing_token",
            Self::InvalidToken => "invalid_token",
            Self::TokenExpired => "token_expired",
            Self::InvalidRefreshToken => "invalid_refresh_token",
            Self::InvalidRequest => "invalid_request",
            Self::InvalidClient => "invalid_client",
            Self::PasswordWrong => "password_wrong",
            Self::Forbidden => "forbidden",
            Self::SignupDisabled => "signup_disabled",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::RequestTimeout => "request_timeout",
            Self::UsernameTaken => "username_taken",
            Self::BodyTooLarge => "body_too_large",
            Self::UriTooLong => "uri_too_long",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::ValidationFailed => "validation_failed",
            Self::TooManyRequests => "too_many_requests",
            Self::HeadersTooLarge => "headers_too_large",
            Self::Internal => "internal",
            Self::Unavailable => "unavailable",
            Self::Overloaded => "overloaded",
        }
    }

    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::MalformedRequest | Self::InvalidRequest => StatusCode::BAD_REQUEST,
            Self::InvalidCredentials
            | Self::MissingToken
            | Self::InvalidToken
            | Self::TokenExpired
            | Self::InvalidRefreshToken
            | Self::InvalidClient => StatusCode::UNAUTHORIZED,
            Self::PasswordWrong | Self::Forbidden | Self::SignupDisabled => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::UsernameTaken => StatusCode::CONFLICT,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::ValidationFailed => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Self::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable | Self::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// What happened.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::MalformedRequest => "The request cannot be read",
            Self::InvalidCredentials => "The username or the password is wrong",
            Self::MissingToken => "An access token is needed",
            Self::InvalidToken => "The access token is not valid",
            Self::TokenExpired => "The access token has expired",
            Self::InvalidRefreshToken => "The refresh token is not valid",
            Self::InvalidRequest => "The form is not valid",
            Self::InvalidClient => "The backend is not known",
            Self::PasswordWrong => "The password is wrong",
            Self::Forbidden => "The request is not allowed from there",
            Self::SignupDisabled => "Nobody can sign up here",
            Self::NotFound => "There is nothing here",
            Self::MethodNotAllowed => "The method is not allowed here",
            Self::RequestTimeout => "The request took too long to arrive",
            Self::UsernameTaken => "The username is taken",
            Self::BodyTooLarge => "The body is too large",
            Self::UriTooLong => "The address is too long",
            Self::UnsupportedMediaType => "The media type is not supported",
            Self::ValidationFailed => "The request is not valid",
            Self::TooManyRequests => "Too many requests",
            Self::HeadersTooLarge => "The headers are too large",
            Self::Internal => "Something broke on the server",
            Self::Unavailable => "The service is not available right now",
            Self::Overloaded => "Too many people are logging in right now",
        }
    }

    /// What to do about it.
    pub(crate) fn advice(self) -> &'static str {
        match self {
            Self::MalformedRequest => {
                "Send one well-formed JSON object in UTF-8, each of its names once and nothing after it, with a \
                 Host that names one and no header twice that may stand only once."
            }
            Self::InvalidCredentials => {
                "Check the spelling of both and log in again. The answer is the same whichever of them is \
                 wrong, and for an account that is disabled."
            }
            Self::MissingToken => {
                "Log in with POST /api/login and send its access_token in the header Authorization, after \
                 the word Bearer."
            }
            Self::InvalidToken => {
                "Log in again. The token is not one of this service, or its session is over."
            }
            Self::TokenExpired => {
                "Exchange the refresh token with POST /api/refresh, or log in again. Access tokens hold for the \
                 time that expires_in tells."
            }
            Self::InvalidRefreshToken => {
                "Log in again. The session is over: it ended, was not used for too long, or an older refresh \
                 token of it was shown, as by a thief. Keep the refresh token of each answer in place of the one \
                 before."
            }
            Self::InvalidRequest => {
                "Send a form with token, which is not empty, and perhaps token_type_hint, no parameter of it twice, \
                 in UTF-8."
            }
            Self::InvalidClient => {
                "Send the id and the secret of a backend as HTTP Basic, both encoded as in a form. Whoever runs this \
                 service has to have listed its id and the SHA-256 digest of its secret in \
                 AUTH_INTROSPECTION__CLIENTS. The answer is the same whichever of them is wrong."
            }
            Self::PasswordWrong => {
                "Ask for the password once more: nothing was changed, and the access token is still good. It is also \
                 wrong if it was changed elsewhere at the same moment."
            }
            Self::Forbidden => {
                "Ask from a page of the same origin as this service, or of one that AUTH_CORS__ORIGINS names. A cookie counts for \
                 nothing from any other."
            }
            Self::SignupDisabled => "Ask whoever runs this service for an account.",
            Self::NotFound => {
                "Check the path, and the identifier in it if there is one. The page / has links to what there is."
            }
            Self::MethodNotAllowed => "Use one of the methods that the header Allow lists.",
            Self::RequestTimeout => "Send the whole request at once.",
            Self::UsernameTaken => {
                "Choose another username. Names that differ only in case, width or Unicode spelling are one \
                 name."
            }
            Self::BodyTooLarge => "Send at most 16 KiB.",
            Self::UriTooLong => "Send at most 8 KiB of path and query.",
            Self::UnsupportedMediaType => {
                "Send JSON in UTF-8, with the header Content-Type: application/json and no Content-Encoding. \
                 /api/introspect and /api/revoke alone take a form instead, as application/x-www-form-urlencoded."
            }
            Self::ValidationFailed => "Correct the fields that errors names, and send the request again.",
            Self::TooManyRequests => {
                "Nothing was looked at. Send the request again after the seconds that the header Retry-After tells. After \
                 many wrong passwords in a row that is a day, and waiting alone does not help: log in from where you \
                 have logged in before, or ask whoever runs this service to unlock the account. The answer is the \
                 same for a name that nobody has."
            }
            Self::HeadersTooLarge => "Send at most 64 headers and 16 KiB of them.",
            Self::Internal => "Report the request_id to whoever runs this service; the log says more.",
            Self::Unavailable => {
                "Send the request again after the seconds that the header Retry-After tells."
            }
            Self::Overloaded => {
                "Nothing was done. Send the request again after the seconds that the header Retry-After tells."
            }
        }
    }

    /// What libraries for OAuth look at (RFC 6749, section 5.2), where the code is one of theirs.
    fn oauth_error(self) -> Option<&'static str> {
        matches!(self, Self::InvalidRequest | Self::InvalidClient).then(|| self.as_str())
    }

    /// The header `WWW-Authenticate` (RFC 6750, section 3): it names an error only if a token was sent.
    fn challenge(self) -> Option<&'static str> {
        match self {
            Self::InvalidCredentials | Self::MissingToken | Self::InvalidRefreshToken => Some("Bearer"),
            // RFC 7617, section 2.
            Self::InvalidClient => Some(r#"Basic realm="auth-api", charset="UTF-8""#),
            Self::InvalidToken => {
                Some(r#"Bearer error="invalid_token", error_description="the token is not valid""#)
            }
            Self::TokenExpired => {
                Some(r#"Bearer error="invalid_token", error_description="the token has expired""#)
            }
            _ => None,
        }
    }
}

/// As many as have to pass: whoever comes back after them is not too early.
pub(crate) fn whole_seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

impl FieldError {
    pub(crate) fn new(field: &str, code: FieldCode) -> Self {
        let is_password = matches!(field, "password" | "current_password" | "new_password");
        let (shortest, longest) = match field {
            _ if is_password => (None, MAX_PASSWORD_LENGTH),
            _ => (Some(MIN_USERNAME_LENGTH), MAX_USERNAME_LENGTH),
        };
        let message = match code {
            FieldCode::Required => "is missing".to_owned(),
            FieldCode::UnknownField => "is not a field of this request".to_owned(),
            FieldCode::WrongType => "must be a string".to_owned(),
            FieldCode::TooShort => match shortest {
                Some(shortest) => format!("must have at least {shortest} characters"),
                None => "must have more characters".to_owned(),
            },
            FieldCode::TooLong => format!("must have at most {longest} characters"),
            FieldCode::InvalidCharacters if is_password => "must not contain the character NUL".to_owned(),
            FieldCode::InvalidCharacters => {
                "must consist of letters and digits of one script, and of @ . _ - +".to_owned()
            }
            FieldCode::TooGuessable => {
                "is too easy to guess; take several words that have nothing to do with each other".to_owned()
            }
            FieldCode::Invalid => "is not valid".to_owned(),
        };
        Self { field: field.to_owned(), code, message }
    }

    pub(crate) fn field(&self) -> &str {
        &self.field
    }
}

impl FieldCode {
    const ALL: [Self; 8] = [
        Self::Required,
        Self::UnknownField,
        Self::WrongType,
        Self::TooShort,
        Self::TooLong,
        Self::InvalidCharacters,
        Self::TooGuessable,
        Self::Invalid,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Required => "required",
            Self::UnknownField => "unknown_field",
            Self::WrongType => "wrong_type",
            Self::TooShort => "too_short",
            Self::TooLong => "too_long",
            Self::InvalidCharacters => "invalid_characters",
            Self::TooGuessable => "too_guessable",
            Self::Invalid => "invalid",
        }
    }

    /// The code of this name; `invalid` for a rule of garde's own, whose message is no code.
    pub(crate) fn named(name: &str) -> Self {
        Self::ALL.into_iter().find(|code| code.as_str() == name).unwrap_or(Self::Invalid)
    }
}

impl From<InvalidUsername> for FieldCode {
    fn from(error: InvalidUsername) -> Self {
        match error {
            InvalidUsername::TooShort => Self::TooShort,
            InvalidUsername::TooLong => Self::TooLong,
            InvalidUsername::InvalidCharacters => Self::InvalidCharacters,
        }
    }
}

impl From<PasswordProblem> for FieldCode {
    fn from(error: PasswordProblem) -> Self {
        match error {
            PasswordProblem::TooShort { .. } => Self::TooShort,
            PasswordProblem::TooLong => Self::TooLong,
            PasswordProblem::InvalidCharacters => Self::InvalidCharacters,
            PasswordProblem::TooGuessable => Self::TooGuessable,
        }
    }
}

impl From<PasswordProblem> for Problem {
    fn from(error: PasswordProblem) -> Self {
        Self::of_password("password", error)
    }
}

impl From<SignUpError> for Problem {
    fn from(error: SignUpError) -> Self {
        match error {
            SignUpError::Closed => Self::new(Code::SignupDisabled),
            SignUpError::UsernameTaken => Self::new(Code::UsernameTaken),
            SignUpError::Password(error) => error.into(),
            SignUpError::Hasher(error) => error.into(),
            SignUpError::Port(error) => error.into(),
        }
    }
}

impl From<LogInError> for Problem {
    fn from(error: LogInError) -> Self {
        match error {
            // Why is nobody's business but the audit log's.
            LogInError::InvalidCredentials(_) => Self::new(Code::InvalidCredentials),
            LogInError::Throttled(error) => error.into(),
            LogInError::Hasher(error) => error.into(),
            LogInError::Port(error) => error.into(),
        }
    }
}

impl From<WhoamiError> for Problem {
    fn from(error: WhoamiError) -> Self {
        match error {
            WhoamiError::Token(error) => error.into(),
            WhoamiError::Port(error) => error.into(),
        }
    }
}

impl From<UnknownClient> for Problem {
    fn from(UnknownClient: UnknownClient) -> Self {
        Self::new(Code::InvalidClient)
    }
}

impl From<RefreshError> for Problem {
    fn from(error: RefreshError) -> Self {
        match error {
            // Why is nobody's business but the audit log's.
            RefreshError::InvalidToken => Self::new(Code::InvalidRefreshToken),
            RefreshError::Port(error) => error.into(),
        }
    }
}

impl From<LogOutError> for Problem {
    fn from(error: LogOutError) -> Self {
        match error {
            LogOutError::Token(error) => error.into(),
            LogOutError::Port(error) => error.into(),
        }
    }
}

impl From<ConfirmError> for Problem {
    fn from(error: ConfirmError) -> Self {
        match error {
            // Why is nobody's business but the audit log's.
            ConfirmError::PasswordWrong(_) => Self::new(Code::PasswordWrong),
            ConfirmError::NoAccount => Self::new(Code::InvalidToken),
            ConfirmError::Throttled(error) => error.into(),
            ConfirmError::Hasher(error) => error.into(),
            ConfirmError::Port(error) => error.into(),
        }
    }
}

impl From<ChangePasswordError> for Problem {
    fn from(error: ChangePasswordError) -> Self {
        match error {
            ChangePasswordError::NewPassword(error) => Self::of_password("new_password", error),
            ChangePasswordError::Confirm(error) => error.into(),
        }
    }
}

impl From<RenameError> for Problem {
    fn from(error: RenameError) -> Self {
        match error {
            RenameError::UsernameTaken => Self::new(Code::UsernameTaken),
            RenameError::NoAccount => Self::new(Code::InvalidToken),
            RenameError::Port(error) => error.into(),
        }
    }
}

impl From<InvalidToken> for Problem {
    fn from(error: InvalidToken) -> Self {
        Self::new(match error {
            InvalidToken::Expired => Code::TokenExpired,
            InvalidToken::Invalid => Code::InvalidToken,
        })
    }
}

impl From<Throttled> for Problem {
    fn from(Throttled { retry_after }: Throttled) -> Self {
        Self::too_many_requests(retry_after)
    }
}

impl From<HasherError> for Problem {
    fn from(error: HasherError) -> Self {
        match error {
            HasherError::Overloaded { retry_after } => {
                Self { retry_after: Some(retry_after), ..Self::new(Code::Overloaded) }
            }
            HasherError::Port(error) => error.into(),
        }
    }
}

impl From<Overdue> for Problem {
    fn from(overdue: Overdue) -> Self {
        match overdue {
            Overdue::Body => Self::new(Code::RequestTimeout),
            Overdue::Handler => {
                let late = PortError::Unavailable("it was not done in time".into());
                Self { is_overdue: true, ..late.into() }
            }
        }
    }
}

impl From<PortError> for Problem {
    fn from(error: PortError) -> Self {
        match error {
            PortError::Unavailable(cause) => {
                Self { retry_after: Some(STORE_RETRY), cause: Some(cause), ..Self::new(Code::Unavailable) }
            }
            PortError::Failed(cause) => Self { cause: Some(cause), ..Self::new(Code::Internal) },
        }
    }
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

    use super::*;

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
            "detail": "Correct the fields that errors names, and send the request again.",
            "code": "validation_failed",
            "errors": [
                { "field": "password", "code": "too_short", "message": "must have at least 15 characters" },
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

    #[test]
    fn codes_are_listed_once_each() {
        for (index, code) in Code::ALL.iter().enumerate() {
            assert!(!Code::ALL[..index].contains(code), "{code:?}");
            assert_eq!(*code as usize, index, "{code:?} is out of its place");
        }
    }

    #[test]
    fn a_challenge_names_an_error_only_where_a_token_was_sent() {
        assert_eq!(Code::MissingToken.challenge(), Some("Bearer"));
        assert_eq!(Code::InvalidCredentials.challenge(), Some("Bearer"));
        assert!(Code::InvalidClient.challenge().unwrap().starts_with("Basic realm="));
        assert!(Code::TokenExpired.challenge().unwrap().contains("expired"));
        for code in Code::ALL {
            assert_eq!(code.challenge().is_some(), code.status() == StatusCode::UNAUTHORIZED, "{code:?}");
        }
    }
}
