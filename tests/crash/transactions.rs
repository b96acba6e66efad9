//! Transactions through crashes: random lives of several producers on the simulated disk, killed or
//! cut off at random steps, in recovery too, up to three deep; and one script, at every step.
//!
//! Fault: a kill at or inside any store, a power cut in any mode of the simulator. Path: init,
//! sends to four partitions, offsets of groups, reads in between, commit, abort, timeouts,
//! producers that take over and their zombies, numbered records, rolls, and the recovery of all
//! that. What must hold: H-T1 to H-T3, H-I1, H-I2, H-R2, as `transacted` has them. A power cut
//! keeps that where a partition of each transaction is durable at each append.

use crate::cycles::Span;
use crate::history::{Verdict, told};
use crate::scale;
use crate::sweep::{self, ImageTally};
use crate::transacted::{Fate, IDS, NEVER, PLACES, Sent, Txn, World, group};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use topiclite::storage::sim::{PowerCut, Random, Replay, Sim};
use topiclite::time::VirtualClock;
use topiclite::{
    Broker, BrokerOptions, Error, GroupMetadata, OffsetAndMetadata, Producer, ProducerConfig,
    ProducerRecord, TopicConfig, TopicPartition,
};

const SOURCE: &str = "source";
const TIMEOUT: Duration = Duration::from_secs(10);

/// What is promised: all of it after kills, and after power cuts where topics are durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Promise {
    Kills,
    /// All topics are durable at each append.
    PowerCuts,
    /// One partition of each transaction is.
    PowerCutsOfOne,
}

/// One call of a program.
#[derive(Debug, Clone, Copy)]
enum Op {
    Init(usize),
    Send { id: usize, place: usize, bytes: usize },
    Offset(usize),
    Look { id: usize, place: usize },
    End { id: usize, commit: bool },
    Zombie,
    Numbered { twice: bool },
    Tick,
    Flush,
}

fn open(sim: &Sim, life: i64) -> Result<(Broker, VirtualClock), Error> {
    let clock = VirtualClock::stepping().starting_at(1_800_000_000_000 + life * 60_000);
    let options = BrokerOptions::from_properties([
        ("offsets.topic.num.partitions", "1"),
        ("transaction.state.log.num.partitions", "2"),
        ("transaction.abort.timed.out.transaction.cleanup.interval.ms", "1000"),
    ])?;
    let options = options.clock(clock.clock()).seed(life.unsigned_abs());
    let broker = options.storage(Arc::new(sim.clone())).open("/data")?;
    Ok((broker, clock))
}

/// A disk with the topics, closed.
fn prepared(promise: Promise) -> Sim {
    let sim = Sim::new();
    let (broker, _) = open(&sim, 0).unwrap();
    let admin = broker.admin();
    for (topic, partitions) in [("a", 2), ("b", 2), ("c", 1), (SOURCE, 1)] {
        let durable = match promise {
            Promise::Kills => false,
            Promise::PowerCuts => true,
            Promise::PowerCutsOfOne => topic != "a",
        };
        let mut config = TopicConfig::default().index_interval_bytes(200);
        if topic != SOURCE {
            config.set("internal.segment.bytes", "900").unwrap();
        }
        let config = if durable { config.flush_messages(1) } else { config };
        admin.create_topic(topic, partitions, config).unwrap();
    }
    let producer = broker.producer(ProducerConfig::default()).unwrap();
    let records = (0..200).map(|_| ProducerRecord::new(SOURCE).value("s"));
    for sent in producer.send_all(records).unwrap() {
        sent.wait().unwrap();
    }
    broker.close().unwrap();
    sim
}

/// A life of the program: its producers, and those that were replaced.
struct Life {
    sim: Sim,
    broker: Broker,
    clock: VirtualClock,
    producers: [Option<Producer>; IDS.len()],
    zombies: Vec<Producer>,
    named: Producer,
}

impl Life {
    fn begin(sim: &Sim, world: &mut World) -> Verdict<Life> {
        world.lives += 1;
        let (broker, clock) = told(open(sim, world.lives), "opening")?;
        let named = told(broker.producer(ProducerConfig::default().name("named")), "a name")?;
        let (producers, zombies) = Default::default();
        Ok(Life { sim: sim.clone(), broker, clock, producers, zombies, named })
    }

