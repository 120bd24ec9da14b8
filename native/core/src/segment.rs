//! Segmentation (TSO and USO): one large packet of the kernel into packets that fit the MTU.
//!
//! A TUN with offloads hands over up to 64 KiB of one flow at once, checksums left to us.

use crate::packet::{pseudo_sum, put_u16, u16_at, u32_at, IPV4, IPV6, TCP, UDP};
use crate::sum::{checksum, sum};
use crate::vnet::{Vnet, GSO_ECN, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4};

const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

const TCP_HEADER: usize = 20;
const TCP_FLAGS: usize = 13;
const TCP_CHECKSUM: usize = 16;
const UDP_HEADER: usize = 8;
const UDP_CHECKSUM: usize = 6;
/// IPv4 with all options, then TCP with all options.
const LONGEST_HEADER: usize = 60 + 60;
// IPv6 extension headers may come before TCP; the kernel bounds them by nothing but the packet.
const HEADER_ROOM: usize = 512;

/// A packet whose vnet header does not fit it: dropped and counted.
#[derive(Debug, PartialEq, Eq)]
pub struct BadOffload;

/// Complete a checksum that the kernel left to us.
pub fn finish_checksum(packet: &mut [u8], vnet: &Vnet) -> Result<(), BadOffload> {
    let start = usize::from(vnet.start);
    let field = start + usize::from(vnet.offset);
    if field + 2 > packet.len() {
        return Err(BadOffload);
    }
    // UDP writes a checksum of zero as 0xFFFF (RFC 768), which TCP accepts as well.
    let value = match checksum(sum(&packet[start..])) {
        0 => 0xFFFF,
        value => value,
    };
    put_u16(packet, field, value);
    Ok(())
}

/// The packets that a large one stands for, one `write` each.
pub struct Segments {
    header: [u8; HEADER_ROOM],
    /// Where the transport header begins, and where the payload does.
    transport: usize,
    end: usize,
    length: usize,
    size: usize,
    next: usize,
    v4: bool,
    tcp: bool,
    ident: u16,
    sequence: u32,
    flags: u8,
    /// What the segments' sums share: addresses, protocol, and the headers without what changes.
    transport_base: u64,
    ip_base: u64,
}

impl Segments {
    /// Read the headers of `packet`, whose GSO type is not "none".
    ///
    /// With `udp`, datagrams may come too. Nothing is split that does not fit its vnet header.
    pub fn new(packet: &[u8], vnet: &Vnet, udp: bool) -> Result<Self, BadOffload> {
        let kind = vnet.gso_type & !GSO_ECN;
        let tcp = matches!(kind, GSO_TCPV4 | GSO_TCPV6);
        let wanted = tcp || udp && vnet.gso_type == GSO_UDP_L4;
        if !wanted || vnet.size == 0 {
            return Err(BadOffload);
        }
        let v4 = match packet.first().map(|first| first >> 4) {
            Some(4) if kind != GSO_TCPV6 => true,
            Some(6) if kind != GSO_TCPV4 => false,
            _ => return Err(BadOffload),
        };
        let transport = usize::from(vnet.start);
        let least = if v4 { IPV4 } else { IPV6 };
        let (fixed, field) =
            if tcp { (TCP_HEADER, TCP_CHECKSUM) } else { (UDP_HEADER, UDP_CHECKSUM) };
        if usize::from(vnet.offset) != field
            || transport < least
            || transport + fixed > packet.len()
        {
            return Err(BadOffload);
        }
        let end = if tcp {
            transport + usize::from(packet[transport + 12] >> 4) * 4
        } else {
            transport + UDP_HEADER
        };
        if end < transport + fixed || end > packet.len() || end > HEADER_ROOM {
            return Err(BadOffload);
        }
        Ok(Self::begin(packet, usize::from(vnet.size), transport, end, v4, tcp))
    }

    fn begin(
        packet: &[u8],
        size: usize,
        transport: usize,
        end: usize,
        v4: bool,
        tcp: bool,
    ) -> Self {
        let mut header = [0; HEADER_ROOM];
        header[..end].copy_from_slice(&packet[..end]);
        let mut segments = Segments {
            header,
            transport,
            end,
            length: packet.len(),
            size,
            next: end,
            v4,
            tcp,
            ident: u16_at(packet, 4),
            sequence: if tcp { u32_at(packet, transport + 4) } else { 0 },
            flags: if tcp { packet[transport + TCP_FLAGS] } else { 0 },
            transport_base: 0,
            ip_base: 0,
        };
        let header = &mut segments.header;
        if tcp {
            header[transport + 4..transport + 8].fill(0);
            header[transport + TCP_FLAGS] = 0;
            header[transport + TCP_CHECKSUM..transport + TCP_CHECKSUM + 2].fill(0);
        } else {
            header[transport + 4..transport + 8].fill(0);
        }
        let protocol = if tcp { TCP } else { UDP };
        segments.transport_base =
            pseudo_sum(&header[..end], protocol, if v4 { IPV4 } else { IPV6 })
                + sum(&header[transport..end]);
        if v4 {
            header[2..6].fill(0);
            header[10..12].fill(0);
            segments.ip_base = sum(&header[..transport]);
        }
        segments
    }

    /// How long the next packet is, or None after the last. An empty payload is a packet as well.
    #[inline]
    pub fn next_length(&self) -> Option<usize> {
        let first = self.next == self.end;
        (first || self.next < self.length)
            .then(|| self.end + self.size.min(self.length - self.next))
    }

    /// Write the next packet, of `next_length` bytes, to the beginning of `out`.
    ///
    /// This is the one copy on the way out: the kernel's large packet has no room for our headers.
    #[inline]
    pub fn write(&mut self, packet: &[u8], out: &mut [u8]) {
        let (transport, end) = (self.transport, self.end);
        let begin = self.next;
        let stop = self.length.min(begin + self.size);
        let payload = &packet[begin..stop];
        let last = stop == self.length;
        out[..end].copy_from_slice(&self.header[..end]);
        out[end..end + payload.len()].copy_from_slice(payload);
        let length = end - transport + payload.len();
        let total = transport + length;
        if self.v4 {
            put_u16(out, 2, total as u16);
            put_u16(out, 4, self.ident);
            put_u16(out, 10, checksum(self.ip_base + total as u64 + u64::from(self.ident)));
            self.ident = self.ident.wrapping_add(1);
        } else {
            put_u16(out, 4, (total - IPV6) as u16);
        }
        let sums = self.transport_base + length as u64 + sum(payload);
        if self.tcp {
            let mut flags = if last { self.flags } else { self.flags & !(FIN | PSH) };
            if begin > end {
                flags &= !CWR;
            }
            let sequence = self.sequence;
            out[transport + 4..transport + 8].copy_from_slice(&sequence.to_be_bytes());
            out[transport + TCP_FLAGS] = flags;
            let sums =
                sums + u64::from(sequence >> 16) + u64::from(sequence & 0xFFFF) + u64::from(flags);
            put_u16(out, transport + TCP_CHECKSUM, checksum(sums));
            self.sequence = sequence.wrapping_add(self.size as u32);
        } else {
            put_u16(out, transport + 4, length as u16);
            let value = match checksum(sums + length as u64) {
                0 => 0xFFFF,
                value => value,
            };
            put_u16(out, transport + UDP_CHECKSUM, value);
        }
        self.next = begin + self.size;
    }
}

const _: () = assert!(LONGEST_HEADER <= HEADER_ROOM);
