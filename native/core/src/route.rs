//! Where a datagram goes to, and from which of our addresses.

use std::net::IpAddr;

/// A peer's address, and the socket and the sticky source that answer it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The peer's address.
    pub address: IpAddr,
    /// Its UDP port.
    pub port: u16,
    /// The interface index of a link-local address, else 0.
    pub scope: u32,
    /// Our address that its packets hit; None lets the routing table choose.
    pub source: Option<IpAddr>,
    /// The interface they came in by, 0 if unknown.
    pub ifindex: u32,
    /// The socket of ours that leads there, or the relay.
    pub via: Via,
    /// The TURN channel, 0 without a relay.
    pub channel: u16,
}

/// A socket of ours, or a relay: 0 for the pair of sockets. Numbers are never reused.
pub type Via = u32;

impl Route {
    /// The same peer with no sticky source.
    pub fn without_source(&self) -> Self {
        Route { source: None, ifindex: 0, ..*self }
    }

    /// Whether the other side is the same place, whatever address of ours it hits.
    pub fn leads_to(&self, other: &Route) -> bool {
        self.without_source() == other.without_source()
    }
}
