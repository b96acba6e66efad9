//! What happened, in order, each with its virtual time.

use crate::events::Event;
use crate::sync::{Arc, Mutex};
use crate::time::Now;
use std::fmt;
use std::time::Duration;

/// One line of a [`Journal`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    now: Now,
    event: Event,
}

impl Entry {
    /// How long after the start of virtual time.
    pub fn elapsed(&self) -> Duration {
        self.now.mono
    }

    /// Virtual wall time, in milliseconds since 1970.
    pub fn wall_ms(&self) -> i64 {
        self.now.wall_ms
    }

    /// What happened.
    pub fn event(&self) -> &Event {
        &self.event
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:10.3}s  {}", self.now.mono.as_secs_f64(), self.event)
    }
}

/// The journal of a [`TestBroker`](super::TestBroker), over all its lives. Clones are the same
/// journal.
///
/// Its [`Display`](fmt::Display) is one line an entry, made to be read in the output of a test
/// that failed.
///
/// # Examples
/// ```
/// use topiclite::testing::{Event, TestBroker};
/// use topiclite::{ProducerConfig, ProducerRecord, TopicConfig};
///
/// let test = TestBroker::new()?;
/// test.admin().create_topic("orders", 1, TopicConfig::default())?;
/// let producer = test.producer(ProducerConfig::default())?;
/// producer.send_sync(ProducerRecord::new("orders").value("one tea"))?;
/// assert_eq!(
///     test.journal().lines(),
///     ["opened", "created orders with 1 partitions", "append orders-0 at 0"]
/// );
/// assert_eq!(test.journal().count(|event| matches!(event, Event::Appended { .. })), 1);
/// # Ok::<(), topiclite::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Journal(Arc<Mutex<Vec<Entry>>>);

impl Journal {
    pub(super) fn note(&self, now: Now, event: Event) {
        self.0.lock().push(Entry { now, event });
    }

    /// Every entry so far.
    pub fn entries(&self) -> Vec<Entry> {
        self.0.lock().clone()
    }

    /// Every event so far, without its time.
    pub fn events(&self) -> Vec<Event> {
        self.0.lock().iter().map(|entry| entry.event.clone()).collect()
    }

    /// Every event so far as a line of text, without its time.
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().iter().map(|entry| entry.event.to_string()).collect()
    }

    /// How many events `wanted` is true of.
    pub fn count(&self, wanted: impl Fn(&Event) -> bool) -> usize {
        self.0.lock().iter().filter(|entry| wanted(&entry.event)).count()
    }

    /// The first entry that `wanted` is true of.
    pub fn find(&self, wanted: impl Fn(&Event) -> bool) -> Option<Entry> {
        self.0.lock().iter().find(|entry| wanted(&entry.event)).cloned()
    }

    /// Takes all entries out: what is looked at next is what happens next.
    pub fn take(&self) -> Vec<Entry> {
        std::mem::take(&mut *self.0.lock())
    }

    /// Demands that lines with these texts in them follow one another in this order. Other lines
    /// may stand between them.
    ///
    /// # Panics
    /// Where one is missing: with that text, and the whole journal.
    #[track_caller]
    pub fn assert_in_order(&self, texts: &[&str]) {
        let lines = self.lines();
        let mut rest = lines.iter();
        for text in texts {
            assert!(
                rest.any(|line| line.contains(text)),
                "the journal has no line {text:?} at its place in {texts:?}:\n{self}"
            );
        }
    }

    /// Demands that no line has this text in it.
    ///
    /// # Panics
    /// With the whole journal, if one has.
    #[track_caller]
    pub fn assert_nowhere(&self, text: &str) {
        let found = self.lines().iter().any(|line| line.contains(text));
        assert!(!found, "the journal has a line {text:?}:\n{self}");
    }
}

impl fmt::Display for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for entry in self.0.lock().iter() {
            writeln!(f, "{entry}")?;
        }
        Ok(())
    }
}
