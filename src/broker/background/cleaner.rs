//! When logs are cleaned, and how fast (Kafka's `LogCleaner`).
//!
//! One log at a time: of those whose settings want it, the one that is the dirtiest. A round is
//! done in bounded pieces, so that retention gets its turn in between, a close need not wait, and
//! a limit of bytes per second is a matter of when the next piece is due. Where there is nothing
//! to clean, the next look is `log.cleaner.backoff.ms` later.

use crate::broker::core::BrokerCore;
use crate::broker::topics::Topic;
use crate::config::BrokerConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::log::files::checkpoint::{
    CLEANER_CHECKPOINT, read_offsets, read_proven_offsets, write_offsets, write_proven_offsets,
};
use crate::log::{CleanedLog, CleanerConfig, Cleaning, CleaningScope, Log, LogToClean, Trust};
use crate::meter::gauge;
use crate::storage::NotBegun;
use crate::storage::planted::{Planted, planted};
use crate::sync::{Arc, Mutex, Rank, ranked_mutex};
use crate::time::{Clock, Now};
use crate::topic::{TopicPartition, is_internal};
use std::collections::BTreeMap;
use std::time::Duration;

/// What a key takes of the memory for the keys of a round.
const OFFSET_MAP_SLOT_BYTES: usize = 24;
/// When partitions were cleaned last, in ms since 1970: a file of the form of the checkpoints that
/// proves itself.
const LAST_CLEANED: &str = "topiclite.cleaned";
/// How much is read and written before others get their turn.
const PIECE_BYTES: u64 = 4 << 20;
/// How often the progress is written while there is more to clean: it takes four syncs, and
/// without it a part is cleaned twice, which changes nothing.
///
/// Departure: D114. Kafka writes it after each log.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
/// Of so many segments of internal topics the cleaner may be behind. Whoever stores more has one
/// log cleaned itself first.
const BACKLOG_SEGMENTS_MAX: usize = 48;

/// The cleaner of one broker.
#[derive(Debug)]
pub(in crate::broker) struct Cleaner {
    enabled: bool,
    config: CleanerConfig,
    backoff: Duration,
    bytes_per_second: f64,
    pace: Mutex<Pace>,
    /// When it looked for something to clean last.
    last_look: Mutex<Option<Duration>>,
    /// When the round that is under way, or the last one, began.
    round_began: Mutex<Duration>,
    /// Whether a topic is compacted, and for which state of the topics that is known.
    compacts: Mutex<Option<((u64, usize), bool)>>,
    /// The round that is under way: whoever cleans holds it.
    turn: Mutex<Option<(TopicPartition, Cleaning)>>,
    progress: Mutex<Progress>,
}

/// When there is something to do next.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// When all topics are looked at again.
    look: Duration,
    /// What was moved before is paid for by then.
    rest: Duration,
    /// A round is under way, or one has just ended: others may be due as well.
    busy: bool,
}

/// How far partitions were cleaned.
#[derive(Debug, Default)]
struct Progress {
    /// What is kept on the disk, once it was read.
    kept: Option<Kept>,
    /// Partitions that are not cleaned any more in this life, and why.
    uncleanable: BTreeMap<TopicPartition, Error>,
}

/// What is kept of the cleaning of partitions.
#[derive(Debug, Default)]
struct Kept {
    /// First dirty offsets.
    checkpoints: BTreeMap<TopicPartition, i64>,
    /// When each was cleaned last, in ms since 1970: only told, and nothing depends on it.
    last_cleaned: BTreeMap<TopicPartition, i64>,
    /// When that was written to the disk last, and whether it has changed since.
    written: Option<Duration>,
    is_unwritten: bool,
    /// The files have rows of topics that are gone.
    has_more_on_disk: bool,
}

