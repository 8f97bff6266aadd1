//! The work itself: one password, one thread.

use bcrypt::bcrypt;
use domain::ports::Verification;
use domain::{Password, PasswordHash};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::format::{BCRYPT_BYTES, Salt, Scheme, StoredHash};

/// Hashes and verifies at one cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Computation {
    /// The current cost.
    pub(crate) cost: u32,
}

impl Computation {
    pub(crate) fn hash(self, password: &Password, salt: [u8; 16]) -> PasswordHash {
        let password = password.expose();
        let scheme = Scheme::for_password(password);
        let salt = Salt::new(salt);
        let input = scheme.input(password, &salt).unwrap_or_default();
        let digest = digest(&input, self.cost, salt.bytes);
        PasswordHash::new(StoredHash { scheme, cost: self.cost, salt, digest }.to_string())
    }

    /// Verifies with the work of one hash at the current cost, or of the stored hash where that cost more.
    /// Nothing to verify against, and nothing that could match, take the same way through this function.
    pub(crate) fn verify(self, password: &Password, hash: Option<&PasswordHash>) -> Verification {
        let password = password.expose();
        let parsed = hash.map(|hash| StoredHash::parse(hash.as_str()));
        let unreadable = matches!(parsed, Some(None));
        let decoy = parsed.as_ref().is_none_or(Option::is_none);
        let stored = parsed.flatten().unwrap_or_else(|| self.decoy());

        let input = stored.scheme.input(password, &stored.salt);
        let fits = input.is_some();
        let computed = digest(&input.unwrap_or_default(), stored.cost, stored.salt.bytes);
        // 2^c + 2^c + 2^(c+1) + … + 2^(n-1) = 2^n: a cheap old hash takes as long as a current one, or
        // anybody could tell from outside which accounts have not logged in since the cost was raised.
        for cost in stored.cost..self.cost {
            std::hint::black_box(digest(&[], cost, stored.salt.bytes));
        }

        let matches = bool::from(computed.ct_eq(&stored.digest));
        let stale = stored.cost < self.cost || stored.scheme != Scheme::for_password(password);
        match (unreadable, matches && fits && !decoy, stale) {
            (true, ..) => Verification::Unreadable,
            (_, false, _) => Verification::Mismatch,
            (_, true, false) => Verification::Match,
            (_, true, true) => Verification::MatchStale,
        }
    }

    fn decoy(self) -> StoredHash {
        let salt = Salt::new(*b"nobody's salt...");
        StoredHash { scheme: Scheme::Bcrypt, cost: self.cost, salt, digest: [0; 23] }
    }
}

/// Computes a published vector (`crypt_blowfish` 1.3, `U*U`).
pub(crate) fn passes_self_test() -> bool {
    let vector = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
    StoredHash::parse(vector)
        .is_some_and(|stored| digest(b"U*U", stored.cost, stored.salt.bytes) == stored.digest)
}

