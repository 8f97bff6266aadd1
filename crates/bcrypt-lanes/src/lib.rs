//! bcrypt over several passwords at once on one core.
//!
//! This crate promises the digests that every bcrypt computes, several times as many of them in a second
//! where there are several passwords to work on, and a lone one no later than elsewhere. It refuses to know
//! what a password is, how a hash is written as text, and that there are threads.
//!
//! Start reading at [`Lanes`], then in `schedule.rs`. For a single hash there is [`bcrypt`].
//!
//! ```
//! use bcrypt_lanes::{DEFAULT_LANES, Job, Lanes};
//!
//! let mut lanes = Lanes::new(DEFAULT_LANES)?;
//! let mut waiting = vec![
//!     ("ann", Job::new(4, *b"a salt of ann's.", b"correct horse\0")?),
//!     ("bob", Job::new(6, *b"a salt of bob's.", b"battery staple\0")?),
//! ];
//! lanes.run(|| waiting.pop(), |name, digest| println!("{name}: {digest:x?}"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Why one at a time leaves a core idle
//!
//! bcrypt is Blowfish's key schedule, done over and over. Its inner step takes one half of a block, looks its
//! four bytes up in four tables, adds and xors what it finds, and mixes that into the other half. The next
//! step looks up by *that* half, so it cannot begin before this one has ended: some twelve cycles, most of
//! them spent waiting for the level-1 cache. The step has only about fifteen instructions, and a present-day
//! core could do six in every cycle. Most of it stands idle, and no cleverness inside of one computation
//! helps, because each step needs the one before.
//!
//! Another password does not need it. Where the instructions of two computations lie side by side, the core
//! does the second one's in the gaps of the first; with five or six the gaps are full. That takes no second
//! thread and no vector instructions, only ordinary code in another order. Attackers' tools have worked so
//! for years.
//!
//! So all lanes lie in one array, and the round is written over all of them before the next round begins. The
//! number of lanes is a constant to the compiler: there is an inner loop for each number from 1 to
//! [`MAX_LANES`]. Where lanes come and go, the busy ones are moved together and the loop for their number is
//! taken, so that a lone password runs as fast as it can, and a lane that finishes gets the next password
//! while its neighbours go on, whatever the costs. What ends the gain is the width of the core, then its
//! registers, then its level-1 cache: a lane is 4.2 KiB.
//!
//! # Figures
//!
//! Hashes per second at cost 10, on one core of a shared AMD EPYC (Zen 4) with two virtual cores, rustc 1.95,
//! default target. Measured in quiet minutes: medians of seven passes over all rows, in two runs that differed
//! by less than 2 %.
//!
//! | | hashes/s | ÷ `bcrypt` crate | one hash takes |
//! |---|---|---|---|
//! | `bcrypt` crate 0.19 | 17.0 | 1 | 59 ms |
//! | 1 lane | 18.1 | 1.07 | 55 ms |
//! | 2 lanes | 34.2 | 2.02 | 58 ms |
//! | 3 lanes | 45.5 | 2.69 | 66 ms |
//! | 4 lanes | 54.3 | 3.21 | 74 ms |
//! | 5 lanes | 59.4 | 3.51 | 84 ms |
//! | **6 lanes** | **63.0** | **3.72** | **95 ms** |
//! | 7 lanes | 61.8 | 3.65 | 113 ms |
//! | 8 lanes | 60.7 | 3.59 | 132 ms |
//!
//! Where others keep the machine busy the gain is smaller, 2.4 to 3.2 at five or six lanes: what they take of
//! a shared core is just the part that one hash at a time would have left idle.
//! `cargo run --release --package bcrypt-lanes --example throughput` measures it on your machine; how it is built
//! matters, because all depends on what the compiler makes of one loop.
//!
//! # What it guards, and what it cannot
//!
//! Keys and schedules are wiped when a lane falls free and when they are dropped. Copies in registers, and
//! what the compiler spills of them to the stack, are out of reach.
//!
//! bcrypt looks tables up by bytes that come from the password, so how long it takes depends, in the
//! nanoseconds of a cache miss, on secrets. That is bcrypt itself, here as anywhere; nothing is added to it:
//! no branch depends on a key or a state. That a job takes longer beside neighbours tells how busy the thread
//! is, and nothing of what they work on.

mod job;
mod lanes;
mod pi;
mod schedule;
mod test_vectors;

use zeroize::Zeroizing;

pub use job::{InvalidJob, Job};
pub use lanes::{DEFAULT_LANES, InvalidLanes, Lanes, MAX_LANES};
pub use test_vectors::passes_self_test;

/// One digest, with nobody beside it. The arguments are those of [`Job::new`].
///
/// The 24th byte is part of what is computed; the text of a hash leaves it out.
pub fn bcrypt(cost: u32, salt: [u8; 16], key: &[u8]) -> Result<[u8; 24], InvalidJob> {
    let job = Job::new(cost, salt, key)?;
    let mut schedule = Zeroizing::new(schedule::Schedule::BLANK);
    schedule.begin(&job);
    schedule::turn(std::array::from_mut(&mut *schedule), 1 << job.cost);
    Ok(schedule.digest())
}
