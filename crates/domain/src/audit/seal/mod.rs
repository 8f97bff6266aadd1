//! What makes the audit log one that cannot be changed unnoticed: a chain of MACs, one over each event and the MAC
//! before it, under a key that is not where the events are.
//!
//! What could point to a person enters the chain as a salted digest only. So it can be blanked when the person's
//! account is deleted, and the chain still holds.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::net::IpAddr;
use std::str::FromStr;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use thiserror::Error;
use zeroize::Zeroizing;

use super::{Action, Event, Origin, Outcome, Subject};
use crate::parts::Parts;
use crate::{CountedName, LoginName, UserAgent, UserId, UsernameKey};

/// What the events of a log are sealed with, and the names in it digested; and the names by which attempts are counted,
/// since no other secret of ours is kept as long.
#[derive(Clone)]
pub struct AuditKey {
    chain: Zeroizing<[u8; 32]>,
    names: Zeroizing<[u8; 32]>,
    counters: Zeroizing<[u8; 32]>,
}

/// The MAC over an event and all before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal(pub [u8; 32]);

/// An event's place in the chain. The last one is the log's head: whoever knows it knows the whole log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Counted from 1, without a gap.
    pub number: i64,
    /// The seal of the event with this number.
    pub seal: Seal,
}

/// The last link that was removed for its age, and the proof that it was removed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// What the oldest event that is kept follows.
    pub link: Link,
    /// The MAC over it.
    pub proof: Seal,
}

/// An event as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// When it was decided.
    pub at: Timestamp,
    /// What was attempted, by the name that [`crate::Action`] gives it.
    pub event: String,
    /// How it ended: `success`, `refused`, `failed` or `abandoned`.
    pub outcome: String,
    /// Why it was refused, in `snake_case`.
    pub reason: Option<String>,
    /// How many of its kind it stands for.
    pub count: i64,
    /// Whose account it was about, if it is known.
    pub user: Option<UserId>,
    /// The digest of the name it was about, if nobody has it.
    pub name_digest: Option<String>,
    /// The request that made it; none for an operator's command.
    pub request_id: Option<String>,
    /// Who made it; nothing for an operator's command, and once it is blanked.
    pub client: Option<AuditedClient>,
    /// The digest that stands for the client in the chain.
    pub client_digest: Option<[u8; 32]>,
    /// The names before and after a change of username.
    pub renamed: Option<RenamedDigests>,
}

/// The names before and after a change of username, as digests under the salt of the client.
///
/// The chain covers them. The salt is blanked with the client when the account is deleted; from then on nobody can
/// compare a name with them, not even with the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenamedDigests {
    /// Of the name before.
    pub old: String,
    /// Of the name after.
    pub new: String,
}

/// Who made an attempt, as far as it can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditedClient {
    /// What keeps the digest from being guessed once the rest is blanked.
    pub salt: [u8; 16],
    /// The client's address.
    pub address: IpAddr,
    /// What the client says it is.
    pub user_agent: Option<UserAgent>,
}

/// An event and its place in the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedEntry {
    /// The event.
    pub entry: AuditEntry,
    /// Its place.
    pub link: Link,
}

/// What is wrong with a log: the first event, by number, of which it can be told.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Tampering {
    /// The link from which the chain goes on was not written here.
    #[error(
        "the record of what was removed for its age is not one that this key made; if AUTH_AUDIT__KEY was changed, \
         set the one that sealed the log"
    )]
    ForgedAnchor,
    /// Events are not there.
    #[error("event {first} is missing; the next one there is {next}")]
    Missing {
        /// The first that is not there.
        first: i64,
        /// The first that is.
        next: i64,
    },
    /// An event is not what was sealed.
    #[error(
        "event {0} was changed, inserted or moved; if AUTH_AUDIT__KEY was changed, set the one that sealed the log"
    )]
    Altered(i64),
    /// An event lost its client, and no deletion of the account that it is about is on record after it.
    #[error("event {0} was robbed of its client: no deletion of the account it is about is on record")]
    Blanked(i64),
    /// The log ends before the head it is said to have had.
    #[error("the log ends with event {last}; events up to {head} were cut off")]
    CutOff {
        /// The last event there is.
        last: i64,
        /// The event that has to be there.
        head: i64,
    },
    /// The event of the head is there, and is another one.
    #[error("event {0} is not the one that was the head: it and what follows were written anew")]
    OtherHead(i64),
    /// The head was removed for its age, and nothing can be told of it.
    #[error("the log begins after event {0}: compare it with a head that is not older than what is kept")]
    HeadTooOld(i64),
}

