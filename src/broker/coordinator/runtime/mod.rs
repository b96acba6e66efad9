//! The runtime of a coordinator: one lock around its shard, its records stored in its internal
//! topic, its timer in the broker's queue. As Kafka's `CoordinatorRuntime`.
//!
//! State is applied at the append, and an append that failed changes nothing. An answer that has
//! to wait for a sync waits outside the lock, and signals are rung outside it. The shard is loaded
//! by replay at the first use; in an attached directory it is read on at each use, for the owner
//! goes on writing.

mod held;
mod loading;
mod settling;

pub(in crate::broker) use settling::Settling;

use super::replay::{AtDamage, Replayed, is_damage, replay};
use super::writer::{PartitionWriter, PendingSync};
use crate::broker::background::Timers;
use crate::broker::health::{BrokerCounters, HealthLog};
use crate::coordinator::{CoordinatorResult, CoordinatorShard, EncodedRecords, ShardAppend};
use crate::error::{Error, Result};
use crate::log::Marker;
use crate::sync::{Arc, AtomicBool, Mutex, MutexGuard, Ordering, Rank, Weak, ranked_mutex};
use crate::time::{Clock, Now, Signal, TimerKey};
use crate::topic::TopicPartition;
use held::Held;
use loading::Loading;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What a runtime asks of the broker around it.
pub(in crate::broker) trait CoordinatorHost<C: CoordinatorShard>:
    Send + Sync
{
    /// A shard without state, by the settings there are.
    fn new_shard(&self) -> C;

    /// All records of these partitions, which ascend, were replayed, by a process that may write.
    fn loaded(&self, shard: &mut C, partitions: &[i32], now: Now);

    /// Shows events to a test, in the order in which they happened. The lock is held.
    fn show(&self, events: &[C::Event]);

    /// Counts events and tells them to the log. No lock is held.
    fn tell(&self, events: &[C::Event]);

    /// Something may have been stored. No lock is held.
    fn stored(&self) {}
}

/// What a runtime is made of.
pub(in crate::broker) struct RuntimeParts<C: CoordinatorShard, W> {
    pub rank: Rank,
    pub clock: Clock,
    pub timers: Arc<Timers>,
    pub health: Arc<HealthLog>,
    pub host: Box<dyn CoordinatorHost<C>>,
    pub writer: W,
    /// False in an attached broker: nothing is stored, and no timer runs.
    pub writes: bool,
    /// Nothing has to be stored before the first append to any log.
    pub settled: bool,
    pub counters: Arc<BrokerCounters>,
}

/// See the module.
pub(in crate::broker) struct CoordinatorRuntime<C: CoordinatorShard, W> {
    me: Weak<CoordinatorRuntime<C, W>>,
    clock: Clock,
    timers: Arc<Timers>,
    health: Arc<HealthLog>,
    host: Box<dyn CoordinatorHost<C>>,
    writes: bool,
    held: Mutex<Held<C, W>>,
    watchers: Mutex<BTreeMap<Arc<str>, Vec<Arc<Signal>>>>,
    settled: AtomicBool,
    counters: Arc<BrokerCounters>,
}

/// What a handler looks at.
#[derive(Debug, Clone, Copy)]
pub(in crate::broker) enum Scope<'a> {
    /// What is kept under one key.
    Key(&'a str),
    /// What one partition of the internal topic keeps.
    Partition(i32),
    /// What some of them keep.
    Partitions(&'a BTreeSet<i32>),
    All,
}

/// What has to be made durable before an answer may be given.
type Syncs = Vec<PendingSync>;

/// The lock, the moment, and the syncs of what was due.
type Entered<'a, C, W> = (MutexGuard<'a, Held<C, W>>, Now, Syncs);

impl<C: CoordinatorShard, W: PartitionWriter> CoordinatorRuntime<C, W> {
    pub fn new(parts: RuntimeParts<C, W>) -> Arc<CoordinatorRuntime<C, W>> {
        let held = Held {
            shard: parts.host.new_shard(),
            writer: parts.writer,
            loading: Loading::default(),
            damaged: BTreeMap::new(),
            was_reset: false,
            encoded: EncodedRecords::default(),
            timer: None,
        };
        Arc::new_cyclic(|me| CoordinatorRuntime {
            me: me.clone(),
            clock: parts.clock,
            timers: parts.timers,
            health: parts.health,
            host: parts.host,
            writes: parts.writes,
            held: ranked_mutex(parts.rank, held),
            watchers: Mutex::new(BTreeMap::new()),
            settled: AtomicBool::new(parts.settled),
            counters: parts.counters,
        })
    }

