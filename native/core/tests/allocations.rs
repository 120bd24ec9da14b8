//! No heap allocation per packet: counted, in both directions, once a key is there.
//!
//! AWS-LC's own allocations do not pass through Rust's allocator; sealing and opening with
//! ChaCha20-Poly1305 makes none.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::IpAddr;

use blake2::digest::Mac;
use wgpy_core::allowedips::Operation;
use wgpy_core::coalesce::{Merge, Part};
use wgpy_core::control::Slot;
use wgpy_core::engine::{Arena, Engine, Manner, Offloads, Outcome, Shell, Train};
use wgpy_core::filter::Rule;
use wgpy_core::packet::Address;
use wgpy_core::route::Route;
use wgpy_core::session::NewKeyPair;
use wgpy_core::shed::{mac, Budget};
use wgpy_core::vnet::{Vnet, GSO_TCPV4, NEEDS_CSUM};

struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is passed on as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller keeps to the contract, which is the same.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Keeps the last train in a place that was made before.
struct Wire {
    bytes: Vec<u8>,
    length: usize,
    segment: usize,
    datagrams: usize,
    packets: usize,
}

impl Shell for Wire {
    fn transmit(&mut self, tun: &[u8], out: &[u8], trains: &mut [Train]) {
        for train in trains {
            let from = if train.arena == Arena::Tun { tun } else { out };
            self.length = train.end - train.start;
            self.segment = train.segment;
            self.bytes[..self.length].copy_from_slice(&from[train.start..train.end]);
            self.datagrams += train.count;
            train.outcome = Outcome::default();
        }
    }
    fn transmit_control(&mut self, _data: &[u8], _route: &Route, _how: Manner) -> Outcome {
        Outcome::default()
    }
    fn deliver(&mut self, _head: &[u8], _buffer: &[u8], _parts: &[Part]) -> i32 {
        self.packets += 1;
        0
    }
}

fn engine(own: u32, other: u32, wire: &mut Wire) -> Engine {
    let merge = Merge { tcp: true, udp: true };
    let offloads = Offloads { vnet_header: true, uso: true, merge, segment: true };
    let mut engine = Engine::new(offloads, 1420).unwrap();
    engine.set_up(true);
    let peer = engine.add_peer();
    engine.set_allowed_ips(&[Operation::Add(peer, (Address::V4(0), 0))]);
    let address: IpAddr = "192.0.2.1".parse().unwrap();
    let route = Route { address, port: 1, scope: 0, source: None, ifindex: 0, via: 0, channel: 0 };
    engine.set_endpoint(peer, Some(route), 0.0, 1.0, wire);
    let key = |byte: u32| zeroize::Zeroizing::new(vec![byte as u8; 32]);
    let pair = NewKeyPair {
        send_key: key(own),
        receive_key: key(other),
        local_index: own,
        remote_index: other,
        reject_after: 1e9,
        notify_send_after: 1e9,
        notify_receive_after: 1e9,
    };
    engine.install(peer, Slot::Current, pair, false, 1.0, wire);
    engine
}

fn large_tcp() -> Vec<u8> {
    let mut packet = vec![0u8; 60_000];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&60_000u16.to_be_bytes());
    packet[6] = 0x40;
    packet[8] = 64;
    packet[9] = 6;
    packet[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
    packet[32] = 5 << 4;
    packet[33] = 0x10;
    packet
}

#[test]
fn none_for_a_packet_on_its_way() {
    on_its_way(false);
}

#[test]
fn none_for_a_packet_through_a_relay() {
    on_its_way(true);
}

/// The peer of an engine is behind a relay from now on; where that sends from.
fn relay(engine: &mut Engine, wire: &mut Wire) -> Route {
    let address: IpAddr = "198.51.100.1".parse().unwrap();
    let server =
        Route { address, port: 3478, scope: 0, source: None, ifindex: 0, via: 0, channel: 0 };
    let relay = engine.add_relay(server, false).unwrap();
    engine.set_channel(relay, 0x4000, Some((address, 1))).unwrap();
    let place = Route { via: relay, channel: 0x4000, ..server };
    engine.set_endpoint(1, Some(place), 0.0, 1.0, wire);
    server
}