/// bcrypt over `input` and the NUL that ends it, cut to the 72 bytes that bcrypt reads. That the input fits
/// is [`Scheme::input`]'s affair; the crate's own guards refuse 72 bytes, which are a whole password.
fn digest(input: &[u8], cost: u32, salt: [u8; 16]) -> [u8; 23] {
    let mut key = Zeroizing::new([0_u8; BCRYPT_BYTES]);
    let length = input.len().min(BCRYPT_BYTES);
    key[..length].copy_from_slice(&input[..length]);
    let [digest @ .., _] = bcrypt(cost, salt, &key[..(length + 1).min(BCRYPT_BYTES)]);
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    // Cheap enough to try many; the bounds on configured costs are checked where hashing starts.
    const CHEAP: Computation = Computation { cost: 4 };

    // Made with Python: passlib 1.7.4 and bcrypt 4.0.1.
    const PASSLIB: [(&str, &str); 2] = [
        ("password", "$bcrypt-sha256$v=2,t=2b,r=10$n79VH.0Q2TMWmt3Oqt9uku$yca7zBbWf3IG1yYjoUr1eyvU8/XjHIW"),
        ("short one", "$bcrypt-sha256$v=2,t=2b,r=4$abcdefghijklmnopqrstuO$8/qneQIbCCZG.YxjizAijkSeTModySm"),
    ];

    fn verify(password: &str, hash: &str) -> Verification {
        let hash = PasswordHash::new(hash.to_owned());
        CHEAP.verify(&Password::parse(password).unwrap(), Some(&hash))
    }

    fn hash(password: &str) -> String {
        CHEAP.hash(&Password::parse(password).unwrap(), [7; 16]).as_str().to_owned()
    }

    #[test]
    fn hashes_of_other_programs_verify_and_are_stale() {
        let crab = "😀".repeat(64);
        let long = "x".repeat(73);
        let cases = [
            (
                &*crab,
                "$bcrypt-sha256$v=2,t=2b,r=4$n79VH.0Q2TMWmt3Oqt9uku$IY5Xc.1H1HMIfpSfC8Pgy/WNxp0hVB.",
                Verification::Match,
            ),
            (
                &long,
                "$bcrypt-sha256$v=2,t=2b,r=4$abcdefghijklmnopqrstuO$KSHZjVKriJHPU1eqYEXD8HA6Hq.Q8fS",
                Verification::Match,
            ),
            ("café", "$2b$04$abcdefghijklmnopqrstuOXjepqA3mtnGbHm.2ER7B2EBL3jUYr4a", Verification::Match),
            (
                "café",
                "$2a$04$abcdefghijklmnopqrstuOXjepqA3mtnGbHm.2ER7B2EBL3jUYr4a",
                Verification::MatchStale,
            ),
            (
                "café",
                "$2y$04$abcdefghijklmnopqrstuOXjepqA3mtnGbHm.2ER7B2EBL3jUYr4a",
                Verification::MatchStale,
            ),
            (PASSLIB[0].0, PASSLIB[0].1, Verification::MatchStale),
            (PASSLIB[1].0, PASSLIB[1].1, Verification::MatchStale),
        ];
        for (password, hash, expected) in cases {
            assert_eq!(verify(password, hash), expected, "{hash}");
            assert_eq!(verify("another one", hash), Verification::Mismatch, "{hash}");
        }
    }

    #[test]
    fn around_72_bytes_every_password_is_itself_and_no_other() {
        let python = [
            (70, "$2b$04$abcdefghijklmnopqrstuOZLRtjSRQdromKFszew90LyNgLQPPByy"),
            (71, "$2b$04$abcdefghijklmnopqrstuO79LC6p5B3NdaE82.IiyFVhYreYFBG0m"),
            (72, "$2b$04$abcdefghijklmnopqrstuOimWHTbDXoN4bgLP.DY6j9.IWtcwBKwa"),
        ];
        for (length, hash) in python {
            assert_eq!(verify(&"a".repeat(length), hash), Verification::Match);
        }

        let passwords: Vec<String> = (70..=75)
            .flat_map(|n| [format!("{}b", "a".repeat(n - 1)), format!("{}é", "a".repeat(n - 2))])
            .collect();
        for one in &passwords {
            let hash = hash(one);
            assert_eq!(hash.starts_with("$2b$"), one.len() <= 72);
            for other in &passwords {
                let expected = if one == other { Verification::Match } else { Verification::Mismatch };
                assert_eq!(verify(other, &hash), expected, "{} and {} bytes", one.len(), other.len());
            }
        }
    }

    #[test]
    fn neither_a_72_byte_prefix_nor_a_longer_password_opens_a_plain_bcrypt_hash() {
        let prefix = "a".repeat(72);

        let plain = hash(&prefix);
        let long = hash(&format!("{prefix}tail"));

        assert_eq!(verify(&format!("{prefix}tail"), &plain), Verification::Mismatch);
        assert_eq!(verify(&prefix, &long), Verification::Mismatch);
    }

    #[test]
    fn a_candidate_that_is_empty_or_has_a_nul_never_verifies() {
        // bcrypt itself computes the same for all of these.
        let empty = "$2b$04$abcdefghijklmnopqrstuO";
        let digest = digest(b"", 4, StoredHash::parse(&hash("x")).unwrap().salt.bytes);
        let salt = Salt::new([7; 16]);
        let empty_hash = StoredHash { scheme: Scheme::Bcrypt, cost: 4, salt, digest }.to_string();

        assert_eq!(verify("", empty), Verification::Unreadable);
        assert_eq!(verify("", &empty_hash), Verification::Mismatch);
        assert_eq!(verify("\0", &empty_hash), Verification::Mismatch);
        assert_eq!(verify("café\0café", &hash("café")), Verification::Mismatch);
        assert_eq!(verify("password\0", PASSLIB[0].1), Verification::Mismatch);
    }

    #[test]
    fn an_older_cost_is_stale_and_a_higher_one_is_not() {
        let costly = Computation { cost: 6 }.hash(&Password::parse("café").unwrap(), [1; 16]);
        let cheap = Computation { cost: 4 }.hash(&Password::parse("café").unwrap(), [1; 16]);
        let current = Computation { cost: 5 };

        let verify = |hash| current.verify(&Password::parse("café").unwrap(), Some(hash));

        assert_eq!(verify(&cheap), Verification::MatchStale);
        assert_eq!(verify(&costly), Verification::Match);
    }

    #[test]
    fn without_a_hash_nothing_matches_not_even_what_the_decoy_was_made_of() {
        for password in ["", "\0", "anything", &"a".repeat(100)] {
            let verification = CHEAP.verify(&Password::parse(password).unwrap(), None);
            assert_eq!(verification, Verification::Mismatch);
        }
    }

    #[test]
    fn a_hash_that_nobody_can_read_is_said_to_be_unreadable() {
        for hash in ["", "$2b$", "$argon2id$v=19$", "\u{1f980}"] {
            assert_eq!(verify("anything", hash), Verification::Unreadable);
        }
    }

    #[test]
    fn the_self_test_computes_a_published_vector() {
        assert!(passes_self_test());
    }
}
