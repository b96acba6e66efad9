//! Getting rid of the folders of deleted topics.
//!
//! The registry says that a topic is gone before its folders are, and keeps it as pending until
//! they are known to be gone, durably. A folder is first renamed to Kafka's `-delete` form with
//! the topic's id in it, then emptied and removed, so that what a crash leaves is known by name. A
//! topic of the same name is made only after the old name is gone durably: so a plain folder
//! never belongs to a deleted topic while a live one has its name.

use crate::broker::meta::registry::{DeletedTopic, Registry};
use crate::error::{Error, Result};
use crate::log::files::names::{FolderName, deleting_folder_name, folder_name};
use crate::storage::Storage;
use crate::sync::Arc;
use crate::topic::TopicId;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

/// The pending deletions of one broker, under the lock of changes of topics.
#[derive(Debug)]
pub(in crate::broker) struct Deletions {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    /// Of these, this process removed the folders; the removal is not synced.
    removed: BTreeSet<TopicId>,
}

impl Deletions {
    pub fn new(storage: Arc<dyn Storage>, dir: &Path) -> Deletions {
        Deletions { storage, dir: dir.to_owned(), removed: BTreeSet::new() }
    }

    /// Removes the folders of a topic that was deleted just now.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io); what is left is removed by a later attempt.
    pub fn remove(&mut self, topic: &DeletedTopic) -> Result<()> {
        for partition in 0..topic.partitions {
            let folder = self.dir.join(folder_name(&topic.name, partition));
            let doomed = deleting_folder_name(&topic.name, partition, id_number(topic.id));
            let doomed = self.dir.join(doomed);
            match self.storage.rename(&folder, &doomed) {
                // It never had a record.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                renamed => renamed.map_err(|e| Error::io(e, "cannot rename", &folder))?,
            }
            self.remove_folder(&doomed)?;
        }
        self.removed.insert(topic.id);
        Ok(())
    }

    /// Finishes the pending deletions of topics called `name`, or all of them, durably. Returns
    /// the ids to be cleared from the registry.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io), and those of [`Registry::confirm`].
    pub fn finish(&mut self, registry: &Registry, name: Option<&str>) -> Result<Vec<TopicId>> {
        let mut pending = registry.deleted();
        pending.retain(|(topic, _)| name.is_none_or(|name| name == &*topic.name));
        if pending.is_empty() {
            return Ok(Vec::new());
        }
        let left: Vec<_> =
            pending.iter().filter(|(topic, _)| !self.removed.contains(&topic.id)).collect();
        if !left.is_empty() {
            // A killed process may have left the deletion to the page cache alone, and a folder
            // must not go before it is certain that its topic does.
            registry.confirm()?;
            self.remove_left(&left)?;
        }
        self.storage
            .sync_dir(&self.dir)
            .map_err(|e| Error::io(e, "cannot sync the directory", &self.dir))?;
        Ok(pending.into_iter().map(|(topic, _)| topic.id).collect())
    }

    /// Removes what a former process left of its deletions.
    fn remove_left(&mut self, left: &[&(DeletedTopic, bool)]) -> Result<()> {
        let entries = self
            .storage
            .list(&self.dir)
            .map_err(|e| Error::io(e, "cannot list the directory", &self.dir))?;
        for (topic, has_heir) in left {
            if !has_heir {
                self.remove(topic)?;
            }
            let ending = deleting_folder_name("t", 0, id_number(topic.id));
            let ending = ending.trim_start_matches("t-0");
            for entry in
                entries.iter().filter(|e| (e.is_dir || e.is_link) && e.name.ends_with(ending))
            {
                if matches!(FolderName::parse(&entry.name), Some(FolderName::Deleting(_))) {
                    self.remove_folder(&self.dir.join(&entry.name))?;
                }
            }
        }
        Ok(())
    }

    /// Removes a folder with everything in it. Partitions have no folders inside. A link in its
    /// place goes itself, and what it leads to stays: that is not ours.
    fn remove_folder(&self, folder: &Path) -> Result<()> {
        let gone = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(Error::io(error, "cannot remove", folder)),
        };
        match self.storage.metadata(folder) {
            Ok(found) if found.is_link => return self.storage.remove(folder).or_else(gone),
            Ok(_) => {}
            Err(error) => return gone(error),
        }
        let entries = match self.storage.list(folder) {
            Ok(entries) => entries,
            Err(error) => return gone(error),
        };
        for entry in entries {
            self.storage.remove(&folder.join(&entry.name)).or_else(gone)?;
        }
        self.storage.remove_dir(folder).or_else(gone)
    }
}

fn id_number(id: TopicId) -> u128 {
    u128::from_be_bytes(id.0)
}
