//! File systems that shut down, and a copy-on-write one that is full: on loop devices, in a mount
//! namespace of a child, which goes with it. Needs root and the tools of the file system.

use crate::place::{create, fill, read, send, send_without_id, told, value};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use topiclite::{Broker, BrokerConfig, BrokerOptions, ConfigChange, Error, ErrorKind};

const ROLE: &str = "TOPICLITE_LOOP_DIR";

/// Runs a test of this file on a new file system of this kind.
fn on_a_device(kind: &str, bytes: &str, test: &str) {
    let home = tempfile::tempdir().unwrap();
    let script = "cd \"$0\" && truncate -s \"$2\" image && mkdir disk \
                  && mkfs.\"$1\" -q image >&2 && mount -o loop image disk || exit 99; \
                  shift 2; exec \"$@\"";
    let child = Command::new("unshare")
        .args(["--mount", "sh", "-c", script])
        .arg(home.path())
        .args([kind, bytes])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(ROLE, home.path().join("disk"))
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .output();
    match child {
        Ok(child) if child.status.success() => {
            let said = String::from_utf8_lossy(&child.stdout);
            match said.lines().find(|line| line.starts_with("skipped: ")) {
                Some(line) => println!("{kind} {line}"),
                None => assert!(said.contains("survived"), "{said}"),
            }
        }
        // What this machine has not, or does not let a user do.
        Ok(child)
            if [Some(99), Some(1)].contains(&child.status.code()) && child.stdout.is_empty() =>
        {
            println!("skipped: {kind}: {}", String::from_utf8_lossy(&child.stderr));
        }
        Ok(child) => panic!(
            "{kind}: {}\n{}\n{}",
            child.status,
            String::from_utf8_lossy(&child.stdout),
            String::from_utf8_lossy(&child.stderr)
        ),
        Err(error) => println!("skipped: {kind}: {error}"),
    }
}

fn tool(program: &str, arguments: &[&str]) -> bool {
    match Command::new(program).args(arguments).output() {
        Ok(done) if done.status.success() => true,
        other => {
            println!("skipped: {program} {arguments:?}: {other:?}");
            false
        }
    }
}

#[test]
fn an_ext4_that_shuts_down_is_an_error_and_no_signal() {
    on_a_device("ext4", "64M", "vanished::a_child_sees_its_disk_go");
}

#[test]
fn an_xfs_that_shuts_down_is_an_error_and_no_signal() {
    on_a_device("xfs", "320M", "vanished::a_child_sees_its_disk_go");
}

#[test]
fn a_btrfs_that_is_full_is_an_error_and_no_signal() {
    on_a_device("btrfs", "160M", "vanished::a_child_fills_a_shared_disk");
}

fn open(dir: &Path) -> Broker {
    let config = BrokerConfig::default().log_flush_interval_ms(50);
    BrokerOptions::new().config(config).open(dir).unwrap()
}

fn set_durable(broker: &Broker, topic: &str) {
    let durable = ConfigChange::Set("flush.messages".into(), "1".into());
    broker.admin().alter_topic(topic, &[durable]).unwrap();
}

/// Sends until that is refused for good, far longer than it can take. Before that it may also be
/// told that a file cannot grow. A new producer with an id asks the registry for it after a while,
/// which is gone, too.
fn refused(broker: &Broker, topic: &str) -> Error {
    let start = Instant::now();
    loop {
        match send_without_id(broker, topic, "x") {
            Err(error) if error.kind() == ErrorKind::StorageFailed => return error,
            outcome => {
                if let Err(error) = outcome {
                    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
                }
                assert!(start.elapsed() < Duration::from_secs(60), "not refused yet");
            }
        }
        std::thread::yield_now();
    }
}

