//! Packets to peers behind a relay beside packets to others: where they are read to is a guess, and
//! a wrong one costs a broken train or a send, never a tag of the message before.

use std::net::IpAddr;

use proptest::prelude::*;
use wgpy_core::allowedips::Operation;
use wgpy_core::coalesce::{Merge, Part};
use wgpy_core::control::Slot;
use wgpy_core::demux::channel_data;
use wgpy_core::engine::{Arena, Engine, Manner, Offloads, Outcome, Shell, Train};
use wgpy_core::packet::Address;
use wgpy_core::route::Route;
use wgpy_core::session::NewKeyPair;
use wgpy_core::vnet;
use zeroize::Zeroizing;

const CHANNEL: u16 = 0x4321;

/// Keeps what is sent, and what is delivered.
#[derive(Default)]
struct Wire {
    sends: usize,
    trains: Vec<(Route, Vec<Vec<u8>>)>,
    packets: Vec<Vec<u8>>,
}

impl Shell for Wire {
    fn transmit(&mut self, tun: &[u8], out: &[u8], trains: &mut [Train]) {
        self.sends += 1;
        for train in trains {
            let from = if train.arena == Arena::Tun { tun } else { out };
            let datagrams = from[train.start..train.end].chunks(train.segment);
            self.trains.push((train.route, datagrams.map(<[u8]>::to_vec).collect()));
        }
    }
    fn transmit_control(&mut self, _data: &[u8], _route: &Route, _how: Manner) -> Outcome {
        Outcome::default()
    }
    fn deliver(&mut self, head: &[u8], buffer: &[u8], parts: &[Part]) -> i32 {
        assert!(head.is_empty());
        self.packets.push(parts[0].of(buffer)[vnet::LENGTH..].to_vec());
        0
    }
}

fn route(address: &str) -> Route {
    let address: IpAddr = address.parse().unwrap();
    Route { address, port: 1, scope: 0, source: None, ifindex: 0, via: 0, channel: 0 }
}

fn engine() -> Engine {
    let offloads =
        Offloads { vnet_header: true, uso: false, merge: Merge::default(), segment: true };
    let mut engine = Engine::new(offloads, 1420).unwrap();
    engine.set_up(true);
    engine
}

fn give_key(engine: &mut Engine, peer: u32, (own, other): (u32, u32), wire: &mut Wire) {
    let key = |byte: u32| Zeroizing::new(vec![byte as u8; 32]);
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
}

/// Where each of four peers is: two are reached directly, one through a relay, one by its carrier.
fn ends(engine: &mut Engine) -> [Route; 4] {
    let relays = [false, true].map(|carried| {
        let relay = engine.add_relay(route("198.51.100.1"), carried).unwrap();
        let place = Some((route("192.0.2.77").address, 77));
        engine.set_channel(relay, CHANNEL, place).unwrap();
        Route { via: relay, channel: CHANNEL, ..route("192.0.2.77") }
    });
    [route("192.0.2.1"), route("192.0.2.2"), relays[0], relays[1]]
}

fn packet(from: u8, to: u8, size: usize, number: usize) -> Vec<u8> {
    let mut packet = vec![number as u8; size];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&(size as u16).to_be_bytes());
    packet[12..20].copy_from_slice(&[10, 0, 0, from, 10, 0, 0, to]);
    packet
}

fn write(engine: &mut Engine, packet: &[u8], wire: &mut Wire) {
    let space = engine.tun_space(1.0, wire);
    space[..vnet::LENGTH].fill(0);
    space[vnet::LENGTH..vnet::LENGTH + packet.len()].copy_from_slice(packet);
    engine.outbound(vnet::LENGTH + packet.len(), 1.0, wire);
}

