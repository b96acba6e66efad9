//! The signal that a blocked call waits on.

use crate::sync::{AtomicBool, AtomicU32, Mutex, Ordering, fence, spin_loop, thread};
use std::task::Waker;
use std::time::Instant;

/// How often a waiter looks before it sleeps: a few microseconds, enough to catch a writer that is
/// about to publish. On one core spinning would only delay that writer, so it is off there.
const SPINS: u32 = 200;

/// A signal for one waiter: rung by anybody, taken by the one who waits. Ringing twice before it is
/// taken is the same as ringing once.
#[derive(Debug, Default)]
pub struct Signal {
    rung: AtomicBool,
    /// 1 while somebody may be asleep or has left a waker: ringing is one store and one load
    /// otherwise.
    watched: AtomicU32,
    waiter: Mutex<Waiter>,
}

#[derive(Debug, Default)]
struct Waiter {
    thread: Option<thread::Thread>,
    waker: Option<Waker>,
}

impl Signal {
    /// A signal that has not been rung.
    pub fn new() -> Signal {
        Signal::default()
    }

    /// Rings, and wakes the waiter if there is one.
    pub fn ring(&self) {
        // A store would do on any machine. With a swap each ring also lies behind the take of the
        // one before it for loom, which does not order a store behind a swap beside it.
        self.rung.swap(true, Ordering::AcqRel);
        // Pairs with the fence in `announce`: either this sees `watched`, or the waiter sees
        // `rung`.
        fence(Ordering::SeqCst);
        if self.watched.load(Ordering::Relaxed) != 0 {
            let (thread, waker) = {
                let mut waiter = self.waiter.lock();
                (waiter.thread.clone(), waiter.waker.take())
            };
            if let Some(thread) = thread {
                thread.unpark();
            }
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// Whether it was rung and not taken yet.
    pub fn is_rung(&self) -> bool {
        self.rung.load(Ordering::SeqCst)
    }

    /// Takes the ring, if there is one.
    pub fn take(&self) -> bool {
        self.rung.load(Ordering::Relaxed) && self.rung.swap(false, Ordering::SeqCst)
    }

    /// Leaves a waker to be called by the next ring. Returns true if the signal was rung already;
    /// the ring is taken then and the waker is not kept.
    pub fn watch(&self, waker: &Waker) -> bool {
        self.waiter.lock().waker = Some(waker.clone());
        self.announce();
        if self.take() {
            self.waiter.lock().waker = None;
            return true;
        }
        false
    }

    /// Waits for a ring and takes it; false when `until` passed first.
    #[allow(clippy::disallowed_methods)] // Part of the door to time.
    pub(super) fn wait(&self, until: Option<Instant>) -> bool {
        if self.take() {
            return true;
        }
        if thread::parallelism() > 1 {
            for _ in 0..SPINS {
                spin_loop();
                if self.take() {
                    return true;
                }
            }
        }
        self.enter();
        let rang = loop {
            if self.take() {
                break true;
            }
            match until {
                None => thread::park(),
                Some(until) => match until.checked_duration_since(Instant::now()) {
                    Some(left) if !left.is_zero() => thread::park_timeout(left),
                    _ => break false,
                },
            }
        };
        self.leave();
        rang
    }

    /// Says that this thread is going to look at the signal and then park.
    pub(super) fn enter(&self) {
        self.waiter.lock().thread = Some(thread::current());
        self.announce();
    }

    /// Says that somebody is about to look at the signal for the last time before it sleeps.
    fn announce(&self) {
        self.watched.store(1, Ordering::Relaxed);
        // Pairs with the fence in `ring`. A SeqCst store would not do: the look is a load of
        // another variable, which may move before it.
        fence(Ordering::SeqCst);
    }

    /// Ends what `enter` began.
    pub(super) fn leave(&self) {
        let mut waiter = self.waiter.lock();
        waiter.thread = None;
        if waiter.waker.is_none() {
            self.watched.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sync::Arc;

    #[test]
    fn a_ring_before_the_wait_is_not_lost_and_counts_once() {
        let event = Signal::new();
        event.ring();
        event.ring();
        assert!(event.wait(None));
        assert!(!event.take());
    }

    #[test]
    fn a_ring_from_another_thread_ends_the_wait() {
        let event = Arc::new(Signal::new());
        for _ in 0..1000 {
            let signal = event.clone();
            let ringer = thread::spawn_named("ringer", move || signal.ring()).unwrap();
            assert!(event.wait(None));
            ringer.join().unwrap();
        }
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::sync::Arc;

    /// Rings twice, each time behind a step, and waits until both steps are seen. A wait may be
    /// ended by the ring of a step that was seen before: what it left must not end up as the loss
    /// of the second.
    fn two_rings(ring: fn(&Signal)) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(move || {
            let shared = Arc::new((Signal::new(), AtomicU32::new(0)));
            let ringer = {
                let shared = shared.clone();
                let body = move || {
                    for step in 1..=2 {
                        shared.1.store(step, Ordering::Release);
                        ring(&shared.0);
                    }
                };
                thread::spawn_named("ringer", body).unwrap()
            };
            while shared.1.load(Ordering::Acquire) < 2 {
                assert!(shared.0.wait(None), "only a ring ends the wait");
            }
            ringer.join().unwrap();
        });
    }

    #[test]
    fn loom_the_second_of_two_rings_is_not_lost() {
        two_rings(Signal::ring);
    }

    /// The model above would notice a ring that looks for a waiter before it is there to be taken.
    #[test]
    #[should_panic(expected = "deadlock")]
    fn loom_a_ring_that_looks_first_is_noticed() {
        two_rings(|signal| {
            let watched = signal.watched.load(Ordering::SeqCst) != 0;
            signal.rung.swap(true, Ordering::AcqRel);
            if let Some(thread) = signal.waiter.lock().thread.clone().filter(|_| watched) {
                thread.unpark();
            }
        });
    }
}
