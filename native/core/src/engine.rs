//! The engine: its state, its buffers, and what it asks of a shell.
//!
//! `outbound.rs` is the way from the TUN to the sockets, `inbound.rs` the way back, `control.rs`
//! what the control plane orders and hears.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::net::IpAddr;

use zeroize::Zeroize;

use crate::allowedips::{AllowedIps, Handle};
use crate::coalesce::{Coalescer, Merge, Write};
use crate::constants::{
    HEADER, MAX_INNER, MAX_PACKET, MAX_TRAIN, MAX_TRAIN_SEGMENTS, OVERHEAD, SEGMENT_RETRY,
    UNREACHABLE_BURST,
};
use crate::counters::{Counter, Counters};
use crate::demux::CHANNEL_HEADER;
use crate::events::Event;
use crate::filter::Filter;
use crate::road::Road;
use crate::route::Route;
use crate::shed::Places;
use crate::vnet;
use crate::ways::{Link, Vias};

/// A message with the longest packet in it, padded, and what a relay wants before it.
pub const MESSAGE: usize = CHANNEL_HEADER + MAX_PACKET + OVERHEAD + 16;
/// Where the TUN's arena begins: there is room for a relay's header before the first message, which
/// lies as well for the cipher as it would at 0.
pub const TUN_START: usize = 16;
/// Room for a batch of reads that become trains where they lie, and for one more.
const TUN_ARENA: usize = TUN_START + 128 * 1024 + MESSAGE;
/// Room for the trains of a batch of large packets, and for one more message.
const OUT_ARENA: usize = 256 * 1024 + MESSAGE;
/// What one receive call may bring from one place: a UDP payload, or a train of the kernel's.
pub const SLOT: usize = 65_536;
/// Places that one batch of receives fills.
pub const SLOTS: usize = 8;
/// What a full carrier answers.
pub const EAGAIN: i32 = 11;
/// Trains that are gathered before they are sent.
const MAX_TRAINS: usize = 64;

/// Which buffer a train lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arena {
    /// Where the TUN is read into.
    Tun,
    /// Where large packets are split into.
    Out,
}

/// Datagrams for one peer that lie one behind the other, all of one length but the last, which may
/// be shorter.
#[derive(Clone, Copy, Debug)]
pub struct Train {
    /// Where the bytes lie.
    pub arena: Arena,
    /// The first byte.
    pub start: usize,
    /// The end of the bytes.
    pub end: usize,
    /// The length of each datagram but the last.
    pub segment: usize,
    /// How many datagrams.
    pub count: usize,
    /// For whom.
    pub peer: Handle,
    /// Where to: if there is a relay, to its server.
    pub route: Route,
    /// The bytes before the message in each datagram: the header that a relay wants.
    pub head: usize,
    /// It goes by a relay's carrier, and is a single datagram.
    pub carried: bool,
    /// UDP_SEGMENT fails on the way to this peer: send datagram by datagram.
    pub single: bool,
    /// What became of it; the shell fills it in.
    pub outcome: Outcome,
}

/// What became of a train.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The errno of the last datagram that was refused, or 0.
    pub error: i32,
    /// The errno with which UDP_SEGMENT failed, if the datagrams then went one by one, or 0.
    pub segment_error: i32,
    /// The source address was refused, and the train went without it.
    pub stale_source: bool,
}

/// How a control datagram goes out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Manner {
    /// Its time to live or hop limit, 0 for the usual one.
    pub ttl: u8,
    /// It may not be fragmented, whatever is known of the path's MTU.
    pub whole: bool,
}

/// What a shell provides: the sockets and the TUN. Its calls never block for long.
pub trait Shell {
    /// Send trains in order, and fill in the outcome of each.
    fn transmit(&mut self, tun: &[u8], out: &[u8], trains: &mut [Train]);
    /// Send one control datagram.
    fn transmit_control(&mut self, data: &[u8], route: &Route, how: Manner) -> Outcome;
    /// Write one packet, its vnet header first, to the TUN: `head` and then the parts. Returns an
    /// errno, or 0.
    fn deliver(&mut self, head: &[u8], buffer: &[u8], parts: &[crate::coalesce::Part]) -> i32;
}

/// What the coalescer writes to.
pub(crate) struct ToTun<'a, S>(pub &'a mut S);

impl<S: Shell> Write for ToTun<'_, S> {
    #[inline]
    fn write(&mut self, head: &[u8], buffer: &[u8], parts: &[crate::coalesce::Part]) -> i32 {
        self.0.deliver(head, buffer, parts)
    }
}

/// Spreads numbers that we chose ourselves: handles, and indices that are random already.
#[derive(Default)]
pub struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u32(u32::from(byte));
        }
    }
    #[inline]
    fn write_u32(&mut self, value: u32) {
        self.0 = (self.0 ^ u64::from(value)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 ^= self.0 >> 32;
    }
}

