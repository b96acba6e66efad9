//! `consume`: the records of a topic, alone or as a member of a group.

mod print;
mod start;

use crate::args::values::From;
use crate::args::{Consume, Isolation, Options};
use crate::directory;
use crate::escape::printable;
use crate::failure::{Failure, Outcome};
use crate::interrupt::Interrupt;
use crate::output::{Output, counted};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use topiclite::{
    Broker, Consumer, ConsumerConfig, ConsumerRecords, Error, ErrorKind, IsolationLevel,
    OffsetReset, Result, TopicPartition,
};

/// How long one poll waits while there is nothing to print, and so how soon a signal is seen.
const POLL: Duration = Duration::from_millis(200);

pub fn run(options: &Options, consume: &Consume, output: &Output) -> Outcome {
    let interrupt;
    let mut shown = 0;
    match &consume.group {
        None => {
            let from = consume.from.unwrap_or(From::Beginning);
            if from == From::Stored {
                let text = "--from stored needs --group, whose offsets are stored";
                return Err(Failure::Usage(text.into()));
            }
            interrupt = options.reading(output, |broker| {
                let interrupt = Interrupt::listen(|| {})?;
                let mut reading = Reading::new(consume, output, &interrupt, &mut shown);
                reading.alone(broker, from)?;
                Ok(interrupt)
            })?;
        }
        Some(group) => {
            let broker = options.open()?;
            interrupt = Interrupt::listen(|| {})?;
            let from = consume.from.unwrap_or(From::Stored);
            let mut reading = Reading::new(consume, output, &interrupt, &mut shown);
            let read = reading.as_member(&broker, group, from);
            let closed = directory::close(&broker, output);
            read?;
            closed?;
        }
    }
    if interrupt.is_asked() {
        tell_count(consume, shown, output);
    }
    Ok(interrupt.exit_code())
}

/// What an interrupted command has done.
fn tell_count(consume: &Consume, shown: u64, output: &Output) {
    let left = match &consume.group {
        Some(group) => format!(", group {group} left"),
        None => String::new(),
    };
    let text =
        format!("interrupted: {} read from {}{left}", counted(shown, "record"), consume.topic);
    match output.json {
        true => output.stderr(
            &json!({"note": text, "topic": consume.topic, "group": consume.group, "read": shown})
                .to_string(),
        ),
        false => output.stderr(&printable(&text)),
    }
}

fn isolation(consume: &Consume) -> IsolationLevel {
    match consume.isolation {
        Isolation::ReadCommitted => IsolationLevel::ReadCommitted,
        Isolation::ReadUncommitted => IsolationLevel::ReadUncommitted,
    }
}

fn partitions(broker: &Broker, consume: &Consume) -> Result<Vec<TopicPartition>> {
    let topic = consume.topic.as_str();
    let count = broker.admin().describe_topic(topic)?.partition_count();
    match consume.partition {
        None => Ok((0..count).map(|p| TopicPartition::new(topic, p)).collect()),
        Some(p) if (0..count).contains(&p) => Ok(vec![TopicPartition::new(topic, p)]),
        Some(p) => Err(Error::new(
            ErrorKind::UnknownTopicOrPartition,
            format!("the topic has the partitions 0 to {}", count - 1),
        )
        .with_partition(topic, p)),
    }
}

/// One run of the command.
struct Reading<'a> {
    consume: &'a Consume,
    output: &'a Output,
    interrupt: &'a Interrupt,
    /// How many records were printed.
    shown: &'a mut u64,
    /// How many more are asked for.
    left: u64,
    /// The positions that the group has committed, as far as this member knows.
    committed: BTreeMap<TopicPartition, i64>,
    scratch: Vec<u8>,
}

