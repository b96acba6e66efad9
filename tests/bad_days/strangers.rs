//! Things that stand where the directory, a partition's folder or a file of ours is expected.

use crate::place::*;
use std::path::Path;
use topiclite::storage::{Sim, Storage};
use topiclite::{Broker, ErrorKind};

#[test]
fn a_file_where_a_directory_is_expected_is_named() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("data");
    std::fs::write(&file, b"a file").unwrap();
    for outcome in [Broker::open(&file), Broker::attach(&file), Broker::open(file.join("below"))] {
        let error = outcome.unwrap_err();
        told(&error, ErrorKind::Io, &[&file.display().to_string()]);
    }
    assert_eq!(std::fs::read(&file).unwrap(), b"a file");
    let missing = home.path().join("missing");
    let error = Broker::attach(&missing).unwrap_err();
    told(&error, ErrorKind::Io, &[&missing.display().to_string()]);
    assert!(!missing.exists(), "attaching makes nothing");
}

/// Files and folders of other programs, with names that are almost those of Kafka.
fn litter(sim: &Sim) {
    for folder in ["/data/photos", "/data/a-b-", "/data/-3", "/data/t-x", "/data/t-0-1.delete"] {
        sim.create_dir(Path::new(folder)).unwrap();
        put(sim, &Path::new(folder).join("00000000000000000000.log"), b"garbage");
    }
    for name in ["notes.txt", "t-1", "meta.properties", "recovery-point-offset-checkpoint"] {
        put(sim, &path(name), b"\xff\x00 garbage");
    }
    put(sim, &path("photos/cat.jpg"), &[9; 5000]);
}

#[test]
fn a_directory_of_foreign_garbage_is_used_and_left_as_it_is() {
    let sim = Sim::new();
    sim.create_dir(Path::new(DIR)).unwrap();
    litter(&sim);
    let before = snapshot(&sim);
    let broker = open(&sim);
    assert!(broker.adoption().is_none(), "no folder has the name of a partition");
    assert_eq!(broker.admin().list_topics().unwrap().len(), 0);
    broker.close().unwrap();
    let now = snapshot(&sim);
    for (path, bytes) in &before {
        assert!(now.contains(&(path.clone(), bytes.clone())), "{} changed", path.display());
    }
    let broker = open(&sim);
    create(&broker, "t", "600").unwrap();
    fill(&broker, 0..5);
    broker.close().unwrap();
    holds(&open(&sim), 5);
    // Only the checkpoint's name is ours from then on.
    let litter = |path: &Path| !path.ends_with("recovery-point-offset-checkpoint");
    for (path, bytes) in before.iter().filter(|(path, _)| litter(path)) {
        let now = bytes.as_ref().map(|_| get(&sim, path));
        assert_eq!(&now, bytes, "{} changed", path.display());
    }
}

/// What stands in a folder with a partition's name decides nothing but that partition.
#[test]
fn folders_with_the_names_of_partitions_and_garbage_inside_are_empty_logs() {
    let _nothing_is_written = look_only();
    let sim = Sim::new();
    for folder in ["/data", "/data/t-0", "/data/u-1"] {
        sim.create_dir(Path::new(folder)).unwrap();
    }
    put(&sim, &segment(0, "log"), b"garbage");
    put(&sim, &path("u-1/README"), b"garbage");
    let before = snapshot(&sim);
    let broker = open(&sim);
    let report = broker.adoption().unwrap();
    assert_eq!(report.topics().collect::<Vec<_>>(), ["t", "u"]);
    assert!(warned(&broker, &["t-0", "7 bytes are left out"]));
    holds(&broker, 0);
    assert!(attach(&sim).reader("t", 0, topiclite::ReadFrom::Beginning).is_ok());
    drop(broker);
    let unlocked = |snapshot: Vec<(std::path::PathBuf, Option<Vec<u8>>)>| {
        snapshot.into_iter().filter(|(path, _)| !path.ends_with(".lock")).collect::<Vec<_>>()
    };
    assert_eq!(unlocked(snapshot(&sim)), before);
    let broker = open(&sim);
    fill(&broker, 0..3);
    broker.close().unwrap();
    holds(&open(&sim), 3);
    assert_eq!(get(&sim, &segment(0, "log.cut")), b"garbage", "set aside, not deleted");
}