/// An engine with four peers, and beside it the four that open what it sends.
fn net(wire: &mut Wire) -> (Engine, Vec<Engine>) {
    let mut here = engine();
    let places = ends(&mut here);
    let mut others = Vec::new();
    for (number, place) in places.into_iter().enumerate() {
        let number = number as u8;
        let peer = here.add_peer();
        let prefix = |last: u8| (Address::V4(u32::from_be_bytes([10, 0, 0, last])), 32);
        here.set_allowed_ips(&[Operation::Add(peer, prefix(10 + number))]);
        here.set_endpoint(peer, Some(place), 0.0, 1.0, wire);
        let indices = (100 + u32::from(number), 200 + u32::from(number));
        give_key(&mut here, peer, indices, wire);
        let mut other = engine();
        let peer = other.add_peer();
        other.set_allowed_ips(&[Operation::Add(peer, prefix(1))]);
        give_key(&mut other, peer, (indices.1, indices.0), wire);
        others.push(other);
    }
    (here, others)
}

/// Give everything that was sent to whom it is for, and return what they deliver.
fn arrive(wire: &mut Wire, others: &mut [Engine]) -> Vec<Vec<u8>> {
    let mut arrived = Wire::default();
    for (to, datagrams) in std::mem::take(&mut wire.trains) {
        for datagram in datagrams {
            let relayed = to.address == route("198.51.100.1").address;
            let message = if relayed {
                let (channel, data) = channel_data(&datagram).unwrap();
                assert_eq!((channel, data.len()), (CHANNEL, datagram.len() - 4));
                data.to_vec()
            } else {
                datagram
            };
            let index = u32::from_le_bytes(message[4..8].try_into().unwrap());
            let other = &mut others[index as usize - 200];
            other.udp_space()[..message.len()].copy_from_slice(&message);
            other.inbound(0, message.len(), 0, &route("192.0.2.9"), 1.0, &mut arrived);
            other.flush_inbound(1.0, &mut arrived);
            assert_eq!(other.counters(), []);
        }
    }
    arrived.packets
}

#[test]
fn a_wrong_guess_costs_a_train_or_a_send() {
    let mut wire = Wire::default();
    let (mut here, mut others) = net(&mut wire);
    let mut batch = |targets: &[u8]| {
        let packets: Vec<_> =
            targets.iter().enumerate().map(|(n, &to)| packet(1, 10 + to, 100, n)).collect();
        wire.sends = 0;
        packets.iter().for_each(|packet| write(&mut here, packet, &mut wire));
        here.flush(1.0, &mut wire);
        let trains: Vec<_> = wire.trains.iter().map(|(_, datagrams)| datagrams.len()).collect();
        assert_eq!(arrive(&mut wire, &mut others), packets);
        (trains, wire.sends)
    };
    assert_eq!(batch(&[0, 0, 0]), (vec![3], 1));
    // Nothing lies before the first one, and so it has room for its header.
    assert_eq!(batch(&[2, 2, 2]), (vec![3], 1));
    assert_eq!(batch(&[2, 2, 0, 0, 1]), (vec![2, 2, 1], 1));
    // What lies there goes first.
    assert_eq!(batch(&[0, 0, 2, 2]), (vec![2, 2], 2));
    assert_eq!(batch(&[2, 0, 2, 0, 2, 0]), (vec![1; 6], 3));
    // A carrier takes one at a time.
    assert_eq!(batch(&[3, 3, 2]), (vec![1; 3], 1));
}

#[test]
fn the_buffer_is_full_of_relayed_packets() {
    let mut wire = Wire::default();
    let (mut here, mut others) = net(&mut wire);
    let packets: Vec<_> = (0..300).map(|n| packet(1, 12, 1400, n)).collect();
    packets.iter().for_each(|packet| write(&mut here, packet, &mut wire));
    here.flush(1.0, &mut wire);
    assert!(wire.sends > 1);
    assert_eq!(arrive(&mut wire, &mut others), packets);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn nobodys_tag_is_overwritten(
        reads in prop::collection::vec((0..4u8, prop::sample::select(vec![20, 40, 100, 1400])), 1..80),
    ) {
        let mut wire = Wire::default();
        let (mut here, mut others) = net(&mut wire);
        let packets: Vec<_> =
            reads.iter().enumerate().map(|(n, &(to, size))| packet(1, 10 + to, size, n)).collect();
        packets.iter().for_each(|packet| write(&mut here, packet, &mut wire));
        here.flush(1.0, &mut wire);
        prop_assert_eq!(arrive(&mut wire, &mut others), packets);
    }
}
