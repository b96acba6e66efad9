//! What a log knows of producers, over rolls, closes, kills and power cuts.
//!
//! Fault: the process dies, or the power goes, between any two changes of the disk while producers
//! with sequences and with transactions append. What must hold: the log that opens knows of its
//! producers, open transactions and aborts exactly what its batches say, also where the batches
//! are gone; a batch that is there and is sent again is answered with its old place, and the next
//! one is stored; no snapshot is ahead of the log.

use super::*;
use crate::log::producers::snapshot::SnapshotRow;
use crate::record::{BatchHeader, ControlType, TimestampType};
use crate::storage::sim::{Entries, Pages, PowerCut, Random, Sim};
use std::collections::BTreeMap;

const IDEMPOTENT: i64 = 1;
const TRANSACTIONAL: [i64; 2] = [2, 3];

/// A producer as its own program sees it.
#[derive(Debug, Clone, Default)]
struct Sender {
    epoch: i16,
    next_sequence: i32,
    /// The first offset of its transaction.
    open: Option<i64>,
    /// Its last batch: the stamp, how many records, and where it went.
    last: Option<(ProducerStamp, usize, i64)>,
}

/// What is known at one log end.
#[derive(Debug, Clone, Default)]
struct Known {
    senders: BTreeMap<i64, Sender>,
    aborted: Vec<(i64, i64)>,
    rows: Vec<SnapshotRow>,
    stable: i64,
}

/// What happened, and when, in steps of the disk.
#[derive(Default)]
struct History {
    /// What is known at each end, in order of ends.
    known: BTreeMap<i64, Known>,
    ends: Vec<(u64, i64)>,
    durable: Vec<(u64, i64)>,
    states: Vec<(u64, LogState, Trust)>,
}

fn bench_on(sim: &Sim, epoch: i64) -> Bench {
    let mut bench = Bench::on(Arc::new(sim.clone()), PathBuf::from("/logs"), None);
    bench.config.segment_bytes = 900;
    bench.config.index_interval_bytes = 200;
    bench.gate.epoch.store(epoch, Ordering::SeqCst);
    bench
}

fn send(bench: &Bench, log: &Log, stamp: ProducerStamp, records: usize) -> Result<Appended> {
    let record = RecordInput { timestamp: bench.now_ms(), value: Some(b"v"), ..Default::default() };
    let options = AppendOptions { producer: Some(stamp), ..bench.options() };
    match records {
        1 => log.append(&record, options),
        _ => log.append_records(&vec![record; records], Default::default(), None, options),
    }
}

impl Known {
    /// The next batch of a producer.
    fn next(&self, id: i64) -> ProducerStamp {
        let sender = self.senders.get(&id).cloned().unwrap_or_default();
        ProducerStamp {
            producer_id: id,
            producer_epoch: sender.epoch,
            base_sequence: sender.next_sequence,
            transactional: TRANSACTIONAL.contains(&id),
        }
    }

    fn send(&mut self, bench: &Bench, log: &Log, id: i64, records: usize) {
        let stamp = self.next(id);
        let appended = send(bench, log, stamp, records).unwrap();
        assert!(!appended.duplicate);
        let sender = self.senders.entry(id).or_default();
        sender.next_sequence += records as i32;
        sender.last = Some((stamp, records, appended.base_offset));
        if stamp.transactional {
            sender.open.get_or_insert(appended.base_offset);
        }
    }

    /// Sends a producer's last batch again.
    fn send_again(&self, bench: &Bench, log: &Log, id: i64) {
        let Some((stamp, records, offset)) = self.senders.get(&id).and_then(|s| s.last) else {
            return;
        };
        let again = send(bench, log, stamp, records);
        if stamp.producer_epoch < self.senders[&id].epoch {
            assert_eq!(again.unwrap_err().kind(), ErrorKind::InvalidProducerEpoch);
            return;
        }
        let again = again.unwrap();
        assert_eq!((again.base_offset, again.duplicate), (offset, true), "producer {id}");
    }

    fn end(&mut self, bench: &Bench, log: &Log, id: i64, kind: ControlType) {
        let Some(sender) = self.senders.get_mut(&id) else { return };
        let Some(first) = sender.open.take() else { return };
        sender.epoch += 1;
        sender.next_sequence = 0;
        let marker = Marker {
            producer_id: id,
            producer_epoch: sender.epoch,
            kind,
            coordinator_epoch: 4,
            transaction_version: 2,
        };
        let offset = log.append_marker(marker, bench.now_ms()).unwrap().base_offset;
        if kind == ControlType::Abort {
            self.aborted.push((first, offset));
        }
    }

