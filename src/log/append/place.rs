//! The one way of a batch into the log: under the lock it is checked, gets its place and its
//! offset, is stored, and the borders move over it.
//!
//! Records of a client, batches of a coordinator and markers of transactions differ in what is
//! known of their producer ([`ProducerAppend`]), and in who writes the bytes; the order of what
//! happens here is the same for all.

use crate::error::Result;
use crate::log::append::validator::AppendRules;
use crate::log::append::{AppendOptions, AppendOrigin, Appended};
use crate::log::producers::entry::{Admission, NEXT_SEQUENCE, ProducerStamp, StoredBatch};
use crate::log::producers::{Marker, ProducerStates};
use crate::log::segment::active::{Active, Content, Incoming};
use crate::log::watch::WatchList;
use crate::log::{BackgroundWork, Log, NO_OPEN_TRANSACTION, Writer};
use crate::record::Stamp;
use crate::storage::planted::{Planted, planted};
use crate::storage::{fetch_part, fetch_value};
use crate::sync::MutexGuard;
use std::mem::offset_of;

/// A batch that wants a place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placement {
    pub size: usize,
    pub last_offset_delta: i32,
    pub max_timestamp: i64,
    /// It has its timestamps: the log's, where the topic wants that.
    pub stamped: bool,
    /// The append time, by the coarse wall clock.
    pub now_ms: i64,
}

/// The part of a batch that the states of producers are checked against, and told of.
#[derive(Debug, Clone, Copy)]
pub(super) enum ProducerAppend {
    /// A producer's batch: its sequence follows the one before.
    Batch(ProducerStamp),
    /// A coordinator's batch in a producer's name. Nobody numbers those: each begins at sequence 0.
    CoordinatorBatch(ProducerStamp),
    /// The end of a transaction.
    Marker(Marker),
}

impl ProducerAppend {
    /// That of a batch of records; `None` for one without a producer.
    #[inline]
    pub fn of(options: &AppendOptions) -> Option<ProducerAppend> {
        options.producer.map(|stamp| match options.origin {
            AppendOrigin::Client => ProducerAppend::Batch(stamp),
            AppendOrigin::Coordinator => ProducerAppend::CoordinatorBatch(stamp),
        })
    }

    /// Puts in the sequence that only the log knows, where that takes no search. Returns whether
    /// it did: the batch may be stored then, and most batches are such ones.
    #[inline(always)]
    fn number(&mut self, states: &ProducerStates) -> bool {
        let ProducerAppend::Batch(stamp) = self else { return false };
        match stamp.base_sequence == NEXT_SEQUENCE {
            true => states.next_of_latest(stamp).map(|next| stamp.base_sequence = next).is_some(),
            false => false,
        }
    }

    fn is_marker(&self) -> bool {
        matches!(self, ProducerAppend::Marker(_))
    }

    #[inline]
    fn on(&self, stamp: Stamp) -> Stamp {
        match self {
            ProducerAppend::Batch(producer) | ProducerAppend::CoordinatorBatch(producer) => {
                producer.on(stamp)
            }
            ProducerAppend::Marker(marker) => {
                stamp.producer(marker.producer_id, marker.producer_epoch, -1)
            }
        }
    }
}

/// A batch whose bytes are stored, and that no reader sees.
struct Written<'a> {
    incoming: Incoming,
    base_offset: i64,
    content: Content,
    producer: Option<&'a ProducerAppend>,
}

/// Work that an append leaves to be done once the lock is released.
#[derive(Debug, Default)]
pub(in crate::log) struct After {
    pub prepare: bool,
    pub seal: bool,
    pub flush: bool,
}

