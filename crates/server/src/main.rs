//! The binary `auth-api`.

use std::process::ExitCode;

fn main() -> ExitCode {
    server::run()
}
