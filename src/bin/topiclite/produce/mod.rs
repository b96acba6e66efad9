//! `produce`: the lines of standard input become records.
//!
//! Lines that are there at once are sent before any is waited for, so that one sync of a durable
//! topic, or one compressed batch, serves many. What fails names its line.

mod input;
mod line;

use crate::args::{InputFormat, Options, Produce};
use crate::directory;
use crate::escape::printable;
use crate::failure::{Failure, Outcome};
use crate::output::{Output, counted};
use crate::record_json::Given;
use input::{Lines, Next};
use serde_json::json;
use std::collections::VecDeque;
use topiclite::{
    Broker, Error, ErrorKind, Producer, ProducerConfig, ProducerRecord, RecordMetadata, Result,
    SendFuture,
};

/// How long a compressed batch waits for more lines; a pause of the input ends it before.
const LINGER_MS: &str = "5";
/// Records that are under way at once.
const PENDING_MAX: usize = 1000;

pub fn run(options: &Options, produce: &Produce, output: &Output) -> Outcome {
    let config = settings(produce)?;
    for key in config.ignored() {
        output.note(&format!("{key} is kept without effect"));
    }
    let broker = options.open()?;
    let written = write(&broker, config, produce, output);
    let closed = directory::close(&broker, output);
    let Written { count, aborted, code } = written?;
    closed?;
    let end = if aborted { ", and aborted" } else { "" };
    let text = format!("{} written to {}{end}", counted(count, "record"), produce.topic);
    match output.json {
        true => output
            .stderr(&json!({"note": text, "topic": produce.topic, "written": count}).to_string()),
        false => output.stderr(&printable(&text)),
    }
    Ok(code)
}

/// The producer's settings. What is wrong with them is bad usage.
fn settings(produce: &Produce) -> Outcome<ProducerConfig> {
    let lines_only = produce.headers || produce.key.is_some() || produce.key_separator.is_some();
    if produce.input_format == InputFormat::Json && lines_only {
        let text = "--headers, --key and --key-separator are for lines; JSON has fields for them";
        return Err(Failure::Usage(text.into()));
    }
    let mut config = ProducerConfig::default();
    if let Some(codec) = produce.compression {
        config = config.compression_type(codec);
        let linger = config.set("linger.ms", LINGER_MS);
        linger.map_err(|error| Failure::Usage(error.to_string()))?;
    }
    if let Some(id) = &produce.transactional_id {
        config = config.transactional_id(id.as_str());
    }
    for (key, value) in &produce.config {
        config.set(key, value).map_err(|error| Failure::Usage(error.to_string()))?;
    }
    Ok(config)
}

/// What became of the lines.
struct Written {
    count: u64,
    aborted: bool,
    code: std::process::ExitCode,
}

/// Writes all lines, in one transaction where that is asked for.
fn write(
    broker: &Broker,
    config: ProducerConfig,
    produce: &Produce,
    output: &Output,
) -> Outcome<Written> {
    let count = broker.admin().describe_topic(&produce.topic)?.partition_count();
    if let Some(partition) = produce.partition.filter(|partition| *partition >= count) {
        let text = format!("the topic has the partitions 0 to {}", count - 1);
        let error = Error::new(ErrorKind::UnknownTopicOrPartition, text);
        return Err(error.with_partition(&produce.topic, partition).into());
    }
    let producer = broker.producer(config).map_err(|error| match error.root_kind() {
        // Settings that do not go together, or ask for what is not there.
        ErrorKind::InvalidConfig => Failure::Usage(error.to_string()),
        _ => Failure::Failed(error),
    })?;
    let mut writer = Writer {
        producer: &producer,
        produce,
        output,
        pending: VecDeque::new(),
        written: 0,
        prints: output.json,
    };
    let in_transaction = produce.transactional_id.is_some();
    if in_transaction {
        producer.init_transactions()?;
        producer.begin_transaction()?;
    }
    let mut lines = Lines::of_standard_input()?;
    let copied = writer.copy(&mut lines);
    let (count, asked) = (writer.written, lines.interrupt().is_asked());
    let aborted = in_transaction && (copied.is_err() || produce.abort || asked);
    let ended = match (in_transaction, aborted) {
        (false, _) => Ok(()),
        (true, true) => producer.abort_transaction(),
        (true, false) => producer.commit_transaction(),
    };
    copied.map_err(|failure| match failure {
        Failure::AtLine { error, line, .. } if in_transaction => {
            Failure::AtLine { error, line, written: 0 }
        }
        other => other,
    })?;
    ended?;
    producer.close()?;
    Ok(Written { count, aborted, code: lines.interrupt().exit_code() })
}

