//! Datagrams that follow one another: which of them become one packet for the TUN, and that the
//! kernel would split it into the very same ones again.

use wgpy_core::coalesce::{Coalescer, Merge, Part, Write, MAX_UDP_PARTS};
use wgpy_core::packet::{pseudo_sum, put_u16, IPV4, UDP};
use wgpy_core::segment::Segments;
use wgpy_core::sum::{checksum, sum};
use wgpy_core::vnet::{self, Vnet, GSO_NONE, GSO_UDP_L4};

const DONT_FRAGMENT: u8 = 0x40;

/// Splits what is written, as the kernel does.
#[derive(Default)]
struct Kernel {
    /// Packets in each write.
    writes: Vec<usize>,
    packets: Vec<Vec<u8>>,
}

impl Write for Kernel {
    fn write(&mut self, head: &[u8], buffer: &[u8], parts: &[Part]) -> i32 {
        let mut frame = head.to_vec();
        parts.iter().for_each(|part| frame.extend_from_slice(part.of(buffer)));
        let (head, packet) = frame.split_first_chunk::<{ vnet::LENGTH }>().unwrap();
        let vnet = Vnet::read(head);
        if vnet.gso_type == GSO_NONE {
            self.writes.push(1);
            self.packets.push(packet.to_vec());
            return 0;
        }
        assert_eq!(vnet.gso_type, GSO_UDP_L4);
        let before = self.packets.len();
        let mut segments = Segments::new(packet, &vnet, true).unwrap();
        while let Some(length) = segments.next_length() {
            let mut out = vec![0; length];
            segments.write(packet, &mut out);
            self.packets.push(out);
        }
        self.writes.push(self.packets.len() - before);
        0
    }
}

/// A datagram with the IPv4 header's flags and identification.
fn datagram(flags: u8, ident: u16, payload: &[u8]) -> Vec<u8> {
    let length = IPV4 + 8 + payload.len();
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, flags, 0, 64, UDP, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    put_u16(&mut packet, 2, length as u16);
    put_u16(&mut packet, 4, ident);
    let value = checksum(sum(&packet));
    put_u16(&mut packet, 10, value);
    packet.extend_from_slice(&[0x12, 0x34, 0, 53, 0, 0, 0, 0]);
    put_u16(&mut packet, IPV4 + 4, (length - IPV4) as u16);
    packet.extend_from_slice(payload);
    let total = pseudo_sum(&packet, UDP, IPV4) + (length - IPV4) as u64 + sum(&packet[IPV4..]);
    let value = match checksum(total) {
        0 => 0xFFFF,
        value => value,
    };
    put_u16(&mut packet, IPV4 + 6, value);
    packet
}

/// How many packets each write held. What comes out is what went in, byte for byte.
fn writes(packets: &[Vec<u8>]) -> Vec<usize> {
    let (mut buffer, mut parts) = (Vec::new(), Vec::new());
    for packet in packets {
        buffer.extend_from_slice(&[0xAA; 16]);
        parts.push(Part { start: buffer.len(), length: packet.len() });
        buffer.extend_from_slice(packet);
    }
    let mut kernel = Kernel::default();
    let mut coalescer = Coalescer::new(Merge { tcp: true, udp: true });
    for part in parts {
        assert_eq!(coalescer.add(&mut buffer, part, &mut kernel), None);
    }
    assert_eq!(coalescer.flush(&mut buffer, &mut kernel), None);
    assert_eq!(kernel.packets, packets);
    kernel.writes
}

fn counted(flags: u8, from: u16, count: u16, size: usize) -> Vec<Vec<u8>> {
    let payload = |number: u16| vec![number as u8; size];
    (0..count).map(|n| datagram(flags, from.wrapping_add(n), &payload(n))).collect()
}

#[test]
fn datagrams_that_may_be_fragmented_are_merged_while_they_count_up() {
    // Over the end of the 16 bits as well.
    assert_eq!(writes(&counted(0, 65_520, 45, 1392)), [45]);
    assert_eq!(writes(&counted(DONT_FRAGMENT, 7, 45, 1392)), [45]);
}

#[test]
fn an_identification_that_does_not_count_up_begins_anew() {
    let mut packets = counted(0, 0, 3, 100);
    packets.extend(counted(0, 0, 2, 100));
    packets.extend(counted(0, 3, 2, 100));
    assert_eq!(writes(&packets), [3, 2, 2]);
    let equal = vec![datagram(0, 9, b"same"); 4];
    assert_eq!(writes(&equal), [1; 4]);
}

#[test]
fn only_what_may_be_fragmented_alike_is_merged() {
    let packets: Vec<_> =
        (0u8..6).map(|n| datagram(n / 3 * DONT_FRAGMENT, u16::from(n), b"payload")).collect();
    assert_eq!(writes(&packets), [3, 3]);
    let fragments: Vec<_> = (0..3).map(|n| datagram(0x20, n, b"payload")).collect();
    assert_eq!(writes(&fragments), [1; 3]);
}

#[test]
fn no_more_datagrams_are_merged_than_the_kernel_takes() {
    for flags in [0, DONT_FRAGMENT] {
        let packets = counted(flags, 1, 3 * MAX_UDP_PARTS as u16 + 1, 36);
        assert_eq!(writes(&packets), [MAX_UDP_PARTS, MAX_UDP_PARTS, MAX_UDP_PARTS, 1]);
    }
}
