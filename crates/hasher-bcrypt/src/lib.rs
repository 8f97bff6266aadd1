//! The `Hasher` port on bcrypt.
//!
//! Promises that every verification costs the same whether or not there is a hash to verify against, that no
//! password is ever truncated, and that a storm is refused at the door as far as it could not be answered in time,
//! from those networks first that send the most. Refuses to know whose password it is and what follows from the
//! answer.
//!
//! Start reading at [`BcryptHasher`]. `format` reads and writes stored hashes, `computation` says which bcrypts
//! a password needs, `engine` computes them, `pool` has the threads, and `queue` decides who waits before them.

mod engine;
mod fair_queue;
mod hash_format;
mod jobs;
mod worker_pool;

use std::io;
use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domain::ports::{
    Clock, Entropy, Hasher, HasherError, NewHash, PortError, Requester, UnusableHash, Verification,
};
use domain::{Distribution, NewPassword, Password, PasswordHash, PasswordProblem, SitePrefix};
use thiserror::Error;

pub use crate::engine::Engine;
use crate::fair_queue::Limits;
use crate::hash_format::StoredHash;
use crate::jobs::{Bcrypt, Hash, Judge, Verify};
use crate::worker_pool::{Pool, Refused};
pub use bcrypt_lanes::{DEFAULT_LANES, MAX_LANES};

/// The lowest cost that hashes are made with (OWASP Password Storage Cheat Sheet).
pub const MIN_COST: u32 = 10;

/// The highest cost that hashes are made with or verified at. Four seconds of work for each login would
/// serve an attacker more than anybody else.
pub const MAX_COST: u32 = 16;

/// The niceness of what gives way to all others.
const LOWEST_PRIORITY: i32 = 19;

/// How much more than the threads that hash those that judge give way to others.
const JUDGE_NICENESS: i32 = 10;

/// What it is taken to take to judge a password before that has been measured.
const FIRST_JUDGEMENT: Duration = Duration::from_millis(2);

/// How to hash.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The base-2 logarithm of bcrypt's rounds, [`MIN_COST`] to [`MAX_COST`].
    pub cost: u32,
    /// What computes.
    pub engine: Engine,
    /// How many threads hash. More than there are cores only take them from each other.
    pub workers: usize,
    /// How many clients' passwords may wait, and as much bulk work beside them.
    pub queue: usize,
    /// How long a client is kept waiting for an answer at most.
    pub deadline: Duration,
    /// How much the threads give way to others on the machine, from 0 to 19.
    pub niceness: i32,
    /// Which IPv6 networks take their turns together.
    pub site_prefix: SitePrefix,
}

/// What there is to hash, and what became of what there was.
#[derive(Clone, Debug)]
pub struct Load {
    /// How many passwords wait for a thread.
    pub waiting: usize,
    /// How many threads hash.
    pub workers: usize,
    /// How many of them have nothing to do.
    pub idle: usize,
    /// How long passwords waited that a thread has begun with.
    pub waited: Distribution,
    /// How many were refused as they came.
    pub turned_away: u64,
    /// How many were refused after they had waited.
    pub given_up: u64,
}

/// Why hashing cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// Something else than [`MIN_COST`] to [`MAX_COST`].
    #[error("bcrypt's cost must be {MIN_COST} to {MAX_COST}")]
    CostOutOfRange,
    /// Nobody would hash, or nobody could wait.
    #[error("hashing needs at least one worker, a queue of at least one, and 1 to {MAX_LANES} lanes")]
    NoRoom,
    /// Nobody could ever be answered.
    #[error(
        "a hash of cost {cost} takes {} ms on this machine and the deadline is {} ms, so nobody could log in; raise \
         the deadline or lower the cost", takes.as_millis(), deadline.as_millis()
    )]
    DeadlineTooShort {
        /// The cost of hashes.
        cost: u32,
        /// How long one takes alone.
        takes: Duration,
        /// How long anybody would wait for it.
        deadline: Duration,
    },
    /// A published test vector came out wrong.
    #[error("bcrypt does not compute what it should on this machine")]
    SelfTest,
    /// The system gives no thread.
    #[error("a hashing thread could not be started")]
    Thread(#[source] io::Error),
}

/// Hashes on threads of its own. Dropping it finishes what was begun.
pub struct BcryptHasher {
    hashers: Pool,
    /// Judges what people choose, which takes milliseconds and no bcrypt: on a thread that hashes, a stream of bad
    /// choices would hold up the lanes. It has a thread for each core, so that one slow choice holds up no other.
    judge: Pool,
    cost: u32,
    entropy: Arc<dyn Entropy>,
}

