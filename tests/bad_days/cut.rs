//! A segment that another program cuts while it is mapped: an error for whoever meets it, at an
//! append, a read or a sync, and no signal. What was there before the cut can still be read.

use crate::place::{create, fill, read, send, told, value};
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use topiclite::{
    Broker, ConfigChange, ConsumerConfig, Error, ErrorKind, IsolationLevel, OffsetReset,
    OffsetSpec, ProducerConfig, ProducerRecord, ReadFrom, TopicPartition,
};

/// How many records there are: more than a page, fewer than the first step of a file has room for.
const COUNT: usize = 100;
const BATCH_BYTES: u64 = crate::place::BATCH_BYTES as u64;
const ROLE: &str = "TOPICLITE_CUT_DIR";

fn log_file(dir: &Path, base: usize) -> PathBuf {
    dir.join("t-0").join(format!("{base:020}.log"))
}

fn cut(path: &Path, len: u64) {
    OpenOptions::new().write(true).open(path).unwrap().set_len(len).unwrap();
}

/// A broker with `COUNT` records in its active segment.
fn filled(dir: &Path) -> Broker {
    let broker = Broker::open(dir).unwrap();
    create(&broker, "t", "1000000").unwrap();
    fill(&broker, 0..COUNT);
    // A cut that races with the pages prepared ahead has a test of its own: their step ends when
    // its pages are there, and another may follow it.
    let (mut steps, mut quiet) = (0, 0);
    while steps == 0 || quiet < 20_000 {
        std::thread::yield_now();
        let now = broker.health().counter("prepared_steps");
        quiet = if now == steps { quiet + 1 } else { 0 };
        steps = now;
    }
    broker
}

/// Where a file is cut: before, at and behind the end of the records, in the middle of pages and
/// at their borders, and behind what is prepared.
fn cuts() -> Vec<u64> {
    let end = COUNT as u64 * BATCH_BYTES;
    vec![0, 50, 4095, 4096, 4097, end - 1, end, end + 1, end.next_multiple_of(4096), 1 << 20]
}

fn refused(error: &Error, dir: &Path) {
    told(error, ErrorKind::StorageFailed, &["t-0", &dir.display().to_string(), "opened again"]);
}

/// What can be read, and what ended it: records up to the page of the cut, unchanged.
fn reads_up_to(broker: &Broker, len: u64) -> Option<Error> {
    let (values, error) = read(broker, "t");
    let whole = usize::try_from(len / BATCH_BYTES).unwrap().min(COUNT);
    assert!(values.len() >= whole || error.is_none(), "{} of {whole}: {error:?}", values.len());
    for (number, found) in values.iter().enumerate().take(whole) {
        assert_eq!(*found, value(number));
    }
    error
}

/// A batch of several records, larger than what is prepared.
fn send_batch(broker: &Broker) -> topiclite::Result<()> {
    let producer = broker.producer(ProducerConfig::default().linger_ms(10_000))?;
    let value = vec![7; 8000];
    let sent: Vec<_> = (0..20)
        .map(|_| producer.send(ProducerRecord::new("t").partition(0).value(value.as_slice())))
        .collect();
    producer.flush()?;
    for sent in sent {
        sent?.wait()?;
    }
    Ok(())
}

#[test]
fn an_append_to_a_segment_that_was_cut_is_refused() {
    for len in cuts() {
        for batch in [false, true] {
            let home = tempfile::tempdir().unwrap();
            let broker = filled(home.path());
            cut(&log_file(home.path(), 0), len);
            let append = || match batch {
                true => send_batch(&broker),
                false => send(&broker, "t", &value(COUNT)).map(drop),
            };
            let outcome = append().and_then(|()| broker.flush());
            let Err(error) = outcome else {
                // Nothing was cut off that is needed, or the next step of growth put it back.
                assert!(len >= COUNT as u64 * BATCH_BYTES, "{len}");
                assert!(reads_up_to(&broker, len).is_none());
                continue;
            };
            refused(&error, home.path());
            refused(&append().unwrap_err(), home.path());
            refused(&send(&broker, "t", "no").unwrap_err(), home.path());
            refused(&broker.flush().unwrap_err(), home.path());
            let error = reads_up_to(&broker, len);
            if len + 4096 < COUNT as u64 * BATCH_BYTES {
                told(&error.unwrap(), ErrorKind::StorageFailed, &["t-0", "cannot be read"]);
            }
            let failed: Vec<_> =
                broker.health().failed_partitions().map(|(p, _)| p.to_string()).collect();
            assert_eq!(failed, ["t-0"]);
            create(&broker, "u", "600").unwrap();
            assert_eq!(send(&broker, "u", "yes").unwrap(), 0, "other partitions go on");
            refused(&broker.close().unwrap_err(), home.path());
            // What is left is recovered.
            let broker = Broker::open(home.path()).unwrap();
            let (values, _) = read(&broker, "t");
            assert!(values.len() <= COUNT + 1);
        }
    }
}