fn on_its_way(relayed: bool) {
    let mut wire =
        Wire { bytes: vec![0; 1 << 17], length: 0, segment: 0, datagrams: 0, packets: 0 };
    let mut here = engine(1, 2, &mut wire);
    let mut there = engine(2, 1, &mut wire);
    let packet = large_tcp();
    let vnet = Vnet {
        flags: NEEDS_CSUM,
        gso_type: GSO_TCPV4,
        header: 40,
        size: 1380,
        start: 20,
        offset: 16,
    };
    let address: IpAddr = "192.0.2.9".parse().unwrap();
    let direct = Route { address, port: 2, scope: 0, source: None, ifindex: 0, via: 0, channel: 0 };
    let from = if relayed {
        relay(&mut here, &mut wire);
        relay(&mut there, &mut wire)
    } else {
        direct
    };
    let mut small = packet[..1400].to_vec();
    small[2..4].copy_from_slice(&1400u16.to_be_bytes());
    let mut before = 0;
    for round in 0..50 {
        if round == 2 {
            // Events of the first packets, and the tables' first growth, are over.
            here.drain(0, 1.0, &mut wire);
            there.drain(0, 1.0, &mut wire);
            before = COUNT.get();
        }
        for (packet, vnet) in [(&packet, vnet), (&small, Vnet::default())] {
            let space = here.tun_space(1.0, &mut wire);
            space[..10].copy_from_slice(&vnet.write());
            space[10..10 + packet.len()].copy_from_slice(packet);
            here.outbound(10 + packet.len(), 1.0, &mut wire);
            here.flush(1.0, &mut wire);
            let length = wire.length;
            there.udp_space()[..length].copy_from_slice(&wire.bytes[..length]);
            there.inbound(0, length, wire.segment, &from, 1.0, &mut wire);
            there.flush_inbound(1.0, &mut wire);
        }
    }
    assert_eq!(COUNT.get() - before, 0);
    assert_eq!(wire.datagrams, 50 * (44 + 1));
    assert!(wire.packets >= 100);
    assert!(there.counters().is_empty(), "{:?}", there.counters());
}

#[test]
fn none_for_a_datagram_that_is_shed() {
    let mut wire = Wire { bytes: Vec::new(), length: 0, segment: 0, datagrams: 0, packets: 0 };
    let mut here = engine(1, 2, &mut wire);
    let budget = Budget {
        queue: 128,
        proven_rate: 500.0,
        peer_rate: 100.0,
        unproven_rate: 1000.0,
        unproven_burst: 1,
        source_rate: 20.0,
        source_burst: 5,
    };
    let rule = Rule {
        kind: 0x10,
        length: 1200,
        exact: true,
        mac1_offset: Some(-32),
        index_offset: None,
        longest: None,
        budget: Some(budget),
        path_offset: None,
    };
    here.set_filter(vec![rule], [7; 32], [9; 16]).unwrap();
    here.set_cookie_secrets(vec![zeroize::Zeroizing::new([3; 32])]);
    let mut data = vec![1; 1200];
    data[..4].copy_from_slice(&0x10u32.to_le_bytes());
    let mut mac1 = mac(&[7; 32]);
    mac1.update(&data[..1168]);
    data[1168..1184].copy_from_slice(&mac1.finalize().into_bytes());
    let mut before = 0;
    for number in 0..1000u32 {
        if number == 1 {
            before = COUNT.get();
        }
        let address = IpAddr::from(number.to_be_bytes());
        let from =
            Route { address, port: 2, scope: 0, source: None, ifindex: 0, via: 0, channel: 0 };
        here.udp_space()[..data.len()].copy_from_slice(&data);
        here.inbound(0, data.len(), 0, &from, 1.0, &mut wire);
    }
    assert_eq!(COUNT.get() - before, 0);
    assert_eq!(here.counters(), [("shed_unproven", 999)]);
    assert_eq!(here.queue_depth(Some(0x10)), 1);
}
