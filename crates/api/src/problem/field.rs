//! What is wrong with the fields of a request.

use domain::{
    InvalidUsername, MAX_ADDRESS_LENGTH, MAX_PASSWORD_LENGTH, MAX_USERNAME_LENGTH, MIN_USERNAME_LENGTH,
    PasswordPolicy, PasswordProblem,
};
use serde::Serialize;
use utoipa::ToSchema;

/// What is wrong with one field.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FieldError {
    /// The field's name; empty for an unknown field whose name is not a plain identifier.
    field: String,
    /// What is wrong, for programs.
    code: FieldCode,
    /// What an application may show to its user beside the field: one short sentence.
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
    Taken,
    Invalid,
}

impl FieldError {
    pub(crate) fn new(field: &str, code: FieldCode) -> Self {
        let is_password = matches!(field, "password" | "current_password" | "new_password");
        let message = match code {
            FieldCode::Required => "This field is required.".to_owned(),
            FieldCode::UnknownField => "This field is not expected.".to_owned(),
            FieldCode::WrongType => "This field must be a text.".to_owned(),
            FieldCode::TooShort if is_password => "Use more characters.".to_owned(),
            FieldCode::TooShort => format!("Use at least {MIN_USERNAME_LENGTH} characters."),
            FieldCode::TooLong if is_password => format!("Use at most {MAX_PASSWORD_LENGTH} characters."),
            FieldCode::TooLong => format!(
                "Use at most {MAX_USERNAME_LENGTH} characters, or {MAX_ADDRESS_LENGTH} in an e-mail address."
            ),
            FieldCode::InvalidCharacters if is_password => {
                "This password has a character that cannot be used.".to_owned()
            }
            FieldCode::InvalidCharacters => {
                "Use letters and digits of one script, @ . _ - +, or an e-mail address.".to_owned()
            }
            FieldCode::TooGuessable => {
                "This password is too easy to guess, so take several unrelated words.".to_owned()
            }
            FieldCode::Taken => "This username is taken.".to_owned(),
            FieldCode::Invalid => "This value is not valid.".to_owned(),
        };
        Self { field: field.to_owned(), code, message }
    }

    /// For a password in this field that cannot be chosen.
    pub(crate) fn of_password(field: &str, problem: PasswordProblem) -> Self {
        let error = Self::new(field, problem.into());
        match problem {
            PasswordProblem::TooShort { at_least } => {
                Self { message: format!("Use at least {at_least} characters."), ..error }
            }
            _ => error,
        }
    }

    /// For a rule that a field breaks where passwords are chosen by this policy.
    pub(crate) fn of_rule(field: &str, code: FieldCode, policy: PasswordPolicy) -> Self {
        match (field, code) {
            ("password" | "new_password", FieldCode::TooShort) => {
                Self::of_password(field, PasswordProblem::TooShort { at_least: policy.min_length() })
            }
            _ => Self::new(field, code),
        }
    }

    pub(crate) fn field(&self) -> &str {
        &self.field
    }
}

impl FieldCode {
    const ALL: [Self; 9] = [
        Self::Required,
        Self::UnknownField,
        Self::WrongType,
        Self::TooShort,
        Self::TooLong,
        Self::InvalidCharacters,
        Self::TooGuessable,
        Self::Taken,
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
            Self::Taken => "taken",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_is_one_short_sentence_for_end_users() {
        for field in ["username", "password", "new_password", "refresh_token", "except", ""] {
            for code in FieldCode::ALL {
                let message = FieldError::new(field, code).message;
                let starts = message.starts_with(|first: char| first.is_ascii_uppercase());
                assert!(
                    starts && message.ends_with('.') && message.len() <= 72,
                    "{field} {code:?}: {message}"
                );
            }
        }
    }
}
