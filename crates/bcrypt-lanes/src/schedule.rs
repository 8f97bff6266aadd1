//! Blowfish's key schedule, made costly the way bcrypt does it, over several lanes in step.
#![expect(clippy::inline_always, reason = "one call left in the inner loop costs more than the loop")]

use zeroize::Zeroize;

use crate::{Job, pi};

const SUBKEYS: usize = 18;

/// Where each box begins among the words.
const BOXES: [usize; 4] = [SUBKEYS, SUBKEYS + 256, SUBKEYS + 2 * 256, SUBKEYS + 3 * 256];

/// What is encrypted in the end.
const MAGIC: [[[u8; 4]; 2]; 3] = [[*b"Orph", *b"eanB"], [*b"ehol", *b"derS"], [*b"cryD", *b"oubt"]];

/// What one lane works on.
///
/// The subkeys and the boxes lie in one array, in the order in which they are replaced. So there is one inner
/// loop to compile and not five, and the 18 + 4 × 256 words of a lane take the least of the level-1 cache.
#[derive(Clone, Copy)]
pub(crate) struct Schedule {
    words: [u32; pi::DIGITS.len()],
    /// What is mixed into the subkeys, turn about: the key, and the salt.
    inputs: [[u32; SUBKEYS]; 2],
}

impl Schedule {
    pub(crate) const BLANK: Self = Self { words: [0; pi::DIGITS.len()], inputs: [[0; SUBKEYS]; 2] };

    /// Takes a job in and does the one expansion that is salted throughout.
    pub(crate) fn begin(&mut self, job: &Job) {
        self.words = pi::DIGITS;
        self.inputs = [job.key, std::array::from_fn(|at| job.salt[at % job.salt.len()])];
        let lane = std::array::from_mut(self);
        mix_in(lane, 0);
        replace_words(lane, |lane, pair| {
            let at = pair % 2 * 2;
            [lane.inputs[1][at], lane.inputs[1][at + 1]]
        });
    }

    /// What the finished schedule makes of the magic text.
    pub(crate) fn digest(&self) -> [u8; 24] {
        let mut digest = [0; 24];
        for (block, [left, right]) in digest.as_chunks_mut::<8>().0.iter_mut().zip(MAGIC) {
            let mut left = [u32::from_be_bytes(left)];
            let mut right = [u32::from_be_bytes(right)];
            for _ in 0..64 {
                encipher(std::array::from_ref(self), &mut left, &mut right);
            }
            block[..4].copy_from_slice(&left[0].to_be_bytes());
            block[4..].copy_from_slice(&right[0].to_be_bytes());
        }
        digest
    }

    #[cfg(test)]
    pub(crate) fn is_blank(&self) -> bool {
        self.words.iter().chain(self.inputs.as_flattened()).all(|word| *word == 0)
    }
}

impl Zeroize for Schedule {
    fn zeroize(&mut self) {
        self.words.zeroize();
        self.inputs.zeroize();
    }
}

/// Takes `lanes`, of which there are at most [`MAX_LANES`](crate::MAX_LANES), that many turns further. A turn
/// is one expansion by the key and one by the salt; a job of cost `c` takes 2^c of them.
pub(crate) fn turn(lanes: &mut [Schedule], turns: u32) {
    match lanes.len() {
        1 => turn_in_step::<1>(lanes, turns),
        2 => turn_in_step::<2>(lanes, turns),
        3 => turn_in_step::<3>(lanes, turns),
        4 => turn_in_step::<4>(lanes, turns),
        5 => turn_in_step::<5>(lanes, turns),
        6 => turn_in_step::<6>(lanes, turns),
        7 => turn_in_step::<7>(lanes, turns),
        _ => turn_in_step::<8>(lanes, turns),
    }
}

