//! A compacted log as random programs use it: what they may do, step by step, and what is promised
//! to them meanwhile.

use super::super::{CleanerConfig, Cleaning, CleaningScope};
use super::history::{Entry, Found, History};
use super::rounds::CONFIG;
use crate::config::LogConfig;
use crate::error::ErrorKind;
use crate::log::producers::Marker;
use crate::log::producers::entry::ProducerStamp;
use crate::log::segment::state::{LogState, Trust};
use crate::log::tests::Bench;
use crate::log::{AppendOptions, Appended, EpochGate, Log};
use crate::record::{Codec, ControlType, RecordInput};
use crate::storage::sim::{PowerCut, Sim};
use crate::sync::{Arc, Ordering};
use crate::time::VirtualClock;
use proptest::prelude::*;
use std::path::PathBuf;
use std::time::Duration;

/// `delete.retention.ms`.
const DELETE_RETENTION_MS: i64 = 1000;

/// `retention.ms`, where records are deleted.
const RETENTION_MS: i64 = 4000;

/// Producers with sequences; [`TRANSACTIONAL`] in transactions.
pub(super) const PRODUCERS: [i64; 4] = [1, 2, 3, 4];
const TRANSACTIONAL: [i64; 2] = [3, 4];

/// `cleanup.policy`, and what goes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Policy {
    Compact,
    CompactLate,
    CompactAndDelete,
    Delete,
}

/// How a life of the log ends.
#[derive(Debug, Clone)]
pub(super) enum Stop {
    Close,
    Kill,
    PowerCut(u64),
}

#[derive(Debug, Clone)]
pub(super) enum Step {
    /// Producer 0 has no id. A value is as long as its number says.
    Send {
        producer: i64,
        codec: Codec,
        records: Vec<(u8, Option<u8>)>,
    },
    /// A record without a key.
    SendKeyless,
    /// The last batch once more.
    SendAgain(i64),
    End {
        producer: i64,
        commits: bool,
    },
    /// Deletes so many 256ths of the log.
    Trim(u8),
    /// Begins a cleaning, with little memory for keys, or of all that is closed.
    Begin {
        small: bool,
        all: bool,
    },
    /// Goes on with it, so many pieces.
    Advance(u8),
    /// Ends it; one is begun where none is.
    Clean {
        small: bool,
        all: bool,
    },
    Wait(u16),
    Flush,
    Work,
    Retain,
    Alter(Policy),
    Stop(Stop),
}

/// Steps of a program; lives end as `stop` says.
pub(super) fn step(stop: BoxedStrategy<Stop>) -> impl Strategy<Value = Step> {
    let record = (0u8..10, prop::option::weighted(0.8, 0u8..60));
    let available = Codec::ALL.into_iter().filter(|codec| codec.is_available());
    let codec = prop::sample::select(available.collect::<Vec<Codec>>());
    let codec = prop_oneof![3 => Just(Codec::None), 1 => codec];
    let send = (0i64..5, codec, prop::collection::vec(record, 1..4));
    let policy = prop_oneof![
        4 => Just(Policy::Compact),
        1 => Just(Policy::CompactLate),
        3 => Just(Policy::CompactAndDelete),
        1 => Just(Policy::Delete),
    ];
    prop_oneof![
        20 => send
            .prop_map(|(producer, codec, records)| Step::Send { producer, codec, records }),
        1 => Just(Step::SendKeyless),
        1 => (1i64..5).prop_map(Step::SendAgain),
        7 => (3i64..5, any::<bool>())
            .prop_map(|(producer, commits)| Step::End { producer, commits }),
        1 => any::<u8>().prop_map(Step::Trim),
        2 => any::<(bool, bool)>().prop_map(|(small, all)| Step::Begin { small, all }),
        3 => (1u8..6).prop_map(Step::Advance),
        4 => any::<(bool, bool)>().prop_map(|(small, all)| Step::Clean { small, all }),
        2 => (0u16..1500).prop_map(Step::Wait),
        2 => Just(Step::Flush),
        2 => Just(Step::Work),
        2 => Just(Step::Retain),
        1 => policy.prop_map(Step::Alter),
        2 => stop.prop_map(Step::Stop),
    ]
}

/// A log, and what is known of it outside of it.
pub(super) struct World {
    pub bench: Bench,
    sim: Sim,
    pub log: Arc<Log>,
    pub history: History,
    checkpoint: Option<i64>,
    cleaning: Option<Cleaning>,
    /// What the state file said, and from which step of the disk on.
    pub states: Vec<(u64, LogState)>,
    /// From which step of the disk on everything below an offset was durable.
    pub durable: Vec<(u64, i64)>,
    policy: Policy,
    /// The power was cut, and nothing is recorded since: what is, is of another boot.
    is_other_boot: bool,
}

