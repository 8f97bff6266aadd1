//! JSON Lines: a user in each, as `auth-api users export` writes them.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};

use domain::{Candidate, PasswordHash};
use jiff::Timestamp;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::error::Category;
use thiserror::Error;

/// More than a user needs, even if every character of the longest name is escaped; nobody's memory is filled by a file
/// that is something else.
const LONGEST: usize = 16 * 1024;

/// What some programs begin a text in UTF-8 with, although it says nothing.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A file, line by line.
pub(super) struct Lines {
    file: BufReader<File>,
    begin: u64,
    /// How many bytes were read, and how many lines.
    read: u64,
    number: i64,
}

/// What is wrong with a line. Nothing of the line is in it but names that are plain ones.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum BrokenLine {
    #[error("the line is longer than {LONGEST} bytes")]
    TooLong,
    #[error("the line is not UTF-8")]
    NotUtf8,
    #[error("the line is no JSON, from column {0} on")]
    NotJson(usize),
    #[error("the line is no JSON object")]
    NotAnObject,
    #[error("there is an unknown field{0}")]
    Unknown(String),
    #[error("{0} stands there twice")]
    Twice(&'static str),
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error("{0} is no {1}")]
    WrongType(&'static str, &'static str),
    #[error("{0} is no time such as 2024-01-31T12:00:00.000000Z")]
    NoTime(&'static str),
}

impl Lines {
    /// The lines of a file, from its byte `begin` on.
    pub(super) fn new(file: File, begin: u64) -> Self {
        Self { file: BufReader::new(file), begin, read: 0, number: 0 }
    }

    pub(super) fn rewind(&mut self) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.begin))?;
        (self.read, self.number) = (0, 0);
        Ok(())
    }

    /// How many bytes were read.
    pub(super) fn position(&self) -> u64 {
        self.read
    }

    /// The next line that is not blank, its number and the user in it; nothing at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<(i64, Result<Candidate, BrokenLine>)>> {
        let mut line = Vec::new();
        loop {
            let Some(is_whole) = self.next_line(&mut line)? else { return Ok(None) };
            if !is_whole {
                return Ok(Some((self.number, Err(BrokenLine::TooLong))));
            }
            let mark = if self.number == 1 { BYTE_ORDER_MARK } else { &[] };
            let text = line.strip_prefix(mark).unwrap_or(&line).trim_ascii();
            if !text.is_empty() {
                return Ok(Some((self.number, candidate(text))));
            }
        }
    }

    /// Reads a line into `line` and tells whether it was whole; nothing at the end.
    fn next_line(&mut self, line: &mut Vec<u8>) -> io::Result<Option<bool>> {
        line.clear();
        let read = (&mut self.file).take(LONGEST as u64 + 1).read_until(b'\n', line)?;
        self.read += read as u64;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        if read <= LONGEST || line.ends_with(b"\n") {
            return Ok(Some(true));
        }
        self.read += self.file.skip_until(b'\n')? as u64;
        Ok(Some(false))
    }
}

/// The user whom a line tells of.
fn candidate(line: &[u8]) -> Result<Candidate, BrokenLine> {
    let text = str::from_utf8(line).map_err(|_| BrokenLine::NotUtf8)?;
    let Object(members) = serde_json::from_str(text).map_err(|error| match error.classify() {
        Category::Data => BrokenLine::NotAnObject,
        Category::Io | Category::Syntax | Category::Eof => BrokenLine::NotJson(error.column()),
    })?;
    let mut fields = Fields::default();
    for (name, value) in members {
        fields.put(&name, value)?;
    }
    let created_at = fields.created_at.ok_or(BrokenLine::Missing("created_at"))?;
    Ok(Candidate {
        id: fields.id,
        username: fields.username.ok_or(BrokenLine::Missing("username"))?,
        password_hash: fields.password_hash.ok_or(BrokenLine::Missing("password_hash"))?,
        created_at,
        updated_at: fields.updated_at.unwrap_or(created_at),
        disabled_at: fields.disabled_at,
    })
}

