//! What came out: how long the work took, and how long each call did.

use crate::args::BenchWork;
use crate::output::Output;
use hdrhistogram::Histogram;
use serde_json::json;
use std::time::Duration;
use topiclite::{Error, ErrorKind, Result};

/// Percentiles are right to a part in a thousand.
const DIGITS: u8 = 3;
/// Up to this nothing has to be allocated while a measurement runs: one minute.
const ROOM_NS: u64 = 60_000_000_000;

/// How long each call took.
#[derive(Debug)]
pub struct Calls {
    nanos: Histogram<u64>,
    sum: u128,
    max: u64,
}

impl Calls {
    pub fn new() -> Result<Calls> {
        let failed = |e| Error::new(ErrorKind::Kafka, format!("making a histogram: {e}"));
        let mut nanos = Histogram::new_with_bounds(1, ROOM_NS, DIGITS).map_err(failed)?;
        nanos.auto(true);
        Ok(Calls { nanos, sum: 0, max: 0 })
    }

    /// Counts a call. None is clamped: the histogram grows where one took longer than it holds.
    pub fn note(&mut self, took: Duration) -> Result<()> {
        let failed = |e| Error::new(ErrorKind::Kafka, format!("counting a call: {e}"));
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.record(nanos).map_err(failed)?;
        self.sum += u128::from(nanos);
        self.max = self.max.max(nanos);
        Ok(())
    }

    /// Counts the calls of another thread.
    pub fn add(&mut self, other: &Calls) -> Result<()> {
        let failed = |e| Error::new(ErrorKind::Kafka, format!("adding up: {e}"));
        self.nanos.add(&other.nanos).map_err(failed)?;
        self.sum += other.sum;
        self.max = self.max.max(other.max);
        Ok(())
    }

    /// In microseconds; none of no calls.
    fn percentile(&self, percent: f64) -> f64 {
        // The histogram answers with the upper end of a class, which may lie above the largest.
        self.nanos.value_at_percentile(percent).min(self.max) as f64 / 1000.0
    }

    fn mean(&self) -> f64 {
        self.sum as f64 / self.nanos.len().max(1) as f64 / 1000.0
    }
}

/// How much work was done in how much time.
#[derive(Debug)]
pub struct Measured {
    pub records: u64,
    pub bytes: u64,
    pub took: Duration,
    pub calls: Calls,
}

impl Measured {
    /// Prints it.
    pub fn show(&self, name: &str, work: &BenchWork, output: &Output) -> Result<()> {
        let seconds = self.took.as_secs_f64().max(1e-9);
        let rate = self.records as f64 / seconds;
        let mib = self.bytes as f64 / seconds / f64::from(1 << 20);
        let [p50, p95, p99, p999] = [50.0, 95.0, 99.0, 99.9].map(|p| self.calls.percentile(p));
        let (mean, max) = (self.calls.mean(), self.calls.max as f64 / 1000.0);
        if output.json {
            return output.object(&json!({
                "bench": name,
                "records": self.records,
                "size": work.size,
                "partitions": work.partitions,
                "threads": work.threads,
                "batch": work.batch,
                "durable": work.durable,
                "compression": work.compression.to_string(),
                "seconds": seconds,
                "records_per_second": rate,
                "mib_per_second": mib,
                "call_us": {
                    "mean": mean, "p50": p50, "p95": p95, "p99": p99, "p99_9": p999, "max": max,
                },
                "calls": self.calls.nanos.len(),
            }));
        }
        output.line(&format!(
            "{name}: {} records of {} bytes in {seconds:.3} s, {rate:.0} records/s, {mib:.1} MiB/s",
            self.records, work.size
        ))?;
        output.line(&format!(
            "per call, us: mean {mean:.2}  p50 {p50:.2}  p95 {p95:.2}  p99 {p99:.2}  \
             p99.9 {p999:.2}  max {max:.2}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The smallest of `sorted` that at least `percent` of them do not exceed.
    fn counted(sorted: &[u64], percent: f64) -> u64 {
        let rank = (percent / 100.0 * sorted.len() as f64).ceil().max(1.0);
        sorted[rank as usize - 1]
    }

    #[test]
    fn percentiles_are_those_of_a_count_from_nanoseconds_to_minutes() {
        let mut state = 7u64;
        let mut draw = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for longest in [200, 5_000_000, 3_000_000_000, 400_000_000_000] {
            let mut calls = [Calls::new().unwrap(), Calls::new().unwrap()];
            let mut all: Vec<u64> = (0..20_000)
                .map(|_| {
                    let scale = 1 + draw() % longest;
                    draw() % scale
                })
                .collect();
            for (at, nanos) in all.iter().enumerate() {
                calls[at % 2].note(Duration::from_nanos(*nanos)).unwrap();
            }
            let [mut both, other] = calls;
            both.add(&other).unwrap();
            all.sort_unstable();
            for percent in [50.0, 95.0, 99.0, 99.9, 100.0] {
                let exact = counted(&all, percent) as f64 / 1000.0;
                let told = both.percentile(percent);
                let close = (told - exact).abs() <= exact / 1000.0 + 0.001;
                assert!(close, "p{percent} up to {longest}: {told}, counted {exact}");
            }
            let sum: u64 = all.iter().sum();
            let mean = sum as f64 / all.len() as f64 / 1000.0;
            assert!((both.mean() - mean).abs() <= mean / 1e9, "{} {mean}", both.mean());
            assert_eq!(Some(both.max), all.last().copied());
            assert_eq!(both.nanos.len(), all.len() as u64);
        }
    }
}
