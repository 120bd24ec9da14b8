//! The control plane's side: peers, keys, filters, events and counters. `contract.py` documents
//! every call.

use std::collections::hash_map::Entry;
use std::collections::HashSet;
use std::net::IpAddr;

use zeroize::Zeroizing;

use crate::allowedips::{Handle, Operation, Prefix};
use crate::counters::Counter;
use crate::demux::{channel_header, STUN_COOKIE_INDEX};
use crate::engine::{Engine, Manner, Refused, Shell, EAGAIN};
use crate::events::{pending, Event};
use crate::filter::{PathId, Rule};
use crate::gate::Gate;
use crate::road::{Activity, Fallen, Road};
use crate::route::Route;
use crate::session::{NewKeyPair, Session};
use crate::shed::MAC;

/// Where a new key pair goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// Use it at once.
    Current,
    /// Use it once the peer did.
    Next,
}

/// ENOTCONN's neighbour: there is no endpoint to send to, or no way to it.
const EDESTADDRREQ: i32 = 89;
/// ChannelData has 16 bits for the length.
const EMSGSIZE: i32 = 90;

impl Engine {
    // --- Events and counters ---

    pub(crate) fn raise(&mut self, peer: Handle, event: u8) {
        if let Some(road) = self.roads.get_mut(&peer) {
            if road.pending == 0 {
                self.dirty.push(peer);
            }
            road.pending |= event;
        }
    }

    /// Whether `drain` has something to give.
    pub fn has_events(&self) -> bool {
        let quiet = self.dirty.is_empty() && self.alarms.is_empty();
        let empty = self.datagrams.is_empty() && self.stun.is_empty();
        !quiet || !empty || self.filter.has_datagrams()
    }

    /// Report something that the shell saw.
    pub fn alarm(&mut self, event: Event) {
        self.alarms.push(event);
    }

    /// The events that wait: all of the peers', and at most `limit` datagrams.
    pub fn drain(&mut self, limit: usize, now: f64, shell: &mut impl Shell) -> Vec<Event> {
        self.expire_gates(now);
        self.expire_holds(now, shell);
        let mut events = std::mem::take(&mut self.alarms);
        for peer in std::mem::take(&mut self.dirty) {
            if let Some(road) = self.roads.get_mut(&peer) {
                collect(peer, road, &mut events);
            }
        }
        self.take_datagrams(limit, &mut events);
        events
    }

    /// Every queue of its own has a quarter of the limit at the least, as long as there is room;
    /// what nobody else needs is given out in order, to the common queue first.
    fn take_datagrams(&mut self, limit: usize, events: &mut Vec<Event>) {
        let mut left = limit;
        let mut given = Vec::new();
        let own = std::iter::once(&mut self.stun);
        let own = own.chain(self.filter.lanes().iter_mut().map(|lane| &mut lane.queue));
        let mut own: Vec<_> = own.collect();
        for queue in &own {
            let share = queue.len().min(limit.div_ceil(4)).min(left);
            given.push(share);
            left -= share;
        }
        let count = left.min(self.datagrams.len());
        left -= count;
        events.extend(self.datagrams.drain(..count));
        for (queue, share) in own.iter_mut().zip(given) {
            let more = left.min(queue.len() - share);
            left -= more;
            events.extend(queue.drain(..share + more));
        }
    }

    /// Control datagrams that wait to be drained: of a type with a budget, or of all others.
    pub fn queue_depth(&self, kind: Option<u32>) -> usize {
        kind.and_then(|kind| self.filter.queue_of(kind)).unwrap_or(&self.datagrams).len()
    }

