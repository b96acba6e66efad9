//! An append-only file of CRC-framed entries, replaced as a whole when most of it is stale. The
//! registry of topics and the state of partitions are two of them; `docs/format.md`, "Files of our
//! own", has the layout.
//!
//! One append is one frame and one sync, so only the last frame can ever be torn; anything else
//! that does not check is damage, and damage is told, never skipped. The file is made anew under
//! another name, synced and renamed, so a crash at any step leaves the old one or the new one.

use crate::broker::meta::codec::{Decoder, Encoder};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{File, NotBegun, Storage};
use crate::sync::Arc;
use std::path::{Path, PathBuf};

/// The version of the layout that this code writes, and the newest one it reads.
const VERSION: u32 = 1;
/// Magic, version, generation and CRC.
const HEADER_BYTES: usize = 8 + 4 + 4 + 4;
/// Length, sequence and CRC in front of each payload.
const FRAME_BYTES: usize = 12;
/// A file below this size is never replaced only to save space: rewriting it costs two syncs.
const COMPACT_BYTES_MIN: u64 = 64 * 1024;
/// A file is replaced when it is this many times as large as its last whole image.
const COMPACT_FACTOR: u64 = 4;
/// Far above what a million partitions need; a larger file is not one of ours.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// Which file it is, by the eight bytes at its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::broker) enum JournalKind {
    Registry,
    State,
}

impl JournalKind {
    fn magic(self) -> &'static [u8; 8] {
        match self {
            JournalKind::Registry => b"TLREGIST",
            JournalKind::State => b"TLSTATES",
        }
    }

    fn name(self) -> &'static str {
        match self {
            JournalKind::Registry => "registry",
            JournalKind::State => "state file",
        }
    }
}

/// What a file was found to hold.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::broker) enum Contents {
    Missing,
    /// Bytes that no crash of ours leaves behind, and why.
    Damaged(String),
    /// The payloads, in the order they were appended.
    Frames(Vec<Vec<u8>>),
}

/// The open file.
#[derive(Debug)]
pub(in crate::broker) struct Journal {
    storage: Arc<dyn Storage>,
    path: PathBuf,
    kind: JournalKind,
    generation: u32,
    next_sequence: u32,
    /// Bytes of the file that are proven; the next frame begins there.
    len: u64,
    /// The size of the file when it was last written as a whole.
    whole_len: u64,
    /// The file is missing, damaged, or ends in a torn frame: the next append replaces it.
    replace: bool,
    /// Bytes and name were synced by this process. A process that was killed may have left a name
    /// or a frame that only the page cache has.
    confirmed: bool,
    file: Option<Arc<dyn File>>,
    /// A sync failed: what the disk holds is unknown until the directory is opened again.
    failed: Option<Error>,
}

impl Journal {
    /// Reads the file. Writes nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when it cannot be read, [`ErrorKind::UnsupportedFormat`] when a newer
    /// version wrote it.
    pub fn load(
        storage: Arc<dyn Storage>,
        path: PathBuf,
        kind: JournalKind,
    ) -> Result<(Journal, Contents)> {
        let mut journal = Journal {
            storage,
            path,
            kind,
            generation: 0,
            next_sequence: 0,
            len: 0,
            whole_len: 0,
            replace: true,
            confirmed: false,
            file: None,
            failed: None,
        };
        let contents = match journal.read_file()? {
            None => Contents::Missing,
            Some(bytes) => journal.scan(&bytes)?,
        };
        // A link is read, and a file of ours takes its place.
        journal.replace |= journal.storage.metadata(&journal.path).is_ok_and(|found| found.is_link);
        Ok((journal, contents))
    }

