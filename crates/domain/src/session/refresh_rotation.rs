//! What a refresh token is good for, decided from the state of its session alone.
//!
//! At each refresh the current refresh token is exchanged for one of the next generation. A token that was
//! exchanged before may come from a second tab, from a client that never got its answer, or from a thief;
//! [`Lineage::present`] tells these apart. It is pure, so that every store decides the same, and so that all that
//! can happen is tried out below.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::Generation;

/// The most rotations of one burst that are remembered. Tabs do not make so many, and what is forgotten is
/// refused.
pub const MOST_SUPERSEDED: usize = 64;

/// How often in a day an answer may have been lost, as far as anybody can tell.
pub const MOST_RECOVERIES: usize = 3;

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// Which refresh tokens of a session are good for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage {
    /// The newest generation, and the only one that can be exchanged.
    pub generation: Generation,
    /// When the generations before the newest one were exchanged, as far back as the burst of rotations began
    /// that the newest one belongs to. Oldest first, at most [`MOST_SUPERSEDED`].
    pub superseded: Vec<Timestamp>,
    /// Whether an access token of the newest generation has been shown: the answer that carried it arrived.
    pub seen: bool,
    /// The last times that an answer was taken for lost, at most [`MOST_RECOVERIES`].
    pub recoveries: Vec<Timestamp>,
}

/// What becomes of a refresh token that was shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is exchanged for one of the next generation; this is the state after that.
    Rotate(Lineage),
    /// Another tab was faster: whoever shows it gets the newest one, and nothing changes.
    Concurrent,
    /// The answer to the last exchange was lost: whoever shows it gets the newest one. The state after that.
    Recover(Lineage),
    /// Somebody has it who should not. The session ends.
    End(Misuse),
}

/// Why a refresh token that was shown ends its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misuse {
    /// It was exchanged, and the one after it, and that is longer ago than tabs differ.
    LongSuperseded,
    /// It was exchanged, and what it was exchanged for has been used.
    SuccessorSeen,
    /// More answers were lost in a day than can be believed.
    RecoveriesUsedUp,
    /// No such token was ever handed out. The store has lost what it knew.
    NeverIssued,
}

impl Lineage {
    /// That of a session which was just opened.
    pub fn new() -> Self {
        Self { generation: Generation::FIRST, superseded: Vec::new(), seen: false, recoveries: Vec::new() }
    }

    /// Decides about a genuine refresh token of this generation, shown now.
    pub fn present(&self, generation: Generation, now: Timestamp, grace: Duration) -> Decision {
        let Some(steps) = generation.behind(self.generation) else {
            return Decision::End(Misuse::NeverIssued);
        };
        if steps == 0 {
            return Decision::Rotate(self.rotated(now, grace));
        }
        let exchanged = self.superseded.len().checked_sub(steps).map(|index| self.superseded[index]);
        if exchanged.is_some_and(|then| is_within(grace, then, now)) {
            return Decision::Concurrent;
        }
        if steps > 1 {
            return Decision::End(Misuse::LongSuperseded);
        }
        if self.seen {
            return Decision::End(Misuse::SuccessorSeen);
        }
        match self.recovered(now) {
            Some(recovered) => Decision::Recover(recovered),
            None => Decision::End(Misuse::RecoveriesUsedUp),
        }
    }

    fn rotated(&self, now: Timestamp, grace: Duration) -> Self {
        // The times stand for generations by their places, so one that is over takes the older ones with it.
        let over = self.superseded.iter().rposition(|then| !is_within(grace, *then, now));
        let burst = &self.superseded[over.map_or(0, |last| last + 1)..];
        let mut superseded = burst[burst.len().saturating_sub(MOST_SUPERSEDED - 1)..].to_vec();
        superseded.push(now);
        Self {
            generation: self.generation.next(),
            superseded,
            seen: false,
            recoveries: self.recoveries.clone(),
        }
    }

    fn recovered(&self, now: Timestamp) -> Option<Self> {
        // Not by the distance: when the clock is set back, what was used up stays so.
        let today = |then: &&Timestamp| now.duration_since(**then) < DAY;
        let mut recoveries: Vec<Timestamp> = self.recoveries.iter().filter(today).copied().collect();
        if recoveries.len() >= MOST_RECOVERIES {
            return None;
        }
        recoveries.push(now);
        // The exchange counts as made now: a second tab may have waited as long, and shows the same token.
        Some(Self { superseded: vec![now], recoveries, ..self.clone() })
    }
}

impl Default for Lineage {
    fn default() -> Self {
        Self::new()
    }
}

