//! How large a batch will be that is still open: Kafka's `CompressionRatioEstimator`, and the
//! estimate that `MemoryRecordsBuilder` makes with it.

/// How fast the estimate follows better and worse batches.
const IMPROVING_STEP: f32 = 0.005;
const DETERIORATING_STEP: f32 = 0.05;
/// On top of every estimate.
const MARGIN: f32 = 1.05;

/// Compressed bytes for a byte of records, as the batches before had it; 1 before the first.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct CompressionRatio(f32);

impl Default for CompressionRatio {
    fn default() -> CompressionRatio {
        CompressionRatio(1.0)
    }
}

impl CompressionRatio {
    /// What one batch had.
    pub fn of(compressed: usize, records: usize) -> CompressionRatio {
        CompressionRatio(compressed as f32 / records.max(1) as f32)
    }

    /// The estimate after a batch of the ratio `observed`.
    pub fn after(self, observed: CompressionRatio) -> CompressionRatio {
        let (old, new) = (self.0, observed.0);
        CompressionRatio(match new > old {
            true => new.max(old + DETERIORATING_STEP),
            false => new.max(old - IMPROVING_STEP),
        })
    }

    /// The bytes that so many bytes of records will take, about.
    pub fn estimate(self, records: usize) -> usize {
        (records as f32 * self.0 * MARGIN) as usize
    }

    /// The ratio as a number that an atomic holds.
    pub fn to_bits(self) -> u32 {
        self.0.to_bits()
    }

    /// The ratio of [`CompressionRatio::to_bits`].
    pub fn from_bits(bits: u32) -> CompressionRatio {
        CompressionRatio(f32::from_bits(bits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_estimate_follows_slowly_to_better_ratios_and_at_once_to_worse_ones() {
        let start = CompressionRatio::default();
        assert_eq!(start.estimate(300), 315);
        let better = start.after(CompressionRatio::of(10, 100));
        assert_eq!(better, CompressionRatio(0.995));
        assert_eq!(better.after(CompressionRatio::of(2, 1)), CompressionRatio(2.0));
        assert_eq!(better.after(CompressionRatio::of(996, 1000)), CompressionRatio(1.045));
        assert_eq!(CompressionRatio::from_bits(better.to_bits()), better);
        assert_eq!(CompressionRatio::of(0, 0).estimate(10), 0);
    }
}
