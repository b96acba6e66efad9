//! A disk that vanished and came back while the machine ran on, and a snapshot of a disk that is
//! mounted on its own host: the boot is the same, and what was not synced is gone. What must hold
//! is what holds after a power cut.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use topiclite::storage::Storage;
use topiclite::storage::sim::{Entries, Pages, PowerCut, Sim};
use topiclite::time::VirtualClock;
use topiclite::{
    Broker, BrokerOptions, ConsumerConfig, OffsetReset, ProducerConfig, ProducerRecord, ReadFrom,
    TopicConfig, TopicPartition,
};

fn open(sim: &Sim) -> Broker {
    let options = BrokerOptions::from_properties([("offsets.topic.num.partitions", "1")]).unwrap();
    let clock = VirtualClock::stepping().clock();
    options.clock(clock).seed(1).storage(Arc::new(sim.clone())).open("/data").unwrap()
}

fn send(broker: &Broker, from: usize, count: usize) {
    let producer = broker.producer(ProducerConfig::default()).unwrap();
    for number in from..from + count {
        let value = format!("{number} {}", "x".repeat(200));
        producer.send(ProducerRecord::new("t").value(&value)).unwrap().wait().unwrap();
    }
}

/// How many records there are. They are those that were sent, from the first on.
fn count(broker: &Broker) -> usize {
    let mut reader = broker.reader("t", 0, ReadFrom::Beginning).unwrap();
    let mut count = 0;
    while let Some(record) = reader.next(Duration::ZERO).unwrap() {
        let text = std::str::from_utf8(record.value().unwrap()).unwrap();
        assert!(text.starts_with(&format!("{count} ")), "record {count} is {text:.8}");
        count += 1;
    }
    count
}

/// A broker that is killed with 10 records flushed and 40 not, of which a group committed 45.
fn killed() -> Sim {
    let sim = Sim::new();
    let broker = open(&sim);
    let config = TopicConfig::default().segment_bytes(2000);
    broker.admin().create_topic("t", 1, config).unwrap();
    send(&broker, 0, 10);
    broker.flush().unwrap();
    send(&broker, 10, 40);
    let config = ConsumerConfig::new("g").auto_offset_reset(OffsetReset::Earliest);
    let mut consumer = broker.consumer(config.max_poll_records(45)).unwrap();
    consumer.subscribe(&["t"]).unwrap();
    while consumer.poll(Duration::from_secs(1)).unwrap().is_empty() {}
    consumer.commit_sync().unwrap();
    // The commit reached the disk, the records that it is about did not.
    let offsets = Path::new("/data/__consumer_offsets-0/00000000000000000000.log");
    sim.open_cold(offsets).unwrap().sync_data().unwrap();
    sim.sync_dir(Path::new("/data/__consumer_offsets-0")).unwrap();
    sim
}

#[test]
fn a_disk_that_came_back_is_recovered_as_after_a_power_cut() {
    let sim = killed();
    assert_eq!(count(&open(&sim.kill())), 50, "a kill alone loses nothing");
    let cuts = (0..40).map(PowerCut::drawn);
    let worst = PowerCut::new(0, Pages::None, Entries::None);
    for cut in cuts.chain([worst, PowerCut::new(0, Pages::None, Entries::All)]) {
        let back = sim.remount(&cut);
        assert_eq!(back.boot_id(), sim.boot_id());
        let broker = open(&back);
        let kept = count(&broker);
        assert!((10..=50).contains(&kept), "{cut:?}: {kept} records");
        let end = kept as i64;
        let partition = TopicPartition::new("t", 0);
        let committed = broker.admin().list_group_offsets("g").unwrap();
        let committed = committed.get(&partition).map_or(0, |committed| committed.offset());
        assert!(committed <= end, "{cut:?}: {committed} is committed and the log ends at {end}");
        send(&broker, kept, 1);
        assert_eq!(count(&broker), kept + 1, "{cut:?}");
        assert!(broker.health().is_ok(), "{cut:?}: {:?}", broker.health());
        broker.close().unwrap();
    }
}

/// Real file systems on loop devices: one whose device is gone before anything is written back,
/// and a snapshot of it that is mounted on its own host. Needs a user who may mount.
mod real {
    use crate::place::{child, create, home_of_child, letters, read, send};
    use std::path::Path;
    use std::process::Command;
    use topiclite::Broker;

