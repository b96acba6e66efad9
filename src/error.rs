//! The one error type of the crate: what failed, where, and what a caller may do about it.
//!
//! [`Error`] is one word wide. [`Error::kind`] decides behaviour; the context (topic, partition,
//! offset, path, position) is kept as values, not only as text. Kinds carry Kafka's names, and
//! [`Error::kafka_name`] gives the name that a user of Apache Kafka would see in the same place.

use std::fmt;
use std::path::{Path, PathBuf};

/// The result of everything that can fail here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident => $kafka:literal, $class:ident, $abort:ident;)*) => {
        /// What failed. Names are Kafka's; the last group is this crate's own.
        ///
        /// The protocol's error table (`Errors.java`) is the source of the names. A kind is
        /// retriable, fatal or plain, as the predicates of [`Error`] say; one that aborts, told by
        /// a send or by offsets inside a transaction, leaves only the abort to it.
        ///
        /// | kind | Kafka's name | is | in a transaction |
        /// | --- | --- | --- | --- |
        $(#[doc = concat!(
            "| `", stringify!($name), "` | `", $kafka, "` | ",
            kinds!(@class $class), " | ", kinds!(@abort $abort), " |"
        )])*
        ///
        /// # Examples
        /// ```
        /// use topiclite::{Broker, ErrorKind, TopicConfig};
        /// let broker = Broker::in_memory()?;
        /// let create = |name| broker.admin().create_topic(name, 1, TopicConfig::default());
        /// create("orders")?;
        /// match create("orders") {
        ///     Ok(()) => unreachable!("it is there"),
        ///     Err(error) => match error.kind() {
        ///         ErrorKind::TopicExists => {} // as good as made
        ///         _ => return Err(error),
        ///     },
        /// }
        /// let refused = create("no/slash").unwrap_err();
        /// assert_eq!(refused.kind(), ErrorKind::InvalidTopic);
        /// assert_eq!(refused.kafka_name(), "INVALID_TOPIC_EXCEPTION");
        /// assert_eq!(refused.kind().to_string(), "invalid topic");
        /// # Ok::<(), topiclite::Error>(())
        /// ```
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorKind {
            $($(#[$doc])* $name,)*
        }

        impl ErrorKind {
            /// Every kind, in declaration order.
            pub const ALL: &'static [ErrorKind] = &[$(ErrorKind::$name,)*];

            /// The name of the variant, as written in Rust.
            pub fn name(self) -> &'static str {
                match self { $(ErrorKind::$name => stringify!($name),)* }
            }

            /// The protocol's error name, or the simple name of the Java client's exception.
            pub fn kafka_name(self) -> &'static str {
                match self { $(ErrorKind::$name => $kafka,)* }
            }

            fn class(self) -> Class {
                match self { $(ErrorKind::$name => Class::$class,)* }
            }

            fn abort(self) -> Abort {
                match self { $(ErrorKind::$name => Abort::$abort,)* }
            }
        }
    };
    (@class Retriable) => { "retriable" };
    (@class Plain) => { "plain" };
    (@class Fatal) => { "fatal" };
    (@abort Aborts) => { "aborts" };
    (@abort Stays) => { "-" };
}

/// What a kind does to an open transaction: see [`Error::requires_abort`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Abort {
    /// It can only be aborted.
    Aborts,
    /// Nothing, or the kind is not told of a record or an offset.
    Stays,
}

/// How a program should react: see the predicates of [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// The same call may succeed later.
    Retriable,
    /// The call failed; the handle is usable and a repetition fails the same way.
    Plain,
    /// The handle is of no further use.
    Fatal,
}