impl Misuse {
    /// Its name in a log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LongSuperseded => "reuse_long_superseded",
            Self::SuccessorSeen => "reuse_successor_seen",
            Self::RecoveriesUsedUp => "reuse_recoveries_used_up",
            Self::NeverIssued => "reuse_never_issued",
        }
    }
}

/// The distance, whichever is later: the clocks of several servers differ by a little.
fn is_within(grace: Duration, then: Timestamp, now: Timestamp) -> bool {
    now.duration_since(then).unsigned_abs() < grace
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    const GRACE: Duration = Duration::from_secs(10);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn generation(number: i64) -> Generation {
        Generation::new(number).unwrap()
    }

    fn present(lineage: &Lineage, number: i64, second: i64) -> Decision {
        lineage.present(generation(number), at(second), GRACE)
    }

    /// The state after a decision; none when the session has ended.
    fn after(lineage: &Lineage, decision: Decision) -> Option<Lineage> {
        match decision {
            Decision::Rotate(next) | Decision::Recover(next) => Some(next),
            Decision::Concurrent => Some(lineage.clone()),
            Decision::End(_) => None,
        }
    }

    /// The state after the current token was shown at each of these seconds.
    fn rotated_at(seconds: &[i64]) -> Lineage {
        seconds.iter().fold(Lineage::new(), |lineage, second| {
            let decision = lineage.present(lineage.generation, at(*second), GRACE);
            after(&lineage, decision).unwrap()
        })
    }

    /// All that ever happened to a session, and the rules read off it.
    #[derive(Clone, Default)]
    struct History {
        /// When each generation was exchanged, or its exchange repeated; the newest was not.
        exchanged: BTreeMap<i64, i64>,
        seen: BTreeSet<i64>,
        recoveries: Vec<i64>,
    }

    #[derive(Debug, PartialEq, Eq)]
    enum Verdict {
        Rotate,
        Concurrent,
        Recover,
        End,
    }

    impl History {
        fn newest(&self) -> i64 {
            self.exchanged.last_key_value().map_or(1, |(number, _)| number + 1)
        }

        fn present(&mut self, number: i64, now: i64) -> Verdict {
            let newest = self.newest();
            if number == newest {
                self.exchanged.insert(number, now);
                return Verdict::Rotate;
            }
            if self.exchanged.get(&number).is_some_and(|then| (now - then).abs() < 10) {
                return Verdict::Concurrent;
            }
            let today = self.recoveries.iter().filter(|then| now - **then < 86_400).count();
            if number == newest - 1 && !self.seen.contains(&newest) && today < 3 {
                self.recoveries.push(now);
                self.exchanged.insert(number, now);
                return Verdict::Recover;
            }
            Verdict::End
        }
    }

    fn verdict(decision: &Decision) -> Verdict {
        match decision {
            Decision::Rotate(_) => Verdict::Rotate,
            Decision::Concurrent => Verdict::Concurrent,
            Decision::Recover(_) => Verdict::Recover,
            Decision::End(_) => Verdict::End,
        }
    }

    #[test]
    fn every_row_of_events_is_decided_as_its_whole_history_says() {
        fn explore(lineage: &Lineage, history: &History, now: i64, depth: usize, ends: &mut usize) {
            if depth == 0 {
                return;
            }
            for back in 0..=3.min(history.newest() - 1) {
                let mut history = history.clone();
                let number = history.newest() - back;
                let decision = present(lineage, number, now);
                let expected = history.present(number, now);
                assert_eq!(verdict(&decision), expected, "{lineage:?}, {back} back at {now}");
                match after(lineage, decision) {
                    Some(next) => explore(&next, &history, now, depth - 1, ends),
                    None => *ends += 1,
                }
            }
            if !lineage.seen {
                let mut history = history.clone();
                history.seen.insert(history.newest());
                explore(&Lineage { seen: true, ..lineage.clone() }, &history, now, depth - 1, ends);
            }
            for seconds in [4, 10, 86_390] {
                explore(lineage, history, now + seconds, depth - 1, ends);
            }
        }

        let mut ends = 0;
        explore(&Lineage::new(), &History::default(), 0, 8, &mut ends);

        assert!(ends > 1000, "{ends}");
    }

    #[test]
    fn one_generation_can_be_exchanged_and_no_other() {
        for seconds in [&[][..], &[0], &[0, 0, 0], &[0, 4, 8, 12], &[0, 100, 200], &[100, 0, 50]] {
            let lineage = rotated_at(seconds);
            for second in [-50, 0, 5, 12, 200] {
                let newest = lineage.generation.number();
                for number in 1..=newest + 2 {
                    let rotates = matches!(present(&lineage, number, second), Decision::Rotate(_));
                    assert_eq!(rotates, number == newest, "{seconds:?}: {number} at {second}");
                }
            }
        }
    }

    /// A browser whose tabs share one stored token, and a network that takes its time and loses answers.
    #[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
    struct Browser {
        now: i64,
        generation: i64,
        superseded: Vec<Timestamp>,
        seen: bool,
        recoveries: Vec<Timestamp>,
        stored: i64,
        tabs: [Tab; 2],
        /// The tabs whose answers are under way, in the order in which they were given. They arrive in it: an
        /// answer that came after a later one would put an older token in its place.
        answers: Vec<usize>,
    }

    #[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
    enum Tab {
        Idle,
        /// A token was read from where it is stored, and sent.
        Asking(i64),
        /// The server has answered with this one.
        Answered(i64),
    }

    impl Browser {
        fn lineage(&self) -> Lineage {
            Lineage {
                generation: generation(self.generation),
                superseded: self.superseded.clone(),
                seen: self.seen,
                recoveries: self.recoveries.clone(),
            }
        }

        /// All that can happen next. Fails when an honest tab is logged out.
        fn steps(&self) -> Vec<Self> {
            let mut steps = Vec::new();
            let mut step = |change: &dyn Fn(&mut Self)| {
                let mut next = self.clone();
                change(&mut next);
                steps.push(next);
            };
            for (index, tab) in self.tabs.iter().enumerate() {
                match tab {
                    Tab::Idle => step(&|next| next.tabs[index] = Tab::Asking(next.stored)),
                    Tab::Asking(number) => step(&|next| {
                        let lineage = next.lineage();
                        let decision = present(&lineage, *number, next.now);
                        let lineage = after(&lineage, decision.clone()).unwrap_or_else(|| {
                            panic!("logged out by {decision:?} of {number} at {}: {lineage:?}", next.now)
                        });
                        next.generation = lineage.generation.number();
                        (next.superseded, next.seen) = (lineage.superseded, lineage.seen);
                        next.recoveries = lineage.recoveries;
                        next.tabs[index] = Tab::Answered(next.generation);
                        next.answers.push(index);
                    }),
                    Tab::Answered(number) if self.answers.first() == Some(&index) => {
                        let is_newest = *number == self.generation;
                        // It arrives, and its access token is used or not; or it is lost.
                        for (arrives, used) in [(true, true), (true, false), (false, false)] {
                            step(&|next| {
                                next.tabs[index] = Tab::Idle;
                                next.answers.remove(0);
                                next.stored = if arrives { *number } else { next.stored };
                                next.seen |= used && is_newest;
                            });
                        }
                    }
                    Tab::Answered(_) => {}
                }
            }
            // A request and its answer together take less than the grace; between them may lie hours.
            let under_way = self.tabs.iter().any(|tab| *tab != Tab::Idle);
            if !under_way {
                step(&|next| next.now += 3600);
            } else if self.now % 3600 < 9 {
                step(&|next| next.now += 3);
            }
            steps
        }
    }

    #[test]
    fn tabs_that_share_a_token_are_never_logged_out_however_their_requests_fall() {
        let idle = [Tab::Idle, Tab::Idle];
        let mut frontier = BTreeSet::from([Browser {
            now: 0,
            generation: 1,
            superseded: Vec::new(),
            seen: false,
            recoveries: Vec::new(),
            stored: 1,
            tabs: idle,
            answers: Vec::new(),
        }]);
        let (mut two_behind, mut recovered) = (false, false);

        for _ in 0..14 {
            frontier = frontier.iter().flat_map(Browser::steps).collect();
            for world in &frontier {
                recovered |= !world.recoveries.is_empty();
                let asks = |tab: &Tab| matches!(tab, Tab::Asking(number) if number + 2 <= world.generation);
                two_behind |= world.tabs.iter().any(asks);
            }
        }

        assert!(two_behind && recovered, "{two_behind} {recovered}: the interesting cases were not reached");
    }

    #[test]
    fn a_thief_outside_the_grace_is_found_at_the_next_refresh_or_within_the_budget() {
        /// Who shows theirs next, and whether they use what they get, in every order. Both begin with one token.
        fn explore(lineage: &Lineage, held: [i64; 2], second: i64, stale: usize, depth: usize) {
            assert!(stale <= MOST_RECOVERIES, "{lineage:?}: not found");
            if depth == 0 {
                return;
            }
            for who in 0..2 {
                let is_stale = held[who] < lineage.generation.number();
                let decision = present(lineage, held[who], second);
                if is_stale && lineage.seen {
                    assert!(matches!(decision, Decision::End(_)), "{decision:?} of {held:?}: {lineage:?}");
                }
                let Some(next) = after(lineage, decision) else { continue };
                let mut held = held;
                held[who] = next.generation.number();
                for seen in [true, false] {
                    let next = Lineage { seen: next.seen || seen, ..next.clone() };
                    explore(&next, held, second + 10, stale + usize::from(is_stale), depth - 1);
                }
            }
        }

        explore(&Lineage::new(), [1, 1], 0, 0, 10);
    }

    #[test]
    fn a_thief_inside_the_grace_gets_the_token_that_everybody_has() {
        let lineage = rotated_at(&[0]);

        assert_eq!(present(&lineage, 1, 9), Decision::Concurrent);
        assert_eq!(present(&Lineage { seen: true, ..lineage }, 1, 9), Decision::Concurrent);
    }

    #[test]
    fn what_ends_a_session_has_a_name() {
        let once = rotated_at(&[0]);
        let lost = rotated_at(&[0, 20]);
        let used_up = Lineage { recoveries: vec![at(30); 3], ..once.clone() };

        assert_eq!(present(&once, 3, 0), Decision::End(Misuse::NeverIssued));
        assert_eq!(present(&lost, 1, 40), Decision::End(Misuse::LongSuperseded));
        assert_eq!(present(&Lineage { seen: true, ..once }, 1, 40), Decision::End(Misuse::SuccessorSeen));
        assert_eq!(present(&used_up, 1, 40), Decision::End(Misuse::RecoveriesUsedUp));
    }

    #[test]
    fn five_rotations_within_one_second_are_told_apart_once_the_grace_is_over() {
        let mut lineage = Lineage::new();
        for tenth in 0..5_u32 {
            let now = at(0) + Duration::from_millis(100) * tenth;
            lineage = after(&lineage, lineage.present(lineage.generation, now, GRACE)).unwrap();
        }

        for number in 1..=5_u32 {
            let exchanged = at(0) + Duration::from_millis(100) * (number - 1);
            let shown = |later| {
                lineage.present(
                    generation(number.into()),
                    exchanged + GRACE + later - Duration::from_micros(1),
                    GRACE,
                )
            };
            assert_eq!(shown(Duration::ZERO), Decision::Concurrent, "{number}");
            assert_ne!(shown(Duration::from_micros(1)), Decision::Concurrent, "{number}");
        }
    }

    #[test]
    fn a_clock_that_is_set_back_forgives_no_more_than_the_grace() {
        let lineage = Lineage { seen: true, ..rotated_at(&[0, 100, 200]) };

        for second in [189, 150, 100, 0, -1_000_000] {
            assert!(matches!(present(&lineage, 3, second), Decision::End(_)), "{second}");
        }
        assert_eq!(present(&lineage, 3, 191), Decision::Concurrent);
        // These were exchanged at about that time, but long before the newest was.
        assert_eq!(present(&lineage, 1, 0), Decision::End(Misuse::LongSuperseded));
        assert_eq!(present(&lineage, 2, 100), Decision::End(Misuse::LongSuperseded));

        let used_up = Lineage { recoveries: vec![at(300); 3], ..rotated_at(&[0]) };
        assert_eq!(present(&used_up, 1, 300 - 86_400), Decision::End(Misuse::RecoveriesUsedUp));
    }

    #[test]
    fn of_a_burst_that_no_tabs_make_the_newest_are_remembered() {
        let lineage = rotated_at(&[0; 100]);
        let oldest = 101 - i64::try_from(MOST_SUPERSEDED).unwrap();

        assert_eq!(lineage.superseded.len(), MOST_SUPERSEDED);
        assert_eq!(present(&lineage, oldest, 1), Decision::Concurrent);
        assert_eq!(present(&lineage, oldest - 1, 1), Decision::End(Misuse::LongSuperseded));
    }

    #[test]
    fn recoveries_are_counted_by_the_day() {
        let mut lineage = rotated_at(&[0]);
        let mut recovered = BTreeMap::new();
        for hour in [1, 2, 3, 4, 25, 26, 27, 28] {
            let decision = present(&lineage, 1, hour * 3600);
            recovered.insert(hour, matches!(decision, Decision::Recover(_)));
            lineage = after(&lineage, decision).unwrap_or(lineage);
        }

        let refused: Vec<_> =
            recovered.iter().filter(|(_, recovered)| !**recovered).map(|(hour, _)| *hour).collect();
        assert_eq!(refused, [4, 28]);
    }
}
