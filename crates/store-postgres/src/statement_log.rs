//! Log lines of statements, at level `debug`: the text and the duration, never a value.

use std::fmt::{self, Write};
use std::time::Instant;

use diesel::connection::{DebugQuery, Instrumentation, InstrumentationEvent};
use tracing::{Level, debug, enabled};

/// What diesel puts between a statement and its values.
const VALUES: &str = " -- binds: ";

/// The most bytes of a statement that are logged. One that writes a thousand rows is longer.
const MAX_TEXT: usize = 4096;

/// The statement that is under way on a connection, and when it began.
#[derive(Default)]
pub(crate) struct StatementLog {
    begun: Option<Instant>,
}

impl Instrumentation for StatementLog {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        match event {
            InstrumentationEvent::StartQuery { .. } => {
                // The level may change while a statement is under way.
                self.begun = enabled!(Level::DEBUG).then(now);
            }
            InstrumentationEvent::FinishQuery { query, error, .. } => {
                let Some(begun) = self.begun.take() else { return };
                let duration_ms = begun.elapsed().as_secs_f64() * 1000.0;
                debug!(duration_ms, failed = error.is_some(), statement = text_of(query), "statement");
            }
            _ => {}
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "how long a statement took; nothing is decided for a user")]
fn now() -> Instant {
    Instant::now()
}

fn text_of(query: &dyn DebugQuery) -> String {
    let mut text = WithoutValues(String::new());
    // It fails where the values begin.
    _ = write!(text, "{query}");
    text.0.truncate(text.0.floor_char_boundary(MAX_TEXT));
    text.0
}

/// Takes a statement's text and refuses its values, which so are never written anywhere.
struct WithoutValues(String);

impl Write for WithoutValues {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        self.0.push_str(part);
        match self.0.find(VALUES) {
            Some(end) => {
                self.0.truncate(end);
                Err(fmt::Error)
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Display;

    use super::*;

    #[test]
    fn values_are_not_part_of_a_statement() {
        let text = |shown: &dyn Display| {
            let mut text = WithoutValues(String::new());
            _ = write!(text, "{shown}");
            text.0
        };

        assert_eq!(text(&format_args!("SELECT 1 -- binds: [{}]", "secret")), "SELECT 1");
        assert_eq!(text(&"SELECT 1 -- binds: [\"secret\"]"), "SELECT 1");
        assert_eq!(text(&"BEGIN IMMEDIATE"), "BEGIN IMMEDIATE");
    }
}
