//! What control datagrams that are dear to answer may cost: a queue of their own, and rates.
//!
//! Anybody who knows our public key can make datagrams that pass mac1, as many and from as many
//! made-up addresses as the line carries. Their number is bounded here, before Python is woken for
//! any of them. Those that carry the mac2 of a cookie of ours have proved their address and are
//! bounded apart, so that a flood of the others does not shut them out (whitepaper 5.3); so are
//! those that seem to come from where a peer is, for a peer renews its keys in a flood as well. A
//! datagram that is shed allocates nothing.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use blake2::digest::consts::U16;
use blake2::digest::{KeyInit, Mac};
use blake2::Blake2sMac;
use zeroize::Zeroizing;

use crate::counters::Counter;
use crate::events::Event;
use crate::route::{Route, Via};

/// The length of mac1, mac2 and cookies.
pub const MAC: usize = 16;
/// Buckets for sources, for each standing. Sources share them by a keyed hash: a flood from made-up
/// addresses must come at 160,000 a second before another source's bucket runs dry by it.
const SOURCES: usize = 4096;
/// What the sender of a datagram has shown, as a place in the arrays of a lane.
const PROVEN: usize = 0;
const PEER: usize = 1;
const UNPROVEN: usize = 2;
const STANDINGS: usize = 3;
/// The queue is divided by these for each standing: half of it is left to those that have proved
/// their address, and nobody else may fill more than three quarters.
const RESERVED: [(usize, usize); STANDINGS] = [(1, 1), (3, 4), (1, 2)];

/// How many datagrams of a type may reach Python, as `contract.Budget` has it.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Those that wait.
    pub queue: usize,
    /// Of those with a good mac2, a second; at once, as many as the queue takes.
    pub proven_rate: f64,
    /// Of the others from where a peer is, a second.
    pub peer_rate: f64,
    /// Of the rest, a second.
    pub unproven_rate: f64,
    /// And at once, of either.
    pub unproven_burst: u32,
    /// From one source, a second.
    pub source_rate: f64,
    /// And at once.
    pub source_burst: u32,
}

impl Budget {
    /// Whether each of its bounds bounds something.
    pub fn bounds(&self) -> bool {
        let rates = [self.proven_rate, self.peer_rate, self.unproven_rate, self.source_rate];
        (1..=crate::constants::CONTROL_QUEUE).contains(&self.queue)
            && rates.into_iter().all(|rate| rate > 0.0)
            && self.unproven_burst >= 1
            && self.source_burst >= 1
    }
}

/// Keyed BLAKE2s of 16 bytes, to be fed. The key has at most 32 bytes.
pub fn mac(key: &[u8]) -> Blake2sMac<U16> {
    <Blake2sMac<U16> as KeyInit>::new_from_slice(key).expect("a key of at most 32 bytes")
}

/// A token bucket in one number: the moment at which it is full again.
struct Rate {
    interval: f64,
    most: f64,
}

impl Rate {
    fn new(rate: f64, burst: f64) -> Self {
        // Half a token of slack, so that rounding takes none away.
        Rate { interval: 1.0 / rate, most: (burst - 0.5) / rate }
    }

    fn allows(&self, full_at: f64, now: f64) -> bool {
        full_at - now <= self.most
    }

    fn take(&self, full_at: &mut f64, now: f64) {
        *full_at = full_at.max(now) + self.interval;
    }
}

/// A place by which peers are counted.
#[derive(PartialEq, Eq, Hash)]
enum Place {
    At(IpAddr, u16),
    Relayed(Via, u16),
}

impl Place {
    fn of(route: &Route) -> Self {
        match route.channel {
            0 => Place::At(route.address, route.port),
            channel => Place::Relayed(route.via, channel),
        }
    }
}

/// Where the peers are: how many at each place.
#[derive(Default)]
pub struct Places(HashMap<Place, u32>);

impl Places {
    /// A peer is elsewhere than before; None for nowhere.
    pub fn moved(&mut self, from: Option<&Route>, to: Option<&Route>) {
        if let Some(to) = to {
            *self.0.entry(Place::of(to)).or_insert(0) += 1;
        }
        let Some(from) = from else { return };
        if let Entry::Occupied(mut entry) = self.0.entry(Place::of(from)) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }

    /// Whether a peer is where a datagram says that it comes from.
    pub fn has(&self, route: &Route) -> bool {
        self.0.contains_key(&Place::of(route))
    }

