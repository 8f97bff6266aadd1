//! What may not stand at either end of a value: nobody sees it, and in a secret it would be a part of the key.

use std::fmt;

use thiserror::Error;

/// What stands at an end of a value, as the end of a sentence that begins with the setting's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EdgeFault {
    /// U+FEFF, as some editors put it before a text.
    #[error("{0} with a byte order mark; save it as UTF-8 without one")]
    ByteOrderMark(End),
    /// More than the one line end that a file may have after its text.
    #[error("{0} with a line end, which would be a part of it; remove it")]
    LineEnd(End),
    /// A space, or what looks like one.
    #[error("{0} with a blank, which would be a part of it; remove it")]
    Blank(End),
    /// A control or formatting character.
    #[error("{0} with an invisible character, which would be a part of it; remove it")]
    Invisible(End),
    /// The same quotes at both ends, as `docker run --env-file` leaves them.
    #[error("is in quotes, which would be a part of it; remove them")]
    Quotes,
}

/// One of the two ends of a value, as a verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Its first character.
    First,
    /// Its last character.
    Last,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::First => "begins",
            Self::Last => "ends",
        })
    }
}

/// Quotes that enclose a text, the opening one first.
const QUOTES: [(char, char); 6] =
    [('"', '"'), ('\'', '\''), ('`', '`'), ('\u{201c}', '\u{201d}'), ('\u{2018}', '\u{2019}'), ('«', '»')];

impl EdgeFault {
    /// The first fault of a text, if it has one.
    pub fn of(text: &str) -> Option<Self> {
        let mut characters = text.chars();
        let first = characters.next()?;
        let last = characters.next_back();
        let at_an_end = |fault: fn(char) -> bool| {
            if fault(first) {
                return Some(End::First);
            }
            last.filter(|last| fault(*last)).map(|_| End::Last)
        };
        if let Some(end) = at_an_end(|c| c == '\u{feff}') {
            Some(Self::ByteOrderMark(end))
        } else if let Some(end) = at_an_end(|c| matches!(c, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}'))
        {
            Some(Self::LineEnd(end))
        } else if let Some(end) = at_an_end(char::is_whitespace) {
            Some(Self::Blank(end))
        } else if let Some(end) = at_an_end(is_invisible) {
            Some(Self::Invisible(end))
        } else if last.is_some_and(|last| QUOTES.contains(&(first, last))) {
            Some(Self::Quotes)
        } else {
            None
        }
    }
}

/// Control characters, and the formatting characters of Unicode that show nothing.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_is_found_at_either_end() {
        for (edge, fault) in [
            ("\u{feff}", EdgeFault::ByteOrderMark as fn(End) -> EdgeFault),
            ("\n", EdgeFault::LineEnd),
            ("\r\n", EdgeFault::LineEnd),
            ("\r", EdgeFault::LineEnd),
            ("\u{2028}", EdgeFault::LineEnd),
            (" ", EdgeFault::Blank),
            ("\t", EdgeFault::Blank),
            ("\u{a0}", EdgeFault::Blank),
            ("\u{3000}", EdgeFault::Blank),
            ("\0", EdgeFault::Invisible),
            ("\u{200b}", EdgeFault::Invisible),
            ("\u{2060}", EdgeFault::Invisible),
        ] {
            assert_eq!(EdgeFault::of(&format!("{edge}secret")), Some(fault(End::First)), "{edge:?} before");
            assert_eq!(EdgeFault::of(&format!("secret{edge}")), Some(fault(End::Last)), "{edge:?} behind");
        }
        for (opening, closing) in QUOTES {
            assert_eq!(EdgeFault::of(&format!("{opening}secret{closing}")), Some(EdgeFault::Quotes));
        }
    }

    #[test]
    fn ordinary_text_has_no_fault() {
        for text in
            ["", "a", "'", "'secret", "secret\"", "two words", "a\nb", "\u{201d}a\u{201c}", "gesperrt="]
        {
            assert_eq!(EdgeFault::of(text), None, "{text:?}");
        }
    }
}
