//! The kernel's structures as bytes: socket addresses and control messages (ip(7), ipv6(7),
//! udp(7), cmsg(3)).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use wgpy_core::route::Route;

const SOL_UDP: i32 = 17;
const UDP_SEGMENT: i32 = 103;
const UDP_GRO: i32 = 104;

const WORD: usize = std::mem::size_of::<usize>();
/// struct cmsghdr: a length of the machine's word, a level and a type.
const CMSG_HEADER: usize = WORD + 8;

/// Room for a socket address of either family.
#[derive(Clone, Copy, Default)]
#[repr(C, align(8))]
pub struct Name(pub [u8; 32]);

/// Room for PKTINFO of either family, the segment size and a time to live.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub struct Control(pub [u8; 96]);

impl Default for Control {
    fn default() -> Self {
        Control([0; 96])
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn v6_at(bytes: &[u8], at: usize) -> Ipv6Addr {
    let mut address = [0; 16];
    address.copy_from_slice(&bytes[at..at + 16]);
    address.into()
}

fn v4_at(bytes: &[u8], at: usize) -> Ipv4Addr {
    [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]].into()
}

/// Write the address of a route; the length of what was written.
pub fn put_name(name: &mut Name, route: &Route) -> usize {
    let bytes = &mut name.0;
    bytes.fill(0);
    bytes[2..4].copy_from_slice(&route.port.to_be_bytes());
    match route.address {
        IpAddr::V4(address) => {
            bytes[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
            bytes[4..8].copy_from_slice(&address.octets());
            16
        }
        IpAddr::V6(address) => {
            bytes[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
            bytes[8..24].copy_from_slice(&address.octets());
            bytes[24..28].copy_from_slice(&route.scope.to_ne_bytes());
            28
        }
    }
}

fn put_message(control: &mut Control, at: usize, level: i32, kind: i32, data: &[u8]) -> usize {
    let bytes = &mut control.0[at..];
    let length = CMSG_HEADER + data.len();
    bytes[..WORD].copy_from_slice(&length.to_ne_bytes());
    bytes[WORD..WORD + 4].copy_from_slice(&level.to_ne_bytes());
    bytes[WORD + 4..CMSG_HEADER].copy_from_slice(&kind.to_ne_bytes());
    bytes[CMSG_HEADER..length].copy_from_slice(data);
    at + length.next_multiple_of(WORD)
}

/// Write the control messages of a send: the sticky source, and the segment size and the time to
/// live if they are not 0. The length of what was written.
pub fn put_control(control: &mut Control, route: &Route, segment: usize, ttl: u8) -> usize {
    let mut at = 0;
    let index = route.ifindex.to_ne_bytes();
    match route.source {
        Some(IpAddr::V4(source)) => {
            // struct in_pktinfo: interface, our address, and one that is unused when sending.
            let mut data = [0; 12];
            data[..4].copy_from_slice(&index);
            data[4..8].copy_from_slice(&source.octets());
            at = put_message(control, at, libc::IPPROTO_IP, libc::IP_PKTINFO, &data);
        }
        Some(IpAddr::V6(source)) => {
            // struct in6_pktinfo: our address, interface.
            let mut data = [0; 20];
            data[..16].copy_from_slice(&source.octets());
            data[16..].copy_from_slice(&index);
            at = put_message(control, at, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &data);
        }
        None => {}
    }
    if segment != 0 {
        let size = (segment as u16).to_ne_bytes();
        at = put_message(control, at, SOL_UDP, UDP_SEGMENT, &size);
    }
    if ttl != 0 {
        let hops = i32::from(ttl).to_ne_bytes();
        let (level, kind) = match route.address {
            IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_TTL),
            IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT),
        };
        at = put_message(control, at, level, kind, &hops);
    }
    at
}

/// Where a datagram came from and which of our addresses it hit, and the length of each datagram
/// if the kernel brings several at once, else 0. None for an address of no family we know.
pub fn read(name: &Name, name_length: usize, control: &[u8]) -> Option<(Route, usize)> {
    let bytes = &name.0;
    let family = i32::from(u16::from_ne_bytes([bytes[0], bytes[1]]));
    let port = u16::from_be_bytes([bytes[2], bytes[3]]);
    let (address, scope) = match family {
        libc::AF_INET if name_length >= 16 => (IpAddr::V4(v4_at(bytes, 4)), 0),
        libc::AF_INET6 if name_length >= 28 => (IpAddr::V6(v6_at(bytes, 8)), u32_at(bytes, 24)),
        _ => return None,
    };
    let mut route = Route { address, port, scope, source: None, ifindex: 0, via: 0, channel: 0 };
    let mut segment = 0;
    let mut rest = control;
    while rest.len() >= CMSG_HEADER {
        let mut word = [0; WORD];
        word.copy_from_slice(&rest[..WORD]);
        let length = usize::from_ne_bytes(word);
        if length < CMSG_HEADER || length > rest.len() {
            break;
        }
        let data = &rest[CMSG_HEADER..length];
        match (u32_at(rest, WORD) as i32, u32_at(rest, WORD + 4) as i32) {
            (SOL_UDP, UDP_GRO) if data.len() >= 4 => segment = u32_at(data, 0) as usize,
            (libc::IPPROTO_IP, libc::IP_PKTINFO) if data.len() >= 12 => {
                route.ifindex = u32_at(data, 0);
                route.source = Some(IpAddr::V4(v4_at(data, 4)));
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) if data.len() >= 20 => {
                route.source = Some(IpAddr::V6(v6_at(data, 0)));
                route.ifindex = u32_at(data, 16);
            }
            _ => {}
        }
        rest = &rest[length.next_multiple_of(WORD).min(rest.len())..];
    }
    Some((route, segment))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(address: &str, source: Option<&str>) -> Route {
        Route {
            address: address.parse().unwrap(),
            port: 51820,
            scope: 0,
            source: source.map(|text| text.parse().unwrap()),
            ifindex: if source.is_some() { 3 } else { 0 },
            via: 0,
            channel: 0,
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for route in [
            route("192.0.2.1", None),
            route("192.0.2.1", Some("192.0.2.2")),
            route("2001:db8::1", None),
            Route { scope: 7, ..route("fe80::1", Some("fe80::2")) },
        ] {
            let (mut name, mut control) = (Name::default(), Control::default());
            let length = put_name(&mut name, &route);
            let used = put_control(&mut control, &route, 0, 9);
            assert_eq!(read(&name, length, &control.0[..used]), Some((route, 0)));
        }
    }

    #[test]
    fn the_segment_size_of_a_train() {
        let mut control = Control::default();
        let used = put_message(&mut control, 0, SOL_UDP, UDP_GRO, &1452i32.to_ne_bytes());
        let mut name = Name::default();
        let length = put_name(&mut name, &route("192.0.2.1", None));
        let (_, segment) = read(&name, length, &control.0[..used]).unwrap();
        assert_eq!(segment, 1452);
        // Cut short anywhere, it is no harm.
        (0..used).for_each(|end| assert!(read(&name, length, &control.0[..end]).is_some()));
    }
}
