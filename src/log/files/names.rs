//! Names of the files and folders of a partition, as Apache Kafka spells them.
//!
//! A segment file is named by its base offset in 20 digits, a kind, and at times a marker of an
//! unfinished operation: `00000000000000000120.log.swap`. A folder is `topic-partition`, or has a
//! marker behind a dot while the partition is being deleted or moved.

use crate::topic::TopicPartition;

/// Digits of the base offset in a file name: as many as `i64::MAX` has, and one more (Kafka).
const OFFSET_DIGITS: usize = 20;

/// The kind of a segment's file, by what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum FileKind {
    /// `.log`: the batches.
    Log,
    /// `.index`: offsets to positions.
    OffsetIndex,
    /// `.timeindex`: timestamps to offsets.
    TimeIndex,
    /// `.txnindex`: aborted transactions.
    TransactionIndex,
    /// `.snapshot`: producer state up to the offset in the name.
    Snapshot,
}

impl FileKind {
    /// Every kind, the batches first.
    pub const ALL: [FileKind; 5] = [
        FileKind::Log,
        FileKind::OffsetIndex,
        FileKind::TimeIndex,
        FileKind::TransactionIndex,
        FileKind::Snapshot,
    ];

    /// The ending, with its dot.
    pub fn suffix(self) -> &'static str {
        match self {
            FileKind::Log => ".log",
            FileKind::OffsetIndex => ".index",
            FileKind::TimeIndex => ".timeindex",
            FileKind::TransactionIndex => ".txnindex",
            FileKind::Snapshot => ".snapshot",
        }
    }
}

/// The operation that a file is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum FileStage {
    /// A file in use.
    Live,
    /// `.deleted`: renamed, to be removed.
    Deleted,
    /// `.cleaned`: written by a compaction that did not finish.
    Cleaned,
    /// `.swap`: complete, to take the place of the files it was made of.
    Swap,
}

impl FileStage {
    /// The ending behind the kind, with its dot; empty for a file in use.
    pub fn suffix(self) -> &'static str {
        match self {
            FileStage::Live => "",
            FileStage::Deleted => ".deleted",
            FileStage::Cleaned => ".cleaned",
            FileStage::Swap => ".swap",
        }
    }
}

/// The parsed name of a segment file or a producer snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SegmentFileName {
    pub offset: i64,
    pub kind: FileKind,
    pub stage: FileStage,
}

impl SegmentFileName {
    /// The name of a file in use.
    pub fn live(offset: i64, kind: FileKind) -> SegmentFileName {
        SegmentFileName { offset, kind, stage: FileStage::Live }
    }

    /// Reads a name; `None` for everything that is not a segment's file.
    ///
    /// Only the name that would be written back counts: exactly 20 digits, at most `i64::MAX`.
    pub fn parse(name: &str) -> Option<SegmentFileName> {
        let dot = name.find('.')?;
        let (digits, ending) = name.split_at(dot);
        if digits.len() != OFFSET_DIGITS || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let offset = digits.parse().ok()?;
        let stages = [FileStage::Deleted, FileStage::Cleaned, FileStage::Swap];
        let (kind, stage) = stages
            .iter()
            .find_map(|&stage| Some((ending.strip_suffix(stage.suffix())?, stage)))
            .unwrap_or((ending, FileStage::Live));
        let kind = FileKind::ALL.into_iter().find(|known| known.suffix() == kind)?;
        Some(SegmentFileName { offset, kind, stage })
    }
}

impl std::fmt::Display for SegmentFileName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let width = OFFSET_DIGITS;
        write!(f, "{:0width$}{}{}", self.offset, self.kind.suffix(), self.stage.suffix())
    }
}

/// The name of a segment's file in use: 20 digits and the kind's ending.
pub(crate) fn file_name(offset: i64, kind: FileKind) -> String {
    SegmentFileName::live(offset, kind).to_string()
}

/// The parsed name of a folder inside the log directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FolderName {
    /// `topic-partition`.
    Partition(TopicPartition),
    /// `topic-partition.<id>-delete`: a deleted partition whose files are still there. The topic
    /// may have been cut to keep the name short.
    Deleting(TopicPartition),
    /// `topic-partition.<id>-stray`: a partition that the cluster did not know.
    Stray(TopicPartition),
    /// `topic-partition.<id>-future`: the unfinished copy of a move between disks.
    Future(TopicPartition),
}

