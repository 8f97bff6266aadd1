//! `.env`: lines of `NAME=value`, with quotes and references.
//!
//! dotenvy decides what is quoted or escaped. It would also replace a reference to nothing by an empty text, and so cut a
//! secret with a `$` in it; therefore references are replaced here.

use std::collections::HashMap;

/// Stands behind every `$` that dotenvy sees. It is no part of a name, so dotenvy replaces a reference by nothing and
/// leaves the mark. A `$` that is quoted or escaped stays before its mark.
const MARK: char = '\u{fdd0}';

/// What `.env` sets, in its order.
pub(super) struct Dotenv {
    pub(super) variables: Vec<Variable>,
    /// Why the rest was not read.
    pub(super) fault: Option<BrokenLine>,
}

pub(super) struct Variable {
    pub(super) name: String,
    /// `None` for a `$` that refers to nothing.
    pub(super) value: Option<String>,
}

/// A line that is not `NAME=value`, or a quote without its end.
pub(super) struct BrokenLine {
    /// The last name that was read before it.
    pub(super) after: Option<String>,
}

/// Reads the text of a file. A reference means a variable of the environment, or one of the file above it.
pub(super) fn read(text: &str, environment: &HashMap<&str, &str>) -> Dotenv {
    let marked = text.trim_start_matches('\u{feff}').replace('$', &format!("${MARK}"));
    let mut dotenv = Dotenv { variables: Vec::new(), fault: None };
    let mut known: HashMap<String, String> = HashMap::new();
    for line in dotenvy::from_read_iter(marked.as_bytes()) {
        let Ok((name, value)) = line else {
            let after = dotenv.variables.last().map(|variable| variable.name.clone());
            dotenv.fault = Some(BrokenLine { after });
            break;
        };
        let referred =
            |name: &str| environment.get(name).copied().or_else(|| known.get(name).map(String::as_str));
        let value = replace_references(&value, referred);
        match &value {
            Some(value) => known.insert(name.clone(), value.clone()),
            None => known.remove(&name),
        };
        dotenv.variables.push(Variable { name, value });
    }
    dotenv
}

/// The text with every reference replaced, unless one refers to nothing.
fn replace_references<'a>(marked: &str, referred: impl Fn(&str) -> Option<&'a str>) -> Option<String> {
    let mut value = String::with_capacity(marked.len());
    let mut rest = marked;
    while let Some((before, after)) = rest.split_once(MARK) {
        value.push_str(before);
        rest = after;
        if before.ends_with('$') {
            continue;
        }
        let name;
        (name, rest) = match after.strip_prefix('{') {
            Some(braced) => braced.split_once('}')?,
            None => after.split_at(
                after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len()),
            ),
        };
        value.push_str(referred(name)?);
    }
    value.push_str(rest);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value of the last line.
    fn last(text: &str) -> Option<String> {
        let dotenv = read(text, &HashMap::from([("HOME", "/root"), ("A_B", "ab")]));
        assert!(dotenv.fault.is_none(), "{text}");
        dotenv.variables.into_iter().last().unwrap().value
    }

    #[test]
    fn reference_to_nothing_is_no_value() {
        for value in [
            "abc$dR2mQ9xyz",
            "abc${dR2mQ9}xyz",
            "\"abc$dR2mQ9 xyz\"",
            "\"abc$dR2mQ9\"",
            "\"abc${dR2mQ9}\"",
            "${}",
            "a$",
            "a$$b",
            "$2b$12$abc",
            "a$-b",
            "\"a$\"",
            "$HOMER",
            "${HOME",
            "${HOME:-x}",
            "$É",
        ] {
            assert_eq!(last(&format!("X={value}\n")), None, "{value}");
        }
    }

    #[test]
    fn reference_to_a_variable_is_replaced() {
        for (text, value) in [
            ("X=$HOME/x", "/root/x"),
            ("X=${HOME}x", "/rootx"),
            ("X=\"$HOME\"", "/root"),
            ("X=\"${HOME} x\"", "/root x"),
            ("X=$A_B-c", "ab-c"),
            ("Y=1\nX=$Y$Y", "11"),
            ("Y=\nX=a${Y}b", "ab"),
            ("HOME=other\nX=$HOME", "/root"),
        ] {
            assert_eq!(last(text).as_deref(), Some(value), "{text}");
        }
    }

    #[test]
    fn quoted_or_escaped_dollar_is_literal() {
        for (text, value) in [
            ("X='abc$dR2mQ9'", "abc$dR2mQ9"),
            ("X='${x}$'", "${x}$"),
            ("X=abc\\$dR2mQ9", "abc$dR2mQ9"),
            ("X=\"abc\\$dR2mQ9 \\${x}\"", "abc$dR2mQ9 ${x}"),
            ("X=\\$$HOME", "$/root"),
            ("X='$'$HOME", "$/root"),
            ("X=plain # costs $5", "plain"),
            ("# $5\nX=plain", "plain"),
        ] {
            assert_eq!(last(text).as_deref(), Some(value), "{text}");
        }
    }

    #[test]
    fn variable_without_a_value_cannot_be_referred_to() {
        assert_eq!(last("Y=$nothing\nX=$Y"), None);
    }

    #[test]
    fn broken_line_names_the_variable_above_it() {
        let dotenv = read("X=1\nY='unclosed\n", &HashMap::new());

        assert_eq!(dotenv.fault.and_then(|fault| fault.after).as_deref(), Some("X"));
    }
}
