//! The first look at a partition, and the proof that its folder is still the one that was opened.

use super::owner::StartingPoint;
use super::{AttachedLog, AttachedView, LISTINGS_MAX};
use crate::error::{Error, ErrorKind, Result};
use crate::log::files::partition_metadata::{PARTITION_METADATA, read_partition_metadata};
use crate::log::finding::{Finding, FindingKind};
use crate::log::load::{OpenOptions, OpenedPartition, open_partition};
use crate::sync::Ordering;

/// Whether the files are not what is recorded of them.
fn is_doubtful(opened: &OpenedPartition) -> bool {
    let contradicted = |found: &Finding| found.kind == FindingKind::StateContradicted;
    opened.read_only.is_some() || opened.findings.iter().any(contradicted)
}

impl AttachedLog {
    pub(super) fn open(&self) -> Result<AttachedView> {
        let mut opened = self.open_recorded()?;
        // An owner that went on since may have removed what is missed.
        for _ in 0..LISTINGS_MAX {
            if !is_doubtful(&opened) || !self.ask_owner() {
                break;
            }
            opened = self.open_recorded()?;
        }
        self.check_identity()?;
        Ok(AttachedView::new(opened, self.views.fetch_add(1, Ordering::Relaxed)))
    }

    pub(super) fn open_recorded(&self) -> Result<OpenedPartition> {
        let StartingPoint { state, trust, log_start_checkpoint, recovery_checkpoint } =
            self.start.lock().clone();
        let options = OpenOptions {
            log_start_checkpoint,
            recovery_checkpoint,
            beside_owner: true,
            ..OpenOptions::default()
        };
        open_partition(&*self.storage, &self.folder, &self.partition, &state, trust, options)
            .map_err(|error| self.here(error))
    }

    /// Fails once the folder is gone or another topic's: what was opened by its path just now may
    /// belong to that. An id never comes back, so a folder that has it now had it before.
    pub(super) fn check_identity(&self) -> Result<()> {
        let (storage, folder) = (&*self.storage, &self.folder);
        let same = match read_partition_metadata(storage, folder) {
            Ok(Some(id)) => {
                self.wanted_id.is_none_or(|wanted| wanted == id)
                    && *self.topic_id.get_or_init(|| id) == id
            }
            // One that said who it is is another one, in the making, where it says nothing.
            Ok(None) => self.topic_id.get().is_none(),
            // Another program's folder need not have a readable one.
            Err(_) => {
                let file = storage.metadata(&folder.join(PARTITION_METADATA));
                let unwritten = file.is_ok_and(|file| file.len == 0);
                let exists = storage.exists(folder);
                self.topic_id.get().is_none()
                    || (exists.map_err(|e| Error::io(e, "looking for", folder))? && !unwritten)
            }
        };
        match same {
            true => Ok(()),
            false => {
                Err(self
                    .here(Error::new(ErrorKind::UnknownTopicOrPartition, "the topic was deleted")))
            }
        }
    }
}
