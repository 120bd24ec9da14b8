//! From the TUN to the sockets: look up, seal in place, gather trains.

use crate::allowedips::Handle;
use crate::coalesce::Part;
use crate::constants::{HEADER, MAX_STAGED, UNREACHABLE_BURST, UNREACHABLE_RATE};
use crate::counters::Counter;
use crate::engine::{Arena, Engine, Shell, MESSAGE};
use crate::events::pending;
use crate::icmp;
use crate::packet::destination;
use crate::route::Route;
use crate::segment::{finish_checksum, Segments};
use crate::vnet::{self, Vnet, GSO_NONE, NEEDS_CSUM};

impl Engine {
    /// Where the next packet of the TUN is to be read to, its vnet header first if there is one.
    ///
    /// Sends what is gathered if there is no room behind it.
    #[inline]
    pub fn tun_space(&mut self, now: f64, shell: &mut impl Shell) -> &mut [u8] {
        if self.is_full(self.tun_at, self.tun.len()) {
            self.flush(now, shell);
        }
        let at = self.tun_at;
        let offset = if self.offloads.vnet_header { HEADER - vnet::LENGTH } else { HEADER };
        // No packet is longer than MAX_PACKET: behind it there is room for padding and tag.
        &mut self.tun[at + offset..at + HEADER + crate::constants::MAX_PACKET]
    }

    /// Take the `size` bytes that were read into `tun_space`.
    pub fn outbound(&mut self, size: usize, now: f64, shell: &mut impl Shell) {
        let at = self.tun_at;
        let vnet = self.take_vnet(at);
        let skip = if self.offloads.vnet_header { vnet::LENGTH } else { 0 };
        let length = size.saturating_sub(skip);
        let packet = at + HEADER..at + HEADER + length;
        let Some(target) = destination(&self.tun[packet.clone()]) else {
            self.counters.count(Counter::NotIp);
            return;
        };
        let owner = self.allowed.lookup(target);
        let Some(road) = self.roads.get_mut(&owner) else {
            self.counters.count(Counter::NoPeer);
            self.answer_unreachable(at, length, now, shell);
            return;
        };
        let Some(route) = road.route else {
            self.counters.count(Counter::NoEndpoint);
            self.answer_unreachable(at, length, now, shell);
            return;
        };
        let single = now < road.single_until;
        if road.resting {
            road.resting = false;
            self.raise(owner, pending::ACTIVE);
        }
        if vnet.gso_type != GSO_NONE {
            match Segments::new(&self.tun[packet], &vnet, self.offloads.uso) {
                Ok(segments) => {
                    self.send_large(segments, length, (owner, route, single), now, shell);
                }
                Err(_) => self.counters.count(Counter::BadOffload),
            }
            return;
        }
        if vnet.flags & NEEDS_CSUM != 0
            && finish_checksum(&mut self.tun[packet.clone()], &vnet).is_err()
        {
            self.counters.count(Counter::BadOffload);
            return;
        }
        if let Some(sealed) = self.seal(Arena::Tun, at, length, owner, now) {
            self.enqueue(Arena::Tun, at, at + sealed, (owner, route, single));
            self.tun_at = at + sealed;
        } else {
            let copy = self.tun[packet].to_vec();
            self.stage(owner, copy);
        }
    }

    #[inline]
    fn take_vnet(&self, at: usize) -> Vnet {
        let mut bytes = [0; vnet::LENGTH];
        if self.offloads.vnet_header {
            bytes.copy_from_slice(&self.tun[at + HEADER - vnet::LENGTH..at + HEADER]);
        }
        Vnet::read(&bytes)
    }

    /// Seal the packet of `length` bytes whose message starts at `at`, and note that it is sent.
    /// The message's length, or None if there is no key.
    #[inline]
    fn seal(
        &mut self,
        arena: Arena,
        at: usize,
        length: usize,
        peer: Handle,
        now: f64,
    ) -> Option<usize> {
        let road = self.roads.get_mut(&peer)?;
        let session = road.keys.current.as_mut().filter(|session| session.can_seal(now))?;
        let buffer = match arena {
            Arena::Tun => &mut self.tun[at..],
            Arena::Out => &mut self.out[at..],
        };
        let size = session.seal(buffer, length, self.mtu);
        let wants = session.wants_rekey(now);
        if wants {
            session.notify_send_after = f64::INFINITY;
        }
        road.mark_sent(now);
        if length > 0 {
            road.mark_data_sent(now);
        }
        if wants {
            self.raise(peer, pending::REKEY_SEND);
        }
        Some(size)
    }

