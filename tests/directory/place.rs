//! A directory of real files, the few calls that the tests make to it, and children of this very
//! binary for what a whole process does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;
use topiclite::{Broker, ProducerConfig, ProducerRecord, ReadFrom, Result, TopicConfig};

/// The variable that tells a child which directory it works in.
const HOME: &str = "TOPICLITE_DIRECTORY_HOME";

/// Runs the test `name` of this binary in a process of its own.
pub fn child(name: &str, home: &Path) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(HOME, home)
        .output()
        .unwrap()
}

/// The directory of a child; `None` in the process that starts it.
pub fn home_of_child() -> Option<PathBuf> {
    std::env::var_os(HOME).map(PathBuf::from)
}

/// Fails unless the child came to its end.
pub fn ended_well(child: &Output) {
    let said = |bytes| String::from_utf8_lossy(bytes).into_owned();
    assert!(child.status.success(), "{}\n{}", said(&child.stdout), said(&child.stderr));
}

/// A topic `t` of one partition in segments of 1 MiB.
pub fn create(broker: &Broker) {
    broker.admin().create_topic("t", 1, TopicConfig::default().segment_bytes(1 << 20)).unwrap();
}

/// Sends `count` records of 100,000 times the same letter: 10 of them fill a segment.
pub fn send(broker: &Broker, letter: char, count: usize) -> Result<()> {
    let producer = broker.producer(ProducerConfig::default())?;
    let value = vec![letter as u8; 100_000];
    for _ in 0..count {
        producer.send(ProducerRecord::new("t").value(&value))?.wait()?;
    }
    producer.close()
}

/// The letters of all records, as an attached reader finds them.
pub fn letters(dir: &Path) -> Result<String> {
    read(&Broker::attach(dir)?)
}

/// The letters of all records.
pub fn read(broker: &Broker) -> Result<String> {
    let mut reader = broker.reader("t", 0, ReadFrom::Beginning)?;
    let mut out = String::new();
    while let Some(record) = reader.next(Duration::ZERO)? {
        out.push(char::from(record.value().unwrap()[0]));
    }
    Ok(out)
}

/// A closed directory with a topic `t` of `count` records.
pub fn filled(dir: &Path, letter: char, count: usize) {
    let broker = Broker::open(dir).unwrap();
    create(&broker);
    send(&broker, letter, count).unwrap();
    broker.close().unwrap();
}

/// Every file below `dir` with its bytes, the lock file aside.
pub fn snapshot(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut out = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            out.extend(snapshot(&path));
        } else if path.file_name().unwrap() != ".lock" {
            out.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    out
}

/// What was moved out of a directory, with a link left in its place.
pub struct Elsewhere {
    home: PathBuf,
    before: BTreeMap<PathBuf, Vec<u8>>,
}

impl Elsewhere {
    /// Fails unless everything that was moved is as it was.
    pub fn untouched(&self) {
        let (now, before) = (snapshot(&self.home), &self.before);
        assert!(now.keys().eq(before.keys()), "{:?}, not {:?}", now.keys(), before.keys());
        for (path, bytes) in &now {
            assert!(before.get(path) == Some(bytes), "{} changed", path.display());
        }
    }
}

/// Moves a file or folder out of its directory and leaves a link.
pub fn link_away(home: &Path, path: &Path) -> Elsewhere {
    let elsewhere = home.join("elsewhere");
    std::fs::create_dir_all(&elsewhere).unwrap();
    let target = elsewhere.join(path.file_name().unwrap());
    std::fs::rename(path, &target).unwrap();
    std::os::unix::fs::symlink(&target, path).unwrap();
    Elsewhere { before: snapshot(&elsewhere), home: elsewhere }
}

/// Runs the command line; `None` where it is not built.
pub fn topiclite(args: &[&str], dir: &Path) -> Option<Output> {
    let program = option_env!("CARGO_BIN_EXE_topiclite")?;
    Some(Command::new(program).arg("--dir").arg(dir).args(args).output().unwrap())
}
