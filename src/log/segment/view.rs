//! The bytes of a segment as a reader holds them.

use crate::log::segment::Segment;
use crate::storage::Region;
use crate::sync::Arc;

/// The bytes of a segment, held in place for a reader.
#[derive(Debug, Clone)]
pub(crate) struct SegmentView {
    pub(super) segment: Arc<Segment>,
    pub(super) region: Region,
    /// The end of the batches; `None` while a writer moves it.
    pub(super) size: Option<usize>,
}

impl SegmentView {
    #[inline]
    pub fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    pub fn region(&self) -> &Region {
        &self.region
    }

    /// Where the batches that may be read end. Everything below it stays as it is.
    #[inline]
    pub fn limit(&self) -> usize {
        let published = self.region.published();
        self.size.map_or(published, |size| size.min(published))
    }

    /// The limit, or where bytes begin that the operating system cannot give any more.
    #[inline]
    pub fn readable(&self) -> usize {
        self.limit().min(self.region.lost_from())
    }

    /// Whether there is a byte at `position` that cannot be read any more.
    #[inline]
    pub fn is_lost(&self, position: usize) -> bool {
        position >= self.region.lost_from() && position < self.limit()
    }

    /// Has the file's length say where exactly the bytes that cannot be read any more begin: the
    /// rest of the last page that is left reads as zeros.
    #[cold]
    pub fn find_loss(&self) {
        if let Some(Ok(len)) = self.segment.file().map(|file| file.len())
            && len < self.limit() as u64
        {
            self.region.lose_from(len);
        }
    }

    /// Whether there are bytes that cannot be read any more.
    #[inline]
    pub fn has_lost(&self) -> bool {
        self.region.lost_from() < self.limit()
    }

    /// The batches from `from` to where they can be read.
    #[inline]
    pub fn bytes_from(&self, from: usize) -> &[u8] {
        let limit = self.readable();
        if from < limit { self.region.read(from..limit) } else { &[] }
    }
}