    fn note(&mut self, log: &Log, bench: &Bench) {
        self.rows = log.producers(bench.now_ms()).unwrap();
        self.stable = log.last_stable_offset().unwrap();
        let end = log.log_end_offset().unwrap();
        let open = self.senders.values().filter_map(|sender| sender.open).min();
        assert_eq!(self.stable, open.unwrap_or(end), "the last stable offset");
    }
}

/// Runs a random life on `sim`, closed and opened now and then.
fn live(sim: &Sim, seed: u64) -> History {
    let mut random = Random::new(seed);
    let bench = bench_on(sim, 0);
    let mut log = bench.new_log();
    let mut history = History::default();
    let mut known = Known::default();
    for _ in 0..60 {
        let id = 1 + random.below(3) as i64;
        match random.below(24) {
            0..=9 => known.send(&bench, &log, id, 1 + random.below(4) as usize),
            10 => known.send_again(&bench, &log, id),
            11..=13 => {
                let kind = if random.coin() { ControlType::Abort } else { ControlType::Commit };
                known.end(&bench, &log, id, kind);
            }
            14 | 15 => drop(bench.append(&log, b"of nobody")),
            16..=18 => {
                log.flush().unwrap();
                history.durable.push((sim.steps(), log.recovery_point().unwrap()));
                history.states.push((sim.steps(), log.state().unwrap(), Trust::OtherBoot));
            }
            19..=21 => drop(log.seal_step().unwrap()),
            22 => drop(log.prepare_step().unwrap()),
            _ => {
                let state = log.close().unwrap();
                history.durable.push((sim.steps(), state.recovery_point));
                history.states.push((sim.steps(), state.clone(), Trust::OtherBoot));
                bench.gate.epoch.fetch_add(1, Ordering::SeqCst);
                log = bench.open(state, Trust::Clean);
            }
        }
        known.note(&log, &bench);
        let end = log.log_end_offset().unwrap();
        history.ends.push((sim.steps(), end));
        history.known.insert(end, known.clone());
    }
    if random.coin() {
        let state = log.close().unwrap();
        history.durable.push((sim.steps(), state.recovery_point));
        history.states.push((sim.steps(), state, Trust::Clean));
    }
    history
}

/// Holds a log against what was known when it ended there.
fn agree(bench: &Bench, log: &Log, known: &Known, what: &str) {
    let end = log.log_end_offset().unwrap();
    assert_eq!(log.last_stable_offset().unwrap(), known.stable, "{what}: last stable offset");
    let aborted = log.aborted_transactions(0, end).unwrap();
    let aborted: Vec<_> = aborted.iter().map(|row| (row.first_offset, row.last_offset)).collect();
    assert_eq!(aborted, known.aborted, "{what}: aborted transactions");
    assert_eq!(log.producers(bench.now_ms()).unwrap(), known.rows, "{what}: producers");
}

/// Opens what a crash left, checks it, goes on, and checks that too.
fn check(after: &Sim, history: &History, step: u64, trust: Trust, what: &str) {
    let mut bench = bench_on(after, 90);
    // Now and then producers are learnt by an append, and at times by a look at them.
    bench.config.segment_bytes = if step.is_multiple_of(2) { 900 } else { 400 };
    let recorded = history.states.iter().rev().find(|row| row.0 <= step);
    let state = recorded.map(|row| row.1.clone()).unwrap_or_default();
    let log = bench.open(state, trust);
    let end = log.log_end_offset().unwrap();
    assert!(log.refusal().is_none(), "{what}: {:?}", log.opening().0);
    let acked = history.ends.iter().rev().find(|row| row.0 <= step).map_or(0, |row| row.1);
    let durable = history.durable.iter().rev().find(|row| row.0 <= step).map_or(0, |row| row.1);
    let least = if trust == Trust::SameBoot { acked } else { durable };
    assert!(end >= least, "{what}: ends at {end}, not at {least}");
    let nothing = (0, Known::default());
    let mut known = match history.known.get(&end) {
        Some(known) => known.clone(),
        None if end == 0 => nothing.1,
        // Several batches were appended in one step of the script.
        None => panic!("{what}: nobody saw the log end at {end}"),
    };
    if step.is_multiple_of(3) {
        agree(&bench, &log, &known, what);
    }
    for id in [IDEMPOTENT, TRANSACTIONAL[0], TRANSACTIONAL[1]] {
        known.send_again(&bench, &log, id);
        known.send(&bench, &log, id, 2);
        known.send_again(&bench, &log, id);
    }
    for name in bench.names() {
        let offset = name.strip_suffix(".snapshot").map(|digits| digits.parse::<i64>().unwrap());
        let end = log.log_end_offset().unwrap();
        assert!(offset.is_none_or(|offset| offset <= end), "{what}: {name} is ahead of {end}");
    }
    log.flush().unwrap();
    known.note(&log, &bench);
    agree(&bench, &log, &known, what);
    let state = log.state().unwrap();
    let later = after.power_cut(&PowerCut::new(step, Pages::None, Entries::None));
    let bench = bench_on(&later, 91);
    let log = bench.open(state, Trust::OtherBoot);
    agree(&bench, &log, &known, &format!("{what}, and cut once more"));
    let state = log.close().unwrap();
    let log = bench_on(&later, 92).open(state, Trust::Clean);
    agree(&bench, &log, &known, &format!("{what}, and closed"));
}

