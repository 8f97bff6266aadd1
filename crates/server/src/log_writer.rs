//! Where log lines go out: those of requests a few at a time, all others at once.
//!
//! A server that answers fifty thousand requests a second would otherwise spend as much on writing their lines as on
//! checking their tokens, with its threads waiting for each other at one file. What a kill takes with it are the lines
//! of the last milliseconds' requests, and never one of a warning or of an attempt.

use std::io::Write;
use std::mem::swap;
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// For how long the line of a request may wait. Whoever watches the log does not see it.
const DELAY: Duration = Duration::from_millis(10);

/// How many bytes may wait. Beyond that, whoever adds a line writes them: where nobody takes lines off, requests wait
/// and the memory does not fill.
const MOST: usize = 64 * 1024;

/// Gathers lines for an output.
pub(crate) struct LogWriter<W> {
    waiting: Mutex<Vec<u8>>,
    first_waits: Condvar,
    /// Together with room for what is being written.
    output: Mutex<(W, Vec<u8>)>,
}

/// Takes the line of one event.
pub(crate) struct Line<'writer, W: Write> {
    writer: &'writer LogWriter<W>,
    at_once: bool,
}

impl<W: Write> LogWriter<W> {
    pub(crate) fn new(output: W) -> Self {
        let output = Mutex::new((output, Vec::new()));
        Self { waiting: Mutex::default(), first_waits: Condvar::new(), output }
    }

    /// Writes what waits.
    pub(crate) fn flush(&self) {
        // Held from before the lines are taken until they are out, so that none overtakes another.
        let (output, lines) = &mut *self.output.lock();
        swap(lines, &mut *self.waiting.lock());
        // Where no line can be written, there is nowhere to say so.
        _ = output.write_all(lines);
        lines.clear();
    }

    fn add(&self, line: &[u8], at_once: bool) {
        let mut waiting = self.waiting.lock();
        let is_first = waiting.is_empty();
        waiting.extend_from_slice(line);
        let is_full = waiting.len() > MOST;
        drop(waiting);
        if at_once || is_full {
            self.flush();
        } else if is_first {
            self.first_waits.notify_one();
        }
    }
}

impl<W: Write + Send + 'static> LogWriter<W> {
    /// Begins to write what has waited for long enough, for as long as the process lives.
    pub(crate) fn start(&'static self) {
        let follow = move || {
            loop {
                self.first_waits.wait_while(&mut self.waiting.lock(), |waiting| waiting.is_empty());
                thread::sleep(DELAY);
                self.flush();
            }
        };
        // Without the thread lines wait for the next one that does not, or until they are many.
        _ = thread::Builder::new().name("log".to_owned()).spawn(follow);
    }
}

impl<'writer, W: Write + 'writer> MakeWriter<'writer> for &'static LogWriter<W> {
    type Writer = Line<'writer, W>;

    fn make_writer(&'writer self) -> Line<'writer, W> {
        Line { writer: self, at_once: true }
    }

    fn make_writer_for(&'writer self, event: &Metadata<'_>) -> Line<'writer, W> {
        let may_wait = event.target() == api::REQUEST_TARGET && *event.level() > Level::WARN;
        Line { writer: self, at_once: !may_wait }
    }
}

impl<W: Write> Write for Line<'_, W> {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.writer.add(line, self.at_once);
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::mpsc::{Receiver, Sender, channel};

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

    fn writer() -> (&'static LogWriter<Pieces>, Receiver<Vec<u8>>) {
        let (written, pieces) = channel();
        (Box::leak(Box::new(LogWriter::new(Pieces(written)))), pieces)
    }

    #[test]
    fn lines_that_may_wait_go_out_together_before_the_first_that_may_not() {
        let (writer, pieces) = writer();

        writer.add(b"one\n", false);
        writer.add(b"two\n", false);
        assert!(pieces.try_recv().is_err());
        writer.add(b"three\n", true);

        assert_eq!(pieces.try_recv().unwrap(), b"one\ntwo\nthree\n");
        writer.flush();
        assert!(pieces.try_recv().is_err());
    }

    #[test]
    fn what_waits_goes_out_by_itself() {
        let (writer, pieces) = writer();
        writer.start();

        for line in [&b"one\n"[..], b"two\n"] {
            writer.add(line, false);
            assert_eq!(pieces.recv().unwrap(), line);
        }
    }

    #[test]
    fn no_more_waits_than_there_is_room_for() {
        let (writer, pieces) = writer();
        let line = [b'x'; 1024];

        for _ in 0..65 {
            writer.add(&line, false);
        }

        assert_eq!(pieces.try_recv().unwrap().len(), 65 * 1024);
    }

    #[test]
    fn lines_of_many_threads_come_out_whole() {
        let (writer, pieces) = writer();
        let line = |thread: u8| [vec![b'a' + thread; 99], vec![b'\n']].concat();

        thread::scope(|scope| {
            for thread in 0..8 {
                scope.spawn(move || (0..1000).for_each(|n| writer.add(&line(thread), n % 7 == 0)));
            }
        });
        writer.flush();

        let written: Vec<u8> = pieces.try_iter().flatten().collect();
        assert_eq!(written.len(), 8 * 1000 * 100);
        for thread in 0..8 {
            assert_eq!(written.chunks(100).filter(|found| *found == line(thread)).count(), 1000);
        }
    }
}
