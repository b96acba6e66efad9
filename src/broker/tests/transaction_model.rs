//! Random transactions against a model: four transactional ids over three topics of small
//! segments, with zombies, fences, timeouts, records deleted in the midst of transactions, a topic
//! deleted and made again, kills and clean stops, under a virtual clock.
//!
//! What must hold after every few steps: a reader of committed records sees, in every partition,
//! the records of the committed transactions below the first open one, in the order of the log, and
//! no others; a group has the offset that its last committed transaction gave it; every
//! transaction has one marker in each of its partitions; and who was replaced, or took too long,
//! stores nothing.

use super::transactions::{MINUTE, World};
use crate::ErrorKind;
use crate::TopicConfig;
use crate::storage::Heap;
use crate::storage::sim::Random;
use crate::sync::Arc;
use crate::transaction::{ProducerIdentity, TransactionState};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const IDS: [&str; 4] = ["a", "b", "c", "d"];
const TOPICS: [&str; 3] = ["t", "u", "v"];
/// The check of timeouts runs so often.
const CHECK: Duration = Duration::from_secs(10);

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Open,
    Committed,
    Aborted,
}

#[derive(Debug)]
struct Transaction {
    outcome: Outcome,
    began: Duration,
    partitions: BTreeSet<String>,
    offset: Option<i64>,
}

/// A transactional id as the model has it: its present producer, those that it replaced, and what
/// is open.
#[derive(Debug, Default)]
struct Id {
    present: Option<ProducerIdentity>,
    zombies: Vec<ProducerIdentity>,
    open: Option<usize>,
    committed: Option<i64>,
}

struct Model {
    world: Option<World>,
    random: Random,
    ids: BTreeMap<&'static str, Id>,
    transactions: Vec<Transaction>,
    /// By partition, the records in the order of the log: offset and transaction.
    records: BTreeMap<String, Vec<(i64, usize)>>,
    markers: BTreeMap<String, i64>,
    /// Where partitions begin, of which records were deleted.
    starts: BTreeMap<String, i64>,
    aborts: [usize; 4],
    /// When the present life began: checks run from then on.
    restarted: Duration,
    /// This life has written. The end of one that has not is nobody's end.
    wrote: bool,
}

impl Model {
    fn new(seed: u64) -> Model {
        let world = World::on(Arc::new(Heap::new()));
        TOPICS.iter().for_each(|topic| create(&world, topic));
        Model {
            world: Some(world),
            random: Random::new(seed),
            ids: IDS.iter().map(|id| (*id, Id::default())).collect(),
            transactions: Vec::new(),
            records: BTreeMap::new(),
            markers: BTreeMap::new(),
            starts: BTreeMap::new(),
            aborts: [0; 4],
            restarted: Duration::ZERO,
            wrote: false,
        }
    }

    fn world(&self) -> &World {
        self.world.as_ref().unwrap()
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random.next() % bound
    }

    fn now(&self) -> Duration {
        self.world().clock.now().mono
    }

    fn step(&mut self) {
        let id = IDS[self.below(4) as usize];
        match self.below(1000) {
            0..60 => self.init(id),
            60..500 => self.send(id),
            500..600 => self.commit_offset(id),
            600..750 => self.end(id, true),
            750..830 => self.end(id, false),
            830..910 => self.zombie(id),
            910..965 => self.pass(),
            965..977 => self.delete_records(),
            977..980 => self.delete_topic(),
            980..990 => self.restart(true),
            _ => self.restart(false),
        }
    }

    /// Also below the first record of an open transaction, and in its midst.
    fn delete_records(&mut self) {
        let topic = TOPICS[self.below(3) as usize];
        let partition = self.below(2) as i32;
        let name = format!("{topic}-{partition}");
        let end = self.world().end_offset(&name);
        let before = self.below(end.unsigned_abs() + 1) as i64;
        let start = self.starts.entry(name).or_default();
        if before < *start {
            return;
        }
        *start = before;
        let admin = self.world().broker.admin();
        assert_eq!(admin.delete_records(topic, partition, before).unwrap(), before);
        self.wrote = true;
    }

    /// What takes part in a transaction by its name gets its marker, also in the topic that has the
    /// name by then.
    fn delete_topic(&mut self) {
        self.world().broker.admin().delete_topic("v").unwrap();
        create(self.world(), "v");
        for of in ["v-0", "v-1"] {
            self.records.remove(of);
            self.markers.remove(of);
            self.starts.remove(of);
        }
    }