impl<'a> Reading<'a> {
    fn new(
        consume: &'a Consume,
        output: &'a Output,
        interrupt: &'a Interrupt,
        shown: &'a mut u64,
    ) -> Reading<'a> {
        let left = consume.count.unwrap_or(u64::MAX);
        let committed = BTreeMap::new();
        Reading { consume, output, interrupt, shown, left, committed, scratch: Vec::new() }
    }

    fn alone(&mut self, broker: &Broker, from: From) -> Result<()> {
        let config = ConsumerConfig::without_group()
            .auto_offset_reset(OffsetReset::Earliest)
            .isolation_level(isolation(self.consume));
        let mut consumer = broker.consumer(config)?;
        let partitions = partitions(broker, self.consume)?;
        let starts = start::offsets(&mut consumer, &partitions, from)?;
        consumer.assign(&partitions)?;
        start::seek_all(&starts, |partition, offset| consumer.seek(partition, offset))?;
        self.until_done(&mut consumer, &partitions, false)
    }

    fn as_member(&mut self, broker: &Broker, group: &str, from: From) -> Result<()> {
        let config = ConsumerConfig::new(group)
            .client_id("topiclite")
            .auto_offset_reset(OffsetReset::Earliest)
            .enable_auto_commit(false)
            .isolation_level(isolation(self.consume));
        let mut consumer = broker.consumer(config)?;
        let partitions = partitions(broker, self.consume)?;
        let starts = start::offsets(&mut consumer, &partitions, from)?;
        let stored = consumer.committed(&partitions)?;
        self.committed = stored
            .into_iter()
            .filter_map(|(partition, stored)| Some((partition, stored?.offset())))
            .collect();
        if self.consume.partition.is_some() {
            consumer.assign(&partitions)?;
            start::seek_all(&starts, |partition, offset| consumer.seek(partition, offset))?;
        } else {
            consumer.subscribe_with(&[self.consume.topic.as_str()], start::StartAt(starts))?;
        }
        self.until_done(&mut consumer, &partitions, true)?;
        consumer.close()
    }

    /// Prints records until the count, the end as it was at the start, or a signal is reached. A
    /// partition that fails is read no further, and the others are read before its error is
    /// returned; a follower, whom no end awaits, is told at once.
    fn until_done(
        &mut self,
        consumer: &mut Consumer,
        partitions: &[TopicPartition],
        commits: bool,
    ) -> Result<()> {
        let mut ends = ends(consumer, partitions)?;
        let mut failed = None;
        while self.left > 0 && !self.interrupt.is_asked() {
            if !self.consume.follow && reached(consumer, &ends)? {
                break;
            }
            let records = match consumer.poll(POLL) {
                Ok(records) => records,
                Err(error) => {
                    let partition = self.partition_at_fault(&error);
                    let partition = partition.filter(|found| partitions.contains(found));
                    let Some(partition) = partition else { return Err(error) };
                    consumer.pause(std::slice::from_ref(&partition))?;
                    ends.remove(&partition);
                    failed.get_or_insert(error);
                    continue;
                }
            };
            let unread = self.print(records, &ends)?;
            self.output.flush()?;
            // What was polled and not printed is not consumed.
            for (partition, next) in unread {
                consumer.seek(&partition, next)?;
            }
            if commits {
                self.commit_what_moved(consumer)?;
            }
        }
        match failed {
            Some(error) if self.left > 0 => Err(error),
            _ => Ok(()),
        }
    }

    /// The partition that a failed poll is about, if the others can be read without it.
    fn partition_at_fault(&self, error: &Error) -> Option<TopicPartition> {
        let (topic, number) = error.topic().zip(error.partition())?;
        let partition = TopicPartition::new(topic, number);
        (!self.consume.follow && is_of(error, &partition)).then_some(partition)
    }

    /// Commits, unless every position is what the group has committed already: a member that
    /// waits writes nothing.
    fn commit_what_moved(&mut self, consumer: &mut Consumer) -> Result<()> {
        let mut moved = false;
        for partition in consumer.assignment()? {
            let position = consumer.position(&partition)?;
            moved |= self.committed.insert(partition, position) != Some(position);
        }
        if moved { consumer.commit_sync() } else { Ok(()) }
    }

    /// Prints what is asked for. Where each partition goes on that has records beyond that.
    ///
    /// The records are copied first: whoever reads the output may take his time, and what another
    /// program cuts off a file meanwhile would end this one.
    fn print(
        &mut self,
        records: ConsumerRecords,
        ends: &BTreeMap<TopicPartition, i64>,
    ) -> Result<BTreeMap<TopicPartition, i64>> {
        let mut unread = BTreeMap::new();
        for record in records {
            let partition = TopicPartition::new(record.topic(), record.partition());
            let end = ends.get(&partition).filter(|_| !self.consume.follow);
            let beyond = end.is_some_and(|end| record.offset() >= *end);
            if self.left == 0 || beyond {
                unread.entry(partition).or_insert(record.offset());
            } else if self.consume.filters.accept(&record) {
                print::show(&record, self.consume, self.output, &mut self.scratch)?;
                self.left -= 1;
                *self.shown += 1;
            }
        }
        Ok(unread)
    }
}

/// Whether a failed poll is the failure of this partition's bytes alone.
fn is_of(error: &Error, partition: &TopicPartition) -> bool {
    use ErrorKind::{
        CorruptRecord, Io, RecordTooLarge, UnsupportedCompressionType, UnsupportedFormat,
    };
    let of_bytes =
        [CorruptRecord, Io, RecordTooLarge, UnsupportedCompressionType, UnsupportedFormat];
    error.topic() == Some(partition.topic()) && of_bytes.contains(&error.kind())
}

/// The present end of each partition. One that is damaged has none: its poll will tell.
fn ends(
    consumer: &mut Consumer,
    partitions: &[TopicPartition],
) -> Result<BTreeMap<TopicPartition, i64>> {
    let mut ends = BTreeMap::new();
    for partition in partitions {
        match consumer.end_offsets(std::slice::from_ref(partition)) {
            Ok(end) => ends.extend(end),
            Err(error) if is_of(&error, partition) => {
                ends.insert(partition.clone(), i64::MAX);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(ends)
}

/// Whether every partition is read up to its end. A member that has no partitions yet is not.
fn reached(consumer: &mut Consumer, ends: &BTreeMap<TopicPartition, i64>) -> Result<bool> {
    if consumer.assignment()?.is_empty() {
        return Ok(false);
    }
    for (partition, end) in ends {
        if consumer.position(partition)? < *end {
            return Ok(false);
        }
    }
    Ok(true)
}
