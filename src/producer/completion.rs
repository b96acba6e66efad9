//! Telling callers what became of their records: syncs that answers wait for, callbacks, waiters.
//!
//! Completions stand in one line for each producer, in the order of the appends, and one thread
//! at a time works it off with no lock held. So callbacks run in the order of the sends, and
//! whoever waits for a record goes on after its callbacks.

use super::ProducerCore;
use super::batch::{Batch, Callback, PartitionQueue};
use super::future::{BatchResult, Outcome};
use super::record::ProducerRecord;
use crate::error::{Error, ErrorKind};
use crate::sync::{Arc, AtomicBool, Mutex, Ordering};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// What became of the records that were appended, or refused, together.
pub(super) struct Completion {
    pub queue: Arc<PartitionQueue>,
    pub outcomes: Vec<Outcome>,
    pub callbacks: Vec<(usize, Callback)>,
    /// The log end that has to be durable before the outcomes hold.
    pub sync: Option<i64>,
    pub records: Records,
    pub flight: Arc<BatchResult>,
}

/// The records of a completion, for the case that the sync fails.
pub(super) enum Records {
    None,
    One(Box<ProducerRecord<'static>>),
    Batch(Batch),
}

/// The line.
#[derive(Default)]
pub(super) struct CompletionQueue {
    state: Mutex<LineState>,
    /// A sync was asked for and has not begun.
    sync_asked: AtomicBool,
}

#[derive(Default)]
struct LineState {
    queue: VecDeque<Completion>,
    running: bool,
}

thread_local! {
    /// The producers whose callbacks this thread is inside of.
    static INSIDE: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// This thread works off the line of one producer.
pub(super) struct Turn<'a> {
    line: &'a CompletionQueue,
    nested: bool,
}

impl<'a> Turn<'a> {
    fn enter(line: &'a CompletionQueue, nested: bool) -> Turn<'a> {
        INSIDE.with_borrow_mut(|inside| inside.push(line.id()));
        Turn { line, nested }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        INSIDE.with_borrow_mut(|inside| inside.pop());
        if !self.nested {
            self.line.state.lock().running = false;
        }
    }
}

impl CompletionQueue {
    fn id(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Whether this thread is inside a callback of the producer.
    pub fn is_inside(&self) -> bool {
        INSIDE.with_borrow(|inside| inside.contains(&self.id()))
    }

    /// Adds a completion. Called under the lane's lock, which gives the order.
    pub fn push(&self, completion: Completion) {
        self.state.lock().queue.push_back(completion);
    }

    /// Takes the turn if nobody has it and nobody waits in line.
    pub fn enter_idle(&self) -> Option<Turn<'_>> {
        let mut state = self.state.lock();
        if state.running || !state.queue.is_empty() {
            return None;
        }
        state.running = true;
        drop(state);
        Some(Turn::enter(self, false))
    }

    /// `nested`: inside a callback the turn is taken a second time.
    fn enter(&self, nested: bool) -> Option<Turn<'_>> {
        if self.is_inside() {
            return nested.then(|| Turn::enter(self, true));
        }
        let mut state = self.state.lock();
        if state.running || state.queue.is_empty() {
            return None;
        }
        state.running = true;
        drop(state);
        Some(Turn::enter(self, false))
    }

    /// The first in line, unless it waits for a sync and `may_sync` is false.
    fn next(&self, may_sync: bool) -> Next {
        let mut state = self.state.lock();
        match state.queue.front() {
            None => Next::Empty,
            Some(first) if !may_sync && first.waits() => Next::WaitsForSync,
            Some(_) => state.queue.pop_front().map_or(Next::Empty, |c| Next::One(Box::new(c))),
        }
    }

    fn is_empty(&self) -> bool {
        self.state.lock().queue.is_empty()
    }

    /// Takes everybody out of the line.
    pub fn take_all(&self) -> VecDeque<Completion> {
        std::mem::take(&mut self.state.lock().queue)
    }
}

enum Next {
    One(Box<Completion>),
    WaitsForSync,
    Empty,
}

impl Completion {
    /// Whether its answer needs a sync that did not happen yet.
    pub fn waits(&self) -> bool {
        self.sync.is_some_and(|upto| !self.queue.is_durable(upto))
    }