impl Kept {
    /// Leaves out what is kept of these partitions. Returns whether there was something.
    fn forget(&mut self, of: impl Fn(&TopicPartition) -> bool) -> bool {
        let before = self.checkpoints.len() + self.last_cleaned.len();
        self.checkpoints.retain(|place, _| !of(place));
        self.last_cleaned.retain(|place, _| !of(place));
        self.checkpoints.len() + self.last_cleaned.len() < before
    }
}

/// What is known of the cleaning of one partition.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct CleaningStatus {
    pub to_clean: LogToClean,
    pub segments: usize,
    /// In ms since 1970; `None` where it never was, or that is not known.
    pub last_cleaned_ms: Option<i64>,
}

/// Tells what a look at all topics has found.
#[allow(clippy::cast_precision_loss)] // Whoever shows it rounds it anyway.
fn report_look(ratio_max: f64, delay_max_ms: i64, cleanable_bytes: u64) {
    gauge("topiclite_log_cleaner_max_dirty_percent", ratio_max * 100.0);
    gauge("topiclite_log_cleaner_max_compaction_delay_seconds", delay_max_ms as f64 / 1000.0);
    gauge("topiclite_log_cleaner_cleanable_bytes", cleanable_bytes as f64);
}

impl Cleaner {
    /// Departure: D90. Its first look comes with the other tasks' of the log, not at once: whoever
    /// opens a directory for a moment does not begin to clean it.
    pub fn new(clock: &Clock, config: &BrokerConfig) -> Cleaner {
        let first = clock.monotonic().saturating_add(config.initial_task_delay());
        Cleaner {
            enabled: config.cleaner_enabled(),
            config: CleanerConfig {
                dedupe_buffer_bytes: config.cleaner_dedupe_buffer_bytes(),
                load_factor: config.cleaner_load_factor(),
                io_buffer_bytes: config.cleaner_io_buffer_bytes(),
            },
            backoff: config.cleaner_backoff().max(Duration::from_millis(1)),
            bytes_per_second: config.cleaner_bytes_per_second(),
            pace: Mutex::new(Pace { look: first, rest: Duration::ZERO, busy: false }),
            last_look: Mutex::default(),
            round_began: Mutex::default(),
            compacts: Mutex::default(),
            turn: ranked_mutex(Rank::Cleaner, None),
            progress: ranked_mutex(Rank::CleanerProgress, Progress::default()),
        }
    }

    /// How long a piece of so many bytes takes at the rate that is allowed.
    fn time_for(&self, bytes: u64) -> Duration {
        if self.bytes_per_second <= 0.0 {
            return Duration::from_secs(1);
        }
        #[allow(clippy::cast_precision_loss)]
        let seconds = bytes as f64 / self.bytes_per_second;
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO)
    }
}

impl BrokerCore {
    /// Cleans what is due at `now`: a piece, or, where time is virtual, all that fits the limit of
    /// bytes per second.
    pub fn cleaner_step(&self, now: Now) {
        if self.owner.is_none() || !self.cleaner.enabled {
            return;
        }
        let mut turn = self.cleaner.turn.lock();
        loop {
            let pace = *self.cleaner.pace.lock();
            let retired = pace.rest <= now.mono && self.queue.take_retired_internal();
            if pace.rest > now.mono || (pace.look > now.mono && !pace.busy && !retired) {
                return;
            }
            if turn.is_none() {
                *turn = self.begin_round(now, pace.look > now.mono);
            } else if retired {
                // Internal topics do not wait for the end of another's round.
                self.clean_internal(&mut turn, now);
                continue;
            }
            let Some(round) = turn.take() else {
                let mut pace = self.cleaner.pace.lock();
                pace.busy = false;
                if pace.look <= now.mono {
                    pace.look = now.mono.saturating_add(self.cleaner.backoff);
                }
                drop(pace);
                self.seal_internal();
                self.write_progress();
                continue;
            };
            let (spent, goes_on, failed) = self.clean_piece(round, now);
            *turn = goes_on;
            self.rest_after(spent, failed, now);
            if !self.clock.is_virtual() {
                return;
            }
        }
    }

