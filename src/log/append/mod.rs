//! Appending: validation, the offset, the bytes, the border.
//!
//! One record goes straight into the active region: one uncontended lock, stores, no system call,
//! no allocation, no clock. Whatever needs more (the first append, a roll, a growth step) is
//! [`Log::make_room`]'s. Validation follows Kafka's leader path.

pub(in crate::log) mod batch;
pub(in crate::log) mod place;
pub(in crate::log) mod roll;
pub(in crate::log) mod validator;

use crate::error::Result;
use crate::log::Log;
use crate::log::append::place::{Placement, ProducerAppend};
use crate::log::phase::{Knowledge, Phase};
use crate::log::producers::Marker;
use crate::log::producers::entry::{NEXT_SEQUENCE, ProducerStamp};
use crate::log::segment::active::Content;
use crate::record::{
    BatchBuilder, BatchHeader, Codec, CompressionRatio, MARKER_BATCH_SIZE, Measured,
    MeasuredSingle, RecordInput, Stamp, encode_many, encode_marker, encode_measured,
};

/// The one who appends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum AppendOrigin {
    /// A producer: every rule holds.
    #[default]
    Client,
    /// A coordinator of this broker: it may write control batches, and times are its own.
    Coordinator,
}

/// The terms of an append.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AppendOptions {
    /// The wall clock, coarse: bounds of timestamps are compared with it, LogAppendTime is it.
    pub now_ms: i64,
    pub origin: AppendOrigin,
    /// The producer whose sequence is checked and stamped.
    pub producer: Option<ProducerStamp>,
    /// The batch was made by this process's builder a moment ago: its checksum and the numbers in
    /// its header are not checked again.
    pub proven: bool,
}

impl AppendOptions {
    /// A producer's append at `now_ms`.
    pub fn client(now_ms: i64) -> AppendOptions {
        AppendOptions { now_ms, origin: AppendOrigin::Client, producer: None, proven: false }
    }

    /// A coordinator's append at `now_ms`, of a batch made by this process's builder.
    pub fn coordinator(now_ms: i64) -> AppendOptions {
        AppendOptions { now_ms, origin: AppendOrigin::Coordinator, producer: None, proven: true }
    }
}

/// The place of a batch that was appended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Appended {
    pub base_offset: i64,
    pub last_offset: i64,
    /// The largest timestamp of the batch, or the append time with LogAppendTime.
    pub timestamp: i64,
    /// The log gave all records `timestamp`.
    pub log_append_time: bool,
    /// By `flush.messages` the answer has to wait for
    /// [`Log::make_durable`]`(last_offset + 1)`.
    pub must_sync: bool,
    /// The producer sent it before: nothing was stored by this append.
    pub duplicate: bool,
    /// How well the records compressed with the codec that they came with, if that was one.
    pub ratio: Option<CompressionRatio>,
}

/// What an encoder in place stored: records, of a transaction or not.
#[inline]
fn content_of(stamp: &Stamp) -> Content {
    if stamp.transactional { Content::Anything } else { Content::PlainRecords }
}

impl Log {
    /// Appends one record as one batch, encoded in place.
    ///
    /// # Durability
    /// Survives the death of the process. Survives power loss after [`Log::make_durable`] or
    /// [`Log::flush`].
    ///
    /// # Errors
    /// Nothing is appended on any: `RecordTooLarge`, `RecordBatchTooLarge`, `InvalidTimestamp`,
    /// `InvalidRecord` for what the topic refuses; `StorageFull` and `Io` when the disk gives no
    /// room, retriable; `StorageFailed` after a failed sync; `ReadOnly`, `Closed`,
    /// `CorruptRecord` and others when the partition cannot be written.
    #[inline]
    pub fn append(&self, record: &RecordInput<'_>, options: AppendOptions) -> Result<Appended> {
        self.append_on(record, &options)
    }

