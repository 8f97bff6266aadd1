//! What holds for every store, whatever it is made of: each sentence of the ports that can be false.

mod audit;
mod import;
mod readiness;
mod sessions;
mod throttles;
mod users;

use super::fresh;
