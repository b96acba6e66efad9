//! Where a log stands in its life.
//!
//! ```text
//! recorded --first use--> opened --first change--> writable
//!    |  \                   |                         |
//!    |   damage, a link     | a failed sync,          | a failed sync, lost stores,
//!    |     \                | a lost lock             | a lost disk, a lost lock
//!    |      v               v                         v
//!    |   read-only        failed <--------------------+
//!    +--a lost lock-------->^
//!
//! any of these --close--> closed        any, closed too --the topic is deleted--> deleted
//! ```
//!
//! The phase lies under the partition's lock and changes by [`Log::enter`] alone. What it carries
//! is what that phase alone has: who refuses appends says why. Readers go by what is known of the
//! log ([`Knowledge`]), which each phase has its share of, and which they see without the lock.

use crate::error::{Error, ErrorKind, Result};
use crate::log::{Log, Writer};
use crate::sync::{AtomicU8, MutexGuard, Ordering};

/// The phase of a log. Those that carry an error answer appends with it.
#[derive(Debug, Clone)]
pub(in crate::log) enum Phase {
    /// Nobody looked at its folder in this life.
    Recorded(Knowledge),
    /// Its folder was read, and nothing was changed.
    Opened,
    /// The leader epoch of this life is on the disk: appends go, and files are changed.
    Writable,
    /// Opening found what nobody may append behind, or change.
    ReadOnly(Error),
    /// It cannot be told any more what a power cut would leave (rule R4), or whose the directory
    /// is.
    Failed(Error, Knowledge),
    /// Ended by its owner. Readers go on with what they can reach.
    Closed(Error, Knowledge),
    /// Its topic is gone, and its files with it.
    Deleted(Error, Knowledge),
}

/// The share of a log that is known, each with all before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(in crate::log) enum Knowledge {
    Nothing,
    /// Its start and its end.
    Borders,
    /// Its segments, and how far it is readable.
    Segments,
}

/// The knowledge of the present phase, for who has no lock.
#[derive(Debug)]
pub(in crate::log) struct KnowledgeView(AtomicU8);

impl KnowledgeView {
    pub fn new(knowledge: Knowledge) -> KnowledgeView {
        KnowledgeView(AtomicU8::new(knowledge as u8))
    }

    /// Whether so much is known; what it stands for is seen then, too.
    #[inline]
    pub fn reaches(&self, knowledge: Knowledge) -> bool {
        // Acquire: pairs with the Release in `publish`.
        self.0.load(Ordering::Acquire) >= knowledge as u8
    }

    fn publish(&self, knowledge: Knowledge) {
        // Release: pairs with the Acquire in `reaches`.
        self.0.store(knowledge as u8, Ordering::Release);
    }
}

impl Phase {
    /// Why nothing may be appended any more, if that is so.
    pub fn refusal(&self) -> Option<&Error> {
        match self {
            Phase::Recorded(_) | Phase::Opened | Phase::Writable => None,
            Phase::ReadOnly(error)
            | Phase::Failed(error, _)
            | Phase::Closed(error, _)
            | Phase::Deleted(error, _) => Some(error),
        }
    }

    /// The refusal of a log that its owner ended, or its topic's: nothing is opened for it.
    pub fn end(&self) -> Option<&Error> {
        match self {
            Phase::Closed(error, _) | Phase::Deleted(error, _) => Some(error),
            _ => None,
        }
    }

    pub fn knowledge(&self) -> Knowledge {
        match self {
            Phase::Opened | Phase::Writable | Phase::ReadOnly(_) => Knowledge::Segments,
            Phase::Recorded(knowledge)
            | Phase::Failed(_, knowledge)
            | Phase::Closed(_, knowledge)
            | Phase::Deleted(_, knowledge) => *knowledge,
        }
    }

    /// Whether this phase may follow. Nothing is forgotten on the way.
    pub fn can_become(&self, next: &Phase) -> bool {
        let follows = match (self, next) {
            (Phase::Deleted(..), _) => false,
            (_, Phase::Deleted(..)) => true,
            (Phase::Closed(..), _) => false,
            (_, Phase::Closed(..)) => true,
            (Phase::Recorded(_), Phase::Opened | Phase::ReadOnly(_) | Phase::Failed(..)) => true,
            (Phase::Opened, Phase::Writable | Phase::Failed(..)) => true,
            (Phase::Writable, Phase::Failed(..)) => true,
            // Readers of a log that failed before its folder was read still have it opened.
            (Phase::Failed(_, before), Phase::Failed(_, after)) => before < after,
            _ => false,
        };
        follows && self.knowledge() <= next.knowledge()
    }

    /// Becomes `next`. Returns what it was.
    ///
    /// # Errors
    /// `IllegalState` where `next` does not follow, which is a bug, and nothing is changed.
    fn turn_to(&mut self, next: Phase) -> Result<Phase> {
        let follows = self.can_become(&next);
        debug_assert!(follows, "{self:?} is not followed by {next:?}");
        if !follows {
            let message = format!("a log cannot go from {self:?} to {next:?}; open it anew");
            return Err(Error::new(ErrorKind::IllegalState, message));
        }
        Ok(std::mem::replace(self, next))
    }
}

