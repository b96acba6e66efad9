//! The registry: the truth about which topics exist, and which producers have names. A journal of
//! entries, one sync a change.
//!
//! A deleted topic stays in it, as pending, until its folders are known to be gone: that is how a
//! crash between the two steps is finished, and how a folder of the old topic is told from one of
//! a new topic of the same name. Layout in `docs/format.md`, "topiclite.registry".

use crate::broker::meta::codec::{Decoder, Encoder};
use crate::broker::meta::frame::FramedFileKind;
use crate::broker::meta::framed_file::{Contents, FramedFile};
use crate::broker::meta::producer_ids::BLOCK_SIZE;
use crate::error::Result;
use crate::storage::Storage;
use crate::sync::{Arc, Mutex, Rank, ranked_mutex};
use crate::topic::{TopicId, check_topic_name};
use std::collections::BTreeMap;
use std::path::Path;

/// The file's name in the data directory.
pub(in crate::broker) const REGISTRY_FILE: &str = "topiclite.registry";

/// Far above what anybody has; it keeps a damaged count from becoming an allocation.
pub(in crate::broker) const PARTITIONS_MAX: i32 = 1_000_000;

const TOPIC: u8 = 1;
const DELETED: u8 = 2;
const CLEARED: u8 = 3;
const PRODUCER_IDS: u8 = 4;
const PRODUCER: u8 = 16;

/// What is kept of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::broker) struct TopicEntry {
    pub name: Arc<str>,
    pub id: TopicId,
    pub partitions: i32,
    /// It came from a directory that another program wrote.
    pub adopted: bool,
    /// What was set, by Kafka's property names.
    pub config: Vec<(String, String)>,
}

/// A topic whose folders may still be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::broker) struct DeletedTopic {
    pub name: Arc<str>,
    pub id: TopicId,
    pub partitions: i32,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::broker) enum RegistryEntry {
    /// The topic is as given: made, grown or altered.
    Topic(TopicEntry),
    /// The topic is gone; its folders may not be.
    Deleted(DeletedTopic),
    /// The folders of a deleted topic are gone, durably.
    Cleared(TopicId),
    /// All producer ids below it are spoken for.
    ProducerIds(i64),
    /// The producers of that name have that producer id, one after the other.
    Producer { name: Arc<str>, producer_id: i64 },
}

/// The topics and the pending deletions that a sequence of changes leads to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::broker) struct RegistryImage {
    pub topics: BTreeMap<Arc<str>, TopicEntry>,
    pub deleted: BTreeMap<TopicId, DeletedTopic>,
    /// The first producer id that nobody has, as far as it says.
    pub producer_ids: i64,
    /// Producer ids by the names of producers.
    pub producers: BTreeMap<Arc<str>, i64>,
}

/// What the file was found to hold.
#[derive(Debug)]
pub(in crate::broker) enum RegistryFound {
    Missing,
    Damaged(String),
    Image(RegistryImage),
}

/// The open file and what it says. Its lock is held across the sync of a change.
#[derive(Debug)]
pub(in crate::broker) struct Registry(Mutex<RegistryFile>);

#[derive(Debug)]
struct RegistryFile {
    journal: FramedFile,
    image: RegistryImage,
}

