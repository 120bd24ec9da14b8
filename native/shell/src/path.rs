//! The data path of one interface: an engine and its descriptors behind one lock, and the worker.
//!
//! Who holds what: `State`, the engine and the descriptors, is behind `state`; the worker takes it
//! for each batch, a call of the control plane for as long as it takes. `gate` makes the lock
//! fair: whoever wants `state` takes `gate` first and gives it back once it has `state`, so the
//! worker cannot overtake a call that waits. The order is always gate, then state, and nothing
//! that can wait for the other side happens under them: no deadlock is possible. Python's own lock
//! is not held by whoever waits here, and never taken by the worker.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use wgpy_core::coalesce::Merge;
use wgpy_core::counters::Counter;
use wgpy_core::engine::{Engine, Offloads, Refused, SLOTS};
use wgpy_core::events::Event;
use wgpy_core::route::{Route, Via};

use crate::io::Io;
use crate::sockets::{bit, kind_of, places, Kind, Ready, TUN, V4, V6, WAKE};
use crate::sys::{self, Errno};

/// TUN reads before the sockets have their turn: what was best, measured at 1 to 64.
const TUN_READS: usize = 16;
/// After so many panics the worker stops: each was reported, and something is badly wrong.
const MAX_PANICS: u32 = 8;

const TUN_F_CSUM: u32 = 0x01;
const TUN_F_TSO4: u32 = 0x02;
const TUN_F_TSO6: u32 = 0x04;
const TUN_F_USO4: u32 = 0x20;
const TUN_F_USO6: u32 = 0x40;

/// What the switch `WGPY_OFFLOADS` leaves on.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// TCP in large packets from the TUN.
    pub tun_tso: bool,
    /// UDP in large packets from the TUN.
    pub tun_uso: bool,
    /// TCP in large packets to the TUN.
    pub tun_tcp_merge: bool,
    /// UDP in large packets to the TUN.
    pub tun_udp_merge: bool,
    /// Trains of datagrams in one send.
    pub udp_segment: bool,
}

/// What is behind the lock.
pub struct State {
    /// The engine.
    pub engine: Engine,
    /// The descriptors.
    pub io: Io,
    watched: bool,
    rung: bool,
    panics: u32,
    tso: bool,
}

struct Shared {
    gate: Mutex<()>,
    state: Mutex<State>,
    epoll: OwnedFd,
    wake: OwnedFd,
    bell: OwnedFd,
    stop: AtomicBool,
}

/// A panic inside, which was reported as Failed.
#[derive(Debug)]
pub struct Panicked(pub String);

/// The data path of one interface.
pub struct Path {
    shared: Arc<Shared>,
    worker: Mutex<Option<JoinHandle<()>>>,
}

/// What the TUN can do, asked by switching it on: Linux 6.2 and later have USO.
fn probe_tun(tun: RawFd, vnet_header: bool, wanted: Wanted) -> (bool, bool) {
    if !vnet_header {
        return (false, false);
    }
    let tso = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6;
    let uso = TUN_F_CSUM | TUN_F_USO4 | TUN_F_USO6;
    // A kernel takes UDP in large packets if it gives them.
    let has_uso = sys::set_tun_offload(tun, tso | uso).is_ok();
    let tso = if wanted.tun_tso { tso } else { TUN_F_CSUM };
    let flags = if has_uso && wanted.tun_uso { tso | uso } else { tso };
    // A TUN that was handed to us by somebody else may refuse it all; it then gives nothing large.
    let taken = sys::set_tun_offload(tun, flags).is_ok();
    (taken && wanted.tun_tso, taken && has_uso)
}

