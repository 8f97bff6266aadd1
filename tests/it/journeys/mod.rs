//! What people do with the running binary.

mod accounts;
mod audit;
mod backends;
mod command_line;
mod example_page;
mod given_keys;
mod hashing;
mod http;
mod keys;
mod ledger;
mod log;
mod own_account;
mod pages;
mod sessions;
mod start_and_stop;
