//! What lingers, over all partitions: when what is due, how much memory it takes, who waits for it.

use super::batch::PartitionQueue;
use super::future::BatchResult;
use crate::broker::BrokerInner;
use crate::sync::{Arc, Mutex, Rank, Weak, ranked_mutex};
use crate::time::{Now, Signal, TimerKey, TimerQueue};
use std::time::Duration;

/// See the module.
pub(super) struct Accumulator(Mutex<AccumulatorState>);

#[derive(Default)]
struct AccumulatorState {
    /// Queues by when their oldest batch is due. An entry that finds nothing due is stale.
    due: TimerQueue<Weak<PartitionQueue>>,
    /// The timer of the broker that is set.
    armed: Option<TimerKey>,
    /// Bytes of `buffer.memory` that open and waiting batches take.
    used: usize,
    /// Sends that wait for memory.
    waiting: Vec<Arc<Signal>>,
    /// Batches that may not be over.
    results: Vec<Weak<BatchResult>>,
}

impl Default for Accumulator {
    fn default() -> Accumulator {
        Accumulator(ranked_mutex(Rank::Accumulator, AccumulatorState::default()))
    }
}

impl Accumulator {
    /// Takes `bytes` of `memory`, if there are so many. If not, `signal` is rung when some are
    /// free.
    pub fn reserve(&self, bytes: usize, memory: usize, signal: Option<&Arc<Signal>>) -> bool {
        let mut state = self.0.lock();
        let fits = state.used.saturating_add(bytes) <= memory;
        if fits {
            state.used += bytes;
        } else if let Some(signal) = signal
            && !state.waiting.iter().any(|known| Arc::ptr_eq(known, signal))
        {
            state.waiting.push(signal.clone());
        }
        fits
    }

    /// Takes back a signal that was to be rung.
    pub fn stop_waiting(&self, signal: &Arc<Signal>) {
        self.0.lock().waiting.retain(|known| !Arc::ptr_eq(known, signal));
    }

    /// Gives memory back, and rings whoever waits for it.
    pub fn release(&self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let waiting = {
            let mut state = self.0.lock();
            state.used = state.used.saturating_sub(bytes);
            std::mem::take(&mut state.waiting)
        };
        waiting.iter().for_each(|signal| signal.ring());
    }

    /// Takes note of a batch that is not over.
    pub fn add_result(&self, result: &Arc<BatchResult>) {
        let mut state = self.0.lock();
        state.results.retain(|result| result.strong_count() > 0);
        state.results.push(Arc::downgrade(result));
    }

    /// Batches that were not over a moment ago.
    pub fn results(&self) -> Vec<Arc<BatchResult>> {
        let state = self.0.lock();
        state.results.iter().filter_map(Weak::upgrade).filter(|result| !result.is_done()).collect()
    }

    /// Has a queue looked at when `due` comes, once the timer is armed.
    pub fn wake_at(&self, due: Duration, queue: &Arc<PartitionQueue>) {
        self.0.lock().due.insert(due, Arc::downgrade(queue));
    }

    /// When something is due next.
    pub fn next_due(&self) -> Option<Duration> {
        self.0.lock().due.next_deadline()
    }

    /// A queue that is due at `mono`.
    pub fn pop_due(&self, mono: Duration) -> Option<Weak<PartitionQueue>> {
        self.0.lock().due.pop_due(mono).map(|(_, queue)| queue)
    }

    /// Sets the broker's timer to the earliest deadline, unless it is set to that or an earlier
    /// one.
    pub fn arm(&self, broker: &BrokerInner, task: impl FnOnce(Now) + Send + 'static) {
        let mut state = self.0.lock();
        let Some(due) = state.due.next_deadline() else { return };
        if let Some(armed) = state.armed {
            if armed.deadline() <= due {
                return;
            }
            broker.cancel(armed);
        }
        state.armed = Some(broker.schedule(due, Box::new(task)));
    }

    /// The timer fired: it is not set any more.
    pub fn note_fired(&self) {
        self.0.lock().armed = None;
    }

    /// Takes the broker's timer back.
    pub fn disarm(&self, broker: &BrokerInner) {
        let armed = self.0.lock().armed.take();
        if let Some(armed) = armed {
            broker.cancel(armed);
        }
    }
}