    /// Appends one frame and syncs it. `whole` gives the payload that stands for everything,
    /// `payload` included: it is asked for when the file has to be replaced.
    ///
    /// # Errors
    /// [`ErrorKind::StorageFull`] and [`ErrorKind::Io`] when nothing was written;
    /// [`ErrorKind::StorageFailed`] when a sync failed, now or before.
    pub fn append(&mut self, payload: &[u8], whole: impl FnOnce() -> Vec<u8>) -> Result<()> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        if self.replaces(payload.len()) {
            return self.replace_with(&whole());
        }
        self.append_frame(payload)
    }

    /// Whether an append of this many bytes has to be, or had better be, a replacement.
    pub fn replaces(&self, payload_len: usize) -> bool {
        let grown = self.len + (FRAME_BYTES + payload_len) as u64;
        let stale = grown > COMPACT_BYTES_MIN && grown > self.whole_len * COMPACT_FACTOR;
        self.replace || stale
    }

    /// Writes the file anew with one frame.
    ///
    /// # Errors
    /// As [`Journal::append`]; before the rename the old file stands.
    pub fn replace_with(&mut self, payload: &[u8]) -> Result<()> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let generation = self.generation.wrapping_add(1);
        let mut bytes = header(self.kind, generation);
        bytes.extend_from_slice(&frame(generation, 0, payload)?);
        let temporary = temporary_path(&self.path);
        {
            let file = self
                .storage
                .create_cold(&temporary)
                .map_err(|e| Error::io(e, "cannot create the file", &temporary))?;
            file.write_at(0, &bytes)
                .map_err(|e| Error::io(e, "cannot write the file", &temporary))?;
            file.sync_data().map_err(|e| self.sync_failed(e))?;
        }
        self.storage
            .rename(&temporary, &self.path)
            .map_err(|e| Error::io(e, "cannot rename the file", &temporary))?;
        self.file = None;
        // The new name needs a sync, whatever was confirmed before.
        let confirmed = std::mem::replace(&mut self.confirmed, false);
        self.generation = generation;
        if let Err(error) = self.confirm_name(!confirmed) {
            // What is refused here stands in the file: the next change takes its place.
            self.replace = true;
            return Err(error);
        }
        self.next_sequence = 1;
        self.len = bytes.len() as u64;
        self.whole_len = self.len;
        self.replace = false;
        Ok(())
    }

    /// Whether the next append replaces the file whatever it is.
    pub fn will_replace(&self) -> bool {
        self.replace
    }

    /// What the file says is not what it should say: the next append replaces it.
    pub fn mark_stale(&mut self) {
        self.replace = true;
    }

    /// Appends one frame to a file that [`Journal::replaces`] says can take it, and syncs it.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub fn append_frame(&mut self, payload: &[u8]) -> Result<()> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        assert!(!self.replace, "a file that is missing or torn is replaced, not appended to");
        // A frame that only the page cache has must not be torn with a whole one behind it.
        self.confirm()?;
        let bytes = frame(self.generation, self.next_sequence, payload)?;
        let file = self.writable()?;
        if let Err(error) = file.write_at(self.len, &bytes) {
            // Nothing of a refused change may come back later.
            self.replace = file.set_len(self.len).is_err();
            return Err(Error::io(error, "cannot append", &self.path));
        }
        if let Err(error) = file.sync_data() {
            if NotBegun::is_in(&error) {
                self.replace = file.set_len(self.len).is_err();
            }
            return Err(self.fail(error));
        }
        self.len += bytes.len() as u64;
        self.next_sequence = self.next_sequence.wrapping_add(1);
        Ok(())
    }

    /// Makes what was read durable, where a killed process may not have.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub fn confirm(&mut self) -> Result<()> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        if self.confirmed || self.next_sequence == 0 {
            return Ok(());
        }
        let file = match self.replace {
            // It is not written again, and it may be a link, through which nothing is written.
            true => self
                .storage
                .open(&self.path)
                .map_err(|e| Error::io(e, "cannot open the file", &self.path))?,
            false => self.writable()?,
        };
        file.sync_data().map_err(|e| self.fail(e))?;
        self.confirm_name(true)
    }

    /// Syncs the file's name; with `thorough` also the name of its directory, which a process
    /// may have made just before it was killed.
    fn confirm_name(&mut self, thorough: bool) -> Result<()> {
        if self.confirmed {
            return Ok(());
        }
        let directory = self.path.parent().map(Path::to_path_buf);
        let above = directory.as_deref().and_then(Path::parent).map(Path::to_path_buf);
        for dir in directory.into_iter().chain(above.filter(|_| thorough)) {
            let dir = if dir.as_os_str().is_empty() { PathBuf::from(".") } else { dir };
            self.storage.sync_dir(&dir).map_err(|e| self.fail(e))?;
        }
        self.confirmed = true;
        Ok(())
    }

    fn writable(&mut self) -> Result<Arc<dyn File>> {
        if let Some(file) = &self.file {
            return Ok(file.clone());
        }
        let file = self
            .storage
            .open_cold(&self.path)
            .map_err(|e| Error::io(e, "cannot open the file", &self.path))?;
        self.file = Some(file.clone());
        Ok(file)
    }

    /// The error of a sync whose outcome decides nothing: the old file stands.
    fn sync_failed(&self, error: std::io::Error) -> Error {
        if NotBegun::is_in(&error) {
            return Error::io(error, "cannot sync", &temporary_path(&self.path));
        }
        Error::new(ErrorKind::StorageFailed, format!("cannot sync: {error}"))
            .with_path(temporary_path(&self.path))
            .with_source(error)
    }

    /// The error of a sync that failed, which is final, or could not begin.
    fn fail(&mut self, error: std::io::Error) -> Error {
        if NotBegun::is_in(&error) {
            return Error::io(error, "cannot sync", &self.path);
        }
        let message = format!("cannot sync the {}: {error}; open it again", self.kind.name());
        let error = Error::new(ErrorKind::StorageFailed, message)
            .with_path(self.path.clone())
            .with_source(error);
        self.failed = Some(error.clone());
        error
    }

    fn read_file(&self) -> Result<Option<Vec<u8>>> {
        let open = |e| Error::io(e, "cannot read the file", &self.path);
        let file = match self.storage.open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(open(error)),
        };
        let len = file.len().map_err(open)?;
        if len > FILE_BYTES_MAX {
            return Ok(Some(Vec::new()));
        }
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
        file.read_exact_at(0, &mut bytes).map_err(open)?;
        Ok(Some(bytes))
    }

    fn scan(&mut self, bytes: &[u8]) -> Result<Contents> {
        self.generation = match read_header(self.kind, bytes) {
            Ok(generation) => generation,
            Err(Fault::Version(version)) => {
                let name = self.kind.name();
                let message =
                    format!("version {version} of the {name} is newer; upgrade this crate");
                return Err(
                    Error::new(ErrorKind::UnsupportedFormat, message).with_path(self.path.clone())
                );
            }
            Err(Fault::Damage(why)) => return Ok(Contents::Damaged(why.to_owned())),
        };
        let mut frames = Vec::new();
        let mut at = HEADER_BYTES;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let Some(payload) = read_frame(self.generation, self.next_sequence, rest) else {
                if let Some(later) = find_frame(self.generation, self.next_sequence, rest) {
                    return Ok(Contents::Damaged(format!(
                        "the frame at {at} is damaged, and another follows at {}",
                        at + later
                    )));
                }
                break;
            };
            frames.push(payload.to_vec());
            at += FRAME_BYTES + payload.len();
            self.next_sequence = self.next_sequence.wrapping_add(1);
        }
        if frames.is_empty() {
            // A file is made with its first frame inside, and synced before it gets its name.
            return Ok(Contents::Damaged("the first frame is damaged".to_owned()));
        }
        self.len = at as u64;
        self.whole_len = (HEADER_BYTES + FRAME_BYTES + frames.first().map_or(0, Vec::len)) as u64;
        self.replace = at < bytes.len();
        Ok(Contents::Frames(frames))
    }
}

