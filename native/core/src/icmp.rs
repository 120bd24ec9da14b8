//! ICMP errors for packets that no peer can take, as the kernel's WireGuard answers them.
//!
//! The kernel answers from an address of the interface, which the data path does not know. Ours
//! come from the address that cannot be reached: the routing table points it at the tunnel, so
//! that reverse path filters let it pass.

use crate::packet::{pseudo_sum, put_u16, ICMP, ICMPV6, IPV4, IPV6};
use crate::sum::{checksum, sum};
use crate::vnet;

// RFC 1812 4.3.2.3 and RFC 4443 2.4(c): as much of the packet as fits the least MTU.
const LONGEST4: usize = 576;
const LONGEST6: usize = 1280;
const HOP_LIMIT: u8 = 64;
const ICMP_HEADER: usize = 8;
const ICMPV6_REDIRECT: u8 = 137;
/// Hop-by-hop, routing, fragment and destination options (RFC 8200 4.1): each says what follows.
const EXTENSIONS: [u8; 4] = [0, 43, FRAGMENT, 60];
const FRAGMENT: u8 = 44;
/// Each kind comes once, destination options twice; what has more is of no honest sender.
const MOST_EXTENSIONS: usize = 6;

/// Room for the longest answer after a vnet header.
pub type Answer = [u8; vnet::LENGTH + LONGEST6];

/// Write the ICMP error that answers `packet` behind a vnet header of zeros, and return the
/// length of both, or None where none may be sent (RFC 1122 3.2.2).
pub fn unreachable(packet: &[u8], answer: &mut Answer) -> Option<usize> {
    answer.fill(0);
    let out = &mut answer[vnet::LENGTH..];
    let length = match packet.first()? >> 4 {
        4 if packet.len() >= IPV4 => unreachable4(packet, out)?,
        6 if packet.len() >= IPV6 => unreachable6(packet, out)?,
        _ => return None,
    };
    Some(vnet::LENGTH + length)
}

fn unreachable4(packet: &[u8], out: &mut [u8]) -> Option<usize> {
    let (source, target) = (&packet[12..16], &packet[16..20]);
    let header = usize::from(packet[0] & 15) * 4;
    let later_fragment = packet[6] & 0x1F != 0 || packet[7] != 0;
    // Multicast, broadcast and reserved addresses start at 224; a source of zeros hears nothing.
    if later_fragment || target[0] >= 224 || source[0] >= 224 || source == [0; 4] {
        return None;
    }
    if packet[9] == ICMP
        && packet.get(header).is_some_and(|kind| matches!(kind, 3 | 4 | 5 | 11 | 12))
    {
        return None;
    }
    let quote = &packet[..packet.len().min(LONGEST4 - IPV4 - ICMP_HEADER)];
    let length = IPV4 + ICMP_HEADER + quote.len();
    out[0] = 0x45;
    out[1] = 0xC0;
    put_u16(out, 2, length as u16);
    out[8] = HOP_LIMIT;
    out[9] = ICMP;
    out[12..16].copy_from_slice(target);
    out[16..20].copy_from_slice(source);
    let head = checksum(sum(&out[..IPV4]));
    put_u16(out, 10, head);
    // Type 3 code 1, host unreachable (RFC 792).
    out[IPV4] = 3;
    out[IPV4 + 1] = 1;
    out[IPV4 + ICMP_HEADER..length].copy_from_slice(quote);
    let body = checksum(sum(&out[IPV4..length]));
    put_u16(out, IPV4 + 2, body);
    Some(length)
}

fn unreachable6(packet: &[u8], out: &mut [u8]) -> Option<usize> {
    let (source, target) = (&packet[8..24], &packet[24..40]);
    if target[0] == 0xFF || source[0] == 0xFF || source == [0; 16] {
        return None;
    }
    if !may_answer6(packet) {
        return None;
    }
    let quote = &packet[..packet.len().min(LONGEST6 - IPV6 - ICMP_HEADER)];
    let body = ICMP_HEADER + quote.len();
    out[0] = 0x60;
    put_u16(out, 4, body as u16);
    out[6] = ICMPV6;
    out[7] = HOP_LIMIT;
    out[8..24].copy_from_slice(target);
    out[24..40].copy_from_slice(source);
    // Type 1 code 3, address unreachable (RFC 4443 3.1).
    out[IPV6] = 1;
    out[IPV6 + 1] = 3;
    out[IPV6 + ICMP_HEADER..IPV6 + body].copy_from_slice(quote);
    let total = pseudo_sum(out, ICMPV6, IPV6) + body as u64 + sum(&out[IPV6..IPV6 + body]);
    put_u16(out, IPV6 + 2, checksum(total));
    Some(IPV6 + body)
}

/// Whether it is surely no error, redirect or later fragment (RFC 4443 2.4(e)).
fn may_answer6(packet: &[u8]) -> bool {
    let (mut kind, mut at) = (packet[6], IPV6);
    for _ in 0..MOST_EXTENSIONS {
        if !EXTENSIONS.contains(&kind) {
            // Types below 128 are errors (RFC 4443 2.1).
            return kind != ICMPV6
                || packet.get(at).is_some_and(|&kind| kind >= 128 && kind != ICMPV6_REDIRECT);
        }
        if at + 8 > packet.len() {
            return false;
        }
        if kind == FRAGMENT && (packet[at + 2] != 0 || packet[at + 3] & 0xF8 != 0) {
            return false;
        }
        let length = if kind == FRAGMENT { 8 } else { usize::from(packet[at + 1]) * 8 + 8 };
        kind = packet[at];
        at += length;
    }
    false
}
