//! The two text encodings that a rejection needs. Pure functions; not a JSON library.

use std::fmt::Write;

/// Appends `text` to `out` as a JSON string, quotes included.
pub(super) fn json_string(out: &mut String, text: &str) {
    out.push('"');
    for char in text.chars() {
        match char {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if u32::from(control) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

/// `text` percent-encoded as the gRPC specification wants `grpc-message`: everything but printable ASCII, and `%`.
pub(super) fn grpc_message(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if (0x20..=0x7e).contains(&byte) && byte != b'%' {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_escapes_what_json_must() {
        let mut out = String::new();
        json_string(&mut out, "a \"b\" \\ \n \u{1} ü");
        assert_eq!(out, r#""a \"b\" \\ \n \u0001 ü""#);
    }

    #[test]
    fn grpc_messages_are_printable_ascii() {
        assert_eq!(grpc_message("plain text"), "plain text");
        assert_eq!(grpc_message("100% ü\n"), "100%25 %C3%BC%0A");
    }
}
