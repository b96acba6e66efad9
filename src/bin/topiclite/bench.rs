//! `bench`: what this library does on this disk, in a directory of its own that goes afterwards.
//!
//! Under `--dir` the work is done in a new topic-less directory inside it, so that the disk
//! measured is the one that counts; without it in the temporary directory.

use crate::args::{Bench, BenchAction, BenchWork, Options};
use crate::output::Output;
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use topiclite::{
    Broker, Codec, ConsumerConfig, Durability, Error, ErrorKind, OffsetReset, ProducerConfig,
    ProducerRecord, Result, TopicConfig, TopicPartition,
};

const TOPIC: &str = "bench";
/// Nothing is drawn before so much time went by.
const QUIET: Duration = Duration::from_secs(1);
/// How often progress and the end of the work are looked at, in records.
const LOOK_EVERY: u64 = 1024;

pub fn run(options: &Options, bench: &Bench, output: &Output) -> Result<ExitCode> {
    let (name, work) = match &bench.action {
        BenchAction::Produce(work) => ("produce", work),
        BenchAction::Consume(work) => ("consume", work),
        BenchAction::Latency(work) => ("latency", work),
    };
    let config = check(work)?;
    let place = Place::new(options.dir.as_deref())?;
    let broker = Broker::open(&place.0)?;
    broker.admin().create_topic(TOPIC, work.partitions, config)?;
    let measured = match &bench.action {
        BenchAction::Produce(_) => produce(&broker, work)?,
        BenchAction::Consume(_) => {
            produce(&broker, work)?;
            consume(&broker, work)?
        }
        BenchAction::Latency(_) => latency(&broker, work)?,
    };
    broker.close()?;
    measured.show(name, work, output)?;
    Ok(ExitCode::SUCCESS)
}

/// The settings of the topic, once the numbers make sense.
fn check(work: &BenchWork) -> Result<TopicConfig> {
    let wrong = |what: &str| Err(Error::new(ErrorKind::IllegalArgument, what));
    if work.records == 0 || work.threads == 0 || work.batch == 0 || work.partitions < 1 {
        return wrong("--records, --threads, --batch and --partitions are at least 1");
    }
    codec(work)?;
    let durability = if work.durable { Durability::Power } else { Durability::Process };
    Ok(TopicConfig::default().durability(durability))
}

fn codec(work: &BenchWork) -> Result<Codec> {
    Codec::ALL.into_iter().find(|codec| codec.to_string() == work.compression).ok_or_else(|| {
        let names = "none, gzip, snappy, lz4 or zstd";
        let message = format!("--compression is {names}; not {}", work.compression);
        Error::new(ErrorKind::IllegalArgument, message)
    })
}

/// A directory that goes when the bench ends.
struct Place(PathBuf);

impl Place {
    fn new(given: Option<&Path>) -> Result<Place> {
        let parent = given.map_or_else(std::env::temp_dir, Path::to_path_buf);
        let dir = parent.join(format!("topiclite-bench-{}", std::process::id()));
        std::fs::create_dir_all(&dir).map_err(|e| Error::io(e, "making a directory", &dir))?;
        Ok(Place(dir))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // A leftover of a bench harms nobody, and its name says what it is.
        let _left = std::fs::remove_dir_all(&self.0);
    }
}

/// What came out: how long it took, and how long each call did, in nanoseconds.
struct Measured {
    records: u64,
    bytes: u64,
    took: Duration,
    calls: Histogram<u64>,
}

impl Measured {
    fn show(&self, name: &str, work: &BenchWork, output: &Output) -> Result<()> {
        let seconds = self.took.as_secs_f64().max(1e-9);
        let rate = self.records as f64 / seconds;
        let mib = self.bytes as f64 / seconds / f64::from(1 << 20);
        let percentiles = [50.0, 95.0, 99.0, 99.9, 100.0];
        let us = percentiles.map(|p| self.calls.value_at_percentile(p) as f64 / 1000.0);
        if output.json {
            return output.object(&json!({
                "bench": name,
                "records": self.records,
                "size": work.size,
                "partitions": work.partitions,
                "threads": work.threads,
                "batch": work.batch,
                "durable": work.durable,
                "compression": work.compression,
                "seconds": seconds,
                "records_per_second": rate,
                "mib_per_second": mib,
                "call_us": {"p50": us[0], "p95": us[1], "p99": us[2], "p99_9": us[3], "max": us[4]},
                "calls": Value::from(self.calls.len()),
            }));
        }
        output.line(&format!(
            "{name}: {} records of {} bytes in {seconds:.3} s, {rate:.0} records/s, {mib:.1} MiB/s",
            self.records, work.size
        ))?;
        let [p50, p95, p99, p999, max] = us;
        output.line(&format!(
            "per call, us: p50 {p50:.1}  p95 {p95:.1}  p99 {p99:.1}  p99.9 {p999:.1}  max {max:.1}"
        ))
    }
}

fn histogram() -> Result<Histogram<u64>> {
    let failed = |e| Error::new(ErrorKind::Kafka, format!("making a histogram: {e}"));
    Histogram::new(3).map_err(failed)
}

fn note(calls: &mut Histogram<u64>, since: Instant) {
    calls.saturating_record(u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX));
}

/// A bar on standard error for work that takes longer than a second.
struct Progress {
    bar: ProgressBar,
    start: Instant,
}

