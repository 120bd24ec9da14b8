//! What a line does to frames, one way: when each is due, and which are lost on the way.
//!
//! No clock: the time of arrival is an argument, in nanoseconds. What happens is drawn from a seed.

/// The conditions. Probabilities are from 0 to 1, times in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Line {
    /// What every frame waits for.
    pub delay: u64,
    /// The most that is added to it, evenly spread. The order is kept.
    pub jitter: u64,
    /// How likely a frame is lost.
    pub loss: f64,
    /// How likely it comes twice.
    pub duplication: f64,
    /// How likely it waits longer, and others overtake it.
    pub reordering: f64,
    /// By how much.
    pub reorder_by: u64,
    /// Bits a second; 0 for no limit.
    pub rate: f64,
    /// What would wait longer than this for the rate is dropped.
    pub queue: u64,
    /// Routers that are passed on the way.
    pub hops: u8,
    /// Bytes of the longest packet that comes through; 0 for no limit.
    pub mtu: usize,
}

/// What happened to frames so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sent on at the other end.
    pub carried: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Come twice.
    pub repeated: u64,
    /// Overtaken.
    pub reordered: u64,
    /// Dropped, as the queue before the rate was full.
    pub dropped: u64,
    /// Ended, as their TTL did.
    pub expired: u64,
    /// Longer than the way is wide.
    pub oversize: u64,
    /// Too many on their way at once, or not taken by the link at the other end.
    pub overflow: u64,
}

/// Where in time frames are that come from one end.
pub struct Way {
    /// The conditions; they may change at any time, for frames that come from then on.
    pub line: Line,
    /// What happened.
    pub counts: Counts,
    /// The rate is busy until then.
    busy: u64,
    /// Nothing that keeps the order is due before.
    last: u64,
    random: Random,
}

impl Way {
    /// A line that does nothing yet.
    pub fn new(seed: u64) -> Self {
        Self {
            line: Line::default(),
            counts: Counts::default(),
            busy: 0,
            last: 0,
            random: Random(seed),
        }
    }

    /// When a frame of `length` bytes that came at `arrival` is due, if it is not lost, and when
    /// again, if it comes twice.
    pub fn schedule(&mut self, arrival: u64, length: usize) -> (Option<u64>, Option<u64>) {
        let line = self.line;
        if self.random.happens(line.loss) {
            self.counts.lost += 1;
            return (None, None);
        }
        let mut start = arrival;
        if line.rate > 0.0 {
            start = start.max(self.busy);
            if start - arrival > line.queue {
                self.counts.dropped += 1;
                return (None, None);
            }
            start += (length as f64 * 8e9 / line.rate) as u64;
            self.busy = start;
        }
        let due = start + line.delay + (line.jitter as f64 * self.random.draw()) as u64;
        let due = if self.random.happens(line.reordering) {
            self.counts.reordered += 1;
            due + line.reorder_by
        } else {
            self.last = self.last.max(due);
            self.last
        };
        let again = self.random.happens(line.duplication).then(|| {
            self.counts.repeated += 1;
            due
        });
        (Some(due), again)
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014): good enough for dice, and the same every time.
struct Random(u64);

impl Random {
    /// A number from 0 to 1, never 1.
    fn draw(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        (mixed >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Whether something this likely happens. Always drawn: conditions do not shift what follows.
    fn happens(&mut self, likely: f64) -> bool {
        self.draw() < likely
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn way(line: Line) -> Way {
        let mut made = Way::new(1);
        made.line = line;
        made
    }

    fn due(way: &mut Way, arrival: u64) -> u64 {
        way.schedule(arrival, 1000).0.expect("not lost")
    }

    #[test]
    fn a_line_without_conditions_does_nothing() {
        let mut way = way(Line::default());
        for arrival in [0, 5, 7] {
            assert_eq!(way.schedule(arrival, 1514), (Some(arrival), None));
        }
        assert_eq!(way.counts, Counts::default());
    }

    #[test]
    fn delay_and_jitter_keep_the_order() {
        let mut way = way(Line {
            delay: 30 * MS,
            jitter: 10 * MS,
            ..Line::default()
        });
        let mut last = 0;
        let mut spread = Vec::new();
        for number in 0..1000 {
            let arrival = number * 20 * MS;
            let found = due(&mut way, arrival);
            assert!(found >= last);
            last = found;
            spread.push(found - arrival);
        }
        assert!(spread.iter().all(|wait| (30 * MS..40 * MS).contains(wait)));
        let mean = spread.iter().sum::<u64>() / 1000;
        assert!((34 * MS..36 * MS).contains(&mean), "{mean}");
        // Close together, they come one after the other.
        let first = due(&mut way, 100_000 * MS);
        for number in 1..100 {
            assert!(due(&mut way, 100_000 * MS + number) >= first);
        }
    }

    #[test]
    fn a_shorter_delay_does_not_overtake() {
        let mut way = way(Line {
            delay: 100 * MS,
            ..Line::default()
        });
        assert_eq!(due(&mut way, 0), 100 * MS);
        way.line.delay = 0;
        assert_eq!(due(&mut way, 10 * MS), 100 * MS);
        assert_eq!(due(&mut way, 200 * MS), 200 * MS);
    }

    #[test]
    fn a_reordered_frame_is_overtaken() {
        let mut way = way(Line {
            reordering: 0.1,
            reorder_by: 5 * MS,
            ..Line::default()
        });
        let late = (0..10_000)
            .filter(|number| due(&mut way, number * MS) > number * MS)
            .count() as u64;
        assert_eq!(late, way.counts.reordered);
        assert!((900..1100).contains(&late), "{late}");
    }

    #[test]
    fn loss_and_duplication_are_as_likely_as_they_are_said_to_be() {
        let mut way = way(Line {
            loss: 0.2,
            duplication: 0.1,
            ..Line::default()
        });
        let (mut once, mut twice) = (0, 0);
        for number in 0..10_000 {
            let (first, second) = way.schedule(number, 100);
            once += u64::from(first.is_some());
            twice += u64::from(second.is_some());
        }
        assert_eq!(
            (10_000 - once, twice),
            (way.counts.lost, way.counts.repeated)
        );
        assert!((7800..8200).contains(&once), "{once}");
        assert!((700..900).contains(&twice), "{twice}");
        way.line.loss = 1.0;
        assert_eq!(way.schedule(0, 100), (None, None));
    }

    #[test]
    fn a_rate_spreads_frames_and_drops_what_waits_too_long() {
        // 1,000 bytes take 1 ms.
        let mut way = way(Line {
            rate: 8e6,
            queue: 10 * MS,
            delay: 5 * MS,
            ..Line::default()
        });
        let dues: Vec<_> = (0..20).map(|_| way.schedule(0, 1000).0).collect();
        for (number, found) in dues.iter().enumerate().take(11) {
            assert_eq!(*found, Some((number as u64 + 1) * MS + 5 * MS));
        }
        assert!(dues[11..].iter().all(Option::is_none));
        assert_eq!(way.counts.dropped, 9);
        // When it is empty again, a frame takes only its own time.
        assert_eq!(way.schedule(100 * MS, 1000).0, Some(106 * MS));
    }

    #[test]
    fn the_same_seed_does_the_same() {
        let lossy = Line {
            loss: 0.5,
            jitter: MS,
            ..Line::default()
        };
        let (mut one, mut other) = (way(lossy), way(lossy));
        for number in 0..1000 {
            assert_eq!(one.schedule(number, 100), other.schedule(number, 100));
        }
    }
}