impl BcryptHasher {
    /// Starts the threads, after a self-test.
    pub fn start(
        settings: Settings,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, StartError> {
        let Settings { cost, engine, workers, queue, deadline, niceness, site_prefix } = settings;
        if !(MIN_COST..=MAX_COST).contains(&cost) {
            return Err(StartError::CostOutOfRange);
        }
        let has_lanes = match engine {
            Engine::Lanes(lanes) => (1..=MAX_LANES).contains(&lanes),
            Engine::Reference => true,
        };
        if workers == 0 || queue == 0 || !has_lanes {
            return Err(StartError::NoRoom);
        }
        if !passes_self_test(engine) {
            return Err(StartError::SelfTest);
        }
        let takes = engine.with_lanes(1).first_pace(&*clock) * (1 << cost);
        if takes > deadline {
            return Err(StartError::DeadlineTooShort { cost, takes, deadline });
        }
        // Side by side each takes longer; twice as long must still be in time, for whoever waits for such a set.
        let turn = engine.first_pace(&*clock);
        let takes = turn * (1 << cost) * 2;
        let lanes = deadline.as_nanos() * 9 / 10 / takes.as_nanos().max(1);
        let engine = engine.with_lanes(usize::try_from(lanes).unwrap_or(usize::MAX).max(1));

        let limits = Limits { capacity: queue, workers, lanes: engine.lanes(), deadline, site_prefix };
        let hashers = Pool::start("hasher", engine, limits, turn, niceness, clock.clone());
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let limits = Limits { workers: cores, lanes: 1, ..limits };
        let niceness = (niceness + JUDGE_NICENESS).min(LOWEST_PRIORITY);
        let judge = Pool::start("judge", Engine::Reference, limits, FIRST_JUDGEMENT, niceness, clock);
        let (hashers, judge) = (hashers.map_err(StartError::Thread)?, judge.map_err(StartError::Thread)?);
        Ok(Self { hashers, judge, cost, entropy })
    }

    /// Has other IPv6 networks take their turns together, for passwords that come from now on.
    pub fn set_site_prefix(&self, site_prefix: SitePrefix) {
        self.hashers.set_site_prefix(site_prefix);
        self.judge.set_site_prefix(site_prefix);
    }

    /// How busy it is, those among the refused whose passwords were still to be judged.
    pub fn load(&self) -> Load {
        let (hashing, judging) = (self.hashers.load(), self.judge.load());
        Load {
            turned_away: hashing.turned_away + judging.turned_away,
            given_up: hashing.given_up + judging.given_up,
            ..hashing
        }
    }

    async fn hash_by(
        &self,
        due: Duration,
        password: Password,
        requester: Requester,
    ) -> Result<PasswordHash, HasherError> {
        let hash = Hash::new(password, self.cost, self.entropy.draw());
        Ok(self.hashers.run(requester, due, hash).await?)
    }
}

impl From<Refused> for HasherError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Overloaded { retry_after } => Self::Overloaded { retry_after },
            Refused::Broken => Self::Port(PortError::Failed("a hashing thread gave up its work".into())),
        }
    }
}

#[async_trait]
impl Hasher for BcryptHasher {
    async fn hash_new(&self, password: NewPassword, requester: Requester) -> Result<NewHash, HasherError> {
        let due = self.hashers.due();
        match self.judge.run(requester, due, Judge(password)).await? {
            Ok(password) => Ok(NewHash::Done(self.hash_by(due, password, requester).await?)),
            Err(problem) => Ok(NewHash::Refused(problem)),
        }
    }

    async fn judge(
        &self,
        password: NewPassword,
        requester: Requester,
    ) -> Result<Option<PasswordProblem>, HasherError> {
        Ok(self.judge.run(requester, self.judge.due(), Judge(password)).await?.err())
    }

    async fn hash(&self, password: Password) -> Result<PasswordHash, HasherError> {
        let secret = password.expose();
        if secret.is_empty() || secret.contains('\0') {
            let broken = "an empty password, or one with a NUL, was to be hashed";
            return Err(HasherError::Port(PortError::Failed(broken.into())));
        }
        self.hash_by(self.hashers.due(), password, Requester::Bulk).await
    }

    async fn verify(
        &self,
        password: Password,
        hash: Option<PasswordHash>,
        requester: Requester,
    ) -> Result<Verification, HasherError> {
        let verify = Verify::new(&password, hash.as_ref(), self.cost);
        Ok(self.hashers.run(requester, self.hashers.due(), verify).await?)
    }