impl Path {
    /// Serve a TUN, whose descriptor stays its owner's. The worker starts when it is first up:
    /// a daemon may fork, and give up privileges, until then.
    pub fn open(
        tun: RawFd,
        vnet_header: bool,
        mtu: usize,
        wanted: Wanted,
    ) -> Result<Self, Refused> {
        let refused = |error: Errno| {
            Refused(format!("no epoll: {}", std::io::Error::from_raw_os_error(error)))
        };
        let (tso, uso) = probe_tun(tun, vnet_header, wanted);
        let offloads = Offloads {
            vnet_header,
            uso: uso && wanted.tun_uso,
            merge: Merge {
                tcp: vnet_header && wanted.tun_tcp_merge,
                udp: uso && wanted.tun_udp_merge,
            },
            segment: wanted.udp_segment,
        };
        let state = State {
            engine: Engine::new(offloads, mtu)?,
            io: Io::new(tun, vnet_header, wanted.udp_segment),
            watched: false,
            rung: false,
            panics: 0,
            tso,
        };
        let shared = Shared {
            gate: Mutex::new(()),
            state: Mutex::new(state),
            epoll: sys::epoll().map_err(refused)?,
            wake: sys::eventfd().map_err(refused)?,
            bell: sys::eventfd().map_err(refused)?,
            stop: AtomicBool::new(false),
        };
        sys::watch(&shared.epoll, shared.wake.as_raw_fd(), WAKE).map_err(refused)?;
        Ok(Path { shared: Arc::new(shared), worker: Mutex::new(None) })
    }

    /// Readable whenever there is something to drain.
    pub fn bell(&self) -> BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&self.shared.bell)
    }

    /// Do something with the engine and the descriptors, between two batches of the worker.
    pub fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> Result<T, Panicked> {
        self.shared.with(act)
    }

    /// Follow the link; the worker is started when it first comes up.
    pub fn set_up(&self, up: bool) -> Result<(), Panicked> {
        if up {
            self.start();
        }
        self.with(|state| state.engine.set_up(up))
    }

    fn start(&self) {
        let mut worker = self.worker.lock().unwrap_or_else(PoisonError::into_inner);
        if worker.is_none() && !self.shared.stop.load(Ordering::Acquire) {
            let shared = Arc::clone(&self.shared);
            let name = "wgpy-data".to_owned();
            match std::thread::Builder::new().name(name).spawn(move || shared.work()) {
                Ok(handle) => *worker = Some(handle),
                Err(error) => self.shared.report(format!("no thread: {error}")),
            }
        }
    }

    /// Serve these sockets, and close the old ones after what they hold was read.
    pub fn set_sockets(&self, v4: Option<OwnedFd>, v6: Option<OwnedFd>) -> Result<(), Panicked> {
        let shared = &self.shared;
        self.with(|state| {
            if let Some(fd) = v4.as_ref().or(v6.as_ref()) {
                state.io.segment &= sys::knows_udp_segment(fd.as_raw_fd());
            }
            // Key pairs do not belong to a port: what arrived on the old one is still good.
            for place in [V4, V6] {
                let Some((fd, ..)) = state.io.sockets.at(place) else { continue };
                if state.engine.is_up() {
                    state.read_socket(place);
                    state.read_socket(place);
                }
                if state.watched {
                    sys::unwatch(&shared.epoll, fd);
                }
            }
            state.io.sockets.v4 = v4;
            state.io.sockets.v6 = v6;
            state.watch(&shared.epoll, &[V4, V6]);
        })
    }

    /// Serve another UDP socket, of either family.
    pub fn add_socket(&self, fd: OwnedFd) -> Result<Result<Via, Refused>, Panicked> {
        self.with(|state| {
            let kind = wanted(&fd, "UDP socket", &[Kind::V4, Kind::V6])?;
            let via = state.engine.add_socket()?;
            state.serve(&self.shared.epoll, via, fd, kind);
            Ok(via)
        })
    }

    /// Serve peers through a relay, by its carrier if there is one.
    pub fn add_relay(
        &self,
        server: Route,
        carrier: Option<OwnedFd>,
    ) -> Result<Result<Via, Refused>, Panicked> {
        self.with(|state| {
            let Some(fd) = carrier else { return state.engine.add_relay(server, false) };
            let kind = wanted(&fd, "carrier", &[Kind::Carrier])?;
            let via = state.engine.add_relay(server, true)?;
            state.serve(&self.shared.epoll, via, fd, kind);
            Ok(via)
        })
    }

    /// Forget a way, and close its socket.
    pub fn remove_via(&self, via: Via) -> Result<(), Panicked> {
        let shared = &self.shared;
        self.with(|state| {
            let State { engine, io, watched, .. } = state;
            for gone in engine.remove_via(via, sys::boottime(), io) {
                if let Some(fd) = io.sockets.take(gone) {
                    if *watched {
                        sys::unwatch(&shared.epoll, fd.as_raw_fd());
                    }
                }
            }
        })
    }

    /// Stop the worker, wipe every key, close the sockets.
    pub fn close(&self) {
        self.shared.stop.store(true, Ordering::Release);
        sys::ring(&self.shared.wake);
        let worker = self.worker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(worker) = worker {
            // It catches its panics, and so always ends by itself.
            let _ = worker.join();
        }
        let mut state = self.shared.lock();
        state.engine.set_up(false);
        state.engine.wipe();
        state.io.sockets.clear();
    }

    /// At most `limit` datagrams and every other event.
    pub fn drain(&self, limit: usize) -> Result<Vec<Event>, Panicked> {
        self.with(|state| {
            sys::hush(&self.shared.bell);
            state.rung = false;
            state.engine.drain(limit, sys::boottime(), &mut state.io)
        })
    }
}

