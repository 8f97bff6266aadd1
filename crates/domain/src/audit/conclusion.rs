//! What the end of a change means for the audit log. A store writes down what was changed, in the transaction of the
//! change, and has no opinion of its own. Refusals changed nothing, and the use cases record them.

use super::{Action, Attempt, Event, Outcome, Renamed, Subject};
use crate::ports::{
    Change, ConfirmedChange, Ending, EndingAll, Insertion, Opening, Renaming, Reuse, Rotation,
};
use crate::{Importation, Refusal, UserId};

/// How something ended that is to be on record.
pub trait Conclusion {
    /// The event that it makes of the attempt, if it makes one.
    fn conclude(&self, attempt: Attempt) -> Option<Event>;

    /// Whether the store writes that event with the change: it does when something was changed, and for commands.
    fn is_kept(&self) -> bool;

    /// Whether it took work to decide, such as the hash of a password. Whatever took none, a client can have as often as it
    /// likes.
    fn took_work(&self) -> bool {
        true
    }
}

impl Conclusion for Insertion {
    fn conclude(&self, attempt: Attempt) -> Option<Event> {
        Some(match self {
            Self::Done(user) => succeeded(attempt, user.id),
            Self::UsernameTaken => attempt.ended(Outcome::Refused("username_taken")),
        })
    }

    fn is_kept(&self) -> bool {
        matches!(self, Self::Done(_))
    }
}

impl Conclusion for Change {
    fn conclude(&self, attempt: Attempt) -> Option<Event> {
        Some(match self {
            Self::Done(account) => succeeded(attempt, account.user.id),
            Self::UnknownUser => attempt.ended(Outcome::Refused("unknown_user")),
        })
    }

    fn is_kept(&self) -> bool {
        true
    }
}

impl Conclusion for Renaming {
    fn conclude(&self, attempt: Attempt) -> Option<Event> {
        Some(match self {
            Self::Done { user, old_name } => {
                let renamed = Renamed { old: old_name.key().clone(), new: user.name.key().clone() };
                Event { renamed: Some(renamed), ..attempt.ended(Outcome::Success) }
            }
            Self::UsernameTaken => attempt.ended(Outcome::Refused("username_taken")),
            Self::CredentialsChanged => attempt.ended(Outcome::Refused(Refusal::CredentialsChanged.as_str())),
            Self::NoAccount => attempt.ended(Outcome::Refused("no_account")),
        })
    }

    fn is_kept(&self) -> bool {
        matches!(self, Self::Done { .. })
    }
}

impl Conclusion for ConfirmedChange {
    fn conclude(&self, attempt: Attempt) -> Option<Event> {
        Some(attempt.ended(match self {
            Self::Done(_) => Outcome::Success,
            Self::CredentialsChanged => Outcome::Refused(Refusal::CredentialsChanged.as_str()),
            Self::NoAccount => Outcome::Refused("no_account"),
        }))
    }

    fn is_kept(&self) -> bool {
        matches!(self, Self::Done(_))
    }
}

impl Conclusion for Opening {
    fn conclude(&self, attempt: Attempt) -> Option<Event> {
        let refusal = match self {
            Self::Done(user) => return Some(succeeded(attempt, user.id)),
            Self::UnknownUser => Refusal::UnknownUser,
            Self::Disabled => Refusal::Disabled,
            Self::CredentialsChanged => Refusal::CredentialsChanged,
        };
        refusal.conclude(attempt)
    }

    fn is_kept(&self) -> bool {
        matches!(self, Self::Done(_))
    }
}

impl Conclusion for Refusal {
    fn conclude(&self, attempt: Attempt) -> Option<Event> {
        Some(attempt.ended(Outcome::Refused(self.as_str())))
    }

    fn is_kept(&self) -> bool {
        true
    }
}

impl Conclusion for Rotation {
    /// A plain refresh, and one that came at once with another, are no news.
    fn conclude(&self, attempt: Attempt) -> Option<Event> {
        match self {
            Self::Rotated(_) | Self::Again(_, Reuse::Concurrent) => None,
            Self::Again(_, Reuse::Recovered) => {
                Some(Attempt { action: Action::RecoverRefresh, ..attempt }.ended(Outcome::Success))
            }
            Self::Ended(misuse) => Some(attempt.ended(Outcome::Refused(misuse.as_str()))),
            Self::Over => Some(attempt.ended(Outcome::Refused("session_over"))),
        }
    }

    fn is_kept(&self) -> bool {
        !matches!(self, Self::Over)
    }

    fn took_work(&self) -> bool {
        false
    }
}

impl Conclusion for Ending {
    fn conclude(&self, attempt: Attempt) -> Option<Event> {
        Some(attempt.ended(match self {
            Self::Done => Outcome::Success,
            Self::Unknown => Outcome::Refused("no_live_session"),
        }))
    }

    fn is_kept(&self) -> bool {
        *self == Self::Done
    }

    fn took_work(&self) -> bool {
        false
    }
}

impl Conclusion for EndingAll {
    fn conclude(&self, attempt: Attempt) -> Option<Event> {
        Some(attempt.ended(Outcome::Success))
    }

    fn is_kept(&self) -> bool {
        self.0 > 0
    }

    fn took_work(&self) -> bool {
        false
    }
}

impl Conclusion for Importation {
    /// Whoever was there already is no news.
    fn conclude(&self, attempt: Attempt) -> Option<Event> {
        match self {
            Self::Done(id) => Some(succeeded(attempt, *id)),
            Self::AlreadyThere => None,
            Self::Refused(conflict) => Some(attempt.ended(Outcome::Refused(conflict.as_str()))),
        }
    }

    fn is_kept(&self) -> bool {
        true
    }
}

/// Whoever it was about by name is known by number now.
fn succeeded(attempt: Attempt, user: UserId) -> Event {
    Attempt { subject: Subject::User(user), ..attempt }.ended(Outcome::Success)
}
