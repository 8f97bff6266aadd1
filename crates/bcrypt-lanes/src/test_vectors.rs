//! Answers that others have published, to hold our own against.

use crate::{Job, Lanes};

/// Made by `pyca/bcrypt` (its tests), and by `crypt_blowfish` 1.3 where the cost is 5. As many as there can be
/// lanes, so that each has one of its own; the two costs make lanes fall free beside others that go on.
const VECTORS: [(&[u8], &str); 8] = [
    (b"Kk4DQuMMfZL9o", "$2b$04$cVWp4XaNU8a4v1uMRum2SO026BWLIoQMD/TXg5uZV.0P.uO8m3YEm"),
    (b"U*U", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"),
    (b"9IeRXmnGxMYbs", "$2b$04$pQ7gRO7e6wx/936oXhNjrOUNOHL1D0h1N2IDbJZYs.1ppzSof6SPy"),
    (b"", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.7uG0VCzI2bS7j6ymqJi9CdcdxiRTWNy"),
    (b"xVQVbwa1S0M8r", "$2b$04$SQe9knOzepOVKoYXo9xTteNYr6MBwVz4tpriJVe3PNgYufGIsgKcW"),
    (b"Zfgr26LWd22Za", "$2b$04$eH8zX.q5Q.j2hO1NkVYJQOM6KxntS/ow3.YzVmFrE4t//CoF4fvne"),
    (&[0xaa; 72], "$2a$05$/OK.fbVrR/bpIqNJ5ianF.swQOIzjOiJ9GHEPuhEkvqrUyvWhEMx6"),
    (b"\xa3", "$2a$05$/OK.fbVrR/bpIqNJ5ianF.Sa7shbm4.OzKpvFnX1pQLmQW96oUlCq"),
];

/// Whether sets of 1 to `lanes` lanes compute what they should; false, too, where there is no such set.
///
/// Meant for the start of a program, which it holds up for some hundredths of a second: what miscomputes
/// locks everybody out, or in.
pub fn passes_self_test(lanes: usize) -> bool {
    // Each size has an inner loop of its own, and a set of that size is the way to it.
    lanes > 0
        && (1..=lanes).all(|size| Lanes::new(size).is_ok_and(|set| answers_agree(set, &VECTORS[..size])))
}

fn answers_agree(mut lanes: Lanes<[u8; 23]>, vectors: &[(&[u8], &str)]) -> bool {
    let mut waiting = vectors.iter().map_while(|(password, hash)| read(password, hash));
    let mut right = 0;
    lanes.run(|| waiting.next(), |published, [digest @ .., _]| right += usize::from(digest == published));
    right == vectors.len()
}

fn read(password: &[u8], hash: &str) -> Option<([u8; 23], Job)> {
    let cost = hash.get(4..6)?.parse().ok()?;
    let salt = decode(hash.get(7..29)?)?;
    let digest = decode(hash.get(29..)?)?;
    let mut key = [password, &[0]].concat();
    key.truncate(72);
    Some((digest, Job::new(cost, salt, &key).ok()?))
}

/// bcrypt's base64: an alphabet of its own, no padding, and spare bits at the end that carry nothing.
fn decode<const BYTES: usize>(text: &str) -> Option<[u8; BYTES]> {
    const ALPHABET: &[u8; 64] = b"./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut bytes = Vec::with_capacity(BYTES);
    let (mut bits, mut held) = (0_u32, 0);
    for character in text.bytes() {
        let value = ALPHABET.iter().position(|other| *other == character)?;
        bits = bits << 6 | u32::try_from(value).ok()?;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held).to_le_bytes()[0]);
        }
    }
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_lanes_gives_the_published_answers() {
        assert!(passes_self_test(8));
    }

    #[test]
    fn a_set_that_there_is_not_passes_no_test() {
        assert!(!passes_self_test(0));
        assert!(!passes_self_test(9));
    }

    #[test]
    fn one_wrong_answer_fails_all() {
        let mut vectors = VECTORS;
        vectors[3].0 = b"not empty";

        assert!(!answers_agree(Lanes::new(8).unwrap(), &vectors));
    }

    #[test]
    fn a_vector_that_cannot_be_read_fails_all() {
        for unreadable in ["", "$2a$05$CCCC", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOe!"]
        {
            assert!(!answers_agree(Lanes::new(2).unwrap(), &[VECTORS[0], (b"U*U", unreadable)]));
        }
    }

    // Of `crypt_blowfish` 1.3, and jBCrypt's where the cost is 6.
    #[test]
    fn further_published_vectors_come_out_right() {
        let vectors: [(&[u8], &str); 7] = [
            (&[0xaa, 0x55].repeat(36), "$2a$05$/OK.fbVrR/bpIqNJ5ianF.R9xrDjiycxMbQE2bp.vgqlYpW5wx2yy"),
            (b"U*U*", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.VGOzA784oUp/Z0DY336zx7pLYAy0lwK"),
            (b"U*U*U", "$2a$05$XXXXXXXXXXXXXXXXXXXXXOAcXxm9kjPGEMsLznoKqmqw7tc8WCx4a"),
            (
                b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789chars after 72 are ignored",
                "$2a$05$abcdefghijklmnopqrstuu5s2v8.iXieOjg/.AySBTTZIIVFJeBui",
            ),
            (b"\xff\xa334\xff\xff\xff\xa3345", "$2y$05$/OK.fbVrR/bpIqNJ5ianF.o./n25XVfn6oAPaUvHe.Csk4zRfsYPi"),
            (b"", "$2a$06$DCq7YPn5Rq63x1Lad4cll.TV4S6ytwfsfvkgY8jIucDrjc8deX1s."),
            (b"a", "$2a$06$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe"),
        ];
        for vector in vectors {
            assert!(answers_agree(Lanes::new(1).unwrap(), &[vector]), "{}", vector.1);
        }
    }
}
