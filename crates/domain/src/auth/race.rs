//! Sign-ups of one name that are under way at once.
//!
//! The store decides who gets the name. This only spares the others the wait for a hash that can be of no
//! use any more: of fifty who want one name, forty-nine would keep the hasher from everybody else.

use std::collections::HashMap;
use std::sync::Arc;

use event_listener::{Event, EventListener};
use parking_lot::Mutex;

use crate::UsernameKey;

/// The races that are on.
#[derive(Clone, Default)]
pub(super) struct Races(Arc<Mutex<ByName>>);

/// How many are in the race for a name, and what they hear of its end.
type ByName = HashMap<UsernameKey, (usize, Arc<Event>)>;

/// One sign-up's part in the race for a name. The race is over when the last one has left it.
pub(super) struct Race {
    won: Arc<Event>,
    name: UsernameKey,
    races: Races,
}

impl Races {
    pub(super) fn enter(&self, name: &UsernameKey) -> Race {
        let mut races = self.0.lock();
        let (count, won) = races.entry(name.clone()).or_default();
        *count += 1;
        Race { won: won.clone(), name: name.clone(), races: self.clone() }
    }
}

impl Race {
    /// Resolves when a rival has got the name. Counts from the call on.
    pub(super) fn lost(&self) -> EventListener {
        self.won.listen()
    }

    /// Tells the rivals that the name is gone.
    pub(super) fn win(self) {
        self.won.notify(usize::MAX);
    }
}

impl Drop for Race {
    fn drop(&mut self) {
        let mut races = self.races.0.lock();
        if let Some((count, _)) = races.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                races.remove(&self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::testing::username;

    #[test]
    fn a_race_is_heard_of_by_those_in_it_and_by_no_other() {
        let races = Races::default();
        let [ann, rival, eve] = ["ann", "ANN", "eve"].map(|name| races.enter(username(name).key()));
        let (rival_lost, eve_lost) = (rival.lost(), eve.lost());

        ann.win();

        assert!(rival_lost.now_or_never().is_some());
        assert!(eve_lost.now_or_never().is_none());
    }

    #[test]
    fn nothing_is_left_of_a_race_that_everybody_has_left() {
        let races = Races::default();
        let [one, other] = ["ann", "ann"].map(|name| races.enter(username(name).key()));

        drop(one);
        assert_eq!(races.0.lock().len(), 1);
        other.win();
        assert_eq!(races.0.lock().len(), 0);
    }
}
