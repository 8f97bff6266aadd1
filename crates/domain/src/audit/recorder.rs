//! Records what was attempted: each attempt becomes one event of the audit log, however it ends.

use std::sync::Arc;

use futures_channel::oneshot;

use super::aggregator::AuditAggregator;
use crate::ports::{AuditLog, AuditStream, Clock, Entropy, Finisher, PortError};
use crate::{Action, Attempt, Conclusion, Event, Origin, Outcome, Subject, UserId};

/// Writes audit events. Clones share it.
#[derive(Clone)]
pub(crate) struct AuditRecorder {
    log: Arc<dyn AuditLog>,
    stream: Arc<dyn AuditStream>,
    aggregator: AuditAggregator,
    finisher: Arc<dyn Finisher>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

/// An attempt that is under way. It is told of once, however it ends; when whoever made it goes away before it is
/// decided, that is how it ended.
///
/// What changed something is kept, event by event, before it is answered. A refusal that took work is kept likewise, but
/// repeats of it are counted, and so is what took no work: no client can fill the disk by what it repeats.
pub(crate) struct PendingAuditEvent {
    action: Action,
    subject: Subject,
    origin: Origin,
    is_open: bool,
    record: AuditRecorder,
}

impl AuditRecorder {
    pub(crate) fn new(
        log: Arc<dyn AuditLog>,
        stream: Arc<dyn AuditStream>,
        finisher: Arc<dyn Finisher>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        Self { log, stream, aggregator: AuditAggregator::default(), finisher, clock, entropy }
    }

    pub(crate) fn begin(&self, action: Action, subject: Subject, origin: Origin) -> PendingAuditEvent {
        PendingAuditEvent { action, subject, origin, is_open: true, record: self.clone() }
    }

    /// Does `work` to its end, although its caller may go away. A change is made in here together with its event, or there
    /// would be changes that nobody finds in the audit log.
    pub(crate) async fn finish<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, PortError> {
        let (answer, answered) = oneshot::channel();
        self.finisher.finish(Box::pin(async move {
            // The caller may be gone.
            let _ = answer.send(work.await);
        }));
        answered.await.map_err(|canceled| PortError::Failed(Box::new(canceled)))
    }

    /// Writes the counted events. What cannot be written is counted on.
    pub(crate) async fn flush(&self) -> Result<(), PortError> {
        let events = self.aggregator.take();
        if events.is_empty() {
            return Ok(());
        }
        let kept = self.log.append(events.clone()).await;
        if kept.is_err() {
            for event in events {
                self.aggregator.count(event);
            }
        }
        kept
    }

    fn count(&self, event: Event) {
        self.stream.publish(event.clone());
        self.aggregator.count(event);
    }

    /// Keeps a refusal that took work: the first of its kind at once, and repeats together with what is counted.
    async fn refuse(&self, event: Event) -> Result<(), PortError> {
        if self.aggregator.is_repeat(&event) {
            self.count(event);
            return Ok(());
        }
        self.stream.publish(event.clone());
        let kept = self.log.append(vec![event.clone()]).await;
        if kept.is_err() {
            self.aggregator.count(event);
        }
        kept
    }
}

impl PendingAuditEvent {
    /// It turned out whose account it is about.
    pub(crate) fn is_about(&mut self, user: UserId) {
        self.subject = Subject::User(user);
    }

    /// Has a store make the change, which keeps by the same commit what came of it.
    pub(crate) async fn commit_with<T, Change>(
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
    pub(crate) async fn commit_each_with<T, Change>(
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
    pub(crate) async fn record_success(mut self) -> Result<(), PortError> {
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
    pub(crate) async fn refuse(mut self, reason: &'static str) -> Result<(), PortError> {
        let event = self.decided().ended(Outcome::Refused(reason));
        self.is_open = false;
        self.record.refuse(event).await
    }

    /// It was refused after work was done for it, and a store counts that. The store keeps the refusal by the same commit,
    /// unless it is a repeat.
    pub(crate) async fn refuse_with<T, Change>(
        mut self,
        reason: &'static str,
        count: impl FnOnce(Option<Attempt>) -> Change,
    ) -> Result<T, PortError>
    where
        Change: Future<Output = Result<T, PortError>>,
    {
        let attempt = self.decided();
        let event = attempt.clone().ended(Outcome::Refused(reason));
        let is_repeat = self.record.aggregator.is_repeat(&event);
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
    pub(crate) fn fail(mut self, outcome: Outcome) {
        self.end(outcome);
    }

    /// It changed nothing and was refused nothing: there is nothing to record.
    pub(crate) fn end_unrecorded(mut self) {
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

impl Drop for PendingAuditEvent {
    fn drop(&mut self) {
        if self.is_open {
            self.end(Outcome::Abandoned);
        }
    }
}
