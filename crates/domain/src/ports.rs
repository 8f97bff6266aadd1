//! What the use cases need from the world, and the facts that cross the border.
//!
//! An adapter implements one of these traits and nothing else of ours. What it promises stands on the method;
//! how it keeps the promise is its own affair.

use std::error::Error;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::{
    AccessClaims, AccessToken, Account, Attempt, AuditEntry, Bearer, ClientNetwork, Counter, EndCause, Event,
    Generation, Grant, Importation, ImportedUser, InvalidToken, Kind, Link, LoginName, Misuse, NewPassword,
    Nonce, Password, PasswordHash, PasswordProblem, PublicKeySet, Record, RefreshClaim, Refusal, Session,
    SessionId, SessionRules, Tampering, ThrottleRules, Tries, User, UserAgent, UserId, Username, UsernameKey,
    Verdict, Whence,
};

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

/// Keeps users. Every method is one transaction: it happened whole, or not at all, even when nobody waits for
/// the answer any more, and what it answers is on disk. So is, by the same commit, what the attempt came to, as
/// [`crate::Conclusion`] tells it of the answer; the attempt's time is the time of the change.
///
/// What was counted of a name is of its owner's making, or of somebody's who took it for theirs: whoever takes the name,
/// gives it up or has a new password begins with nothing counted, and whoever takes another name has the same counted.
#[cfg_attr(test, mockall::automock)]
#[async_trait]
pub trait UserRepo: Send + Sync {
    /// Takes the name for a new user, unless somebody has it. Of many who ask at once, one gets it.
    async fn insert(&self, user: NewUser, attempt: Attempt) -> Result<Insertion, PortError>;

    /// The account of this number.
    async fn find(&self, id: UserId) -> Result<Option<Account>, PortError>;

    /// The account of this name.
    async fn find_by_name(&self, name: UsernameKey) -> Result<Option<Account>, PortError>;

    /// The accounts of these names, in any order.
    async fn find_by_names(&self, names: Vec<UsernameKey>) -> Result<Vec<Account>, PortError>;

    /// The highest number that was ever given, or skipped; 0 before the first.
    async fn last_number(&self) -> Result<UserId, PortError>;

    /// Up to `limit` accounts with numbers above `after`, by number.
    async fn list(&self, after: UserId, limit: u32) -> Result<Vec<Account>, PortError>;

    /// Takes users in as they are, with fresh credentials' epochs, and tells in the same order what each came to: one
    /// whose name somebody has is [compared](ImportedUser::compared_with) and changes nothing, and a number that is to
    /// be kept is one that comes [after](ImportedUser::after) all that were given. Whoever signs up later gets a greater
    /// one. A few hundred at once are a transaction that lets others write in time.
    async fn import(&self, users: Vec<ImportedUser>, attempt: Attempt)
    -> Result<Vec<Importation>, PortError>;

    /// Keeps `new` for `old`, another encoding of the same password; does nothing when `old` is not there any
    /// more, since whoever changed it knew better.
    async fn rehash(&self, id: UserId, old: PasswordHash, new: PasswordHash) -> Result<(), PortError>;

    /// Keeps another password, raises the credentials' epoch, and ends the account's sessions.
    async fn set_password(
        &self,
        name: UsernameKey,
        hash: PasswordHash,
        attempt: Attempt,
    ) -> Result<Change, PortError>;

    /// Disables an account and ends its sessions; one that is disabled stays so since it first was.
    async fn disable(&self, name: UsernameKey, attempt: Attempt) -> Result<Change, PortError>;

    /// Enables an account; one that is enabled stays so.
    async fn enable(&self, name: UsernameKey, attempt: Attempt) -> Result<Change, PortError>;

    /// Removes an account and everything of it; from what is on record of it goes what could point to a person, at once
    /// or, if there is much, by [`AuditLog::blank_deleted`]. Its number is never given again.
    async fn delete(&self, name: UsernameKey, attempt: Attempt) -> Result<Change, PortError>;

    /// Gives an enabled account another name, or another spelling of its own, unless somebody else has it, if its
    /// credentials are still those of this epoch. Of many who ask for one name at once, one gets it; the old one is free
    /// when this is done.
    async fn rename(
        &self,
        id: UserId,
        credentials_epoch: i64,
        name: Username,
        attempt: Attempt,
    ) -> Result<Renaming, PortError>;

