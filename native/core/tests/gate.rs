//! Gated key pairs: what is held is let go once, and wiped whatever ends it.

use std::net::IpAddr;

use wgpy_core::allowedips::{Handle, Operation};
use wgpy_core::coalesce::Part;
use wgpy_core::constants::{GATE_PACKETS, GATE_SECONDS};
use wgpy_core::control::Slot;
use wgpy_core::engine::{Arena, Engine, Manner, Offloads, Outcome, Shell, Train};
use wgpy_core::events::Event;
use wgpy_core::packet::Address;
use wgpy_core::route::Route;
use wgpy_core::session::NewKeyPair;

#[derive(Default)]
struct Wire {
    sent: Vec<Vec<u8>>,
    delivered: usize,
}

impl Shell for Wire {
    fn transmit(&mut self, tun: &[u8], out: &[u8], trains: &mut [Train]) {
        for train in trains {
            let bytes = if train.arena == Arena::Tun { tun } else { out };
            let bytes = &bytes[train.start..train.end];
            self.sent.extend(bytes.chunks(train.segment).map(<[u8]>::to_vec));
            train.outcome = Outcome::default();
        }
    }
    fn transmit_control(&mut self, _data: &[u8], _route: &Route, _how: Manner) -> Outcome {
        Outcome::default()
    }
    fn deliver(&mut self, _head: &[u8], _buffer: &[u8], _parts: &[Part]) -> i32 {
        self.delivered += 1;
        0
    }
}

fn route(address: &str) -> Route {
    let address: IpAddr = address.parse().unwrap();
    Route { address, port: 1, scope: 0, source: None, ifindex: 0, via: 0, channel: 0 }
}

fn pair(own: u32, other: u32) -> NewKeyPair {
    let key = |byte: u32| zeroize::Zeroizing::new(vec![byte as u8; 32]);
    NewKeyPair {
        send_key: key(own),
        receive_key: key(other),
        local_index: own,
        remote_index: other,
        reject_after: 1e9,
        notify_send_after: 1e9,
        notify_receive_after: 1e9,
    }
}

fn engine() -> (Engine, Handle) {
    let mut engine = Engine::new(Offloads::default(), 1420).unwrap();
    engine.set_up(true);
    let peer = engine.add_peer();
    engine.set_allowed_ips(&[Operation::Add(peer, (Address::V4(0), 0))]);
    (engine, peer)
}

/// The responder with a gated pair, after so many packets of the initiator.
fn gated(packets: usize) -> (Engine, Handle, Wire) {
    let mut wire = Wire::default();
    let (mut here, peer) = engine();
    here.set_endpoint(peer, Some(route("192.0.2.2")), 0.0, 1.0, &mut wire);
    here.install(peer, Slot::Current, pair(1, 2), false, 1.0, &mut wire);
    let mut packet = [0; 20];
    packet[0] = 0x45;
    packet[3] = 20;
    for _ in 0..packets {
        here.tun_space(1.0, &mut wire)[..20].copy_from_slice(&packet);
        here.outbound(20, 1.0, &mut wire);
    }
    here.flush(1.0, &mut wire);
    let (mut there, other) = engine();
    there.install_gated(other, pair(2, 1));
    for message in std::mem::take(&mut wire.sent) {
        there.udp_space()[..message.len()].copy_from_slice(&message);
        there.inbound(0, message.len(), 0, &route("192.0.2.1"), 1.0, &mut wire);
        there.flush_inbound(1.0, &mut wire);
    }
    assert_eq!(wire.delivered, 0);
    (there, other, wire)
}

fn counted(engine: &Engine, name: &str) -> u64 {
    engine.counters().into_iter().find(|&(other, _)| other == name).map_or(0, |(_, value)| value)
}

#[test]
fn released_packets_reach_the_tun_and_their_copies_are_gone() {
    let (mut engine, peer, mut wire) = gated(GATE_PACKETS + 3);
    assert_eq!(engine.held_bytes(), GATE_PACKETS * 20);
    assert_eq!(engine.drain(9, 1.0, &mut wire), [Event::KeyConfirmed(peer, 2)]);
    assert!(engine.release(peer, 2.0, &mut wire));
    assert_eq!((wire.delivered, engine.held_bytes()), (GATE_PACKETS, 0));
    assert_eq!(engine.drain(9, 2.0, &mut wire), [Event::Roamed(peer, route("192.0.2.1"))]);
    assert_eq!(counted(&engine, "gate_full"), 3);
    assert!(!engine.release(peer, 2.0, &mut wire));
}

#[test]
fn whatever_ends_it_leaves_no_index_and_no_bytes() {
    type End = fn(&mut Engine, Handle);
    let ends: [End; 5] = [
        |engine, peer| engine.refuse(peer),
        |engine, peer| engine.drop_keys(peer),
        |engine, peer| engine.remove_peer(peer),
        |engine, _| drop(engine.drain(9, 1.0 + GATE_SECONDS, &mut Wire::default())),
        |engine, _| engine.fail("a test".to_owned()),
    ];
    for (number, end) in ends.into_iter().enumerate() {
        let (mut engine, peer, mut wire) = gated(4);
        assert_eq!((engine.session_count(), engine.held_bytes()), (1, 80));
        end(&mut engine, peer);
        assert_eq!((engine.session_count(), engine.held_bytes()), (0, 0), "end {number}");
        assert!(!engine.release(peer, 1.0, &mut wire));
        assert_eq!(wire.delivered, 0);
        assert_eq!(counted(&engine, "gate_dropped"), if number == 4 { 0 } else { 4 });
    }
}

#[test]
fn a_failure_leaves_nothing_that_waits_for_a_peer_that_moved() {
    let (mut engine, peer, mut wire) = gated(0);
    engine.set_endpoint(peer, Some(route("192.0.2.3")), 1.0, 1.0, &mut wire);
    let mut packet = [0; 20];
    packet[0] = 0x45;
    for _ in 0..3 {
        engine.tun_space(1.0, &mut wire)[..20].copy_from_slice(&packet);
        engine.outbound(20, 1.0, &mut wire);
    }
    assert_eq!(engine.kept_bytes(), 60);
    engine.fail("a test".to_owned());
    assert_eq!(engine.kept_bytes(), 0);
    engine.let_go(peer, 1.0, &mut wire);
    assert_eq!(wire.sent.len(), 0);
    // It goes on as if there had been none.
    engine.install(peer, Slot::Current, pair(3, 4), false, 1.0, &mut wire);
    engine.tun_space(1.0, &mut wire)[..20].copy_from_slice(&packet);
    engine.outbound(20, 1.0, &mut wire);
    engine.flush(1.0, &mut wire);
    assert_eq!((wire.sent.len(), engine.kept_bytes()), (1, 0));
}