    fn inspect(&self, hash: &PasswordHash) -> Result<(), UnusableHash> {
        StoredHash::inspect(hash.as_str()).map(|_| ())
    }

    fn may_be_truncated(&self, hash: &PasswordHash) -> bool {
        // Other programs cut a password at 72 bytes before bcrypt, or leave its Unicode decomposed with either scheme.
        StoredHash::parse(hash.as_str()).is_some()
    }
}

/// Computes a published vector (`crypt_blowfish` 1.3, `U*U`), and with lanes those of their crate.
fn passes_self_test(engine: Engine) -> bool {
    let vector = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
    let computes_it = |stored: StoredHash| {
        engine::reference(&Bcrypt::new(stored.cost, stored.salt.bytes, b"U*U")) == stored.digest
    };
    match engine {
        Engine::Reference => StoredHash::parse(vector).is_some_and(computes_it),
        Engine::Lanes(lanes) => bcrypt_lanes::passes_self_test(lanes),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU8, Ordering};

    use domain::ClientNetwork;
    use futures_util::FutureExt;
    use futures_util::future::join_all;

    use super::*;

    struct FixedClock;

    impl Clock for FixedClock {
        fn now(&self) -> jiff::Timestamp {
            jiff::Timestamp::UNIX_EPOCH
        }

        fn monotonic(&self) -> Duration {
            Duration::ZERO
        }
    }

    struct Counting(AtomicU8);

    impl Entropy for Counting {
        fn draw(&self) -> [u8; 16] {
            [self.0.fetch_add(1, Ordering::Relaxed); 16]
        }
    }

    const ENGINES: [Engine; 3] = [Engine::Lanes(DEFAULT_LANES), Engine::Lanes(1), Engine::Reference];

    const CLIENT: Requester = Requester::Client(ClientNetwork::LOCALHOST);

    fn start(cost: u32, workers: usize) -> Result<BcryptHasher, StartError> {
        start_with(Engine::Lanes(DEFAULT_LANES), cost, workers)
    }

    fn start_with(engine: Engine, cost: u32, workers: usize) -> Result<BcryptHasher, StartError> {
        start_as(settings(engine, cost, workers))
    }

    fn start_as(settings: Settings) -> Result<BcryptHasher, StartError> {
        BcryptHasher::start(settings, Arc::new(FixedClock), Arc::new(Counting(AtomicU8::new(0))))
    }

    fn settings(engine: Engine, cost: u32, workers: usize) -> Settings {
        Settings {
            cost,
            engine,
            workers,
            queue: 64,
            deadline: Duration::from_mins(1),
            niceness: 0,
            site_prefix: SitePrefix::default(),
        }
    }

    fn password(text: &str) -> Password {
        Password::parse(text).unwrap()
    }

    #[tokio::test]
    async fn a_hash_made_by_either_engine_verifies_with_either_and_no_other_password_does() {
        for maker in ENGINES {
            let hash = start_with(maker, 10, 1).unwrap().hash(password("correct horse")).await.unwrap();
            for engine in ENGINES {
                let hasher = start_with(engine, 10, 2).unwrap();

                let verify = |text| hasher.verify(password(text), Some(hash.clone()), CLIENT);

                assert_eq!(verify("correct horse").await.unwrap(), Verification::Match);
                assert_eq!(verify("correct horsf").await.unwrap(), Verification::Mismatch);
                let nobody = hasher.verify(password("correct horse"), None, CLIENT).await;
                assert_eq!(nobody.unwrap(), Verification::Mismatch);
            }
        }
    }

    #[tokio::test]
    async fn passwords_that_are_computed_side_by_side_do_not_mix() {
        for engine in ENGINES {
            let hasher = start_with(engine, 10, 1).unwrap();
            let texts: Vec<_> = (0..9).map(|n| format!("password number {n}")).collect();

            let kept = join_all(texts.iter().map(|text| hasher.hash(password(text)))).await;
            let kept: Vec<_> = kept.into_iter().map(Result::unwrap).collect();
            let pairs = kept.iter().enumerate().flat_map(|(n, hash)| [(n, n, hash), (n, (n + 1) % 9, hash)]);
            let verified = pairs.map(async |(one, other, hash)| {
                let verification =
                    hasher.verify(password(&texts[other]), Some(hash.clone()), CLIENT).await.unwrap();
                (one == other, verification)
            });

            for (same, verification) in join_all(verified).await {
                let expected = if same { Verification::Match } else { Verification::Mismatch };
                assert_eq!(verification, expected, "{engine:?}");
            }
        }
    }

    #[tokio::test]
    async fn a_password_that_somebody_chooses_is_judged_before_it_is_hashed() {
        let hasher = start(10, 1).unwrap();
        let choose = |text| {
            let ann = domain::Username::parse("ann").unwrap();
            let admitted = domain::PasswordPolicy::new(8).unwrap().admit(password(text), ann);
            hasher.hash_new(admitted.unwrap(), CLIENT)
        };

        assert!(matches!(choose("correct horse battery").await.unwrap(), NewHash::Done(_)));
        let refused = choose("password").await.unwrap();
        assert_eq!(refused, NewHash::Refused(domain::PasswordProblem::TooGuessable));
    }

    #[tokio::test]
    async fn bad_choices_take_no_place_among_those_that_are_hashed() {
        let settings = Settings { queue: 1, ..settings(Engine::Lanes(1), 10, 1) };
        let hasher = start_as(settings).unwrap();
        let admitted = || {
            let ann = domain::Username::parse("ann").unwrap();
            domain::PasswordPolicy::new(8).unwrap().admit(password("password"), ann).unwrap()
        };
        let mut busy = Box::pin(join_all((0..2).map(|_| hasher.hash(password("correct horse")))));
        assert!((&mut busy).now_or_never().is_none());

        for _ in 0..10 {
            let chosen = hasher.hash_new(admitted(), CLIENT).await.unwrap();
            assert_eq!(chosen, NewHash::Refused(domain::PasswordProblem::TooGuessable));
        }

        busy.await;
    }

    #[tokio::test]
    async fn it_tells_how_many_were_hashed_and_how_many_refused() {
        let hasher = start_as(Settings { queue: 1, ..settings(Engine::Lanes(1), 10, 1) }).unwrap();
        let before = hasher.load();
        assert_eq!((before.waited.count, before.waiting, before.workers), (0, 0, 1));

        let verify = || hasher.verify(password("correct horse"), None, CLIENT);
        let answers = join_all((0..9).map(|_| verify())).await;

        let (done, load) = (answers.iter().filter(|answer| answer.is_ok()).count(), hasher.load());
        assert!(done > 0 && done < 9, "{done}");
        assert_eq!((load.waited.count, load.turned_away), (done as u64, 9 - done as u64));
        assert_eq!((load.waiting, load.given_up), (0, 0));
    }

    #[tokio::test]
    async fn two_users_with_one_password_have_different_hashes() {
        let hasher = start(10, 2).unwrap();

        let one = hasher.hash(password("correct horse")).await.unwrap();
        let other = hasher.hash(password("correct horse")).await.unwrap();

        assert_ne!(one, other);
    }

    #[tokio::test]
    async fn an_empty_password_or_one_with_nul_is_never_hashed() {
        let hasher = start(10, 1).unwrap();

        for text in ["", "correct\0horse"] {
            assert!(matches!(
                hasher.hash(password(text)).await,
                Err(HasherError::Port(PortError::Failed(_)))
            ));
        }
    }

    #[test]
    fn a_deadline_that_no_hash_can_meet_does_not_start() {
        /// Each look at it is a second later.
        struct Slow(AtomicU8);

        impl Clock for Slow {
            fn now(&self) -> jiff::Timestamp {
                jiff::Timestamp::UNIX_EPOCH
            }

            fn monotonic(&self) -> Duration {
                Duration::from_secs(self.0.fetch_add(1, Ordering::Relaxed).into())
            }
        }

        let started = |deadline| {
            let settings = Settings { deadline, ..settings(Engine::Lanes(3), 10, 1) };
            let entropy = Arc::new(Counting(AtomicU8::new(0)));
            BcryptHasher::start(settings, Arc::new(Slow(AtomicU8::new(0))), entropy)
        };

        // A second for 16 turns makes 64 for 1024.
        assert!(matches!(
            started(Duration::from_secs(63)),
            Err(StartError::DeadlineTooShort { cost: 10, takes, .. }) if takes == Duration::from_secs(64)
        ));
        assert!(started(Duration::from_secs(64)).is_ok());
    }

    #[test]
    fn costs_and_sizes_out_of_bounds_do_not_start() {
        assert!(matches!(start(9, 1), Err(StartError::CostOutOfRange)));
        assert!(matches!(start(17, 1), Err(StartError::CostOutOfRange)));
        assert!(matches!(start(10, 0), Err(StartError::NoRoom)));
        for lanes in [0, MAX_LANES + 1] {
            assert!(matches!(start_with(Engine::Lanes(lanes), 10, 1), Err(StartError::NoRoom)));
        }
    }
}
