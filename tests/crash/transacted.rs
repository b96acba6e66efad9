//! What a program knows of its transactions, and what must be found of them after a crash.
//!
//! H-T1: all records and offsets of a transaction, or none. H-T2: one outcome, and one marker a
//! partition. H-T3: no cycle of those that Kafka rules out. H-I1: a numbered record is stored once.
//! H-I2: nothing of a producer that was replaced is stored. H-R2: a reader of committed records
//! sees the committed ones, the other all. H-D1, H-O1: what was stored is where it was.

use crate::cycles::{Edge, Graph, Span};
use crate::history::{Verdict, told};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use topiclite::{Broker, IsolationLevel, ReadFrom, TransactionState};

pub const IDS: [&str; 3] = ["x", "y", "z"];
/// The partitions that transactions write to. Those of `b` are durable where the power may go.
pub const PLACES: [(&str, i32); 4] = [("b", 0), ("b", 1), ("a", 0), ("a", 1)];

/// It did not come to that.
pub const NEVER: u64 = u64::MAX;

/// A record of a transaction: where it went, and by which steps of the disk.
#[derive(Debug, Clone)]
pub struct Sent {
    pub place: usize,
    pub value: String,
    pub offset: Option<i64>,
    pub asked: u64,
    pub answered: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Open,
    Committed,
    Aborted,
}

/// What a transaction saw of a partition: up to where, and whose records.
#[derive(Debug, Clone)]
pub struct Look {
    pub place: usize,
    pub upto: i64,
    /// Where the log ended then: what lies between was hidden by a transaction that was open.
    pub end: i64,
    pub seen: Vec<usize>,
}

#[derive(Debug, Clone)]
pub struct Txn {
    pub id: usize,
    pub sent: Vec<Sent>,
    /// The offset that it commits for the group of its id.
    pub offset: Option<i64>,
    /// What its program asked for.
    pub fate: Fate,
    /// Steps of the disk: it began, its end was asked for, and answered.
    pub began: u64,
    pub asked: u64,
    pub answered: u64,
    /// The same in calls of all lives.
    pub span: Span,
    pub looks: Vec<Look>,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct World {
    pub txns: Vec<Txn>,
    /// Records under a name, by the step of the answer; `NEVER` without one.
    pub named: Vec<u64>,
    pub call: u64,
    pub lives: i64,
}

/// A partition as a reader finds it: its records and where it ends.
#[derive(Debug)]
pub struct Found {
    pub records: Vec<(i64, String)>,
    pub end: i64,
}

pub fn group(id: usize) -> String {
    format!("group-{}", IDS[id])
}

pub fn read(broker: &Broker, place: usize, isolation: IsolationLevel) -> Verdict<Found> {
    let (topic, partition) = PLACES[place];
    read_of(broker, topic, partition, isolation)
}

pub fn read_of(
    broker: &Broker,
    topic: &str,
    partition: i32,
    isolation: IsolationLevel,
) -> Verdict<Found> {
    let reader = told(broker.reader(topic, partition, ReadFrom::Beginning), "a reader")?;
    let mut reader = reader.isolation_level(isolation);
    let mut records = Vec::new();
    loop {
        let some = told(reader.read(Duration::ZERO), "H-R2 reading")?;
        if some.is_empty() {
            return Ok(Found { records, end: told(reader.end_offset(), "an end")? });
        }
        for record in &some {
            let value = record.value().unwrap_or_default();
            records.push((record.offset(), String::from_utf8_lossy(value).into_owned()));
        }
    }
}

/// The transaction of a value.
fn owner(value: &str) -> Option<usize> {
    value.strip_prefix('t')?.split('/').next()?.parse().ok()
}

impl World {
    /// The transaction that an id has open.
    pub fn open(&self, id: usize) -> Option<usize> {
        self.txns.iter().rposition(|txn| txn.id == id && txn.fate == Fate::Open)
    }

    /// What a clean stop left open, which has its time: the coordinator of this life knows of it,
    /// and the program, whose life it was not, of no end.
    fn has_its_time(&self, broker: &Broker) -> Verdict<BTreeSet<usize>> {
        let listed = told(broker.admin().list_transactions(), "a list")?;
        let ongoing = listed.iter().filter(|one| one.state() == TransactionState::Ongoing);
        let ids = ongoing.filter_map(|one| IDS.iter().position(|id| *id == one.transactional_id()));
        let others = ids.filter(|id| self.open(*id).is_none());
        Ok(others.filter_map(|id| self.txns.iter().rposition(|txn| txn.id == id)).collect())
    }

