//! From the errors of use cases and ports to problems.

use domain::ports::{HasherError, PortError};
use domain::{
    AuthenticateError, ChangePasswordError, ChangeUsernameError, InvalidToken, LogInError, LogOutError,
    PasswordProblem, ReauthenticateError, RefreshError, SignUpError, Throttled, UnknownClient,
};

use super::{Code, FieldError, Problem, STORE_RETRY};
use crate::net::Overdue;

impl From<PasswordProblem> for Problem {
    fn from(error: PasswordProblem) -> Self {
        Self::validation(vec![FieldError::of_password("password", error)])
    }
}

impl From<SignUpError> for Problem {
    fn from(error: SignUpError) -> Self {
        match error {
            SignUpError::Closed => Self::new(Code::SignupDisabled),
            SignUpError::UsernameTaken => Self::username_taken(),
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

impl From<AuthenticateError> for Problem {
    fn from(error: AuthenticateError) -> Self {
        match error {
            AuthenticateError::Token(error) => error.into(),
            AuthenticateError::Port(error) => error.into(),
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

impl From<ReauthenticateError> for Problem {
    fn from(error: ReauthenticateError) -> Self {
        match error {
            // Why is nobody's business but the audit log's.
            ReauthenticateError::PasswordWrong(_) => Self::new(Code::PasswordWrong),
            ReauthenticateError::NoAccount => Self::new(Code::InvalidToken),
            ReauthenticateError::Throttled(error) => error.into(),
            ReauthenticateError::Hasher(error) => error.into(),
            ReauthenticateError::Port(error) => error.into(),
        }
    }
}

impl From<ChangePasswordError> for Problem {
    fn from(error: ChangePasswordError) -> Self {
        match error {
            ChangePasswordError::NewPassword(error) => {
                Self::validation(vec![FieldError::of_password("new_password", error)])
            }
            ChangePasswordError::Confirm(error) => error.into(),
        }
    }
}

impl From<ChangeUsernameError> for Problem {
    fn from(error: ChangeUsernameError) -> Self {
        match error {
            ChangeUsernameError::UsernameTaken => Self::username_taken(),
            ChangeUsernameError::TooManyChanges { retry_after } => Self::too_many_requests(retry_after),
            ChangeUsernameError::Confirm(error) => error.into(),
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
