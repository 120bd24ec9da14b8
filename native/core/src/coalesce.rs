//! Coalescing (GRO): consecutive packets of one flow into one large write to the TUN.
//!
//! The kernel then acknowledges the whole at once, which spares it and us most of the packets
//! back. Packets are merged only where the kernel would split the result into the very same
//! packets again: its own rules (tcp_gro_receive, udp_gro_receive), and a checksum that was
//! verified.

use crate::packet::{pseudo_sum, put_u16, u16_at, u32_at, IPV4, IPV6, TCP, UDP};
use crate::sum::{checksum, is_whole, sum};
use crate::vnet::{self, Vnet, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, NEEDS_CSUM};

const ACK: u8 = 0x10;
const PSH: u8 = 0x08;
const TCP_HEADER: usize = 20;
const TCP_FLAGS: usize = 13;
const TCP_CHECKSUM: usize = 16;
const UDP_HEADER: usize = 8;
const UDP_CHECKSUM: usize = 6;
const DONT_FRAGMENT: u8 = 0x40;
/// An IPv4 packet's total length is 16 bits; one bound serves both versions.
const MAX_LENGTH: usize = 65_535;
/// One writev(2) takes 1,024 pieces (UIO_MAXIOV); half of them is past any gain.
pub const MAX_PARTS: usize = 512;
/// A TUN refuses more datagrams in one packet from Linux 6.7 on (UDP_MAX_SEGMENTS, 128 since 6.9);
/// the kernel's own merging has the same bound (UDP_GRO_CNT_MAX).
pub const MAX_UDP_PARTS: usize = 64;
/// The vnet header, IPv6, and TCP with all options.
const LONGEST_HEAD: usize = vnet::LENGTH + IPV6 + 60;

/// A piece of the buffer that packets lie in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Its first byte.
    pub start: usize,
    /// Its length.
    pub length: usize,
}

impl Part {
    /// The bytes.
    #[inline]
    pub fn of<'a>(&self, buffer: &'a [u8]) -> &'a [u8] {
        &buffer[self.start..self.start + self.length]
    }
}

/// Which packets may be merged: it takes a TUN with vnet headers, and Linux 6.2 for UDP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Merge {
    /// TCP segments.
    pub tcp: bool,
    /// UDP datagrams.
    pub udp: bool,
}

/// Takes what is gathered. Returns an errno, or 0.
///
/// `head` comes before the parts, and is empty for a single packet, whose vnet header of zeros
/// lies before it in the buffer.
pub trait Write {
    /// Write one packet, its vnet header first.
    fn write(&mut self, head: &[u8], buffer: &[u8], parts: &[Part]) -> i32;
}

/// What the next packet must be like, to follow those that were gathered.
#[derive(Clone, Copy, Debug, Default)]
struct Flow {
    tcp: bool,
    /// Where the transport header begins, and where the payload does.
    transport: usize,
    header: usize,
    /// The payload of every packet but the last.
    size: usize,
    sequence: u32,
    /// The next packet's IPv4 identification, where it may be no other.
    ident: Option<u16>,
    pseudo: u64,
    /// Whether the first packet's checksums are right, once they were looked at.
    valid: Option<bool>,
}

/// Gathers packets that follow one another, and writes them in order.
///
/// Packets are parts of one buffer with spare bytes for a vnet header before each, which must stay
/// as it is until `flush`.
pub struct Coalescer {
    /// Which packets it merges.
    pub merge: Merge,
    /// The first packet whole, and the payloads of those that follow it.
    parts: Vec<Part>,
    length: usize,
    push: bool,
    flow: Option<Flow>,
}

impl Coalescer {
    /// One that has nothing gathered.
    pub fn new(merge: Merge) -> Self {
        Coalescer {
            merge,
            parts: Vec::with_capacity(MAX_PARTS),
            length: 0,
            push: false,
            flow: None,
        }
    }

    /// Take the inner packet at `part`. Returns what `write` said last, if it was called.
    #[inline]
    pub fn add(
        &mut self,
        buffer: &mut [u8],
        part: Part,
        write: &mut impl Write,
    ) -> Option<Failure> {
        if self.append(buffer, part) {
            return None;
        }
        let failure = self.flush(buffer, write);
        self.parts.push(part);
        self.length = part.length;
        self.push = false;
        self.flow = self.begin(part.of(buffer));
        failure
    }

