//! The log: one event, one line, on standard error, so that what a command answers stays clean on standard
//! output.
//!
//! Nothing that a client sends can begin a line of its own or reach a terminal as a control sequence: whatever
//! the fields hold, the line is escaped as a whole after it is made.

use std::fmt;
use std::io::{self, IsTerminal, Stderr};
use std::panic;
use std::sync::{LazyLock, OnceLock};

use serde_json::Value;
use settings::{Log, LogFormat};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber, error};
use tracing_subscriber::Registry;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::{DefaultFields, Format, FormatEvent, FormatFields, Json, Writer};
use tracing_subscriber::fmt::{FmtContext, MakeWriter, format};
use tracing_subscriber::layer::{Layered, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use crate::audit_lines;
use crate::buffered_writer::BufferedWriter;
use crate::error_reports::ErrorReports;

/// Room for most lines, so that they need not move while they are written.
const USUAL_LENGTH: usize = 512;

/// Our crates that log. Others are heard from a warning on, whatever the level.
pub const OURS: [&str; 9] = [
    "api",
    "domain",
    "hasher_bcrypt",
    "server",
    "settings",
    "store_postgres",
    "store_sqlite",
    "telemetry",
    "token_jwt",
];

/// The target that `tracing-log` gives what crates say that know `log` only, before theirs is put in its place.
const TAKEN_OVER: &str = "log";

type Filtered = Layered<reload::Layer<Targets, Registry>, Registry>;

/// Who reads the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Whoever watches a server.
    Operator,
    /// Somebody who typed one command, and sees its answer: warnings, and what the audit log is told.
    Caller,
    /// Somebody who watches a progress bar, which lines would tear apart: warnings only.
    Watcher,
}

/// Who reads it, and what they see of it, once it has begun.
static FILTER: OnceLock<(Audience, reload::Handle<Targets, Registry>)> = OnceLock::new();

static OUTPUT: LazyLock<BufferedWriter<Stderr>> = LazyLock::new(|| BufferedWriter::new(io::stderr()));

/// Begins the log of this process. Later calls change nothing.
///
/// Before the process ends, [`finish`] is to be called.
pub fn start(log: Log, audience: Audience) {
    let (filter, handle) = reload::Layer::new(filter(log.level, audience));
    let started = match log.format {
        LogFormat::Json => subscriber(filter, json(), &*OUTPUT).try_init(),
        LogFormat::Pretty => subscriber(filter, pretty(io::stderr().is_terminal()), &*OUTPUT).try_init(),
    };
    if started.is_ok() {
        _ = FILTER.set((audience, handle));
        OUTPUT.start();
        panic::set_hook(Box::new(|panic| {
            // Where, and not what: a message may hold what was being worked on.
            let place = panic.location().map(ToString::to_string);
            error!(place, "a thread panicked");
        }));
    }
}

/// Has the log of this process show what is of another level, from now on.
pub fn change_level(level: Level) {
    if let Some((audience, handle)) = FILTER.get() {
        // Fails only when the log is gone, which it never is.
        _ = handle.reload(filter(level, *audience));
    }
}

/// Writes the lines that still wait. Returns false if their reader stalled.
pub fn finish() -> bool {
    OUTPUT.finish()
}

/// How many lines were dropped because their reader stalled.
pub fn dropped_lines() -> u64 {
    OUTPUT.dropped()
}

fn filter(level: Level, audience: Audience) -> Targets {
    let asked = LevelFilter::from_level(level);
    let others = asked.min(LevelFilter::WARN);
    let (ours, audit) = match audience {
        Audience::Operator => (asked, LevelFilter::INFO),
        Audience::Caller => (others, LevelFilter::INFO),
        Audience::Watcher => (others, LevelFilter::OFF),
    };
    Targets::new()
        .with_default(others)
        .with_targets(OURS.map(|name| (name, ours)))
        // These complain of what clients send, of which anybody could have them write as much as they like.
        .with_targets([("actix_http", LevelFilter::OFF), ("rustls", others.min(LevelFilter::ERROR))])
        .with_target(audit_lines::TARGET, audit)
}

/// A format whose every line has one end, and no control character before it.
struct OneLine<F> {
    format: F,
    colours: bool,
}

fn json() -> OneLine<Format<Json>> {
    let format = format().json().flatten_event(true).with_current_span(false).with_span_list(false);
    OneLine { format, colours: false }
}

fn pretty(colours: bool) -> OneLine<Format> {
    OneLine { format: format().with_ansi(false), colours }
}

fn subscriber<F, W>(
    filter: reload::Layer<Targets, Registry>,
    format: OneLine<F>,
    writer: W,
) -> impl Subscriber + Send + Sync
where
    F: FormatEvent<Filtered, DefaultFields> + Send + Sync + 'static,
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().event_format(format).with_writer(writer);
    tracing_subscriber::registry().with(filter).with(lines).with(ErrorReports)
}

impl<S, N, F> FormatEvent<S, N> for OneLine<F>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = String::with_capacity(USUAL_LENGTH);
        self.format.format_event(context, Writer::new(&mut line), event)?;
        if event.metadata().target() == TAKEN_OVER {
            line = without_origin(line);
        }
        let colour = match *event.metadata().level() {
            Level::ERROR if self.colours => Some("\x1b[31m"),
            Level::WARN if self.colours => Some("\x1b[33m"),
            _ => None,
        };
        writer.write_str(colour.unwrap_or_default())?;
        // In runs, because character by character the writing costs as much as the formatting.
        let mut rest = line.trim_end_matches('\n');
        while let Some((at, character)) = first_not_plain(rest) {
            // Of this form in JSON as well, where such characters stand in strings only.
            write!(writer, "{}\\u{:04x}", &rest[..at], u32::from(character))?;
            rest = &rest[at + character.len_utf8()..];
        }
        writer.write_str(rest)?;
        writer.write_str(if colour.is_some() { "\x1b[0m\n" } else { "\n" })
    }
}

