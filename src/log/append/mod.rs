//! Appending: validation, the offset, the bytes, the border.
//!
//! One record goes straight into the active region: one uncontended lock, stores, no system call,
//! no allocation, no clock. Whatever needs more (the first append, a roll, a growth step) is
//! [`Log::make_room`]'s. Validation follows Kafka's leader path.

pub(in crate::log) mod batch;
pub(in crate::log) mod roll;
pub(in crate::log) mod validator;

use crate::error::Result;
use crate::log::segment::active::Incoming;
use crate::log::{BackgroundWork, Log, Writer};
use crate::record::{
    BatchBuilder, BatchHeader, Codec, CompressionRatio, Measured, RecordInput, Stamp, encode_many,
    encode_single, single_batch_size,
};
use crate::storage::planted::{Planted, planted};
use crate::sync::MutexGuard;

/// Who appends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Origin {
    /// A producer: every rule holds.
    #[default]
    Client,
    /// A coordinator of this broker: it may write control batches, and times are its own.
    Coordinator,
}

/// How a batch is appended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AppendOptions {
    /// The wall clock, coarse: bounds of timestamps are compared with it, LogAppendTime is it.
    pub now_ms: i64,
    pub origin: Origin,
    /// The batch was made by this process's builder a moment ago: its checksum and the numbers in
    /// its header are not checked again.
    pub proven: bool,
}

impl AppendOptions {
    /// A producer's append at `now_ms`.
    pub fn client(now_ms: i64) -> AppendOptions {
        AppendOptions { now_ms, origin: Origin::Client, proven: false }
    }

    /// A coordinator's append at `now_ms`, of a batch made by this process's builder.
    pub fn coordinator(now_ms: i64) -> AppendOptions {
        AppendOptions { now_ms, origin: Origin::Coordinator, proven: true }
    }
}

/// Where an append went.
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
    /// How well the records compressed with the codec that they came with, if that was one.
    pub ratio: Option<CompressionRatio>,
}

/// What an append leaves to be done once the lock is released.
#[derive(Debug, Default)]
pub(in crate::log) struct After {
    pub prepare: bool,
    pub seal: bool,
    pub flush: bool,
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
    pub fn append(&self, record: &RecordInput<'_>, options: AppendOptions) -> Result<Appended> {
        if self.env.probe.is_on() {
            return self.append_probed(options, || self.append_one(record, options));
        }
        self.append_one(record, options)
    }