impl FolderName {
    /// Reads a name; `None` for everything that is not a partition's folder.
    pub fn parse(name: &str) -> Option<FolderName> {
        type Wrap = fn(TopicPartition) -> FolderName;
        let marked: [(&str, Wrap); 3] = [
            ("-delete", FolderName::Deleting),
            ("-stray", FolderName::Stray),
            ("-future", FolderName::Future),
        ];
        for (marker, wrap) in marked {
            // A topic may itself end in such a word: only the id before it decides.
            let Some((partition, id)) =
                name.strip_suffix(marker).and_then(|rest| rest.rsplit_once('.'))
            else {
                continue;
            };
            if id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()) {
                return TopicPartition::parse(partition).map(wrap);
            }
        }
        TopicPartition::parse(name).map(FolderName::Partition)
    }
}

/// The folder of a partition.
pub(crate) fn folder_name(topic: &str, partition: i32) -> String {
    format!("{topic}-{partition}")
}

/// The folder of a deleted partition until its files are removed. `id` is any 32 hexadecimal
/// digits; a long topic is cut so that the name keeps to 255 characters, as Kafka does.
pub(crate) fn deleting_folder_name(topic: &str, partition: i32, id: u128) -> String {
    let ending = format!("-{partition}.{id:032x}-delete");
    let keep = topic.len().min(255 - ending.len());
    format!("{}{ending}", topic.get(..keep).unwrap_or(topic))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_and_stage_reads_back_as_it_was_written() {
        for kind in FileKind::ALL {
            for stage in [FileStage::Live, FileStage::Deleted, FileStage::Cleaned, FileStage::Swap]
            {
                for offset in [0, 120, i64::MAX] {
                    let name = SegmentFileName { offset, kind, stage };
                    assert_eq!(SegmentFileName::parse(&name.to_string()), Some(name));
                }
            }
        }
        assert_eq!(file_name(120, FileKind::Log), "00000000000000000120.log");
    }

    #[test]
    fn other_names_are_left_alone() {
        for name in [
            "leader-epoch-checkpoint",
            "partition.metadata",
            "00000000000000000000",
            ".log",
            "x.log",
            "120.log",
            "+0000000000000000120.log",
            "00000000000000000000.log.cut",
            "00000000000000000000.log.swap.swap",
            "00000000000000000000.checkpoint",
            "99999999999999999999.log",
        ] {
            assert_eq!(SegmentFileName::parse(name), None, "{name}");
        }
    }

    #[test]
    fn folders_are_told_apart_by_their_marker() {
        let id = "0123456789abcdef0123456789ABCDEF";
        let tp = TopicPartition::new("a-b", 3);
        let parse = |name: String| FolderName::parse(&name);
        assert_eq!(parse("a-b-3".into()), Some(FolderName::Partition(tp.clone())));
        assert_eq!(parse(format!("a-b-3.{id}-delete")), Some(FolderName::Deleting(tp.clone())));
        assert_eq!(parse(format!("a-b-3.{id}-stray")), Some(FolderName::Stray(tp.clone())));
        assert_eq!(parse(format!("a-b-3.{id}-future")), Some(FolderName::Future(tp)));
        let odd = TopicPartition::new("x.1-delete", 0);
        assert_eq!(parse("x.1-delete-0".into()), Some(FolderName::Partition(odd)));
        assert_eq!(parse("x.1-delete".into()), None);
        assert_eq!(parse("no partition".into()), None);
    }

    #[test]
    fn the_folder_of_a_deleted_partition_keeps_to_255_characters() {
        let long = "t".repeat(249);
        let name = deleting_folder_name(&long, 100, u128::MAX);
        assert_eq!(name.len(), 255);
        assert!(matches!(FolderName::parse(&name), Some(FolderName::Deleting(_))));
        assert_eq!(
            FolderName::parse(&deleting_folder_name("t", 1, 7)),
            Some(FolderName::Deleting(TopicPartition::new("t", 1)))
        );
    }
}
