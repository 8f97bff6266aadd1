//! What is sent to others beside the requests: gathered without waiting, delivered by a thread of its own, dropped when
//! there is too much of it. Whether anybody takes it makes no difference to a client.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, channel, sync_channel};
use std::thread;
use std::time::Duration;

use domain::ports::Clock;
use parking_lot::Mutex;
use rustls::crypto::aws_lc_rs;
use thiserror::Error;
use tracing::{info, warn};
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// How long a delivery may take. Nobody waits for it but a stop.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many wait, how many go together, and for how long the first of them waits for more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) waiting: usize,
    pub(crate) together: usize,
    pub(crate) delay: Duration,
}

/// Takes items for a delivery that goes on by itself.
pub(crate) struct Outbox<T> {
    name: &'static str,
    queue: SyncSender<Order<T>>,
    is_finishing: Arc<AtomicBool>,
    /// Says nothing, and is closed when the thread has ended.
    ended: Mutex<Receiver<()>>,
}

enum Order<T> {
    Deliver(T),
    /// There is a flag to look at.
    Wake,
}

/// A place on the network that takes what is posted.
pub(crate) struct Recipient {
    agent: Agent,
    url: String,
    headers: Vec<(&'static str, String)>,
    /// Whether it took the last delivery.
    is_well: bool,
}

/// Why something was not delivered. It names nothing of what it was, nor to whom, for there may be a key in that.
#[derive(Debug, Error)]
enum Undelivered {
    #[error("the recipient answers {0}")]
    Refused(u16),
    #[error("the recipient cannot be reached: {0}")]
    Unreachable(&'static str),
}

impl<T: Send + 'static> Outbox<T> {
    /// Starts the thread, which has `deliver` see to what was gathered.
    pub(crate) fn start(
        name: &'static str,
        limits: Limits,
        clock: Arc<dyn Clock>,
        mut deliver: impl FnMut(Vec<T>) + Send + 'static,
    ) -> io::Result<Self> {
        let (queue, waiting) = sync_channel(limits.waiting);
        let (ending, ended) = channel();
        let is_finishing = Arc::new(AtomicBool::new(false));
        let finishing = is_finishing.clone();
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            while let Some(items) = gather(&waiting, limits, &*clock, &finishing) {
                if !items.is_empty() {
                    deliver(items);
                }
            }
            drop::<std::sync::mpsc::Sender<()>>(ending);
        })?;
        Ok(Self { name, queue, is_finishing, ended: Mutex::new(ended) })
    }

    /// Has this delivered, unless too much waits already.
    pub(crate) fn offer(&self, item: T) {
        // What finds no room is lost, which is better than somebody who waits for it.
        let _ = self.queue.try_send(Order::Deliver(item));
    }

    /// Delivers what waits, for as long as `patience` lasts.
    pub(crate) fn finish(&self, patience: Duration) {
        self.is_finishing.store(true, Ordering::SeqCst);
        // Where there is no room the thread is awake.
        let _ = self.queue.try_send(Order::Wake);
        let ended = self.ended.lock();
        // What it says is nothing but that it has ended. Otherwise it is left behind; the process ends in both cases.
        if ended.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
            warn!(outbox = self.name, "what waits cannot be delivered in time, and is dropped");
        }
    }
}

/// What goes together next; nothing when nothing will come any more.
fn gather<T>(
    waiting: &Receiver<Order<T>>,
    limits: Limits,
    clock: &dyn Clock,
    is_finishing: &AtomicBool,
) -> Option<Vec<T>> {
    let mut items = Vec::new();
    let mut until = None;
    while items.len() < limits.together {
        let order = match until {
            _ if is_finishing.load(Ordering::SeqCst) => match waiting.try_recv() {
                Ok(order) => order,
                Err(TryRecvError::Empty | TryRecvError::Disconnected) if items.is_empty() => return None,
                Err(_) => break,
            },
            None => waiting.recv().ok()?,
            Some(until) => match waiting.recv_timeout(Duration::saturating_sub(until, clock.monotonic())) {
                Ok(order) => order,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            },
        };
        if let Order::Deliver(item) = order {
            until.get_or_insert_with(|| clock.monotonic().saturating_add(limits.delay));
            items.push(item);
        }
    }
    Some(items)
}

