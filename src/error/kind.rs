//! The kinds of errors: one row each, from which names and predicates come.

macro_rules! kinds {
    ($(
        $(#[$doc:meta])*
        $name:ident => $kafka:literal, $class:ident, $abort:ident $(, $written:ident)?;
    )*) => {
        /// What failed. Names are Kafka's; the last group is this crate's own.
        ///
        /// The protocol's error table (`Errors.java`) is the source of the names. A kind is
        /// retriable, fatal or plain, as the predicates of [`Error`](crate::Error) say; one that
        /// aborts, told by a send or by offsets inside a transaction, leaves only the abort to it.
        /// Told of a record, some kinds may say that it is written all the same
        /// ([`Error::possibly_written`](crate::Error::possibly_written)).
        ///
        /// | kind | Kafka's name | is | in a transaction | record |
        /// | --- | --- | --- | --- | --- |
        $(#[doc = concat!(
            "| `", stringify!($name), "` | `", $kafka, "` | ",
            kinds!(@class $class), " | ", kinds!(@abort $abort), " | ",
            kinds!(@written $($written)?), " |"
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

            pub(super) fn class(self) -> Class {
                match self { $(ErrorKind::$name => Class::$class,)* }
            }

            pub(super) fn abort(self) -> Abort {
                match self { $(ErrorKind::$name => Abort::$abort,)* }
            }

            /// The row of the table above, behind the name.
            #[cfg(test)]
            pub(super) fn row(self) -> [&'static str; 3] {
                match self {
                    $(ErrorKind::$name => [
                        kinds!(@class $class), kinds!(@abort $abort), kinds!(@written $($written)?)
                    ],)*
                }
            }
        }
    };
    (@class Retriable) => { "retriable" };
    (@class Plain) => { "plain" };
    (@class Fatal) => { "fatal" };
    (@abort Aborts) => { "aborts" };
    (@abort Stays) => { "-" };
    (@written) => { "-" };
    (@written MaybeWritten) => { "maybe written" };
}

/// What a kind does to an open transaction: see [`Error::requires_abort`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Abort {
    /// It can only be aborted.
    Aborts,
    /// Nothing, or the kind is not told of a record or an offset.
    Stays,
}

/// How a program should react: see the predicates of [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
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
    CoordinatorNotAvailable => "COORDINATOR_NOT_AVAILABLE", Retriable, Aborts;
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
    /// The producer id is not that of the transactional id, which expired
    /// (`transactional.id.expiration.ms`).
    InvalidProducerIdMapping => "INVALID_PRODUCER_ID_MAPPING", Fatal, Stays;
    /// No such transactional id.
    TransactionalIdNotFound => "TRANSACTIONAL_ID_NOT_FOUND", Plain, Stays;
    /// The transaction is in a state that does not allow the call.
    InvalidTxnState => "INVALID_TXN_STATE", Fatal, Stays;
    /// The transaction was aborted before the batch was sent.
    TransactionAborted => "TransactionAbortedException", Plain, Aborts;
    /// The transaction can only be aborted.
    TransactionAbortable => "TRANSACTION_ABORTABLE", Plain, Aborts;
    /// Another operation on the same transactional id is under way.
    ConcurrentTransactions => "CONCURRENT_TRANSACTIONS", Retriable, Aborts;
    /// The transaction timeout is above the broker's limit.
    InvalidTransactionTimeout => "INVALID_TRANSACTION_TIMEOUT", Fatal, Stays;
    /// The call did not finish within its timeout.
    Timeout => "REQUEST_TIMED_OUT", Retriable, Aborts, MaybeWritten;
    /// `buffer.memory` stayed full for `max.block.ms`.
    BufferExhausted => "BufferExhaustedException", Retriable, Aborts;
    /// `wakeup` interrupted the call.
    Wakeup => "WakeupException", Plain, Stays;
    /// The call is not allowed in the present state of the handle.
    IllegalState => "IllegalStateException", Plain, Stays;
    /// An argument is outside its range.
    IllegalArgument => "IllegalArgumentException", Plain, Stays;
    /// A plain failure of a client, with the reason as its source.
    Kafka => "KafkaException", Plain, Stays, MaybeWritten;
    /// The operation is not supported in this mode.
    UnsupportedVersion => "UNSUPPORTED_VERSION", Plain, Stays;
    /// A topic or group setting has a value that is refused.
    InvalidTopicConfig => "INVALID_CONFIG", Plain, Stays;
    /// A request with contradictory or repeated parts.
    InvalidRequest => "INVALID_REQUEST", Plain, Stays;

    /// A client or broker property is unknown, or its value is refused.
    InvalidConfig => "ConfigException", Plain, Stays;
    /// The operating system refused a call on a file.
    Io => "KAFKA_STORAGE_ERROR", Retriable, Aborts, MaybeWritten;
    /// The disk is full; nothing was written.
    StorageFull => "KAFKA_STORAGE_ERROR", Retriable, Aborts;
    /// A sync failed, or the disk is gone: what was written since the last one may be lost, and the
    /// partition is read-only until the directory is opened again.
    StorageFailed => "KAFKA_STORAGE_ERROR", Fatal, Aborts, MaybeWritten;
    /// Another process, or another handle of this one, owns the directory; or it may do so,
    /// because the lock file of this owner was removed or replaced.
    Locked => "KAFKA_STORAGE_ERROR", Plain, Aborts, MaybeWritten;
    /// A file has a format that this version does not read.
    UnsupportedFormat => "UNSUPPORTED_FOR_MESSAGE_FORMAT", Plain, Aborts;
    /// The directory is attached for reading, or the partition is read-only after damage.
    ReadOnly => "KAFKA_STORAGE_ERROR", Plain, Aborts;
    /// The handle, or the broker behind it, is closed.
    Closed => "IllegalStateException", Fatal, Stays, MaybeWritten;
}
