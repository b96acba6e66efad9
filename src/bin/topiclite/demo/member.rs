//! Producing the lines, and reading them as members of a group, each in its own thread.

use super::lines::{Lines, checksum};
use super::wire::{Delivery, Message};
use super::{GROUP, TOPIC, broken};
use crossbeam_channel::{Receiver, Sender};
use std::ops::Range;
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
/// How often a thread that waits looks whether it still should.
const LOOK: Duration = Duration::from_millis(50);

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
    /// Members that have been given partitions, by name.
    joined: Sender<&'static str>,
    tell: Tell,
}

/// Produces the lines from `first` on while members read and commit.
pub fn stream(broker: &Broker, lines: &Lines, first: u64, how: Streamed, tell: Tell) {
    let (produced, over) = (AtomicU64::new(first), AtomicBool::new(false));
    let (joined, joins) = crossbeam_channel::unbounded();
    let life = Life { broker, lines, produced, over, joined, tell };
    std::thread::scope(|scope| {
        let life = &life;
        let member = |name| scope.spawn(move || life.report(life.read(name, how)));
        member("first");
        member("second");
        let middle = lines.count() / 4;
        let outcome = match how {
            Streamed::ToTheEnd => life.produce(first..lines.count(), how),
            Streamed::UntilKilled => life.produce(first..middle, how).and_then(|()| {
                member("third");
                life.wait_for("third", &joins);
                life.produce(middle..lines.count(), how)
            }),
        };
        life.report(outcome);
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

    /// Waits until a member was given partitions, or something went wrong.
    fn wait_for(&self, name: &str, joins: &Receiver<&'static str>) {
        while !self.over.load(Ordering::Acquire) {
            match joins.recv_timeout(LOOK) {
                Ok(joined) if joined == name => return,
                _ => {}
            }
        }
    }

    fn produce(&self, numbers: Range<u64>, how: Streamed) -> Result<()> {
        let producer = self.broker.producer(ProducerConfig::default())?;
        let last = self.lines.count();
        for number in numbers {
            let label = number.to_be_bytes();
            let mut record =
                ProducerRecord::new(TOPIC).value(self.lines.line(number)).header(LINE, label);
            if let Some(key) = self.lines.key(number) {
                record = record.key(key);
            }
            producer.send(record)?.wait()?;
            self.produced.store(number + 1, Ordering::Release);
            if (number + 1) % ACKNOWLEDGE_EVERY == 0 || number + 1 == last {
                self.say(Message::Acknowledged(number + 1))?;
            }
            if how == Streamed::UntilKilled && number + 1 >= last - last / 10 {
                self.wait_for_the_kill()?;
            }
            if self.over.load(Ordering::Acquire) {
                break;
            }
        }
        producer.close()
    }

    /// The last tenth is never produced before the kill. A parent that is gone ends the wait.
    fn wait_for_the_kill(&self) -> Result<()> {
        while !self.over.load(Ordering::Acquire) {
            self.say(Message::Acknowledged(self.produced.load(Ordering::Acquire)))?;
            std::thread::park_timeout(LOOK);
        }
        Ok(())
    }

    fn read(&self, name: &'static str, how: Streamed) -> Result<()> {
        let config = ConsumerConfig::new(GROUP)
            .client_id(name)
            .auto_offset_reset(OffsetReset::Earliest)
            .enable_auto_commit(false)
            .max_poll_records(200);
        let mut consumer = self.broker.consumer(config)?;
        let (tell, joined) = (self.tell.clone(), self.joined.clone());
        consumer.subscribe_with(&[TOPIC], Teller { name, tell, joined })?;
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

/// Tells who owns what after each rebalance.
struct Teller {
    name: &'static str,
    tell: Tell,
    joined: Sender<&'static str>,
}

impl RebalanceListener for Teller {
    fn on_partitions_assigned(
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
        // In the second life nobody waits for it.
        let _unheard = self.joined.send(self.name);
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