    /// Keeps another password for the user of `session`, raises the credentials' epoch, ends the account's sessions
    /// and opens this one, if the account is enabled and its credentials are still those of the session's epoch. Of
    /// many changes that rest on one password, one is made.
    async fn change_password(
        &self,
        hash: PasswordHash,
        session: NewSession,
        attempt: Attempt,
    ) -> Result<ConfirmedChange, PortError>;

    /// Removes an enabled account as [`UserRepo::delete`] does, if its credentials are still those of this epoch.
    async fn close_account(
        &self,
        id: UserId,
        credentials_epoch: i64,
        attempt: Attempt,
    ) -> Result<ConfirmedChange, PortError>;
}

/// Keeps sessions, by the same promise as [`UserRepo`]: every method is one transaction, and what it answers and
/// what the attempt came to are on disk. Together the two keep a third: a session of an account that is disabled, deleted or has another
/// password since the login is not live, whatever happened at once.
#[cfg_attr(test, mockall::automock)]
#[async_trait]
pub trait SessionRepo: Send + Sync {
    /// Opens a session if the account is still as it was when its password was checked. Ends the user's oldest
    /// live ones if there would be more than [`crate::MOST_SESSIONS`], and remembers the network, of which it
    /// keeps the [`crate::MOST_KNOWN_NETWORKS`] newest. For the counter that admitted the attempt it is a success, and
    /// a failure if there is no session.
    async fn open(&self, new: NewSession, attempt: Attempt) -> Result<Opening, PortError>;

    /// The session of this identifier, live or not, and the account it belongs to. It may be removed once it is
    /// not live any more.
    async fn look_up(&self, id: SessionId) -> Result<Option<(Session, Account)>, PortError>;

    /// The present edition of what this session and its owner's account are. What was looked up after an edition
    /// was taken holds for as long as this answers the same. A change made here makes it another before whoever
    /// made the change is answered, and one that another process makes does so within a second; when that cannot
    /// be told, there is none. Waits for nothing.
    fn edition(&self, id: SessionId, owner: UserId) -> Option<Edition>;

    /// Does what [`crate::Lineage::present`] decides about a genuine refresh token. Of many who show one at once, one
    /// exchanges it. What ends a session is kept, as every change is.
    async fn rotate(&self, shown: Shown, attempt: Attempt) -> Result<Rotation, PortError>;

    /// Notes that an access token of this generation was shown, if it is the newest one.
    async fn mark_seen(&self, id: SessionId, generation: Generation) -> Result<(), PortError>;

    /// Ends a live session of this user.
    async fn end(
        &self,
        id: SessionId,
        owner: UserId,
        cause: EndCause,
        attempt: Attempt,
    ) -> Result<Ending, PortError>;

    /// Ends the sessions of this user, or all but one, and tells how many had not been ended before.
    async fn end_all(
        &self,
        owner: UserId,
        but: Option<SessionId>,
        cause: EndCause,
        attempt: Attempt,
    ) -> Result<EndingAll, PortError>;

    /// The live sessions of this user, the newest first.
    async fn live_sessions(&self, owner: UserId, at: Timestamp) -> Result<Vec<Session>, PortError>;

    /// How many live sessions there are of all users together.
    async fn count_live(&self, at: Timestamp) -> Result<u64, PortError>;

    /// The networks from which this user has logged in, the last one first.
    async fn known_networks(&self, owner: UserId) -> Result<Vec<KnownNetwork>, PortError>;

    /// Removes up to `limit` sessions that are not live any more, and as many networks of which nobody has to
    /// know any more; tells how many of both.
    async fn remove_over(&self, at: Timestamp, limit: u32) -> Result<usize, PortError>;
}

/// Counts wrong passwords, by the same promise as [`UserRepo`]. Names that nobody has are counted like all others.
#[cfg_attr(test, mockall::automock)]
#[async_trait]
pub trait Throttle: Send + Sync {
    /// By what an attempt of this name is counted that comes from this network, or from none: apart if whoever has the
    /// name has logged in from there within [`crate::KNOWN_NETWORK_TTL`].
    async fn counter(
        &self,
        name: LoginName,
        network: Option<ClientNetwork>,
        at: Timestamp,
    ) -> Result<Counter, PortError>;

