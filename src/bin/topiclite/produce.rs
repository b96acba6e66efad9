//! `produce`: the lines of standard input become records.

use crate::args::{InputFormat, Options, Produce};
use crate::output::Output;
use crate::record_json::{self, Given};
use serde_json::json;
use std::io::BufRead;
use std::path::Path;
use std::process::ExitCode;
use topiclite::{Error, ErrorKind, Producer, ProducerConfig, ProducerRecord, Result};

pub fn run(options: &Options, produce: &Produce, output: &Output) -> Result<ExitCode> {
    let broker = options.open()?;
    let written = write(&broker.producer(ProducerConfig::default())?, produce, output);
    let closed = broker.close();
    let count = written?;
    closed?;
    if !output.json {
        let noun = if count == 1 { "record" } else { "records" };
        eprintln!("{count} {noun} written to {}", produce.topic);
    }
    Ok(ExitCode::SUCCESS)
}

fn write(producer: &Producer, produce: &Produce, output: &Output) -> Result<u64> {
    let mut count = 0;
    let mut input = std::io::stdin().lock();
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = input
            .read_until(b'\n', &mut line)
            .map_err(|e| Error::io(e, "reading", Path::new("standard input")))?;
        if read == 0 {
            break;
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        count += 1;
        let given = parse(&line, produce).map_err(|error| {
            Error::new(error.kind(), format!("line {count}: {}", error.message()))
        })?;
        let metadata = send(producer, produce, &given)?;
        if output.json {
            output.object(&json!({
                "topic": produce.topic,
                "partition": metadata.partition(),
                "offset": metadata.offset(),
                "timestamp": metadata.timestamp(),
            }))?;
        }
    }
    producer.close()?;
    Ok(count)
}

fn send(
    producer: &Producer,
    produce: &Produce,
    given: &Given,
) -> Result<topiclite::RecordMetadata> {
    let mut record = ProducerRecord::new(produce.topic.as_str());
    if let Some(partition) = produce.partition.or(given.partition) {
        record = record.partition(partition);
    }
    if let Some(timestamp) = given.timestamp {
        record = record.timestamp(timestamp);
    }
    if let Some(key) = &given.key {
        record = record.key(key.as_slice());
    }
    if let Some(value) = &given.value {
        record = record.value(value.as_slice());
    }
    for (name, value) in &given.headers {
        record = record.header_or_null(name, value.as_deref());
    }
    Ok(producer.send(record)?.wait()?)
}

fn parse(line: &[u8], produce: &Produce) -> Result<Given> {
    if produce.input_format == InputFormat::Json {
        let text = std::str::from_utf8(line)
            .map_err(|e| Error::new(ErrorKind::IllegalArgument, format!("not UTF-8: {e}")))?;
        return record_json::read(text);
    }
    let mut given = Given::default();
    let mut rest = line;
    if produce.headers {
        let tab = line
            .iter()
            .position(|&b| b == b'\t')
            .ok_or_else(|| Error::new(ErrorKind::IllegalArgument, "no tab behind the headers"))?;
        given.headers = headers(&line[..tab])?;
        rest = &line[tab + 1..];
    }
    if let Some(separator) = &produce.key_separator
        && let Some(at) = find(rest, separator.as_bytes())
    {
        given.key = Some(rest[..at].to_vec());
        rest = &rest[at + separator.len()..];
    }
    given.value = Some(rest.to_vec());
    Ok(given)
}

fn headers(text: &[u8]) -> Result<Vec<(String, Option<Vec<u8>>)>> {
    let text = std::str::from_utf8(text)
        .map_err(|e| Error::new(ErrorKind::IllegalArgument, format!("headers: {e}")))?;
    let pairs = text.split(',').filter(|pair| !pair.is_empty());
    Ok(pairs
        .map(|pair| match pair.split_once(':') {
            Some((name, value)) => (name.to_owned(), Some(value.as_bytes().to_vec())),
            None => (pair.to_owned(), None),
        })
        .collect())
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    if part.is_empty() {
        return None;
    }
    text.windows(part.len()).position(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn how(headers: bool, separator: Option<&str>) -> Produce {
        Produce {
            topic: "t".into(),
            partition: None,
            key_separator: separator.map(str::to_owned),
            headers,
            input_format: InputFormat::Lines,
        }
    }

    #[test]
    fn a_line_splits_into_headers_key_and_value() {
        let given = parse(b"a:1,b\tk::v::w", &how(true, Some("::"))).unwrap();
        assert_eq!(given.headers, [("a".into(), Some(b"1".to_vec())), ("b".into(), None)]);
        assert_eq!(given.key.as_deref(), Some(&b"k"[..]));
        assert_eq!(given.value.as_deref(), Some(&b"v::w"[..]));
        assert_eq!(parse(b"x", &how(false, Some(":"))).unwrap().key, None);
        assert!(parse(b"no tab", &how(true, None)).is_err());
    }
}