/// A text that is no head of a log.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("a head is the number of an event, a colon and 64 hexadecimal digits, as the log tells it")]
pub struct InvalidHead;

impl Link {
    /// What the first event follows.
    pub const NONE: Self = Self { number: 0, seal: Seal([0; 32]) };
}

impl AuditKey {
    /// The key that a secret stands for.
    pub fn new(secret: &[u8]) -> Self {
        let derived = |purpose| Zeroizing::new(mac(secret, &[purpose]).0);
        Self {
            chain: derived(b"auth-api audit chain 1"),
            names: derived(b"auth-api audit name digest 1"),
            counters: derived(b"auth-api counted name 1"),
        }
    }

    /// Whose account an event is about: the number if it is known, else a digest of the name, whether somebody
    /// has it or not. People type their password into the wrong field.
    pub fn subject(&self, subject: &Subject) -> (Option<UserId>, Option<String>) {
        match subject {
            Subject::User(id) => (Some(*id), None),
            Subject::Name(name) => (None, Some(self.digest(b"name:", name.as_str()))),
            Subject::Text(text) => (None, Some(self.digest(b"text:", text.expose()))),
            Subject::Unknown => (None, None),
        }
    }

    /// By what the attempts are counted of whoever has this name.
    pub fn counted(&self, name: &UsernameKey) -> CountedName {
        self.counted_as(b"name:", name.as_str())
    }

    /// By what an attempt of this name is counted, whether somebody has it or not.
    pub fn counted_as_typed(&self, name: &LoginName) -> CountedName {
        match name {
            LoginName::Possible(name) => self.counted(name.key()),
            LoginName::Impossible(text) => self.counted_as(b"text:", text.expose()),
        }
    }

    /// Half of the MAC: names collide by chance when there are as many as nobody has.
    fn counted_as(&self, kind: &[u8], text: &str) -> CountedName {
        let mac = mac(&*self.counters, &[kind, text.as_bytes()]).0;
        let (half, _) = mac.split_at(16);
        let mut name = [0; 16];
        name.copy_from_slice(half);
        CountedName(name)
    }

    /// An event as it is to be kept.
    pub fn entry(&self, event: &Event) -> AuditEntry {
        let (outcome, reason) = event.outcome.as_strs();
        let (user, name_digest) = self.subject(&event.attempt.subject);
        let renamed = self.renamed(event);
        let (client, request_id) = match &event.attempt.origin {
            Origin::CommandLine => (None, None),
            Origin::Request { address, request_id, user_agent } => {
                let salt = event.attempt.salt;
                let client = AuditedClient { salt, address: *address, user_agent: user_agent.clone() };
                (Some(client), Some(request_id.clone()))
            }
        };
        AuditEntry {
            at: event.attempt.at,
            event: event.attempt.action.as_str().to_owned(),
            outcome: outcome.to_owned(),
            reason: reason.map(str::to_owned),
            count: event.count.into(),
            user,
            name_digest: name_digest.filter(|_| renamed.is_none()),
            request_id,
            client_digest: client.as_ref().map(AuditedClient::digest),
            renamed,
            client,
        }
    }

