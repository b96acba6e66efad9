//! Taking records out of the logs: which partitions, in which order, how much.
//!
//! A fetch of a partition is begun when it has records, and its records are returned, over several
//! polls if need be, before those of partitions whose fetch was begun later; then it goes to the
//! end of the rotation. This is the order in which Kafka's client drains what it has fetched,
//! but nothing is fetched ahead: each poll reads from the log what it returns.

use super::Consumer;
use super::assignment::{Position, Slot, Ticket};
use super::batches::Reading;
use super::records::ConsumerRecords;
use crate::config::IsolationLevel;
use crate::error::{Error, ErrorKind, Result};
use crate::events::Event;
use crate::probe::{Point, Probe};
use crate::sync::Arc;
use crate::time::{Event as Bell, Now};
use crate::topic::TopicPartition;
use std::collections::VecDeque;
use std::time::Duration;

/// The state between two fetches.
#[derive(Debug, Default)]
pub(super) struct Fetcher {
    /// The partitions whose fetch was begun, in the order of their beginning.
    queue: VecDeque<TopicPartition>,
    /// Empty between two fetches; kept for its memory.
    ready: Vec<(u64, TopicPartition)>,
    /// Since when `fetch.min.bytes` are waited for.
    held_since: Option<Duration>,
    /// The versions of assignment and metadata that the logs were looked up under.
    pub sources_of: Option<(u64, u64)>,
}

/// What a fetch came to.
pub(super) struct Fetched {
    pub records: ConsumerRecords,
    /// A position moved, with or without records.
    pub moved: bool,
    /// There are records, but not enough of them before this moment.
    pub held_until: Option<Duration>,
}

impl Fetched {
    /// Neither records, nor a move.
    pub fn is_nothing(&self) -> bool {
        self.records.is_empty() && !self.moved
    }
}

/// What came of one pass over the partitions.
enum Pass {
    /// There is nothing to begin anew.
    Idle,
    /// A fetch was over that had returned something to an earlier poll.
    Ended,
}

/// What one poll may still return.
struct Budget<'a> {
    probe: &'a Probe,
    records: usize,
    bytes: usize,
    returned_bytes: bool,
}

impl Consumer {
    /// Fetches what the settings allow. An error of one partition is told only when there is
    /// nothing to return. It comes again with the partition's next turn, which is behind those of
    /// the others, as in Kafka when a broker answers a fetch with an error: nobody starves, and
    /// nobody is left untold.
    pub(super) fn fetch(&mut self, now: Now) -> Result<Fetched> {
        let mut fetched =
            Fetched { records: ConsumerRecords::new(), moved: false, held_until: None };
        self.drop_void_tickets();
        // A fetch that turns out to be over leaves its partition for the next one. A poll that has
        // returned nothing does not leave that to another poll.
        while let Pass::Ended = self.fetch_once(now, &mut fetched)? {
            if !fetched.records.is_empty() || fetched.moved {
                break;
            }
        }
        Ok(fetched)
    }

    /// Begins what can be begun, and drains what was begun.
    fn fetch_once(&mut self, now: Now, fetched: &mut Fetched) -> Result<Pass> {
        if let Some(until) = self.begin_fetches(now)? {
            fetched.held_until = Some(until);
            return Ok(Pass::Idle);
        }
        let broker = self.broker.clone();
        let mut budget = Budget {
            probe: broker.probe(),
            records: self.settings.max_poll_records,
            bytes: self.settings.fetch_max_bytes,
            returned_bytes: false,
        };
        let (mut next, mut pass) = (0, Pass::Idle);
        while budget.records > 0 {
            let Some(partition) = self.fetcher.queue.get(next).cloned() else { break };
            let slot = self.assignment.slot(&partition);
            if slot.is_some_and(|slot| slot.paused) {
                next += 1;
                continue;
            }
            let ticket = slot.and_then(|slot| slot.ticket);
            let returned = ticket.is_some_and(|ticket| ticket.returned);
            match self.drain(&partition, &mut budget, fetched) {
                Ok(true) => {
                    self.fetcher.queue.remove(next);
                    self.end_fetch(&partition);
                    if returned {
                        pass = Pass::Ended;
                    }
                }
                Ok(false) => break,
                Err(error) if fetched.is_nothing() => {
                    self.fetcher.queue.remove(next);
                    self.end_fetch(&partition);
                    return Err(error);
                }
                Err(_) => break,
            }
        }
        Ok(pass)
    }

