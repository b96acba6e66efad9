//! A test double for code that talks to Kafka: the same semantics, in memory, under virtual time,
//! with a journal of what happened, and with everything that may go wrong on demand.
//!
//! Run with `cargo run --features testing --example test_double`.

use std::collections::BTreeSet;
use std::time::Duration;
use topiclite::testing::{Crash, Fault, TestBroker};
use topiclite::time::Clock;
use topiclite::{
    Broker, Consumer, ConsumerConfig, ErrorKind, OffsetReset, Producer, ProducerConfig,
    ProducerRecord, Result, TopicConfig,
};

fn main() -> Result<()> {
    let mut test = TestBroker::new()?;
    test.admin().create_topic("jobs", 2, TopicConfig::default())?;
    let mut done = BTreeSet::new();

    // The code under test retries what may pass, and a test makes it happen: the second append
    // finds the disk full.
    let fault = test.inject(Fault::append().on("jobs").nth(2).fail(ErrorKind::StorageFull));
    let producer = test.producer(ProducerConfig::default())?;
    let clock = test.clock().clock();
    for job in ["wash", "dry", "fold", "iron"] {
        submit(&clock, &producer, job)?;
    }
    fault.assert_hit();

    // Two workers share the partitions. One dies without a word; its partitions go to the other
    // once its session of 45 seconds is over, which takes no time here.
    let (mut one, mut two) = (worker(&test, "one")?, worker(&test, "two")?);
    while one.assignment()?.len() != 1 || two.assignment()?.len() != 1 {
        work(&mut one, Duration::ZERO, &mut done)?;
        work(&mut two, Duration::ZERO, &mut done)?;
    }
    test.kill_consumer("two")?;
    assert_eq!(failure(two.commit_sync()), Some(ErrorKind::Closed));
    while one.assignment()?.len() != 2 {
        work(&mut one, Duration::from_secs(10), &mut done)?;
    }

    // A commit is made, but its answer is lost, and then the process is killed. What the worker
    // committed stands, and what was sent is there.
    submit(&clock, &producer, "starch")?;
    test.inject(Fault::commit().of_client("one").lose_reply());
    let lost = work(&mut one, Duration::from_secs(1), &mut done);
    assert_eq!(failure(lost), Some(ErrorKind::Timeout));
    submit(&clock, &producer, "mend")?;
    test.crash(Crash::Kill)?;
    assert_eq!(failure(submit(&clock, &producer, "late")), Some(ErrorKind::Closed));

    let mut three = worker(&test, "three")?;
    while !done.contains("mend") {
        work(&mut three, Duration::from_secs(1), &mut done)?;
    }
    let all = ["dry", "fold", "iron", "mend", "starch", "wash"];
    assert!(done.iter().eq(all), "{done:?}");
    three.close()?;

    test.journal().assert_in_order(&[
        "fault: fails with StorageFull, at append jobs-",
        "killed consumer two",
        "workers: two kicked out: session timeout",
        "workers: one assigned jobs-0, jobs-1",
        "fault: loses the reply, at commit of one in workers",
        "crashed: process killed",
        "workers: one kicked out: process gone",
        "workers: three left",
    ]);
    print!("{}", test.journal());
    println!("every job was done: {}", all.join(", "));
    Ok(())
}

/// Sends a job, and again after a pause where that may help, for a minute at most.
fn submit(clock: &Clock, producer: &Producer, job: &str) -> Result<()> {
    let give_up = clock.monotonic() + Duration::from_secs(60);
    let mut pause = Duration::from_millis(100);
    loop {
        match producer.send_sync(ProducerRecord::new("jobs").key(job).value(job)) {
            Err(error) if error.is_retriable() && clock.monotonic() < give_up => {
                clock.sleep(pause);
                pause = (pause * 2).min(Duration::from_secs(10));
            }
            sent => return sent.map(drop),
        }
    }
}

fn worker(broker: &Broker, name: &str) -> Result<Consumer> {
    let config = ConsumerConfig::new("workers")
        .client_id(name)
        .auto_offset_reset(OffsetReset::Earliest)
        .enable_auto_commit(false);
    let mut consumer = broker.consumer(config)?;
    consumer.subscribe(&["jobs"])?;
    Ok(consumer)
}

/// Does what there is to do, and commits it.
fn work(worker: &mut Consumer, patience: Duration, done: &mut BTreeSet<String>) -> Result<()> {
    let records = worker.poll(patience)?;
    let values = records.iter().filter_map(|record| record.value());
    done.extend(values.map(|value| String::from_utf8_lossy(value).into_owned()));
    if records.is_empty() {
        return Ok(());
    }
    worker.commit_sync()
}

fn failure(outcome: Result<()>) -> Option<ErrorKind> {
    outcome.err().map(|error| error.kind())
}