    /// What was moved is paid for with a rest.
    fn rest_after(&self, spent: u64, failed: bool, now: Now) {
        let rest = if failed { self.cleaner.backoff } else { self.cleaner.time_for(spent) };
        let mut pace = self.cleaner.pace.lock();
        pace.busy = true;
        pace.rest = now.mono.saturating_add(rest);
    }

    /// Cleans one log of an internal topic if the cleaner is far behind: called by whoever has
    /// stored something in one, with no lock held.
    ///
    /// Departure: D113. Kafka's cleaner is never waited for.
    pub(in crate::broker) fn relieve_cleaner(&self) {
        let is_behind = || self.queue.cleaner_backlog() > BACKLOG_SEGMENTS_MAX;
        if !is_behind() || self.owner.is_none() || !self.cleaner.enabled {
            return;
        }
        let mut turn = self.cleaner.turn.lock();
        let now = self.clock.now();
        let rests = self.cleaner.pace.lock().rest > now.mono;
        // Others may have done it meanwhile.
        if is_behind() && !rests && self.check_open().is_ok() {
            self.clean_internal(&mut turn, now);
        }
    }

    /// Does a round over one log of an internal topic, if one is due. Another topic's round waits.
    fn clean_internal(&self, turn: &mut Option<(TopicPartition, Cleaning)>, now: Now) {
        let parked = turn.take_if(|(place, _)| !is_internal(place.topic()));
        let mut round = turn.take().or_else(|| self.begin_round(now, true));
        while let Some(going) = round.filter(|_| self.check_open().is_ok()) {
            let (spent, goes_on, failed) = self.clean_piece(going, now);
            self.rest_after(spent, failed, now);
            round = goes_on;
        }
        *turn = parked;
    }

    /// Seals the segments of internal topics that stay as they are.
    fn seal_internal(&self) {
        for topic in self.topics.all().iter().filter(|topic| topic.is_internal()) {
            for (_, partition) in topic.opened() {
                let Ok(log) = partition.log() else { continue };
                let sealed = || -> Result<()> {
                    while log.has_retired() && log.seal_step()? {}
                    Ok(())
                };
                if let Err(error) = sealed() {
                    self.partition_failed(log, error);
                }
            }
        }
    }

    /// When there is something to clean next; `None` as long as no topic is compacted.
    pub(in crate::broker) fn next_cleaning(&self) -> Option<Duration> {
        if self.owner.is_none() || !self.cleaner.enabled {
            return None;
        }
        let pace = *self.cleaner.pace.lock();
        let at_once = pace.busy || self.queue.has_retired_internal();
        let next = if at_once { pace.rest } else { pace.look.max(pace.rest) };
        self.has_compacted_topics().then_some(next)
    }

    /// Whether a topic is compacted. Every park asks this, so it is worked out once for each state
    /// of the topics.
    fn has_compacted_topics(&self) -> bool {
        // Topics that were there at the opening are no change.
        let state = (self.topics.version(), self.topics.len());
        let known = *self.cleaner.compacts.lock();
        if let Some((_, compacts)) = known.filter(|(of, _)| *of == state) {
            return compacts;
        }
        let topics = self.topics.all();
        let compacts = topics.iter().any(|topic| topic.log_config(&self.config).cleanup_compact);
        *self.cleaner.compacts.lock() = Some((state, compacts));
        compacts
    }

