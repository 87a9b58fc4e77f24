//! Texts of others in lines of ours.

/// The text without what would end the line or steer a terminal: such characters are written as escapes.
pub(super) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line
}

/// The beginning of a text, at most `chars_max` characters.
pub(super) fn beginning(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// `1 message`, `2 messages`.
pub(super) fn messages(count: u64) -> String {
    if count == 1 { "1 message".to_owned() } else { format!("{count} messages") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_message_is_not_several() {
        assert_eq!([0, 1, 2].map(messages), ["0 messages", "1 message", "2 messages"]);
    }

    #[test]
    fn what_others_wrote_stays_in_its_line_and_off_the_terminal() {
        assert_eq!(one_line("a\nb\u{1b}[31mc\u{9b}ü"), "a\\nb\\u{1b}[31mc\\u{9b}ü");
    }

    #[test]
    fn a_beginning_ends_between_characters() {
        assert_eq!(beginning("äöü", 3), "äöü");
        assert_eq!(beginning("äöü", 2), "äö…");
    }
}
