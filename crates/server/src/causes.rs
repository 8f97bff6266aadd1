//! All that an error says, on one line.

use std::error::Error;

/// An error and all that it came from. In the log it is the field `cause`, which reports of errors have too.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