fn crash_everywhere(seeds: std::ops::Range<u64>) -> usize {
    cuts::crash_everywhere(seeds, 1, live, check)
}

#[test]
fn producers_are_what_the_log_says_wherever_it_crashes() {
    let checked = crash_everywhere(0..3);
    assert!(checked > 1000, "{checked} crashes");
}

#[test]
#[ignore = "the same with more seeds: minutes"]
fn producers_are_what_the_log_says_wherever_it_crashes_at_length() {
    crash_everywhere(3..60);
}

/// Has two threads send the same batches of one producer at the same time, as a program does that
/// sends again what it believes to be lost. Returns how many records are stored.
fn send_twice(batches: i32, before: impl Fn() + Sync) -> usize {
    let bench = Bench::heap();
    let log = bench.new_log();
    let turn = std::sync::Barrier::new(2);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                before();
                for base_sequence in 0..batches {
                    let stamp = ProducerStamp {
                        producer_id: 7,
                        producer_epoch: 0,
                        base_sequence,
                        transactional: false,
                    };
                    turn.wait();
                    // One is first, and the other is told where it is. Behind a batch that was
                    // stored twice the next may be refused.
                    drop(send(&bench, &log, stamp, 1));
                }
            });
        }
    });
    read_all(&log, 0).len()
}

#[test]
fn a_batch_that_two_threads_send_is_stored_once() {
    assert_eq!(send_twice(2000, || ()), 2000);
}

/// A marker is smaller than any batch of records that a topic may refuse for its size, and has its
/// own time where the log gives records theirs.
#[test]
fn a_transaction_ends_in_a_topic_that_takes_no_record() {
    Bench::both(|bench| {
        bench.config.timestamp_type = TimestampType::LogAppendTime;
        let log = bench.new_log();
        let mut known = Known::default();
        known.send(bench, &log, TRANSACTIONAL[0], 1);
        log.apply_config(LogConfig { max_message_bytes: 1, ..bench.config.clone() });
        let refused = send(bench, &log, known.next(TRANSACTIONAL[0]), 1).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::RecordTooLarge);
        known.end(bench, &log, TRANSACTIONAL[0], ControlType::Commit);
        known.note(&log, bench);
        assert_eq!(log.last_stable_offset().unwrap(), log.log_end_offset().unwrap());
        agree(bench, &log, &known, "as it runs");
        let mut cursor = Cursor::new(1);
        let chunk = log.read(&mut cursor, 1000, IsolationLevel::ReadCommitted).unwrap();
        let header = BatchHeader::parse(chunk.bytes()).unwrap();
        assert!(header.is_control());
        assert_eq!(header.timestamp_type(), TimestampType::CreateTime);
        assert_eq!(header.max_timestamp, bench.now_ms());
    });
}

