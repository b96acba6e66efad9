//! Random logs against a plain map: whatever is written, cleaned, trimmed and opened again, the
//! latest value of each key is what a reader from the beginning ends with, and no offset changes
//! what it says.

use super::rounds::{CONFIG, compacted, put, round};
use crate::log::segment::state::Trust;
use crate::log::tests::{Bench, read_all};
use crate::log::{CleanerConfig, Log};
use crate::sync::Arc;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Debug, Clone)]
enum Step {
    Put(u8, u16),
    Tombstone(u8),
    Clean { small: bool },
    Wait(u32),
    Reopen,
    Retain,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0u8..12, any::<u16>()).prop_map(|(key, value)| Step::Put(key, value)),
        3 => (0u8..12).prop_map(Step::Tombstone),
        3 => any::<bool>().prop_map(|small| Step::Clean { small }),
        1 => (0u32..200_000_000).prop_map(Step::Wait),
        1 => Just(Step::Reopen),
        1 => Just(Step::Retain),
    ]
}

/// What was written, by offset: key and value.
type Written = BTreeMap<i64, (String, Option<String>)>;

struct Model {
    bench: Bench,
    log: Arc<Log>,
    written: Written,
    checkpoint: Option<i64>,
}

impl Model {
    fn new() -> Model {
        let mut bench = Bench::heap();
        let log = compacted(&mut bench);
        Model { bench, log, written: Written::new(), checkpoint: None }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Put(key, value) => self.put(*key, Some(format!("{key}={value}"))),
            Step::Tombstone(key) => self.put(*key, None),
            Step::Clean { small } => {
                let bytes = if *small { 24 * 4 } else { 1 << 16 };
                let config = CleanerConfig { dedupe_buffer_bytes: bytes, ..CONFIG };
                self.bench.run_work();
                let now_ms = self.bench.now_ms();
                if let Some(done) = round(&self.log, self.checkpoint, now_ms, config).unwrap() {
                    assert!(self.checkpoint.is_none_or(|before| before <= done.end_offset));
                    self.checkpoint = Some(done.end_offset);
                }
                self.check();
            }
            Step::Wait(ms) => self.bench.clock.advance(Duration::from_millis((*ms).into())),
            Step::Reopen => {
                let state = self.log.close().unwrap();
                self.log = self.bench.open(state, Trust::Clean);
                self.check();
            }
            Step::Retain => {
                self.log.retention_step(self.bench.clock.now()).unwrap();
            }
        }
    }

    fn put(&mut self, key: u8, value: Option<String>) {
        let key = format!("key {key}");
        let offset = put(&self.bench, &self.log, &key, value.as_deref());
        self.written.insert(offset, (key, value));
    }

    fn check(&self) {
        let mut latest: BTreeMap<&str, Option<&str>> = BTreeMap::new();
        for (key, value) in self.written.values() {
            latest.insert(key, value.as_deref());
        }
        latest.retain(|_, value| value.is_some());
        let found = read_all(&self.log, 0);
        let mut seen: BTreeMap<&str, Option<&str>> = BTreeMap::new();
        for (offset, _, value) in &found {
            let (key, written) = &self.written[offset];
            assert_eq!(value, written.as_deref().unwrap_or("").as_bytes(), "offset {offset}");
            seen.insert(key, written.as_deref());
        }
        assert!(found.windows(2).all(|pair| pair[0].0 < pair[1].0));
        seen.retain(|_, value| value.is_some());
        assert_eq!(seen, latest);
        assert_eq!(self.log.log_end_offset().unwrap(), self.written.len() as i64);
    }

    /// Cleans until nothing changes: then each key is there once below the dirty border.
    fn settle(&mut self) {
        for _ in 0..2 {
            self.take(&Step::Clean { small: false });
        }
        let Some(border) = self.checkpoint else { return };
        let mut keys: Vec<&str> = Vec::new();
        for (offset, ..) in read_all(&self.log, 0) {
            if offset < border {
                keys.push(&self.written[&offset].0);
            }
        }
        let count = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), count, "a key is there twice below {border}");
    }
}

/// How many histories, each of up to 60 steps.
fn rounds() -> u32 {
    match std::env::var("TOPICLITE_SCALE").as_deref() {
        Ok("ci") => 50_000,
        Ok("long") => 1_000_000,
        _ => 1000,
    }
}

#[test]
fn any_history_ends_with_what_a_plain_map_holds() {
    let mut config = ProptestConfig::with_cases(rounds());
    config.failure_persistence = None;
    proptest!(config, |(steps in prop::collection::vec(step(), 1..60))| {
        let mut model = Model::new();
        steps.iter().for_each(|step| model.take(step));
        model.settle();
    });
}