pub(crate) type Map<V> = HashMap<u32, V, BuildHasherDefault<Spread>>;

/// How the TUN and the sockets are used; each can be switched off.
#[derive(Clone, Copy, Debug, Default)]
pub struct Offloads {
    /// Packets of the TUN carry a vnet header.
    pub vnet_header: bool,
    /// UDP datagrams may come from the TUN in large packets.
    pub uso: bool,
    /// What may be merged on the way into the TUN.
    pub merge: Merge,
    /// Equal datagrams to one peer go in one send.
    pub segment: bool,
}

/// One interface's data path. There is no state outside of it.
pub struct Engine {
    pub(crate) offloads: Offloads,
    pub(crate) mtu: usize,
    pub(crate) up: bool,
    pub(crate) roads: Map<Box<Road>>,
    pub(crate) vias: Vias,
    /// Where the roads lead to.
    pub(crate) places: Places,
    pub(crate) next_handle: Handle,
    pub(crate) allowed: AllowedIps,
    /// Indices of sessions to their peers, and of handshakes to 0.
    pub(crate) indices: Map<Handle>,
    /// Deadlines of gates, oldest first; some were decided meanwhile.
    pub(crate) gates: VecDeque<(f64, Handle)>,
    pub(crate) held_bytes: usize,
    /// Peers for which packets wait since they moved.
    pub(crate) holding: Vec<Handle>,
    pub(crate) kept_bytes: usize,
    pub(crate) filter: Filter,
    pub(crate) datagrams: VecDeque<Event>,
    pub(crate) stun_sources: Vec<(IpAddr, u16)>,
    pub(crate) stun: VecDeque<Event>,
    /// Peers with pending events, oldest first; one that left is passed over.
    pub(crate) dirty: Vec<Handle>,
    pub(crate) alarms: Vec<Event>,
    pub(crate) counters: Counters,
    pub(crate) unreachable_tokens: f64,
    pub(crate) unreachable_when: f64,
    pub(crate) coalescer: Coalescer,
    pub(crate) tun: Box<[u8]>,
    pub(crate) tun_at: usize,
    /// The header that a relay will want before the next message there, as far as one can guess.
    pub(crate) tun_head: usize,
    pub(crate) out: Box<[u8]>,
    pub(crate) out_at: usize,
    pub(crate) udp: Box<[u8]>,
    pub(crate) trains: Vec<Train>,
    pub(crate) segment_alarm: f64,
}

/// The engine refuses an order; the text says what and why.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused(pub String);

impl Engine {
    /// An engine without peers, down.
    pub fn new(offloads: Offloads, mtu: usize) -> Result<Self, Refused> {
        let merge = if offloads.vnet_header { offloads.merge } else { Merge::default() };
        let mut engine = Engine {
            offloads,
            mtu: 0,
            up: false,
            roads: Map::default(),
            vias: Vias::default(),
            places: Places::default(),
            next_handle: 1,
            allowed: AllowedIps::default(),
            indices: Map::default(),
            gates: VecDeque::new(),
            held_bytes: 0,
            holding: Vec::new(),
            kept_bytes: 0,
            filter: Filter::default(),
            datagrams: VecDeque::new(),
            stun_sources: Vec::new(),
            stun: VecDeque::new(),
            dirty: Vec::with_capacity(64),
            alarms: Vec::new(),
            counters: Counters::default(),
            unreachable_tokens: UNREACHABLE_BURST,
            unreachable_when: 0.0,
            coalescer: Coalescer::new(merge),
            tun: vec![0; TUN_ARENA].into_boxed_slice(),
            tun_at: TUN_START,
            tun_head: 0,
            out: vec![0; OUT_ARENA].into_boxed_slice(),
            out_at: 0,
            udp: vec![0; SLOT * SLOTS].into_boxed_slice(),
            trains: Vec::with_capacity(MAX_TRAINS),
            segment_alarm: f64::NEG_INFINITY,
        };
        engine.set_mtu(mtu)?;
        Ok(engine)
    }

    /// Padding ends at the MTU.
    pub fn set_mtu(&mut self, mtu: usize) -> Result<(), Refused> {
        if !(1..=MAX_INNER).contains(&mtu) {
            return Err(Refused(format!(
                "an MTU of {mtu} cannot be carried: a UDP datagram over IPv4 leaves {MAX_INNER} \
                 bytes to a packet; set the MTU to that or less"
            )));
        }
        self.mtu = mtu;
        Ok(())
    }