/// An aborted transaction stays one when its segment is sealed, and for a log that is opened
/// again, over as many segments as there are.
#[test]
fn aborts_in_many_segments_are_found_by_a_read_over_all_of_them() {
    Bench::both(|bench| {
        bench.config.segment_bytes = 400;
        let mut log = bench.new_log();
        let mut known = Known::default();
        for round in 0..12 {
            let kind = if round % 3 == 0 { ControlType::Commit } else { ControlType::Abort };
            for id in TRANSACTIONAL {
                known.send(bench, &log, id, 2);
            }
            bench.append(&log, b"of nobody");
            known.send(bench, &log, TRANSACTIONAL[1], 1);
            for id in TRANSACTIONAL {
                known.end(bench, &log, id, kind);
            }
            bench.run_work();
            if round == 6 {
                log = bench.open(log.close().unwrap(), Trust::Clean);
            }
        }
        known.note(&log, bench);
        assert!(log.segment_count().unwrap() > 8);
        agree(bench, &log, &known, "as it runs");
        let (first, last) = known.aborted[3];
        let some = log.aborted_transactions(first, last).unwrap();
        assert!(some.iter().any(|row| (row.first_offset, row.last_offset) == (first, last)));
        let state = log.close().unwrap();
        assert!(bench.names().iter().filter(|name| name.ends_with(".txnindex")).count() > 4);
        agree(bench, &bench.open(state.clone(), Trust::Clean), &known, "as it was closed");
        for trust in [Trust::SameBoot, Trust::OtherBoot, Trust::Foreign] {
            let known = Known { rows: known.rows.clone(), ..known.clone() };
            agree(bench, &bench.open(state.clone(), trust), &known, &format!("{trust:?}"));
        }
    });
}

/// The file of a closed segment tells nothing of the aborts that follow when it goes on.
#[test]
fn an_abort_in_a_resumed_segment_survives_a_kill_before_its_seal() {
    Bench::both(|bench| {
        let mut log = bench.new_log();
        let mut known = Known::default();
        let [id, other] = TRANSACTIONAL;
        for round in 0..2 {
            known.send(bench, &log, id, 1);
            known.end(bench, &log, id, ControlType::Abort);
            if round == 0 {
                log = bench.open(log.close().unwrap(), Trust::Clean);
            }
        }
        bench.config.segment_bytes = 100;
        log.apply_config(bench.config.clone());
        known.send(bench, &log, other, 1);
        assert_eq!(log.segment_count().unwrap(), 2, "the resumed one is retired");
        known.note(&log, bench);
        log.flush().unwrap();
        let state = log.state().unwrap();
        drop(log);
        for trust in [Trust::SameBoot, Trust::OtherBoot] {
            agree(bench, &bench.open(state.clone(), trust), &known, &format!("{trust:?}"));
        }
    });
}

/// What the state file says of transactions is as old as what it says of the log's end.
#[test]
fn an_end_of_a_transaction_behind_the_last_sync_survives_a_kill() {
    for kind in [ControlType::Abort, ControlType::Commit] {
        Bench::both(|bench| {
            let log = bench.new_log();
            let mut known = Known::default();
            let [id, other] = TRANSACTIONAL;
            known.send(bench, &log, id, 2);
            log.flush().unwrap();
            known.end(bench, &log, id, kind);
            known.send(bench, &log, other, 1);
            known.note(&log, bench);
            let state = log.state().unwrap();
            drop(log);
            agree(bench, &bench.open(state, Trust::SameBoot), &known, &format!("{kind:?}"));
        });
    }
}

/// Batches that retention removed live on in what is known of their producers.
#[test]
fn a_producer_outlives_its_batches() {
    Bench::both(|bench| {
        bench.config.segment_bytes = 400;
        bench.config.retention_bytes = 500;
        let log = bench.new_log();
        let mut known = Known::default();
        known.send(bench, &log, IDEMPOTENT, 3);
        for _ in 0..30 {
            bench.append(&log, b"of nobody");
        }
        bench.run_work();
        log.retention_step(bench.clock.now()).unwrap();
        assert!(log.log_start_offset().unwrap() > 3);
        let snapshots = || bench.names().iter().filter(|n| n.ends_with(".snapshot")).count();
        assert_eq!(snapshots(), log.segment_count().unwrap(), "each segment has its own");
        known.note(&log, bench);
        log.flush().unwrap();
        let state = log.state().unwrap();
        drop(log);
        for trust in [Trust::SameBoot, Trust::OtherBoot, Trust::Foreign] {
            let log = bench.open(state.clone(), trust);
            agree(bench, &log, &known, &format!("{trust:?}"));
            known.send_again(bench, &log, IDEMPOTENT);
            let (last, ..) = known.senders[&IDEMPOTENT].last.unwrap();
            let gap = ProducerStamp { base_sequence: 5, ..last };
            let refused = send(bench, &log, gap, 1).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::OutOfOrderSequence);
        }
        // A day later nobody remembers it.
        let log = bench.open(state, Trust::SameBoot);
        bench.clock.advance(std::time::Duration::from_secs(86_400));
        assert_eq!(log.producers(bench.now_ms()).unwrap(), []);
    });
}

