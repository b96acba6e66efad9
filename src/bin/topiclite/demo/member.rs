//! Producing the lines, and reading them as members of a group, each in its own thread.

use super::lines::{Lines, checksum};
use super::wire::{Delivery, Message};
use super::{GROUP, TOPIC, broken};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use topiclite::{
    Broker, Consumer, ConsumerConfig, ConsumerContext, IsolationLevel, ListenerError, OffsetReset,
    OffsetSpec, ProducerConfig, ProducerRecord, RebalanceListener, Result, TopicPartition,
};

/// The header that carries a line's number.
const LINE: &str = "line";
/// How many lines are produced between two acknowledgements to the parent.
const ACKNOWLEDGE_EVERY: u64 = 64;

/// How long to stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Streamed {
    /// With a third member that joins after a while; somebody is going to kill this process.
    UntilKilled,
    /// Until every line was delivered.
    ToTheEnd,
}

/// Tells the proof; returns once it cannot be lost, as a commit may follow.
pub type Tell = Arc<dyn Fn(Result<Message>) -> Result<()> + Send + Sync>;

/// What the threads of one life share.
struct Life<'a> {
    broker: &'a Broker,
    lines: &'a Lines,
    produced: AtomicU64,
    over: AtomicBool,
    tell: Tell,
}

/// Produces the lines from `first` on while members read and commit.
pub fn stream(broker: &Broker, lines: &Lines, first: u64, how: Streamed, tell: Tell) {
    let life =
        Life { broker, lines, produced: AtomicU64::new(first), over: AtomicBool::new(false), tell };
    std::thread::scope(|scope| {
        for name in ["first", "second"] {
            let life = &life;
            scope.spawn(move || life.report(life.read(name, how)));
        }
        if how == Streamed::UntilKilled {
            let life = &life;
            scope.spawn(move || {
                let quarter = life.lines.count() / 4;
                while life.produced.load(Ordering::Acquire) < quarter {
                    std::thread::yield_now();
                }
                life.report(life.read("third", how));
            });
        }
        life.report(life.produce(first, how));
    });
}

impl Life<'_> {
    /// Passes an error on; the parent stops at it.
    fn report(&self, outcome: Result<()>) {
        if let Err(error) = outcome {
            self.over.store(true, Ordering::Release);
            // A parent that is gone has no use for the error either.
            let _gone = (self.tell)(Err(error));
        }
    }

    fn say(&self, message: Message) -> Result<()> {
        (self.tell)(Ok(message))
    }

    fn produce(&self, first: u64, how: Streamed) -> Result<()> {
        let producer = self.broker.producer(ProducerConfig::default())?;
        let mut pause = Pace::new(how);
        for number in first..self.lines.count() {
            let label = number.to_be_bytes();
            let mut record =
                ProducerRecord::new(TOPIC).value(self.lines.line(number)).header(LINE, &label);
            if let Some(key) = self.lines.key(number) {
                record = record.key(key);
            }
            producer.send(record)?.wait()?;
            self.produced.store(number + 1, Ordering::Release);
            if (number + 1) % ACKNOWLEDGE_EVERY == 0 || number + 1 == self.lines.count() {
                self.say(Message::Acknowledged(number + 1))?;
                pause.after(self)?;
            }
            if self.over.load(Ordering::Acquire) {
                break;
            }
        }
        producer.close()
    }

    fn read(&self, name: &'static str, how: Streamed) -> Result<()> {
        let config = ConsumerConfig::new(GROUP)
            .client_id(name)
            .auto_offset_reset(OffsetReset::Earliest)
            .enable_auto_commit(false)
            .max_poll_records(200);
        let mut consumer = self.broker.consumer(config)?;
        consumer.subscribe_with(&[TOPIC], Teller { name, tell: self.tell.clone() })?;
        while !self.over.load(Ordering::Acquire) {
            let deliveries = self.poll(&mut consumer)?;
            if !deliveries.is_empty() {
                self.say(Message::Delivered(deliveries))?;
                commit(&mut consumer)?;
            } else if how == Streamed::ToTheEnd && self.all_committed()? {
                break;
            }
        }
        consumer.close()
    }

    fn poll(&self, consumer: &mut Consumer) -> Result<Vec<Delivery>> {
        let records = consumer.poll(Duration::from_millis(50))?;
        let mut deliveries = Vec::with_capacity(records.count());
        for record in &records {
            let label = record.headers().iter().find(|header| header.name() == LINE);
            let label = label.and_then(|header| header.value()).and_then(|v| v.try_into().ok());
            let line = u64::from_be_bytes(label.ok_or_else(|| broken("no line number".into()))?);
            deliveries.push(Delivery {
                line,
                partition: u32::try_from(record.partition()).unwrap_or(0),
                offset: u64::try_from(record.offset()).unwrap_or(0),
                checksum: checksum(record.value().unwrap_or_default()),
            });
        }
        Ok(deliveries)
    }

    /// Whether every line is produced and its partition committed behind it.
    fn all_committed(&self) -> Result<bool> {
        if self.produced.load(Ordering::Acquire) < self.lines.count() {
            return Ok(false);
        }
        let admin = self.broker.admin();
        let committed: i64 = admin.list_group_offsets(GROUP)?.values().map(|o| o.offset()).sum();
        Ok(committed >= i64::try_from(self.lines.count()).unwrap_or(i64::MAX))
    }
}

