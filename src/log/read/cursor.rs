//! What a reader keeps between reads, and what a read gives it.

use bytes::Bytes;

use crate::log::files::names::FileKind;
use crate::log::read::plain::PlainPrefix;
use crate::log::segment::SegmentView;
use crate::storage::Region;
use std::ops::Range;
use std::path::PathBuf;

/// A place in a log. As long as a reader goes on where it stopped, reading takes no lookup and no
/// lock: the cursor knows the segment and the position.
#[derive(Debug, Clone)]
pub(crate) struct Cursor {
    pub(in crate::log) offset: i64,
    pub(in crate::log) place: Option<Place>,
    /// In an attached log, which maps nothing.
    pub(in crate::log) spot: Option<Spot>,
}

/// The place of the batch with the cursor's offset.
#[derive(Debug, Clone)]
pub(in crate::log) struct Place {
    pub view: SegmentView,
    pub position: usize,
    /// The base offset of the batch there, where it follows from what lies before; unknown also
    /// where a batch was looked at already.
    pub expected: Option<i64>,
}

/// The place at which an attached log goes on reading: base offset of the segment, position in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::log) struct Spot {
    pub segment: i64,
    pub position: u64,
    /// As in [`Place`].
    pub expected: Option<i64>,
    /// The number of the view of the partition that it is a place in.
    pub view: u64,
}

impl Place {
    pub fn at(view: &SegmentView, position: usize) -> Place {
        Place { view: view.clone(), position, expected: None }
    }
}

impl Cursor {
    /// A cursor at `offset`; whether the log has it is found out by the read.
    pub fn new(offset: i64) -> Cursor {
        Cursor { offset, place: None, spot: None }
    }

    /// Asks the processor for what the next read looks at first, beside the log itself.
    pub fn fetch_place(&self) {
        if let Some(place) = &self.place {
            place.view.segment().fetch_known();
            place.view.region().fetch_borders();
        }
    }

    /// Asks the processor for the header that the next read begins with, or, `all`, for as many
    /// bytes as who goes through records asks for ahead. What [`Cursor::fetch_place`] asks for is
    /// at hand by then.
    pub fn fetch_bytes(&self, all: bool) {
        if let Some(place) = &self.place {
            place.view.region().fetch_bytes(place.position, all);
        }
    }

    /// The file that is mapped at the cursor's place, and the position in it.
    pub fn file(&self) -> Option<(PathBuf, u64)> {
        let place = self.place.as_ref()?;
        let path = place.view.segment().path_of(FileKind::Log);
        Some((path, place.position as u64))
    }

