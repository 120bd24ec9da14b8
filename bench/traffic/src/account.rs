//! Which packets came: each number of each flow is seen once, late, twice, or never.

use crate::packet::Mark;

/// Flows that are told apart. A sender has no more.
pub const MAX_FLOWS: u32 = 1024;
/// Packets of one flow: 2 million a second for half a minute, in 8 MB of bits.
pub const MAX_NUMBER: u64 = 1 << 26;

/// One flow: a bit for each number that came.
#[derive(Default)]
struct Flow {
    bits: Vec<u64>,
    next: u64,
}

/// The sums over all flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Different packets that came.
    pub unique: u64,
    /// Packets that had come already.
    pub duplicates: u64,
    /// Packets that came after one with a higher number (RFC 4737, section 3.3).
    pub reordered: u64,
    /// Packets of another run, without a mark, or with a number out of all bounds.
    pub strangers: u64,
    /// Numbers below the highest that came, and never came themselves. What was lost after the
    /// last packet that came only the sender can tell.
    pub missing: u64,
}

/// What came in one run.
pub struct Account {
    run: u32,
    flows: Vec<Flow>,
    counts: Counts,
}

impl Account {
    /// An account of the run of this number.
    pub fn new(run: u32) -> Self {
        Self {
            run,
            flows: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// Book a packet; whether it is one of this run, and new.
    pub fn book(&mut self, mark: Option<Mark>) -> bool {
        let Some(mark) = mark.filter(|mark| {
            mark.run == self.run && mark.flow < MAX_FLOWS && mark.number < MAX_NUMBER
        }) else {
            self.counts.strangers += 1;
            return false;
        };
        let index = mark.flow as usize;
        if index >= self.flows.len() {
            self.flows.resize_with(index + 1, Flow::default);
        }
        let flow = &mut self.flows[index];
        let (word, bit) = ((mark.number / 64) as usize, 1u64 << (mark.number % 64));
        if word >= flow.bits.len() {
            flow.bits.resize(word + 1, 0);
        }
        if flow.bits[word] & bit != 0 {
            self.counts.duplicates += 1;
            return false;
        }
        flow.bits[word] |= bit;
        self.counts.unique += 1;
        if mark.number < flow.next {
            self.counts.reordered += 1;
        } else {
            flow.next = mark.number + 1;
        }
        true
    }

    /// The sums so far.
    pub fn counts(&self) -> Counts {
        let expected: u64 = self.flows.iter().map(|flow| flow.next).sum();
        Counts {
            missing: expected - self.counts.unique,
            ..self.counts
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn booked(packets: &[(u32, u64)]) -> Counts {
        let mut account = Account::new(9);
        for &(flow, number) in packets {
            account.book(Some(mark(9, flow, number)));
        }
        account.counts()
    }

    fn mark(run: u32, flow: u32, number: u64) -> Mark {
        Mark {
            run,
            flow,
            number,
            time: 0,
        }
    }

    #[test]
    fn all_in_order() {
        let counts = booked(&[(0, 0), (0, 1), (1, 0), (0, 2)]);
        assert_eq!(counts.unique, 4);
        assert_eq!(
            counts,
            Counts {
                unique: 4,
                ..Counts::default()
            }
        );
    }

    #[test]
    fn one_late_one_twice_one_missing() {
        let counts = booked(&[(0, 0), (0, 2), (0, 1), (0, 2), (0, 200)]);
        assert_eq!((counts.unique, counts.duplicates), (4, 1));
        assert_eq!((counts.reordered, counts.missing), (1, 197));
    }

    #[test]
    fn strangers_are_counted_and_nothing_else() {
        let mut account = Account::new(9);
        for stranger in [
            None,
            Some(mark(8, 0, 0)),
            Some(mark(9, MAX_FLOWS, 0)),
            Some(mark(9, 0, MAX_NUMBER)),
        ] {
            assert!(!account.book(stranger));
        }
        assert_eq!(
            account.counts(),
            Counts {
                strangers: 4,
                ..Counts::default()
            }
        );
    }
}