/// A new segment behind one that was cut would look as if a compaction had taken the records.
#[test]
fn an_append_that_rolls_behind_a_segment_that_was_cut_is_refused() {
    for len in cuts().into_iter().filter(|len| *len < COUNT as u64 * BATCH_BYTES) {
        let home = tempfile::tempdir().unwrap();
        let broker = filled(home.path());
        cut(&log_file(home.path(), 0), len);
        // Its records are years younger than those in the segment.
        refused(&send_batch(&broker).unwrap_err(), home.path());
        assert!(!log_file(home.path(), COUNT).exists(), "{len}");
        let whole = usize::try_from(len / BATCH_BYTES).unwrap();
        refused(&broker.close().unwrap_err(), home.path());
        for broker in [Broker::attach(home.path()).unwrap(), Broker::open(home.path()).unwrap()] {
            // No record behind a hole.
            let (values, error) = read(&broker, "t");
            assert_eq!(values, (0..whole).map(value).collect::<Vec<_>>());
            assert!(error.is_none_or(|error| error.kind() == ErrorKind::CorruptRecord));
        }
    }
}

#[test]
fn a_durable_send_to_a_segment_that_was_cut_is_never_acknowledged() {
    for len in cuts().into_iter().filter(|len| *len <= COUNT as u64 * BATCH_BYTES) {
        let home = tempfile::tempdir().unwrap();
        let broker = filled(home.path());
        let durable = ConfigChange::Set("flush.messages".into(), "1".into());
        broker.admin().alter_topic("t", &[durable]).unwrap();
        broker.flush().unwrap();
        cut(&log_file(home.path(), 0), len);
        let error = send(&broker, "t", &value(COUNT)).unwrap_err();
        told(&error, ErrorKind::StorageFailed, &["t-0"]);
    }
}

/// Sealed segments and the active one, read by everything that reads.
#[test]
fn a_read_of_a_segment_that_was_cut_is_told_at_every_door() {
    for (sealed, reopened) in [(false, false), (true, false), (true, true)] {
        for len in [0, 4096, 5000, 8192] {
            let home = tempfile::tempdir().unwrap();
            let mut broker = Broker::open(home.path()).unwrap();
            create(&broker, "t", "13000").unwrap();
            fill(&broker, 0..if sealed { COUNT * 3 } else { COUNT });
            if reopened {
                broker.close().unwrap();
                broker = Broker::open(home.path()).unwrap();
            }
            // It is mapped by now, but for the third of the cases.
            let mut reader = broker.reader("t", 0, ReadFrom::Beginning).unwrap();
            assert!(reader.next(Duration::ZERO).unwrap().is_some());
            cut(&log_file(home.path(), 0), len);
            let error = reads_up_to(&broker, len).expect("the end is not reached");
            told(&error, ErrorKind::StorageFailed, &["t-0", ".log", "cannot be read"]);
            let error = reads_up_to(&broker, len).expect("it is told every time");
            told(&error, ErrorKind::StorageFailed, &["t-0"]);

            let config = ConsumerConfig::new("g").auto_offset_reset(OffsetReset::Earliest);
            let mut consumer = broker.consumer(config).unwrap();
            let partition = TopicPartition::new("t", 0);
            consumer.assign(std::slice::from_ref(&partition)).unwrap();
            let mut seen = 0;
            let error = loop {
                match consumer.poll(Duration::from_secs(5)) {
                    Ok(records) => {
                        assert!(!records.is_empty(), "silence after {seen}");
                        for record in &records {
                            assert_eq!(record.value().unwrap(), value(seen).as_bytes());
                            seen += 1;
                        }
                    }
                    Err(error) => break error,
                }
            };
            told(&error, ErrorKind::StorageFailed, &["t-0"]);
            assert_eq!(seen as u64, len / BATCH_BYTES, "what is there is returned");
            let again = consumer.poll(Duration::ZERO).unwrap_err();
            told(&again, ErrorKind::StorageFailed, &["t-0"]);
            assert_eq!(consumer.position(&partition).unwrap(), seen as i64);

            if len == 0 {
                let (spec, isolation) = (OffsetSpec::Timestamp(5), IsolationLevel::ReadCommitted);
                let error = broker.admin().list_offsets("t", 0, spec, isolation).unwrap_err();
                told(&error, ErrorKind::StorageFailed, &["t-0"]);
            }
            if sealed {
                let mut reader = broker.reader("t", 0, ReadFrom::Offset(COUNT as i64 + 1)).unwrap();
                let record = reader.next(Duration::ZERO).unwrap().unwrap();
                assert_eq!(record.value().unwrap(), value(COUNT + 1).as_bytes());
                // What was not sealed before the cut stops the partition when it is.
                assert!(!reopened || send(&broker, "t", "goes on").is_ok());
            }
        }
    }
}

