//! Programs of others that a test compares us with.

use std::fs::OpenOptions;
use std::io::Write;
use std::process::{Command, Stdio};

/// Whether there is such a program.
pub(crate) fn is_installed(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// Says loudly that a test does nothing for want of something, or fails where nothing may be skipped.
pub(crate) fn skip(test: &str, needs: &str) {
    let what = format!("{test}: needs {needs}");
    #[expect(clippy::disallowed_methods, reason = "whoever runs the tests says whether skipping will do")]
    let forbidden = std::env::var_os("TESTS_MUST_NOT_SKIP").is_some();
    assert!(!forbidden, "{what}");
    // Written past the test harness, which keeps what a passing test prints to itself.
    _ = writeln!(std::io::stderr(), "\n!!! SKIPPED {what}\n");
    #[expect(clippy::disallowed_methods, reason = "whoever runs the tests wants them counted")]
    if let Some(list) = std::env::var_os("TESTS_SKIPPED") {
        let mut list = OpenOptions::new().append(true).open(list).expect("the list of skipped tests");
        // One call, because tests run side by side.
        list.write_all(format!("{needs}\t{test}\n").as_bytes()).expect("room in the list of skipped tests");
    }
}