    /// What a reader of committed records has to see at present. `timed` are transactions of an
    /// earlier life that are open still.
    fn visible(&self, place: usize, timed: &BTreeSet<usize>) -> Vec<(i64, String)> {
        let mut all: Vec<(i64, &str, Fate)> = Vec::new();
        for (number, txn) in self.txns.iter().enumerate() {
            let fate = if timed.contains(&number) { Fate::Open } else { txn.fate };
            for sent in txn.sent.iter().filter(|sent| sent.place == place) {
                all.extend(sent.offset.map(|offset| (offset, sent.value.as_str(), fate)));
            }
        }
        all.sort_unstable_by_key(|row| row.0);
        let stable = all.iter().position(|row| row.2 == Fate::Open).unwrap_or(all.len());
        let committed = all[..stable].iter().filter(|row| row.2 == Fate::Committed);
        committed.map(|row| (row.0, row.1.to_owned())).collect()
    }

    /// A life has written for the first time, by which it ended what was left.
    pub fn shown(&mut self, step: u64) {
        let ended = self.txns.iter_mut().filter(|txn| txn.fate == Fate::Committed);
        ended.for_each(|txn| txn.answered = txn.answered.min(step));
    }

    /// A look of a living program, which also has to be right.
    ///
    /// # Errors
    /// H-R2.
    pub fn look(&self, broker: &Broker, place: usize) -> Verdict<Look> {
        let found = read(broker, place, IsolationLevel::ReadCommitted)?;
        let seen: Vec<_> =
            found.records.iter().filter(|(_, value)| owner(value).is_some()).cloned().collect();
        let expected = self.visible(place, &self.has_its_time(broker)?);
        if seen != expected {
            return Err(format!("H-R2: {:?} shows {seen:?}, not {expected:?}", PLACES[place]));
        }
        let seen = seen.iter().filter_map(|(_, value)| owner(value)).collect();
        let end = read(broker, place, IsolationLevel::ReadUncommitted)?.end;
        Ok(Look { place, upto: found.end, end, seen })
    }

    /// Compares what is found after a crash at a step of the disk, in a life that has written.
    /// Returns what is known from then on.
    ///
    /// # Errors
    /// The first broken promise.
    pub fn check(&self, broker: &Broker, step: u64) -> Verdict<World> {
        let (mut all, mut committed) = (Vec::new(), Vec::new());
        for place in 0..PLACES.len() {
            all.push(read(broker, place, IsolationLevel::ReadUncommitted)?);
            committed.push(read(broker, place, IsolationLevel::ReadCommitted)?);
            if all[place].end != committed[place].end {
                return Err(format!("H-T1: {:?} hangs: {committed:?}", PLACES[place]));
            }
        }
        self.check_values(&all, step)?;
        let mut known = World { call: self.call, lives: self.lives, ..World::default() };
        let reached = self.txns.iter().filter(|txn| txn.began <= step);
        for txn in reached {
            known.txns.push(settle(txn, known.txns.len(), &all, &committed, step, self.call)?);
        }
        for (place, found) in all.iter().enumerate() {
            known.check_markers(place, found)?;
        }
        known.check_offsets(broker)?;
        known.check_looks()?;
        known.graph().check()?;
        known.named = self.check_named(broker, step)?;
        Ok(known)
    }

    /// Every record that is there was sent before the crash, and is there once.
    fn check_values(&self, all: &[Found], step: u64) -> Verdict<()> {
        let mut may: BTreeMap<&str, (usize, Option<i64>)> = BTreeMap::new();
        for sent in self.txns.iter().flat_map(|txn| &txn.sent) {
            if sent.asked <= step {
                may.insert(&sent.value, (sent.place, sent.offset));
            }
        }
        for (place, found) in all.iter().enumerate() {
            for (offset, value) in &found.records {
                if value == "plain" {
                    continue;
                }
                match may.remove(value.as_str()) {
                    Some((expected, at)) if expected == place => {
                        if at.is_some_and(|at| at != *offset) {
                            return Err(format!("H-O1: {value} was at {at:?}, is at {offset}"));
                        }
                    }
                    _ => {
                        let place = PLACES[place];
                        return Err(format!("H-I2 or H-D3: {value} at {offset} of {place:?}"));
                    }
                }
            }
        }
        Ok(())
    }

    /// One marker for each transaction with a record, and at most one for one that lost its records
    /// or did not come to write any.
    fn check_markers(&self, place: usize, found: &Found) -> Verdict<()> {
        let (mut least, mut most) = (0, 0);
        let there: BTreeSet<&str> = found.records.iter().map(|row| row.1.as_str()).collect();
        for txn in &self.txns {
            let mut here = txn.sent.iter().filter(|sent| sent.place == place).peekable();
            most += i64::from(here.peek().is_some());
            least += i64::from(here.any(|sent| there.contains(sent.value.as_str())));
        }
        let markers = found.end - found.records.len() as i64;
        match (least..=most).contains(&markers) {
            true => Ok(()),
            false => Err(format!(
                "H-T2: {:?} has {markers} markers, of {least} to {most} transactions",
                PLACES[place]
            )),
        }
    }