    /// Begins with the dirtiest log that is due, if there is one; between the looks at all topics
    /// with one of an internal topic.
    ///
    /// Departure: D117. Kafka looks at those at `log.cleaner.backoff.ms`, too. Theirs are the
    /// segments of which there are many small ones, and what they hold is read at the first use.
    fn begin_round(&self, now: Now, internal_alone: bool) -> Option<(TopicPartition, Cleaning)> {
        let how = (CleaningScope::Settings, now.wall_ms);
        let mut dirtiest: Option<(TopicPartition, Arc<Log>, LogToClean)> = None;
        let (mut ratio_max, mut backlog) = (0f64, 0);
        let (mut delay_max_ms, mut cleanable_bytes) = (0, 0u64);
        for topic in self.topics.all() {
            if internal_alone && !topic.is_internal() {
                continue;
            }
            let config = topic.log_config(&self.config);
            let partitions = if config.cleanup_compact { topic.partition_count() } else { 0 };
            for number in 0..partitions {
                let place = TopicPartition::new(topic.name().clone(), number);
                let Some((log, to_clean)) = self.look_at(&topic, &place, how) else { continue };
                ratio_max = ratio_max.max(to_clean.cleanable_ratio());
                delay_max_ms = delay_max_ms.max(to_clean.compaction_delay_ms);
                cleanable_bytes = cleanable_bytes.saturating_add(to_clean.cleanable_bytes);
                let dirtier = dirtiest.as_ref().is_none_or(|(_, _, other)| {
                    to_clean.cleanable_ratio() > other.cleanable_ratio()
                });
                let is_due = to_clean.is_due(&config);
                if is_due && topic.is_internal() {
                    backlog += to_clean.cleanable_segments;
                }
                if is_due && dirtier {
                    dirtiest = Some((place, log, to_clean));
                }
            }
        }
        let taken = dirtiest.as_ref().filter(|(place, ..)| is_internal(place.topic()));
        let taken = taken.map_or(0, |(_, _, to_clean)| to_clean.cleanable_segments);
        self.queue.set_cleaner_backlog(backlog - taken);
        *self.cleaner.last_look.lock() = Some(now.mono);
        if !internal_alone {
            report_look(ratio_max, delay_max_ms, cleanable_bytes);
            self.report_cleaner_gauges();
        }
        let (place, log, _) = dirtiest?;
        *self.cleaner.round_began.lock() = self.clock.monotonic();
        match log.begin_cleaning(self.checkpoint_of(&place), how, self.cleaner.config) {
            Ok(round) => {
                if planted(Planted::CheckpointBeforeRename) {
                    self.keep_checkpoint(&place, log.log_end_offset().unwrap_or(0), None);
                    self.write_progress();
                }
                round.map(|round| (place, round))
            }
            Err(error) => {
                self.cleaning_failed(place, &log, error);
                None
            }
        }
    }

    /// What there is to clean in a partition, unless it is not to be cleaned, or cannot be looked
    /// at.
    fn look_at(
        &self,
        topic: &Topic,
        place: &TopicPartition,
        how: (CleaningScope, i64),
    ) -> Option<(Arc<Log>, LogToClean)> {
        if self.cleaner.progress.lock().uncleanable.contains_key(place) {
            return None;
        }
        let (number, checkpoint) = (place.partition(), self.checkpoint_of(place));
        if !topic.is_opened(number) && !self.recorded_to_clean(topic, number, checkpoint, how) {
            return None;
        }
        let log = topic.partition(number).and_then(|p| p.log().cloned()).ok()?;
        let looked = log.log_to_clean(checkpoint, how).and_then(|to_clean| {
            self.note_reset(place, &to_clean);
            let config = topic.log_config(&self.config);
            match topic.is_internal() && to_clean.is_overgrown(&config) {
                true => self.close_overgrown(&log).and_then(|()| log.log_to_clean(checkpoint, how)),
                false => Ok(to_clean),
            }
        });
        match looked {
            Ok(to_clean) => Some((log, to_clean)),
            Err(error) => {
                self.cleaning_failed(place.clone(), &log, error);
                None
            }
        }
    }

    /// Closes the active segment of an internal topic that is larger than segments are to be: it
    /// was written under other settings, or by Kafka, and no append may ever roll it.
    fn close_overgrown(&self, log: &Log) -> Result<()> {
        log.close_active_segment(self.clock.now())
    }

