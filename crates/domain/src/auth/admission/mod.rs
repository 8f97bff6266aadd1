//! Being admitted to have a password compared, and giving the place back. Every use case that compares one asks here.

#[cfg(test)]
mod tests;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use jiff::Timestamp;
use thiserror::Error;

use super::line::{InLine, Lines};
use super::{Auth, Refusal};
use crate::audit::recorder::PendingAuditEvent;
use crate::ports::{
    Admittance, Compared, Finisher, HasherError, Place, PortError, Ports, Requester, Throttle, Timer,
};
use crate::steady::Steady;
use crate::{Account, LoginName, ThrottleRules};

/// How long somebody waits for what comes of those before them. Hashing, for which they may have to wait as well, and the
/// store have the rest of the ten seconds that a request has.
const PATIENCE: Duration = Duration::from_secs(4);

/// How often the first in line asks again. Of what is decided in this process it hears at once; others tell nobody.
const ASK_EVERY: Duration = Duration::from_millis(250);

/// When it is worth another try if nothing was decided in time.
const RETRY: Duration = Duration::from_secs(1);

/// How often an attempt is begun because the name that it is counted by changed hands meanwhile, each time with as much
/// patience. Nobody but those who change it can have that happen again and again.
const MOVES: usize = 3;

/// Too many wrong passwords were tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("too many wrong passwords were tried")]
pub struct Throttled {
    /// When it is worth another try.
    pub retry_after: Duration,
}

/// What attempts are counted with.
#[derive(Clone)]
pub(super) struct Throttling {
    rules: ThrottleRules,
    throttle: Arc<dyn Throttle>,
    timer: Arc<dyn Timer>,
    finisher: Arc<dyn Finisher>,
    now: Steady,
    lines: Lines,
}

/// An attempt that was admitted. If nothing comes of it, its place is given back when it is dropped.
pub(super) struct Admitted(Option<Held>);

struct Held {
    place: Place,
    throttling: Throttling,
}

/// What the store says to whoever is first in line.
enum Asked {
    Admitted(Admitted),
    Undecided,
    Moved,
}

/// Why an attempt was not admitted.
pub(super) enum NotAdmitted {
    Throttled(Throttled),
    Hasher(HasherError),
    Port(PortError),
}

impl Auth {
    /// Does this until it comes to something, which it does unless a name changed hands in the midst of it.
    pub(super) async fn until_nothing_moves<T, E: From<NotAdmitted>>(
        &self,
        once: impl AsyncFn() -> Result<Option<T>, E>,
    ) -> Result<T, E> {
        for _ in 0..MOVES {
            if let Some(done) = once().await? {
                return Ok(done);
            }
        }
        Err(NotAdmitted::Hasher(HasherError::Overloaded { retry_after: RETRY }).into())
    }

    /// Waits until an attempt of this name may have its password compared, if it may. Answers nothing if the name changed
    /// hands meanwhile. Since it may do so until the account is looked up too, [`Admitted::counts_for`] is to be asked
    /// before the password is compared.
    pub(super) async fn take_place(
        &self,
        name: LoginName,
        requester: Requester,
    ) -> Result<Option<Admitted>, NotAdmitted> {
        let Some(throttling) = &self.throttling else { return Ok(Some(Admitted::uncounted())) };
        let network = match requester {
            Requester::Client(network) => Some(network),
            Requester::Bulk => None,
        };
        let counter = throttling.throttle.counter(name, network, throttling.now()).await?;
        let mut line = throttling.lines.enter(counter);
        if line.is_first() {
            match self.ask(throttling, &line, requester).await? {
                Asked::Admitted(admitted) => return Ok(Some(admitted)),
                Asked::Moved => return Ok(None),
                Asked::Undecided => {}
            }
        }
        let waited = pin!(self.wait(throttling, &mut line, requester));
        match select(waited, throttling.timer.sleep(PATIENCE)).await {
            Either::Left((admitted, _)) => admitted,
            Either::Right(_) => Err(HasherError::Overloaded { retry_after: RETRY }.into()),
        }
    }

    async fn wait(
        &self,
        throttling: &Throttling,
        line: &mut InLine,
        requester: Requester,
    ) -> Result<Option<Admitted>, NotAdmitted> {
        line.come_first().await?;
        loop {
            let decided = line.decided();
            match self.ask(throttling, line, requester).await? {
                Asked::Admitted(admitted) => return Ok(Some(admitted)),
                Asked::Moved => return Ok(None),
                Asked::Undecided => {}
            }
            select(decided, throttling.timer.sleep(ASK_EVERY)).await;
        }
    }

