//! The producers of a partition that somebody else owns.

use crate::error::Result;
use crate::log::attached::AttachedLog;
use crate::log::load::producers::KnownLog;
use crate::log::producers::entries::ProducerEntries;
use crate::log::producers::snapshot::SnapshotRow;

impl AttachedLog {
    /// The producers, by id, as the files tell of them at this moment: nothing is kept for a second
    /// look.
    ///
    /// # Errors
    /// Those of opening; [`CorruptRecord`](crate::ErrorKind::CorruptRecord) where a batch that
    /// would tell cannot be read.
    pub fn producers(&self, now_ms: i64, expiration_ms: i64) -> Result<Vec<SnapshotRow>> {
        let opened = self.open_recorded()?;
        self.check_identity()?;
        let mut entries = match &opened.producers {
            Some(producers) => producers.clone(),
            None if !opened.any_producer => ProducerEntries::default(),
            None => {
                let segments: Vec<_> =
                    opened.segments.iter().map(|found| (found.state, found.path.clone())).collect();
                let (storage, folder) = (&*self.storage, self.folder.as_path());
                let end_snapshot = opened.end_snapshot;
                let known = KnownLog { storage, folder, segments: &segments, end_snapshot };
                known.producers().map_err(|error| self.here(error))?.0
            }
        };
        entries.expire(now_ms, expiration_ms, &opened.transactions);
        Ok(entries.rows(&opened.transactions.open()))
    }
}
