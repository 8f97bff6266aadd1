use tokio::runtime::{Builder, Runtime};

/// A runtime for a store. The tests' own has one thread, like a worker of actix.
pub(crate) fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}
