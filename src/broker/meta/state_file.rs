//! The state file: what is known about each partition without opening its folder, which life of
//! the directory this is, and how the last one ended. A journal whose entries say what changed, so
//! that writing costs what changed and not how many partitions there are.
//!
//! Nothing in it is needed to read the records: a directory without it, or with one that the files
//! contradict, is adopted. Layout in `docs/format.md`, "topiclite.state".

use crate::broker::meta::codec::{Decoder, Encoder};
use crate::broker::meta::frame::FramedFileKind;
use crate::broker::meta::framed_file::{Contents, FramedFile};
use crate::broker::meta::state_codec::{decode_state, encode_state};
use crate::error::Result;
use crate::log::segment::state::LogState;
use crate::storage::Storage;
use crate::sync::Arc;
use crate::topic::TopicId;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

/// The file's name in the data directory.
pub(in crate::broker) const STATE_FILE: &str = "topiclite.state";

const LIFE: u8 = 1;
const PARTITION: u8 = 2;
const FORGET: u8 = 3;
const CLEAN: u8 = 4;
const UNREAD: u8 = 5;
const RAISED: u8 = 6;
const UNFINISHED: u8 = 7;
const CUT: u8 = 8;

/// One partition by its topic's id: a topic made again under the same name is another one.
pub(in crate::broker) type PartitionKey = (TopicId, i32);

/// A life of the directory: from its first append to its close.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::broker) struct Life {
    /// Stamped as leader epoch into every batch of this life. The first one is 0.
    pub incarnation: i32,
    /// The boot of the machine and the mount of the file system in which it began; empty when
    /// unknown. Earlier versions wrote the boot alone, which equals none of these.
    pub page_cache: String,
}

/// How a life ended with a close.
#[derive(Debug, Clone, Default)]
pub(in crate::broker) struct CleanEnd {
    /// What the clean mark holds; `None` where none was left.
    pub mark: Option<String>,
    /// The partitions of `__transaction_state` in which a transaction is open, or about to end, or
    /// which could not be read; `None` where nobody knows.
    pub unfinished: Option<BTreeSet<i32>>,
}

/// What the entries lead to.
#[derive(Debug, Clone, Default)]
pub(in crate::broker) struct StateImage {
    /// The latest life; `None` before the first append ever.
    pub life: Option<Life>,
    /// The latest life ended with a clean close, which left this text in the clean mark, or no
    /// mark at all.
    pub clean: Option<Option<String>>,
    /// What that close knew of transactions, as [`CleanEnd`] has it.
    pub unfinished: Option<BTreeSet<i32>>,
    /// Producer ids below it were given before records may have been lost the last time, to a power
    /// cut or a repair; 0 where that never was.
    pub ids_before_cut: i64,
    partitions: BTreeMap<PartitionKey, StoredState>,
    /// The highest leader epoch of any batch, at least that of the lives; -1 before the first.
    pub highest_epoch: i32,
    /// Partitions that another program wrote and that could not be read so far.
    pub unread: BTreeSet<PartitionKey>,
}

/// The stored state of one partition. It is decoded when it is asked for: an open costs the same
/// whatever there is to know.
#[derive(Debug, Clone)]
enum StoredState {
    Known(Arc<LogState>),
    /// The entries, the first against an empty state and each other one against its predecessor.
    Packed {
        first: Piece,
        more: Vec<Piece>,
    },
}

/// One entry's state inside a frame.
#[derive(Debug, Clone)]
struct Piece {
    frame: Arc<Vec<u8>>,
    range: Range<usize>,
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        self.frame.get(self.range.clone()).unwrap_or_default()
    }

    fn decode(&self, before: &LogState) -> Option<LogState> {
        let mut input = Decoder::new(self.bytes());
        decode_state(before, &mut input).filter(|_| input.is_empty())
    }
}

