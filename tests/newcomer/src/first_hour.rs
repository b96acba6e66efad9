//! The first hour: sends in every kind of function, records kept and forwarded, settings by name.

use anyhow::Context as _;
use std::collections::VecDeque;
use std::error::Error as _;
use std::time::Duration;
use topiclite::{
    Broker, Consumer, ConsumerConfig, ErrorKind, OffsetReset, OwnedConsumerRecord, Producer,
    ProducerConfig, ProducerRecord, RecordMetadata, SharedRecord, TopicConfig, TopicPartition,
};

/// Everything, in order.
pub fn all() -> anyhow::Result<()> {
    let broker = Broker::in_memory()?;
    let admin = broker.admin();
    for topic in ["orders", "copies"] {
        admin.create_topic(topic, 1, TopicConfig::default().retention(Duration::from_secs(60)))?;
    }
    let config = ProducerConfig::default().linger(Duration::ZERO).with("batch.size", 1000)?;
    let producer = broker.producer(config)?;
    assert_eq!(with_anyhow(&producer)?.offset(), 1);
    with_a_box(&producer).map_err(|error| anyhow::anyhow!("{error}"))?;
    with_an_enum(&producer).context("an enum")?;
    as_io(&producer)?;
    Outbox::default().run(&producer)?;
    payloads(&producer)?;
    failures(&producer);
    let count = forward(&broker, &producer)?;
    anyhow::ensure!(count == 15, "{count} records");
    Ok(())
}

fn with_anyhow(producer: &Producer) -> anyhow::Result<RecordMetadata> {
    let (key, value) = (String::from("alice"), String::from("one tea"));
    let record = ProducerRecord::new("orders").key(&key).value(&value);
    producer.send(record)?.wait()?;
    let record = ProducerRecord::new("orders").key(&key).value(&value);
    Ok(producer.send_sync(record)?)
}

fn with_a_box(producer: &Producer) -> Result<(), Box<dyn std::error::Error>> {
    let (key, value) = (String::from("alice"), String::from("one tea"));
    producer.send(ProducerRecord::new("orders").key(&key).value(&value))?.wait()?;
    producer.send_sync(ProducerRecord::new("orders").key(&key).value(&value))?;
    let offset: TopicPartition = "orders-0".parse()?;
    assert_eq!(offset.partition(), 0);
    Ok(())
}

/// What `#[from] topiclite::Error` derives.
#[derive(Debug)]
enum Failure {
    Topiclite(topiclite::Error),
}

impl From<topiclite::Error> for Failure {
    fn from(error: topiclite::Error) -> Failure {
        Failure::Topiclite(error)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the order was not placed")
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let Failure::Topiclite(error) = self;
        Some(error)
    }
}

fn with_an_enum(producer: &Producer) -> Result<(), Failure> {
    let (key, value) = (String::from("bob"), String::from("two teas"));
    producer.send(ProducerRecord::new("orders").key(&key).value(&value))?.wait()?;
    producer.send_sync(ProducerRecord::new("orders").key(key).value(value))?;
    Ok(())
}

fn as_io(producer: &Producer) -> std::io::Result<()> {
    producer.send_sync(ProducerRecord::new("orders").value("io"))?;
    let error = producer.send_sync(ProducerRecord::new("typo").value("io")).unwrap_err();
    assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::NotFound);
    Ok(())
}

/// Records that wait in a struct.
#[derive(Default)]
struct Outbox {
    waiting: VecDeque<ProducerRecord<'static>>,
}

impl Outbox {
    fn add(&mut self, customer: &str, order: String) {
        let record =
            ProducerRecord::new("orders").key(customer).value(order).header("by", "outbox");
        self.waiting.push_back(record.into_owned());
    }

    fn run(mut self, producer: &Producer) -> anyhow::Result<()> {
        for n in 0..3 {
            self.add(&format!("customer {n}"), format!("order {n}"));
        }
        let (to, from) = std::sync::mpsc::channel::<ProducerRecord<'static>>();
        to.send(self.waiting.pop_front().context("three wait")?)?;
        std::thread::scope(|scope| {
            let worker = scope.spawn(move || producer.send_sync(from.recv()?).context("a worker"));
            worker.join().expect("it does not panic")
        })?;
        let records = self.waiting.drain(..);
        for future in producer.send_all(records)? {
            future.wait()?;
        }
        Ok(())
    }
}