    /// See whether others may follow `packet`.
    #[inline]
    fn begin(&self, packet: &[u8]) -> Option<Flow> {
        let length = packet.len();
        let (transport, protocol, ident) = match packet[0] {
            // No options, no fragment, and "do not fragment" set: identifications may then be
            // anything (RFC 6864).
            0x45 if packet[6] == DONT_FRAGMENT && packet[7] == 0 => (IPV4, packet[9], None),
            // Without it they count up, as the kernel has them when it splits the whole. Linux
            // sends datagrams with UDP_SEGMENT so, unless their socket forbids fragments.
            0x45 if packet[9] == UDP && packet[6] == 0 && packet[7] == 0 => {
                (IPV4, UDP, Some(u16_at(packet, 4).wrapping_add(1)))
            }
            0x60..=0x6F => (IPV6, packet[6], None),
            _ => return None,
        };
        let (header, sequence) = match protocol {
            TCP if self.merge.tcp && length > transport + TCP_HEADER => {
                let header = transport + usize::from(packet[transport + 12] >> 4) * 4;
                // Only ACK: with PSH nothing can follow.
                if header < transport + TCP_HEADER || packet[transport + TCP_FLAGS] != ACK {
                    return None;
                }
                (header, u32_at(packet, transport + 4))
            }
            UDP if self.merge.udp && length > transport + UDP_HEADER => {
                // Every segment gets a checksum, so each must have had one; and the length must
                // be the datagram's own, for the kernel writes it anew.
                if u16_at(packet, transport + UDP_CHECKSUM) == 0
                    || usize::from(u16_at(packet, transport + 4)) != length - transport
                {
                    return None;
                }
                (transport + UDP_HEADER, 0)
            }
            _ => return None,
        };
        if header >= length {
            return None;
        }
        let size = length - header;
        Some(Flow {
            tcp: protocol == TCP,
            transport,
            header,
            size,
            sequence: sequence.wrapping_add(size as u32),
            ident,
            pseudo: pseudo_sum(packet, protocol, transport),
            valid: None,
        })
    }

    #[inline]
    fn append(&mut self, buffer: &[u8], part: Part) -> bool {
        let Some(flow) = self.flow.as_mut() else { return false };
        let packet = part.of(buffer);
        let Some(size) = packet.len().checked_sub(flow.header) else { return false };
        if size == 0
            || size > flow.size
            || self.length + size > MAX_LENGTH
            || self.parts.len() == if flow.tcp { MAX_PARTS } else { MAX_UDP_PARTS }
        {
            return false;
        }
        let first = self.parts[0].of(buffer);
        if !flow.is_next(first, packet) {
            return false;
        }
        if !*flow.valid.get_or_insert_with(|| is_valid(first, flow.transport, flow.pseudo))
            || !is_valid(packet, flow.transport, flow.pseudo)
        {
            return false;
        }
        self.parts.push(Part { start: part.start + flow.header, length: size });
        self.length += size;
        flow.sequence = flow.sequence.wrapping_add(size as u32);
        flow.ident = flow.ident.map(|ident| ident.wrapping_add(1));
        let push = flow.tcp && packet[flow.transport + TCP_FLAGS] & PSH != 0;
        self.push |= push;
        if push || size < flow.size {
            // A shorter segment, or one that pushes, is the last of what the kernel would make.
            flow.size = 0;
        }
        true
    }

    /// Write what is gathered.
    #[inline]
    pub fn flush(&mut self, buffer: &mut [u8], write: &mut impl Write) -> Option<Failure> {
        let first = *self.parts.first()?;
        let failure = match self.flow {
            Some(flow) if self.parts.len() > 1 => self.write_merged(&flow, buffer, write),
            _ => {
                let code = write_single(buffer, first, write);
                (code != 0).then_some(Failure { code, merged: None })
            }
        };
        self.parts.clear();
        self.flow = None;
        failure
    }

    fn write_merged(
        &mut self,
        flow: &Flow,
        buffer: &mut [u8],
        write: &mut impl Write,
    ) -> Option<Failure> {
        let first = self.parts[0];
        let mut head = [0; LONGEST_HEAD];
        let length = self.merged_head(flow, first.of(buffer), &mut head);
        // The first packet's own headers stay where they are, for the case that this fails.
        self.parts[0] =
            Part { start: first.start + flow.header, length: first.length - flow.header };
        let code = write.write(&head[..length], buffer, &self.parts);
        if code == 0 {
            return None;
        }
        let mut single = 0;
        for part in &self.parts {
            let packet =
                Part { start: part.start - flow.header, length: part.length + flow.header };
            single = single.max(write_single(buffer, packet, write));
        }
        // Packets that are refused one by one as well say nothing of merging.
        Some(match single {
            0 => Failure { code, merged: Some(if flow.tcp { Merged::Tcp } else { Merged::Udp }) },
            code => Failure { code, merged: None },
        })
    }