impl StoredState {
    /// `None` where the bytes make no sense, although their checksum holds.
    fn state(&self) -> Option<Arc<LogState>> {
        match self {
            StoredState::Known(state) => Some(state.clone()),
            StoredState::Packed { first, more } => {
                let first = first.decode(&LogState::default());
                let state = more.iter().fold(first, |state, piece| piece.decode(&state?));
                state.map(Arc::new)
            }
        }
    }

    fn add(&mut self, piece: Piece) {
        match self {
            StoredState::Packed { more, .. } => more.push(piece),
            // States are only decoded once a file was read to its end.
            StoredState::Known(_) => *self = StoredState::Packed { first: piece, more: Vec::new() },
        }
    }
}

/// What the file was found to hold.
#[derive(Debug)]
pub(in crate::broker) enum StateFound {
    Missing,
    Damaged(String),
    Image,
}

/// The open file and what it says.
#[derive(Debug)]
pub(in crate::broker) struct StateFile {
    journal: FramedFile,
    pub image: StateImage,
}

impl StateFile {
    /// Reads the file in `dir`. Writes nothing. The image of a missing or damaged file is empty.
    ///
    /// # Errors
    /// Those of [`FramedFile::load`].
    pub fn load(storage: Arc<dyn Storage>, dir: &Path) -> Result<(StateFile, StateFound)> {
        let path = dir.join(STATE_FILE);
        let (mut journal, contents) = FramedFile::load(storage, path, FramedFileKind::State)?;
        let mut image = StateImage { highest_epoch: -1, ..StateImage::default() };
        let found = match contents {
            Contents::Missing => StateFound::Missing,
            Contents::Damaged(why) => StateFound::Damaged(why),
            Contents::Frames(frames) => match StateImage::from_frames(frames) {
                Some(found) => {
                    image = found;
                    StateFound::Image
                }
                None => {
                    journal.mark_stale();
                    StateFound::Damaged("an entry makes no sense".to_owned())
                }
            },
        };
        Ok((StateFile { journal, image }, found))
    }

    /// Begins a life, durably: its incarnation is never used again. `ids_before_cut` as in
    /// [`StateImage`]; it is never lowered.
    ///
    /// # Errors
    /// Those of [`FramedFile::append`]; the image is unchanged then.
    pub fn begin(&mut self, life: Life, ids_before_cut: i64) -> Result<()> {
        let mut out = Encoder::new();
        encode_life(&life, &mut out);
        if ids_before_cut > self.image.ids_before_cut {
            encode_cut(ids_before_cut, &mut out);
        }
        self.append(&out.bytes(), |image| {
            image.ids_before_cut = image.ids_before_cut.max(ids_before_cut);
            image.highest_epoch = image.highest_epoch.max(life.incarnation);
            image.life = Some(life);
            (image.clean, image.unfinished) = (None, None);
        })
    }

    /// Begins the first life of a directory that another program wrote: what was known of it
    /// before is replaced by what adoption found, in one step.
    ///
    /// # Errors
    /// Those of [`FramedFile::replace_with`]; the image is unchanged then.
    pub fn begin_adopted(
        &mut self,
        life: Life,
        states: &[(PartitionKey, LogState)],
        unread: &[PartitionKey],
    ) -> Result<()> {
        let mut unread: BTreeSet<PartitionKey> = unread.iter().copied().collect();
        unread.extend(states.iter().filter(|(_, state)| state.suspect).map(|(key, _)| *key));
        let settled = |state: &LogState| LogState { suspect: false, ..state.clone() };
        let stored = |state: &LogState| StoredState::Known(Arc::new(settled(state)));
        let highest = highest_epoch(states.iter().map(|(_, state)| state));
        let next = StateImage {
            highest_epoch: highest.max(life.incarnation),
            life: Some(life),
            clean: None,
            unfinished: None,
            ids_before_cut: self.image.ids_before_cut,
            partitions: states.iter().map(|(key, state)| (*key, stored(state))).collect(),
            unread,
        };
        self.journal.replace_with(&next.encode())?;
        self.image = next;
        Ok(())
    }

