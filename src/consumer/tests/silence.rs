//! What would look like silence is told once, and nothing else is.

use super::*;
use crate::config::TopicConfig;
use crate::producer::ProducerRecord;

fn broker() -> Broker {
    BrokerOptions::new().clock(VirtualClock::stepping().clock()).seed(1).in_memory().unwrap()
}

fn topic(broker: &Broker, partitions: i32, values: &[&str]) {
    broker.admin().create_topic("t", partitions, TopicConfig::default()).unwrap();
    let producer = broker.producer(crate::ProducerConfig::default()).unwrap();
    for value in values {
        producer.send_sync(ProducerRecord::new("t").partition(0).value(*value)).unwrap();
    }
}

fn consumer(broker: &Broker, properties: &[(&str, &str)]) -> Consumer {
    broker.consumer(ConsumerConfig::from_properties(properties.iter().copied()).unwrap()).unwrap()
}

fn member(broker: &Broker, topics: &[&str]) -> Consumer {
    let mut consumer = consumer(broker, &[("group.id", "g"), ("auto.offset.reset", "earliest")]);
    consumer.subscribe(topics).unwrap();
    consumer
}

/// What was told so far, after polls of all these consumers in turn.
fn told(broker: &Broker, consumers: &mut [&mut Consumer]) -> Vec<String> {
    for _ in 0..20 {
        consumers.iter_mut().for_each(|consumer| drop(consumer.poll(Duration::ZERO).unwrap()));
    }
    broker.health().warnings().map(str::to_owned).collect()
}

#[test]
fn a_topic_that_is_subscribed_to_and_does_not_exist_is_told_once() {
    let broker = broker();
    topic(&broker, 2, &["a"]);
    let (mut one, mut two) = (member(&broker, &["t", "typo"]), member(&broker, &["t", "typo"]));
    let texts = told(&broker, &mut [&mut one, &mut two]);
    assert_eq!(texts.len(), 1, "{texts:?}");
    assert!(texts[0].contains("\"g\"") && texts[0].contains("\"typo\""), "{texts:?}");
    assert!(broker.health().is_ok());
    // Another change of the metadata does not tell it again, and what is there is not told.
    broker.admin().create_topic("typo", 1, TopicConfig::default()).unwrap();
    assert_eq!(told(&broker, &mut [&mut one, &mut two]), texts);
}

#[test]
fn what_a_consumer_may_make_is_not_missing() {
    let options = BrokerOptions::from_properties([("auto.create.topics.enable", "true")]).unwrap();
    let broker = options.clock(VirtualClock::stepping().clock()).in_memory().unwrap();
    let mut member = member(&broker, &["made"]);
    let mut reader = consumer(&broker, &[]);
    reader.assign(&[TopicPartition::new("assigned", 0)]).unwrap();
    assert_eq!(told(&broker, &mut [&mut member, &mut reader]), Vec::<String>::new());
}

#[test]
fn a_partition_that_is_assigned_and_does_not_exist_is_told_once() {
    let world = World::new();
    world.put("t-0", 0, &[batch(0)]);
    let check = |broker: &Broker| {
        let mut reader = consumer(broker, &[("auto.offset.reset", "earliest")]);
        let (missing, typo) = (TopicPartition::new("t", 7), TopicPartition::new("typo", 0));
        reader.assign(&[t0(), missing, typo]).unwrap();
        assert_eq!(poll_all(&mut reader), [0]);
        let texts = told(broker, &mut [&mut reader]);
        let of = |name: &str| texts.iter().filter(|text| text.contains(name)).count();
        assert_eq!((of("t-7"), of("typo-0"), of("t-0")), (1, 1, 0), "{texts:?}");
    };
    check(&world.open());
    check(&world.attach());
}

#[test]
fn a_member_without_partitions_is_told_once() {
    let broker = broker();
    topic(&broker, 1, &["a"]);
    let (mut one, mut two) = (member(&broker, &["t"]), member(&broker, &["t"]));
    let mut three = member(&broker, &["t"]);
    let texts = told(&broker, &mut [&mut one, &mut two, &mut three]);
    assert_eq!(texts.len(), 1, "{texts:?}");
    assert!(texts[0].contains("more members than its topics have partitions (t)"), "{texts:?}");
}

#[test]
fn records_before_a_start_that_nobody_chose_are_told_once() {
    let starts: &[(&[(&str, &str)], usize)] = &[
        (&[("group.id", "g")], 1),
        (&[], 1),
        (&[("group.id", "g"), ("auto.offset.reset", "latest")], 0),
        (&[("group.id", "g"), ("auto.offset.reset", "earliest")], 0),
    ];
    for (properties, count) in starts {
        for values in [&["a", "b"][..], &[]] {
            let broker = broker();
            topic(&broker, 2, values);
            let mut consumer = consumer(&broker, properties);
            match properties.first() {
                Some(("group.id", _)) => consumer.subscribe(&["t"]).unwrap(),
                _ => consumer.assign(&[t0(), TopicPartition::new("t", 1)]).unwrap(),
            }
            let texts = told(&broker, &mut [&mut consumer]);
            let expected = if values.is_empty() { 0 } else { *count };
            assert_eq!(texts.len(), expected, "{properties:?} {values:?}: {texts:?}");
            assert!(texts.iter().all(|text| text.contains("auto.offset.reset is not set")));
        }
    }
}

#[test]
fn a_group_that_committed_begins_where_it_was_and_is_told_nothing() {
    let broker = broker();
    topic(&broker, 1, &["a", "b"]);
    let mut first = member(&broker, &["t"]);
    while first.poll(LONG).unwrap().is_empty() {}
    first.commit_sync().unwrap();
    first.close().unwrap();
    let mut again = consumer(&broker, &[("group.id", "g")]);
    again.subscribe(&["t"]).unwrap();
    assert_eq!(told(&broker, &mut [&mut again]), Vec::<String>::new());
}

#[test]
fn a_position_that_the_log_does_not_have_is_told_once() {
    let broker = broker();
    topic(&broker, 1, &["a", "b"]);
    let mut reader = assigned(&broker, &[]);
    for _ in 0..3 {
        reader.seek(&t0(), 9).unwrap();
        assert_eq!(poll_all(&mut reader), [0, 1]);
    }
    let texts = told(&broker, &mut [&mut reader]);
    assert_eq!(texts.len(), 1, "{texts:?}");
    assert!(texts[0].contains("t-0") && texts[0].contains("auto.offset.reset"), "{texts:?}");
}
