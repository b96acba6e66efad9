//! What opening, recovery and checks of a partition have to say.

use std::fmt;
use std::path::PathBuf;

/// One thing that was found, and where.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Finding {
    /// The kind of a finding.
    pub kind: FindingKind,
    /// The file, or the partition's folder.
    pub path: PathBuf,
    /// The byte position in the file.
    pub position: Option<u64>,
    /// The offset of the first record that is concerned.
    pub offset: Option<i64>,
    /// One lower-case sentence.
    pub message: String,
}

/// The kind of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum FindingKind {
    /// Bytes that are not a valid batch, before others that are, or where a sync had succeeded.
    Corrupt,
    /// Bytes that the operating system does not give.
    Unreadable,
    /// A file longer than any segment: what is behind that is not looked at.
    TooLong,
    /// A batch whose records decompress to more than the broker's setting allows: no damage.
    TooLarge,
    /// Messages of a format that is not read.
    OldFormat,
    /// Bytes behind the last valid batch that are not zeros.
    TornTail,
    /// Zeros behind the last valid batch: the file was preallocated and not cut.
    UncutTail,
    /// Files behind the end of the log, left by a power cut.
    LostSegments,
    /// A segment's file that should be there is not.
    MissingSegment,
    /// An index, a snapshot or a checkpoint that does not hold and is rebuilt or ignored.
    DerivedFile,
    /// Files of a compaction, a deletion or a roll that did not finish.
    HalfDone,
    /// The files are not as the state file says: the partition is read as a foreign one.
    StateContradicted,
    /// The log ends below the offset that it ought to begin at.
    StartAboveEnd,
    /// A folder or a file of batches that is a symbolic link: it is read, and never written.
    Link,
}

impl FindingKind {
    /// The name in the output of the command line.
    pub fn name(self) -> &'static str {
        match self {
            FindingKind::Corrupt => "corrupt",
            FindingKind::Unreadable => "unreadable",
            FindingKind::TooLong => "too-long",
            FindingKind::TooLarge => "too-large",
            FindingKind::OldFormat => "old-format",
            FindingKind::TornTail => "torn-tail",
            FindingKind::UncutTail => "uncut-tail",
            FindingKind::LostSegments => "lost-segments",
            FindingKind::MissingSegment => "missing-segment",
            FindingKind::DerivedFile => "derived-file",
            FindingKind::HalfDone => "half-done",
            FindingKind::StateContradicted => "state-contradicted",
            FindingKind::StartAboveEnd => "start-above-end",
            FindingKind::Link => "link",
        }
    }

    /// Normal after a kill, or as somebody made it: no reason to worry.
    pub fn is_note(self) -> bool {
        matches!(self, FindingKind::UncutTail | FindingKind::HalfDone | FindingKind::Link)
    }
}

impl Finding {
    /// Whether it is normal after a kill, or as somebody made it: no reason to worry.
    pub fn is_note(&self) -> bool {
        self.kind.is_note()
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.name(), self.path.display())?;
        if let Some(position) = self.position {
            write!(f, " at position {position}")?;
        }
        if let Some(offset) = self.offset {
            write!(f, ", offset {offset}")?;
        }
        write!(f, ": {}", self.message)
    }
}
