//! What an application does when partitions come and go.

use super::Consumer;
use super::offsets::{GroupMetadata, OffsetAndMetadata, OffsetAndTimestamp};
use super::wakeup::WakeupHandle;
use crate::error::{Error, ErrorKind, Result};
use crate::topic::TopicPartition;
use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// What a listener may fail with: any error, this crate's included.
pub type ListenerError = Box<dyn std::error::Error + Send + Sync>;

/// Told of every change of a subscriber's assignment, on the thread that polls, inside
/// [`Consumer::poll`]; `on_partitions_revoked` and `on_partitions_lost` also inside `unsubscribe`
/// and `close`. Partitions are sorted by topic, then number.
///
/// Rebalances are eager: at the start of one, `on_partitions_revoked` is told everything that is
/// owned, also when that is nothing; at the end, `on_partitions_assigned` is told everything. A
/// member that was put out of its group is told `on_partitions_lost` instead of
/// `on_partitions_revoked`. Whoever owned a partition before was told `on_partitions_revoked`
/// before the next owner is told `on_partitions_assigned`, unless it was put out.
///
/// What a listener fails with comes out of the call that ran it, once the change is complete; the
/// assignment stands. An error of this crate from `on_partitions_assigned` comes out as it is,
/// everything else as [`ErrorKind::Kafka`] with the error as its source; [`ErrorKind::Wakeup`]
/// always as it is. A panic is passed on in the same place. After a failed `on_partitions_assigned`
/// the next poll tells `on_partitions_assigned` once more, with nothing in it, as Kafka does.
///
/// Time spent here counts against `max.poll.interval.ms`.
///
/// # Examples
/// ```
/// use topiclite::{ConsumerContext, ListenerError, RebalanceListener, TopicPartition};
///
/// struct CommitFirst;
///
/// impl RebalanceListener for CommitFirst {
///     fn on_partitions_revoked(
///         &mut self,
///         consumer: &mut ConsumerContext<'_>,
///         _partitions: &[TopicPartition],
///     ) -> Result<(), ListenerError> {
///         consumer.commit_sync()?;
///         Ok(())
///     }
/// }
/// ```
pub trait RebalanceListener: Send {
    /// These partitions are about to go; offsets can still be committed.
    ///
    /// # Errors
    /// Whatever keeps the application from letting them go cleanly; they go all the same.
    fn on_partitions_revoked(
        &mut self,
        consumer: &mut ConsumerContext<'_>,
        partitions: &[TopicPartition],
    ) -> Result<(), ListenerError> {
        let _unused = (consumer, partitions);
        Ok(())
    }

    /// These partitions are new. Their positions are the committed ones until sought elsewhere.
    ///
    /// # Errors
    /// Whatever the application fails with; the partitions stay assigned.
    fn on_partitions_assigned(
        &mut self,
        consumer: &mut ConsumerContext<'_>,
        partitions: &[TopicPartition],
    ) -> Result<(), ListenerError> {
        let _unused = (consumer, partitions);
        Ok(())
    }

    /// These partitions went some time ago: the member was put out of its group, and others may
    /// own them by now. A commit fails. Unless it is written, it does what
    /// `on_partitions_revoked` does.
    ///
    /// # Errors
    /// As [`RebalanceListener::on_partitions_revoked`].
    fn on_partitions_lost(
        &mut self,
        consumer: &mut ConsumerContext<'_>,
        partitions: &[TopicPartition],
    ) -> Result<(), ListenerError> {
        self.on_partitions_revoked(consumer, partitions)
    }
}

/// The consumer, as a [`RebalanceListener`] may use it: everything but polling, subscribing and
/// closing. Each method does what the one of [`Consumer`] with its name does.
pub struct ConsumerContext<'a> {
    consumer: &'a mut Consumer,
}

impl fmt::Debug for ConsumerContext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.consumer.fmt(f)
    }
}

