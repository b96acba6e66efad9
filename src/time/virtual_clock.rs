//! Time that passes only when it is told to.

use super::{Clock, Now, Signal, TimerDriver};
use crate::sync::{Arc, AtomicU64, Mutex, Ordering, Weak, thread};
use std::time::Duration;

/// 2027-01-01T00:00:00Z, where virtual time starts unless told otherwise.
const DEFAULT_START_MS: i64 = 1_798_761_600_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Stepping,
    Manual,
}

pub(super) struct State {
    mode: Mode,
    start_ms: i64,
    /// Nanoseconds since the origin: 64 bits last 584 years.
    elapsed_ns: AtomicU64,
    pub(super) drivers: Mutex<Vec<Weak<dyn TimerDriver>>>,
    parked: Mutex<Vec<thread::Thread>>,
}

impl State {
    pub(super) fn now(&self) -> Now {
        let ns = self.elapsed_ns.load(Ordering::Acquire);
        let ms = i64::try_from(ns / 1_000_000).unwrap_or(i64::MAX);
        Now { wall_ms: self.start_ms.saturating_add(ms), mono: Duration::from_nanos(ns) }
    }

    fn move_to(&self, mono: Duration) {
        let ns = u64::try_from(mono.as_nanos()).unwrap_or(u64::MAX);
        self.elapsed_ns.fetch_max(ns, Ordering::AcqRel);
    }

    /// The driver whose timer is due first, with that deadline.
    fn earliest(&self) -> Option<(Duration, Arc<dyn TimerDriver>)> {
        let drivers: Vec<_> = self.drivers.lock().iter().filter_map(Weak::upgrade).collect();
        drivers
            .into_iter()
            .filter_map(|driver| driver.next_deadline().map(|deadline| (deadline, driver)))
            .min_by_key(|(deadline, _)| *deadline)
    }

    /// Runs timers up to `mono`, each at its own time, and ends there.
    fn run_to(&self, mono: Duration, stop: impl Fn() -> bool) -> bool {
        loop {
            if stop() {
                return true;
            }
            match self.earliest() {
                Some((deadline, driver)) if deadline <= mono => {
                    self.move_to(deadline);
                    driver.run_due(self.now());
                }
                _ => {
                    self.move_to(mono);
                    return stop();
                }
            }
        }
    }

    pub(super) fn park(&self, event: &Signal, deadline: Option<Duration>) -> bool {
        match self.mode {
            Mode::Stepping => match deadline {
                Some(deadline) => self.run_to(deadline, || event.is_rung()) && event.take(),
                None => loop {
                    if event.take() {
                        return true;
                    }
                    let Some((next, _)) = self.earliest() else { return false };
                    self.run_to(next, || event.is_rung());
                },
            },
            Mode::Manual => self.park_manual(event, deadline),
        }
    }

    fn park_manual(&self, event: &Signal, deadline: Option<Duration>) -> bool {
        let me = thread::current();
        event.enter();
        self.parked.lock().push(me.clone());
        let rang = loop {
            if event.take() {
                break true;
            }
            if deadline.is_some_and(|deadline| self.now().mono >= deadline) {
                break false;
            }
            thread::park();
        };
        self.parked.lock().retain(|thread| thread.id() != me.id());
        event.leave();
        rang
    }

    fn advance(&self, by: Duration) {
        let target = self.now().mono.saturating_add(by);
        self.run_to(target, || false);
        for thread in self.parked.lock().iter() {
            thread.unpark();
        }
    }
}

/// A clock under the program's control.
///
/// `stepping` is for one thread: a call that waits runs the due timers itself and jumps, so that an
/// hour passes in microseconds. `manual` is for several threads: a call that waits does so until
/// its signal rings or some thread calls [`VirtualClock::advance`].
#[derive(Clone)]
pub struct VirtualClock(Arc<State>);

impl VirtualClock {
    fn new(mode: Mode, start_ms: i64) -> VirtualClock {
        VirtualClock(Arc::new(State {
            mode,
            start_ms,
            elapsed_ns: AtomicU64::new(0),
            drivers: Mutex::new(Vec::new()),
            parked: Mutex::new(Vec::new()),
        }))
    }