kinds! {
    /// A fetch or a seek named an offset below the log start offset or above the log end offset.
    OffsetOutOfRange => "OffsetOutOfRangeException", Plain, Stays;
    /// A partition without position or commit, under `auto.offset.reset=none`.
    NoOffsetForPartition => "NoOffsetForPartitionException", Plain, Stays;
    /// The topic does not exist, or has no such partition.
    UnknownTopicOrPartition => "UNKNOWN_TOPIC_OR_PARTITION", Plain, Aborts;
    /// A topic of this name exists.
    TopicExists => "TOPIC_ALREADY_EXISTS", Plain, Stays;
    /// The name breaks the rules for topic names, or the topic is internal.
    InvalidTopic => "INVALID_TOPIC_EXCEPTION", Plain, Aborts;
    /// `delete.topic.enable` is false.
    TopicDeletionDisabled => "TOPIC_DELETION_DISABLED", Plain, Stays;
    /// A number of partitions that is not allowed here.
    InvalidPartitions => "INVALID_PARTITIONS", Plain, Stays;
    /// A replication factor other than 1 (or -1, the default).
    InvalidReplicationFactor => "INVALID_REPLICATION_FACTOR", Plain, Stays;
    /// A record exceeds `max.request.size` or the topic's `max.message.bytes`.
    RecordTooLarge => "MESSAGE_TOO_LARGE", Plain, Aborts;
    /// A batch exceeds the topic's `segment.bytes`.
    RecordBatchTooLarge => "RECORD_LIST_TOO_LARGE", Plain, Aborts;
    /// Stored bytes are not a valid batch: wrong checksum, length, magic or offset.
    CorruptRecord => "CORRUPT_MESSAGE", Plain, Aborts;
    /// The record breaks a rule of its topic, such as a key on a compacted one.
    InvalidRecord => "INVALID_RECORD", Plain, Aborts;
    /// The record's timestamp is outside the topic's bounds.
    InvalidTimestamp => "INVALID_TIMESTAMP", Plain, Aborts;
    /// The topic's policy forbids the call.
    PolicyViolation => "POLICY_VIOLATION", Plain, Aborts;
    /// A codec that this build does not contain.
    UnsupportedCompressionType => "UNSUPPORTED_COMPRESSION_TYPE", Plain, Aborts;
    /// The generation is not the group's.
    IllegalGeneration => "ILLEGAL_GENERATION", Plain, Stays;
    /// The group has no such member.
    UnknownMemberId => "UNKNOWN_MEMBER_ID", Plain, Stays;
    /// The member has to join again with the id it was given.
    MemberIdRequired => "MEMBER_ID_REQUIRED", Plain, Stays;
    /// The group is rebalancing.
    RebalanceInProgress => "REBALANCE_IN_PROGRESS", Plain, Stays;
    /// Another member took over the `group.instance.id`.
    FencedInstanceId => "FENCED_INSTANCE_ID", Fatal, Aborts;
    /// The member epoch of the new protocol is stale.
    FencedMemberEpoch => "FENCED_MEMBER_EPOCH", Plain, Stays;
    /// The member supports no protocol that the group could use.
    InconsistentGroupProtocol => "INCONSISTENT_GROUP_PROTOCOL", Fatal, Stays;
    /// `group.max.size` is reached.
    GroupMaxSizeReached => "GROUP_MAX_SIZE_REACHED", Plain, Stays;
    /// The session timeout is outside the broker's bounds.
    InvalidSessionTimeout => "INVALID_SESSION_TIMEOUT", Fatal, Stays;
    /// The group id is empty or missing where one is needed.
    InvalidGroupId => "INVALID_GROUP_ID", Plain, Stays;
    /// No such group.
    GroupIdNotFound => "GROUP_ID_NOT_FOUND", Plain, Stays;
    /// The group has members.
    NonEmptyGroup => "NON_EMPTY_GROUP", Plain, Stays;
    /// A live member of the group subscribes to the topic.
    GroupSubscribedToTopic => "GROUP_SUBSCRIBED_TO_TOPIC", Plain, Stays;
    /// The coordinator is loading or stopping.
    CoordinatorNotAvailable => "COORDINATOR_NOT_AVAILABLE", Retriable, Stays;
    /// Commit metadata is longer than `offset.metadata.max.bytes`.
    OffsetMetadataTooLarge => "OFFSET_METADATA_TOO_LARGE", Plain, Stays;
    /// Offsets of an open transaction are pending on the partition.
    UnstableOffsetCommit => "UNSTABLE_OFFSET_COMMIT", Retriable, Stays;
    /// The member lost its partitions, so its commit is refused.
    CommitFailed => "CommitFailedException", Plain, Aborts;
    /// An asynchronous commit failed in a way that may pass.
    RetriableCommitFailed => "RetriableCommitFailedException", Retriable, Stays;
    /// A newer producer took over, so this one is finished.
    ProducerFenced => "PRODUCER_FENCED", Fatal, Stays;
    /// The producer epoch is stale.
    InvalidProducerEpoch => "INVALID_PRODUCER_EPOCH", Plain, Aborts;
    /// A gap in the sequence numbers of an idempotent producer.
    OutOfOrderSequence => "OUT_OF_ORDER_SEQUENCE_NUMBER", Plain, Aborts;
    /// A newer coordinator took over the transactions of this one.
    TransactionCoordinatorFenced => "TRANSACTION_COORDINATOR_FENCED", Fatal, Stays;
    /// The producer id is not that of the transactional id.
    InvalidProducerIdMapping => "INVALID_PRODUCER_ID_MAPPING", Plain, Aborts;
    /// No such transactional id.
    TransactionalIdNotFound => "TRANSACTIONAL_ID_NOT_FOUND", Plain, Stays;
    /// The transaction is in a state that does not allow the call.
    InvalidTxnState => "INVALID_TXN_STATE", Fatal, Stays;
    /// The transaction was aborted before the batch was sent.
    TransactionAborted => "TransactionAbortedException", Plain, Aborts;
    /// The transaction can only be aborted.
    TransactionAbortable => "TRANSACTION_ABORTABLE", Plain, Aborts;
    /// Another operation on the same transactional id is under way.
    ConcurrentTransactions => "CONCURRENT_TRANSACTIONS", Retriable, Stays;
    /// The transaction timeout is above the broker's limit.
    InvalidTransactionTimeout => "INVALID_TRANSACTION_TIMEOUT", Fatal, Stays;
    /// The call did not finish within its timeout.
    Timeout => "REQUEST_TIMED_OUT", Retriable, Aborts;
    /// `buffer.memory` stayed full for `max.block.ms`.
    BufferExhausted => "BufferExhaustedException", Retriable, Aborts;
    /// `wakeup` interrupted the call.
    Wakeup => "WakeupException", Plain, Stays;
    /// The call is not allowed in the present state of the handle.
    IllegalState => "IllegalStateException", Plain, Stays;
    /// An argument is outside its range.
    IllegalArgument => "IllegalArgumentException", Plain, Stays;
    /// A plain failure of a client, with the reason as its source.
    Kafka => "KafkaException", Plain, Stays;
    /// The operation is not supported in this mode.
    UnsupportedVersion => "UNSUPPORTED_VERSION", Plain, Stays;
    /// A topic or group setting has a value that is refused.
    InvalidTopicConfig => "INVALID_CONFIG", Plain, Stays;
    /// A request with contradictory or repeated parts.
    InvalidRequest => "INVALID_REQUEST", Plain, Stays;

    /// A client or broker property is unknown, or its value is refused.
    InvalidConfig => "ConfigException", Plain, Stays;
    /// The operating system refused a call on a file.
    Io => "KAFKA_STORAGE_ERROR", Retriable, Aborts;
    /// The disk is full; nothing was written.
    StorageFull => "KAFKA_STORAGE_ERROR", Retriable, Aborts;
    /// A sync failed: what was written since the last one may be lost, and the partition is
    /// read-only until the directory is opened again.
    StorageFailed => "KAFKA_STORAGE_ERROR", Fatal, Aborts;
    /// Another process, or another handle of this one, owns the directory; or it may do so,
    /// because the lock file of this owner was removed or replaced.
    Locked => "KAFKA_STORAGE_ERROR", Plain, Stays;
    /// A file has a format that this version does not read.
    UnsupportedFormat => "UNSUPPORTED_FOR_MESSAGE_FORMAT", Plain, Stays;
    /// The directory is attached for reading, or the partition is read-only after damage.
    ReadOnly => "KAFKA_STORAGE_ERROR", Plain, Aborts;
    /// The handle, or the broker behind it, is closed.
    Closed => "IllegalStateException", Fatal, Stays;
}