    /// Does what [`Tries::admit`] decides about an attempt, if whoever had the name has it still. Of many who ask at once,
    /// as many are admitted as may be. The counter is one of an account from then on if it has an owner; what comes of an
    /// attempt makes it none.
    async fn admit(
        &self,
        counter: Counter,
        requester: Requester,
        at: Timestamp,
        rules: ThrottleRules,
    ) -> Result<Admittance, PortError>;

    /// Counts a failure, and keeps what the attempt came to if there is one: repeats of a refusal are kept together.
    async fn fail(
        &self,
        compared: Compared,
        refusal: Refusal,
        attempt: Option<Attempt>,
    ) -> Result<Refusal, PortError>;

    /// Takes back the place of an attempt that was given up.
    async fn give_back(&self, place: Place) -> Result<(), PortError>;

    /// Forgets what was counted of the name of an account.
    async fn unlock(&self, name: UsernameKey, attempt: Attempt) -> Result<Change, PortError>;

    /// What is counted of a name, elsewhere first.
    async fn tries(&self, name: UsernameKey) -> Result<Vec<(Whence, Tries)>, PortError>;

    /// When the last failure was of the newest counter of a name that nobody has which is not among the `most` newest.
    async fn newest_strays_end(&self, most: u32) -> Result<Option<Timestamp>, PortError>;

    /// Removes up to `limit` of the counters of names that nobody has, if their last failure was at `at` or before; tells
    /// how many. Those of accounts stay, or anybody could have them forgotten.
    async fn remove_strays(&self, at: Timestamp, limit: u32) -> Result<usize, PortError>;
}

/// Tells whether the store would serve a request now.
#[cfg_attr(test, mockall::automock)]
#[async_trait]
pub trait Readiness: Send + Sync {
    /// Succeeds when something could be read and something could be written durably, at most a second ago.
    async fn check(&self) -> Result<(), PortError>;
}

/// Hashes passwords and verifies them. A call whose future is dropped before its turn costs nothing. What could
/// not be answered in time is refused without waiting for it, and clients go before bulk work that has not begun.
#[cfg_attr(test, mockall::automock)]
#[async_trait]
pub trait Hasher: Send + Sync {
    /// Judges a password that somebody chooses, and hashes it if it may be chosen.
    async fn hash_new(&self, password: NewPassword, requester: Requester) -> Result<NewHash, HasherError>;

    /// Judges a password that somebody chooses, and hashes nothing.
    async fn judge(
        &self,
        password: NewPassword,
        requester: Requester,
    ) -> Result<Option<PasswordProblem>, HasherError>;

    /// Hashes at the current cost, in the current format, with a salt of its own, as bulk work. The password
    /// is not empty and holds no NUL.
    async fn hash(&self, password: Password) -> Result<PasswordHash, HasherError>;

    /// Tells whether `password` is the one `hash` was made of. Without a hash it is not, after the same work,
    /// and the same goes for a hash that cannot be read and for a password that no hash can be of. Work is
    /// never less than at the current cost.
    async fn verify(
        &self,
        password: Password,
        hash: Option<PasswordHash>,
        requester: Requester,
    ) -> Result<Verification, HasherError>;

    /// Whether a password could be verified with this hash, wherever it was made. Waits for nothing.
    fn inspect(&self, hash: &PasswordHash) -> Result<(), UnusableHash>;

    /// Whether another program may have made the hash of a part of the password only, which no login matches.
    fn may_be_truncated(&self, hash: &PasswordHash) -> bool;
}

/// Makes access tokens and reads them back.
#[cfg_attr(test, mockall::automock)]
pub trait TokenIssuer: Send + Sync {
    /// A signed token that says what `grant` says.
    fn issue(&self, grant: &Grant) -> Result<AccessToken, PortError>;

    /// Whose token this is, if it is one of ours, whole, and holds now.
    fn verify(&self, token: &str) -> Result<Bearer, InvalidToken>;

