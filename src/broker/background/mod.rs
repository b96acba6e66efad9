//! What happens off the callers' threads: pages prepared and segments sealed, records flushed
//! within their interval, retention, timers. Each is a queue with a `step`; the threads that call
//! them are in `threads.rs`, and under a virtual clock the steps run as time passes.

pub(in crate::broker) mod cleaner;
pub(in crate::broker) mod disk_watch;
pub(in crate::broker) mod gauges;
pub(in crate::broker) mod steps;
pub(in crate::broker) mod threads;

use crate::broker::health::HealthLog;
use crate::error::Error;
use crate::log::{BackgroundWork, Log};
use crate::sync::{Arc, AtomicBool, AtomicUsize, Mutex, Ordering, Rank, Weak, ranked_mutex};
use crate::time::{Clock, Now, Signal, TimerKey, TimerQueue};
use crate::topic::is_internal;
use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

/// What runs when a timer is due. It holds what it needs weakly, so that a timer keeps nothing
/// alive.
pub(crate) type TimerTask = Box<dyn FnOnce(Now) + Send>;

/// What the flusher does for a client: it may wait for a sync.
pub(crate) type FlushTask = Box<dyn FnOnce() + Send>;

/// Work that logs announce.
pub(in crate::broker) struct WorkQueue {
    clock: Clock,
    health: Arc<HealthLog>,
    /// Pages to prepare and segments to seal.
    soon: Mutex<VecDeque<BackgroundWork>>,
    pub soon_bell: Signal,
    /// Logs with unsynced records, by the end of their interval.
    flushes: Mutex<TimerQueue<Weak<Log>>>,
    pub flush_bell: Signal,
    /// Segments of internal topics are left to the cleaner, which seals those that stay.
    cleans_internal: bool,
    /// A segment of an internal topic was left by its writer: there may be something to clean.
    retired_internal: AtomicBool,
    /// How many such segments the cleaner has not come to, as far as it knows.
    cleaner_backlog: AtomicUsize,
    /// What clients ask of the flusher; `None` after the end.
    calls: Mutex<Option<VecDeque<FlushTask>>>,
}

impl WorkQueue {
    /// `cleans_internal` says whether there is a cleaner.
    pub fn new(clock: Clock, health: Arc<HealthLog>, cleans_internal: bool) -> WorkQueue {
        WorkQueue {
            cleans_internal,
            clock,
            health,
            soon: ranked_mutex(Rank::Queues, VecDeque::new()),
            soon_bell: Signal::new(),
            flushes: ranked_mutex(Rank::Queues, TimerQueue::new()),
            flush_bell: Signal::new(),
            retired_internal: AtomicBool::new(false),
            cleaner_backlog: AtomicUsize::new(0),
            calls: ranked_mutex(Rank::Queues, Some(VecDeque::new())),
        }
    }

    /// Takes note of work.
    pub fn push(&self, work: BackgroundWork) {
        if self.is_left_to_the_cleaner(&work) {
            // Release: pairs with the Acquire of who takes it. Relaxed: a count orders nothing.
            self.retired_internal.store(true, Ordering::Release);
            self.cleaner_backlog.fetch_add(1, Ordering::Relaxed);
        }
        match work {
            BackgroundWork::Prepare(_) | BackgroundWork::Seal(_) => {
                self.soon.lock().push_back(work);
                self.soon_bell.ring();
            }
            BackgroundWork::Flush(log) => self.push_flush(log),
        }
    }

    fn push_flush(&self, log: Weak<Log>) {
        let Some(interval) = log.upgrade().map(|log| log.flush_interval()) else { return };
        // Without an interval only a caller's flush, or the close, makes it durable.
        let Some(interval) = interval else { return };
        let deadline = self.clock.monotonic().saturating_add(interval);
        let mut flushes = self.flushes.lock();
        let earliest = flushes.next_deadline();
        flushes.insert(deadline, log);
        drop(flushes);
        if earliest.is_none_or(|earliest| deadline < earliest) {
            self.flush_bell.ring();
        }
    }

    /// Has `task` run as soon as the flusher gets to it; gives it back after the end.
    pub fn call(&self, task: FlushTask) -> Option<FlushTask> {
        match &mut *self.calls.lock() {
            Some(calls) => calls.push_back(task),
            None => return Some(task),
        }
        self.flush_bell.ring();
        None
    }

    /// Runs what clients asked for.
    pub fn run_calls(&self) {
        loop {
            // The lock is given up before the task runs: it may ask for more.
            let next = self.calls.lock().as_mut().and_then(VecDeque::pop_front);
            let Some(task) = next else { return };
            task();
        }
    }

    /// Runs what clients asked for, and takes no more.
    pub fn end_calls(&self) {
        let calls = self.calls.lock().take();
        calls.into_iter().flatten().for_each(|task| task());
    }

