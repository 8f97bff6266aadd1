//! A way to a server that may fall silent.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use test_postgres::PASSWORD;

/// The way to a server, which may fall silent: what comes is taken and not passed on.
pub(crate) struct Way {
    address: SocketAddr,
    silent: Arc<Mutex<Arc<AtomicBool>>>,
}

impl Way {
    pub(crate) fn to(socket: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let silent = Arc::new(Mutex::new(Arc::new(AtomicBool::new(false))));
        let (socket, of_new) = (socket.to_owned(), silent.clone());
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), UnixStream::connect(&socket).unwrap());
                let silent = of_new.lock().unwrap().clone();
                let (to, from) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                let for_back = silent.clone();
                thread::spawn(move || pass(from, to, &silent));
                thread::spawn(move || pass(server, client, &for_back));
            }
        });
        Self { address, silent }
    }

    /// The database `postgres` by this way.
    pub(crate) fn url(&self) -> String {
        let password = PASSWORD.replace(' ', "%20");
        format!("postgres://postgres:{password}@{}/postgres?sslmode=disable", self.address)
    }

    /// From now on, also for those who come.
    pub(crate) fn fall_silent(&self) {
        self.silent.lock().unwrap().store(true, Ordering::SeqCst);
    }

    /// For those who come from now on.
    pub(crate) fn speak(&self) {
        *self.silent.lock().unwrap() = Arc::new(AtomicBool::new(false));
    }
}

fn pass(mut from: impl Read, mut to: impl Write, silent: &AtomicBool) {
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        if !silent.load(Ordering::SeqCst) && to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
}