/// Records on their way.
struct Writer<'a> {
    producer: &'a Producer,
    produce: &'a Produce,
    output: &'a Output,
    /// Lines that were sent, in order.
    pending: VecDeque<(u64, SendFuture)>,
    written: u64,
    /// Somebody reads where records went.
    prints: bool,
}

impl Writer<'_> {
    /// Sends every line, and waits for all of them.
    fn copy(&mut self, lines: &mut Lines) -> Outcome<()> {
        loop {
            let number = lines.number() + 1;
            let sent = match lines.next() {
                Ok(Next::Line(line)) => {
                    line::parse(line, self.produce).and_then(|given| self.send(number, &given))
                }
                Ok(Next::Pause) => {
                    self.settle()?;
                    self.show(|output| output.flush())?;
                    continue;
                }
                Ok(Next::End) => break,
                Err(error) => Err(error),
            };
            // What was sent before the line at fault counts, and a fault of its own comes first.
            if sent.is_err() || self.is_due() {
                self.settle()?;
            }
            sent.map_err(|error| Failure::AtLine { error, line: number, written: self.written })?;
        }
        self.settle()
    }

    fn send(&mut self, line: u64, given: &Given) -> Result<()> {
        let mut record = ProducerRecord::new(self.produce.topic.as_str());
        if let Some(partition) = self.produce.partition.or(given.partition) {
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
            record = record.header(name, value.as_deref());
        }
        self.pending.push_back((line, self.producer.send(record)?));
        Ok(())
    }

    /// Whether what was sent is complete, or too much to be waited for later.
    fn is_due(&self) -> bool {
        let done = self.pending.back().is_some_and(|(_, sent)| sent.is_done());
        done || self.pending.len() >= PENDING_MAX
    }

    /// Waits for everything that was sent.
    fn settle(&mut self) -> Outcome<()> {
        let waits = self.pending.iter().any(|(_, sent)| !sent.is_done());
        let flushed = if waits { self.producer.flush() } else { Ok(()) };
        let mut first = None;
        while let Some((line, sent)) = self.pending.pop_front() {
            match sent.wait() {
                Ok(metadata) => {
                    self.written += 1;
                    self.print(&metadata)?;
                }
                Err(error) if first.is_none() => first = Some((line, error)),
                Err(_) => {}
            }
        }
        match first {
            Some((line, error)) => Err(Failure::AtLine { error, line, written: self.written }),
            None => Ok(flushed?),
        }
    }

    /// Prints where a record went.
    fn print(&mut self, metadata: &RecordMetadata) -> Outcome<()> {
        let topic = &self.produce.topic;
        self.show(|output| {
            output.object(&json!({
                "topic": topic,
                "partition": metadata.partition(),
                "offset": metadata.offset(),
                "timestamp": metadata.timestamp(),
            }))
        })
    }

    /// Prints. That nobody reads it any more does not end the writing.
    fn show(&mut self, print: impl FnOnce(&Output) -> Result<()>) -> Outcome<()> {
        if !self.prints {
            return Ok(());
        }
        match print(self.output) {
            Err(error) if self.output.is_broken_pipe(&error) => self.prints = false,
            other => other?,
        }
        Ok(())
    }
}
