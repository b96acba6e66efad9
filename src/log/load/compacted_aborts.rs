//! Aborted transactions that only another program's `.txnindex` remembers.
//!
//! Compaction removes the data of aborted transactions, and later their markers, but the rows of
//! the transaction index stay. Nothing that can be read depends on such a row, so one is believed
//! where the log cannot speak against it: no batch of its producer is left in its range. Rows
//! whose data is there are made from the log itself.

use crate::error::{Error, Result};
use crate::log::files::names::FileKind;
use crate::log::index::transaction_index;
use crate::log::load::folder::{Folder, FolderFile};
use crate::log::producers::transactions::{
    AbortedTransaction, OpenTransaction, TransactionTracker,
};
use crate::record::BatchHeader;
use crate::storage::Storage;
use std::collections::HashMap;

/// A transaction index beyond this size is not looked at: the rows are only history.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// The rows of one segment's file that nothing has spoken against so far.
#[derive(Debug, Default)]
pub(in crate::log) struct RememberedAborts {
    by_producer: HashMap<i64, Vec<AbortedTransaction>>,
}

impl RememberedAborts {
    /// The rows beside the segment `file`; none where the file is missing or makes no sense.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`] where it cannot be read.
    pub fn of(
        storage: &dyn Storage,
        folder: &Folder,
        file: &FolderFile,
        transactions: &TransactionTracker,
    ) -> Result<RememberedAborts> {
        let mut remembered = RememberedAborts::default();
        let base_offset = file.name.offset;
        let index = folder.file(base_offset, FileKind::TransactionIndex);
        let Some(index) = index.filter(|index| index.len > 0) else { return Ok(remembered) };
        let bytes = match storage.read_file(&index.path, FILE_BYTES_MAX) {
            Ok(bytes) => bytes,
            // Longer than any that was written.
            Err(error) if error.kind() == std::io::ErrorKind::FileTooLarge => {
                return Ok(remembered);
            }
            Err(error) => return Err(Error::io(error, "reading", &index.path)),
        };
        let next = folder.logs().map(|log| log.name.offset).find(|base| *base > base_offset);
        let next_offset = next.unwrap_or(i64::MAX);
        let Ok(rows) = transaction_index::parse(&bytes, base_offset, next_offset) else {
            return Ok(remembered);
        };
        for row in rows {
            remembered.by_producer.entry(row.producer_id).or_default().push(row);
        }
        // What is open here ends before a later transaction of the same producer begins.
        for open in transactions.open() {
            remembered.drop_touched(open.producer_id, open.first_offset, open.first_offset);
        }
        Ok(remembered)
    }

    /// A batch that is there speaks for itself.
    pub fn observe(&mut self, header: &BatchHeader) {
        let speaks = header.is_transactional() && !header.is_control() && header.records_count > 0;
        if speaks && !self.by_producer.is_empty() {
            self.drop_touched(header.producer_id, header.base_offset, header.last_offset());
        }
    }

    fn drop_touched(&mut self, producer_id: i64, first: i64, last: i64) {
        if let Some(rows) = self.by_producer.get_mut(&producer_id) {
            rows.retain(|row| row.last_offset < first || row.first_offset > last);
        }
    }

    /// Adds what is only remembered to what was found in the log, in order of `last_offset`.
    /// `upto` is the log end behind the segment, or the base offset of the next one, and `open`
    /// what is open there.
    pub fn merge(self, found: &mut Vec<AbortedTransaction>, upto: i64, open: &[OpenTransaction]) {
        if self.by_producer.is_empty() {
            return;
        }
        let rows = self.by_producer.into_values().flatten();
        found.extend(rows.filter(|row| row.last_offset < upto));
        found.sort_by_key(|row| row.last_offset);
        found.dedup_by_key(|row| row.last_offset);
        // A lookup ends at a row whose stable offset says that nothing later matters: one that is
        // only remembered must not say so of what began before it and ended later.
        let mut began = open.iter().map(|open| open.first_offset).min().unwrap_or(i64::MAX);
        for row in found.iter_mut().rev() {
            row.last_stable_offset = row.last_stable_offset.min(began);
            began = began.min(row.first_offset);
        }
    }
}
