//! Sending on the caller's thread: a record, or many, straight into the log.

use super::ProducerCore;
use super::routes::{Group, Routes};
use crate::error::{Error, Result};
use crate::producer::batch::{PartitionQueue, estimated_size};
use crate::producer::completion::{Completion, Records};
use crate::producer::env::is_thrown;
use crate::producer::future::{BatchResult, Outcome, SendFuture, Unsynced};
use crate::producer::record::{ProducerRecord, RecordMetadata, size_in_batch};
use crate::producer::storing::{Placed, Stored};
use crate::producer::topics::Found;
use crate::record::{BATCH_OVERHEAD, CompressionRatio, RecordInput};
use crate::sync::Arc;

/// The route of the record before: most calls are about one topic, and many about one partition.
struct LastRoute<'r, 'p> {
    name: &'r str,
    topic: Found<'p>,
    /// The partition that it chose, where another one for it only has to be counted.
    chosen: Option<i32>,
}

/// What became of a send so far.
enum SendOutcome {
    Stored(RecordMetadata),
    Later(SendFuture),
}

impl ProducerCore {
    #[inline]
    pub(in crate::producer) fn send(
        self: &Arc<Self>,
        record: &ProducerRecord<'_>,
    ) -> Result<SendFuture> {
        // Before all else: up to the first call the compiler knows what the record is made of.
        let input = record.input(0, record.lent_headers());
        match record.owns_headers() {
            true => self.send_with_own_headers(record),
            false => self.send_input(record, input),
        }
    }

    /// Only a record that owns its headers needs a list made for it.
    #[inline(never)]
    fn send_with_own_headers(self: &Arc<Self>, record: &ProducerRecord<'_>) -> Result<SendFuture> {
        self.send_input(record, record.input(0, &record.header_inputs()))
    }

    /// `input` is given its time.
    #[inline]
    fn send_input(
        self: &Arc<Self>,
        record: &ProducerRecord<'_>,
        mut input: RecordInput<'_>,
    ) -> Result<SendFuture> {
        let now_ms = self.env.clock().coarse_wall_ms();
        input.timestamp = record.chosen_timestamp().unwrap_or(now_ms);
        // The metadata comes out in parts and is put together at its last place: moving a finished
        // future twice costs as much as finding the topic.
        match self.deliver(record, &input, now_ms) {
            Ok(SendOutcome::Stored(metadata)) => Ok(SendFuture::done(Ok(metadata))),
            Ok(SendOutcome::Later(future)) => Ok(future),
            Err(error) => self.refuse(error, record, &input).map(SendFuture::done),
        }
    }

    #[inline]
    fn deliver(
        self: &Arc<Self>,
        record: &ProducerRecord<'_>,
        input: &RecordInput<'_>,
        now_ms: i64,
    ) -> Result<SendOutcome> {
        self.env.check_open()?;
        record.check()?;
        let topic = self.topics.find(record.topic(), &self.env.broker)?;
        let (queue, sticky) = self.choose(&topic, record.chosen_partition(), input)?;
        let size = self.env.check_size(input)?;
        self.env.pause(queue)?;
        if !self.env.settings.linger.is_zero() {
            self.stamper.check_send()?;
            let nobody = &mut None::<fn(&Outcome)>;
            return self.linger(&topic, queue, input, sticky, nobody).map(SendOutcome::Later);
        }
        let placed = self.appender().append(queue, input, now_ms)?;
        if sticky {
            self.count_sticky(&topic, size, false);
        }
        Ok(match placed.must_sync {
            true => SendOutcome::Later(self.unsynced(queue, placed, input)),
            false => SendOutcome::Stored(self.appender().metadata(queue, placed, input)),
        })
    }

    #[inline(never)]
    pub(in crate::producer) fn unsynced(
        self: &Arc<Self>,
        queue: &Arc<PartitionQueue>,
        placed: Placed,
        input: &RecordInput<'_>,
    ) -> SendFuture {
        queue.owes_sync(placed.end());
        SendFuture::unsynced(Unsynced {
            producer: self.clone(),
            queue: queue.clone(),
            metadata: self.appender().metadata(queue, placed, input),
            record: queue.copied(input),
        })
    }

    /// The outcome of a record that the client, or the log, refuses.
    ///
    /// # Errors
    /// The error itself, where it is the call's fault.
    #[cold]
    pub(in crate::producer) fn refuse(
        &self,
        error: Error,
        record: &ProducerRecord<'_>,
        input: &RecordInput<'_>,
    ) -> Result<Outcome> {
        if is_thrown(&error) {
            return Err(error.refusing(record));
        }
        self.stamper.fail_transaction(&error);
        Ok(Err(undelivered(error, record, input)))
    }

