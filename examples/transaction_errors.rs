//! What a program does about each class of error that a transaction meets, each made to happen.
//!
//! | class | what the program does |
//! | --- | --- |
//! | retriable, told by a call on the transaction | the same call again |
//! | it requires an abort | abort, and the whole transaction again |
//! | fatal | another producer of the same `transactional.id`, and the whole transaction again |
//! | what is refused for itself | abort, and put the work aside |
//!
//! A transfer is two records, one of each account: whatever happens, both are seen, once, or none.
//! Run with `cargo run --features testing --example transaction_errors`.

use std::time::Duration;
use topiclite::testing::{Fault, TestBroker, TransactionStep};
use topiclite::{
    Broker, Error, ErrorKind, Producer, ProducerConfig, ProducerRecord, Result, TopicConfig,
};

/// So many times a transfer is begun again before somebody has to look.
const ATTEMPTS_MAX: usize = 5;

fn main() -> Result<()> {
    let test = TestBroker::new()?;
    let accounts = TopicConfig::default().max_message_bytes(1_000);
    test.admin().create_topic("accounts", 2, accounts)?;
    let mut teller = Teller::new(&test)?;

    println!("The disk is full while the commit is decided, for as long as the call waits:");
    let full = Fault::transaction(TransactionStep::Prepare).always().fail(ErrorKind::StorageFull);
    let full = test.inject(full);
    let mut calls = 0;
    let booked = teller.book("1", || {
        calls += 1;
        full.release();
    })?;
    assert!(booked && calls == 1);

    println!("The disk is full at the second record:");
    test.inject(Fault::append().on("accounts").nth(2).fail(ErrorKind::StorageFull));
    assert!(teller.book("2", || {})?);

    println!("A record is larger than its topic takes:");
    assert!(!teller.book(&"3".repeat(2_000), || {})?);

    println!("Another program takes over, and is gone again:");
    teller.producer.begin_transaction()?;
    teller.send("4")?;
    drop(Teller::new(&test)?);
    assert!(teller.finish("4", || {})?);

    println!("A transaction takes longer than transaction.timeout.ms:");
    teller.producer.begin_transaction()?;
    teller.send("5")?;
    test.advance(Duration::from_secs(120));
    assert!(teller.finish("5", || {})?);

    let seen = test.committed_values("accounts")?;
    assert_eq!(seen, ["-1", "-2", "-4", "-5", "+1", "+2", "+4", "+5"]);
    assert!(test.open_transactions()?.is_empty());
    println!("both sides of 4 transfers are seen, once each: {}", seen.join(" "));
    Ok(())
}

/// A program that moves money.
struct Teller<'a> {
    broker: &'a Broker,
    producer: Producer,
}

impl Teller<'_> {
    fn new(broker: &Broker) -> Result<Teller<'_>> {
        let config = ProducerConfig::default().transactional_id("teller-1").max_block_ms(1_000);
        let producer = broker.producer(config)?;
        call_again(|| producer.init_transactions(), || {})?;
        Ok(Teller { broker, producer })
    }

    /// Books a transfer. Returns whether it is booked: if not, it is of a kind that never will be.
    fn book(&mut self, amount: &str, meanwhile: impl FnMut()) -> Result<bool> {
        match self.producer.begin_transaction().and_then(|()| self.send(amount)) {
            Ok(()) => self.finish(amount, meanwhile),
            Err(error) => self.recover(amount, error),
        }
    }

    /// The two sides of a transfer.
    fn send(&self, amount: &str) -> Result<()> {
        for (account, sign) in [(0, '-'), (1, '+')] {
            let side = format!("{sign}{amount}");
            self.producer
                .send_sync(ProducerRecord::new("accounts").partition(account).value(side))?;
        }
        Ok(())
    }

    /// Commits what is sent. `meanwhile` is what happens before the call is made again.
    fn finish(&mut self, amount: &str, meanwhile: impl FnMut()) -> Result<bool> {
        match call_again(|| self.producer.commit_transaction(), meanwhile) {
            Ok(()) => Ok(true),
            Err(error) => self.recover(amount, error),
        }
    }

    /// Does what the class of the error asks for, until the transfer is booked or put aside.
    fn recover(&mut self, amount: &str, mut error: Error) -> Result<bool> {
        for _attempt in 0..ATTEMPTS_MAX {
            if error.is_fatal() {
                println!("  fatal, another producer: {error}");
                // It aborts what is open, and fences whoever has the id.
                *self = Teller::new(self.broker)?;
            } else {
                println!("  abort: {error}");
                match call_again(|| self.producer.abort_transaction(), || {}) {
                    Err(worse) if worse.is_fatal() => {
                        error = worse;
                        continue;
                    }
                    aborted => aborted?,
                }
                if is_refused_for_itself(&error) {
                    println!("  put aside");
                    return Ok(false);
                }
            }
            let again = self.producer.begin_transaction().and_then(|()| self.send(amount));
            match again.and_then(|()| call_again(|| self.producer.commit_transaction(), || {})) {
                Ok(()) => return Ok(true),
                Err(next) => error = next,
            }
        }
        Err(error)
    }
}

/// Makes a call on a transaction, and again for as long as that may help: it goes on where it was.
fn call_again(mut call: impl FnMut() -> Result<()>, mut meanwhile: impl FnMut()) -> Result<()> {
    loop {
        match call() {
            Err(error) if error.is_retriable() => println!("  the same call again: {error}"),
            outcome => return outcome,
        }
        meanwhile();
    }
}

/// Whether the record itself is at fault: it would be refused again. The first failure of a
/// transaction is the root of what later calls tell.
fn is_refused_for_itself(error: &Error) -> bool {
    matches!(
        error.root_kind(),
        ErrorKind::RecordTooLarge | ErrorKind::InvalidRecord | ErrorKind::InvalidTimestamp
    )
}
