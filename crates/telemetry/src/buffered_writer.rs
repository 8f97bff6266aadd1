//! Writes log lines from one thread: request lines a few at a time, all others at once.
//!
//! A server that answers fifty thousand requests a second would otherwise spend as much on writing their lines as on
//! checking their tokens. A kill loses the request lines of the last milliseconds, and never a warning or an audit event.
//!
//! No thread waits for a reader that stalls for longer than [`STALL_TIMEOUT`]. After that, lines that find no room are
//! dropped and counted.

use std::io::Write;
use std::mem::take;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use tracing::{Level, Metadata, warn};
use tracing_subscriber::fmt::MakeWriter;

/// How long a request line may wait for others.
const DELAY: Duration = Duration::from_millis(10);

/// How long a write may take before it counts as stalled.
const STALL_TIMEOUT: Duration = Duration::from_secs(1);

/// How many bytes may wait before a request line waits for room.
const MAX_WAITING: usize = 64 * 1024;

/// How many bytes may wait before any other line waits for room.
const MAX_WAITING_URGENT: usize = 1024 * 1024;

/// Takes lines for an output.
pub(crate) struct BufferedWriter<W> {
    state: Mutex<State<W>>,
    arrived: Condvar,
    written: Condvar,
    dropped: AtomicU64,
}

struct State<W> {
    /// Absent while the thread writes.
    output: Option<W>,
    waiting: Vec<u8>,
    /// How many lines have been added, and how many of them are written.
    added_lines: u64,
    written_lines: u64,
    /// Whether a line waits that must not wait for others.
    is_urgent: bool,
    writing_since: Option<Instant>,
    /// How many lines were dropped since the log last said so.
    unreported: u64,
    thread: Option<ThreadId>,
}

/// Takes the line of one event.
pub(crate) struct Line<'writer, W: Write> {
    writer: &'writer BufferedWriter<W>,
    is_urgent: bool,
}

impl<W: Write> BufferedWriter<W> {
    pub(crate) fn new(output: W) -> Self {
        let state = State {
            output: Some(output),
            waiting: Vec::new(),
            added_lines: 0,
            written_lines: 0,
            is_urgent: false,
            writing_since: None,
            unreported: 0,
            thread: None,
        };
        let dropped = AtomicU64::new(0);
        Self { state: Mutex::new(state), arrived: Condvar::new(), written: Condvar::new(), dropped }
    }

    /// How many lines were dropped since the start.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Waits until every line is written, or until the reader has stalled for too long. Returns whether all were written.
    pub(crate) fn finish(&self) -> bool {
        let mut state = self.state.lock();
        let last = state.added_lines;
        state.is_urgent = true;
        self.wait_until_written(&mut state, last)
    }

    fn add(&self, line: &[u8], is_urgent: bool) {
        let mut state = self.state.lock();
        // The thread cannot wait for itself.
        let may_wait = state.thread != Some(thread::current().id());
        let room = if is_urgent { MAX_WAITING_URGENT } else { MAX_WAITING };
        let deadline = state.stall_deadline();
        while state.thread.is_some() && state.waiting.len() > room {
            if !may_wait || self.written.wait_until(&mut state, deadline).timed_out() {
                state.unreported += 1;
                self.dropped.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
        let is_first = state.waiting.is_empty();
        state.waiting.extend_from_slice(line);
        state.added_lines += 1;
        if is_urgent && may_wait {
            state.is_urgent = true;
            let this = state.added_lines;
            self.wait_until_written(&mut state, this);
        } else if is_first {
            self.arrived.notify_one();
        }
    }

    fn wait_until_written(&self, state: &mut MutexGuard<'_, State<W>>, line: u64) -> bool {
        self.arrived.notify_one();
        if state.thread.is_none() {
            // No thread writes yet, or the system had none to give.
            let lines = take(&mut state.waiting);
            if let Some(output) = &mut state.output {
                // There is nowhere to report a failure to write the log.
                _ = output.write_all(&lines);
            }
            state.written_lines = state.added_lines;
            return true;
        }
        while state.written_lines < line {
            let deadline = state.stall_deadline();
            if self.written.wait_until(state, deadline).timed_out() && state.written_lines < line {
                return false;
            }
        }
        true
    }
}

impl<W> State<W> {
    /// When the reader counts as stalled, unless the write that is under way ends.
    fn stall_deadline(&self) -> Instant {
        self.writing_since.unwrap_or_else(now) + STALL_TIMEOUT
    }
}

impl<W: Write + Send + 'static> BufferedWriter<W> {
    /// Starts the thread that writes, which runs as long as the process.
    pub(crate) fn start(&'static self) {
        let mut state = self.state.lock();
        // Without the thread every line is written by the thread that adds it.
        if let Ok(thread) = thread::Builder::new().name("log".to_owned()).spawn(|| self.write_for_ever()) {
            state.thread = Some(thread.thread().id());
        }
    }

    fn write_for_ever(&self) {
        loop {
            let mut state = self.state.lock();
            self.arrived.wait_while(&mut state, |state| state.waiting.is_empty());
            self.arrived.wait_while_for(&mut state, |state| !state.is_urgent, DELAY);
            let (lines, last) = (take(&mut state.waiting), state.added_lines);
            let output = state.output.take();
            state.is_urgent = false;
            state.writing_since = Some(now());
            drop(state);

            let output = output.map(|mut output| {
                // There is nowhere to report a failure to write the log.
                _ = output.write_all(&lines);
                output
            });

            let mut state = self.state.lock();
            state.output = output;
            state.written_lines = last;
            state.writing_since = None;
            let dropped = take(&mut state.unreported);
            drop(state);
            self.written.notify_all();
            if dropped > 0 {
                warn!(dropped, "log lines were dropped because their reader stalled");
            }
        }
    }
}

impl<'writer, W: Write + 'writer> MakeWriter<'writer> for &'static BufferedWriter<W> {
    type Writer = Line<'writer, W>;