    /// The offset of the next record that a read gives.
    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// Moves over the first `bytes` of what the last fetch gave: whole batches, up to the one that
    /// has the record at `offset`, or the first one behind it. `whole`: that is where a batch
    /// ended.
    pub fn advance(&mut self, bytes: usize, offset: i64, whole: bool) {
        self.offset = offset;
        if bytes == 0 {
            return;
        }
        let expected = whole.then_some(offset);
        if let Some(place) = &mut self.place {
            place.position += bytes;
            place.expected = expected;
        }
        if let Some(spot) = &mut self.spot {
            spot.position += bytes as u64;
            spot.expected = expected;
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
impl Cursor {
    /// Goes elsewhere.
    pub fn seek(&mut self, offset: i64) {
        *self = Cursor::new(offset);
    }
}

/// Whole batches of one segment, borrowed from the mapping that the chunk keeps alive, or owned
/// where nothing is mapped.
///
/// The first batch may begin below the offset that was asked for, and batches of compacted logs
/// have holes: who reads records skips those below its own offset.
#[derive(Debug, Clone)]
pub(crate) struct Chunk {
    held: Held,
    range: Range<usize>,
    upto: i64,
    sound: bool,
    walked: bool,
    plain: PlainPrefix,
}

/// The owner of a chunk's bytes.
#[derive(Debug, Clone)]
enum Held {
    Nothing,
    Mapped(Region),
    Read(Bytes),
}

impl Chunk {
    /// Batches that a walk has just looked at; the last of them ends at `upto`. `sound`: the
    /// records of all of them are well-formed.
    pub(in crate::log) fn walked(
        region: Region,
        range: Range<usize>,
        upto: i64,
        sound: bool,
    ) -> Chunk {
        let plain = PlainPrefix::default();
        Chunk { held: Held::Mapped(region), range, upto, sound, walked: true, plain }
    }

    /// Batches that are known to be sound, as they lie. Some may end behind `upto`.
    pub(in crate::log) fn known(region: Region, range: Range<usize>, upto: i64) -> Chunk {
        let plain = PlainPrefix::default();
        Chunk { held: Held::Mapped(region), range, upto, sound: true, walked: false, plain }
    }

    /// The same, of which this much is known to be plain.
    pub(in crate::log) fn with_plain(self, plain: Option<PlainPrefix>) -> Chunk {
        Chunk { plain: plain.unwrap_or_default(), ..self }
    }

    /// Batches that were read from a file of somebody else's.
    pub(in crate::log) fn read(bytes: Bytes, upto: i64) -> Chunk {
        let range = 0..bytes.len();
        let plain = PlainPrefix::default();
        Chunk { held: Held::Read(bytes), range, upto, sound: false, walked: true, plain }
    }

    /// Nothing to be read at `offset`.
    pub(in crate::log) fn empty(offset: i64) -> Chunk {
        let (range, plain) = (0..0, PlainPrefix::default());
        Chunk { held: Held::Nothing, range, upto: offset, sound: false, walked: true, plain }
    }

    /// The batches. Their checksums were right.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        match &self.held {
            Held::Nothing => &[],
            Held::Mapped(region) => region.read(self.range.clone()),
            Held::Read(bytes) => bytes,
        }
    }

    /// How many bytes there are.
    #[cfg(test)]
    pub fn size(&self) -> usize {
        self.range.len()
    }

    /// Runs `body`, which reads the bytes. `None` if some could not be read: `body` took zeros
    /// for them.
    #[inline]
    pub fn reading<T>(&self, body: impl FnOnce() -> T) -> Option<T> {
        match &self.held {
            Held::Mapped(region) => region.reading(body),
            Held::Nothing | Held::Read(_) => Some(body()),
        }
    }

    /// Whether the first `len` bytes can be read at this moment.
    pub fn touch(&self, len: usize) -> bool {
        match &self.held {
            Held::Mapped(region) => region.touch(self.range.start..self.range.start + len),
            Held::Nothing | Held::Read(_) => true,
        }
    }

    /// A batch that ends behind this offset is not to be read, and ends the chunk. The offset that
    /// was asked for where there is no batch.
    pub fn upto(&self) -> i64 {
        self.upto
    }

    /// Whether the log has looked at each header just now. Otherwise it did so earlier, and bytes
    /// that are not what they were then have been lost since: it tells whoever fetches them with a
    /// new cursor.
    pub fn is_walked(&self) -> bool {
        self.walked
    }

    /// Whether it begins with the first batch of a segment that is mapped.
    pub fn opens_segment(&self) -> bool {
        matches!(self.held, Held::Mapped(_)) && self.range.start == 0
    }

    /// Whether the records inside the batches are known to be well-formed, where they are not
    /// compressed. Otherwise only the checksums are known.
    #[inline]
    pub fn is_sound(&self) -> bool {
        self.sound
    }

    /// The batches at its beginning that may be taken as they are; none where that is not known.
    pub fn plain(&self) -> PlainPrefix {
        self.plain
    }

    /// Whether there is no batch.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// A part of [`Chunk::bytes`] that keeps them alive on its own.
    ///
    /// # Panics
    /// If the range is not inside.
    pub fn share(&self, range: Range<usize>) -> Bytes {
        let bytes = self.bytes();
        assert!(range.start <= range.end && range.end <= bytes.len(), "{range:?} of a chunk");
        match &self.held {
            Held::Nothing => Bytes::new(),
            Held::Read(bytes) => bytes.slice(range),
            Held::Mapped(region) => {
                let range = self.range.start + range.start..self.range.start + range.end;
                Bytes::from_owner(Pinned { region: region.clone(), range })
            }
        }
    }
}

/// The owner behind shared bytes.
struct Pinned {
    region: Region,
    range: Range<usize>,
}

impl AsRef<[u8]> for Pinned {
    fn as_ref(&self) -> &[u8] {
        self.region.read(self.range.clone())
    }
}
