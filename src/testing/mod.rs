//! What tests need that programs do not: a broker under a virtual clock with faults, kills and
//! crashes on demand and a journal of what happened. Feature `testing`.
//!
//! [`TestBroker`] is the way in. It is a [`Broker`](crate::Broker) like any other, so the code
//! under test gets the handles that it gets in production.
//!
//! - Time passes in [`TestBroker::advance`], and in any call that waits.
//! - The n-th append, sync, fetch or commit fails, stalls, loses its answer or is the last thing
//!   that the process does: [`TestBroker::inject`] with a [`Fault`].
//! - So does each [`TransactionStep`]: [`Fault::transaction`]. What is open then:
//!   [`TestBroker::open_transactions`].
//! - The disk is full: [`TestBroker::fill_disk`].
//! - A consumer dies, or stands still: [`TestBroker::kill_consumer`],
//!   [`TestBroker::stall_consumer`].
//! - The process is killed, or the power cut, and what survives is opened:
//!   [`TestBroker::crash`] with a [`Crash`].
//! - What happened: [`TestBroker::journal`].
//!
//! # Examples
//! A commit whose answer is lost was made all the same, so nothing is read twice:
//! ```
//! use std::time::Duration;
//! use topiclite::testing::{Fault, TestBroker};
//! use topiclite::{ConsumerConfig, OffsetReset, ProducerConfig, ProducerRecord, TopicConfig};
//! use topiclite::{ErrorKind, TopicPartition};
//!
//! let test = TestBroker::new()?;
//! test.admin().create_topic("orders", 1, TopicConfig::default())?;
//! let producer = test.producer(ProducerConfig::default())?;
//! producer.send_sync(ProducerRecord::new("orders").value("one tea"))?;
//!
//! let config = ConsumerConfig::new("billing")
//!     .client_id("clerk")
//!     .enable_auto_commit(false)
//!     .auto_offset_reset(OffsetReset::Earliest);
//! let mut consumer = test.consumer(config)?;
//! consumer.subscribe(&["orders"])?;
//! assert_eq!(consumer.poll(Duration::from_secs(1))?.count(), 1);
//!
//! test.inject(Fault::commit().of_group("billing").lose_reply());
//! assert_eq!(consumer.commit_sync().unwrap_err().kind(), ErrorKind::Timeout);
//! test.journal().assert_in_order(&[
//!     "clerk polled 1 of orders-0 up to 1",
//!     "billing: clerk committed orders-0 at 1",
//!     "fault: loses the reply, at commit of clerk in billing",
//! ]);
//! let partition = TopicPartition::new("orders", 0);
//! let committed = consumer.committed(std::slice::from_ref(&partition))?;
//! assert_eq!(committed[&partition].as_ref().map(|found| found.offset()), Some(1));
//! # Ok::<(), topiclite::Error>(())
//! ```

mod broker;
mod fault;
mod journal;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod transaction_tests;
mod watch;

pub use crate::events::{Event, RemovalReason};
pub use crate::probe::TransactionStep;
pub use broker::{Crash, TestBroker, TestBrokerBuilder};
pub use fault::Fault;
pub use journal::{Entry, Journal};
pub use watch::Injected;
