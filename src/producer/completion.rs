//! Telling callers what became of their records: syncs that answers wait for, callbacks, waiters.
//!
//! Completions stand in one line for each producer, in the order of the appends, and one thread
//! at a time works it off with no lock held. So callbacks run in the order of the sends, and
//! whoever waits for a record goes on after its callbacks.

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
    pub result: Arc<BatchResult>,
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

    /// Adds a completion. Called under the queue's lock, which gives the order.
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
    pub fn enter(&self, nested: bool) -> Option<Turn<'_>> {
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
    pub fn next(&self, may_sync: bool) -> Next {
        let mut state = self.state.lock();
        match state.queue.front() {
            None => Next::Empty,
            Some(first) if !may_sync && first.waits() => Next::WaitsForSync,
            Some(_) => state.queue.pop_front().map_or(Next::Empty, |c| Next::One(Box::new(c))),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.state.lock().queue.is_empty()
    }

    /// Whether somebody has to ask for a sync: nobody asked for one that has not begun.
    pub fn asks_for_sync(&self) -> bool {
        !self.sync_asked.swap(true, Ordering::AcqRel)
    }

    /// The sync that was asked for begins.
    pub fn begin_sync(&self) {
        self.sync_asked.store(false, Ordering::Release);
    }

    /// Takes everybody out of the line.
    pub fn take_all(&self) -> VecDeque<Completion> {
        std::mem::take(&mut self.state.lock().queue)
    }
}

/// The first in line, if its turn has come.
pub(super) enum Next {
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
            if let Some(producer) = self.result.producer() {
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
        self.result.finish(std::mem::take(&mut self.outcomes));
    }
}
