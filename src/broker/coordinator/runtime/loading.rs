//! How much of an internal topic its coordinator has read.

/// Which partitions were read whole, by a process that alone writes to them.
#[derive(Debug, Default)]
pub(super) struct Loading {
    /// One a partition; none before the topic was looked up.
    loaded: Vec<bool>,
    left: usize,
}

impl Loading {
    /// Nothing of so many partitions.
    pub fn of(partitions: i32) -> Loading {
        let left = usize::try_from(partitions).unwrap_or(0);
        Loading { loaded: vec![false; left], left }
    }

    /// How many partitions there are, once that is known.
    pub fn partitions(&self) -> Option<i32> {
        (!self.loaded.is_empty()).then(|| i32::try_from(self.loaded.len()).unwrap_or(i32::MAX))
    }

    /// Whether all of them were read.
    #[inline]
    pub fn is_whole(&self) -> bool {
        self.left == 0 && !self.loaded.is_empty()
    }

    /// Whether a partition was read.
    pub fn is_loaded(&self, partition: i32) -> bool {
        let at = usize::try_from(partition).unwrap_or(usize::MAX);
        self.loaded.get(at).copied().unwrap_or(false)
    }

    /// Whether there is no partition of a higher number to be read.
    pub fn is_behind_all(&self, partition: i32) -> bool {
        self.is_whole() || self.partitions().is_none_or(|count| partition >= count)
    }

    /// A partition was read.
    pub fn note(&mut self, partition: i32) {
        let at = usize::try_from(partition).unwrap_or(usize::MAX);
        if let Some(loaded) = self.loaded.get_mut(at)
            && !*loaded
        {
            *loaded = true;
            self.left -= 1;
        }
    }
}