// The number of lanes is part of the type, so that the compiler lays the lanes' instructions side by side, with
// what each lane is at in registers and every offset a constant. Not inlined, so that one loop is compiled here,
// with this crate's optimisation, and none where it is called from.
#[inline(never)]
fn turn_in_step<const N: usize>(lanes: &mut [Schedule], turns: u32) {
    let Some(lanes) = lanes.first_chunk_mut::<N>() else { return };
    for _ in 0..turns {
        for input in 0..2 {
            mix_in(lanes, input);
            replace_words(lanes, |_, _| [0, 0]);
        }
    }
}

#[inline(always)]
fn mix_in<const N: usize>(lanes: &mut [Schedule; N], input: usize) {
    for lane in lanes {
        for at in 0..SUBKEYS {
            lane.words[at] ^= lane.inputs[input][at];
        }
    }
}

/// Replaces every pair of words by the encryption of the pair before it, under the words as they are by then.
#[inline(always)]
fn replace_words<const N: usize>(
    lanes: &mut [Schedule; N],
    salt_of_pair: impl Fn(&Schedule, usize) -> [u32; 2],
) {
    let mut left = [0; N];
    let mut right = [0; N];
    for pair in 0..pi::DIGITS.len() / 2 {
        for n in 0..N {
            let salt = salt_of_pair(&lanes[n], pair);
            left[n] ^= salt[0];
            right[n] ^= salt[1];
        }
        encipher(lanes, &mut left, &mut right);
        for n in 0..N {
            lanes[n].words[2 * pair] = left[n];
            lanes[n].words[2 * pair + 1] = right[n];
        }
    }
}

// Written out, not looped over: the compiler keeps a loop as one, and at six lanes it costs a sixth of the pace.
#[inline(always)]
fn encipher<const N: usize>(lanes: &[Schedule; N], left: &mut [u32; N], right: &mut [u32; N]) {
    two_rounds::<N, 0>(lanes, left, right);
    two_rounds::<N, 2>(lanes, left, right);
    two_rounds::<N, 4>(lanes, left, right);
    two_rounds::<N, 6>(lanes, left, right);
    two_rounds::<N, 8>(lanes, left, right);
    two_rounds::<N, 10>(lanes, left, right);
    two_rounds::<N, 12>(lanes, left, right);
    two_rounds::<N, 14>(lanes, left, right);
    for n in 0..N {
        let last = left[n] ^ lanes[n].words[16];
        left[n] = right[n] ^ lanes[n].words[17];
        right[n] = last;
    }
}

// Each round goes over all lanes before the next one begins. A core looks a few hundred instructions ahead:
// whole encryptions after one another would put the next lane out of its sight.
#[inline(always)]
fn two_rounds<const N: usize, const SUBKEY: usize>(
    lanes: &[Schedule; N],
    left: &mut [u32; N],
    right: &mut [u32; N],
) {
    for n in 0..N {
        left[n] ^= lanes[n].words[SUBKEY];
        right[n] ^= substitute(&lanes[n].words, left[n]);
    }
    for n in 0..N {
        right[n] ^= lanes[n].words[SUBKEY + 1];
        left[n] ^= substitute(&lanes[n].words, right[n]);
    }
}

/// Looks each byte of a half up in its box.
#[inline(always)]
fn substitute(words: &[u32; pi::DIGITS.len()], half: u32) -> u32 {
    // An index of one byte spares the bounds check. `to_be_bytes` would say it shorter, but puts a byte swap
    // on the path that everything waits for; and where a closure does the four look-ups, a build for AVX-512
    // (`target-cpu=native`) gathers them over all lanes, at a third of the pace.
    let mut sum = words[BOXES[0] + (half >> 24) as usize];
    sum = sum.wrapping_add(words[BOXES[1] + (half >> 16 & 0xff) as usize]);
    sum ^= words[BOXES[2] + (half >> 8 & 0xff) as usize];
    sum.wrapping_add(words[BOXES[3] + (half & 0xff) as usize])
}
