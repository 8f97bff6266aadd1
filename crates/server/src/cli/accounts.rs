//! What the commands about accounts share: names as arguments, pages of accounts, and what to say where something failed.

use std::time::Duration;

use domain::ports::PortError;
use domain::{
    Account, Admin, AdminError, InvalidUsername, LoginName, MAX_ADDRESS_LENGTH, MAX_USERNAME_LENGTH,
    MIN_USERNAME_LENGTH, UserId, Username,
};

use super::{Exit, Failure};

/// How many accounts are asked for at once.
const PAGE: u32 = 500;

/// What a command's last writes may take; it has waited for them already.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// The name of a user who is there, as at a login: without the blanks that it was copied with.
pub(super) fn existing(name: &str) -> Result<Username, Failure> {
    match LoginName::from_typed(name) {
        LoginName::Possible(name) => Ok(name),
        LoginName::Impossible(_) => parse(name),
    }
}

/// The name that an argument is.
pub(super) fn parse(name: &str) -> Result<Username, Failure> {
    Username::parse(name).map_err(|problem| {
        let advice = match problem {
            InvalidUsername::TooShort => format!("; it needs {MIN_USERNAME_LENGTH} characters"),
            InvalidUsername::TooLong => format!(
                "; it may have {MAX_USERNAME_LENGTH} characters, or {MAX_ADDRESS_LENGTH} as an e-mail address"
            ),
            InvalidUsername::InvalidCharacters => {
                "; letters of one script, digits and @ . _ - + can be, or an e-mail address".to_owned()
            }
        };
        Failure::new(Exit::Refused, format_args!("{problem}{advice}"))
    })
}

/// Takes accounts by number, a page at a time.
pub(super) async fn for_each_page(
    admin: &Admin,
    limit: u64,
    mut take: impl FnMut(&[Account]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let (mut after, mut left) = (UserId(0), limit);
    while left > 0 {
        let asked = u32::try_from(left).unwrap_or(PAGE).min(PAGE);
        let page = admin.list_accounts(after, asked).await.map_err(|error| not_reached(&error))?;
        take(&page)?;
        let Some(last) = page.last().filter(|_| page.len() == asked as usize) else { break };
        after = last.user.id;
        left -= u64::from(asked);
    }
    Ok(())
}

/// What to say where an account stayed as it was.
pub(super) fn not_done(name: &Username, error: &AdminError) -> Failure {
    match error {
        AdminError::UnknownUser => {
            Failure::new(Exit::Refused, format_args!("there is no user {}", name.as_typed()))
        }
        AdminError::Port(error) => not_reached(error),
    }
}

/// What to say where the database did not answer.
pub(super) fn not_reached(error: &PortError) -> Failure {
    Failure::from_error(Exit::Failed, error)
}
