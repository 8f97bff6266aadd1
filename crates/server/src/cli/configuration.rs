//! `auth-api config`. Whoever sees a value here sees no secret.

use std::fmt::Write as _;
use std::path::Path;

use clap::Subcommand;
use domain::ports::Clock;
use serde_json::json;
use settings::keys::{DefaultValue, KEYS};
use settings::{Config, Effective, Inspected, Loaded};
use telemetry::logging::Audience;

use super::{Exit, Failure, begin, load, output};
use crate::system::SystemClock;
use crate::{causes, secrets, signing_keys, tls};

#[derive(Clone, Debug, Subcommand)]
pub(super) enum Command {
    /// Check the configuration as a start would, and print what is in force, or all that is wrong
    Check,
    /// Show every setting: what is in force, who set it, what it means
    Show {
        /// As a JSON array
        #[arg(long)]
        json: bool,
    },
}

/// What is in force, if a server could start with it; otherwise all that is wrong.
pub(super) fn checked(file: Option<&Path>) -> Result<Loaded, Failure> {
    let Inspected { loaded, missing, tls, token } = Config::inspect(file);
    let mut lines: Vec<String> = match &loaded {
        Ok(loaded) => {
            let secrets = secrets::faults(&loaded.config);
            let database = loaded.config.database.location.check_root_certificates().err();
            let secrets = secrets.iter().map(|fault| causes::chain(fault));
            secrets.chain(database.map(|fault| causes::chain(&fault))).collect()
        }
        Err(problems) => problems.iter().chain(&missing).map(ToString::to_string).collect(),
    };
    let tls = tls.map(|tls| tls::faults(&tls, SystemClock::new().now())).unwrap_or_default();
    lines.extend(tls.iter().map(|fault| causes::chain(fault)));
    let keys = token.map(|(token, environment)| signing_keys::check(&token, environment));
    lines.extend(keys.and_then(Result::err).map(|fault| causes::chain(&fault)));
    match loaded {
        Ok(loaded) if lines.is_empty() => Ok(loaded),
        _ => Err(Failure { exit: Exit::Usage, lines }),
    }
}

impl Command {
    pub(super) fn run(self, file: Option<&Path>) -> Result<(), Failure> {
        match self {
            Self::Check => {
                let loaded = begin(checked(file)?, Audience::Caller);
                secrets::warn_of_open_files(&loaded.config);
                let in_force = |effective: &&Effective| {
                    effective.is_set() || effective.key.default != DefaultValue::Unset
                };
                for effective in loaded.effective.iter().filter(in_force) {
                    output::line(format_args!("{}={}", effective.key.name, shown(effective)))?;
                }
                output::line("configuration is valid")
            }
            Self::Show { json } => show(&load(file, Audience::Caller)?, json),
        }
    }
}

fn show(loaded: &Loaded, json: bool) -> Result<(), Failure> {
    if json {
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
        return array.end();
    }
    output::table(
        ["KEY", "VALUE", "SET BY", "MEANING"],
        loaded.effective.iter().map(|effective| {
            let Effective { key, set_by, .. } = effective;
            [key.name.to_owned(), shown(effective).to_owned(), set_by.to_string(), key.meaning.to_owned()]
        }),
    )
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
