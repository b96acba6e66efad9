//! The fetch of one partition: begun, read from, and put to sleep until its log tells of more.

use super::account::{Budget, FetchLeft};
use super::{Fetched, Fetcher};
use crate::config::IsolationLevel;
use crate::consumer::reading::Reading;
use crate::consumer::subscription::{Fetch, Look, PartitionState, Position};
use crate::error::Result;
use crate::probe::{Point, Probe};
use crate::sync::Arc;
use crate::time::Signal;
use crate::topic::TopicPartition;

/// What became of a partition without a fetch.
pub(super) enum Begun {
    Yes,
    /// There is nothing, and the next append tells.
    Asleep,
    /// There is nothing, and nobody tells of more.
    AskAgain,
}

impl Look<'_> {
    pub(super) fn is_fetchable(&self) -> bool {
        let placed = matches!(self.state.position, Position::At(_)) && self.state.source.is_some();
        placed && self.wanted && !self.state.paused
    }

    /// Whether a reset is to be looked up that nobody tells of.
    pub(super) fn awaits_word(&self) -> bool {
        matches!(self.state.position, Position::AwaitReset(_))
            && self.state.source.is_some()
            && !self.state.watched
    }

    /// Takes a fetch out of the queue that is paused, unwanted, or was sought elsewhere, and puts
    /// one that was paused back in its place.
    pub(super) fn check_fetch(&mut self, fetcher: &mut Fetcher) {
        if !(self.wanted && self.state.is_begun()) {
            self.state.fetch = None;
        }
        let place = self.state.fetch.filter(|_| !self.state.paused).map(|fetch| fetch.place);
        if place != self.state.queued {
            if let Some(before) = self.state.queued {
                fetcher.dequeue(before);
            }
            if let Some(place) = place {
                fetcher.enqueue(place, self.id);
            }
            self.state.queued = place;
        }
    }

    /// Whether a fetch up to `upto` has returned everything, and the log tells of what comes next:
    /// the partition is at hand at this moment, and would be cold at the next turn.
    pub(super) fn sleeps_behind(&mut self, upto: i64, isolation: IsolationLevel) -> bool {
        let (Position::At(position), Some(source)) = (self.state.position, &self.state.source)
        else {
            return false;
        };
        let log = &source.partition;
        position >= upto
            && self.is_fetchable()
            && log.tells()
            && log.known_damage().is_none()
            && matches!(self.watch(position, isolation), Ok(false))
    }

    /// Begins a fetch, or has the log tell when there is something to fetch.
    pub(super) fn begin_or_sleep(&mut self, isolation: IsolationLevel, bytes_max: usize) -> Begun {
        let tells = self.state.source.as_ref().is_some_and(|source| source.partition.tells());
        // An append between the look and the registration is met by the second look.
        for _ in 0..2 {
            if self.state.begin(isolation, bytes_max) {
                return Begun::Yes;
            }
            let Position::At(position) = self.state.position else { return Begun::AskAgain };
            match tells.then(|| self.watch(position, isolation)) {
                Some(Ok(false)) => return Begun::Asleep,
                Some(Ok(true)) => {}
                // A poll that waits says what is wrong with it.
                Some(Err(_)) | None => return Begun::AskAgain,
            }
        }
        Begun::AskAgain
    }
}

/// How far [`PartitionState::take`] came.
pub(super) enum TakeResult {
    /// The fetch of this partition is over.
    Over,
    /// The poll has all that it may return.
    Full,
    /// There may be more.
    Some,
}

impl PartitionState {
    /// Takes the fetch back that was begun, if a test holds it up.
    #[cold]
    pub(super) fn stall(
        &mut self,
        partition: &TopicPartition,
        probe: &Probe,
        signal: &Arc<Signal>,
    ) -> bool {
        self.stalled_until = probe.hold(fetch_point(partition), signal);
        if self.stalled_until.is_some() {
            self.fetch = None;
        }
        self.stalled_until.is_some()
    }

    /// Begins a fetch, if there is something to return, or something wrong that the read will
    /// tell when it is this partition's turn.
    pub(super) fn begin(&mut self, isolation: IsolationLevel, bytes_max: usize) -> bool {
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
        let (from, bytes_left) = (position, bytes_max);
        let (place, returned, starved) = (0, false, false);
        self.fetch = Some(Fetch { place, from, upto, bytes_left, returned, starved });
        true
    }

    /// Reads once, and adds what may be returned.
    pub(super) fn take(
        &mut self,
        partition: &TopicPartition,
        isolation: IsolationLevel,
        left: &mut FetchLeft,
        budget: &mut Budget<'_>,
        fetched: &mut Fetched,
    ) -> Result<TakeResult> {
        let (Position::At(position), Some(source), Some(fetch)) =
            (self.position, &self.source, &mut self.fetch)
        else {
            return Ok(TakeResult::Over);
        };
        if budget.is_spent() {
            return Ok(TakeResult::Full);
        }
        if fetch.bytes_left == 0 && fetch.returned {
            return Ok(TakeResult::Over);
        }
        let of_fetch = fetch.bytes_left.min(left.bytes);
        let bytes_max = of_fetch.min(budget.bytes);
        let reading = Reading {
            partition,
            log: &source.partition,
            isolation,
            records_max: budget.records,
            bytes_max,
            may_exceed: !fetch.returned && !left.returned,
            // As with Kafka, one fetch of a partition does not go on into the next segment.
            may_open_segment: !fetch.returned,
            unpack: budget.unpack,
        };
        let walked = reading.go_on(position, &mut self.reader, &mut fetched.records)?;
        let Some(walked) = walked else {
            // What this poll may not hold any more is left to the next one.
            if bytes_max < of_fetch && position < fetch.upto {
                return Ok(TakeResult::Full);
            }
            fetch.starved = !fetch.returned && left.returned;
            return Ok(TakeResult::Over);
        };
        budget.unpack.spend(&walked);
        if walked.full && walked.position == position {
            // The batch waits for the next poll, where it is the first.
            return Ok(TakeResult::Full);
        }
        self.position = Position::At(walked.position);
        // A read goes on into what was appended since the fetch was begun.
        self.known_end = self.known_end.map(|end| end.max(walked.position));
        let moved = walked.position != position;
        fetch.spend(&walked);
        left.spend(&walked, moved);
        budget.spend(&walked);
        fetched.moved |= moved;
        if walked.records > 0 {
            fetched.records.set_next(partition, walked.position);
        }
        if let Some(fault) = walked.fault {
            let place = (&source.partition, partition);
            return Err(self.reader.unreadable(fault, place, walked.position));
        }
        Ok(match walked.position >= fetch.upto {
            true => TakeResult::Over,
            false if walked.full => TakeResult::Full,
            false => TakeResult::Some,
        })
    }
}

/// What a test knows a fetch by.
pub(super) fn fetch_point(partition: &TopicPartition) -> Point<'_> {
    Point::Fetch { topic: partition.topic(), partition: partition.partition() }
}