/// Why a change of a directory was refused: its lock file is not the one that its owner locked. It
/// is the payload of an [`std::io::Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockLost;

impl LockLost {
    /// Whether `error`, or a cause of it, says so.
    pub(crate) fn caused(error: &Error) -> bool {
        let refused = |cause: &(dyn std::error::Error + 'static)| {
            cause.downcast_ref::<std::io::Error>().is_some_and(LockLost::is_in)
        };
        error.causes().any(refused)
    }

    /// Whether that is the reason inside `error`.
    pub fn is_in(error: &std::io::Error) -> bool {
        error.get_ref().is_some_and(|reason| reason.is::<LockLost>())
    }

    /// The error that carries the reason.
    pub(crate) fn refuse() -> std::io::Error {
        std::io::Error::new(std::io::ErrorKind::ResourceBusy, LockLost)
    }
}

impl fmt::Display for LockLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the lock file was removed or replaced, so that another process may own the \
             directory: nothing more is written",
        )
    }
}

impl std::error::Error for LockLost {}

/// An error with its kind and the place it is about.
///
/// # Examples
/// ```
/// use topiclite::{Error, ErrorKind};
/// let kind = ErrorKind::UnknownTopicOrPartition;
/// let error = Error::new(kind, "no such topic").with_topic("orders");
/// assert_eq!(error.kind(), ErrorKind::UnknownTopicOrPartition);
/// assert_eq!(error.to_string(), "unknown topic or partition orders: no such topic");
/// assert!(!error.is_retriable());
/// ```
///
/// # Text
/// `{}` is complete, but for what [`source`](std::error::Error::source) returns: a cause is told
/// in one of the two, so that `{:#}` of `anyhow` prints nothing twice.
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: String,
    topic: Option<String>,
    partition: Option<i32>,
    partitions: Vec<(String, i32)>,
    offset: Option<i64>,
    path: Option<PathBuf>,
    position: Option<u64>,
    kafka_name: Option<&'static str>,
    possibly_written: bool,
    cause: Option<Cause>,
    /// The record of a send that failed, for `producer`, whose type it is.
    attached: Option<std::sync::Arc<dyn std::any::Any + Send + Sync>>,
}

