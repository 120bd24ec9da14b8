//! recvmmsg(2) and sendmmsg(2) over arrays that are made once.
//!
//! The kernel's structures hold pointers to names, control messages and buffers. They are written
//! immediately before each call and read by no one after it.
#![allow(unsafe_code)]

use std::os::fd::RawFd;

use wgpy_core::engine::{SLOT, SLOTS};
use wgpy_core::route::Route;

use crate::sys::{errno, Errno};
use crate::wire::{put_control, put_name, read, Control, Name};

/// Messages in one sendmmsg.
pub const MAX_SEND: usize = 64;

/// What one place of a receive brought.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    /// Its length; of all datagrams, if there are several.
    pub length: usize,
    /// The length of each but the last, or 0 for a single one.
    pub segment: usize,
    /// Where it came from, None if that cannot be told.
    pub route: Option<Route>,
    /// It was longer than the place.
    pub truncated: bool,
}

fn empty() -> libc::mmsghdr {
    // SAFETY: null pointers and zero lengths are a valid value of it.
    unsafe { std::mem::zeroed() }
}

/// The arrays of a receive.
#[derive(Default)]
pub struct Receiver {
    names: Box<[Name; SLOTS]>,
    controls: Box<[Control; SLOTS]>,
}

impl Receiver {
    /// Receive into the places of `buffer`, SLOT bytes each; how many were filled.
    pub fn receive(
        &mut self,
        fd: RawFd,
        buffer: &mut [u8],
        received: &mut [Option<Received>; SLOTS],
    ) -> Result<usize, Errno> {
        let mut pieces = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; SLOTS];
        let mut headers = [empty(); SLOTS];
        let places = buffer.chunks_exact_mut(SLOT);
        for (number, (place, header)) in places.zip(&mut headers).enumerate() {
            pieces[number] =
                libc::iovec { iov_base: place.as_mut_ptr().cast(), iov_len: place.len() };
            let message = &mut header.msg_hdr;
            message.msg_name = self.names[number].0.as_mut_ptr().cast();
            message.msg_namelen = self.names[number].0.len() as libc::socklen_t;
            message.msg_control = self.controls[number].0.as_mut_ptr().cast();
            message.msg_controllen = self.controls[number].0.len() as _;
            message.msg_iov = &raw mut pieces[number];
            message.msg_iovlen = 1;
        }
        let count = buffer.len() / SLOT;
        // SAFETY: each of the `count` headers points to a name, a control buffer and one piece,
        // all writable, disjoint, and alive until the call returns.
        let result = unsafe {
            libc::recvmmsg(
                fd,
                headers.as_mut_ptr(),
                count.min(SLOTS) as u32,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        let count = usize::try_from(result).map_err(|_| errno())?;
        for (number, header) in headers.iter().enumerate().take(count) {
            let message = &header.msg_hdr;
            let control = &self.controls[number].0[..message.msg_controllen.min(96)];
            let told = read(&self.names[number], message.msg_namelen as usize, control);
            received[number] = Some(Received {
                length: header.msg_len as usize,
                segment: told.map_or(0, |(_, segment)| segment),
                route: told.map(|(route, _)| route),
                truncated: message.msg_flags & libc::MSG_TRUNC != 0,
            });
        }
        Ok(count)
    }
}

/// One message to send: bytes, where to unless its socket is connected, and the length of each
/// datagram in it, 0 for one alone.
#[derive(Clone, Copy)]
pub struct Outgoing<'a> {
    /// The bytes.
    pub data: &'a [u8],
    /// Where to, and from where.
    pub route: Option<&'a Route>,
    /// UDP_SEGMENT, or 0.
    pub segment: usize,
    /// The time to live or hop limit, 0 for the usual one.
    pub ttl: u8,
}

impl<'a> Outgoing<'a> {
    /// One datagram, with nothing special about it.
    pub fn plain(data: &'a [u8], route: &'a Route) -> Self {
        Outgoing { data, route: Some(route), segment: 0, ttl: 0 }
    }
}

/// The arrays of a send.
pub struct Sender {
    names: Box<[Name; MAX_SEND]>,
    controls: Box<[Control; MAX_SEND]>,
}

impl Default for Sender {
    fn default() -> Self {
        Sender {
            names: Box::new([Name::default(); MAX_SEND]),
            controls: Box::new([Control::default(); MAX_SEND]),
        }
    }
}

impl Sender {
    /// Send at most MAX_SEND messages; how many the kernel took, one at least, or why it did not
    /// take the first.
    pub fn send<'a>(
        &mut self,
        fd: RawFd,
        messages: impl Iterator<Item = Outgoing<'a>>,
    ) -> Result<usize, Errno> {
        let mut pieces = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; MAX_SEND];
        let mut headers = [empty(); MAX_SEND];
        let mut count = 0;
        for (number, outgoing) in messages.take(MAX_SEND).enumerate() {
            let Outgoing { segment, ttl, .. } = outgoing;
            let message = &mut headers[number].msg_hdr;
            if let Some(route) = outgoing.route {
                let name = put_name(&mut self.names[number], route);
                message.msg_name = self.names[number].0.as_mut_ptr().cast();
                message.msg_namelen = name as libc::socklen_t;
                let control = put_control(&mut self.controls[number], route, segment, ttl);
                if control > 0 {
                    message.msg_control = self.controls[number].0.as_mut_ptr().cast();
                    message.msg_controllen = control as _;
                }
            }
            pieces[number] = libc::iovec {
                iov_base: outgoing.data.as_ptr().cast_mut().cast(),
                iov_len: outgoing.data.len(),
            };
            message.msg_iov = &raw mut pieces[number];
            message.msg_iovlen = 1;
            count = number + 1;
        }
        // SAFETY: each of the `count` headers points to a name, a control buffer and one piece,
        // readable and alive until the call returns; the kernel writes to `headers` alone.
        let result = unsafe {
            libc::sendmmsg(fd, headers.as_mut_ptr(), count as u32, libc::MSG_DONTWAIT as _)
        };
        usize::try_from(result).map_err(|_| errno())
    }
}
