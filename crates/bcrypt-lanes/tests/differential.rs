//! Every digest is the one that the `bcrypt` crate computes, whoever worked beside it.

use std::collections::VecDeque;

use bcrypt_lanes::{Job, Lanes, MAX_LANES, bcrypt};
use proptest::prelude::*;

#[derive(Clone, Debug)]
struct Given {
    cost: u32,
    salt: [u8; 16],
    key: Vec<u8>,
    /// How often there is nothing yet when a lane asks for this one.
    late: u32,
}

impl Given {
    fn expected(&self) -> [u8; 24] {
        ::bcrypt::bcrypt(self.cost, self.salt, &self.key)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn one_alone_is_as_the_reference_computes_it(given in given()) {
        prop_assert_eq!(bcrypt(given.cost, given.salt, &given.key), Ok(given.expected()));
    }

    #[test]
    fn neighbours_and_order_of_arrival_change_no_digest(
        lanes in 1..=MAX_LANES,
        all in prop::collection::vec(given(), 0..14),
    ) {
        let mut waiting: VecDeque<_> = all.iter().enumerate().map(|(tag, given)| (tag, given.late)).collect();
        let mut digests = vec![None; all.len()];
        let mut lanes = Lanes::new(lanes).unwrap();

        let mut next = || {
            let (tag, late) = waiting.front_mut()?;
            if *late > 0 {
                *late -= 1;
                return None;
            }
            let given = &all[*tag];
            let job = Job::new(given.cost, given.salt, &given.key).unwrap();
            waiting.pop_front().map(|(tag, _)| (tag, job))
        };
        // A step with nothing to do is no end here: the next one is only late.
        let most_steps = all.iter().map(|given| given.late + (1 << given.cost)).sum();
        for _ in 0..=most_steps {
            lanes.step(&mut next, |tag, digest| assert_eq!(digests[tag].replace(digest), None));
        }

        let expected: Vec<_> = all.iter().map(|given| Some(given.expected())).collect();
        prop_assert_eq!(digests, expected);
    }
}

fn given() -> impl Strategy<Value = Given> {
    (4_u32..=7, any::<[u8; 16]>(), key(), 0_u32..6).prop_map(|(cost, salt, key, late)| Given {
        cost,
        salt,
        key,
        late,
    })
}

// Passwords as the versions in use end them, and raw keys, in which a NUL is a byte like others.
fn key() -> impl Strategy<Value = Vec<u8>> {
    let password = prop::collection::vec(1_u8.., 0..=72).prop_map(|mut password| {
        password.push(0);
        password.truncate(72);
        password
    });
    let raw = prop::collection::vec(prop_oneof![any::<u8>(), Just(0), Just(0xff)], 1..=72);
    prop_oneof![password, raw]
}