/// The writer, the thread that prepares pages ahead of it, and the cut meet in every order: the
/// file is never grown over the hole, so that nothing reads as zeros, and it is told as what it is.
#[test]
fn a_cut_that_races_with_the_pages_prepared_ahead_is_refused_as_such() {
    for round in 0..20 {
        let home = tempfile::tempdir().unwrap();
        let broker = Broker::open(home.path()).unwrap();
        create(&broker, "t", "100000000").unwrap();
        fill(&broker, 0..4);
        let path = log_file(home.path(), 0);
        let producer = broker.producer(ProducerConfig::default()).unwrap();
        let record = |number: usize| {
            let value = format!("{number:060}").repeat(100);
            ProducerRecord::new("t").partition(0).value(value).timestamp(5)
        };
        let error = std::thread::scope(|scope| {
            let cutter = scope.spawn(|| {
                // As far as steps of growth: each round meets another one.
                let grown = (round + 1) * 300_000;
                while std::fs::metadata(&path).unwrap().len() < grown {
                    std::thread::yield_now();
                }
                cut(&path, 4096);
            });
            let mut number = 4;
            let error = loop {
                let sent = producer.send(record(number)).and_then(|sent| sent.wait());
                match sent.and_then(|_| if number % 64 == 0 { broker.flush() } else { Ok(()) }) {
                    Ok(()) => number += 1,
                    Err(error) => break error,
                }
                assert!(number < 15_000, "the cut was never met");
            };
            cutter.join().unwrap();
            error
        });
        refused(&error, home.path());
        let health = broker.health();
        let failed: Vec<_> = health.failed_partitions().collect();
        assert_eq!(failed.len(), 1, "{health:?}");
        refused(failed[0].1, home.path());
        drop(producer);
        let (values, error) = read(&broker, "t");
        told(&error.unwrap(), ErrorKind::StorageFailed, &["t-0", "cannot be read"]);
        assert_eq!(values, (0..4).map(value).collect::<Vec<_>>(), "and no zeros");
        refused(&broker.close().unwrap_err(), home.path());
    }
}

/// What `consume` printed, and said, until it ended by itself with the exit code 1.
#[cfg(feature = "cli")]
fn consume(dir: &Path, arguments: &[&str], meanwhile: impl FnOnce()) -> (Vec<String>, String) {
    use std::io::{BufRead, BufReader, Read};
    use std::process::Stdio;
    let mut child = Command::new(env!("CARGO_BIN_EXE_topiclite"))
        .arg("--dir")
        .arg(dir)
        .args(["consume", "t"])
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut printed = Vec::new();
    if arguments.contains(&"--follow") {
        printed.extend(lines.by_ref().take(COUNT));
    }
    meanwhile();
    printed.extend(lines);
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{arguments:?} {said}");
    told_on_the_command_line(&said);
    (printed, said)
}

