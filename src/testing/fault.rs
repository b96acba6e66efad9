//! Faults, declared before they strike.

use crate::error::{Error, ErrorKind};
use crate::probe::Point;
use crate::topic::is_internal;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What a fault is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Append,
    Sync,
    Fetch,
    Commit,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Operation::Append => "append",
            Operation::Sync => "sync",
            Operation::Fetch => "fetch",
            Operation::Commit => "commit",
        }
    }
}

/// What a fault does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    Fail(ErrorKind),
    LoseReply,
    /// `None` is until it is released.
    Stall(Option<Duration>),
}

/// Something that is to go wrong: which operation, of whom, which time, and how.
///
/// It is about every partition and group until it is told otherwise (of the broker's own topics
/// only about those that it names), strikes the first time, once, and fails with
/// [`ErrorKind::Io`], unless it says something else. It starts to count when it is given to
/// [`TestBroker::inject`](super::TestBroker::inject).
///
/// - [`append`](Fault::append): one time is a batch of a producer, or for a stall a send of a
///   record. One that fails stores nothing; a batch that lingers is tried again after
///   [`Io`](ErrorKind::Io) and [`StorageFull`](ErrorKind::StorageFull). A stall holds the call that
///   sends.
/// - [`sync`](Fault::sync): one time is a sync of a partition's files. One that fails leaves the
///   partition read-only, with [`StorageFailed`](ErrorKind::StorageFailed), until it is opened
///   anew. A stall holds whoever waits for the sync; never one of the broker's own topics.
/// - [`fetch`](Fault::fetch): one time is a poll that reaches into a partition that has records.
///   One that fails fails the poll, if that has nothing else to return. Under a stall the partition
///   looks empty; others do not.
/// - [`commit`](Fault::commit): one time is a commit of a consumer, asked for or automatic. One
///   that fails commits nothing. A stall holds the call that commits.
///
/// A call that stalls waits under the broker's clock. Its consumer counts as alive meanwhile, as
/// Kafka's client beats in a thread of its own. Under a stepping clock nobody else could release
/// it, so that a stall without an end fails with [`ErrorKind::Timeout`] after two minutes of
/// virtual time.
///
/// # Examples
/// ```
/// use topiclite::testing::{Fault, TestBroker};
/// use topiclite::{ErrorKind, ProducerConfig, ProducerRecord, TopicConfig};
///
/// let test = TestBroker::new()?;
/// test.admin().create_topic("orders", 1, TopicConfig::default())?;
/// let producer = test.producer(ProducerConfig::default())?;
/// let send = || -> topiclite::Result<i64> {
///     Ok(producer.send_sync(ProducerRecord::new("orders").value("tea"))?.offset())
/// };
///
/// let fault = test.inject(Fault::append().on("orders").nth(2).fail(ErrorKind::StorageFull));
/// assert_eq!(send()?, 0);
/// assert_eq!(send().unwrap_err().kind(), ErrorKind::StorageFull);
/// assert_eq!(send()?, 1);
/// assert_eq!(fault.hits(), 1);
/// # Ok::<(), topiclite::Error>(())
/// ```
#[derive(Clone)]
#[must_use = "it strikes only after `TestBroker::inject`"]
pub struct Fault {
    pub(super) operation: Operation,
    topic: Option<Arc<str>>,
    partition: Option<i32>,
    group: Option<Arc<str>>,
    client_id: Option<Arc<str>>,
    pub(super) nth: u64,
    /// `None` is always.
    pub(super) times: Option<u64>,
    pub(super) action: Action,
}

impl Fault {
    fn of(operation: Operation) -> Fault {
        Fault {
            operation,
            topic: None,
            partition: None,
            group: None,
            client_id: None,
            nth: 1,
            times: Some(1),
            action: Action::Fail(ErrorKind::Io),
        }
    }

    /// About records going into a partition.
    pub fn append() -> Fault {
        Fault::of(Operation::Append)
    }

    /// About a partition's files being made durable.
    pub fn sync() -> Fault {
        Fault::of(Operation::Sync)
    }

    /// About consumers taking records out of a partition.
    pub fn fetch() -> Fault {
        Fault::of(Operation::Fetch)
    }

    /// About consumers committing offsets.
    pub fn commit() -> Fault {
        Fault::of(Operation::Commit)
    }

    /// Only of this topic. Commits are of no topic: such a fault is refused by
    /// [`TestBroker::inject`](super::TestBroker::inject), as is every other filter that does not
    /// apply.
    pub fn on(mut self, topic: &str) -> Fault {
        self.topic = Some(topic.into());
        self
    }

    /// Only of this partition.
    pub fn on_partition(mut self, topic: &str, partition: i32) -> Fault {
        self.partition = Some(partition);
        self.on(topic)
    }

    /// Only commits of this group.
    pub fn of_group(mut self, group: &str) -> Fault {
        self.group = Some(group.into());
        self
    }

    /// Only commits of consumers with this `client.id`.
    pub fn of_client(mut self, client_id: &str) -> Fault {
        self.client_id = Some(client_id.into());
        self
    }

    /// Strikes at the `nth` time, counted from 1.
    pub fn nth(mut self, nth: u64) -> Fault {
        self.nth = nth;
        self
    }

