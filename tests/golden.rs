//! Directories that a real Apache Kafka wrote, read through attach and by adoption.
//!
//! Undamaged directories must read exactly as their manifest says: records under both isolation
//! levels, the three borders, aborted ranges, lookups by time, committed offsets. Killed and
//! damaged
//! ones must give the records from before the damage, or what Kafka itself recovered, or a clear
//! refusal with a prefix; never other records, and never silence about a loss.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

mod judge;

use judge::ended;
use judge::manifest::{Case, Committed, Contents, Partition, Producer, Row, Transaction};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use topiclite::time::VirtualClock;
use topiclite::{
    Broker, BrokerConfig, BrokerOptions, ConfigChange, ConsumerConfig, ErrorKind, IsolationLevel,
    OffsetReset, OffsetSpec, Result, TopicPartition,
};

/// How long a broker remembers a producer.
const EXPIRATION_MS: u32 = 86_400_000;

/// What reading one partition gave: the records, and the error that ended it, if one did.
struct Read {
    rows: Vec<Row>,
    error: Option<topiclite::Error>,
}

/// How long the broker of a case remembered producers: as long as most, or shorter than since the
/// last batch of one that it knew no more.
fn expiration_ms(case: &Case) -> u32 {
    let mut least = i64::from(EXPIRATION_MS);
    for partition in case.before.partitions.values() {
        let known: Vec<i64> = partition.producers.iter().map(|p| p.producer_id).collect();
        let mut forgotten: BTreeMap<i64, i64> = BTreeMap::new();
        for batch in partition.batches.iter().filter(|batch| batch.producer_id >= 0) {
            if !known.contains(&batch.producer_id) {
                forgotten.insert(batch.producer_id, batch.max_timestamp);
            }
        }
        let ages = forgotten.into_values().map(|timestamp| case.captured_at_ms - timestamp);
        least = ages.filter(|age| *age > 0).fold(least, i64::min);
    }
    u32::try_from(least).unwrap()
}

fn options(case: &Case) -> BrokerOptions {
    let clock = VirtualClock::stepping().starting_at(case.captured_at_ms);
    let expiration_ms = expiration_ms(case);
    let config = BrokerConfig::default().producer_id_expiration_ms(expiration_ms);
    BrokerOptions::new().clock(clock.clock()).config(config)
}

fn read(broker: &Broker, tp: &TopicPartition, isolation: IsolationLevel) -> Result<Read> {
    let config = ConsumerConfig::without_group()
        .auto_offset_reset(OffsetReset::Earliest)
        .isolation_level(isolation);
    let mut consumer = broker.consumer(config)?;
    consumer.assign(std::slice::from_ref(tp))?;
    let end = consumer.end_offsets(std::slice::from_ref(tp))?[tp];
    let mut rows = Vec::new();
    while consumer.position(tp)? < end {
        let records = match consumer.poll(Duration::ZERO) {
            Ok(records) => records,
            Err(error) => return Ok(Read { rows, error: Some(error) }),
        };
        for record in &records {
            rows.push(Row {
                offset: record.offset(),
                timestamp: record.timestamp(),
                key: record.key().map(<[u8]>::to_vec),
                value: record.value().map(<[u8]>::to_vec),
                headers: record
                    .headers()
                    .iter()
                    .map(|h| (h.name().into_owned(), h.value().map(<[u8]>::to_vec)))
                    .collect(),
            });
        }
    }
    if let Err(error) = consumer.poll(Duration::ZERO) {
        return Ok(Read { rows, error: Some(error) });
    }
    let health = broker.health();
    let error = health.failed_partitions().find(|(failed, _)| *failed == tp);
    Ok(Read { rows, error: error.map(|(_, error)| error.clone()) })
}

/// Checks one partition against one telling of it; `Err` says what differs.
fn matches(
    broker: &Broker,
    tp: &TopicPartition,
    told: &Partition,
    uncommitted: &Read,
    committed: &Read,
) -> std::result::Result<(), String> {
    told.uncommitted.matches(&uncommitted.rows).map_err(|d| format!("read_uncommitted: {d}"))?;
    check_committed(told, &uncommitted.rows, &committed.rows)?;
    check_borders(broker, tp, told)?;
    check_aborted(broker, tp, told)?;
    check_producers(broker, tp, told)?;
    check_times(broker, tp, told)
}

