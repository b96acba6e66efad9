//! Taking records out of the logs: which partitions, in which order, how much.
//!
//! A fetch of a partition is begun when it has records, and its records are returned, over several
//! polls if need be, before those of partitions whose fetch was begun later; then it goes to the
//! end of the rotation. This is the order in which Kafka's client drains what it has fetched,
//! but nothing is fetched ahead: each poll reads from the log what it returns.

mod account;

use super::env::ConsumerEnv;
use super::positions::out_of_range;
use super::reading::{ConsumerRecords, Reading, Unpack};
use super::subscription::{Fetch, Look, PartitionState, Position, StateId, SubscriptionState};
use crate::config::IsolationLevel;
use crate::error::{Error, ErrorKind, Result};
use crate::events::Event;
use crate::probe::{Point, Probe};
use crate::record::BatchFault;
use crate::sync::Arc;
use crate::time::{Now, Signal};
use crate::topic::TopicPartition;
use account::{Budget, FetchLeft, left_at};
use std::collections::VecDeque;
use std::time::Duration;

/// The state between two fetches.
#[derive(Debug, Default)]
pub(in crate::consumer) struct Fetcher {
    /// The partitions whose fetch was begun and is not paused, by their places in the order of
    /// beginning.
    queue: VecDeque<(u64, StateId)>,
    next_place: u64,
    /// What is left of the fetches in progress, in the order of their beginning.
    left: VecDeque<FetchLeft>,
    /// The version of the assignment that the queue holds for.
    queue_of: u64,
    /// Empty between two fetches; kept for its memory.
    ready: Vec<(u64, StateId)>,
    /// Since when `fetch.min.bytes` are waited for.
    held_since: Option<Duration>,
}

impl Fetcher {
    /// Begins the accounts of a fetch whose partitions are put in the queue next.
    fn open_account(&mut self, bytes: usize) {
        let oldest = self.queue.front().map_or(u64::MAX, |(place, _)| *place);
        while self.left.len() > 1 && self.left.get(1).is_some_and(|l| l.first_place <= oldest) {
            self.left.pop_front();
        }
        if self.queue.is_empty() {
            self.left.clear();
        }
        self.left.push_back(FetchLeft { first_place: self.next_place, bytes, returned: false });
    }

    /// Puts a fetch where it was begun in the order.
    fn enqueue(&mut self, place: u64, id: StateId) {
        let at = self.queue.partition_point(|(other, _)| *other < place);
        self.queue.insert(at, (place, id));
    }

    fn dequeue(&mut self, place: u64) {
        if let Ok(at) = self.queue.binary_search_by_key(&place, |(other, _)| *other) {
            self.queue.remove(at);
        }
    }
}

/// What a fetch came to.
pub(in crate::consumer) struct Fetched {
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

/// For so many partitions a poll makes room at once.
const RUNS_AHEAD: usize = 8;

/// What came of one pass over the partitions.
enum Pass {
    /// There is nothing to begin anew.
    Idle,
    /// A fetch was over that had returned something to an earlier poll.
    Ended,
}

impl Fetcher {
    /// Fetches what the settings allow. An error of one partition is told only when there is
    /// nothing to return. It comes again with the partition's next turn, which is behind those of
    /// the others, as in Kafka when a broker answers a fetch with an error: nobody starves, and
    /// nobody is left untold.
    pub fn fetch(
        &mut self,
        env: &ConsumerEnv,
        subscription: &mut SubscriptionState,
        now: Now,
    ) -> Result<Fetched> {
        let mut fetched =
            Fetched { records: ConsumerRecords::new(), moved: false, held_until: None };
        self.drop_unassigned(subscription);
        // A fetch that turns out to be over leaves its partition for the next one. A poll that has
        // returned nothing does not leave that to another poll.
        while let Pass::Ended = self.fetch_once(env, subscription, now, &mut fetched)? {
            if !fetched.records.is_empty() || fetched.moved {
                break;
            }
        }
        Ok(fetched)
    }

