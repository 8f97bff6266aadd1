//! Prints how many hashes a second one core makes, for each number of lanes and for the `bcrypt` crate in
//! turn, so that what disturbs the machine disturbs all of them: `pace [COST] [REPETITIONS]`.
#![expect(clippy::print_stdout, reason = "the table is what it is for")]

use std::hint::black_box;
use std::time::Instant;

use bcrypt_lanes::{Job, Lanes, MAX_LANES};

const SALT: [u8; 16] = *b"a grain of salt.";
const KEY: &[u8] = b"correct horse battery staple\0";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u32>());
    let cost = arguments.next().transpose()?.unwrap_or(10);
    let repetitions = arguments.next().transpose()?.unwrap_or(9);

    // The first place is the `bcrypt` crate's, the n-th after it that of n lanes.
    let mut paces = vec![Vec::new(); 1 + MAX_LANES];
    for _ in 0..repetitions {
        for (lanes, paces) in paces.iter_mut().enumerate() {
            paces.push(if lanes == 0 { pace_of_reference(cost) } else { pace_of_lanes(lanes, cost)? });
        }
    }

    let medians: Vec<f64> = paces.into_iter().map(median).collect();
    println!("cost {cost}, one core, median of {repetitions}");
    for (lanes, median) in medians.iter().enumerate() {
        let who = if lanes == 0 { "bcrypt crate".to_owned() } else { format!("lanes: {lanes}") };
        println!("{who:<12} {median:8.1} hashes/s {:6.2} ×", median / medians[0]);
    }
    Ok(())
}

fn pace_of_reference(cost: u32) -> f64 {
    pace(1, || _ = black_box(bcrypt::bcrypt(cost, SALT, KEY)))
}

fn pace_of_lanes(lanes: usize, cost: u32) -> Result<f64, Box<dyn std::error::Error>> {
    let mut jobs = (0..lanes).map(|_| Job::new(cost, SALT, KEY)).collect::<Result<Vec<_>, _>>()?;
    let mut lanes = Lanes::new(lanes)?;
    Ok(pace(jobs.len(), || lanes.run(|| Some(((), jobs.pop()?)), |(), digest| _ = black_box(digest))))
}

fn pace(hashes: usize, work: impl FnOnce()) -> f64 {
    #[expect(clippy::disallowed_methods, reason = "a stopwatch for a person to read")]
    let begun = Instant::now();
    work();
    f64::from(u8::try_from(hashes).unwrap_or(u8::MAX)) / begun.elapsed().as_secs_f64()
}

fn median(mut paces: Vec<f64>) -> f64 {
    paces.sort_by(f64::total_cmp);
    paces.get(paces.len() / 2).copied().unwrap_or(f64::NAN)
}
