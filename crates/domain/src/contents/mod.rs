//! All that a store keeps, carried over into another store, and proven to be the same there.

#[cfg(test)]
mod tests;

use std::fmt::{self, Display};
use std::net::IpAddr;

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::parts::Parts;
use crate::ports::{Intake, KnownNetwork, PortError, Snapshot};
use crate::{Account, Anchor, SealedEntry, Session, UserAgent, UserId};

/// What is kept, by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Accounts.
    Users,
    /// Sessions, live or not.
    Sessions,
    /// From where users have logged in.
    KnownNetworks,
    /// The audit log.
    AuditEvents,
    /// What the audit log begins after, if anything was removed from it for its age.
    AuditAnchor,
    /// The highest number that a user was given, if any was: it is never given again, though its user be gone.
    LastNumber,
}

/// One thing that is kept, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// An account.
    User(Account),
    /// A session.
    Session(KeptSession),
    /// A network that this user has logged in from.
    KnownNetwork(UserId, KnownNetwork),
    /// An event and its place in the chain.
    AuditEvent(SealedEntry),
    /// What the audit log begins after.
    AuditAnchor(Anchor),
    /// The highest number that a user was given.
    LastNumber(UserId),
}

/// A session, and what nobody asks about it but whoever looks into the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptSession {
    /// The session.
    pub session: Session,
    /// Why it was ended, if it was, by the name that [`crate::EndCause`] gives it.
    pub end_cause: Option<String>,
}

/// How many records there are, and a sum over all of them in any order, since databases do not sort alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checksum {
    /// How many.
    pub records: u64,
    /// Of the records' SHA-256, each quarter by itself.
    sum: [u64; 4],
}

/// How far a copy has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// How many records were written or compared.
    pub done: u64,
    /// How many are to be: each is written once, and compared once.
    pub of: u64,
}

/// Why nothing was carried over.
#[derive(Debug, Error)]
pub enum CarryOverError {
    /// It could not be read.
    #[error("cannot read all that is to be copied")]
    Source(#[source] PortError),
    /// It could not be written.
    #[error("cannot write the copy, so nothing of it is kept")]
    Target(#[source] PortError),
    /// It could not be written to the end, and nobody knows whether it was kept.
    #[error("cannot tell whether the copy was kept: look into the target before you try again")]
    Commit(#[source] PortError),
    /// What was written is not what was read.
    #[error(
        "the copy differs in its {kind}, so nothing of it is kept: {read} were read, and {written} are there; is \
         anybody else writing to the target?"
    )]
    Differs {
        /// Of which kind.
        kind: Kind,
        /// What was read of it.
        read: Checksum,
        /// What is there.
        written: Checksum,
    },
}

/// Writes all that `source` has into `target`, reads it there once more, and keeps it if it is the same. Tells `watch`
/// how far it is, and at the end what there is of each kind. What was written is read before it is kept and not
/// afterwards, so that nobody ever finds a copy that is not right.
pub async fn carry_over(
    source: &mut dyn Snapshot,
    mut target: Box<dyn Intake>,
    watch: &mut (dyn FnMut(Progress) + Send),
) -> Result<Vec<(Kind, Checksum)>, CarryOverError> {
    let mut progress = Progress { done: 0, of: 0 };
    for kind in Kind::ALL {
        progress.of += 2 * source.count(kind).await.map_err(CarryOverError::Source)?;
    }
    let mut step = |records: usize| {
        progress.done += records as u64;
        watch(progress);
    };

    let mut all = Vec::new();
    for kind in Kind::ALL {
        let mut read = Checksum::default();
        let mut last = None;
        loop {
            let page = source.page(kind, last).await.map_err(CarryOverError::Source)?;
            last = page.last().cloned();
            if page.is_empty() {
                break;
            }
            read.add(&page);
            let count = page.len();
            target.write(page).await.map_err(CarryOverError::Target)?;
            step(count);
        }
        all.push((kind, read));
    }
    for (kind, read) in all.iter().copied() {
        let written = checksum(&mut *target, kind, &mut step).await.map_err(CarryOverError::Target)?;
        if read != written {
            return Err(CarryOverError::Differs { kind, read, written });
        }
    }
    target.commit().await.map_err(CarryOverError::Commit)?;
    Ok(all)
}

async fn checksum(
    records: &mut dyn Intake,
    kind: Kind,
    step: &mut (dyn FnMut(usize) + Send),
) -> Result<Checksum, PortError> {
    let mut checksum = Checksum::default();
    let mut last = None;
    loop {
        let page = records.page(kind, last).await?;
        last = page.last().cloned();
        if page.is_empty() {
            return Ok(checksum);
        }
        checksum.add(&page);
        step(page.len());
    }
}

impl Kind {
    /// Every kind, in the order in which they are written: sessions belong to users.
    pub const ALL: [Self; 6] = [
        Self::Users,
        Self::Sessions,
        Self::KnownNetworks,
        Self::AuditEvents,
        Self::AuditAnchor,
        Self::LastNumber,
    ];
}

impl Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Users => "users",
            Self::Sessions => "sessions",
            Self::KnownNetworks => "known networks",
            Self::AuditEvents => "audit events",
            Self::AuditAnchor => "audit anchor",
            Self::LastNumber => "last number",
        })
    }
}