    fn draw(world: &World, promise: Promise, random: &mut Random) -> Op {
        let id = random.below(IDS.len() as u64) as usize;
        let any = random.below(PLACES.len() as u64) as usize;
        let bytes = random.below(120) as usize;
        let is_open = world.open(id).is_some();
        // The first one makes the whole transaction durable.
        let place = match promise {
            Promise::PowerCutsOfOne if !is_open => any % 2,
            _ => any,
        };
        match random.below(24) {
            0 | 1 => Op::Init(id),
            2..=9 => Op::Send { id, place, bytes },
            10 | 11 if is_open => Op::Offset(id),
            12 if is_open => Op::Look { id, place: any },
            13..=16 if is_open => Op::End { id, commit: true },
            17 | 18 if is_open => Op::End { id, commit: false },
            19 => Op::Zombie,
            20 | 21 => Op::Numbered { twice: random.coin() },
            22 if random.below(3) == 0 => Op::Tick,
            23 => Op::Flush,
            _ => Op::Send { id, place, bytes },
        }
    }

    fn run(&mut self, world: &mut World, op: Op) -> Verdict<()> {
        world.call += 1;
        let done = match op {
            Op::Init(id) => self.init(world, id),
            Op::Send { id, place, bytes } => self.send(world, id, place, bytes),
            Op::Offset(id) => self.offset(world, id),
            Op::Look { id, place } => {
                let look = world.look(&self.broker, place)?;
                let open = world.open(id).unwrap();
                world.txns[open].looks.push(look);
                Ok(())
            }
            Op::End { id, commit } => self.end(world, id, commit),
            Op::Zombie => return self.zombie(),
            Op::Numbered { twice } => return self.numbered(world, twice),
            Op::Tick => {
                self.tick(world);
                Ok(())
            }
            Op::Flush => self.broker.flush(),
        };
        told(done, &format!("{op:?}"))?;
        if matches!(op, Op::Init(_) | Op::Send { .. }) {
            world.shown(self.sim.steps());
        }
        Ok(())
    }

    /// A producer takes the id over.
    fn init(&mut self, world: &mut World, id: usize) -> Result<(), Error> {
        let config = ProducerConfig::default()
            .transactional_id(IDS[id])
            .transaction_timeout_ms(TIMEOUT.as_millis() as u32);
        let producer = self.broker.producer(config)?;
        producer.init_transactions()?;
        self.over(world, id, Fate::Aborted);
        self.zombies.extend(self.producers[id].replace(producer));
        Ok(())
    }

    /// The open transaction of an id has ended.
    fn over(&self, world: &mut World, id: usize, fate: Fate) {
        let (call, step) = (world.call, self.sim.steps());
        if let Some(open) = world.open(id) {
            let txn = &mut world.txns[open];
            (txn.fate, txn.answered, txn.span.ended) = (fate, step, call);
        }
    }

    fn producer(&mut self, world: &mut World, id: usize) -> Result<(), Error> {
        if self.producers[id].is_none() {
            self.init(world, id)?;
        }
        if world.open(id).is_none() {
            self.producers[id].as_ref().unwrap().begin_transaction()?;
            world.txns.push(Txn {
                id,
                sent: Vec::new(),
                offset: None,
                fate: Fate::Open,
                began: self.sim.steps(),
                asked: NEVER,
                answered: NEVER,
                span: Span { began: world.call, ended: NEVER },
                looks: Vec::new(),
            });
        }
        Ok(())
    }

    fn send(
        &mut self,
        world: &mut World,
        id: usize,
        place: usize,
        bytes: usize,
    ) -> Result<(), Error> {
        self.producer(world, id)?;
        let open = world.open(id).unwrap();
        let txn = &mut world.txns[open];
        let value = format!("t{open}/{}/{}", txn.sent.len(), "v".repeat(bytes));
        let (asked, answered) = (self.sim.steps(), NEVER);
        txn.sent.push(Sent { place, value: value.clone(), offset: None, asked, answered });
        let (topic, partition) = PLACES[place];
        let record = ProducerRecord::new(topic).partition(partition).value(&value);
        let stored = self.producers[id].as_ref().unwrap().send_sync(record)?;
        let sent = txn.sent.last_mut().unwrap();
        (sent.offset, sent.answered) = (Some(stored.offset()), self.sim.steps());
        Ok(())
    }

    fn offset(&mut self, world: &mut World, id: usize) -> Result<(), Error> {
        let open = world.open(id).unwrap();
        let offset = (open % 199) as i64 + 1;
        world.txns[open].offset = Some(offset);
        let at = TopicPartition::new(SOURCE, 0);
        let offsets: BTreeMap<_, _> = [(at, OffsetAndMetadata::new(offset))].into();
        let producer = self.producers[id].as_ref().unwrap();
        producer.send_offsets_to_transaction(&offsets, &GroupMetadata::new(group(id)))
    }