/// What an error comes from.
#[derive(Clone)]
struct Cause {
    error: std::sync::Arc<dyn std::error::Error + Send + Sync>,
    /// The message tells it, so that `source()` must not: whoever prints a chain prints it once.
    is_told: bool,
}

impl Error {
    /// An error of `kind`. `message` is lower case, without a final stop, and says what to do.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error(Box::new(Inner {
            kind,
            message: message.into(),
            topic: None,
            partition: None,
            partitions: Vec::new(),
            offset: None,
            path: None,
            position: None,
            kafka_name: None,
            possibly_written: false,
            cause: None,
            attached: None,
        }))
    }

    /// An error of the operating system on `path`. A full disk becomes
    /// [`ErrorKind::StorageFull`], a lock that was lost [`ErrorKind::Locked`], everything else
    /// [`ErrorKind::Io`].
    pub fn io(error: std::io::Error, doing: &str, path: &Path) -> Error {
        let (kind, advice) = match Error::is_full(&error) {
            true => (ErrorKind::StorageFull, "; free space, then call again"),
            false if LockLost::is_in(&error) => (ErrorKind::Locked, "; open it again"),
            false => (ErrorKind::Io, ""),
        };
        Error::new(kind, format!("{doing}: {error}{advice}")).with_path(path).with_source(error)
    }

    /// Whether the operating system refused a call because the disk is full.
    pub(crate) fn is_full(error: &std::io::Error) -> bool {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        // EFBIG: the file may not grow, or the file system has no larger ones.
        matches!(error.kind(), StorageFull | QuotaExceeded) || error.raw_os_error() == Some(27)
    }

    /// Names the topic.
    pub fn with_topic(mut self, topic: impl Into<String>) -> Error {
        self.0.topic = Some(topic.into());
        self
    }

    /// Names the topic and the partition.
    pub fn with_partition(mut self, topic: impl Into<String>, partition: i32) -> Error {
        self.0.topic = Some(topic.into());
        self.0.partition = Some(partition);
        self
    }

    /// Names several partitions, for the errors about invalid offsets.
    pub fn with_partitions(mut self, partitions: Vec<(String, i32)>) -> Error {
        self.0.partitions = partitions;
        self
    }

    /// Names the offset.
    pub fn with_offset(mut self, offset: i64) -> Error {
        self.0.offset = Some(offset);
        self
    }

    /// Names the file.
    pub fn with_path(mut self, path: impl Into<PathBuf>) -> Error {
        self.0.path = Some(path.into());
        self
    }

    /// Names the byte position inside the file.
    pub fn with_position(mut self, position: u64) -> Error {
        self.0.position = Some(position);
        self
    }

    /// Keeps the cause. `source()` returns it, unless the message contains its text: whoever prints
    /// a chain of errors would print it twice. [`Error::causes`] has it in both cases.
    pub fn with_source(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Error {
        let is_told = self.tells(&source);
        self.0.cause = Some(Cause { error: std::sync::Arc::new(source), is_told });
        self
    }

    /// Whether the message contains what `cause` says.
    fn tells(&self, cause: &(dyn std::error::Error + 'static)) -> bool {
        match cause.downcast_ref::<Error>() {
            Some(error) if error.message().is_empty() => false,
            Some(error) => self.0.message.contains(error.message()),
            None => self.0.message.contains(&cause.to_string()),
        }
    }

    /// Keeps what belongs to the error without being part of its text.
    pub(crate) fn with_attached(
        mut self,
        attached: std::sync::Arc<dyn std::any::Any + Send + Sync>,
    ) -> Error {
        self.0.attached = Some(attached);
        self
    }

    pub(crate) fn attached(&self) -> Option<&std::sync::Arc<dyn std::any::Any + Send + Sync>> {
        self.0.attached.as_ref()
    }

    pub(crate) fn into_attached(self) -> Option<std::sync::Arc<dyn std::any::Any + Send + Sync>> {
        self.0.attached
    }

    /// Overrides the name that Kafka would give, where it depends on the caller.
    pub fn with_kafka_name(mut self, kafka_name: &'static str) -> Error {
        self.0.kafka_name = Some(kafka_name);
        self
    }

    /// Says that the record may have been written although the call failed.
    pub fn with_possibly_written(mut self) -> Error {
        self.0.possibly_written = true;
        self
    }

    /// What failed.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The explanation without the place.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The topic it is about, if it is about one.
    pub fn topic(&self) -> Option<&str> {
        self.0.topic.as_deref()
    }

    /// The partition it is about, if it is about one.
    pub fn partition(&self) -> Option<i32> {
        self.0.partition
    }

    /// The partitions of an error about invalid offsets.
    pub fn partitions(&self) -> &[(String, i32)] {
        &self.0.partitions
    }

    /// The offset it is about, if it is about one.
    pub fn offset(&self) -> Option<i64> {
        self.0.offset
    }

    /// The file it is about, if it is about one.
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// The byte position it is about, if it is about one.
    pub fn position(&self) -> Option<u64> {
        self.0.position
    }

    /// The protocol's error name, or the simple name of the Java client's exception, that a
    /// user of Apache Kafka would see.
    pub fn kafka_name(&self) -> &'static str {
        self.0.kafka_name.unwrap_or_else(|| self.0.kind.kafka_name())
    }

    /// What it comes from, the nearest cause first: what `source()` returns, and also what the
    /// message tells already.
    pub fn causes(&self) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
        std::iter::successors(self.cause(), |error| match error.downcast_ref::<Error>() {
            Some(error) => error.cause(),
            None => error.source(),
        })
    }

    fn cause(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.cause.as_ref().map(|cause| &*cause.error as &(dyn std::error::Error + 'static))
    }

    /// The error of the operating system that it comes from.
    ///
    /// # Examples
    /// ```
    /// use topiclite::{Broker, BrokerOptions};
    /// let file = tempfile::NamedTempFile::new()?;
    /// let refused = Broker::open(file.path()).unwrap_err();
    /// assert_eq!(refused.io_error().map(|e| e.kind()), Some(std::io::ErrorKind::NotADirectory));
    /// assert!(!refused.is_retriable());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn io_error(&self) -> Option<&std::io::Error> {
        self.causes().find_map(|cause| cause.downcast_ref())
    }

    /// The kind of the innermost error of this crate below this one, or this one's own.
    pub fn root_kind(&self) -> ErrorKind {
        let below = self.causes().filter_map(|cause| cause.downcast_ref::<Error>());
        below.last().unwrap_or(self).kind()
    }

    /// The same call may succeed later without any other action. A loop that repeats it pauses in
    /// between: the pause is the caller's.
    ///
    /// What the operating system refuses for good (no such file, permission denied, a read-only
    /// file system) is not, whatever the kind.
    ///
    /// Departure: D45. `UnknownTopicOrPartition` is not. In Kafka a client may know less than the
    /// cluster; here a topic that is not there appears when somebody makes it.
    pub fn is_retriable(&self) -> bool {
        let passes = |error: &std::io::Error| !is_final(error.kind());
        self.kind().class() == Class::Retriable && self.io_error().is_none_or(passes)
    }

    /// The handle is of no further use; only closing is left.
    pub fn is_fatal(&self) -> bool {
        self.kind().class() == Class::Fatal
    }

    /// Told by a send, or by offsets, inside a transaction: that can only be aborted. Afterwards
    /// the producer works on, unless the abort says otherwise. A commit that fails with
    /// [`ErrorKind::Timeout`] is not meant: it is called again.
    pub fn requires_abort(&self) -> bool {
        self.root_kind().abort() == Abort::Aborts || self.kind().abort() == Abort::Aborts
    }

    /// The record may be in the log although the call failed.
    pub fn possibly_written(&self) -> bool {
        self.0.possibly_written
    }
}

