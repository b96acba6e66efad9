//! A log as a test sees it: what it is told of appends and syncs, and where it may step in.

use crate::error::{Error, Result};
use crate::events::Event;
use crate::log::Log;
use crate::log::append::{AppendOptions, AppendOrigin, Appended};
use crate::probe::Point;
use crate::topic::{TopicPartition, is_internal};

impl Log {
    /// Runs an append under the eyes of a test. A coordinator's appends are made under its lock;
    /// a test steps in before that.
    ///
    /// # Errors
    /// Those of the append, and the test's.
    #[cold]
    pub(super) fn append_probed(
        &self,
        options: AppendOptions,
        append: impl FnOnce() -> Result<Appended>,
    ) -> Result<Appended> {
        if options.origin == AppendOrigin::Coordinator {
            return append();
        }
        let probe = &self.env.probe;
        let point = Point::Append { topic: &self.id.topic, partition: self.id.partition };
        let outcome = probe.check(point).and_then(|()| append());
        probe.note(|| match &outcome {
            Ok(appended) => Event::Appended {
                partition: self.topic_partition(),
                first_offset: appended.base_offset,
                last_offset: appended.last_offset,
            },
            Err(error) => {
                Event::AppendFailed { partition: self.topic_partition(), error: error.kind() }
            }
        });
        if outcome.is_ok() {
            let lost = |error: Error| self.at_home(error).with_possibly_written();
            probe.reply(point).map_err(lost)?;
        }
        outcome.map_err(|error| self.at_home(error))
    }

    /// Where a test may hold a sync up, before anybody leads it. Not those of the broker's own
    /// topics: offsets are settled under the coordinator's lock.
    ///
    /// # Errors
    /// The test's.
    #[inline]
    pub(super) fn pause_sync(&self, upto: i64) -> Result<()> {
        let probed = self.env.probe.is_on() && !is_internal(&self.id.topic);
        match probed && self.commit.durable() < upto {
            true => self.env.probe.pause(self.sync_point()),
            false => Ok(()),
        }
    }

    /// Whether a test holds syncs of this log up at present.
    pub fn is_sync_held(&self) -> bool {
        self.env.probe.is_on() && self.env.probe.is_held(self.sync_point())
    }

    /// Where a test may fail a sync.
    ///
    /// # Errors
    /// The test's.
    pub(super) fn check_sync(&self) -> Result<()> {
        self.env.probe.check(self.sync_point())
    }

    pub(super) fn note_sync(&self, outcome: &Result<i64>) {
        if is_internal(&self.id.topic) {
            return;
        }
        self.env.probe.note(|| match outcome {
            Ok(upto) => Event::Synced { partition: self.topic_partition(), upto: *upto },
            Err(error) => {
                Event::SyncFailed { partition: self.topic_partition(), error: error.kind() }
            }
        });
    }

    fn sync_point(&self) -> Point<'_> {
        Point::Sync { topic: &self.id.topic, partition: self.id.partition }
    }

    fn topic_partition(&self) -> TopicPartition {
        TopicPartition::new(self.id.topic.clone(), self.id.partition)
    }
}
