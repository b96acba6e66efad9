//! The directory that a command works on: a typo in its name is told, and makes nothing.

use crate::args::Options;
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use std::path::Path;
use topiclite::{Broker, Error, ErrorKind, Result, TopicPartition};

/// Warnings told by one command; more of them are counted.
const WARNINGS_SHOWN: usize = 20;

/// Files that Apache Kafka or this crate puts into its data directory.
const NAMES: &[&str] = &[
    "topiclite.registry",
    "topiclite.state",
    ".lock",
    ".kafka_cleanshutdown",
    "meta.properties",
    "cleaner-offset-checkpoint",
    "log-start-offset-checkpoint",
    "recovery-point-offset-checkpoint",
    "replication-offset-checkpoint",
];

impl Options {
    /// Opens the directory for writing. It has to be there.
    pub fn open(&self) -> Outcome<Broker> {
        let dir = self.present()?;
        Ok(Broker::open(dir)?)
    }

    /// Opens the directory for writing, and makes it if there is none.
    pub fn open_or_make(&self) -> Outcome<Broker> {
        Ok(Broker::open(self.dir()?)?)
    }

    /// Attaches to the directory for reading. It has to be there.
    pub fn attach(&self) -> Outcome<Broker> {
        let dir = self.present()?;
        Ok(Broker::attach(dir)?)
    }

    /// Attaches to the directory, does something with it, and says what was found in what was read.
    pub fn reading<T>(
        &self,
        output: &Output,
        body: impl FnOnce(&Broker) -> Outcome<T>,
    ) -> Outcome<T> {
        let broker = self.attach()?;
        let done = body(&broker);
        tell(&broker, output);
        done
    }

    /// The directory that was named.
    pub fn dir(&self) -> Outcome<&Path> {
        self.dir.as_deref().ok_or_else(|| {
            Failure::Usage("no directory given; use --dir DIR or set TOPICLITE_DIR".into())
        })
    }

    /// The directory that was named, if it holds what Kafka or this crate writes.
    pub fn present(&self) -> Outcome<&Path> {
        let dir = self.dir()?;
        let advice = "look at --dir, or make a topic there with `topiclite topics create`";
        match holds_data(dir) {
            Ok(true) => Ok(dir),
            Ok(false) => {
                let message = format!("it holds no files of Kafka or Topiclite; {advice}");
                Err(Failure::NoDirectory(Error::new(ErrorKind::Io, message).with_path(dir)))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let message = format!("there is no such directory; {advice}");
                let error = Error::new(ErrorKind::Io, message).with_path(dir).with_source(error);
                Err(Failure::NoDirectory(error))
            }
            Err(error) => Err(Error::io(error, "cannot list the directory", dir).into()),
        }
    }
}

/// Closes a directory that was opened for writing, and says what was found or set right in it.
pub fn close(broker: &Broker, output: &Output) -> Result<()> {
    let closed = broker.close();
    tell(broker, output);
    closed
}

/// Why what one of the broker's own topics keeps may be missing, or older than it was.
pub fn damage_of(broker: &Broker, topic: &str) -> Option<Error> {
    let health = broker.health();
    let mut failed = health.failed_partitions();
    failed.find(|(place, _)| place.topic() == topic).map(|(_, error)| error.clone())
}

/// Says what was found in a directory.
fn tell(broker: &Broker, output: &Output) {
    let health = broker.health();
    for warning in health.warnings().take(WARNINGS_SHOWN) {
        output.note(warning);
    }
    let rest = health.warning_count().saturating_sub(WARNINGS_SHOWN as u64);
    if rest > 0 {
        output.note(&format!("and {rest} more of that kind"));
    }
}

/// Whether there is a file by one of the names, or a partition's folder.
fn holds_data(dir: &Path) -> std::io::Result<bool> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if NAMES.contains(&name) || (is_partition(name) && holds_log(&entry.path())) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_partition(name: &str) -> bool {
    TopicPartition::parse(name).is_some()
}

/// Whether the folder has a segment or says which topic it belongs to.
fn holds_log(folder: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    entries.flatten().any(|entry| {
        let path = entry.path();
        path.extension().is_some_and(|ending| ending == "log")
            || path.file_name().is_some_and(|name| name == "partition.metadata")
    })
}
