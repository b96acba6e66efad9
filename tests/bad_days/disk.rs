//! A disk that is full, that takes no writes, or whose syncs fail.

use crate::place::*;
use std::path::Path;
use std::sync::Arc;
use topiclite::storage::faults::{Call, Failure, Rule};
use topiclite::storage::{Fault, Sim, Storage};
use topiclite::{Broker, ErrorKind};

/// Fills the disk up to its last bytes with a file of nobody's.
fn fill_up(sim: &Sim) {
    let free = sim.disk_free(Path::new(DIR)).unwrap();
    let file = sim.create_cold(Path::new("/ballast")).unwrap();
    file.write_at(0, &vec![1; usize::try_from(free).unwrap()]).unwrap();
}

fn free(sim: &Sim) {
    sim.open_cold(Path::new("/ballast")).unwrap().set_len(0).unwrap();
}

/// Appends until the disk is full; returns how many records there are then, and the error.
fn append_until_full(broker: &Broker, first: usize) -> (usize, topiclite::Error) {
    for number in first..1_000_000 {
        match send(broker, "t", &value(number)) {
            Ok(offset) => assert_eq!(offset, number as i64),
            Err(error) => return (number, error),
        }
    }
    panic!("the disk is never full");
}

fn full(error: &topiclite::Error, parts: &[&str]) {
    told(error, ErrorKind::StorageFull, parts);
    assert!(error.is_retriable(), "{error}");
}

/// What a full disk does to every kind of change, and what goes on once there is room: with
/// small segments the first to fail is a roll, with large ones the growth of a file.
#[test]
fn a_full_disk_refuses_what_needs_room_and_goes_on_once_there_is_some() {
    for segment_bytes in ["600", "100000000"] {
        let sim = Sim::with_capacity(4 << 20);
        let broker = open(&sim);
        create(&broker, "t", segment_bytes).unwrap();
        fill(&broker, 0..10);
        commit(&broker, 3).unwrap();
        fill_up(&sim);
        let (count, error) = append_until_full(&broker, 10);
        full(&error, &["t-0", "free space"]);
        // Nothing else is different: the same is said again, and all can be read.
        let (again, error) = append_until_full(&broker, count);
        full(&error, &["t-0", "free space"]);
        assert_eq!(again, count, "nothing of a refused append is there");
        holds(&broker, count);
        full(&create(&broker, "u", "600").unwrap_err(), &["topiclite.registry", "free space"]);
        assert_eq!(broker.admin().list_topics().unwrap().len(), 1);
        let mut last = 3;
        let refused = loop {
            let next = (last + 1) % 10;
            match commit(&broker, next) {
                Ok(()) => last = next,
                Err(error) => break error,
            }
        };
        full(&refused, &["__consumer_offsets-0", "free space"]);
        assert_eq!(committed(&broker), Some(last), "the last commit that was acknowledged");

        // Killed on the full disk, nothing that was acknowledged is lost.
        let killed = sim.kill();
        let reopened = open(&killed);
        holds(&reopened, count);
        assert_eq!(committed(&reopened), Some(last));
        drop(reopened);

        free(&sim);
        fill(&broker, count..count + 10);
        create(&broker, "u", "600").unwrap();
        commit(&broker, 9).unwrap();
        assert!(broker.health().failed_partitions().next().is_none(), "{:?}", broker.health());
        broker.flush().unwrap();
        broker.close().unwrap();
        let broker = open(&sim);
        holds(&broker, count + 10);
        assert_eq!(committed(&broker), Some(9));
        assert_eq!(broker.admin().list_topics().unwrap().len(), 2);
    }
}

/// Every call to the disk finds it full, one life for each: whatever was refused is not there,
/// what was acknowledged is, and the same calls go on afterwards.
#[test]
fn a_disk_that_is_full_at_any_call_loses_nothing() {
    let script = |broker: &Broker, acked: &mut usize| -> topiclite::Result<()> {
        while *acked < 12 {
            send(broker, "t", &value(*acked))?;
            *acked += 1;
        }
        commit(broker, 5)?;
        create(broker, "u", "600")?;
        broker.flush()
    };
    let mut fired = 0;
    for nth in 0..10_000 {
        let sim = Sim::new();
        open(&sim).close().unwrap();
        let fault = Fault::new(Arc::new(sim.clone()));
        let broker = open(&fault);
        create(&broker, "t", "600").unwrap();
        let growing = [Call::Create, Call::CreateCold, Call::Allocate, Call::WriteAt];
        fault.fail(Rule::nth(nth, Failure::Full).of(&growing));
        let mut acked = 0;
        let first = script(&broker, &mut acked);
        if !fault.has_fired() {
            first.unwrap();
            break;
        }
        fired += 1;
        if let Err(error) = first {
            full(&error, &[DIR]);
            assert_eq!(read(&broker, "t").0.len(), acked, "call {nth}: {error}");
            script(&broker, &mut acked).unwrap();
        }
        holds(&broker, 12);
        drop(broker);
        let broker = open(&sim.kill());
        holds(&broker, 12);
        assert_eq!(committed(&broker), Some(5), "call {nth}");
    }
    assert!(fired > 10, "{fired} calls failed");
}

