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
//! them spent waiting for the level-1 cache. The step has only about fourteen instructions, and a present-day
//! core could do six in every cycle. Three quarters of it stand idle, and no cleverness inside of one
//! computation helps, because each step needs the one before.
//!
//! Another password does not need it. Where the instructions of two computations lie side by side, the core
//! does the second one's in the gaps of the first; with five or six the gaps are full. Nothing has to be
//! found in the operating system or in other cores for that: it is one thread, and ordinary code.
//! Attackers' tools have worked so for years.
//!
//! So all lanes lie in one array, and the round is written over all of them before the next round begins. The
//! number of lanes is a constant to the compiler: there is an inner loop for each number from 1 to
//! [`MAX_LANES`]. Where lanes come and go, the busy ones are moved together and the loop for their number is
//! taken, so that a lone password runs as fast as it can, and a lane that finishes gets the next password
//! while its neighbours go on. What ends the gain is the width of the core, then the registers, then the
//! level-1 cache: a lane is 4.2 KiB.
//!
//! # Figures
//!
//! On one core of a shared AMD EPYC (Zen 4, 2.6 GHz nominal, two virtual cores), rustc 1.95, default
//! target, hashes per second at cost 10: FIGURES
//!
//! `cargo run --release --package bcrypt-lanes --example pace` measures it on yours.
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
mod known_answers;
mod lanes;
mod pi;
mod schedule;

use zeroize::Zeroizing;

pub use job::{InvalidJob, Job};
pub use known_answers::passes_self_test;
pub use lanes::{DEFAULT_LANES, InvalidLanes, Lanes, MAX_LANES};

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
