//! The state file: what is known about each partition without opening its folder, which life of
//! the directory this is, and how the last one ended. A journal whose entries say what changed, so
//! that writing costs what changed and not how many partitions there are.
//!
//! Nothing in it is needed to read the records: a directory without it, or with one that the files
//! contradict, is adopted. Layout in `docs/format.md`, "topiclite.state".

use super::codec::{Decoder, Encoder};
use super::journal::{Contents, Journal, JournalKind};
use super::state_codec::{decode_state, encode_state};
use crate::error::Result;
use crate::log::state::LogState;
use crate::storage::Storage;
use crate::sync::Arc;
use crate::topic::TopicId;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The file's name in the data directory.
pub(super) const STATE_FILE: &str = "topiclite.state";

const LIFE: u8 = 1;
const PARTITION: u8 = 2;
const FORGET: u8 = 3;
const CLEAN: u8 = 4;
const UNREAD: u8 = 5;

/// One partition by its topic's id: a topic made again under the same name is another one.
pub(super) type PartitionKey = (TopicId, i32);

/// A life of the directory: from its first append to its close.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Life {
    /// Stamped as leader epoch into every batch of this life. The first one is 0.
    pub incarnation: i32,
    /// The boot of the machine in which it began; empty when unknown.
    pub boot_id: String,
}

/// What the entries lead to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct StateImage {
    /// The latest life; `None` before the first append ever.
    pub life: Option<Life>,
    /// The latest life ended with a clean close, which left this text in the clean mark, or no
    /// mark at all.
    pub clean: Option<Option<String>>,
    pub partitions: BTreeMap<PartitionKey, Arc<LogState>>,
    /// Partitions that another program wrote and that could not be read so far.
    pub unread: BTreeSet<PartitionKey>,
}

/// What the file was found to hold.
#[derive(Debug)]
pub(super) enum StateFound {
    Missing,
    Damaged(String),
    Image,
}

/// The open file and what it says.
#[derive(Debug)]
pub(super) struct StateFile {
    journal: Journal,
    pub image: StateImage,
}

impl StateFile {
    /// Reads the file in `dir`. Writes nothing. The image of a missing or damaged file is empty.
    ///
    /// # Errors
    /// Those of [`Journal::load`].
    pub fn load(storage: Arc<dyn Storage>, dir: &Path) -> Result<(StateFile, StateFound)> {
        let path = dir.join(STATE_FILE);
        let (journal, contents) = Journal::load(storage, path, JournalKind::State)?;
        let mut image = StateImage::default();
        let found = match contents {
            Contents::Missing => StateFound::Missing,
            Contents::Damaged(why) => StateFound::Damaged(why),
            Contents::Frames(frames) => match StateImage::from_frames(&frames) {
                Some(found) => {
                    image = found;
                    StateFound::Image
                }
                None => StateFound::Damaged("an entry makes no sense".to_owned()),
            },
        };
        Ok((StateFile { journal, image }, found))
    }

    /// Begins a life, durably: its incarnation is never used again.
    ///
    /// # Errors
    /// Those of [`Journal::append`]; the image is unchanged then.
    pub fn begin(&mut self, life: Life) -> Result<()> {
        let mut out = Encoder::new();
        encode_life(&life, &mut out);
        self.append(&out.bytes(), |image| {
            image.life = Some(life);
            image.clean = None;
        })
    }

    /// Begins the first life of a directory that another program wrote: what was known of it
    /// before is replaced by what adoption found, in one step.
    ///
    /// # Errors
    /// Those of [`Journal::replace_with`]; the image is unchanged then.
    pub fn begin_adopted(
        &mut self,
        life: Life,
        states: &[(PartitionKey, LogState)],
        unread: &[PartitionKey],
    ) -> Result<()> {
        let mut unread: BTreeSet<PartitionKey> = unread.iter().copied().collect();
        unread.extend(states.iter().filter(|(_, state)| state.suspect).map(|(key, _)| *key));
        let settled = |state: &LogState| Arc::new(LogState { suspect: false, ..state.clone() });
        let partitions = states.iter().map(|(key, state)| (*key, settled(state)));
        let partitions = partitions.collect();
        let next = StateImage { life: Some(life), clean: None, partitions, unread };
        self.journal.replace_with(&next.encode())?;
        self.image = next;
        Ok(())
    }

