//! Where settings come from, and which wins: the defaults, a file, `.env`, the environment.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use config::{FileFormat, Source as _, Value, ValueKind};
use pem_blocks::Fault;
use zeroize::Zeroizing;

use super::keys::{DefaultValue, KEYS, Key, Shape};
use super::{EdgeFault, Problem, Texts, Warning, dotenv};
use crate::line_end;

/// Read when it is there and no other is asked for.
const CONFIG_FILE: &str = "auth-api.toml";

const DOTENV_FILE: &str = ".env";

/// More than any setting needs; a path to something endless must not fill the memory.
const LARGEST_FILE: u64 = 64 * 1024;

/// The keys that a file can be named for instead, by their own name and `_FILE`.
const FROM_FILES: [&str; 8] = [
    "AUTH_DATABASE__URL",
    "AUTH_TOKEN__SECRET",
    "AUTH_TOKEN__PRIVATE_KEY",
    "AUTH_TOKEN__PRIVATE_KEY_PREVIOUS",
    "AUTH_SESSION__REFRESH_KEY",
    "AUTH_SESSION__REFRESH_KEY_PREVIOUS",
    "AUTH_AUDIT__KEY",
    "AUTH_SENTRY__DSN",
];

/// The text of every key that has one, and who set it. Any of them may be a secret, if only by mistake, so what is
/// kept of them is wiped; the `config` crate and the environment have copies that cannot be.
#[derive(Default)]
pub(super) struct Sources {
    pub(super) texts: Texts,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Warning>,
    /// The files that need not be there and are.
    pub(super) found: Vec<&'static str>,
}

/// Who set a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetBy {
    /// Nobody.
    Default,
    /// This configuration file.
    File(PathBuf),
    /// The file `.env`.
    DotEnv,
    /// The environment.
    Environment,
    /// The file that the key of the same name with `_FILE` names.
    NamedFile,
}

/// The process's environment: the only place that reads it.
#[expect(clippy::disallowed_methods, reason = "this is where configuration reads the environment")]
pub(super) fn environment() -> Vec<(OsString, OsString)> {
    std::env::vars_os().collect()
}

impl Sources {
    /// Reads all of them. `named` is a configuration file that must exist; `folder` is where the others may be.
    pub(super) fn read(named: Option<&Path>, folder: &Path, environment: Vec<(OsString, OsString)>) -> Self {
        let mut sources = Self::default();
        let (file_path, file) = sources.file(named, folder);
        let dotenv = sources.dotenv(&folder.join(DOTENV_FILE), &environment);
        let (environment, mut foreign) = sources.variables(environment, "");
        if !foreign.is_empty() {
            // Kubernetes makes such for a service that is called `auth`.
            foreign.sort();
            sources.warnings.push(Warning(format!("not settings, and ignored: {}", foreign.join(", "))));
        }

        let set_by = |key: &Key| match key.name {
            name if environment.contains_key(name) => SetBy::Environment,
            name if dotenv.contains_key(name) => SetBy::DotEnv,
            _ if file.contains_key(&key.path()) => SetBy::File(file_path.clone()),
            _ => SetBy::Default,
        };
        for (key, text) in layered(&file, &dotenv, &environment) {
            sources.texts.insert(key.name, (text, set_by(key)));
        }
        for name in FROM_FILES {
            sources.named_file(name, folder);
        }
        sources
    }

