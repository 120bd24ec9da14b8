//! The replay window of one key pair (RFC 6479; whitepaper 5.4.6).

use crate::constants::{WINDOW_BITS, WINDOW_USABLE};

const WORDS: usize = (WINDOW_BITS / 64) as usize;

/// Which counters were seen: a ring of 64-bit words, so that moving on clears whole words.
///
/// Ask only after the packet was authenticated; otherwise a forger could close the window.
pub struct Window {
    /// One past the greatest counter that was accepted; zero before the first.
    end: u64,
    words: [u64; WORDS],
}

impl Default for Window {
    fn default() -> Self {
        Window { end: 0, words: [0; WORDS] }
    }
}

impl Window {
    /// Whether `counter` is new, and remember it. It is below REJECT_AFTER_MESSAGES.
    pub fn accept(&mut self, counter: u64) -> bool {
        let word = counter >> 6;
        if counter >= self.end {
            // Before the first packet no word is in use, and there is nothing to clear.
            if let Some(greatest) = self.end.checked_sub(1) {
                let former = greatest >> 6;
                for step in 1..=(word - former).min(WORDS as u64) {
                    self.words[(former + step) as usize % WORDS] = 0;
                }
            }
            self.end = counter + 1;
        } else if self.end - 1 - counter > WINDOW_USABLE {
            return false;
        }
        let bit = 1 << (counter & 63);
        let slot = &mut self.words[word as usize % WORDS];
        let new = *slot & bit == 0;
        *slot |= bit;
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    proptest! {
        #[test]
        fn agrees_with_a_set(jumps in prop::collection::vec(-9000i64..9000, 1..400)) {
            let mut window = Window::default();
            let mut seen = HashSet::new();
            let (mut at, mut greatest) = (0i64, -1i64);
            for jump in jumps {
                at = (at + jump).max(0);
                let fresh = seen.insert(at) && greatest - at <= WINDOW_USABLE as i64;
                prop_assert_eq!(window.accept(at as u64), fresh);
                greatest = greatest.max(at);
            }
        }
    }

    #[test]
    fn the_ends_of_the_window() {
        let mut window = Window::default();
        assert!(window.accept(0));
        assert!(!window.accept(0));
        assert!(window.accept(WINDOW_USABLE));
        assert!(window.accept(1));
        assert!(window.accept(1 << 40));
        assert!(window.accept((1 << 40) - WINDOW_USABLE));
        assert!(!window.accept((1 << 40) - WINDOW_USABLE - 1));
    }
}
