//! How a table follows its topic: rounds over its partitions, and waiting for the next.

use super::change::{ChangeCause, TableChange};
use super::entries::{Entries, HeldPartition, Latest};
use super::{Begun, Followed, Followers, RECORDS_MAX, Table};
use crate::broker::Partition;
use crate::consumer::{ReadFrom, Reader};
use crate::error::{Error, ErrorKind, Result};
use crate::sync::{Arc, Ordering};
use crate::topic::TopicPartition;
use std::collections::BTreeMap;
use std::time::Duration;

/// What a round over the partitions did.
#[derive(Debug, Default)]
struct Round {
    /// Something was read, or a log start was seen to move.
    moved: bool,
    /// What went wrong at the first partition where something did.
    error: Option<Error>,
}

impl Table {
    /// Applies what is there, and returns the changes; waits for some up to `timeout`. Each
    /// partition gives up to 1 MiB of records a call. None are returned where the time was over
    /// first, and, at once, where nothing more is there at a timeout of zero.
    ///
    /// # Errors
    /// Everything else that was applied stays, and the error comes again with the next calls,
    /// which go on with the partitions that are well:
    /// [`ErrorKind::CorruptRecord`] and [`ErrorKind::UnsupportedFormat`] with the offset at
    /// damage; [`ErrorKind::OffsetOutOfRange`] where the log ends before what was read of it: it
    /// lost what the table has, and [`Table::rebuild`] begins anew;
    /// [`ErrorKind::StorageFailed`] where another program cut a file;
    /// [`ErrorKind::UnknownTopicOrPartition`] once the topic is deleted, also where another one
    /// has its name by now, which [`Table::rebuild`] goes over to; [`ErrorKind::Wakeup`];
    /// [`ErrorKind::Closed`]; [`ErrorKind::Io`].
    pub fn update(&mut self, timeout: Duration) -> Result<Vec<TableChange>> {
        let deadline = self.deadline(timeout);
        let mut changes = Vec::new();
        loop {
            self.begin_turn()?;
            let round = self.round(Some(&mut changes));
            match round.error {
                Some(error) if changes.is_empty() => return Err(error),
                _ if !changes.is_empty() => return Ok(changes),
                // Control records, and tombstones of what was not there.
                _ if round.moved => continue,
                _ => self.note_end(),
            }
            if timeout.is_zero() || !self.wait(deadline)? {
                return Ok(changes);
            }
        }
    }

    /// Applies everything up to the ends of the partitions as they are at the call: true once that
    /// is done, false where the time was over first. What is left then is applied by the next
    /// call.
    ///
    /// # Errors
    /// As [`Table::update`]; also the damage of a damaged partition, whose end nobody knows, before
    /// anything is read of it.
    pub fn catch_up(&mut self, timeout: Duration) -> Result<bool> {
        let deadline = self.deadline(timeout);
        self.begin_turn()?;
        let mut ends = Vec::new();
        for of in &self.followed {
            ends.push((of.held.place.clone(), of.reader.end_offset()?));
        }
        loop {
            let round = self.round(None);
            if let Some(error) = round.error {
                return Err(error);
            }
            if self.has_reached(&ends) {
                self.view.0.caught_up.store(true, Ordering::Release);
                return Ok(true);
            }
            let over = self.broker.clock().monotonic() >= deadline;
            if over || (!round.moved && !self.wait(deadline)?) {
                return Ok(false);
            }
            self.begin_turn()?;
        }
    }

    fn deadline(&self, timeout: Duration) -> Duration {
        self.broker.clock().monotonic().saturating_add(timeout)
    }

    fn has_reached(&self, ends: &[(TopicPartition, i64)]) -> bool {
        ends.iter().all(|(place, end)| {
            let of = self.followed.iter().find(|of| of.held.place == *place);
            of.is_none_or(|of| of.reader.position() >= *end)
        })
    }

    /// Takes note that a round found nothing more.
    fn note_end(&self) {
        if self.view.0.caught_up.load(Ordering::Relaxed) {
            return;
        }
        let at_end =
            |of: &Followed| of.reader.end_offset().is_ok_and(|end| of.reader.position() >= end);
        if self.followed.iter().all(at_end) {
            self.view.0.caught_up.store(true, Ordering::Release);
        }
    }

    /// What comes before each round: wakeups, a close, and changes of the topic.
    fn begin_turn(&mut self) -> Result<()> {
        if self.wakeup.take() {
            return Err(Error::new(ErrorKind::Wakeup, "a wakeup handle interrupted the call"));
        }
        self.broker.check_open()?;
        let metadata = self.broker.metadata_version();
        if metadata == self.metadata {
            return Ok(());
        }
        let name = self.topic.name().clone();
        let found = self.broker.topic(&name);
        if found.as_ref().map_or(true, |found| found.id() != self.topic.id()) {
            let why = match found {
                Ok(_) => "the topic was deleted, and another has its name: rebuild the table",
                Err(error) if error.kind() == ErrorKind::UnknownTopicOrPartition => {
                    "the topic was deleted"
                }
                Err(error) => return Err(error),
            };
            // The version stays unseen, so that the next call says it again.
            return Err(Error::new(ErrorKind::UnknownTopicOrPartition, why).with_topic(&*name));
        }
        if self.options.partitions.is_none() {
            self.take_partitions(BTreeMap::new())?;
        }
        self.metadata = metadata;
        Ok(())
    }

