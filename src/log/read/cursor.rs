//! What a reader keeps between reads, and what a read gives it.

use bytes::Bytes;

use crate::log::read::plain::PlainPrefix;
use crate::log::segment::SegmentView;
use crate::storage::Region;
use std::ops::Range;

/// A place in a log. As long as a reader goes on where it stopped, reading takes no lookup and no
/// lock: the cursor knows the segment and the position.
#[derive(Debug, Clone)]
pub(crate) struct Cursor {
    pub(in crate::log) offset: i64,
    pub(in crate::log) place: Option<Place>,
    /// In an attached log, which maps nothing.
    pub(in crate::log) spot: Option<Spot>,
}

/// Where the batch with the cursor's offset begins.
#[derive(Debug, Clone)]
pub(in crate::log) struct Place {
    pub view: SegmentView,
    pub position: usize,
    /// The base offset of the batch there, where it follows from what lies before; unknown also
    /// where a batch was looked at already.
    pub expected: Option<i64>,
}

/// Where an attached log goes on reading: base offset of the segment, position in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::log) struct Spot {
    pub segment: i64,
    pub position: u64,
    /// As in [`Place`].
    pub expected: Option<i64>,
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

    /// The offset of the next record that a read gives.
    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// Moves over the first `bytes` of a [`Window`]: whole batches, up to the one that has the
    /// record at `offset`, or the first one behind it. `whole`: that is where a batch ended.
    pub fn advance(&mut self, bytes: usize, offset: i64, whole: bool) {
        self.offset = offset;
        if let Some(place) = &mut self.place {
            place.position += bytes;
            if bytes > 0 {
                place.expected = whole.then_some(offset);
            }
        }
    }

    /// Gives back the last `bytes` of what the last read gave: whole batches, the first of which
    /// has the record at `offset`, or the first one behind it.
    pub fn step_back(&mut self, bytes: usize, offset: i64) {
        self.offset = offset;
        if let Some(place) = &mut self.place {
            place.position = place.position.saturating_sub(bytes);
            // What is given back was found to be at its place.
            place.expected = place.expected.filter(|_| bytes == 0);
        }
        if let Some(spot) = &mut self.spot {
            spot.position = spot.position.saturating_sub(bytes as u64);
            spot.expected = spot.expected.filter(|_| bytes == 0);
        }
    }
}

#[cfg(test)]
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
    next_offset: i64,
    sound: bool,
    plain: PlainPrefix,
}

/// What keeps the bytes of a chunk.
#[derive(Debug, Clone)]
enum Held {
    Nothing,
    Mapped(Region),
    Read(Bytes),
}

impl Chunk {
    /// `sound`: the records of all batches are well-formed.
    pub(in crate::log) fn new(
        region: Region,
        range: Range<usize>,
        next_offset: i64,
        sound: bool,
    ) -> Chunk {
        let plain = PlainPrefix::default();
        Chunk { held: Held::Mapped(region), range, next_offset, sound, plain }
    }

    /// The same, of which this much is known to be plain.
    pub(in crate::log) fn with_plain(self, plain: Option<PlainPrefix>) -> Chunk {
        Chunk { plain: plain.unwrap_or_default(), ..self }
    }

    /// Batches that were read from a file of somebody else's.
    pub(in crate::log) fn read(bytes: Bytes, next_offset: i64) -> Chunk {
        let range = 0..bytes.len();
        let plain = PlainPrefix::default();
        Chunk { held: Held::Read(bytes), range, next_offset, sound: false, plain }
    }

    /// Nothing to be read at `offset`.
    pub(in crate::log) fn empty(offset: i64) -> Chunk {
        let plain = PlainPrefix::default();
        Chunk { held: Held::Nothing, range: 0..0, next_offset: offset, sound: false, plain }
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
    pub(in crate::log) fn size(&self) -> usize {
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

    /// The offset behind the last batch; the one that was asked for if there is none.
    pub fn next_offset(&self) -> i64 {
        self.next_offset
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

/// Everything from a cursor on in one segment that is known to be sound, as it lies: whoever walks
/// over it finds where batches end.
#[derive(Debug)]
pub(crate) struct Window {
    /// From the batch with the cursor's offset to the last one that is published and sound.
    pub chunk: Chunk,
    /// Batches that do not end below it are not to be read.
    pub upto: i64,
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
