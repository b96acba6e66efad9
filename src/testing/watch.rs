//! Who listens at a broker's probe: the plan of faults, the journal, and the consumers that there
//! are.

use super::fault::{Action, Fault, name_of};
use super::journal::Journal;
use crate::broker::BrokerInner;
use crate::error::{Error, ErrorKind, Result};
use crate::events::Event;
use crate::probe::{KillSwitch, Point, Watcher};
use crate::sync::{Arc, AtomicBool, Condvar, Mutex, Ordering, Weak};
use crate::time::{Clock, Signal};
use std::fmt;
use std::time::Duration;

/// How long a call waits that nobody can release: `delivery.timeout.ms` of Kafka's producer.
const ENDLESS: Duration = Duration::from_secs(120);

#[derive(Debug)]
pub(super) struct Watch {
    clock: Clock,
    /// Who waits is alone: nobody releases it.
    stepping: bool,
    journal: Option<Journal>,
    rules: Mutex<Rules>,
    struck: Condvar,
    consumers: Mutex<Vec<Watched>>,
    /// The broker of this life.
    alive: Mutex<Weak<BrokerInner>>,
}

#[derive(Debug, Default)]
struct Rules {
    rules: Vec<Rule>,
    next: u64,
}

#[derive(Debug)]
struct Rule {
    id: u64,
    fault: Fault,
    /// The fault as it was given.
    shown: String,
    /// How often it passes before it strikes.
    skip: u64,
    hits: u64,
    stalls: Vec<Stall>,
}

/// Something that waits.
#[derive(Debug)]
struct Stall {
    id: u64,
    at: String,
    /// `Duration::MAX` without an end.
    until: Duration,
    signals: Vec<Arc<Signal>>,
}

/// A consumer that may be alive.
#[derive(Debug)]
struct Watched {
    client_id: Arc<str>,
    killed: Weak<AtomicBool>,
    signal: Arc<Signal>,
}

impl Rule {
    /// Counts a time; true when it strikes.
    fn strikes(&mut self) -> bool {
        if self.fault.times == Some(0) {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        if let Some(times) = &mut self.fault.times {
            *times -= 1;
        }
        self.hits += 1;
        true
    }
}

impl Rules {
    fn id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn rule(&self, id: u64) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.id == id)
    }

    fn stall(&mut self, id: u64) -> Option<&mut Stall> {
        self.rules.iter_mut().flat_map(|rule| &mut rule.stalls).find(|stall| stall.id == id)
    }

    fn end_stall(&mut self, id: u64) {
        self.rules.iter_mut().for_each(|rule| rule.stalls.retain(|stall| stall.id != id));
    }

    /// Counts this time for every rule that is about it and that `wanted` picks; the first one
    /// that strikes.
    fn strike(&mut self, point: Point<'_>, wanted: impl Fn(&Action) -> bool) -> Option<Fault> {
        let mut struck = None;
        for rule in &mut self.rules {
            if wanted(&rule.fault.action) && rule.fault.is_about(point) && rule.strikes() {
                struck = struck.or(Some((rule.id, rule.fault.clone())));
            }
        }
        struck.map(|(_, fault)| fault)
    }

    /// The stall that a rule begins here, if one does.
    fn strike_stall(
        &mut self,
        point: Point<'_>,
        now: Duration,
        signal: &Arc<Signal>,
    ) -> Option<u64> {
        let id = self.id();
        let stalls = |rule: &Rule| matches!(rule.fault.action, Action::Stall(_));
        let rule = self.rules.iter_mut().find_map(|rule| {
            (stalls(rule) && rule.fault.is_about(point) && rule.strikes()).then_some(rule)
        })?;
        let until = match rule.fault.action {
            Action::Stall(Some(duration)) => now.saturating_add(duration),
            _ => Duration::MAX,
        };
        let signals = vec![signal.clone()];
        rule.stalls.push(Stall { id, at: name_of(point), until, signals });
        Some(id)
    }

    /// What waits at a point, and until when.
    fn stall_at(&mut self, at: &str) -> Option<&mut Stall> {
        self.rules.iter_mut().flat_map(|rule| &mut rule.stalls).find(|stall| stall.at == at)
    }
}