    fn end(&mut self, world: &mut World, id: usize, commit: bool) -> Result<(), Error> {
        let producer = self.producers[id].as_ref().unwrap();
        let fate = if commit { Fate::Committed } else { Fate::Aborted };
        let open = world.open(id).unwrap();
        world.txns[open].asked = self.sim.steps();
        match commit {
            true => producer.commit_transaction()?,
            false => producer.abort_transaction()?,
        }
        self.over(world, id, fate);
        Ok(())
    }

    /// One that was replaced does not know it.
    fn zombie(&mut self) -> Verdict<()> {
        let Some(zombie) = self.zombies.pop() else { return Ok(()) };
        let begun = zombie.begin_transaction();
        let record = ProducerRecord::new("a").partition(0).value("zombie");
        let sent = zombie.send_sync(record).is_ok();
        let ended = begun.is_ok() && zombie.commit_transaction().is_ok();
        match sent || ended {
            true => Err(format!("H-I2: a zombie sent: {sent}, committed: {ended}")),
            false => Ok(()),
        }
    }

    /// A record under the next number of its name, and perhaps once more.
    fn numbered(&mut self, world: &mut World, twice: bool) -> Verdict<()> {
        let last = told(self.named.last_sequence("c", 0), "a sequence")?;
        let next = last.map_or(0, |last| last + 1);
        if next.unsigned_abs() as usize != world.named.len() {
            return Err(format!("H-I1: the next number is {next}, {} are told", world.named.len()));
        }
        let value = next.to_string();
        let send = || {
            let record = ProducerRecord::new("c").partition(0).value(&value);
            told(self.named.send_numbered(record, next).and_then(|sent| sent.wait()), "H-I1")
        };
        let offset = send()?.offset();
        world.named.push(self.sim.steps());
        if twice && send()?.offset() != offset {
            return Err(format!("H-I1: number {next} is stored twice"));
        }
        Ok(())
    }

    /// What is open takes too long. Its producers are fenced.
    fn tick(&mut self, world: &mut World) {
        self.clock.advance(TIMEOUT * 2);
        for id in 0..IDS.len() {
            if world.open(id).is_some() {
                self.over(world, id, Fate::Aborted);
                self.zombies.extend(self.producers[id].take());
            }
        }
    }
}

/// Opens what a crash left, has it write, and compares.
fn judge(image: &Sim, world: &World, step: u64) -> Verdict<World> {
    let (broker, clock) = told(open(image, world.lives + 1), "opening")?;
    let config = ProducerConfig::default().transactional_id("judge");
    let producer = told(broker.producer(config), "a producer")?;
    told(producer.init_transactions(), "the first write")?;
    let plain = told(broker.producer(ProducerConfig::default()), "a producer")?;
    for topic in ["a", "b"] {
        let record = ProducerRecord::new(topic).partition(0).value("plain");
        told(plain.send_sync(record), "a plain record")?;
    }
    // What a clean stop left open has its time.
    clock.advance(TIMEOUT * 2);
    let known = world.check(&broker, step);
    known.map_err(|broken| {
        let warnings: Vec<_> = broker.health().warnings().map(str::to_owned).collect();
        format!("{broken}\n  warnings {warnings:?}")
    })
}

#[derive(Debug, Default)]
pub struct Tally {
    images: u64,
    committed: u64,
    aborted: u64,
    in_recovery: u64,
    /// Images whose graph has a cycle, all of the kinds that Kafka allows.
    cycles: u64,
}

impl Tally {
    fn count(&mut self, known: &World, depth: usize) {
        self.images += 1;
        self.in_recovery += u64::from(depth > 0);
        let fates = |fate| known.txns.iter().filter(|txn| txn.fate == fate).count() as u64;
        self.committed += fates(Fate::Committed);
        self.aborted += fates(Fate::Aborted);
        self.cycles += u64::from(known.graph().has_cycle());
    }
}

impl ImageTally for Tally {
    fn images(&self) -> u64 {
        self.images
    }

    fn add(&mut self, other: Tally) {
        self.images += other.images;
        self.committed += other.committed;
        self.aborted += other.aborted;
        self.in_recovery += other.in_recovery;
        self.cycles += other.cycles;
    }
}

/// How many calls and images a life gets, by how many crashes there were before it.
const CALLS: [u64; 3] = [22, 6, 4];
const IMAGES: [usize; 3] = [24, 6, 4];