    /// The names of a change of username as the log stores them. An operator's command has no client, whose salt they
    /// need; none changes a username.
    pub fn renamed(&self, event: &Event) -> Option<RenamedDigests> {
        let (Some(renamed), Origin::Request { .. }) = (&event.renamed, &event.attempt.origin) else {
            return None;
        };
        let digest = |name: &UsernameKey| {
            short_hex(&mac(&*self.names, &[b"renamed:", &event.attempt.salt, name.as_str().as_bytes()]))
        };
        Some(RenamedDigests { old: digest(&renamed.old), new: digest(&renamed.new) })
    }

    /// The place of an entry that follows `previous`.
    pub fn seal(&self, entry: &AuditEntry, previous: Link) -> Link {
        let number = previous.number + 1;
        let mut sealed = Parts::default();
        sealed.push(&previous.seal.0);
        sealed.push(&number.to_be_bytes());
        sealed.push_entry(entry);
        Link { number, seal: mac(&*self.chain, &[b"event", sealed.as_bytes()]) }
    }

    /// What shows of an entry that waits for its place that it was written with this key. It covers what a seal does,
    /// but for the place.
    pub fn mark(&self, entry: &AuditEntry) -> Seal {
        let mut sealed = Parts::default();
        sealed.push_entry(entry);
        mac(&*self.chain, &[b"mark", sealed.as_bytes()])
    }

    /// The proof that everything up to `link` was removed for its age.
    pub fn anchor(&self, link: Link) -> Anchor {
        let proof = mac(&*self.chain, &[b"anchor", &link.number.to_be_bytes(), &link.seal.0]);
        Anchor { link, proof }
    }

    /// The first 64 bits of an HMAC: enough to tell names apart, too little to be mistaken for a credential.
    fn digest(&self, kind: &[u8], text: &str) -> String {
        short_hex(&mac(&*self.names, &[kind, text.as_bytes()]))
    }
}

impl RenamedDigests {
    /// As a store keeps them, in the place of the digest of the one name that other events are about.
    pub fn to_stored(&self) -> String {
        format!("{}>{}", self.old, self.new)
    }

    /// What a store kept, if it is of two names.
    pub fn from_stored(text: &str) -> Option<Self> {
        let (old, new) = text.split_once('>')?;
        Some(Self { old: old.to_owned(), new: new.to_owned() })
    }
}

impl AuditEntry {
    /// The entry as it is kept when the account that it is about is not there any more, so that nothing of a person
    /// is kept after they have gone.
    #[must_use]
    pub fn without_client(self) -> Self {
        Self { client: None, client_digest: None, renamed: None, ..self }
    }

    /// Whether it tells that the account it is about was deleted.
    pub fn is_deletion(&self) -> bool {
        let deletions = [Action::Delete, Action::CloseAccount].map(Action::as_str);
        deletions.contains(&&*self.event) && self.outcome == Outcome::Success.as_strs().0
    }
}

impl AuditedClient {
    fn digest(&self) -> [u8; 32] {
        let mut sealed = Parts::default();
        sealed.push(&self.salt);
        sealed.push(self.address.to_string().as_bytes());
        sealed.push_optional(self.user_agent.as_ref().map(|it| it.as_str().as_bytes()));
        Sha256::digest(sealed.as_bytes()).into()
    }
}

/// Looks through a log from its oldest event to its newest.
pub struct Inspection<'key> {
    key: &'key AuditKey,
    last: Link,
    expected: Option<Link>,
    /// The first event without its client of each account whose deletion has not come yet.
    blanked: BTreeMap<UserId, i64>,
}

impl<'key> Inspection<'key> {
    /// Begins where the log does: after what was removed for its age, if anything was. It is to end with
    /// `expected` or later, if that is known.
    pub fn begin(
        key: &'key AuditKey,
        anchor: Option<Anchor>,
        expected: Option<Link>,
    ) -> Result<Self, Tampering> {
        let last = match anchor {
            Some(anchor) if key.anchor(anchor.link) != anchor => return Err(Tampering::ForgedAnchor),
            Some(anchor) => anchor.link,
            None => Link::NONE,
        };
        let inspection = Self { key, last, expected, blanked: BTreeMap::new() };
        match expected {
            Some(head) if head.number < last.number => Err(Tampering::HeadTooOld(last.number)),
            _ => inspection.compare_with_head().map(|()| inspection),
        }
    }

