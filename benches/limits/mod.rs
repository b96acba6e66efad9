//! The limits that the benches are held against, measured in the same run as what they limit, and
//! the pairing that turns two measurements into one ratio.
//!
//! Nothing here uses the crate: a limit is what the machine does with a bare loop.
#![allow(dead_code, unsafe_code)]

use memmap2::{MmapMut, MmapOptions};
use std::fs::File;
use std::hint::black_box;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often the two sides of a pair take turns; the median of each side counts.
pub const ROUNDS: usize = 7;

/// Two measurements of one run, as nanoseconds per unit of work.
pub struct Pair {
    pub ours: f64,
    pub limit: f64,
}

impl Pair {
    pub fn ratio(&self) -> f64 {
        self.ours / self.limit
    }
}

/// Runs both sides in turn, `ROUNDS` times after one round that does not count, and prints one
/// line:
/// the medians, the ratio, the goal and whether it is met.
pub fn held_against(
    what: &str,
    goal: f64,
    ours: impl FnMut() -> f64,
    limit: impl FnMut() -> f64,
) -> Pair {
    let pair = in_turns(ours, limit);
    let met = if pair.ratio() <= goal { "met" } else { "MISSED" };
    println!(
        "ratio | {what} | {:.1} ns | limit {:.1} ns | {:.2} | goal {goal:.2} | {met}",
        pair.ours,
        pair.limit,
        pair.ratio()
    );
    pair
}

/// Runs both sides in turn, `ROUNDS` times after one round that does not count: the medians.
pub fn in_turns(mut ours: impl FnMut() -> f64, mut limit: impl FnMut() -> f64) -> Pair {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    ours();
    limit();
    for _ in 0..ROUNDS {
        a.push(ours());
        b.push(limit());
    }
    Pair { ours: median(&mut a), limit: median(&mut b) }
}

/// Copies up to `most` bytes of a file to another one, half a MiB at a time, and syncs that; how
/// many bytes it were.
pub fn bare_copy(from: &Path, most: usize, to: &Path) -> usize {
    use std::os::unix::fs::FileExt;
    let (from, to) = (File::open(from).unwrap(), File::create(to).unwrap());
    let (mut buffer, mut done) = (vec![0; 512 << 10], 0);
    while done < most {
        let want = buffer.len().min(most - done);
        let read = from.read_at(&mut buffer[..want], done as u64).unwrap();
        if read == 0 {
            break;
        }
        to.write_all_at(&buffer[..read], done as u64).unwrap();
        done += read;
    }
    to.sync_data().unwrap();
    done
}

/// Hashes a million keys of eight bytes, notes each in a table of 24 bytes a slot, nine tenths of
/// it full, and hashes and looks them all up again: a hundred are asked for before the first.
pub fn bare_keys() {
    use siphasher::sip128::{Hasher128, SipHasher13};
    use std::hash::Hasher;
    const KEYS: u64 = 1_000_000;
    let slots = KEYS as usize * 10 / 9;
    let mut table = vec![[0u64; 3]; slots];
    let hash = |key: u64| {
        let mut hasher = SipHasher13::new_with_keys(7, !7);
        hasher.write(&key.to_be_bytes());
        let hash = hasher.finish128();
        [hash.h1, hash.h2]
    };
    let home = |hash: [u64; 2]| ((u128::from(hash[0]) * slots as u128) >> 64) as usize;
    for notes in [true, false] {
        let mut hashes = [[0; 2]; 100];
        for from in (0..KEYS).step_by(100) {
            for (key, hashed) in (from..).zip(&mut hashes) {
                *hashed = hash(key);
                // A look at one word asks for it, and nothing waits for what it says.
                black_box(table[home(*hashed)][2]);
            }
            for (key, hashed) in (from..).zip(&hashes) {
                let mut at = home(*hashed);
                while table[at][2] != 0 && table[at][..2] != *hashed {
                    at = if at + 1 == slots { 0 } else { at + 1 };
                }
                match notes {
                    true => table[at] = [hashed[0], hashed[1], key + 1],
                    false => assert_eq!(table[at][2], key + 1),
                }
            }
        }
    }
}

/// Prints a line for what was measured once: a size, or a worst case.
pub fn figure_against(what: &str, goal: f64, ours: f64, limit: f64) {
    let ratio = ours / limit;
    let met = if ratio <= goal { "met" } else { "MISSED" };
    println!("ratio | {what} | {ours:.0} | limit {limit:.0} | {ratio:.2} | goal {goal:.2} | {met}");
}

pub fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