    /// The leaves of the configuration file by their place in it, those of unknown name or wrong type left out.
    fn file(&mut self, named: Option<&Path>, folder: &Path) -> (PathBuf, HashMap<String, Value>) {
        let path = named.map_or_else(|| PathBuf::from(CONFIG_FILE), Path::to_path_buf);
        let shown = path.display().to_string();
        let (text, readable_by_others) = match read_file(&folder.join(&path)) {
            Ok(read) => {
                self.found.extend(named.is_none().then_some(CONFIG_FILE));
                read
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && named.is_none() => {
                return (path, HashMap::new());
            }
            Err(error) => {
                self.problems.push(Problem::new(shown, unreadable(&error, &folder.join(&path))));
                return (path, HashMap::new());
            }
        };
        let tree = match config::File::from_str(&text, FileFormat::Toml).collect() {
            Ok(tree) => tree,
            Err(error) => {
                self.problems.push(Problem::new(shown, toml_fault(&error.to_string(), &text)));
                return (path, HashMap::new());
            }
        };
        let mut leaves = HashMap::new();
        flatten("", tree, &mut leaves);
        leaves.retain(|path, value| match KEYS.into_iter().find(|key| key.path() == *path) {
            None => {
                let setting = format!("{} in {shown}", path.escape_debug());
                self.problems.push(unknown(setting, &format!("AUTH_{}", path.replace('.', "__"))));
                false
            }
            Some(key) => {
                if !key.takes_empty && matches!(&value.kind, ValueKind::String(text) if text.is_empty()) {
                    return false;
                }
                let fits = has_shape(value, key.shape);
                if !fits {
                    self.problems.push(Problem::new(key.name, format!("in {shown} {}", must_be(key.shape))));
                }
                fits
            }
        });
        if readable_by_others && leaves.iter().any(|(path, value)| is_secret(path, value)) {
            self.warnings.push(Warning::readable_by_others(&shown));
        }
        (path, leaves)
    }

    fn dotenv(&mut self, path: &Path, environment: &[(OsString, OsString)]) -> HashMap<String, String> {
        let (text, readable_by_others) = match read_file(path) {
            Ok(read) => {
                self.found.push(DOTENV_FILE);
                read
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return HashMap::new(),
            Err(error) => {
                self.problems.push(Problem::new(DOTENV_FILE, unreadable(&error, path)));
                return HashMap::new();
            }
        };
        let environment =
            environment.iter().filter_map(|(name, value)| Some((name.to_str()?, value.to_str()?)));
        let read = dotenv::read(&text, &environment.collect());
        if let Some(fault) = read.fault {
            let place = fault
                .after
                .map_or_else(|| "its first setting".to_owned(), |name| format!("what follows {name}"));
            let what = format!("has a line that is not NAME=value, or lacks quotes around it: {place}");
            self.problems.push(Problem::new(DOTENV_FILE, what));
        }
        let mut variables: Vec<(OsString, OsString)> = Vec::new();
        for dotenv::Variable { name, value } in read.variables {
            let is_setting = Key::named(&name).is_some();
            if is_setting && variables.iter().any(|(other, _)| *other == *name) {
                let what = format!(
                    "{name} is set twice in {DOTENV_FILE}, and the last line holds; remove the other"
                );
                self.warnings.push(Warning(what));
            }
            match value {
                Some(value) => variables.push((name.into(), value.into())),
                // What other programs make of their own variables is theirs to say.
                None if is_setting => self.problems.push(Problem::new(
                    name,
                    format!(
                        "in {DOTENV_FILE} has a $ that refers to nothing; put the value in single quotes, or write \\$ \
                         for a $ that is a part of it"
                    ),
                )),
                None => {}
            }
        }
        let place = format!(" in {DOTENV_FILE}");
        let (variables, foreign) = self.variables(variables, &place);
        // Nobody but its owner writes into this file.
        self.problems.extend(foreign.iter().map(|name| unknown(format!("{name}{place}"), name)));
        let is_secret = |key: &&Key| variables.get(key.name).is_some_and(|text| key.hides(text));
        if readable_by_others && KEYS.iter().any(is_secret) {
            self.warnings.push(Warning::readable_by_others(DOTENV_FILE));
        }
        variables
    }

    /// Those variables that are settings, and the names of those that might be meant for somebody else. Names are
    /// compared exactly, since the `config` crate would take `AUTH_Http__Addr` for another spelling.
    fn variables(
        &mut self,
        variables: Vec<(OsString, OsString)>,
        place: &str,
    ) -> (HashMap<String, String>, Vec<String>) {
        let (mut known, mut foreign) = (HashMap::new(), Vec::new());
        for (name, value) in variables {
            let name = name.to_string_lossy().into_owned();
            if let Some(key) = Key::named(&name) {
                match value.into_string() {
                    // As if it were not set, so that an empty variable leaves what another source says.
                    Ok(value) if value.is_empty() && !key.takes_empty => _ = known.remove(&name),
                    Ok(value) => _ = known.insert(name, value),
                    Err(_) => self.problems.push(Problem::new(name, "must be UTF-8")),
                }
            } else if is_slip(&name) || name.starts_with("AUTH_") && name.contains("__") {
                self.problems.push(unknown(format!("{}{place}", name.escape_debug()), &name));
            } else if name.starts_with("AUTH_") {
                foreign.push(name.escape_debug().to_string());
            }
        }
        (known, foreign)
    }

    /// Reads `name` from the file that `name` with `_FILE` names, if it names one. One line end after it is no
    /// part of the value.
    fn named_file(&mut self, name: &'static str, folder: &Path) {
        let named = format!("{name}_FILE");
        let Some((path, _)) = self.texts.get(named.as_str()) else { return };
        if self.texts.get(name).is_some_and(|(_, set_by)| *set_by != SetBy::Default) {
            self.problems.push(Problem::new(named, format!("and {name} are both set; keep one of them")));
            return;
        }
        if let Some(fault) = EdgeFault::of(path) {
            self.problems.push(Problem::new(named, fault.to_string()));
            return;
        }
        match read_file(&folder.join(path.as_str())) {
            Ok((mut text, readable_by_others)) => {
                if readable_by_others {
                    self.warnings.push(Warning::readable_by_others(&format!("the file that {named} names")));
                }
                line_end::cut(&mut text);
                self.texts.insert(name, (text, SetBy::NamedFile));
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                let what = not_text(name, &folder.join(path.as_str()));
                self.problems.push(Problem::new(name, format!("in the file that {named} names {what}")));
            }
            Err(error) => {
                self.problems.push(Problem::new(named, format!("names a file that cannot be read: {error}")));
            }
        }
    }
}

/// Why a file of settings cannot be read, as the end of a sentence that begins with its name.
fn unreadable(error: &io::Error, path: &Path) -> String {
    match error.kind() {
        io::ErrorKind::InvalidData => not_text("", path),
        _ => format!("cannot be read: {error}"),
    }
}

/// What a file is that is not text in UTF-8, as the end of a sentence.
fn not_text(name: &str, path: &Path) -> String {
    let mut bytes = Zeroizing::new(Vec::new());
    let read = File::open(path).and_then(|file| file.take(LARGEST_FILE).read_to_end(&mut bytes));
    match (read, pem_blocks::private_key(&bytes)) {
        (Ok(_), Err(fault)) if fault == Fault::Utf16 || name.starts_with("AUTH_TOKEN__PRIVATE_KEY") => {
            fault.to_string()
        }
        _ => "is not text in UTF-8; save it as UTF-8".to_owned(),
    }
}

impl fmt::Display for SetBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => path.display().fmt(f),
            Self::DotEnv => f.write_str(DOTENV_FILE),
            Self::Environment => f.write_str("environment"),
            Self::NamedFile => f.write_str("file"),
        }
    }
}

