//! Copies of a directory that is in use, made by `cp -a`: of one whose owner appends nothing
//! meanwhile, and of one that is appended to all the while. `docs/guarantees.md`, "Copies", says
//! what each is worth.

use crate::place::{create, letters, read, send};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use topiclite::{
    Broker, ConsumerConfig, ErrorKind, OffsetReset, ProducerConfig, ProducerRecord, ReadFrom,
    TopicPartition,
};

fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(done.success(), "{done}");
}

#[test]
fn a_copy_of_a_flushed_directory_that_nobody_appends_to_is_whole() {
    let home = tempfile::tempdir().unwrap();
    let (dir, copied) = (home.path().join("data"), home.path().join("copy"));
    let owner = Broker::open(&dir).unwrap();
    create(&owner);
    send(&owner, 'A', 25).unwrap();
    let config = ConsumerConfig::new("g").auto_offset_reset(OffsetReset::Earliest);
    let mut member = owner.consumer(config).unwrap();
    member.subscribe(&["t"]).unwrap();
    while member.position(&TopicPartition::new("t", 0)).map_or(true, |at| at < 25) {
        drop(member.poll(Duration::from_secs(1)).unwrap());
    }
    member.commit_sync().unwrap();
    owner.flush().unwrap();
    copy(&dir, &copied);
    send(&owner, 'B', 3).unwrap();
    assert_eq!(letters(&copied).unwrap(), "A".repeat(25), "beside the living owner of the other");
    let broker = Broker::open(&copied).unwrap();
    assert!(broker.adoption().is_none(), "it is one of ours");
    let committed = broker.admin().list_group_offsets("g").unwrap();
    assert_eq!(committed[&TopicPartition::new("t", 0)].offset(), 25);
    send(&broker, 'C', 1).unwrap();
    assert_eq!(read(&broker).unwrap(), "A".repeat(25) + "C");
    assert!(broker.health().is_ok(), "{:?}", broker.health());
    broker.close().unwrap();
    assert_eq!(read(&owner).unwrap(), "A".repeat(25) + "BBB");
    owner.close().unwrap();
}

/// What such a copy lacks is its end, and where that is not simply the end it is told.
#[test]
fn a_copy_beside_a_writer_has_what_was_there_and_tells_where_it_ends() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let owner = Broker::open(&dir).unwrap();
    create(&owner);
    let (acknowledged, over) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let producer = owner.producer(ProducerConfig::default()).unwrap();
            for number in 0_u64..200_000 {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let record = ProducerRecord::new("t").key(number.to_be_bytes()).value([7; 300]);
                producer.send_sync(record).unwrap();
                acknowledged.store(number + 1, Ordering::Release);
            }
        });
        for round in 0..8 {
            while acknowledged.load(Ordering::Acquire) < 500 * (round + 1) {
                std::thread::yield_now();
            }
            let known = acknowledged.load(Ordering::Acquire);
            let copied = home.path().join(format!("copy-{round}"));
            copy(&dir, &copied);
            let found = numbers_in(&copied);
            assert!(found >= known, "round {round}: {found} of {known}");
        }
        over.store(true, Ordering::Relaxed);
    });
    owner.close().unwrap();
}

/// How many numbers from 0 on are read without a gap, up to the end or to damage that is told.
fn numbers_in(dir: &Path) -> u64 {
    let broker = Broker::attach(dir).unwrap();
    let mut reader = broker.reader("t", 0, ReadFrom::Beginning).unwrap();
    let mut next = 0;
    loop {
        match reader.read(Duration::ZERO) {
            Ok(records) if records.is_empty() => return next,
            Ok(records) => {
                for record in &records {
                    assert_eq!(record.key(), Some(&u64::to_be_bytes(next)[..]));
                    next += 1;
                }
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::CorruptRecord, "{error}");
                return next;
            }
        }
    }
}
