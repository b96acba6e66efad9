//! Sending on the caller's thread: a record, or many, straight into the log.

use super::batch::{Lane, metadata_of, owned};
use super::completion::{Completion, Records};
use super::future::{Flight, Outcome, SendFuture, Unsynced};
use super::record::{ProducerRecord, RecordMetadata, SendError, size_in_batch};
use super::topics::missing_topic;
use super::{DeliveryError, Inner};
use crate::config::Acks;
use crate::error::{Error, Result};
use crate::log::{AppendOptions, Appended};
use crate::record::{BATCH_OVERHEAD, Codec, RecordInput};
use crate::sync::Arc;
use std::collections::HashMap;

/// What became of a send so far.
enum Sent {
    Stored(RecordMetadata),
    Later(SendFuture),
}

/// Records of one partition, by their places among all.
struct Group {
    lane: Arc<Lane>,
    places: Vec<usize>,
}

impl Inner {
    #[inline]
    pub(super) fn send<'a>(
        self: &Arc<Self>,
        record: ProducerRecord<'a>,
    ) -> Result<SendFuture, SendError<'a>> {
        let now_ms = self.clock().coarse_wall_ms();
        let input = record.input(now_ms);
        // The metadata comes out in parts and is put together at its last place: moving a finished
        // future twice costs as much as finding the topic.
        match self.deliver(&record, &input, now_ms) {
            Ok(Sent::Stored(metadata)) => Ok(SendFuture::done(Ok(metadata))),
            Ok(Sent::Later(future)) => Ok(future),
            Err(error) => match self.refuse(error, &record, &input) {
                Ok(outcome) => Ok(SendFuture::done(outcome)),
                Err(error) => Err(SendError::new(error, record)),
            },
        }
    }

    #[inline]
    fn deliver(
        self: &Arc<Self>,
        record: &ProducerRecord<'_>,
        input: &RecordInput<'_>,
        now_ms: i64,
    ) -> Result<Sent> {
        self.check_open()?;
        record.check()?;
        let topic = self.topics.find(record.topic(), &self.broker)?;
        let (lane, sticky) = self.choose(&topic, record.chosen_partition(), input)?;
        let size = self.check_size(input)?;
        if !self.settings.linger.is_zero() {
            let nobody = &mut None::<fn(&Outcome)>;
            return self.linger(&topic, lane, input, sticky, nobody).map(Sent::Later);
        }
        let appended = self.append(lane, input, now_ms)?;
        if sticky {
            self.count_sticky(&topic, size, false);
        }
        Ok(match appended {
            Some(appended) if appended.must_sync => {
                Sent::Later(self.unsynced(lane, appended, input))
            }
            appended => Sent::Stored(self.metadata(lane, appended, input)),
        })
    }

    /// Appends one record. `None`: with `acks=0` nobody asks where, nor whether.
    #[inline]
    fn append(
        &self,
        lane: &Lane,
        input: &RecordInput<'_>,
        now_ms: i64,
    ) -> Result<Option<Appended>> {
        let options = AppendOptions::client(now_ms);
        let appended = match self.settings.codec {
            Codec::None => lane.log.append(input, options),
            codec => lane.log.append_records(&[*input], codec, self.settings.level, options),
        };
        match appended {
            Ok(_) if self.settings.acks == Acks::None => Ok(None),
            Ok(appended) => Ok(Some(appended)),
            Err(error) => self.append_failed(error).map(|()| None),
        }
    }

    /// What a producer makes of an error of the log.
    ///
    /// # Errors
    /// The error, unless `acks=0` says that nobody wants to know.
    #[cold]
    pub(super) fn append_failed(&self, error: Error) -> Result<()> {
        let error = missing_topic(error);
        if self.settings.acks == Acks::None && !Inner::is_thrown(&error) {
            tracing::warn!(client_id = %self.client_id, %error, "a record with acks=0 is lost");
            return Ok(());
        }
        Err(error)
    }

    #[inline]
    fn metadata(
        &self,
        lane: &Lane,
        appended: Option<Appended>,
        input: &RecordInput<'_>,
    ) -> RecordMetadata {
        let (offset, timestamp) = match appended {
            Some(appended) => (appended.base_offset, appended.timestamp),
            None => (-1, input.timestamp),
        };
        RecordMetadata::new(lane.partition, offset, timestamp, input)
    }

    fn unsynced(
        self: &Arc<Self>,
        lane: &Arc<Lane>,
        appended: Appended,
        input: &RecordInput<'_>,
    ) -> SendFuture {
        lane.owes_sync(appended.last_offset + 1);
        SendFuture::unsynced(Unsynced {
            producer: self.clone(),
            lane: lane.clone(),
            metadata: self.metadata(lane, Some(appended), input),
            record: owned(input),
        })
    }

    /// The outcome of a record that the client, or the log, refuses.
    ///
    /// # Errors
    /// The error itself, where it is the call's fault.
    #[cold]
    fn refuse(
        &self,
        error: Error,
        record: &ProducerRecord<'_>,
        input: &RecordInput<'_>,
    ) -> Result<Outcome> {
        let partition = error.partition_index().or(record.chosen_partition());
        self.undelivered(error, record.topic(), partition, input)
    }

    pub(super) fn send_with(
        self: &Arc<Self>,
        record: &ProducerRecord<'_>,
        callback: impl FnOnce(&Outcome) + Send + 'static,
    ) -> Result<SendFuture> {
        self.check_open()?;
        record.check()?;
        let now_ms = self.clock().coarse_wall_ms();
        let input = record.input(now_ms);
        let mut callback = Some(callback);
        match self.deliver_with(record, &input, now_ms, &mut callback) {
            Ok(future) => Ok(future),
            Err(error) => {
                let outcome = self.refuse(error, record, &input)?;
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
        let topic = self.topics.find(record.topic(), &self.broker)?;
        let (lane, sticky) = self.choose(&topic, record.chosen_partition(), input)?;
        let size = self.check_size(input)?;
        if !self.settings.linger.is_zero() {
            return self.linger(&topic, lane, input, sticky, callback);
        }
        let state = lane.lock();
        let appended = self.append(lane, input, now_ms)?;
        if sticky {
            self.count_sticky(&topic, size, false);
        }
        let sync = appended.filter(|appended| appended.must_sync).map(|a| a.last_offset + 1);
        let outcome = Ok(self.metadata(lane, appended, input));
        let Some(callback) = callback.take() else { return Ok(SendFuture::done(outcome)) };
        if sync.is_none()
            && let Some(turn) = self.line.enter_idle()
        {
            drop(state);
            callback(&outcome);
            self.end_turn(turn);
            return Ok(SendFuture::done(outcome));
        }
        let flight = Flight::new(Arc::downgrade(self));
        self.line.push(Completion {
            lane: lane.clone(),
            outcomes: vec![outcome],
            callbacks: vec![(0, Box::new(callback))],
            sync,
            records: match sync {
                Some(_) => Records::One(owned(input)),
                None => Records::None,
            },
            flight: flight.clone(),
        });
        drop(state);
        self.run_completions(false);
        Ok(SendFuture::batched(flight, 0))
    }

    pub(super) fn send_all(self: &Arc<Self>, records: &[ProducerRecord<'_>]) -> Vec<SendFuture> {
        let now_ms = self.clock().coarse_wall_ms();
        let inputs: Vec<RecordInput<'_>> = records.iter().map(|r| r.input(now_ms)).collect();
        let mut futures: Vec<Option<SendFuture>> = Vec::new();
        futures.resize_with(records.len(), || None);
        let mut groups: Vec<Group> = Vec::new();
        let mut known: HashMap<usize, usize> = HashMap::new();
        let mut last = usize::MAX;
        for (place, (record, input)) in records.iter().zip(&inputs).enumerate() {
            match self.lane_of(record, input) {
                Ok(lane) => {
                    if groups.get(last).is_none_or(|group| !Arc::ptr_eq(&group.lane, &lane)) {
                        last = *known.entry(Arc::as_ptr(&lane).addr()).or_insert_with(|| {
                            groups.push(Group { lane, places: Vec::new() });
                            groups.len() - 1
                        });
                    }
                    if let Some(group) = groups.get_mut(last) {
                        group.places.push(place);
                    }
                }
                Err(error) => fill(&mut futures, place, Err(self.give_up(error, record, input))),
            }
        }
        for group in &groups {
            self.send_group(group, &inputs, now_ms, &mut futures);
        }
        // Every place is in one group, or was refused.
        futures.into_iter().flatten().collect()
    }

    /// A failure of [`Inner::send_all`]: all of them come through futures there, because records
    /// before it may be stored.
    #[cold]
    fn give_up(
        &self,
        error: Error,
        record: &ProducerRecord<'_>,
        input: &RecordInput<'_>,
    ) -> DeliveryError {
        let partition = error.partition_index().or(record.chosen_partition());
        DeliveryError::new(error, record.topic(), partition, owned(input))
    }

    fn lane_of(&self, record: &ProducerRecord<'_>, input: &RecordInput<'_>) -> Result<Arc<Lane>> {
        let topic = self.topics.find(record.topic(), &self.broker)?;
        let (lane, sticky) = self.choose(&topic, record.chosen_partition(), input)?;
        let size = self.check_size(input)?;
        if sticky {
            self.count_sticky(&topic, size, false);
        }
        Ok(lane.clone())
    }

    /// Sends the records of one partition in batches of `batch.size`.
    fn send_group(
        self: &Arc<Self>,
        group: &Group,
        inputs: &[RecordInput<'_>],
        now_ms: i64,
        futures: &mut [Option<SendFuture>],
    ) {
        // What lingers goes first, and what cannot go first keeps this waiting behind it.
        if !self.settings.linger.is_zero() {
            return self.linger_group(&group.lane, &group.places, inputs, futures);
        }
        let mut rest = group.places.as_slice();
        let mut batch: Vec<RecordInput<'_>> = Vec::new();
        while !rest.is_empty() {
            batch.clear();
            let count = fill_batch(rest, inputs, self.settings.batch_size, &mut batch);
            let (places, behind) = rest.split_at(count);
            rest = behind;
            let stored = self.store(&group.lane, &batch, now_ms);
            for ((place, outcome), input) in places.iter().zip(stored.outcomes).zip(&batch) {
                let future = match (outcome, stored.sync) {
                    (Ok(metadata), Some(_)) if metadata.offset() >= 0 => {
                        group.lane.owes_sync(metadata.offset() + 1);
                        SendFuture::unsynced(Unsynced {
                            producer: self.clone(),
                            lane: group.lane.clone(),
                            metadata,
                            record: owned(input),
                        })
                    }
                    (outcome, _) => SendFuture::done(outcome),
                };
                if let Some(slot) = futures.get_mut(*place) {
                    *slot = Some(future);
                }
            }
        }
    }

    /// The outcomes of one appended batch.
    pub(super) fn stored(
        &self,
        lane: &Lane,
        records: &[RecordInput<'_>],
        appended: Appended,
        outcomes: &mut Vec<Outcome>,
    ) {
        let known = self.settings.acks != Acks::None;
        let base_offset = if known { appended.base_offset } else { -1 };
        let append_time = appended.log_append_time.then_some(appended.timestamp);
        outcomes.extend(records.iter().enumerate().map(|(i, record)| {
            let index = if known { i } else { 0 };
            Ok(metadata_of(lane, record, base_offset, index, append_time))
        }));
    }
}

/// Takes as many records as one batch may hold, and at least one.
fn fill_batch<'b>(
    places: &[usize],
    inputs: &[RecordInput<'b>],
    limit: usize,
    batch: &mut Vec<RecordInput<'b>>,
) -> usize {
    let mut size = BATCH_OVERHEAD;
    let mut base = None;
    for input in places.iter().filter_map(|place| inputs.get(*place)) {
        let base = *base.get_or_insert(input.timestamp);
        size += size_in_batch(input, batch.len(), input.timestamp.wrapping_sub(base));
        if size > limit && !batch.is_empty() {
            break;
        }
        batch.push(*input);
    }
    batch.len().max(1)
}

fn fill(futures: &mut [Option<SendFuture>], place: usize, outcome: Outcome) {
    if let Some(slot) = futures.get_mut(place) {
        *slot = Some(SendFuture::done(outcome));
    }
}