    pub(in crate::producer) fn send_with(
        self: &Arc<Self>,
        record: &ProducerRecord<'_>,
        callback: impl FnOnce(&Outcome) + Send + 'static,
    ) -> Result<SendFuture> {
        let checked = self.env.check_open().and_then(|()| record.check());
        checked.map_err(|error| error.refusing(record))?;
        let now_ms = self.env.clock().coarse_wall_ms();
        let headers = record.header_inputs();
        let input = record.input(now_ms, &headers);
        let mut callback = Some(callback);
        match self.deliver_with(record, &input, now_ms, &mut callback) {
            Ok(future) => Ok(future),
            Err(error) => {
                let outcome = self.refuse(error, record, &input)?;
                // Departure: D96. Kafka's client calls it a second time when the transaction ends,
                // as the record was put into a batch before it was refused.
                if let Some(callback) = callback {
                    callback(&outcome);
                }
                Ok(SendFuture::done(outcome))
            }
        }
    }

    /// The callback is taken as soon as it is certain that the line tells it.
    fn deliver_with(
        self: &Arc<Self>,
        record: &ProducerRecord<'_>,
        input: &RecordInput<'_>,
        now_ms: i64,
        callback: &mut Option<impl FnOnce(&Outcome) + Send + 'static>,
    ) -> Result<SendFuture> {
        let topic = self.topics.find(record.topic(), &self.env.broker)?;
        let (queue, sticky) = self.choose(&topic, record.chosen_partition(), input)?;
        let size = self.env.check_size(input)?;
        self.env.pause(queue)?;
        if !self.env.settings.linger.is_zero() {
            self.stamper.check_send()?;
            return self.linger(&topic, queue, input, sticky, callback);
        }
        // Taking an id may need a sync, and joining the transaction the coordinator: both come
        // before the queue's lock.
        self.stamper.append_options(&self.env, queue, now_ms)?;
        let state = queue.lock();
        let placed = self.appender().append(queue, input, now_ms)?;
        if sticky {
            self.count_sticky(&topic, size, false);
        }
        let sync = placed.must_sync.then(|| placed.end());
        let outcome = Ok(self.appender().metadata(queue, placed, input));
        let Some(callback) = callback.take() else { return Ok(SendFuture::done(outcome)) };
        if sync.is_none()
            && let Some(turn) = self.completions.enter_idle()
        {
            drop(state);
            callback(&outcome);
            self.end_turn(turn);
            return Ok(SendFuture::done(outcome));
        }
        let result = BatchResult::new(Arc::downgrade(self));
        self.completions.push(Completion {
            queue: queue.clone(),
            outcomes: vec![outcome],
            callbacks: vec![(0, Box::new(callback))],
            sync,
            records: match sync {
                Some(_) => Records::One(Box::new(queue.copied(input))),
                None => Records::None,
            },
            result: result.clone(),
        });
        drop(state);
        self.run_completions(false);
        Ok(SendFuture::batched(result, 0))
    }

    pub(in crate::producer) fn send_all(
        self: &Arc<Self>,
        records: &[ProducerRecord<'_>],
        own_headers: bool,
    ) -> Vec<SendFuture> {
        let now_ms = self.env.clock().coarse_wall_ms();
        // Only records that own their headers need lists made for them.
        let made: Vec<_> = match own_headers {
            true => records.iter().map(|record| record.header_inputs().into_owned()).collect(),
            false => Vec::new(),
        };
        let inputs: Vec<RecordInput<'_>> = match made.is_empty() {
            true => records.iter().map(|r| r.input(now_ms, r.lent_headers())).collect(),
            false => {
                records.iter().zip(&made).map(|(r, headers)| r.input(now_ms, headers)).collect()
            }
        };
        let mut routes = Routes::new(records.len());
        let mut last = None;
        for (place, (record, input)) in records.iter().zip(&inputs).enumerate() {
            if let Err(error) = self.route(record, input, place, &mut last, &mut routes) {
                self.stamper.fail_transaction(&error);
                let failed = undelivered(error, record, input);
                routes.refuse(place, SendFuture::done(Err(failed)));
            }
        }
        let sorted = routes.sort(&inputs);
        let mut placed = Vec::with_capacity(records.len());
        let mut stored = Stored::over(Vec::new());
        for (at, (group, range)) in routes.groups().enumerate() {
            routes.fetch_behind(at);
            self.send_group(group, sorted.range(range), now_ms, &mut stored, &mut placed);
        }
        routes.in_order(sorted, placed)
    }

