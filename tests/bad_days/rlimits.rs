//! Limits of the process, met in a child: no descriptor left, and files that may not grow.

use crate::place::{GROUP, create, fill, holds, send, told, value};
use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use topiclite::{
    Broker, BrokerConfig, BrokerOptions, ConfigChange, ConsumerConfig, Error, ErrorKind,
    OffsetReset, ReadFrom, TopicPartition,
};

const ROLE: &str = "TOPICLITE_LIMITED_DIR";

fn in_a_child(test: &str) {
    let home = tempfile::tempdir().unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(ROLE, home.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    let complained = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{} {said} {complained}", child.status);
    assert!(said.contains("survived"), "{said}");
}

fn limit(resource: rustix::process::Resource, to: u64) {
    let maximum = rustix::process::getrlimit(resource).maximum;
    let limit = rustix::process::Rlimit { current: Some(to), maximum };
    rustix::process::setrlimit(resource, limit).unwrap();
}

/// Nothing is flushed in the background.
fn open(dir: &Path) -> Broker {
    let properties = [("offsets.topic.num.partitions", "1")];
    let config = BrokerConfig::from_properties(properties).unwrap();
    let config = config.log_flush_interval_ms(3_600_000);
    BrokerOptions::new().config(config).open(dir).unwrap()
}

/// All descriptors that this process may still open.
fn hog() -> Vec<File> {
    std::iter::from_fn(|| File::open("/dev/null").ok()).collect()
}

/// The error of a flush with no descriptor left. The broker's threads let one go now and then:
/// with it a flush may succeed, and needs others the next time.
fn refused_flush(broker: &Broker, round: &str) -> Error {
    for number in 0..100 {
        let topic = format!("flushed-{round}-{number}");
        create(broker, &topic, "100000000").unwrap();
        send(broker, &topic, "x").unwrap();
        let hogged = hog();
        let outcome = broker.flush().and_then(|()| broker.flush());
        drop(hogged);
        if let Err(error) = outcome {
            return error;
        }
    }
    panic!("it never fails");
}

fn without_descriptor(error: &Error, parts: &[&str]) {
    told(error, ErrorKind::Io, &["Too many open files", "call again"]);
    told(error, ErrorKind::Io, parts);
    assert!(error.is_retriable() && !error.is_fatal());
}

#[test]
fn a_process_without_a_descriptor_left_is_told_so_and_goes_on() {
    in_a_child("rlimits::a_child_has_no_descriptor_left");
}

/// Does nothing unless this process was started for it.
#[test]
fn a_child_has_no_descriptor_left() {
    let Some(home) = std::env::var_os(ROLE) else { return };
    let dir = Path::new(&home).join("data");
    let mut broker = open(&dir);
    create(&broker, "t", "600").unwrap();
    fill(&broker, 0..20);
    broker.close().unwrap();
    broker = open(&dir);
    create(&broker, "u", "100000000").unwrap();
    let durable = ConfigChange::Set("flush.messages".into(), "1".into());
    send(&broker, "u", "first").unwrap();
    fill(&broker, 20..21);
    limit(rustix::process::Resource::Nofile, 200);
    // No sync can begin, and no partition is the worse for it.
    for round in ["first", "second"] {
        without_descriptor(&refused_flush(&broker, round), &["cannot sync"]);
    }
    let mut hogged = hog();
    let mut count = 21;
    let error = loop {
        hogged.extend(hog());
        match send(&broker, "t", &value(count)) {
            Ok(_) => count += 1,
            Err(error) => break error,
        }
        assert!(count < 100, "a roll needs a descriptor");
    };
    without_descriptor(&error, &["t-0"]);
    let mut reader = broker.reader("t", 0, ReadFrom::Beginning).unwrap();
    hogged.extend(hog());
    if let Err(error) = reader.next(Default::default()) {
        without_descriptor(&error, &["t-0"]);
    }
    assert!(create(&broker, "v", "600").err().is_none_or(|error| error.is_retriable()));
    let other = Path::new(&home).join("other");
    assert!(Broker::open(other).err().is_none_or(|error| error.is_retriable()));
    assert!(Broker::attach(&dir).err().is_none_or(|error| error.is_retriable()));
    assert_eq!(broker.health().failed_partitions().count(), 0, "{:?}", broker.health());
    drop(hogged);
    broker.flush().unwrap();
    assert!(reader.next(Default::default()).unwrap().is_some());
    fill(&broker, count..count + 10);
    holds(&broker, count + 10);
    drop(reader);
    // The answer of a durable send says that the record may be there, and it is.
    broker.admin().alter_topic("u", &[durable]).unwrap();
    let broker2 = open_again(broker, &dir);
    let hogged = hog();
    let producer = broker2.producer(Default::default()).unwrap();
    let record = topiclite::ProducerRecord::new("u").partition(0).value("second");
    if let Err(failed) = producer.send(record).and_then(|sent| sent.wait()) {
        assert!(failed.is_retriable(), "{failed}");
    }
    assert_eq!(broker2.health().failed_partitions().count(), 0, "{:?}", broker2.health());
    drop((hogged, producer));
    send(&broker2, "u", "third").unwrap();
    commit_once(&broker2);
    broker2.close().unwrap();
    holds(&open(&dir), count + 10);
    println!("survived");
}

/// Every file and folder below `dir`, copied to `to`, but for those of ours where it is to be
/// another program's.
fn copy(dir: &Path, to: &Path, foreign: bool) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        let ours = entry.file_name().to_string_lossy().starts_with("topiclite.");
        match entry.file_type().unwrap().is_dir() {
            true => copy(&from, &to, foreign),
            false if foreign && ours => {}
            false => drop(std::fs::copy(&from, &to).unwrap()),
        }
    }
}

