//! `demo`: the main job end to end, with a real kill in the middle.
//!
//! The lines of a text file stream through a topic of six partitions, keyed by their first word,
//! to a
//! group of two members in two threads; a third joins; then the process that does all this is
//! killed
//! with SIGKILL, and this one opens the directory and goes on where it stopped. What was delivered
//! is
//! told to this process through a pipe before it is committed, so the proof at the end does not
//! depend
//! on the process that died.

mod child;
mod lines;
mod member;
mod proof;
mod wire;

use crate::args::{Demo, Options};
use crate::failure::Outcome;
use crate::interrupt;
use crate::output::Output;
use lines::Lines;
use member::{Streamed, stream};
use proof::Proof;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Instant;
use topiclite::{
    Broker, Error, ErrorKind, IsolationLevel, OffsetSpec, ProducerConfig, Result, TopicConfig,
};
use wire::Message;

/// The topic that the lines go through.
pub const TOPIC: &str = "lines";
/// The group that reads them.
pub const GROUP: &str = "readers";
/// How many partitions the topic has.
const PARTITIONS: i32 = 6;
/// Records of the closing measurement.
const MEASURED: usize = 500_000;

/// A directory that goes when the demo ends, unless the user named one.
struct Workplace {
    root: PathBuf,
    dir: PathBuf,
}

impl Workplace {
    fn new(given: Option<&Path>) -> Result<Workplace> {
        let root = std::env::temp_dir().join(format!("topiclite-demo-{}", std::process::id()));
        std::fs::create_dir_all(&root).map_err(|e| Error::io(e, "making a directory", &root))?;
        let dir = given.map_or_else(|| root.join("data"), Path::to_path_buf);
        Ok(Workplace { root, dir })
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        // A leftover in the temporary directory harms nobody, and there is nobody to tell.
        let _left = std::fs::remove_dir_all(&self.root);
    }
}