    fn check_offsets(&self, broker: &Broker) -> Verdict<()> {
        for id in 0..IDS.len() {
            let committed = self.txns.iter().rev().filter(|t| t.fate == Fate::Committed);
            let expected = committed.filter(|txn| txn.id == id).find_map(|txn| txn.offset);
            let listed = broker.admin().list_group_offsets(&group(id)).unwrap_or_default();
            let found = listed.values().next().map(|at| at.offset());
            if found != expected {
                return Err(format!("H-T1: {} is at {found:?}, not {expected:?}", group(id)));
            }
        }
        Ok(())
    }

    /// Numbers without a hole or a repetition, up to the last that was acknowledged at least.
    fn check_named(&self, broker: &Broker, step: u64) -> Verdict<Vec<u64>> {
        let acked = self.named.iter().filter(|&&answered| answered <= step).count();
        let found = match read_of(broker, "c", 0, IsolationLevel::ReadUncommitted) {
            Ok(found) => found.records,
            Err(_) if acked == 0 => Vec::new(),
            Err(broken) => return Err(broken),
        };
        for (number, (_, value)) in found.iter().enumerate() {
            if *value != number.to_string() {
                return Err(format!("H-I1: record {number} of the name is {value}"));
            }
        }
        // One may have been stored and not acknowledged.
        if found.len() < acked || found.len() > self.named.len() + 1 {
            return Err(format!("H-I1: {} records of the name, {acked} were told", found.len()));
        }
        let answered = |number: usize| if number < acked { 0 } else { NEVER };
        Ok((0..found.len()).map(answered).collect())
    }

    /// The graph of the committed transactions.
    pub fn graph(&self) -> Graph {
        let mut graph = Graph::default();
        let committed = |txn: usize| self.txns[txn].fate == Fate::Committed;
        let nodes: Vec<usize> = (0..self.txns.len()).filter(|&txn| committed(txn)).collect();
        nodes.iter().for_each(|&node| graph.add(node, self.txns[node].span));
        for place in 0..PLACES.len() {
            let mut written: Vec<(i64, usize)> = Vec::new();
            for &node in &nodes {
                let here = self.txns[node].sent.iter().filter(|sent| sent.place == place);
                written.extend(here.filter_map(|sent| sent.offset).map(|offset| (offset, node)));
            }
            written.sort_unstable();
            for (at, &(_, before)) in written.iter().enumerate() {
                written[at..].iter().for_each(|row| graph.edge(before, row.1, Edge::WriteWrite));
            }
            for &node in &nodes {
                for look in self.txns[node].looks.iter().filter(|look| look.place == place) {
                    for &(offset, writer) in &written {
                        if offset < look.upto {
                            graph.edge(writer, node, Edge::WriteRead);
                        } else if offset >= look.end {
                            graph.edge(node, writer, Edge::ReadWrite);
                        }
                    }
                }
            }
        }
        graph
    }

    /// What was read was committed: H-R2 of the transactions that were seen.
    ///
    fn check_looks(&self) -> Verdict<()> {
        for look in self.txns.iter().flat_map(|txn| &txn.looks) {
            for &seen in &look.seen {
                if self.txns.get(seen).is_none_or(|txn| txn.fate != Fate::Committed) {
                    return Err(format!("H-R2: transaction {seen} was seen, and not committed"));
                }
            }
        }
        Ok(())
    }
}

/// A transaction as a crash left it.
fn settle(
    txn: &Txn,
    number: usize,
    all: &[Found],
    committed: &[Found],
    step: u64,
    call: u64,
) -> Verdict<Txn> {
    let mut txn = txn.clone();
    txn.sent.retain(|sent| sent.asked <= step);
    let is_in = |found: &[Found], sent: &Sent| {
        let records = &found[sent.place].records;
        records.iter().find(|row| row.1 == sent.value).map(|row| row.0)
    };
    let visible = txn.sent.iter().filter(|sent| is_in(committed, sent).is_some()).count();
    let must = txn.fate == Fate::Committed && txn.answered <= step;
    let may = txn.fate == Fate::Committed && txn.asked <= step;
    if visible != 0 && visible != txn.sent.len() {
        return Err(format!("H-T1: {visible} records of transaction {number} are there: {txn:?}"));
    }
    let is_there = visible > 0;
    if must && !is_there {
        return Err(format!("H-T1: transaction {number} is lost: {txn:?}"));
    }
    if is_there && !may {
        return Err(format!("H-T1: transaction {number} was not committed: {txn:?}"));
    }
    for sent in &mut txn.sent {
        sent.offset = is_in(all, sent);
        (sent.asked, sent.answered) = (0, 0);
    }
    txn.looks.retain(|_| is_there);
    txn.fate = if is_there { Fate::Committed } else { Fate::Aborted };
    if txn.answered > step {
        txn.span.ended = call;
    }
    // What was decided and not answered stands once a life has shown it.
    txn.answered = if must || !is_there { 0 } else { NEVER };
    (txn.began, txn.asked) = (0, 0);
    Ok(txn)
}
