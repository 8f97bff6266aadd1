//! What the server is measured against, so that a figure outlives the machine it was taken on.

use std::hint::black_box;
use std::panic::resume_unwind;
use std::thread;
use std::time::Duration;

use rustix::process::setpriority_process;
use rustix::thread::gettid;

use crate::Result;
use crate::ambient::now;
use crate::callers::PASSWORD;

/// That of the server's hashing threads.
const NICENESS: i32 = 10;

const SALT: [u8; 16] = *b"a grain of salt.";

/// How many hashes a second the `bcrypt` crate makes, one after the other on each of these threads.
///
/// Each is timed from its first hash to the end of its last, so that no part of a hash is counted or lost. It
/// gives way to others as the server's hashing threads do; otherwise whatever else runs on the machine would
/// take from the one and not from the other.
pub(crate) fn bcrypt_per_second(threads: usize, cost: u32, length: Duration) -> f64 {
    let work = || {
        // Where the system does not allow it, the server's threads could not either.
        _ = setpriority_process(Some(gettid()), NICENESS);
        let begun = now();
        let mut hashes = 0.0;
        while begun.elapsed() < length {
            black_box(bcrypt::bcrypt(cost, SALT, black_box(PASSWORD.as_bytes())));
            hashes += 1.0;
        }
        hashes / begun.elapsed().as_secs_f64()
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic))).sum()
    })
}

/// What the server's store keeps of [`PASSWORD`], made by the `bcrypt` crate.
pub(crate) fn hash(cost: u32) -> Result<String> {
    Ok(bcrypt::hash_with_salt(PASSWORD, cost, SALT)?.format_for_version(bcrypt::Version::TwoB))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_of_everybodys_password_at_its_cost() {
        let hash = hash(4).unwrap();

        assert!(hash.starts_with("$2b$04$"), "{hash}");
        assert!(bcrypt::verify(PASSWORD, &hash).unwrap());
    }
}
