//! What is left behind when somebody interrupts a run, and what is done about it: a server would go on for ever,
//! and ten million users fill a disk.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, exit};
use std::thread;

use parking_lot::{Mutex, MutexGuard};
use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

/// The exit code of a program that a signal ended, as shells have it for SIGINT.
const INTERRUPTED: i32 = 130;

/// The processes that run, and the folders that they use.
static TRACES: Mutex<(Vec<Pid>, Vec<PathBuf>)> = Mutex::new((Vec::new(), Vec::new()));

/// From now on SIGINT and SIGTERM end this program and all that it has started.
pub(crate) fn wipe_when_interrupted() -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let inside = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    drop(inside);
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        // Held to the end, so that nothing is started meanwhile.
        let traces = traces();
        for process in &traces.0 {
            _ = kill_process(*process, Signal::KILL);
        }
        for folder in &traces.1 {
            _ = fs::remove_dir_all(folder);
        }
        exit(INTERRUPTED);
    });
    Ok(())
}

/// Takes note of a process until [`forget_process`] is told of it.
pub(crate) fn note_process(process: &Child) {
    traces().0.push(Pid::from_child(process));
}

/// A process has ended.
pub(crate) fn forget_process(process: &Child) {
    let ended = Pid::from_child(process);
    traces().0.retain(|pid| *pid != ended);
}

/// Takes note of a folder. Removing it twice does no harm.
pub(crate) fn note_folder(folder: &Path) {
    traces().1.push(folder.to_owned());
}

fn traces() -> MutexGuard<'static, (Vec<Pid>, Vec<PathBuf>)> {
    TRACES.lock()
}
