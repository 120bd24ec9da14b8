//! What may reach Python: control datagrams of a known type and length, with a good mac1.
//!
//! A flood of junk costs one length check, and at the most one keyed BLAKE2s, and fills no queue.
//! Types with a budget are bounded in number as well (`shed.rs`).

use std::collections::HashSet;

use blake2::digest::Mac;
use zeroize::Zeroizing;

use crate::counters::Counter;
use crate::demux::is_channel;
use crate::events::Event;
use crate::route::Route;
use crate::shed::{is_proven, mac, Budget, Lane, Places, MAC};

/// One type of control datagram that may pass, as `contract.FilterRule` has it.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// The type, a little-endian u32 at the start.
    pub kind: u32,
    /// Exact, or with `exact` false the least.
    pub length: usize,
    /// Whether the length is exact.
    pub exact: bool,
    /// Where a mac1 of 16 bytes stands; a negative offset counts from the end.
    pub mac1_offset: Option<isize>,
    /// Where one of our indices stands.
    pub index_offset: Option<usize>,
    /// The greatest length, unless it is exact.
    pub longest: Option<usize>,
    /// How many may pass.
    pub budget: Option<Budget>,
    /// Where the identifier of a path of ours stands.
    pub path_offset: Option<usize>,
}

/// The identifier of a path, as its receiver chose it.
pub type PathId = [u8; 8];

impl Rule {
    /// Whether all that it looks at lies within the least length, and its budget bounds something.
    pub fn fits(&self) -> bool {
        let span = if self.budget.is_some() { 2 * MAC } else { MAC };
        let inside = |at: Option<usize>, size| {
            at.is_none_or(|at| at.checked_add(size).is_some_and(|end| end <= self.length))
        };
        self.length >= 4
            && !is_channel(self.kind as u8)
            && self.longest.is_none_or(|longest| !self.exact && longest >= self.length)
            && inside(self.index_offset, 4)
            && inside(self.path_offset, std::mem::size_of::<PathId>())
            && match self.mac1_offset {
                None => self.budget.is_none(),
                Some(at) if at < 0 => (span..=self.length).contains(&at.unsigned_abs()),
                Some(at) => at.unsigned_abs().checked_add(span).is_some_and(|e| e <= self.length),
            }
            && self.budget.is_none_or(|budget| budget.bounds())
    }
}

/// The rules that hold, the key of mac1, and the queues of the types that have a budget.
#[derive(Default)]
pub struct Filter {
    rules: Vec<Rule>,
    key: [u8; 32],
    /// In the order of their types.
    lanes: Vec<Lane>,
    secrets: Vec<Zeroizing<[u8; 32]>>,
    paths: HashSet<PathId>,
}

fn word(data: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([data[at], data[at + 1], data[at + 2], data[at + 3]])
}

impl Filter {
    /// Replace them all; of two rules for one type the last one holds. Each must fit.
    ///
    /// A queue whose type has no budget any more is dropped; how many datagrams were in it.
    pub fn set(&mut self, rules: Vec<Rule>, key: [u8; 32], seed: [u8; MAC]) -> usize {
        let mut former = std::mem::take(&mut self.lanes);
        for (number, rule) in rules.iter().enumerate() {
            let replaced = rules[number + 1..].iter().any(|other| other.kind == rule.kind);
            let Some(budget) = rule.budget.filter(|_| !replaced) else { continue };
            let known = former.iter().position(|lane| lane.kind == rule.kind);
            self.lanes.push(match known {
                Some(at) => former.swap_remove(at).with(&budget),
                None => Lane::new(rule.kind, &budget, seed),
            });
        }
        self.lanes.sort_unstable_by_key(|lane| lane.kind);
        self.rules = rules;
        self.key = key;
        former.iter().map(|lane| lane.queue.len()).sum()
    }

    /// What cookies are made with.
    pub fn set_secrets(&mut self, secrets: Vec<Zeroizing<[u8; 32]>>) {
        self.secrets = secrets;
    }

    /// The identifiers of paths that are ours.
    pub fn set_paths(&mut self, paths: HashSet<PathId>) {
        self.paths = paths;
    }

    /// The queue of a type that has one of its own.
    pub fn queue_of(&self, kind: u32) -> Option<&std::collections::VecDeque<Event>> {
        self.lanes.iter().find(|lane| lane.kind == kind).map(|lane| &lane.queue)
    }

    /// The lanes, in the order of their types.
    pub fn lanes(&mut self) -> &mut [Lane] {
        &mut self.lanes
    }

    /// Whether anything waits in them.
    pub fn has_datagrams(&self) -> bool {
        self.lanes.iter().any(|lane| !lane.queue.is_empty())
    }

    fn has_path(&self, data: &[u8]) -> bool {
        data.first_chunk().is_some_and(|id| self.paths.contains(id))
    }

    /// Whether a datagram may pass: why not, or the lane whose queue it goes to, None for the
    /// common one. `is_ours` tells whether an index is one of ours.
    pub fn admit(
        &mut self,
        data: &[u8],
        route: &Route,
        places: &Places,
        now: f64,
        is_ours: impl Fn(u32) -> bool,
    ) -> Result<Option<&mut Lane>, Counter> {
        if data.len() < 4 {
            return Err(Counter::TooShort);
        }
        let kind = word(data, 0);
        let Some(rule) = self.rules.iter().rev().find(|rule| rule.kind == kind) else {
            return Err(Counter::UnknownType);
        };
        let longest = if rule.exact { rule.length } else { rule.longest.unwrap_or(usize::MAX) };
        if !(rule.length..=longest).contains(&data.len()) {
            return Err(Counter::WrongLength);
        }
        if rule.index_offset.is_some_and(|at| !is_ours(word(data, at))) {
            return Err(Counter::UnknownIndex);
        }
        if rule.path_offset.is_some_and(|at| !self.has_path(&data[at..])) {
            return Err(Counter::UnknownPath);
        }
        let lane = self.lanes.iter_mut().find(|lane| lane.kind == kind);
        if lane.as_ref().is_some_and(|lane| lane.is_full()) {
            return Err(Counter::ShedQueue);
        }
        let Some(at) = rule.mac1_offset else { return Ok(lane) };
        let from_end = if at < 0 { data.len() - at.unsigned_abs() } else { at.unsigned_abs() };
        let (covered, rest) = data.split_at(from_end);
        let is_peer = lane.is_some() && places.has(route);
        let dry = lane.as_ref().is_some_and(|lane| lane.is_dry(now)) && !is_peer;
        // In a flood mac1 need not be looked at: only who proved its address could pass.
        if dry && !is_proven(&self.secrets, route, data, from_end + MAC) {
            return Err(Counter::ShedUnproven);
        }
        let mut mac1 = mac(&self.key);
        mac1.update(covered);
        if mac1.verify_slice(&rest[..MAC]).is_err() {
            return Err(Counter::BadMac1);
        }
        let Some(lane) = lane else { return Ok(None) };
        let proven = dry || is_proven(&self.secrets, route, data, from_end + MAC);
        match lane.refusal(route, proven, is_peer, now) {
            Some(reason) => Err(reason),
            None => Ok(Some(lane)),
        }
    }
}
