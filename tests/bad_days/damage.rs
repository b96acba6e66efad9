//! Bytes that are not what was written: cut off, flipped, of an older format, or derived files
//! that belong to nothing.

use crate::place::*;
use std::path::Path;
use topiclite::storage::sim::{Entries, Pages, PowerCut};
use topiclite::storage::{Sim, Storage};
use topiclite::{Broker, ErrorKind, IsolationLevel, OffsetSpec, ReadFrom};

/// The bytes of one batch of `t`.
fn batch_bytes(sim: &Sim) -> usize {
    let first = get(sim, &segment(0, "log"));
    let size = 12 + i32::from_be_bytes(first[8..12].try_into().unwrap()) as usize;
    assert_eq!(size, BATCH_BYTES);
    size
}

/// Segment `base` ends `bytes` behind its beginning.
fn truncate(sim: &Sim, base: i64, bytes: usize) {
    let file = sim.open_cold(&segment(base, "log")).unwrap();
    file.set_len(bytes as u64).unwrap();
    file.sync_data().unwrap();
}

/// One bit of record `offset` is another.
fn flip(sim: &Sim, offset: usize) {
    let (base, number) = ((offset / 4 * 4) as i64, offset % 4);
    let at = number * batch_bytes(sim) + 100;
    sim.damage(&segment(base, "log"), |bytes| bytes[at] ^= 4).unwrap();
}

/// That `t` is read-only up to record `count`, which is named, and says what to do;
/// another topic goes on.
fn read_only_up_to(broker: &Broker, count: usize) {
    let error = holds_up_to(broker, count);
    told(&error, ErrorKind::CorruptRecord, &["t-0", "/data/t-0"]);
    assert_eq!(error.offset(), Some(count as i64), "{error}");
    let refused = send(broker, "t", "no").unwrap_err();
    told(&refused, ErrorKind::ReadOnly, &["t-0", "repair"]);
    assert!(!refused.is_retriable());
    let failed: Vec<_> =
        broker.health().failed_partitions().map(|(partition, _)| partition.to_string()).collect();
    assert_eq!(failed, ["t-0"]);
    create(broker, "u", "600").unwrap();
    assert_eq!(send(broker, "u", "yes").unwrap(), 0);
}

/// A power cut that loses nothing but the knowledge that nothing was lost.
fn other_boot(sim: &Sim) -> Sim {
    sim.power_cut(&PowerCut::new(0, Pages::All, Entries::All))
}

#[test]
fn a_truncated_segment_below_the_recovery_point_is_corruption() {
    let at = 2 * BATCH_BYTES;
    for cut in [at - 1, at, at + 20] {
        for base in [4, 8] {
            let count = base as usize + cut / BATCH_BYTES;
            let sim = closed(12);
            truncate(&sim, base, cut);
            printed_up_to(&sim, count);
            read_only_up_to(&open(&sim), count);
            for boot in [Sim::kill, other_boot] {
                if base == 4 && cut == at {
                    continue;
                }
                let sim = boot(&killed(12, 12));
                truncate(&sim, base, cut);
                let before = snapshot(&sim);
                read_only_up_to(&open(&sim), count);
                for (path, bytes) in before.iter().filter(|(path, _)| path.starts_with("/data/t-0"))
                {
                    let now = bytes.as_ref().map(|_| get(&sim, path));
                    assert_eq!(&now, bytes, "nothing of the damaged partition is touched");
                }
            }
        }
    }
}

/// Without a clean stop, another program may have run since, and compacted: offsets that are
/// missing between whole batches are then no damage. They are told.
#[test]
fn a_segment_that_is_cut_between_two_batches_after_a_kill_is_told() {
    for boot in [Sim::kill, other_boot] {
        let sim = boot(&killed(12, 12));
        truncate(&sim, 4, 2 * BATCH_BYTES);
        let broker = open(&sim);
        let mut reader = broker.reader("t", 0, ReadFrom::Beginning).unwrap();
        let mut offsets = Vec::new();
        while let Some(record) = reader.next(std::time::Duration::ZERO).unwrap() {
            offsets.push(record.offset());
        }
        assert_eq!(offsets, [0, 1, 2, 3, 4, 5, 8, 9, 10, 11]);
        let file = segment(4, "log").display().to_string();
        assert!(warned(&broker, &["258 bytes, but 516 were recorded", &file]));
    }
}