    fn init(&mut self, id: &'static str) {
        let next = self.world().init(id).unwrap();
        self.wrote = true;
        self.finish(id, Outcome::Aborted, 0);
        let known = self.ids.get_mut(id).unwrap();
        if let Some(before) = known.present.replace(next) {
            let newer = next.producer_id != before.producer_id
                || next.producer_epoch > before.producer_epoch;
            assert!(newer, "{next:?} after {before:?}");
            known.zombies.push(before);
        }
    }

    /// The open transaction of an id has ended.
    fn finish(&mut self, id: &str, outcome: Outcome, why: usize) {
        let Some(number) = self.ids.get_mut(id).unwrap().open.take() else { return };
        self.aborts[why] += 1;
        let ended = &mut self.transactions[number];
        ended.outcome = outcome;
        for partition in &ended.partitions {
            *self.markers.entry(partition.clone()).or_default() += 1;
        }
        if outcome == Outcome::Committed && ended.offset.is_some() {
            self.ids.get_mut(id).unwrap().committed = ended.offset;
        }
    }

    /// The transaction of an id, begun where there is none.
    fn open(&mut self, id: &str) -> usize {
        let began = self.now();
        let number = self.transactions.len();
        let known = self.ids.get_mut(id).unwrap();
        *known.open.get_or_insert_with(|| {
            let partitions = BTreeSet::new();
            let outcome = Outcome::Open;
            self.transactions.push(Transaction { outcome, began, partitions, offset: None });
            number
        })
    }

    fn send(&mut self, id: &'static str) {
        let Some(producer) = self.ids[id].present else { return };
        let to = format!("{}-{}", TOPICS[self.below(3) as usize], self.below(2));
        let offset = self.world().send(id, producer, &to).unwrap();
        self.wrote = true;
        let number = self.open(id);
        self.transactions[number].partitions.insert(to.clone());
        self.records.entry(to).or_default().push((offset, number));
    }

    fn commit_offset(&mut self, id: &'static str) {
        let Some(producer) = self.ids[id].present else { return };
        // Beyond the end a kill would set it back.
        let end = self.world().end_offset("t-0").unsigned_abs();
        let offset = self.below(end + 1) as i64;
        self.world().commit_offset_of(id, id, producer, offset).unwrap();
        self.wrote = true;
        let number = self.open(id);
        self.transactions[number].offset = Some(offset);
    }

    fn end(&mut self, id: &'static str, commit: bool) {
        let Some(producer) = self.ids[id].present else { return };
        let result = self.world().end(id, producer, commit);
        if commit && self.ids[id].open.is_none() {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidTxnState);
            return;
        }
        let next = result.unwrap();
        self.wrote = true;
        assert_eq!(next.producer_epoch, producer.producer_epoch + 1, "an epoch a transaction");
        self.finish(id, if commit { Outcome::Committed } else { Outcome::Aborted }, 1);
        self.ids.get_mut(id).unwrap().present = Some(next);
    }

    /// A producer that was replaced does not know it, and changes nothing.
    fn zombie(&mut self, id: &'static str) {
        let count = self.ids[id].zombies.len() as u64;
        if count == 0 {
            return;
        }
        let old = self.ids[id].zombies[self.random.next() as usize % count as usize];
        let refused = match self.below(3) {
            0 => self.world().send(id, old, "t-0").map(drop),
            1 => self.world().commit_offset_of(id, id, old, 5),
            _ => self.world().end(id, old, true).map(drop),
        };
        assert!(refused.is_err(), "zombie {old:?} of {id} was not refused");
    }

    fn pass(&mut self) {
        let time = Duration::from_secs(self.below(25));
        self.world().clock.advance(time);
        for id in IDS {
            let Some(number) = self.ids[id].open else { continue };
            let (state, _, _) = self.world().state(id);
            let took = self.now() - self.transactions[number].began;
            match state {
                TransactionState::Ongoing => {
                    let is_new = self.now() - self.restarted < CHECK * 2;
                    assert!(took <= MINUTE + CHECK * 2 || is_new, "{took:?}");
                }
                TransactionState::CompleteAbort => {
                    assert!(took > MINUTE, "aborted after {took:?}");
                    self.finish(id, Outcome::Aborted, 2);
                    let late = self.ids[id].present.unwrap();
                    assert!(self.world().send(id, late, "t-0").is_err());
                    // It learns of it by its abort, and goes on.
                    let next = self.world().end(id, late, false).unwrap();
                    assert_eq!(next.producer_epoch, late.producer_epoch + 1);
                    self.ids.get_mut(id).unwrap().present = Some(next);
                }
                other => panic!("{id} is {other}"),
            }
        }
    }

    fn restart(&mut self, clean: bool) {
        self.world = Some(self.world.take().unwrap().restart(clean));
        self.restarted = self.now();
        let wrote = std::mem::replace(&mut self.wrote, !clean);
        if clean {
            // A life knows of timeouts from its first look at transactions on.
            self.world().broker.admin().list_transactions().unwrap();
            return;
        }
        // The first write of the life ends what was open.
        self.world().init("e").unwrap();
        for id in IDS {
            if self.ids[id].open.is_some() {
                let state = self.world().state(id).0;
                if !wrote && state == TransactionState::Ongoing {
                    continue;
                }
                assert_eq!(state, TransactionState::CompleteAbort);
                self.finish(id, Outcome::Aborted, 3);
                let gone = self.ids.get_mut(id).unwrap().present.take().unwrap();
                self.ids.get_mut(id).unwrap().zombies.push(gone);
            }
        }
    }

    fn check(&self) {
        for topic in TOPICS {
            for partition in 0..2 {
                let name = format!("{topic}-{partition}");
                let empty = Vec::new();
                let records = self.records.get(&name).unwrap_or(&empty);
                let outcome = |number: usize| self.transactions[number].outcome;
                let start = self.starts.get(&name).copied().unwrap_or(0);
                let open = records.iter().find(|(_, t)| outcome(*t) == Outcome::Open);
                let stable = open.map_or(i64::MAX, |(offset, _)| (*offset).max(start));
                let seen: Vec<i64> = records
                    .iter()
                    .filter(|(offset, _)| (start..stable).contains(offset))
                    .filter(|(_, t)| outcome(*t) == Outcome::Committed)
                    .map(|(offset, _)| *offset)
                    .collect();
                let what = format!("{name} from {start}, stable up to {stable}, {records:?}");
                assert_eq!(self.world().read(&name), seen, "{what}");
                let markers = self.markers.get(&name).copied().unwrap_or(0);
                let end = self.world().end_offset(&name);
                assert_eq!(end, records.len() as i64 + markers, "one marker a transaction, {name}");
            }
        }
        for id in IDS {
            let pending = self.ids[id].open.is_some_and(|t| self.transactions[t].offset.is_some());
            match self.world().committed_of(id) {
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::UnstableOffsetCommit);
                    assert!(pending, "nothing is pending in group {id}");
                }
                Ok(offset) => {
                    assert!(!pending, "what is pending in group {id} is seen");
                    assert_eq!(offset, self.ids[id].committed, "group {id}");
                }
            }
        }
    }
}

