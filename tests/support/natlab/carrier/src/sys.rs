//! The system calls that the standard library has not got: the only place with `unsafe`.
#![allow(unsafe_code)]

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

/// Frames in one system call.
pub const MESSAGES: usize = 64;
/// The largest frame of a veth, and a cache line: with a power of two between them, the starts of
/// all buffers would share one set of the first cache.
const SLOT: usize = 65_536 + 64;
/// Control bytes of one message: a timespec with its header makes 32.
const CONTROL: usize = 64;
/// The longest order.
const ORDER: usize = 1024;
/// Bytes of frames that may wait for this process, bookkeeping included: 50 ms at 1 Gbit/s.
const BUFFER: u32 = 16 << 20;
/// `PACKET_QDISC_BYPASS` of linux/if_packet.h.
const PACKET_QDISC_BYPASS: i32 = 20;

/// Own a descriptor that the parent passed on.
pub fn take_over(descriptor: RawFd) -> OwnedFd {
    // SAFETY: the command line says that it is ours, and nothing else here uses it.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

/// Make a packet socket ready: stamps, a large buffer, no queue on the way out.
pub fn prepare(socket: &OwnedFd) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)?;
    set(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, BUFFER)?;
    set(socket, libc::SOL_PACKET, PACKET_QDISC_BYPASS, 1)
}

/// Nanoseconds of CLOCK_MONOTONIC.
pub fn now() -> u64 {
    clock(libc::CLOCK_MONOTONIC)
}

/// Nanoseconds of CLOCK_REALTIME, which stamps are of.
pub fn wall() -> u64 {
    clock(libc::CLOCK_REALTIME)
}

fn clock(which: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the kernel writes one timespec. It cannot fail for these clocks.
    unsafe { libc::clock_gettime(which, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Wait until one of them has something, or so many nanoseconds; which ones have.
pub fn wait(descriptors: [&OwnedFd; 3], timeout: Option<u64>) -> io::Result<[bool; 3]> {
    let mut polled = descriptors.map(|descriptor| libc::pollfd {
        fd: descriptor.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    });
    let limit = timeout.map(|nanoseconds| libc::timespec {
        tv_sec: (nanoseconds / 1_000_000_000) as _,
        tv_nsec: (nanoseconds % 1_000_000_000) as _,
    });
    let limit = limit.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: three structures, and a limit that is null or outlives the call.
    let done = checked(unsafe { libc::ppoll(polled.as_mut_ptr(), 3, limit, ptr::null()) });
    match done {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
        // An error or a hang-up is something too: reading tells which.
        _ => Ok(polled.map(|one| one.revents != 0)),
    }
}

/// What is on the control socket.
pub enum Waiting {
    /// An order.
    Message(String),
    /// Nobody is at the other end.
    End,
}

/// Take one order.
pub fn receive_order(control: &OwnedFd) -> io::Result<Waiting> {
    let mut bytes = [0u8; ORDER];
    // SAFETY: the kernel writes at most as many bytes as the buffer has.
    let length = unsafe {
        libc::recv(
            control.as_raw_fd(),
            bytes.as_mut_ptr().cast(),
            bytes.len(),
            0,
        )
    };
    match usize::try_from(length) {
        Ok(0) => Ok(Waiting::End),
        Ok(length) => Ok(Waiting::Message(
            String::from_utf8_lossy(&bytes[..length]).into_owned(),
        )),
        Err(_) => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::ConnectionReset => Ok(Waiting::End),
            error => Err(error),
        },
    }
}

/// Answer an order; false if nobody is there.
pub fn answer(control: &OwnedFd, text: &str) -> io::Result<bool> {
    // SAFETY: the kernel reads as many bytes as the text has.
    let sent = unsafe {
        libc::send(
            control.as_raw_fd(),
            text.as_ptr().cast(),
            text.len(),
            libc::MSG_NOSIGNAL,
        )
    };
    match (sent, io::Error::last_os_error()) {
        (0.., _) => Ok(true),
        (_, error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        (_, error) => Err(error),
    }
}

/// Send frames one after the other; how many the link took. It takes none while it is down.
pub fn send_each(socket: &OwnedFd, frames: &[Vec<u8>]) -> io::Result<usize> {
    // SAFETY: both are plain C structures for which all zeroes are a valid value.
    let mut parts: [libc::iovec; MESSAGES] = unsafe { zeroed() };
    // SAFETY: as above.
    let mut messages: [libc::mmsghdr; MESSAGES] = unsafe { zeroed() };
    for (frame, (part, message)) in frames.iter().zip(parts.iter_mut().zip(messages.iter_mut())) {
        // The kernel only reads what a message to send points to.
        part.iov_base = frame.as_ptr().cast_mut().cast();
        part.iov_len = frame.len();
        message.msg_hdr.msg_iov = part;
        message.msg_hdr.msg_iovlen = 1;
    }
    let (mut tried, mut sent) = (0, 0);
    let count = frames.len().min(MESSAGES);
    while tried < count {
        let left = (count - tried) as u32;
        // SAFETY: the `left` messages from there on point to parts and frames that outlive the call.
        let done = checked(unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                messages[tried..].as_mut_ptr(),
                left,
                libc::MSG_DONTWAIT as _,
            )
        });
        match done {
            Ok(taken) => {
                tried += taken as usize;
                sent += taken as usize;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if refused(&error) => tried += 1,
            Err(error) => return Err(error),
        }
    }
    Ok(sent)
}

/// Whether a link is down, gone, full, or too narrow: frames are lost, and the line stays.
fn refused(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENETDOWN | libc::ENXIO | libc::ENODEV | libc::ENOBUFS | libc::EAGAIN)
            | Some(libc::EMSGSIZE)
    )
}