impl<'a> ConsumerContext<'a> {
    pub(super) fn new(consumer: &'a mut Consumer) -> ConsumerContext<'a> {
        ConsumerContext { consumer }
    }

    /// See [`Consumer::commit_sync`].
    ///
    /// # Errors
    /// As there.
    pub fn commit_sync(&mut self) -> Result<()> {
        self.consumer.commit_sync()
    }

    /// See [`Consumer::commit_sync_offsets`].
    ///
    /// # Errors
    /// As there.
    pub fn commit_sync_offsets(
        &mut self,
        offsets: &BTreeMap<TopicPartition, OffsetAndMetadata>,
    ) -> Result<()> {
        self.consumer.commit_sync_offsets(offsets)
    }

    /// See [`Consumer::commit_async`].
    ///
    /// # Errors
    /// As there.
    pub fn commit_async(&mut self) -> Result<()> {
        self.consumer.commit_async()
    }

    /// See [`Consumer::commit_async_with`].
    ///
    /// # Errors
    /// As there.
    pub fn commit_async_with<C>(&mut self, callback: C) -> Result<()>
    where
        C: FnOnce(&BTreeMap<TopicPartition, OffsetAndMetadata>, Result<()>) + Send + 'static,
    {
        self.consumer.commit_async_with(callback)
    }

    /// See [`Consumer::commit_async_offsets`].
    ///
    /// # Errors
    /// As there.
    pub fn commit_async_offsets<C>(
        &mut self,
        offsets: BTreeMap<TopicPartition, OffsetAndMetadata>,
        callback: C,
    ) -> Result<()>
    where
        C: FnOnce(&BTreeMap<TopicPartition, OffsetAndMetadata>, Result<()>) + Send + 'static,
    {
        self.consumer.commit_async_offsets(offsets, callback)
    }

    /// See [`Consumer::position`].
    ///
    /// # Errors
    /// As there.
    pub fn position(&mut self, partition: &TopicPartition) -> Result<i64> {
        self.consumer.position(partition)
    }

    /// See [`Consumer::committed`].
    ///
    /// # Errors
    /// As there.
    pub fn committed(
        &mut self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, Option<OffsetAndMetadata>>> {
        self.consumer.committed(partitions)
    }

    /// See [`Consumer::seek`].
    ///
    /// # Errors
    /// As there.
    pub fn seek(&mut self, partition: &TopicPartition, offset: i64) -> Result<()> {
        self.consumer.seek(partition, offset)
    }

    /// See [`Consumer::seek_to_beginning`].
    ///
    /// # Errors
    /// As there.
    pub fn seek_to_beginning(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        self.consumer.seek_to_beginning(partitions)
    }

    /// See [`Consumer::seek_to_end`].
    ///
    /// # Errors
    /// As there.
    pub fn seek_to_end(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        self.consumer.seek_to_end(partitions)
    }

    /// See [`Consumer::pause`].
    ///
    /// # Errors
    /// As there.
    pub fn pause(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        self.consumer.pause(partitions)
    }

    /// See [`Consumer::resume`].
    ///
    /// # Errors
    /// As there.
    pub fn resume(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        self.consumer.resume(partitions)
    }

    /// See [`Consumer::paused`].
    ///
    /// # Errors
    /// As there.
    pub fn paused(&self) -> Result<BTreeSet<TopicPartition>> {
        self.consumer.paused()
    }

    /// See [`Consumer::assignment`].
    ///
    /// # Errors
    /// As there.
    pub fn assignment(&self) -> Result<BTreeSet<TopicPartition>> {
        self.consumer.assignment()
    }

    /// See [`Consumer::subscription`].
    ///
    /// # Errors
    /// As there.
    pub fn subscription(&self) -> Result<BTreeSet<Arc<str>>> {
        self.consumer.subscription()
    }

    /// See [`Consumer::assign`]: always refused here, as a listener belongs to a subscription.
    ///
    /// # Errors
    /// [`ErrorKind::IllegalState`].
    pub fn assign(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        self.consumer.assign(partitions)
    }

    /// See [`Consumer::beginning_offsets`].
    ///
    /// # Errors
    /// As there.
    pub fn beginning_offsets(
        &mut self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, i64>> {
        self.consumer.beginning_offsets(partitions)
    }

    /// See [`Consumer::end_offsets`].
    ///
    /// # Errors
    /// As there.
    pub fn end_offsets(
        &mut self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, i64>> {
        self.consumer.end_offsets(partitions)
    }

    /// See [`Consumer::offsets_for_times`].
    ///
    /// # Errors
    /// As there.
    pub fn offsets_for_times(
        &mut self,
        times: &BTreeMap<TopicPartition, i64>,
    ) -> Result<BTreeMap<TopicPartition, Option<OffsetAndTimestamp>>> {
        self.consumer.offsets_for_times(times)
    }

    /// See [`Consumer::current_lag`].
    ///
    /// # Errors
    /// As there.
    pub fn current_lag(&self, partition: &TopicPartition) -> Result<Option<i64>> {
        self.consumer.current_lag(partition)
    }

    /// See [`Consumer::enforce_rebalance`].
    ///
    /// # Errors
    /// As there.
    pub fn enforce_rebalance(&mut self) -> Result<()> {
        self.consumer.enforce_rebalance()
    }

    /// See [`Consumer::group_metadata`].
    ///
    /// # Errors
    /// As there.
    pub fn group_metadata(&self) -> Result<GroupMetadata> {
        self.consumer.group_metadata()
    }

    /// See [`Consumer::wakeup_handle`].
    pub fn wakeup_handle(&self) -> WakeupHandle {
        self.consumer.wakeup_handle()
    }
}

/// Which of the three methods to call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    Revoked,
    Assigned,
    Lost,
}

/// How a listener failed. The change of the assignment is completed before it is passed on.
pub(super) enum Failure {
    Error(ListenerError),
    Panic(Box<dyn Any + Send>),
}

impl Failure {
    /// A wakeup does not wait for the change to complete.
    pub fn is_wakeup(&self) -> bool {
        match self {
            Failure::Error(error) => {
                error.downcast_ref::<Error>().is_some_and(|e| e.kind() == ErrorKind::Wakeup)
            }
            Failure::Panic(_) => false,
        }
    }

    /// The error for the caller of `poll`, or the panic again. `told` says which method failed.
    pub fn into_error(self, told: Told) -> Error {
        let error = match self {
            Failure::Panic(panic) => std::panic::resume_unwind(panic),
            Failure::Error(error) => error,
        };
        let error = match error.downcast::<Error>() {
            Ok(error) if error.kind() == ErrorKind::Wakeup => return *error,
            // These two are plain exceptions of Java, not of Kafka.
            Ok(error)
                if told == Told::Assigned
                    && !matches!(
                        error.kind(),
                        ErrorKind::IllegalState | ErrorKind::IllegalArgument
                    ) =>
            {
                return *error;
            }
            Ok(error) => return failed(*error),
            Err(error) => error,
        };
        failed(Foreign(error))
    }
}

fn failed(cause: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Kafka, format!("the rebalance listener failed: {cause}"))
        .with_source(cause)
}

/// An application's error in the chain of sources.
#[derive(Debug)]
struct Foreign(ListenerError);

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Foreign {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.0)
    }
}
