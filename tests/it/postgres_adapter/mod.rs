//! What the store on PostgreSQL promises beyond the store contract: which databases it opens, how it gets to them, and what it does
//! while they are away.

mod connections;
mod contents;
mod opening;
mod outages;
mod races;
mod sealing;
mod serving;
mod tls;
mod transactions;
mod upgrading;
