//! Which passwords may be chosen, and how they are hashed.

use std::num::NonZero;
use std::time::Duration;

use domain::PasswordPolicy;
use hasher_bcrypt::Engine;

use super::keys::{DefaultValue, Key, Setting};
use super::readers;
use super::reading::Reading;

/// How passwords are hashed.
#[derive(Clone, Debug)]
pub struct Hashing {
    /// The bcrypt cost of new hashes.
    pub cost: u32,
    /// What computes them.
    pub engine: Engine,
    /// Threads.
    pub workers: usize,
    /// How many clients' passwords may wait, and as much bulk work beside them.
    pub queue: usize,
    /// How long a client may wait for an answer.
    pub deadline: Duration,
}

impl Hashing {
    /// How many passwords can be handed over at once without one being refused.
    pub fn at_once(&self) -> usize {
        (self.workers * self.engine.lanes()).min(self.queue)
    }
}

/// What hashes passwords, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineName {
    /// Several at once in each thread.
    Lanes,
    /// The `bcrypt` crate.
    Reference,
}

pub(crate) static PASSWORD_BCRYPT_COST: Setting<u32> = Setting {
    key: Key::number(
        "AUTH_PASSWORD__BCRYPT_COST",
        DefaultValue::Text("12"),
        "work per password, 10 to 16; each step doubles it",
    ),
    read: readers::bcrypt_cost,
};

pub(crate) static PASSWORD_MIN_LENGTH: Setting<PasswordPolicy> = Setting {
    key: Key::number(
        "AUTH_PASSWORD__MIN_LENGTH",
        DefaultValue::Text("8"),
        "fewest characters of a new password, 8 or more",
    ),
    read: readers::password_policy,
};

pub(crate) static HASHING_ENGINE: Setting<EngineName> = Setting {
    key: Key::text(
        "AUTH_HASHING__ENGINE",
        DefaultValue::Text("lanes"),
        "what hashes passwords: lanes, or reference, the bcrypt crate",
    ),
    read: readers::engine,
};

pub(crate) static HASHING_LANES: Setting<usize> = Setting {
    key: Key::number(
        "AUTH_HASHING__LANES",
        DefaultValue::Text("6"),
        "passwords that each worker hashes side by side",
    ),
    read: readers::lanes,
};

pub(crate) static HASHING_WORKERS: Setting<usize> = Setting {
    key: Key::number(
        "AUTH_HASHING__WORKERS",
        DefaultValue::Depends("as many as there are cores"),
        "threads that hash passwords, at most as many as there are cores",
    ),
    read: readers::workers,
};

pub(crate) static HASHING_QUEUE: Setting<usize> = Setting {
    key: Key::number(
        "AUTH_HASHING__QUEUE",
        DefaultValue::Depends("64 for each worker"),
        "clients' passwords that may wait for a worker",
    ),
    read: readers::queue,
};

pub(crate) static HASHING_DEADLINE: Setting<Duration> = Setting {
    key: Key::text(
        "AUTH_HASHING__DEADLINE",
        DefaultValue::Text("5s"),
        "how long a client may wait for a password to be hashed; others are answered 503",
    ),
    read: readers::hashing_deadline,
};

impl Reading {
    pub(crate) fn hashing(&mut self) -> Option<Hashing> {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let cost = self.read(&PASSWORD_BCRYPT_COST);
        let engine = self.read(&HASHING_ENGINE);
        let lanes = self.read(&HASHING_LANES);
        // Beyond the cores they would only take turns, each with passwords that wait for all the others.
        let workers = self.read_or(&HASHING_WORKERS, &cores.to_string()).map(|some| some.min(cores));
        let queue = self.read_or(&HASHING_QUEUE, &(64 * workers.unwrap_or(cores)).to_string());
        let deadline = self.read(&HASHING_DEADLINE);
        let engine = match engine? {
            EngineName::Lanes => Engine::Lanes(lanes?),
            EngineName::Reference => Engine::Reference,
        };
        Some(Hashing { cost: cost?, engine, workers: workers?, queue: queue?, deadline: deadline? })
    }
}