/// No call to the disk can begin for want of a descriptor, once or for a while: it is told as
/// that, no sync counts as failed, and the same calls go on afterwards.
#[test]
fn a_call_that_cannot_begin_fails_no_partition() {
    let script = |broker: &Broker, acked: &mut usize| -> topiclite::Result<()> {
        while *acked < 12 {
            send(broker, "t", &value(*acked))?;
            *acked += 1;
        }
        commit(broker, 5)?;
        match create(broker, "u", "600") {
            Err(error) if error.kind() == ErrorKind::TopicExists => {}
            made => made?,
        }
        broker.flush()
    };
    let mut fired = 0;
    for (nth, sticky) in (0..10_000).flat_map(|nth| [(nth, false), (nth, true)]) {
        let sim = Sim::new();
        open(&sim).close().unwrap();
        let fault = Fault::new(Arc::new(sim.clone()));
        let broker = open(&fault);
        create(&broker, "t", "600").unwrap();
        let opening = [
            Call::Create,
            Call::CreateCold,
            Call::Open,
            Call::OpenCold,
            Call::OpenAppend,
            Call::List,
            Call::SyncDir,
            Call::SyncData,
            Call::Region,
        ];
        let rule = Rule::nth(nth, Failure::Descriptors).of(&opening);
        fault.fail(if sticky { rule.sticky() } else { rule });
        let mut acked = 0;
        let first = script(&broker, &mut acked);
        if !fault.has_fired() {
            first.unwrap();
            break;
        }
        fired += 1;
        fault.heal();
        if let Err(error) = first {
            told(&error, ErrorKind::Io, &["os error 24"]);
            assert!(error.is_retriable(), "{error}");
            script(&broker, &mut acked).unwrap();
        }
        holds(&broker, 12);
        let health = broker.health();
        assert!(health.failed_partitions().next().is_none(), "call {nth}: {health:?}");
        broker.close().unwrap();
        let broker = open(&sim);
        holds(&broker, 12);
        assert_eq!(committed(&broker), Some(5), "call {nth}");
    }
    assert!(fired > 20, "{fired} calls failed");
}

/// A file system that takes no writes any more, found out while nobody appends.
#[test]
fn an_idle_partition_of_a_disk_that_is_gone_acknowledges_nothing() {
    let sim = Sim::new();
    let fault = Fault::new(Arc::new(sim.clone()));
    let clock = topiclite::time::VirtualClock::stepping();
    let broker = open_under(&clock, &fault);
    create(&broker, "t", "600").unwrap();
    fill(&broker, 0..2);
    clock.advance(std::time::Duration::from_secs(5));
    fault.fail(Rule::nth(0, Failure::Io).of(&[Call::OpenCold]).on("topiclite.state").sticky());
    // Until something else wakes the broker: a virtual clock does not run for the look alone.
    clock.advance(std::time::Duration::from_secs(3600));
    told(
        &send(&broker, "t", "no").unwrap_err(),
        ErrorKind::StorageFailed,
        &["t-0", "the disk failed"],
    );
    holds(&broker, 2);
}

/// A read-only directory: `open` needs the lock file and says so; `attach` reads everything.
#[test]
fn a_read_only_directory_is_refused_by_open_and_read_by_attach() {
    let sim = closed(10);
    let fault = Fault::new(Arc::new(sim.clone()));
    let writing = [Call::CHANGES, &[Call::Lock]].concat();
    fault.fail(Rule::nth(0, Failure::Io).of(&writing).sticky());
    let error = try_open(&fault).unwrap_err();
    told(&error, ErrorKind::Io, &["/data/.lock", "lock"]);
    let attached = attach(&fault);
    holds(&attached, 10);
    let error = create(&attached, "u", "600").unwrap_err();
    told(&error, ErrorKind::ReadOnly, &["attached"]);
    let error = send(&attached, "t", "no").unwrap_err();
    told(&error, ErrorKind::ReadOnly, &["attached"]);
    attached.close().unwrap();
    assert!(!fault.has_fired() || fault.calls_of(Call::WriteAt) == 0, "nothing was written");
    // It stays usable once it can be written.
    fault.heal();
    let broker = open(&fault);
    fill(&broker, 10..11);
    broker.close().unwrap();
}

/// A directory of real files without write permission.
#[test]
fn a_directory_without_write_permission_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let broker = Broker::open(&dir).unwrap();
    create(&broker, "t", "600").unwrap();
    fill(&broker, 0..5);
    broker.close().unwrap();
    std::fs::remove_file(dir.join(".lock")).unwrap();
    let mode = |mode| std::fs::set_permissions(&dir, PermissionsExt::from_mode(mode)).unwrap();
    mode(0o555);
    if std::fs::write(dir.join("probe"), b"").is_ok() {
        println!("skipped: permissions do not bind this user");
        mode(0o755);
        return;
    }
    let error = Broker::open(&dir).unwrap_err();
    told(&error, ErrorKind::Io, &[".lock", &dir.display().to_string()]);
    holds(&Broker::attach(&dir).unwrap(), 5);
    mode(0o755);
}