    /// Strikes that many times in a row.
    pub fn times(mut self, times: u64) -> Fault {
        self.times = Some(times);
        self
    }

    /// Strikes every time from the [`nth`](Fault::nth) on, until it is taken back.
    pub fn always(mut self) -> Fault {
        self.times = None;
        self
    }

    /// Fails with an error of this kind. Of a sync this is the cause that is told.
    pub fn fail(mut self, kind: ErrorKind) -> Fault {
        self.action = Action::Fail(kind);
        self
    }

    /// Does it, and fails with [`ErrorKind::Timeout`] all the same: the answer is lost. For
    /// appends and commits.
    pub fn lose_reply(mut self) -> Fault {
        self.action = Action::LoseReply;
        self
    }

    /// Does not come to an end until [`Injected::release`](super::Injected::release).
    pub fn stall(mut self) -> Fault {
        self.action = Action::Stall(None);
        self
    }

    /// Takes this much longer.
    pub fn stall_for(mut self, duration: Duration) -> Fault {
        self.action = Action::Stall(Some(duration));
        self
    }

    /// What in it can never be, if anything: a filter that its operation does not have, an answer
    /// that nobody gets, a time that never comes.
    pub(super) fn contradiction(&self) -> Option<String> {
        let operation = self.operation.name();
        let is_commit = self.operation == Operation::Commit;
        let filtered = |filter: &str, instead: &str| {
            Some(format!("{filter} does not apply to a fault of {operation}: {instead}"))
        };
        let of_partitions = "an operation on a partition is picked by on or on_partition";
        match self {
            Fault { topic: Some(_), .. } if is_commit => {
                filtered("on", "a commit is of no topic, pick it by of_group or of_client")
            }
            Fault { group: Some(_), .. } if !is_commit => filtered("of_group", of_partitions),
            Fault { client_id: Some(_), .. } if !is_commit => filtered("of_client", of_partitions),
            Fault { action: Action::LoseReply, operation, .. }
                if !matches!(operation, Operation::Append | Operation::Commit) =>
            {
                filtered("lose_reply", "only appends and commits are answered")
            }
            Fault { partition: Some(number), .. } if *number < 0 => {
                Some(format!("there is no partition {number}"))
            }
            Fault { nth: 0, .. } => Some("nth counts from 1".to_owned()),
            Fault { times: Some(0), .. } => Some("it would strike 0 times".to_owned()),
            _ => None,
        }
    }

    pub(super) fn is_about(&self, point: Point<'_>) -> bool {
        let names = |topic: &str, partition: i32| match &self.topic {
            Some(wanted) => {
                **wanted == *topic && self.partition.is_none_or(|wanted| wanted == partition)
            }
            None => !is_internal(topic),
        };
        match (self.operation, point) {
            (Operation::Append, Point::Append { topic, partition })
            | (Operation::Sync, Point::Sync { topic, partition })
            | (Operation::Fetch, Point::Fetch { topic, partition }) => names(topic, partition),
            (Operation::Commit, Point::Commit { group, client_id }) => {
                self.group.as_deref().is_none_or(|wanted| wanted == group)
                    && self.client_id.as_deref().is_none_or(|wanted| wanted == client_id)
            }
            _ => false,
        }
    }

    /// The error of a strike at `at`.
    pub(super) fn error(&self, at: &str) -> Error {
        match self.action {
            Action::Fail(kind) => Error::new(kind, format!("an injected fault at {at}")),
            _ => Error::new(
                ErrorKind::Timeout,
                format!("an injected fault lost the answer to {at}, which was done"),
            ),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.action {
            Action::Fail(kind) => write!(f, "fails with {}", kind.name()),
            Action::LoseReply => f.write_str("loses the reply"),
            Action::Stall(None) => f.write_str("stalls"),
            Action::Stall(Some(duration)) => write!(f, "stalls for {duration:?}"),
        }
    }
}

/// One line: of what it is, when it strikes, and what it does.
impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.operation.name())?;
        match (&self.topic, self.partition) {
            (Some(topic), Some(partition)) => write!(f, " {topic}-{partition}")?,
            (Some(topic), None) => write!(f, " {topic}")?,
            (None, _) => {}
        }
        if let Some(client_id) = &self.client_id {
            write!(f, " of {client_id}")?;
        }
        if let Some(group) = &self.group {
            write!(f, " in {group}")?;
        }
        match (self.nth, self.times) {
            (nth, None) => write!(f, " from time {nth} on")?,
            (nth, Some(1)) => write!(f, " at time {nth}")?,
            (nth, Some(times)) => {
                write!(f, " at times {nth} to {}", nth.saturating_add(times.saturating_sub(1)))?;
            }
        }
        write!(f, " {self}")
    }
}

/// What the journal calls a point.
pub(super) fn name_of(point: Point<'_>) -> String {
    match point {
        Point::Append { topic, partition } => format!("append {topic}-{partition}"),
        Point::Sync { topic, partition } => format!("sync {topic}-{partition}"),
        Point::Fetch { topic, partition } => format!("fetch {topic}-{partition}"),
        Point::Commit { group, client_id } => format!("commit of {client_id} in {group}"),
    }
}
