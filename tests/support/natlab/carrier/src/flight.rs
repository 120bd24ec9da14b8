//! The frames that are on their way, by when they are due.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// So many at once: 300 Mbit/s of full frames for more than two seconds, in 100 MB.
pub const MOST: usize = 65_536;

/// A frame on its way.
#[derive(PartialEq, Eq)]
struct Flying {
    due: u64,
    /// Frames that are due at one time keep their order.
    number: u64,
    origin: usize,
    bytes: Vec<u8>,
}

impl Ord for Flying {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.number).cmp(&(other.due, other.number))
    }
}

impl PartialOrd for Flying {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// All that are on their way, from both ends.
#[derive(Default)]
pub struct Flight {
    heap: BinaryHeap<Reverse<Flying>>,
    numbers: u64,
}

impl Flight {
    /// Take one on that came in at an end; false if there are too many.
    pub fn depart(&mut self, due: u64, origin: usize, bytes: &[u8]) -> bool {
        if self.heap.len() >= MOST {
            return false;
        }
        self.numbers += 1;
        self.heap.push(Reverse(Flying {
            due,
            number: self.numbers,
            origin,
            bytes: bytes.to_vec(),
        }));
        true
    }

    /// When the next one is due.
    pub fn next(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse(flying)| flying.due)
    }

    /// The next one that is due by now, with the end where it came in.
    pub fn land(&mut self, now: u64) -> Option<(usize, Vec<u8>)> {
        if self.next()? > now {
            return None;
        }
        self.heap
            .pop()
            .map(|Reverse(flying)| (flying.origin, flying.bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_land_when_they_are_due_and_in_order() {
        let mut flight = Flight::default();
        for (due, name) in [(5, b"c"), (3, b"a"), (5, b"d"), (4, b"b")] {
            assert!(flight.depart(due, 1, name));
        }
        assert_eq!(flight.next(), Some(3));
        assert_eq!(flight.land(2), None);
        let mut landed = Vec::new();
        while let Some((origin, bytes)) = flight.land(5) {
            assert_eq!(origin, 1);
            landed.extend(bytes);
        }
        assert_eq!(landed, b"abcd");
        assert_eq!(flight.next(), None);
    }

    #[test]
    fn there_are_never_too_many() {
        let mut flight = Flight::default();
        assert!((0..MOST).all(|number| flight.depart(number as u64, 0, b"")));
        assert!(!flight.depart(0, 0, b""));
        assert!(flight.land(u64::MAX).is_some());
        assert!(flight.depart(0, 0, b""));
    }
}
