//! From the sockets to the TUN: tell apart, open in place, check, merge.

use std::ops::Range;

use crate::allowedips::Handle;
use crate::coalesce::{Coalescer, Failure, Merged, Part};
use crate::constants::{
    CONTROL_QUEUE, HEADER, OVERHEAD, REJECT_AFTER_MESSAGES, STUN_QUEUE, TYPE_TRANSPORT,
};
use crate::counters::Counter;
use crate::demux::{channel_data, is_channel, is_stun, CHANNEL_HEADER};
use crate::engine::{Engine, Shell, ToTun, SLOT};
use crate::events::{pending, Event};
use crate::packet::length_and_source;
use crate::route::{Route, Via};
use crate::ways::came_from;

/// The TUN's link was deleted (EBADFD, or ENODEV on older kernels, or EBADF).
pub const TUN_LOST: [i32; 3] = [77, 19, 9];

impl Engine {
    /// The receive buffer: SLOTS places of SLOT bytes.
    pub fn udp_space(&mut self) -> &mut [u8] {
        &mut self.udp
    }

    /// Take `length` bytes in a slot that came from one place: datagrams of `segment` bytes each,
    /// the last may be shorter; 0 for a single one. `flush_inbound` ends the batch.
    pub fn inbound(
        &mut self,
        slot: usize,
        length: usize,
        segment: usize,
        route: &Route,
        now: f64,
        shell: &mut impl Shell,
    ) {
        if length == 0 {
            self.counters.count(Counter::TooShort);
            return;
        }
        self.expire_gates(now);
        let base = slot * SLOT;
        let step = if segment == 0 { length } else { segment };
        for start in (base..base + length).step_by(step) {
            let end = (start + step).min(base + length);
            if self.is_opened(start..end, route, now, shell) {
                continue;
            }
            let message = &self.udp[start..end];
            if is_channel(message[0]) {
                match self.vias.relay_at(route) {
                    Some(relay) => self.channel_data(relay, start..end, now, shell),
                    None => self.counters.count(Counter::UnknownRelay),
                }
            } else if is_stun(message) {
                self.stun_datagram(start..end, route, now);
            } else {
                self.control_datagram(start..end, route, now);
            }
        }
    }

    /// Take `length` bytes in a slot that came by a relay's carrier: one message.
    pub fn inbound_carried(
        &mut self,
        slot: usize,
        length: usize,
        relay: Via,
        now: f64,
        shell: &mut impl Shell,
    ) {
        self.expire_gates(now);
        let base = slot * SLOT;
        self.channel_data(relay, base..base + length, now, shell);
    }

    /// Take what a relay has sent (RFC 8656 section 12.4).
    #[inline]
    fn channel_data(&mut self, relay: Via, range: Range<usize>, now: f64, shell: &mut impl Shell) {
        let start = range.start + CHANNEL_HEADER;
        let Some((number, data)) = channel_data(&self.udp[range]) else {
            self.counters.count(Counter::BadChannelData);
            return;
        };
        let end = start + data.len();
        let Some(route) = self.vias.on_channel(relay, number) else {
            self.counters.count(Counter::UnknownChannel);
            return;
        };
        // What is neither is of a type that no filter has, ChannelData and STUN as well.
        if !self.is_opened(start..end, &route, now, shell) {
            self.control_datagram(start..end, &route, now);
        }
    }

    /// Whether this is a transport message; then it was opened.
    #[inline]
    fn is_opened(
        &mut self,
        range: Range<usize>,
        route: &Route,
        now: f64,
        shell: &mut impl Shell,
    ) -> bool {
        let message = &self.udp[range.clone()];
        let Some(head) = message.first_chunk::<HEADER>() else { return false };
        let [a, b, c, d, e, f, g, h, counter @ ..] = *head;
        if message.len() < OVERHEAD || u32::from_le_bytes([a, b, c, d]) != TYPE_TRANSPORT {
            return false;
        }
        let index = u32::from_le_bytes([e, f, g, h]);
        self.open(range, index, u64::from_le_bytes(counter), route, now, shell);
        true
    }

    /// Write what was gathered for the TUN, and send what the batch gave cause to.
    pub fn flush_inbound(&mut self, now: f64, shell: &mut impl Shell) {
        let failure = self.coalescer.flush(&mut self.udp, &mut ToTun(shell));
        self.note_failure(failure);
        self.flush(now, shell);
    }

    fn control_datagram(&mut self, range: Range<usize>, route: &Route, now: f64) {
        let data = &self.udp[range];
        let is_ours = |index| self.indices.contains_key(&index);
        let queue = match self.filter.admit(data, route, &self.places, now, is_ours) {
            Ok(Some(lane)) => &mut lane.queue,
            Ok(None) if self.datagrams.len() < CONTROL_QUEUE => &mut self.datagrams,
            Ok(None) => return self.counters.count(Counter::ControlQueueFull),
            Err(reason) => return self.counters.count(reason),
        };
        queue.push_back(Event::Datagram(data.to_vec(), *route, now));
    }

