//! Close in its forms, and the end without one.

use super::*;

const LINGERS: &[(&str, &str)] = &[("linger.ms", "60000"), ("delivery.timeout.ms", "120000")];

#[test]
fn close_sends_what_lingers() {
    let world = World::new();
    world.topic("t", 1, &[]);
    let producer = world.producer(LINGERS);
    let told = Told::default();
    for value in ["1", "2"] {
        drop(producer.send_with(to(0, value), told.callback()).unwrap());
    }
    producer.close().unwrap();
    assert_eq!(told.take(), [Ok(0), Ok(1)]);
    assert_eq!(world.values("t", 0), ["1", "2"]);
    assert_eq!(world.clock.now().mono, Duration::ZERO);
}

#[test]
fn close_with_no_time_drops_what_lingers() {
    let world = World::new();
    world.topic("t", 1, &[]);
    let producer = world.producer(LINGERS);
    let told = Told::default();
    let future = producer.send_with(to(0, "1"), told.callback()).unwrap();
    drop(producer.send_with(to(0, "2"), told.callback()).unwrap());
    producer.close_timeout(Duration::ZERO).unwrap();
    assert_eq!(told.take(), [Err("KafkaException"), Err("KafkaException")]);
    assert_eq!(future.wait().unwrap_err().record().unwrap().value_bytes(), Some(&b"1"[..]));
    assert_eq!(world.end("t", 0), 0);
}

#[test]
fn close_gives_what_cannot_be_stored_its_timeout() {
    use crate::storage::faults::{Call, Failure, Rule};
    let (world, fault) = World::faulty();
    world.topic("t", 1, &[]);
    let producer = world.producer(LINGERS);
    fault.fail(Rule::nth(0, Failure::Full).of(&[Call::Create]).on("t-0").sticky());
    let told = Told::default();
    drop(producer.send_with(to(0, "1"), told.callback()).unwrap());
    producer.close_timeout(ms(2500)).unwrap();
    assert_eq!(told.take(), [Err("KafkaException")]);
    assert_eq!(world.clock.now().mono, ms(2500));
}

#[test]
fn a_closed_producer_refuses_everything_but_another_close() {
    let world = World::new();
    world.topic("t", 1, &[]);
    let producer = world.producer(&[]);
    let clone = producer.clone();
    producer.send(to(0, "a")).unwrap().wait().unwrap();
    producer.close().unwrap();
    let refused = clone.send(to(0, "b")).unwrap_err();
    assert_eq!(refused.kafka_name(), "IllegalStateException");
    assert_eq!(refused.into_record().unwrap().value_bytes(), Some(&b"b"[..]));
    assert_eq!(kind(producer.send_all([to(0, "b")])), ErrorKind::IllegalState);
    assert_eq!(kind(producer.partitions_for("t")), ErrorKind::IllegalState);
    producer.flush().unwrap();
    producer.close().unwrap();
    producer.close_timeout(Duration::ZERO).unwrap();
    assert_eq!(world.values("t", 0), ["a"]);
}

#[test]
fn close_inside_a_callback_takes_no_time() {
    let world = World::new();
    world.topic("t", 2, &[]);
    let producer = world.producer(LINGERS);
    let told = Told::default();
    let closer = producer.clone();
    let first = producer.send_with(to(0, "a"), move |_| closer.close().unwrap()).unwrap();
    producer.flush().unwrap();
    assert_eq!(first.wait().unwrap().offset(), 0);
    assert_eq!(kind(producer.send_with(to(1, "b"), told.callback())), ErrorKind::IllegalState);
}

#[test]
fn dropping_the_last_handle_appends_what_lingers_without_waiting() {
    let world = World::new();
    world.topic("t", 1, &[]);
    let producer = world.producer(LINGERS);
    let told = Told::default();
    let future = producer.send_with(to(0, "a"), told.callback()).unwrap();
    let clone = producer.clone();
    drop(producer);
    assert!(!future.is_done());
    drop(clone);
    assert_eq!(told.take(), [Ok(0)]);
    assert_eq!(future.wait().unwrap().offset(), 0);
    assert_eq!(world.values("t", 0), ["a"]);
    world.clock.advance(ms(120_000));
}

#[test]
fn a_broker_that_closes_fails_what_lingers() {
    let world = World::new();
    world.topic("t", 1, &[]);
    let producer = world.producer(LINGERS);
    let future = producer.send(to(0, "a")).unwrap();
    world.broker.close().unwrap();
    producer.flush().unwrap();
    assert_eq!(kind(future.wait()), ErrorKind::Closed);
    assert_eq!(kind(world.broker.producer(ProducerConfig::default())), ErrorKind::Closed);
}
