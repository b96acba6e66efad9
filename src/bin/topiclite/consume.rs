//! `consume`: the records of a topic, alone or as a member of a group.

use crate::args::{Consume, Isolation, Options};
use crate::output::Output;
use crate::record_json;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;
use topiclite::{
    Broker, Consumer, ConsumerConfig, ConsumerContext, ConsumerRecords, Error, ErrorKind,
    IsolationLevel, ListenerError, OffsetReset, RebalanceListener, Result, TopicPartition,
};

/// How long one poll waits while there is nothing to print.
const POLL: Duration = Duration::from_millis(200);

/// Where reading starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Beginning,
    End,
    Stored,
    Offset(i64),
    Last(i64),
    Time(i64),
}

pub fn run(options: &Options, consume: &Consume, output: &Output) -> Result<ExitCode> {
    let from = consume.from.as_deref().map(parse_from).transpose()?;
    match &consume.group {
        None => {
            let broker = options.attach()?;
            alone(&broker, consume, from.unwrap_or(From::Beginning), output)?;
        }
        Some(group) => {
            let broker = options.open()?;
            let read = as_member(&broker, consume, group, from.unwrap_or(From::Stored), output);
            let closed = broker.close();
            read?;
            closed?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn parse_from(text: &str) -> Result<From> {
    let number = |text: &str| {
        text.parse::<i64>().ok().filter(|n| *n >= 0).ok_or_else(|| {
            let what = "--from is beginning, end, stored, OFFSET, -N, @MILLISECONDS or @TIME such \
                        as @2026-01-31T12:00:00Z";
            Error::new(ErrorKind::IllegalArgument, format!("{what}; not {text}"))
        })
    };
    Ok(match text {
        "beginning" => From::Beginning,
        "end" => From::End,
        "stored" => From::Stored,
        _ => match (text.strip_prefix('-'), text.strip_prefix('@')) {
            (Some(last), _) => From::Last(number(last)?),
            (_, Some(time)) => match time.parse::<jiff::Timestamp>() {
                Ok(time) if time >= jiff::Timestamp::UNIX_EPOCH => {
                    From::Time(time.as_millisecond())
                }
                _ => From::Time(number(time)?),
            },
            _ => From::Offset(number(text)?),
        },
    })
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

fn alone(broker: &Broker, consume: &Consume, from: From, output: &Output) -> Result<()> {
    if from == From::Stored {
        return Err(Error::new(
            ErrorKind::IllegalArgument,
            "--from stored needs --group, whose offsets are stored",
        ));
    }
    let config = ConsumerConfig::without_group()
        .auto_offset_reset(OffsetReset::Earliest)
        .isolation_level(isolation(consume));
    let mut consumer = broker.consumer(config)?;
    let partitions = partitions(broker, consume)?;
    let starts = starts(&mut consumer, &partitions, from)?;
    consumer.assign(&partitions)?;
    seek_all(&starts, |partition, offset| consumer.seek(partition, offset))?;
    print_until_done(&mut consumer, &partitions, consume, output, |_| Ok(()))
}

fn as_member(
    broker: &Broker,
    consume: &Consume,
    group: &str,
    from: From,
    output: &Output,
) -> Result<()> {
    let config = ConsumerConfig::new(group)
        .client_id("topiclite")
        .auto_offset_reset(OffsetReset::Earliest)
        .enable_auto_commit(false)
        .isolation_level(isolation(consume));
    let mut consumer = broker.consumer(config)?;
    let partitions = partitions(broker, consume)?;
    let starts = starts(&mut consumer, &partitions, from)?;
    if consume.partition.is_some() {
        consumer.assign(&partitions)?;
        seek_all(&starts, |partition, offset| consumer.seek(partition, offset))?;
    } else {
        consumer.subscribe_with(&[consume.topic.as_str()], StartAt(starts))?;
    }
    print_until_done(&mut consumer, &partitions, consume, output, Consumer::commit_sync)?;
    consumer.close()
}

/// Where each partition starts; none where the stored offsets say it.
fn starts(
    consumer: &mut Consumer,
    partitions: &[TopicPartition],
    from: From,
) -> Result<BTreeMap<TopicPartition, i64>> {
    match from {
        From::Stored => Ok(BTreeMap::new()),
        From::Beginning => consumer.beginning_offsets(partitions),
        From::End => consumer.end_offsets(partitions),
        From::Offset(offset) => Ok(partitions.iter().map(|tp| (tp.clone(), offset)).collect()),
        From::Last(count) => {
            let mut starts = consumer.beginning_offsets(partitions)?;
            for (partition, end) in consumer.end_offsets(partitions)? {
                let start = starts.entry(partition).or_insert(0);
                *start = end.saturating_sub(count).max(*start);
            }
            Ok(starts)
        }
        From::Time(timestamp) => {
            let times = partitions.iter().map(|tp| (tp.clone(), timestamp)).collect();
            let mut starts = BTreeMap::new();
            for (partition, found) in consumer.offsets_for_times(&times)? {
                match found {
                    Some(found) => drop(starts.insert(partition, found.offset())),
                    None => starts.extend(consumer.end_offsets(&[partition])?),
                }
            }
            Ok(starts)
        }
    }
}

fn seek_all(
    starts: &BTreeMap<TopicPartition, i64>,
    mut seek: impl FnMut(&TopicPartition, i64) -> Result<()>,
) -> Result<()> {
    starts.iter().try_for_each(|(partition, offset)| seek(partition, *offset))
}

/// Puts a member's positions where `--from` says, once it has its partitions.
struct StartAt(BTreeMap<TopicPartition, i64>);

impl RebalanceListener for StartAt {
    fn assigned(
        &mut self,
        consumer: &mut ConsumerContext<'_>,
        partitions: &[TopicPartition],
    ) -> std::result::Result<(), ListenerError> {
        for partition in partitions {
            if let Some(offset) = self.0.remove(partition) {
                consumer.seek(partition, offset)?;
            }
        }
        Ok(())
    }
}

/// Prints records until the count, or the end as it was at the start, is reached. A partition that
/// fails is read no further, and the others are read before its error is returned; a follower,
/// whom no end awaits, is told at once.
fn print_until_done(
    consumer: &mut Consumer,
    partitions: &[TopicPartition],
    consume: &Consume,
    output: &Output,
    mut commit: impl FnMut(&mut Consumer) -> Result<()>,
) -> Result<()> {
    let mut ends = ends(consumer, partitions)?;
    let mut left = consume.count.unwrap_or(u64::MAX);
    let mut failed = None;
    while left > 0 {
        if !consume.follow && reached(consumer, &ends)? {
            break;
        }
        let records = match consumer.poll(POLL) {
            Ok(records) => records,
            Err(error) => {
                let partition = error.topic().zip(error.partition());
                let partition = partition.map(|(topic, number)| TopicPartition::new(topic, number));
                let one_of =
                    partition.filter(|partition| !consume.follow && is_of(&error, partition));
                let Some(partition) = one_of else { return Err(error) };
                consumer.pause(std::slice::from_ref(&partition))?;
                ends.remove(&partition);
                failed.get_or_insert(error);
                continue;
            }
        };
        let last = print(&records, &mut left, &ends, consume, output)?;
        output.flush()?;
        if left == 0 {
            // What was polled beyond the count is not consumed.
            for (partition, next) in last {
                consumer.seek(&partition, next)?;
            }
        }
        commit(consumer)?;
    }
    match failed {
        Some(error) if left > 0 => Err(error),
        _ => Ok(()),
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

/// The next position of each partition behind what was printed.
fn print(
    records: &ConsumerRecords,
    left: &mut u64,
    ends: &BTreeMap<TopicPartition, i64>,
    consume: &Consume,
    output: &Output,
) -> Result<BTreeMap<TopicPartition, i64>> {
    let mut next = BTreeMap::new();
    for record in records {
        let partition = TopicPartition::new(record.topic(), record.partition());
        let beyond = !consume.follow && ends.get(&partition).is_some_and(|e| record.offset() >= *e);
        if *left == 0 || beyond {
            next.entry(partition).or_insert(record.offset());
            continue;
        }
        *left -= 1;
        if output.json {
            output.object(&record_json::show(&record))?;
        } else {
            output.bytes(record.value().unwrap_or_default())?;
        }
    }
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_has_seven_forms() {
        assert_eq!(parse_from("beginning").unwrap(), From::Beginning);
        assert_eq!(parse_from("end").unwrap(), From::End);
        assert_eq!(parse_from("stored").unwrap(), From::Stored);
        assert_eq!(parse_from("12").unwrap(), From::Offset(12));
        assert_eq!(parse_from("-3").unwrap(), From::Last(3));
        assert_eq!(parse_from("@1700000000000").unwrap(), From::Time(1_700_000_000_000));
        assert_eq!(parse_from("@2023-11-14T22:13:20Z").unwrap(), From::Time(1_700_000_000_000));
        let east = parse_from("@2023-11-14T23:13:20.5+01:00").unwrap();
        assert_eq!(east, From::Time(1_700_000_000_500));
        for bad in ["", "x", "--3", "@", "@x", "-", "@2023-11-14", "@1969-12-31T00:00:00Z"] {
            assert!(parse_from(bad).is_err(), "{bad}");
        }
    }
}
