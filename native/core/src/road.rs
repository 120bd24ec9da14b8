//! What the data path keeps of one peer.

use std::collections::VecDeque;

use crate::events::pending;
use crate::gate::Gate;
use crate::hold::Hold;
use crate::route::Route;
use crate::session::Session;

/// What the timers need to know; `wgpy/protocol/activity.py` says what each time means.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Activity {
    /// Anything authenticated went out.
    pub last_sent: f64,
    /// Anything authenticated came in.
    pub last_received: f64,
    /// The first data since anything authenticated came in.
    pub first_data_sent_unanswered: f64,
    /// The first data since anything authenticated went out.
    pub first_data_received_unanswered: f64,
    /// Data went out.
    pub last_data_sent: f64,
    /// Data came in.
    pub last_data_received: f64,
    /// UDP payload sent.
    pub tx_bytes: u64,
    /// UDP payload received.
    pub rx_bytes: u64,
}

/// The three places for a peer's key pairs (whitepaper 6.3; the kernel's add_new_keypair).
///
/// Each move returns the local indices of the pairs that fell out; a session is wiped when it
/// falls. A session is 1.2 KB, most of it the replay window, and so lies apart.
#[derive(Default)]
pub struct Keys {
    /// Packets under way may still use it.
    pub previous: Option<Box<Session>>,
    /// What is sealed with.
    pub current: Option<Box<Session>>,
    /// We answered an initiation, and its sender has not yet shown that the answer arrived.
    pub next: Option<Box<Session>>,
}

/// Local indices that are free again.
pub type Fallen = [Option<u32>; 3];

fn index(session: &Option<Box<Session>>) -> Option<u32> {
    session.as_ref().map(|session| session.local_index)
}

impl Keys {
    /// As the initiator, when the response was accepted: both sides have the pair.
    pub fn install_current(&mut self, session: Box<Session>) -> Fallen {
        let fallen = match self.next.take() {
            None => {
                let fallen = index(&self.previous);
                self.previous = self.current.take();
                [fallen, None, None]
            }
            // Both sides began at once. The peer, initiator of `next`, may be sealing with it
            // already, so it outlives the older current pair.
            Some(next) => {
                let fallen = [index(&self.previous), index(&self.current), None];
                self.previous = Some(next);
                fallen
            }
        };
        self.current = Some(session);
        fallen
    }

    /// As the responder, before the response is sent.
    pub fn install_next(&mut self, session: Box<Session>) -> Fallen {
        let fallen = [index(&self.next), index(&self.previous), None];
        self.next = Some(session);
        self.previous = None;
        fallen
    }

    /// When a packet was opened with the next pair: it moves up.
    pub fn confirm(&mut self) -> Fallen {
        let fallen = index(&self.previous);
        self.previous = self.current.take();
        self.current = self.next.take();
        [fallen, None, None]
    }

    /// Drop every pair.
    pub fn clear(&mut self) -> Fallen {
        let Keys { previous, current, next } = std::mem::take(self);
        [index(&previous), index(&current), index(&next)]
    }
}

/// One peer: where it is, its key pairs, what it did, and what waits for a handshake.
#[derive(Default)]
pub struct Road {
    /// Where it is.
    pub route: Option<Route>,
    /// Its key pairs.
    pub keys: Keys,
    /// A key pair that is not one of them yet.
    pub gate: Option<Box<Gate>>,
    /// What it did.
    pub activity: Activity,
    /// What waits for a handshake.
    pub staged: VecDeque<Vec<u8>>,
    /// What waits because the peer moved.
    pub hold: Option<Box<Hold>>,
    /// Events that wait to be drained.
    pub pending: u8,
    /// The next packet raises Active.
    pub resting: bool,
    /// Until then its datagrams go one by one: UDP_SEGMENT failed on the way to it.
    pub single_until: f64,
    /// Its route does not follow its packets; where they come from is only told.
    pub pinned: bool,
    /// What was told last.
    pub elsewhere: Option<Route>,
}

impl Road {
    /// A new pair seals from now on.
    pub fn has_new_key(&mut self) {
        self.pending &= !pending::ANSWERED;
    }

    /// Something authenticated went out.
    #[inline]
    pub fn mark_sent(&mut self, now: f64) {
        self.activity.last_sent = now;
        self.activity.first_data_received_unanswered = 0.0;
    }

    /// Something authenticated of `size` bytes came in.
    #[inline]
    pub fn mark_received(&mut self, now: f64, size: u64) {
        self.activity.last_received = now;
        self.activity.first_data_sent_unanswered = 0.0;
        self.activity.rx_bytes += size;
    }

    /// The authenticated packet that went out was data, not a keepalive.
    #[inline]
    pub fn mark_data_sent(&mut self, now: f64) {
        self.activity.last_data_sent = now;
        if self.activity.first_data_sent_unanswered == 0.0 {
            self.activity.first_data_sent_unanswered = now;
        }
    }

    /// The authenticated packet that came in was data, not a keepalive.
    #[inline]
    pub fn mark_data_received(&mut self, now: f64) {
        self.activity.last_data_received = now;
        if self.activity.first_data_received_unanswered == 0.0 {
            self.activity.first_data_received_unanswered = now;
        }
    }
}