#[test]
fn litter_beside_our_partitions_is_left_alone() {
    let sim = closed(10);
    litter_beside(&sim);
    let before = snapshot(&sim);
    let broker = open(&sim);
    assert!(broker.adoption().is_none());
    holds(&broker, 10);
    fill(&broker, 10..12);
    broker.close().unwrap();
    let broker = open(&sim);
    holds(&broker, 12);
    for (path, bytes) in before.iter().filter(|(path, _)| is_litter(path)) {
        let now = bytes.as_ref().map(|_| get(&sim, path));
        assert_eq!(&now, bytes, "{} changed", path.display());
    }
}

fn is_litter(path: &Path) -> bool {
    let text = path.to_string_lossy();
    ["photos", "notes", "strange"].iter().any(|part| text.contains(part))
}

fn litter_beside(sim: &Sim) {
    sim.create_dir(&path("photos")).unwrap();
    put(sim, &path("photos/cat.jpg"), &[9; 5000]);
    put(sim, &path("notes.txt"), b"garbage");
    sim.create_dir(&path("t-0/strange")).unwrap();
    put(sim, &path("t-0/strange.log"), b"garbage");
    put(sim, &path("t-0/00000000000000000004.strange"), b"garbage");
    put(sim, &path("t-0/strange").join("00000000000000000000.log"), b"garbage");
}

#[test]
fn a_file_in_the_place_of_a_partition_folder_is_named() {
    let sim = Sim::new();
    let broker = open(&sim);
    create(&broker, "t", "600").unwrap();
    put(&sim, &path("t-0"), b"a file");
    let error = send(&broker, "t", "no").unwrap_err();
    told(&error, ErrorKind::Io, &["t-0", "/data/t-0"]);
    create(&broker, "u", "600").unwrap();
    assert_eq!(send(&broker, "u", "yes").unwrap(), 0, "other topics go on");
    assert_eq!(get(&sim, &path("t-0")), b"a file");
    sim.remove(&path("t-0")).unwrap();
    fill(&broker, 0..3);
    broker.close().unwrap();

    // The same for a folder that held records once.
    for name in ["00000000000000000000.log", "00000000000000000000.index"] {
        drop(sim.remove(&path("t-0").join(name)));
    }
    for entry in sim.list(&path("t-0")).unwrap() {
        sim.remove(&path("t-0").join(entry.name)).unwrap();
    }
    sim.remove_dir(&path("t-0")).unwrap();
    put(&sim, &path("t-0"), b"a file");
    for broker in [attach(&sim), open(&sim)] {
        let (values, error) = read(&broker, "t");
        println!("{values:?} {error:?}");
        assert!(values.is_empty());
        let error = error.unwrap();
        assert!(error.to_string().contains("/data/t-0"), "{error}");
        assert_eq!(read(&broker, "u").0, ["yes"]);
    }
    assert_eq!(get(&sim, &path("t-0")), b"a file");
}

/// What our own files may be found to be.
const GARBAGE: [&[u8]; 4] = [b"", b"garbage", &[0; 4096], &[255; 20]];

#[test]
fn garbage_in_the_state_file_is_told_and_every_record_is_read_anew() {
    let _nothing_is_adopted_for_good = look_only();
    for bytes in GARBAGE {
        let sim = closed(10);
        put(&sim, &path("topiclite.state"), bytes);
        for broker in [attach(&sim), open(&sim)] {
            holds(&broker, 10);
        }
        let broker = open(&sim);
        let report = broker.adoption().unwrap();
        assert!(report.reason().contains("state file"), "{}", report.reason());
        assert_eq!(report.damaged().count(), 0);
        fill(&broker, 10..12);
        broker.close().unwrap();
        let broker = open(&sim);
        assert!(broker.adoption().is_none(), "once");
        holds(&broker, 12);
    }
}

#[test]
fn garbage_in_the_registry_is_told_and_topics_are_found_by_their_folders() {
    let _nothing_is_adopted_for_good = look_only();
    for bytes in GARBAGE {
        let sim = closed(10);
        let id = open(&sim).admin().describe_topic("t").unwrap().id();
        put(&sim, &path("topiclite.registry"), bytes);
        for broker in [attach(&sim), open(&sim)] {
            holds(&broker, 10);
        }
        let broker = open(&sim);
        let report = broker.adoption().unwrap();
        assert!(report.reason().contains("registry"), "{}", report.reason());
        let topic = broker.admin().describe_topic("t").unwrap();
        assert_eq!((topic.id(), topic.partition_count()), (id, 1));
        assert_eq!(topic.config_value("retention.ms"), Some("-1"), "nothing of it is deleted");
        fill(&broker, 10..12);
        broker.close().unwrap();
        holds(&open(&sim), 12);
    }
}

