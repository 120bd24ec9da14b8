//! The batches: trains out, datagrams in, packets to the TUN, and what to do when a call fails.

use std::io::IoSlice;
use std::os::fd::RawFd;

use wgpy_core::coalesce::{Part, MAX_PARTS};
use wgpy_core::engine::{Arena, Manner, Outcome, Shell, Train, SLOTS};
use wgpy_core::route::Route;
use wgpy_core::vnet;

use crate::messages::{Outgoing, Received, Receiver, Sender, MAX_SEND};
use crate::sockets::{Kind, Sockets};
use crate::sys::{self, Errno};

/// A UDP_SEGMENT send that fails so is tried again datagram by datagram, and goes through: no
/// checksum offload on the way out (EIO), too many segments or an old kernel (EINVAL), a segment
/// that does not fit the path's MTU (EMSGSIZE).
const SEGMENT_ERRORS: [Errno; 3] = [libc::EIO, libc::EINVAL, libc::EMSGSIZE];
/// What a stale source address gives: it left the machine, or the route to it did.
const SOURCE_ERRORS: [Errno; 4] =
    [libc::EINVAL, libc::ENETUNREACH, libc::EADDRNOTAVAIL, libc::ENODEV];
/// A full socket buffer is waited for so long: the TUN then holds its packets back, and TCP slows
/// down instead of losing them. At 100 Mb/s this is 60 KB.
const WRITABLE_MILLISECONDS: i32 = 5;
/// And so often in one batch, for the lock is held meanwhile; what is left then is dropped.
const WAITS: u32 = 4;

/// The descriptors, and the arrays of the batches.
pub struct Io {
    /// The TUN; its owner closes it.
    pub tun: RawFd,
    /// Whether its packets carry a vnet header.
    pub vnet_header: bool,
    /// The sockets.
    pub sockets: Sockets,
    /// Whether UDP_SEGMENT may be used at all.
    pub segment: bool,
    waits: u32,
    receiver: Receiver,
    sender: Sender,
    /// What the last receive brought.
    pub received: [Option<Received>; SLOTS],
}

impl Io {
    /// Descriptors to serve.
    pub fn new(tun: RawFd, vnet_header: bool, segment: bool) -> Self {
        Io {
            tun,
            vnet_header,
            sockets: Sockets::default(),
            segment,
            waits: 0,
            receiver: Receiver::default(),
            sender: Sender::default(),
            received: [None; SLOTS],
        }
    }

    /// Receive a batch from a socket.
    pub fn receive(&mut self, fd: RawFd, buffer: &mut [u8]) -> Result<usize, Errno> {
        self.receiver.receive(fd, buffer, &mut self.received)
    }

    /// Send one message, waiting a little for a full socket.
    fn send_one(&mut self, fd: RawFd, message: Outgoing<'_>) -> Errno {
        loop {
            match self.sender.send(fd, std::iter::once(message)) {
                Ok(_) => return 0,
                Err(libc::EINTR) => {}
                Err(libc::EAGAIN) if self.waits > 0 => {
                    self.waits -= 1;
                    sys::wait_writable(fd, WRITABLE_MILLISECONDS);
                }
                Err(error) => return error,
            }
        }
    }

    /// Send a datagram; a stale source address is left out.
    fn send_datagram(&mut self, data: &[u8], route: &Route, ttl: u8) -> Outcome {
        let Some((fd, kind)) = self.sockets.of(route) else {
            return Outcome { error: libc::EAFNOSUPPORT, ..Outcome::default() };
        };
        if kind == Kind::Carrier {
            let message = Outgoing { route: None, ..Outgoing::plain(data, route) };
            // It is not waited for: who empties it has other things to do as well.
            let error = self.sender.send(fd, std::iter::once(message)).err().unwrap_or(0);
            return Outcome { error, ..Outcome::default() };
        }
        let message = Outgoing { ttl, ..Outgoing::plain(data, route) };
        let error = self.send_one(fd, message);
        if route.source.is_some() && SOURCE_ERRORS.contains(&error) {
            let route = Some(&route.without_source());
            let error = self.send_one(fd, Outgoing { route, ..message });
            return Outcome { error, stale_source: true, ..Outcome::default() };
        }
        Outcome { error, ..Outcome::default() }
    }

    /// Send a train datagram by datagram.
    fn send_apart(&mut self, bytes: &[u8], train: &Train) -> Outcome {
        let mut route = train.route;
        let mut outcome = Outcome::default();
        let Some((fd, _)) = self.sockets.of(&route) else {
            return Outcome { error: libc::EAFNOSUPPORT, ..outcome };
        };
        let mut rest = &bytes[train.start..train.end];
        while !rest.is_empty() {
            let messages = rest.chunks(train.segment).map(|data| Outgoing::plain(data, &route));
            let taken = match self.sender.send(fd, messages) {
                Ok(count) => count,
                // The first of them by itself, with all that can be done for it.
                Err(_) => {
                    let first = &rest[..train.segment.min(rest.len())];
                    let one = self.send_datagram(first, &route, 0);
                    if one.stale_source {
                        route = route.without_source();
                        outcome.stale_source = true;
                    }
                    outcome.error = if one.error == 0 { outcome.error } else { one.error };
                    1
                }
            };
            rest = &rest[(taken * train.segment).min(rest.len())..];
        }
        outcome
    }

