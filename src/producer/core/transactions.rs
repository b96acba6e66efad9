//! The calls on transactions, which other parts of the producer have a share in: nothing is sent
//! behind an end, and an end waits for what was sent.

use super::ProducerCore;
use crate::consumer::{GroupMetadata, OffsetAndMetadata};
use crate::error::{Error, ErrorKind, Result};
use crate::producer::identity::Identity;
use crate::producer::transactions::{Operation, SEND_OFFSETS, TransactionPhase, Transactional};
use crate::sync::Arc;
use crate::topic::TopicPartition;
use std::collections::BTreeMap;
use std::time::Duration;

impl ProducerCore {
    /// # Errors
    /// `IllegalState` without a `transactional.id`, and after a close.
    fn transactions(&self, name: &str) -> Result<(&Transactional, &Identity)> {
        let Some(found) = self.stamper.transactions() else {
            let message = format!("{name} needs a producer with a transactional.id");
            return Err(Error::new(ErrorKind::IllegalState, message));
        };
        self.env.check_open()?;
        if self.completions.is_inside() {
            let message =
                format!("{name} inside a callback of the same producer would wait for it");
            return Err(Error::new(ErrorKind::Kafka, message));
        }
        Ok(found)
    }

    pub(in crate::producer) fn init_transactions(&self) -> Result<()> {
        let (transactional, identity) = self.transactions(Operation::Init.name())?;
        transactional.init(&self.env, identity)
    }

    pub(in crate::producer) fn begin_transaction(&self) -> Result<()> {
        self.transactions("begin_transaction")?.0.begin()
    }

    pub(in crate::producer) fn send_offsets(
        &self,
        offsets: &BTreeMap<TopicPartition, OffsetAndMetadata>,
        group: &GroupMetadata,
    ) -> Result<()> {
        let illegal = |message: String| Err(Error::new(ErrorKind::IllegalArgument, message));
        if group.generation_id() > 0 && group.member_id().is_empty() {
            return illegal("the metadata has a generation and no member id".to_owned());
        }
        if let Some((partition, offset)) = offsets.iter().find(|(_, at)| at.offset() < 0) {
            return illegal(format!("offset {} of {partition} is negative", offset.offset()));
        }
        let (transactional, identity) = self.transactions(SEND_OFFSETS)?;
        match offsets.is_empty() {
            true => Ok(()),
            false => transactional.send_offsets(&self.env, identity, offsets, group),
        }
    }

    pub(in crate::producer) fn end_transaction(
        self: &Arc<Self>,
        operation: Operation,
    ) -> Result<()> {
        let found = self.transactions(operation.name())?;
        self.end_of(found, operation, self.env.block_limit())
    }

    fn end_of(
        self: &Arc<Self>,
        (transactional, identity): (&Transactional, &Identity),
        operation: Operation,
        limit: Duration,
    ) -> Result<()> {
        let _call = transactional.call(operation.name())?;
        let why = transactional.enter_end(operation)?;
        if operation == Operation::Abort {
            self.drop_unsent(why);
        }
        if !self.settle(Some(limit)) {
            transactional.leave_pending(operation);
            let ms = self.env.settings.max_block.as_millis();
            let message = format!("records are not stored within max.block.ms={ms}; call it again");
            return Err(Error::new(ErrorKind::Timeout, message));
        }
        transactional.end(&self.env, identity, operation, limit)
    }

    /// What was not tried yet is not sent any more.
    fn drop_unsent(self: &Arc<Self>, why: Option<Error>) {
        let aborted = || {
            let message = "the transaction was aborted before the record was sent";
            Error::new(ErrorKind::TransactionAborted, message)
        };
        self.abandon_untried(&why.unwrap_or_else(aborted));
        self.run_completions(true);
    }

    /// A close that has time aborts what is open, as the Java client's does.
    pub(super) fn abort_at_close(self: &Arc<Self>, limit: Option<Duration>) {
        let Some(found) = self.stamper.transactions() else { return };
        let phase = found.0.phase();
        if matches!(phase, TransactionPhase::InTransaction | TransactionPhase::AbortableError) {
            let limit = limit.unwrap_or_else(|| self.env.block_limit());
            if let Err(error) = self.end_of(found, Operation::Abort, limit) {
                tracing::warn!(client_id = %self.env.client_id, %error, "an abort at close failed");
            }
        }
    }
}
