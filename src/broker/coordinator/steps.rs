//! The steps of a transaction as a test sees them: where it may step in, and what it is told.
//!
//! A step waits only where no lock is held. In a build without feature `testing` nothing is left of
//! this.

use crate::broker::core::BrokerCore;
use crate::error::Result;
use crate::events::Event;
use crate::probe::{Point, TransactionStep};
use crate::topic::TopicPartition;
use crate::transaction::EndOfTransaction;

/// What a step is about, beside the transactional id.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct About<'a> {
    pub partition: Option<&'a TopicPartition>,
    pub group: Option<&'a str>,
}

impl<'a> About<'a> {
    pub fn partition(partition: &'a TopicPartition) -> About<'a> {
        About { partition: Some(partition), group: None }
    }

    pub fn group(group: &'a str) -> About<'a> {
        About { partition: None, group: Some(group) }
    }
}

impl BrokerCore {
    /// Takes a step of a transaction under the eyes of a test. No lock is held.
    ///
    /// # Errors
    /// Those of the step, and the test's.
    #[inline]
    pub(super) fn step<R>(
        &self,
        step: TransactionStep,
        transactional_id: &str,
        about: About<'_>,
        act: impl FnOnce() -> Result<R>,
    ) -> Result<R> {
        if self.probe.is_on() {
            self.probe.pause(point(step, transactional_id, about))?;
        }
        self.locked_step(step, transactional_id, about, act)
    }

    /// As [`BrokerCore::step`], where the coordinator's lock may be held.
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub(super) fn locked_step<R>(
        &self,
        step: TransactionStep,
        transactional_id: &str,
        about: About<'_>,
        act: impl FnOnce() -> Result<R>,
    ) -> Result<R> {
        if !self.probe.is_on() {
            return act();
        }
        self.probe.check(point(step, transactional_id, about))?;
        let done = act()?;
        self.probe.reply(point(step, transactional_id, about))?;
        Ok(done)
    }

    pub(super) fn note_decided(&self, end: &EndOfTransaction) {
        self.probe.note(|| Event::TransactionDecided {
            transactional_id: end.transactional_id.clone(),
            committed: end.committed,
        });
    }

    pub(super) fn note_marked(&self, end: &EndOfTransaction, partition: &TopicPartition) {
        self.probe.note(|| Event::MarkerWritten {
            transactional_id: end.transactional_id.clone(),
            partition: partition.clone(),
            committed: end.committed,
        });
    }

    pub(super) fn note_ended(&self, end: &EndOfTransaction) {
        self.probe.note(|| Event::TransactionEnded {
            transactional_id: end.transactional_id.clone(),
            committed: end.committed,
        });
    }
}

fn point<'a>(step: TransactionStep, transactional_id: &'a str, about: About<'a>) -> Point<'a> {
    Point::Transaction { step, transactional_id, partition: about.partition, group: about.group }
}
