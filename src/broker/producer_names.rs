//! Names under which producers go on over restarts. A name has its producer id in the registry,
//! for ever; one producer at a time has the name.

use crate::broker::core::BrokerCore;
use crate::broker::meta::registry::RegistryEntry;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::{Arc, AtomicBool, Mutex, Ordering};
use std::collections::BTreeSet;

/// The names that producers of this broker have at present.
#[derive(Debug, Default)]
pub(super) struct ProducerNames(Mutex<BTreeSet<Arc<str>>>);

/// A name while a producer has it. Dropping it gives it back.
#[derive(Debug)]
pub(crate) struct HeldName {
    names: Arc<ProducerNames>,
    name: Arc<str>,
    producer_id: i64,
    released: AtomicBool,
}

impl HeldName {
    /// The producer id of the name.
    pub fn producer_id(&self) -> i64 {
        self.producer_id
    }

    /// Gives the name back. A second call does nothing.
    pub fn release(&self) {
        if !self.released.swap(true, Ordering::AcqRel) {
            self.names.0.lock().remove(&self.name);
        }
    }
}

impl Drop for HeldName {
    fn drop(&mut self) {
        self.release();
    }
}

impl BrokerCore {
    /// Takes a name for a producer, with the producer id that it has, or gets now.
    ///
    /// # Durability
    /// The id is the name's, durably, before this returns.
    ///
    /// # Errors
    /// [`ErrorKind::IllegalState`] while another producer has the name; [`ErrorKind::ReadOnly`],
    /// [`ErrorKind::Closed`], and those of a change of the registry.
    pub fn hold_producer_name(&self, name: &str) -> Result<HeldName> {
        let registry = self.owner()?.registry.clone();
        let name: Arc<str> = Arc::from(name);
        if !self.producer_names.0.lock().insert(name.clone()) {
            let message = format!("a producer with the name {name} exists; close it first");
            return Err(Error::new(ErrorKind::IllegalState, message));
        }
        let mut held = HeldName {
            names: self.producer_names.clone(),
            name: name.clone(),
            producer_id: -1,
            released: AtomicBool::new(false),
        };
        held.producer_id = match registry.producer_id(&name) {
            Some(producer_id) => producer_id,
            None => {
                let producer_id = self.new_producer_id()?;
                registry.write(&[RegistryEntry::Producer { name, producer_id }])?;
                producer_id
            }
        };
        Ok(held)
    }
}