    /// Prepares pages and seals segments until nothing is asked for. Returns whether there was
    /// anything to do.
    pub fn soon_step(&self) -> bool {
        let mut worked = false;
        loop {
            let Some(work) = self.soon.lock().pop_front() else { return worked };
            worked = true;
            if self.is_left_to_the_cleaner(&work) {
                continue;
            }
            if let Err(error) = work.run() {
                self.report(&work, error);
            }
        }
    }

    /// Whether the cleaner does this when it has cleaned what it can: a segment that is cleaned at
    /// once need not be sealed, which takes four syncs.
    fn is_left_to_the_cleaner(&self, work: &BackgroundWork) -> bool {
        self.cleans_internal
            && matches!(work, BackgroundWork::Seal(_))
            && work.log().is_some_and(|log| is_internal(&log.identity().topic))
    }

    /// Whether a segment of an internal topic was left by its writer, and not asked for since.
    pub fn has_retired_internal(&self) -> bool {
        self.retired_internal.load(Ordering::Acquire)
    }

    /// As [`WorkQueue::has_retired_internal`], which is false from here on.
    pub fn take_retired_internal(&self) -> bool {
        self.retired_internal.swap(false, Ordering::AcqRel)
    }

    /// How many segments of internal topics the cleaner has not come to, as far as it knows.
    pub fn cleaner_backlog(&self) -> usize {
        self.cleaner_backlog.load(Ordering::Relaxed)
    }

    /// As many as a look at all internal topics has found.
    pub fn set_cleaner_backlog(&self, segments: usize) {
        self.cleaner_backlog.store(segments, Ordering::Relaxed);
    }

    /// Flushes what is due and returns the logs that it flushed, perhaps some more than once.
    pub fn flush_step(&self, now: Now) -> Vec<Arc<Log>> {
        self.run_calls();
        let mut due = Vec::new();
        loop {
            let Some((_, log)) = self.flushes.lock().pop_due(now.mono) else { break };
            // Whoever is held up syncs when that is over.
            due.extend(log.upgrade().filter(|log| !log.is_sync_held()));
        }
        Log::sync_parents(&due);
        due.retain(|log| {
            let began = self.clock.monotonic();
            let flushed = log.flush();
            let took = self.clock.monotonic().saturating_sub(began);
            crate::meter::took("topiclite_log_flush_seconds", took);
            match flushed {
                Ok(()) => true,
                Err(error) => {
                    self.report(&BackgroundWork::Flush(Arc::downgrade(log)), error);
                    false
                }
            }
        });
        due
    }

    /// When there is something to do next: at once, or by the end of an interval.
    pub fn next_deadline(&self) -> Option<Duration> {
        if !self.soon.lock().is_empty() {
            return Some(Duration::ZERO);
        }
        self.next_flush()
    }

    /// When the next flush is due.
    pub fn next_flush(&self) -> Option<Duration> {
        if self.calls.lock().as_ref().is_some_and(|calls| !calls.is_empty()) {
            return Some(Duration::ZERO);
        }
        self.flushes.lock().next_deadline()
    }

    fn report(&self, work: &BackgroundWork, error: Error) {
        let place = work.log().map(|log| {
            let id = log.identity();
            (id.topic.clone(), id.partition).into()
        });
        self.health.background(place, error);
    }
}

impl fmt::Debug for WorkQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkQueue")
            .field("soon", &self.soon.lock().len())
            .field("flushes", &self.flushes.lock().len())
            .finish()
    }
}

/// The one timer queue of a broker.
pub(in crate::broker) struct Timers {
    queue: Mutex<TimerQueue<TimerTask>>,
    pub signal: Signal,
}

impl Default for Timers {
    fn default() -> Timers {
        Timers { queue: ranked_mutex(Rank::Queues, TimerQueue::new()), signal: Signal::new() }
    }
}

impl Timers {
    /// Runs `task` once, when the monotonic clock reaches `deadline`.
    pub fn schedule(&self, deadline: Duration, task: TimerTask) -> TimerKey {
        let mut queue = self.queue.lock();
        let earliest = queue.next_deadline();
        let key = queue.insert(deadline, task);
        drop(queue);
        if earliest.is_none_or(|earliest| deadline < earliest) {
            self.signal.ring();
        }
        key
    }

    /// Takes a timer back; false when it ran, or is about to.
    pub fn cancel(&self, key: TimerKey) -> bool {
        // The task is dropped outside the lock: what it holds may use timers itself.
        let task = self.queue.lock().cancel(key);
        task.is_some()
    }

    /// Runs what is due, one after the other, with no lock held.
    pub fn step(&self, now: Now) {
        loop {
            let due = self.queue.lock().pop_due(now.mono);
            let Some((_, task)) = due else { return };
            task(now);
        }
    }

    /// When the earliest timer is due.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.queue.lock().next_deadline()
    }

    /// Drops all timers.
    pub fn clear(&self) {
        let timers = std::mem::take(&mut *self.queue.lock());
        drop(timers);
    }
}

impl fmt::Debug for Timers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Timers({})", self.queue.lock().len())
    }
}
