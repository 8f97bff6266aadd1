//! What a lane is given to work on.

use std::fmt;

use zeroize::Zeroize;

/// The costs that bcrypt knows.
const COSTS: std::ops::RangeInclusive<u32> = 4..=31;

/// The most bytes of a key that bcrypt reads.
const MAX_KEY_LENGTH: usize = 72;

/// One password to hash. It is wiped when it is dropped.
pub struct Job {
    pub(crate) key: [u32; 18],
    pub(crate) salt: [u32; 4],
    pub(crate) cost: u32,
}

/// Why there is no such job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidJob {
    /// The cost is below 4 or above 31.
    Cost(u32),
    /// The key has no byte, or more than 72.
    KeyLength(usize),
}

impl Job {
    /// A job of 2^`cost` turns, the cost from 4 to 31, over a key of 1 to 72 bytes.
    ///
    /// The key is the raw one: the versions that are in use, `$2a$`, `$2b$` and `$2y$`, end a password by a NUL
    /// and cut what is then longer than 72 bytes. Both are the caller's to do, or to refuse.
    pub fn new(cost: u32, salt: [u8; 16], key: &[u8]) -> Result<Self, InvalidJob> {
        if !COSTS.contains(&cost) {
            return Err(InvalidJob::Cost(cost));
        }
        if key.is_empty() || key.len() > MAX_KEY_LENGTH {
            return Err(InvalidJob::KeyLength(key.len()));
        }
        // The key is repeated until the 18 words are full, and need not end where a word does.
        let mut bytes = key.iter().cycle();
        let mut next_word = || bytes.by_ref().take(4).fold(0, |word, byte| word << 8 | u32::from(*byte));
        let key = std::array::from_fn(|_| next_word());
        let salt = std::array::from_fn(|at| {
            u32::from_be_bytes([salt[4 * at], salt[4 * at + 1], salt[4 * at + 2], salt[4 * at + 3]])
        });
        Ok(Self { key, salt, cost })
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("cost", &self.cost).finish_non_exhaustive()
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

impl fmt::Display for InvalidJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cost(cost) => write!(f, "bcrypt has costs from 4 to 31, not {cost}"),
            Self::KeyLength(length) => write!(f, "bcrypt reads keys of 1 to 72 bytes, not {length}"),
        }
    }
}

impl std::error::Error for InvalidJob {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_and_keys_that_bcrypt_does_not_know_are_no_jobs() {
        let refused = |cost, length| Job::new(cost, [0; 16], &vec![7; length]).err();

        for cost in [0, 3, 32, u32::MAX] {
            assert_eq!(refused(cost, 8), Some(InvalidJob::Cost(cost)));
        }
        for length in [0, 73, 1000] {
            assert_eq!(refused(4, length), Some(InvalidJob::KeyLength(length)));
        }
        for (cost, length) in [(4, 1), (31, 72)] {
            assert_eq!(refused(cost, length), None);
        }
    }

    #[test]
    fn debug_output_shows_neither_key_nor_salt() {
        let job = Job::new(10, [0x77; 16], &[0x55; 8]).unwrap();

        assert_eq!(format!("{job:?}"), "Job { cost: 10, .. }");
    }
}