    /// Whether what is recorded of an unused partition has something to clean. One that a crash
    /// left is looked at itself.
    fn recorded_to_clean(
        &self,
        topic: &Topic,
        partition: i32,
        checkpoint: Option<i64>,
        how: (CleaningScope, i64),
    ) -> bool {
        let Some(owner) = &self.owner else { return false };
        let (recorded, trust) = owner.life.state_of((topic.id(), partition));
        let config = topic.log_config(&self.config);
        match trust {
            Trust::New => false,
            Trust::Clean => {
                let to_clean = LogToClean::of_state(&recorded, checkpoint, &config, how);
                to_clean.is_due(&config) || (topic.is_internal() && to_clean.is_overgrown(&config))
            }
            Trust::SameBoot | Trust::OtherBoot | Trust::Foreign => true,
        }
    }

    /// Goes on with a round. Returns how many bytes it moved, the round, if it goes on, and
    /// whether it failed.
    fn clean_piece(
        &self,
        (place, mut round): (TopicPartition, Cleaning),
        now: Now,
    ) -> (u64, Option<(TopicPartition, Cleaning)>, bool) {
        let (spent, outcome) = round.advance(PIECE_BYTES);
        match outcome {
            Ok(None) if round.is_over() => (spent, None, false),
            Ok(None) => (spent, Some((place, round)), false),
            Ok(Some(cleaned)) => {
                self.round_over(&place, &cleaned, now);
                (spent, None, false)
            }
            Err(error) => {
                let log = round.log().clone();
                self.cleaning_failed(place, &log, error);
                (spent, None, true)
            }
        }
    }

    fn round_over(&self, place: &TopicPartition, cleaned: &CleanedLog, now: Now) {
        self.keep_checkpoint(place, cleaned.end_offset, Some(now.wall_ms));
        if let Some(owner) = &self.owner {
            let counters = &owner.env.counters;
            counters.cleanings.one();
            counters.cleaner_bytes_read.add(cleaned.stats.bytes_read);
            counters.cleaner_bytes_written.add(cleaned.stats.bytes_written);
            let gone = cleaned.stats.records_read.saturating_sub(cleaned.stats.records_written);
            counters.cleaner_records_removed.add(gone);
        }
        self.report_round(cleaned);
        tracing::info!(
            %place,
            end_offset = cleaned.end_offset,
            bytes_before = cleaned.bytes_before,
            bytes_after = cleaned.bytes_after,
            keys = cleaned.keys,
            "cleaned"
        );
    }

    /// Tells what a round was like.
    #[allow(clippy::cast_precision_loss)] // Whoever shows it rounds it anyway.
    fn report_round(&self, cleaned: &CleanedLog) {
        let began = *self.cleaner.round_began.lock();
        let took = self.clock.monotonic().saturating_sub(began);
        crate::meter::took("topiclite_log_cleaner_clean_seconds", took);
        let percent = |part: u64, whole: u64| part as f64 * 100.0 / whole.max(1) as f64;
        let stats = cleaned.stats;
        gauge(
            "topiclite_log_cleaner_recopy_percent",
            percent(stats.bytes_written, stats.bytes_read),
        );
        let slots = self.cleaner.config.dedupe_buffer_bytes / OFFSET_MAP_SLOT_BYTES;
        gauge(
            "topiclite_log_cleaner_buffer_utilization_percent",
            percent(cleaned.keys as u64, slots as u64),
        );
    }