    /// Forgets fetches of partitions that are gone, unwanted, or were sought elsewhere.
    fn drop_void_tickets(&mut self) {
        if self.fetcher.queue.is_empty() {
            return;
        }
        let assignment = &mut self.assignment;
        self.fetcher.queue.retain(|partition| {
            let wanted = assignment.is_wanted(partition);
            let Some(slot) = assignment.slot_mut(partition) else { return false };
            let stands = wanted
                && slot.source.is_some()
                && slot.ticket.is_some_and(|ticket| slot.position == Position::At(ticket.from));
            if !stands {
                slot.ticket = None;
            }
            stands
        });
    }

    /// Begins a fetch of every partition that has something to return. With `fetch.min.bytes`
    /// above 1, returns until when there is not enough to begin with.
    fn begin_fetches(&mut self, now: Now) -> Result<Option<Duration>> {
        let isolation = self.settings.isolation_level;
        let bytes_max = self.settings.max_partition_fetch_bytes;
        let must_wait = self.settings.fetch_min_bytes > 1 && self.fetcher.queue.is_empty();
        let begun = self.fetcher.queue.len();
        let (probe, bell) = (self.broker.probe(), self.alarm.bell());
        let mut ready = std::mem::take(&mut self.fetcher.ready);
        for (partition, slot) in self.assignment.wanted_mut() {
            if !slot.paused && slot.ticket.is_none() && slot.begin(isolation, bytes_max) {
                if probe.is_on() && slot.stall(partition, probe, bell) {
                    continue;
                }
                ready.push((slot.turn, partition.clone()));
            }
        }
        ready.sort_unstable_by_key(|(turn, _)| *turn);
        self.fetcher.queue.extend(ready.drain(..).map(|(_, partition)| partition));
        self.fetcher.ready = ready;
        if !must_wait {
            return Ok(None);
        }
        let since = *self.fetcher.held_since.get_or_insert(now.mono);
        let until = since.saturating_add(self.settings.fetch_max_wait);
        if now.mono < until && !self.has_enough()? {
            for partition in self.fetcher.queue.drain(begun..) {
                if let Some(slot) = self.assignment.slot_mut(&partition) {
                    slot.ticket = None;
                }
            }
            return Ok(Some(until));
        }
        self.fetcher.held_since = None;
        Ok(None)
    }

    /// Whether the fetches that were begun hold `fetch.min.bytes`.
    fn has_enough(&self) -> Result<bool> {
        let mut bytes = 0;
        for partition in &self.fetcher.queue {
            let Some(slot) = self.assignment.slot(partition) else { continue };
            let (Some(source), Some(ticket)) = (&slot.source, slot.ticket) else { continue };
            let mut cursor = slot.cursor.clone();
            while bytes < self.settings.fetch_min_bytes && cursor.offset() < ticket.upto {
                let left = self.settings.fetch_min_bytes - bytes;
                let read = source.partition.read(&mut cursor, left, self.settings.isolation_level);
                match read {
                    Ok(chunk) if !chunk.is_empty() => bytes += chunk.bytes().len(),
                    Ok(_) => break,
                    // The drain will say what is wrong with it.
                    Err(_) => return Ok(true),
                }
            }
        }
        Ok(bytes >= self.settings.fetch_min_bytes)
    }