    /// Runs a handler that stores nothing by itself; what fell due meanwhile is stored.
    ///
    /// # Errors
    /// Those of loading, and of the syncs of what fell due.
    pub fn read<R>(&self, handler: impl FnOnce(&mut C, Now) -> R) -> Result<R> {
        let (mut held, now, syncs) = self.enter(Scope::All)?;
        let response = handler(&mut held.shard, now);
        self.leave(held, syncs)?;
        Ok(response)
    }

    /// The partition that keeps what there is under `key`. It need not be read for that.
    ///
    /// # Errors
    /// Those of looking the topic up.
    pub fn partition_of(&self, key: &str) -> Result<i32> {
        let mut held = self.held.lock();
        self.begin_loading(&mut held)?;
        Ok(held.shard.partition_of(key))
    }

    /// As [`CoordinatorRuntime::read`], of what is kept under `key`.
    ///
    /// # Errors
    /// `CorruptRecord` and `UnsupportedFormat` where the partition of `key` could not be read
    /// whole, and those of [`CoordinatorRuntime::read`].
    pub fn read_of<R>(
        &self,
        key: &str,
        handler: impl FnOnce(&mut C, Now) -> Result<R>,
    ) -> Result<R> {
        let (mut held, now, syncs) = self.enter(Scope::Key(key))?;
        let response = held.check_whole(key).and_then(|()| handler(&mut held.shard, now));
        self.leave(held, syncs)?;
        response
    }

    /// As [`CoordinatorRuntime::read`], where all that is kept was read.
    ///
    /// # Errors
    /// `CorruptRecord` and `UnsupportedFormat` where a partition could not be read whole, and those
    /// of [`CoordinatorRuntime::read`].
    pub fn read_whole<R>(&self, handler: impl FnOnce(&mut C) -> R) -> Result<R> {
        let (mut held, _, syncs) = self.enter(Scope::All)?;
        let response = held.check_all_whole().map(|()| handler(&mut held.shard));
        self.leave(held, syncs)?;
        response
    }

    /// As [`CoordinatorRuntime::read`]; `handler` is told of a key whether the partition that keeps
    /// it was read whole.
    ///
    /// # Errors
    /// Those of [`CoordinatorRuntime::read`].
    pub fn read_told<R>(&self, handler: impl FnOnce(&C, &dyn Fn(&str) -> bool) -> R) -> Result<R> {
        let (held, _, syncs) = self.enter(Scope::All)?;
        let is_whole = |key: &str| !held.damaged.contains_key(&held.shard.partition_of(key));
        let response = handler(&held.shard, &is_whole);
        self.leave(held, syncs)?;
        Ok(response)
    }

    /// As [`CoordinatorRuntime::write`], of what is kept under `key`.
    ///
    /// # Errors
    /// `CorruptRecord` and `UnsupportedFormat` where the partition of `key` could not be read
    /// whole, and those of [`CoordinatorRuntime::write`].
    pub fn write_of<R>(
        &self,
        key: &str,
        handler: impl FnOnce(&mut C, Now) -> CoordinatorResult<R, C::Append>,
    ) -> Result<R> {
        let (held, now, syncs) = self.enter(Scope::Key(key))?;
        match held.check_whole(key) {
            Ok(()) => self.run(held, now, syncs, handler),
            Err(damage) => self.leave(held, syncs).and(Err(damage)),
        }
    }

    /// Runs a handler and stores its records.
    ///
    /// # Errors
    /// Those of loading, of the appends and of their syncs.
    pub fn write<R>(
        &self,
        handler: impl FnOnce(&mut C, Now) -> CoordinatorResult<R, C::Append>,
    ) -> Result<R> {
        let (held, now, syncs) = self.enter(Scope::All)?;
        self.run(held, now, syncs, handler)
    }