    /// Takes note of a leader epoch above those of our lives.
    ///
    /// # Errors
    /// Those of [`Journal::append`]; the image is unchanged then.
    pub fn raise(&mut self, epoch: i32) -> Result<()> {
        if epoch <= self.image.highest_epoch {
            return Ok(());
        }
        let mut out = Encoder::new();
        out.u8(RAISED);
        out.signed(i64::from(epoch));
        self.append(&out.bytes(), |image| image.highest_epoch = epoch)
    }

    /// Records what changed of partitions and which topics are gone; a call without a difference
    /// writes nothing.
    ///
    /// # Errors
    /// Those of [`Journal::append`]; the image is unchanged then.
    pub fn record(
        &mut self,
        states: Vec<(PartitionKey, LogState)>,
        gone: &[TopicId],
    ) -> Result<()> {
        self.write(states, gone, None)
    }

    /// Records the last states of a life and that it ended in good order, with the text that the
    /// clean mark holds.
    ///
    /// # Errors
    /// Those of [`Journal::append`]; the image is unchanged then.
    pub fn end(
        &mut self,
        states: Vec<(PartitionKey, LogState)>,
        mark: Option<String>,
    ) -> Result<()> {
        self.write(states, &[], Some(mark))
    }

    fn write(
        &mut self,
        mut states: Vec<(PartitionKey, LogState)>,
        gone: &[TopicId],
        clean: Option<Option<String>>,
    ) -> Result<()> {
        let mut suspects = BTreeSet::new();
        for (key, state) in &mut states {
            if std::mem::take(&mut state.suspect) {
                suspects.insert(*key);
            }
        }
        states.retain(|(key, state)| {
            let known = self.image.partitions.get(key).map(|s| &**s) == Some(state);
            !known || suspects.contains(key) != self.image.unread.contains(key)
        });
        let gone: Vec<TopicId> =
            gone.iter().copied().filter(|id| self.image.knows_topic(*id)).collect();
        let mut out = Encoder::new();
        for (key, state) in &states {
            let before = self.image.partitions.get(key).map(|s| &**s);
            encode_partition(*key, before, state, &mut out);
            if suspects.contains(key) {
                encode_unread(*key, &mut out);
            }
        }
        for id in &gone {
            out.u8(FORGET);
            out.fixed(&id.0);
        }
        if let Some(mark) = &clean {
            encode_clean(mark.as_deref(), &mut out);
        }
        if out.is_empty() {
            return Ok(());
        }
        self.append(&out.bytes(), |image| {
            for (key, state) in states {
                match suspects.contains(&key) {
                    true => image.unread.insert(key),
                    false => image.unread.remove(&key),
                };
                image.partitions.insert(key, Arc::new(state));
            }
            for id in gone {
                image.forget(id);
            }
            if clean.is_some() {
                image.clean = clean;
            }
        })
    }

    fn append(&mut self, payload: &[u8], change: impl FnOnce(&mut StateImage)) -> Result<()> {
        if self.journal.replaces(payload.len()) {
            let mut next = self.image.clone();
            change(&mut next);
            self.journal.replace_with(&next.encode())?;
            self.image = next;
            return Ok(());
        }
        self.journal.append_frame(payload)?;
        change(&mut self.image);
        Ok(())
    }
}

impl StateImage {
    fn from_frames(frames: &[Vec<u8>]) -> Option<StateImage> {
        let mut image = StateImage::default();
        for frame in frames {
            let mut input = Decoder::new(frame);
            while !input.is_empty() {
                image.apply(&mut input)?;
            }
        }
        Some(image)
    }

    fn apply(&mut self, input: &mut Decoder<'_>) -> Option<()> {
        match input.u8()? {
            LIFE => {
                let incarnation = input.i32()?;
                let boot_id = input.text()?.to_owned();
                self.life = Some(Life { incarnation, boot_id });
                self.clean = None;
            }
            PARTITION => {
                let key = (TopicId(input.fixed()?), input.i32()?);
                let empty = LogState::default();
                let before = self.partitions.get(&key);
                let state = decode_state(before.map_or(&empty, |s| s), input)?;
                self.unread.remove(&key);
                self.partitions.insert(key, Arc::new(state));
            }
            UNREAD => {
                self.unread.insert((TopicId(input.fixed()?), input.i32()?));
            }
            FORGET => self.forget(TopicId(input.fixed()?)),
            CLEAN => {
                let mark = match input.flag()? {
                    true => Some(input.text()?.to_owned()),
                    false => None,
                };
                self.clean = Some(mark);
            }
            _ => return None,
        }
        Some(())
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        if let Some(life) = &self.life {
            encode_life(life, &mut out);
        }
        for (key, state) in &self.partitions {
            encode_partition(*key, None, state, &mut out);
        }
        self.unread.iter().for_each(|key| encode_unread(*key, &mut out));
        if let Some(mark) = &self.clean {
            encode_clean(mark.as_deref(), &mut out);
        }
        out.bytes()
    }