impl Watch {
    pub fn new(clock: Clock, stepping: bool, journal: Option<Journal>) -> Watch {
        Watch {
            clock,
            stepping,
            journal,
            rules: Mutex::new(Rules::default()),
            struck: Condvar::new(),
            consumers: Mutex::new(Vec::new()),
            alive: Mutex::new(Weak::new()),
        }
    }

    /// A life begins.
    pub fn opened(&self, broker: &Arc<BrokerInner>) {
        *self.alive.lock() = Arc::downgrade(broker);
        self.note(Event::Opened);
    }

    /// The process dies, in the midst of a call.
    fn die(&self) {
        let alive = self.alive.lock().upgrade();
        if let Some(broker) = alive {
            broker.crash();
        }
    }

    pub fn inject(&self, fault: Fault) -> u64 {
        let mut rules = self.rules.lock();
        let id = rules.id();
        let skip = fault.nth.saturating_sub(1);
        let shown = format!("{fault:?}");
        rules.rules.push(Rule { id, fault, shown, skip, hits: 0, stalls: Vec::new() });
        id
    }

    /// The fault of a rule as it was given, in a line.
    fn shown(&self, id: u64) -> String {
        self.rules.lock().rule(id).map_or_else(String::new, |rule| rule.shown.clone())
    }

    pub fn hits(&self, id: u64) -> u64 {
        self.rules.lock().rule(id).map_or(0, |rule| rule.hits)
    }

    /// Blocks the thread, in real time, until the rule has struck that often.
    pub fn wait_for_hits(&self, id: u64, hits: u64) {
        let mut rules = self.rules.lock();
        while rules.rule(id).is_some_and(|rule| rule.hits < hits) {
            self.struck.wait(&mut rules);
        }
    }

    /// Ends a rule, and everything that waits because of it.
    pub fn release(&self, id: u64) {
        let mut ended = Vec::new();
        if let Some(rule) = self.rules.lock().rules.iter_mut().find(|rule| rule.id == id) {
            rule.fault.times = Some(0);
            ended.append(&mut rule.stalls);
        }
        self.struck.notify_all();
        self.resume(ended);
    }

    /// Ends everything that waits: the broker that it waits in is dead.
    pub fn release_all(&self) {
        let mut rules = self.rules.lock();
        let ended = rules.rules.iter_mut().flat_map(|rule| rule.stalls.drain(..)).collect();
        drop(rules);
        self.resume(ended);
    }

    fn resume(&self, ended: Vec<Stall>) {
        for stall in ended {
            self.note(Event::Resumed { at: stall.at });
            stall.signals.iter().for_each(|signal| signal.ring());
        }
    }

    /// Kills the consumers of that name; false when there is none.
    pub fn kill(&self, client_id: &str) -> bool {
        let mut signals = Vec::new();
        for consumer in self.consumers.lock().iter().filter(|c| *c.client_id == *client_id) {
            if let Some(killed) = consumer.killed.upgrade() {
                // Release: pairs with the Acquire of the consumer's look.
                killed.store(true, Ordering::Release);
                signals.push(consumer.signal.clone());
            }
        }
        signals.iter().for_each(|signal| signal.ring());
        !signals.is_empty()
    }

    /// The consumers that there are, by name.
    pub fn consumers(&self) -> Vec<Arc<str>> {
        let mut consumers = self.consumers.lock();
        consumers.retain(|consumer| consumer.killed.strong_count() > 0);
        consumers.iter().map(|consumer| consumer.client_id.clone()).collect()
    }

    fn faulted(&self, fault: &Fault, at: &str) {
        self.struck.notify_all();
        self.note(Event::Faulted { fault: fault.to_string(), at: at.to_owned() });
    }

    fn strike(&self, point: Point<'_>, wanted: impl Fn(&Action) -> bool) -> Result<()> {
        let struck = self.rules.lock().strike(point, wanted);
        let Some(fault) = struck else { return Ok(()) };
        let at = name_of(point);
        self.faulted(&fault, &at);
        if matches!(fault.action, Action::Kill { .. }) {
            self.die();
        }
        Err(fault.error(&at))
    }

