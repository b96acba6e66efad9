//! The only door to time: clocks, the signal that a blocked call waits on, and the timer queue.
//!
//! A [`Clock`] is the system's, or virtual. A stepping virtual clock is for one thread: waiting
//! runs the due timers and jumps to the next one, or to the deadline. A manual one is for several
//! threads: waiting lasts until the signal rings or another thread advances the clock.
//! State machines never ask a clock; they are given [`Now`].

mod queue;
mod signal;
mod virtual_clock;

pub use queue::{TimerKey, TimerQueue};
pub use signal::Signal;
pub use virtual_clock::VirtualClock;

use crate::sync::{Arc, Mutex, Weak};
use std::fmt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One reading of a clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Now {
    /// Milliseconds since 1970-01-01T00:00:00Z. May jump either way.
    pub wall_ms: i64,
    /// Time since the clock's origin. Never goes back.
    pub mono: Duration,
}

impl Now {
    /// The reading `later` after this one on both scales.
    pub fn plus(self, later: Duration) -> Now {
        let ms = i64::try_from(later.as_millis()).unwrap_or(i64::MAX);
        Now { wall_ms: self.wall_ms.saturating_add(ms), mono: self.mono.saturating_add(later) }
    }
}

/// What runs when time passes: a broker with its timers.
pub trait TimerDriver: Send + Sync {
    /// When the earliest timer is due, on the monotonic scale.
    fn next_deadline(&self) -> Option<Duration>;
    /// Runs everything that is due at `now`. Must move the next deadline past `now.mono`.
    fn run_due(&self, now: Now);
}

/// A source of time, cheap to clone.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use topiclite::time::VirtualClock;
/// let clock = VirtualClock::stepping();
/// let before = clock.now();
/// clock.advance(Duration::from_millis(1500));
/// assert_eq!(clock.now().wall_ms - before.wall_ms, 1500);
/// ```
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    System(Arc<SystemClock>),
    Virtual(Arc<virtual_clock::State>),
}

struct SystemClock {
    origin: Instant,
    drivers: Mutex<Vec<Weak<dyn TimerDriver>>>,
}

impl Clock {
    /// The operating system's clock.
    #[allow(clippy::disallowed_methods)] // The one place that reads it.
    pub fn system() -> Clock {
        Clock(Source::System(Arc::new(SystemClock {
            origin: Instant::now(),
            drivers: Mutex::new(Vec::new()),
        })))
    }

    fn virtual_from(state: Arc<virtual_clock::State>) -> Clock {
        Clock(Source::Virtual(state))
    }

    /// Reads both scales. Costs 20 to 50 ns on the system clock: not for the append path.
    #[allow(clippy::disallowed_methods)] // The one place that reads it.
    pub fn now(&self) -> Now {
        match &self.0 {
            Source::System(system) => {
                let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Now {
                    wall_ms: i64::try_from(wall.as_millis()).unwrap_or(i64::MAX),
                    mono: system.origin.elapsed(),
                }
            }
            Source::Virtual(state) => state.now(),
        }
    }

    /// Reads the monotonic scale.
    pub fn monotonic(&self) -> Duration {
        match &self.0 {
            Source::System(system) => system.origin.elapsed(),
            Source::Virtual(state) => state.now().mono,
        }
    }

    /// Milliseconds since 1970, a few milliseconds late at most: the kernel's coarse clock, which
    /// costs a fifth of an exact reading. For timestamps of records.
    #[inline]
    pub fn coarse_wall_ms(&self) -> i64 {
        match &self.0 {
            Source::System(_) => coarse_wall_ms(),
            Source::Virtual(state) => state.now().wall_ms,
        }
    }

    /// Whether time is simulated; a broker under such a clock starts no thread.
    pub fn is_virtual(&self) -> bool {
        matches!(self.0, Source::Virtual(_))
    }

    /// Waits until `event` rings (true) or the deadline on the monotonic scale passes (false).
    ///
    /// Under a stepping clock this runs the timers that fall due before the deadline. Without a
    /// deadline and without a timer nothing could ever ring there, so it returns false.
    pub fn park(&self, event: &Signal, deadline: Option<Duration>) -> bool {
        match &self.0 {
            Source::System(system) => event.wait(deadline.map(|d| system.origin + d)),
            Source::Virtual(state) => state.park(event, deadline),
        }
    }

    /// Lets time pass: a pause between two attempts, say. Under a stepping clock it takes no time,
    /// and runs the timers that fall due meanwhile.
    pub fn sleep(&self, pause: Duration) {
        let until = self.monotonic().saturating_add(pause);
        let nobody = Signal::new();
        while self.monotonic() < until {
            self.park(&nobody, Some(until));
        }
    }

    /// Makes virtual time run `driver`'s timers. The system clock only keeps the reference; there
    /// the driver runs its own timer thread.
    pub fn register(&self, driver: Weak<dyn TimerDriver>) {
        let drivers = match &self.0 {
            Source::System(system) => &system.drivers,
            Source::Virtual(state) => &state.drivers,
        };
        let mut drivers = drivers.lock();
        drivers.retain(|d| d.strong_count() > 0);
        drivers.push(driver);
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_virtual() { "Clock(virtual)" } else { "Clock(system)" })
    }
}

#[cfg(target_os = "linux")]
fn coarse_wall_ms() -> i64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    time.tv_sec * 1000 + time.tv_nsec / 1_000_000
}

#[cfg(not(target_os = "linux"))]
#[allow(clippy::disallowed_methods)] // The one place that reads it.
fn coarse_wall_ms() -> i64 {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(wall.as_millis()).unwrap_or(i64::MAX)
}
