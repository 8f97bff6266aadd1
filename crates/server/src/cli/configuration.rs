//! `auth-api config`. Whoever sees a value here sees no secret.

use std::fmt::Write as _;

use clap::Subcommand;
use domain::ports::Clock;
use serde_json::json;

use super::{Failure, output};
use crate::config::keys::{DefaultValue, KEYS};
use crate::config::{Effective, Loaded};
use crate::system::SystemClock;
use crate::{secrets, signing_keys, tls};

#[derive(Clone, Debug, Subcommand)]
pub(super) enum Command {
    /// Check the configuration as a start would, and print what is in force, secrets redacted
    Check,
    /// Show every setting: what is in force, who set it, what it means
    Show {
        /// As a JSON array
        #[arg(long)]
        json: bool,
    },
}

impl Command {
    pub(super) fn run(self, loaded: &Loaded) -> Result<(), Failure> {
        match self {
            Self::Check => {
                let in_force = |effective: &&Effective| {
                    effective.is_set() || effective.key.default != DefaultValue::Unset
                };
                for effective in loaded.effective.iter().filter(in_force) {
                    output::line(format_args!("{}={}", effective.key.name, shown(effective)))?;
                }
                secrets::check(&loaded.config)?;
                if let Some(tls) = &loaded.config.http.tls {
                    tls::check(tls, SystemClock::new().now())?;
                }
                Ok(signing_keys::check(&loaded.config)?)
            }
            Self::Show { json: true } => {
                let mut array = output::JsonArray::begin()?;
                for Effective { key, value, is_secret, set_by } in &loaded.effective {
                    array.push(&json!({
                        "key": key.name,
                        "value": value,
                        "set_by": set_by.to_string(),
                        "secret": is_secret,
                        "meaning": key.meaning,
                    }))?;
                }
                array.end()
            }
            Self::Show { json: false } => output::table(
                ["KEY", "VALUE", "SET BY", "MEANING"],
                loaded.effective.iter().map(|effective| {
                    let Effective { key, set_by, .. } = effective;
                    [
                        key.name.to_owned(),
                        shown(effective).to_owned(),
                        set_by.to_string(),
                        key.meaning.to_owned(),
                    ]
                }),
            ),
        }
    }
}

/// The end of `config --help`: all settings there are.
pub(super) fn all_keys() -> String {
    let mut text = "Settings, in the environment, in .env, or as section.key in auth-api.toml:\n".to_owned();
    for key in KEYS {
        _ = write!(text, "\n  {}\n      {}", key.name, key.meaning);
        _ = match key.default {
            DefaultValue::Text(default) => write!(text, "; default {default}"),
            DefaultValue::Depends(words) => write!(text, "; default: {words}"),
            DefaultValue::Unset => Ok(()),
        };
    }
    text
}

fn shown(effective: &Effective) -> &str {
    match &effective.value {
        Some(value) => value,
        None if effective.is_set() => "(redacted)",
        None => "(not set)",
    }
}
