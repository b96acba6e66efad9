//! What becomes of partitions whose disk is gone while nobody appends to them: a file system that
//! shut down takes stores into pages that it has in memory, and says so at a sync only. So it is
//! asked once in a flush interval, together with the lock, and no partition acknowledges anything
//! for longer.

use crate::broker::core::{BrokerCore, Owner};
use crate::broker::meta::state_file::STATE_FILE;
use crate::error::{Error, LockLost};
use crate::storage::NotBegun;
use std::io;

impl BrokerCore {
    /// Asks the file system whether it still takes writes, and ends all appends if it does not.
    pub(in crate::broker) fn check_disk(&self, owner: &Owner) {
        if owner.life.incarnation().is_none() {
            return;
        }
        let path = self.dir.join(STATE_FILE);
        // A file system that shut down, or turned read-only after an error, opens nothing for
        // writing; opening writes nothing, and waits for no disk.
        let Err(error) = self.storage.open_cold(&path) else { return };
        let of_the_file = matches!(
            error.kind(),
            io::ErrorKind::NotFound
                | io::ErrorKind::PermissionDenied
                | io::ErrorKind::IsADirectory
                | io::ErrorKind::InvalidInput
                | io::ErrorKind::Interrupted
        );
        if of_the_file || NotBegun::is_in(&error) {
            return;
        }
        // The lock went away since it was looked at: no fault of the disk.
        if LockLost::is_in(&error) {
            return self.check_lock(owner);
        }
        let error = Error::io(error, "the file system takes no writes", &path);
        for topic in self.topics.all() {
            for (_, partition) in topic.opened() {
                if let Ok(log) = partition.log() {
                    log.disk_failed(&error);
                }
            }
        }
    }
}
