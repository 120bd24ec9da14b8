//! Inner packets: the little of IPv4 and IPv6 that a tunnel must understand.

use crate::sum::sum;

/// The least IPv4 header.
pub const IPV4: usize = 20;
/// The fixed IPv6 header.
pub const IPV6: usize = 40;
/// Protocol numbers.
pub const ICMP: u8 = 1;
/// TCP.
pub const TCP: u8 = 6;
/// UDP.
pub const UDP: u8 = 17;
/// ICMP for IPv6.
pub const ICMPV6: u8 = 58;

/// An address of either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// IPv4, as a number.
    V4(u32),
    /// IPv6, as a number.
    V6(u128),
}

/// The big-endian u16 at `at`.
#[inline]
pub fn u16_at(data: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([data[at], data[at + 1]])
}

/// The big-endian u32 at `at`.
#[inline]
pub fn u32_at(data: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([data[at], data[at + 1], data[at + 2], data[at + 3]])
}

/// Write a big-endian u16 at `at`.
#[inline]
pub fn put_u16(data: &mut [u8], at: usize, value: u16) {
    data[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

#[inline]
fn v6_at(data: &[u8], at: usize) -> Address {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&data[at..at + 16]);
    Address::V6(u128::from_be_bytes(bytes))
}

/// The destination of an inner packet, or None if it is neither IPv4 nor IPv6.
#[inline]
pub fn destination(packet: &[u8]) -> Option<Address> {
    if packet.len() < IPV4 {
        return None;
    }
    match packet[0] >> 4 {
        4 => Some(Address::V4(u32_at(packet, 16))),
        6 if packet.len() >= IPV6 => Some(v6_at(packet, 24)),
        _ => None,
    }
}

/// The length that an inner packet claims, padding left out, and its source address.
///
/// None if it is no IPv4 or IPv6 packet, or claims more than is there or less than a header.
#[inline]
pub fn length_and_source(packet: &[u8]) -> Option<(usize, Address)> {
    if packet.len() < IPV4 {
        return None;
    }
    match packet[0] >> 4 {
        4 => {
            let length = usize::from(u16_at(packet, 2));
            (IPV4..=packet.len())
                .contains(&length)
                .then(|| (length, Address::V4(u32_at(packet, 12))))
        }
        6 if packet.len() >= IPV6 => {
            let length = IPV6 + usize::from(u16_at(packet, 4));
            (length <= packet.len()).then(|| (length, v6_at(packet, 8)))
        }
        _ => None,
    }
}

/// The sum of the pseudo header of a transport segment (RFC 9293 3.1, RFC 8200 8.1), without the
/// segment's length. `header` is the length of the IP header before it.
#[inline]
pub fn pseudo_sum(packet: &[u8], protocol: u8, header: usize) -> u64 {
    let addresses = if header < IPV6 { &packet[12..20] } else { &packet[8..40] };
    sum(addresses) + u64::from(protocol)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_taken(data in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = destination(&data);
            if let Some((length, _)) = length_and_source(&data) {
                prop_assert!(length <= data.len());
            }
        }
    }
}
