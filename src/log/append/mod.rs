//! Appending: validation, the offset, the bytes, the border.
//!
//! One record goes straight into the active region: one uncontended lock, stores, no system call,
//! no allocation, no clock. Whatever needs more (the first append, a roll, a growth step) is
//! [`Log::make_room`]'s. Validation follows Kafka's leader path.

pub(in crate::log) mod batch;
pub(in crate::log) mod roll;
pub(in crate::log) mod validator;

use crate::error::Result;
use crate::log::producers::Marker;
use crate::log::producers::entry::{Admission, NEXT_SEQUENCE, ProducerStamp, StoredBatch};
use crate::log::segment::active::{Active, Content, Incoming};
use crate::log::{BackgroundWork, Log, NO_OPEN_TRANSACTION, Writer};
use crate::record::{
    BatchBuilder, BatchHeader, Codec, CompressionRatio, MARKER_BATCH_SIZE, Measured, RecordInput,
    Stamp, encode_many, encode_marker, encode_single, single_batch_size,
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
    /// The producer whose sequence is checked and stamped.
    pub producer: Option<ProducerStamp>,
    /// The batch was made by this process's builder a moment ago: its checksum and the numbers in
    /// its header are not checked again.
    pub proven: bool,
}

impl AppendOptions {
    /// A producer's append at `now_ms`.
    pub fn client(now_ms: i64) -> AppendOptions {
        AppendOptions { now_ms, origin: Origin::Client, producer: None, proven: false }
    }

    /// A coordinator's append at `now_ms`, of a batch made by this process's builder.
    pub fn coordinator(now_ms: i64) -> AppendOptions {
        AppendOptions { now_ms, origin: Origin::Coordinator, producer: None, proven: true }
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
    /// The producer sent it before: nothing was stored by this append.
    pub duplicate: bool,
    /// How well the records compressed with the codec that they came with, if that was one.
    pub ratio: Option<CompressionRatio>,
}

/// A batch that wants a place.
#[derive(Debug, Clone, Copy)]
struct Placement {
    size: usize,
    last_offset_delta: i32,
    max_timestamp: i64,
    /// It has its timestamps: the log's, where the topic wants that.
    stamped: bool,
}

/// A batch whose bytes are stored, and that no reader sees.
struct Written<'a> {
    incoming: Incoming,
    base_offset: i64,
    content: Content,
    told: Option<Told<'a>>,
}