    /// All that this token says, if [`TokenIssuer::verify`] takes it.
    fn inspect(&self, token: &str) -> Result<AccessClaims, InvalidToken>;

    /// What others verify tokens with. A key is among it some time before it signs and as long as it verifies.
    fn public_keys(&self) -> PublicKeySet;
}

/// Makes refresh tokens and reads them back.
#[cfg_attr(test, mockall::automock)]
pub trait RefreshTokens: Send + Sync {
    /// The token that claims this, of a session with this nonce: the same text whenever it is asked for.
    fn write(&self, claim: &RefreshClaim, nonce: &Nonce) -> Zeroizing<String>;

    /// What a text claims. None of it is proven.
    fn read(&self, text: &str) -> Option<RefreshClaim>;

    /// Whether this text was made here, for a session with this nonce.
    fn is_genuine(&self, text: &str, nonce: &Nonce) -> bool;
}

/// Knows the backends that an operator lets ask about tokens.
#[cfg_attr(test, mockall::automock)]
pub trait Clients: Send + Sync {
    /// Whether there is a backend of this identifier and this is its secret. Neither how long it takes nor anything
    /// else tells which of the two was wrong.
    fn admits(&self, id: &str, secret: &str) -> bool;
}

/// Keeps attempts, sealed against change, by the same promise as [`UserRepo`].
#[cfg_attr(test, mockall::automock)]
#[async_trait]
pub trait AuditLog: Send + Sync {
    /// Keeps events that no change goes with. Of an account that is not there any more nothing is kept that could
    /// point to a person, and so it is with what a change comes to.
    async fn append(&self, events: Vec<Event>) -> Result<(), PortError>;

    /// Up to `limit` of the events that `query` is about with numbers above `after`, by number.
    async fn list_events(
        &self,
        query: AuditQuery,
        after: i64,
        limit: u32,
    ) -> Result<Vec<ListedEvent>, PortError>;

    /// Looks at the whole log as it is at one moment, as [`crate::Inspection`] does. Tells its head, which is
    /// `expected` or comes after it if that is given, or what is wrong.
    async fn inspect(&self, expected: Option<Link>) -> Result<Result<Link, Tampering>, PortError>;

    /// The place of the last event.
    async fn head(&self) -> Result<Link, PortError>;

    /// Blanks what could point to a person in up to `limit` events of an account that was deleted; tells whether there was
    /// anything to do. A deletion blanks a few hundred events itself. The rest is on a list in the database, so that it is
    /// done after a crash too.
    async fn blank_deleted(&self, limit: u32) -> Result<bool, PortError>;

    /// Removes up to `limit` of the oldest events if they were decided before `at` and so were all before them;
    /// tells how many. What is left can be inspected as before. If anything is wrong with what would be removed,
    /// nothing is: it is the proof of it.
    async fn remove_before(&self, at: Timestamp, limit: u32) -> Result<Result<usize, Tampering>, PortError>;
}

/// Shows all that a store keeps, and takes in all that another one kept.
#[async_trait]
pub trait Contents: Send + Sync {
    /// One view of everything that was answered before. What is changed later is not in it.
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, PortError>;

    /// A place to write everything to, if nothing is kept yet.
    async fn intake(&self) -> Result<Option<Box<dyn Intake>>, PortError>;
}

/// Records, a page at a time.
#[async_trait]
pub trait Records: Send {
    /// How many there are of a kind.
    async fn count(&mut self, kind: Kind) -> Result<u64, PortError>;

    /// Some records of a kind that come after this one, or the first: all of them in turn, each once, in an order of the
    /// store's own, and in the end none.
    async fn page(&mut self, kind: Kind, after: Option<Record>) -> Result<Vec<Record>, PortError>;
}

/// All that a store keeps at one moment.
#[async_trait]
pub trait Snapshot: Records {
    /// Lets go of it, and tells whether anything was changed since, as far as can be told at once.
    async fn end(self: Box<Self>) -> Result<bool, PortError>;
}

/// One transaction that fills an empty store. What is not committed leaves nothing behind, however it ends.
#[async_trait]
pub trait Intake: Records {
    /// Writes records, each kind in the order of [`Kind::ALL`].
    async fn write(&mut self, records: Vec<Record>) -> Result<(), PortError>;

