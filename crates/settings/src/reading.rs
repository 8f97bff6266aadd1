//! Reads one setting after the other, and notes what is wrong with each.

use zeroize::Zeroizing;

use super::keys::{Edges, Key, Setting};
use super::source::Sources;
use super::{Algorithm, EdgeFault, Environment, Problem, SetBy, Tls, Token, no_secret, sessions, tokens};

/// Takes one setting after the other and notes what is wrong.
pub(crate) struct Reading {
    pub(crate) sources: Sources,
    // What can be looked at further although another setting is wrong.
    pub(crate) environment: Option<Environment>,
    pub(crate) tls: Option<Tls>,
    pub(crate) token: Option<Token>,
}

impl Reading {
    /// The secrets that production asks for and nobody tried to give.
    pub(crate) fn missing_secrets(&self) -> Vec<Problem> {
        if self.environment != Some(Environment::Production) {
            return Vec::new();
        }
        let signs_with_secret = !matches!(self.token, Some(Token { algorithm: Algorithm::KeyPair(_), .. }));
        let signing = signs_with_secret.then_some(&tokens::TOKEN_SECRET.key);
        let secrets = signing.into_iter().chain([&sessions::SESSION_REFRESH_KEY.key]);
        let is_set = |key: &Key| {
            let from_file = format!("{}_FILE", key.name);
            self.sources.texts.contains_key(key.name)
                || self.sources.texts.contains_key(from_file.as_str())
                || self.sources.problems.iter().any(|problem| problem.setting == key.name)
        };
        let missing = secrets.filter(|key| !is_set(key));
        missing.map(|key| Problem::new(key.name, no_secret(key.name))).collect()
    }

    /// Reads a setting whose default follows from something else.
    pub(crate) fn read_or<T>(&mut self, setting: &'static Setting<T>, default: &str) -> Option<T> {
        let default = || (Zeroizing::new(default.to_owned()), SetBy::Default);
        self.sources.texts.entry(setting.key.name).or_insert_with(default);
        self.read(setting)
    }

    /// `None` if it has no text, or if it is wrong, which is noted.
    pub(crate) fn read<T>(&mut self, setting: &'static Setting<T>) -> Option<T> {
        debug_assert!(Key::named(setting.key.name).is_some(), "a setting that is not in the table");
        let (text, _) = self.sources.texts.get(setting.key.name)?;
        let judged = match setting.key.edges {
            Edges::Bare => text,
            Edges::Trimmed => text.trim(),
        };
        let read = match EdgeFault::of(judged) {
            Some(fault) => Err(fault.to_string()),
            None => (setting.read)(text),
        };
        read.map_err(|wrong| self.refuse(&setting.key, &wrong)).ok()
    }

    pub(crate) fn is_set(&self, key: &'static Key) -> bool {
        self.sources.texts.contains_key(key.name)
    }

    pub(crate) fn refuse(&mut self, key: &'static Key, what: &str) {
        let set_by = match self.sources.texts.get(key.name) {
            Some((_, set_by @ (SetBy::File(_) | SetBy::DotEnv))) => format!("in {set_by} "),
            Some((_, SetBy::NamedFile)) => format!("in the file that {}_FILE names ", key.name),
            _ => String::new(),
        };
        self.sources.problems.push(Problem::new(key.name, format!("{set_by}{what}")));
    }
}