/// The value at a fraction of sorted samples, such as 0.99.
pub fn percentile(samples: &mut [f64], fraction: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[((samples.len() - 1) as f64 * fraction) as usize]
}

/// Nanoseconds per unit of `work`, which does `units` of them.
pub fn per_unit(units: usize, work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_nanos() as f64 / units as f64
}

/// The same in CPU time of this thread, for work that waits for nothing: what else the machine does
/// meanwhile stays out of it.
pub fn cpu_per_unit(units: usize, work: impl FnOnce()) -> f64 {
    let now = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
    };
    let start = now();
    work();
    (now() - start) / units as f64
}

fn map_new(path: &Path, bytes: usize, fallocate: bool) -> (File, MmapMut) {
    let file =
        File::options().read(true).write(true).create(true).truncate(true).open(path).unwrap();
    if fallocate {
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes as u64).unwrap();
    } else {
        file.set_len(bytes as u64).unwrap();
    }
    // SAFETY: the file was made here, nobody else has it open, and it keeps its length while
    // mapped.
    let map = unsafe { MmapOptions::new().len(bytes).map_mut(&file).unwrap() };
    (file, map)
}

/// A bare mapped log: a 16-byte header, CRC-32C, one release store. Fresh pages of a fallocated
/// file in `dir`; nanoseconds per record.
pub fn floor_on_fresh_pages(dir: &Path, value: &[u8], records: usize) -> f64 {
    let frame = 16 + value.len();
    let (_file, mut map) = map_new(&dir.join("floor"), frame * records, true);
    let published = AtomicU64::new(0);
    let time = per_unit(records, || bare_append(&mut map, value, records, &published));
    std::fs::remove_file(dir.join("floor")).unwrap();
    time
}

fn bare_append(map: &mut [u8], value: &[u8], records: usize, published: &AtomicU64) {
    let mut at = 0;
    for n in 0..records {
        let value = black_box(value);
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, value) as u32;
        map[at + 16..at + 16 + value.len()].copy_from_slice(value);
        map[at..at + 8].copy_from_slice(&(n as u64).to_be_bytes());
        map[at + 8..at + 12].copy_from_slice(&(value.len() as u32).to_be_bytes());
        map[at + 12..at + 16].copy_from_slice(&crc.to_be_bytes());
        at += 16 + value.len();
        published.store(at as u64, Ordering::Release);
    }
}

/// Bare copies of `bytes` each onto pages of a fallocated file in `dir`, which another thread made
/// ready `gap` before: what memory that nobody used meanwhile costs; CPU time in nanoseconds per
/// copy.
pub fn stores_on_prepared_pages(dir: &Path, bytes: usize, copies: usize, gap: Duration) -> f64 {
    let (file, mut map) = map_new(&dir.join("prepared"), bytes * copies, true);
    std::thread::scope(|scope| {
        let map = &map;
        scope.spawn(|| map.advise(memmap2::Advice::PopulateWrite).unwrap());
    });
    wait(gap);
    let frame = vec![7; bytes];
    let time = cpu_per_unit(copies, || {
        for to in map.chunks_exact_mut(bytes) {
            to.copy_from_slice(black_box(&frame));
        }
    });
    drop((file, map));
    std::fs::remove_file(dir.join("prepared")).unwrap();
    time
}

/// One Kafka batch of one record a call, with its CRC, an uncontended lock and one release store,
/// on pages that were touched before; nanoseconds per record. The key has 8 bytes.
pub fn format_floor_on_touched_pages(value: &[u8], records: usize) -> f64 {
    let body = 1 + 1 + 1 + 1 + 8 + 3 + value.len() + 1;
    let frame = 61 + 2 + body;
    let mut pages = vec![1u8; frame * records + 64];
    let lock = parking_lot::Mutex::new(0usize);
    let published = AtomicU64::new(0);
    cpu_per_unit(records, || {
        for n in 0..records {
            let mut at = lock.lock();
            *at += bare_batch(&mut pages[*at..], n as i64, black_box(value));
            published.store(*at as u64, Ordering::Release);
        }
    })
}