impl Progress {
    fn new(records: u64, what: &'static str) -> Progress {
        let bar = ProgressBar::with_draw_target(Some(records), ProgressDrawTarget::hidden());
        let style = ProgressStyle::with_template("{msg} [{wide_bar}] {human_pos} {per_sec} {eta}");
        if let Ok(style) = style {
            bar.set_style(style);
        }
        bar.set_message(what);
        Progress { bar, start: Instant::now() }
    }

    fn advance(&self, records: u64) {
        if self.bar.is_hidden() && self.start.elapsed() > QUIET {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.inc(records);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn produce(broker: &Broker, work: &BenchWork) -> Result<Measured> {
    let producer = broker.producer(ProducerConfig::default().compression_type(codec(work)?))?;
    let threads = work.threads as u64;
    let progress = Progress::new(work.records, "produce");
    let start = Instant::now();
    let outcomes: Vec<Result<Histogram<u64>>> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|thread| {
                let share = work.records / threads + u64::from(thread < work.records % threads);
                let (producer, progress) = (&producer, &progress);
                scope.spawn(move || produce_share(producer, work, thread, share, progress))
            })
            .collect();
        let joined = running.into_iter().map(std::thread::ScopedJoinHandle::join);
        joined
            .map(|outcome| outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    producer.close()?;
    let took = start.elapsed();
    let mut calls = histogram()?;
    for outcome in outcomes {
        let failed = |e| Error::new(ErrorKind::Kafka, format!("adding up: {e}"));
        calls.add(outcome?).map_err(failed)?;
    }
    Ok(Measured { records: work.records, bytes: work.records * work.size as u64, took, calls })
}

fn produce_share(
    producer: &topiclite::Producer,
    work: &BenchWork,
    thread: u64,
    share: u64,
    progress: &Progress,
) -> Result<Histogram<u64>> {
    let mut calls = histogram()?;
    let value = value(work.size);
    let partitions = u64::try_from(work.partitions).unwrap_or(1);
    let (mut sent, mut told) = (0, 0);
    while sent < share {
        let count = (work.batch as u64).min(share - sent);
        let partition =
            i32::try_from((thread + sent / work.batch as u64) % partitions).unwrap_or(0);
        let record = || ProducerRecord::new(TOPIC).partition(partition).value(&value);
        let before = Instant::now();
        if work.batch == 1 {
            producer.send(record())?.wait()?;
        } else {
            for future in producer.send_all((0..count).map(|_| record()))? {
                future.wait()?;
            }
        }
        note(&mut calls, before);
        sent += count;
        if sent - told >= LOOK_EVERY {
            progress.advance(sent - told);
            told = sent;
        }
    }
    Ok(calls)
}

/// Bytes that compress about as well as text does.
fn value(size: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let letter = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        b'a' + (state % 16) as u8
    };
    (0..size).map(letter).collect()
}

fn consume(broker: &Broker, work: &BenchWork) -> Result<Measured> {
    let config = ConsumerConfig::without_group().auto_offset_reset(OffsetReset::Earliest);
    let mut consumer = broker.consumer(config)?;
    let partitions: Vec<TopicPartition> =
        (0..work.partitions).map(|partition| TopicPartition::new(TOPIC, partition)).collect();
    consumer.assign(&partitions)?;
    let progress = Progress::new(work.records, "consume");
    let mut calls = histogram()?;
    let (mut records, mut bytes) = (0, 0);
    let start = Instant::now();
    while records < work.records {
        let before = Instant::now();
        let polled = consumer.poll(QUIET)?;
        note(&mut calls, before);
        records += polled.count() as u64;
        bytes += polled.iter().map(|r| r.value().map_or(0, <[u8]>::len) as u64).sum::<u64>();
        progress.advance(polled.count() as u64);
    }
    Ok(Measured { records, bytes, took: start.elapsed(), calls })
}

/// One record at a time, to a consumer in another thread that waits for it.
fn latency(broker: &Broker, work: &BenchWork) -> Result<Measured> {
    let producer = broker.producer(ProducerConfig::default().compression_type(codec(work)?))?;
    let config = ConsumerConfig::without_group().auto_offset_reset(OffsetReset::Earliest);
    let mut consumer = broker.consumer(config)?;
    consumer.assign(&[TopicPartition::new(TOPIC, 0)])?;
    let progress = Progress::new(work.records, "latency");
    let value = value(work.size);
    let (arrived, arrivals) = crossbeam_channel::bounded(1);
    let start = Instant::now();
    let calls = std::thread::scope(|scope| {
        let reader = scope.spawn(move || -> Result<()> {
            let mut read = 0;
            while read < work.records {
                let count = consumer.poll(QUIET)?.count() as u64;
                read += count;
                if count > 0 && arrived.send(Instant::now()).is_err() {
                    break;
                }
            }
            Ok(())
        });
        let mut calls = histogram()?;
        for number in 0..work.records {
            let before = Instant::now();
            producer.send(ProducerRecord::new(TOPIC).partition(0).value(&value))?.wait()?;
            let Ok(at) = arrivals.recv() else { break };
            let nanos = at.saturating_duration_since(before).as_nanos();
            calls.saturating_record(u64::try_from(nanos).unwrap_or(u64::MAX));
            if number % LOOK_EVERY == LOOK_EVERY - 1 {
                progress.advance(LOOK_EVERY);
            }
        }
        drop(arrivals);
        match reader.join() {
            Ok(outcome) => outcome.map(|()| calls),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })?;
    let took = start.elapsed();
    Ok(Measured { records: work.records, bytes: work.records * work.size as u64, took, calls })
}
