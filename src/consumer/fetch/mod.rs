//! Taking records out of the logs: which partitions, in which order, how much.
//!
//! A fetch of a partition is begun when it has records, and its records are returned, over several
//! polls if need be, before those of partitions whose fetch was begun later; then it goes to the
//! end of the rotation. This is the order in which Kafka's client drains what it has fetched,
//! but nothing is fetched ahead: each poll reads from the log what it returns.

mod account;
mod partition;

use super::env::ConsumerEnv;
use super::positions::out_of_range;
use super::reading::{ConsumerRecords, Unpack};
use super::subscription::{Position, StateId, SubscriptionState};
use crate::error::{ErrorKind, Result};
use crate::events::Event;
use crate::time::Now;
use account::{Budget, FetchLeft, left_at};
use partition::{Begun, TakeResult, fetch_point};
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
            for turns in 1..=3 {
                if let Some((_, later)) = self.queue.get(turns) {
                    subscription.fetch_ahead(*later, turns);
                }
            }
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
        if let Some(&(_, next)) = self.queue.front() {
            subscription.fetch_ahead(next, 0);
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
            // A position behind the end, or at damage: the read says so, and nobody waits for it.
            if fetch.from >= fetch.upto {
                return Ok(true);
            }
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