fn check_committed(
    told: &Partition,
    uncommitted: &[Row],
    committed: &[Row],
) -> std::result::Result<(), String> {
    let same = match &told.committed {
        Committed::Same => committed == uncommitted,
        Committed::Offsets(offsets) => {
            let expected = uncommitted.iter().filter(|row| offsets.contains(&row.offset));
            expected.eq(committed.iter()) && offsets.len() == committed.len()
        }
        Committed::Digest { count, sha256 } => {
            committed.len() == *count && judge::manifest::sha256(committed) == *sha256
        }
    };
    let offsets: Vec<i64> = committed.iter().map(|row| row.offset).collect();
    if same { Ok(()) } else { Err(format!("read_committed saw the offsets {offsets:?}")) }
}

fn check_borders(
    broker: &Broker,
    tp: &TopicPartition,
    told: &Partition,
) -> std::result::Result<(), String> {
    let seen = borders(broker, tp)?;
    let expected = (told.log_start_offset, told.last_stable_offset, told.log_end_offset);
    if seen != expected {
        return Err(format!("borders (start, stable, end): recorded {expected:?}, seen {seen:?}"));
    }
    Ok(())
}

/// Log start, last stable and log end offset.
fn borders(broker: &Broker, tp: &TopicPartition) -> std::result::Result<(i64, i64, i64), String> {
    let border = |spec, isolation| {
        let found = broker.admin().list_offsets(tp.topic(), tp.partition(), spec, isolation);
        found.map(|found| found.offset().unwrap_or(-1)).map_err(|e| e.to_string())
    };
    Ok((
        border(OffsetSpec::Earliest, IsolationLevel::ReadUncommitted)?,
        border(OffsetSpec::Latest, IsolationLevel::ReadCommitted)?,
        border(OffsetSpec::Latest, IsolationLevel::ReadUncommitted)?,
    ))
}

/// Producer id, first offset, that of the marker, and the last stable one, of each abort.
fn aborted_ranges(
    broker: &Broker,
    tp: &TopicPartition,
) -> std::result::Result<Vec<(i64, i64, i64, i64)>, String> {
    let found = broker.admin().aborted_transactions(tp.topic(), tp.partition());
    let row = |a: &topiclite::AbortedRange| {
        (a.producer_id(), a.first_offset(), a.last_offset(), a.last_stable_offset())
    };
    Ok(found.map_err(|e| e.to_string())?.iter().map(row).collect())
}

fn check_aborted(
    broker: &Broker,
    tp: &TopicPartition,
    told: &Partition,
) -> std::result::Result<(), String> {
    let seen = aborted_ranges(broker, tp)?;
    if seen != told.aborted {
        return Err(format!("aborted ranges: recorded {:?}, seen {seen:?}", told.aborted));
    }
    Ok(())
}

/// A broker that runs remembers producers whose records have old timestamps until it looks for
/// them; one that starts has forgotten them, Kafka as well as this.
fn check_producers(
    broker: &Broker,
    tp: &TopicPartition,
    told: &Partition,
) -> std::result::Result<(), String> {
    let seen: Vec<Producer> = broker
        .admin()
        .describe_producers(tp.topic(), tp.partition())
        .map_err(|e| e.to_string())?
        .iter()
        .map(|known| Producer {
            producer_id: known.producer_id(),
            producer_epoch: known.producer_epoch().into(),
            last_sequence: known.last_sequence().map_or(-1, i64::from),
            last_timestamp: known.last_timestamp(),
            coordinator_epoch: known.coordinator_epoch().map(i64::from),
            transaction_start: known.current_transaction_start_offset(),
        })
        .collect();
    let oldest = broker.clock().now().wall_ms - i64::from(EXPIRATION_MS);
    let lasts = |told: &&Producer| told.transaction_start.is_some() || told.last_timestamp > oldest;
    let told: Vec<Producer> = told.producers.iter().filter(lasts).cloned().collect();
    if seen != told {
        return Err(format!("producers: recorded {told:?}, seen {seen:?}"));
    }
    Ok(())
}

