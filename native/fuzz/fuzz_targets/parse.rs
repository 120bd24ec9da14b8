//! Any bytes from the TUN, the socket, a relay, its carrier and the kernel's control messages,
//! through an engine whose peers have keys: nothing panics, nothing that was not sealed comes
//! through, and what comes up from a relay is of a type that the filter has.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use wgpy_core::allowedips::Operation;
use wgpy_core::coalesce::{Merge, Part};
use wgpy_core::control::Slot;
use wgpy_core::demux::is_stun;
use wgpy_core::engine::{Engine, Manner, Offloads, Outcome, Shell, Train};
use wgpy_core::events::Event;
use wgpy_core::filter::Rule;
use wgpy_core::packet::{Address, ICMP, ICMPV6};
use wgpy_core::route::Route;
use wgpy_core::session::NewKeyPair;
use wgpy_core::shed::Budget;
use wgpy_core::vnet;
use wgpy_shell::wire::{read, Name};
use zeroize::Zeroizing;

struct Nowhere;

impl Shell for Nowhere {
    fn transmit(&mut self, _tun: &[u8], _out: &[u8], _trains: &mut [Train]) {}
    fn transmit_control(&mut self, _data: &[u8], _route: &Route, _how: Manner) -> Outcome {
        Outcome::default()
    }
    fn deliver(&mut self, head: &[u8], buffer: &[u8], parts: &[Part]) -> i32 {
        let packet = &parts[0].of(buffer)[vnet::LENGTH..];
        let protocol = if packet[0] >> 4 == 4 { packet[9] } else { packet[6] };
        assert!(head.is_empty() && [ICMP, ICMPV6].contains(&protocol), "an ICMP error at the most");
        0
    }
}

thread_local! {
    // Its buffers take longer to make than a run does.
    static ENGINE: RefCell<Engine> = RefCell::new(engine());
}

const CHANNEL: u16 = 0x4000;

/// A TURN server that is a relay of ours, and may send STUN.
fn server() -> Route {
    Route { address: [198, 51, 100, 1].into(), port: 3478, ..route() }
}

fn route() -> Route {
    Route {
        address: [192, 0, 2, 1].into(),
        port: 1,
        scope: 0,
        source: None,
        ifindex: 0,
        via: 0,
        channel: 0,
    }
}

fn engine() -> Engine {
    let merge = Merge { tcp: true, udp: true };
    let offloads = Offloads { vnet_header: true, uso: true, merge, segment: true };
    let mut engine = Engine::new(offloads, 1420).expect("an engine");
    engine.set_up(true);
    let peer = engine.add_peer();
    engine.set_allowed_ips(&[Operation::Add(peer, (Address::V4(0), 1))]);
    engine.set_path_ids([[0; 8]].into());
    for carried in [false, true] {
        let relay = engine.add_relay(server(), carried).expect("room for two");
        let place = Some((route().address, 1));
        engine.set_channel(relay, CHANNEL, place).expect("a channel");
    }
    let rule = |kind, length, mac1_offset, index_offset| Rule {
        kind,
        length,
        exact: kind != 3,
        mac1_offset,
        index_offset,
        longest: (kind == 3).then_some(1200),
        budget: None,
        path_offset: None,
    };
    let budget = Budget {
        queue: 8,
        proven_rate: 1.0,
        peer_rate: 1.0,
        unproven_rate: 1.0,
        unproven_burst: 4,
        source_rate: 1.0,
        source_burst: 2,
    };
    let most = Some(1200);
    let dear = Rule {
        exact: false,
        longest: most,
        budget: Some(budget),
        ..rule(0x10, 40, Some(-32), None)
    };
    let probe =
        Rule { exact: false, longest: most, path_offset: Some(4), ..rule(0x12, 20, None, None) };
    let rules = vec![rule(1, 148, Some(116), None), rule(3, 64, None, Some(4)), dear, probe];
    engine.set_filter(rules, [0; 32], [0; 16]).expect("rules that fit");
    engine.set_cookie_secrets(vec![Zeroizing::new([7; 32])]);
    engine.set_endpoint(peer, Some(route()), 0.0, 1.0, &mut Nowhere);
    let pair = NewKeyPair {
        send_key: Zeroizing::new(vec![1; 32]),
        receive_key: Zeroizing::new(vec![2; 32]),
        local_index: 0,
        remote_index: 1,
        reject_after: f64::INFINITY,
        notify_send_after: f64::INFINITY,
        notify_receive_after: f64::INFINITY,
    };
    engine.install(peer, Slot::Current, pair, false, 1.0, &mut Nowhere);
    engine
}

fn drive(engine: &mut Engine, cut: u8, data: &[u8]) {
    let space = engine.tun_space(1.0, &mut Nowhere);
    let size = data.len().min(space.len());
    space[..size].copy_from_slice(&data[..size]);
    engine.outbound(size, 1.0, &mut Nowhere);
    engine.flush(1.0, &mut Nowhere);
    let size = data.len().min(60_000);
    engine.udp_space()[..size].copy_from_slice(&data[..size]);
    let segment = usize::from(cut >> 2) * 8;
    match cut & 3 {
        0 => engine.inbound(0, size, segment, &route(), 1.0, &mut Nowhere),
        // Of the two relays the second has a carrier.
        1 => engine.inbound_carried(0, size, 2, 1.0, &mut Nowhere),
        _ => engine.inbound(0, size, segment, &server(), 1.0, &mut Nowhere),
    }
    engine.flush_inbound(1.0, &mut Nowhere);
    engine.set_up(false);
    engine.set_up(true);
    for event in engine.drain(usize::MAX, 1.0, &mut Nowhere) {
        let Event::Datagram(data, from, _) = event else { continue };
        let kind = u32::from_le_bytes(data[..4].try_into().expect("a type"));
        let known = [1, 3, 0x10, 0x12].contains(&kind) && data.len() <= 1200;
        let stun = is_stun(&data) && from == server();
        assert!(if from.channel != 0 { known } else { known || stun });
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&cut, data)) = data.split_first() else { return };
    let (name, control) = data.split_at(data.len().min(usize::from(cut & 31)));
    let mut place = Name::default();
    place.0[..name.len()].copy_from_slice(name);
    let _ = read(&place, 28, control);

    ENGINE.with_borrow_mut(|engine| drive(engine, cut, data));
});