    fn run<R>(
        &self,
        mut held: MutexGuard<'_, Held<C, W>>,
        now: Now,
        mut syncs: Syncs,
        handler: impl FnOnce(&mut C, Now) -> CoordinatorResult<R, C::Append>,
    ) -> Result<R> {
        let result = handler(&mut held.shard, now);
        let mut outcome = Ok(());
        for append in result.appends {
            match held.store(append, now) {
                Ok(stored) => syncs.extend(stored.into_pending()),
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        self.leave(held, syncs)?;
        outcome.map(|()| result.response)
    }

    /// Stores the marker of a transaction in a partition of the internal topic, and has what was
    /// stored there in the transaction count, or not.
    ///
    /// # Errors
    /// Those of loading, of the append and of its sync; the partition's damage.
    pub fn mark(&self, partition: i32, marker: Marker) -> Result<()> {
        let (mut held, now, mut syncs) = self.enter(Scope::Partition(partition))?;
        let outcome = held.mark(partition, marker, now, &mut syncs);
        self.leave(held, syncs).and(outcome)
    }

    /// Runs a handler whose answer stands whether or not its records can be stored. Those that
    /// cannot are owed by the shard, and reported.
    ///
    /// # Errors
    /// Those of loading, and of the syncs.
    pub fn write_owed<R>(
        &self,
        scope: Scope<'_>,
        handler: impl FnOnce(&mut C, Now) -> CoordinatorResult<R, C::Append>,
    ) -> Result<R> {
        let (mut held, now, mut syncs) = self.enter(scope)?;
        let result = handler(&mut held.shard, now);
        self.store_owed(&mut held, result.appends, now, &mut syncs);
        self.leave(held, syncs)?;
        Ok(result.response)
    }

    /// Once in a life, before anything is appended to any log: loads what `scope` looks at and has
    /// `work` store, durably, what others would be misled by. Nobody else gets in before it is
    /// done.
    ///
    /// # Errors
    /// Those of loading and of `work`; the next call tries again.
    pub fn settle(
        &self,
        scope: Scope<'_>,
        work: impl FnOnce(&mut Settling<'_, C, W>) -> Result<()>,
    ) -> Result<()> {
        // Acquire: pairs with the Release below.
        if self.settled.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut held = self.held.lock();
        if self.settled.load(Ordering::Acquire) {
            return Ok(());
        }
        if self.load(&mut held, scope)? {
            let now = self.clock.now();
            work(&mut Settling { held: &mut held, health: &self.health, now })?;
            if self.writes {
                // What is loaded may fall due before anybody asks for it.
                self.set_timer(&mut held);
            }
        }
        self.settled.store(true, Ordering::Release);
        Ok(())
    }

    /// The partitions that the next life has to begin with, at the end of this one: those that
    /// `open` names, those that could not be read whole, and those of `before` that this life did
    /// not read. `None` where that is not known of all of them.
    pub fn unfinished(
        &self,
        before: Option<&BTreeSet<i32>>,
        open: impl FnOnce(&C) -> BTreeSet<i32>,
    ) -> Option<BTreeSet<i32>> {
        let held = self.held.lock();
        let mut unfinished = open(&held.shard);
        unfinished.extend(held.damaged.keys());
        if !held.loading.is_whole() {
            if held.was_reset {
                return None;
            }
            let is_unread = |partition: &&i32| !held.loading.is_loaded(**partition);
            unfinished.extend(before?.iter().filter(is_unread));
        }
        Some(unfinished)
    }

    /// Whether a partition could not be read whole.
    ///
    /// # Errors
    /// Those of loading.
    pub fn is_damaged(&self, partition: i32) -> Result<bool> {
        let mut held = self.held.lock();
        self.load(&mut held, Scope::Partition(partition))?;
        Ok(held.damaged.contains_key(&partition))
    }

    /// Has a partition that takes appends, and in whose midst batches cannot be read, say anew
    /// behind its end what its other batches say. Returns where that begins: what lies before is
    /// not needed; `None` for a partition that is whole.
    ///
    /// # Errors
    /// Those of loading, of the appends and of their syncs; what was there before stands.
    pub fn restate(&self, partition: i32) -> Result<Option<i64>> {
        let mut held = self.held.lock();
        self.load(&mut held, Scope::Partition(partition))?;
        if !held.damaged.contains_key(&partition) {
            return Ok(None);
        }
        let mut shard = self.host.new_shard();
        held.writer.forget();
        replay(&mut held.writer, &mut shard, partition, AtDamage::GoOn).outcome?;
        let (mut begins, now) = (None, self.clock.now());
        let mut syncs = Vec::new();
        for append in shard.state_of(partition) {
            held.encoded.clear();
            let Held { writer, encoded, .. } = &mut *held;
            append.encode(encoded);
            let stored = writer.append(partition, encoded, append.transaction(), now)?;
            begins.get_or_insert(stored.base_offset);
            syncs.push(stored.sync);
        }
        drop(held);
        syncs.into_iter().try_for_each(PendingSync::wait)?;
        // Nothing is left of it: what cannot be read ends at the end.
        Ok(Some(begins.unwrap_or(i64::MAX)))
    }

    /// The internal topic is gone, and all state with it; or another part of its records counts.
    pub fn reset(&self) {
        let mut held = self.held.lock();
        if let Some(key) = held.timer.take() {
            self.timers.cancel(key);
        }
        held.shard = self.host.new_shard();
        held.writer.forget();
        held.loading = Loading::default();
        held.damaged.clear();
        held.was_reset = true;
        drop(held);
        self.ring_all();
    }

    /// Has `signal` rung whenever something moved under `key`, until it is taken back.
    pub fn watch(&self, key: &Arc<str>, signal: &Arc<Signal>) {
        let mut watchers = self.watchers.lock();
        let signals = watchers.entry(key.clone()).or_default();
        if !signals.iter().any(|known| Arc::ptr_eq(known, signal)) {
            signals.push(signal.clone());
        }
    }

    /// Takes a signal back.
    pub fn unwatch(&self, key: &str, signal: &Arc<Signal>) {
        let mut watchers = self.watchers.lock();
        if let Some(signals) = watchers.get_mut(key) {
            signals.retain(|known| !Arc::ptr_eq(known, signal));
            if signals.is_empty() {
                watchers.remove(key);
            }
        }
    }

    /// Wakes everybody who waits for something.
    pub fn ring_all(&self) {
        let signals: Vec<_> = self.watchers.lock().values().flatten().cloned().collect();
        signals.iter().for_each(|signal| signal.ring());
    }

    /// The lock, the shard loaded as far as it is looked at, and what was due done.
    fn enter(&self, scope: Scope<'_>) -> Result<Entered<'_, C, W>> {
        let mut held = self.held.lock();
        self.load(&mut held, scope)?;
        let now = self.clock.now();
        let mut syncs = Vec::new();
        if self.writes {
            self.expire(&mut held, now, &mut syncs);
        }
        Ok((held, now, syncs))
    }

    /// Has all partitions loaded. The lock is given up after each: whoever waits for it waits for
    /// one of them at most.
    ///
    /// # Errors
    /// Those of loading.
    pub fn load_all(&self) -> Result<()> {
        for partition in 0.. {
            let mut held = self.held.lock();
            let there = self.load(&mut held, Scope::Partition(partition))?;
            if self.writes {
                self.set_timer(&mut held);
            }
            if !there || held.loading.is_behind_all(partition) {
                break;
            }
        }
        Ok(())
    }

    /// Looks the topic up, if that was not done; `None` where there is none. Returns how many
    /// partitions it has.
    fn begin_loading(&self, held: &mut Held<C, W>) -> Result<Option<i32>> {
        if let Some(partitions) = held.loading.partitions() {
            return Ok(Some(partitions));
        }
        let Some(begun) = held.writer.begin_reading()? else { return Ok(None) };
        if begun.anew {
            held.shard = self.host.new_shard();
            held.damaged.clear();
        }
        if self.writes {
            held.loading = Loading::of(begun.partitions);
        }
        Ok(Some(begun.partitions))
    }

    /// Has the shard loaded as far as `scope` looks; false where there is no topic to load it from.
    fn load(&self, held: &mut Held<C, W>, scope: Scope<'_>) -> Result<bool> {
        if held.loading.is_whole() {
            return Ok(true);
        }
        let Some(partitions) = self.begin_loading(held)? else { return Ok(false) };
        let one = |partition: i32| partition..partition.saturating_add(1).min(partitions);
        let (range, among) = match scope {
            Scope::Key(key) => (one(held.shard.partition_of(key)), None),
            Scope::Partition(partition) => (one(partition), None),
            Scope::Partitions(some) => (0..partitions, Some(some)),
            Scope::All => (0..partitions, None),
        };
        let mut loaded = Vec::new();
        for partition in range {
            let wanted = among.is_none_or(|some| some.contains(&partition));
            if wanted && !held.loading.is_loaded(partition) {
                self.read_partition(held, partition)?;
                loaded.push(partition);
            }
        }
        if self.writes && !loaded.is_empty() {
            self.host.loaded(&mut held.shard, &loaded, self.clock.now());
            for partition in loaded {
                held.writer.end_reading(partition);
                held.loading.note(partition);
            }
        }
        Ok(true)
    }

    /// Reads what a partition has that was not read yet.
    fn read_partition(&self, held: &mut Held<C, W>, partition: i32) -> Result<()> {
        let Held { shard, writer, .. } = &mut *held;
        let replayed = replay(writer, shard, partition, AtDamage::Stop);
        // Relaxed: a total orders nothing.
        self.counters.coordinator_bytes_loaded.fetch_add(replayed.bytes, Ordering::Relaxed);
        match self.judge(writer.topic(), partition, replayed)? {
            Some(damage) => {
                if self.writes {
                    // A process that only reads may be told more at its next look.
                    held.shard.drop_damaged(partition);
                }
                held.damaged.insert(partition, damage)
            }
            None => held.damaged.remove(&partition),
        };
        Ok(())
    }

    /// Damage ends the use of a partition, not that of its coordinator: it is returned.
    ///
    /// Departure: D55. Kafka does not load such a partition, and its groups wait.
    ///
    /// Departure: D86. Nor does it load one with a record that cannot be decoded, which is passed
    /// over here.
    ///
    /// # Errors
    /// What a later reading may not meet again.
    fn judge(&self, topic: &str, partition: i32, replayed: Replayed) -> Result<Option<Error>> {
        for (offset, fault) in replayed.unreadable {
            let place = format!("{topic}-{partition} at offset {offset}");
            self.health.warn(format!("a record of {place} is skipped: {fault}"));
        }
        match replayed.outcome.map_err(|error| error.with_partition(topic, partition)) {
            Err(error) if is_damage(&error) => {
                let text = format!("what {topic}-{partition} keeps is not used: {error}");
                self.health.warn_once(text);
                self.health.partition(TopicPartition::new(topic, partition), error.clone());
                Ok(Some(error))
            }
            other => other.map(|()| None),
        }
    }

    /// Runs what is due. It has happened whether or not the record of it can be stored.
    fn expire(&self, held: &mut Held<C, W>, now: Now, syncs: &mut Syncs) {
        if held.shard.next_deadline().is_some_and(|deadline| deadline <= now.mono) {
            let result = held.shard.expire(now);
            self.store_owed(held, result.appends, now, syncs);
        }
    }

    /// Stores records of what has happened already. Those that cannot be stored stay owed, and
    /// are reported.
    fn store_owed(
        &self,
        held: &mut Held<C, W>,
        appends: Vec<C::Append>,
        now: Now,
        syncs: &mut Syncs,
    ) {
        for append in appends {
            let subject = append.subject();
            match held.store(append, now) {
                Ok(stored) => syncs.extend(stored.into_pending()),
                Err(error) => {
                    self.health.warn(format!("a record of {subject} is not stored: {error}"));
                }
            }
        }
    }

    /// Gives the lock up: the timer is set before it, signals rung and syncs waited for after it.
    fn leave(&self, mut held: MutexGuard<'_, Held<C, W>>, syncs: Syncs) -> Result<()> {
        if self.writes {
            self.set_timer(&mut held);
        }
        let moved = held.shard.take_moved();
        let events = held.shard.take_events();
        self.host.show(&events);
        drop(held);
        self.host.tell(&events);
        self.ring(&moved);
        let synced = syncs.into_iter().try_for_each(PendingSync::wait);
        if self.writes {
            self.host.stored();
        }
        synced
    }

    fn ring(&self, moved: &[Arc<str>]) {
        if moved.is_empty() {
            return;
        }
        let watchers = self.watchers.lock();
        let signals: Vec<Arc<Signal>> =
            moved.iter().filter_map(|key| watchers.get(key)).flatten().cloned().collect();
        drop(watchers);
        signals.iter().for_each(|signal| signal.ring());
    }

    fn set_timer(&self, held: &mut Held<C, W>) {
        let next = held.shard.next_deadline();
        let set = held.timer.map(TimerKey::deadline);
        // A timer that fires early does no harm, so it is only ever moved forward.
        if next.is_none_or(|next| set.is_some_and(|set| set <= next)) {
            return;
        }
        if let Some(key) = held.timer.take() {
            self.timers.cancel(key);
        }
        held.timer = next.map(|deadline| {
            let me = self.me.clone();
            let task = move |now: Now| {
                if let Some(runtime) = me.upgrade() {
                    runtime.tick(now);
                }
            };
            self.timers.schedule(deadline, Box::new(task))
        });
    }

    /// What the timer does.
    fn tick(&self, now: Now) {
        let mut held = self.held.lock();
        held.timer = None;
        let mut syncs = Vec::new();
        self.expire(&mut held, now, &mut syncs);
        // Nobody waits for these records; the flusher makes them durable.
        syncs.clear();
        // With nothing to wait for, this cannot fail.
        drop(self.leave(held, syncs));
    }
}

impl<C: CoordinatorShard, W: fmt::Debug> fmt::Debug for CoordinatorRuntime<C, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CoordinatorRuntime").field("writes", &self.writes).finish_non_exhaustive()
    }
}