    /// Begins what can be begun, and drains what was begun.
    fn fetch_once(
        &mut self,
        env: &ConsumerEnv,
        subscription: &mut SubscriptionState,
        now: Now,
        fetched: &mut Fetched,
    ) -> Result<Pass> {
        if let Some(until) = self.begin_fetches(env, subscription, now)? {
            fetched.held_until = Some(until);
            return Ok(Pass::Idle);
        }
        let mut budget = Budget {
            env,
            records: env.settings.max_poll_records,
            bytes: env.settings.fetch_max_bytes,
            returned_bytes: false,
            unpack: Unpack::up_to(env.settings.fetch_max_bytes),
        };
        fetched.records.reserve(self.queue.len().min(RUNS_AHEAD));
        let mut pass = Pass::Idle;
        while budget.records > 0 {
            let Some(&(_, id)) = self.queue.front() else { break };
            let fetch = subscription.at(id).and_then(|(_, state)| state.fetch);
            let returned = fetch.is_some_and(|fetch| {
                fetch.returned || left_at(&mut self.left, fetch.place).returned
            });
            match self.drain(id, subscription, &mut budget, fetched) {
                Ok(true) => {
                    self.queue.pop_front();
                    self.end_fetch(env, subscription, id);
                    if returned {
                        pass = Pass::Ended;
                    }
                }
                Ok(false) => break,
                Err(error) if fetched.is_nothing() => {
                    self.queue.pop_front();
                    self.end_fetch(env, subscription, id);
                    // It comes again.
                    subscription.wake(id);
                    return Err(error);
                }
                Err(_) => break,
            }
        }
        Ok(pass)
    }

    /// Forgets fetches of partitions that are not assigned any more.
    fn drop_unassigned(&mut self, subscription: &mut SubscriptionState) {
        if self.queue_of == subscription.version() {
            return;
        }
        self.queue_of = subscription.version();
        self.queue.retain(|(place, id)| {
            subscription.at(*id).is_some_and(|(_, state)| state.queued == Some(*place))
        });
    }

    /// Begins a fetch of every partition that has something to return. With `fetch.min.bytes`
    /// above 1, returns until when there is not enough to begin with.
    fn begin_fetches(
        &mut self,
        env: &ConsumerEnv,
        subscription: &mut SubscriptionState,
        now: Now,
    ) -> Result<Option<Duration>> {
        let isolation = env.isolation();
        let bytes_max = env.settings.max_partition_fetch_bytes;
        let (probe, signal) = (env.broker.probe(), env.signal());
        let mut ready = std::mem::take(&mut self.ready);
        subscription.wake_ready();
        subscription.look_at_awake(|look| {
            look.check_fetch(self);
            if !look.is_fetchable() {
                return look.state.position == Position::Unset || look.awaits_word();
            }
            if look.state.fetch.is_some() {
                return false;
            }
            match look.begin_or_sleep(isolation, bytes_max) {
                Begun::Yes if probe.is_on() && look.state.stall(look.partition, probe, signal) => {
                    true
                }
                Begun::Yes => {
                    ready.push((look.state.fetch_order, look.id));
                    false
                }
                Begun::AskAgain => true,
                Begun::Asleep => false,
            }
        });
        let must_wait = env.settings.fetch_min_bytes > 1 && self.queue.is_empty();
        let begun = self.queue.len();
        ready.sort_unstable_by_key(|(order, _)| *order);
        if !ready.is_empty() {
            self.open_account(env.settings.fetch_max_bytes);
        }
        for (_, id) in ready.drain(..) {
            let place = self.next_place;
            self.next_place += 1;
            if let Some((_, state)) = subscription.at(id)
                && let Some(fetch) = &mut state.fetch
            {
                fetch.place = place;
                state.queued = Some(place);
                self.queue.push_back((place, id));
            }
        }
        self.ready = ready;
        if !must_wait {
            return Ok(None);
        }
        let since = *self.held_since.get_or_insert(now.mono);
        let until = since.saturating_add(env.settings.fetch_max_wait);
        if now.mono < until && !self.has_enough(env, subscription)? {
            for (_, id) in self.queue.drain(begun..) {
                if let Some((_, state)) = subscription.at(id) {
                    state.fetch = None;
                    state.queued = None;
                }
                subscription.wake(id);
            }
            return Ok(Some(until));
        }
        self.held_since = None;
        Ok(None)
    }

    /// Whether the fetches that were begun hold `fetch.min.bytes`.
    fn has_enough(&self, env: &ConsumerEnv, subscription: &mut SubscriptionState) -> Result<bool> {
        let mut bytes = 0;
        for (_, id) in &self.queue {
            let Some((_, state)) = subscription.at(*id) else { continue };
            let (Some(source), Some(fetch)) = (&state.source, state.fetch) else { continue };
            let left = env.settings.fetch_min_bytes.saturating_sub(bytes);
            let isolation = env.isolation();
            match state.reader.bytes_ahead(&source.partition, isolation, fetch.upto, left) {
                Ok(ahead) => bytes += ahead,
                // The drain will say what is wrong with it.
                Err(_) => return Ok(true),
            }
        }
        Ok(bytes >= env.settings.fetch_min_bytes)
    }