/// Also where nobody wrote a snapshot yet when they were removed.
#[test]
fn a_producer_outlives_its_batches_before_the_next_segment_is_sealed() {
    Bench::both(|bench| {
        bench.config.segment_bytes = 400;
        let log = bench.new_log();
        let mut known = Known::default();
        known.send(bench, &log, IDEMPOTENT, 3);
        while log.segment_count().unwrap() < 2 {
            bench.append(&log, b"of nobody");
        }
        log.delete_records(log.log_end_offset().unwrap() - 1).unwrap();
        log.retention_step(bench.clock.now()).unwrap();
        assert_eq!(log.segment_count().unwrap(), 1);
        known.note(&log, bench);
        let state = bench.gate.recorded.lock().last().unwrap().1.clone();
        drop(log);
        for trust in [Trust::SameBoot, Trust::OtherBoot] {
            let log = bench.open(state.clone(), trust);
            assert_eq!(log.producers(bench.now_ms()).unwrap(), known.rows, "{trust:?}");
            known.send_again(bench, &log, IDEMPOTENT);
        }
    });
}

/// And where a kill took the one that was to be written.
#[test]
fn a_producer_outlives_its_batches_behind_a_kill() {
    Bench::both(|bench| {
        let log = bench.new_log();
        let mut known = Known::default();
        known.send(bench, &log, IDEMPOTENT, 3);
        log.close_active_segment(bench.clock.now()).unwrap();
        let state = log.state().unwrap();
        drop(log);
        let log = bench.open(state, Trust::SameBoot);
        known.send(bench, &log, TRANSACTIONAL[0], 1);
        log.delete_records(3).unwrap();
        log.retention_step(bench.clock.now()).unwrap();
        assert_eq!(log.segment_count().unwrap(), 1);
        known.note(&log, bench);
        let state = bench.gate.recorded.lock().last().unwrap().1.clone();
        drop(log);
        let log = bench.open(state, Trust::SameBoot);
        assert_eq!(log.producers(bench.now_ms()).unwrap(), known.rows);
        for id in [IDEMPOTENT, TRANSACTIONAL[0]] {
            known.send_again(bench, &log, id);
        }
    });
}

/// Records of an open transaction may be deleted. The last stable offset moves with the start, the
/// producers are kept, and the transaction ends as any.
#[test]
fn a_transaction_outlives_the_deletion_of_its_first_records() {
    for kind in [ControlType::Commit, ControlType::Abort] {
        Bench::both(|bench| {
            let id = TRANSACTIONAL[0];
            let log = bench.new_log();
            let mut known = Known::default();
            known.send(bench, &log, id, 2);
            known.send(bench, &log, IDEMPOTENT, 2);
            known.send(bench, &log, id, 2);
            let stable = |log: &Log| log.end_for(IsolationLevel::ReadCommitted).unwrap();
            assert_eq!(stable(&log), 0);
            log.delete_records(5).unwrap();
            assert_eq!(stable(&log), 5, "it is lifted to the start");
            assert_eq!(log.open_transactions().unwrap(), [(id, 0)]);
            known.send_again(bench, &log, IDEMPOTENT);
            known.send_again(bench, &log, id);
            let rows = log.producers(bench.now_ms()).unwrap();
            assert_eq!(rows.len(), 2);
            let state = log.state().unwrap();
            drop(log);
            let log = bench.open(state, Trust::SameBoot);
            assert_eq!(log.producers(bench.now_ms()).unwrap(), rows);
            known.send(bench, &log, id, 1);
            known.end(bench, &log, id, kind);
            assert_eq!((stable(&log), log.log_end_offset().unwrap()), (8, 8));
            let aborted = log.aborted_transactions(0, i64::MAX).unwrap();
            let ranges: Vec<_> = aborted.iter().map(|a| (a.first_offset, a.last_offset)).collect();
            assert_eq!(ranges, known.aborted);
        });
    }
}

/// A log that is not there any more has no producers to tell of.
#[test]
fn a_log_whose_folder_a_power_cut_took_is_closed() {
    let sim = Sim::new();
    sim.create_dir(Path::new("/logs")).unwrap();
    sim.sync_dir(Path::new("/")).unwrap();
    let bench = bench_on(&sim, 0);
    let log = bench.new_log();
    Known::default().send(&bench, &log, IDEMPOTENT, 1);
    let state = log.state().unwrap();
    let after = sim.power_cut(&PowerCut::new(1, Pages::None, Entries::None));
    let log = bench_on(&after, 1).open(state, Trust::OtherBoot);
    assert_eq!(log.log_end_offset().unwrap(), 0);
    log.close().unwrap();
}