#[test]
fn a_truncated_last_segment_above_the_recovery_point_is_the_end_of_the_log() {
    for boot in [Sim::kill, other_boot] {
        for (cut, torn) in [(2 * BATCH_BYTES, false), (2 * BATCH_BYTES + 20, true)] {
            let sim = boot(&killed(12, 9));
            truncate(&sim, 8, cut);
            let broker = open(&sim);
            holds(&broker, 10);
            let file = segment(8, "log").display().to_string();
            assert_eq!(warned(&broker, &["the log ends here", &file]), torn);
            fill(&broker, 10..13);
            broker.close().unwrap();
            holds(&open(&sim), 13);
        }
    }
}

#[test]
fn a_flipped_bit_below_the_recovery_point_is_found_by_the_read_and_can_be_sought_past() {
    let disks: [fn() -> Sim; 3] =
        [|| closed(12), || killed(12, 12).kill(), || other_boot(&killed(12, 12))];
    // After a kill the headers lead to the end, so that only the last batch is looked at.
    let above = || killed(12, 0).kill();
    for (number, disk) in disks.into_iter().chain([above as fn() -> Sim]).enumerate() {
        let between = [0, 5, 7].into_iter().filter(|offset| number < 3 || offset % 4 < 3);
        for offset in between {
            let sim = disk();
            flip(&sim, offset);
            if number == 0 {
                printed_up_to(&sim, offset);
            }
            let file = segment((offset / 4 * 4) as i64, "log").display().to_string();
            let attached = (number < 3).then(|| attach(&sim));
            for broker in attached.into_iter().chain([open(&sim)]) {
                let error = holds_up_to(&broker, offset);
                told(&error, ErrorKind::CorruptRecord, &["t-0", &file, "position"]);
                let position = (offset % 4 * BATCH_BYTES) as u64;
                assert_eq!(error.position(), Some(position), "disk {number}");
                let from = ReadFrom::Offset(offset as i64 + 1);
                let mut reader = broker.reader("t", 0, from).unwrap();
                let next = reader.next(std::time::Duration::ZERO).unwrap().unwrap();
                assert_eq!(next.value().unwrap(), value(offset + 1).as_bytes());
            }
            let findings = attach(&sim).admin().verify_partition("t", 0).unwrap();
            let found = findings.iter().any(|found| found.to_string().contains(&file));
            assert!(found, "verify names it: {findings:?}");
            // The segments behind take appends, as nothing of the log is missing.
            let broker = open(&sim);
            assert_eq!(send(&broker, "t", "on").unwrap(), 12);
        }
    }
}

#[test]
fn a_flipped_bit_in_the_last_batch_of_a_file_after_a_kill_is_found_by_the_open() {
    let sim = killed(12, 5).kill();
    flip(&sim, 7);
    read_only_up_to(&open(&sim), 7);
    let sim = killed(12, 5).kill();
    flip(&sim, 11);
    let broker = open(&sim);
    holds(&broker, 11);
    let file = segment(8, "log").display().to_string();
    assert!(warned(&broker, &["the log ends here", &file]));
    fill(&broker, 11..13);
}

#[test]
fn a_flipped_bit_above_the_recovery_point_after_a_power_cut_ends_the_log() {
    for offset in [6, 9, 11] {
        let sim = other_boot(&killed(12, 5));
        flip(&sim, offset);
        let broker = open(&sim);
        holds(&broker, offset);
        let file = segment((offset / 4 * 4) as i64, "log").display().to_string();
        assert!(warned(&broker, &["the log ends here", &file]));
        fill(&broker, offset..offset + 2);
        broker.close().unwrap();
        holds(&open(&sim), offset + 2);
    }
}

/// A message of format 0 or 1 as Kafka before 0.11 wrote it: offset, size, CRC-32 over what
/// follows, magic, attributes, in format 1 a timestamp, key, value.
fn old_message(magic: u8, offset: i64) -> Vec<u8> {
    let mut body = vec![magic, 0];
    if magic == 1 {
        body.extend(5i64.to_be_bytes());
    }
    body.extend([255; 4]);
    body.extend([0, 0, 0, 1, b'v']);
    let crc = crc32fast::hash(&body).to_be_bytes();
    let size = (4 + body.len() as i32).to_be_bytes();
    [&offset.to_be_bytes()[..], &size, &crc, &body].concat()
}