/// A file of these frames.
#[cfg(any(all(test, not(loom)), fuzzing))]
pub(in crate::broker) fn whole_file(
    kind: JournalKind,
    generation: u32,
    payloads: &[Vec<u8>],
) -> Vec<u8> {
    let mut bytes = header(kind, generation);
    for (sequence, payload) in (0..).zip(payloads) {
        bytes.extend(frame(generation, sequence, payload).unwrap_or_default());
    }
    bytes
}

enum Fault {
    Version(u32),
    Damage(&'static str),
}

fn temporary_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    PathBuf::from(name)
}

/// | offset | bytes | field |
/// | --- | --- | --- |
/// | 0 | 8 | magic |
/// | 8 | 4 | version |
/// | 12 | 4 | generation: raised by one each time the file is replaced |
/// | 16 | 4 | CRC-32 (IEEE) of the 16 bytes before |
fn header(kind: JournalKind, generation: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES);
    bytes.extend_from_slice(kind.magic());
    bytes.extend_from_slice(&VERSION.to_be_bytes());
    bytes.extend_from_slice(&generation.to_be_bytes());
    let crc = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&crc.to_be_bytes());
    bytes
}

fn read_header(kind: JournalKind, bytes: &[u8]) -> Result<u32, Fault> {
    let mut input = Decoder::new(bytes);
    let short = Fault::Damage("the header is short");
    let (Some(magic), Some(version), Some(generation), Some(crc)) =
        (input.take(8), input.u32(), input.u32(), input.u32())
    else {
        return Err(short);
    };
    let covered = bytes.get(..HEADER_BYTES - 4).ok_or(short)?;
    if magic != kind.magic() || crc32fast::hash(covered) != crc {
        return Err(Fault::Damage("the header is damaged"));
    }
    if version != VERSION {
        return Err(Fault::Version(version));
    }
    Ok(generation)
}

