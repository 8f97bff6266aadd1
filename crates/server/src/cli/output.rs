//! What reaches the caller's screen, and the only place that writes there.

use std::fmt::Display;
use std::io::{self, Write};

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use telemetry::logging::is_plain;

use super::{Exit, Failure};

/// Answers with one line, or several that make up one text.
pub(super) fn line(text: impl Display) -> Result<(), Failure> {
    written(writeln!(io::stdout().lock(), "{text}"))
}

/// Answers with a table.
pub(super) fn table<const COLUMNS: usize>(
    header: [&str; COLUMNS],
    rows: impl IntoIterator<Item = [String; COLUMNS]>,
) -> Result<(), Failure> {
    let mut table = Table::new();
    table.load_style(NOTHING);
    if header.iter().any(|name| !name.is_empty()) {
        table.set_header(header);
    }
    rows.into_iter().for_each(|row| _ = table.add_row(row.map(|cell| plain(&cell))));
    let lines: Vec<String> = table.lines().map(|line| line.trim().to_owned()).collect();
    line(lines.join("\n"))
}

/// Answers with a JSON array, an item to a line, without holding more than one of them.
pub(super) struct JsonArray {
    is_empty: bool,
}

impl JsonArray {
    pub(super) fn begin() -> Result<Self, Failure> {
        written(write!(io::stdout().lock(), "["))?;
        Ok(Self { is_empty: true })
    }

    pub(super) fn push(&mut self, item: &impl Serialize) -> Result<(), Failure> {
        let separator = if self.is_empty { "\n  " } else { ",\n  " };
        self.is_empty = false;
        written(write!(io::stdout().lock(), "{separator}{}", serde_json::to_string(item)?))
    }

    pub(super) fn end(self) -> Result<(), Failure> {
        line(if self.is_empty { "]" } else { "\n]" })
    }
}

/// A bar on standard error, if that is a terminal, that shows how far `what` has come.
pub(super) fn progress(length: u64, what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(length).with_message(what);
    match ProgressStyle::with_template("{msg} {wide_bar} {percent}%, {eta} left") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Says on standard error what went wrong. If nobody hears it, there is nobody to tell.
pub(super) fn error(text: &str) {
    _ = writeln!(io::stderr().lock(), "error: {}", plain(text));
}

/// Asks on standard error and reads a line from standard input.
pub(super) fn ask(question: &str) -> Result<String, Failure> {
    _ = write!(io::stderr().lock(), "{question} ");
    let mut answer = String::new();
    let read = io::stdin().read_line(&mut answer);
    read.map_err(|error| Failure::from_error(Exit::Failed, &error))?;
    Ok(answer.trim().to_owned())
}

/// The text with everything escaped that a terminal would obey.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        if is_plain(character) {
            plain.push(character);
        } else {
            plain.extend(character.escape_unicode());
        }
    }
    plain
}

fn written(result: io::Result<()>) -> Result<(), Failure> {
    result.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure { exit: Exit::Unread, lines: Vec::new() },
        _ => Failure::new(Exit::Failed, format_args!("cannot write the answer: {error}")),
    })
}