    #[inline]
    fn append_one(&self, record: &RecordInput<'_>, options: AppendOptions) -> Result<Appended> {
        let size = single_batch_size(record);
        let mut after = After::default();
        let mut writer = self.writer.lock();
        let rules = &writer.rules;
        rules
            .check_arrived(size)
            .and_then(|()| {
                rules.check_record(record.key.is_some(), record.timestamp, options.now_ms)
            })
            .map_err(|error| self.at_home(error))?;
        if let Some((codec, level)) = rules.recompress(Codec::None) {
            drop(writer);
            return self.append_packed(&[*record], codec, level, options);
        }
        rules.check_size(size).map_err(|error| self.at_home(error))?;
        let log_append_time = rules.log_append_time;
        let timestamp = if log_append_time { options.now_ms } else { record.timestamp };
        let mut incoming =
            Incoming { size, last_offset: writer.next_offset, max_timestamp: timestamp };
        if !writer.fits(incoming) {
            writer = self.make_room(writer, &mut incoming, 0, options.now_ms, &mut after)?;
        }
        let offset = incoming.last_offset;
        let mut stamp = Stamp::plain(offset, writer.leader_epoch);
        if log_append_time {
            stamp = stamp.log_append_time(options.now_ms);
        }
        if let Some(active) = &mut writer.active {
            if planted(Planted::PublishBeforeWrite) {
                self.borders.end.publish(offset + 1);
            }
            encode_single(&mut active.sink(), record, &stamp);
        }
        self.publish(writer, incoming, offset, after)
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
            check(measured.size)?;
            return match rules.recompress(codec) {
                None => self.append_plain(records, &measured, options),
                Some((codec, level)) => self.append_packed(records, codec, level, options),
            };
        }
        let mut builder = self.pack(records, codec, level)?;
        let batch = builder.finish(&self.stamp(Stamp::plain(0, -1), options))?;
        check(batch.len())?;
        let appended = match rules.recompress(codec) {
            None => self.store_made(batch, options),
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
        let delta = measured.last_offset_delta;
        let mut after = After::default();
        let mut writer = self.writer.lock();
        writer.rules.check_size(measured.size).map_err(|error| self.at_home(error))?;
        let log_append_time = writer.rules.log_append_time;
        let mut incoming = Incoming {
            size: measured.size,
            last_offset: writer.next_offset + i64::from(delta),
            max_timestamp: if log_append_time { options.now_ms } else { measured.max_timestamp },
        };
        if !writer.fits(incoming) {
            writer = self.make_room(writer, &mut incoming, delta, options.now_ms, &mut after)?;
        }
        let base_offset = incoming.last_offset - i64::from(delta);
        let mut stamp = Stamp::plain(base_offset, writer.leader_epoch);
        if log_append_time {
            stamp = stamp.log_append_time(options.now_ms);
        }
        if let Some(active) = &mut writer.active {
            if planted(Planted::PublishBeforeWrite) {
                self.borders.end.publish(incoming.last_offset + 1);
            }
            encode_many(&mut active.sink(), records, measured, &stamp);
        }
        self.publish(writer, incoming, base_offset, after)
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

    /// The stamp with the log's time, where the topic wants that.
    fn stamp(&self, stamp: Stamp, options: AppendOptions) -> Stamp {
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
        self.store_made(builder.finish(&self.stamp(stamp, options))?, options)
    }

    /// Stores a batch that the builder made.
    fn store_made(&self, batch: &[u8], options: AppendOptions) -> Result<Appended> {
        let header = BatchHeader::parse(batch).map_err(|fault| fault.into_error())?;
        self.store(batch, header.last_offset_delta, header.max_timestamp, options)
    }

    /// Stores a batch that needs nothing but its offset and its leader epoch.
    pub(in crate::log) fn store(
        &self,
        batch: &[u8],
        last_offset_delta: i32,
        max_timestamp: i64,
        options: AppendOptions,
    ) -> Result<Appended> {
        let mut after = After::default();
        let mut writer = self.writer.lock();
        writer.rules.check_size(batch.len()).map_err(|error| self.at_home(error))?;
        let mut incoming = Incoming {
            size: batch.len(),
            last_offset: writer.next_offset + i64::from(last_offset_delta),
            max_timestamp,
        };
        if !writer.fits(incoming) {
            let now_ms = options.now_ms;
            writer =
                self.make_room(writer, &mut incoming, last_offset_delta, now_ms, &mut after)?;
        }
        let base_offset = incoming.last_offset - i64::from(last_offset_delta);
        let leader_epoch = writer.leader_epoch;
        if let Some(active) = &mut writer.active {
            if planted(Planted::PublishBeforeWrite) {
                self.borders.end.publish(incoming.last_offset + 1);
            }
            active.write(batch, base_offset, leader_epoch);
        }
        self.publish(writer, incoming, base_offset, after)
    }

    /// Moves the borders behind a batch whose bytes are stored, and does what is left to do.
    ///
    /// # Errors
    /// `StorageFull` and `StorageFailed` where the stores did not get to the file: nothing is
    /// published.
    #[inline]
    fn publish(
        &self,
        mut writer: MutexGuard<'_, Writer>,
        incoming: Incoming,
        base_offset: i64,
        mut after: After,
    ) -> Result<Appended> {
        let w = &mut *writer;
        if let Some(active) = &mut w.active {
            if active.region.has_failed() {
                return Err(self.stores_lost(writer, incoming.size, after));
            }
            w.last_position = Some(active.position);
            active.stored(incoming);
        }
        let end = incoming.last_offset + 1;
        w.next_offset = end;
        self.borders.end.publish(end);
        let must_sync = end - self.commit.durable() >= w.rules.flush_messages;
        after.flush |= !std::mem::replace(&mut w.dirty, true);
        let log_append_time = w.rules.log_append_time;
        let woken = w.watchers.take();
        drop(writer);
        woken.ring();
        self.meter.appended((end - base_offset).unsigned_abs(), incoming.size);
        if after.prepare || after.seal || after.flush {
            self.announce(&after);
        }
        Ok(Appended {
            base_offset,
            last_offset: incoming.last_offset,
            timestamp: incoming.max_timestamp,
            log_append_time,
            must_sync,
            ratio: None,
        })
    }

    /// Tells the broker what there is to do.
    #[cold]
    pub(in crate::log) fn announce(&self, after: &After) {
        let gate = &self.env.gate;
        if after.prepare {
            gate.work(BackgroundWork::Prepare(self.me.clone()));
        }
        if after.seal {
            gate.work(BackgroundWork::Seal(self.me.clone()));
        }
        if after.flush {
            gate.work(BackgroundWork::Flush(self.me.clone()));
        }
    }
}