fn config_of(policy: Policy) -> LogConfig {
    LogConfig {
        cleanup_compact: policy != Policy::Delete,
        cleanup_delete: matches!(policy, Policy::Delete | Policy::CompactAndDelete),
        min_compaction_lag_ms: if policy == Policy::CompactLate { 1500 } else { 0 },
        delete_retention_ms: DELETE_RETENTION_MS,
        retention_ms: RETENTION_MS,
        segment_bytes: 700,
        index_interval_bytes: 150,
        ..LogConfig::default()
    }
}

fn bench_on(sim: &Sim, policy: Policy, epoch: i64, now_ms: i64) -> Bench {
    let mut bench = Bench::on(Arc::new(sim.clone()), PathBuf::from("/logs"), None);
    bench.config = config_of(policy);
    bench.clock = VirtualClock::manual().starting_at(now_ms);
    bench.gate.epoch.store(epoch, Ordering::SeqCst);
    assert!(bench.gate.disk.set(sim.clone()).is_ok());
    bench
}

impl World {
    /// An empty log on an empty disk that has its folder.
    pub fn new(sim: &Sim) -> World {
        let bench = bench_on(sim, Policy::Compact, 0, crate::log::tests::START_MS);
        World {
            log: bench.new_log(),
            bench,
            sim: sim.clone(),
            history: History::default(),
            checkpoint: None,
            cleaning: None,
            states: vec![(0, LogState::default())],
            durable: vec![(0, 0)],
            policy: Policy::Compact,
            is_other_boot: false,
        }
    }

    /// The log that opens on what a crash left of one with this history, and which ends in `ends`.
    pub fn reopened(
        sim: &Sim,
        mut history: History,
        (state, trust): (LogState, Trust),
        ends: std::ops::RangeInclusive<i64>,
        (policy, epoch, now_ms): (Policy, i64, i64),
        what: &str,
    ) -> World {
        let bench = bench_on(sim, policy, epoch, now_ms);
        let log = bench.open(state.clone(), trust);
        let (start, end) = (log.log_start_offset().unwrap(), log.log_end_offset().unwrap());
        let (findings, report) = log.opening();
        let rows =
            state.segments.iter().map(|row| (row.extent.base_offset, row.extent.next_offset));
        let rows: Vec<(i64, i64)> = rows.collect();
        let listed = bench.storage.list(&bench.identity().dir).unwrap_or_default();
        let names: Vec<String> = listed.into_iter().map(|entry| entry.name).collect();
        let what = format!("{what}: {findings:?}, recorded {rows:?}, found {names:?}");
        assert!(log.refusal().is_none() && !report.foreign, "{what}");
        assert!(ends.contains(&end), "{what}: ends at {end}, not in {ends:?}");
        assert!((0..=history.start).contains(&start), "{what}: starts at {start}");
        history.cut(end, &what);
        history.start = start;
        history.hold(&log, &what);
        World {
            log,
            bench,
            sim: sim.clone(),
            history,
            checkpoint: None,
            cleaning: None,
            durable: vec![(sim.steps(), state.recovery_point)],
            states: vec![(sim.steps(), state)],
            policy,
            is_other_boot: trust == Trust::OtherBoot,
        }
    }

    pub fn policy(&self) -> Policy {
        self.policy
    }

    pub fn take(&mut self, step: &Step) {
        match step {
            Step::Send { producer, codec, records } => self.send(*producer, *codec, records),
            Step::SendKeyless => self.send_keyless(),
            Step::SendAgain(producer) => self.send_again(*producer),
            Step::End { producer, commits } => self.end(*producer, *commits),
            Step::Trim(part) => {
                let (start, end) = (self.history.start, self.history.end());
                let before = start + (end - start) * i64::from(*part) / 256;
                // A crash inside of it may leave either start.
                self.history.start = before;
                assert_eq!(self.log.delete_records(before).unwrap(), before);
                self.record();
                self.hold("trimmed");
            }
            Step::Begin { small, all } => self.begin(*small, *all),
            Step::Advance(pieces) => self.advance((*pieces).into()),
            Step::Clean { small, all } => self.clean(*small, *all),
            Step::Wait(ms) => self.bench.clock.advance(Duration::from_millis((*ms).into())),
            Step::Flush => self.flush(),
            Step::Work => self.bench.run_work(),
            Step::Retain => self.retain(),
            Step::Alter(policy) => {
                self.policy = *policy;
                self.bench.config = config_of(*policy);
                self.log.apply_config(self.bench.config.clone());
                self.cleaning = self.cleaning.take().filter(|_| *policy != Policy::Delete);
            }
            Step::Stop(stop) => self.stop(stop),
        }
        self.note_recorded();
    }

    fn note_recorded(&mut self) {
        for (step, state) in std::mem::take(&mut *self.bench.gate.recorded.lock()) {
            self.durable.push((step, state.recovery_point));
            self.states.push((step, state));
            self.is_other_boot = false;
        }
    }