    /// What can be done for a train that the kernel refused with `error`.
    fn recover(&mut self, bytes: &[u8], train: &Train, fd: RawFd, error: Errno) -> Outcome {
        let data = &bytes[train.start..train.end];
        let segment = if train.count > 1 { train.segment } else { 0 };
        let mut error = error;
        let mut outcome = Outcome::default();
        let mut train = *train;
        if error == libc::EAGAIN {
            error = self.send_one(fd, Outgoing { segment, ..Outgoing::plain(data, &train.route) });
        }
        if train.route.source.is_some() && SOURCE_ERRORS.contains(&error) {
            let route = train.route.without_source();
            let second = self.send_one(fd, Outgoing { segment, ..Outgoing::plain(data, &route) });
            // Where it fails in the same way the source was not to blame.
            if segment == 0 || second == 0 {
                return Outcome { error: second, stale_source: true, ..outcome };
            }
            if second != error {
                train.route = route;
                outcome.stale_source = true;
                error = second;
            }
        }
        if segment != 0 && SEGMENT_ERRORS.contains(&error) {
            let apart = self.send_apart(bytes, &train);
            outcome.segment_error = error;
            outcome.stale_source |= apart.stale_source;
            error = apart.error;
        }
        Outcome { error, ..outcome }
    }
}

impl Shell for Io {
    fn transmit(&mut self, tun: &[u8], out: &[u8], trains: &mut [Train]) {
        let bytes = |train: &Train| match train.arena {
            Arena::Tun => tun,
            Arena::Out => out,
        };
        self.waits = WAITS;
        let mut at = 0;
        while at < trains.len() {
            let first = trains[at];
            let Some((fd, kind)) = self.sockets.of(&first.route) else {
                trains[at].outcome.error = libc::EAFNOSUPPORT;
                at += 1;
                continue;
            };
            let apart = |train: &Train| train.count > 1 && (train.single || !self.segment);
            if apart(&first) {
                trains[at].outcome = self.send_apart(bytes(&first), &first);
                at += 1;
                continue;
            }
            let socket = |route: &Route| (route.via, route.address.is_ipv6());
            let same = socket(&first.route);
            let batch = trains[at..]
                .iter()
                .take(MAX_SEND)
                .take_while(|train| !apart(train) && socket(&train.route) == same)
                .count();
            let messages = trains[at..at + batch].iter().map(|train| Outgoing {
                data: &bytes(train)[train.start..train.end],
                route: (kind != Kind::Carrier).then_some(&train.route),
                segment: if train.count > 1 { train.segment } else { 0 },
                ttl: 0,
            });
            match self.sender.send(fd, messages) {
                Ok(sent) => at += sent,
                Err(libc::EINTR) => {}
                Err(error) if kind == Kind::Carrier => {
                    // A carrier that is full now has no room for the others either, and is not
                    // waited for: who empties it has other things to do as well.
                    let refused = if error == libc::EAGAIN { batch } else { 1 };
                    for train in &mut trains[at..at + refused] {
                        train.outcome.error = error;
                    }
                    at += refused;
                }
                Err(error) => {
                    trains[at].outcome = self.recover(bytes(&first), &first, fd, error);
                    at += 1;
                }
            }
        }
    }

    fn transmit_control(&mut self, data: &[u8], route: &Route, how: Manner) -> Outcome {
        self.waits = WAITS;
        let (fd, v6) = match self.sockets.of(route) {
            Some((fd, kind)) if how.whole && kind != Kind::Carrier => (fd, kind == Kind::V6),
            _ => return self.send_datagram(data, route, how.ttl),
        };
        // Nobody else sends meanwhile: the caller holds the lock.
        match sys::forbid_fragments(fd, v6) {
            Err(error) => Outcome { error, ..Outcome::default() },
            Ok(usual) => {
                let outcome = self.send_datagram(data, route, how.ttl);
                sys::restore_fragments(fd, v6, usual);
                outcome
            }
        }
    }

    fn deliver(&mut self, head: &[u8], buffer: &[u8], parts: &[Part]) -> Errno {
        let skip = if self.vnet_header { 0 } else { vnet::LENGTH };
        // Most packets are a single piece, for which no long array need be made.
        if let ([only], true) = (parts, head.is_empty()) {
            let piece = IoSlice::new(&only.of(buffer)[skip..]);
            return sys::writev(self.tun, &[piece]).err().unwrap_or(0);
        }
        let mut pieces = [IoSlice::new(&[]); MAX_PARTS + 1];
        pieces[0] = IoSlice::new(&head[skip.min(head.len())..]);
        for (piece, part) in pieces[1..].iter_mut().zip(parts) {
            *piece = IoSlice::new(part.of(buffer));
        }
        sys::writev(self.tun, &pieces[..=parts.len()]).err().unwrap_or(0)
    }
}
