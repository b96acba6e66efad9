//! Interrupting a consumer from another thread.

use crate::sync::{Arc, AtomicBool, Ordering};
use crate::time::Signal;

/// Interrupts a consumer: the blocked call, or else the next one that could block, fails with
/// [`ErrorKind::Wakeup`](crate::ErrorKind::Wakeup). One wakeup makes one error; several before
/// that error count as one.
///
/// # Examples
/// ```no_run
/// # use std::time::Duration;
/// # use topiclite::{Broker, ConsumerConfig, ErrorKind};
/// # let broker = Broker::in_memory()?;
/// let mut consumer = broker.consumer(ConsumerConfig::new("billing"))?;
/// let wakeup = consumer.wakeup_handle();
/// std::thread::spawn(move || wakeup.wakeup());
/// consumer.subscribe(&["orders"])?;
/// while let Ok(records) = consumer.poll(Duration::from_secs(1)) {
///     // process them
/// }
/// consumer.close()?;
/// # Ok::<(), topiclite::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct WakeupHandle(Arc<Wakeup>);

impl WakeupHandle {
    /// Wakes the consumer. Never fails, also when the consumer is closed.
    pub fn wakeup(&self) {
        // Release: pairs with the Acquire in `Wakeup::take`. The ring orders it for a sleeper.
        self.0.pending.store(true, Ordering::Release);
        self.0.signal.ring();
    }
}

/// What a consumer waits on, and whether somebody asked it to stop waiting.
#[derive(Debug)]
pub(crate) struct Wakeup {
    pending: AtomicBool,
    silent: AtomicBool,
    signal: Arc<Signal>,
}

impl Wakeup {
    pub fn new() -> Arc<Wakeup> {
        Arc::new(Wakeup {
            pending: AtomicBool::new(false),
            silent: AtomicBool::new(false),
            signal: Arc::new(Signal::new()),
        })
    }

    pub fn signal(&self) -> &Arc<Signal> {
        &self.signal
    }

    pub fn handle(self: &Arc<Wakeup>) -> WakeupHandle {
        WakeupHandle(self.clone())
    }

    /// Wakeups have no effect from here on.
    pub fn silence(&self) {
        self.silent.store(true, Ordering::Release);
    }

    /// Takes a pending wakeup.
    pub fn take(&self) -> bool {
        self.pending.load(Ordering::Acquire)
            && self.pending.swap(false, Ordering::AcqRel)
            && !self.silent.load(Ordering::Acquire)
    }
}
