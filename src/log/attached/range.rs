//! Reading a stretch of a segment: whole batches with right checksums, at their own places.

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};
use crate::log::read::{base_at, due_instead, misplaced};
use crate::log::segment::order::BatchOrder;
use crate::record::{BATCH_OVERHEAD, BatchHeader, RecordBatch};
use crate::storage::File;

/// A stretch of a segment that a read wants.
pub(super) struct FetchRange {
    pub position: u64,
    /// Where the batches of the segment end.
    pub end: u64,
    pub max_bytes: usize,
    pub upto: i64,
    pub place: Foothold,
}

/// The place at which a read begins, as far as it is known.
pub(super) struct Foothold {
    /// What the batches there are held to.
    pub order: BatchOrder,
    pub expected: Option<i64>,
    pub wanted: i64,
}

impl FetchRange {
    /// The bytes of whole batches with right checksums at their own places, and the offset behind
    /// them.
    pub fn read(&self, file: &dyn File) -> Result<(Bytes, Option<i64>)> {
        let failed = |error: std::io::Error| {
            Error::new(ErrorKind::Io, format!("reading: {error}")).with_source(error)
        };
        let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
        // The header behind the last batch tells of that one's place.
        let with_next = |size: usize| size.saturating_add(BATCH_OVERHEAD).min(left);
        let mut buffer = vec![0; with_next(self.max_bytes.max(BATCH_OVERHEAD))];
        file.read_exact_at(self.position, &mut buffer).map_err(failed)?;
        let first = BatchHeader::parse(&buffer)
            .map_err(|fault| fault.into_error().with_position(self.position))?;
        if with_next(first.size()) > buffer.len() && first.size() <= left {
            buffer.resize(with_next(first.size()), 0);
            file.read_exact_at(self.position, &mut buffer).map_err(failed)?;
        }
        let (mut taken, mut next_offset) = (0, None);
        while let Some(rest) = buffer.get(taken..).filter(|rest| !rest.is_empty()) {
            let checked = RecordBatch::parse(rest).and_then(|batch| {
                batch.check_crc()?;
                Ok(batch)
            });
            let batch = match checked {
                Ok(batch) => batch,
                Err(_) if taken > 0 => break,
                Err(fault) => return Err(fault.into_error().with_position(self.position)),
            };
            let (header, size) = (*batch.header(), batch.bytes().len());
            let Foothold { order, expected, wanted } = self.place;
            let expected = next_offset.or(expected);
            let following = || base_at(rest, size);
            if let Some(due) = due_instead(order, &header, expected, wanted, following) {
                if taken > 0 {
                    break;
                }
                let error = misplaced(order, header.base_offset, due);
                return Err(error.with_position(self.position));
            }
            let next = header.next_offset();
            if next > self.upto {
                break;
            }
            taken += size;
            next_offset = Some(next);
        }
        buffer.truncate(taken);
        Ok((Bytes::from(buffer), next_offset))
    }
}