    /// [`Log::append`] on terms that are lent: whoever needs them after a refusal would copy them
    /// for each append.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub fn append_on(&self, record: &RecordInput<'_>, options: &AppendOptions) -> Result<Appended> {
        if self.env.probe.is_on() {
            return self.append_probed(*options, || self.append_one(record, options));
        }
        self.append_one(record, options)
    }

    #[inline]
    fn append_one(&self, record: &RecordInput<'_>, options: &AppendOptions) -> Result<Appended> {
        let measured = MeasuredSingle::of(record);
        let size = measured.size;
        let writer = self.writer.lock();
        let rules = &writer.rules;
        rules
            .check_arrived(size)
            .and_then(|()| {
                rules.check_record(record.key.is_some(), record.timestamp, options.now_ms)
            })
            .map_err(|error| self.at_home(error))?;
        if let Some((codec, level)) = rules.recompress(Codec::None) {
            drop(writer);
            return self.append_packed(&[*record], codec, level, *options);
        }
        let batch = Placement {
            size,
            last_offset_delta: 0,
            max_timestamp: record.timestamp,
            stamped: false,
            now_ms: options.now_ms,
        };
        self.place(writer, batch, ProducerAppend::of(options), |active, stamp| {
            encode_measured(&mut active.sink(), record, measured, stamp);
            content_of(stamp)
        })
    }

    /// Appends records as one batch of this codec; `level` is the codec's own, `None` its default.
    ///
    /// # Durability
    /// As [`Log::append`].
    ///
    /// # Errors
    /// As [`Log::append`]; all records or none are appended.
    pub fn append_records(
        &self,
        records: &[RecordInput<'_>],
        codec: Codec,
        level: Option<i32>,
        options: AppendOptions,
    ) -> Result<Appended> {
        if self.env.probe.is_on() {
            let append = || self.append_many(records, codec, level, options);
            return self.append_probed(options, append);
        }
        self.append_many(records, codec, level, options)
    }

    fn append_many(
        &self,
        records: &[RecordInput<'_>],
        codec: Codec,
        level: Option<i32>,
        options: AppendOptions,
    ) -> Result<Appended> {
        let rules = self.writer.lock().rules;
        // As in Kafka, a batch is measured as it comes, before its records are looked at, and
        // once more as it is stored.
        let check = |size| {
            rules
                .check_arrived(size)
                .and_then(|()| rules.check_records(records, options.now_ms))
                .map_err(|error| self.at_home(error))
        };
        if codec == Codec::None {
            let measured = Measured::of(records).map_err(|error| self.at_home(error))?;
            let times = (measured.min_timestamp, measured.max_timestamp);
            rules
                .check_arrived(measured.size)
                .and_then(|()| rules.check_measured(records, times, options.now_ms))
                .map_err(|error| self.at_home(error))?;
            return match rules.recompress(codec) {
                None => self.append_plain(records, &measured, options),
                Some((codec, level)) => self.append_packed(records, codec, level, options),
            };
        }
        let mut builder = self.pack(records, codec, level)?;
        let batch = builder.finish(&self.stamp(Stamp::plain(0, -1), options))?;
        check(batch.len())?;
        let appended = match rules.recompress(codec) {
            None => self.store_made(&mut builder, options),
            Some((Codec::None, _)) => {
                let measured = Measured::of(records).map_err(|error| self.at_home(error))?;
                self.append_plain(records, &measured, options)
            }
            Some((codec, level)) => self.append_packed(records, codec, level, options),
        };
        let ratio = Some(builder.observed_ratio());
        appended.map(|appended| Appended { ratio, ..appended })
    }

    /// Appends records that were checked as one batch, encoded in place.
    fn append_plain(
        &self,
        records: &[RecordInput<'_>],
        measured: &Measured,
        options: AppendOptions,
    ) -> Result<Appended> {
        let batch = Placement {
            size: measured.size,
            last_offset_delta: measured.last_offset_delta,
            max_timestamp: measured.max_timestamp,
            stamped: false,
            now_ms: options.now_ms,
        };
        self.place(self.writer.lock(), batch, ProducerAppend::of(&options), |active, stamp| {
            encode_many(&mut active.sink(), records, measured, stamp);
            content_of(stamp)
        })
    }

    /// What the topic refuses a record for, apart from its size: a batch that was refused as a
    /// whole is taken apart with it.
    ///
    /// # Errors
    /// `InvalidTimestamp` and `InvalidRecord`.
    pub fn check_record(&self, has_key: bool, timestamp: i64, now_ms: i64) -> Result<()> {
        let rules = self.writer.lock().rules;
        rules.check_record(has_key, timestamp, now_ms).map_err(|error| self.at_home(error))
    }

    /// Appends records that were checked.
    fn append_packed(
        &self,
        records: &[RecordInput<'_>],
        codec: Codec,
        level: Option<i32>,
        options: AppendOptions,
    ) -> Result<Appended> {
        let mut builder = self.pack(records, codec, level)?;
        self.finish(&mut builder, Stamp::plain(0, -1), options)
    }

    fn pack(
        &self,
        records: &[RecordInput<'_>],
        codec: Codec,
        level: Option<i32>,
    ) -> Result<BatchBuilder> {
        let mut builder = BatchBuilder::new(codec, level)?;
        for record in records {
            builder.append(record).map_err(|error| self.at_home(error))?;
        }
        Ok(builder)
    }

    /// The stamp with the producer's sequence, and with the log's time where the topic wants that.
    fn stamp(&self, stamp: Stamp, options: AppendOptions) -> Stamp {
        let stamp = options.producer.map_or(stamp, |producer| producer.on(stamp));
        match self.writer.lock().rules.log_append_time {
            true => stamp.log_append_time(options.now_ms),
            false => stamp,
        }
    }

    /// Makes the batch and stores it.
    pub(in crate::log) fn finish(
        &self,
        builder: &mut BatchBuilder,
        stamp: Stamp,
        options: AppendOptions,
    ) -> Result<Appended> {
        builder.finish(&self.stamp(stamp, options))?;
        self.store_made(builder, options)
    }

    /// Stores the batch that the builder made last. A sequence that only the log knows is stamped
    /// on it under the lock.
    fn store_made(&self, builder: &mut BatchBuilder, options: AppendOptions) -> Result<Appended> {
        let batch = builder.made();
        let header = BatchHeader::parse(batch).map_err(|fault| fault.into_error())?;
        let (delta, max_timestamp) = (header.last_offset_delta, header.max_timestamp);
        if options.producer.is_none_or(|producer| producer.base_sequence != NEXT_SEQUENCE) {
            return self.store(batch, delta, max_timestamp, options);
        }
        let finished = finished(batch.len(), delta, max_timestamp, options);
        let producer = ProducerAppend::of(&options);
        self.place(self.writer.lock(), finished, producer, |active, stamp| {
            let batch = builder.restamp(stamp.base_sequence);
            active.write(batch, stamp.base_offset, stamp.leader_epoch);
            Content::Anything
        })
    }

    /// Stores a batch that needs nothing but its offset and its leader epoch.
    fn store(
        &self,
        batch: &[u8],
        last_offset_delta: i32,
        max_timestamp: i64,
        options: AppendOptions,
    ) -> Result<Appended> {
        let finished = finished(batch.len(), last_offset_delta, max_timestamp, options);
        let producer = ProducerAppend::of(&options);
        self.place(self.writer.lock(), finished, producer, |active, stamp| {
            active.write(batch, stamp.base_offset, stamp.leader_epoch);
            Content::Anything
        })
    }

    /// Stores the marker of a transaction. Readers of committed records see the transaction, or
    /// pass over it, from then on.
    ///
    /// # Durability
    /// As [`Log::append`].
    ///
    /// # Errors
    /// As [`Log::append`], but for those of the size; `InvalidProducerEpoch`,
    /// `TransactionCoordinatorFenced`.
    pub fn append_marker(&self, mut marker: Marker, now_ms: i64) -> Result<Appended> {
        let writer = self.ready(self.writer.lock(), now_ms)?;
        // A directory has one coordinator at a time, which its lock sees to. Another program's had
        // an epoch, and a lower one would be taken for that of a coordinator that was replaced.
        let known = writer.producers.coordinator_epoch(marker.producer_id);
        marker.coordinator_epoch = marker.coordinator_epoch.max(known);
        let batch = Placement {
            size: MARKER_BATCH_SIZE,
            last_offset_delta: 0,
            max_timestamp: now_ms,
            stamped: true,
            now_ms,
        };
        self.place(writer, batch, Some(ProducerAppend::Marker(marker)), |active, stamp| {
            let batch = encode_marker(marker.kind, marker.coordinator_epoch, now_ms, stamp);
            active.write(&batch, stamp.base_offset, stamp.leader_epoch);
            Content::Anything
        })
    }

    /// That the log takes appends, as far as that is known before one. What was closed or deleted
    /// tells it to the append.
    ///
    /// # Errors
    /// Why the partition is read-only, or has failed; those of opening it.
    pub fn check_takes_appends(&self) -> Result<()> {
        if self.has_ended() {
            return Ok(());
        }
        if !self.is_opened() {
            self.open()?;
        }
        match &self.writer.lock().phase {
            Phase::ReadOnly(error) | Phase::Failed(error, _) => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// Whether the log has failed, all of it being known, and has nothing open of a producer: it
    /// takes no marker, and there is nothing that one would end. Of a log that is read-only it is
    /// not known what lies behind its damage.
    pub fn has_failed_without(&self, producer_id: i64) -> bool {
        if self.know_producers().is_err() || self.damage.get().is_some() {
            return false;
        }
        let writer = self.writer.lock();
        let is_whole = matches!(writer.phase, Phase::Failed(_, Knowledge::Segments));
        is_whole && writer.producers.open_epoch(producer_id).is_none()
    }

    /// The epoch of a producer that has a transaction open here; `None` where it has none.
    ///
    /// # Errors
    /// Those of opening the log, and of reading what it knows of producers.
    pub fn open_transaction(&self, producer_id: i64) -> Result<Option<i16>> {
        self.know_producers()?;
        Ok(self.writer.lock().producers.open_epoch(producer_id))
    }

    /// The epoch of a producer that is known here; `None` of any other.
    ///
    /// # Errors
    /// Those of opening the log, and of reading what it knows of producers.
    pub fn producer_epoch(&self, producer_id: i64) -> Result<Option<i16>> {
        self.know_producers()?;
        Ok(self.writer.lock().producers.epoch(producer_id))
    }

    /// Whether the transaction that this marker ends has it already.
    ///
    /// # Errors
    /// Those of opening the log, and of reading what it knows of producers.
    pub fn has_marker(&self, marker: &Marker) -> Result<bool> {
        self.know_producers()?;
        Ok(self.writer.lock().producers.has_marker(marker))
    }

    /// The producers that have a transaction open here, by id, with their epochs.
    ///
    /// # Errors
    /// Those of opening the log, and of reading what it knows of producers.
    pub fn open_transactions(&self) -> Result<Vec<(i64, i16)>> {
        self.know_producers()?;
        let writer = self.writer.lock();
        let open = writer.producers.open();
        let epoch = |id: i64| writer.producers.open_epoch(id).unwrap_or(0);
        Ok(open.iter().map(|open| (open.producer_id, epoch(open.producer_id))).collect())
    }

    /// The sequence that the log expects of a producer's next batch.
    ///
    /// # Errors
    /// `InvalidProducerEpoch`, `InvalidTxnState`; those of opening the partition.
    pub fn next_sequence(&self, stamp: &ProducerStamp) -> Result<i32> {
        let writer = self.known_writer()?;
        writer.producers.next_sequence(stamp).map_err(|error| self.at_home(error))
    }

    /// The sequence of the last record that the log knows of a producer.
    ///
    /// # Errors
    /// Those of opening the partition.
    pub fn last_sequence(&self, producer_id: i64) -> Result<Option<i32>> {
        Ok(self.known_writer()?.producers.last_sequence(producer_id))
    }
}

/// The place that a batch wants whose records have their timestamps.
fn finished(size: usize, delta: i32, max_timestamp: i64, options: AppendOptions) -> Placement {
    let now_ms = options.now_ms;
    Placement { size, last_offset_delta: delta, max_timestamp, stamped: true, now_ms }
}
