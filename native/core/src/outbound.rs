//! From the TUN to the sockets: look up, seal in place, gather trains.

use std::ops::Range;

use crate::allowedips::Handle;
use crate::coalesce::Part;
use crate::constants::{HEADER, MAX_STAGED, UNREACHABLE_BURST, UNREACHABLE_RATE};
use crate::counters::Counter;
use crate::demux::{channel_header, CHANNEL_HEADER};
use crate::engine::{Arena, Engine, Shell, MESSAGE};
use crate::events::pending;
use crate::icmp;
use crate::packet::destination;
use crate::segment::{finish_checksum, Segments};
use crate::vnet::{self, Vnet, GSO_NONE, NEEDS_CSUM};
use crate::ways::Link;

impl Engine {
    /// Where the next packet of the TUN is to be read to, its vnet header first if there is one.
    ///
    /// Sends what is gathered if there is no room behind it.
    #[inline]
    pub fn tun_space(&mut self, now: f64, shell: &mut impl Shell) -> &mut [u8] {
        if self.is_full(self.tun_at, self.tun.len()) {
            self.flush(now, shell);
        }
        let at = self.tun_at + self.tun_head;
        let offset = if self.offloads.vnet_header { HEADER - vnet::LENGTH } else { HEADER };
        // No packet is longer than MAX_PACKET: behind it there is room for padding and tag.
        &mut self.tun[at + offset..at + HEADER + crate::constants::MAX_PACKET]
    }

    /// Take the `size` bytes that were read into `tun_space`.
    pub fn outbound(&mut self, size: usize, now: f64, shell: &mut impl Shell) {
        let (packet, _) = self.read(size);
        let Some(target) = destination(&self.tun[packet.clone()]) else {
            self.counters.count(Counter::NotIp);
            return;
        };
        let owner = self.allowed.lookup(target);
        let Some(road) = self.roads.get_mut(&owner) else {
            self.counters.count(Counter::NoPeer);
            self.answer_unreachable(packet, now, shell);
            return;
        };
        let link = self.vias.link(owner, road, now);
        if link.is_none() && !road.pinned {
            self.counters.count(Counter::NoEndpoint);
            self.answer_unreachable(packet, now, shell);
            return;
        }
        let moved = road.hold.is_some();
        if road.resting {
            road.resting = false;
            self.raise(owner, pending::ACTIVE);
        }
        if moved {
            let length = packet.len();
            self.keep(owner, packet.end - size..packet.end, length, now, shell);
        } else if let Some(link) = link {
            self.send_read(&link, size, now, shell);
        } else {
            self.stage_read(owner, size);
        }
    }

