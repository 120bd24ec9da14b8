//! The system calls that the standard library has not got: the only place with `unsafe`.
#![allow(unsafe_code)]

use std::io;
use std::mem::{size_of, size_of_val, zeroed};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::ptr;

/// Messages in one system call.
pub const MESSAGES: usize = 64;
/// The largest datagram, merged ones included, and a cache line: with a power of two between
/// them, the starts of all buffers would share one set of the first cache.
const SLOT: usize = 65_536 + 64;
/// Control bytes of one message: a timespec and an int, each with its header, make 56.
const CONTROL: usize = 128;
/// SK_MEMINFO_* of linux/sock_diag.h: nine counters, of which these are used.
const MEMINFO: usize = 9;
const MEMINFO_RCVBUF: usize = 1;
const MEMINFO_DROPS: usize = 8;
/// `SO_MEMINFO` of asm-generic/socket.h.
const SO_MEMINFO: i32 = 55;

/// A receive buffer: what it may hold, in bytes of kernel memory, and what it had to refuse.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Bytes.
    pub buffer: u32,
    /// Packets.
    pub drops: u32,
}

/// Let this thread's sleeps end when they are due, not up to 50 us later.
pub fn sharpen_sleep() -> io::Result<()> {
    // SAFETY: no pointer is passed; the slack is that of the calling thread alone.
    checked(unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1u64, 0u64, 0u64, 0u64) }).map(drop)
}

/// Run this process before all that are not as urgent; whether that was allowed.
pub fn become_urgent() -> bool {
    // SAFETY: a plain C structure for which all zeroes are a valid value.
    let mut parameters: libc::sched_param = unsafe { zeroed() };
    parameters.sched_priority = 1;
    // SAFETY: the kernel reads one structure, which outlives the call; 0 is the calling thread.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_RR, &parameters) == 0 }
}

/// Size a send buffer; beyond the system's limit for root.
pub fn set_send_buffer(socket: &UdpSocket, bytes: u32) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, bytes)
        .or_else(|_| set(socket, libc::SOL_SOCKET, libc::SO_SNDBUF, bytes))
}

/// Size a receive buffer; beyond the system's limit for root.
pub fn set_receive_buffer(socket: &UdpSocket, bytes: u32) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, bytes)
        .or_else(|_| set(socket, libc::SOL_SOCKET, libc::SO_RCVBUF, bytes))
}

/// Let the kernel cut what is sent into datagrams of so many bytes.
pub fn set_segment(socket: &UdpSocket, bytes: u32) -> io::Result<()> {
    set(socket, libc::SOL_UDP, libc::UDP_SEGMENT, bytes)
}

/// Take datagrams merged, with the size of each.
pub fn set_gro(socket: &UdpSocket) -> io::Result<()> {
    set(socket, libc::SOL_UDP, libc::UDP_GRO, 1)
}

/// Have each datagram stamped with the real time of its arrival.
pub fn set_timestamps(socket: &UdpSocket) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)
}

/// The receive buffer of a socket.
pub fn memory_of(socket: &UdpSocket) -> io::Result<Memory> {
    let mut values = [0u32; MEMINFO];
    let mut length = size_of_val(&values) as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, which is the size of `values`.
    checked(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_MEMINFO,
            values.as_mut_ptr().cast(),
            &mut length,
        )
    })?;
    Ok(Memory {
        buffer: values[MEMINFO_RCVBUF],
        drops: values[MEMINFO_DROPS],
    })
}

/// Send payloads of `length` bytes that lie side by side, a datagram each, in one system call.
///
/// Returns how many were taken, at least one, of at most `MESSAGES`; the error is the first one's.
pub fn send_each(socket: &UdpSocket, payloads: &[u8], length: usize) -> io::Result<usize> {
    // SAFETY: both are plain C structures for which all zeroes are a valid value.
    let mut parts: [libc::iovec; MESSAGES] = unsafe { zeroed() };
    // SAFETY: as above.
    let mut messages: [libc::mmsghdr; MESSAGES] = unsafe { zeroed() };
    let mut count = 0;
    for (payload, (part, message)) in payloads
        .chunks_exact(length)
        .zip(parts.iter_mut().zip(messages.iter_mut()))
    {
        // The kernel only reads what a message to send points to.
        part.iov_base = payload.as_ptr().cast_mut().cast();
        part.iov_len = payload.len();
        message.msg_hdr.msg_iov = part;
        message.msg_hdr.msg_iovlen = 1;
        count += 1;
    }
    // SAFETY: the first `count` messages point to parts and payloads that outlive the call.
    let sent =
        checked(unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), count, 0) })?;
    Ok(sent as usize)
}

/// Buffers for one batch of datagrams.
pub struct Receiver {
    bytes: Vec<u8>,
    controls: Vec<Control>,
    found: [(usize, usize, u64); MESSAGES],
}

/// Aligned for the control message headers in it.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; CONTROL]);

impl Receiver {
    /// Buffers, in memory that is touched when it is used.
    pub fn new() -> Self {
        Self {
            bytes: vec![0; SLOT * MESSAGES],
            controls: vec![Control([0; CONTROL]); MESSAGES],
            found: [(0, 0, 0); MESSAGES],
        }
    }

    /// Take what is there, at most `MESSAGES` datagrams; returns how many.
    pub fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
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
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) => return Err(error),
        };
        for (found, message) in self.found.iter_mut().zip(&messages[..count]) {
            let length = (message.msg_len as usize).min(SLOT);
            // SAFETY: the kernel filled this header in, and its control buffer is still there.
            let (segment, time) = unsafe { read_control(&message.msg_hdr) };
            // A datagram that was not merged is one segment.
            *found = (length, segment.unwrap_or(length).max(1), time);
        }
        Ok(count)
    }

    /// The bytes of a datagram that was received last, the size of each segment in it, and the
    /// real time of its arrival in nanoseconds.
    pub fn datagram(&self, index: usize) -> (&[u8], usize, u64) {
        let (length, segment, time) = self.found[index];
        (&self.bytes[index * SLOT..][..length], segment, time)
    }
}

/// The segment size and the time that the control messages tell.
///
/// # Safety
///
/// The header is one that recvmmsg filled in, with its control buffer, aligned for `cmsghdr`.
unsafe fn read_control(header: &libc::msghdr) -> (Option<usize>, u64) {
    let (mut segment, mut time) = (None, 0);
    // SAFETY: by the contract of this function the control buffer is whole; the CMSG macros stay
    // inside of it, and the lengths are checked before the data is read, unaligned if need be.
    unsafe {
        let mut at = libc::CMSG_FIRSTHDR(header);
        while !at.is_null() {
            let data = libc::CMSG_DATA(at);
            let length = (*at).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
            match ((*at).cmsg_level, (*at).cmsg_type) {
                (libc::SOL_UDP, libc::UDP_GRO) if length >= size_of::<i32>() => {
                    let size = ptr::read_unaligned(data.cast::<i32>());
                    segment = usize::try_from(size).ok();
                }
                (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS)
                    if length >= size_of::<libc::timespec>() =>
                {
                    let stamp = ptr::read_unaligned(data.cast::<libc::timespec>());
                    time = stamp.tv_sec as u64 * 1_000_000_000 + stamp.tv_nsec as u64;
                }
                _ => {}
            }
            at = libc::CMSG_NXTHDR(header, at);
        }
    }
    (segment, time)
}

fn set(socket: &UdpSocket, level: i32, option: i32, value: u32) -> io::Result<()> {
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