/// Every key that has a text, by the precedence of the `config` crate.
///
/// Its errors name values, so none of them is shown. None can happen either: what does not fit is gone.
fn layered(
    file: &HashMap<String, Value>,
    dotenv: &HashMap<String, String>,
    environment: &HashMap<String, String>,
) -> Vec<(&'static Key, Zeroizing<String>)> {
    let mut builder = config::Config::builder();
    for key in KEYS {
        if let DefaultValue::Text(text) = key.default {
            builder = builder.set_default(key.path(), text).unwrap_or_default();
        }
    }
    for (path, value) in file {
        builder = builder.set_default(path, value.clone()).unwrap_or_default();
    }
    let mut variables = dotenv.clone();
    variables.extend(environment.clone());
    let variables = config::Environment::with_prefix("AUTH")
        .prefix_separator("_")
        .separator("__")
        .source(Some(variables.into_iter().collect()));
    let layers = builder.add_source(variables).build().unwrap_or_default();
    let text = |key: &Key| layers.get_string(&key.path()).map(Zeroizing::new).ok();
    KEYS.into_iter().filter_map(|key| Some((key, text(key)?))).collect()
}

/// The text of a file, and whether its group or others may read or write it.
pub(super) fn read_file(path: &Path) -> io::Result<(Zeroizing<String>, bool)> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    let readable_by_others = metadata.permissions().mode() & 0o066 != 0;
    // Sized before it is filled: a string that grows leaves copies of itself behind.
    let size = usize::try_from(metadata.len().min(LARGEST_FILE)).unwrap_or_default();
    let mut text = Zeroizing::new(String::with_capacity(size + 1));
    file.take(LARGEST_FILE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LARGEST_FILE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 64 KiB"));
    }
    Ok((text, readable_by_others))
}

fn flatten(
    prefix: &str,
    tree: impl IntoIterator<Item = (String, Value)>,
    leaves: &mut HashMap<String, Value>,
) {
    for (name, value) in tree {
        let path = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
        match value.kind {
            // A section that is empty is kept, so that a misspelt one is found.
            ValueKind::Table(table) if !table.is_empty() => flatten(&path, table, leaves),
            ValueKind::Table(_) if is_section(&path) => {}
            _ => _ = leaves.insert(path, value),
        }
    }
}

fn is_section(path: &str) -> bool {
    KEYS.iter().any(|key| key.path().split_once('.').is_some_and(|(section, _)| section == path))
}

fn is_secret(path: &str, value: &Value) -> bool {
    let text = Zeroizing::new(value.to_string());
    KEYS.iter().any(|key| key.path() == path && key.hides(&text))
}

fn has_shape(value: &Value, shape: Shape) -> bool {
    match shape {
        Shape::Text => matches!(value.kind, ValueKind::String(_)),
        Shape::Number => matches!(value.kind, ValueKind::I64(_)),
        Shape::Flag => matches!(value.kind, ValueKind::Boolean(_)),
    }
}