    /// What was dropped, by reason.
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        self.counters.present().collect()
    }

    // --- Configuration ---

    /// Follow the link. Down: drop what is staged.
    pub fn set_up(&mut self, up: bool) {
        self.up = up;
        if !up {
            for road in self.roads.values_mut() {
                self.counters.add(Counter::StagedDropped, road.staged.len() as u64);
                road.staged.clear();
            }
            self.drop_held();
            let holding = self.holding.clone();
            self.drop_kept(&holding);
        }
    }

    /// Whether the link is up.
    pub fn is_up(&self) -> bool {
        self.up
    }

    /// What may reach Python.
    pub fn set_filter(
        &mut self,
        rules: Vec<Rule>,
        key: [u8; 32],
        seed: [u8; MAC],
    ) -> Result<(), Refused> {
        if let Some(rule) = rules.iter().find(|rule| !rule.fits()) {
            return Err(Refused(format!("the rule of type {} looks past its length", rule.kind)));
        }
        let shed = self.filter.set(rules, key, seed);
        self.counters.add(Counter::ShedQueue, shed as u64);
        Ok(())
    }

    /// What cookies are made with.
    pub fn set_cookie_secrets(&mut self, secrets: Vec<Zeroizing<[u8; 32]>>) {
        self.filter.set_secrets(secrets);
    }

    /// Where STUN may come from.
    pub fn set_stun_sources(&mut self, places: Vec<(IpAddr, u16)>) {
        self.stun_sources = places;
    }

    /// The identifiers of paths that peers were told.
    pub fn set_path_ids(&mut self, ids: HashSet<PathId>) {
        self.filter.set_paths(ids);
    }

    /// A new peer. Handles are never reused.
    pub fn add_peer(&mut self) -> Handle {
        let handle = self.next_handle;
        self.next_handle += 1;
        self.roads.insert(handle, Box::default());
        handle
    }

    /// Whether there is such a peer.
    pub fn has_peer(&self, peer: Handle) -> bool {
        self.roads.contains_key(&peer)
    }

    /// Forget a peer and wipe its keys.
    pub fn remove_peer(&mut self, peer: Handle) {
        self.drop_kept(&[peer]);
        let Some(mut road) = self.roads.remove(&peer) else { return };
        self.places.moved(road.route.as_ref(), None);
        self.retire(road.keys.clear());
        road.gate.take().into_iter().for_each(|gate| self.discard(gate));
        self.counters.add(Counter::StagedDropped, road.staged.len() as u64);
        self.allowed.forget(peer);
        if road.pending != 0 {
            self.dirty.retain(|&other| other != peer);
        }
    }

    /// One atomic batch.
    pub fn set_allowed_ips(&mut self, changes: &[Operation]) {
        self.allowed.apply(changes);
    }

    /// The prefixes of a peer, sorted.
    pub fn allowed_ips(&self, peer: Handle) -> Vec<Prefix> {
        self.allowed.of(peer)
    }

    // --- Indices and keys ---

    /// An index that no handshake and no key pair holds, out of what `random` gives.
    pub fn reserve_index(&mut self, mut random: impl FnMut() -> u32) -> u32 {
        loop {
            let index = random();
            if index == STUN_COOKIE_INDEX {
                continue;
            }
            if let Entry::Vacant(entry) = self.indices.entry(index) {
                entry.insert(0);
                return index;
            }
        }
    }

    /// Give a reserved index back; unknown ones, and those of key pairs, are left alone.
    pub fn free_index(&mut self, index: u32) {
        if self.indices.get(&index) == Some(&0) {
            self.indices.remove(&index);
        }
    }

    /// Install a key pair beside the others, as the responder: what it opens is held until
    /// `release` or `refuse`.
    pub fn install_gated(&mut self, peer: Handle, pair: NewKeyPair) {
        self.refuse(peer);
        let Some(road) = self.roads.get_mut(&peer) else { return };
        let session = Session::new(pair);
        self.indices.insert(session.local_index, peer);
        road.gate = Some(Box::new(Gate::new(session)));
    }

    /// Install a key pair; with `kick` send what is staged, or else a keepalive.
    pub fn install(
        &mut self,
        peer: Handle,
        slot: Slot,
        pair: NewKeyPair,
        kick: bool,
        now: f64,
        shell: &mut impl Shell,
    ) {
        let Some(road) = self.roads.get_mut(&peer) else { return };
        let session = Box::new(Session::new(pair));
        self.indices.insert(session.local_index, peer);
        let fallen = match slot {
            Slot::Next => road.keys.install_next(session),
            Slot::Current => {
                road.has_new_key();
                road.keys.install_current(session)
            }
        };
        // Where packets wait because the peer moved, those wait with them.
        let waiting = !road.staged.is_empty() && road.hold.is_none();
        self.retire(fallen);
        if kick && slot == Slot::Current {
            if waiting {
                self.flush_staged(peer, now, shell);
            } else {
                self.send_empty(peer, now, shell);
            }
            self.flush(now, shell);
        }
    }

    pub(crate) fn retire(&mut self, fallen: Fallen) {
        for index in fallen.into_iter().flatten() {
            self.indices.remove(&index);
        }
    }

    /// Wipe the peer's key pairs and free their indices.
    pub fn drop_keys(&mut self, peer: Handle) {
        if let Some(road) = self.roads.get_mut(&peer) {
            let fallen = road.keys.clear();
            self.retire(fallen);
            self.refuse(peer);
        }
    }

    /// How many key pairs there are, over all peers.
    pub fn session_count(&self) -> usize {
        self.indices.values().filter(|&&peer| peer != 0).count()
    }

    /// The state in which a key pair comes out of a long life, for tests: its send counter.
    pub fn set_send_counter(&mut self, peer: Handle, counter: u64) {
        if let Some(session) = self.roads.get_mut(&peer).and_then(|r| r.keys.current.as_mut()) {
            session.counter = session.counter.max(counter);
        }
    }

    // --- Sending ---

    /// Send a keepalive; with no valid key, HandshakeNeeded.
    pub fn send_keepalive(&mut self, peer: Handle, now: f64, shell: &mut impl Shell) {
        self.send_empty(peer, now, shell);
        self.flush(now, shell);
    }

    /// Drop and count what waits for a handshake.
    pub fn drop_staged(&mut self, peer: Handle) {
        if let Some(road) = self.roads.get_mut(&peer) {
            self.counters.add(Counter::StagedDropped, road.staged.len() as u64);
            road.staged.clear();
        }
    }

    /// Send a control datagram. Returns an errno, or 0.
    pub fn send(
        &mut self,
        data: &[u8],
        (to, peer): (Option<Route>, Option<Handle>),
        how: Manner,
        now: f64,
        shell: &mut impl Shell,
    ) -> i32 {
        let known = peer.and_then(|peer| self.roads.get(&peer)).and_then(|road| road.route);
        let route = match to {
            Some(to) => self.vias.resolve(to),
            None => known,
        };
        let Some(route) = route else { return EDESTADDRREQ };
        let Some(link) = self.vias.link_to(0, route, false) else { return EDESTADDRREQ };
        let framed;
        let datagram = match link.channel {
            0 => data,
            _ if data.len() > usize::from(u16::MAX) => return EMSGSIZE,
            channel => {
                framed = [&channel_header(channel, data.len()), data].concat();
                &framed
            }
        };
        let outcome = shell.transmit_control(datagram, &link.wire, how);
        if outcome.stale_source {
            self.forget_source(&link.wire);
        }
        if link.carried && outcome.error == EAGAIN {
            self.counters.count(Counter::CarrierFull);
        }
        if let Some(road) = peer.and_then(|peer| self.roads.get_mut(&peer)) {
            road.mark_sent(now);
            if outcome.error == 0 {
                road.activity.tx_bytes += data.len() as u64;
            }
        }
        outcome.error
    }

    /// A control datagram of `size` bytes from the peer proved authentic.
    pub fn heard(&mut self, peer: Handle, size: u64, when: f64) {
        if let Some(road) = self.roads.get_mut(&peer) {
            road.mark_received(when, size);
        }
    }

    /// What happened on the peer's road, and how many packets wait for a key.
    pub fn activity(&self, peer: Handle) -> Option<(Activity, usize)> {
        self.roads.get(&peer).map(|road| (road.activity, road.staged.len()))
    }

    /// Nothing is pending: the peer's next packet raises Active.
    pub fn rest(&mut self, peer: Handle) {
        if let Some(road) = self.roads.get_mut(&peer) {
            road.resting = true;
        }
    }
}