/// Whether the operating system would say the same again, as long as nobody changes the disk.
fn is_final(kind: std::io::ErrorKind) -> bool {
    use std::io::ErrorKind::*;
    matches!(
        kind,
        NotFound
            | PermissionDenied
            | AlreadyExists
            | NotADirectory
            | IsADirectory
            | DirectoryNotEmpty
            | ReadOnlyFilesystem
            | InvalidInput
            | InvalidData
            | InvalidFilename
            | FileTooLarge
            | CrossesDevices
            | Unsupported
    )
}

/// `UnknownTopicOrPartition` -> `unknown topic or partition`.
fn words(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 8);
    for (i, c) in name.chars().enumerate() {
        if c.is_ascii_uppercase() && i > 0 {
            out.push(' ');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let e = &*self.0;
        f.write_str(&words(e.kind.name()))?;
        match (&e.topic, e.partition) {
            (Some(topic), Some(partition)) => write!(f, " {topic}-{partition}")?,
            (Some(topic), None) => write!(f, " {topic}")?,
            _ => {}
        }
        if let Some(offset) = e.offset {
            write!(f, " at offset {offset}")?;
        }
        match (e.position, &e.path) {
            (Some(position), Some(path)) => {
                write!(f, " at position {position} of {}", path.display())?;
            }
            (None, Some(path)) => write!(f, " in {}", path.display())?,
            (Some(position), None) => write!(f, " at position {position}")?,
            (None, None) => {}
        }
        if !e.message.is_empty() {
            write!(f, ": {}", e.message)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({:?}: {self})", self.kind())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause().filter(|_| self.0.cause.as_ref().is_some_and(|cause| !cause.is_told))
    }
}

/// The kind in words, as the text of an error begins with it.
impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&words(self.name()))
    }
}

