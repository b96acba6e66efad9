//! Several threads on the system clock.

use super::*;
use crate::config::Durability;
use crate::producer::RecordMetadata;
use crate::sync::thread;
use std::collections::HashMap;

const THREADS: usize = 4;
const SENDS: usize = 200;

fn on_system_clock(config: TopicConfig, partitions: i32) -> Broker {
    let broker = Broker::in_memory().unwrap();
    broker.admin().create_topic("t", partitions, config).unwrap();
    broker
}

fn spread(work: impl Fn(usize) + Send + Sync + 'static) {
    let work = Arc::new(work);
    let threads: Vec<_> = (0..THREADS)
        .map(|i| {
            let work = work.clone();
            thread::spawn_named("sender", move || work(i)).unwrap()
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn callbacks_of_a_partition_run_in_the_order_of_its_offsets_whoever_sends() {
    for linger in [0, 1] {
        let broker = on_system_clock(TopicConfig::default(), 2);
        let config = ProducerConfig::default().linger_ms(linger).batch_size(200);
        let producer = broker.producer(config).unwrap();
        let told: Arc<Mutex<HashMap<i32, Vec<i64>>>> = Arc::default();
        let (sender, seen) = (producer.clone(), told.clone());
        spread(move |_| {
            for i in 0..SENDS {
                let seen = seen.clone();
                let future = sender.send_with(to((i % 2) as i32, "v"), move |outcome| {
                    let metadata = outcome.as_ref().unwrap();
                    seen.lock().entry(metadata.partition()).or_default().push(metadata.offset());
                });
                drop(future.unwrap());
            }
        });
        producer.flush().unwrap();
        let told = told.lock();
        for partition in 0..2 {
            let expected: Vec<i64> = (0..(THREADS * SENDS / 2) as i64).collect();
            assert_eq!(told[&partition], expected, "linger {linger}");
        }
    }
}

#[test]
fn durable_sends_share_syncs_and_all_are_answered() {
    let broker = on_system_clock(TopicConfig::default().durability(Durability::Power), 1);
    let producer = broker.producer(ProducerConfig::default()).unwrap();
    let sender = producer.clone();
    spread(move |i| {
        for n in 0..SENDS {
            let future = sender.send(to(0, "v")).unwrap();
            let metadata = match (i + n) % 3 {
                0 => futures_lite::future::block_on(future).unwrap(),
                1 => future.wait().unwrap(),
                _ => {
                    let callback = Told::default();
                    let future = sender.send_with(to(0, "v"), callback.callback()).unwrap();
                    let metadata = future.wait().unwrap();
                    assert_eq!(callback.take(), [Ok(metadata.offset())]);
                    metadata
                }
            };
            assert!(metadata.offset() >= 0);
        }
    });
    let log = broker.inner().topic("t").unwrap().partition(0).unwrap().log().unwrap().clone();
    producer.flush().unwrap();
    assert_eq!(log.recovery_point().unwrap(), log.log_end_offset().unwrap());
}

#[test]
fn lingering_records_are_sent_by_the_brokers_timer_without_any_waiter() {
    let broker = on_system_clock(TopicConfig::default(), 1);
    let producer = broker.producer(ProducerConfig::default().linger_ms(1)).unwrap();
    let (sent, received) = std::sync::mpsc::channel();
    let callback = move |outcome: &Result<super::super::RecordMetadata, _>| {
        sent.send(outcome.as_ref().unwrap().offset()).unwrap();
    };
    drop(producer.send_with(to(0, "v"), callback).unwrap());
    assert_eq!(received.recv().unwrap(), 0);
    assert_eq!(
        futures_lite::future::block_on(producer.send(to(0, "w")).unwrap()).unwrap().offset(),
        1
    );
}

#[test]
fn closing_while_others_send_answers_every_accepted_record() {
    for linger in [0, 1, 5] {
        let broker = on_system_clock(TopicConfig::default(), 1);
        let producer = broker.producer(ProducerConfig::default().linger_ms(linger)).unwrap();
        let accepted: Arc<Mutex<usize>> = Arc::default();
        let (sender, counted) = (producer.clone(), accepted.clone());
        let closer = producer.clone();
        spread(move |i| {
            for n in 0..SENDS {
                if i == 0 && n == SENDS / 2 {
                    closer.close().unwrap();
                }
                match sender.send(to(0, "v")) {
                    Ok(future) => {
                        future.wait().unwrap();
                        *counted.lock() += 1;
                    }
                    Err(refused) => assert_eq!(refused.kind(), ErrorKind::IllegalState),
                }
            }
        });
        let end = broker.inner().topic("t").unwrap().partition(0).unwrap();
        let end = end.log().unwrap().log_end_offset().unwrap();
        assert_eq!(end, *accepted.lock() as i64, "linger {linger}");
    }
}

/// Nobody waits, so that only the flusher can give the answers that need a sync: a turn at the line
/// that ends at such an answer has to leave it to be found.
#[test]
fn answers_that_wait_for_a_sync_are_given_by_the_flusher_alone() {
    for linger in [0, 1] {
        let durable = TopicConfig::default().durability(Durability::Power);
        let broker = on_system_clock(durable, THREADS as i32);
        let config = ProducerConfig::default().linger_ms(linger).batch_size(100);
        let producer = broker.producer(config).unwrap();
        let sender = producer.clone();
        spread(move |i| {
            for n in 0..SENDS {
                let (sent, received) = std::sync::mpsc::channel();
                let callback = move |outcome: &Result<RecordMetadata, Error>| {
                    sent.send(outcome.as_ref().unwrap().offset()).unwrap();
                };
                drop(sender.send_with(to(i as i32, "v"), callback).unwrap());
                let told = received.recv_timeout(Duration::from_secs(30));
                assert_eq!(told, Ok(n as i64), "linger {linger}: an answer is lost");
            }
        });
    }
}

#[test]
fn a_callback_that_panics_on_a_thread_of_the_broker_ends_no_other_answer() {
    for durability in [Durability::Process, Durability::Power] {
        let broker = on_system_clock(TopicConfig::default().durability(durability), 5);
        let producer = broker.producer(ProducerConfig::default().linger_ms(1)).unwrap();
        let (sent, received) = std::sync::mpsc::channel();
        for n in 0..10 {
            let sent = sent.clone();
            let callback = move |outcome: &Result<RecordMetadata, Error>| {
                let metadata = outcome.as_ref().unwrap();
                sent.send((metadata.partition(), metadata.offset())).unwrap();
                assert!(n % 3 != 0, "in the callback of record {n}");
            };
            drop(producer.send_with(to(n % 5, "v"), callback).unwrap());
        }
        let mut told: Vec<_> = (0..10)
            .map(|_| received.recv_timeout(Duration::from_secs(30)).expect("every answer is given"))
            .collect();
        told.sort_unstable();
        let expected: Vec<_> = (0..10).map(|n| (n / 2, i64::from(n % 2))).collect();
        assert_eq!(told, expected, "{durability:?}");
        // Another producer needs the same threads.
        let other = broker.producer(ProducerConfig::default().linger_ms(1)).unwrap();
        let future = other.send(to(0, "v")).unwrap();
        assert_eq!(futures_lite::future::block_on(future).unwrap().offset(), 2);
        let health = broker.health();
        let told: Vec<&str> = health.warnings().filter(|text| text.contains("panicked")).collect();
        assert!(!told.is_empty(), "{health:?}");
    }
}
