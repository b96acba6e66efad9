//! Polling: turns until there is something to return.
//!
//! A turn does, in this order: a pending wakeup; callbacks of commits whose answers were read; one
//! exchange with the group (`rebalance.rs`); the automatic commit; positions; the other callbacks;
//! the fetch. A poll without time is one turn,
//! and turns are all that a member needs, so members that are polled in turn by one thread come
//! forward like members in threads of their own.

use super::Consumer;
use super::fetch::{Fetched, note_delivered};
use super::positions::Filled;
use super::reading::ConsumerRecords;
use super::rebalance::GroupTurn;
use super::subscription::{Look, Mode, Position};
use crate::config::IsolationLevel;
use crate::error::{Error, ErrorKind, Result};
use crate::time::Now;
use std::time::Duration;

/// An attached directory cannot tell of new records: a reader looks again this often.
pub(crate) const ATTACHED_INTERVAL: Duration = Duration::from_millis(10);

/// What a turn came to.
struct Turn {
    fetched: Fetched,
    group: GroupTurn,
    /// A committed offset is held by an open transaction.
    position_pending: bool,
}

impl Consumer {
    /// Returns records, at most `max.poll.records`, as soon as there are any; otherwise nothing,
    /// once `timeout` is over, or earlier when positions moved over what is never returned
    /// (aborted transactions, markers, compacted records). A zero timeout takes one turn.
    ///
    /// Departure: D22. Where compaction left nothing up to the end, the position moves there. The
    /// one of Kafka's client stays behind the last record, with a lag.
    ///
    /// All that a member of a group does happens in here: joining, being told of the assignment,
    /// automatic commits. It may take longer than `timeout` where the listener does.
    ///
    /// # Errors
    /// [`ErrorKind::IllegalState`] without a subscription or an assignment;
    /// [`ErrorKind::Wakeup`]; [`ErrorKind::NoOffsetForPartition`] and
    /// [`ErrorKind::OffsetOutOfRange`] under `auto.offset.reset=none`, naming the partitions;
    /// [`ErrorKind::CorruptRecord`] with partition and offset until it is sought past, and for good
    /// at and behind the end of a partition that is read-only up to its damage (or
    /// [`ErrorKind::UnsupportedFormat`]); [`ErrorKind::InvalidTopic`] for a name that no topic
    /// can have, once when the names change, and again as long as a topic is missing;
    /// [`ErrorKind::InconsistentGroupProtocol`], [`ErrorKind::InvalidSessionTimeout`] and
    /// [`ErrorKind::GroupMaxSizeReached`] from the group; what the listener failed with (see
    /// [`RebalanceListener`](super::RebalanceListener)). No record is lost by an error: records
    /// before it are returned first, no reset policy crosses damage. A partition that failed fails
    /// again at its next turn, until it is paused or sought past.
    ///
    /// Departure: D30. That turn is behind those of the other partitions. With Kafka's client a
    /// batch that does not check fails every poll.
    pub fn poll(&mut self, timeout: Duration) -> Result<ConsumerRecords> {
        self.check_open()?;
        if self.subscription.mode() == Mode::None {
            let fault = "nothing to poll: subscribe to topics, or assign partitions, first";
            return Err(Error::new(ErrorKind::IllegalState, fault));
        }
        let clock = self.env.clock().clone();
        let deadline = match timeout.is_zero() {
            true => Duration::ZERO,
            false => clock.monotonic().saturating_add(timeout),
        };
        let mut first = true;
        loop {
            let now = clock.now();
            let turn = self.turn(now, first)?;
            first = false;
            if turn.fetched.moved || !turn.fetched.records.is_empty() || timeout.is_zero() {
                self.env.meter.consumed(turn.fetched.records.count());
                note_delivered(&self.env, &turn.fetched.records);
                return Ok(turn.fetched.records);
            }
            if turn.group == GroupTurn::Moved {
                // A slow listener does not turn a poll into an endless one.
                if clock.monotonic() >= deadline {
                    return Ok(turn.fetched.records);
                }
                continue;
            }
            if self.watch(&turn)? {
                continue;
            }
            let until = self.wait_until(&turn, now, deadline);
            if self.subscription.mode() == Mode::Topics {
                self.membership.stay_alive(&self.env, until);
            }
            let rang = clock.park(self.env.signal(), finite(until));
            if !rang && clock.monotonic() >= deadline {
                self.env.check_wakeup()?;
                return Ok(turn.fetched.records);
            }
            if !rang && finite(until).is_none() {
                // A virtual clock without a timer: nothing can ever happen.
                return Ok(turn.fetched.records);
            }
        }
    }

