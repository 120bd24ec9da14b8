//! When to send how many: batches of bounded size at a fixed tick.
//!
//! Sleeping between ticks leaves the processor to the tunnel that is measured, where both share
//! two cores. A sender that was held up catches up at twice its rate and no faster: a pause must
//! not become a burst that overflows a queue at which the rate itself would not have knocked.

/// Nanoseconds between two batches: 5,000 wake-ups a second, of some 5 us each, cost 2.5 % of a
/// core, and a batch at 500,000 packets a second is 100 packets, a fifth of a TUN's queue.
pub const TICK: u64 = 200_000;
/// How much faster than its rate a late sender may be.
const CATCH_UP: f64 = 2.0;

/// A schedule of packets at a constant rate.
#[derive(Clone, Copy, Debug)]
pub struct Pacer {
    per_nanosecond: f64,
    limit: u64,
}

impl Pacer {
    /// A schedule of `rate` packets a second (above 0).
    pub fn new(rate: f64) -> Self {
        let per_nanosecond = rate / 1e9;
        let limit = (per_nanosecond * TICK as f64 * CATCH_UP).ceil() as u64;
        Self {
            per_nanosecond,
            limit: limit.max(1),
        }
    }

    /// How many packets to send now, `elapsed` nanoseconds after the start, `sent` being sent.
    pub fn due(&self, elapsed: u64, sent: u64) -> u64 {
        let planned = (elapsed as f64 * self.per_nanosecond) as u64 + 1;
        planned.saturating_sub(sent).min(self.limit)
    }

    /// When to look again, in nanoseconds after the start: a tick after `elapsed`, at which
    /// the next packet is due.
    pub fn next_tick(&self, elapsed: u64, sent: u64) -> u64 {
        let wanted = (sent as f64 / self.per_nanosecond) as u64;
        let next = (elapsed / TICK + 1) * TICK;
        next.max(wanted.div_ceil(TICK) * TICK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packets sent at each tick of a second, the sender being away from one time to another.
    fn second(rate: f64, away: std::ops::Range<u64>) -> Vec<u64> {
        let pacer = Pacer::new(rate);
        let (mut now, mut sent, mut batches) = (0, 0, Vec::new());
        while now < 1_000_000_000 {
            let due = pacer.due(now, sent);
            batches.push(due);
            sent += due;
            now = pacer.next_tick(now, sent);
            if away.contains(&now) {
                now = away.end;
            }
        }
        batches
    }

    #[test]
    fn the_rate_is_kept() {
        for rate in [1.0, 10.0, 4_999.0, 123_456.0, 2_000_000.0] {
            let sent: u64 = second(rate, 0..0).iter().sum();
            let wrong = (sent as f64 - rate).abs();
            assert!(wrong <= 1.0 + rate * 0.0002, "{rate}: {sent}");
        }
    }

    #[test]
    fn batches_are_even() {
        let batches = second(100_000.0, 0..0);
        assert!(batches[1..].iter().all(|&size| (19..=21).contains(&size)));
    }

    #[test]
    fn what_was_late_is_caught_up_at_no_more_than_twice_the_rate() {
        let batches = second(100_000.0, 100_000_000..150_000_000);
        assert!(batches.iter().all(|&size| size <= 40));
        let sent: u64 = batches.iter().sum();
        assert!((99_970..=100_001).contains(&sent), "{sent}");
    }

    #[test]
    fn a_slow_sender_sleeps_until_its_next_packet() {
        let pacer = Pacer::new(10.0);
        assert_eq!(pacer.due(0, 0), 1);
        assert_eq!(pacer.next_tick(0, 1), 100_000_000);
        assert_eq!(pacer.due(99_999_999, 1), 0);
        assert_eq!(pacer.due(100_000_000, 1), 1);
    }
}