impl Drop for Path {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under the lock was caught and answered: the poison says nothing new.
        let gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        drop(gate);
        state
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> Result<T, Panicked> {
        let mut state = self.lock();
        let result = catch_unwind(AssertUnwindSafe(|| act(&mut state)));
        let result = result.map_err(|panic| {
            let text = panic_text(&*panic);
            state.panics += 1;
            state.engine.fail(text.clone());
            Panicked(text)
        });
        state.follow(&self.epoll);
        if !state.rung && state.engine.has_events() {
            state.rung = true;
            sys::ring(&self.bell);
        }
        result
    }

    fn report(&self, text: String) {
        // The closure does nothing that panics.
        let _ = self.with(|state| state.engine.fail(text));
    }

    /// The worker: both directions, until it is told to stop.
    fn work(&self) {
        sys::block_signals();
        while !self.stop.load(Ordering::Acquire) {
            let mut ready = match sys::wait(&self.epoll) {
                Ok(ready) => {
                    if ready & bit(WAKE) != 0 {
                        // A process that forked shares the descriptor: it may not be us who stops.
                        sys::hush(&self.wake);
                    }
                    ready & !bit(WAKE)
                }
                Err(libc::EINTR) => continue,
                Err(error) => {
                    let reason = std::io::Error::from_raw_os_error(error);
                    return self.report(format!("the worker cannot wait: {reason}"));
                }
            };
            while ready != 0 && !self.stop.load(Ordering::Acquire) {
                match self.with(|state| state.turn(ready)) {
                    Ok(more) => ready = more,
                    Err(_) => {
                        ready = 0;
                        if self.lock().panics >= MAX_PANICS {
                            return self.report("the worker stops for good".to_owned());
                        }
                    }
                }
            }
        }
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "a panic without a word".to_owned())
}

/// Whether a descriptor is what it should be.
fn wanted(fd: &OwnedFd, what: &str, kinds: &[Kind]) -> Result<Kind, Refused> {
    let number = fd.as_raw_fd();
    let reason = match kind_of(number) {
        Ok(kind) if kinds.contains(&kind) => return Ok(kind),
        Ok(_) => libc::EPROTOTYPE,
        Err(error) => error,
    };
    let reason = std::io::Error::from_raw_os_error(reason);
    Err(Refused(format!("descriptor {number} is no {what}: {reason}")))
}

impl State {
    fn serve(&mut self, epoll: &OwnedFd, via: Via, fd: OwnedFd, kind: Kind) {
        let place = self.io.sockets.add(via, fd, kind);
        self.watch(epoll, &[place]);
    }