#[test]
fn an_old_format_is_refused_by_name_and_everything_before_it_is_read() {
    let _nothing_is_written = look_only();
    for magic in [0, 1] {
        let sim = closed(4);
        for name in ["topiclite.registry", "topiclite.state"] {
            sim.remove(&path(name)).unwrap();
        }
        put(&sim, &segment(4, "log"), &old_message(magic, 4));
        printed_up_to(&sim, 4);
        let before = snapshot(&sim);
        for broker in [attach(&sim), open(&sim)] {
            let error = holds_up_to(&broker, 4);
            let file = segment(4, "log").display().to_string();
            told(&error, ErrorKind::UnsupportedFormat, &["t-0", &file, "rewrite the topic"]);
        }
        let broker = open(&sim);
        let report = broker.adoption().unwrap();
        let damaged: Vec<_> = report.damaged().map(|(_, error)| error.root_kind()).collect();
        assert_eq!(damaged, [ErrorKind::UnsupportedFormat]);
        told(&send_without_id(&broker, "t", "no").unwrap_err(), ErrorKind::ReadOnly, &["t-0"]);
        drop(broker);
        assert_eq!(snapshot(&sim), before);
    }
}

/// What lookups by time and by offset answer, through the indexes.
fn lookups(broker: &Broker) -> Vec<Option<i64>> {
    let admin = broker.admin();
    let isolation = IsolationLevel::ReadCommitted;
    let at = |spec| admin.list_offsets("t", 0, spec, isolation).unwrap().offset();
    let times = [0, 5, 6].map(|time| at(OffsetSpec::Timestamp(time)));
    let mut out = vec![at(OffsetSpec::Earliest), at(OffsetSpec::Latest)];
    out.extend(times);
    out.push(at(OffsetSpec::MaxTimestamp));
    for offset in 0..12 {
        let mut reader = broker.reader("t", 0, ReadFrom::Offset(offset)).unwrap();
        out.push(reader.next(std::time::Duration::ZERO).unwrap().map(|record| record.offset()));
    }
    assert!(admin.aborted_transactions("t", 0).unwrap().is_empty());
    out
}

#[test]
fn derived_files_from_nowhere_are_believed_by_nobody() {
    let garbage: [&[u8]; 5] = [b"", b"x", &[0; 12], &[255; 68], &[7; 1000]];
    let expected = lookups(&open(&closed(12)));
    let disks: [fn() -> Sim; 3] =
        [|| closed(12), || killed(12, 7).kill(), || other_boot(&killed(12, 7))];
    let foreign = || {
        let sim = closed(12);
        sim.remove(&path("topiclite.registry")).unwrap();
        sim.remove(&path("topiclite.state")).unwrap();
        sim
    };
    for disk in disks.into_iter().chain([foreign as fn() -> Sim]) {
        for kind in ["index", "timeindex", "txnindex", "snapshot"] {
            for bytes in garbage {
                let sim = disk();
                // In place of the right one, of no segment, and of one that is still to come.
                for base in [0, 2, 4, 8, 12, 99] {
                    put(&sim, &segment(base, kind), bytes);
                }
                for broker in [attach(&sim), open(&sim)] {
                    holds(&broker, 12);
                    assert_eq!(lookups(&broker), expected, "{kind} {bytes:?}");
                    assert!(broker.health().is_ok(), "{:?}", broker.health());
                }
                let broker = open(&sim);
                fill(&broker, 12..20);
                broker.close().unwrap();
                let broker = open(&sim);
                holds(&broker, 20);
                let again = lookups(&broker);
                assert_eq!((again[0], again[1]), (Some(0), Some(20)));
            }
        }
    }
}

