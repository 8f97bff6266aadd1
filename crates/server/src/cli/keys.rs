//! `auth-api keys`: what an operator does with the keys that sign tokens.

use std::time::Duration;

use clap::Subcommand;
use domain::ports::Clock;
use jiff::Timestamp;
use serde_json::json;
use settings::Config;
use token_jwt::{
    GivenKeys, KeyFacts, KeyFolder, KeyFolderError, KeyPair, KeyPairAlgorithm, KeyState, Takeover,
};

use super::{Exit, Failure, output};
use crate::signing_keys::Source;
use crate::system::SystemClock;

#[derive(Clone, Debug, Subcommand)]
pub(super) enum Command {
    /// Make the first key of the configured algorithm, which signs at once
    Generate,
    /// Show which keys there are, what they do, and until when they are needed
    List {
        /// As a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Publish another key, which signs once every backend has had the time to fetch it
    Rotate {
        /// How long it is published before it signs, from 5m to 30d: longer than any backend keeps the published keys
        #[arg(long, value_name = "TIME", default_value = "1h", value_parser = settings::lead_time, conflicts_with = "now")]
        lead_time: Duration,
        /// Have it take over now: backends that keep the published keys may refuse new tokens for some minutes
        #[arg(long)]
        now: bool,
    },
    /// Remove the keys that no token needs any more
    Retire {
        /// Remove this one only
        key: Option<String>,
        /// Remove it although tokens need it, which are refused from then on
        #[arg(long, requires = "key")]
        now: bool,
    },
}

impl Command {
    pub(super) fn run(self, config: &Config) -> Result<(), Failure> {
        let folder = match Source::of(&config.token) {
            Source::Folder(folder) => folder,
            Source::Given(keys) => return self.run_on_given(&keys),
            Source::Secret => {
                return Err(Failure::new(
                    Exit::Usage,
                    "AUTH_TOKEN__ALGORITHM is HS256, which signs with AUTH_TOKEN__SECRET and has no keys; set it to \
                     EdDSA, ES256 or RS256 first",
                ));
            }
        };
        let now = SystemClock::new().now();
        match self {
            Self::Generate => {
                let id = folder.generate(now)?;
                output::line(format_args!("made the {} key {id}, which signs from now on", name(&folder)))
            }
            Self::List { json } => list(folder.list(now)?.into_iter().map(Line::from), json),
            Self::Rotate { lead_time, now: at_once } => {
                let takeover = if at_once { Takeover::AtOnce } else { Takeover::Announced(lead_time) };
                let rotation = folder.rotate(now, takeover)?;
                let made = if rotation.is_new { "made" } else { "there is already" };
                let (id, algorithm) = (&rotation.id, name(&folder));
                match takeover {
                    Takeover::AtOnce => {
                        output::line(format_args!("{made} the {algorithm} key {id}, which signs from now on"))
                    }
                    Takeover::Announced(_) => output::line(format_args!(
                        "{made} the {algorithm} key {id}, which signs from {} on",
                        shown(rotation.signs_from)
                    )),
                }
            }
            Self::Retire { key, now: at_once } => {
                let retired = folder.retire(key.as_deref(), now, at_once)?;
                if retired.is_empty() {
                    return output::line("every key is needed");
                }
                retired.iter().try_for_each(|id| output::line(format_args!("removed the key {id}")))
            }
        }
    }

    /// Such keys can be looked at, and are changed where they are given.
    fn run_on_given(&self, GivenKeys { signing, verifying }: &GivenKeys) -> Result<(), Failure> {
        let Self::List { json } = self else {
            return Err(Failure::new(
                Exit::Usage,
                "the key comes from AUTH_TOKEN__PRIVATE_KEY, and there are no key files to change; to have another one \
                 take over, set it there, and the old one in AUTH_TOKEN__PRIVATE_KEY_PREVIOUS",
            ));
        };
        let line = |pair: &KeyPair, state| Line {
            id: pair.id().to_owned(),
            algorithm: pair.algorithm(),
            state,
            created_at: None,
            signs_from: None,
            needed_until: None,
        };
        let verifying = verifying.as_deref().map(|pair| line(pair, KeyState::Verifying));
        list([line(signing, KeyState::Active)].into_iter().chain(verifying), *json)
    }
}

/// What is shown of a key. Only files tell times.
struct Line {
    id: String,
    algorithm: KeyPairAlgorithm,
    state: KeyState,
    created_at: Option<Timestamp>,
    signs_from: Option<Timestamp>,
    needed_until: Option<Timestamp>,
}

impl From<KeyFacts> for Line {
    fn from(facts: KeyFacts) -> Self {
        let KeyFacts { id, algorithm, state, created_at, signs_from, needed_until } = facts;
        let (created_at, signs_from) = (Some(created_at), Some(signs_from));
        Self { id, algorithm, state, created_at, signs_from, needed_until }
    }
}

fn list(keys: impl Iterator<Item = Line>, json: bool) -> Result<(), Failure> {
    if json {
        let mut array = output::JsonArray::begin()?;
        let exact = |time: Option<Timestamp>| time.map(|time| format!("{time:.6}"));
        for Line { id, algorithm, state, created_at, signs_from, needed_until } in keys {
            array.push(&json!({
                "kid": id,
                "algorithm": algorithm.as_str(),
                "state": state.as_str(),
                "created_at": exact(created_at),
                "signs_from": exact(signs_from),
                "needed_until": exact(needed_until),
            }))?;
        }
        return array.end();
    }
    output::table(
        ["KEY", "ALGORITHM", "STATE", "CREATED", "SIGNS FROM", "NEEDED UNTIL"],
        keys.map(|key| {
            let or_nothing = |time: Option<Timestamp>| time.map(shown).unwrap_or_default();
            [
                key.id,
                key.algorithm.as_str().to_owned(),
                key.state.as_str().to_owned(),
                or_nothing(key.created_at),
                or_nothing(key.signs_from),
                or_nothing(key.needed_until),
            ]
        }),
    )
}

fn name(folder: &KeyFolder) -> &'static str {
    folder.algorithm.as_str()
}

fn shown(time: Timestamp) -> String {
    format!("{time:.0}")
}

impl From<KeyFolderError> for Failure {
    fn from(error: KeyFolderError) -> Self {
        let advice = match &error {
            KeyFolderError::NoSigningKey { .. } => "; make one with `auth-api keys generate`".to_owned(),
            KeyFolderError::HasKey { .. } => {
                "; have another one take over with `auth-api keys rotate`".to_owned()
            }
            KeyFolderError::Signs(_) => {
                "; have another one take over with `auth-api keys rotate --now` first".to_owned()
            }
            KeyFolderError::StillNeeded { until: Some(until), .. } => {
                format!(" until {}; --now removes it all the same, and they are refused", shown(*until))
            }
            KeyFolderError::StillNeeded { until: None, .. } => {
                "; when AUTH_TOKEN__ACCESS_TTL has passed since the last server signed with it, say --now"
                    .to_owned()
            }
            KeyFolderError::UnknownKey(_) => "; `auth-api keys list` shows those there are".to_owned(),
            _ => return Self::from_error(Exit::Failed, &error),
        };
        Self::new(Exit::Refused, format_args!("{error}{advice}"))
    }
}
