//! The numbers of the protocol and of this implementation, as in `wgpy/protocol/constants.py`.
//!
//! Lengths are in bytes, times in seconds.

/// A transport message's type, receiver index and counter (whitepaper 5.4.6).
pub const HEADER: usize = 16;
/// The Poly1305 tag.
pub const TAG: usize = 16;
/// What a transport message adds to a packet; a keepalive is nothing else.
pub const OVERHEAD: usize = HEADER + TAG;
/// The type of a transport message.
pub const TYPE_TRANSPORT: u32 = 4;
/// Packets are padded to a multiple of this.
pub const PADDING: usize = 16;
/// A key pair asks for its renewal after so many messages.
pub const REKEY_AFTER_MESSAGES: u64 = 1 << 60;
/// A key pair is neither sealed nor opened with from this counter on.
pub const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);
/// Packets that wait for a key, per peer; the oldest is dropped first. The kernel's number.
pub const MAX_STAGED: usize = 128;
/// Control datagrams that wait for Python, as in the kernel.
pub const CONTROL_QUEUE: usize = 4096;
/// Bits of the replay window (RFC 6479), of which one word is kept free for the shift.
pub const WINDOW_BITS: u64 = 8192;
/// How far behind the greatest counter a packet may come.
pub const WINDOW_USABLE: u64 = WINDOW_BITS - 64;
/// STUN that waits for Python. Every answer was asked for, and 64 servers have sent two each.
pub const STUN_QUEUE: usize = 128;
/// A UDP payload over IPv4 holds 65,507 bytes, of which a message takes 32.
pub const MAX_INNER: usize = MAX_TRAIN - OVERHEAD;
/// Bytes in one UDP_SEGMENT send: one UDP payload's worth.
pub const MAX_TRAIN: usize = 65_507;
/// Segments in one UDP_SEGMENT send (UDP_MAX_SEGMENTS before Linux 6.9).
pub const MAX_TRAIN_SEGMENTS: usize = 64;
/// Answers a second to packets that no peer can take.
pub const UNREACHABLE_RATE: f64 = 100.0;
/// Such answers at once.
pub const UNREACHABLE_BURST: f64 = 50.0;
/// Packets held for a peer whose key pair is gated.
pub const GATE_PACKETS: usize = 32;
/// Bytes held for a peer: one packet of the greatest length, or GATE_PACKETS of 2,048.
pub const GATE_BYTES: usize = 65_536;
/// Bytes held for all peers.
pub const GATE_TOTAL_BYTES: usize = 8 << 20;
/// Seconds from the first packet on.
pub const GATE_SECONDS: f64 = 5.0;
/// A TUN read is at most so long, its vnet header not counted.
pub const MAX_PACKET: usize = 65_535;
/// For so long a peer's datagrams go one by one after UDP_SEGMENT failed on the way to it; routes
/// change, and one failed attempt a minute costs nothing.
pub const SEGMENT_RETRY: f64 = 60.0;
/// TUN reads kept for a peer that moved: 50 ms at 80,000 a second.
pub const HOLD_PACKETS: usize = 4096;
/// Bytes kept for it, for most of them may be large ones: 50 ms at 1.3 Gb/s.
pub const HOLD_BYTES: usize = 8 << 20;
/// Bytes kept for all peers, of which few move at a time.
pub const HOLD_TOTAL_BYTES: usize = 64 << 20;
