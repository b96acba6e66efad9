//! Leader epochs: which life of which broker wrote which offsets.
//!
//! Each life of a broker stamps its epoch into every batch it writes. The first offset of each
//! epoch is kept beside the segments, in `leader-epoch-checkpoint`:
//! ```text
//! 0             version
//! 2             how many rows follow
//! 0 0           epoch, its first offset
//! 3 104
//! ```
//! Recovery checks epochs against it, because a batch's CRC does not cover its epoch (rule R3).

use std::path::Path;

use crate::error::{Error, ErrorKind, Result};
use crate::log::files::checkpoint;
use crate::storage::Storage;

/// The first offset that was written under a leader epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EpochStart {
    pub epoch: i32,
    pub start_offset: i64,
}

/// The file's name, inside a partition's folder.
pub(crate) const LEADER_EPOCH_CHECKPOINT: &str = "leader-epoch-checkpoint";

/// The first offset of each epoch, ascending in both.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct EpochChain {
    starts: Vec<EpochStart>,
}

impl EpochChain {
    /// A chain of rows that somebody kept; rows that do not ascend in both fields are left out.
    pub fn from_starts(starts: &[EpochStart]) -> EpochChain {
        let mut chain = EpochChain::default();
        for start in starts {
            chain.assign(start.epoch, start.start_offset);
        }
        chain
    }

    /// The rows.
    pub fn starts(&self) -> &[EpochStart] {
        &self.starts
    }

    /// The newest epoch, if there is one.
    pub fn latest(&self) -> Option<i32> {
        self.starts.last().map(|start| start.epoch)
    }

    /// The epoch that wrote `offset`.
    pub fn epoch_of(&self, offset: i64) -> Option<i32> {
        let after = self.starts.partition_point(|start| start.start_offset <= offset);
        after.checked_sub(1).and_then(|at| self.starts.get(at)).map(|start| start.epoch)
    }

    /// Takes note that `epoch` writes from `offset` on. An epoch under which nothing was written
    /// is replaced, and a lower epoch than the newest changes nothing. Returns whether it did.
    #[inline]
    pub fn assign(&mut self, epoch: i32, offset: i64) -> bool {
        let news = epoch > self.latest().unwrap_or(-1) && offset >= 0;
        if news {
            self.begin(epoch, offset);
        }
        news
    }

    #[cold]
    fn begin(&mut self, epoch: i32, offset: i64) {
        self.truncate_end(offset);
        self.starts.push(EpochStart { epoch, start_offset: offset });
    }

    /// Forgets what lies at or above a new log end.
    pub fn truncate_end(&mut self, log_end_offset: i64) {
        self.starts.retain(|start| start.start_offset < log_end_offset);
    }

    /// Forgets what lies below a new log start: the first row begins there.
    pub fn truncate_start(&mut self, log_start_offset: i64) {
        let after = self.starts.partition_point(|start| start.start_offset <= log_start_offset);
        if let Some(first) = after.checked_sub(1) {
            self.starts.drain(..first);
            if let Some(first) = self.starts.first_mut() {
                first.start_offset = log_start_offset;
            }
        }
    }

    /// Reads the text of the file.
    ///
    /// # Errors
    /// [`ErrorKind::UnsupportedFormat`] or [`ErrorKind::CorruptRecord`].
    pub fn parse(text: &str) -> Result<EpochChain> {
        let rows = checkpoint::parse_rows(text, |[epoch, offset]: [&str; 2]| {
            Some(EpochStart { epoch: epoch.parse().ok()?, start_offset: offset.parse().ok()? })
        })?;
        let mut chain = EpochChain::default();
        for row in rows {
            let ascends = chain
                .starts
                .last()
                .is_none_or(|last| last.epoch < row.epoch && last.start_offset < row.start_offset);
            if !ascends || row.epoch < 0 || row.start_offset < 0 {
                return Err(Error::new(ErrorKind::CorruptRecord, "its rows do not ascend"));
            }
            chain.starts.push(row);
        }
        Ok(chain)
    }

    /// The text of the file.
    pub fn to_text(&self) -> String {
        let mut text = format!("0\n{}\n", self.starts.len());
        for start in &self.starts {
            text.push_str(&format!("{} {}\n", start.epoch, start.start_offset));
        }
        text
    }

    /// Reads the file of a partition's folder; a missing or an empty one is an empty chain.
    ///
    /// # Errors
    /// As [`EpochChain::parse`], or [`ErrorKind::Io`].
    pub fn read(storage: &dyn Storage, folder: &Path) -> Result<EpochChain> {
        let path = folder.join(LEADER_EPOCH_CHECKPOINT);
        match checkpoint::read_text(storage, &path)? {
            None => Ok(EpochChain::default()),
            Some(text) => EpochChain::parse(&text).map_err(|error| error.with_path(path)),
        }
    }

    /// Replaces the file of a partition's folder, durably.
    ///
    /// # Errors
    /// `Io` or `StorageFull`.
    pub fn write(&self, storage: &dyn Storage, folder: &Path) -> Result<()> {
        let path = folder.join(LEADER_EPOCH_CHECKPOINT);
        checkpoint::replace_file(storage, &path, self.to_text().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(chain: &EpochChain) -> Vec<(i32, i64)> {
        chain.starts().iter().map(|start| (start.epoch, start.start_offset)).collect()
    }

    #[test]
    fn an_epoch_without_a_record_is_replaced() {
        let mut chain = EpochChain::default();
        assert!(chain.assign(0, 0));
        assert!(!chain.assign(0, 5), "the same life goes on");
        assert!(chain.assign(2, 10));
        assert!(chain.assign(4, 10));
        assert!(!chain.assign(3, 12), "epochs never fall");
        assert_eq!(rows(&chain), [(0, 0), (4, 10)]);
        assert_eq!(chain.epoch_of(9), Some(0));
        assert_eq!(chain.epoch_of(10), Some(4));
        assert_eq!(EpochChain::default().epoch_of(0), None);
    }

    #[test]
    fn borders_that_move_take_rows_along() {
        let chain = EpochChain::parse("0\n3\n0 0\n2 50\n4 100\n").unwrap();
        let cut = |edit: fn(&mut EpochChain)| {
            let mut chain = chain.clone();
            edit(&mut chain);
            rows(&chain)
        };
        assert_eq!(cut(|c| c.truncate_end(100)), [(0, 0), (2, 50)]);
        assert_eq!(cut(|c| c.truncate_start(49)), [(0, 49), (2, 50), (4, 100)]);
        assert_eq!(cut(|c| c.truncate_start(104)), [(4, 104)]);
        assert_eq!(cut(|c| c.truncate_start(0)), [(0, 0), (2, 50), (4, 100)]);
    }

    #[test]
    fn the_text_is_kafkas() {
        let chain = EpochChain::parse("0\n2\n0 0\n2 17\n").unwrap();
        assert_eq!(chain.to_text(), "0\n2\n0 0\n2 17\n");
        assert_eq!(EpochChain::parse("").unwrap(), EpochChain::default());
        for bad in ["0\n2\n2 0\n0 17\n", "0\n2\n0 17\n2 17\n", "0\n1\n0 -1\n", "0\n1\n-1 0\n"] {
            assert_eq!(EpochChain::parse(bad).unwrap_err().kind(), ErrorKind::CorruptRecord);
        }
    }
}