#[cfg(feature = "cli")]
fn told_on_the_command_line(said: &str) {
    assert!(said.contains("t-0") && said.contains(".log"), "{said}");
}

#[cfg(feature = "cli")]
#[test]
fn consume_prints_what_is_left_of_a_segment_that_was_cut_and_fails() {
    let in_group = ["--group", "printers", "--from", "beginning"].as_slice();
    for len in [0, 4096, 5000, 8192] {
        let home = tempfile::tempdir().unwrap();
        let broker = Broker::open(home.path()).unwrap();
        create(&broker, "t", "13000").unwrap();
        fill(&broker, 0..COUNT * 3);
        cut(&log_file(home.path(), 0), len);
        let whole = usize::try_from(len / BATCH_BYTES).unwrap();
        let expected: Vec<_> = (0..whole).map(value).collect();
        // Beside the owner, after its kill, and in a group.
        assert_eq!(consume(home.path(), &["--from", "beginning"], || ()).0, expected);
        drop(broker);
        assert_eq!(consume(home.path(), &["--from", "beginning"], || ()).0, expected);
        assert_eq!(consume(home.path(), in_group, || ()).0, expected);
    }
}

/// It stands at the end, waits, and has nothing more to read in the file that is cut.
#[cfg(feature = "cli")]
#[test]
fn consume_that_follows_is_told_of_a_cut() {
    for len in [0, 5000] {
        let home = tempfile::tempdir().unwrap();
        let broker = filled(home.path());
        let (printed, _) = consume(home.path(), &["--follow", "--from", "beginning"], || {
            cut(&log_file(home.path(), 0), len);
        });
        assert_eq!(printed, (0..COUNT).map(value).collect::<Vec<_>>());
        drop(broker);
    }
}

/// Whether a child process that runs `test` for this directory was ended by SIGBUS, and what it
/// wrote to the standard error.
fn child(test: &str, dir: &Path) -> (bool, String) {
    use std::os::unix::process::ExitStatusExt;
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(ROLE, dir)
        .output()
        .unwrap();
    (child.status.signal() == Some(7), String::from_utf8_lossy(&child.stderr).into_owned())
}

#[test]
fn records_that_are_held_when_their_file_is_cut_name_it_before_the_process_ends() {
    let home = tempfile::tempdir().unwrap();
    let (by_signal, said) = child("cut::a_child_holds_records", home.path());
    assert!(by_signal, "{said}");
    let path = log_file(home.path(), 0);
    let line = said.lines().find(|line| line.contains(&path.display().to_string()));
    assert!(line.is_some_and(|line| line.starts_with("topiclite: records")), "{said}");
}

/// Does nothing unless this process was started to be ended.
#[test]
fn a_child_holds_records() {
    let Some(home) = std::env::var_os(ROLE) else { return };
    let broker = filled(Path::new(&home));
    let mut reader = broker.reader("t", 0, ReadFrom::Beginning).unwrap();
    let records = reader.read(Duration::ZERO).unwrap();
    assert_eq!(records.count(), COUNT);
    cut(&log_file(Path::new(&home), 0), 0);
    // Another reader meets the fault first, and its page does not become zeros for this one.
    let error = reads_up_to(&broker, 0).unwrap();
    told(&error, ErrorKind::StorageFailed, &["t-0"]);
    let sum: u64 = records.iter().flat_map(|r| r.value().unwrap().to_vec()).map(u64::from).sum();
    panic!("read {sum} from a file that is gone");
}

#[test]
fn a_broker_without_the_handler_ends_as_the_operating_system_has_it() {
    let home = tempfile::tempdir().unwrap();
    let (by_signal, said) = child("cut::a_child_has_no_handler", home.path());
    assert!(by_signal && !said.contains("topiclite: records"), "{said}");
}

/// Does nothing unless this process was started to be ended.
#[test]
fn a_child_has_no_handler() {
    let Some(home) = std::env::var_os(ROLE) else { return };
    let broker = topiclite::BrokerOptions::new().sigbus_handler(false).open(&home).unwrap();
    create(&broker, "t", "1000000").unwrap();
    fill(&broker, 0..COUNT);
    cut(&log_file(Path::new(&home), 0), 0);
    drop(send(&broker, "t", "no"));
    panic!("stored in a file that is gone");
}