fn bare_batch(out: &mut [u8], offset: i64, value: &[u8]) -> usize {
    let mut head = [0u8; 61 + 24];
    let mut n = 61;
    let value_length = varint(value.len() as i64);
    let body = 4 + 8 + value_length.1 + value.len() + 1;
    let (bytes, count) = varint(body as i64);
    head[n..n + count].copy_from_slice(&bytes[..count]);
    n += count;
    n += 3; // attributes, timestamp delta, offset delta
    head[n] = 16;
    n += 1;
    head[n..n + 8].copy_from_slice(&offset.to_be_bytes());
    n += 8;
    head[n..n + value_length.1].copy_from_slice(&value_length.0[..value_length.1]);
    n += value_length.1;
    let size = n + value.len() + 1;
    head[0..8].copy_from_slice(&offset.to_be_bytes());
    head[8..12].copy_from_slice(&(size as i32 - 12).to_be_bytes());
    head[16] = 2;
    head[27..35].copy_from_slice(&1_700_000_000_000i64.to_be_bytes());
    head[35..43].copy_from_slice(&1_700_000_000_000i64.to_be_bytes());
    head[43..57].fill(0xff);
    head[57..61].copy_from_slice(&1i32.to_be_bytes());
    out[n..n + value.len()].copy_from_slice(value);
    out[n + value.len()] = 0;
    out[21..n].copy_from_slice(&head[21..n]);
    let crc = crc_fast::crc32_iscsi(&out[21..size]);
    head[17..21].copy_from_slice(&crc.to_be_bytes());
    out[..21].copy_from_slice(&head[..21]);
    size
}

fn varint(value: i64) -> ([u8; 10], usize) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    let (mut bytes, mut n) = ([0u8; 10], 0);
    while rest >= 0x80 {
        bytes[n] = rest as u8 | 0x80;
        rest >>= 7;
        n += 1;
    }
    bytes[n] = rest as u8;
    (bytes, n + 1)
}

/// One pass over the bytes of a file through a mapping, every byte read; nanoseconds per record.
pub fn one_pass(path: &Path, bytes: usize, records: usize) -> f64 {
    let file = File::open(path).unwrap();
    // SAFETY: the file is sealed or idle while the bench reads it, and keeps its length.
    let map = unsafe { MmapOptions::new().len(bytes).map(&file).unwrap() };
    let pass = || {
        let (words, rest) = map.as_chunks::<8>();
        let sum = words.iter().fold(0u64, |sum, word| sum.wrapping_add(u64::from_le_bytes(*word)));
        black_box(sum + rest.len() as u64);
    };
    pass();
    cpu_per_unit(records, pass)
}

/// As many mappings as there are logs, each with room for a segment, for what memory costs that
/// lies in many places.
pub struct Scattered {
    maps: Vec<MmapMut>,
    at: usize,
}

impl Scattered {
    pub fn new(count: usize, capacity: usize) -> Scattered {
        let map = |_| MmapOptions::new().len(capacity).no_reserve_swap().map_anon().unwrap();
        Scattered { maps: (0..count).map(map).collect(), at: 0 }
    }

    /// Writes `records` of `bytes` each behind those before, in every mapping, and then reads
    /// each of their bytes once, mapping by mapping; nanoseconds per record.
    pub fn one_pass(&mut self, bytes: usize, records: usize) -> f64 {
        let range = self.at..self.at + bytes * records;
        self.at = range.end;
        for map in &mut self.maps {
            map[range.clone()].fill(7);
        }
        cpu_per_unit(records * self.maps.len(), || {
            let mut sum = 0u64;
            for map in &self.maps {
                let (words, rest) = map[range.clone()].as_chunks::<8>();
                let add = |sum: u64, word: &[u8; 8]| sum.wrapping_add(u64::from_le_bytes(*word));
                sum = words.iter().fold(sum + rest.len() as u64, add);
            }
            black_box(sum);
        })
    }
}

/// One pass of CRC-32C over the bytes of a file through a mapping of its own; nanoseconds.
pub fn crc_pass(path: &Path, bytes: usize) -> f64 {
    per_unit(1, || {
        let file = File::open(path).unwrap();
        // SAFETY: the file is idle while the bench reads it, and keeps its length.
        let map = unsafe { MmapOptions::new().len(bytes).map(&file).unwrap() };
        black_box(crc_fast::crc32_iscsi(&map));
    })
}

/// How many fdatasync calls a second one thread gets after a small store into written extents;
/// nanoseconds per call.
pub fn bare_fdatasync(dir: &Path, calls: usize) -> f64 {
    let path = dir.join("sync");
    let (file, mut map) = map_new(&path, 1 << 20, true);
    map.fill(1);
    rustix::fs::fdatasync(&file).unwrap();
    let time = per_unit(calls, || {
        for n in 0..calls {
            map[(n * 100) % (1 << 19)..][..100].fill(n as u8);
            rustix::fs::fdatasync(&file).unwrap();
        }
    });
    std::fs::remove_file(path).unwrap();
    time
}