    /// Syncs, calls back, lets waiters go. A callback's panic is passed on at the end.
    pub fn complete(mut self) {
        if let Some(upto) = self.sync.take()
            && let Err(error) = self.queue.log.make_durable(upto)
        {
            if let Some(producer) = self.flight.producer() {
                producer.fail_transaction(&error);
            }
            self.fail(error.with_possibly_written());
        }
        let mut panic = None;
        for (index, callback) in std::mem::take(&mut self.callbacks) {
            if let Some(outcome) = self.outcomes.get(index)
                && let Err(caught) = catch_unwind(AssertUnwindSafe(|| callback(outcome)))
            {
                panic.get_or_insert(caught);
            }
        }
        // Dropping it lets the waiters go.
        drop(self);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    fn fail(&mut self, error: Error) {
        match std::mem::replace(&mut self.records, Records::None) {
            Records::Batch(batch) => self.outcomes = batch.all_failed(&self.queue, &error),
            Records::One(record) => self.outcomes = vec![Err(error.losing(*record))],
            Records::None => {}
        }
    }
}

impl Drop for Completion {
    /// Whatever happens to it, nobody waits for ever.
    fn drop(&mut self) {
        if self.sync.is_some() {
            let message = "the broker ended before the sync that the answer waits for";
            self.fail(Error::new(ErrorKind::Closed, message).with_possibly_written());
        }
        self.flight.finish(std::mem::take(&mut self.outcomes));
    }
}

impl ProducerCore {
    /// Works off the line as far as it goes. With `may_sync` this thread leads, or joins, the
    /// syncs that answers wait for; without, they are left to the broker's flusher.
    /// Inside a callback this does nothing: whoever called it goes on behind it.
    pub(super) fn run_completions(self: &Arc<Self>, may_sync: bool) {
        self.work_off(may_sync, false);
    }

    /// The same. With `nested` it works inside a callback too, where the callback waits for a
    /// record behind its own (the Java client would wait for ever). A callback that panics ends
    /// nobody else's: its panic goes on behind the line.
    pub(super) fn work_off(self: &Arc<Self>, may_sync: bool, nested: bool) {
        let may_sync = may_sync || self.clock().is_virtual();
        let mut panic = None;
        while let Some(turn) = self.line.enter(nested) {
            let waits_for_sync = loop {
                match self.line.next(may_sync) {
                    Next::One(completion) => {
                        let told = catch_unwind(AssertUnwindSafe(|| completion.complete()));
                        panic = panic.or(told.err());
                    }
                    Next::Empty => break false,
                    Next::WaitsForSync => break true,
                }
            };
            drop(turn);
            if waits_for_sync {
                // Behind the turn: a flusher that finds it taken goes away.
                self.ask_for_sync();
                break;
            }
            // Whoever pushed after the last look, and before the turn was given back, saw it taken.
            if self.line.is_empty() {
                break;
            }
        }
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    /// Works off the line on a thread of the broker's, which a callback that panics does not end:
    /// other producers depend on it.
    pub(super) fn run_completions_for_others(self: &Arc<Self>, may_sync: bool) {
        self.contain(|| self.run_completions(may_sync));
    }

    /// Runs callbacks where nobody is who could be told of a panic; it is a warning.
    pub(super) fn contain(&self, callbacks: impl FnOnce()) {
        let Err(panic) = catch_unwind(AssertUnwindSafe(callbacks)) else { return };
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        self.broker.warn_once(format!(
            "a callback of producer {} panicked: {}",
            self.client_id,
            text.as_deref().unwrap_or("no message")
        ));
    }

    /// Works off the rest of the line, behind a completion that was told directly.
    pub(super) fn end_turn(self: &Arc<Self>, turn: Turn<'_>) {
        drop(turn);
        if !self.line.is_empty() {
            self.run_completions(false);
        }
    }

    /// Has the flusher's thread work off the line, syncs included.
    pub(super) fn ask_for_sync(self: &Arc<Self>) {
        if self.line.sync_asked.swap(true, Ordering::AcqRel) {
            return;
        }
        // The task keeps the producer: an answer that was promised is given.
        let producer = self.clone();
        self.broker.call_flusher(Box::new(move || {
            producer.line.sync_asked.store(false, Ordering::Release);
            producer.run_completions_for_others(true);
        }));
    }
}
