//! The proof at the end: each line delivered at least once, none lost, order per key held.

use super::broken;
use super::lines::{Lines, checksum};
use super::wire::Delivery;
use std::collections::HashMap;
use topiclite::Result;

/// What was delivered so far, over both lives.
pub struct Proof<'a> {
    lines: &'a Lines,
    /// How often each line came.
    times: Vec<u32>,
    distinct: u64,
    deliveries: u64,
    /// Key -> the last line that came for the first time.
    last_first: HashMap<&'a [u8], u64>,
    keyed: u64,
    sum: u64,
}

impl<'a> Proof<'a> {
    pub fn new(lines: &'a Lines) -> Proof<'a> {
        Proof {
            lines,
            times: vec![0; usize::try_from(lines.count()).unwrap_or(0)],
            distinct: 0,
            deliveries: 0,
            last_first: HashMap::new(),
            keyed: 0,
            sum: 0,
        }
    }

    pub fn distinct(&self) -> u64 {
        self.distinct
    }

    pub fn deliveries(&self) -> u64 {
        self.deliveries
    }

    /// Over the lines that were delivered, each once.
    pub fn checksum(&self) -> u64 {
        self.sum
    }

    /// Takes deliveries in the order in which one member got them.
    pub fn delivered(&mut self, deliveries: &[Delivery]) -> Result<()> {
        for delivery in deliveries {
            let number = delivery.line;
            let line = self.lines.line(number);
            let Some(times) = usize::try_from(number).ok().and_then(|n| self.times.get_mut(n))
            else {
                return Err(broken(format!("a line {number} that the input does not have")));
            };
            if delivery.checksum != checksum(line) {
                return Err(broken(format!("line {number} came with other bytes")));
            }
            self.deliveries += 1;
            *times += 1;
            if *times > 1 {
                continue;
            }
            self.distinct += 1;
            self.sum = self.sum.wrapping_add(delivery.checksum);
            if let Some(key) = self.lines.key(number) {
                self.keyed += 1;
                match self.last_first.insert(key, number) {
                    Some(before) if before > number => {
                        return Err(broken(format!(
                            "of one key, line {number} came after line {before}"
                        )));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// The sentences of the proof.
    ///
    /// # Errors
    /// When a line is missing or the checksum differs.
    pub fn conclude(&self) -> Result<Vec<String>> {
        let missing = self.times.iter().filter(|times| **times == 0).count();
        if missing > 0 {
            return Err(broken(format!("{missing} lines were never delivered")));
        }
        let expected = (0..self.lines.count())
            .fold(0u64, |sum, number| sum.wrapping_add(checksum(self.lines.line(number))));
        if expected != self.sum {
            return Err(broken(format!("checksum {:016x}, not {expected:016x}", self.sum)));
        }
        Ok(vec![
            format!("{} lines in, {} delivered, none lost", self.lines.count(), self.distinct),
            format!(
                "{} delivered again after the kill or a rebalance",
                self.deliveries - self.distinct
            ),
            format!("checksum over the input and over what was delivered: {expected:016x}"),
            format!(
                "order held within each of {} keys, over {} keyed lines",
                self.last_first.len(),
                self.keyed
            ),
        ])
    }
}