fn check_times(
    broker: &Broker,
    tp: &TopicPartition,
    told: &Partition,
) -> std::result::Result<(), String> {
    let admin = broker.admin();
    let look_up = |spec| {
        admin
            .list_offsets(tp.topic(), tp.partition(), spec, IsolationLevel::ReadUncommitted)
            .map_err(|e| e.to_string())
    };
    for &(asked, offset, timestamp) in told.offsets_for_times.iter().flatten() {
        let found = look_up(OffsetSpec::Timestamp(asked))?;
        let seen = found.offset().zip(found.timestamp());
        let expected = offset.map(|offset| (offset, timestamp.unwrap_or(-1)));
        if seen != expected {
            return Err(format!("offset for time {asked}: recorded {expected:?}, seen {seen:?}"));
        }
    }
    let found = look_up(OffsetSpec::MaxTimestamp)?;
    let seen = found.timestamp().zip(found.offset());
    let agrees = match (seen, told.max_timestamp) {
        (Some(seen), Some(told_max)) if told.batches_at_max > 1 => seen.0 == told_max.0,
        (seen, told_max) => seen == told_max,
    };
    if !agrees {
        return Err(format!("max timestamp: recorded {:?}, seen {seen:?}", told.max_timestamp));
    }
    Ok(())
}

/// Judges one partition; the tellings that may be right are tried in turn.
fn judge_partition(
    case: &Case,
    broker: &Broker,
    name: &str,
    way: &str,
) -> std::result::Result<&'static str, String> {
    let tp = TopicPartition::parse(name).ok_or("not a partition")?;
    let before = &case.before.partitions[name];
    let uncommitted = match read(broker, &tp, IsolationLevel::ReadUncommitted) {
        Ok(read) => read,
        Err(error) => Read { rows: Vec::new(), error: Some(error) },
    };
    let committed = match read(broker, &tp, IsolationLevel::ReadCommitted) {
        Ok(read) => read,
        Err(error) => Read { rows: Vec::new(), error: Some(error) },
    };
    let mut told = vec![("as before", before)];
    if let Some(reopened) = case.reopened.as_ref().and_then(|r| r.partitions.get(name)) {
        told.push(("as Kafka recovered it", reopened));
    }
    let mut differences = Vec::new();
    if uncommitted.error.is_none() {
        for (how, partition) in &told {
            match matches(broker, &tp, partition, &uncommitted, &committed) {
                Ok(()) => return Ok(how),
                Err(difference) => differences.push(format!("{how}: {difference}")),
            }
        }
        if !case.clean && way == "reopened" {
            let aborted = aborted_ranges(broker, &tp)?;
            let seen = ended::Seen {
                name,
                uncommitted: &uncommitted.rows,
                committed: &committed.rows,
                borders: borders(broker, &tp)?,
                aborted: &aborted,
            };
            for contents in [Some(&case.before), case.reopened.as_ref()].into_iter().flatten() {
                match ended::matches(contents, &seen) {
                    Ok(()) => return Ok("with what was open aborted"),
                    Err(difference) => differences.push(format!("ended: {difference}")),
                }
            }
        }
    }
    let refused = uncommitted.error.as_ref().is_some_and(|error| {
        matches!(error.kind(), ErrorKind::CorruptRecord | ErrorKind::ReadOnly)
    });
    if refused && case.damage.is_some() && before.uncommitted.begins_with(&uncommitted.rows) {
        return Ok("a prefix and a refusal");
    }
    if case.damage.is_some() && before.uncommitted.begins_with(&uncommitted.rows) {
        // What lies behind the last good batch is set aside, and told by name.
        let prefix = format!("{tp}:");
        if broker.health().warnings().any(|warning| warning.starts_with(&prefix)) {
            return Ok("a prefix and a warning");
        }
    }
    differences.extend(uncommitted.error.map(|e| format!("refused: {e}")));
    Err(differences.join("; "))
}

fn judge_groups(case: &Case, broker: &Broker) -> Vec<String> {
    let tellings: Vec<&Contents> = [Some(&case.before), case.reopened.as_ref()]
        .into_iter()
        .flatten()
        .filter(|contents| !contents.failed)
        .collect();
    let mut faults = Vec::new();
    for group in case.before.group_offsets.keys() {
        let seen: BTreeMap<String, (i64, String)> = match broker.admin().list_group_offsets(group) {
            Ok(offsets) => offsets
                .iter()
                .map(|(tp, o)| (tp.to_string(), (o.offset(), o.metadata().to_owned())))
                .collect(),
            Err(error) if error.kind() == ErrorKind::GroupIdNotFound => BTreeMap::new(),
            Err(error) => {
                faults.push(format!("group {group}: {error}"));
                continue;
            }
        };
        if !tellings.iter().any(|contents| contents.group_offsets.get(group) == Some(&seen)) {
            let expected = &case.before.group_offsets[group];
            faults.push(format!("group {group}: recorded {expected:?}, seen {seen:?}"));
        }
    }
    faults
}