impl Log {
    /// The one way from a phase to the next. A log that refuses appends lets its writer go, and
    /// who waits at its end is told. `writer` is the lock; whoever looks without one sees the
    /// borders and segments that were put in place before.
    ///
    /// # Errors
    /// `IllegalState` where the phase does not follow.
    pub(in crate::log) fn enter(
        &self,
        mut writer: MutexGuard<'_, Writer>,
        next: Phase,
    ) -> Result<()> {
        let begins = matches!(next, Phase::Writable);
        writer.phase.turn_to(next).map_err(|error| self.at_home(error))?;
        self.borders.knowledge.publish(writer.phase.knowledge());
        if writer.phase.refusal().is_some() {
            writer.retire();
        }
        let woken = (!begins).then(|| writer.watchers.take());
        drop(writer);
        if let Some(woken) = woken {
            woken.ring();
        }
        Ok(())
    }

    /// Ends the log for appends, unless something did that has to stay the reason. `next` is given
    /// what is known of the log. Returns the refusal that there was before.
    pub(in crate::log) fn end(&self, next: impl FnOnce(Knowledge) -> Phase) -> Option<Error> {
        let writer = self.writer.lock();
        let before = writer.phase.refusal().cloned();
        let next = next(writer.phase.knowledge());
        if writer.phase.can_become(&next)
            && let Err(error) = self.enter(writer, next)
        {
            tracing::error!("{error}");
        }
        before
    }

    /// The error that appends get, if there is one.
    pub fn refusal(&self) -> Option<Error> {
        self.writer.lock().phase.refusal().cloned()
    }

    /// Whether the log was closed, or its topic deleted.
    pub(in crate::log) fn has_ended(&self) -> bool {
        self.writer.lock().phase.end().is_some()
    }

    /// Whether this life may change the log's files.
    pub(in crate::log) fn is_writable(&self) -> bool {
        matches!(self.writer.lock().phase, Phase::Writable)
    }

    /// Whether the folder was opened in this life.
    #[inline]
    pub fn is_opened(&self) -> bool {
        self.borders.knowledge.reaches(Knowledge::Segments)
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    const ALL: [Knowledge; 3] = [Knowledge::Nothing, Knowledge::Borders, Knowledge::Segments];

    fn error(kind: ErrorKind) -> Error {
        Error::new(kind, "a reason")
    }

    /// Every phase there is, with every share of knowledge that it can have.
    fn phases() -> Vec<Phase> {
        let mut phases = vec![Phase::Opened, Phase::Writable];
        phases.push(Phase::ReadOnly(error(ErrorKind::ReadOnly)));
        for knowledge in ALL {
            if knowledge < Knowledge::Segments {
                phases.push(Phase::Recorded(knowledge));
            }
            phases.push(Phase::Failed(error(ErrorKind::StorageFailed), knowledge));
            phases.push(Phase::Closed(error(ErrorKind::Closed), knowledge));
            phases.push(Phase::Deleted(error(ErrorKind::UnknownTopicOrPartition), knowledge));
        }
        phases
    }

    fn name(phase: &Phase) -> &'static str {
        match phase {
            Phase::Recorded(_) => "recorded",
            Phase::Opened => "opened",
            Phase::Writable => "writable",
            Phase::ReadOnly(_) => "read-only",
            Phase::Failed(..) => "failed",
            Phase::Closed(..) => "closed",
            Phase::Deleted(..) => "deleted",
        }
    }

    /// The arrows of the drawing above.
    const ARROWS: &[(&str, &[&str])] = &[
        ("recorded", &["opened", "read-only", "failed", "closed", "deleted"]),
        ("opened", &["writable", "failed", "closed", "deleted"]),
        ("writable", &["failed", "closed", "deleted"]),
        ("read-only", &["closed", "deleted"]),
        ("failed", &["failed", "closed", "deleted"]),
        ("closed", &["deleted"]),
        ("deleted", &[]),
    ];

    #[test]
    fn a_phase_becomes_what_the_drawing_says_and_forgets_nothing() {
        let mut arrows = std::collections::BTreeSet::new();
        for (from, to) in phases().iter().flat_map(|a| phases().into_iter().map(move |b| (a, b))) {
            let drawn =
                ARROWS.iter().any(|(a, next)| *a == name(from) && next.contains(&name(&to)));
            let goes = from.can_become(&to);
            assert!(!goes || drawn, "{from:?} to {to:?}");
            assert!(!goes || from.knowledge() <= to.knowledge(), "{from:?} to {to:?}");
            let keeps = from.knowledge() <= to.knowledge();
            let again = name(from) == name(&to);
            let more = from.knowledge() < to.knowledge();
            assert_eq!(goes, drawn && keeps && (!again || more), "{from:?} to {to:?}");
            if goes {
                arrows.insert((name(from), name(&to)));
            }
        }
        let drawn: usize = ARROWS.iter().map(|(_, to)| to.len()).sum();
        assert_eq!(arrows.len(), drawn, "each arrow is gone by some knowledge");
    }

    /// No way leads back, and none out of the end.
    #[test]
    fn every_way_ends() {
        for from in phases() {
            let mut at = from.clone();
            let mut steps = 0;
            while let Some(next) = phases().into_iter().find(|next| at.can_become(next)) {
                at = next;
                steps += 1;
                assert!(steps < 10, "{from:?} goes round in a circle");
            }
            assert_eq!((name(&at), at.knowledge()), ("deleted", at.knowledge()), "{from:?}");
        }
    }

    #[test]
    fn what_refuses_appends_says_why() {
        for phase in phases() {
            let refuses = !["recorded", "opened", "writable"].contains(&name(&phase));
            assert_eq!(phase.refusal().is_some(), refuses, "{phase:?}");
            assert!(phase.end().is_none() || refuses, "{phase:?}");
        }
    }

    #[test]
    #[should_panic(expected = "is not followed by")]
    fn a_step_that_is_not_drawn_is_a_bug() {
        drop(Phase::Recorded(Knowledge::Nothing).turn_to(Phase::Writable));
    }
}
