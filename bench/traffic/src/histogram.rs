//! Latencies in buckets that are 3 % wide, so that millions of them take a few kilobytes.

/// Buckets for each power of two: a value is known to 1/32 of itself.
const STEPS: u64 = 32;
const STEP_BITS: u32 = STEPS.trailing_zeros();
/// Values below `STEPS` one by one, then `STEPS` buckets for each of the 59 powers above.
const BUCKETS: usize = (STEPS as usize) * (64 - STEP_BITS as usize + 1);

/// How often each value was seen, about.
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    least: u64,
    most: u64,
}

impl Histogram {
    /// One with nothing in it.
    pub fn new() -> Self {
        Self {
            counts: vec![0; BUCKETS],
            total: 0,
            least: u64::MAX,
            most: 0,
        }
    }

    /// Count one value.
    pub fn add(&mut self, value: u64) {
        self.counts[bucket(value)] += 1;
        self.total += 1;
        self.least = self.least.min(value);
        self.most = self.most.max(value);
    }

    /// The least value, exactly; 0 where there is none.
    pub fn least(&self) -> u64 {
        if self.total == 0 {
            0
        } else {
            self.least
        }
    }

    /// The greatest value, exactly; 0 where there is none.
    pub fn most(&self) -> u64 {
        self.most
    }

    /// A value that `share` (0 to 1) of all do not exceed, up to 3 % too large; 0 for none.
    pub fn percentile(&self, share: f64) -> u64 {
        let rank = ((share * self.total as f64).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return last_of(index).min(self.most);
            }
        }
        0
    }
}

/// The bucket of a value.
fn bucket(value: u64) -> usize {
    if value < STEPS {
        return value as usize;
    }
    let shift = 63 - value.leading_zeros() - STEP_BITS;
    ((u64::from(shift) + 1) * STEPS + (value >> shift) - STEPS) as usize
}

/// The greatest value of a bucket.
fn last_of(index: usize) -> u64 {
    let index = index as u64;
    if index < STEPS {
        return index;
    }
    let shift = index / STEPS - 1;
    let first = (index % STEPS + STEPS) << shift;
    first + ((1 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_a_bucket_that_ends_at_most_3_percent_above_it() {
        for power in 0..64 {
            for value in [
                1u64 << power,
                (1 << power) + (1 << power) / 3,
                u64::MAX >> power,
            ] {
                let last = last_of(bucket(value));
                assert!(last >= value, "{value}");
                assert!(last - value <= value / STEPS, "{value}: {last}");
            }
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        assert_eq!(bucket(0), 0);
    }

    #[test]
    fn buckets_follow_each_other() {
        for index in 0..BUCKETS - 1 {
            assert_eq!(bucket(last_of(index)), index);
            assert_eq!(bucket(last_of(index) + 1), index + 1);
        }
    }

    #[test]
    fn percentiles() {
        let mut seen = Histogram::new();
        for value in 1..=1000 {
            seen.add(value * 1000);
        }
        assert_eq!((seen.least(), seen.most()), (1000, 1_000_000));
        assert!((500_000..=516_000).contains(&seen.percentile(0.5)));
        assert!((990_000..=1_000_000).contains(&seen.percentile(0.99)));
        assert_eq!(seen.percentile(1.0), 1_000_000);
    }

    #[test]
    fn nothing_seen_is_zero() {
        let empty = Histogram::new();
        assert_eq!(
            (empty.least(), empty.most(), empty.percentile(0.5)),
            (0, 0, 0)
        );
    }
}
