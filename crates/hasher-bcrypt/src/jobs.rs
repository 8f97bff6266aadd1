//! What is computed for a password, one bcrypt after the other, and what follows from the digests.
//!
//! A computation does no bcrypt itself: it says which one it needs next and is told the digest, so that an
//! engine may work on several computations at once.

use domain::ports::Verification;
use domain::{NewPassword, Password, PasswordHash, PasswordProblem};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::hash_format::{BCRYPT_BYTES, Salt, Scheme, StoredHash};

/// The digest of one bcrypt, without the byte that no hash keeps.
pub(crate) type Digest = [u8; 23];

/// Something to be computed.
pub(crate) trait Computation: Send + 'static {
    /// What it is computed for.
    type Answer: Send;

    /// How much work it is: the sum of 2^cost over the bcrypts that it will need.
    fn turns(&self) -> u32;

    /// Begins, on the thread that will compute.
    fn begin(&mut self) -> Progress<Self::Answer>;

    /// Goes on with the digest of what it asked for last.
    fn go_on(&mut self, digest: Digest) -> Progress<Self::Answer>;
}

/// How far a computation has come.
pub(crate) enum Progress<T> {
    /// It needs this bcrypt.
    Needs(Bcrypt),
    /// It has its answer.
    Done(T),
}

/// One bcrypt.
pub(crate) struct Bcrypt {
    pub(crate) cost: u32,
    pub(crate) salt: [u8; 16],
    /// 1 to 72 bytes.
    pub(crate) key: Zeroizing<Vec<u8>>,
}

/// Hashes a password.
pub(crate) struct Hash {
    password: Password,
    cost: u32,
    salt: Salt,
}

/// Judges a password that somebody chooses, without any bcrypt.
pub(crate) struct Judge(pub(crate) NewPassword);

/// Verifies with the work of one hash at the current cost, or of the stored hash where that cost more.
/// Nothing to verify against, and nothing that could match, take the same way through it.
pub(crate) struct Verify {
    stored: StoredHash,
    input: Zeroizing<Vec<u8>>,
    /// Whether `input` is the password's, and `stored` a hash that somebody has.
    can_match: bool,
    unreadable: bool,
    stale: bool,
    cost: u32,
    /// Whether the digest matched, once it is there.
    matched: Option<bool>,
    /// The cost of the next decoy.
    next: u32,
}

impl Bcrypt {
    /// bcrypt over `input` and the NUL that ends it, cut to the 72 bytes that bcrypt reads. That the input
    /// fits is [`Scheme::input`]'s affair; the `bcrypt` crate's own guards refuse 72 bytes, which are a whole
    /// password.
    pub(crate) fn new(cost: u32, salt: [u8; 16], input: &[u8]) -> Self {
        let mut key = Zeroizing::new(Vec::with_capacity(BCRYPT_BYTES + 1));
        key.extend_from_slice(&input[..input.len().min(BCRYPT_BYTES)]);
        key.push(0);
        key.truncate(BCRYPT_BYTES);
        Self { cost, salt, key }
    }
}

impl Hash {
    pub(crate) fn new(password: Password, cost: u32, salt: [u8; 16]) -> Self {
        Self { password, cost, salt: Salt::new(salt) }
    }
}

impl Computation for Hash {
    type Answer = PasswordHash;

    fn turns(&self) -> u32 {
        1 << self.cost
    }

    fn begin(&mut self) -> Progress<PasswordHash> {
        let password = self.password.expose();
        let input = Scheme::for_password(password).input(password, &self.salt).unwrap_or_default();
        Progress::Needs(Bcrypt::new(self.cost, self.salt.bytes, &input))
    }

    fn go_on(&mut self, digest: Digest) -> Progress<PasswordHash> {
        let scheme = Scheme::for_password(self.password.expose());
        let stored = StoredHash { scheme, cost: self.cost, salt: self.salt.clone(), digest };
        Progress::Done(PasswordHash::new(stored.to_string()))
    }
}

impl Computation for Judge {
    type Answer = Result<Password, PasswordProblem>;

    fn turns(&self) -> u32 {
        1
    }

    fn begin(&mut self) -> Progress<Self::Answer> {
        Progress::Done(self.0.judge().map(|()| self.0.password().clone()))
    }

    fn go_on(&mut self, _: Digest) -> Progress<Self::Answer> {
        self.begin()
    }
}

impl Verify {
    pub(crate) fn new(password: &Password, hash: Option<&PasswordHash>, cost: u32) -> Self {
        let password = password.expose();
        let parsed = hash.map(|hash| StoredHash::parse(hash.as_str()));
        let unreadable = matches!(parsed, Some(None));
        let somebodys = parsed.as_ref().is_some_and(Option::is_some);
        let stored = parsed.flatten().unwrap_or_else(|| decoy(cost));

        let input = stored.scheme.input(password, &stored.salt);
        let can_match = somebodys && input.is_some();
        let stale = stored.cost < cost || stored.scheme != Scheme::for_password(password);
        let (input, next) = (input.unwrap_or_default(), stored.cost);
        Self { stored, input, can_match, unreadable, stale, cost, matched: None, next }
    }

    fn verification(&self) -> Verification {
        match (self.unreadable, self.can_match && self.matched == Some(true), self.stale) {
            (true, ..) => Verification::Unreadable,
            (_, false, _) => Verification::Mismatch,
            (_, true, false) => Verification::Match,
            (_, true, true) => Verification::MatchStale,
        }
    }
}