fn payloads(producer: &Producer) -> topiclite::Result<()> {
    let (id, note) = (7_u64, None::<&str>);
    let record = ProducerRecord::new("orders").key(id.to_be_bytes()).value(vec![1, 2, 3]);
    producer.send_sync(record.header("note", note).header("id", id.to_le_bytes()))?;
    producer.send_sync(ProducerRecord::new("orders").key(note).value(note))?;
    producer.send_sync(ProducerRecord::new(String::from("orders")).value(Some("some")))?;
    let told = |sent: &topiclite::Result<RecordMetadata>| assert!(sent.is_ok());
    producer.send_with(ProducerRecord::new("orders").value("callback"), told)?.wait()?;
    Ok(())
}

fn failures(producer: &Producer) {
    let secret = "hunter2".repeat(1000);
    let refused = producer.send_sync(ProducerRecord::new("ordres").value(&secret)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::UnknownTopicOrPartition);
    assert!(!refused.is_retriable(), "a loop over what is retriable ends");
    assert_eq!((refused.topic(), refused.partition()), (Some("ordres"), None));
    assert_eq!((refused.offset(), refused.path(), refused.position()), (None, None, None));
    assert!(refused.source().is_none());
    assert_eq!(refused.kind().to_string(), "unknown topic or partition");
    let texts = [format!("{refused:?}"), format!("{:?}", refused.record()), refused.to_string()];
    assert!(texts.iter().all(|text| text.len() < 300 && !text.contains("hunter2")), "{texts:?}");
    let chain = format!("{:#}", anyhow::Error::from(refused.clone()).context("placing an order"));
    assert_eq!(chain.matches("there is no such topic").count(), 1, "{chain}");
    let record = refused.into_record().expect("a send's error has its record");
    let sent = producer.send_sync(record.with_topic("orders")).expect("there is that topic");
    assert_eq!(sent.partition(), 0);

    let file = std::env::current_exe().expect("a file");
    let refused = Broker::open(&file).unwrap_err();
    assert!(!refused.is_retriable());
    let cause = refused.io_error().expect("the operating system refused").to_string();
    let chain = format!("{:#}", anyhow::Error::from(refused));
    assert_eq!(chain.matches(&cause).count(), 1, "{chain}");
}

/// Copies every order, and commits each record behind its copy.
fn forward(broker: &Broker, producer: &Producer) -> anyhow::Result<usize> {
    let config = ConsumerConfig::new("copier")
        .auto_offset_reset(OffsetReset::Earliest)
        .max_poll_interval(Duration::from_secs(60))
        .with("enable.auto.commit", false)?;
    let mut consumer: Consumer = broker.consumer(config)?;
    consumer.subscribe(&["orders"])?;
    let (mut kept, mut shared) = (Vec::<OwnedConsumerRecord>::new(), Vec::<SharedRecord>::new());
    loop {
        let records = consumer.poll(Duration::from_millis(100))?;
        if records.is_empty() {
            break;
        }
        for record in &records {
            let copy = ProducerRecord::from(&record).with_topic("copies").header("via", "copier");
            let copied = producer.send_sync(copy)?;
            assert_eq!(copied.timestamp(), record.timestamp());
            consumer.commit_record(&record)?;
            shared.push(record.share());
        }
        assert_eq!(records.len(), records.count());
        kept.extend(records);
    }
    for (kept, shared) in kept.iter().zip(&shared) {
        assert_eq!((kept.topic(), kept.offset()), (shared.topic(), shared.offset()));
        assert_eq!(kept.timestamp_type(), shared.timestamp_type());
        assert_eq!(kept.headers().len(), shared.headers().len());
        producer.send_sync(ProducerRecord::from(kept).with_topic("copies"))?;
        producer.send_sync(ProducerRecord::from(shared).with_topic("copies"))?;
    }
    let by = kept.iter().filter(|record| {
        record.header("by").is_some_and(|header| header.value() == Some(b"outbox"))
    });
    assert_eq!(by.count(), 3);
    Ok(kept.len())
}