    /// Looks at the next event there is.
    pub fn look_at(&mut self, sealed: &SealedEntry) -> Result<(), Tampering> {
        let SealedEntry { entry, link } = sealed;
        let number = self.last.number + 1;
        if link.number != number {
            return Err(Tampering::Missing { first: number, next: link.number });
        }
        if self.key.seal(entry, self.last) != *link {
            return Err(Tampering::Altered(number));
        }
        match (&entry.client, entry.client_digest, entry.user) {
            (Some(client), digest, _) if Some(client.digest()) != digest => {
                return Err(Tampering::Altered(number));
            }
            (None, Some(_), None) => return Err(Tampering::Blanked(number)),
            (None, Some(_), Some(user)) => _ = self.blanked.entry(user).or_insert(number),
            (None, None, Some(user)) if entry.is_deletion() => _ = self.blanked.remove(&user),
            _ => {}
        }
        self.last = *link;
        self.compare_with_head()
    }

    /// There are no more. Tells the head.
    pub fn end(self) -> Result<Link, Tampering> {
        match self.expected {
            Some(head) if head.number > self.last.number => {
                Err(Tampering::CutOff { last: self.last.number, head: head.number })
            }
            _ => self.blanked.values().min().map_or(Ok(self.last), |first| Err(Tampering::Blanked(*first))),
        }
    }

    fn compare_with_head(&self) -> Result<(), Tampering> {
        match self.expected {
            Some(head) if head.number == self.last.number && head.seal != self.last.seal => {
                Err(Tampering::OtherHead(head.number))
            }
            _ => Ok(()),
        }
    }
}

impl Parts {
    pub(crate) fn push_entry(&mut self, entry: &AuditEntry) {
        let AuditEntry { at, event, outcome, reason, count, user, name_digest, request_id, renamed, .. } =
            entry;
        self.push(&at.as_microsecond().to_be_bytes());
        self.push(event.as_bytes());
        self.push(outcome.as_bytes());
        self.push_optional(reason.as_deref().map(str::as_bytes));
        self.push(&count.to_be_bytes());
        self.push_optional(user.map(|id| id.0.to_be_bytes()).as_ref().map(<[u8; 8]>::as_slice));
        self.push_optional(name_digest.as_deref().map(str::as_bytes));
        self.push_optional(request_id.as_deref().map(str::as_bytes));
        self.push_optional(entry.client_digest.as_ref().map(<[u8; 32]>::as_slice));
        self.push_optional(renamed.as_ref().map(|renamed| renamed.old.as_bytes()));
        self.push_optional(renamed.as_ref().map(|renamed| renamed.new.as_bytes()));
    }
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Seal {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length (RFC 2104, section 2)")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
    for part in parts {
        mac.update(part);
    }
    Seal(mac.finalize().into_bytes().into())
}

/// The first 64 bits of a MAC.
fn short_hex(Seal(mac): &Seal) -> String {
    HEXLOWER.encode(&mac[..8])
}

impl Display for Link {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.number, HEXLOWER.encode(&self.seal.0))
    }
}

impl FromStr for Link {
    type Err = InvalidHead;

    fn from_str(text: &str) -> Result<Self, InvalidHead> {
        let (number, digits) = text.split_once(':').ok_or(InvalidHead)?;
        let number = number.parse().ok().filter(|number| *number >= 0).ok_or(InvalidHead)?;
        let seal = HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok().and_then(|seal| seal.try_into().ok());
        let seal = seal.ok_or(InvalidHead)?;
        Ok(Self { number, seal: Seal(seal) })
    }
}

impl fmt::Debug for AuditKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("AuditKey")
    }
}
