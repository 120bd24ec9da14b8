//! The sockets: the pair, and those that were added. Each descriptor has a bit that says that it is
//! ready.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use wgpy_core::route::{Route, Via};
use wgpy_core::ways::{MAX_RELAYS, MAX_SOCKETS};

use crate::sys::{self, Errno};

/// Which descriptors are ready, a bit for each.
pub type Ready = u128;

/// The place of a bit: the pair's two sockets,
pub const V4: u32 = 0;
/// IPv6;
pub const V6: u32 = 1;
/// the TUN,
pub const TUN: u32 = 2;
/// the worker's alarm clock,
pub const WAKE: u32 = 3;
/// and from here on what was added.
const FIRST: u32 = 4;

const _: () = assert!(FIRST as usize + MAX_SOCKETS + MAX_RELAYS <= Ready::BITS as usize);

/// The bit of a place.
pub fn bit(place: u32) -> Ready {
    1 << place
}

/// The places of the bits.
pub fn places(mut ready: Ready) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let place = (ready != 0).then(|| ready.trailing_zeros())?;
        ready &= ready - 1;
        Some(place)
    })
}

/// What a socket speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// UDP over IPv4.
    V4,
    /// UDP over IPv6.
    V6,
    /// A relay's messages, to whoever has the other end.
    Carrier,
}

impl Kind {
    fn of(route: &Route) -> Self {
        if route.address.is_ipv6() {
            Kind::V6
        } else {
            Kind::V4
        }
    }
}

/// A socket that was added.
struct Other {
    via: Via,
    fd: OwnedFd,
    kind: Kind,
}

/// The sockets, owned: closed when they go.
#[derive(Default)]
pub struct Sockets {
    /// The pair.
    pub v4: Option<OwnedFd>,
    /// The pair.
    pub v6: Option<OwnedFd>,
    others: Vec<Option<Other>>,
}

impl Sockets {
    /// The socket that a route goes by, if there is one of its family.
    pub fn of(&self, route: &Route) -> Option<(RawFd, Kind)> {
        let wanted = Kind::of(route);
        if route.via == 0 {
            let socket = if wanted == Kind::V6 { &self.v6 } else { &self.v4 };
            return socket.as_ref().map(|fd| (fd.as_raw_fd(), wanted));
        }
        let other = self.others.iter().flatten().find(|other| other.via == route.via)?;
        let fits = [wanted, Kind::Carrier].contains(&other.kind);
        fits.then(|| (other.fd.as_raw_fd(), other.kind))
    }

    /// What has the bit at a place, and which way it is.
    pub fn at(&self, place: u32) -> Option<(RawFd, Via, Kind)> {
        match place {
            V4 => self.v4.as_ref().map(|fd| (fd.as_raw_fd(), 0, Kind::V4)),
            V6 => self.v6.as_ref().map(|fd| (fd.as_raw_fd(), 0, Kind::V6)),
            _ => {
                let other = self.others.get(place.checked_sub(FIRST)? as usize)?.as_ref()?;
                Some((other.fd.as_raw_fd(), other.via, other.kind))
            }
        }
    }

    /// Add one; the place of its bit.
    pub fn add(&mut self, via: Via, fd: OwnedFd, kind: Kind) -> u32 {
        let free = self.others.iter().position(Option::is_none);
        let at = free.unwrap_or(self.others.len());
        if at == self.others.len() {
            self.others.push(None);
        }
        self.others[at] = Some(Other { via, fd, kind });
        FIRST + at as u32
    }

    /// Give one back, to be closed.
    pub fn take(&mut self, via: Via) -> Option<OwnedFd> {
        let is_it = |place: &&mut Option<Other>| place.as_ref().is_some_and(|o| o.via == via);
        self.others.iter_mut().find(is_it)?.take().map(|other| other.fd)
    }

    /// Every socket, and the place of its bit.
    pub fn all(&self) -> impl Iterator<Item = (RawFd, u32)> + '_ {
        let places = [V4, V6].into_iter().chain(FIRST..FIRST + self.others.len() as u32);
        places.filter_map(|place| self.at(place).map(|(fd, ..)| (fd, place)))
    }

    /// Close them all.
    pub fn clear(&mut self) {
        *self = Sockets::default();
    }
}

/// What a descriptor's socket speaks; an error for one that is of no use here.
pub fn kind_of(fd: RawFd) -> Result<Kind, Errno> {
    match (sys::socket_domain(fd)?, sys::socket_type(fd)?) {
        (libc::AF_INET, libc::SOCK_DGRAM) => Ok(Kind::V4),
        (libc::AF_INET6, libc::SOCK_DGRAM) => Ok(Kind::V6),
        (libc::AF_UNIX, libc::SOCK_DGRAM) => Ok(Kind::Carrier),
        _ => Err(libc::EPROTOTYPE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_has_its_place() {
        for place in [V4, V6, TUN, WAKE, FIRST, FIRST + 63] {
            assert_eq!(places(bit(place)).collect::<Vec<_>>(), [place]);
        }
        assert_eq!(places(bit(V6) | bit(TUN) | bit(70)).collect::<Vec<_>>(), [V6, TUN, 70]);
        assert_eq!(places(0).count(), 0);
    }

    #[test]
    fn a_place_is_used_again() {
        let mut sockets = Sockets::default();
        let open = || {
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            OwnedFd::from(socket)
        };
        for via in 1..=3 {
            sockets.add(via, open(), Kind::V4);
        }
        assert!(sockets.take(2).is_some() && sockets.take(2).is_none());
        sockets.add(4, open(), Kind::V4);
        let ways: Vec<_> =
            sockets.all().map(|(_, place)| sockets.at(place).map(|(_, via, _)| via)).collect();
        assert_eq!(ways, [Some(1), Some(4), Some(3)]);
        assert_eq!(sockets.at(TUN), None);
        let fd = open();
        assert_eq!(kind_of(fd.as_raw_fd()), Ok(Kind::V4));
    }
}