/// Does nothing unless this process was started on a file system of its own.
#[test]
fn a_child_sees_its_disk_go() {
    let Some(home) = std::env::var_os(ROLE) else { return };
    let home = Path::new(&home);
    let dir = home.join("data");
    let broker = open(&dir);
    for topic in ["t", "durable", "idle", "busy", "rolls"] {
        create(&broker, topic, if topic == "rolls" { "600" } else { "100000000" }).unwrap();
    }
    set_durable(&broker, "durable");
    fill(&broker, 0..300);
    for topic in ["durable", "idle", "busy", "rolls"] {
        send(&broker, topic, "before").unwrap();
    }
    broker.flush().unwrap();
    if !tool("xfs_io", &["-x", "-c", "shutdown", home.to_str().unwrap()]) {
        return;
    }
    let error = send(&broker, "durable", "lost").unwrap_err();
    told(&error, ErrorKind::StorageFailed, &["durable-0"]);
    let error = refused(&broker, "busy");
    told(&error, ErrorKind::StorageFailed, &["busy-0"]);
    told(&refused(&broker, "rolls"), ErrorKind::StorageFailed, &["rolls-0"]);
    // Nobody appends to it: it is found out all the same.
    let start = Instant::now();
    let failed = |name: &str| {
        broker.health().failed_partitions().any(|(partition, _)| partition.to_string() == name)
    };
    while !failed("idle-0") {
        assert!(start.elapsed() < Duration::from_secs(60), "it was never noticed");
        std::thread::yield_now();
    }
    let error = send(&broker, "idle", "lost").unwrap_err();
    told(&error, ErrorKind::StorageFailed, &["idle-0"]);
    // What is durable is still read, as far as it is in memory.
    let (values, error) = read(&broker, "t");
    assert!(values.iter().enumerate().all(|(number, found)| *found == value(number)));
    match error {
        Some(error) => told(&error, ErrorKind::StorageFailed, &["t-0"]),
        None => assert_eq!(values.len(), 300),
    }
    assert!(broker.close().is_err());
    println!("survived");
}

/// Does nothing unless this process was started on a file system of its own.
#[test]
fn a_child_fills_a_shared_disk() {
    let Some(home) = std::env::var_os(ROLE) else { return };
    let home = Path::new(&home);
    let dir = home.join("data");
    if !tool("btrfs", &["subvolume", "create", dir.to_str().unwrap()]) {
        return;
    }
    let broker = open(&dir);
    create(&broker, "t", "100000000").unwrap();
    fill(&broker, 0..200);
    broker.flush().unwrap();
    let segment = dir.join("t-0/00000000000000000000.log");
    let flags = rustix::fs::ioctl_getflags(std::fs::File::open(&segment).unwrap()).unwrap();
    assert!(flags.contains(rustix::fs::IFlags::NOCOW), "{flags:?}");
    // Every block is shared from here on, and each store needs one that the disk has not.
    let snapshot = home.join("snapshot");
    let paths = [dir.to_str().unwrap(), snapshot.to_str().unwrap()];
    if !tool("btrfs", &["subvolume", "snapshot", paths[0], paths[1]]) {
        return;
    }
    let ballast = home.join("ballast");
    let mut size = 1 << 20;
    let mut file = std::fs::File::create(&ballast).unwrap();
    while size > 512 {
        use std::io::Write;
        if file.write_all(&vec![1; size]).and_then(|()| file.sync_all()).is_err() {
            size /= 2;
        }
    }
    let mut count = 200;
    let error = loop {
        match send(&broker, "t", &value(count)) {
            Ok(_) => count += 1,
            Err(error) => break error,
        }
        assert!(count < 1_000_000, "the disk is never full");
    };
    told(&error, ErrorKind::StorageFull, &["t-0", "free space"]);
    told(&send(&broker, "t", "no").unwrap_err(), ErrorKind::StorageFull, &["t-0"]);
    crate::place::holds(&broker, count);
    println!("full after {count} records");
    drop(file);
    std::fs::remove_file(&ballast).unwrap();
    assert!(tool("btrfs", &["filesystem", "sync", home.to_str().unwrap()]));
    fill(&broker, count..count + 50);
    broker.close().unwrap();
    let broker = open(&dir);
    crate::place::holds(&broker, count + 50);
    broker.close().unwrap();
    println!("survived");
}
