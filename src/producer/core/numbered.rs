//! Records that are sent under a number of their own: what a named producer has in a partition.

use super::ProducerCore;
use crate::error::{Error, ErrorKind, Result};
use crate::log::{AppendOptions, ProducerStamp};
use crate::producer::future::SendFuture;
use crate::producer::record::{ProducerRecord, RecordMetadata};
use crate::producer::storing::Placed;
use crate::producer::topics::missing_topic;
use crate::sync::Arc;

impl ProducerCore {
    pub(in crate::producer) fn last_sequence(
        &self,
        topic: &str,
        partition: i32,
    ) -> Result<Option<i32>> {
        self.env.check_open()?;
        let stamp = self.stamper.of_name(&self.env)?;
        let found = self.env.broker.topic(topic).map_err(missing_topic)?;
        found.partition(partition)?.log()?.last_sequence(stamp.producer_id)
    }

    pub(in crate::producer) fn send_numbered(
        self: &Arc<Self>,
        record: &ProducerRecord<'_>,
        sequence: i32,
    ) -> Result<SendFuture> {
        let checked = self.env.check_open().and_then(|()| record.check()).and_then(|()| {
            let stamp = self.stamper.of_name(&self.env)?;
            let illegal = |message| Err(Error::new(ErrorKind::IllegalArgument, message));
            if sequence < 0 {
                return illegal(format!("sequence {sequence} is negative"));
            }
            if record.chosen_partition().is_none() && record.key_bytes().is_none() {
                let message = "a numbered record needs a partition, or a key that chooses it";
                return illegal(message.to_owned());
            }
            Ok(stamp)
        });
        let stamp = checked.map_err(|error| error.refusing(record))?;
        let now_ms = self.env.clock().coarse_wall_ms();
        let headers = record.header_inputs();
        let input = record.input(now_ms, &headers);
        let stamp = ProducerStamp { base_sequence: sequence, ..stamp };
        let numbered = || {
            let topic = self.topics.find(record.topic(), &self.env.broker)?;
            let (queue, _) = self.choose(&topic, record.chosen_partition(), &input)?;
            self.env.check_size(&input)?;
            self.env.pause(queue)?;
            self.drain(queue, true);
            let mut state = queue.lock();
            // What lingers later goes on behind what the log has then.
            state.next_stamp = None;
            let options = AppendOptions { producer: Some(stamp), ..AppendOptions::client(now_ms) };
            let s = &self.env.settings;
            let appended = queue.log.append_records(&[input], s.codec, s.level, options);
            drop(state);
            match appended {
                Ok(appended) if appended.must_sync => {
                    Ok(self.unsynced(queue, Placed::from(&appended), &input))
                }
                Ok(appended) => {
                    let placed = Placed::from(&appended);
                    Ok(SendFuture::done(Ok(self.appender().metadata(queue, placed, &input))))
                }
                Err(error) if error.kind() == ErrorKind::OutOfOrderSequence => {
                    match queue.log.last_sequence(stamp.producer_id)? {
                        Some(last) if is_behind(sequence, last) => {
                            let metadata =
                                RecordMetadata::new(queue.partition, -1, input.timestamp, &input);
                            Ok(SendFuture::done(Ok(metadata)))
                        }
                        _ => Err(error),
                    }
                }
                Err(error) => Err(error),
            }
        };
        let sent = numbered();
        self.run_completions(false);
        sent.or_else(|error| self.refuse(error, record, &input).map(SendFuture::done))
    }
}

/// Whether a sequence was given before `last`, or is that: sequences wrap, so the nearer way
/// round tells.
fn is_behind(sequence: i32, last: i32) -> bool {
    const HALF: i32 = 1 << 30;
    (last.wrapping_sub(sequence) & i32::MAX) < HALF
}

#[cfg(test)]
mod tests {
    use super::is_behind;

    #[test]
    fn a_sequence_is_behind_the_last_one_also_over_the_largest() {
        for (sequence, last, behind) in [
            (0, 0, true),
            (3, 7, true),
            (8, 7, false),
            (i32::MAX, 2, true),
            (3, i32::MAX, false),
            (0, i32::MAX, false),
        ] {
            assert_eq!(is_behind(sequence, last), behind, "{sequence} {last}");
        }
    }
}