/// A flush before the first append of a life notes how far the log goes; the repairs that precede
/// the append put other segments in the place of those.
#[test]
fn what_was_flushed_before_a_repair_is_not_mixed_with_what_came_after() {
    let sim = Sim::new();
    sim.create_dir(Path::new("/logs")).unwrap();
    sim.sync_dir(Path::new("/")).unwrap();
    let log = bench_on(&sim, 0).new_log();
    let mut known = Known::default();
    known.send(&bench_on(&sim, 0), &log, IDEMPOTENT, 2);
    log.flush().unwrap();
    let killed = sim.kill();
    let bench = bench_on(&killed, 1);
    let log = bench.open(log.state().unwrap(), Trust::SameBoot);
    log.flush().unwrap();
    known.send(&bench, &log, IDEMPOTENT, 3);
    let state = log.state().unwrap();
    let last = state.segments.last().map(|segment| segment.extent.next_offset);
    assert_eq!(last, Some(state.log_end_offset), "{state:?}");
    let after = killed.power_cut(&PowerCut::new(1, Pages::None, Entries::None));
    let log = bench_on(&after, 2).open(state, Trust::OtherBoot);
    assert_eq!(log.log_end_offset().unwrap(), 2);
    assert!(!log.opening().1.foreign, "{:?}", log.opening());
}

/// A snapshot that is not as it was left is not believed: neither a damaged one, nor one of
/// another history whose checksum holds.
#[test]
fn a_snapshot_that_was_changed_is_made_up_for_by_the_log() {
    let changes: [fn(&mut Vec<u8>); 3] = [
        |bytes| bytes[30] ^= 4,
        |bytes| bytes.truncate(20),
        |bytes| *bytes = crate::log::producers::snapshot::to_bytes(&[]),
    ];
    for change in changes {
        for closed in [true, false] {
            let mut bench = Bench::heap();
            bench.config.segment_bytes = 400;
            let log = bench.new_log();
            let mut known = Known::default();
            for id in [1, 2, 1, 3, 1, 2, 1, 3] {
                known.send(&bench, &log, id, 3);
            }
            bench.run_work();
            known.note(&log, &bench);
            log.flush().unwrap();
            let (state, trust) = match closed {
                true => (log.close().unwrap(), Trust::Clean),
                false => (log.state().unwrap(), Trust::SameBoot),
            };
            let names = bench.names();
            let newest = names.iter().filter(|name| name.ends_with(".snapshot")).max().unwrap();
            let path = bench.identity().dir.join(newest);
            let mut bytes = bench.storage.read_file(&path, 1 << 20).unwrap();
            change(&mut bytes);
            bench.storage.create_cold(&path).unwrap().write_at(0, &bytes).unwrap();
            let log = bench.open(state, trust);
            agree(&bench, &log, &known, &format!("{trust:?}"));
            assert!(log.opening().0.iter().any(|found| found.kind == FindingKind::DerivedFile));
        }
    }
}

#[cfg(feature = "planted-bugs")]
#[test]
fn planted_bugs_of_what_is_known_of_producers_are_caught() {
    use crate::storage::planted::{Planted, enable};
    use std::panic::{AssertUnwindSafe, catch_unwind};
    let caught = |bug: Planted, suite: fn()| {
        let _bug = enable(bug);
        catch_unwind(AssertUnwindSafe(suite)).is_err()
    };
    assert!(caught(Planted::SnapshotTrustedUnproven, || {
        crash_everywhere(0..3);
    }));
    assert!(caught(
        Planted::SnapshotTrustedUnproven,
        a_snapshot_that_was_changed_is_made_up_for_by_the_log
    ));
    assert!(caught(Planted::StableOffsetTooEarly, || {
        crash_everywhere(0..3);
    }));
    assert!(caught(
        Planted::AbortIndexLost,
        aborts_in_many_segments_are_found_by_a_read_over_all_of_them
    ));
    assert!(caught(Planted::AbortIndexLost, || {
        crash_everywhere(0..3);
    }));
    // Whether two threads meet is for the system to say: on a busy machine not in each try.
    let here = || std::mem::forget(enable(Planted::SequenceNotChecked));
    assert!((0..50).any(|_| send_twice(2000, here) > 2000));
}