    /// Tells the present values of the cleaner.
    #[allow(clippy::cast_precision_loss)] // Whoever shows it rounds it anyway.
    pub(super) fn report_cleaner_gauges(&self) {
        if self.owner.is_none() || !self.cleaner.enabled {
            return;
        }
        let uncleanable: Vec<TopicPartition> =
            self.cleaner.progress.lock().uncleanable.keys().cloned().collect();
        let size = |place: &TopicPartition| {
            let topic = self.topics.get(place.topic()).ok()?;
            topic.partition(place.partition()).and_then(|found| found.size_bytes()).ok()
        };
        let bytes: u64 = uncleanable.iter().filter_map(size).sum();
        gauge("topiclite_log_cleaner_uncleanable_partitions", uncleanable.len() as f64);
        gauge("topiclite_log_cleaner_uncleanable_bytes", bytes as f64);
        if let Some(last) = *self.cleaner.last_look.lock() {
            let since = self.clock.monotonic().saturating_sub(last);
            gauge("topiclite_log_cleaner_time_since_last_run_seconds", since.as_secs_f64());
        }
    }

    /// Damage, and what cannot be unpacked, keeps a partition from being cleaned for as long as
    /// the broker is open; everything else is tried again.
    ///
    /// Departure: D88. Kafka tries none again, or gives the whole directory up.
    fn cleaning_failed(&self, place: TopicPartition, log: &Log, error: Error) {
        if log.refusal().is_some_and(|refusal| refusal.kind() == ErrorKind::UnknownTopicOrPartition)
        {
            return;
        }
        if !self.count_failure(&error) {
            if error.kind() == ErrorKind::StorageFull {
                self.health.warn_once(format!("{place} is not cleaned for want of room: {error}"));
            }
            return;
        }
        if error.kind() != ErrorKind::Io {
            let mut progress = self.cleaner.progress.lock();
            progress.uncleanable.insert(place.clone(), error.clone());
        }
        if log.known_damage().is_some() {
            // Its damage is told as that.
            return self
                .health
                .warn_once(format!("{place} is damaged and is not cleaned: {error}"));
        }
        match error.kind() {
            ErrorKind::CorruptRecord | ErrorKind::StorageFailed => {
                self.health.background(Some(place), error);
            }
            _ => self.health.warn_once(format!("{place} is not cleaned: {error}")),
        }
    }

    /// Counts a round that failed. False for one that only had no time or no room, of which
    /// nothing is counted.
    fn count_failure(&self, error: &Error) -> bool {
        let gone = matches!(
            error.kind(),
            ErrorKind::UnknownTopicOrPartition | ErrorKind::Closed | ErrorKind::StorageFull
        );
        if gone || NotBegun::caused(error) {
            return false;
        }
        if let Some(owner) = &self.owner {
            owner.env.counters.cleaner_failures.one();
        }
        true
    }