    /// Writes the state file, unless nothing was changed in this life.
    fn record(&mut self) {
        if self.bench.gate.entered.load(Ordering::SeqCst) == 0 {
            return;
        }
        self.bench.gate.record(&self.log).unwrap();
        self.note_recorded();
    }

    fn flush(&mut self) {
        self.log.flush().unwrap();
        self.durable.push((self.sim.steps(), self.history.end()));
        self.record();
    }

    fn hold(&self, what: &str) {
        self.history.hold(&self.log, what);
    }

    pub fn send(&mut self, producer: i64, codec: Codec, records: &[(u8, Option<u8>)]) {
        let stamp = PRODUCERS.contains(&producer).then(|| {
            let sender = self.history.sender(producer);
            ProducerStamp {
                producer_id: producer,
                producer_epoch: sender.epoch,
                base_sequence: sender.next_sequence,
                transactional: TRANSACTIONAL.contains(&producer),
            }
        });
        let (base, timestamp) = (self.history.end(), self.bench.now_ms());
        for (offset, (key, length)) in (base..).zip(records) {
            self.history.entries.push(Entry {
                base,
                timestamp,
                key: Some(format!("key {key}")),
                value: length.map(|length| format!("{offset}:{}", ".".repeat(length.into()))),
                stamp,
                marker: None,
            });
        }
        let appended = self.append(base..self.history.end(), codec).unwrap();
        assert_eq!((appended.base_offset, appended.duplicate), (base, false));
    }

    /// Sends what stands in the history at these offsets.
    fn append(
        &self,
        offsets: std::ops::Range<i64>,
        codec: Codec,
    ) -> crate::error::Result<Appended> {
        let entries = &self.history.entries[offsets.start as usize..offsets.end as usize];
        let input = |entry: &Entry| -> (i64, Option<Vec<u8>>, Option<Vec<u8>>) {
            let bytes = |text: &Option<String>| text.as_ref().map(|text| text.clone().into_bytes());
            (entry.timestamp, bytes(&entry.key), bytes(&entry.value))
        };
        let owned: Vec<_> = entries.iter().map(input).collect();
        let inputs: Vec<RecordInput<'_>> = owned
            .iter()
            .map(|(timestamp, key, value)| RecordInput {
                timestamp: *timestamp,
                key: key.as_deref(),
                value: value.as_deref(),
                headers: &[],
            })
            .collect();
        let now_ms = self.bench.now_ms();
        let options = AppendOptions { producer: entries[0].stamp, ..AppendOptions::client(now_ms) };
        match (&inputs[..], codec) {
            ([one], Codec::None) => self.log.append(one, options),
            _ => self.log.append_records(&inputs, codec, None, options),
        }
    }

    fn send_keyless(&mut self) {
        let (base, timestamp) = (self.history.end(), self.bench.now_ms());
        self.history.entries.push(Entry {
            base,
            timestamp,
            key: None,
            value: Some("of no key".to_owned()),
            stamp: None,
            marker: None,
        });
        let appended = self.append(base..base + 1, Codec::None);
        if self.policy == Policy::Delete {
            assert_eq!(appended.unwrap().base_offset, base);
        } else {
            assert_eq!(appended.unwrap_err().kind(), ErrorKind::InvalidRecord);
            self.history.entries.pop();
        }
    }

    pub fn send_again(&self, producer: i64) {
        let sender = self.history.sender(producer);
        let Some((stamp, offsets)) = sender.last else { return };
        let again = self.append(offsets.clone(), Codec::None);
        if stamp.producer_epoch < sender.epoch {
            assert_eq!(again.unwrap_err().kind(), ErrorKind::InvalidProducerEpoch);
            return;
        }
        let again = again.unwrap();
        let place = (again.base_offset, again.duplicate);
        assert_eq!(place, (offsets.start, true), "producer {producer}, {stamp:?}");
    }

    fn end(&mut self, producer: i64, commits: bool) {
        let sender = self.history.sender(producer);
        if !sender.is_open {
            return;
        }
        let kind = if commits { ControlType::Commit } else { ControlType::Abort };
        let (base, timestamp) = (self.history.end(), self.bench.now_ms());
        let producer_epoch = sender.epoch + 1;
        let stamp = ProducerStamp {
            producer_id: producer,
            producer_epoch,
            base_sequence: -1,
            transactional: true,
        };
        self.history.entries.push(Entry {
            base,
            timestamp,
            key: None,
            value: None,
            stamp: Some(stamp),
            marker: Some(kind),
        });
        let marker = Marker {
            producer_id: producer,
            producer_epoch,
            kind,
            coordinator_epoch: 4,
            transaction_version: 0,
        };
        assert_eq!(self.log.append_marker(marker, timestamp).unwrap().base_offset, base);
    }