/// A derived file whose name is taken by a folder.
#[test]
fn a_folder_in_the_place_of_an_index_does_not_hide_records() {
    for kind in ["index", "timeindex", "txnindex", "snapshot"] {
        let sim = closed(12);
        let place = segment(4, kind);
        if sim.exists(&place).unwrap() {
            sim.remove(&place).unwrap();
        }
        sim.create_dir(&place).unwrap();
        for broker in [attach(&sim), open(&sim)] {
            holds(&broker, 12);
        }
        let broker = open(&sim);
        fill(&broker, 12..14);
        drop(broker);
        holds(&open(&sim), 14);
    }
}

/// The first segment, one in the middle, and the last one.
#[test]
fn a_missing_segment_is_told_and_nothing_is_made_up() {
    for base in [0, 4, 8] {
        let sim = closed(12);
        sim.remove(&segment(base, "log")).unwrap();
        sim.sync_dir(Path::new("/data/t-0")).unwrap();
        printed_up_to(&sim, base as usize);
        drop(holds_up_to(&attach(&sim), base as usize));
        let broker = open(&sim);
        // The first look at the folder.
        let mut reader = broker.reader("t", 0, ReadFrom::Beginning).unwrap();
        drop(reader.read(std::time::Duration::ZERO));
        assert!(warned(&broker, &[&format!("segment {base} is recorded and missing"), "t-0"]));
        read_only_up_to(&broker, base as usize);
    }
}

/// The first segment is gone, and nobody closed the log: owner and attached, and whoever was
/// attached before, tell the same.
#[test]
fn a_first_segment_that_is_missing_after_a_kill_is_told_to_everyone() {
    let gone = |sim: &Sim| {
        sim.remove(&segment(0, "log")).unwrap();
        sim.sync_dir(Path::new("/data/t-0")).unwrap();
    };
    // Nothing of the log was recorded yet.
    let sim = killed(12, 0).kill();
    let before = attach(&sim);
    holds(&before, 12);
    gone(&sim);
    for broker in [before, attach(&sim), open(&sim)] {
        told(&holds_up_to(&broker, 0), ErrorKind::CorruptRecord, &["t-0", "offsets 0 to 3"]);
    }
    let findings = attach(&sim).admin().verify_partition("t", 0).unwrap();
    assert!(findings.iter().any(|found| !found.is_note()), "{findings:?}");
    // Another program may have removed it since: records behind it are read.
    let sim = killed(12, 12).kill();
    let before = attach(&sim);
    holds(&before, 12);
    gone(&sim);
    for broker in [before, attach(&sim), open(&sim)] {
        let mut reader = broker.reader("t", 0, ReadFrom::Beginning).unwrap();
        let first = reader.next(std::time::Duration::ZERO).unwrap().unwrap();
        assert_eq!(first.offset(), 4);
        assert!(warned(&broker, &["t-0", "segment 0 is recorded and missing"]));
    }
    // A clean stop leaves no doubt.
    let sim = closed(12);
    let before = attach(&sim);
    holds(&before, 12);
    gone(&sim);
    for broker in [before, attach(&sim), open(&sim)] {
        drop(holds_up_to(&broker, 0));
    }
}

