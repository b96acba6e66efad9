//! Reading a stretch of a segment: whole batches with right checksums, at their own places.

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};
use crate::log::read::{follows, misplaced};
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
    /// Whether offsets are dense there.
    pub dense: bool,
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
        let mut buffer = vec![0; self.max_bytes.max(BATCH_OVERHEAD).min(left)];
        file.read_exact_at(self.position, &mut buffer).map_err(failed)?;
        let first = BatchHeader::parse(&buffer)
            .map_err(|fault| fault.into_error().with_position(self.position))?;
        if first.size() > buffer.len() && first.size() <= left {
            buffer.resize(first.size(), 0);
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
            let (base, next) = (batch.header().base_offset, batch.header().next_offset());
            let Foothold { dense, expected, wanted } = self.place;
            let expected = next_offset.or(expected);
            if dense && !follows(base, next, expected, wanted) {
                if taken > 0 {
                    break;
                }
                let error = misplaced(base, expected.unwrap_or(wanted));
                return Err(error.with_position(self.position));
            }
            if next > self.upto {
                break;
            }
            taken += batch.bytes().len();
            next_offset = Some(batch.header().next_offset());
        }
        buffer.truncate(taken);
        Ok((Bytes::from(buffer), next_offset))
    }
}