    fn turn(&mut self, now: Now, first: bool) -> Result<Turn> {
        self.env.check_alive()?;
        self.env.check_wakeup()?;
        if !self.is_rejoining_for_names() {
            self.check_names(first)?;
        }
        // Kafka's client reads the answers of commits with those of the group, of lookups and of
        // fetches, so their callbacks run once a poll has come that far. A member's heartbeats have
        // read those of commits made earlier.
        if self.membership.has_joined() {
            self.commits.read_answers_before(now.mono);
        }
        self.commits.run_answered();
        self.positions.refresh_sources(&self.env, &mut self.subscription)?;
        let group = self.group_turn(now)?;
        self.commits.read_answers();
        // What a listener or a callback did shows in the poll that ran it.
        self.env.check_wakeup()?;
        self.check_names(false)?;
        if group == GroupTurn::Moved {
            self.commits.run_callbacks();
        }
        self.positions.refresh_sources(&self.env, &mut self.subscription)?;
        let mut filled = Filled::default();
        if group == GroupTurn::Settled || !self.membership.is_rejoining() {
            if first || !self.env.settings.auto_commit_interval.is_zero() {
                let (commits, by) = &mut self.committing();
                commits.auto_commit_if_due(by, now);
            }
            let (subscription, membership) = (&mut self.subscription, &mut self.membership);
            filled = self.positions.fill(&self.env, subscription, membership)?;
        }
        self.commits.run_callbacks();
        self.positions.learn_ends(&self.env, &mut self.subscription)?;
        let fetched = self.fetcher.fetch(&self.env, &mut self.subscription, now)?;
        if let Some(fault) = filled.fault.filter(|_| fetched.is_nothing()) {
            return Err(fault);
        }
        Ok(Turn { fetched, group, position_pending: filled.pending })
    }

    /// Complains of names that no topic can have.
    pub(super) fn check_names(&mut self, begins_call: bool) -> Result<()> {
        let checked = self.names.check(&self.env, &self.subscription, begins_call);
        checked.inspect_err(|_| self.membership.know_coordinator())
    }

    /// Whether a member of a group has new topics to complain of: it gives its partitions up and
    /// sends its join before the metadata is here.
    fn is_rejoining_for_names(&self) -> bool {
        self.names.is_due(&self.subscription)
            && self.subscription.mode() == Mode::Topics
            && self.membership.knows_coordinator()
    }

    /// Leaves the signal wherever something may happen; true when it has happened already.
    fn watch(&mut self, turn: &Turn) -> Result<bool> {
        let isolation = self.env.isolation();
        let held = turn.fetched.held_until.is_some();
        let seen = self.positions.metadata_version();
        if self.env.broker.watch_metadata(self.env.signal(), seen) {
            return Ok(true);
        }
        let mut happened = Ok(false);
        self.subscription.look_at_awake(|look| {
            if matches!(happened, Ok(false)) && look.wanted {
                happened = look.watch_for_more(isolation, held);
            }
            true
        });
        happened
    }

    /// When there is something to do even if nothing rings.
    fn wait_until(&self, turn: &Turn, now: Now, deadline: Duration) -> Duration {
        let mut until = deadline;
        let mut at_most = |moment: Duration| until = until.min(moment);
        if let Some(moment) = turn.fetched.held_until {
            at_most(moment);
        }
        if let Some(moment) =
            self.subscription.awake().filter_map(|state| state.stalled_until).min()
        {
            at_most(moment);
        }
        if turn.group == GroupTurn::Settled
            && let Some(moment) = self.commits.next_auto_commit(&self.env)
        {
            at_most(moment);
        }
        if turn.position_pending {
            at_most(now.mono.saturating_add(self.env.settings.retry_backoff));
        }
        if self.env.broker.is_attached() {
            at_most(now.mono.saturating_add(ATTACHED_INTERVAL));
        }
        until
    }
}

impl Look<'_> {
    /// Leaves word with the log, where there is anything to wait for; true when it has happened.
    fn watch_for_more(&mut self, isolation: IsolationLevel, held: bool) -> Result<bool> {
        let state = &*self.state;
        let Some(source) = state.source.as_ref().filter(|source| source.partition.tells()) else {
            return Ok(false);
        };
        let beyond = match state.position {
            Position::At(position) if held => state.known_end.unwrap_or(0).max(position),
            Position::At(position) => position,
            Position::AwaitReset(_) => source.partition.readable_end(isolation)?,
            Position::Unset => return Ok(false),
        };
        match state.paused || state.stalled_until.is_some() {
            true => Ok(false),
            false => self.watch(beyond, isolation),
        }
    }
}

/// The end of time is no deadline.
fn finite(until: Duration) -> Option<Duration> {
    (until != Duration::MAX).then_some(until)
}