    /// Each offload by name, and whether it is in use.
    pub fn offloads(&self) -> [(&'static str, bool); 5] {
        [
            ("tun_vnet_hdr", self.offloads.vnet_header),
            ("tun_uso", self.offloads.uso),
            ("tun_tcp_merge", self.coalescer.merge.tcp),
            ("tun_udp_merge", self.coalescer.merge.udp),
            ("udp_segment", self.offloads.segment),
        ]
    }

    /// Count something that the shell saw.
    pub fn count(&mut self, counter: Counter) {
        self.counters.count(counter);
    }

    // --- Trains ---

    /// Put a datagram at `start..end` of an arena on the open train, or begin another.
    #[inline]
    pub(crate) fn enqueue(&mut self, arena: Arena, start: usize, end: usize, link: &Link) {
        let size = end - start;
        if let Some(open) = self.trains.last_mut() {
            let whole = open.end - open.start == open.count * open.segment;
            if open.arena == arena
                && open.end == start
                && whole
                && open.peer == link.peer
                && size <= open.segment
                && open.count < MAX_TRAIN_SEGMENTS
                && end - open.start <= MAX_TRAIN
                && open.single == link.single
                && open.head == link.head()
                && !link.carried
                && open.route == link.wire
            {
                open.end = end;
                open.count += 1;
                return;
            }
        }
        self.trains.push(Train {
            arena,
            start,
            end,
            segment: size,
            count: 1,
            peer: link.peer,
            route: link.wire,
            head: link.head(),
            carried: link.carried,
            single: link.single,
            outcome: Outcome::default(),
        });
    }

    /// Whether the next message may come at `at` of an arena without a send before.
    pub(crate) fn is_full(&self, at: usize, room: usize) -> bool {
        at + MESSAGE > room || self.trains.len() == MAX_TRAINS
    }

    /// Send every train. After it the arenas are free.
    pub fn flush(&mut self, now: f64, shell: &mut impl Shell) {
        self.tun_at = TUN_START;
        self.out_at = 0;
        if self.trains.is_empty() {
            return;
        }
        shell.transmit(&self.tun, &self.out, &mut self.trains);
        for number in 0..self.trains.len() {
            let train = self.trains[number];
            let Outcome { error, segment_error, stale_source } = train.outcome;
            if error == 0 {
                if let Some(road) = self.roads.get_mut(&train.peer) {
                    let bytes = train.end - train.start - train.count * train.head;
                    road.activity.tx_bytes += bytes as u64;
                }
            } else if train.carried && error == EAGAIN {
                self.counters.add(Counter::CarrierFull, train.count as u64);
            } else {
                self.counters.add(Counter::SendError, train.count as u64);
            }
            if segment_error != 0 {
                self.segment_failed(train.peer, segment_error, now);
            }
            if stale_source {
                self.forget_source(&train.route);
            }
        }
        self.trains.clear();
    }

    /// UDP_SEGMENT failed on the way to a peer: its datagrams go one by one for a while.
    fn segment_failed(&mut self, peer: Handle, errno: i32, now: f64) {
        self.counters.count(Counter::SegmentFallback);
        if let Some(road) = self.roads.get_mut(&peer) {
            road.single_until = now + SEGMENT_RETRY;
        }
        // Said once in a while, however many peers it concerns.
        if now - self.segment_alarm >= SEGMENT_RETRY {
            self.segment_alarm = now;
            self.alarms.push(Event::Offload("udp_segment", false, errno));
        }
    }

    /// The source is stale: every peer that used it chooses afresh.
    pub(crate) fn forget_source(&mut self, route: &Route) {
        self.counters.count(Counter::StaleSource);
        self.vias.forget_source(route);
        for road in self.roads.values_mut() {
            if road.route.as_ref() == Some(route) {
                road.route = Some(route.without_source());
            }
        }
    }

    /// Wipe every key, and whatever plaintext the buffers hold.
    pub fn wipe(&mut self) {
        for road in self.roads.values_mut() {
            road.keys.clear();
            road.gate = None;
            road.staged.iter_mut().for_each(|packet| packet.zeroize());
            road.staged.clear();
            if let Some(mut hold) = road.hold.take() {
                hold.kept.iter_mut().for_each(|packet| packet.zeroize());
            }
        }
        self.holding.clear();
        self.kept_bytes = 0;
        self.indices.clear();
        self.gates.clear();
        self.held_bytes = 0;
        self.trains.clear();
        self.tun_at = TUN_START;
        self.out_at = 0;
        self.coalescer = Coalescer::new(self.coalescer.merge);
        self.tun.zeroize();
        self.out.zeroize();
        self.udp.zeroize();
    }

    /// The data path failed inside: nothing of its keys is left, and the control plane hears it.
    pub fn fail(&mut self, text: String) {
        self.wipe();
        self.alarms.push(Event::Failed(text));
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.wipe();
    }
}

const _: () = assert!(vnet::LENGTH <= HEADER && CHANNEL_HEADER <= TUN_START);
