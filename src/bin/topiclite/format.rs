//! The text of a record by a format as kcat's `-f` has it.

use crate::escape;
use topiclite::OwnedConsumerRecord;

/// A part of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(Vec<u8>),
    Topic,
    Partition,
    Offset,
    Timestamp,
    Key,
    KeySize,
    Value,
    ValueSize,
    Headers,
}

/// A format, read once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format(Vec<Part>);

impl Format {
    /// Reads a format: letters behind `%`, escapes behind `\`, and text.
    ///
    /// # Errors
    /// A letter or an escape that is not known.
    pub fn parse(text: &str) -> Result<Format, String> {
        let mut parts = Vec::new();
        let mut rest = text.as_bytes();
        while let Some((byte, tail)) = rest.split_first() {
            rest = tail;
            match byte {
                b'%' => {
                    let (letter, tail) =
                        rest.split_first().ok_or("behind % stands one of k s h T t p o K S %")?;
                    rest = tail;
                    parts.push(part(*letter)?);
                }
                b'\\' => {
                    let (byte, tail) = escape::one(rest)?;
                    rest = tail;
                    push(&mut parts, byte);
                }
                byte => push(&mut parts, *byte),
            }
        }
        Ok(Format(parts))
    }

    /// The text of a record. A key or value that is null is empty, its size -1.
    pub fn show(&self, record: &OwnedConsumerRecord, out: &mut Vec<u8>) {
        for part in &self.0 {
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::Topic => out.extend_from_slice(record.topic().as_bytes()),
                Part::Partition => number(out, record.partition().into()),
                Part::Offset => number(out, record.offset()),
                Part::Timestamp => number(out, record.timestamp()),
                Part::Key => out.extend_from_slice(record.key().unwrap_or_default()),
                Part::KeySize => size(out, record.key()),
                Part::Value => out.extend_from_slice(record.value().unwrap_or_default()),
                Part::ValueSize => size(out, record.value()),
                Part::Headers => headers(out, record),
            }
        }
    }
}

fn part(letter: u8) -> Result<Part, String> {
    Ok(match letter {
        b't' => Part::Topic,
        b'p' => Part::Partition,
        b'o' => Part::Offset,
        b'T' => Part::Timestamp,
        b'k' => Part::Key,
        b'K' => Part::KeySize,
        b's' => Part::Value,
        b'S' => Part::ValueSize,
        b'h' => Part::Headers,
        b'%' => Part::Text(b"%".to_vec()),
        _ => return Err("behind % stands one of k s h T t p o K S %".into()),
    })
}

fn push(parts: &mut Vec<Part>, byte: u8) {
    match parts.last_mut() {
        Some(Part::Text(text)) => text.push(byte),
        _ => parts.push(Part::Text(vec![byte])),
    }
}

fn number(out: &mut Vec<u8>, number: i64) {
    out.extend_from_slice(number.to_string().as_bytes());
}

fn size(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    number(out, bytes.map_or(-1, |bytes| i64::try_from(bytes.len()).unwrap_or(i64::MAX)));
}

/// `name=value,name=value`; a value that is null is `NULL`, as kcat prints it.
fn headers(out: &mut Vec<u8>, record: &OwnedConsumerRecord) {
    for (index, header) in record.headers().iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(header.name().as_bytes());
        out.push(b'=');
        out.extend_from_slice(header.value().unwrap_or(b"NULL"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_letters_escapes_and_text() {
        let Format(parts) = Format::parse(r"a\t%k%%\n").unwrap();
        let text = |text: &[u8]| Part::Text(text.to_vec());
        assert_eq!(parts, [text(b"a\t"), Part::Key, text(b"%\n")]);
        assert_eq!(Format::parse("").unwrap(), Format(vec![]));
        for bad in ["%", "%q", r"\", r"\q"] {
            assert!(Format::parse(bad).is_err(), "{bad}");
        }
    }
}
