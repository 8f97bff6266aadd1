//! Passwords come from a prompt, or from standard input, and from nowhere else.

use std::io::{self, IsTerminal, Read};

use domain::{Password, PasswordProblem};
use settings::EdgeFault;
use settings::line_end;
use tracing::warn;
use zeroize::Zeroizing;

use super::{Exit, Failure};

/// More bytes than the longest password has; a pipe to something endless must not fill the memory.
const LONGEST_INPUT: usize = 16 * 1024;

/// Asks for a password, twice, or takes what standard input holds, without one line end after it.
pub(super) fn read() -> Result<Password, Failure> {
    let text = if io::stdin().is_terminal() { ask_twice()? } else { read_all()? };
    Password::parse(&text).map_err(refused)
}

/// What to say of a password that cannot be chosen.
pub(super) fn refused(problem: PasswordProblem) -> Failure {
    let advice = match problem {
        PasswordProblem::TooLong => format!("; it may have {} characters", domain::MAX_PASSWORD_LENGTH),
        PasswordProblem::TooGuessable => "; try several words that do not belong together".to_owned(),
        PasswordProblem::TooShort { .. } | PasswordProblem::InvalidCharacters => String::new(),
    };
    Failure::new(Exit::Refused, format_args!("{problem}{advice}"))
}

fn ask_twice() -> Result<Zeroizing<String>, Failure> {
    let ask = |question| {
        let answer = rpassword::prompt_password(question);
        answer.map(Zeroizing::new).map_err(|error| Failure::from_error(Exit::Failed, &error))
    };
    let first = ask("Password: ")?;
    if *first == *ask("The same again: ")? {
        Ok(first)
    } else {
        Err(Failure::new(Exit::Refused, "the two passwords differ; nothing was changed"))
    }
}

fn read_all() -> Result<Zeroizing<String>, Failure> {
    // Sized before it is filled: a string that grows leaves copies of itself behind.
    let mut text = Zeroizing::new(String::with_capacity(LONGEST_INPUT + 1));
    let read = io::stdin().lock().take(LONGEST_INPUT as u64 + 1).read_to_string(&mut text);
    read.map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => {
            let problem =
                "the password on standard input is not text in UTF-8; `iconv -f UTF-16 -t UTF-8` converts it";
            Failure::new(Exit::Refused, problem)
        }
        _ => {
            Failure::new(Exit::Failed, format_args!("cannot read the password from standard input: {error}"))
        }
    })?;
    if text.len() > LONGEST_INPUT {
        return Err(refused(PasswordProblem::TooLong));
    }
    line_end::cut(&mut text);
    match EdgeFault::of(&text) {
        // People choose such passwords, and programs that quote make them.
        Some(EdgeFault::Quotes) => warn!("the password is in quotes, which are a part of it"),
        Some(EdgeFault::Blank(end)) if text.trim_matches(' ') == text.trim() => {
            warn!("the password {end} with a blank, which is a part of it");
        }
        Some(fault) => return Err(Failure::new(Exit::Refused, format_args!("the password {fault}"))),
        None => {}
    }
    if text.contains(['\n', '\r']) {
        let problem = "the password has several lines on standard input; pass it once, on one line";
        return Err(Failure::new(Exit::Refused, problem));
    }
    Ok(text)
}