    /// Finds the queue of a record, and puts the record into its group. `last` is the topic of the
    /// record before: most calls are about one.
    #[inline]
    fn route<'p, 'r>(
        &'p self,
        record: &'r ProducerRecord<'_>,
        input: &RecordInput<'_>,
        place: usize,
        last: &mut Option<LastRoute<'r, 'p>>,
        routes: &mut Routes,
    ) -> Result<()> {
        let (name, chosen) = (record.topic(), record.chosen_partition());
        let same = |last: &LastRoute<'_, '_>| std::ptr::eq(last.name, name);
        if chosen.is_some() && last.as_ref().is_some_and(|last| last.chosen == chosen && same(last))
        {
            let size = self.env.check_size(input)?;
            routes.add_to_last(size - BATCH_OVERHEAD);
            return Ok(());
        }
        if !last.as_ref().is_some_and(same) {
            let topic = self.topics.find(name, &self.env.broker)?;
            *last = Some(LastRoute { name, topic, chosen: None });
        }
        // It was set just above, or is that of the record before.
        let Some(last) = last else { return Ok(()) };
        last.chosen = None;
        let topic = &last.topic;
        let (queue, sticky) = self.choose(topic, chosen, input)?;
        let size = self.env.check_size(input)?;
        self.env.pause(queue)?;
        if sticky {
            self.count_sticky(topic, size, false);
        }
        // Its own batch would have a header of its own.
        routes.add(queue, place, size - BATCH_OVERHEAD);
        // A test that holds records up looks at each.
        last.chosen = chosen.filter(|_| !self.env.broker.probe().is_on());
        Ok(())
    }

    /// Sends the records of one partition in batches of `batch.size`. Adds a future for each;
    /// `stored` is room for outcomes.
    fn send_group(
        self: &Arc<Self>,
        group: &Group,
        mut rest: &[RecordInput<'_>],
        now_ms: i64,
        stored: &mut Stored,
        futures: &mut Vec<SendFuture>,
    ) {
        if !self.env.settings.linger.is_zero() {
            return self.linger_group(&group.queue, rest, futures);
        }
        let limit = self.env.settings.batch_size;
        let whole = BATCH_OVERHEAD.saturating_add(group.size_max);
        while !rest.is_empty() {
            let ratio = group.queue.ratios.estimate(self.env.settings.codec);
            let is_one = ratio.is_none() && whole <= limit;
            let count = if is_one { rest.len() } else { batch_len(rest, limit, ratio) };
            let (batch, behind) = rest.split_at(count);
            rest = behind;
            let outcome = self.appender().append_batch(&group.queue, batch, now_ms, None);
            if let Ok(appended) = outcome
                && !appended.must_sync
            {
                // Nothing is left to be done, but to tell.
                self.env.note_ratio(&group.queue, &appended);
                let stored = self.appender().stored_at(&group.queue, batch, appended);
                futures.extend(stored.map(|metadata| SendFuture::done(Ok(metadata))));
                continue;
            }
            stored.clear(batch.len());
            self.appender().settle(&group.queue, batch, now_ms, None, outcome, stored);
            if let Some(upto) = stored.sync {
                group.queue.owes_sync(upto);
            }
            let sync = stored.sync;
            for (outcome, input) in stored.outcomes.drain(..).zip(batch) {
                futures.push(match (outcome, sync) {
                    (Ok(metadata), Some(_)) => SendFuture::unsynced(Unsynced {
                        producer: self.clone(),
                        queue: group.queue.clone(),
                        metadata,
                        record: group.queue.copied(input),
                    }),
                    (outcome, _) => SendFuture::done(outcome),
                });
            }
        }
    }
}

/// The failure of a record that did not get as far as a log. In [`ProducerCore::send_all`] every
/// failure is one, because records before it may be stored.
#[cold]
fn undelivered(error: Error, record: &ProducerRecord<'_>, input: &RecordInput<'_>) -> Error {
    let partition = record.chosen_partition().or(error.partition());
    error.losing(ProducerRecord::copied(record.topic(), partition, input))
}

/// How many of the records one batch may hold, at least one: as [`Batch::has_room`] says it.
///
/// [`Batch::has_room`]: crate::producer::batch::Batch::has_room
fn batch_len(records: &[RecordInput<'_>], limit: usize, ratio: Option<CompressionRatio>) -> usize {
    let base = records.first().map_or(0, |first| first.timestamp);
    let mut size = BATCH_OVERHEAD;
    let fits = |(index, record): (usize, &RecordInput<'_>)| {
        let estimated = estimated_size(size, ratio);
        let next = size_in_batch(record, index, record.timestamp.wrapping_sub(base));
        size += next;
        index == 0 || (estimated < limit && estimated + next <= limit)
    };
    records.iter().enumerate().map(fits).take_while(|fits| *fits).count().max(1)
}