/// What a batch tells of its producer.
#[derive(Clone, Copy)]
enum Told<'a> {
    Batch(&'a ProducerStamp),
    Marker(&'a Marker),
}

/// What an encoder in place stored: records, of a transaction or not.
#[inline]
fn content_of(stamp: &Stamp) -> Content {
    if stamp.transactional { Content::Anything } else { Content::PlainRecords }
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
            return self.append_packed(&[*record], codec, level, options);
        }
        let batch = Placement {
            size,
            last_offset_delta: 0,
            max_timestamp: record.timestamp,
            stamped: false,
        };
        self.place(writer, batch, options, |active, stamp| {
            encode_single(&mut active.sink(), record, stamp);
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
        };
        self.place(self.writer.lock(), batch, options, |active, stamp| {
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
        let size = batch.len();
        let placement = Placement { size, last_offset_delta: delta, max_timestamp, stamped: true };
        self.place(self.writer.lock(), placement, options, |active, stamp| {
            let batch = builder.restamp(stamp.base_sequence);
            active.write(batch, stamp.base_offset, stamp.leader_epoch);
            Content::Anything
        })
    }

    /// Stores a batch that needs nothing but its offset and its leader epoch.
    pub(in crate::log) fn store(
        &self,
        batch: &[u8],
        last_offset_delta: i32,
        max_timestamp: i64,
        options: AppendOptions,
    ) -> Result<Appended> {
        let placement =
            Placement { size: batch.len(), last_offset_delta, max_timestamp, stamped: true };
        self.place(self.writer.lock(), placement, options, |active, stamp| {
            active.write(batch, stamp.base_offset, stamp.leader_epoch);
            Content::Anything
        })
    }

    /// The one way of a batch into the log. Under the lock it is checked against what the topic
    /// and the producer's last batches allow, gets its place and its offset, `write` stores its
    /// bytes there, and the borders move over it. `write` says what it stored: whoever does not
    /// know says so, and readers look.
    ///
    /// # Errors
    /// Nothing is appended on any. Those of the producer's sequence, of the room, of the stores.
    #[inline]
    fn place<'a>(
        &'a self,
        mut writer: MutexGuard<'a, Writer>,
        batch: Placement,
        mut options: AppendOptions,
        write: impl FnOnce(&mut Active, &Stamp) -> Content,
    ) -> Result<Appended> {
        let rules = &writer.rules;
        rules.check_size(batch.size).map_err(|error| self.at_home(error))?;
        let log_append_time = rules.log_append_time;
        if options.producer.is_some() {
            // The lock is not released from here on: the active segment is there.
            writer = self.ready(writer, options.now_ms)?;
        }
        if let Some(producer) = &mut options.producer {
            if options.origin == Origin::Coordinator {
                // Its batches are numbered by nobody: each begins at sequence 0.
                let checked = writer.producers.check_epoch(producer);
                checked.map_err(|error| self.at_home(error))?;
            } else if producer.base_sequence == NEXT_SEQUENCE {
                let next = writer.producers.next_sequence(producer);
                producer.base_sequence = next.map_err(|error| self.at_home(error))?;
            } else if let Some(known) = self.admit(&writer, producer, batch.last_offset_delta)? {
                return Ok(known);
            } else if planted(Planted::SequenceNotChecked) {
                writer = self.look_away(writer);
            }
        }
        let delta = i64::from(batch.last_offset_delta);
        let mut after = After::default();
        let mut incoming = Incoming {
            size: batch.size,
            last_offset: writer.next_offset + delta,
            max_timestamp: match log_append_time && !batch.stamped {
                true => options.now_ms,
                false => batch.max_timestamp,
            },
        };
        if !writer.fits(incoming) {
            let (delta, now_ms) = (batch.last_offset_delta, options.now_ms);
            writer = self.make_room(writer, &mut incoming, delta, now_ms, &mut after)?;
        }
        let base_offset = incoming.last_offset - delta;
        let mut stamp = Stamp::plain(base_offset, writer.leader_epoch);
        if log_append_time {
            stamp = stamp.log_append_time(options.now_ms);
        }
        if let Some(producer) = &options.producer {
            stamp = producer.on(stamp);
        }
        let mut content = Content::Anything;
        if let Some(active) = &mut writer.active {
            if planted(Planted::PublishBeforeWrite) {
                self.borders.end.publish(incoming.last_offset + 1);
            }
            content = write(active, &stamp);
        }
        let told = options.producer.as_ref().map(Told::Batch);
        self.publish(writer, Written { incoming, base_offset, content, told }, after)
    }

    /// Has the log ready for its first append of this life, so that its producers are known.
    #[inline]
    fn ready<'a>(
        &'a self,
        writer: MutexGuard<'a, Writer>,
        now_ms: i64,
    ) -> Result<MutexGuard<'a, Writer>> {
        match writer.active.is_some() {
            true => Ok(writer),
            false => self.make_ready(writer, now_ms),
        }
    }

    #[cold]
    fn make_ready<'a>(
        &'a self,
        mut writer: MutexGuard<'a, Writer>,
        now_ms: i64,
    ) -> Result<MutexGuard<'a, Writer>> {
        while writer.active.is_none() {
            if let Some(refusal) = &writer.refusal {
                return Err(refusal.clone());
            }
            drop(writer);
            self.prepare_to_append(now_ms)?;
            writer = self.writer.lock();
        }
        Ok(writer)
    }

    /// The planted bug: others append between the look at the sequence and the store.
    #[cold]
    fn look_away<'a>(&'a self, writer: MutexGuard<'a, Writer>) -> MutexGuard<'a, Writer> {
        drop(writer);
        for _ in 0..1000 {
            crate::sync::spin_loop();
        }
        self.writer.lock()
    }

    /// What the producer's last batches say of one that is to be stored: where it is, if it is
    /// one of them.
    #[inline]
    fn admit(
        &self,
        writer: &Writer,
        producer: &ProducerStamp,
        last_offset_delta: i32,
    ) -> Result<Option<Appended>> {
        let admission = writer.producers.check(producer, last_offset_delta);
        match admission.map_err(|error| self.at_home(error))? {
            Admission::Next => Ok(None),
            Admission::Duplicate(known) => Ok(Some(self.stored_before(writer, known))),
        }
    }

    #[cold]
    fn stored_before(&self, writer: &Writer, known: StoredBatch) -> Appended {
        let ahead = known.last_offset + 1 - self.commit.durable();
        Appended {
            base_offset: known.base_offset(),
            last_offset: known.last_offset,
            timestamp: known.timestamp,
            log_append_time: writer.rules.log_append_time,
            must_sync: ahead >= writer.rules.flush_messages,
            duplicate: true,
            ratio: None,
        }
    }

    /// The epoch of a producer that has a transaction open here; `None` where it has none.
    ///
    /// # Errors
    /// Those of opening the log, and of reading what it knows of producers.
    pub fn open_transaction(&self, producer_id: i64) -> Result<Option<i16>> {
        self.know_producers()?;
        Ok(self.writer.lock().producers.open_epoch(producer_id))
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

    /// Stores the marker of a transaction. Readers of committed records see the transaction, or
    /// pass over it, from then on.
    ///
    /// # Durability
    /// As [`Log::append`].
    ///
    /// # Errors
    /// As [`Log::append`]; `InvalidProducerEpoch`, `TransactionCoordinatorFenced`.
    pub fn append_marker(&self, mut marker: Marker, now_ms: i64) -> Result<Appended> {
        let mut writer = self.ready(self.writer.lock(), now_ms)?;
        // A directory has one coordinator at a time, which its lock sees to. Another program's had
        // an epoch, and a lower one would be taken for that of a coordinator that was replaced.
        let known = writer.producers.coordinator_epoch(marker.producer_id);
        marker.coordinator_epoch = marker.coordinator_epoch.max(known);
        writer.producers.check_marker(&marker).map_err(|error| self.at_home(error))?;
        let mut incoming = Incoming {
            size: MARKER_BATCH_SIZE,
            last_offset: writer.next_offset,
            max_timestamp: now_ms,
        };
        let mut after = After::default();
        if !writer.fits(incoming) {
            writer = self.make_room(writer, &mut incoming, 0, now_ms, &mut after)?;
        }
        let base_offset = incoming.last_offset;
        let stamp = Stamp::plain(base_offset, writer.leader_epoch).producer(
            marker.producer_id,
            marker.producer_epoch,
            -1,
        );
        let batch = encode_marker(marker.kind, marker.coordinator_epoch, now_ms, &stamp);
        if let Some(active) = &mut writer.active {
            active.write(&batch, base_offset, stamp.leader_epoch);
        }
        let told = Some(Told::Marker(&marker));
        let content = Content::Anything;
        self.publish(writer, Written { incoming, base_offset, content, told }, after)
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

    /// Moves the borders behind a batch whose bytes are stored, and does what is left to do.
    ///
    /// # Errors
    /// `StorageFull` and `StorageFailed` where the stores did not get to the file: nothing is
    /// published.
    // As a call it would take what it is given, and return, through memory: a tenth of an append.
    #[inline(always)]
    fn publish(
        &self,
        mut writer: MutexGuard<'_, Writer>,
        written: Written<'_>,
        mut after: After,
    ) -> Result<Appended> {
        let Written { incoming, base_offset, content, told } = written;
        let w = &mut *writer;
        if let Some(active) = &mut w.active {
            if active.region.has_failed() {
                return Err(self.stores_lost(writer, incoming.size, after));
            }
            w.last_position = Some(active.position);
            active.stored(incoming, content);
        }
        let end = incoming.last_offset + 1;
        w.next_offset = end;
        match told {
            None => self.borders.end.publish(end),
            Some(Told::Batch(producer)) if !producer.transactional => {
                let delta = i32::try_from(incoming.last_offset - base_offset).unwrap_or(0);
                w.producers.observe(producer, base_offset, delta, incoming.max_timestamp);
                self.borders.end.publish(end);
            }
            Some(told) => self.publish_of_transaction(w, told, base_offset, incoming),
        }
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
            duplicate: false,
            ratio: None,
        })
    }

    /// Moves the end and the last stable offset. A transaction that begins holds readers of
    /// committed records back before the end moves over it; a marker lets them go on after the end
    /// moved over it, and after its transaction is among the aborted ones.
    #[inline(never)]
    fn publish_of_transaction(
        &self,
        w: &mut Writer,
        told: Told<'_>,
        base_offset: i64,
        incoming: Incoming,
    ) {
        let (end, timestamp) = (incoming.last_offset + 1, incoming.max_timestamp);
        let unstable = &self.borders.first_unstable_offset;
        match told {
            Told::Batch(producer) => {
                let delta = i32::try_from(incoming.last_offset - base_offset).unwrap_or(0);
                w.producers.observe(producer, base_offset, delta, timestamp);
                let first = w.producers.first_unstable_offset();
                unstable.publish(first.unwrap_or(NO_OPEN_TRANSACTION));
                self.borders.end.publish(end);
            }
            Told::Marker(marker) => {
                let aborted = w.producers.observe_marker(marker, base_offset, timestamp);
                if let (Some(row), Some(active)) = (aborted, &w.active) {
                    active.segment.add_aborted(row);
                }
                self.borders.end.publish(end);
                let first = w.producers.first_unstable_offset();
                let first = first.filter(|_| !planted(Planted::StableOffsetTooEarly));
                unstable.publish(first.unwrap_or(NO_OPEN_TRANSACTION));
            }
        }
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