    /// Keeps what was written.
    async fn commit(self: Box<Self>) -> Result<(), PortError>;
}

/// Is told of every attempt as it ends.
#[cfg_attr(test, mockall::automock)]
pub trait AuditStream: Send + Sync {
    /// Tells of one. Cannot fail, because no attempt may hang on it.
    fn publish(&self, event: Event);
}

/// Sees work through.
pub trait Finisher: Send + Sync {
    /// Does `work` to its end, though whoever asked for it goes away, and before the process ends.
    fn finish(&self, work: Pin<Box<dyn Future<Output = ()> + Send>>);
}

/// Tells the time.
#[cfg_attr(test, mockall::automock)]
pub trait Clock: Send + Sync {
    /// The time of day, UTC, in whole microseconds. It may be set back.
    fn now(&self) -> Timestamp;

    /// The time since some moment before; it never goes back.
    fn monotonic(&self) -> Duration;
}

/// Lets time pass.
#[cfg_attr(test, mockall::automock)]
pub trait Timer: Send + Sync {
    /// Resolves when so much time has passed.
    fn sleep(&self, time: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// Draws from the operating system's generator.
#[cfg_attr(test, mockall::automock)]
pub trait Entropy: Send + Sync {
    /// 128 bits that nobody can foretell.
    fn draw(&self) -> [u8; 16];
}

/// A user who is about to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewUser {
    /// The name to take.
    pub name: Username,
    /// What to keep of the password.
    pub password_hash: PasswordHash,
    /// When.
    pub at: Timestamp,
}

/// How taking a name ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Insertion {
    /// The user exists.
    Done(User),
    /// Somebody has that name, in this spelling or another.
    UsernameTaken,
}

/// For whom a password is hashed, or a change is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requester {
    /// Somebody who waits for the answer. When many do, they share by network what there is.
    Client(ClientNetwork),
    /// Nobody who could not wait longer: an operator's command, or housekeeping.
    Bulk,
}

/// How hashing a password that somebody chooses ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewHash {
    /// This is its hash.
    Done(PasswordHash),
    /// It cannot be chosen.
    Refused(PasswordProblem),
}

/// How a change to an account ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// This is the account after it; after a deletion, the account as it last was.
    Done(Account),
    /// Nobody has that name.
    UnknownUser,
}

/// How taking another name ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Renaming {
    /// The name was changed.
    Done {
        /// The user after it.
        user: User,
        /// The name before it.
        old_name: Username,
    },
    /// Somebody else has that name, in this spelling or another.
    UsernameTaken,
    /// The password was changed since it was checked.
    CredentialsChanged,
    /// The account is gone, or disabled.
    NoAccount,
}

/// How a change ends that rests on a password which was checked before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfirmedChange {
    /// This is the user after it; after a removal, the user as they last were.
    Done(User),
    /// The password was changed since it was checked.
    CredentialsChanged,
    /// The account is gone, or disabled.
    NoAccount,
}

/// A session that is about to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSession {
    /// Its identifier.
    pub id: SessionId,
    /// Whose it is to be.
    pub user: UserId,
    /// The epoch of the credentials that were checked.
    pub credentials_epoch: i64,
    /// What its refresh tokens are to hang on.
    pub nonce: Nonce,
    /// When somebody logs in.
    pub at: Timestamp,
    /// When it ends unless it is used before.
    pub expires_at: Timestamp,
    /// When it ends however much it is used.
    pub ends_at: Timestamp,
    /// From where they log in.
    pub address: Option<IpAddr>,
    /// With what.
    pub user_agent: Option<UserAgent>,
    /// How they were admitted, if that is counted.
    pub compared: Option<Compared>,
}

/// Tells what was changed from what was not, by being another or the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edition(pub u64);

/// How opening a session ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// It is open, for this user.
    Done(User),
    /// The account is gone.
    UnknownUser,
    /// The account is disabled.
    Disabled,
    /// The password was changed since it was checked.
    CredentialsChanged,
}

/// An attempt's place at a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which counter.
    pub counter: Counter,
    /// When it was taken.
    pub taken_at: Timestamp,
}