fn collect(peer: Handle, road: &mut Road, events: &mut Vec<Event>) {
    let bits = std::mem::take(&mut road.pending);
    if let (true, Some(route)) = (bits & pending::ROAMED != 0, road.route) {
        events.push(Event::Roamed(peer, route));
    }
    if let (true, Some(route)) = (bits & pending::ELSEWHERE != 0, road.elsewhere) {
        events.push(Event::Roamed(peer, route));
    }
    if let (true, Some(session)) = (bits & pending::KEY_CONFIRMED != 0, &road.keys.current) {
        events.push(Event::KeyConfirmed(peer, session.local_index));
    }
    let gate = road.gate.as_ref().filter(|gate| gate.confirmed());
    if let (true, Some(gate)) = (bits & pending::GATE_CONFIRMED != 0, gate) {
        events.push(Event::KeyConfirmed(peer, gate.session.local_index));
    }
    for (bit, event) in [
        (pending::ACTIVE, Event::Active(peer)),
        (pending::REKEY_SEND, Event::RekeySend(peer)),
        (pending::REKEY_RECEIVE, Event::RekeyReceive(peer)),
        (pending::HANDSHAKE_NEEDED, Event::HandshakeNeeded(peer)),
    ] {
        if bits & bit != 0 {
            events.push(event);
        }
    }
}
