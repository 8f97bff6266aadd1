//! One attempt, from its beginning to the audit log.

use std::sync::Arc;

use super::tally::Tally;
use crate::ports::{AuditLog, AuditStream, Clock, Entropy, PortError, Ports};
use crate::{Action, Attempt, Conclusion, Event, Origin, Outcome, Subject, UserId};

/// Where attempts go when they end.
#[derive(Clone)]
pub(super) struct Record {
    log: Arc<dyn AuditLog>,
    stream: Arc<dyn AuditStream>,
    tally: Tally,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

/// An attempt that is under way. It is told of once, however it ends; when whoever made it goes away before it is
/// decided, that is how it ended.
///
/// What changed something is kept, event by event, before it is answered. A refusal that took work is kept likewise, but
/// repeats of it are counted, and so is what took no work: no client can fill the disk by what it repeats.
pub(super) struct UnderWay {
    action: Action,
    subject: Subject,
    origin: Origin,
    is_open: bool,
    record: Record,
}

impl Record {
    pub(super) fn new(ports: &Ports) -> Self {
        Self {
            log: ports.audit_log.clone(),
            stream: ports.audit_stream.clone(),
            tally: Tally::default(),
            clock: ports.clock.clone(),
            entropy: ports.entropy.clone(),
        }
    }

    pub(super) fn begin(&self, action: Action, subject: Subject, origin: Origin) -> UnderWay {
        UnderWay { action, subject, origin, is_open: true, record: self.clone() }
    }

    /// Keeps what was counted. What cannot be kept is counted on.
    pub(super) async fn keep_counts(&self) -> Result<(), PortError> {
        let events = self.tally.take();
        if events.is_empty() {
            return Ok(());
        }
        let kept = self.log.append(events.clone()).await;
        if kept.is_err() {
            for event in events {
                self.tally.count(event);
            }
        }
        kept
    }

    fn count(&self, event: Event) {
        self.stream.publish(event.clone());
        self.tally.count(event);
    }

    /// Keeps a refusal that took work: the first of its kind at once, and repeats together with what is counted.
    async fn refuse(&self, event: Event) -> Result<(), PortError> {
        if self.tally.is_repeat(&event) {
            self.count(event);
            return Ok(());
        }
        self.stream.publish(event.clone());
        let kept = self.log.append(vec![event.clone()]).await;
        if kept.is_err() {
            self.tally.count(event);
        }
        kept
    }
}

impl UnderWay {
    /// It turned out whose account it is about.
    pub(super) fn is_about(&mut self, user: UserId) {
        self.subject = Subject::User(user);
    }

    /// Has a store make the change, which keeps by the same commit what came of it.
    pub(super) async fn make<T, Change>(
        mut self,
        change: impl FnOnce(Attempt) -> Change,
    ) -> Result<T, PortError>
    where
        T: Conclusion,
        Change: Future<Output = Result<T, PortError>>,
    {
        let attempt = self.decided();
        let made = change(attempt.clone()).await;
        self.is_open = false;
        match &made {
            Ok(done) => {
                if let Some(event) = done.conclude(attempt) {
                    if done.is_kept() {
                        self.record.stream.publish(event);
                    } else if done.took_work() {
                        self.record.refuse(event).await?;
                    } else {
                        self.record.count(event);
                    }
                }
            }
            Err(_) => self.record.count(attempt.ended(Outcome::Failed)),
        }
        made
    }

    /// Has a store make several changes at once, the first of them about the first of `subjects`, and so on.
    pub(super) async fn make_each<T, Change>(
        mut self,
        subjects: Vec<Subject>,
        change: impl FnOnce(Attempt) -> Change,
    ) -> Result<Vec<T>, PortError>
    where
        T: Conclusion,
        Change: Future<Output = Result<Vec<T>, PortError>>,
    {
        let attempt = self.decided();
        let made = change(attempt.clone()).await;
        self.is_open = false;
        match &made {
            Ok(all) => {
                let concluded = subjects
                    .into_iter()
                    .zip(all)
                    .filter_map(|(subject, done)| done.conclude(Attempt { subject, ..attempt.clone() }));
                concluded.for_each(|event| self.record.stream.publish(event));
            }
            Err(_) => self.record.count(attempt.ended(Outcome::Failed)),
        }
        made
    }

    /// It is going to succeed, and nothing is changed by it. When that cannot be kept, it does not.
    pub(super) async fn grant(mut self) -> Result<(), PortError> {
        let attempt = self.decided();
        let event = attempt.clone().ended(Outcome::Success);
        let kept = self.record.log.append(vec![event.clone()]).await;
        self.is_open = false;
        match &kept {
            Ok(()) => self.record.stream.publish(event),
            Err(_) => self.record.count(attempt.ended(Outcome::Failed)),
        }
        kept
    }

    /// It was refused after work was done for it. When that cannot be kept, whoever made the attempt is not to
    /// learn how it ended.
    pub(super) async fn refuse(mut self, reason: &'static str) -> Result<(), PortError> {
        let event = self.decided().ended(Outcome::Refused(reason));
        self.is_open = false;
        self.record.refuse(event).await
    }

    /// It was refused after work was done for it, and a store counts that. The store keeps the refusal by the same commit,
    /// unless it is a repeat.
    pub(super) async fn refuse_with<T, Change>(
        mut self,
        reason: &'static str,
        count: impl FnOnce(Option<Attempt>) -> Change,
    ) -> Result<T, PortError>
    where
        Change: Future<Output = Result<T, PortError>>,
    {
        let attempt = self.decided();
        let event = attempt.clone().ended(Outcome::Refused(reason));
        let is_repeat = self.record.tally.is_repeat(&event);
        let counted = count((!is_repeat).then(|| attempt.clone())).await;
        self.is_open = false;
        match &counted {
            Ok(_) if is_repeat => self.record.count(event),
            Ok(_) => self.record.stream.publish(event),
            Err(_) => self.record.count(attempt.ended(Outcome::Failed)),
        }
        counted
    }

    /// It ended before much was done for it.
    pub(super) fn fail(mut self, outcome: Outcome) {
        self.end(outcome);
    }

    /// It changed nothing and was refused nothing: there is nothing to record.
    pub(super) fn end_unrecorded(mut self) {
        self.is_open = false;
    }

    fn end(&mut self, outcome: Outcome) {
        self.is_open = false;
        self.record.count(self.decided().ended(outcome));
    }

    fn decided(&self) -> Attempt {
        Attempt {
            action: self.action,
            subject: self.subject.clone(),
            origin: self.origin.clone(),
            at: self.record.clock.now(),
            salt: self.record.entropy.draw(),
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if self.is_open {
            self.end(Outcome::Abandoned);
        }
    }
}
