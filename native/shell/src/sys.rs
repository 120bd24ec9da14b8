//! The plain system calls, each as a safe function: Ok, or the errno.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// An errno.
pub type Errno = i32;

const TUNSETOFFLOAD: libc::Ioctl = 0x4004_54D0_u32 as libc::Ioctl;
const SOL_UDP: i32 = 17;
const UDP_SEGMENT: i32 = 103;

/// The errno of the call that just failed.
pub fn errno() -> Errno {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

fn check(result: isize) -> Result<usize, Errno> {
    usize::try_from(result).map_err(|_| errno())
}

/// Seconds on CLOCK_BOOTTIME.
pub fn boottime() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is writable and of the kernel's layout.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// A random u32.
pub fn random() -> Result<u32, Errno> {
    let mut bytes = [0u8; 4];
    // SAFETY: the buffer is as long as is said.
    check(unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) })?;
    Ok(u32::from_ne_bytes(bytes))
}

/// read(2).
#[inline]
pub fn read(fd: RawFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the buffer is writable and as long as is said.
    check(unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) })
}

/// writev(2).
#[inline]
pub fn writev(fd: RawFd, pieces: &[std::io::IoSlice<'_>]) -> Result<usize, Errno> {
    // SAFETY: IoSlice has the layout of struct iovec, and each points to readable bytes.
    check(unsafe { libc::writev(fd, pieces.as_ptr().cast(), pieces.len() as i32) })
}

/// An eventfd, non-blocking.
pub fn eventfd() -> Result<OwnedFd, Errno> {
    // SAFETY: no pointer is passed.
    own(unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) })
}

/// An epoll.
pub fn epoll() -> Result<OwnedFd, Errno> {
    // SAFETY: no pointer is passed.
    own(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })
}

/// Take a descriptor that the caller gave away.
pub fn own(fd: RawFd) -> Result<OwnedFd, Errno> {
    if fd < 0 {
        return Err(errno());
    }
    // SAFETY: it was just made by the kernel for us, or given to us to close.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Whether there is such a descriptor.
pub fn is_open(fd: RawFd) -> Result<(), Errno> {
    // SAFETY: no pointer is passed.
    check(unsafe { libc::fcntl(fd, libc::F_GETFD) as isize })?;
    Ok(())
}

/// Add one to an eventfd. It never blocks; a full one is readable already.
pub fn ring(fd: &OwnedFd) {
    let one = 1u64.to_ne_bytes();
    // SAFETY: eight readable bytes.
    unsafe { libc::write(fd.as_raw_fd(), one.as_ptr().cast(), one.len()) };
}

/// Set an eventfd back to zero.
pub fn hush(fd: &OwnedFd) {
    let mut count = [0u8; 8];
    let _ = read(fd.as_raw_fd(), &mut count);
}

/// Watch a descriptor for reading; `token` comes back from `wait`.
pub fn watch(epoll: &OwnedFd, fd: RawFd, token: u32) -> Result<(), Errno> {
    let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: token.into() };
    // SAFETY: `event` is readable and of the kernel's layout.
    check(unsafe {
        libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &mut event) as isize
    })?;
    Ok(())
}

/// Watch a descriptor no more. That the kernel has let go of it already is no error.
pub fn unwatch(epoll: &OwnedFd, fd: RawFd) {
    // SAFETY: no event is passed, which Linux 2.6.9 and later allow.
    unsafe {
        libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_DEL, fd, std::ptr::null_mut());
    }
}

/// Wait until something is readable: a bit for each token that is, below 128.
pub fn wait(epoll: &OwnedFd) -> Result<u128, Errno> {
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; 16];
    // SAFETY: the array is writable and as long as is said.
    let count = check(unsafe {
        libc::epoll_wait(epoll.as_raw_fd(), events.as_mut_ptr(), events.len() as i32, -1) as isize
    })?;
    Ok(events[..count].iter().fold(0, |bits, event| bits | 1 << { event.u64 }))
}

/// Wait until a socket may be written to, `milliseconds` at most.
pub fn wait_writable(fd: RawFd, milliseconds: i32) -> bool {
    let mut poll = libc::pollfd { fd, events: libc::POLLOUT, revents: 0 };
    // SAFETY: one structure, writable.
    unsafe { libc::poll(&mut poll, 1, milliseconds) > 0 }
}

/// Ask the TUN to hand over and take large packets of these kinds.
pub fn set_tun_offload(tun: RawFd, flags: u32) -> Result<(), Errno> {
    // SAFETY: the argument of this ioctl is a number.
    check(unsafe { libc::ioctl(tun, TUNSETOFFLOAD, libc::c_ulong::from(flags)) as isize })?;
    Ok(())
}

/// The address family of a socket.
pub fn socket_domain(fd: RawFd) -> Result<i32, Errno> {
    option(fd, (libc::SOL_SOCKET, libc::SO_DOMAIN))
}

/// Whether it is one of datagrams, or of another type.
pub fn socket_type(fd: RawFd) -> Result<i32, Errno> {
    option(fd, (libc::SOL_SOCKET, libc::SO_TYPE))
}

/// Whether a UDP socket knows UDP_SEGMENT (Linux 4.18).
pub fn knows_udp_segment(fd: RawFd) -> bool {
    option(fd, (SOL_UDP, UDP_SEGMENT)).is_ok()
}

/// The option that says whether a socket's datagrams may be fragmented.
fn discover(v6: bool) -> (i32, i32) {
    if v6 {
        (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER)
    } else {
        (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER)
    }
}

fn set_option(fd: RawFd, (level, name): (i32, i32), value: i32) -> Result<(), Errno> {
    let size = std::mem::size_of::<i32>() as libc::socklen_t;
    // SAFETY: the value is readable and of the size that is said.
    check(unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), size) as isize })?;
    Ok(())
}

fn option(fd: RawFd, (level, name): (i32, i32)) -> Result<i32, Errno> {
    let mut value = 0i32;
    let mut length = std::mem::size_of::<i32>() as libc::socklen_t;
    // SAFETY: both are writable and of the size that is said.
    check(unsafe {
        libc::getsockopt(fd, level, name, (&raw mut value).cast(), &mut length) as isize
    })?;
    Ok(value)
}

/// From now on a socket's datagrams are not fragmented, here or on the way, whatever is known of
/// the path's MTU. What was so before, for `restore_fragments`.
pub fn forbid_fragments(fd: RawFd, v6: bool) -> Result<i32, Errno> {
    let usual = option(fd, discover(v6))?;
    let probe = if v6 { libc::IPV6_PMTUDISC_PROBE } else { libc::IP_PMTUDISC_PROBE };
    set_option(fd, discover(v6), probe)?;
    Ok(usual)
}

/// What `forbid_fragments` changed is as it was.
pub fn restore_fragments(fd: RawFd, v6: bool, usual: i32) {
    // It took another value a moment ago: it takes its own as well.
    let _ = set_option(fd, discover(v6), usual);
}

/// Leave every signal of the process to its other threads.
pub fn block_signals() {
    // SAFETY: the set is filled before it is used, and the calls have no other effect.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigfillset(&mut set);
        libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
    }
}