#[test]
fn adoption_and_repair_without_a_descriptor_left_decide_nothing() {
    in_a_child("rlimits::a_child_has_few_descriptors_left");
}

/// Does nothing unless this process was started for it. A directory of another program, with the
/// start of a log moved, and a torn one of ours are opened: either all goes well, or the error is
/// retriable, and the same opens as if nothing had been.
#[test]
fn a_child_has_few_descriptors_left() {
    let Some(home) = std::env::var_os(ROLE) else { return };
    let home = Path::new(&home);
    let dir = home.join("data");
    let broker = open(&dir);
    create(&broker, "t", "600").unwrap();
    fill(&broker, 0..20);
    broker.admin().delete_records("t", 0, 6).unwrap();
    let id = broker.admin().describe_topic("t").unwrap().id();
    broker.close().unwrap();
    limit(rustix::process::Resource::Nofile, 100);
    let (mut refusals, mut torn_refusals) = (0, 0);
    for left in 0..4 {
        let to = home.join(format!("foreign-{left}"));
        copy(&dir, &to, true);
        let mut hogged = hog();
        hogged.truncate(hogged.len().saturating_sub(left));
        let outcome = BrokerOptions::new().open(&to);
        drop(hogged);
        refusals += usize::from(outcome.is_err());
        opened_now_or_again(outcome, &to, id);
    }
    // Files are opened one after the other: here any of them may be the one that cannot be.
    for round in 0..60 {
        let to = home.join(format!("at-times-{round}"));
        copy(&dir, &to, true);
        let outcome = open_under_a_limit_that_comes_and_goes(&to, round);
        opened_now_or_again(outcome, &to, id);
    }
    for left in 0..4 {
        let to = home.join(format!("torn-{left}"));
        copy(&dir, &to, false);
        std::fs::remove_file(to.join(".kafka_cleanshutdown")).unwrap();
        let last = to.join("t-0").join(format!("{:020}.log", 16));
        let file = std::fs::OpenOptions::new().append(true).open(last).unwrap();
        std::io::Write::write_all(&mut &file, &[1; 70]).unwrap();
        let broker = open(&to);
        let mut hogged = hog();
        hogged.truncate(hogged.len().saturating_sub(left));
        let repaired = broker.admin().repair_partition("t", 0).map(drop);
        let sent = send(&broker, "t", &value(20)).map(drop);
        drop(hogged);
        for error in [&repaired, &sent].into_iter().filter_map(|outcome| outcome.as_ref().err()) {
            assert!(error.is_retriable(), "{left}: {error}");
            torn_refusals += 1;
        }
        broker.admin().repair_partition("t", 0).unwrap();
        if sent.is_err() {
            send(&broker, "t", &value(20)).unwrap();
        }
        assert_eq!(broker.health().failed_partitions().count(), 0, "{:?}", broker.health());
        let values = crate::place::read(&broker, "t").0;
        assert_eq!(values, (6..21).map(value).collect::<Vec<_>>(), "{left}");
        broker.close().unwrap();
    }
    assert!(refusals > 0 && torn_refusals > 0, "{refusals} {torn_refusals}");
    println!("survived");
}