impl Registry {
    /// Reads the file in `dir`. Writes nothing. A damaged one is an empty registry whose first
    /// change replaces the file.
    ///
    /// # Errors
    /// Those of [`FramedFile::load`].
    pub fn load(storage: Arc<dyn Storage>, dir: &Path) -> Result<(Registry, RegistryFound)> {
        let path = dir.join(REGISTRY_FILE);
        let (mut journal, contents) = FramedFile::load(storage, path, FramedFileKind::Registry)?;
        let found = match contents {
            Contents::Missing => RegistryFound::Missing,
            Contents::Damaged(why) => RegistryFound::Damaged(why),
            Contents::Frames(frames) => match RegistryImage::from_frames(&frames) {
                Some(image) => RegistryFound::Image(image),
                None => {
                    journal.mark_stale();
                    RegistryFound::Damaged("an entry makes no sense".to_owned())
                }
            },
        };
        let mut image = match &found {
            RegistryFound::Image(image) => image.clone(),
            RegistryFound::Missing | RegistryFound::Damaged(_) => RegistryImage::default(),
        };
        if matches!(found, RegistryFound::Image(_)) && journal.will_replace() {
            // The change that does not check can have reserved a block, and been acknowledged.
            image.producer_ids = image.producer_ids.saturating_add(BLOCK_SIZE);
        }
        Ok((Registry(ranked_mutex(Rank::Registry, RegistryFile { journal, image })), found))
    }

    /// Makes changes durable, all or none, with one sync; then they are part of the image.
    ///
    /// # Errors
    /// Those of [`FramedFile::append`]; the image is unchanged then.
    pub fn write(&self, changes: &[RegistryEntry]) -> Result<()> {
        let held = &mut *self.0.lock();
        let mut out = Encoder::new();
        for change in changes {
            change.encode(&mut out);
        }
        let image = &held.image;
        held.journal.append(&out.bytes(), || image.with(changes).encode())?;
        for change in changes {
            held.image.apply(change.clone());
        }
        Ok(())
    }

    /// Writes the whole image, if the file is not there or must be replaced anyway.
    ///
    /// # Errors
    /// Those of [`FramedFile::replace_with`].
    pub fn settle(&self) -> Result<()> {
        let held = &mut *self.0.lock();
        if held.journal.will_replace() {
            held.journal.replace_with(&held.image.encode())?;
        }
        Ok(())
    }

    /// Makes what was read durable, where a killed process may not have.
    ///
    /// # Errors
    /// Those of [`FramedFile::confirm`].
    pub fn confirm(&self) -> Result<()> {
        self.0.lock().journal.confirm()
    }

    /// Whether the file was found to end in a change that is not whole.
    pub fn is_torn(&self) -> bool {
        self.0.lock().journal.will_replace()
    }

    /// The first producer id that nobody has.
    pub fn unreserved_producer_id(&self) -> i64 {
        self.0.lock().image.producer_ids
    }

    /// What it says.
    pub fn image(&self) -> RegistryImage {
        self.0.lock().image.clone()
    }

    /// The producer id of a name.
    pub fn producer_id(&self, name: &str) -> Option<i64> {
        self.0.lock().image.producers.get(name).copied()
    }

    /// Whether a topic has that id, or had it and its folders may still be there.
    pub fn knows_id(&self, id: TopicId) -> bool {
        let held = self.0.lock();
        held.image.topics.values().any(|topic| topic.id == id)
            || held.image.deleted.contains_key(&id)
    }

    /// The pending deletions, and which of them have a live topic of the same name.
    pub fn deleted(&self) -> Vec<(DeletedTopic, bool)> {
        let held = self.0.lock();
        let live = |topic: &DeletedTopic| held.image.topics.contains_key(&topic.name);
        held.image.deleted.values().map(|topic| (topic.clone(), live(topic))).collect()
    }

    /// Takes over what adoption found, in memory: the next change writes it, or
    /// [`Registry::settle`].
    pub fn adopt(&self, topics: Vec<TopicEntry>) {
        let mut held = self.0.lock();
        held.image.topics = topics.into_iter().map(|topic| (topic.name.clone(), topic)).collect();
        held.journal.mark_stale();
    }
}

impl RegistryImage {
    pub fn from_frames(frames: &[Vec<u8>]) -> Option<RegistryImage> {
        let mut image = RegistryImage::default();
        for frame in frames {
            let mut input = Decoder::new(frame);
            while !input.is_empty() {
                image.apply(RegistryEntry::decode(&mut input)?);
            }
        }
        Some(image)
    }