    /// Begins with the partitions that are not followed yet, where `begun` says, else at their
    /// beginnings.
    pub(super) fn take_partitions(&mut self, mut begun: BTreeMap<i32, Begun>) -> Result<()> {
        let count = self.topic.partition_count();
        let known: Vec<i32> = self.followed.iter().map(|of| of.held.place.partition()).collect();
        let wanted: Vec<i32> = match &self.options.partitions {
            Some(chosen) => chosen.iter().copied().collect(),
            None => (0..count).collect(),
        };
        let new: Vec<i32> = wanted.into_iter().filter(|number| !known.contains(number)).collect();
        if new.is_empty() && !known.is_empty() {
            return Ok(());
        }
        let now_ms = self.broker.clock().now().wall_ms;
        for number in new {
            let place = TopicPartition::new(self.topic.name().clone(), number);
            let partition = self.topic.partition(number)?;
            let anew = Begun { position: 0, entries: Entries::default(), fresh_ms: now_ms };
            let Begun { position, entries, fresh_ms } = begun.remove(&number).unwrap_or(anew);
            let reader = self.reader_of(&place, partition, position)?;
            let held = Arc::new(HeldPartition::new(place, entries));
            let (start, lapsed) = (0, false);
            self.followed.push(Followed { held, reader, start, fresh_ms, lapsed });
        }
        self.followed.sort_by_key(|of| of.held.place.partition());
        let held = self.followed.iter().map(|of| of.held.clone()).collect();
        self.view.0.replace(held, count);
        Ok(())
    }

    fn reader_of(&self, place: &TopicPartition, log: Partition, position: i64) -> Result<Reader> {
        reader_at(self, place, log, position).map(|reader| reader.max_records(RECORDS_MAX))
    }

    /// Reads each partition once, in turn.
    fn round(&mut self, mut changes: Option<&mut Vec<TableChange>>) -> Round {
        let mut round = Round::default();
        let count = self.followed.len();
        self.turn = if count == 0 { 0 } else { (self.turn + 1) % count };
        let listens = self.listener.is_some();
        let mut own = Vec::new();
        let with = Followers {
            broker: &self.broker,
            held: &self.view.0,
            isolation: self.options.isolation,
            delete_retention_ms: self.topic.log_config(self.broker.config()).delete_retention_ms,
            now_ms: self.broker.clock().now().wall_ms,
        };
        for at in 0..count {
            let Some(of) = self.followed.get_mut((self.turn + at) % count) else { continue };
            let sink = match changes.as_deref_mut() {
                Some(changes) => Some(changes),
                None => listens.then_some(&mut own),
            };
            let before = sink.as_ref().map_or(0, |sink| sink.len());
            match of.go_on(&with, sink) {
                Ok(moved) => round.moved |= moved,
                Err(error) => drop(round.error.get_or_insert(error)),
            }
            if let Some(listener) = &mut self.listener {
                let all = changes.as_deref().unwrap_or(&own);
                all.get(before..).unwrap_or_default().iter().for_each(listener);
                own.clear();
            }
        }
        round
    }

    /// Waits until something happens in one of the partitions, or to the topic; false once
    /// `deadline` is over.
    fn wait(&mut self, deadline: Duration) -> Result<bool> {
        let signal = self.wakeup.signal();
        if self.broker.watch_metadata(signal, self.metadata) {
            return Ok(true);
        }
        for of in &self.followed {
            if of.reader.watch(signal)? {
                return Ok(true);
            }
        }
        let clock = self.broker.clock();
        let mut until = deadline;
        if self.broker.is_attached() {
            until = until.min(clock.monotonic().saturating_add(Reader::ATTACHED_INTERVAL));
        }
        let finite = (until != Duration::MAX).then_some(until);
        let rang = clock.park(signal, finite);
        Ok(rang || (finite.is_some() && clock.monotonic() < deadline))
    }
}

/// A reader for a table.
fn reader_at(
    table: &Table,
    place: &TopicPartition,
    log: Partition,
    position: i64,
) -> Result<Reader> {
    let from = ReadFrom::Offset(position);
    let reader = Reader::of(table.broker.clone(), place.clone(), log, from)?;
    Ok(reader.isolation_level(table.options.isolation))
}

impl Followed {
    /// Reads on. Returns whether anything moved.
    ///
    /// # Errors
    /// Those of [`Reader::read`].
    fn go_on(
        &mut self,
        with: &Followers<'_>,
        mut changes: Option<&mut Vec<TableChange>>,
    ) -> Result<bool> {
        let start = self.reader.partition().log_start_offset()?;
        let trimmed = start > self.start;
        if trimmed {
            let is_below = |latest: &Latest| latest.offset < start;
            let changes = changes.as_deref_mut();
            with.held.drop_gone(&self.held, ChangeCause::Retention, is_below, changes);
            self.start = start;
        }
        let position = self.reader.position();
        let had_entries = !self.held.read(Entries::is_empty);
        let records = self.reader.read(Duration::ZERO)?;
        if !records.is_empty() {
            with.held.apply(&self.held, &records, changes.as_deref_mut());
        }
        let swept = self.keep_fresh(with, position, had_entries, changes)?;
        Ok(trimmed || swept || self.reader.position() != position)
    }
}
