//! Calls that cannot succeed: too large, too late, or not understood.

use crate::place::*;
use std::time::Duration;
use topiclite::{
    Broker, BrokerOptions, ConsumerConfig, ErrorKind, ProducerConfig, ProducerRecord, ReadFrom,
    TopicConfig, TopicPartition,
};

#[test]
fn a_record_too_large_is_refused_and_the_next_one_goes_on() {
    let broker = Broker::in_memory().unwrap();
    let limits = TopicConfig::default().max_message_bytes(1000);
    broker.admin().create_topic("small", 1, limits).unwrap();
    broker.admin().create_topic("t", 1, TopicConfig::default()).unwrap();
    let kib = "x".repeat(2000);
    let error = send(&broker, "small", &kib).unwrap_err();
    told(&error, ErrorKind::RecordTooLarge, &["small-0", "max.message.bytes", "1000"]);
    assert!(!error.is_retriable());
    assert_eq!(send(&broker, "small", "fits").unwrap(), 0);
    let mib = "x".repeat(2 << 20);
    let error = send(&broker, "t", &mib).unwrap_err();
    told(&error, ErrorKind::RecordTooLarge, &["max.request.size", "1048576"]);
    let config = ProducerConfig::from_properties([("max.request.size", "100000000")]).unwrap();
    let producer = broker.producer(config).unwrap();
    let record = ProducerRecord::new("t").partition(0).value(&mib);
    let error = producer.send(record).unwrap().wait().unwrap_err();
    told(&error, ErrorKind::RecordTooLarge, &["t-0", "max.message.bytes"]);
    assert_eq!(send(&broker, "t", "fits").unwrap(), 0, "nothing of them took an offset");

    let segments = TopicConfig::from_properties([
        ("internal.segment.bytes", "500"),
        ("max.message.bytes", "100000"),
    ]);
    broker.admin().create_topic("segments", 1, segments.unwrap()).unwrap();
    let error = send(&broker, "segments", &kib).unwrap_err();
    told(&error, ErrorKind::RecordBatchTooLarge, &["segments-0", "segment.bytes"]);
    assert_eq!(send(&broker, "segments", "fits").unwrap(), 0);
}

#[test]
fn every_closed_handle_says_so() {
    let broker = Broker::in_memory().unwrap();
    let admin = broker.admin();
    create(&broker, "t", "600").unwrap();
    fill(&broker, 0..3);
    let t0 = TopicPartition::new("t", 0);
    let consumer = || broker.consumer(ConsumerConfig::new("g")).unwrap();
    let producer = broker.producer(ProducerConfig::default()).unwrap();
    let record = || ProducerRecord::new("t").partition(0).value("v");

    // A handle that was closed by itself, beside a broker that is open.
    let mut closed = consumer();
    closed.close().unwrap();
    closed.close().unwrap();
    let closed_kind = |error: topiclite::Error| {
        told(&error, ErrorKind::Closed, &["closed"]);
        assert!(error.is_fatal());
    };
    closed_kind(closed.poll(Duration::ZERO).unwrap_err());
    closed_kind(closed.subscribe(&["t"]).unwrap_err());
    closed_kind(closed.commit_sync().unwrap_err());
    closed_kind(closed.seek(&t0, 0).unwrap_err());
    producer.close().unwrap();
    let refused = producer.send(record()).map(drop).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::IllegalState, "as Kafka names it");
    assert_eq!(refused.record().unwrap().topic(), "t", "the record comes back");

    // Handles of a broker that was closed under them.
    let (mut late, mut assigned) = (consumer(), consumer());
    late.subscribe(&["t"]).unwrap();
    assigned.assign(std::slice::from_ref(&t0)).unwrap();
    let mut reader = broker.reader("t", 0, ReadFrom::Beginning).unwrap();
    let producer = broker.producer(ProducerConfig::default()).unwrap();
    broker.close().unwrap();
    broker.close().unwrap();
    closed_kind(late.poll(Duration::ZERO).unwrap_err());
    closed_kind(assigned.poll(Duration::ZERO).unwrap_err());
    closed_kind(reader.read(Duration::ZERO).unwrap_err());
    let sent = producer.send(record()).map(|sent| sent.wait());
    let kind = match sent {
        Ok(outcome) => outcome.unwrap_err().kind(),
        Err(refused) => refused.kind(),
    };
    assert_eq!(kind, ErrorKind::Closed);
    closed_kind(admin.list_topics().unwrap_err());
    closed_kind(admin.create_topic("u", 1, TopicConfig::default()).unwrap_err());
    closed_kind(broker.flush().unwrap_err());
    closed_kind(broker.producer(ProducerConfig::default()).map(drop).unwrap_err());
    closed_kind(broker.consumer(ConsumerConfig::new("g")).map(drop).unwrap_err());
    // Closing what is left does nothing and says nothing.
    late.close().unwrap();
    drop((assigned, reader, producer));
}

