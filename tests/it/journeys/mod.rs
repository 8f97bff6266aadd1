//! What people do with the running binary.

mod command_line;
mod start_and_stop;
