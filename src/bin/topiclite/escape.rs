//! Backslashes in what a user types (`\t`, `\n`, `\r`, `\0`, `\\`, `\xHH`), and in what is shown.

use std::borrow::Cow;

/// The bytes that a text with escapes stands for.
///
/// # Errors
/// An escape that is none.
pub fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, tail)) = rest.split_first() {
        rest = tail;
        if *byte != b'\\' {
            out.push(*byte);
            continue;
        }
        let (escaped, tail) = one(rest)?;
        out.push(escaped);
        rest = tail;
    }
    Ok(out)
}

/// The byte of the escape whose backslash was read, and what is behind it.
///
/// # Errors
/// What is no escape.
pub fn one(rest: &[u8]) -> Result<(u8, &[u8]), String> {
    let none = || r"behind \ stands t, n, r, 0, \ or xHH".to_owned();
    let (letter, tail) = rest.split_first().ok_or_else(none)?;
    let byte = match letter {
        b't' => b'\t',
        b'n' => b'\n',
        b'r' => b'\r',
        b'0' => 0,
        b'\\' => b'\\',
        b'x' => {
            let (digits, tail) = tail.split_first_chunk::<2>().ok_or_else(none)?;
            let hex = digits.iter().all(u8::is_ascii_hexdigit);
            let text = std::str::from_utf8(digits).ok().filter(|_| hex).ok_or_else(none)?;
            return Ok((u8::from_str_radix(text, 16).map_err(|_| none())?, tail));
        }
        _ => return Err(none()),
    };
    Ok((byte, tail))
}

/// Whether a terminal does something at this character, or shows others in another order or
/// nothing at all: controls, the marks of writing directions, separators of lines, and what has no
/// width. Joiners are left, which scripts and emoji need.
fn is_unseen(letter: char) -> bool {
    letter.is_control()
        || matches!(
            letter,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'
                | '\u{200e}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// Text as it may stand on a line for people: what is unseen is shown, not sent to a terminal.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unseen) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        match is_unseen(letter) {
            true => shown.extend(letter.escape_default()),
            false => shown.push(letter),
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_stand_for_bytes() {
        assert_eq!(unescape(r"a\tb\n\r\0\\\x1F\xff").unwrap(), b"a\tb\n\r\0\\\x1f\xff");
        for bad in [r"\", r"\q", r"\x", r"\x1", r"\x+1", r"\xgg"] {
            assert!(unescape(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn control_characters_are_shown() {
        assert_eq!(printable("a-\u{e4} \u{20ac}"), "a-\u{e4} \u{20ac}");
        assert_eq!(
            printable("a\u{1b}[2Jb\n\r\t\u{7f}\u{9b}\0"),
            r"a\u{1b}[2Jb\n\r\t\u{7f}\u{9b}\u{0}"
        );
        // What turns the direction of writing, ends a line, or has no width.
        assert_eq!(
            printable("a\u{202e}b\u{2066}c\u{2028}\u{200b}\u{feff}\u{e0041}"),
            r"a\u{202e}b\u{2066}c\u{2028}\u{200b}\u{feff}\u{e0041}"
        );
        let joined = "\u{1f469}\u{200d}\u{1f680}";
        assert_eq!(printable(joined), joined);
    }
}
