//! What the use cases need from the world, and the facts that cross the border.
//!
//! An adapter implements one of these traits and nothing else of ours. What it promises stands on the method;
//! how it keeps the promise is its own affair.

mod audit;
mod hasher;
mod sessions;
mod system;
mod throttle;
mod tokens;
mod transfer;
mod users;

use std::sync::Arc;

pub use self::audit::*;
pub use self::hasher::*;
pub use self::sessions::*;
pub use self::system::*;
pub use self::throttle::*;
pub use self::tokens::*;
pub use self::transfer::*;
pub use self::users::*;

/// Everything [`crate::Auth`] rests on.
#[derive(Clone)]
pub struct Ports {
    /// Where users are kept.
    pub users: Arc<dyn UserRepo>,
    /// Where sessions are kept, in the same place.
    pub sessions: Arc<dyn SessionRepo>,
    /// Where wrong passwords are counted, in the same place.
    pub throttle: Arc<dyn Throttle>,
    /// Whether what they are kept in answers.
    pub readiness: Arc<dyn Readiness>,
    /// How passwords become hashes.
    pub hasher: Arc<dyn Hasher>,
    /// How access tokens are made and read.
    pub tokens: Arc<dyn TokenIssuer>,
    /// How refresh tokens are.
    pub refresh_tokens: Arc<dyn RefreshTokens>,
    /// Which backends may ask about tokens.
    pub clients: Arc<dyn Clients>,
    /// Where attempts are kept, in the same place.
    pub audit_log: Arc<dyn AuditLog>,
    /// Who is told of every attempt.
    pub audit_stream: Arc<dyn AuditStream>,
    /// Who sees work through that nobody may wait for.
    pub finisher: Arc<dyn Finisher>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// How time passes.
    pub timer: Arc<dyn Timer>,
    /// Where chance comes from.
    pub entropy: Arc<dyn Entropy>,
}