pub fn run(options: &Options, demo: &Demo, output: &Output) -> Outcome {
    if demo.child.is_some() {
        return child::run(options, demo);
    }
    let started = Instant::now();
    let place = Workplace::new(options.dir.as_deref())?;
    let root = place.root.clone();
    interrupt::end_with(move || drop(std::fs::remove_dir_all(root)))?;
    let (input, lines) = lines_of(demo, place.root.join("lines.txt"))?;
    let say = |text: String| {
        let said = match output.json {
            true => output.object(&json!({ "message": text.trim() })),
            // A line shows control characters; the break between two parts is none of its text.
            false => text.split('\n').try_for_each(|line| output.line(line)),
        };
        said.and_then(|()| output.flush())
    };
    say(format!("Directory {}", place.dir.display()))?;
    say(format!("Input     {} lines, {} keys", lines.count(), lines.keys()))?;
    create(&place.dir)?;
    say(format!(
        "\n1. Topic \"{TOPIC}\" with {PARTITIONS} partitions; a line's first word is its key."
    ))?;

    say("\n2. A child process produces, and reads as two members; a third joins.".into())?;
    let mut proof = Proof::new(&lines);
    let acknowledged = first_life(&place.dir, &input, &lines, &mut proof, &say)?;

    say("\n4. The directory is opened again.".into())?;
    let opening = Instant::now();
    let broker = Broker::open(&place.dir)?;
    let opened = opening.elapsed();
    let stored = member::count_stored(&broker)?;
    say(format!("   opened in {:.2} ms", opened.as_secs_f64() * 1000.0))?;
    say(format!("   {acknowledged} lines were acknowledged before the kill, {stored} are stored"))?;
    if stored < acknowledged {
        let lost = format!("{} acknowledged lines are gone", acknowledged - stored);
        return Err(broken(lost).into());
    }
    member::check_stored(&broker, &lines, stored)?;
    say("   every stored line is that of the input, byte for byte; none is missing".into())?;

    say("\n5. Two new members go on from the committed offsets; the rest is produced.".into())?;
    second_life(&broker, &lines, stored, &mut proof, &say)?;
    lag(&broker, &say)?;

    say("\n6. The proof.".into())?;
    for line in proof.conclude()? {
        say(format!("   {line}"))?;
    }
    say("\n7. How fast, with 100-byte values, one record a call.".into())?;
    measure(&broker, &say)?;
    broker.close()?;
    let seconds = started.elapsed().as_secs_f64();
    match output.json {
        true => output.object(&json!({
            "lines": lines.count(),
            "keys": lines.keys(),
            "acknowledged_before_kill": acknowledged,
            "stored_after_kill": stored,
            "delivered": proof.distinct(),
            "delivered_again": proof.deliveries() - proof.distinct(),
            "checksum": format!("{:016x}", proof.checksum()),
            "seconds": seconds,
        }))?,
        false => say(format!("\nDone in {seconds:.1} s."))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The file that both processes read their lines from, and the lines.
fn lines_of(demo: &Demo, copy: PathBuf) -> Outcome<(PathBuf, Lines)> {
    Ok(match &demo.input {
        None => {
            lines::make_up(&copy)?;
            let lines = Lines::read(&copy)?;
            (copy, lines)
        }
        Some(path) if path.is_file() => (path.clone(), Lines::read(path)?),
        // A pipe can be read once, and the child process wants it too.
        Some(path) => {
            let bytes = std::fs::read(path).map_err(|e| Error::io(e, "reading the input", path))?;
            std::fs::write(&copy, bytes).map_err(|e| Error::io(e, "copying the input", &copy))?;
            let lines = Lines::read(&copy)?;
            (copy, lines)
        }
    })
}

pub fn broken(what: String) -> Error {
    Error::new(ErrorKind::Kafka, format!("the demo found a broken promise: {what}"))
}

fn create(dir: &Path) -> Result<()> {
    let broker = Broker::open(dir)?;
    broker.admin().create_topic(TOPIC, PARTITIONS, TopicConfig::default())?;
    broker.close()
}

/// Runs the child until half of the lines were delivered, then kills it; how many lines it had
/// acknowledged.
fn first_life(
    dir: &Path,
    input: &Path,
    lines: &Lines,
    proof: &mut Proof<'_>,
    say: &dyn Fn(String) -> Result<()>,
) -> Result<u64> {
    let program = std::env::current_exe()
        .map_err(|e| Error::io(e, "finding this program", Path::new("/proc/self/exe")))?;
    let mut child = Command::new(&program)
        .arg("--dir")
        .arg(dir)
        .args(["demo", "--child", "stream", "--input"])
        .arg(input)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| Error::io(e, "starting the child process", &program))?;
    let mut pipe = child.stdout.take().ok_or_else(|| broken("the child has no pipe".into()))?;
    let mut acknowledged = 0;
    let half = lines.count() / 2;
    let (mut killed, mut third_joined) = (false, false);
    while let Some(message) = wire::read(&mut pipe)? {
        match message {
            Message::Say(text) => {
                third_joined |= text.contains("\"third\" owns");
                say(format!("   {text}"))?;
            }
            Message::Acknowledged(count) => acknowledged = count,
            Message::Delivered(deliveries) => proof.delivered(&deliveries)?,
        }
        if !killed && third_joined && proof.distinct() >= half {
            killed = true;
            say(format!("\n3. kill -9 after {} of {} lines.", proof.distinct(), lines.count()))?;
            child.kill().map_err(|e| Error::io(e, "killing the child", &program))?;
        }
    }
    let status = child.wait().map_err(|e| Error::io(e, "waiting for the child", &program))?;
    if !killed {
        return Err(broken(format!("the child ended by itself: {status}")));
    }
    say(format!("   the child: {status}; {} deliveries were told before it", proof.deliveries()))?;
    Ok(acknowledged)
}

fn second_life(
    broker: &Broker,
    lines: &Lines,
    stored: u64,
    proof: &mut Proof<'_>,
    say: &dyn Fn(String) -> Result<()>,
) -> Result<()> {
    let (sender, receiver) = crossbeam_channel::unbounded();
    std::thread::scope(|scope| {
        let tell = Arc::new(move |message| {
            sender.send(message).map_err(|_| broken("the proof ended early".into()))
        });
        scope.spawn(move || stream(broker, lines, stored, Streamed::ToTheEnd, tell));
        for message in receiver {
            match message? {
                Message::Say(text) => say(format!("   {text}"))?,
                Message::Acknowledged(_) => {}
                Message::Delivered(deliveries) => proof.delivered(&deliveries)?,
            }
        }
        Ok(())
    })
}

fn lag(broker: &Broker, say: &dyn Fn(String) -> Result<()>) -> Result<()> {
    let admin = broker.admin();
    let mut lag = 0;
    for (partition, committed) in &admin.list_group_offsets(GROUP)? {
        let (topic, number) = (partition.topic(), partition.partition());
        let isolation = IsolationLevel::ReadUncommitted;
        let end = admin.list_offsets(topic, number, OffsetSpec::Latest, isolation)?;
        lag += end.offset().unwrap_or(0) - committed.offset();
    }
    say(format!("   lag of the group \"{GROUP}\" over all partitions: {lag}"))
}

/// Appends and reads back, timed as a user would see it.
fn measure(broker: &Broker, say: &dyn Fn(String) -> Result<()>) -> Result<()> {
    use topiclite::{ConsumerConfig, OffsetReset, ProducerRecord, TopicPartition};
    broker.admin().create_topic("measured", 1, TopicConfig::default())?;
    let producer = broker.producer(ProducerConfig::default())?;
    let value = [b'x'; 100];
    let start = Instant::now();
    for _ in 0..MEASURED {
        let record = ProducerRecord::new("measured").partition(0).value(&value[..]);
        producer.send(record)?.wait()?;
    }
    let append = start.elapsed();
    let config = ConsumerConfig::without_group().auto_offset_reset(OffsetReset::Earliest);
    let mut consumer = broker.consumer(config)?;
    consumer.assign(&[TopicPartition::new("measured", 0)])?;
    let (mut count, mut bytes) = (0, 0);
    let start = Instant::now();
    while count < MEASURED {
        for record in &consumer.poll(std::time::Duration::ZERO)? {
            count += 1;
            bytes += record.value().map_or(0, <[u8]>::len);
        }
    }
    let read = start.elapsed();
    let rate = |took: std::time::Duration| MEASURED as f64 / took.as_secs_f64() / 1e6;
    say(format!("   append  {:.2} million records a second", rate(append)))?;
    say(format!("   consume {:.2} million records a second, {bytes} bytes", rate(read)))
}