impl Computation for Verify {
    type Answer = Verification;

    fn turns(&self) -> u32 {
        1 << self.stored.cost.max(self.cost)
    }

    fn begin(&mut self) -> Progress<Verification> {
        Progress::Needs(Bcrypt::new(self.stored.cost, self.stored.salt.bytes, &self.input))
    }

    fn go_on(&mut self, digest: Digest) -> Progress<Verification> {
        self.matched.get_or_insert_with(|| digest.ct_eq(&self.stored.digest).into());
        // 2^c + 2^c + 2^(c+1) + … + 2^(n-1) = 2^n: a cheap old hash takes as long as a current one, or
        // anybody could tell from outside which accounts have not logged in since the cost was raised.
        if self.next < self.cost {
            let decoy = Bcrypt::new(self.next, self.stored.salt.bytes, &[]);
            self.next += 1;
            return Progress::Needs(decoy);
        }
        Progress::Done(self.verification())
    }
}

fn decoy(cost: u32) -> StoredHash {
    StoredHash { scheme: Scheme::Bcrypt, cost, salt: Salt::new(*b"nobody's salt..."), digest: [0; 23] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::reference;

    // Cheap enough to try many; the bounds on configured costs are checked where hashing starts.
    const CHEAP: u32 = 4;

    fn run<C: Computation>(mut computation: C) -> C::Answer {
        let mut progress = computation.begin();
        loop {
            match progress {
                Progress::Needs(bcrypt) => progress = computation.go_on(reference(&bcrypt)),
                Progress::Done(answer) => return answer,
            }
        }
    }

    fn hash_at(cost: u32, password: &str, salt: [u8; 16]) -> PasswordHash {
        run(Hash::new(Password::parse(password).unwrap(), cost, salt))
    }

    fn verify_at(cost: u32, password: &str, hash: Option<&PasswordHash>) -> Verification {
        run(Verify::new(&Password::parse(password).unwrap(), hash, cost))
    }

    // Made with Python: passlib 1.7.4 and bcrypt 4.0.1.
    const PASSLIB: [(&str, &str); 2] = [
        ("password", "$bcrypt-sha256$v=2,t=2b,r=10$n79VH.0Q2TMWmt3Oqt9uku$yca7zBbWf3IG1yYjoUr1eyvU8/XjHIW"),
        ("short one", "$bcrypt-sha256$v=2,t=2b,r=4$abcdefghijklmnopqrstuO$8/qneQIbCCZG.YxjizAijkSeTModySm"),
    ];

    fn verify(password: &str, hash: &str) -> Verification {
        let hash = PasswordHash::new(hash.to_owned());
        verify_at(CHEAP, password, Some(&hash))
    }

    fn hash(password: &str) -> String {
        hash_at(CHEAP, password, [7; 16]).as_str().to_owned()
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
        let salt = Salt::new([7; 16]);
        let digest = reference(&Bcrypt::new(4, salt.bytes, b""));
        let empty_hash = StoredHash { scheme: Scheme::Bcrypt, cost: 4, salt, digest }.to_string();

        assert_eq!(verify("", empty), Verification::Unreadable);
        assert_eq!(verify("", &empty_hash), Verification::Mismatch);
        assert_eq!(verify("\0", &empty_hash), Verification::Mismatch);
        assert_eq!(verify("café\0café", &hash("café")), Verification::Mismatch);
        assert_eq!(verify("password\0", PASSLIB[0].1), Verification::Mismatch);
    }

    #[test]
    fn an_older_cost_is_stale_and_a_higher_one_is_not() {
        let costly = hash_at(6, "café", [1; 16]);
        let cheap = hash_at(4, "café", [1; 16]);

        assert_eq!(verify_at(5, "café", Some(&cheap)), Verification::MatchStale);
        assert_eq!(verify_at(5, "café", Some(&costly)), Verification::Match);
    }

    #[test]
    fn a_verification_asks_for_the_turns_of_one_hash_at_the_current_cost_whatever_is_stored() {
        let turns = |password: &str, hash: Option<&str>| {
            let hash = hash.map(|hash| PasswordHash::new(hash.to_owned()));
            let mut verify = Verify::new(&Password::parse(password).unwrap(), hash.as_ref(), 8);
            let (mut turns, mut progress) = (0, verify.begin());
            while let Progress::Needs(bcrypt) = progress {
                turns += 1_u32 << bcrypt.cost;
                progress = verify.go_on([0; 23]);
            }
            turns
        };

        let long = "x".repeat(100);
        for password in ["café", "", "\0", &long] {
            for hash in [
                None,
                Some("unreadable"),
                Some(PASSLIB[1].1),
                Some(&*hash("café")),
                Some(hash_at(8, "x", [1; 16]).as_str()),
            ] {
                assert_eq!(turns(password, hash), 256, "{password:.4} and {hash:?}");
            }
        }
    }

    #[test]
    fn without_a_hash_nothing_matches_not_even_what_the_decoy_was_made_of() {
        for password in ["", "\0", "anything", &"a".repeat(100)] {
            assert_eq!(verify_at(CHEAP, password, None), Verification::Mismatch);
        }
    }

    #[test]
    fn a_hash_that_nobody_can_read_is_said_to_be_unreadable() {
        for hash in ["", "$2b$", "$argon2id$v=19$", "\u{1f980}"] {
            assert_eq!(verify("anything", hash), Verification::Unreadable);
        }
    }
}