/// A sync that fails: everyone who waits is told, nothing is tried again, the partition takes no
/// more, the close returns that first error; opening again recovers all that the disk still has.
#[test]
fn a_failed_sync_stops_its_partition_until_the_directory_is_opened_again() {
    for (call, place) in [(Call::SyncData, "t-0"), (Call::SyncDir, "t-0")] {
        let sim = Sim::new();
        let fault = Fault::new(Arc::new(sim.clone()));
        let broker = open(&fault);
        create(&broker, "t", "600").unwrap();
        create(&broker, "u", "600").unwrap();
        fill(&broker, 0..2);
        fault.fail(Rule::nth(0, Failure::IoPagesLost).of(&[call]).on(place));
        let error = broker.flush().unwrap_err();
        let advice = ["t-0", "opened again", "read-only"];
        told(&error, ErrorKind::StorageFailed, &advice);
        assert!(error.is_fatal() && !error.is_retriable());
        let syncs = fault.calls_of(call);
        told(&broker.flush().unwrap_err(), ErrorKind::StorageFailed, &advice);
        assert_eq!(fault.calls_of(call), syncs, "a second sync would prove nothing");
        told(&send(&broker, "t", "no").unwrap_err(), ErrorKind::StorageFailed, &advice);
        assert_eq!(send(&broker, "u", "yes").unwrap(), 0, "other partitions go on");
        holds(&broker, 2);
        let health = broker.health();
        let failed: Vec<_> = health.failed_partitions().map(|(p, _)| p.to_string()).collect();
        assert_eq!(failed, ["t-0"]);
        told(&broker.close().unwrap_err(), ErrorKind::StorageFailed, &advice);
        let broker = open(&sim);
        holds(&broker, 2);
        fill(&broker, 2..4);
        broker.close().unwrap();
    }
}

/// One bad sector, or one file that cannot be opened, hides nothing of the rest from a check.
#[test]
fn a_check_goes_on_behind_what_cannot_be_read() {
    for call in [Call::ReadAt, Call::Open] {
        let sim = closed(12);
        for (base, at) in [(4, 100), (8, BATCH_BYTES + 100)] {
            sim.damage(&segment(base, "log"), |bytes| bytes[at] ^= 4).unwrap();
        }
        let fault = Fault::new(Arc::new(sim));
        let rule = Rule::nth(0, Failure::Io).of(&[call]).on("00000000000000000000.log").sticky();
        fault.fail(rule);
        let findings = attach(&fault).admin().verify_partition("t", 0).unwrap();
        let found = |kind: &str, base| {
            let path = segment(base, "log");
            findings.iter().any(|found| found.kind.name() == kind && found.path == path)
        };
        assert!(fault.has_fired());
        assert!(found("unreadable", 0) && found("corrupt", 4), "{findings:?}");
        assert!(found("corrupt", 8), "{findings:?}");
    }
}

/// A file that goes on for as long as a file system lets it is not read to its end.
#[test]
fn a_check_ends_where_a_segment_must() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let broker = Broker::open(&dir).unwrap();
    create(&broker, "t", "600").unwrap();
    fill(&broker, 0..5);
    broker.close().unwrap();
    let path = dir.join("t-0/00000000000000000004.log");
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    if let Err(error) = file.set_len(1 << 42) {
        println!("skipped: {error}");
        return;
    }
    let attached = Broker::attach(&dir).unwrap();
    let findings = attached.admin().verify_partition("t", 0).unwrap();
    let long = findings.iter().find(|found| found.kind.name() == "too-long").unwrap();
    assert_eq!((&long.path, long.position), (&path, Some(1 << 31)));
    assert_eq!(read(&attached, "t").0.len(), 5);
}

/// What could not be read decides nothing: an error of the disk is not an empty file.
#[test]
fn a_small_file_of_another_program_that_cannot_be_read_is_named() {
    for (name, text) in [
        ("log-start-offset-checkpoint", "0\n1\nt 0 6\n"),
        ("recovery-point-offset-checkpoint", "0\n1\nt 0 12\n"),
        ("t-0/partition.metadata", "version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ\n"),
        ("t-0/leader-epoch-checkpoint", "0\n1\n0 0\n"),
    ] {
        let sim = closed(12);
        for entry in sim.list(Path::new(DIR)).unwrap() {
            if entry.name.starts_with("topiclite.") {
                sim.remove(&path(&entry.name)).unwrap();
            }
        }
        put(&sim, &path(name), text.as_bytes());
        let fault = Fault::new(Arc::new(sim));
        fault.fail(Rule::nth(0, Failure::Io).on(name.rsplit('/').next().unwrap()).sticky());
        let broker = try_open(&fault);
        let failed = broker.and_then(|broker| send(&broker, "t", "no"));
        let error = failed.expect_err(name);
        told(&error, ErrorKind::Io, &[&path(name).display().to_string()]);
        fault.heal();
        let broker = open(&fault);
        assert_eq!(send(&broker, "t", "yes").unwrap(), 12, "{name}");
    }
}