    /// Split what segmentation left to us, and seal each packet.
    fn send_large(
        &mut self,
        mut segments: Segments,
        length: usize,
        to: (Handle, Route, bool),
        now: f64,
        shell: &mut impl Shell,
    ) {
        let from = self.tun_at + HEADER..self.tun_at + HEADER + length;
        let peer = to.0;
        while let Some(size) = segments.next_length() {
            let session = self.roads.get(&peer).and_then(|road| road.keys.current.as_ref());
            if !session.is_some_and(|session| session.can_seal(now)) {
                let mut packet = vec![0; size];
                segments.write(&self.tun[from.clone()], &mut packet);
                self.stage(peer, packet);
                continue;
            }
            self.make_out_room(now, shell);
            let at = self.out_at;
            segments.write(&self.tun[from.clone()], &mut self.out[at + HEADER..]);
            let Some(sealed) = self.seal(Arena::Out, at, size, peer, now) else { return };
            self.enqueue(Arena::Out, at, at + sealed, to);
            self.out_at = at + sealed;
        }
    }

    /// Make room for a message in the out arena. The TUN's arena keeps what is not sent yet: a
    /// large packet lies there at `tun_at`, which stays.
    fn make_out_room(&mut self, now: f64, shell: &mut impl Shell) {
        if self.is_full(self.out_at, self.out.len()) {
            let at = self.tun_at;
            self.flush(now, shell);
            self.tun_at = at;
        }
    }

    /// Keep a packet until there is a key; the oldest makes room.
    fn stage(&mut self, peer: Handle, packet: Vec<u8>) {
        let Some(road) = self.roads.get_mut(&peer) else { return };
        if road.staged.len() == MAX_STAGED {
            self.counters.count(Counter::StagedOverflow);
            road.staged.pop_front();
        }
        road.staged.push_back(packet);
        self.raise(peer, pending::HANDSHAKE_NEEDED);
    }

    /// Send what waited, now that there may be a key.
    pub(crate) fn flush_staged(&mut self, peer: Handle, now: f64, shell: &mut impl Shell) {
        loop {
            let Some(road) = self.roads.get_mut(&peer) else { return };
            let Some(route) = road.route else { return };
            if road.staged.is_empty() {
                return;
            }
            if !road.keys.current.as_ref().is_some_and(|session| session.can_seal(now)) {
                self.raise(peer, pending::HANDSHAKE_NEEDED);
                return;
            }
            let single = now < road.single_until;
            let Some(packet) = road.staged.pop_front() else { return };
            self.make_out_room(now, shell);
            let at = self.out_at;
            self.out[at + HEADER..at + HEADER + packet.len()].copy_from_slice(&packet);
            let Some(sealed) = self.seal(Arena::Out, at, packet.len(), peer, now) else { return };
            self.enqueue(Arena::Out, at, at + sealed, (peer, route, single));
            self.out_at = at + sealed;
        }
    }

    /// Send a keepalive: a transport message with nothing inside.
    pub(crate) fn send_empty(&mut self, peer: Handle, now: f64, shell: &mut impl Shell) {
        let Some(road) = self.roads.get_mut(&peer) else { return };
        if !road.keys.current.as_ref().is_some_and(|session| session.can_seal(now)) {
            self.raise(peer, pending::HANDSHAKE_NEEDED);
            return;
        }
        let Some(route) = road.route else {
            self.counters.count(Counter::NoEndpoint);
            return;
        };
        let single = now < road.single_until;
        self.make_out_room(now, shell);
        let at = self.out_at;
        let Some(sealed) = self.seal(Arena::Out, at, 0, peer, now) else { return };
        self.enqueue(Arena::Out, at, at + sealed, (peer, route, single));
        self.out_at = at + sealed;
    }

    fn answer_unreachable(&mut self, at: usize, length: usize, now: f64, shell: &mut impl Shell) {
        let earned = (now - self.unreachable_when) * UNREACHABLE_RATE;
        self.unreachable_tokens = (self.unreachable_tokens + earned).min(UNREACHABLE_BURST);
        self.unreachable_when = now;
        if self.unreachable_tokens < 1.0 {
            self.counters.count(Counter::UnreachableLimited);
            return;
        }
        let mut answer = [0; std::mem::size_of::<icmp::Answer>()];
        let packet = &self.tun[at + HEADER..at + HEADER + length];
        if let Some(length) = icmp::unreachable(packet, &mut answer) {
            self.unreachable_tokens -= 1.0;
            let error = shell.deliver(&[], &answer, &[Part { start: 0, length }]);
            self.tun_refused(error);
        }
    }
}

const _: () = assert!(HEADER + crate::constants::MAX_PACKET + 32 <= MESSAGE);
