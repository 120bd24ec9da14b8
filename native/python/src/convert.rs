//! Python's values and the engine's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pyo3::exceptions::{PyKeyError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use wgpy_core::allowedips::{Operation, Prefix};
use wgpy_core::engine::Refused;
use wgpy_core::events::Event;
use wgpy_core::filter::Rule;
use wgpy_core::packet::Address;
use wgpy_core::route::{Route, Via};
use wgpy_core::shed;

/// Address, port, scope, source, interface index, way, channel; addresses are 4 or 16 bytes.
pub type Endpoint = (Vec<u8>, u16, u32, Option<Vec<u8>>, u32, Via, u16);
/// Operation, peer, address, length: 0 adds, 1 removes, 2 takes all.
pub type AllowedIp = (u8, u32, Option<Vec<u8>>, u8);
/// Type, length, exact, offset of mac1, offset of an index, greatest length, budget, offset of a
/// path.
pub type FilterRule =
    (u32, usize, bool, Option<isize>, Option<usize>, Option<usize>, Option<Budget>, Option<usize>);
/// Queue, proven rate, peers' rate, unproven rate and burst, rate and burst of a source.
pub type Budget = (usize, f64, f64, f64, u32, f64, u32);

pub fn refused(Refused(text): Refused) -> PyErr {
    PyValueError::new_err(text)
}

pub fn unknown_peer(peer: u32) -> PyErr {
    PyKeyError::new_err(peer)
}

fn ip(bytes: &[u8]) -> PyResult<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Ok(Ipv4Addr::from(v4).into());
    }
    match <[u8; 16]>::try_from(bytes) {
        Ok(v6) => Ok(Ipv6Addr::from(v6).into()),
        Err(_) => Err(PyValueError::new_err("an address has 4 or 16 bytes")),
    }
}

pub fn route((address, port, scope, source, ifindex, via, channel): Endpoint) -> PyResult<Route> {
    let address = ip(&address)?;
    let source = source.map(|bytes| ip(&bytes)).transpose()?;
    if source.is_some_and(|source| source.is_ipv6() != address.is_ipv6()) {
        return Err(PyValueError::new_err("the source is of the other family"));
    }
    Ok(Route { address, port, scope, source, ifindex, via, channel })
}

fn bytes_of(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

pub fn endpoint<'py>(py: Python<'py>, route: &Route) -> PyResult<Bound<'py, PyTuple>> {
    let source = route.source.map(|source| PyBytes::new(py, &bytes_of(source)));
    let address = PyBytes::new(py, &bytes_of(route.address));
    let Route { port, scope, ifindex, via, channel, .. } = *route;
    (address, port, scope, source, ifindex, via, channel).into_pyobject(py)
}

pub fn prefix_of(bytes: &[u8], length: u8) -> PyResult<Prefix> {
    let prefix = match ip(bytes)? {
        IpAddr::V4(v4) if length <= 32 => (Address::V4(v4.into()), length),
        IpAddr::V6(v6) if length <= 128 => (Address::V6(v6.into()), length),
        _ => return Err(PyValueError::new_err("the prefix is longer than its address")),
    };
    Ok(prefix)
}

pub fn prefix<'py>(py: Python<'py>, (address, length): Prefix) -> (Bound<'py, PyBytes>, u8) {
    let bytes = match address {
        Address::V4(v4) => v4.to_be_bytes().to_vec(),
        Address::V6(v6) => v6.to_be_bytes().to_vec(),
    };
    (PyBytes::new(py, &bytes), length)
}

pub fn operation((kind, peer, address, length): AllowedIp) -> PyResult<Operation> {
    match (kind, address) {
        (2, _) => Ok(Operation::Replace(peer)),
        (0, Some(address)) => Ok(Operation::Add(peer, prefix_of(&address, length)?)),
        (1, Some(address)) => Ok(Operation::Remove(peer, prefix_of(&address, length)?)),
        _ => Err(PyValueError::new_err("add and remove need a prefix")),
    }
}

fn budget(
    (queue, proven_rate, peer_rate, unproven_rate, unproven_burst, source_rate, source_burst): Budget,
) -> shed::Budget {
    shed::Budget {
        queue,
        proven_rate,
        peer_rate,
        unproven_rate,
        unproven_burst,
        source_rate,
        source_burst,
    }
}

pub fn rule(
    (kind, length, exact, mac1_offset, index_offset, longest, cost, path_offset): FilterRule,
) -> Rule {
    let budget = cost.map(budget);
    Rule { kind, length, exact, mac1_offset, index_offset, longest, budget, path_offset }
}

pub fn places(places: Vec<(Vec<u8>, u16)>) -> PyResult<Vec<(IpAddr, u16)>> {
    places.into_iter().map(|(address, port)| Ok((ip(&address)?, port))).collect()
}

/// An event as a tuple: its name in the contract, and its fields.
pub fn event<'py>(py: Python<'py>, event: Event) -> PyResult<Bound<'py, PyTuple>> {
    match event {
        Event::Datagram(data, route, when) => {
            ("Datagram", PyBytes::new(py, &data), endpoint(py, &route)?, when).into_pyobject(py)
        }
        Event::HandshakeNeeded(peer) => ("HandshakeNeeded", peer).into_pyobject(py),
        Event::Active(peer) => ("Active", peer).into_pyobject(py),
        Event::KeyConfirmed(peer, index) => ("KeyConfirmed", peer, index).into_pyobject(py),
        Event::RekeySend(peer) => ("RekeySend", peer).into_pyobject(py),
        Event::RekeyReceive(peer) => ("RekeyReceive", peer).into_pyobject(py),
        Event::Roamed(peer, route) => ("Roamed", peer, endpoint(py, &route)?).into_pyobject(py),
        Event::TunLost(errno) => ("TunLost", errno).into_pyobject(py),
        Event::SocketError(fd, errno) => ("SocketError", fd, errno).into_pyobject(py),
        Event::Offload(name, on, errno) => ("Offload", name, on, errno).into_pyobject(py),
        Event::Failed(text) => ("Failed", text).into_pyobject(py),
    }
}
