//! Attempts that one counter decides about stand in line, and only the first of them asks the store: of three hundred
//! who come at once, two hundred and ninety-nine would keep it from everybody else, and learn nothing by it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use event_listener::{Event, EventListener};
use futures_channel::oneshot;

use crate::Counter;

/// The lines there are.
#[derive(Clone, Default)]
pub(super) struct Lines(Arc<Mutex<HashMap<Counter, Line>>>);

/// Those behind the first, and what the first hears of.
#[derive(Default)]
struct Line {
    behind: VecDeque<oneshot::Sender<()>>,
    decided: Arc<Event>,
}

/// A place in a line. Whoever leaves it lets the next one in front.
pub(super) struct InLine {
    counter: Counter,
    /// Gone once it is one's turn.
    turn: Option<oneshot::Receiver<()>>,
    decided: Arc<Event>,
    lines: Lines,
}

impl Lines {
    pub(super) fn enter(&self, counter: Counter) -> InLine {
        let mut lines = self.lock();
        let (line, turn) = match lines.get_mut(&counter) {
            Some(line) => {
                let (call, turn) = oneshot::channel();
                line.behind.push_back(call);
                (line, Some(turn))
            }
            None => (lines.entry(counter).or_default(), None),
        };
        InLine { counter, turn, decided: line.decided.clone(), lines: self.clone() }
    }

    /// Tells the first in line, if there is one, that something was decided.
    pub(super) fn tell(&self, counter: Counter) {
        if let Some(line) = self.lock().get(&counter) {
            line.decided.notify(1);
        }
    }

    /// Nothing that holds this lock can leave a line half changed, so a poisoned one is as good.
    fn lock(&self) -> MutexGuard<'_, HashMap<Counter, Line>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl InLine {
    /// Whether nobody is before it.
    pub(super) fn is_first(&self) -> bool {
        self.turn.is_none()
    }

    /// Resolves when nobody is before it any more.
    pub(super) async fn come_first(&mut self) {
        if let Some(turn) = &mut self.turn {
            // Whoever is before it calls before they are gone.
            _ = turn.await;
            self.turn = None;
        }
    }

    /// Resolves when something was decided. Counts from the call on.
    pub(super) fn decided(&self) -> EventListener {
        self.decided.listen()
    }
}

impl Drop for InLine {
    fn drop(&mut self) {
        let mut lines = self.lines.lock();
        if let Some(turn) = &mut self.turn {
            turn.close();
            // Called, and gone before they heard of it: they were the first.
            if !matches!(turn.try_recv(), Ok(Some(()))) {
                return;
            }
        }
        let Some(line) = lines.get_mut(&self.counter) else { return };
        while let Some(next) = line.behind.pop_front() {
            if next.send(()).is_ok() {
                return;
            }
        }
        lines.remove(&self.counter);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::{CountedName, Whence};

    fn counter(name: u8) -> Counter {
        Counter { name: CountedName([name; 16]), whence: Whence::Elsewhere, is_somebodys: true }
    }

    #[test]
    fn who_came_first_goes_first_and_those_who_left_are_passed_over() {
        let lines = Lines::default();
        let [first, mut second, third, mut fourth] = [(); 4].map(|()| lines.enter(counter(1)));
        assert!(first.is_first() && !second.is_first());
        assert!(lines.enter(counter(2)).is_first());
        drop(third);
        assert!(second.come_first().now_or_never().is_none());

        drop(first);

        assert!(second.come_first().now_or_never().is_some());
        assert!(fourth.come_first().now_or_never().is_none());
        drop(second);
        assert!(fourth.come_first().now_or_never().is_some());
        drop(fourth);
        assert_eq!(lines.0.lock().unwrap().len(), 0);
    }

    #[test]
    fn one_who_leaves_before_they_hear_of_their_turn_lets_the_next_one_go() {
        let lines = Lines::default();
        let [first, second, mut third] = [(); 3].map(|()| lines.enter(counter(1)));

        drop(first);
        drop(second);

        assert!(third.come_first().now_or_never().is_some());
    }

    #[test]
    fn what_was_decided_is_heard_of_in_its_line_alone() {
        let lines = Lines::default();
        let [one, other] = [1, 2].map(|name| lines.enter(counter(name)));
        let (mine, theirs) = (one.decided(), other.decided());

        lines.tell(counter(1));
        lines.tell(counter(3));

        assert!(mine.now_or_never().is_some());
        assert!(theirs.now_or_never().is_none());
    }
}