    /// Keep the `size` bytes that were read into `tun_space` for a peer that is being looked for.
    pub(crate) fn stage_read(&mut self, peer: Handle, size: usize) {
        let (packet, vnet) = self.read(size);
        if vnet.gso_type != GSO_NONE {
            match Segments::new(&self.tun[packet.clone()], &vnet, self.offloads.uso) {
                Ok(mut segments) => {
                    while let Some(length) = segments.next_length() {
                        let mut copy = vec![0; length];
                        segments.write(&self.tun[packet.clone()], &mut copy);
                        self.stage(peer, copy);
                    }
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
        let copy = self.tun[packet].to_vec();
        self.stage(peer, copy);
    }

    /// Where the packet lies that was read into `tun_space`, and its vnet header.
    #[inline]
    fn read(&self, size: usize) -> (Range<usize>, Vnet) {
        let start = self.tun_at + self.tun_head + HEADER;
        if !self.offloads.vnet_header {
            return (start..start + size, Vnet::default());
        }
        let mut vnet = [0; vnet::LENGTH];
        vnet.copy_from_slice(&self.tun[start - vnet::LENGTH..start]);
        (start..start + size.saturating_sub(vnet::LENGTH), Vnet::read(&vnet))
    }

    /// Send the `size` bytes that were read into `tun_space` to a peer, or stage them.
    #[inline]
    pub(crate) fn send_read(&mut self, link: &Link, size: usize, now: f64, shell: &mut impl Shell) {
        let (packet, vnet) = self.read(size);
        // The next packet is likely to be for the same peer.
        let guessed = std::mem::replace(&mut self.tun_head, link.head());
        if vnet.gso_type != GSO_NONE {
            match Segments::new(&self.tun[packet.clone()], &vnet, self.offloads.uso) {
                Ok(segments) => self.send_large(segments, packet, link, now, shell),
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
        if link.head() > guessed && !self.trains.is_empty() {
            // The last message's tag lies where the header belongs: it goes first.
            self.flush(now, shell);
        }
        let at = packet.start - HEADER;
        if let Some(end) = self.seal(Arena::Tun, at, packet.len(), link, now) {
            self.tun_at = end;
        } else {
            let copy = self.tun[packet].to_vec();
            self.stage(link.peer, copy);
        }
    }

    /// Seal the packet of `length` bytes whose message starts at `at`, put it on a train, and note
    /// that it is sent. The end of the message, or None if there is no key.
    ///
    /// Before `at` there is room for the header that a relay wants.
    #[inline]
    fn seal(
        &mut self,
        arena: Arena,
        at: usize,
        length: usize,
        link: &Link,
        now: f64,
    ) -> Option<usize> {
        let road = self.roads.get_mut(&link.peer)?;
        let session = road.keys.current.as_mut().filter(|session| session.can_seal(now))?;
        let buffer = match arena {
            Arena::Tun => &mut self.tun[..],
            Arena::Out => &mut self.out[..],
        };
        let size = session.seal(&mut buffer[at..], length, self.mtu);
        let start = at - link.head();
        if link.channel != 0 {
            buffer[start..at].copy_from_slice(&channel_header(link.channel, size));
        }
        let wants = session.wants_rekey(now);
        if wants {
            session.notify_send_after = f64::INFINITY;
        }
        road.mark_sent(now);
        if length > 0 {
            road.mark_data_sent(now);
        }
        if wants {
            self.raise(link.peer, pending::REKEY_SEND);
        }
        self.enqueue(arena, start, at + size, link);
        Some(at + size)
    }

    /// Split what segmentation left to us, and seal each packet.
    fn send_large(
        &mut self,
        mut segments: Segments,
        from: Range<usize>,
        link: &Link,
        now: f64,
        shell: &mut impl Shell,
    ) {
        while let Some(size) = segments.next_length() {
            let session = self.roads.get(&link.peer).and_then(|road| road.keys.current.as_ref());
            if !session.is_some_and(|session| session.can_seal(now)) {
                let mut packet = vec![0; size];
                segments.write(&self.tun[from.clone()], &mut packet);
                self.stage(link.peer, packet);
                continue;
            }
            self.make_out_room(now, shell);
            let at = self.out_at + link.head();
            segments.write(&self.tun[from.clone()], &mut self.out[at + HEADER..]);
            let Some(end) = self.seal(Arena::Out, at, size, link, now) else { return };
            self.out_at = end;
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

    /// Send what waited, now that there may be a key; unless it has to wait because the peer moved.
    pub(crate) fn flush_staged(&mut self, peer: Handle, now: f64, shell: &mut impl Shell) {
        loop {
            let Some(road) = self.roads.get_mut(&peer) else { return };
            let Some(link) = self.vias.link(peer, road, now) else { return };
            if road.staged.is_empty() || road.hold.is_some() {
                return;
            }
            if !road.keys.current.as_ref().is_some_and(|session| session.can_seal(now)) {
                self.raise(peer, pending::HANDSHAKE_NEEDED);
                return;
            }
            let Some(packet) = road.staged.pop_front() else { return };
            self.make_out_room(now, shell);
            let at = self.out_at + link.head();
            self.out[at + HEADER..at + HEADER + packet.len()].copy_from_slice(&packet);
            let Some(end) = self.seal(Arena::Out, at, packet.len(), &link, now) else { return };
            self.out_at = end;
        }
    }

    /// Send a keepalive: a transport message with nothing inside.
    pub(crate) fn send_empty(&mut self, peer: Handle, now: f64, shell: &mut impl Shell) {
        let Some(road) = self.roads.get_mut(&peer) else { return };
        if !road.keys.current.as_ref().is_some_and(|session| session.can_seal(now)) {
            self.raise(peer, pending::HANDSHAKE_NEEDED);
            return;
        }
        let Some(link) = self.vias.link(peer, road, now) else {
            self.counters.count(Counter::NoEndpoint);
            return;
        };
        self.make_out_room(now, shell);
        let at = self.out_at + link.head();
        let Some(end) = self.seal(Arena::Out, at, 0, &link, now) else { return };
        self.out_at = end;
    }

    fn answer_unreachable(&mut self, packet: Range<usize>, now: f64, shell: &mut impl Shell) {
        let earned = (now - self.unreachable_when) * UNREACHABLE_RATE;
        self.unreachable_tokens = (self.unreachable_tokens + earned).min(UNREACHABLE_BURST);
        self.unreachable_when = now;
        if self.unreachable_tokens < 1.0 {
            self.counters.count(Counter::UnreachableLimited);
            return;
        }
        let mut answer = [0; std::mem::size_of::<icmp::Answer>()];
        if let Some(length) = icmp::unreachable(&self.tun[packet], &mut answer) {
            self.unreachable_tokens -= 1.0;
            let error = shell.deliver(&[], &answer, &[Part { start: 0, length }]);
            self.tun_refused(error);
        }
    }
}

const _: () = assert!(CHANNEL_HEADER + HEADER + crate::constants::MAX_PACKET + 32 <= MESSAGE);