    fn begin_stall(&self, point: Point<'_>, signal: &Arc<Signal>) -> Option<(u64, Duration)> {
        let now = self.clock.monotonic();
        let mut rules = self.rules.lock();
        let id = rules.strike_stall(point, now, signal)?;
        let until = rules.stall(id).map_or(now, |stall| stall.until);
        drop(rules);
        self.note(Event::Stalled { at: name_of(point) });
        self.struck.notify_all();
        Some((id, until))
    }
}

impl Watcher for Watch {
    fn note(&self, event: Event) {
        if let Some(journal) = &self.journal {
            journal.note(self.clock.now(), event);
        }
    }

    fn check(&self, point: Point<'_>) -> Result<()> {
        self.strike(point, |a| matches!(a, Action::Fail(_) | Action::Kill { done: false }))
    }

    fn reply(&self, point: Point<'_>) -> Result<()> {
        self.strike(point, |a| matches!(a, Action::LoseReply | Action::Kill { done: true }))
    }

    fn pause(&self, point: Point<'_>) -> Result<()> {
        let signal = Arc::new(Signal::new());
        let Some((id, until)) = self.begin_stall(point, &signal) else { return Ok(()) };
        let endless = until == Duration::MAX;
        let until = match endless && self.stepping {
            true => self.clock.monotonic().saturating_add(ENDLESS),
            false => until,
        };
        let deadline = (until != Duration::MAX).then_some(until);
        while self.rules.lock().stall(id).is_some() {
            if !self.clock.park(&signal, deadline) && self.clock.monotonic() >= until {
                self.rules.lock().end_stall(id);
                self.note(Event::Resumed { at: name_of(point) });
                if endless {
                    let why = format!("{} stalls, and nobody releases it", name_of(point));
                    return Err(Error::new(ErrorKind::Timeout, why));
                }
            }
        }
        Ok(())
    }

    fn hold(&self, point: Point<'_>, signal: &Arc<Signal>) -> Option<Duration> {
        let at = name_of(point);
        let mut rules = self.rules.lock();
        let Some(stall) = rules.stall_at(&at) else {
            drop(rules);
            return self.begin_stall(point, signal).map(|(_, until)| until);
        };
        if stall.until > self.clock.monotonic() {
            if !stall.signals.iter().any(|known| Arc::ptr_eq(known, signal)) {
                stall.signals.push(signal.clone());
            }
            return Some(stall.until);
        }
        let id = stall.id;
        rules.end_stall(id);
        drop(rules);
        self.note(Event::Resumed { at });
        None
    }

    fn is_held(&self, point: Point<'_>) -> bool {
        let now = self.clock.monotonic();
        self.rules.lock().stall_at(&name_of(point)).is_some_and(|stall| stall.until > now)
    }

    fn born(&self, client_id: &Arc<str>, signal: &Arc<Signal>) -> KillSwitch {
        let killed = Arc::new(AtomicBool::new(false));
        let mut consumers = self.consumers.lock();
        consumers.retain(|consumer| consumer.killed.strong_count() > 0);
        consumers.push(Watched {
            client_id: client_id.clone(),
            killed: Arc::downgrade(&killed),
            signal: signal.clone(),
        });
        KillSwitch::new(killed)
    }
}

/// A fault that was given to a broker. Dropping it takes nothing back.
#[derive(Clone)]
pub struct Injected {
    pub(super) watch: Arc<Watch>,
    pub(super) id: u64,
}

/// One line: the fault as it was given, and how often it has struck.
impl fmt::Debug for Injected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} hits", self.watch.shown(self.id), self.hits())
    }
}

impl Injected {
    /// How often it has struck.
    pub fn hits(&self) -> u64 {
        self.watch.hits(self.id)
    }

    /// Fails the test if it has not struck: what was to go wrong did not happen.
    ///
    /// # Panics
    /// When it has not struck, which is what it is for.
    #[track_caller]
    pub fn assert_hit(&self) {
        assert!(self.hits() > 0, "the fault was injected and never struck: {self:?}");
    }

    /// Waits, in real time, until it has struck that often: for a test with threads, whose other
    /// thread runs into it. Returns at once when it was taken back.
    pub fn wait_for_hits(&self, hits: u64) {
        self.watch.wait_for_hits(self.id, hits);
    }

    /// Takes it back, and lets everything go on that waits because of it.
    pub fn release(&self) {
        self.watch.release(self.id);
    }
}