fn explore(
    sim: &Sim,
    mut world: World,
    (promise, depth): (Promise, usize),
    random: &mut Random,
    tally: &mut Tally,
) -> Verdict<()> {
    sim.record();
    let mut ops = Vec::new();
    let mut life = Life::begin(sim, &mut world)?;
    for _ in 0..CALLS[depth] {
        let op = Life::draw(&world, promise, random);
        ops.push((sim.steps(), op));
        life.run(&mut world, op).map_err(|broken| format!("{broken}\n  {ops:?}"))?;
    }
    if random.below(6) == 0 {
        ops.push((sim.steps(), Op::Flush));
        told(life.broker.close(), "closing")?;
    }
    let mut replay = sim.replay();
    let (first, steps) = (replay.step(), replay.steps_left() as u64);
    let mut chosen: Vec<u64> =
        (0..IMAGES[depth]).map(|_| first + random.below(steps + 1)).collect();
    chosen.sort_unstable();
    for step in chosen {
        replay.advance_to(step);
        let (image, crash) = draw_image(&replay, promise, random);
        let explain = |broken: String| {
            let next = replay.next_step().unwrap_or_default();
            format!("{broken}\n  {crash} at step {step}, before {next}, life {depth}\n  {ops:?}")
        };
        let known = judge(&image.kill(), &world, step).map_err(explain)?;
        tally.count(&known, depth);
        if depth + 1 < CALLS.len() && random.below(3) == 0 {
            explore(&image, known, (promise, depth + 1), random, tally).map_err(explain)?;
        }
    }
    Ok(())
}

fn draw_image(replay: &Replay, promise: Promise, random: &mut Random) -> (Sim, String) {
    if promise != Promise::Kills && random.below(4) > 0 {
        let cut = PowerCut::drawn(random.next());
        return (replay.power_cut(&cut), format!("{cut:?}"));
    }
    match random.below(3) {
        0 => {
            let bytes = random.below(90) as usize;
            let inside = replay.kill_inside(bytes).unwrap_or_else(|| replay.kill());
            (inside, "kill inside a store".to_owned())
        }
        _ => (replay.kill(), "kill".to_owned()),
    }
}

/// Disks with the topics, one a promise, which every seed begins with a copy of.
struct Prepared([(Promise, Sim); 3]);

impl Prepared {
    fn new() -> Prepared {
        let promises = [Promise::Kills, Promise::PowerCuts, Promise::PowerCutsOfOne];
        Prepared(promises.map(|promise| (promise, prepared(promise))))
    }

    /// All images of one seed.
    ///
    /// # Errors
    /// The first broken promise, with the steps that lead there.
    fn seed(&self, seed: u64, tally: &mut Tally) -> Verdict<()> {
        let mut random = Random::new(seed);
        let (promise, disk) = &self.0[(seed % 3) as usize];
        let (disk, place) = (disk.kill(), (*promise, 0));
        let told = explore(&disk, World::default(), place, &mut random, tally);
        told.map_err(|broken| format!("{broken}\n  {promise:?}"))
    }
}

/// Runs seeds from `first` on until `images` were judged; the failure names the seed.
pub fn run(first: u64, images: u64, threads: u64) -> (Tally, Option<(u64, String)>) {
    let prepared = Prepared::new();
    sweep::seeds(first, images, threads, |number, tally| prepared.seed(number, tally))
}

/// Seeds that found a bug once, whatever the size of the run.
const FORMER: [u64; 1] = [5];

#[test]
fn seeds_that_found_a_bug_of_transactions_find_none() {
    let _turn = scale::turn();
    let prepared = Prepared::new();
    for number in FORMER {
        let told = prepared.seed(number, &mut Tally::default());
        told.unwrap_or_else(|broken| panic!("{number}: {broken}"));
    }
}

#[test]
fn transactions_are_whole_or_not_there_in_every_crash_image() {
    const TEST: &str = "transactions::transactions_are_whole_or_not_there_in_every_crash_image";
    let _turn = scale::turn();
    let (first, images, threads) = match scale::only_seed() {
        Some(seed) => (seed, 1, 1),
        None => (scale::first_seed(), scale::rounds(1_000, 200_000, 2_000_000), 2),
    };
    let started = Instant::now();
    let (tally, failure) = run(first, images, threads);
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "crash images of transactions: {} in {seconds:.1} s, {:.0} a second and thread, {} behind \
         an earlier crash, seeds from {first}: {} committed and {} aborted transactions, H-T1 \
         H-T2 H-T3 H-I1 H-I2 H-R2; {} graphs with a cycle that Kafka allows",
        tally.images,
        tally.images as f64 / seconds / threads as f64,
        tally.in_recovery,
        tally.committed,
        tally.aborted,
        tally.cycles
    );
    if let Some((seed, broken)) = failure {
        panic!("seed {seed}: {broken}\nreplay: {}", scale::replay_command(TEST, seed));
    }
    assert!(scale::only_seed().is_some() || tally.cycles > 0, "the graph has something to judge");
}
