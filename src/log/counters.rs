//! Counts of what logs do beside appending and reading. Shared by all logs of a broker.
//!
//! Nothing here is touched on the path of a plain append or read: counts that belong to it are
//! worked out from the borders.

use crate::sync::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Running totals since the broker was opened.
        #[derive(Debug)]
        pub(crate) struct LogCounters {
            $($(#[$doc])* pub $name: Counter,)*
        }

        impl Default for LogCounters {
            fn default() -> LogCounters {
                LogCounters {
                    $($name: Counter::new(concat!("topiclite_log_", stringify!($name), "_total")),)*
                }
            }
        }

        impl LogCounters {
            /// Every counter by name, for health reports and metrics.
            pub fn all(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.total()),)*]
            }
        }
    };
}

counters! {
    /// Segments closed because the next batch did not belong into them.
    rolls,
    /// Retired segments cut, synced and indexed.
    seals,
    /// Syncs of segment files.
    syncs,
    /// Syncs that failed. Each made a partition read-only.
    sync_failures,
    /// Growth steps that a writer took itself, because none was prepared.
    writer_steps,
    /// Growth steps that were taken ahead of a writer.
    prepared_steps,
    /// Segments that retention, or a deletion of records, removed.
    segments_deleted,
    /// Bytes in those segments.
    bytes_deleted,
    /// Rounds of cleaning that came to their end.
    cleanings,
    /// Rounds that failed.
    cleaner_failures,
    /// Bytes of batches that rounds read to write them anew.
    cleaner_bytes_read,
    /// Bytes of what they wrote.
    cleaner_bytes_written,
    /// Records that they left out.
    cleaner_records_removed,
    /// Batches whose stored bytes were found damaged by a read.
    corrupt_batches,
    /// Index files that did not fit their segment and were built anew.
    index_rebuilds,
    /// Bytes behind a log's end that were zeroed before its first append.
    torn_bytes_zeroed,
}

/// One running total.
pub(crate) struct Counter {
    total: AtomicU64,
    /// The same total, as whoever collects metrics has it.
    collected: metrics::Counter,
}

impl Counter {
    fn new(name: &'static str) -> Counter {
        Counter { total: AtomicU64::new(0), collected: crate::meter::of_broker(name) }
    }

    /// Counts one.
    pub fn one(&self) {
        self.add(1);
    }

    /// Counts `n`.
    pub fn add(&self, n: u64) {
        // Relaxed: totals order nothing.
        self.total.fetch_add(n, Ordering::Relaxed);
        self.collected.increment(n);
    }

    /// The total so far.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }
}

impl std::fmt::Debug for Counter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.total().fmt(f)
    }
}