/// Buffers for one batch of frames.
pub struct Receiver {
    bytes: Vec<u8>,
    controls: Vec<Control>,
    found: [(usize, u64); MESSAGES],
}

/// Aligned for the control message header in it.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; CONTROL]);

impl Receiver {
    /// Buffers, in memory that is touched when it is used.
    pub fn new() -> Self {
        Self {
            bytes: vec![0; SLOT * MESSAGES],
            controls: vec![Control([0; CONTROL]); MESSAGES],
            found: [(0, 0); MESSAGES],
        }
    }

    /// Take what is there, at most `MESSAGES` frames; returns how many.
    pub fn receive(&mut self, socket: &OwnedFd) -> io::Result<usize> {
        // SAFETY: both are plain C structures for which all zeroes are a valid value.
        let mut parts: [libc::iovec; MESSAGES] = unsafe { zeroed() };
        // SAFETY: as above.
        let mut messages: [libc::mmsghdr; MESSAGES] = unsafe { zeroed() };
        for (index, slot) in self.bytes.chunks_exact_mut(SLOT).enumerate() {
            parts[index].iov_base = slot.as_mut_ptr().cast();
            parts[index].iov_len = slot.len();
            let header = &mut messages[index].msg_hdr;
            header.msg_iov = &mut parts[index];
            header.msg_iovlen = 1;
            header.msg_control = self.controls[index].0.as_mut_ptr().cast();
            header.msg_controllen = CONTROL as _;
        }
        // SAFETY: each message points to a part, a slot and a control buffer of its own, of the
        // sizes that it says; all outlive the call.
        let done = checked(unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                messages.as_mut_ptr(),
                MESSAGES as u32,
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            )
        });
        let count = match done {
            Ok(count) => count as usize,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            // Nothing is there, or a link went down, which is said once.
            Err(error) if refused(&error) => 0,
            Err(error) => return Err(error),
        };
        for (found, message) in self.found.iter_mut().zip(&messages[..count]) {
            let length = (message.msg_len as usize).min(SLOT);
            // SAFETY: the kernel filled this header in, and its control buffer is still there.
            *found = (length, unsafe { stamp(&message.msg_hdr) });
        }
        Ok(count)
    }

    /// The bytes of a frame that was received last, and the real time of its arrival in
    /// nanoseconds.
    pub fn frame(&mut self, index: usize) -> (&mut [u8], u64) {
        let (length, time) = self.found[index];
        (&mut self.bytes[index * SLOT..][..length], time)
    }
}

/// The time that the control messages tell.
///
/// # Safety
///
/// The header is one that recvmmsg filled in, with its control buffer, aligned for `cmsghdr`.
unsafe fn stamp(header: &libc::msghdr) -> u64 {
    // SAFETY: by the contract of this function the control buffer is whole; the CMSG macros stay
    // inside of it, and the length is checked before the data is read, unaligned if need be.
    unsafe {
        let mut at = libc::CMSG_FIRSTHDR(header);
        while !at.is_null() {
            let length = (*at).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
            let kind = ((*at).cmsg_level, (*at).cmsg_type);
            if kind == (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS)
                && length >= size_of::<libc::timespec>()
            {
                let found = ptr::read_unaligned(libc::CMSG_DATA(at).cast::<libc::timespec>());
                return found.tv_sec as u64 * 1_000_000_000 + found.tv_nsec as u64;
            }
            at = libc::CMSG_NXTHDR(header, at);
        }
    }
    // Without a stamp it came now.
    wall()
}

fn set(socket: &OwnedFd, level: i32, option: i32, value: u32) -> io::Result<()> {
    // SAFETY: the kernel reads the four bytes of `value`, and no more.
    checked(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            ptr::addr_of!(value).cast(),
            size_of::<u32>() as libc::socklen_t,
        )
    })
    .map(drop)
}

fn checked(result: i32) -> io::Result<i32> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
