//! The codes of problems: what each is called, which status it has, and what is said of it.

use actix_web::http::StatusCode;

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
    MisdirectedRequest,
    ValidationFailed,
    TooManyRequests,
    HeadersTooLarge,
    Internal,
    Unavailable,
    Overloaded,
}

impl Code {
    /// Every code, for the pages that explain them.
    pub(crate) const ALL: [Self; 25] = [
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
        Self::MisdirectedRequest,
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
            Self::MisdirectedRequest => "misdirected_request",
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
            Self::MisdirectedRequest => StatusCode::MISDIRECTED_REQUEST,
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
            Self::InvalidClient => "The client is not known",
            Self::PasswordWrong => "The password is wrong",
            Self::Forbidden => "The origin is not allowed",
            Self::SignupDisabled => "Sign-up is disabled",
            Self::NotFound => "There is nothing here",
            Self::MethodNotAllowed => "The method is not allowed here",
            Self::RequestTimeout => "The request took too long to arrive",
            Self::UsernameTaken => "The username is taken",
            Self::BodyTooLarge => "The body is too large",
            Self::UriTooLong => "The address is too long",
            Self::UnsupportedMediaType => "The media type is not supported",
            Self::MisdirectedRequest => "The host name is not allowed",
            Self::ValidationFailed => "The request is not valid",
            Self::TooManyRequests => "Too many requests",
            Self::HeadersTooLarge => "The headers are too large",
            Self::Internal => "Something broke on the server",
            Self::Unavailable => "The service is not available right now",
            Self::Overloaded => "Too many logins at once",
        }
    }

    /// What an application may show to its user: one short sentence.
    pub(crate) fn detail(self) -> &'static str {
        match self {
            Self::MalformedRequest => "The request could not be read.",
            Self::InvalidCredentials => "The username or the password is wrong.",
            Self::MissingToken => "You need to log in first.",
            Self::InvalidToken | Self::InvalidRefreshToken => {
                "Your session has ended, so please log in again."
            }
            Self::TokenExpired => "Your login has expired.",
            Self::InvalidRequest => "The request is incomplete.",
            Self::InvalidClient => "The client's name or secret is wrong.",
            Self::PasswordWrong => "The password is wrong.",
            Self::Forbidden => "This page may not do that.",
            Self::SignupDisabled => "New accounts cannot be created here.",
            Self::NotFound => "What you asked for does not exist.",
            Self::MethodNotAllowed => "That cannot be done here.",
            Self::RequestTimeout => "The request took too long to arrive.",
            Self::UsernameTaken => "This username is taken.",
            Self::BodyTooLarge | Self::HeadersTooLarge => "The request is too large.",
            Self::UriTooLong => "The address is too long.",
            Self::UnsupportedMediaType => "The request has the wrong format.",
            Self::MisdirectedRequest => "This address does not belong to the service.",
            Self::ValidationFailed => "Some of the fields are not valid.",
            Self::TooManyRequests => "There were too many attempts, so please try again later.",
            Self::Internal => "Something went wrong on the server.",
            Self::Unavailable => "The service is not available right now, so please try again soon.",
            Self::Overloaded => "Many people are logging in right now, so please try again soon.",
        }
    }

    /// What a developer does about it, for the page of the problem.
    pub(crate) fn hint(self) -> &'static str {
        match self {
            Self::MalformedRequest => {
                "Send one well-formed JSON object in UTF-8, with each name once and nothing after it. No object in it may \
                 have more than 64 members. Send one valid Host, and no other header twice that may stand only once. The only value of X-Session-Transport is \
                 cookie."
            }
            Self::InvalidCredentials => {
                "Check the username and the password. The answer is the same for an unknown username, a wrong \
                 password and a disabled account."
            }
            Self::MissingToken => {
                "Log in with POST /api/login and send its access_token in the header Authorization, after the word \
                 Bearer. To log out with the session cookie, send the header X-Session-Transport: cookie."
            }
            Self::InvalidToken => {
                "Log in again. This service did not issue the token, or its session has ended."
            }
            Self::TokenExpired => {
                "Exchange the refresh token with POST /api/refresh, or log in again. An access token is valid for \
                 expires_in seconds."
            }
            Self::InvalidRefreshToken => {
                "Log in again. The session ended, was not used for too long, or an already-rotated refresh token was \
                 reused. Keep the refresh token of each answer in place of the one before."
            }
            Self::InvalidRequest => {
                "Send a form in UTF-8 with a non-empty token and, if you like, a token_type_hint. No parameter may \
                 stand twice, and there may be at most 64."
            }
            Self::InvalidClient => {
                "Send the id and the secret of the client as HTTP Basic, as they are or encoded as in a form. The operator lists \
                 the id and the SHA-256 digest of the secret in AUTH_INTROSPECTION__CLIENTS. The answer is the same \
                 for an unknown id and a wrong secret."
            }
            Self::PasswordWrong => {
                "Ask for the password once more. Nothing was changed, and the access token is still valid. The answer \
                 is the same if the password was changed elsewhere at the same moment."
            }
            Self::Forbidden => {
                "The detail names the origin that was compared. The session cookie counts in requests with \
                 Sec-Fetch-Site: same-origin, and in those whose Origin is the issuer's, the one of Host, or listed \
                 in AUTH_CORS__ORIGINS. A page of another origin needs an entry in that setting. A proxy that \
                 rewrites Host is harmless unless it removes Sec-Fetch-Site."
            }
            Self::SignupDisabled => {
                "The operator has set AUTH_SIGNUP__ENABLED=false, and creates accounts with auth-api users create."
            }
            Self::NotFound => {
                "Check the path, and the identifier in it if there is one. The start page links to the documentation."
            }
            Self::MethodNotAllowed => "Use one of the methods that the header Allow lists.",
            Self::RequestTimeout => "Send the whole request at once.",
            Self::UsernameTaken => {
                "Choose another username. Names that differ only in case, width or Unicode spelling are one name."
            }
            Self::BodyTooLarge => "Send at most 16 KiB.",
            Self::UriTooLong => "Send at most 8 KiB of path and query.",
            Self::UnsupportedMediaType => {
                "Send JSON in UTF-8, with the header Content-Type: application/json and no Content-Encoding. Only \
                 /api/introspect and /api/revoke take a form instead, as application/x-www-form-urlencoded. To use \
                 the session cookie, send the header X-Session-Transport: cookie."
            }
            Self::MisdirectedRequest => {
                "The ops listener answers to localhost, to IP addresses and to the host names that AUTH_OPS__HOSTS lists. \
                 Ask by one of these, or add the name that you ask by."
            }
            Self::ValidationFailed => {
                "Correct the fields that errors names, and send the request again. A field stands there once for \
                 each rule that it breaks."
            }
            Self::TooManyRequests => {
                "Send the request again after Retry-After seconds. After many wrong passwords in a row that is a day, \
                 and waiting alone does not help. Log in from a network that the account has used before, or ask the \
                 operator to unlock it. The answer is the same for an unknown username."
            }
            Self::HeadersTooLarge => "Send at most 64 headers and 16 KiB of them.",
            Self::Internal => "Report the request_id to the operator; the log says more.",
            Self::Unavailable => "Send the request again after Retry-After seconds.",
            Self::Overloaded => "Nothing was done. Send the request again after Retry-After seconds.",
        }
    }

    /// What libraries for OAuth look at (RFC 6749, section 5.2), where the code is one of theirs.
    pub(super) fn oauth_error(self) -> Option<&'static str> {
        matches!(self, Self::InvalidRequest | Self::InvalidClient).then(|| self.as_str())
    }

    /// The header `WWW-Authenticate` (RFC 6750, section 3): it names an error only if a token was sent.
    pub(super) fn challenge(self) -> Option<&'static str> {
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

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn detail_is_one_short_sentence_for_end_users() {
        let for_developers = ["JSON", "token", "header", "POST", "/", "AUTH_", "_", "HTTP", "`"];
        for code in Code::ALL {
            let detail = code.detail();
            assert!(
                detail.ends_with('.') && detail.matches(['.', ';', ':']).count() == 1,
                "{code:?}: {detail}"
            );
            assert!((10..=70).contains(&detail.len()), "{code:?}: {detail}");
            for word in for_developers {
                assert!(!detail.contains(word), "{code:?}: {detail}");
            }
        }
    }
}
