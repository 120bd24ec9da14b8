//! What may reach Python: control datagrams of a known type and length, with a good mac1.
//!
//! A flood of junk costs one length check, and at the most one keyed BLAKE2s, and fills no queue.

use blake2::digest::consts::U16;
use blake2::digest::{KeyInit, Mac};
use blake2::Blake2sMac;

use crate::counters::Counter;

const MAC: usize = 16;

/// One type of control datagram that may pass, as `contract.FilterRule` has it.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// The type, a little-endian u32 at the start.
    pub kind: u32,
    /// Exact, or with `exact` false the least.
    pub length: usize,
    /// Whether the length is exact.
    pub exact: bool,
    /// Where a mac1 of 16 bytes stands.
    pub mac1_offset: Option<usize>,
    /// Where one of our indices stands.
    pub index_offset: Option<usize>,
}

impl Rule {
    /// Whether all that it looks at lies within the least length.
    pub fn fits(&self) -> bool {
        self.length >= 4
            && self
                .index_offset
                .is_none_or(|at| at.checked_add(4).is_some_and(|e| e <= self.length))
            && self
                .mac1_offset
                .is_none_or(|at| at.checked_add(MAC).is_some_and(|e| e <= self.length))
    }
}

/// The rules that hold, and the key of mac1.
#[derive(Default)]
pub struct Filter {
    rules: Vec<Rule>,
    key: [u8; 32],
}

fn word(data: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([data[at], data[at + 1], data[at + 2], data[at + 3]])
}

impl Filter {
    /// Replace them all; of two rules for one type the last one holds. Each must fit.
    pub fn set(&mut self, rules: Vec<Rule>, key: [u8; 32]) {
        self.rules = rules;
        self.key = key;
    }

    /// Why a datagram is dropped, or None if it may pass. `is_ours` tells whether an index is one
    /// of ours.
    pub fn refusal(&self, data: &[u8], is_ours: impl Fn(u32) -> bool) -> Option<Counter> {
        if data.len() < 4 {
            return Some(Counter::TooShort);
        }
        let kind = word(data, 0);
        let Some(rule) = self.rules.iter().rev().find(|rule| rule.kind == kind) else {
            return Some(Counter::UnknownType);
        };
        if data.len() < rule.length || (rule.exact && data.len() != rule.length) {
            return Some(Counter::WrongLength);
        }
        if rule.index_offset.is_some_and(|at| !is_ours(word(data, at))) {
            return Some(Counter::UnknownIndex);
        }
        let at = rule.mac1_offset?;
        let mut mac =
            <Blake2sMac<U16> as KeyInit>::new_from_slice(&self.key).expect("a key of 32 bytes");
        mac.update(&data[..at]);
        let good = mac.verify_slice(&data[at..at + MAC]).is_ok();
        (!good).then_some(Counter::BadMac1)
    }
}
