//! The data path of a TUN and two sockets.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyByteArray;
use zeroize::Zeroizing;

use wgpy_core::engine::{Engine, Shell};
use wgpy_core::events::Event;
use wgpy_shell::io::Io;
use wgpy_shell::path::{Panicked, Path, Wanted};
use wgpy_shell::sys;

use crate::convert::{refused, route, Endpoint};

/// What `control_methods` calls.
pub trait Host {
    /// The engine's shell.
    type Shell: Shell;
}

/// The 32 bytes of a key. Whoever calls wipes the bytearray.
pub fn take_key(key: &Bound<'_, PyByteArray>) -> PyResult<Zeroizing<Vec<u8>>> {
    let bytes = Zeroizing::new(key.to_vec());
    if bytes.len() != 32 {
        return Err(PyValueError::new_err("a key has 32 bytes"));
    }
    Ok(bytes)
}

fn panicked(Panicked(text): Panicked) -> PyErr {
    PyRuntimeError::new_err(format!("the data path failed: {text}"))
}

fn os_error(code: i32) -> PyErr {
    PyOSError::new_err((code, std::io::Error::from_raw_os_error(code).to_string()))
}

/// Take over a descriptor that is one.
fn given(fd: RawFd, what: &str) -> PyResult<OwnedFd> {
    let open = sys::is_open(fd).and_then(|()| sys::own(fd));
    open.map_err(|code| {
        let reason = std::io::Error::from_raw_os_error(code);
        PyValueError::new_err(format!("descriptor {fd} is no {what}: {reason}"))
    })
}

/// The native data path; `wgpy/datapath/native.py` makes the contract of it.
#[pyclass(frozen)]
pub struct DataPath {
    path: Path,
}

impl Host for DataPath {
    type Shell = Io;
}

impl DataPath {
    fn act<T: Send>(
        &self,
        py: Python<'_>,
        act: impl FnOnce(&mut Engine, &mut Io, f64) -> T + Send,
    ) -> PyResult<T> {
        py.detach(|| {
            self.path.with(|state| {
                let now = sys::boottime();
                act(&mut state.engine, &mut state.io, now)
            })
        })
        .map_err(panicked)
    }

    fn take_events(&self, py: Python<'_>, limit: usize) -> PyResult<Vec<Event>> {
        py.detach(|| self.path.drain(limit)).map_err(panicked)
    }
}

control_methods!(DataPath {
    /// Serve a TUN; `off` names the offloads that are not to be used.
    #[new]
    fn new(tun: RawFd, vnet_header: bool, mtu: usize, off: Vec<String>) -> PyResult<Self> {
        let on = |name: &str| !off.iter().any(|other| other == name);
        let wanted = Wanted {
            tun_tso: on("tun_tso"),
            tun_uso: on("tun_uso"),
            tun_tcp_merge: on("tun_tcp_merge"),
            tun_udp_merge: on("tun_udp_merge"),
            udp_segment: on("udp_segment"),
        };
        Ok(DataPath { path: Path::open(tun, vnet_header, mtu, wanted).map_err(refused)? })
    }

    fn fileno(&self) -> RawFd {
        self.path.bell().as_raw_fd()
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.path.close());
    }

    fn set_up(&self, py: Python<'_>, up: bool) -> PyResult<()> {
        py.detach(|| self.path.set_up(up)).map_err(panicked)
    }

    /// The descriptors are owned from now on.
    #[pyo3(signature = (v4, v6))]
    fn set_sockets(&self, py: Python<'_>, v4: Option<RawFd>, v6: Option<RawFd>) -> PyResult<()> {
        let own = |fd: Option<RawFd>| fd.map(sys::own).transpose().map_err(os_error);
        let (v4, v6) = (own(v4)?, own(v6)?);
        py.detach(|| self.path.set_sockets(v4, v6)).map_err(panicked)
    }

    /// The descriptor is owned from now on; one that is none is refused.
    fn add_socket(&self, py: Python<'_>, fd: RawFd) -> PyResult<u32> {
        let fd = given(fd, "UDP socket")?;
        py.detach(|| self.path.add_socket(fd)).map_err(panicked)?.map_err(refused)
    }

    /// The carrier's descriptor is owned from now on.
    #[pyo3(signature = (server, carrier))]
    fn add_relay(
        &self,
        py: Python<'_>,
        server: Endpoint,
        carrier: Option<RawFd>,
    ) -> PyResult<u32> {
        let carrier = carrier.map(|fd| given(fd, "carrier")).transpose()?;
        let server = route(server)?;
        py.detach(|| self.path.add_relay(server, carrier)).map_err(panicked)?.map_err(refused)
    }

    fn remove_via(&self, py: Python<'_>, via: u32) -> PyResult<()> {
        py.detach(|| self.path.remove_via(via)).map_err(panicked)
    }

    fn reserve_index(&self, py: Python<'_>) -> PyResult<u32> {
        self.act(py, |engine, _, _| {
            // The kernel's generator does not fail once it was seeded; a made-up index would tell
            // strangers which sessions belong together.
            engine.reserve_index(|| sys::random().expect("random bytes of the kernel"))
        })
    }

    fn offloads(&self, py: Python<'_>) -> PyResult<Vec<(&'static str, bool)>> {
        py.detach(|| self.path.with(|state| state.offloads())).map_err(panicked)
    }

    /// Panic inside, as a mistake of ours would: tests look at what is left after it.
    fn panic(&self, py: Python<'_>, text: String) -> PyResult<()> {
        py.detach(|| self.path.with(|_| panic!("{text}"))).map_err(panicked)
    }
});