    fn begin(&mut self, small: bool, all: bool) {
        if self.cleaning.is_some() || self.policy == Policy::Delete {
            return;
        }
        let now = self.bench.clock.now();
        let scope = if all { CleaningScope::AllClosed } else { CleaningScope::Settings };
        if all && self.history.end() > self.history.start {
            self.log.close_active_segment(now).unwrap();
        }
        // The smallest map has sixteen slots; four keys fill a quarter of them.
        let (dedupe_buffer_bytes, load_factor) = if small { (0, 0.25) } else { (1 << 16, 0.9) };
        let config = CleanerConfig { dedupe_buffer_bytes, load_factor, ..CONFIG };
        let how = (scope, now.wall_ms);
        let upto = self.log.log_to_clean(self.checkpoint, how).unwrap().first_uncleanable_offset;
        self.cleaning = self.log.begin_cleaning(self.checkpoint, how, config).unwrap();
        if self.cleaning.is_some() {
            self.history.clean(upto, now.wall_ms, DELETE_RETENTION_MS);
        }
    }

    fn advance(&mut self, pieces: usize) {
        for _ in 0..pieces {
            let Some(cleaning) = &mut self.cleaning else { return };
            if let Some(done) = cleaning.advance(256).1.unwrap() {
                assert!(done.end_offset <= self.history.border.max(self.history.start));
                self.checkpoint = Some(done.end_offset);
            }
            if cleaning.is_over() {
                self.cleaning = None;
            }
        }
        self.hold("in a cleaning");
    }

    pub fn clean(&mut self, small: bool, all: bool) {
        self.begin(small, all);
        self.advance(usize::MAX);
        self.hold("cleaned");
    }

    /// Removes what retention takes: old records, from the front.
    fn retain(&mut self) {
        let before = Found::all(&self.log);
        let now = self.bench.clock.now();
        // A crash inside of it may leave either start.
        let start = self.history.start;
        self.history.start = self.history.end();
        let retained = self.log.retention_step(now).unwrap();
        self.history.start = retained.log_start_offset;
        assert!(start <= self.history.start);
        let deletes = config_of(self.policy).cleanup_delete;
        for gone in before.iter().filter(|found| found.offset < self.history.start) {
            let old = deletes && gone.timestamp + RETENTION_MS < now.wall_ms;
            assert!(old, "{} went at {}", gone.offset, now.wall_ms);
        }
        self.hold("after retention");
    }

    fn stop(&mut self, stop: &Stop) {
        let (after, trust) = match stop {
            Stop::Close => {
                self.cleaning = None;
                let state = self.log.close().unwrap();
                self.note_recorded();
                self.durable.push((self.sim.steps(), state.recovery_point));
                self.states.push((self.sim.steps(), state));
                (self.sim.clone(), Trust::Clean)
            }
            Stop::Kill if self.is_other_boot => (self.sim.kill(), Trust::OtherBoot),
            Stop::Kill => (self.sim.kill(), Trust::SameBoot),
            Stop::PowerCut(seed) => (self.sim.power_cut(&PowerCut::drawn(*seed)), Trust::OtherBoot),
        };
        self.note_recorded();
        let state = self.states.last().map(|row| row.1.clone()).unwrap_or_default();
        let durable = self.durable.iter().map(|row| row.1).max().unwrap_or(0);
        let end = self.history.end();
        let least = if matches!(stop, Stop::PowerCut(_)) { durable } else { end };
        let epoch = self.bench.gate.epoch.load(Ordering::SeqCst) + 1;
        let place = (self.policy, epoch, self.bench.now_ms());
        let history = self.history.clone();
        let what = format!("{stop:?}, {trust:?}");
        let reopened = World::reopened(&after, history, (state, trust), least..=end, place, &what);
        let ended = std::mem::replace(self, reopened);
        self.checkpoint = ended.checkpoint;
        if trust == Trust::OtherBoot {
            // What was synced by then stays so.
            self.durable.push((self.sim.steps(), self.log.recovery_point().unwrap()));
        }
    }

    /// Ends all transactions, and cleans until there is nothing left to do.
    pub fn settle(&mut self) {
        self.take(&Step::Alter(Policy::Compact));
        for producer in TRANSACTIONAL {
            self.end(producer, true);
        }
        self.advance(usize::MAX);
        for _ in 0..3 {
            self.clean(false, true);
            self.take(&Step::Wait(2000));
        }
        if self.checkpoint.is_some() {
            self.history.hold_settled(&self.log, "settled");
        }
        for producer in PRODUCERS {
            self.send_again(producer);
        }
        self.take(&Step::Stop(Stop::Close));
        for producer in PRODUCERS {
            self.send_again(producer);
            self.send(producer, Codec::None, &[(0, Some(1))]);
            self.send_again(producer);
        }
    }
}
