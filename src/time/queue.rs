//! The timer queue: what falls due when, in order of deadline, then of insertion.

use std::collections::BTreeMap;
use std::time::Duration;

/// Names one entry of a [`TimerQueue`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimerKey {
    deadline: Duration,
    sequence: u64,
}

impl TimerKey {
    /// When the entry is due.
    pub fn deadline(self) -> Duration {
        self.deadline
    }
}

/// Entries of type `T` by deadline. Insertion, removal and the earliest cost O(log n).
#[derive(Debug)]
pub struct TimerQueue<T> {
    entries: BTreeMap<TimerKey, T>,
    next_sequence: u64,
}

impl<T> Default for TimerQueue<T> {
    fn default() -> Self {
        TimerQueue { entries: BTreeMap::new(), next_sequence: 0 }
    }
}

impl<T> TimerQueue<T> {
    /// An empty queue.
    pub fn new() -> TimerQueue<T> {
        TimerQueue::default()
    }

    /// Adds an entry; entries of one deadline come out in the order of their insertion.
    pub fn insert(&mut self, deadline: Duration, entry: T) -> TimerKey {
        let key = TimerKey { deadline, sequence: self.next_sequence };
        self.next_sequence += 1;
        self.entries.insert(key, entry);
        key
    }

    /// Takes an entry out, unless it came out already.
    pub fn cancel(&mut self, key: TimerKey) -> Option<T> {
        self.entries.remove(&key)
    }

    /// The earliest deadline.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.entries.first_key_value().map(|(key, _)| key.deadline)
    }

    /// Takes the earliest entry out if it is due at `mono`.
    pub fn pop_due(&mut self, mono: Duration) -> Option<(TimerKey, T)> {
        let first = self.entries.first_entry()?;
        (first.key().deadline <= mono).then(|| first.remove_entry())
    }

    /// How many entries wait.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_out_by_deadline_then_insertion() {
        let mut queue = TimerQueue::new();
        let ms = Duration::from_millis;
        queue.insert(ms(20), 'c');
        queue.insert(ms(10), 'a');
        queue.insert(ms(10), 'b');
        let gone = queue.insert(ms(15), 'x');
        assert_eq!(queue.cancel(gone), Some('x'));
        assert_eq!(queue.cancel(gone), None);
        assert_eq!(queue.next_deadline(), Some(ms(10)));
        assert_eq!(queue.pop_due(ms(9)).map(|e| e.1), None);
        let due: String = std::iter::from_fn(|| queue.pop_due(ms(20)).map(|e| e.1)).collect();
        assert_eq!(due, "abc");
        assert!(queue.is_empty());
    }
}