    /// What was kept. What belongs to no topic is left out: it is of one that was deleted.
    fn kept<'p>(&self, progress: &'p mut Progress) -> &'p mut Kept {
        progress.kept.get_or_insert_with(|| {
            let told = |read: Result<BTreeMap<TopicPartition, i64>>, what: &str| {
                read.unwrap_or_else(|error| {
                    self.health.warn_once(format!("{what}: {error}"));
                    BTreeMap::new()
                })
            };
            // Everything is looked at again where it is lost.
            let (storage, path) = (&*self.storage, |name: &str| self.dir.join(name));
            let checkpoints = read_offsets(storage, &path(CLEANER_CHECKPOINT));
            let last_cleaned = read_proven_offsets(storage, &path(LAST_CLEANED));
            let mut kept = Kept {
                checkpoints: told(checkpoints, "the cleaner's progress is lost"),
                last_cleaned: told(last_cleaned, "the times of cleanings are lost"),
                ..Kept::default()
            };
            kept.has_more_on_disk = kept.forget(|place| self.topics.get(place.topic()).is_err());
            kept
        })
    }

    fn checkpoint_of(&self, place: &TopicPartition) -> Option<i64> {
        self.kept(&mut self.cleaner.progress.lock()).checkpoints.get(place).copied()
    }

    /// What was kept does not fit the log, and may not fit it by chance one day, when the log has
    /// grown: a tombstone behind which nothing was cleaned would go without what it deletes.
    fn note_reset(&self, place: &TopicPartition, to_clean: &LogToClean) {
        if to_clean.was_reset {
            let mut progress = self.cleaner.progress.lock();
            let kept = self.kept(&mut progress);
            kept.is_unwritten |= kept.checkpoints.remove(place).is_some();
        }
    }

    fn keep_checkpoint(&self, place: &TopicPartition, offset: i64, cleaned_ms: Option<i64>) {
        let mut progress = self.cleaner.progress.lock();
        let kept = self.kept(&mut progress);
        kept.checkpoints.insert(place.clone(), offset);
        if let Some(at) = cleaned_ms {
            kept.last_cleaned.insert(place.clone(), at);
        }
        kept.is_unwritten = true;
        let next = kept.written.map(|written| written.saturating_add(PROGRESS_INTERVAL));
        if next.is_none_or(|next| next <= self.clock.monotonic()) {
            self.write_kept(kept);
        }
    }

    /// Writes how far logs were cleaned, if that is not on the disk.
    fn write_progress(&self) {
        let mut progress = self.cleaner.progress.lock();
        if let Some(kept) = progress.kept.as_mut().filter(|kept| kept.is_unwritten) {
            self.write_kept(kept);
        }
    }

    fn write_kept(&self, kept: &mut Kept) {
        kept.written = Some(self.clock.monotonic());
        kept.is_unwritten = false;
        kept.has_more_on_disk = false;
        let (storage, path) = (&*self.storage, |name: &str| self.dir.join(name));
        let written = [
            write_offsets(storage, &path(CLEANER_CHECKPOINT), &kept.checkpoints),
            write_proven_offsets(storage, &path(LAST_CLEANED), &kept.last_cleaned),
        ];
        for written in written {
            if let Err(error) = written {
                // A part is cleaned twice, which changes nothing.
                self.health.warn_once(format!("the cleaner's progress is not kept: {error}"));
            }
        }
    }

    /// What was kept under this name is of another topic: before one can take it, it is gone.
    pub(in crate::broker) fn forget_cleanings(&self, topic: &str) {
        let mut progress = self.cleaner.progress.lock();
        progress.uncleanable.retain(|place, _| place.topic() != topic);
        let kept = self.kept(&mut progress);
        if kept.forget(|place| place.topic() == topic) || kept.has_more_on_disk {
            self.write_kept(kept);
        }
    }

    /// Ends the round that is under way, if it is one over this topic, or over any.
    pub(in crate::broker) fn end_cleaning(&self, topic: Option<&str>) {
        let mut turn = self.cleaner.turn.lock();
        if turn.as_ref().is_some_and(|(place, _)| topic.is_none_or(|name| name == place.topic())) {
            *turn = None;
        }
        drop(turn);
        if topic.is_none() {
            self.write_progress();
        }
    }

    /// Cleans a topic on this thread, whatever its dirty ratio: one outcome a partition, `None`
    /// where there was nothing to clean. `scope` says whether the active segments are closed, and
    /// young records are cleaned, too.
    ///
    /// # Errors
    /// Those of the topic's name; `PolicyViolation` for one that is not compacted; what kept the
    /// first partition that failed from being cleaned, once the others are.
    pub(crate) fn compact(
        &self,
        name: &str,
        scope: CleaningScope,
    ) -> Result<Vec<(i32, Option<CleanedLog>)>> {
        self.owner()?;
        let topic = self.topic(name)?;
        if !topic.log_config(&self.config).cleanup_compact {
            let message = "the topic's cleanup.policy does not compact";
            return Err(Error::new(ErrorKind::PolicyViolation, message).with_topic(name));
        }
        let mut turn = self.cleaner.turn.lock();
        // A round over one of its partitions would be in the way.
        *turn = None;
        let mut outcomes = Vec::new();
        let mut failed = None;
        for number in 0..topic.partition_count() {
            self.check_open()?;
            match self.compact_partition(&topic, number, scope) {
                Ok(outcome) => outcomes.push((number, outcome)),
                Err(error) => {
                    self.count_failure(&error);
                    failed = failed.or(Some(error));
                }
            }
        }
        failed.map_or(Ok(outcomes), Err)
    }

    fn compact_partition(
        &self,
        topic: &Topic,
        number: i32,
        scope: CleaningScope,
    ) -> Result<Option<CleanedLog>> {
        let log = topic.partition(number)?.log()?.clone();
        let place = TopicPartition::new(topic.name().clone(), number);
        let now = self.clock.now();
        if scope == CleaningScope::AllClosed && log.log_end_offset()? > log.log_start_offset()? {
            log.close_active_segment(now)?;
        }
        let mut sum: Option<CleanedLog> = None;
        loop {
            let how = (scope, now.wall_ms);
            *self.cleaner.round_began.lock() = self.clock.monotonic();
            let checkpoint = self.checkpoint_of(&place);
            if let Ok(to_clean) = log.log_to_clean(checkpoint, how) {
                self.note_reset(&place, &to_clean);
            }
            let begun = log.begin_cleaning(checkpoint, how, self.cleaner.config);
            let Some(mut round) = begun? else { return Ok(sum) };
            while !round.is_over() {
                // A deletion of the topic, or a close, waits for no more than a piece.
                self.check_open()?;
                topic.partition(number)?;
                let (_, outcome) = round.advance(PIECE_BYTES);
                let Some(cleaned) = outcome? else { continue };
                self.round_over(&place, &cleaned, now);
                sum = Some(sum.map_or(cleaned, |before| before.and(cleaned)));
            }
            self.cleaner.progress.lock().uncleanable.remove(&place);
            self.write_progress();
            if sum.is_none_or(|sum| !sum.is_partial) {
                return Ok(sum);
            }
        }
    }

    /// The offset up to which a partition was cleaned; None where it never was, or that is lost.
    pub(crate) fn cleaned_up_to(&self, place: &TopicPartition) -> Option<i64> {
        match self.is_attached() {
            false => self.checkpoint_of(place),
            true => self.kept_by_owner(place),
        }
    }

    /// The first dirty offset that the owner of an attached directory keeps, as of now: it goes on.
    fn kept_by_owner(&self, place: &TopicPartition) -> Option<i64> {
        let path = self.dir.join(CLEANER_CHECKPOINT);
        read_offsets(&*self.storage, &path).unwrap_or_default().remove(place)
    }

    /// What is known of the cleaning of a partition of a compacted topic.
    ///
    /// # Errors
    /// Those of opening it.
    pub(crate) fn cleaning_status(&self, topic: &Topic, number: i32) -> Result<CleaningStatus> {
        let place = TopicPartition::new(topic.name().clone(), number);
        let how = (CleaningScope::Settings, self.clock.now().wall_ms);
        let (checkpoint, last_cleaned_ms) = match self.is_attached() {
            false => {
                let mut progress = self.cleaner.progress.lock();
                let kept = self.kept(&mut progress);
                let of = |rows: &BTreeMap<TopicPartition, i64>| rows.get(&place).copied();
                (of(&kept.checkpoints), of(&kept.last_cleaned))
            }
            true => {
                let last_cleaned =
                    read_proven_offsets(&*self.storage, &self.dir.join(LAST_CLEANED));
                let last_cleaned = last_cleaned.unwrap_or_default().remove(&place);
                (self.kept_by_owner(&place), last_cleaned)
            }
        };
        let config = topic.log_config(&self.config);
        let partition = topic.partition(number)?;
        let (to_clean, segments) = partition.log_to_clean(checkpoint, &config, how)?;
        if !self.is_attached() {
            self.note_reset(&place, &to_clean);
        }
        Ok(CleaningStatus { to_clean, segments, last_cleaned_ms })
    }
}
