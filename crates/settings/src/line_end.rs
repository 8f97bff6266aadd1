//! The line end that editors and `echo` put after a text which is all that a file or a pipe holds.

/// Takes one line end away and nothing else, since the text may end with others of its own.
pub fn cut(text: &mut String) {
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn one_line_end_goes_and_nothing_else() {
        for (text, left) in
            [("", ""), ("a", "a"), ("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("a\r", "a\r"), ("\n", "")]
        {
            let mut cut = text.to_owned();
            super::cut(&mut cut);

            assert_eq!(cut, left, "{text:?}");
        }
    }
}