/// Group commit over one bare fdatasync: `threads` writers, a leader syncs for all who wait;
/// nanoseconds per record.
pub fn bare_group_commit(dir: &Path, threads: usize, records: usize) -> f64 {
    let path = dir.join("group");
    let (file, map) = map_new(&path, 64 << 20, true);
    let log = parking_lot::Mutex::new((map, 0usize));
    let state = parking_lot::Mutex::new((0u64, false));
    let done = parking_lot::Condvar::new();
    let time = per_unit(records, || {
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    for _ in 0..records / threads {
                        let ticket = {
                            let mut log = log.lock();
                            let at = log.1 % (63 << 20);
                            log.0[at..at + 116].fill(7);
                            log.1 += 116;
                            log.1 as u64
                        };
                        bare_wait(&file, &log, &state, &done, ticket);
                    }
                });
            }
        });
    });
    std::fs::remove_file(path).unwrap();
    time
}

fn bare_wait(
    file: &File,
    log: &parking_lot::Mutex<(MmapMut, usize)>,
    state: &parking_lot::Mutex<(u64, bool)>,
    done: &parking_lot::Condvar,
    ticket: u64,
) {
    let mut guard = state.lock();
    while guard.0 < ticket {
        if guard.1 {
            done.wait(&mut guard);
            continue;
        }
        guard.1 = true;
        drop(guard);
        let upto = log.lock().1 as u64;
        rustix::fs::fdatasync(file).unwrap();
        guard = state.lock();
        guard.1 = false;
        guard.0 = guard.0.max(upto);
        done.notify_all();
    }
}

/// Handing one word to a thread that sleeps in the kernel: microseconds of each hand-off.
pub fn park_hand_off(count: usize, gap: Duration) -> Vec<f64> {
    let word = AtomicU64::new(0);
    let mut taken = Vec::with_capacity(count);
    let start = Instant::now();
    std::thread::scope(|scope| {
        let (sender, receiver) = std::sync::mpsc::channel();
        let (word, taken, start) = (&word, &mut taken, &start);
        scope.spawn(move || {
            sender.send(std::thread::current()).unwrap();
            for n in 1..=count as u64 {
                let sent = loop {
                    let value = word.load(Ordering::Acquire);
                    if value >> 40 == n {
                        break value & ((1 << 40) - 1);
                    }
                    std::thread::park();
                };
                taken.push((start.elapsed().as_nanos() as u64 - sent) as f64 / 1000.0);
                word.store(0, Ordering::Release);
            }
        });
        let reader = receiver.recv().unwrap();
        for n in 1..=count as u64 {
            while word.load(Ordering::Acquire) != 0 {
                std::thread::yield_now();
            }
            wait(gap);
            word.store(n << 40 | start.elapsed().as_nanos() as u64, Ordering::Release);
            reader.unpark();
        }
        while word.load(Ordering::Acquire) != 0 {
            std::thread::yield_now();
        }
    });
    taken
}

/// Lets time pass without sleeping in the kernel for longer than asked.
pub fn wait(gap: Duration) {
    let start = Instant::now();
    while start.elapsed() < gap {
        std::hint::spin_loop();
    }
}

/// A crossbeam channel in memory: one owned value a send, drained afterwards; nanoseconds a send.
pub fn channel(value: &[u8], records: usize) -> f64 {
    let (sender, receiver) = crossbeam_channel::unbounded::<Vec<u8>>();
    let time = per_unit(records, || {
        for _ in 0..records {
            sender.send(black_box(value).to_vec()).unwrap();
        }
    });
    assert_eq!(receiver.len(), records);
    time
}

/// One line about the machine, for the published figures.
pub fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let model = read("/proc/cpuinfo")
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|m| m.1.to_owned()))
        .unwrap_or_else(|| "unknown processor".into());
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let memory_kib: u64 = read("/proc/meminfo")
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok())
        .unwrap_or(0);
    let kernel = read("/proc/sys/kernel/osrelease");
    let gib = memory_kib / (1 << 20);
    format!("{model}, {cores} cores, {gib} GiB, Linux {}", kernel.trim())
}

/// Prints a pair of which each side was measured once.
pub fn figure(what: &str, ours: f64, limit: f64, goal: f64) {
    let ratio = ours / limit;
    let met = if ratio <= goal { "met" } else { "MISSED" };
    println!(
        "ratio | {what} | {ours:.1} ns | limit {limit:.1} ns | {ratio:.2} | goal {goal:.2} | {met}"
    );
}
