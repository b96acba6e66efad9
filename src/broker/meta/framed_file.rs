//! An append-only file of CRC-framed entries, replaced as a whole when most of it is stale. The
//! registry of topics and the state of partitions are two of them; `docs/format.md`, "Files of our
//! own", has the layout.
//!
//! One append is one frame and one sync, so only the last frame can ever be torn; anything else
//! that does not check is damage, and damage is told, never skipped. The file is made anew under
//! another name, synced and renamed, so a crash at any step leaves the old one or the new one.

use super::frame::{
    FRAME_BYTES, Fault, FramedFileKind, HEADER_BYTES, find_frame, frame, header, read_frame,
    read_header,
};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::sync_latch::{SyncLatch, sync_error};
use crate::storage::{File, NotBegun, Storage};
use crate::sync::Arc;
use std::path::{Path, PathBuf};

/// A file below this size is never replaced only to save space: rewriting it costs two syncs.
const COMPACT_BYTES_MIN: u64 = 64 * 1024;
/// A file is replaced when it is this many times as large as its last whole image.
const COMPACT_FACTOR: u64 = 4;
/// Far above what a million partitions need; a larger file is not one of ours.
const FILE_BYTES_MAX: u64 = 1 << 30;

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
pub(in crate::broker) struct FramedFile {
    storage: Arc<dyn Storage>,
    path: PathBuf,
    kind: FramedFileKind,
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
    /// After a failed sync, what the disk holds is unknown until the directory is opened again.
    syncs: SyncLatch,
}

impl FramedFile {
    /// Reads the file. Writes nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when it cannot be read, [`ErrorKind::UnsupportedFormat`] when a newer
    /// version wrote it.
    pub fn load(
        storage: Arc<dyn Storage>,
        path: PathBuf,
        kind: FramedFileKind,
    ) -> Result<(FramedFile, Contents)> {
        let mut journal = FramedFile {
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
            syncs: SyncLatch::default(),
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
        self.syncs.check()?;
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
    /// As [`FramedFile::append`]; before the rename the old file stands.
    pub fn replace_with(&mut self, payload: &[u8]) -> Result<()> {
        self.syncs.check()?;
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
            // Whatever comes of it: the old file stands.
            file.sync_data().map_err(|e| sync_error(e, "cannot sync", &temporary))?;
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

    /// Appends one frame to a file that [`FramedFile::replaces`] says can take it, and syncs it.
    ///
    /// # Errors
    /// As [`FramedFile::append`].
    pub fn append_frame(&mut self, payload: &[u8]) -> Result<()> {
        self.syncs.check()?;
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
    /// As [`FramedFile::append`].
    pub fn confirm(&mut self) -> Result<()> {
        self.syncs.check()?;
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

    /// The error of a sync that failed, which is final, or could not begin.
    fn fail(&mut self, error: std::io::Error) -> Error {
        let doing = format!("cannot sync the {}", self.kind.name());
        let error = sync_error(error, &doing, &self.path);
        if error.kind() == ErrorKind::StorageFailed {
            self.syncs.fail(error.clone());
        }
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

fn temporary_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests;
