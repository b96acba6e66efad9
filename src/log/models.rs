//! Models of what threads do to a log, run by loom through every interleaving it can bound.
//!
//! `RUSTFLAGS='--cfg loom' cargo test --release --lib loom`

use super::border::Border;
use super::group_commit::GroupCommit;
use super::watch::WatchList;
use crate::error::{Error, ErrorKind};
use crate::storage::{Heap, Storage};
use crate::sync::{Arc, AtomicI64, Mutex, Ordering, thread};
use crate::time::{Clock, Event};
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
        let event = Arc::new(Event::new());
        let clock = Clock::system();
        loop {
            let mut watchers = log.0.lock();
            if log.1.load() > 0 {
                break;
            }
            watchers.add(&event);
            drop(watchers);
            assert!(clock.park(&event, None), "only a ring ends the wait");
        }
        writer.join().unwrap();
    });
}