/// An attempt that was admitted, and whose password was then compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compared {
    /// Its place.
    pub place: Place,
    /// When that was done.
    pub at: Timestamp,
}

/// How asking for admittance ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admittance {
    /// With a place, which is to be given back, or to fail or succeed.
    Admitted(Place),
    /// It depends on what comes of those that were admitted.
    Undecided,
    /// Too many have failed.
    Refused {
        /// When it is worth another try.
        retry_after: Duration,
    },
    /// Whoever had the name when the counter was looked up has another one by now, or is gone.
    Moved,
}

impl Admittance {
    /// What is said of an attempt at this time that was decided upon.
    pub fn of(verdict: Verdict, counter: Counter, at: Timestamp) -> Self {
        match verdict {
            Verdict::Go => Self::Admitted(Place { counter, taken_at: at }),
            Verdict::Wait => Self::Undecided,
            Verdict::Refuse { retry_after } => Self::Refused { retry_after },
        }
    }
}

/// A refresh token that was found genuine, on its way to be judged.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    /// Of which session it is.
    pub session: SessionId,
    /// Of which generation.
    pub generation: Generation,
    /// When it is shown.
    pub at: Timestamp,
    /// The rules in force.
    pub rules: SessionRules,
}

/// What a refresh token was good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// It was exchanged; this is the session with the next generation.
    Rotated(Session),
    /// It had been exchanged before, and may have been; this is the session with its newest generation.
    Again(Session, Reuse),
    /// It was misused, and the session has just ended for it.
    Ended(Misuse),
    /// There is no such session, or it was over before.
    Over,
}

/// Why a refresh token that was exchanged before may be shown again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// Another tab was faster.
    Concurrent,
    /// The answer to the exchange was lost.
    Recovered,
}

/// How ending a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It is over now.
    Done,
    /// This user has no such live session.
    Unknown,
}

/// How ending all sessions, or all but one, ends: so many had not been ended before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndingAll(pub usize);

/// What somebody wants to see of the audit log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditQuery {
    /// Only what is about whoever has this name, or about the name itself.
    pub name: Option<UsernameKey>,
    /// Only what was decided then or later.
    pub since: Option<Timestamp>,
}

/// An event as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedEvent {
    /// Its number.
    pub number: i64,
    /// The event.
    pub entry: AuditEntry,
    /// The present name of the account that it is about.
    pub username: Option<Username>,
}

/// A network from which somebody has logged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownNetwork {
    /// Which one.
    pub network: ClientNetwork,
    /// When they last did.
    pub last_login_at: Timestamp,
}

/// What comparing a password with a hash shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verification {
    /// Another password, or nothing to compare it with.
    Mismatch,
    /// Nothing: the hash is of no format and no cost that the hasher takes. Somebody should look.
    Unreadable,
    /// The password.
    Match,
    /// The password, in a hash of an older cost or format.
    MatchStale,
}

/// Why no password can be verified with a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum UnusableHash {
    /// Another algorithm's, or damaged.
    #[error("the hash is of no format that is known here")]
    Format,
    /// It takes too much work, or too little.
    #[error("the hash has a cost of {cost}, and {least} to {most} are accepted")]
    Cost {
        /// Its cost.
        cost: u32,
        /// The lowest that is accepted.
        least: u32,
        /// The highest.
        most: u32,
    },
}

/// Something an adapter rests on did not do its part. Two variants, because there are two answers.
#[derive(Debug, Error)]
pub enum PortError {
    /// It may work in a moment: the store is locked, full, or not there.
    #[error("something this rests on is not available")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
    /// It will not work until somebody looks.
    #[error("something this rests on is broken")]
    Failed(#[source] Box<dyn Error + Send + Sync>),
}

/// Why no hash came back.
#[derive(Debug, Error)]
pub enum HasherError {
    /// More passwords are waiting than can be answered in time.
    #[error("too many passwords are waiting to be hashed")]
    Overloaded {
        /// When it is worth another try.
        retry_after: Duration,
    },
    /// The hasher itself is broken.
    #[error(transparent)]
    Port(#[from] PortError),
}