/// Some ten batches a segment, so that transactions lie over the borders of segments.
fn create(world: &World, topic: &str) {
    let mut config = TopicConfig::default();
    config.set("internal.segment.bytes", "800").unwrap();
    world.broker.admin().create_topic(topic, 2, config).unwrap();
}

/// How many steps: 100,000 where `TOPICLITE_SCALE` asks for the size of a commit.
fn steps() -> u64 {
    match std::env::var("TOPICLITE_SCALE").as_deref() {
        Ok("ci") => 100_000,
        Ok("long") => 1_000_000,
        _ => 8_000,
    }
}

/// The lives of one seed. Returns how its transactions ended.
fn live(seed: u64) -> [usize; 4] {
    let mut model = Model::new(seed);
    for step in 0..1000 {
        model.step();
        if step % 20 == 19 {
            model.check();
        }
    }
    model.check();
    model.aborts
}

fn run(seeds: std::ops::Range<u64>) {
    let mut ended = [0; 4];
    for seed in seeds {
        for (sum, count) in ended.iter_mut().zip(live(seed)) {
            *sum += count;
        }
    }
    assert!(ended.iter().all(|count| *count > 0), "by init, end, timeout, kill: {ended:?}");
}

#[test]
fn transactions_keep_their_promises_through_random_lives() {
    run(0..steps() / 1000);
}

/// A state that was recorded between a sync and the marker of a transaction, which is behind it.
#[test]
fn an_abort_behind_the_last_sync_is_found_by_the_next_life() {
    live(18);
}

#[cfg(feature = "planted-bugs")]
mod planted_bugs {
    use crate::storage::planted::{Planted, enable};
    use std::panic::{AssertUnwindSafe, catch_unwind};

    /// The model finds each bug within a few random lives.
    #[test]
    fn planted_bugs_of_transactions_are_found_by_the_model() {
        for bug in [
            Planted::AnswerBeforeMarkers,
            Planted::EpochReused,
            Planted::PendingOffsetsVisible,
            Planted::AbortForgetsPartition,
        ] {
            let _guard = enable(bug);
            let caught = catch_unwind(AssertUnwindSafe(|| super::run(0..8)));
            assert!(caught.is_err(), "{bug:?} was not found");
        }
    }
}