    /// The vnet header and the packet's own headers, for the length that it has by now.
    fn merged_head(&self, flow: &Flow, packet: &[u8], head: &mut [u8; LONGEST_HEAD]) -> usize {
        let Flow { tcp, transport, header, .. } = *flow;
        let v4 = transport == IPV4;
        let length = self.length;
        let vnet = Vnet {
            flags: NEEDS_CSUM,
            gso_type: match (tcp, v4) {
                (false, _) => GSO_UDP_L4,
                (true, true) => GSO_TCPV4,
                (true, false) => GSO_TCPV6,
            },
            header: header as u16,
            size: (self.parts[0].length - header) as u16,
            start: transport as u16,
            offset: if tcp { TCP_CHECKSUM } else { UDP_CHECKSUM } as u16,
        };
        head[..vnet::LENGTH].copy_from_slice(&vnet.write());
        let ip = &mut head[vnet::LENGTH..vnet::LENGTH + header];
        ip.copy_from_slice(&packet[..header]);
        if v4 {
            put_u16(ip, 2, length as u16);
            put_u16(ip, 10, 0);
            let value = checksum(sum(&ip[..IPV4]));
            put_u16(ip, 10, value);
        } else {
            put_u16(ip, 4, (length - IPV6) as u16);
        }
        let pseudo = ((flow.pseudo + (length - transport) as u64) % 0xFFFF) as u16;
        if tcp {
            if self.push {
                ip[transport + TCP_FLAGS] |= PSH;
            }
            put_u16(ip, transport + TCP_CHECKSUM, pseudo);
        } else {
            put_u16(ip, transport + 4, (length - transport) as u16);
            put_u16(ip, transport + UDP_CHECKSUM, pseudo);
        }
        vnet::LENGTH + header
    }
}

/// A write that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The errno.
    pub code: i32,
    /// What the TUN refused, if it took the same packets one by one.
    pub merged: Option<Merged>,
}

/// What was merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merged {
    /// TCP segments.
    Tcp,
    /// UDP datagrams.
    Udp,
}

fn write_single(buffer: &mut [u8], packet: Part, write: &mut impl Write) -> i32 {
    // The vnet header of zeros goes into the spare bytes: nothing is copied.
    let start = packet.start - vnet::LENGTH;
    buffer[start..packet.start].fill(0);
    write.write(&[], buffer, &[Part { start, length: packet.length + vnet::LENGTH }])
}

impl Flow {
    /// Whether a packet's headers are those of the first one, but for lengths, identification,
    /// checksums and PSH, and it begins where the others ended.
    #[inline]
    fn is_next(&self, first: &[u8], packet: &[u8]) -> bool {
        let t = self.transport;
        let same = |from: usize, to: usize| first[from..to] == packet[from..to];
        let ip = if t == IPV4 {
            same(0, 2)
                && same(6, 10)
                && same(12, t)
                && self.ident.is_none_or(|ident| u16_at(packet, 4) == ident)
        } else {
            same(0, 4) && same(6, t)
        };
        if !ip {
            return false;
        }
        if !self.tcp {
            return same(t, t + 4)
                && u16_at(packet, t + UDP_CHECKSUM) != 0
                && usize::from(u16_at(packet, t + 4)) == packet.len() - t;
        }
        u32_at(packet, t + 4) == self.sequence
            && same(t, t + 4)
            && same(t + 8, t + TCP_FLAGS)
            && packet[t + TCP_FLAGS] & !PSH == ACK
            && same(t + 14, t + TCP_CHECKSUM)
            && same(t + 18, self.header)
    }
}

/// Whether the checksums that merging would write anew were right before.
#[inline]
fn is_valid(packet: &[u8], transport: usize, pseudo: u64) -> bool {
    if transport == IPV4 && !is_whole(sum(&packet[..IPV4])) {
        return false;
    }
    is_whole(pseudo + (packet.len() - transport) as u64 + sum(&packet[transport..]))
}