    fn run(program: &str, args: &[&str]) -> Result<(), String> {
        let output = Command::new(program).args(args).output().map_err(|e| format!("{e}"))?;
        match output.status.success() {
            true => Ok(()),
            false => Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim())),
        }
    }

    /// An ext4 file system in a file, mounted while the value lives.
    struct Mounted<'a>(&'a Path);

    impl<'a> Mounted<'a> {
        fn new(image: &Path, at: &'a Path) -> Result<Mounted<'a>, String> {
            std::fs::create_dir_all(at).unwrap();
            let image = image.to_str().unwrap();
            // Nothing is written back by itself while the test runs.
            run("mount", &["-o", "loop,commit=300", image, at.to_str().unwrap()])?;
            Ok(Mounted(at))
        }
    }

    impl Drop for Mounted<'_> {
        fn drop(&mut self) {
            if let Err(why) = run("umount", &[self.0.to_str().unwrap()]) {
                println!("left mounted: {why}");
            }
        }
    }

    fn image(home: &Path) -> Result<std::path::PathBuf, String> {
        let image = home.join("image");
        std::fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
        run("mkfs.ext4", &["-q", "-F", image.to_str().unwrap()])?;
        Ok(image)
    }

    /// A process that is killed with 3 records flushed, and 20 that no sync followed.
    fn killed(dir: &Path) {
        let child = child("remounted::real::a_child_is_killed", dir);
        assert!(!child.status.success(), "it was killed");
    }

    /// Does nothing unless this process was started for it.
    #[test]
    fn a_child_is_killed() {
        let Some(dir) = home_of_child() else { return };
        let config = topiclite::BrokerConfig::default().log_flush_interval_ms(1 << 40);
        let broker = topiclite::BrokerOptions::new().config(config).open(&dir).unwrap();
        create(&broker);
        send(&broker, 'A', 3).unwrap();
        broker.flush().unwrap();
        send(&broker, 'A', 20).unwrap();
        // The pages of the last file happen to be written back, those before it are not.
        let last = dir.join("t-0/00000000000000000020.log");
        std::fs::File::open(last).unwrap().sync_all().unwrap();
        std::process::abort();
    }

    /// What was synced is there, it is a prefix, and the directory goes on.
    fn recovered(dir: &Path, least: usize) {
        let seen = letters(dir).unwrap();
        let broker = Broker::open(dir).unwrap();
        let kept = read(&broker).unwrap();
        assert_eq!(kept, seen, "owner and attached agree");
        assert!((least..=23).contains(&kept.len()) && kept.chars().all(|c| c == 'A'), "{kept}");
        send(&broker, 'B', 12).unwrap();
        assert!(broker.health().is_ok(), "{:?}", broker.health());
        broker.close().unwrap();
        assert_eq!(letters(dir).unwrap(), kept + &"B".repeat(12));
    }

    /// The same mount after a kill, a snapshot beside it, and the device mounted again.
    fn a_snapshot_and_a_device_that_came_back(home: &Path) -> Result<(), String> {
        let image = image(home)?;
        let (at, beside) = (home.join("at"), home.join("beside"));
        let snapshot = home.join("snapshot");
        {
            let _mounted = Mounted::new(&image, &at)?;
            let dir = at.join("data");
            killed(&dir);
            // What the device has at this moment, the file system's journal included: the pages
            // of the 20 records are in memory alone.
            std::fs::copy(&image, &snapshot).unwrap();
            recovered(&dir, 23);
        }
        {
            let _mounted = Mounted::new(&snapshot, &beside)?;
            recovered(&beside.join("data"), 3);
        }
        // In the place of the first one, so that a number given twice would be the same.
        {
            let _mounted = Mounted::new(&image, &at)?;
            killed(&at.join("again"));
            std::fs::copy(&image, &snapshot).unwrap();
        }
        let _mounted = Mounted::new(&snapshot, &at)?;
        recovered(&at.join("again"), 3);
        Ok(())
    }

    #[test]
    fn a_device_that_came_back_is_another_mount() {
        let home = tempfile::tempdir().unwrap();
        if let Err(why) = a_snapshot_and_a_device_that_came_back(home.path()) {
            println!("skipped: {why}");
        }
    }

    /// The number of a mount is never given again, unlike the one in `/proc/self/mountinfo`.
    #[test]
    fn a_mount_has_a_number_of_its_own() {
        use topiclite::storage::{Fs, Storage};
        let home = tempfile::tempdir().unwrap();
        let fs = Fs::new();
        let before = fs.mount_id(home.path());
        if before.is_empty() {
            println!("skipped: this kernel does not number its mounts once and for all");
            return;
        }
        assert_eq!(fs.mount_id(home.path()), before);
        let mut seen = vec![before];
        let Ok(image) = image(home.path()) else { return println!("skipped: no mkfs.ext4") };
        for _ in 0..3 {
            let at = home.path().join("at");
            let mounted = match Mounted::new(&image, &at) {
                Ok(mounted) => mounted,
                Err(why) => return println!("skipped: {why}"),
            };
            let id = fs.mount_id(&at.join("lost+found"));
            assert!(!seen.contains(&id), "{id} was given before: {seen:?}");
            seen.push(id);
            drop(mounted);
        }
    }
}
