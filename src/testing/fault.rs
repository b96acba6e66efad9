//! Faults, declared before they strike.

use crate::error::{Error, ErrorKind};
use crate::probe::{Point, TransactionStep};
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
    Transaction(TransactionStep),
}

impl Operation {
    fn name(self) -> String {
        match self {
            Operation::Append => "append".to_owned(),
            Operation::Sync => "sync".to_owned(),
            Operation::Fetch => "fetch".to_owned(),
            Operation::Commit => "commit".to_owned(),
            Operation::Transaction(step) => step.to_string(),
        }
    }

    /// Whether there is a partition of a topic that it is about.
    fn has_partition(self) -> bool {
        match self {
            Operation::Append | Operation::Sync | Operation::Fetch => true,
            Operation::Commit => false,
            Operation::Transaction(step) => {
                matches!(step, TransactionStep::AddPartition | TransactionStep::Marker)
            }
        }
    }

    fn has_group(self) -> bool {
        match self {
            Operation::Append | Operation::Sync | Operation::Fetch => false,
            Operation::Commit => true,
            Operation::Transaction(step) => {
                matches!(step, TransactionStep::AddOffsets | TransactionStep::CommitOffsets)
            }
        }
    }
}

/// What a fault does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    Fail(ErrorKind),
    LoseReply,
    /// The process dies: before it is done, or at once after.
    Kill {
        done: bool,
    },
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
/// - [`transaction`](Fault::transaction): one time is one [`TransactionStep`]. One that fails is
///   not taken; what was taken before it stands, as after any error of that kind. A stall holds
///   the call, but not where the next life of the broker ends a transaction.
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
    transactional_id: Option<Arc<str>>,
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
            transactional_id: None,
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

    /// About a step of transactions.
    ///
    /// # Examples
    /// The process is killed between the decision and the markers. What was decided is done all the
    /// same, by the next life:
    /// ```
    /// use topiclite::testing::{Crash, Fault, TestBroker, TransactionStep};
    /// use topiclite::{ErrorKind, ProducerConfig, ProducerRecord, TopicConfig};
    ///
    /// let mut test = TestBroker::new()?;
    /// test.admin().create_topic("bills", 2, TopicConfig::default())?;
    /// let teller = || test.producer(ProducerConfig::default().transactional_id("teller"));
    /// let producer = teller()?;
    /// producer.init_transactions()?;
    /// producer.begin_transaction()?;
    /// producer.send_sync(ProducerRecord::new("bills").partition(0).value("tea"))?;
    /// producer.send_sync(ProducerRecord::new("bills").partition(1).value("cake"))?;
    ///
    /// let fault = test.inject(Fault::transaction(TransactionStep::Marker).nth(2).kill());
    /// assert_eq!(producer.commit_transaction().unwrap_err().kind(), ErrorKind::Closed);
    /// fault.assert_hit();
    /// test.crash(Crash::Kill)?;
    /// assert_eq!(test.open_transactions()?.len(), 1);
    ///
    /// let producer = test.producer(ProducerConfig::default().transactional_id("teller"))?;
    /// producer.init_transactions()?;
    /// assert_eq!(test.committed_values("bills")?, ["tea", "cake"]);
    /// test.journal().assert_in_order(&[
    ///     "teller: commit decided",
    ///     "teller: commit marker in bills-0",
    ///     "fault: kills the process, at marker of teller in bills-1",
    ///     "crashed: process killed",
    ///     "teller: commit marker in bills-1",
    ///     "teller: committed",
    ///     "teller: producer of epoch 2",
    /// ]);
    /// # Ok::<(), topiclite::Error>(())
    /// ```
    pub fn transaction(step: TransactionStep) -> Fault {
        Fault::of(Operation::Transaction(step))
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

    /// Only steps of this transactional id.
    pub fn of_transactional_id(mut self, id: &str) -> Fault {
        self.transactional_id = Some(id.into());
        self
    }

    /// Only commits of this group, and steps about its offsets.
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
    /// appends, commits and steps of transactions.
    pub fn lose_reply(mut self) -> Fault {
        self.action = Action::LoseReply;
        self
    }

    /// The process dies before it is done, as by `kill -9`: each call on a handle is
    /// [`ErrorKind::Closed`] from then on. [`TestBroker::crash`](super::TestBroker::crash) opens
    /// what survived. For appends, commits and steps of transactions.
    pub fn kill(mut self) -> Fault {
        self.action = Action::Kill { done: false };
        self
    }

    /// Does it, and the process dies before anybody hears of it.
    pub fn kill_after(mut self) -> Fault {
        self.action = Action::Kill { done: true };
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
        let in_transaction = matches!(self.operation, Operation::Transaction(_));
        let is_stored = in_transaction || is_commit || self.operation == Operation::Append;
        let filtered = |filter: &str, instead: &str| {
            Some(format!("{filter} does not apply to a fault of {operation}: {instead}"))
        };
        let of_partitions = "an operation on a partition is picked by on or on_partition";
        match self {
            Fault { topic: Some(_), .. } if is_commit => {
                filtered("on", "a commit is of no topic, pick it by of_group or of_client")
            }
            Fault { topic: Some(_), .. } if !self.operation.has_partition() => {
                filtered("on", "only a partition that is added or marked has a topic")
            }
            Fault { group: Some(_), .. } if in_transaction && !self.operation.has_group() => {
                filtered("of_group", "only the steps of offsets are about a group")
            }
            Fault { client_id: Some(_), .. } if in_transaction => {
                filtered("of_client", "a step is picked by of_transactional_id")
            }
            Fault { group: Some(_), .. } if !self.operation.has_group() => {
                filtered("of_group", of_partitions)
            }
            Fault { client_id: Some(_), .. } if !is_commit => filtered("of_client", of_partitions),
            Fault { transactional_id: Some(_), .. } if !in_transaction => {
                filtered("of_transactional_id", "only steps of transactions have one")
            }
            Fault { action: Action::LoseReply, .. } if !is_stored => filtered(
                "lose_reply",
                "only appends, commits and steps of transactions are answered",
            ),
            Fault { action: Action::Kill { .. }, .. } if !is_stored => {
                filtered("kill", "it strikes at appends, commits and steps of transactions")
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
            (
                Operation::Transaction(wanted),
                Point::Transaction { step, transactional_id, partition, group },
            ) => {
                let id = self.transactional_id.as_deref();
                let at = partition.map(|at| (at.topic(), at.partition()));
                wanted == step
                    && id.is_none_or(|wanted| wanted == transactional_id)
                    && self.group.as_deref().is_none_or(|wanted| group == Some(wanted))
                    && (self.topic.is_none() || at.is_some_and(|(t, number)| names(t, number)))
            }
            _ => false,
        }
    }

    /// The error of a strike at `at`.
    pub(super) fn error(&self, at: &str) -> Error {
        match self.action {
            Action::Fail(kind) => Error::new(kind, format!("an injected fault at {at}")),
            Action::Kill { .. } => Error::new(
                ErrorKind::Closed,
                format!("an injected fault killed the process at {at}"),
            ),
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
            Action::Kill { done: false } => f.write_str("kills the process"),
            Action::Kill { done: true } => f.write_str("kills the process afterwards"),
            Action::Stall(None) => f.write_str("stalls"),
            Action::Stall(Some(duration)) => write!(f, "stalls for {duration:?}"),
        }
    }
}

/// One line: of what it is, when it strikes, and what it does.
impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.operation.name())?;
        match (&self.topic, self.partition) {
            (Some(topic), Some(partition)) => write!(f, " {topic}-{partition}")?,
            (Some(topic), None) => write!(f, " {topic}")?,
            (None, _) => {}
        }
        if let Some(client_id) = &self.client_id {
            write!(f, " of {client_id}")?;
        }
        if let Some(id) = &self.transactional_id {
            write!(f, " of {id}")?;
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
        Point::Transaction { step, transactional_id: id, partition, group } => {
            match (partition, group) {
                (_, Some(group)) => format!("{step} of {id} in {group}"),
                (Some(partition), None) => format!("{step} of {id} in {partition}"),
                (None, None) => format!("{step} of {id}"),
            }
        }
    }
}
