//! A path that comes to mean another directory while a broker is open by it: the process changes
//! its working directory, or a link is pointed elsewhere. What was opened is what is written.

use crate::place::{
    child, create, ended_well, filled, home_of_child, letters, read, send, snapshot,
};
use std::os::unix::fs::symlink;
use std::path::Path;
use topiclite::Broker;
use topiclite::storage::{Fs, Storage};

#[test]
fn a_broker_stays_in_its_directory_when_the_process_leaves_it() {
    let home = tempfile::tempdir().unwrap();
    ended_well(&child("moved::a_child_goes_elsewhere_with_an_open_broker", home.path()));
}

/// Does nothing unless this process was started for it.
#[test]
fn a_child_goes_elsewhere_with_an_open_broker() {
    let Some(home) = home_of_child() else { return };
    let (a, b) = (home.join("a"), home.join("b"));
    for (folder, letter, count) in [(&b, 'B', 25), (&a, 'A', 1)] {
        std::fs::create_dir_all(folder).unwrap();
        filled(&folder.join("data"), letter, count);
    }
    let foreign = snapshot(&b);
    std::env::set_current_dir(&a).unwrap();
    let broker = Broker::open("data").unwrap();
    send(&broker, 'A', 1).unwrap();
    let attached = Broker::attach("data").unwrap();
    std::env::set_current_dir(&b).unwrap();
    send(&broker, 'A', 14).unwrap();
    broker.admin().create_topic("u", 1, Default::default()).unwrap();
    broker.flush().unwrap();
    assert_eq!(read(&attached).unwrap(), "A".repeat(16));
    assert_eq!(attached.admin().list_topics().unwrap().len(), 2);
    broker.admin().delete_topic("u").unwrap();
    broker.close().unwrap();
    assert_eq!(letters(&a.join("data")).unwrap(), "A".repeat(16));
    assert_eq!(snapshot(&b), foreign, "nothing of the other directory was touched");
}

#[test]
fn a_file_is_found_again_when_the_process_left() {
    let home = tempfile::tempdir().unwrap();
    ended_well(&child("moved::a_child_goes_elsewhere_with_an_open_file", home.path()));
}

/// Does nothing unless this process was started for it.
#[test]
fn a_child_goes_elsewhere_with_an_open_file() {
    let Some(home) = home_of_child() else { return };
    std::env::set_current_dir(&home).unwrap();
    let fs = Fs::with_descriptors_max(1);
    let file = fs.create_cold(Path::new("first")).unwrap();
    file.write_at(0, b"abc").unwrap();
    // Its descriptor goes to the next file.
    let _second = fs.create_cold(Path::new("second")).unwrap();
    fs.rename(Path::new("first"), Path::new("third")).unwrap();
    std::env::set_current_dir("/").unwrap();
    assert_eq!(file.len().unwrap(), 3);
}

/// A link is followed once: pointed elsewhere, it leads nobody into another directory.
#[test]
fn a_link_to_the_directory_is_followed_once() {
    let home = tempfile::tempdir().unwrap();
    let (a, b, link) = (home.path().join("a"), home.path().join("b"), home.path().join("link"));
    for dir in [&a, &b] {
        std::fs::create_dir(dir).unwrap();
    }
    filled(&b, 'B', 25);
    let foreign = snapshot(&b);
    symlink(&a, &link).unwrap();
    let broker = Broker::open(&link).unwrap();
    create(&broker);
    send(&broker, 'A', 1).unwrap();
    let attached = Broker::attach(&link).unwrap();
    std::fs::remove_file(&link).unwrap();
    symlink(&b, &link).unwrap();
    send(&broker, 'A', 14).unwrap();
    assert_eq!(read(&attached).unwrap(), "A".repeat(15));
    broker.close().unwrap();
    assert_eq!(letters(&a).unwrap(), "A".repeat(15));
    assert_eq!(snapshot(&b), foreign);
}

/// Opened through a link, closed and opened again: the link is as good as the directory.
#[test]
fn a_directory_behind_a_link_works() {
    let home = tempfile::tempdir().unwrap();
    let (a, link) = (home.path().join("a"), home.path().join("link"));
    std::fs::create_dir(&a).unwrap();
    symlink("a", &link).unwrap();
    filled(&link, 'A', 3);
    assert_eq!(letters(&link).unwrap(), "AAA");
    let broker = Broker::open(&a).unwrap();
    send(&broker, 'B', 1).unwrap();
    let refused = Broker::open(&link).unwrap_err();
    assert_eq!(refused.kind(), topiclite::ErrorKind::Locked);
    broker.admin().delete_topic("t").unwrap();
    broker.close().unwrap();
    assert!(link.is_symlink());
}