#[test]
fn a_bad_setting_is_refused_by_name_with_what_would_do() {
    let refused = |outcome: topiclite::Result<()>, parts: &[&str]| {
        told(&outcome.unwrap_err(), ErrorKind::InvalidConfig, parts);
    };
    let broker = |set: &[(&str, &str)]| {
        BrokerOptions::from_properties(set.iter().copied())
            .and_then(|options| options.in_memory().map(drop))
    };
    refused(broker(&[("log.flush.intervall.ms", "1")]), &["log.flush.interval.ms"]);
    refused(broker(&[("log.flush.interval.ms", "soon")]), &["log.flush.interval.ms", "soon"]);
    refused(broker(&[("log.segment.bytes", "-1")]), &["log.segment.bytes", "-1"]);
    let consumer = |set: &[(&str, &str)]| ConsumerConfig::from_properties(set.iter().copied());
    refused(consumer(&[("group.idd", "g")]).map(drop), &["group.id"]);
    refused(consumer(&[("max.poll.records", "0")]).map(drop), &["max.poll.records", "0"]);
    refused(consumer(&[("auto.offset.reset", "oldest")]).map(drop), &["auto.offset.reset"]);
    let producer = |set: &[(&str, &str)]| ProducerConfig::from_properties(set.iter().copied());
    refused(producer(&[("acks", "2")]).map(drop), &["acks", "2"]);
    refused(producer(&[("linger", "2")]).map(drop), &["linger.ms"]);
    let topic = TopicConfig::from_properties([("retention.ms", "-2")]).map(drop).unwrap_err();
    assert!(topic.to_string().contains("retention.ms"), "{topic}");
}

/// A few bytes that unpack to many are no damage, and there is a setting for how many.
#[test]
#[cfg(feature = "zstd")]
fn a_batch_that_unpacks_to_twenty_megabytes_is_stored_and_read_up_to_a_setting() {
    let sim = topiclite::storage::Sim::new();
    let broker = open(&sim);
    broker.admin().create_topic("t", 1, TopicConfig::default()).unwrap();
    let set = [
        ("compression.type", "zstd"),
        ("max.request.size", "40000000"),
        ("buffer.memory", "100000000"),
    ];
    let producer = broker.producer(ProducerConfig::from_properties(set).unwrap()).unwrap();
    let large = "x".repeat(20_000_000);
    for value in [&large, "next"] {
        let record = ProducerRecord::new("t").partition(0).value(value);
        producer.send(record).unwrap().wait().unwrap();
    }
    producer.close().unwrap();
    broker.close().unwrap();
    for broker in [attach(&sim), open(&sim)] {
        let (values, error) = read(&broker, "t");
        assert_eq!(error.map(|error| error.to_string()), None);
        assert!(values == [large.as_str(), "next"]);
    }
    assert!(attach(&sim).admin().verify_partition("t", 0).unwrap().is_empty());

    let setting = "log.batch.uncompressed.max.bytes";
    let limited = || {
        let options = BrokerOptions::from_properties([(setting, "10000000")]).unwrap();
        options.storage(std::sync::Arc::new(sim.clone()))
    };
    for broker in [limited().attach(DIR).unwrap(), limited().open(DIR).unwrap()] {
        let (values, error) = read(&broker, "t");
        assert!(values.is_empty());
        told(&error.unwrap(), ErrorKind::RecordTooLarge, &["t-0", setting, "10000000"]);
        let mut reader = broker.reader("t", 0, ReadFrom::Offset(1)).unwrap();
        assert_eq!(reader.next(Duration::ZERO).unwrap().unwrap().value(), Some(&b"next"[..]));
        broker.close().unwrap();
    }
    let findings = limited().attach(DIR).unwrap().admin().verify_partition("t", 0).unwrap();
    let found: Vec<_> = findings.iter().map(|found| (found.kind.name(), found.offset)).collect();
    assert_eq!(found, [("too-large", Some(0))]);
    assert!(findings[0].message.contains(setting), "{}", findings[0]);
}