    #[cold]
    fn stun_datagram(&mut self, range: Range<usize>, route: &Route, now: f64) {
        let place = (route.address, route.port);
        if !self.stun_sources.contains(&place) && self.vias.relay_at(route).is_none() {
            self.counters.count(Counter::UnknownStun);
        } else if self.stun.len() >= STUN_QUEUE {
            self.counters.count(Counter::StunQueueFull);
        } else {
            self.stun.push_back(Event::Datagram(self.udp[range].to_vec(), *route, now));
        }
    }

    #[inline]
    fn open(
        &mut self,
        range: Range<usize>,
        index: u32,
        counter: u64,
        route: &Route,
        now: f64,
        shell: &mut impl Shell,
    ) {
        let peer = self.indices.get(&index).copied().unwrap_or(0);
        let Some(road) = self.roads.get_mut(&peer) else {
            self.counters.count(Counter::UnknownIndex);
            return;
        };
        let keys = &mut road.keys;
        let mut is_next = false;
        let session = [&mut keys.current, &mut keys.previous, &mut keys.next]
            .into_iter()
            .enumerate()
            .find_map(|(place, session)| {
                let session = session.as_mut().filter(|session| session.local_index == index)?;
                is_next = place == 2;
                Some(session)
            });
        let mut gated = false;
        let session = match session {
            Some(session) => &mut **session,
            None => match road.gate.as_mut().filter(|gate| gate.session.local_index == index) {
                Some(gate) => {
                    gated = true;
                    &mut gate.session
                }
                None => {
                    self.counters.count(Counter::UnknownIndex);
                    return;
                }
            },
        };
        if now >= session.reject_after || counter >= REJECT_AFTER_MESSAGES {
            self.counters.count(Counter::ExpiredKey);
            return;
        }
        let (start, size) = (range.start, range.len());
        if !session.open(&mut self.udp[range], counter) {
            self.counters.count(Counter::BadTag);
            return;
        }
        if !session.window.accept(counter) {
            self.counters.count(Counter::Replayed);
            return;
        }
        let mut events = 0;
        if now >= session.notify_receive_after {
            session.notify_receive_after = f64::INFINITY;
            events |= pending::REKEY_RECEIVE;
        }
        if road.resting {
            road.resting = false;
            events |= pending::ACTIVE;
        }
        if gated {
            self.take_gated(peer, (start, size), events, route, now);
            return;
        }
        if road.route.as_ref() != Some(route) {
            events |= came_from(road, route, &mut self.places);
        }
        road.mark_received(now, size as u64);
        if events != 0 {
            self.raise(peer, events);
        }
        if is_next {
            self.confirm(peer, now, shell);
        }
        if size > OVERHEAD {
            self.accept(peer, start + HEADER, size - OVERHEAD, now, shell);
        }
    }

    /// The initiator used the key we answered with: now we may use it too.
    fn confirm(&mut self, peer: Handle, now: f64, shell: &mut impl Shell) {
        let Some(road) = self.roads.get_mut(&peer) else { return };
        let fallen = road.keys.confirm();
        road.has_new_key();
        self.retire(fallen);
        self.raise(peer, pending::KEY_CONFIRMED);
        // What is gathered for the TUN lies in another buffer than what is sent here.
        self.flush_staged(peer, now, shell);
    }

    /// Take the authentic packet, `room` bytes long with its padding, on its way to the TUN.
    #[inline]
    fn accept(
        &mut self,
        peer: Handle,
        start: usize,
        room: usize,
        now: f64,
        shell: &mut impl Shell,
    ) {
        if let Some(road) = self.roads.get_mut(&peer) {
            road.mark_data_received(now);
        }
        let Some((length, source)) = length_and_source(&self.udp[start..start + room]) else {
            self.counters.count(Counter::BadInner);
            return;
        };
        if self.allowed.lookup(source) != peer {
            self.counters.count(Counter::WrongSource);
            return;
        }
        let part = Part { start, length };
        let failure = self.coalescer.add(&mut self.udp, part, &mut ToTun(shell));
        self.note_failure(failure);
    }

    pub(crate) fn note_failure(&mut self, failure: Option<Failure>) {
        let Some(Failure { code, merged }) = failure else { return };
        let Some(merged) = merged else {
            self.tun_refused(code);
            return;
        };
        // The packets went one by one; the next ones need not try.
        self.counters.count(Counter::MergeFallback);
        let name = match merged {
            Merged::Tcp => {
                self.coalescer.merge.tcp = false;
                "tun_tcp_merge"
            }
            Merged::Udp => {
                self.coalescer.merge.udp = false;
                "tun_udp_merge"
            }
        };
        self.alarms.push(Event::Offload(name, false, code));
    }

    /// The TUN refused to give or take a packet: count it, and stop if the link is gone.
    pub fn tun_refused(&mut self, error: i32) {
        if error == 0 {
            return;
        }
        self.counters.count(Counter::TunError);
        if TUN_LOST.contains(&error) && self.up {
            self.set_up(false);
            self.alarms.push(Event::TunLost(error));
        }
    }

    /// The gathering of packets for the TUN, for tests.
    pub fn coalescer(&self) -> &Coalescer {
        &self.coalescer
    }
}