    fn with(&self, changes: &[RegistryEntry]) -> RegistryImage {
        let mut next = self.clone();
        for change in changes {
            next.apply(change.clone());
        }
        next
    }

    fn apply(&mut self, entry: RegistryEntry) {
        match entry {
            RegistryEntry::Topic(topic) => {
                self.topics.insert(topic.name.clone(), topic);
            }
            RegistryEntry::Deleted(topic) => {
                if self.topics.get(&topic.name).is_some_and(|live| live.id == topic.id) {
                    self.topics.remove(&topic.name);
                }
                self.deleted.insert(topic.id, topic);
            }
            RegistryEntry::Cleared(id) => {
                self.deleted.remove(&id);
            }
            RegistryEntry::ProducerIds(first) => {
                self.producer_ids = self.producer_ids.max(first);
            }
            RegistryEntry::Producer { name, producer_id } => {
                self.producers.insert(name, producer_id);
            }
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        for topic in self.topics.values() {
            RegistryEntry::Topic(topic.clone()).encode(&mut out);
        }
        for topic in self.deleted.values() {
            RegistryEntry::Deleted(topic.clone()).encode(&mut out);
        }
        if self.producer_ids > 0 {
            RegistryEntry::ProducerIds(self.producer_ids).encode(&mut out);
        }
        for (name, &producer_id) in &self.producers {
            RegistryEntry::Producer { name: name.clone(), producer_id }.encode(&mut out);
        }
        out.bytes()
    }
}

impl RegistryEntry {
    /// | kind | fields |
    /// | --- | --- |
    /// | 1 topic | text name, 16 bytes id, signed partitions, flag adopted, count of text pairs |
    /// | 2 deleted | text name, 16 bytes id, signed partitions |
    /// | 3 cleared | 16 bytes id |
    /// | 4 producer ids | signed first id that is not reserved |
    /// | 16 producer | text name, signed producer id |
    fn encode(&self, out: &mut Encoder) {
        match self {
            RegistryEntry::Topic(topic) => {
                out.u8(TOPIC);
                out.text(&topic.name);
                out.fixed(&topic.id.0);
                out.signed(i64::from(topic.partitions));
                out.flag(topic.adopted);
                out.unsigned(topic.config.len() as u64);
                for (key, value) in &topic.config {
                    out.text(key);
                    out.text(value);
                }
            }
            RegistryEntry::Deleted(topic) => {
                out.u8(DELETED);
                out.text(&topic.name);
                out.fixed(&topic.id.0);
                out.signed(i64::from(topic.partitions));
            }
            RegistryEntry::Cleared(id) => {
                out.u8(CLEARED);
                out.fixed(&id.0);
            }
            RegistryEntry::ProducerIds(first) => {
                out.u8(PRODUCER_IDS);
                out.signed(*first);
            }
            RegistryEntry::Producer { name, producer_id } => {
                out.u8(PRODUCER);
                out.text(name);
                out.signed(*producer_id);
            }
        }
    }