/// Leaves out of a line what `tracing-log` adds to one that it takes over: target and level once more, and where in the
/// sources it is, which is a path of the machine that built this. The format for people leaves it out by itself.
fn without_origin(line: String) -> String {
    let Ok(Value::Object(mut fields)) = serde_json::from_str(&line) else { return line };
    fields.retain(|name, _| !name.starts_with("log."));
    Value::Object(fields).to_string()
}

fn first_not_plain(text: &str) -> Option<(usize, char)> {
    // Nearly every line is plain ASCII, which is seen faster by bytes.
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return None;
    }
    text.char_indices().find(|(_, character)| !is_plain(*character))
}

/// Whether a character can do nothing but appear: controls move the cursor, U+2028 and U+2029 end lines, and
/// the bidirectional ones show a line in another order than it has.
pub fn is_plain(character: char) -> bool {
    !character.is_control()
        && !matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
pub(crate) mod testing {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// The lines that `work` logs as JSON, parsed.
    pub(crate) fn json_lines(work: impl FnOnce()) -> Vec<serde_json::Value> {
        let lines = lines(json(), work);
        lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The lines that `work` logs for people.
    pub(crate) fn pretty_lines(work: impl FnOnce()) -> Vec<String> {
        lines(pretty(true), work)
    }

    fn lines<F>(format: OneLine<F>, work: impl FnOnce()) -> Vec<String>
    where
        F: FormatEvent<Filtered, DefaultFields> + Send + Sync + 'static,
    {
        let log = Log { level: Level::INFO, format: LogFormat::Json };
        let written = Arc::new(Mutex::new(Vec::new()));
        let subscriber = subscriber(
            reload::Layer::new(filter(log.level, Audience::Operator)).0,
            format,
            Written(written.clone()),
        );
        tracing::subscriber::with_default(subscriber, work);
        let written = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        written.split_terminator('\n').map(str::to_owned).collect()
    }

    #[derive(Clone)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Written {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tracing::{info, warn};

    use super::testing::{json_lines, pretty_lines};
    use super::*;

    const HOSTILE: &str = "a\r\n{\"level\":\"ERROR\"}\x1b[2J\u{9b}31m\x07\x7f\u{202e}\u{2028}\0 z";

    #[test]
    fn nothing_in_a_field_begins_a_line_or_reaches_the_terminal() {
        let hostile = || {
            info!(text = HOSTILE, shown = %HOSTILE, debugged = ?HOSTILE, "{HOSTILE}");
            warn!(shown = %HOSTILE);
        };

        let json = json_lines(hostile);
        let pretty = pretty_lines(hostile);

        assert_eq!((json.len(), pretty.len()), (2, 2), "{json:?} {pretty:?}");
        assert_eq!(json[0]["text"], HOSTILE);
        assert_eq!(json[0]["message"], HOSTILE);
        assert!(pretty[0].chars().all(is_plain), "{:?}", pretty[0]);
        let warning = pretty[1].strip_prefix("\x1b[33m").unwrap().strip_suffix("\x1b[0m").unwrap();
        assert!(warning.chars().all(is_plain), "{warning:?}");
    }

    #[test]
    fn what_others_say_by_log_has_a_line_like_all_others() {
        let by_log = || {
            let mut record = tracing_log::log::Record::builder();
            record.level(tracing_log::log::Level::Warn).target("actix_server::worker");
            record.module_path(Some("actix_server::worker")).file(Some("/registry/worker.rs")).line(Some(7));
            tracing_log::format_trace(&record.args(format_args!("a \"worker\"\n died")).build()).unwrap();
        };

        let json = json_lines(by_log).remove(0);
        let pretty = pretty_lines(by_log).remove(0);

        let names: BTreeSet<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, BTreeSet::from(["level", "message", "target", "timestamp"]));
        assert_eq!(json["message"], "a \"worker\"\n died");
        assert_eq!((&json["level"], &json["target"]), (&"WARN".into(), &"actix_server::worker".into()));
        assert!(pretty.contains("WARN actix_server::worker: a \"worker\""), "{pretty}");
        assert!(!pretty.contains("log.") && !pretty.contains("registry"), "{pretty}");
    }

    #[test]
    fn others_speak_from_a_warning_on_and_the_audit_log_always() {
        let log = Log { level: Level::ERROR, format: LogFormat::Json };
        let shown = |audience, target: &str, level| filter(log.level, audience).would_enable(target, &level);

        assert!(!shown(Audience::Operator, "api", Level::WARN));
        assert!(shown(Audience::Operator, audit_lines::TARGET, Level::INFO));
        assert!(shown(Audience::Caller, audit_lines::TARGET, Level::INFO));
        assert!(!shown(Audience::Watcher, audit_lines::TARGET, Level::INFO));

        let log = Log { level: Level::TRACE, format: LogFormat::Json };
        let shown = |target: &str, level| filter(log.level, Audience::Operator).would_enable(target, &level);
        assert!(shown("api::caller", Level::TRACE));
        assert!(!shown("actix_server", Level::INFO));
        assert!(shown("actix_server", Level::WARN));
    }
}