/// Opens a directory while another thread takes the descriptors away, and gives them back.
fn open_under_a_limit_that_comes_and_goes(to: &Path, round: u32) -> topiclite::Result<Broker> {
    let opened = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for pause in (round..).take_while(|_| !opened.load(Ordering::Relaxed)) {
                limit(rustix::process::Resource::Nofile, 100);
                (0..pause * 97 % 4000).for_each(|_| std::hint::spin_loop());
                limit(rustix::process::Resource::Nofile, 3);
                std::thread::yield_now();
            }
            limit(rustix::process::Resource::Nofile, 100);
        });
        let outcome = BrokerOptions::new().open(to);
        opened.store(true, Ordering::Relaxed);
        outcome
    })
}

/// What no adoption may change, now or at the next try: the topic's id, the start of its log, and
/// its records.
fn opened_now_or_again(
    outcome: topiclite::Result<Broker>,
    dir: &Path,
    id: topiclite::topic::TopicId,
) {
    let broker = &outcome.unwrap_or_else(|error| {
        assert!(error.is_retriable(), "{error}");
        open(dir)
    });
    assert_eq!(broker.admin().describe_topic("t").unwrap().id(), id);
    assert_eq!(broker.health().failed_partitions().count(), 0, "{:?}", broker.health());
    let (values, error) = crate::place::read(broker, "t");
    assert_eq!(error.map(|error| error.to_string()), None);
    assert_eq!(values, (6..20).map(value).collect::<Vec<_>>());
    broker.close().unwrap();
}

fn open_again(broker: Broker, dir: &Path) -> Broker {
    broker.close().unwrap();
    open(dir)
}

/// A group commits with no descriptor left, and again with some.
fn commit_once(broker: &Broker) {
    let config = ConsumerConfig::new(GROUP).auto_offset_reset(OffsetReset::Earliest);
    let mut consumer = broker.consumer(config).unwrap();
    let partition = TopicPartition::new("u", 0);
    consumer.assign(std::slice::from_ref(&partition)).unwrap();
    consumer.seek(&partition, 1).unwrap();
    let hogged = hog();
    let outcome = consumer.commit_sync();
    assert!(outcome.err().is_none_or(|error| error.is_retriable()));
    drop(hogged);
    consumer.commit_sync().unwrap();
}

#[test]
fn a_limit_on_the_size_of_files_is_a_full_disk_and_no_signal() {
    in_a_child("rlimits::a_child_may_not_grow_files");
}

/// Does nothing unless this process was started for it.
#[test]
fn a_child_may_not_grow_files() {
    let Some(home) = std::env::var_os(ROLE) else { return };
    let dir = Path::new(&home).join("data");
    let broker = open(&dir);
    create(&broker, "t", "100000000").unwrap();
    fill(&broker, 0..10);
    limit(rustix::process::Resource::Fsize, 40_000);
    let mut count = 10;
    let error = loop {
        match send(&broker, "t", &value(count)) {
            Ok(_) => count += 1,
            Err(error) => break error,
        }
        assert!(count < 100_000, "there is no limit");
    };
    told(&error, ErrorKind::StorageFull, &["t-0", "RLIMIT_FSIZE"]);
    assert!(error.is_retriable());
    holds(&broker, count);
    // Small files, too: a registry, an index, a lock file.
    limit(rustix::process::Resource::Fsize, 1);
    let refused = create(&broker, "u", "600").unwrap_err();
    told(&refused, ErrorKind::StorageFull, &["topiclite.registry", "RLIMIT_FSIZE"]);
    let refused = Broker::open(Path::new(&home).join("other")).unwrap_err();
    told(&refused, ErrorKind::StorageFull, &[".lock", "RLIMIT_FSIZE"]);
    limit(rustix::process::Resource::Fsize, 1 << 40);
    fill(&broker, count..count + 1000);
    broker.close().unwrap();
    holds(&open(&dir), count + 1000);
    println!("survived");
}
