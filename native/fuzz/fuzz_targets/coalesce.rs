//! Any packets in a row: what is written is those packets, whole or split again where merged.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wgpy_core::coalesce::{Coalescer, Merge, Part, Write};
use wgpy_core::packet::{length_and_source, pseudo_sum, put_u16, IPV4, IPV6, TCP, UDP};
use wgpy_core::segment::Segments;
use wgpy_core::sum::{checksum, sum};
use wgpy_core::vnet::{self, Vnet, GSO_NONE};

#[derive(Default)]
struct Kernel {
    packets: Vec<Vec<u8>>,
}

impl Write for Kernel {
    fn write(&mut self, head: &[u8], buffer: &[u8], parts: &[Part]) -> i32 {
        let mut frame = head.to_vec();
        parts.iter().for_each(|part| frame.extend_from_slice(part.of(buffer)));
        let (head, packet) = frame.split_first_chunk::<{ vnet::LENGTH }>().expect("a vnet header");
        let vnet = Vnet::read(head);
        if vnet.gso_type == GSO_NONE {
            self.packets.push(packet.to_vec());
            return 0;
        }
        let mut segments = Segments::new(packet, &vnet, true).expect("what the kernel would take");
        while let Some(length) = segments.next_length() {
            let mut out = vec![0; length];
            segments.write(packet, &mut out);
            self.packets.push(out);
        }
        0
    }
}

/// Identifications mean nothing where fragments are forbidden, and the checksum follows them.
fn bare(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if packet[0] >> 4 == 4 && packet[6] & 0x40 != 0 {
        packet[4..6].fill(0);
        packet[10..12].fill(0);
    }
    packet
}

/// Put the checksums right, which chance never does, so that there is something to merge.
fn mend(packet: &mut [u8]) {
    let (at, protocol) = match packet[0] {
        0x45 => (IPV4, packet[9]),
        first if first >> 4 == 6 => (IPV6, packet[6]),
        _ => return,
    };
    let field = match protocol {
        TCP => at + 16,
        UDP => at + 6,
        _ => return,
    };
    if field + 2 > packet.len() {
        return;
    }
    if at == IPV4 {
        put_u16(packet, 10, 0);
        let value = checksum(sum(&packet[..IPV4]));
        put_u16(packet, 10, value);
    }
    put_u16(packet, field, 0);
    let length = (packet.len() - at) as u64;
    let total = pseudo_sum(packet, protocol, at) + length + sum(&packet[at..]);
    let value = checksum(total);
    put_u16(packet, field, if value == 0 { 0xFFFF } else { value });
}

fuzz_target!(|data: &[u8]| {
    let mut buffer = Vec::new();
    let mut parts = Vec::new();
    let mut rest = data;
    while let Some((&size, after)) = rest.split_first() {
        let size = usize::from(size).min(after.len());
        let (packet, after) = after.split_at(size);
        rest = after;
        // Only what the engine lets through comes here.
        let Some((length, _)) = length_and_source(packet) else { continue };
        buffer.extend_from_slice(&[0xAA; 16]);
        parts.push(Part { start: buffer.len(), length });
        buffer.extend_from_slice(packet);
        let end = parts.last().map_or(0, |part: &Part| part.start + part.length);
        let start = buffer.len() - packet.len();
        if packet.len() % 4 != 3 {
            mend(&mut buffer[start..end]);
        }
    }
    let wanted: Vec<_> = parts.iter().map(|part| bare(part.of(&buffer))).collect();
    let mut kernel = Kernel::default();
    let mut coalescer = Coalescer::new(Merge { tcp: true, udp: true });
    for part in parts {
        assert!(coalescer.add(&mut buffer, part, &mut kernel).is_none());
    }
    assert!(coalescer.flush(&mut buffer, &mut kernel).is_none());
    let got: Vec<_> = kernel.packets.iter().map(|packet| bare(packet)).collect();
    assert_eq!(got, wanted);
});