    /// Returns records of one partition. True when its fetch is over.
    fn drain(
        &mut self,
        partition: &TopicPartition,
        budget: &mut Budget<'_>,
        fetched: &mut Fetched,
    ) -> Result<bool> {
        let isolation = self.settings.isolation_level;
        budget.probe.check(fetch_point(partition))?;
        loop {
            let Some(slot) = self.assignment.slot_mut(partition) else { return Ok(true) };
            match slot.take(partition, isolation, budget, fetched) {
                Ok(Taken::Over) => return Ok(true),
                Ok(Taken::Full) => return Ok(false),
                Ok(Taken::Some) => {}
                Err(error) if error.kind() == ErrorKind::OffsetOutOfRange => {
                    self.out_of_range(partition, error)?;
                    let bytes_max = self.settings.max_partition_fetch_bytes;
                    let Some(slot) = self.assignment.slot_mut(partition) else { return Ok(true) };
                    if !slot.begin(isolation, bytes_max) {
                        return Ok(true);
                    }
                }
                // The topic was deleted under the poll; the metadata will say so.
                Err(error) if error.kind() == ErrorKind::UnknownTopicOrPartition => {
                    return Ok(true);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Puts a partition whose turn is over behind all others.
    fn end_fetch(&mut self, partition: &TopicPartition) {
        let turn = self.assignment.take_turn();
        if let Some(slot) = self.assignment.slot_mut(partition) {
            slot.ticket = None;
            slot.turn = turn;
        }
    }
}

/// How far [`Slot::take`] came.
enum Taken {
    /// The fetch of this partition is over.
    Over,
    /// The poll has all that it may return.
    Full,
    /// There may be more.
    Some,
}

/// What a test knows a fetch by.
fn fetch_point(partition: &TopicPartition) -> Point<'_> {
    Point::Fetch { topic: partition.topic(), partition: partition.partition() }
}

impl Consumer {
    /// Tells a test what a poll returned.
    pub(super) fn note_delivered(&self, records: &ConsumerRecords) {
        if !self.broker.probe().is_on() {
            return;
        }
        for (partition, next_offset) in records.next_positions() {
            self.broker.probe().note(|| Event::Delivered {
                client_id: self.client_id.clone(),
                partition: partition.clone(),
                count: records.records(partition).len(),
                next_offset,
            });
        }
    }
}

impl Slot {
    /// Takes the fetch back that was begun, if a test holds it up.
    #[cold]
    fn stall(&mut self, partition: &TopicPartition, probe: &Probe, bell: &Arc<Bell>) -> bool {
        self.stalled_until = probe.hold(fetch_point(partition), bell);
        if self.stalled_until.is_some() {
            self.ticket = None;
        }
        self.stalled_until.is_some()
    }

    /// Begins a fetch, if there is something to return, or something wrong that the read will
    /// tell when it is this partition's turn.
    fn begin(&mut self, isolation: IsolationLevel, bytes_max: usize) -> bool {
        let (Position::At(position), Some(source)) = (self.position, &self.source) else {
            return false;
        };
        let log = &source.partition;
        let upto = match log.readable_end(isolation) {
            Ok(end) => {
                self.known_end = Some(end);
                let is_in_range = log.log_start_offset().is_ok_and(|start| start <= position)
                    && (position <= end || log.log_end_offset().is_ok_and(|end| position <= end));
                if is_in_range && position >= end && log.known_damage().is_none() {
                    return false;
                }
                end
            }
            Err(_) => position,
        };
        self.ticket = Some(Ticket { from: position, upto, bytes_left: bytes_max, returned: false });
        true
    }

    /// Reads once, and adds what may be returned.
    fn take(
        &mut self,
        partition: &TopicPartition,
        isolation: IsolationLevel,
        budget: &mut Budget<'_>,
        fetched: &mut Fetched,
    ) -> Result<Taken> {
        let (Position::At(position), Some(source), Some(ticket)) =
            (self.position, &self.source, &mut self.ticket)
        else {
            return Ok(Taken::Over);
        };
        if budget.records == 0 || (budget.bytes == 0 && budget.returned_bytes) {
            return Ok(Taken::Full);
        }
        if ticket.bytes_left == 0 && ticket.returned {
            return Ok(Taken::Over);
        }
        let bytes_max = ticket.bytes_left.min(budget.bytes);
        let reading = Reading {
            partition,
            log: &source.partition,
            isolation,
            records_max: budget.records,
            bytes_max,
            // As with Kafka, one fetch of a partition does not go on into the next segment.
            may_open_segment: !ticket.returned,
        };
        let partial = self.partial.take();
        let walked = reading.go_on(
            position,
            &mut self.cursor,
            partial,
            &mut self.hint,
            &mut fetched.records,
        );
        let Some(walked) = walked? else { return Ok(Taken::Over) };
        self.partial = walked.partial;
        self.position = Position::At(walked.position);
        ticket.from = walked.position;
        ticket.bytes_left = ticket.bytes_left.saturating_sub(walked.bytes);
        ticket.returned = true;
        budget.records -= walked.records;
        budget.bytes = budget.bytes.saturating_sub(walked.bytes);
        budget.returned_bytes |= walked.records > 0;
        fetched.moved |= walked.position != position;
        if walked.records > 0 {
            fetched.records.set_next(partition, walked.position);
        }
        if let Some(fault) = walked.fault {
            let error: Error = fault.into();
            return Err(error
                .with_partition(partition.topic(), partition.partition())
                .with_offset(walked.position));
        }
        Ok(match walked.position >= ticket.upto {
            true => Taken::Over,
            false => Taken::Some,
        })
    }
}