    /// Returns records of one partition. True when its fetch is over.
    fn drain(
        &mut self,
        id: StateId,
        subscription: &mut SubscriptionState,
        budget: &mut Budget<'_>,
        fetched: &mut Fetched,
    ) -> Result<bool> {
        let env = budget.env;
        let isolation = env.isolation();
        let bytes_max = env.settings.max_partition_fetch_bytes;
        let Some((partition, _)) = subscription.at(id) else { return Ok(true) };
        env.broker.probe().check(fetch_point(partition))?;
        loop {
            let Some((partition, state)) = subscription.at(id) else { return Ok(true) };
            let place = state.fetch.map_or(0, |fetch| fetch.place);
            let left = left_at(&mut self.left, place);
            match state.take(partition, isolation, left, budget, fetched) {
                Ok(TakeResult::Over) => return Ok(true),
                Ok(TakeResult::Full) => return Ok(false),
                Ok(TakeResult::Some) => {}
                Err(error) if error.kind() == ErrorKind::OffsetOutOfRange => {
                    let (partition, place) = (partition.clone(), state.queued);
                    out_of_range(env, subscription, &partition, error)?;
                    let Some((_, state)) = subscription.at(id) else { return Ok(true) };
                    if !state.begin(isolation, bytes_max) {
                        return Ok(true);
                    }
                    if let (Some(fetch), Some(place)) = (&mut state.fetch, place) {
                        fetch.place = place;
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

    /// Puts a partition whose turn is over behind all others. One that got nothing because others
    /// had taken what a fetch may return stays before them.
    fn end_fetch(&mut self, env: &ConsumerEnv, subscription: &mut SubscriptionState, id: StateId) {
        let order = subscription.take_fetch_order();
        subscription.look_at(id, |look| {
            look.state.queued = None;
            let fetch = look.state.fetch.take();
            if !fetch.is_some_and(|fetch| fetch.starved) {
                look.state.fetch_order = order;
            }
            !fetch.is_some_and(|fetch| look.sleeps_behind(fetch.upto, env.isolation()))
        });
    }
}

/// What became of a partition without a fetch.
enum Begun {
    Yes,
    /// There is nothing, and the next append tells.
    Asleep,
    /// There is nothing, and nobody tells of more.
    AskAgain,
}

impl Look<'_> {
    fn is_fetchable(&self) -> bool {
        let placed = matches!(self.state.position, Position::At(_)) && self.state.source.is_some();
        placed && self.wanted && !self.state.paused
    }

    /// Whether a reset is to be looked up that nobody tells of.
    fn awaits_word(&self) -> bool {
        matches!(self.state.position, Position::AwaitReset(_))
            && self.state.source.is_some()
            && !self.state.watched
    }

    /// Takes a fetch out of the queue that is paused, unwanted, or was sought elsewhere, and puts
    /// one that was paused back in its place.
    fn check_fetch(&mut self, fetcher: &mut Fetcher) {
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
    fn sleeps_behind(&mut self, upto: i64, isolation: IsolationLevel) -> bool {
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
    fn begin_or_sleep(&mut self, isolation: IsolationLevel, bytes_max: usize) -> Begun {
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

fn unreadable(fault: BatchFault, partition: &TopicPartition, offset: i64) -> Error {
    let error: Error = fault.into();
    error.with_partition(partition.topic(), partition.partition()).with_offset(offset)
}

/// How far [`PartitionState::take`] came.
enum TakeResult {
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

/// Tells a test what a poll returned.
pub(in crate::consumer) fn note_delivered(env: &ConsumerEnv, records: &ConsumerRecords) {
    let probe = env.broker.probe();
    if !probe.is_on() {
        return;
    }
    for (partition, next_offset) in records.next_positions() {
        probe.note(|| Event::Delivered {
            client_id: env.client_id.clone(),
            partition: partition.clone(),
            count: records.records(partition).len(),
            next_offset,
        });
    }
}

impl PartitionState {
    /// Takes the fetch back that was begun, if a test holds it up.
    #[cold]
    fn stall(&mut self, partition: &TopicPartition, probe: &Probe, signal: &Arc<Signal>) -> bool {
        self.stalled_until = probe.hold(fetch_point(partition), signal);
        if self.stalled_until.is_some() {
            self.fetch = None;
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
        let (from, bytes_left) = (position, bytes_max);
        let (place, returned, starved) = (0, false, false);
        self.fetch = Some(Fetch { place, from, upto, bytes_left, returned, starved });
        true
    }

    /// Reads once, and adds what may be returned.
    fn take(
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
            return Err(unreadable(fault, partition, walked.position));
        }
        Ok(match walked.position >= fetch.upto {
            true => TakeResult::Over,
            false if walked.full => TakeResult::Full,
            false => TakeResult::Some,
        })
    }
}
