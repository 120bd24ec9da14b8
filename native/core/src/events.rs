//! What the data path reports, as in `contract.py`.

use crate::allowedips::Handle;
use crate::route::Route;

/// Events of a peer that wait to be drained: bits, so that they need no queue.
pub mod pending {
    /// A packet waits, and no key pair can seal it.
    pub const HANDSHAKE_NEEDED: u8 = 1;
    /// The first packet since `rest`.
    pub const ACTIVE: u8 = 2;
    /// The first packet of the next key pair was opened.
    pub const KEY_CONFIRMED: u8 = 4;
    /// The key pair that seals is old.
    pub const REKEY_SEND: u8 = 8;
    /// The key pair that opens is old.
    pub const REKEY_RECEIVE: u8 = 16;
    /// The peer, or our address that it uses, is another one.
    pub const ROAMED: u8 = 32;
    /// The first packet of a gated key pair was opened.
    pub const GATE_CONFIRMED: u8 = 64;
    /// An authentic packet came from another place, which is not followed.
    pub const ELSEWHERE: u8 = 128;
    /// Answered when a new pair seals: a handshake asked for before it would be one too many.
    pub const ANSWERED: u8 = HANDSHAKE_NEEDED | REKEY_SEND | REKEY_RECEIVE;
}

/// An event.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A control datagram that passed the filter, and when it was read.
    Datagram(Vec<u8>, Route, f64),
    /// See `pending`.
    HandshakeNeeded(Handle),
    /// See `pending`.
    Active(Handle),
    /// The peer and the local index.
    KeyConfirmed(Handle, u32),
    /// See `pending`.
    RekeySend(Handle),
    /// See `pending`.
    RekeyReceive(Handle),
    /// The peer and where it is now.
    Roamed(Handle, Route),
    /// The TUN is gone: an errno.
    TunLost(i32),
    /// A socket cannot be served any more: its descriptor and an errno.
    SocketError(i32, i32),
    /// An offload was switched on or off in service: name, state, errno.
    Offload(&'static str, bool, i32),
    /// The data path failed inside and holds no keys any more.
    Failed(String),
}