    /// How many places there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no peer is anywhere.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The queue and the buckets of one type of datagram.
pub struct Lane {
    /// The type.
    pub kind: u32,
    /// What waits.
    pub queue: VecDeque<Event>,
    seed: [u8; MAC],
    /// Each number is the moment at which a bucket is full.
    sources: Vec<f64>,
    full_at: [f64; STANDINGS],
    /// The bucket of those that proved nothing ran dry, and is filled up before it gives again.
    dry: bool,
    length: usize,
    source: Rate,
    rates: [Rate; STANDINGS],
}

impl Lane {
    /// A lane with nothing used up. Which sources share a bucket depends on the seed.
    pub fn new(kind: u32, budget: &Budget, seed: [u8; MAC]) -> Self {
        Lane {
            kind,
            queue: VecDeque::with_capacity(budget.queue),
            seed,
            sources: vec![0.0; STANDINGS * SOURCES],
            full_at: [0.0; STANDINGS],
            dry: false,
            length: budget.queue,
            source: Rate::new(budget.source_rate, budget.source_burst.into()),
            rates: [
                Rate::new(budget.proven_rate, budget.queue as f64),
                Rate::new(budget.peer_rate, budget.unproven_burst.into()),
                Rate::new(budget.unproven_rate, budget.unproven_burst.into()),
            ],
        }
    }

    /// The same lane with another budget; what was used up stays so.
    pub fn with(self, budget: &Budget) -> Self {
        let Lane { kind, queue, seed, sources, full_at, dry, .. } = self;
        Lane { queue, sources, full_at, dry, ..Lane::new(kind, budget, seed) }
    }

    /// Whether nothing more may come.
    pub fn is_full(&self) -> bool {
        self.queue.len() >= self.length
    }

    /// Whether nothing passes that proved nothing: the bucket ran dry, and is not full again. So
    /// Python is woken in a flood for a burst of them now and then, and not for each.
    pub fn is_dry(&self, now: f64) -> bool {
        self.dry && self.full_at[UNPROVEN] > now
    }

    /// Why a datagram is dropped, or None if it may pass. Its sender proved its address, or is
    /// where a peer is, or neither; what the peers' bucket does not take may still go as any other.
    pub fn refusal(
        &mut self,
        from: &Route,
        proven: bool,
        is_peer: bool,
        now: f64,
    ) -> Option<Counter> {
        if proven {
            return self.take(PROVEN, from, now);
        }
        if is_peer && self.take(PEER, from, now).is_none() {
            return None;
        }
        if self.is_dry(now) {
            return Some(Counter::ShedUnproven);
        }
        self.dry = false;
        self.take(UNPROVEN, from, now)
    }

    fn take(&mut self, standing: usize, from: &Route, now: f64) -> Option<Counter> {
        let (part, whole) = RESERVED[standing];
        if self.queue.len() >= self.length * part / whole {
            return Some(Counter::ShedQueue);
        }
        if !self.rates[standing].allows(self.full_at[standing], now) {
            self.dry |= standing == UNPROVEN;
            return Some(if standing == PROVEN {
                Counter::ShedRate
            } else {
                Counter::ShedUnproven
            });
        }
        let slot = standing * SOURCES + self.slot(from);
        if !self.source.allows(self.sources[slot], now) {
            return Some(Counter::ShedSource);
        }
        self.source.take(&mut self.sources[slot], now);
        self.rates[standing].take(&mut self.full_at[standing], now);
        None
    }

    fn slot(&self, from: &Route) -> usize {
        let mut mac = mac(&self.seed);
        match from.address {
            _ if from.channel != 0 => put_relayed(&mut mac, from),
            IpAddr::V4(v4) => mac.update(&v4.octets()),
            // A host commonly has a whole /64.
            IpAddr::V6(v6) => mac.update(&v6.octets()[..8]),
        }
        let [a, b, c, d, ..] = <[u8; MAC]>::from(mac.finalize().into_bytes());
        u32::from_le_bytes([a, b, c, d]) as usize % SOURCES
    }
}

/// Who sent something through a relay, whose server alone has seen the address.
fn put_relayed(mac: &mut Blake2sMac<U16>, route: &Route) {
    mac.update(&route.via.to_be_bytes());
    mac.update(&route.channel.to_be_bytes());
}

/// Who sent something, as a cookie is made over it: `source_of` of `wgpy/datapath/endpoint.py`.
fn put_source(mac: &mut Blake2sMac<U16>, route: &Route) {
    if route.channel != 0 {
        return put_relayed(mac, route);
    }
    match route.address {
        IpAddr::V4(v4) => mac.update(&v4.octets()),
        IpAddr::V6(v6) => mac.update(&v6.octets()),
    }
    mac.update(&route.port.to_be_bytes());
}

/// Whether the mac2 at `at` is that of a cookie which the sender got (whitepaper 5.4.4).
pub fn is_proven(secrets: &[Zeroizing<[u8; 32]>], route: &Route, data: &[u8], at: usize) -> bool {
    let mac2 = &data[at..at + MAC];
    if mac2 == [0; MAC] {
        return false;
    }
    secrets.iter().any(|secret| {
        let mut cookie = mac(&**secret);
        put_source(&mut cookie, route);
        let cookie = Zeroizing::new(<[u8; MAC]>::from(cookie.finalize().into_bytes()));
        let mut expected = mac(&*cookie);
        expected.update(&data[..at]);
        expected.verify_slice(mac2).is_ok()
    })
}