/// The fields of a line as far as they have been seen.
#[derive(Default)]
struct Fields {
    seen: Vec<&'static str>,
    id: Option<i64>,
    username: Option<String>,
    password_hash: Option<PasswordHash>,
    created_at: Option<Timestamp>,
    updated_at: Option<Timestamp>,
    disabled_at: Option<Timestamp>,
}

impl Fields {
    fn put(&mut self, name: &str, value: Value) -> Result<(), BrokenLine> {
        const NAMES: [&str; 6] =
            ["id", "username", "password_hash", "created_at", "updated_at", "disabled_at"];
        let Some(name) = NAMES.into_iter().find(|known| *known == name) else {
            return Err(BrokenLine::Unknown(shown(name)));
        };
        if self.seen.contains(&name) {
            return Err(BrokenLine::Twice(name));
        }
        self.seen.push(name);
        match (name, value) {
            ("id" | "updated_at" | "disabled_at", Value::Null) => {}
            ("id", value) => {
                self.id = Some(value.as_i64().ok_or(BrokenLine::WrongType(name, "whole number"))?);
            }
            ("username", value) => self.username = Some(text(name, value)?),
            ("password_hash", value) => self.password_hash = Some(PasswordHash::new(text(name, value)?)),
            ("created_at", value) => self.created_at = Some(time(name, value)?),
            ("updated_at", value) => self.updated_at = Some(time(name, value)?),
            (_, value) => self.disabled_at = Some(time(name, value)?),
        }
        Ok(())
    }
}

fn text(name: &'static str, value: Value) -> Result<String, BrokenLine> {
    let Value::String(text) = value else { return Err(BrokenLine::WrongType(name, "text")) };
    Ok(text)
}

fn time(name: &'static str, value: Value) -> Result<Timestamp, BrokenLine> {
    text(name, value)?.parse().map_err(|_| BrokenLine::NoTime(name))
}

/// The name of an unknown field if it is a plain identifier, and so cannot be much else.
fn shown(name: &str) -> String {
    let mut bytes = name.bytes();
    let starts = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    let is_plain =
        starts && name.len() <= 32 && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if is_plain { format!(", {name}") } else { String::new() }
}

