//! What must be known of a frame: whether routers would pass it on, and how far it may still go.

const ETHERNET: usize = 14;
const TYPE_IPV4: [u8; 2] = [0x08, 0x00];
const TYPE_IPV6: [u8; 2] = [0x86, 0xdd];
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
/// ICMPv6, and the first and last type of neighbour discovery (RFC 4861, section 4).
const ICMPV6: u8 = 58;
const NEIGHBOURS: std::ops::RangeInclusive<u8> = 133..=137;

/// Where a frame belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// To the cable itself: ARP, neighbour discovery, multicast. No router would pass it on.
    Local,
    /// A packet of IPv4.
    V4,
    /// A packet of IPv6.
    V6,
}

/// What kind of frame it is.
pub fn kind(frame: &[u8]) -> Kind {
    let Some(packet) = frame.get(ETHERNET..) else {
        return Kind::Local;
    };
    match [frame[12], frame[13]] {
        TYPE_IPV4 if packet.len() >= IPV4_HEADER => {
            // Multicast and broadcast have 224 and more.
            if packet[16] >= 224 {
                Kind::Local
            } else {
                Kind::V4
            }
        }
        TYPE_IPV6 if packet.len() >= IPV6_HEADER => {
            let (source, target) = (&packet[8..24], &packet[24..40]);
            let neighbours =
                packet[6] == ICMPV6 && packet.get(40).is_some_and(|kind| NEIGHBOURS.contains(kind));
            if target[0] == 0xff || link_local(source) || link_local(target) || neighbours {
                Kind::Local
            } else {
                Kind::V6
            }
        }
        _ => Kind::Local,
    }
}

/// Whether an IPv6 address is of fe80::/10.
fn link_local(address: &[u8]) -> bool {
    address[0] == 0xfe && address[1] & 0xc0 == 0x80
}

/// Whether its packet is longer than so many bytes; 0 is no limit.
pub fn is_longer(frame: &[u8], mtu: usize) -> bool {
    mtu > 0 && frame.len() > ETHERNET + mtu
}

/// Let it pass so many routers; false if it would not come through.
pub fn pass_routers(frame: &mut [u8], kind: Kind, hops: u8) -> bool {
    let at = match kind {
        Kind::Local => return true,
        Kind::V4 => ETHERNET + 8,
        Kind::V6 => ETHERNET + 7,
    };
    if frame[at] <= hops {
        return false;
    }
    frame[at] -= hops;
    if kind == Kind::V4 {
        // RFC 1624, equation 3: HC' = ~(~HC + ~m + m'). The TTL is the high byte of its word, so
        // ~m + m' is the complement of what it lost.
        let place = ETHERNET + 10;
        let old = u16::from_be_bytes([frame[place], frame[place + 1]]);
        let sum = u32::from(!old) + u32::from(!(u16::from(hops) << 8));
        let folded = (sum & 0xffff) + (sum >> 16);
        let new = !(folded as u16);
        frame[place..place + 2].copy_from_slice(&new.to_be_bytes());
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checksum(header: &[u8]) -> u16 {
        let mut sum: u32 = header
            .chunks_exact(2)
            .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
            .sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    fn v4(ttl: u8, target: [u8; 4], salt: u16) -> Vec<u8> {
        let mut frame = vec![0u8; 12];
        frame.extend(TYPE_IPV4);
        let mut header = vec![0x45, 0, 0, 20, 0, 0, 0, 0, ttl, 17, 0, 0, 192, 0, 2, 1];
        header.extend(target);
        header[4..6].copy_from_slice(&salt.to_be_bytes());
        let sum = checksum(&header).to_be_bytes();
        header[10..12].copy_from_slice(&sum);
        frame.extend(header);
        frame
    }

    fn v6(source: [u8; 2], target: [u8; 2], next: u8, first: u8) -> Vec<u8> {
        let mut frame = vec![0u8; 12];
        frame.extend(TYPE_IPV6);
        let mut packet = vec![0u8; IPV6_HEADER];
        packet[0] = 0x60;
        packet[6] = next;
        packet[7] = 64;
        packet[8..10].copy_from_slice(&source);
        packet[24..26].copy_from_slice(&target);
        packet.push(first);
        frame.extend(packet);
        frame
    }

    const GLOBAL: [u8; 2] = [0x20, 0x01];

    #[test]
    fn packets_are_told_from_what_stays_on_the_cable() {
        assert_eq!(kind(&v4(64, [198, 51, 100, 1], 0)), Kind::V4);
        assert_eq!(kind(&v4(64, [224, 0, 0, 251], 0)), Kind::Local);
        assert_eq!(kind(&v4(64, [255; 4], 0)), Kind::Local);
        assert_eq!(kind(&v6(GLOBAL, GLOBAL, 17, 0)), Kind::V6);
        assert_eq!(kind(&v6(GLOBAL, GLOBAL, ICMPV6, 128)), Kind::V6);
        assert_eq!(kind(&v6(GLOBAL, GLOBAL, ICMPV6, 135)), Kind::Local);
        assert_eq!(kind(&v6(GLOBAL, [0xff, 0x02], 17, 0)), Kind::Local);
        assert_eq!(kind(&v6([0xfe, 0x80], GLOBAL, 17, 0)), Kind::Local);
        assert_eq!(kind(&v6(GLOBAL, [0xfe, 0x80], 17, 0)), Kind::Local);
        let mut arp = vec![0u8; 42];
        arp[12..14].copy_from_slice(&[0x08, 0x06]);
        assert_eq!(kind(&arp), Kind::Local);
        for length in 0..14 + IPV4_HEADER {
            let short = &v4(64, [198, 51, 100, 1], 0)[..length];
            assert_eq!(kind(short), Kind::Local);
        }
        for length in 0..14 + IPV6_HEADER {
            assert_eq!(kind(&v6(GLOBAL, GLOBAL, 17, 0)[..length]), Kind::Local);
        }
    }

    #[test]
    fn routers_make_a_ttl_smaller_and_keep_the_checksum_right() {
        for salt in 0..=u16::MAX {
            let mut frame = v4(64, [198, 51, 100, 1], salt);
            assert!(pass_routers(&mut frame, Kind::V4, 3));
            assert_eq!(frame[22], 61);
            assert_eq!(checksum(&frame[14..34]), 0, "salt {salt}");
        }
        let mut frame = v6(GLOBAL, GLOBAL, 17, 0);
        assert!(pass_routers(&mut frame, Kind::V6, 60));
        assert_eq!(frame[21], 4);
    }

    #[test]
    fn a_packet_is_as_long_as_its_frame_without_the_header() {
        let frame = [0u8; ETHERNET + 100];
        assert!(!is_longer(&frame, 100));
        assert!(is_longer(&frame, 99));
        assert!(!is_longer(&frame, 0));
    }

    #[test]
    fn what_may_not_go_so_far_ends() {
        let mut frame = v4(3, [198, 51, 100, 1], 0);
        assert!(!pass_routers(&mut frame, Kind::V4, 3));
        assert!(pass_routers(&mut frame, Kind::V4, 2));
        assert_eq!(frame[22], 1);
        let mut local = v4(1, [224, 0, 0, 1], 0);
        assert!(pass_routers(&mut local, Kind::Local, 9));
    }
}