    fn decode(input: &mut Decoder<'_>) -> Option<RegistryEntry> {
        match input.u8()? {
            TOPIC => {
                let (name, id, partitions) = decode_topic(input)?;
                let adopted = input.flag()?;
                let count = input.count(2)?;
                let mut config = Vec::with_capacity(count);
                for _ in 0..count {
                    config.push((input.text()?.to_owned(), input.text()?.to_owned()));
                }
                Some(RegistryEntry::Topic(TopicEntry { name, id, partitions, adopted, config }))
            }
            DELETED => {
                let (name, id, partitions) = decode_topic(input)?;
                Some(RegistryEntry::Deleted(DeletedTopic { name, id, partitions }))
            }
            CLEARED => Some(RegistryEntry::Cleared(TopicId(input.fixed()?))),
            PRODUCER_IDS => {
                let first = input.signed()?;
                (first >= 0).then_some(RegistryEntry::ProducerIds(first))
            }
            PRODUCER => {
                let name = Arc::from(input.text()?);
                let producer_id = input.signed().filter(|id| *id >= 0)?;
                Some(RegistryEntry::Producer { name, producer_id })
            }
            _ => None,
        }
    }
}

fn decode_topic(input: &mut Decoder<'_>) -> Option<(Arc<str>, TopicId, i32)> {
    let name = input.text()?;
    check_topic_name(name).ok()?;
    let id = TopicId(input.fixed()?);
    let partitions = input.i32()?;
    (1..=PARTITIONS_MAX).contains(&partitions).then(|| (Arc::from(name), id, partitions))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Heap;

    fn topic(name: &str, id: u8, partitions: i32) -> TopicEntry {
        TopicEntry {
            name: name.into(),
            id: TopicId([id; 16]),
            partitions,
            adopted: false,
            config: vec![("retention.ms".to_owned(), "-1".to_owned())],
        }
    }

    fn gone(name: &str, id: u8) -> DeletedTopic {
        DeletedTopic { name: name.into(), id: TopicId([id; 16]), partitions: 3 }
    }

    #[test]
    fn changes_are_read_back_as_their_outcome() {
        let storage: Arc<dyn Storage> = Arc::new(Heap::new());
        let dir = Path::new("/d");
        storage.create_dir(dir).unwrap();
        let (registry, found) = Registry::load(storage.clone(), dir).unwrap();
        assert!(matches!(found, RegistryFound::Missing));
        registry.write(&[RegistryEntry::Topic(topic("a", 1, 3))]).unwrap();
        registry.write(&[RegistryEntry::Topic(topic("b", 2, 1))]).unwrap();
        registry.write(&[RegistryEntry::Topic(topic("a", 1, 5))]).unwrap();
        registry.write(&[RegistryEntry::Deleted(gone("b", 2))]).unwrap();
        registry.write(&[RegistryEntry::Topic(topic("b", 3, 2))]).unwrap();
        let (again, _) = Registry::load(storage.clone(), dir).unwrap();
        let image = again.image();
        assert_eq!(image, registry.image());
        assert_eq!(image.topics["a"].partitions, 5);
        assert_eq!(image.topics["b"].id, TopicId([3; 16]));
        assert_eq!(again.deleted(), [(gone("b", 2), true)]);
        registry.write(&[RegistryEntry::Cleared(TopicId([2; 16]))]).unwrap();
        let named = RegistryEntry::Producer { name: "importer".into(), producer_id: 4000 };
        registry.write(&[named]).unwrap();
        let (again, _) = Registry::load(storage, dir).unwrap();
        assert!(again.image().deleted.is_empty());
        assert_eq!(again.producer_id("importer"), Some(4000));
        assert_eq!(again.producer_id("another"), None);
        assert_eq!(RegistryImage::from_frames(&[again.image().encode()]), Some(again.image()));
    }

    #[test]
    fn a_late_deletion_does_not_touch_a_newer_topic_of_the_name() {
        let mut image = RegistryImage::default();
        image.apply(RegistryEntry::Topic(topic("a", 2, 1)));
        image.apply(RegistryEntry::Deleted(gone("a", 1)));
        assert!(image.topics.contains_key("a"));
    }

    #[test]
    fn no_bytes_make_the_decoder_panic_or_hang() {
        let mut out = Encoder::new();
        RegistryEntry::Topic(topic("orders", 9, 4)).encode(&mut out);
        RegistryEntry::Deleted(gone("x", 1)).encode(&mut out);
        RegistryEntry::ProducerIds(1 << 40).encode(&mut out);
        RegistryEntry::Producer { name: "p".into(), producer_id: 7 }.encode(&mut out);
        let bytes = out.bytes();
        for at in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bytes = bytes.clone();
                bytes[at] = value;
                // Whatever comes out, it came out.
                drop(RegistryImage::from_frames(&[bytes[..at].to_vec(), bytes.clone()]));
            }
        }
    }
}