/// A JSON object whose names are as they stand there, though one stands there twice.
struct Object(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor;

        impl<'de> Visitor<'de> for ObjectVisitor {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Object, A::Error> {
                let mut object = Vec::new();
                while let Some(member) = members.next_entry()? {
                    object.push(member);
                }
                Ok(Object(object))
            }
        }

        deserializer.deserialize_map(ObjectVisitor)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const ANN: &str = r#"{"id":3,"username":"Ann","password_hash":"$2b$","created_at":"2024-01-31T12:00:00Z","updated_at":"2024-02-01T13:00:00+01:00","disabled_at":null}"#;

    fn lines(text: &[u8]) -> Vec<(i64, Result<Candidate, BrokenLine>)> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text).unwrap();
        let mut lines = Lines::new(file, 0);
        lines.rewind().unwrap();
        let all = std::iter::from_fn(|| lines.next().unwrap()).collect();
        assert_eq!(lines.position(), text.len() as u64);
        all
    }

    fn problem(line: &str) -> BrokenLine {
        candidate(line.as_bytes()).unwrap_err()
    }

    /// Ann's line with one thing changed.
    fn but(from: &str, to: &str) -> String {
        assert!(ANN.contains(from), "{from}");
        ANN.replacen(from, to, 1)
    }

    #[test]
    fn a_line_tells_of_a_user() {
        let ann = Candidate {
            id: Some(3),
            username: "Ann".to_owned(),
            password_hash: PasswordHash::new("$2b$".to_owned()),
            created_at: "2024-01-31T12:00:00Z".parse().unwrap(),
            updated_at: "2024-02-01T12:00:00Z".parse().unwrap(),
            disabled_at: None,
        };
        assert_eq!(candidate(ANN.as_bytes()), Ok(ann.clone()));

        let least = r#"{"username":"Ann","password_hash":"$2b$","created_at":"2024-01-31T12:00:00Z"}"#;
        let least = candidate(least.as_bytes()).unwrap();
        assert_eq!(least, Candidate { id: None, updated_at: ann.created_at, ..ann });
    }

    #[test]
    fn what_is_wrong_is_named_and_nothing_of_it_repeated() {
        use BrokenLine as B;
        for (line, expected) in [
            ("{", B::NotJson(1)),
            (&*format!("{ANN},"), B::NotJson(ANN.len() + 1)),
            (&but("Ann", "A\0n"), B::NotJson(22)),
            (&but("Ann", r"\ud800"), B::NotJson(27)),
            ("[]", B::NotAnObject),
            ("\"$2b$\"", B::NotAnObject),
            ("7", B::NotAnObject),
            (&but("\"id\"", "\"email\""), B::Unknown(", email".to_owned())),
            (&but("\"id\"", "\"$2b$12$\""), B::Unknown(String::new())),
            (&but("\"id\":3", "\"username\":\"Bob\""), B::Twice("username")),
            (&but("\"username\":\"Ann\",", ""), B::Missing("username")),
            (&but("\"password_hash\":\"$2b$\",", ""), B::Missing("password_hash")),
            ("{}", B::Missing("created_at")),
            (&but("3", "3.5"), B::WrongType("id", "whole number")),
            (&but("3", "\"3\""), B::WrongType("id", "whole number")),
            (&but("3", "9223372036854775808"), B::WrongType("id", "whole number")),
            (&but("\"Ann\"", "null"), B::WrongType("username", "text")),
            (&but("\"$2b$\"", "{\"$2b$\":1}"), B::WrongType("password_hash", "text")),
            (&but("\"2024-01-31T12:00:00Z\"", "1706702400"), B::WrongType("created_at", "text")),
            (&but("2024-01-31T12:00:00Z", "2024-01-31T12:00:00"), B::NoTime("created_at")),
            (&but("2024-01-31", "2024-02-30"), B::NoTime("created_at")),
            (&but("null", "\"$2b$\""), B::NoTime("disabled_at")),
        ] {
            assert_eq!(problem(line), expected, "{line}");
            assert!(!expected.to_string().contains("$2b$"), "{line}");
        }
        assert_eq!(problem(&"[".repeat(LONGEST)), B::NotAnObject);
    }

    #[test]
    fn ends_of_lines_blank_ones_and_a_mark_at_the_beginning_are_no_part_of_a_user() {
        let text = format!("\u{feff}{ANN}\r\n\n \t\r\n{ANN}\n\u{feff}{ANN}\n{ANN}");

        let lines = lines(text.as_bytes());

        let numbers: Vec<_> = lines.iter().map(|(number, line)| (*number, line.is_ok())).collect();
        assert_eq!(numbers, [(1, true), (4, true), (5, false), (6, true)]);
        assert!(self::lines(b"").is_empty());
    }

    #[test]
    fn a_line_without_end_is_passed_over_and_so_is_one_that_is_no_text() {
        let blank = " ".repeat(LONGEST - ANN.len());
        let text =
            [&*blank, ANN, "\n", &*blank, ANN, " \n", &"x".repeat(1_000_000), "\n", ANN, "\n"].concat();

        let mut text = text.into_bytes();
        text.extend(b"\xff\n");
        text.extend(b"x".repeat(100_000));

        let problems: Vec<_> = lines(&text).into_iter().map(|(number, line)| (number, line.err())).collect();
        assert_eq!(
            problems,
            [
                (1, None),
                (2, Some(BrokenLine::TooLong)),
                (3, Some(BrokenLine::TooLong)),
                (4, None),
                (5, Some(BrokenLine::NotUtf8)),
                (6, Some(BrokenLine::TooLong))
            ]
        );
    }
}
