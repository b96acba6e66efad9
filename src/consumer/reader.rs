//! Reading one partition without a group, a subscription or a configuration.

use super::poll::ATTACHED_INTERVAL;
use super::reading::{ConsumerRecord, ConsumerRecords, LogReader, Reading, Unpack};
use super::wakeup::{Wakeup, WakeupHandle};
use crate::broker::{BrokerInner, Partition};
use crate::config::IsolationLevel;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::Arc;
use crate::time::Signal;
use crate::topic::TopicPartition;
use std::fmt;
use std::time::Duration;

const RECORDS_MAX: usize = 500;
const READ_BYTES_MAX: usize = 1 << 20;
/// What one read may decompress beyond its first batch: the default of `fetch.max.bytes`.
const UNPACKED_MAX: usize = 50 << 20;

/// Where a [`Reader`] starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadFrom {
    /// At the first record.
    Beginning,
    /// Behind the last record.
    End,
    /// At this offset, or at the first one behind it that the log has.
    Offset(i64),
    /// At the first record that has at least this timestamp, in milliseconds since 1970; at the
    /// end if there is none.
    Timestamp(i64),
    /// So many offsets before the end, or at the beginning if there are not so many.
    Last(u64),
}

/// Reads one partition, from a place on, at its own pace: for code that wants no consumer at all.
/// Works on an attached directory too.
///
/// # Examples
/// ```no_run
/// use std::time::Duration;
/// use topiclite::{Broker, ReadFrom};
///
/// let broker = Broker::attach("data")?;
/// let mut reader = broker.reader("orders", 0, ReadFrom::Beginning)?;
/// while let Some(record) = reader.next(Duration::ZERO)? {
///     println!("{} {:?}", record.offset(), record.value());
/// }
/// # Ok::<(), topiclite::Error>(())
/// ```
pub struct Reader {
    broker: Arc<BrokerInner>,
    name: TopicPartition,
    partition: Partition,
    isolation: IsolationLevel,
    records_max: usize,
    position: i64,
    reader: LogReader,
    /// What one read may decompress beyond its first batch.
    unpacked_max: usize,
    wakeup: Arc<Wakeup>,
    watched: bool,
    /// What `next` lends.
    current: ConsumerRecords,
}

impl Reader {
    /// # Errors
    /// [`ErrorKind::UnknownTopicOrPartition`], and those of opening the log.
    pub(crate) fn new(
        broker: Arc<BrokerInner>,
        topic: &str,
        partition: i32,
        from: ReadFrom,
    ) -> Result<Reader> {
        let found = broker.topic(topic)?.partition(partition)?;
        Reader::of(broker, TopicPartition::new(topic, partition), found, from)
    }

    /// A reader of a partition that was found before.
    ///
    /// # Errors
    /// Those of opening the log.
    pub(crate) fn of(
        broker: Arc<BrokerInner>,
        name: TopicPartition,
        partition: Partition,
        from: ReadFrom,
    ) -> Result<Reader> {
        let mut reader = Reader {
            broker,
            name,
            partition,
            isolation: IsolationLevel::ReadUncommitted,
            records_max: RECORDS_MAX,
            position: 0,
            reader: LogReader::new(0),
            unpacked_max: UNPACKED_MAX,
            wakeup: Wakeup::new(),
            watched: false,
            current: ConsumerRecords::default(),
        };
        reader.seek(from)?;
        Ok(reader)
    }

    /// Which records to see. [`IsolationLevel::ReadUncommitted`] unless it is set.
    pub fn isolation_level(mut self, isolation: IsolationLevel) -> Reader {
        self.isolation = isolation;
        self
    }

    /// The most records that one [`Reader::read`] returns, at least 1. 500 unless it is set.
    pub fn max_records(mut self, count: usize) -> Reader {
        self.records_max = count.max(1);
        self
    }

    /// What one read may decompress beyond its first batch.
    #[cfg(all(test, not(loom)))]
    pub(super) fn unpacked_max(mut self, bytes: usize) -> Reader {
        self.unpacked_max = bytes;
        self
    }

    /// Goes elsewhere.
    ///
    /// # Errors
    /// [`ErrorKind::IllegalArgument`] for a negative offset; those of [`Reader::end_offset`] where
    /// the place depends on the end; those of looking up a time.
    pub fn seek(&mut self, from: ReadFrom) -> Result<()> {
        let log = &self.partition;
        let start = log.log_start_offset()?;
        let end = || log.end_for(self.isolation);
        let position = match from {
            ReadFrom::Beginning => start,
            ReadFrom::End => end()?,
            ReadFrom::Offset(offset) if offset < 0 => {
                let fault = "an offset to read from is not negative";
                return Err(Error::new(ErrorKind::IllegalArgument, fault)
                    .with_partition(self.name.topic(), self.name.partition())
                    .with_offset(offset));
            }
            ReadFrom::Offset(offset) => offset.max(start),
            ReadFrom::Timestamp(time) => match log.offset_for_time(time, self.isolation)? {
                Some(found) => found.offset,
                None => end()?,
            },
            ReadFrom::Last(count) => {
                end()?.saturating_sub(i64::try_from(count).unwrap_or(i64::MAX)).max(start)
            }
        };
        self.position = position;
        self.reader.seek(position);
        Ok(())
    }

    /// The offset of the next record.
    pub fn position(&self) -> i64 {
        self.position
    }

    /// The end of the partition at this moment, as the isolation level sees it.
    ///
    /// # Errors
    /// [`ErrorKind::CorruptRecord`] and [`ErrorKind::UnsupportedFormat`] of a damaged partition,
    /// whose end nobody knows; those of opening the log.
    pub fn end_offset(&self) -> Result<i64> {
        self.partition.end_for(self.isolation)
    }