    /// A clock for one thread, starting at 2027-01-01T00:00:00Z.
    pub fn stepping() -> VirtualClock {
        VirtualClock::new(Mode::Stepping, DEFAULT_START_MS)
    }

    /// A clock for several threads, starting at 2027-01-01T00:00:00Z.
    pub fn manual() -> VirtualClock {
        VirtualClock::new(Mode::Manual, DEFAULT_START_MS)
    }

    /// The same kind of clock with another start, in milliseconds since 1970.
    pub fn starting_at(self, wall_ms: i64) -> VirtualClock {
        VirtualClock::new(self.0.mode, wall_ms)
    }

    /// Whether a call that waits moves the time on by itself.
    #[cfg(feature = "testing")]
    pub(crate) fn is_stepping(&self) -> bool {
        self.0.mode == Mode::Stepping
    }

    /// The handle that a broker takes.
    pub fn clock(&self) -> Clock {
        Clock::virtual_from(self.0.clone())
    }

    /// The present reading.
    pub fn now(&self) -> Now {
        self.0.now()
    }

    /// Lets `by` pass: every timer due meanwhile runs at its own time, on this thread.
    pub fn advance(&self, by: Duration) {
        self.0.advance(by);
    }
}

impl std::fmt::Debug for VirtualClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "VirtualClock({:?} at {:?})", self.0.mode, self.now())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::time::TimerQueue;

    struct Recorder {
        queue: Mutex<TimerQueue<u32>>,
        ran: Mutex<Vec<(Duration, u32)>>,
        event: Arc<Signal>,
        ring_at: u32,
    }

    impl TimerDriver for Recorder {
        fn next_deadline(&self) -> Option<Duration> {
            self.queue.lock().next_deadline()
        }

        fn run_due(&self, now: Now) {
            loop {
                let due = self.queue.lock().pop_due(now.mono);
                let Some((_, n)) = due else { return };
                self.ran.lock().push((now.mono, n));
                if n == self.ring_at {
                    self.event.ring();
                }
            }
        }
    }

    fn recorder(clock: &VirtualClock, ring_at: u32) -> Arc<Recorder> {
        let recorder = Arc::new(Recorder {
            queue: Mutex::new(TimerQueue::new()),
            ran: Mutex::new(Vec::new()),
            event: Arc::new(Signal::new()),
            ring_at,
        });
        for n in [30, 10, 20] {
            recorder.queue.lock().insert(Duration::from_millis(u64::from(n)), n);
        }
        let weak: Weak<dyn TimerDriver> = Arc::downgrade(&(recorder.clone() as Arc<_>));
        clock.clock().register(weak);
        recorder
    }

    #[test]
    fn parking_on_a_stepping_clock_runs_timers_in_order_and_stops_at_the_bell() {
        let clock = VirtualClock::stepping();
        let recorder = recorder(&clock, 20);
        let ms = Duration::from_millis;
        assert!(clock.clock().park(&recorder.event, Some(ms(100))));
        assert_eq!(*recorder.ran.lock(), [(ms(10), 10), (ms(20), 20)]);
        assert_eq!(clock.now().mono, ms(20));
        assert!(!clock.clock().park(&recorder.event, Some(ms(100))));
        assert_eq!(clock.now().mono, ms(100));
        assert!(!clock.clock().park(&recorder.event, None));
    }

    #[test]
    fn advancing_a_manual_clock_wakes_who_waits_for_a_deadline() {
        let clock = VirtualClock::manual();
        let waiter = {
            let clock = clock.clock();
            thread::spawn_named("waiter", move || {
                clock.park(&Signal::new(), Some(Duration::from_millis(50)))
            })
            .unwrap()
        };
        while !waiter.is_finished() {
            clock.advance(Duration::from_millis(10));
        }
        assert!(!waiter.join().unwrap());
        assert!(clock.now().mono >= Duration::from_millis(50));
    }
}