    fn make_writer(&'writer self) -> Line<'writer, W> {
        Line { writer: self, is_urgent: true }
    }

    fn make_writer_for(&'writer self, event: &Metadata<'_>) -> Line<'writer, W> {
        let is_request = event.target() == api::REQUEST_TARGET && *event.level() > Level::WARN;
        Line { writer: self, is_urgent: !is_request }
    }
}

impl<W: Write> Write for Line<'_, W> {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.writer.add(line, self.is_urgent);
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "condition variables wait by this clock")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};

    use super::*;

    struct Pieces(Sender<Vec<u8>>);

    impl Write for Pieces {
        fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
            self.0.send(piece.to_vec()).unwrap();
            Ok(piece.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn writer() -> (&'static BufferedWriter<Pieces>, Receiver<Vec<u8>>) {
        let (written, pieces) = channel();
        let writer = Box::leak(Box::new(BufferedWriter::new(Pieces(written))));
        writer.start();
        (writer, pieces)
    }

    /// An output that takes a piece only when its reader asks for one.
    struct Rendezvous(std::sync::mpsc::SyncSender<usize>);

    impl Write for Rendezvous {
        fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
            self.0.send(piece.len()).map_err(io::Error::other)?;
            Ok(piece.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn urgent_line_is_written_before_its_caller_goes_on() {
        let (writer, pieces) = writer();

        writer.add(b"one\n", false);
        writer.add(b"two\n", true);

        let written: Vec<u8> = pieces.try_iter().flatten().collect();
        assert_eq!(written, b"one\ntwo\n");
    }

    #[test]
    fn request_lines_are_written_without_a_later_line() {
        let (writer, pieces) = writer();

        for line in [&b"one\n"[..], b"two\n"] {
            writer.add(line, false);
            assert_eq!(pieces.recv().unwrap(), line);
        }
    }

    #[test]
    fn line_is_written_by_its_caller_before_the_thread_starts() {
        let (written, pieces) = channel();
        let writer = BufferedWriter::new(Pieces(written));

        writer.add(b"one\n", true);

        assert_eq!(pieces.try_recv().unwrap(), b"one\n");
        assert!(writer.finish());
    }

    #[test]
    fn stalled_reader_has_lines_dropped_and_counted() {
        let (written, reader) = sync_channel(0);
        let writer: &'static BufferedWriter<Rendezvous> =
            Box::leak(Box::new(BufferedWriter::new(Rendezvous(written))));
        writer.start();
        let line = [b'x'; 1024];

        // Three times what has room. The first waits of all end with one time-out.
        let begun = now();
        (0..192).for_each(|_| writer.add(&line, false));
        writer.add(b"urgent\n", true);
        let finished = writer.finish();
        let waited = now().duration_since(begun);

        assert!(!finished && waited < 4 * STALL_TIMEOUT, "{waited:?}");
        let kept = 192 - usize::try_from(writer.dropped()).unwrap();
        assert!((64..=130).contains(&kept), "{kept}");

        // When the reader goes on, it gets what waited.
        let mut read = 0;
        while read < kept * 1024 + b"urgent\n".len() {
            read += reader.recv().unwrap();
        }
        let reading = thread::spawn(move || while reader.recv().is_ok() {});
        assert!(writer.finish());
        writer.add(b"one more\n", true);
        drop(reading);
    }

    #[test]
    fn lines_of_many_threads_are_written_whole() {
        let (writer, pieces) = writer();
        let line = |thread: u8| [vec![b'a' + thread; 99], vec![b'\n']].concat();

        thread::scope(|scope| {
            for thread in 0..8 {
                scope.spawn(move || (0..1000).for_each(|n| writer.add(&line(thread), n % 7 == 0)));
            }
        });
        assert!(writer.finish());

        let written: Vec<u8> = pieces.try_iter().flatten().collect();
        assert_eq!(written.len(), 8 * 1000 * 100);
        for thread in 0..8 {
            assert_eq!(written.chunks(100).filter(|found| *found == line(thread)).count(), 1000);
        }
    }
}