    /// A place that nobody waits for any more is given back.
    async fn ask(
        &self,
        throttling: &Throttling,
        line: &InLine,
        requester: Requester,
    ) -> Result<Asked, NotAdmitted> {
        let (throttling, counter) = (throttling.clone(), line.counter());
        let asked = self.finish(async move {
            let now = throttling.now();
            Ok(match throttling.throttle.admit(counter, requester, now, throttling.rules).await? {
                Admittance::Admitted(place) => Asked::Admitted(Admitted(Some(Held { place, throttling }))),
                Admittance::Undecided => Asked::Undecided,
                Admittance::Moved => Asked::Moved,
                Admittance::Refused { retry_after } => {
                    return Err(NotAdmitted::Throttled(Throttled { retry_after }));
                }
            })
        });
        let asked = asked.await?;
        if let Err(NotAdmitted::Throttled(throttled)) = asked {
            // Or each would ask in its turn to hear the same, and the last of many be out of patience before that.
            line.refuse_others(throttled);
        }
        asked
    }

    /// Ends an attempt by a refusal, and counts that.
    pub(super) async fn refuse(
        &self,
        attempt: PendingAuditEvent,
        admitted: Admitted,
        refusal: Refusal,
    ) -> Result<(), PortError> {
        let Some((compared, throttle)) = admitted.compared().zip(admitted.throttle()) else {
            return attempt.refuse(refusal.as_str()).await;
        };
        let fail = async move |attempt| {
            let failed = throttle.fail(compared, refusal, attempt).await;
            admitted.settle(&failed);
            failed
        };
        self.finish(attempt.refuse_with(refusal.as_str(), fail)).await??;
        Ok(())
    }
}

impl Throttling {
    pub(super) fn new(rules: ThrottleRules, ports: &Ports) -> Self {
        Self {
            rules,
            throttle: ports.throttle.clone(),
            timer: ports.timer.clone(),
            finisher: ports.finisher.clone(),
            now: Steady::new(ports.clock.clone()),
            lines: Lines::default(),
        }
    }

    fn now(&self) -> Timestamp {
        self.now.now()
    }

    /// The clock that counters go by.
    pub(super) fn clock(&self) -> Steady {
        self.now.clone()
    }
}

impl Admitted {
    /// Where nothing is counted.
    pub(super) fn uncounted() -> Self {
        Self(None)
    }

    /// Whether this account is the one that the attempt is counted for; or, if there is none, whether it is counted for
    /// nobody. A password that is compared with another one's would be counted where that is not looked at.
    pub(super) fn counts_for(&self, account: Option<&Account>) -> bool {
        let owner = account.map(|account| account.user.id);
        self.0.as_ref().is_none_or(|held| held.place.counter.owner == owner)
    }

    /// The attempt, now that its password was compared.
    pub(super) fn compared(&self) -> Option<Compared> {
        self.0.as_ref().map(|held| Compared { place: held.place, at: held.throttling.now() })
    }

    /// It failed or succeeded, if the store could keep that.
    pub(super) fn settle<T>(self, done: &Result<T, PortError>) {
        self.settle_if(done, |_| true);
    }

    /// The store has it no more, if this is so of what it has done.
    pub(super) fn settle_if<T>(mut self, done: &Result<T, PortError>, so: impl FnOnce(&T) -> bool) {
        if done.as_ref().is_ok_and(so)
            && let Some(held) = self.0.take()
        {
            held.throttling.lines.tell(held.place.counter);
        }
    }

    /// Gives its place back, and answers when the store has it back.
    pub(super) async fn give_back(mut self) {
        if let Some(held) = self.0.take() {
            held.give_back().await;
        }
    }

    fn throttle(&self) -> Option<Arc<dyn Throttle>> {
        self.0.as_ref().map(|held| held.throttling.throttle.clone())
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let Some(held) = self.0.take() else { return };
        let finisher = held.throttling.finisher.clone();
        finisher.finish(Box::pin(held.give_back()));
    }
}

impl Held {
    async fn give_back(self) {
        let Self { place, throttling } = self;
        // What cannot be given back is lost in a while.
        _ = throttling.throttle.give_back(place).await;
        throttling.lines.tell(place.counter);
    }
}

impl From<Throttled> for NotAdmitted {
    fn from(throttled: Throttled) -> Self {
        Self::Throttled(throttled)
    }
}

impl From<HasherError> for NotAdmitted {
    fn from(error: HasherError) -> Self {
        Self::Hasher(error)
    }
}

impl From<PortError> for NotAdmitted {
    fn from(error: PortError) -> Self {
        Self::Port(error)
    }
}
