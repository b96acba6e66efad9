//! The named threads of a broker: each sleeps on its signal, and calls a step. Under a virtual
//! clock there is none. A thread that panics ends, and the panic is in the broker's health.

use crate::broker::background::steps::earliest;
use crate::broker::core::BrokerCore;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::thread::{JoinHandle, current, spawn_named};
use crate::sync::{Arc, AtomicBool, Mutex, Ordering};
use crate::time::Signal;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// Prepares pages and seals segments.
const PREPARER: &str = "log-preparer";
/// Syncs what is due and records recovery points.
const FLUSHER: &str = "log-flusher";
/// Deletes and compacts what the settings do not keep.
const RETENTION: &str = "log-retention";
/// Looks for what the owner of an attached directory appends.
const WATCHER: &str = "log-watcher";
/// Runs timers, and looks whether the directory is still ours.
const TIMERS: &str = "timers";

/// The running threads.
#[derive(Debug)]
pub(in crate::broker) struct Threads {
    running: Mutex<Vec<JoinHandle<()>>>,
    stopping: Arc<AtomicBool>,
}

impl Threads {
    /// Starts them, unless time is virtual.
    pub fn start(shared: &Arc<BrokerCore>) -> Result<Threads> {
        let stopping = Arc::new(AtomicBool::new(false));
        let threads = Threads { running: Mutex::new(Vec::new()), stopping };
        if shared.clock.is_virtual() {
            return Ok(threads);
        }
        let started = match shared.is_attached() {
            true => [(WATCHER, watcher as fn(&BrokerCore) -> Option<Duration>), (TIMERS, timers)]
                .into_iter()
                .try_for_each(|(name, step)| threads.spawn(shared, name, step)),
            false => [
                (PREPARER, preparer as fn(&BrokerCore) -> Option<Duration>),
                (FLUSHER, flusher),
                (RETENTION, retention),
                (TIMERS, timers),
            ]
            .into_iter()
            .try_for_each(|(name, step)| threads.spawn(shared, name, step)),
        };
        if let Err(error) = started {
            threads.stop(shared);
            let message = format!("cannot start a thread: {error}");
            return Err(Error::new(ErrorKind::Io, message).with_source(error));
        }
        Ok(threads)
    }

    /// Stops and joins them. What they were told before is not necessarily done.
    pub fn stop(&self, shared: &BrokerCore) {
        self.stopping.store(true, Ordering::Release);
        [PREPARER, FLUSHER, RETENTION, WATCHER, TIMERS]
            .into_iter()
            .for_each(|name| signal(shared, name).ring());
        let running = std::mem::take(&mut *self.running.lock());
        for thread in running {
            // The last handle may have been dropped by one of these threads.
            if thread.thread().id() == current().id() {
                continue;
            }
            if thread.join().is_err() {
                shared.health.error(Error::new(ErrorKind::IllegalState, "a thread panicked"));
            }
        }
    }

    fn spawn(
        &self,
        shared: &Arc<BrokerCore>,
        name: &'static str,
        step: fn(&BrokerCore) -> Option<Duration>,
    ) -> std::io::Result<()> {
        let (shared, stopping) = (shared.clone(), self.stopping.clone());
        let thread = spawn_named(name, move || {
            let body = || {
                while !stopping.load(Ordering::Acquire) {
                    let deadline = step(&shared);
                    shared.clock.park(signal(&shared, name), deadline);
                }
            };
            if let Err(panic) = catch_unwind(AssertUnwindSafe(body)) {
                shared.health.error(panicked(name, panic.as_ref()));
            }
        })?;
        self.running.lock().push(thread);
        Ok(())
    }
}

fn signal<'a>(shared: &'a BrokerCore, name: &str) -> &'a Signal {
    match name {
        PREPARER => &shared.queue.soon_bell,
        FLUSHER => &shared.queue.flush_bell,
        RETENTION => &shared.retention.signal,
        WATCHER => shared.attached.as_ref().map_or(&shared.timers.signal, |a| &a.watches.signal),
        _ => &shared.timers.signal,
    }
}

fn preparer(shared: &BrokerCore) -> Option<Duration> {
    shared.queue.soon_step();
    if shared.queue.has_retired_internal() {
        shared.retention.signal.ring();
    }
    None
}

fn flusher(shared: &BrokerCore) -> Option<Duration> {
    shared.flush_step(shared.clock.now());
    shared.next_flush()
}

fn retention(shared: &BrokerCore) -> Option<Duration> {
    let now = shared.clock.now();
    shared.retention_step(now);
    shared.cleaner_step(now);
    shared.producers_step(now);
    shared.offsets_step(now);
    shared.transactional_ids_step(now);
    let expiry = earliest(shared.next_offsets_step(), shared.next_transactional_ids_step());
    earliest(shared.next_upkeep(), earliest(shared.next_cleaning(), expiry))
}

fn watcher(shared: &BrokerCore) -> Option<Duration> {
    let watches = &shared.attached.as_ref()?.watches;
    watches.step();
    watches.next_look(shared.clock.monotonic())
}

fn timers(shared: &BrokerCore) -> Option<Duration> {
    let now = shared.clock.now();
    shared.lock_step(now);
    shared.timers.step(now);
    earliest(shared.timers.next_deadline(), shared.next_lock_look())
}

fn panicked(name: &str, panic: &(dyn std::any::Any + Send)) -> Error {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    Error::new(ErrorKind::IllegalState, format!("thread {name} panicked: {text}"))
}
