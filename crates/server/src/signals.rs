//! SIGTERM and SIGINT, handled from the first instant.
//!
//! Until a server takes over, they end the process at once. The kernel would do that too, except for process 1 of a
//! container, which has no default action.

use std::io;
use std::process;
use std::sync::mpsc;
use std::thread;

use parking_lot::Mutex;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// The server that decides what a signal does, once there is one.
static SERVER: Mutex<Option<UnboundedSender<Ending>>> = Mutex::new(None);

/// A signal that asks the process to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// SIGTERM, by a supervisor.
    Terminate,
    /// SIGINT, by Ctrl-C.
    Interrupt,
}

impl Ending {
    /// What shells report for a process that the signal ended: 128 and the signal's number.
    fn exit_code(self) -> i32 {
        match self {
            Self::Terminate => 143,
            Self::Interrupt => 130,
        }
    }
}

/// Handles the signals from now on.
pub(crate) fn handle() -> io::Result<()> {
    let (ready, is_ready) = mpsc::sync_channel(1);
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let runtime = Builder::new_current_thread().enable_io().build();
        let watched = runtime.and_then(|runtime| runtime.block_on(watch(&ready)));
        if let Err(error) = watched {
            _ = ready.send(Err(error));
        }
    })?;
    is_ready.recv().unwrap_or_else(|_| Err(io::Error::other("the thread for signals panicked")))
}

/// The signals that come from now on. They end nothing by themselves any more.
pub(crate) fn take_over() -> UnboundedReceiver<Ending> {
    let (sender, receiver) = unbounded_channel();
    *SERVER.lock() = Some(sender);
    receiver
}

/// Resolves at the first signal that comes from now on, for a command that stops where nothing is lost.
pub(crate) fn interrupted() -> impl Future<Output = ()> {
    let mut endings = take_over();
    async move { _ = endings.recv().await }
}

async fn watch(ready: &mpsc::SyncSender<io::Result<()>>) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    _ = ready.send(Ok(()));
    loop {
        let ending = tokio::select! {
            _ = terminate.recv() => Ending::Terminate,
            _ = interrupt.recv() => Ending::Interrupt,
        };
        match &*SERVER.lock() {
            // A server that no longer listens is at its end.
            Some(server) => _ = server.send(ending),
            None => process::exit(ending.exit_code()),
        }
    }
}
