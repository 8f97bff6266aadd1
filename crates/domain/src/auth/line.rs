//! Attempts that one counter decides about stand in line, and only the first of them asks the store: of three hundred
//! who come at once, two hundred and ninety-nine would keep it from everybody else, and learn nothing by it.
//! When the first is refused, so are those behind it: the same counter tells the same to all of them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use event_listener::{Event, EventListener};
use futures_channel::oneshot;
use parking_lot::Mutex;

use super::Throttled;
use crate::Counter;

/// The lines there are.
#[derive(Clone, Default)]
pub(super) struct Lines(Arc<Mutex<HashMap<Counter, Line>>>);

/// Those behind the first, and what the first hears of.
#[derive(Default)]
struct Line {
    behind: VecDeque<oneshot::Sender<Call>>,
    decided: Arc<Event>,
}

/// What one behind hears from the first: that it is their turn, or what the first was told.
type Call = Result<(), Throttled>;

/// A place in a line. Whoever leaves it lets the next one in front.
pub(super) struct InLine {
    counter: Counter,
    place: Place,
    decided: Arc<Event>,
    lines: Lines,
}

enum Place {
    First,
    Behind(oneshot::Receiver<Call>),
    /// No more, since it was refused.
    None,
}

impl Lines {
    pub(super) fn enter(&self, counter: Counter) -> InLine {
        let mut lines = self.0.lock();
        let (line, place) = match lines.get_mut(&counter) {
            Some(line) => {
                let (caller, call) = oneshot::channel();
                line.behind.push_back(caller);
                (line, Place::Behind(call))
            }
            None => (lines.entry(counter).or_default(), Place::First),
        };
        InLine { counter, place, decided: line.decided.clone(), lines: self.clone() }
    }

    /// Tells the first in line, if there is one, that something was decided.
    pub(super) fn tell(&self, counter: Counter) {
        if let Some(line) = self.0.lock().get(&counter) {
            line.decided.notify(1);
        }
    }
}

impl InLine {
    pub(super) fn counter(&self) -> Counter {
        self.counter
    }

    /// Whether nobody is before it.
    pub(super) fn is_first(&self) -> bool {
        matches!(self.place, Place::First)
    }

    /// Resolves when nobody is before it any more, or when the first was refused.
    pub(super) async fn come_first(&mut self) -> Result<(), Throttled> {
        if let Place::Behind(call) = &mut self.place {
            // Whoever is before it calls before they are gone.
            let call = call.await.unwrap_or(Ok(()));
            self.place = if call.is_ok() { Place::First } else { Place::None };
            return call;
        }
        Ok(())
    }

    /// Tells all who are behind the first what it was told. Who comes later has to ask.
    pub(super) fn refuse_others(&self, throttled: Throttled) {
        if let Some(line) = self.lines.0.lock().get_mut(&self.counter) {
            for other in line.behind.drain(..) {
                _ = other.send(Err(throttled));
            }
        }
    }

    /// Resolves when something was decided. Counts from the call on.
    pub(super) fn decided(&self) -> EventListener {
        self.decided.listen()
    }
}

impl Drop for InLine {
    fn drop(&mut self) {
        let mut lines = self.lines.0.lock();
        match &mut self.place {
            Place::First => {}
            Place::None => return,
            Place::Behind(call) => {
                call.close();
                // Called, and gone before they heard of it: they were the first.
                if !matches!(call.try_recv(), Ok(Some(Ok(())))) {
                    return;
                }
            }
        }
        let Some(line) = lines.get_mut(&self.counter) else { return };
        while let Some(next) = line.behind.pop_front() {
            if next.send(Ok(())).is_ok() {
                return;
            }
        }
        lines.remove(&self.counter);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;

    use super::*;
    use crate::{CountedName, Whence};

    fn counter(name: u8) -> Counter {
        Counter { name: CountedName([name; 16]), whence: Whence::Elsewhere, owner: None }
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
        assert_eq!(lines.0.lock().len(), 0);
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
    fn those_behind_one_who_is_refused_hear_it_at_once_and_who_comes_later_does_not() {
        let throttled = Throttled { retry_after: Duration::from_secs(8) };
        let lines = Lines::default();
        let [first, mut second, third, mut fourth] = [(); 4].map(|()| lines.enter(counter(1)));
        let mut elsewhere = [(); 2].map(|()| lines.enter(counter(2)));

        first.refuse_others(throttled);
        let mut later = lines.enter(counter(1));

        drop(third);
        assert_eq!(second.come_first().now_or_never(), Some(Err(throttled)));
        assert_eq!(fourth.come_first().now_or_never(), Some(Err(throttled)));
        assert!(elsewhere[1].come_first().now_or_never().is_none());
        // They are out of the line, in which one is left behind the first.
        drop((second, fourth));
        assert!(later.come_first().now_or_never().is_none());
        drop(first);
        assert_eq!(later.come_first().now_or_never(), Some(Ok(())));
        drop((later, elsewhere));
        assert_eq!(lines.0.lock().len(), 0);
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
