//! Models of what threads do to a log, run by loom through every interleaving it can bound.
//!
//! `RUSTFLAGS='--cfg loom' cargo test --release --lib --features planted-bugs loom`

use crate::config::{IsolationLevel, LogConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::log::border::Border;
use crate::log::group_commit::GroupCommit;
use crate::log::watch::{ReadyList, WatchList};
use crate::log::{
    AppendOptions, BackgroundWork, Cursor, EpochGate, Log, LogEnv, LogIdentity, LogState,
    MappedLimit, Trust,
};
use crate::record::{RecordBatch, RecordInput};
use crate::storage::sim::{Entries, Pages, PowerCut, Sim};
use crate::storage::{Heap, Storage};
use crate::sync::{Arc, AtomicI64, Mutex, Ordering, thread};
use crate::time::{Clock, Signal};
use crate::topic::TopicId;
use std::mem::ManuallyDrop;
use std::path::Path;

fn model(body: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(body);
}

fn spawn<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> thread::JoinHandle<T> {
    thread::spawn_named("model", body).unwrap()
}

/// A reader that saw the log end finds all bytes below it published, and as they were written.
#[test]
fn loom_a_reader_finds_every_byte_below_the_end() {
    model(|| {
        let file = Heap::new().create(Path::new("/a.log"), 64, 64).unwrap();
        let region = file.region().unwrap().clone();
        let end = Arc::new(Border::new(0));
        let mut writer = region.writer().unwrap();
        let reader = {
            let (region, end) = (region.clone(), end.clone());
            spawn(move || {
                for _ in 0..2 {
                    let seen = end.load() as usize;
                    let published = region.published();
                    assert!(published >= seen * 8, "{published} bytes below offset {seen}");
                    for offset in 0..seen {
                        assert_eq!(region.read(offset * 8..offset * 8 + 8), [offset as u8 + 1; 8]);
                    }
                }
            })
        };
        for offset in 0..2_usize {
            writer.write(offset * 8, &[offset as u8 + 1; 8]);
            writer.publish(offset * 8 + 8);
            end.publish(offset as i64 + 1);
        }
        reader.join().unwrap();
    });
}

/// The model above would notice an end that moves before the bytes are published.
#[test]
#[should_panic(expected = "bytes below offset")]
fn loom_an_end_that_moves_first_is_noticed() {
    model(|| {
        let file = Heap::new().create(Path::new("/a.log"), 64, 64).unwrap();
        let region = file.region().unwrap().clone();
        let end = Arc::new(Border::new(0));
        let mut writer = region.writer().unwrap();
        let reader = {
            let (region, end) = (region.clone(), end.clone());
            spawn(move || {
                let seen = end.load() as usize;
                let published = region.published();
                assert!(published >= seen * 8, "{published} bytes below offset {seen}");
            })
        };
        writer.write(0, &[1; 8]);
        end.publish(1);
        writer.publish(8);
        reader.join().unwrap();
    });
}

/// Whoever is told that its record is durable was covered by a sync that began behind its append,
/// and nobody waits for ever.
#[test]
fn loom_a_group_commit_covers_everybody_it_answers() {
    model(|| {
        let commit = Arc::new(GroupCommit::new(0));
        let appended = Arc::new(AtomicI64::new(0));
        let on_disk = Arc::new(AtomicI64::new(0));
        let append = {
            let (commit, appended, on_disk) = (commit.clone(), appended.clone(), on_disk.clone());
            move || {
                let mine = appended.fetch_add(1, Ordering::AcqRel) + 1;
                let outcome = commit.wait_for(mine, || {
                    let reached = appended.load(Ordering::Acquire);
                    on_disk.fetch_max(reached, Ordering::AcqRel);
                    Ok(reached)
                });
                assert!(outcome.is_ok());
                assert!(on_disk.load(Ordering::Acquire) >= mine, "answered before its sync");
            }
        };
        let others = [spawn(append.clone()), spawn(append.clone())];
        append();
        for other in others {
            other.join().unwrap();
        }
        assert_eq!(commit.durable(), 3);
    });
}

/// The model above would notice a sync that covers only what its leader knew when it began to
/// wait.
#[test]
#[should_panic(expected = "answered before its sync")]
fn loom_a_sync_of_an_old_end_is_noticed() {
    model(|| {
        let commit = Arc::new(GroupCommit::new(0));
        let appended = Arc::new(AtomicI64::new(0));
        let on_disk = Arc::new(AtomicI64::new(0));
        let append = {
            let (commit, appended, on_disk) = (commit.clone(), appended.clone(), on_disk.clone());
            move || {
                let mine = appended.fetch_add(1, Ordering::AcqRel) + 1;
                commit
                    .wait_for(mine, || {
                        on_disk.fetch_max(mine, Ordering::AcqRel);
                        Ok(appended.load(Ordering::Acquire))
                    })
                    .unwrap();
                assert!(on_disk.load(Ordering::Acquire) >= mine, "answered before its sync");
            }
        };
        let other = spawn(append.clone());
        append();
        other.join().unwrap();
    });
}

/// The error of a sync reaches everybody who waits for it and everybody later.
#[test]
fn loom_a_failed_sync_answers_everybody_and_for_good() {
    model(|| {
        let commit = Arc::new(GroupCommit::new(0));
        let syncs = Arc::new(AtomicI64::new(0));
        let append = {
            let (commit, syncs) = (commit.clone(), syncs.clone());
            move |upto: i64| {
                let outcome = commit.wait_for(upto, || {
                    syncs.fetch_add(1, Ordering::AcqRel);
                    Err(Error::new(ErrorKind::StorageFailed, "model"))
                });
                assert_eq!(outcome.unwrap_err().kind(), ErrorKind::StorageFailed);
            }
        };
        let other = spawn({
            let append = append.clone();
            move || append(1)
        });
        append(2);
        other.join().unwrap();
        append(3);
        assert_eq!(syncs.load(Ordering::Acquire), 1, "a failed sync is not repeated");
        assert_eq!(commit.durable(), 0);
    });
}

/// A reader that registers while a writer appends is woken, or does not wait.
#[test]
fn loom_no_wake_up_is_lost() {
    model(|| {
        let log = Arc::new((Mutex::new(WatchList::default()), Border::new(0)));
        let writer = spawn({
            let log = log.clone();
            move || {
                let mut watchers = log.0.lock();
                log.1.publish(1);
                let woken = watchers.take();
                drop(watchers);
                woken.ring();
            }
        });
        let event = Arc::new(Signal::new());
        let clock = Clock::system();
        loop {
            let mut watchers = log.0.lock();
            if log.1.load() > 0 {
                break;
            }
            watchers.add((&event).into());
            drop(watchers);
            assert!(clock.park(&event, None), "only a ring ends the wait");
        }
        writer.join().unwrap();
    });
}

/// The model above would notice a look at the end that is not taken under the lock.
#[test]
#[should_panic(expected = "deadlock")]
fn loom_a_look_outside_the_lock_is_noticed() {
    model(|| {
        let log = Arc::new((Mutex::new(WatchList::default()), Border::new(0)));
        let writer = spawn({
            let log = log.clone();
            move || {
                let mut watchers = log.0.lock();
                log.1.publish(1);
                let woken = watchers.take();
                drop(watchers);
                woken.ring();
            }
        });
        let event = Arc::new(Signal::new());
        let clock = Clock::system();
        while log.1.load() == 0 {
            log.0.lock().add((&event).into());
            clock.park(&event, None);
        }
        writer.join().unwrap();
    });
}

/// A log of which only its end and its watchers are there, and an append of one record to it.
type Watched = Arc<(Mutex<WatchList>, Border)>;

fn move_end(log: &Watched) {
    let mut watchers = log.0.lock();
    log.1.publish(log.1.load() + 1);
    let woken = watchers.take();
    drop(watchers);
    woken.ring();
}

/// A reader of two logs that sleeps until one of them is on its list hears of both.
#[test]
fn loom_no_wake_up_of_a_reader_of_many_logs_is_lost() {
    model(|| {
        let logs = [(); 2].map(|()| Watched::new((Mutex::default(), Border::new(0))));
        let writer = spawn({
            let logs = logs.clone();
            move || logs.iter().for_each(move_end)
        });
        let event = Arc::new(Signal::new());
        let ready = Arc::new(ReadyList::new(event.clone()));
        let clock = Clock::system();
        let (mut awake, mut found) = (vec![0, 1], 0);
        while found < 2 {
            while let Some(key) = awake.pop() {
                let log: &Watched = &logs[key as usize];
                let mut watchers = log.0.lock();
                match log.1.load() > 0 {
                    true => found += 1,
                    false => watchers.add((&ready, key).into()),
                }
            }
            ready.drain(|key| awake.push(key));
            if found < 2 && awake.is_empty() {
                assert!(clock.park(&event, None), "only a ring ends the wait");
                ready.drain(|key| awake.push(key));
            }
        }
        writer.join().unwrap();
    });
}

/// Whoever has appended finds its log on the list, also where another append took the
/// registration and has not rung yet.
#[test]
fn loom_whoever_has_appended_finds_its_log_listed() {
    model(|| {
        let log = Watched::new((Mutex::default(), Border::new(0)));
        let ready = Arc::new(ReadyList::new(Arc::new(Signal::new())));
        log.0.lock().add((&ready, 7).into());
        let other = spawn({
            let log = log.clone();
            move || move_end(&log)
        });
        move_end(&log);
        let mut listed = Vec::new();
        ready.drain(|key| listed.push(key));
        assert_eq!(listed, [7], "its log is not listed");
        other.join().unwrap();
        ready.drain(|key| panic!("{key} is listed again"));
    });
}

/// The model above would notice a list that is filled behind the lock.
#[test]
#[should_panic(expected = "its log is not listed")]
fn loom_a_list_that_is_filled_behind_the_lock_is_noticed() {
    model(|| {
        let (watched, end) = (Mutex::new(true), Border::new(0));
        let log = Arc::new((watched, end, Mutex::new(Vec::new())));
        let append = |log: &(Mutex<bool>, Border, Mutex<Vec<u32>>)| {
            let mut watched = log.0.lock();
            log.1.publish(log.1.load() + 1);
            let told = std::mem::take(&mut *watched);
            drop(watched);
            if told {
                log.2.lock().push(7);
            }
        };
        let other = spawn({
            let log = log.clone();
            move || append(&log)
        });
        append(&log);
        assert_eq!(*log.2.lock(), [7], "its log is not listed");
        other.join().unwrap();
    });
}

#[derive(Debug)]
struct OpenGate;

impl EpochGate for OpenGate {
    fn enter(&self) -> Result<i32> {
        Ok(0)
    }

    fn record(&self, _: &Log) -> Result<()> {
        Ok(())
    }

    fn work(&self, _: BackgroundWork) {}
}

fn log(segment_bytes: u64) -> Arc<Log> {
    log_on(Arc::new(Heap::new()), segment_bytes)
}

fn log_on(storage: Arc<dyn Storage>, segment_bytes: u64) -> Arc<Log> {
    storage.create_dir(Path::new("/logs")).unwrap();
    let env = LogEnv {
        producer_expiration_ms: i64::MAX,
        cut_damage: false,
        storage,
        gate: Arc::new(OpenGate),
        counters: Arc::default(),
        mapped: MappedLimit::default(),
        seed: 0,
        uncompressed_max: crate::record::DECOMPRESSED_MAX,
        probe: crate::probe::Probe::default(),
        clock: crate::time::Clock::system(),
    };
    let id = LogIdentity {
        topic: "t".into(),
        partition: 0,
        topic_id: TopicId::from_random([1; 16]),
        dir: "/logs/t-0".into(),
    };
    let config = LogConfig { segment_bytes, ..LogConfig::default() };
    Log::new(Arc::new(env), id, config, LogState::default(), Trust::New)
}

fn append(log: &Log) -> Result<i64> {
    let record = RecordInput { timestamp: 5, key: None, value: Some(b"value"), headers: &[] };
    log.append(&record, AppendOptions::client(5)).map(|appended| appended.base_offset)
}

/// An append that races with the close is in the closed log, or is refused.
#[test]
fn loom_a_close_takes_an_append_in_or_refuses_it() {
    model(|| {
        let log = log(4096);
        assert_eq!(append(&log).unwrap(), 0);
        let other = spawn({
            let log = log.clone();
            move || append(&log)
        });
        let state = log.close().unwrap();
        match other.join().unwrap() {
            Ok(offset) => assert_eq!((offset, state.log_end_offset), (1, 2)),
            Err(error) => {
                assert_eq!((error.kind(), state.log_end_offset), (ErrorKind::Closed, 1));
            }
        }
    });
}

/// A reader crosses a roll that happens while it reads, and misses nothing.
#[test]
fn loom_a_reader_crosses_a_roll() {
    model(|| {
        let log = log(80);
        assert_eq!(append(&log).unwrap(), 0);
        let writer = spawn({
            let log = log.clone();
            move || assert_eq!(append(&log).unwrap(), 1)
        });
        let mut cursor = Cursor::new(0);
        let mut read = || {
            let from = cursor.offset();
            let end = log.log_end_offset().unwrap();
            let isolation = IsolationLevel::ReadUncommitted;
            let chunk = log.read(&mut cursor, 1 << 10, isolation).unwrap();
            assert!(!chunk.is_empty() || from == end, "nothing below the end {end}");
            if !chunk.is_empty() {
                let batch = RecordBatch::parse(chunk.bytes()).unwrap();
                assert_eq!(batch.header().base_offset, from);
                batch.check_crc().unwrap();
            }
        };
        read();
        read();
        writer.join().unwrap();
        read();
        assert_eq!((cursor.offset(), log.segment_count().unwrap()), (2, 2));
    });
}

fn wakes_whoever_watches() {
    // A model that fails unwinds, and what would be dropped then cannot be.
    let log = ManuallyDrop::new(log(4096));
    append(&log).unwrap();
    let writer = spawn({
        let log = Arc::clone(&log);
        move || append(&log).unwrap()
    });
    let event = Arc::new(Signal::new());
    let clock = Clock::system();
    while !log.watch(&event, 1, IsolationLevel::ReadUncommitted).unwrap() {
        assert!(clock.park(&event, None), "only a ring ends the wait");
    }
    writer.join().unwrap();
    drop(ManuallyDrop::into_inner(log));
}

/// Whoever watches a log while another thread appends to it is woken, or does not wait.
#[test]
fn loom_a_log_wakes_whoever_watches_it() {
    model(wakes_whoever_watches);
}

fn gives_what_lies_below_its_end() {
    let log = ManuallyDrop::new(log(4096));
    append(&log).unwrap();
    let writer = spawn({
        let log = Arc::clone(&log);
        move || append(&log).unwrap()
    });
    let end = log.log_end_offset().unwrap();
    let mut cursor = Cursor::new(0);
    while cursor.offset() < end {
        // No more than one batch at a time.
        let chunk = log.read(&mut cursor, 1, IsolationLevel::ReadUncommitted).unwrap();
        assert!(!chunk.is_empty(), "nothing below the end {end}");
        RecordBatch::parse(chunk.bytes()).unwrap().check_crc().unwrap();
    }
    writer.join().unwrap();
    drop(ManuallyDrop::into_inner(log));
}

/// A reader beside an append finds every batch below the end that it saw, whole.
#[test]
fn loom_a_log_gives_what_lies_below_its_end() {
    model(gives_what_lies_below_its_end);
}

/// Two threads append and wait for their syncs; then the disk has their batches.
fn answers_when_the_disk_has_it() {
    let sim = Sim::new();
    let log = ManuallyDrop::new(log_on(Arc::new(sim.clone()), 1024));
    append(&log).unwrap();
    sim.sync_dir(Path::new("/")).unwrap();
    log.flush().unwrap();
    let size = log.size_bytes().unwrap() as usize;
    let durably = {
        let (log, sim) = (Arc::clone(&log), sim.clone());
        move || {
            let offset = append(&log).unwrap();
            log.make_durable(offset + 1).unwrap();
            let found = sim.power_cut(&PowerCut::new(0, Pages::None, Entries::None));
            let path = Path::new("/logs/t-0/00000000000000000000.log");
            let bytes = found.read_file(path, 1 << 16).unwrap();
            let batch = &bytes[offset as usize * size..];
            assert!(batch.starts_with(&offset.to_be_bytes()), "answered before its sync");
            assert_ne!(batch[8..12], [0; 4], "answered before its sync");
        }
    };
    let other = spawn(durably.clone());
    durably();
    other.join().unwrap();
    drop(durably);
    drop(ManuallyDrop::into_inner(log));
}

/// Whoever is told that a batch is durable finds it on the disk after a power cut.
#[test]
fn loom_a_log_answers_when_the_disk_has_it() {
    model(answers_when_the_disk_has_it);
}

/// The models above are tested: each notices the bug that it is there for.
#[cfg(feature = "planted-bugs")]
mod planted_bugs {
    use super::*;
    use crate::storage::planted::{Planted, enable};

    #[test]
    #[should_panic(expected = "deadlock")]
    fn loom_a_lost_wake_up_is_noticed() {
        let _bug = enable(Planted::LostWakeUp);
        model(wakes_whoever_watches);
    }

    #[test]
    #[should_panic(expected = "nothing below the end")]
    fn loom_an_end_before_its_bytes_is_noticed() {
        let _bug = enable(Planted::PublishBeforeWrite);
        model(gives_what_lies_below_its_end);
    }

    #[test]
    #[should_panic(expected = "answered before its sync")]
    fn loom_a_recovery_point_before_its_sync_is_noticed() {
        let _bug = enable(Planted::RecoveryPointBeforeSync);
        model(answers_when_the_disk_has_it);
    }
}
