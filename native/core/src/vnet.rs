//! The virtio_net_hdr that a TUN with IFF_VNET_HDR puts before each packet (linux/virtio_net.h).

/// Its length.
pub const LENGTH: usize = 10;
/// The checksum is left to whoever takes the packet.
pub const NEEDS_CSUM: u8 = 1;
/// A packet of its own size.
pub const GSO_NONE: u8 = 0;
/// TCP over IPv4, to be split.
pub const GSO_TCPV4: u8 = 1;
/// TCP over IPv6, to be split.
pub const GSO_TCPV6: u8 = 4;
/// UDP over either, to be split into datagrams (Linux 6.2).
pub const GSO_UDP_L4: u8 = 5;
/// Set beside the type when the packet carries congestion marks (RFC 3168).
pub const GSO_ECN: u8 = 0x80;

/// Its fields; numbers are in the machine's own byte order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vnet {
    /// NEEDS_CSUM or nothing.
    pub flags: u8,
    /// How the packet is to be split.
    pub gso_type: u8,
    /// The length of all headers.
    pub header: u16,
    /// Payload bytes to a segment.
    pub size: u16,
    /// Where the sum begins.
    pub start: u16,
    /// Where, counted from `start`, the checksum is.
    pub offset: u16,
}

impl Vnet {
    /// Read it.
    #[inline]
    pub fn read(bytes: &[u8; LENGTH]) -> Self {
        let [flags, gso_type, a, b, c, d, e, f, g, h] = *bytes;
        Vnet {
            flags,
            gso_type,
            header: u16::from_ne_bytes([a, b]),
            size: u16::from_ne_bytes([c, d]),
            start: u16::from_ne_bytes([e, f]),
            offset: u16::from_ne_bytes([g, h]),
        }
    }

    /// Write it.
    #[inline]
    pub fn write(&self) -> [u8; LENGTH] {
        let [a, b] = self.header.to_ne_bytes();
        let [c, d] = self.size.to_ne_bytes();
        let [e, f] = self.start.to_ne_bytes();
        let [g, h] = self.offset.to_ne_bytes();
        [self.flags, self.gso_type, a, b, c, d, e, f, g, h]
    }
}
