//! The words and rules of authentication.
//!
//! This crate promises that a [`Username`], a [`Password`] or a [`User`] that exists is one that obeys its
//! rules, and that the use cases do what they say, whatever adapter stands behind a port. It refuses to know how a
//! password is hashed, where a user is kept, what a token looks like and that there is HTTP.
//!
//! Start reading at [`Auth`], the use cases of requests; [`Admin`] has those of an operator, and [`Maintenance`] the
//! background work. The [`ports`] are what they need.

mod admin;
mod audit;
mod auth;
mod client_network;
mod contents;
mod durations;
mod import;
mod maintenance;
mod parts;
mod password;
pub mod ports;
mod precis;
mod public_key;
mod session;
mod steady;
#[cfg(test)]
mod testing;
mod throttle;
mod token;
mod user;
mod username;

pub use admin::{Admin, AdminError, AdminPorts, CreateAccountError, SetPasswordError};
pub use audit::{
    Action, Anchor, Attempt, AuditEntry, AuditKey, AuditedClient, Conclusion, Event, Inspection, InvalidHead,
    Link, Origin, Outcome, Renamed, RenamedDigests, Seal, SealedEntry, Subject, Tampering,
};
pub use auth::{
    AskedAbout, Auth, AuthenticateError, AuthenticatedUser, ChangePasswordError, ChangeUsernameError, Client,
    ClientCredentials, ClientKey, Introspected, LogInError, LogOutError, LoggedIn, LogoutCredential,
    ReauthenticateError, RefreshError, Refreshed, Refusal, Rules, SignUpError, Throttled, UnknownClient,
    VerifiedToken,
};
pub use client_network::{ClientNetwork, ClientSite, NETWORKS_PER_SITE, SitePrefix};
pub use contents::{CarryOverError, Checksum, KeptSession, Kind, Progress, Record, carry_over};
pub use durations::{Distribution, Durations};
pub use import::{Admission, Candidate, Conflict, Importation, ImportedUser, Numbers, Unimportable};
pub use maintenance::Maintenance;
pub use password::{
    MAX_PASSWORD_LENGTH, NewPassword, Password, PasswordHash, PasswordPolicy, PasswordProblem,
};
pub use public_key::{PublicKey, PublicKeyMaterial, PublicKeySet};
pub use session::refresh_rotation::{Decision, Lineage, MOST_RECOVERIES, MOST_SUPERSEDED, Misuse};
pub use session::{
    EndCause, Generation, KNOWN_NETWORK_TTL, MOST_KNOWN_NETWORKS, MOST_SESSIONS, Nonce, Session, SessionId,
    SessionRules, UserAgent,
};
pub use throttle::{
    CountedName, Counter, FREE_FAILURES, RESERVATION_TTL, ThrottleRules, Tries, Verdict, Whence,
};
pub use token::{AccessClaims, AccessToken, Bearer, Grant, InvalidToken, RefreshClaim, RefreshToken, Tokens};
pub use user::{Account, User, UserId};
pub use username::{
    InvalidUsername, LoginName, MAX_ADDRESS_LENGTH, MAX_USERNAME_LENGTH, MIN_USERNAME_LENGTH, StrayText,
    Username, UsernameKey,
};
