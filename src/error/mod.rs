//! The one error type of the crate: what failed, where, and what a caller may do about it.
//!
//! [`Error`] is one word wide. [`Error::kind`] decides behaviour; the context (topic, partition,
//! offset, path, position) is kept as values, not only as text. Kinds carry Kafka's names, and
//! [`Error::kafka_name`] gives the name that a user of Apache Kafka would see in the same place.

mod kind;
mod lock_lost;
mod show;

pub use kind::ErrorKind;
use kind::{Abort, Class};
pub use lock_lost::LockLost;
use std::path::{Path, PathBuf};

/// The result of everything that can fail here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

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
    /// The handle is of no further use, whatever the kind says.
    ends_handle: bool,
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
            ends_handle: false,
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

    /// Names the place that `other`, or what it comes from, is about.
    pub(crate) fn at_place_of(mut self, other: &Error) -> Error {
        let below = other.causes().filter_map(|cause| cause.downcast_ref::<Error>());
        for error in std::iter::once(other).chain(below) {
            let Inner { topic, partition, offset, path, position, .. } = &*error.0;
            if self.0.topic.is_none() {
                (self.0.topic, self.0.partition) = (topic.clone(), *partition);
            }
            if self.0.path.is_none() && path.is_some() {
                (self.0.path, self.0.position) = (path.clone(), *position);
            }
            self.0.offset = self.0.offset.or(*offset);
        }
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

    /// The same, told to a caller whose record is another: without a topic and a partition, and
    /// without what is attached.
    pub(crate) fn without_place(mut self) -> Error {
        (self.0.topic, self.0.partition, self.0.attached) = (None, None, None);
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

    /// Says that only closing is left to the handle that tells it, whatever the kind says.
    pub(crate) fn ending_its_handle(mut self) -> Error {
        self.0.ends_handle = true;
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
    /// file system, a device that is gone) is not, whatever the kind.
    ///
    /// Departure: D45. `UnknownTopicOrPartition` is not. In Kafka a client may know less than the
    /// cluster; here a topic that is not there appears when somebody makes it.
    pub fn is_retriable(&self) -> bool {
        let passes = self.kind().class() == Class::Retriable && !self.0.ends_handle;
        passes && self.io_error().is_none_or(|io| !is_final(io))
    }

    /// What it is about is of no further use. That is the handle, to which only closing is left; of
    /// [`ErrorKind::StorageFailed`] told of a record it is the partition, until the directory is
    /// opened again: other partitions go on, of the same producer too, unless a transaction was in
    /// it.
    ///
    /// A producer's transactions may come to such an end by a kind that is not always fatal: then
    /// each of its calls tells it with an error that is.
    pub fn is_fatal(&self) -> bool {
        self.0.ends_handle || self.kind().class() == Class::Fatal
    }

    /// Told by a send, or by offsets, inside a transaction: that can only be aborted. Afterwards
    /// the producer works on, unless the abort says otherwise: it does where a partition of the
    /// transaction takes no marker ([`ErrorKind::StorageFailed`]). A commit that fails with
    /// [`ErrorKind::Timeout`] is not meant: it is called again.
    pub fn requires_abort(&self) -> bool {
        let aborts = |kind: ErrorKind| kind.abort() == Abort::Aborts;
        !self.0.ends_handle && (aborts(self.root_kind()) || aborts(self.kind()))
    }

    /// The record may be in the log although the call failed.
    pub fn possibly_written(&self) -> bool {
        self.0.possibly_written
    }
}

/// Whether the operating system would say the same again, as long as nobody changes the disk.
fn is_final(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::*;
    matches!(
        error.kind(),
        NotFound
            | PermissionDenied
            | AlreadyExists
            | NotADirectory
            | IsADirectory
            | DirectoryNotEmpty
            | ReadOnlyFilesystem
            | StaleNetworkFileHandle
            | InvalidInput
            | InvalidData
            | InvalidFilename
            | FileTooLarge
            | CrossesDevices
            | Unsupported
    ) || matches!(error.raw_os_error(), Some(ENXIO | ENODEV))
}

// The numbers of a device that is gone, for which std has no kind. Linux and macOS agree on them.
const ENXIO: i32 = 6;
const ENODEV: i32 = 19;

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
mod tests;
