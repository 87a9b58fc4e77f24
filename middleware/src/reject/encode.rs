//! The text encodings that a rejection needs. Pure functions; not a JSON library.

use std::fmt::Write;

use http::HeaderValue;

/// Appends `text` to `out` as a JSON string, quotes included.
pub(super) fn json_string(out: &mut String, text: &str) {
    out.push('"');
    if text.bytes().any(|byte| byte < 0x20 || byte == b'"' || byte == b'\\') {
        json_escaped(out, text);
    } else {
        out.push_str(text);
    }
    out.push('"');
}

fn json_escaped(out: &mut String, text: &str) {
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
}

/// `text` as the gRPC specification wants `grpc-message`: everything but printable ASCII percent-encoded, and `%`.
pub(super) fn grpc_message(text: &str) -> HeaderValue {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if (0x20..=0x7e).contains(&byte) && byte != b'%' {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    HeaderValue::try_from(out).expect("printable ASCII is a valid header")
}

/// A number; what has at most two digits, as most have, takes nothing from the allocator.
pub(super) fn number(number: u64) -> HeaderValue {
    /// 00 to 99.
    const PAIRS: &str = "00010203040506070809\
        10111213141516171819\
        20212223242526272829\
        30313233343536373839\
        40414243444546474849\
        50515253545556575859\
        60616263646566676869\
        70717273747576777879\
        80818283848586878889\
        90919293949596979899";
    match number {
        0..10 => HeaderValue::from_static(&PAIRS[2 * number as usize + 1..][..1]),
        10..100 => HeaderValue::from_static(&PAIRS[2 * number as usize..][..2]),
        _ => {
            // As many as the largest number has, written from the last.
            let mut digits = [0; 20];
            let (mut rest, mut first) = (number, digits.len());
            while rest > 0 {
                first -= 1;
                digits[first] = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
            HeaderValue::from_bytes(&digits[first..]).expect("digits are a valid header")
        }
    }
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

    #[test]
    fn numbers_are_written_in_decimal() {
        for count in (0..1000).chain([u64::MAX]) {
            assert_eq!(number(count), count.to_string());
        }
    }
}