/// For functions that return [`std::io::Result`]: the kind is the operating system's, where it
/// was asked.
impl From<Error> for std::io::Error {
    fn from(error: Error) -> std::io::Error {
        use std::io::ErrorKind as Io;
        let kind = match (error.io_error(), error.kind()) {
            (Some(io), _) => io.kind(),
            (None, ErrorKind::UnknownTopicOrPartition | ErrorKind::GroupIdNotFound) => Io::NotFound,
            (None, ErrorKind::TopicExists) => Io::AlreadyExists,
            (None, ErrorKind::StorageFull) => Io::StorageFull,
            (None, ErrorKind::CorruptRecord) => Io::InvalidData,
            (None, ErrorKind::Timeout) => Io::TimedOut,
            (None, ErrorKind::Wakeup) => Io::Interrupted,
            (None, ErrorKind::IllegalArgument | ErrorKind::InvalidConfig) => Io::InvalidInput,
            (None, _) => Io::Other,
        };
        std::io::Error::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_word_wide() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }

    #[test]
    fn no_kind_is_both_retriable_and_fatal_and_each_has_a_kafka_name() {
        for &kind in ErrorKind::ALL {
            let error = Error::new(kind, "");
            assert!(!(error.is_retriable() && error.is_fatal()), "{kind:?}");
            assert!(!error.kafka_name().is_empty(), "{kind:?}");
        }
    }

