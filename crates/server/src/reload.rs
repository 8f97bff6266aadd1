//! What an operator changed while the server runs, put in force at a SIGHUP.
//!
//! All sources are read again as at the start, and checked whole: if anything is wrong, nothing changes. Of what is
//! different, some takes effect at once (the keys of the table say which); the rest waits for a restart, and the log
//! says so.

use std::path::PathBuf;
use std::sync::Arc;

use domain::ports::Clock;
use hasher_bcrypt::BcryptHasher;
use settings::keys::Key;
use settings::{Config, Loaded, Problem};
use telemetry::logging;
use thiserror::Error;
use token_jwt::{JwtIssuer, KeyRing, SelfTestError};
use tokio::signal::unix::Signal;
use tracing::{Level, error, info, warn};

use crate::causes;
use crate::tls::{self, TlsError};

/// What is in force, and where it can be changed.
pub(crate) struct Reload {
    /// The configuration file that was asked for.
    pub(crate) file: Option<PathBuf>,
    /// As everything is that takes effect at once; as the rest was at the start.
    pub(crate) loaded: Loaded,
    /// Origins, proxies and limits.
    pub(crate) live: api::Live,
    /// For which networks take their turns together.
    pub(crate) hasher: Arc<BcryptHasher>,
    /// What signs tokens.
    pub(crate) tokens: Arc<JwtIssuer>,
    /// From which level on the log shows what is said.
    pub(crate) level: Level,
    /// For whether a certificate has ended.
    pub(crate) clock: Arc<dyn Clock>,
}

/// Why everything stays as it was.
#[derive(Debug, Error)]
enum Unchanged {
    #[error("the configuration cannot be used")]
    Problems(Vec<Problem>),
    #[error(transparent)]
    Keys(#[from] SelfTestError),
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl Reload {
    /// Reads everything again whenever it is asked for, for ever.
    pub(crate) async fn follow(mut self, mut hang_up: Signal) {
        while hang_up.recv().await.is_some() {
            // Reads files, which may be slow to come.
            let read = tokio::task::spawn_blocking(move || {
                let done = self.read_again();
                (self, done)
            });
            let Ok((reload, done)) = read.await else {
                error!("cannot read the configuration again until the next start");
                return;
            };
            self = reload;
            match done {
                Ok(()) => {}
                Err(Unchanged::Problems(problems)) => {
                    for problem in problems {
                        error!(cause = %problem, "the settings stay as they were");
                    }
                }
                Err(failure @ (Unchanged::Keys(_) | Unchanged::Tls(_))) => {
                    error!(cause = causes::chain(&failure), "the settings stay as they were");
                }
            }
        }
    }

    fn read_again(&mut self) -> Result<(), Unchanged> {
        let now = Config::load(self.file.as_deref()).map_err(Unchanged::Problems)?;
        let lost = now.lost_since(&self.loaded);
        if !lost.is_empty() {
            return Err(Unchanged::Problems(lost));
        }
        let changed = now.changed_since(&self.loaded);
        // What is in force has a watch of its own.
        if let Some(source) = &now.config.http.tls
            && changed.iter().any(|key| key.name.starts_with("AUTH_TLS__"))
        {
            tls::check(source, self.clock.now())?;
        }
        now.warnings.iter().for_each(|warning| warn!("{warning}"));
        let is_at_once =
            |key: &&Key| key.is_live && (self.may_replace_keys(&now.config) || !is_given_key(key));
        let (at_once, later): (Vec<&Key>, Vec<&Key>) = changed.into_iter().partition(is_at_once);
        if let (true, Some(keys)) =
            (at_once.iter().any(|key| is_given_key(key)), &now.config.token.given_keys)
        {
            self.tokens.replace_keys(KeyRing::of_given(keys.clone()))?;
        }
        // Whether there are limits at all is decided at a start, where accounts have theirs from too.
        let quotas = self.loaded.config.limits.enabled.then_some(now.config.limits.quotas);
        self.live.change(api::Choices { quotas, ..now.config.live() });
        self.hasher.set_site_prefix(now.config.limits.site_prefix());
        // While the log still shows it, or when it shows it again.
        let (before, level) = (self.level, now.config.log.level);
        logging::change_level(before.max(level));
        if at_once.is_empty() && later.is_empty() {
            info!("read the configuration again, and nothing is different");
        } else {
            info!(changed = names(&at_once), "read the configuration again");
        }
        if let Some(changed) = names(&later) {
            warn!(changed, "some settings take effect at the next start only");
        }
        logging::change_level(level);
        self.level = level;
        self.loaded.take(&at_once, &now);
        Ok(())
    }

    /// Whether keys that are given take the place of such. Key files have a watch of their own.
    fn may_replace_keys(&self, now: &Config) -> bool {
        let was = &self.loaded.config.token;
        was.given_keys.is_some() && now.token.given_keys.is_some() && was.algorithm == now.token.algorithm
    }
}

fn is_given_key(key: &Key) -> bool {
    key.name.starts_with("AUTH_TOKEN__PRIVATE_KEY")
}

fn names(keys: &[&Key]) -> Option<String> {
    (!keys.is_empty()).then(|| keys.iter().map(|key| key.name).collect::<Vec<_>>().join(" "))
}