/// A newer version of our own files.
#[test]
fn a_newer_version_of_our_files_is_refused_and_left_as_it_is() {
    for name in ["topiclite.registry", "topiclite.state"] {
        let sim = closed(3);
        let mut bytes = get(&sim, &path(name));
        bytes[11] = 2;
        let crc = crc32fast::hash(&bytes[..16]).to_be_bytes();
        bytes[16..20].copy_from_slice(&crc);
        put(&sim, &path(name), &bytes);
        let before = snapshot(&sim);
        let error = try_open(&sim).unwrap_err();
        told(&error, ErrorKind::UnsupportedFormat, &[name, "newer", "upgrade"]);
        assert_eq!(snapshot(&sim), before);
    }
}

/// Any one flipped bit of our own files, as long as it is not in the last change: that cannot be
/// told from a change that a crash cut off.
#[test]
fn a_flipped_bit_in_our_own_files_loses_no_record() {
    for name in ["topiclite.registry", "topiclite.state"] {
        let whole = get(&closed(10), &path(name));
        for at in 0..whole.len() {
            let sim = closed(10);
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            put(&sim, &path(name), &bytes);
            let broker = match try_open(&sim) {
                Ok(broker) => broker,
                Err(error) => panic!("{name} byte {at}: {error}"),
            };
            holds(&broker, 10);
            fill(&broker, 10..12);
            broker.close().unwrap();
            holds(&open(&sim), 12);
        }
    }
}

/// The last change of the registry does not check: a crash during it leaves that, and so does a
/// flipped bit. A topic that has a folder was made for certain, and its records are found.
#[test]
fn a_flipped_bit_in_the_last_change_of_the_registry_loses_no_topic() {
    let changed = |change: &dyn Fn(&Broker)| {
        let sim = closed(10);
        let broker = open(&sim);
        create(&broker, "u", "600").unwrap();
        let before = get(&sim, &path("topiclite.registry")).len();
        change(&broker);
        (sim, broker, before)
    };
    let precious = |broker: &Broker| {
        create(broker, "v", "600").unwrap();
        assert_eq!(send_without_id(broker, "v", "precious").unwrap(), 0);
    };
    for close in [true, false] {
        let (sim, broker, before) = changed(&precious);
        let sim = match close {
            true => {
                broker.close().unwrap();
                sim
            }
            false => sim.kill(),
        };
        let whole = get(&sim, &path("topiclite.registry"));
        for at in before..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            let sim = sim.kill();
            put(&sim, &path("topiclite.registry"), &bytes);
            let broker = open(&sim);
            let reason = broker.adoption().unwrap().reason();
            assert!(reason.contains("registry") && reason.contains(" v"), "{reason}");
            assert_eq!(read(&broker, "v").0, ["precious"], "byte {at}");
            holds(&broker, 10);
            assert_eq!(send(&broker, "v", "more").unwrap(), 1);
            broker.close().unwrap();
            let broker = open(&sim);
            assert_eq!(read(&broker, "v").0, ["precious", "more"]);
            assert!(broker.adoption().is_none());
        }
    }
    // Without a folder there is nothing to lose but the name.
    let (sim, broker, before) = changed(&|broker| create(broker, "v", "600").unwrap());
    broker.close().unwrap();
    let bytes = get(&sim, &path("topiclite.registry"));
    put(&sim, &path("topiclite.registry"), &bytes[..before + 9]);
    let broker = open(&sim);
    assert!(broker.adoption().is_none());
    assert_eq!(broker.admin().list_topics().unwrap().len(), 2);
    holds(&broker, 10);
    precious(&broker);
}

#[test]
fn checkpoint_files_of_garbage_change_nothing() {
    let names = [
        "recovery-point-offset-checkpoint",
        "replication-offset-checkpoint",
        "log-start-offset-checkpoint",
        "cleaner-offset-checkpoint",
        "meta.properties",
        "t-0/leader-epoch-checkpoint",
        "t-0/partition.metadata",
    ];
    for disk in [|| closed(10), || killed(10, 6).kill()] {
        for name in names {
            for bytes in GARBAGE {
                let sim = disk();
                put(&sim, &path(name), bytes);
                for broker in [attach(&sim), open(&sim)] {
                    holds(&broker, 10);
                }
                let broker = open(&sim);
                fill(&broker, 10..12);
                broker.close().unwrap();
                holds(&open(&sim), 12);
            }
        }
    }
}