impl Recipient {
    /// Posts to `url`, over TLS as the system trusts it where it says so. No proxy and no other place is asked.
    pub(crate) fn new(url: String, headers: Vec<(&'static str, String)>) -> Self {
        let roots = rustls_native_certs::load_native_certs().certs;
        let roots = roots.iter().map(|root| Certificate::from_der(root).to_owned());
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::Specific(Arc::new(roots.collect())))
            .unversioned_rustls_crypto_provider(Arc::new(aws_lc_rs::default_provider()))
            .build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .proxy(None)
            .max_redirects(0)
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .user_agent(concat!("auth-api/", env!("CARGO_PKG_VERSION")))
            .build();
        Self { agent: config.into(), url, headers, is_well: true }
    }

    /// Posts a body. What is not taken is lost; that it is not is told once, until something is taken again.
    pub(crate) fn post(&mut self, what: &'static str, content_type: &str, body: &[u8]) {
        match self.try_post(content_type, body) {
            Ok(()) if !self.is_well => {
                self.is_well = true;
                info!(what, "delivered again");
            }
            // Not an error, or it would be reported to somebody who is not there.
            Err(cause) if self.is_well => {
                self.is_well = false;
                warn!(what, %cause, "cannot be delivered, and is dropped");
            }
            Ok(()) | Err(_) => {}
        }
    }

    fn try_post(&self, content_type: &str, body: &[u8]) -> Result<(), Undelivered> {
        let mut request = self.agent.post(&self.url).header("Content-Type", content_type);
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        match request.send(body) {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(Undelivered::Refused(answer.status().as_u16())),
            Err(error) => Err(Undelivered::Unreachable(match error {
                ureq::Error::Timeout(_) => "it takes too long",
                ureq::Error::HostNotFound => "there is no such host",
                ureq::Error::ConnectionFailed | ureq::Error::Io(_) => "there is no connection",
                ureq::Error::Tls(_) | ureq::Error::Rustls(_) => {
                    "its certificate is not trusted, or it speaks no TLS"
                }
                _ => "it does not speak HTTP",
            })),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// The clock of this process, whose time of day nobody asks for.
    struct SystemClock(std::time::Instant);

    impl SystemClock {
        #[expect(clippy::disallowed_methods, reason = "a test waits for real time")]
        fn new() -> Self {
            Self(std::time::Instant::now())
        }
    }

    impl Clock for SystemClock {
        fn now(&self) -> jiff::Timestamp {
            jiff::Timestamp::UNIX_EPOCH
        }

        fn monotonic(&self) -> Duration {
            self.0.elapsed()
        }
    }

    const HOUR: Duration = Duration::from_hours(1);

    fn outbox(limits: Limits, deliver: impl FnMut(Vec<u32>) + Send + 'static) -> Outbox<u32> {
        Outbox::start("outbox", limits, Arc::new(SystemClock::new()), deliver).unwrap()
    }

    #[test]
    fn what_waits_goes_together_and_a_stop_does_not_wait_for_more() {
        let (delivered, deliveries) = mpsc::channel();
        let limits = Limits { waiting: 100, together: 10, delay: HOUR };
        let outbox = outbox(limits, move |items| delivered.send(items).unwrap());

        (0..25).for_each(|number| outbox.offer(number));
        outbox.finish(HOUR);

        let deliveries: Vec<_> = deliveries.iter().collect();
        assert_eq!(deliveries.iter().map(Vec::len).collect::<Vec<_>>(), [10, 10, 5]);
        assert_eq!(deliveries.concat(), (0..25).collect::<Vec<_>>());
    }

    #[test]
    fn what_finds_no_room_is_dropped_and_nobody_waits() {
        let (begun, begins) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let (delivered, deliveries) = mpsc::channel();
        let limits = Limits { waiting: 3, together: 1, delay: Duration::ZERO };
        let outbox = outbox(limits, move |items| {
            begun.send(()).unwrap();
            let _ = released.recv();
            delivered.send(items).unwrap();
        });

        outbox.offer(0);
        begins.recv().unwrap();
        (1..100).for_each(|number| outbox.offer(number));
        drop(release);
        outbox.finish(HOUR);

        assert_eq!(deliveries.iter().flatten().collect::<Vec<_>>(), [0, 1, 2, 3]);
    }

    #[test]
    fn a_delivery_that_hangs_is_left_behind() {
        let (_release, released) = mpsc::channel::<()>();
        let limits = Limits { waiting: 3, together: 1, delay: Duration::ZERO };
        let outbox = outbox(limits, move |_| _ = released.recv());

        outbox.offer(0);
        outbox.finish(Duration::from_millis(1));

        assert!(outbox.is_finishing.load(Ordering::SeqCst));
    }
}
