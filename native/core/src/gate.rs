//! Gated key pairs: they open packets, which wait here until the control plane has decided.
//!
//! A key pair is installed gated when its handshake proved a key, and who that key is must still be
//! settled. Its packets are opened, authenticated and remembered by the replay window as any; then
//! they are held. `release` lets them go on as if they had come a moment later; `refuse` leaves no
//! trace. This is apart from the way of other packets, which allocates nothing; here each does.

use zeroize::Zeroizing;

use crate::allowedips::Handle;
use crate::coalesce::Part;
use crate::constants::{
    GATE_BYTES, GATE_PACKETS, GATE_SECONDS, GATE_TOTAL_BYTES, HEADER, OVERHEAD,
};
use crate::counters::Counter;
use crate::engine::{Engine, Shell, ToTun};
use crate::events::pending;
use crate::packet::length_and_source;
use crate::road::Road;
use crate::route::Route;
use crate::session::Session;
use crate::vnet;
use crate::ways::came_from;

/// A gated key pair, what it opened, and where its peer was last.
pub struct Gate {
    /// The key pair.
    pub session: Session,
    /// Infinite until the first packet.
    pub deadline: f64,
    pub(crate) route: Option<Route>,
    held: Vec<Zeroizing<Vec<u8>>>,
    held_bytes: usize,
}

impl Gate {
    /// A gate for a key pair.
    pub fn new(session: Session) -> Self {
        Gate { session, deadline: f64::INFINITY, route: None, held: Vec::new(), held_bytes: 0 }
    }

    /// Whether a packet was opened with the pair.
    pub fn confirmed(&self) -> bool {
        self.deadline.is_finite()
    }
}

impl Engine {
    /// Take an authentic message of a gated key pair, which lies at `start` and is `size` long.
    #[cold]
    pub(crate) fn take_gated(
        &mut self,
        peer: Handle,
        (start, size): (usize, usize),
        mut events: u8,
        route: &Route,
        now: f64,
    ) {
        let Some(road) = self.roads.get_mut(&peer) else { return };
        let Some(gate) = road.gate.as_mut() else { return };
        gate.route = Some(*route);
        if !gate.confirmed() {
            gate.deadline = now + GATE_SECONDS;
            self.gates.push_back((gate.deadline, peer));
            events |= pending::GATE_CONFIRMED;
        }
        road.mark_received(now, size as u64);
        if size > OVERHEAD {
            road.mark_data_received(now);
        }
        if events != 0 {
            self.raise(peer, events);
        }
        if size > OVERHEAD {
            self.hold(peer, start + HEADER, size - OVERHEAD);
        }
    }

    /// Keep the packet at `start`, `room` bytes long with its padding.
    fn hold(&mut self, peer: Handle, start: usize, room: usize) {
        let Some((length, _)) = length_and_source(&self.udp[start..start + room]) else {
            self.counters.count(Counter::BadInner);
            return;
        };
        let Some(gate) = self.roads.get_mut(&peer).and_then(|road| road.gate.as_mut()) else {
            return;
        };
        if gate.held.len() == GATE_PACKETS || gate.held_bytes + length > GATE_BYTES {
            self.counters.count(Counter::GateFull);
        } else if self.held_bytes + length > GATE_TOTAL_BYTES {
            self.counters.count(Counter::GateMemory);
        } else {
            gate.held.push(Zeroizing::new(self.udp[start..start + length].to_vec()));
            gate.held_bytes += length;
            self.held_bytes += length;
        }
    }

    /// Make the gated pair an ordinary one. Whether there is one.
    pub fn release(&mut self, peer: Handle, now: f64, shell: &mut impl Shell) -> bool {
        self.expire_gates(now);
        let Some(road) = self.roads.get_mut(&peer) else { return false };
        let Some(gate) = road.gate.take() else { return false };
        let confirmed = gate.confirmed();
        let Gate { session, route, held, held_bytes, .. } = *gate;
        let fallen = road.keys.install_next(Box::new(session));
        if !confirmed {
            self.retire(fallen);
            return true;
        }
        let later = road.keys.confirm();
        road.has_new_key();
        if road.pending & pending::GATE_CONFIRMED != 0 {
            road.pending ^= pending::GATE_CONFIRMED;
            road.pending |= pending::KEY_CONFIRMED;
        }
        let events = match route {
            Some(from) if route != road.route => came_from(road, &from, &mut self.places),
            _ => 0,
        };
        self.retire(fallen);
        self.retire(later);
        if events != 0 {
            self.raise(peer, events);
        }
        self.held_bytes -= held_bytes;
        self.let_in(peer, &held, shell);
        self.flush_staged(peer, now, shell);
        self.flush(now, shell);
        true
    }

    /// Give the TUN what was held, as far as the allowed IPs let it. Between two batches the
    /// receive buffer is free, and GATE_BYTES fit.
    fn let_in(&mut self, peer: Handle, held: &[Zeroizing<Vec<u8>>], shell: &mut impl Shell) {
        let mut start = HEADER;
        for packet in held {
            let source = length_and_source(packet).map(|(_, source)| source);
            if source.is_none_or(|source| self.allowed.lookup(source) != peer) {
                self.counters.count(Counter::WrongSource);
                continue;
            }
            let part = Part { start, length: packet.len() };
            self.udp[start..start + part.length].copy_from_slice(packet);
            start += part.length + vnet::LENGTH;
            let failure = self.coalescer.add(&mut self.udp, part, &mut ToTun(shell));
            self.note_failure(failure);
        }
        let failure = self.coalescer.flush(&mut self.udp, &mut ToTun(shell));
        self.note_failure(failure);
    }

    /// Wipe the gated pair and what is held, and free its index.
    pub fn refuse(&mut self, peer: Handle) {
        if let Some(gate) = self.roads.get_mut(&peer).and_then(|road| road.gate.take()) {
            self.discard(gate);
        }
    }

    /// What became of a gate that was taken from its road.
    pub(crate) fn discard(&mut self, gate: Box<Gate>) {
        self.counters.add(Counter::GateDropped, gate.held.len() as u64);
        self.held_bytes -= gate.held_bytes;
        self.indices.remove(&gate.session.local_index);
    }

    /// How many bytes are held for all peers.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Wipe what is held for every peer; the pairs stay.
    pub(crate) fn drop_held(&mut self) {
        for gate in self.roads.values_mut().filter_map(|road| road.gate.as_mut()) {
            self.counters.add(Counter::GateDropped, gate.held.len() as u64);
            gate.held.clear();
            gate.held_bytes = 0;
        }
        self.held_bytes = 0;
    }

    /// Refuse the pairs that nobody decided on in time.
    pub(crate) fn expire_gates(&mut self, now: f64) {
        while let Some(&(deadline, peer)) = self.gates.front() {
            if deadline > now {
                return;
            }
            self.gates.pop_front();
            // A gate with another deadline came after the one that is meant.
            let late = |road: &&mut Box<Road>| {
                road.gate.as_ref().is_some_and(|gate| gate.deadline == deadline)
            };
            if let Some(gate) = self.roads.get_mut(&peer).filter(late).and_then(|r| r.gate.take()) {
                self.counters.count(Counter::GateExpired);
                self.discard(gate);
            }
        }
    }
}
