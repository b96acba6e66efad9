//! A line of input as a record: headers, key and value.

use crate::args::{InputFormat, Produce};
use crate::record_json::{self, Given};
use topiclite::{Error, ErrorKind, Result};

/// The record of a line.
///
/// # Errors
/// [`ErrorKind::IllegalArgument`] for what the line lacks, or what is wrong with it.
pub fn parse(line: &[u8], produce: &Produce) -> Result<Given> {
    let mut given = match produce.input_format {
        InputFormat::Json => {
            let text = std::str::from_utf8(line).map_err(|e| bad(format!("not UTF-8: {e}")))?;
            record_json::read(text)?
        }
        InputFormat::Lines => split(line, produce)?,
    };
    let fixed = produce.header.iter();
    let fixed = fixed.map(|(name, value)| (name.clone(), Some(value.clone().into_bytes())));
    given.headers.splice(0..0, fixed);
    Ok(given)
}

fn split(line: &[u8], produce: &Produce) -> Result<Given> {
    let mut given = Given::default();
    let mut rest = line;
    if produce.headers {
        let tab = line
            .iter()
            .position(|byte| *byte == b'\t')
            .ok_or_else(|| bad("no tab behind the headers".into()))?;
        given.headers = headers(&line[..tab])?;
        rest = &line[tab + 1..];
    }
    if let Some(separator) = &produce.key_separator {
        let at = find(rest, &separator.0).ok_or_else(|| {
            let text = separator.0.escape_ascii();
            bad(format!("no \"{text}\" between key and value; without a key, use JSON"))
        })?;
        given.key = Some(rest[..at].to_vec());
        rest = &rest[at + separator.0.len()..];
    }
    if let Some(key) = &produce.key {
        given.key = Some(key.clone().into_bytes());
    }
    given.value = Some(rest.to_vec());
    Ok(given)
}

fn headers(text: &[u8]) -> Result<Vec<(String, Option<Vec<u8>>)>> {
    let text = std::str::from_utf8(text).map_err(|e| bad(format!("headers: {e}")))?;
    let pairs = text.split(',').filter(|pair| !pair.is_empty());
    Ok(pairs
        .map(|pair| match pair.split_once(':') {
            Some((name, value)) => (name.to_owned(), Some(value.as_bytes().to_vec())),
            None => (pair.to_owned(), None),
        })
        .collect())
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

fn bad(why: String) -> Error {
    Error::new(ErrorKind::IllegalArgument, why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Words {
        #[command(flatten)]
        produce: Produce,
    }

    fn how(words: &[&str]) -> Produce {
        Words::try_parse_from([&["topiclite", "t"], words].concat()).unwrap().produce
    }

    #[test]
    fn a_line_splits_into_headers_key_and_value() {
        let produce = how(&["--headers", "--key-separator", "::", "--header", "z=0"]);
        let given = parse(b"a:1,b\tk::v::w", &produce).unwrap();
        let header = |name: &str, value: Option<&str>| {
            (name.to_owned(), value.map(|value| value.as_bytes().to_vec()))
        };
        let expected = [header("z", Some("0")), header("a", Some("1")), header("b", None)];
        assert_eq!(given.headers, expected);
        assert_eq!(given.key.as_deref(), Some(&b"k"[..]));
        assert_eq!(given.value.as_deref(), Some(&b"v::w"[..]));
        assert!(parse(b"no tab", &produce).is_err());
        assert!(parse(b"\tno separator", &produce).is_err());
        let given = parse(b"k\tv", &how(&["--key-separator", r"\t"])).unwrap();
        assert_eq!((given.key.unwrap(), given.value.unwrap()), (b"k".to_vec(), b"v".to_vec()));
        assert_eq!(parse(b"v", &how(&["--key", "k"])).unwrap().key.unwrap(), b"k");
    }
}