fn frame_crc(generation: u32, sequence: u32, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&generation.to_be_bytes());
    hasher.update(&sequence.to_be_bytes());
    hasher.update(&(payload.len() as u32).to_be_bytes());
    hasher.update(payload);
    hasher.finalize()
}

/// | offset | bytes | field |
/// | --- | --- | --- |
/// | 0 | 4 | length of the payload |
/// | 4 | 4 | sequence, from 0 in each generation |
/// | 8 | 4 | CRC-32 (IEEE) of generation, sequence, length and payload |
/// | 12 | | payload |
fn frame(generation: u32, sequence: u32, payload: &[u8]) -> Result<Vec<u8>> {
    let Ok(len) = u32::try_from(payload.len()) else {
        return Err(Error::new(ErrorKind::IllegalArgument, "a frame holds at most 4 GiB"));
    };
    let mut out = Encoder::new();
    out.u32(len);
    out.u32(sequence);
    out.u32(frame_crc(generation, sequence, payload));
    let mut bytes = out.bytes();
    bytes.extend_from_slice(payload);
    Ok(bytes)
}

/// The payload of the frame at the start of `bytes`, if it is frame `sequence`.
fn read_frame(generation: u32, sequence: u32, bytes: &[u8]) -> Option<&[u8]> {
    let mut input = Decoder::new(bytes);
    let (len, found, crc) = (input.u32()?, input.u32()?, input.u32()?);
    if found != sequence {
        return None;
    }
    let payload = input.take(usize::try_from(len).ok()?)?;
    (frame_crc(generation, sequence, payload) == crc).then_some(payload)
}