impl Log {
    /// Stores one batch. `writer` is the lock, `producer` what the states of producers have to say
    /// to it; `write` stores its bytes with the stamp that it is given, and says what it stored:
    /// whoever does not know says so, and readers look.
    ///
    /// # Errors
    /// Nothing is appended on any. Those of the size, of the producer's sequence, of the room, of
    /// the stores.
    #[inline]
    pub(super) fn place<'a>(
        &'a self,
        mut writer: MutexGuard<'a, Writer>,
        batch: Placement,
        mut producer: Option<ProducerAppend>,
        write: impl FnOnce(&mut Active, &Stamp) -> Content,
    ) -> Result<Appended> {
        let rules = &writer.rules;
        // Whatever a topic allows, its transactions end.
        if !producer.as_ref().is_some_and(ProducerAppend::is_marker) {
            rules.check_size(batch.size).map_err(|error| self.at_home(error))?;
        }
        let log_append_time = rules.log_append_time;
        if let Some(producer) = &mut producer {
            // The lock is not released from here on: the active segment is there.
            writer = self.ready(writer, batch.now_ms)?;
            if !producer.number(&writer.producers)
                && let Some(known) = self.admit(&writer, producer, batch.last_offset_delta)?
            {
                return Ok(known);
            }
            if planted(Planted::SequenceNotChecked) && !producer.is_marker() {
                writer = self.look_away(writer);
            }
        }
        let delta = i64::from(batch.last_offset_delta);
        let mut after = After::default();
        let mut incoming = Incoming {
            size: batch.size,
            last_offset: writer.next_offset + delta,
            max_timestamp: match log_append_time && !batch.stamped {
                true => batch.now_ms,
                false => batch.max_timestamp,
            },
        };
        if !writer.fits(incoming) {
            let (delta, now_ms) = (batch.last_offset_delta, batch.now_ms);
            writer = self.make_room(writer, &mut incoming, delta, now_ms, &mut after)?;
        }
        let base_offset = incoming.last_offset - delta;
        let mut stamp = Stamp::plain(base_offset, writer.leader_epoch);
        if log_append_time {
            stamp = stamp.log_append_time(batch.now_ms);
        }
        if let Some(producer) = &producer {
            stamp = producer.on(stamp);
        }
        let mut content = Content::Anything;
        if let Some(active) = &mut writer.active {
            if planted(Planted::PublishBeforeWrite) {
                self.borders.end.publish(incoming.last_offset + 1);
            }
            content = write(active, &stamp);
        }
        let producer = producer.as_ref();
        self.publish(writer, Written { incoming, base_offset, content, producer }, after)
    }

    /// Asks the processor for what an append looks at, and waits for nothing.
    #[inline]
    pub fn fetch_for_append(&self) {
        fetch_value(&self.borders);
        fetch_part(&self.writer, 0, 1);
        self.fetch_of_writer(offset_of!(Writer, active), size_of::<Option<Active>>());
        self.fetch_of_writer(offset_of!(Writer, next_offset), size_of::<i64>());
        self.fetch_of_writer(offset_of!(Writer, rules), size_of::<AppendRules>());
        self.fetch_of_writer(offset_of!(Writer, watchers), size_of::<WatchList>());
    }

    /// Asks the processor for the place of the next batch, of about so many bytes, and waits for
    /// nothing.
    #[inline]
    pub fn fetch_place(&self, bytes: usize) {
        if let Some(writer) = self.writer.try_lock()
            && let Some(active) = &writer.active
        {
            active.fetch_place(bytes);
        }
    }

    /// Has the log ready for its first append of this life, so that its producers are known.
    #[inline]
    pub(super) fn ready<'a>(
        &'a self,
        writer: MutexGuard<'a, Writer>,
        now_ms: i64,
    ) -> Result<MutexGuard<'a, Writer>> {
        match writer.active.is_some() {
            true => Ok(writer),
            false => self.ready_first(writer, now_ms),
        }
    }

    #[cold]
    fn ready_first<'a>(
        &'a self,
        mut writer: MutexGuard<'a, Writer>,
        now_ms: i64,
    ) -> Result<MutexGuard<'a, Writer>> {
        while writer.active.is_none() {
            if let Some(refusal) = writer.phase.refusal() {
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

    /// Whether the states of producers allow the batch: where it is, if it was stored before. A
    /// sequence that only the log knows is put in.
    #[inline(never)]
    fn admit(
        &self,
        writer: &Writer,
        producer: &mut ProducerAppend,
        last_offset_delta: i32,
    ) -> Result<Option<Appended>> {
        let states = &writer.producers;
        let checked = match producer {
            ProducerAppend::Batch(stamp) if stamp.base_sequence == NEXT_SEQUENCE => {
                states.next_sequence(stamp).map(|next| {
                    stamp.base_sequence = next;
                    Admission::Next
                })
            }
            ProducerAppend::Batch(stamp) => states.check(stamp, last_offset_delta),
            ProducerAppend::CoordinatorBatch(stamp) => {
                states.check_epoch(stamp).map(|()| Admission::Next)
            }
            ProducerAppend::Marker(marker) => states.check_marker(marker).map(|()| Admission::Next),
        };
        match checked.map_err(|error| self.at_home(error))? {
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
        let Written { incoming, base_offset, content, producer } = written;
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
        match producer {
            None => self.borders.end.publish(end),
            Some(ProducerAppend::Batch(stamp)) if !stamp.transactional => {
                let delta = i32::try_from(incoming.last_offset - base_offset).unwrap_or(0);
                w.producers.observe(stamp, base_offset, delta, incoming.max_timestamp);
                self.borders.end.publish(end);
            }
            Some(producer) => self.publish_of_transaction(w, producer, base_offset, incoming),
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
        producer: &ProducerAppend,
        base_offset: i64,
        incoming: Incoming,
    ) {
        let (end, timestamp) = (incoming.last_offset + 1, incoming.max_timestamp);
        let unstable = &self.borders.first_unstable_offset;
        match producer {
            ProducerAppend::Batch(stamp) | ProducerAppend::CoordinatorBatch(stamp) => {
                let delta = i32::try_from(incoming.last_offset - base_offset).unwrap_or(0);
                w.producers.observe(stamp, base_offset, delta, timestamp);
                let first = w.producers.first_unstable_offset();
                unstable.publish(first.unwrap_or(NO_OPEN_TRANSACTION));
                self.borders.end.publish(end);
            }
            ProducerAppend::Marker(marker) => {
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
