//! Bytes as text between two lines that say what they are (RFC 7468).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// How many characters a line has.
const LINE: usize = 64;

/// The text, which ends with a line end.
pub(crate) fn encode(label: &str, bytes: &[u8]) -> Zeroizing<String> {
    let base64 = Zeroizing::new(STANDARD.encode(bytes));
    // Made once of the size it will have, so that it leaves no copies where it grew out of its place.
    let mut text = Zeroizing::new(String::with_capacity(2 * base64.len() + 2 * label.len() + 64));
    text.extend(["-----BEGIN ", label, "-----\n"]);
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, others) = rest.split_at(rest.len().min(LINE));
        text.extend([line, "\n"]);
        rest = others;
    }
    text.extend(["-----END ", label, "-----\n"]);
    text
}

/// The bytes of a text that is nothing but one such block, perhaps with other line ends.
pub(crate) fn decode(label: &str, text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut lines = text.lines();
    let begins = lines.next()?.strip_prefix("-----BEGIN ")?.strip_suffix("-----")? == label;
    let mut base64 = Zeroizing::new(String::with_capacity(text.len()));
    let end = loop {
        match lines.next()? {
            line if line.starts_with('-') => break line,
            line => base64.push_str(line),
        }
    };
    let ends = end.strip_prefix("-----END ")?.strip_suffix("-----")? == label;
    if !begins || !ends || lines.next().is_some() {
        return None;
    }
    STANDARD.decode(base64.as_bytes()).ok().map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_back() {
        for length in [0, 1, 47, 48, 49, 300] {
            let bytes = vec![0xa5; length];

            let text = encode("PRIVATE KEY", &bytes);

            assert!(text.lines().all(|line| line.len() <= LINE), "{length}");
            assert_eq!(decode("PRIVATE KEY", &text).as_deref(), Some(&bytes));
            assert_eq!(decode("PRIVATE KEY", &text.replace('\n', "\r\n")).as_deref(), Some(&bytes));
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let good = encode("X", b"something");
        for text in [
            "",
            "-----BEGIN X-----",
            "-----BEGIN X-----\n",
            "-----BEGIN X-----\nAAAA\n",
            "-----BEGIN X-----\nAAAA\n-----END Y-----\n",
            "-----BEGIN X-----\nAA*A\n-----END X-----\n",
            "-----BEGIN X-----\nAAA\n-----END X-----\n",
            &format!("{}{}", *good, *good),
            &format!("Words\n{}", *good),
        ] {
            assert_eq!(decode("X", text), None, "{text:?}");
        }
        assert_eq!(decode("Y", &good), None);
    }
}