fn must_be(shape: Shape) -> &'static str {
    match shape {
        Shape::Text => "must be a text in quotes",
        Shape::Number => "must be a whole number without quotes",
        Shape::Flag => "must be true or false without quotes",
    }
}

/// Whether this is the name of a setting but for its case and its underscores: whoever writes that means the setting, and
/// would go without what it protects.
fn is_slip(name: &str) -> bool {
    let letters = |name: &str| name.replace('_', "").to_ascii_uppercase();
    let of_name = letters(name);
    KEYS.into_iter().any(|key| letters(key.name) == of_name)
}

fn unknown(setting: String, name: &str) -> Problem {
    let nearest = KEYS
        .into_iter()
        .map(|key| (strsim::jaro_winkler(&name.to_ascii_uppercase(), key.name), key))
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .filter(|(likeness, _)| *likeness > 0.93);
    let what = match nearest {
        Some((_, key)) => format!("is not a setting; is {} meant?", key.name),
        None => "is not a setting; `auth-api config --help` lists them".to_owned(),
    };
    Problem::new(setting, what)
}

/// What is wrong with a text that is not TOML, as the end of a sentence that begins with the file's name. The parser's
/// message quotes the file, so nothing of it is repeated but the place, and the name of a key that is doubled.
fn toml_fault(message: &str, text: &str) -> String {
    let number_after = |word: &str| -> Option<usize> {
        let rest = message.split_once(word)?.1;
        rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())].parse().ok()
    };
    let (Some(line), Some(column)) = (number_after("at line "), number_after("column ")) else {
        return "is not TOML".to_owned();
    };
    let doubled = message.lines().any(|line| line == "duplicate key").then(|| key_at(text, line, column));
    match doubled.flatten() {
        Some(key) => {
            format!("has {key} twice, the second time at line {line}, column {column}; keep one of them")
        }
        None => format!("is not TOML, at line {line}, column {column}"),
    }
}

/// The name of the key that begins there, with its section.
fn key_at(text: &str, line: usize, column: usize) -> Option<String> {
    let is_part_of_name = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    let written: String = text.lines().nth(line.checked_sub(1)?)?.chars().collect();
    let at: String = written.chars().skip(column.checked_sub(1)?).collect();
    let name: String =
        at.trim_start_matches(['"', '\'']).chars().take_while(|c| is_part_of_name(*c)).collect();
    let is_header = |line: &&str| line.trim_start().starts_with('[');
    if name.is_empty() {
        return None;
    }
    if is_header(&written.as_str()) {
        return Some(format!("the section [{name}]"));
    }
    let before: String = written.chars().take(column - 1).collect();
    let dotted = before.trim_start();
    let name = if dotted.ends_with('.') && dotted.chars().all(is_part_of_name) {
        format!("{dotted}{name}")
    } else {
        name
    };
    let section = text.lines().take(line - 1).filter(is_header).last();
    let section = section.map(|header| header.trim().trim_start_matches('['));
    let section = section.and_then(|header| header.split(']').next()).map(str::trim).unwrap_or_default();
    let path = if section.is_empty() { name } else { format!("{section}.{name}") };
    Some(format!("the key {}", path.escape_debug()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> String {
        let error = config::File::from_str(text, FileFormat::Toml).collect().unwrap_err();
        toml_fault(&error.to_string(), text)
    }

    #[test]
    fn doubled_key_is_named_with_its_line() {
        for (text, told) in [
            (
                "[http]\naddr = \"canary\"\naddr = \"canary\"\n",
                "the key http.addr twice, the second time at line 3, column 1",
            ),
            ("env = \"canary\"\n# words\nenv = \"canary\"\n", "the key env twice, the second time at line 3"),
            (
                "[http]\n[token]\nissuer = \"a\"\n  issuer = \"b\"",
                "the key token.issuer twice, the second time at line 4",
            ),
            ("[http]\n\"addr\" = \"a\"\naddr = \"b\"", "the key http.addr twice, the second time at line 3"),
            ("http.addr = \"a\"\nhttp.addr = \"b\"", "the key http.addr twice, the second time at line 2"),
            (
                "[http]\naddr = \"a\"\n[token]\nx.y = 1\nx.y = 2",
                "the key token.x.y twice, the second time at line 5",
            ),
            (
                "[http]\naddr = \"a\"\n[log]\n[http]\ngrace = \"1s\"",
                "the section [http] twice, the second time at line 4",
            ),
            ("http = { addr = \"a\", addr = \"b\" }", "twice, the second time at line 1"),
        ] {
            let fault = fault(text);
            assert!(fault.contains(told) && !fault.contains("canary"), "{fault}");
        }
    }

    #[test]
    fn other_faults_of_a_file_are_told_by_their_place() {
        assert_eq!(fault("[token]\nsecret = canary\n"), "is not TOML, at line 2, column 10");
    }
}