    /// Takes note of a leader epoch above those of our lives.
    ///
    /// # Errors
    /// Those of [`FramedFile::append`]; the image is unchanged then.
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
    /// Those of [`FramedFile::append`]; the image is unchanged then.
    pub fn record(
        &mut self,
        states: Vec<(PartitionKey, LogState)>,
        gone: &[TopicId],
    ) -> Result<()> {
        self.write(states, gone, None)
    }

    /// Records the last states of a life and that it ended in good order.
    ///
    /// # Errors
    /// Those of [`FramedFile::append`]; the image is unchanged then.
    pub fn end(&mut self, states: Vec<(PartitionKey, LogState)>, end: CleanEnd) -> Result<()> {
        self.write(states, &[], Some(end))
    }

    fn write(
        &mut self,
        mut states: Vec<(PartitionKey, LogState)>,
        gone: &[TopicId],
        clean: Option<CleanEnd>,
    ) -> Result<()> {
        let mut suspects = BTreeSet::new();
        for (key, state) in &mut states {
            if std::mem::take(&mut state.suspect) {
                suspects.insert(*key);
            }
        }
        let mut before: Vec<Option<Arc<LogState>>> = Vec::with_capacity(states.len());
        states.retain(|(key, state)| {
            let known = self.image.state_of(key);
            let changed = known.as_deref() != Some(state)
                || suspects.contains(key) != self.image.unread.contains(key);
            if changed {
                before.push(known);
            }
            changed
        });
        let gone: Vec<TopicId> =
            gone.iter().copied().filter(|id| self.image.knows_topic(*id)).collect();
        let mut out = Encoder::new();
        for ((key, state), before) in states.iter().zip(&before) {
            let before = before.as_deref();
            encode_partition(*key, before.unwrap_or(&LogState::default()), state, &mut out);
            if suspects.contains(key) {
                encode_unread(*key, &mut out);
            }
        }
        let highest = highest_epoch(states.iter().map(|(_, state)| state));
        if highest > self.image.highest_epoch {
            out.u8(RAISED);
            out.signed(i64::from(highest));
        }
        for id in &gone {
            out.u8(FORGET);
            out.fixed(&id.0);
        }
        if let Some(CleanEnd { mark, unfinished }) = &clean {
            encode_unfinished(unfinished.as_ref(), &mut out);
            encode_clean(mark.as_deref(), &mut out);
        }
        if out.is_empty() {
            return Ok(());
        }
        self.append(&out.bytes(), |image| {
            image.highest_epoch = image.highest_epoch.max(highest);
            for (key, state) in states {
                match suspects.contains(&key) {
                    true => image.unread.insert(key),
                    false => image.unread.remove(&key),
                };
                image.partitions.insert(key, StoredState::Known(Arc::new(state)));
            }
            for id in gone {
                image.forget(id);
            }
            if let Some(CleanEnd { mark, unfinished }) = clean {
                (image.clean, image.unfinished) = (Some(mark), unfinished);
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
    pub fn from_frames(frames: Vec<Vec<u8>>) -> Option<StateImage> {
        let mut image = StateImage { highest_epoch: -1, ..StateImage::default() };
        for frame in frames {
            let frame = Arc::new(frame);
            let mut input = Decoder::new(&frame);
            while !input.is_empty() {
                image.apply(&mut input, &frame)?;
            }
        }
        Some(image)
    }

    /// What is known of a partition. `None` also where that makes no sense.
    pub fn state_of(&self, key: &PartitionKey) -> Option<Arc<LogState>> {
        self.partitions.get(key)?.state()
    }

    /// Whether the partition is to be read as another program's, whatever is known of it.
    pub fn is_foreign(&self, key: &PartitionKey, known: Option<&LogState>) -> bool {
        // Nothing was appended to a damaged log since what is known of it was recorded: where that
        // was a clean stop, it goes on to be held against that.
        let held = known.is_some_and(|state| state.settled);
        (self.unread.contains(key) && !held) || (known.is_none() && self.knows(key))
    }

    /// Whether it is held against what a clean stop left, whatever came since.
    pub fn is_held(&self, key: &PartitionKey, known: Option<&LogState>) -> bool {
        self.unread.contains(key) && known.is_some_and(|state| state.settled)
    }

    /// Whether there is an entry of the partition.
    pub fn knows(&self, key: &PartitionKey) -> bool {
        self.partitions.contains_key(key)
    }

    /// What is known of every partition.
    pub fn states(&self) -> BTreeMap<PartitionKey, Arc<LogState>> {
        let states =
            self.partitions.iter().filter_map(|(key, stored)| Some((*key, stored.state()?)));
        states.collect()
    }

    fn apply(&mut self, input: &mut Decoder<'_>, frame: &Arc<Vec<u8>>) -> Option<()> {
        match input.u8()? {
            LIFE => {
                let incarnation = input.i32()?;
                let page_cache = input.text()?.to_owned();
                self.life = Some(Life { incarnation, page_cache });
                self.highest_epoch = self.highest_epoch.max(incarnation);
                (self.clean, self.unfinished) = (None, None);
            }
            PARTITION => {
                let key = (TopicId(input.fixed()?), input.i32()?);
                let len = input.count(1)?;
                let start = frame.len() - input.left();
                input.take(len)?;
                let piece = Piece { frame: frame.clone(), range: start..start + len };
                self.unread.remove(&key);
                match self.partitions.entry(key) {
                    Entry::Vacant(vacant) => {
                        vacant.insert(StoredState::Packed { first: piece, more: Vec::new() });
                    }
                    Entry::Occupied(mut occupied) => occupied.get_mut().add(piece),
                }
            }
            RAISED => self.highest_epoch = self.highest_epoch.max(input.i32()?),
            UNREAD => {
                self.unread.insert((TopicId(input.fixed()?), input.i32()?));
            }
            FORGET => self.forget(TopicId(input.fixed()?)),
            CUT => self.ids_before_cut = self.ids_before_cut.max(input.signed()?),
            UNFINISHED => {
                let count = input.count(1)?;
                let numbers: Option<BTreeSet<i32>> = (0..count).map(|_| input.i32()).collect();
                self.unfinished = Some(numbers?);
            }
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

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        if let Some(life) = &self.life {
            encode_life(life, &mut out);
        }
        for (key, stored) in &self.partitions {
            match stored {
                // As it is: no other one comes after it, and it is not against another.
                StoredState::Packed { first, more } if more.is_empty() => {
                    put_partition(*key, first.bytes(), &mut out);
                }
                stored => {
                    if let Some(state) = stored.state() {
                        encode_partition(*key, &LogState::default(), &state, &mut out);
                    }
                }
            }
        }
        if self.life.as_ref().is_none_or(|life| self.highest_epoch > life.incarnation) {
            out.u8(RAISED);
            out.signed(i64::from(self.highest_epoch));
        }
        self.unread.iter().for_each(|key| encode_unread(*key, &mut out));
        if self.ids_before_cut > 0 {
            encode_cut(self.ids_before_cut, &mut out);
        }
        encode_unfinished(self.unfinished.as_ref(), &mut out);
        if let Some(mark) = &self.clean {
            encode_clean(mark.as_deref(), &mut out);
        }
        out.bytes()
    }

    /// Whether there is an entry of any of its partitions.
    pub fn knows_topic(&self, id: TopicId) -> bool {
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
/// | 1 life | signed incarnation, text: boot id, a blank, mount id; empty where unknown |
/// | 2 partition | 16 bytes topic id, signed partition, length, the state in as many bytes |
/// | 3 forget | 16 bytes topic id |
/// | 4 clean | flag: a mark was left, then its text |
/// | 5 unread | 16 bytes topic id, signed partition |
/// | 6 raised | signed: a leader epoch above those of our lives |
/// | 7 unfinished | count, each: signed partition of `__transaction_state` |
/// | 8 cut | signed: producer ids below it were given before records may have been lost |
fn encode_life(life: &Life, out: &mut Encoder) {
    out.u8(LIFE);
    out.signed(i64::from(life.incarnation));
    out.text(&life.page_cache);
}

fn encode_partition(key: PartitionKey, before: &LogState, state: &LogState, out: &mut Encoder) {
    let mut body = Encoder::new();
    encode_state(before, state, &mut body);
    put_partition(key, &body.bytes(), out);
}

fn put_partition(key: PartitionKey, state: &[u8], out: &mut Encoder) {
    out.u8(PARTITION);
    out.fixed(&key.0.0);
    out.signed(i64::from(key.1));
    out.unsigned(state.len() as u64);
    out.raw(state);
}

/// The highest leader epoch of any of them, -1 for none.
pub(in crate::broker) fn highest_epoch<'a>(states: impl Iterator<Item = &'a LogState>) -> i32 {
    states.flat_map(|state| &state.epochs).map(|start| start.epoch).max().unwrap_or(-1)
}

fn encode_unread(key: PartitionKey, out: &mut Encoder) {
    out.u8(UNREAD);
    out.fixed(&key.0.0);
    out.signed(i64::from(key.1));
}

fn encode_unfinished(unfinished: Option<&BTreeSet<i32>>, out: &mut Encoder) {
    if let Some(unfinished) = unfinished {
        out.u8(UNFINISHED);
        out.unsigned(unfinished.len() as u64);
        unfinished.iter().for_each(|number| out.signed(i64::from(*number)));
    }
}

fn encode_cut(ids_before_cut: i64, out: &mut Encoder) {
    out.u8(CUT);
    out.signed(ids_before_cut);
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
        file.begin(Life { incarnation: 0, page_cache: "b 1".into() }, 0).unwrap();
        file.record(vec![(key(1, 0), state(5)), (key(2, 3), state(9))], &[]).unwrap();
        file.record(vec![(key(1, 0), state(7))], &[TopicId([2; 16])]).unwrap();
        let seen = open(&storage).image;
        assert_eq!((seen.life, seen.clean), (file.image.life.clone(), None));
        assert_eq!(open(&storage).image.states(), file.image.states());
        assert_eq!(file.image.states().len(), 1);
        assert_eq!(file.image.state_of(&key(1, 0)).unwrap().log_end_offset, 7);
        let unfinished = Some([3, 49].into());
        let end = CleanEnd { mark: Some("mark".into()), unfinished: unfinished.clone() };
        file.end(vec![(key(1, 0), state(8))], end).unwrap();
        let seen = open(&storage).image;
        assert_eq!((&seen.clean, &seen.unfinished), (&Some(Some("mark".into())), &unfinished));
        let packed = StateImage::from_frames(vec![seen.encode()]).unwrap();
        assert_eq!((packed.clean, packed.unfinished), (seen.clean, unfinished));
        let mut file = open(&storage);
        file.begin(Life { incarnation: 1, page_cache: "b 1".into() }, 2000).unwrap();
        file.begin(Life { incarnation: 2, page_cache: "b 1".into() }, 1000).unwrap();
        let seen = open(&storage).image;
        assert_eq!((&seen.clean, &seen.unfinished, seen.ids_before_cut), (&None, &None, 2000));
        let packed = StateImage::from_frames(vec![seen.encode()]).unwrap();
        assert_eq!(packed.ids_before_cut, 2000);
        assert_eq!(open(&storage).image.life.unwrap().incarnation, 2);
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