    #[test]
    fn what_aborts_a_transaction_is_told_by_the_kind_or_by_its_cause() {
        let too_large = Error::new(ErrorKind::RecordTooLarge, "too large");
        assert!(too_large.requires_abort() && !too_large.is_fatal());
        assert!(Error::new(ErrorKind::Kafka, "").with_source(too_large).requires_abort());
        for stays in [ErrorKind::IllegalState, ErrorKind::ProducerFenced, ErrorKind::Kafka] {
            assert!(!Error::new(stays, "").requires_abort(), "{stays:?}");
        }
        // What may pass for a call is over for the transaction that it failed in.
        for &kind in ErrorKind::ALL {
            let error = Error::new(kind, "");
            let of_a_producer = !matches!(
                kind,
                ErrorKind::CoordinatorNotAvailable
                    | ErrorKind::UnstableOffsetCommit
                    | ErrorKind::RetriableCommitFailed
                    | ErrorKind::ConcurrentTransactions
            );
            assert!(!(error.is_retriable() && of_a_producer) || error.requires_abort(), "{kind:?}");
        }
    }

    #[test]
    fn a_chain_tells_each_cause_once() {
        let chain = |error: &Error| {
            let mut text = error.to_string();
            let causes = std::iter::successors(std::error::Error::source(error), |e| e.source());
            causes.for_each(|cause| text += &format!(" <- {cause}"));
            text
        };
        let refused = || std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        let io = Error::io(refused(), "reading", Path::new("a.log"));
        assert_eq!(chain(&io), "io in a.log: reading: permission denied");
        let told = Error::new(ErrorKind::Kafka, "it failed: reading: permission denied");
        assert_eq!(
            chain(&told.with_source(io.clone())),
            "kafka: it failed: reading: permission denied"
        );
        let bare = Error::new(ErrorKind::StorageFailed, "a sync failed").with_source(io);
        let expected = "storage failed: a sync failed <- io in a.log: reading: permission denied";
        assert_eq!(chain(&bare), expected);
        assert_eq!(bare.root_kind(), ErrorKind::Io);
        assert_eq!(bare.causes().count(), 2);
        assert_eq!(bare.io_error().unwrap().kind(), std::io::ErrorKind::PermissionDenied);
        assert_eq!(std::io::Error::from(bare).kind(), std::io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn what_the_operating_system_refuses_for_good_is_not_retriable() {
        use std::io::ErrorKind::*;
        for (kind, retriable) in [
            (NotFound, false),
            (PermissionDenied, false),
            (ReadOnlyFilesystem, false),
            (NotADirectory, false),
            (Interrupted, true),
            (StorageFull, true),
            (Other, true),
        ] {
            let error = Error::io(kind.into(), "appending", Path::new("a.log"));
            assert_eq!(error.is_retriable(), retriable, "{kind}");
        }
        assert!(Error::new(ErrorKind::Io, "injected").is_retriable());
        assert!(!Error::new(ErrorKind::UnknownTopicOrPartition, "a typo").is_retriable());
    }

    #[test]
    fn display_names_the_place_and_the_reason() {
        let error = Error::new(ErrorKind::CorruptRecord, "checksum 0x1c2e, expected 0x9f00")
            .with_partition("orders", 3)
            .with_offset(812)
            .with_position(40960)
            .with_path("00000000000000000512.log");
        assert_eq!(
            error.to_string(),
            "corrupt record orders-3 at offset 812 at position 40960 of \
             00000000000000000512.log: checksum 0x1c2e, expected 0x9f00"
        );
    }
}