/// Where a frame later than `sequence` begins in `bytes`, if there is one.
fn find_frame(generation: u32, sequence: u32, bytes: &[u8]) -> Option<usize> {
    let limit = bytes.len() / FRAME_BYTES;
    (1..bytes.len()).find(|&at| {
        let Some(rest) = bytes.get(at..) else { return false };
        let Some(found) = rest.get(4..8).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes)
        else {
            return false;
        };
        let ahead = found.wrapping_sub(sequence) as usize;
        ahead > 0 && ahead <= limit && read_frame(generation, found, rest).is_some()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Heap;

    const PATH: &str = "/d/topiclite.test";

    fn storage() -> Arc<dyn Storage> {
        let storage = Heap::new();
        storage.create_dir(Path::new("/d")).unwrap();
        Arc::new(storage)
    }

    fn load(storage: &Arc<dyn Storage>) -> (Journal, Contents) {
        Journal::load(storage.clone(), PATH.into(), JournalKind::State).unwrap()
    }

    fn frames(texts: &[&str]) -> Contents {
        Contents::Frames(texts.iter().map(|t| t.as_bytes().to_vec()).collect())
    }

    fn bytes_of(storage: &Arc<dyn Storage>) -> Vec<u8> {
        let file = storage.open(Path::new(PATH)).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_exact_at(0, &mut bytes).unwrap();
        bytes
    }

    fn put(storage: &Arc<dyn Storage>, bytes: &[u8]) {
        let file = storage.create_cold(Path::new(PATH)).unwrap();
        file.write_at(0, bytes).unwrap();
    }

    fn three(storage: &Arc<dyn Storage>) -> Vec<u8> {
        let (mut journal, contents) = load(storage);
        assert_eq!(contents, Contents::Missing);
        journal.append(b"one", || b"one".to_vec()).unwrap();
        journal.append(b"two", || unreachable!()).unwrap();
        journal.append(b"three", || unreachable!()).unwrap();
        bytes_of(storage)
    }

    #[test]
    fn what_was_appended_is_read_back_and_appended_to() {
        let storage = storage();
        three(&storage);
        let (mut journal, contents) = load(&storage);
        assert_eq!(contents, frames(&["one", "two", "three"]));
        journal.append(b"four", || unreachable!()).unwrap();
        assert_eq!(load(&storage).1, frames(&["one", "two", "three", "four"]));
    }

    #[test]
    fn a_file_cut_anywhere_is_a_prefix_and_the_next_append_replaces_it() {
        let storage = storage();
        let whole = three(&storage);
        let first = HEADER_BYTES + FRAME_BYTES + 3;
        for cut in 0..whole.len() {
            put(&storage, &whole[..cut]);
            let (mut journal, contents) = load(&storage);
            match contents {
                Contents::Damaged(_) => assert!(cut < first, "{cut}"),
                Contents::Frames(frames) => {
                    assert!(cut >= first && frames.len() < 3, "{cut}");
                    let boundary = [first, first + FRAME_BYTES + 3].contains(&cut);
                    assert_eq!(journal.will_replace(), !boundary, "{cut}");
                    journal.append(b"next", || b"whole".to_vec()).unwrap();
                    let after = load(&storage).1;
                    let Contents::Frames(after) = after else { panic!("{after:?}") };
                    assert_eq!(
                        after.last().unwrap(),
                        if boundary { b"next" } else { &b"whole"[..] }
                    );
                }
                Contents::Missing => panic!("{cut}"),
            }
        }
    }

    /// A kill leaves a frame in the page cache; the next process appends behind it; the power goes.
    #[test]
    #[cfg(feature = "testing")]
    fn a_frame_that_a_kill_left_is_durable_before_the_next_one_is_written() {
        use crate::storage::sim::{Entries, Pages, PowerCut, Sim};
        let load = |sim: &Sim| {
            Journal::load(Arc::new(sim.clone()), PATH.into(), JournalKind::Registry).unwrap()
        };
        let sim = Sim::new();
        sim.create_dir(Path::new("/d")).unwrap();
        load(&sim).0.append(b"one", || b"one".to_vec()).unwrap();
        sim.record();
        let long = [7; 900];
        load(&sim).0.append(&long, || unreachable!()).unwrap();
        let mut replay = sim.replay();
        while !replay.next_step().unwrap().starts_with("write 912") {
            replay.advance();
        }
        replay.advance();
        let killed = replay.kill();
        let (mut journal, contents) = load(&killed);
        let Contents::Frames(found) = contents else { panic!("{contents:?}") };
        assert_eq!(found.len(), 2);
        killed.record();
        journal.append(b"three", || unreachable!()).unwrap();
        let all = [b"one".to_vec(), long.to_vec(), b"three".to_vec()];
        let mut replay = killed.replay();
        while replay.advance() {
            for seed in 0..50 {
                let cut = PowerCut::new(seed, Pages::Versions, Entries::None);
                let (_, contents) = load(&replay.power_cut(&cut));
                let Contents::Frames(found) = contents else { panic!("{contents:?}") };
                assert!(all.starts_with(&found), "{} frames", found.len());
            }
        }
        assert_eq!(load(&killed).1, Contents::Frames(all.to_vec()));
    }

    #[test]
    fn a_flipped_bit_is_damage_or_a_lost_last_frame_and_never_another_content() {
        let storage = storage();
        let whole = three(&storage);
        let last = whole.len() - FRAME_BYTES - 5;
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            put(&storage, &bytes);
            match Journal::load(storage.clone(), PATH.into(), JournalKind::State) {
                Ok((_, Contents::Damaged(_))) => assert!(bit / 8 < last, "{bit}"),
                Ok((_, contents)) => {
                    assert_eq!(contents, frames(&["one", "two"]), "{bit}");
                    assert!(bit / 8 >= last);
                }
                Err(error) => panic!("{bit}: {error}"),
            }
        }
    }

    #[test]
    fn a_file_of_a_newer_version_is_refused() {
        let storage = storage();
        let mut bytes = header(JournalKind::State, 1);
        bytes[11] = 2;
        let crc = crc32fast::hash(&bytes[..16]).to_be_bytes();
        bytes[16..20].copy_from_slice(&crc);
        put(&storage, &bytes);
        let error = Journal::load(storage, PATH.into(), JournalKind::State).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnsupportedFormat);
    }

    #[test]
    fn a_file_that_is_mostly_stale_is_replaced_and_stays_small() {
        let storage = storage();
        let (mut journal, _) = load(&storage);
        let payload = vec![7; 1000];
        for _ in 0..1000 {
            journal.append(&payload, || b"all of it".to_vec()).unwrap();
            assert!(journal.len <= COMPACT_BYTES_MIN);
        }
        let Contents::Frames(frames) = load(&storage).1 else { panic!() };
        assert_eq!(frames[0], b"all of it");
    }
}