    fn knows_topic(&self, id: TopicId) -> bool {
        let all = (id, i32::MIN)..=(id, i32::MAX);
        self.partitions.range(all.clone()).next().is_some()
            || self.unread.range(all).next().is_some()
    }

    fn forget(&mut self, id: TopicId) {
        let keys: Vec<PartitionKey> =
            self.partitions.range((id, i32::MIN)..=(id, i32::MAX)).map(|(key, _)| *key).collect();
        for key in keys {
            self.partitions.remove(&key);
        }
        self.unread.retain(|(topic, _)| *topic != id);
    }
}

/// | kind | fields |
/// | --- | --- |
/// | 1 life | signed incarnation, text boot id |
/// | 2 partition | 16 bytes topic id, signed partition, the state against the entry before |
/// | 3 forget | 16 bytes topic id |
/// | 4 clean | flag: a mark was left, then its text |
/// | 5 unread | 16 bytes topic id, signed partition |
fn encode_life(life: &Life, out: &mut Encoder) {
    out.u8(LIFE);
    out.signed(i64::from(life.incarnation));
    out.text(&life.boot_id);
}

fn encode_partition(
    key: PartitionKey,
    before: Option<&LogState>,
    state: &LogState,
    out: &mut Encoder,
) {
    out.u8(PARTITION);
    out.fixed(&key.0.0);
    out.signed(i64::from(key.1));
    encode_state(before.unwrap_or(&LogState::default()), state, out);
}

fn encode_unread(key: PartitionKey, out: &mut Encoder) {
    out.u8(UNREAD);
    out.fixed(&key.0.0);
    out.signed(i64::from(key.1));
}

fn encode_clean(mark: Option<&str>, out: &mut Encoder) {
    out.u8(CLEAN);
    out.flag(mark.is_some());
    if let Some(mark) = mark {
        out.text(mark);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Heap;

    fn open(storage: &Arc<dyn Storage>) -> StateFile {
        StateFile::load(storage.clone(), Path::new("/d")).unwrap().0
    }

    fn storage() -> Arc<dyn Storage> {
        let storage = Heap::new();
        storage.create_dir(Path::new("/d")).unwrap();
        Arc::new(storage)
    }

    fn key(topic: u8, partition: i32) -> PartitionKey {
        (TopicId([topic; 16]), partition)
    }

    fn state(end: i64) -> LogState {
        LogState { log_end_offset: end, recovery_point: end, ..LogState::default() }
    }

    #[test]
    fn a_life_its_partitions_and_its_end_are_read_back() {
        let storage = storage();
        let mut file = open(&storage);
        file.begin(Life { incarnation: 0, boot_id: "b".into() }).unwrap();
        file.record(vec![(key(1, 0), state(5)), (key(2, 3), state(9))], &[]).unwrap();
        file.record(vec![(key(1, 0), state(7))], &[TopicId([2; 16])]).unwrap();
        let seen = open(&storage).image;
        assert_eq!(seen, file.image);
        assert_eq!(seen.clean, None);
        assert_eq!(seen.partitions.len(), 1);
        assert_eq!(seen.partitions[&key(1, 0)].log_end_offset, 7);
        file.end(vec![(key(1, 0), state(8))], Some("mark".into())).unwrap();
        assert_eq!(open(&storage).image.clean, Some(Some("mark".into())));
        let mut file = open(&storage);
        file.begin(Life { incarnation: 1, boot_id: "b".into() }).unwrap();
        assert_eq!(open(&storage).image.clean, None);
        assert_eq!(open(&storage).image.life.unwrap().incarnation, 1);
    }

    #[test]
    fn what_did_not_change_costs_nothing() {
        let storage = storage();
        let mut file = open(&storage);
        file.record((0..1000).map(|p| (key(1, p), state(5))).collect(), &[]).unwrap();
        let size = || storage.metadata(&Path::new("/d").join(STATE_FILE)).unwrap().len;
        let before = size();
        file.record((0..1000).map(|p| (key(1, p), state(5))).collect(), &[]).unwrap();
        assert_eq!(size(), before);
        file.record(vec![(key(1, 7), state(6))], &[]).unwrap();
        assert!(size() - before < 64, "{}", size() - before);
    }
}