impl Checksum {
    /// Counts records in.
    pub fn add(&mut self, records: &[Record]) {
        for record in records {
            let digest = Sha256::digest(record.parts().as_bytes());
            let (quarters, _) = digest.as_chunks::<8>();
            for (sum, quarter) in self.sum.iter_mut().zip(quarters) {
                *sum = sum.wrapping_add(u64::from_be_bytes(*quarter));
            }
            self.records += 1;
        }
    }

    /// The sum, as it is shown.
    pub fn sum(&self) -> impl Display {
        let [a, b, c, d] = self.sum;
        format!("{a:016x}{b:016x}{c:016x}{d:016x}")
    }
}

impl Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (checksum {:016x}…)", self.records, self.sum[0])
    }
}

impl Record {
    /// All of it, told apart from every other record.
    fn parts(&self) -> Parts {
        let mut parts = Parts::default();
        match self {
            Self::User(account) => {
                parts.push(b"user");
                parts.push_account(account);
            }
            Self::Session(KeptSession { session, end_cause }) => {
                parts.push(b"session");
                parts.push_session(session);
                parts.push_optional(end_cause.as_deref().map(str::as_bytes));
            }
            Self::KnownNetwork(owner, KnownNetwork { network, last_login_at }) => {
                parts.push(b"known network");
                parts.push_number(owner.0);
                parts.push_optional_address(Some(network.first_address()));
                parts.push_time(*last_login_at);
            }
            Self::AuditEvent(sealed) => {
                parts.push(b"audit event");
                parts.push_event(sealed);
            }
            Self::AuditAnchor(Anchor { link, proof }) => {
                parts.push(b"audit anchor");
                parts.push_number(link.number);
                parts.push(&link.seal.0);
                parts.push(&proof.0);
            }
            Self::LastNumber(number) => {
                parts.push(b"last number");
                parts.push_number(number.0);
            }
        }
        parts
    }
}

impl Parts {
    fn push_account(&mut self, account: &Account) {
        let Account { user, password_hash, credentials_epoch, disabled_at } = account;
        self.push_number(user.id.0);
        self.push(user.name.as_typed().as_bytes());
        self.push(user.name.key().as_str().as_bytes());
        self.push(password_hash.as_str().as_bytes());
        self.push_number(*credentials_epoch);
        self.push_optional_time(*disabled_at);
        self.push_time(user.created_at);
        self.push_time(user.updated_at);
    }

    fn push_session(&mut self, session: &Session) {
        let Session { id, user, nonce, lineage, .. } = session;
        self.push(id.as_bytes());
        self.push_number(user.0);
        self.push(&nonce.0);
        self.push_number(lineage.generation.number());
        self.push_times(&lineage.superseded);
        self.push(&[lineage.seen.into()]);
        self.push_times(&lineage.recoveries);
        for time in [session.created_at, session.last_used_at, session.expires_at, session.ends_at] {
            self.push_time(time);
        }
        self.push_optional_time(session.ended_at);
        self.push_optional_address(session.address);
        self.push_optional(session.user_agent.as_ref().map(|it| it.as_str().as_bytes()));
    }

    fn push_event(&mut self, SealedEntry { entry, link }: &SealedEntry) {
        self.push_number(link.number);
        self.push(&link.seal.0);
        self.push_entry(entry);
        let client = entry.client.as_ref();
        self.push_optional(client.map(|client| client.salt.as_slice()));
        self.push_optional_address(client.map(|client| client.address));
        let user_agent = client.and_then(|client| client.user_agent.as_ref());
        self.push_optional(user_agent.map(UserAgent::as_str).map(str::as_bytes));
    }

    fn push_number(&mut self, number: i64) {
        self.push(&number.to_be_bytes());
    }

    fn push_time(&mut self, time: Timestamp) {
        self.push_number(time.as_microsecond());
    }

    fn push_times(&mut self, times: &[Timestamp]) {
        let times: Vec<u8> = times.iter().flat_map(|time| time.as_microsecond().to_be_bytes()).collect();
        self.push(&times);
    }

    fn push_optional_time(&mut self, time: Option<Timestamp>) {
        self.push_optional(
            time.map(|time| time.as_microsecond().to_be_bytes()).as_ref().map(<[u8; 8]>::as_slice),
        );
    }

    fn push_optional_address(&mut self, address: Option<IpAddr>) {
        self.push_optional(address.map(|address| address.to_string()).as_deref().map(str::as_bytes));
    }
}
