//! A lock file that is taken away under the owner: by a hand that cleans up, or by a program that
//! makes one of its own. The owner stops appending within a flush interval, and changes no file.

use crate::place::{create, letters, read, send, snapshot};
use std::path::Path;
use std::time::{Duration, Instant};
use topiclite::{Broker, BrokerConfig, BrokerOptions, ErrorKind, ProducerConfig, ProducerRecord};

fn open(dir: &Path) -> Broker {
    let config = BrokerConfig::default().log_flush_interval_ms(20);
    BrokerOptions::new().config(config).open(dir).unwrap()
}

/// Waits for the health of the broker to tell it, far longer than it can take.
fn noticed(broker: &Broker) {
    let start = Instant::now();
    let told = |broker: &Broker| {
        let health = broker.health();
        health.first_error().is_some_and(|error| error.to_string().contains("stopped"))
    };
    while !told(broker) {
        assert!(start.elapsed() < Duration::from_secs(60), "it was never noticed");
        std::thread::yield_now();
    }
    let health = broker.health();
    let error = health.first_error().unwrap();
    assert_eq!(error.kind(), ErrorKind::Locked, "{error}");
    assert!(error.path().unwrap().ends_with(".lock"), "{error}");
}

#[test]
fn an_owner_whose_lock_file_is_gone_stops() {
    for replaced in [false, true] {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("data");
        let broker = open(&dir);
        create(&broker);
        send(&broker, 'A', 12).unwrap();
        broker.flush().unwrap();
        let producer = broker.producer(ProducerConfig::default()).unwrap();
        std::fs::remove_file(dir.join(".lock")).unwrap();
        if replaced {
            std::fs::write(dir.join(".lock"), b"").unwrap();
        }
        noticed(&broker);
        let before = snapshot(&dir);
        for _ in 0..3 {
            let refused = producer.send(ProducerRecord::new("t").value("x"));
            let refused = refused.and_then(|sent| sent.wait()).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Locked, "{refused}");
        }
        let admin = broker.admin();
        let refusals = [
            admin.create_topic("u", 1, Default::default()).err(),
            admin.delete_topic("t").err(),
            admin.grow_topic("t", 2).err(),
            broker.flush().err(),
        ];
        for refusal in refusals {
            let refusal = refusal.unwrap();
            assert_eq!(refusal.kind(), ErrorKind::Locked, "{refusal}");
            assert!(refusal.to_string().contains("lock file"), "{refusal}");
        }
        assert_eq!(read(&broker).unwrap(), "A".repeat(12), "reads go on");
        assert_eq!(broker.close().unwrap_err().kind(), ErrorKind::Locked);
        assert_eq!(snapshot(&dir), before, "nothing was changed since it was noticed");
        let next = Broker::open(&dir).unwrap();
        assert_eq!(read(&next).unwrap(), "A".repeat(12));
        send(&next, 'B', 1).unwrap();
        next.close().unwrap();
    }
}

/// The directory was renamed, and another one has its name: that one is not touched.
#[test]
fn an_owner_whose_directory_was_exchanged_changes_nothing_in_the_other() {
    let home = tempfile::tempdir().unwrap();
    let (dir, aside) = (home.path().join("data"), home.path().join("aside"));
    let broker = open(&dir);
    create(&broker);
    send(&broker, 'A', 1).unwrap();
    let other = home.path().join("other");
    crate::place::filled(&other, 'B', 25);
    let foreign = snapshot(&other);
    std::fs::rename(&dir, &aside).unwrap();
    std::fs::rename(&other, &dir).unwrap();
    // The next segment would be made, and an index written, in the other directory.
    let refused = send(&broker, 'A', 25).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Locked, "{refused}");
    noticed(&broker);
    assert_eq!(broker.close().unwrap_err().kind(), ErrorKind::Locked);
    let names = |snapshot: std::collections::BTreeMap<std::path::PathBuf, Vec<u8>>| {
        let file = |path: &Path| path.strip_prefix(home.path()).unwrap().components().count();
        snapshot.into_iter().map(|(path, bytes)| (file(&path), bytes)).collect::<Vec<_>>()
    };
    assert_eq!(names(snapshot(&dir)), names(foreign));
    assert_eq!(letters(&dir).unwrap(), "B".repeat(25));
    assert!(letters(&aside).unwrap().starts_with('A'));
}
