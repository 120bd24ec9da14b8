//! Packets to a peer that has moved to a faster path: they wait for those on the slower one.
//!
//! They are kept as the TUN gave them, and are sealed when they go: so their counters are in order
//! with those of whatever was sent meanwhile. This is apart from the way of other packets, which
//! allocates nothing; here each does.

use crate::allowedips::Handle;
use crate::constants::{HOLD_BYTES, HOLD_PACKETS, HOLD_TOTAL_BYTES, MAX_PACKET};
use crate::counters::Counter;
use crate::engine::{Engine, Shell};
use crate::events::pending;

/// What is kept of one peer, and until when: each as the TUN gave it.
#[derive(Default)]
pub struct Hold {
    pub(crate) deadline: f64,
    pub(crate) kept: Vec<Vec<u8>>,
    kept_bytes: usize,
}

impl Engine {
    /// From now on what the TUN has for the peer waits.
    pub(crate) fn begin_hold(&mut self, peer: Handle, deadline: f64) {
        let Some(road) = self.roads.get_mut(&peer) else { return };
        if road.hold.is_none() {
            self.holding.push(peer);
        }
        road.hold.get_or_insert_with(Box::default).deadline = deadline;
    }

    /// Keep a packet of `length` bytes of a peer that moved, with what the TUN gave before it; it
    /// goes with the others if it is time.
    #[cold]
    pub(crate) fn keep(
        &mut self,
        peer: Handle,
        read: std::ops::Range<usize>,
        length: usize,
        now: f64,
        shell: &mut impl Shell,
    ) {
        let Some(road) = self.roads.get_mut(&peer) else { return };
        let Some(hold) = road.hold.as_mut() else { return };
        hold.kept.push(self.tun[read].to_vec());
        hold.kept_bytes += length;
        self.kept_bytes += length;
        let has_room = hold.kept.len() < HOLD_PACKETS
            && hold.kept_bytes + MAX_PACKET <= HOLD_BYTES
            && self.kept_bytes + MAX_PACKET <= HOLD_TOTAL_BYTES;
        let late = now >= hold.deadline;
        if !road.keys.current.as_ref().is_some_and(|session| session.can_seal(now)) {
            self.raise(peer, pending::HANDSHAKE_NEEDED);
        }
        if !has_room {
            self.counters.count(Counter::HoldFull);
        }
        if late || !has_room {
            self.send_kept(peer, now, shell);
        }
    }

    /// Send what waited because the peer moved, and let nothing wait any more.
    pub fn let_go(&mut self, peer: Handle, now: f64, shell: &mut impl Shell) {
        self.send_kept(peer, now, shell);
        self.flush(now, shell);
    }

    /// What waited for a key first, for it is older; then what is kept.
    fn send_kept(&mut self, peer: Handle, now: f64, shell: &mut impl Shell) {
        let Some(kept) = self.end_hold(peer) else { return };
        self.flush_staged(peer, now, shell);
        let Some(road) = self.roads.get(&peer) else { return };
        let link = self.vias.link(peer, road, now);
        if link.is_none() && !road.pinned {
            self.counters.add(Counter::HoldDropped, kept.len() as u64);
            return;
        }
        for read in kept {
            self.tun_space(now, shell)[..read.len()].copy_from_slice(&read);
            match &link {
                Some(link) => self.send_read(link, read.len(), now, shell),
                None => self.stage_read(peer, read.len()),
            }
        }
    }

    /// Let nothing wait any more; what waited, None where nothing had to.
    pub(crate) fn end_hold(&mut self, peer: Handle) -> Option<Vec<Vec<u8>>> {
        let hold = self.roads.get_mut(&peer)?.hold.take()?;
        self.holding.retain(|&other| other != peer);
        self.kept_bytes -= hold.kept_bytes;
        Some(hold.kept)
    }

    /// What waits for these peers is lost.
    pub(crate) fn drop_kept(&mut self, peers: &[Handle]) {
        for &peer in peers {
            let kept = self.end_hold(peer).unwrap_or_default();
            self.counters.add(Counter::HoldDropped, kept.len() as u64);
        }
    }

    /// Let go what has waited for long enough.
    pub(crate) fn expire_holds(&mut self, now: f64, shell: &mut impl Shell) {
        for peer in self.holding.clone() {
            let hold = self.roads.get(&peer).and_then(|road| road.hold.as_ref());
            if hold.is_some_and(|hold| hold.deadline <= now) {
                self.let_go(peer, now, shell);
            }
        }
    }

    /// How many bytes wait for peers that moved.
    pub fn kept_bytes(&self) -> usize {
        self.kept_bytes
    }
}