/// Every transactional id, as the coordinator stood at the end.
fn judge_transactions(case: &Case, broker: &Broker, way: &str) -> Vec<String> {
    let contents = [Some(&case.before), case.reopened.as_ref()].into_iter().flatten();
    let mut tellings: Vec<_> = contents.clone().map(|told| told.transactions.clone()).collect();
    if !case.clean && way == "reopened" {
        tellings.extend(contents.filter_map(ended::transactions));
    }
    let listed = match broker.admin().list_transactions() {
        Ok(listed) => listed,
        Err(error) => return vec![format!("transactions: {error}")],
    };
    let seen: BTreeMap<String, Transaction> = listed
        .iter()
        .map(|listed| {
            let mut partitions: Vec<String> =
                listed.partitions().iter().map(ToString::to_string).collect();
            partitions.sort();
            let transaction = Transaction {
                state: listed.state().name().to_owned(),
                producer_id: listed.producer_id(),
                producer_epoch: i64::from(listed.producer_epoch()),
                timeout_ms: i64::try_from(listed.timeout().as_millis()).unwrap(),
                start_time_ms: listed.start_timestamp(),
                partitions,
            };
            (listed.transactional_id().to_owned(), transaction)
        })
        .collect();
    tellings.retain(|told| *told == seen);
    match tellings.is_empty() {
        true => vec![format!("transactions {:?}, seen {seen:?}", case.before.transactions)],
        false => Vec::new(),
    }
}

fn judge_case(case: &Case, broker: &Broker, way: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let mut outcomes: BTreeMap<&str, usize> = BTreeMap::new();
    for name in case.before.partitions.keys() {
        match judge_partition(case, broker, name, way) {
            Ok(how) => *outcomes.entry(how).or_default() += 1,
            Err(difference) => faults.push(format!("{} ({way}): {name}: {difference}", case.name)),
        }
    }
    let mut groups = judge_groups(case, broker);
    groups.extend(judge_transactions(case, broker, way));
    faults.extend(groups.into_iter().map(|fault| format!("{} ({way}): {fault}", case.name)));
    let ending = if case.clean { "clean" } else { "killed" };
    println!("{:30} {way:9} {ending:7} {outcomes:?} faults {}", case.name, faults.len());
    faults
}

fn cases() -> Vec<Case> {
    Case::all(&judge::folders("dirs", "TOPICLITE_GOLDEN"))
}

fn conclude(what: &str, cases: usize, faults: Vec<String>) {
    println!("{what}: {cases} directories, {} faults", faults.len());
    assert!(cases > 0, "no golden directory was found");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn attached_directories_read_as_their_manifests_say() {
    let cases = cases();
    let mut faults = Vec::new();
    for case in &cases {
        match options(case).attach(&case.data) {
            Ok(broker) => faults.extend(judge_case(case, &broker, "attached")),
            Err(error) => faults.push(format!("{}: attach: {error}", case.name)),
        }
    }
    conclude("attach", cases.len(), faults);
}

#[test]
fn adopted_directories_read_as_their_manifests_say_also_after_a_second_opening() {
    let cases = cases();
    let mut faults = Vec::new();
    for case in &cases {
        let scratch = tempfile::tempdir().unwrap();
        let data = scratch.path().join("data");
        judge::copy_dir(&case.data, &data);
        for way in ["adopted", "reopened"] {
            match options(case).open(&data) {
                Ok(broker) => {
                    faults.extend(judge_case(case, &broker, way));
                    if let Err(error) = broker.close() {
                        faults.push(format!("{} ({way}): close: {error}", case.name));
                    }
                }
                Err(error) => faults.push(format!("{} ({way}): open: {error}", case.name)),
            }
        }
    }
    conclude("adoption", cases.len(), faults);
}

/// The last committed value of each key that has one.
fn latest(broker: &Broker, tp: &TopicPartition) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let read = read(broker, tp, IsolationLevel::ReadCommitted)?;
    if let Some(error) = read.error {
        return Err(error);
    }
    let mut latest = BTreeMap::new();
    for row in read.rows {
        match (row.key, row.value) {
            (Some(key), Some(value)) => drop(latest.insert(key, value)),
            (Some(key), None) => drop(latest.remove(&key)),
            (None, _) => {}
        }
    }
    Ok(latest)
}