/// A commit that meets a rebalance is made again by whoever gets the partition.
fn commit(consumer: &mut Consumer) -> Result<()> {
    use topiclite::ErrorKind::{CommitFailed, RebalanceInProgress};
    match consumer.commit_sync() {
        Err(error) if matches!(error.kind(), CommitFailed | RebalanceInProgress) => Ok(()),
        other => other,
    }
}

/// Keeps the first life going until it is killed: a producer that is far ahead waits for the readers.
struct Pace {
    how: Streamed,
}

impl Pace {
    fn new(how: Streamed) -> Pace {
        Pace { how }
    }

    /// In the first life the last tenth is never produced before the kill.
    fn after(&mut self, life: &Life<'_>) -> Result<()> {
        let limit = life.lines.count() - life.lines.count() / 10;
        while self.how == Streamed::UntilKilled
            && life.produced.load(Ordering::Acquire) >= limit
            && !life.over.load(Ordering::Acquire)
        {
            std::thread::park_timeout(Duration::from_millis(20));
        }
        Ok(())
    }
}

/// Tells who owns what after each rebalance.
struct Teller {
    name: &'static str,
    tell: Tell,
}

impl RebalanceListener for Teller {
    fn assigned(
        &mut self,
        consumer: &mut ConsumerContext<'_>,
        partitions: &[TopicPartition],
    ) -> std::result::Result<(), ListenerError> {
        let numbers: Vec<String> = partitions.iter().map(|tp| tp.partition().to_string()).collect();
        let generation = consumer.group_metadata()?.generation_id();
        let owned = numbers.join(" ");
        let text =
            format!("generation {generation}: member \"{}\" owns partitions {owned}", self.name);
        // A parent that is gone is noticed at the next delivery.
        let _gone = (self.tell)(Ok(Message::Say(text)));
        Ok(())
    }
}

/// How many lines the topic holds.
pub fn count_stored(broker: &Broker) -> Result<u64> {
    let admin = broker.admin();
    let mut count = 0;
    for partition in 0..admin.describe_topic(TOPIC)?.partition_count() {
        let end = admin.list_offsets(
            TOPIC,
            partition,
            OffsetSpec::Latest,
            IsolationLevel::ReadUncommitted,
        )?;
        count += end.offset().and_then(|end| u64::try_from(end).ok()).unwrap_or(0);
    }
    Ok(count)
}

/// The first `stored` lines are all there, each once, byte for byte.
pub fn check_stored(broker: &Broker, lines: &Lines, stored: u64) -> Result<()> {
    let config = ConsumerConfig::without_group().auto_offset_reset(OffsetReset::Earliest);
    let mut consumer = broker.consumer(config)?;
    let count = broker.admin().describe_topic(TOPIC)?.partition_count();
    let partitions: Vec<TopicPartition> =
        (0..count).map(|p| TopicPartition::new(TOPIC, p)).collect();
    consumer.assign(&partitions)?;
    let mut seen = vec![false; usize::try_from(stored).unwrap_or(0)];
    let mut left = stored;
    while left > 0 {
        let records = consumer.poll(Duration::ZERO)?;
        for record in &records {
            let label = record.headers().iter().find(|header| header.name() == LINE);
            let label = label.and_then(|header| header.value()).and_then(|v| v.try_into().ok());
            let line = u64::from_be_bytes(label.ok_or_else(|| broken("no line number".into()))?);
            let place = usize::try_from(line).ok().and_then(|n| seen.get_mut(n));
            let fresh = place.is_some_and(|seen| !std::mem::replace(seen, true));
            if !fresh || record.value() != Some(lines.line(line)) {
                return Err(broken(format!("line {line} is stored twice or with other bytes")));
            }
            left -= 1;
        }
    }
    Ok(())
}