    /// Returns records as soon as there are any; none once `timeout` is over.
    ///
    /// Records that were deleted before they were read are passed over.
    ///
    /// # Errors
    /// [`ErrorKind::CorruptRecord`] with the offset, every time until it is sought past, and
    /// everywhere at and behind the end of a partition that is read-only up to its damage
    /// ([`ErrorKind::UnsupportedFormat`] where an old format is what is wrong);
    /// [`ErrorKind::OffsetOutOfRange`] beyond the end; [`ErrorKind::Wakeup`];
    /// [`ErrorKind::UnknownTopicOrPartition`] once the topic is deleted.
    pub fn read(&mut self, timeout: Duration) -> Result<ConsumerRecords> {
        self.read_up_to(self.records_max, timeout)
    }

    /// Returns one record, `None` once `timeout` is over.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub fn next(&mut self, timeout: Duration) -> Result<Option<ConsumerRecord<'_>>> {
        self.current = self.read_up_to(1, timeout)?;
        Ok(self.current.iter().next())
    }

    /// What it reads.
    pub(crate) fn partition(&self) -> &Partition {
        &self.partition
    }

    /// Has `signal` rung by what happens behind the position; true, and nothing registered, where
    /// something did already. Whoever registers takes it back with [`Reader::unwatch`].
    ///
    /// # Errors
    /// Those of opening the log; the damage of a damaged one.
    pub(crate) fn watch(&self, signal: &Arc<Signal>) -> Result<bool> {
        self.partition.watch(signal, self.position, self.isolation)
    }

    /// Takes a registration back.
    pub(crate) fn unwatch(&self, signal: &Arc<Signal>) {
        self.partition.unwatch(signal);
    }

    /// How long whoever reads beside an owner, who tells nobody, waits until the next look.
    pub(crate) const ATTACHED_INTERVAL: Duration = ATTACHED_INTERVAL;

    /// A handle that interrupts this reader from any thread.
    pub fn wakeup_handle(&self) -> WakeupHandle {
        self.wakeup.handle()
    }

    fn read_up_to(&mut self, records_max: usize, timeout: Duration) -> Result<ConsumerRecords> {
        let clock = self.broker.clock().clone();
        let deadline = match timeout.is_zero() {
            true => Duration::ZERO,
            false => clock.monotonic().saturating_add(timeout),
        };
        loop {
            if self.wakeup.take() {
                return Err(Error::new(ErrorKind::Wakeup, "a wakeup handle interrupted the call"));
            }
            self.broker.check_open()?;
            let records = self.take(records_max)?;
            if !records.is_empty() || timeout.is_zero() {
                return Ok(records);
            }
            let signal = self.wakeup.signal();
            if self.partition.watch(signal, self.position, self.isolation)? {
                continue;
            }
            self.watched = true;
            let mut until = deadline;
            if self.broker.is_attached() {
                until = until.min(clock.monotonic().saturating_add(ATTACHED_INTERVAL));
            }
            let finite = (until != Duration::MAX).then_some(until);
            let rang = clock.park(signal, finite);
            if !rang && (finite.is_none() || clock.monotonic() >= deadline) {
                return Ok(records);
            }
        }
    }

    /// Goes to the log start, if that is ahead.
    fn pass_over_deleted(&mut self) -> Result<bool> {
        let start = self.partition.log_start_offset()?;
        let passes = self.position < start;
        if passes {
            self.position = start;
            self.reader.seek(start);
        }
        Ok(passes)
    }

    /// Takes what is there, and moves on over what is never returned.
    fn take(&mut self, records_max: usize) -> Result<ConsumerRecords> {
        let mut records = ConsumerRecords::default();
        self.pass_over_deleted()?;
        let mut bytes_left = READ_BYTES_MAX;
        let mut unpack = Unpack::up_to(self.unpacked_max);
        while records.count() < records_max && bytes_left > 0 {
            match self.go_on(records_max, bytes_left, &mut unpack, &mut records) {
                Ok(0) => break,
                Ok(bytes) => bytes_left = bytes_left.saturating_sub(bytes),
                // It comes again when there is nothing before it.
                Err(_) if !records.is_empty() => break,
                // They were deleted just now.
                Err(error) if error.kind() == ErrorKind::OffsetOutOfRange => {
                    if !self.pass_over_deleted()? {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(records)
    }

    /// Reads once. Returns how many bytes were passed, at least 1 where the position moved; 0 where
    /// there is nothing, or nothing more that may be held.
    fn go_on(
        &mut self,
        records_max: usize,
        bytes_max: usize,
        unpack: &mut Unpack,
        records: &mut ConsumerRecords,
    ) -> Result<usize> {
        let reading = Reading {
            partition: &self.name,
            log: &self.partition,
            isolation: self.isolation,
            records_max: records_max - records.count(),
            bytes_max,
            may_exceed: true,
            may_open_segment: true,
            unpack: *unpack,
        };
        let walked = reading.go_on(self.position, &mut self.reader, records)?;
        let Some(walked) = walked else { return Ok(0) };
        unpack.spend(&walked);
        self.position = walked.position;
        if walked.records > 0 {
            records.set_next(&self.name, walked.position);
        }
        match walked.fault {
            Some(fault) => {
                let place = (&self.partition, &self.name);
                Err(self.reader.unreadable(fault, place, walked.position))
            }
            // What did not fit would not fit a second time either.
            None if walked.full => Ok(0),
            None => Ok(walked.bytes.max(1)),
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if self.watched {
            self.partition.unwatch(self.wakeup.signal());
        }
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("partition", &self.name)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}