/// Cleans every topic of an adopted directory, the internal ones too. What differs afterwards.
fn cleaned(case: &Case, broker: &Broker) -> (Vec<(TopicPartition, LatestValues)>, Vec<String>) {
    let (mut before, mut faults) = (Vec::new(), Vec::new());
    let admin = broker.admin();
    // The first change also aborts what a kill left open.
    for topic in admin.list_topics().unwrap() {
        let change = ConfigChange::Set("cleanup.policy".into(), "compact".into());
        admin.alter_topic(topic.name(), &[change]).unwrap();
    }
    let told = case.reopened.as_ref().unwrap_or(&case.before);
    for name in told.partitions.keys() {
        let tp: TopicPartition = name.parse().unwrap();
        // What cannot be read whole is not cleaned, and says so elsewhere.
        if let Ok(values) = latest(broker, &tp) {
            before.push((tp, values));
        }
    }
    for topic in admin.list_all_topics().unwrap() {
        if let Err(error) = admin.compact_now(topic.name()) {
            faults.push(format!("{}: cleaning {}: {error}", case.name, topic.name()));
        }
    }
    (before, faults)
}

type LatestValues = BTreeMap<Vec<u8>, Vec<u8>>;

#[test]
fn what_kafka_wrote_is_cleaned_and_keeps_the_latest_of_each_key() {
    let cases: Vec<Case> = cases().into_iter().filter(|case| case.damage.is_none()).collect();
    let (mut faults, mut partitions) = (Vec::new(), 0);
    for case in &cases {
        let scratch = tempfile::tempdir().unwrap();
        let data = scratch.path().join("data");
        judge::copy_dir(&case.data, &data);
        let broker = options(case).open(&data).unwrap();
        let (before, found) = cleaned(case, &broker);
        faults.extend(found);
        let told = |broker: &Broker, way: &str| {
            let differs = |(tp, values): &(TopicPartition, LatestValues)| {
                let after = latest(broker, tp);
                (after.as_ref().ok() != Some(values))
                    .then(|| format!("{} {tp} ({way}): other values: {after:?}", case.name))
            };
            let mut out: Vec<String> = before.iter().filter_map(differs).collect();
            out.extend(judge_groups(case, broker));
            out
        };
        faults.extend(told(&broker, "cleaned"));
        broker.close().unwrap();
        faults.extend(told(&Broker::attach(&data).unwrap(), "attached"));
        faults.extend(told(&options(case).open(&data).unwrap(), "reopened"));
        partitions += before.len();
    }
    println!("{partitions} partitions were cleaned");
    conclude("cleaning", cases.len(), faults);
}

/// Kafka's transaction index remembers transactions whose data and markers compaction has taken.
/// Nothing that is left depends on such a row, so no byte of one shows an aborted record.
#[test]
fn no_byte_of_a_transaction_index_shows_what_was_aborted() {
    let case = cases().into_iter().find(|case| case.name == "compact-transactions").unwrap();
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    judge::copy_dir(&case.data, &dir);
    let tp = TopicPartition::new("t", 0);
    let committed = |broker: Broker| {
        let read = read(&broker, &tp, IsolationLevel::ReadCommitted).unwrap();
        assert!(read.error.is_none(), "{:?}", read.error);
        read.rows.iter().map(|row| row.offset).collect::<Vec<_>>()
    };
    let expected = committed(options(&case).attach(&dir).unwrap());
    for base in [75, 101, 126] {
        let index = dir.join(format!("t-0/{base:020}.txnindex"));
        let whole = std::fs::read(&index).unwrap();
        for at in 0..whole.len() {
            for to in [whole[at].wrapping_add(1), whole[at] ^ 0x10, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = to;
                std::fs::write(&index, bytes).unwrap();
                let what = format!("{base}: byte {at} is {to}");
                assert_eq!(committed(options(&case).attach(&dir).unwrap()), expected, "{what}");
                assert_eq!(committed(options(&case).open(&dir).unwrap()), expected, "{what}");
            }
        }
        std::fs::write(&index, whole).unwrap();
    }
}

#[test]
fn attaching_changes_no_byte_of_a_directory() {
    for case in cases().iter().take(12) {
        let before = fingerprint(&case.data);
        let broker = options(case).attach(&case.data).unwrap();
        judge_case(case, &broker, "untouched");
        drop(broker);
        assert_eq!(before, fingerprint(&case.data), "{}", case.name);
    }
}

/// Names and contents of every file below a folder.
fn fingerprint(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut out = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            out.extend(fingerprint(&path));
        } else {
            let bytes = std::fs::read(&path).unwrap();
            out.insert(path, bytes);
        }
    }
    out
}
