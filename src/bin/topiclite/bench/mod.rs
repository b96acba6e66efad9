//! `bench`: what this library does on this disk, in a directory of its own that goes afterwards.
//!
//! Under `--dir` the work is done in a new topic-less directory inside it, so that the disk
//! measured is the one that counts; without it in the temporary directory.

mod measured;
mod place;
mod progress;

use crate::args::{Bench, BenchAction, BenchWork, Options};
use crate::failure::Outcome;
use crate::interrupt::Interrupt;
use crate::output::Output;
use measured::{Calls, Measured};
use place::Place;
use progress::{LOOK_EVERY, Progress};
use std::time::{Duration, Instant};
use topiclite::{
    Broker, ConsumerConfig, Durability, OffsetReset, ProducerConfig, ProducerRecord, Result,
    TopicConfig, TopicPartition,
};

const TOPIC: &str = "bench";
/// How long a poll waits at most.
const PATIENCE: Duration = Duration::from_secs(1);

pub fn run(options: &Options, bench: &Bench, output: &Output) -> Outcome {
    let (name, work) = match &bench.action {
        BenchAction::Produce(work) => ("produce", work),
        BenchAction::Consume(work) => ("consume", work),
        BenchAction::Latency(work) => ("latency", work),
    };
    let durability = if work.durable { Durability::Power } else { Durability::Process };
    let config = TopicConfig::default().durability(durability);
    let place = Place::new(options.dir.as_deref())?;
    let interrupt = Interrupt::listen(|| {})?;
    let outcome = measure(bench, work, config, &place, &interrupt);
    place.remove();
    let measured = outcome?;
    if !interrupt.is_asked() {
        measured.show(name, work, output)?;
    }
    Ok(interrupt.exit_code())
}

fn measure(
    bench: &Bench,
    work: &BenchWork,
    config: TopicConfig,
    place: &Place,
    interrupt: &Interrupt,
) -> Result<Measured> {
    let broker = Broker::open(place.dir())?;
    broker.admin().create_topic(TOPIC, work.partitions, config)?;
    let measured = match &bench.action {
        BenchAction::Produce(_) => produce(&broker, work, interrupt)?,
        BenchAction::Consume(_) => {
            produce(&broker, work, interrupt)?;
            consume(&broker, work, interrupt)?
        }
        BenchAction::Latency(_) => latency(&broker, work, interrupt)?,
    };
    broker.close()?;
    Ok(measured)
}

fn produce(broker: &Broker, work: &BenchWork, interrupt: &Interrupt) -> Result<Measured> {
    let producer = broker.producer(ProducerConfig::default().compression_type(work.compression))?;
    let threads = work.threads as u64;
    let progress = Progress::new(work.records, "produce", interrupt);
    let start = Instant::now();
    let outcomes: Vec<Result<Calls>> = std::thread::scope(|scope| {
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
    let mut calls = Calls::new()?;
    for outcome in outcomes {
        calls.add(&outcome?)?;
    }
    Ok(Measured { records: work.records, bytes: work.records * work.size as u64, took, calls })
}

fn produce_share(
    producer: &topiclite::Producer,
    work: &BenchWork,
    thread: u64,
    share: u64,
    progress: &Progress<'_>,
) -> Result<Calls> {
    let mut calls = Calls::new()?;
    let value = value(work.size);
    let partitions = u64::try_from(work.partitions).unwrap_or(1);
    let (mut sent, mut told) = (0, 0);
    while sent < share && progress.goes_on() {
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
        calls.note(before.elapsed())?;
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

fn consume(broker: &Broker, work: &BenchWork, interrupt: &Interrupt) -> Result<Measured> {
    let config = ConsumerConfig::without_group().auto_offset_reset(OffsetReset::Earliest);
    let mut consumer = broker.consumer(config)?;
    let partitions: Vec<TopicPartition> =
        (0..work.partitions).map(|partition| TopicPartition::new(TOPIC, partition)).collect();
    consumer.assign(&partitions)?;
    let progress = Progress::new(work.records, "consume", interrupt);
    let mut calls = Calls::new()?;
    let (mut records, mut bytes) = (0, 0);
    let start = Instant::now();
    while records < work.records && progress.goes_on() {
        let before = Instant::now();
        let polled = consumer.poll(PATIENCE)?;
        calls.note(before.elapsed())?;
        records += polled.count() as u64;
        bytes += polled.iter().map(|r| r.value().map_or(0, <[u8]>::len) as u64).sum::<u64>();
        progress.advance(polled.count() as u64);
    }
    Ok(Measured { records, bytes, took: start.elapsed(), calls })
}

/// One record at a time, to a consumer in another thread that waits for it.
fn latency(broker: &Broker, work: &BenchWork, interrupt: &Interrupt) -> Result<Measured> {
    let producer = broker.producer(ProducerConfig::default().compression_type(work.compression))?;
    let config = ConsumerConfig::without_group().auto_offset_reset(OffsetReset::Earliest);
    let mut consumer = broker.consumer(config)?;
    consumer.assign(&[TopicPartition::new(TOPIC, 0)])?;
    let progress = Progress::new(work.records, "latency", interrupt);
    let value = value(work.size);
    let (arrived, arrivals) = crossbeam_channel::bounded(1);
    let start = Instant::now();
    let calls = std::thread::scope(|scope| {
        let reader = scope.spawn(move || -> Result<()> {
            let mut read = 0;
            while read < work.records && !interrupt.is_asked() {
                let count = consumer.poll(PATIENCE)?.count() as u64;
                read += count;
                if count > 0 && arrived.send(Instant::now()).is_err() {
                    break;
                }
            }
            Ok(())
        });
        let mut calls = Calls::new()?;
        for number in 0..work.records {
            if !progress.goes_on() {
                break;
            }
            let before = Instant::now();
            producer.send(ProducerRecord::new(TOPIC).partition(0).value(&value))?.wait()?;
            let Ok(at) = arrivals.recv() else { break };
            calls.note(at.saturating_duration_since(before))?;
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