/// What happened to a directory that was closed in good order.
type Damage = (&'static str, fn(&Sim), usize);

const DAMAGE: [Damage; 6] = [
    ("the first segment is gone", |sim| sim.remove(&segment(0, "log")).unwrap(), 0),
    ("a segment is gone", |sim| sim.remove(&segment(4, "log")).unwrap(), 4),
    ("the last segment is gone", |sim| sim.remove(&segment(8, "log")).unwrap(), 8),
    ("a segment is cut between batches", |sim| truncate(sim, 4, 2 * BATCH_BYTES), 6),
    ("a segment is cut in a batch", |sim| truncate(sim, 4, 2 * BATCH_BYTES + 9), 6),
    ("the last segment is cut", |sim| truncate(sim, 8, BATCH_BYTES), 9),
];

/// Whatever lives come and go: none of them takes the hole for another program's compaction, or
/// for the end.
#[test]
fn damage_after_a_clean_stop_stays_damage_in_every_later_life() {
    #[derive(Debug, Clone, Copy)]
    enum Life {
        /// Nobody looks at the damaged partition.
        Elsewhere,
        Reads,
        ReadsAndCloses,
        ClosesElsewhere,
    }
    use Life::*;
    let lives = [
        [ReadsAndCloses, ReadsAndCloses, Reads],
        [Elsewhere, Reads, ReadsAndCloses],
        [Reads, Elsewhere, ClosesElsewhere],
        [ClosesElsewhere, Elsewhere, Elsewhere],
        [ClosesElsewhere, ClosesElsewhere, ClosesElsewhere],
    ];
    for (what, damage, count) in DAMAGE {
        for lives in lives {
            for boot in [Sim::kill, other_boot] {
                let mut sim = closed(12);
                damage(&sim);
                sim.sync_dir(Path::new("/data/t-0")).unwrap();
                for (number, life) in lives.into_iter().enumerate() {
                    let broker = open(&sim);
                    create(&broker, &format!("u{number}"), "600").unwrap();
                    send(&broker, &format!("u{number}"), "elsewhere").unwrap();
                    if matches!(life, Reads | ReadsAndCloses) {
                        let error = holds_up_to(&broker, count);
                        assert_eq!(error.offset(), Some(count as i64), "{what} {lives:?} {error}");
                        let refused = send(&broker, "t", "no").unwrap_err();
                        told(&refused, ErrorKind::ReadOnly, &["t-0"]);
                        broker.flush().unwrap();
                    }
                    match life {
                        ReadsAndCloses | ClosesElsewhere => broker.close().unwrap(),
                        Reads | Elsewhere => sim = boot(&sim),
                    }
                    let attached = holds_up_to(&attach(&sim), count);
                    told(&attached, ErrorKind::CorruptRecord, &["t-0"]);
                }
                drop(holds_up_to(&open(&sim), count));
            }
        }
    }
}

#[test]
fn a_partition_whose_file_is_put_back_is_whole_again() {
    for (what, damage, count) in DAMAGE {
        let sim = closed(12);
        let logs = [0, 4, 8].map(|base| (segment(base, "log"), get(&sim, &segment(base, "log"))));
        damage(&sim);
        let broker = open(&sim);
        drop(holds_up_to(&broker, count));
        broker.close().unwrap();
        for (path, bytes) in &logs {
            put(&sim, path, bytes);
        }
        let broker = open(&sim);
        holds(&broker, 12);
        fill(&broker, 12..14);
        broker.close().unwrap();
        println!("{what}");
        holds(&open(&sim), 14);
    }
}

/// No checksum covers a base offset. In a log of ours there is no gap, so each reader knows.
#[test]
fn a_flipped_byte_in_a_base_offset_is_found_by_everyone() {
    let disks: [fn() -> Sim; 3] =
        [|| closed(12), || killed(12, 12).kill(), || other_boot(&killed(12, 12))];
    for (number, disk) in disks.into_iter().enumerate() {
        for offset in 0..12 {
            for byte in [0, 3, 6, 7] {
                let sim = disk();
                let (base, at) = ((offset / 4 * 4) as i64, offset % 4 * BATCH_BYTES + byte);
                sim.damage(&segment(base, "log"), |bytes| bytes[at] ^= 1 << (offset % 7)).unwrap();
                let what = format!("disk {number}, offset {offset}, byte {byte}");
                for broker in [attach(&sim), open(&sim)] {
                    let error = holds_up_to(&broker, offset);
                    assert_eq!(error.kind(), ErrorKind::CorruptRecord, "{what}: {error}");
                    assert_eq!(error.offset(), Some(offset as i64), "{what}: {error}");
                    let spec = OffsetSpec::Timestamp(5);
                    let found =
                        broker.admin().list_offsets("t", 0, spec, IsolationLevel::ReadUncommitted);
                    match found {
                        Ok(found) => assert_eq!((found.offset(), offset > 0), (Some(0), true)),
                        Err(error) => {
                            assert_eq!((error.kind(), offset), (ErrorKind::CorruptRecord, 0))
                        }
                    }
                }
                let findings = attach(&sim).admin().verify_partition("t", 0).unwrap();
                let file = segment(base, "log");
                assert!(findings.iter().any(|found| found.path == file), "{what}: {findings:?}");
                if number == 0 {
                    let broker = open(&sim);
                    drop(holds_up_to(&broker, offset));
                    broker.close().unwrap();
                    drop(holds_up_to(&open(&sim), offset));
                }
            }
        }
    }
}