    /// One turn for each descriptor that is ready; those that may have more.
    fn turn(&mut self, ready: Ready) -> Ready {
        let mut more = 0;
        for place in places(ready & !bit(TUN)) {
            if self.read_socket(place) {
                more |= bit(place);
            }
        }
        if ready & bit(TUN) != 0 && self.read_tun() {
            more |= bit(TUN);
        }
        more
    }

    /// Seal what the TUN has. Whether it may have more.
    fn read_tun(&mut self) -> bool {
        let State { engine, io, .. } = self;
        let now = sys::boottime();
        let mut more = engine.is_up();
        for _ in 0..TUN_READS {
            if !engine.is_up() {
                more = false;
                break;
            }
            match sys::read(io.tun, engine.tun_space(now, io)) {
                Ok(size) => engine.outbound(size, now, io),
                Err(libc::EINTR) => {}
                Err(error) => {
                    if error != libc::EAGAIN {
                        engine.tun_refused(error);
                    }
                    more = false;
                    break;
                }
            }
        }
        engine.flush(now, io);
        more
    }

    /// Open what a socket has. Whether it may have more.
    fn read_socket(&mut self, place: u32) -> bool {
        let State { engine, io, .. } = self;
        let Some((fd, via, kind)) = io.sockets.at(place) else { return false };
        if !engine.is_up() {
            return false;
        }
        let count = match io.receive(fd, engine.udp_space()) {
            Ok(count) => count,
            Err(libc::EAGAIN) => return false,
            Err(libc::EINTR) => return true,
            Err(error) => {
                // ICMP errors of earlier sends come up here and concern no one else's packets.
                engine.count(Counter::ReceiveError);
                if error == libc::EBADF {
                    engine.alarm(Event::SocketError(fd, error));
                    return false;
                }
                return true;
            }
        };
        let now = sys::boottime();
        for slot in 0..count {
            let Some(received) = io.received[slot].take() else { continue };
            match received.route {
                _ if received.truncated => engine.count(Counter::Truncated),
                _ if kind == Kind::Carrier => {
                    engine.inbound_carried(slot, received.length, via, now, io);
                }
                Some(route) => {
                    let route = Route { via, ..route };
                    engine.inbound(slot, received.length, received.segment, &route, now, io);
                }
                None => engine.count(Counter::Truncated),
            }
        }
        engine.flush_inbound(now, io);
        count == SLOTS
    }

    /// Watch the descriptors while the link is up, and only then.
    fn follow(&mut self, epoll: &OwnedFd) {
        let up = self.engine.is_up();
        if up == self.watched {
            return;
        }
        self.watched = up;
        let sockets: Vec<_> = self.io.sockets.all().collect();
        if up {
            if let Err(error) = sys::watch(epoll, self.io.tun, TUN) {
                self.engine.tun_refused(error);
            }
            let places: Vec<_> = sockets.iter().map(|&(_, place)| place).collect();
            self.watch(epoll, &places);
        } else {
            sys::unwatch(epoll, self.io.tun);
            sockets.iter().for_each(|&(fd, _)| sys::unwatch(epoll, fd));
        }
    }

    /// Watch sockets from now on, if the link is up.
    fn watch(&mut self, epoll: &OwnedFd, places: &[u32]) {
        for &place in places.iter().filter(|_| self.watched) {
            let Some((fd, ..)) = self.io.sockets.at(place) else { continue };
            if let Err(error) = sys::watch(epoll, fd, place) {
                self.engine.alarm(Event::SocketError(fd, error));
            }
        }
    }

    /// Each offload by name, and whether it is in use.
    pub fn offloads(&self) -> Vec<(&'static str, bool)> {
        let mut offloads = self.engine.offloads().to_vec();
        offloads.push(("tun_tso", self.tso));
        for (name, on) in &mut offloads {
            if *name == "udp_segment" {
                *on &= self.io.segment;
            }
        }
        offloads
    }
}
