//! The engine in memory: the same calls, a clock that is set by hand, lists for TUN and sockets.
//!
//! It is what the tests drive beside the portable engine; nothing else uses it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use wgpy_core::coalesce::{Merge, Part};
use wgpy_core::engine::{Arena, Engine, Manner, Offloads, Outcome, Shell, Train, SLOT, SLOTS};
use wgpy_core::events::Event;
use wgpy_core::route::Route;

use crate::convert::{endpoint, refused, route, Endpoint};
use crate::path::Host;

/// What the engine did: datagrams with their routes, trains' lengths, packets for the TUN.
#[derive(Default)]
pub struct Lists {
    sent: Vec<(Vec<u8>, Route)>,
    trains: Vec<usize>,
    /// Times to live of control datagrams, and whether they may not be fragmented, if anything.
    manners: Vec<(u8, bool)>,
    delivered: Vec<Vec<u8>>,
    /// What the socket, and the TUN for large packets, answers.
    error: i32,
    large_error: i32,
}

impl Shell for Lists {
    fn transmit(&mut self, tun: &[u8], out: &[u8], trains: &mut [Train]) {
        for train in trains {
            train.outcome = Outcome { error: self.error, ..Outcome::default() };
            if self.error != 0 {
                continue;
            }
            let bytes = if train.arena == Arena::Tun { tun } else { out };
            let datagrams = bytes[train.start..train.end].chunks(train.segment);
            self.trains.push(train.count);
            self.sent.extend(datagrams.map(|data| (data.to_vec(), train.route)));
        }
    }

    fn transmit_control(&mut self, data: &[u8], route: &Route, how: Manner) -> Outcome {
        if self.error == 0 {
            self.sent.push((data.to_vec(), *route));
            if how != Manner::default() {
                self.manners.push((how.ttl, how.whole));
            }
        }
        Outcome { error: self.error, ..Outcome::default() }
    }

    fn deliver(&mut self, head: &[u8], buffer: &[u8], parts: &[Part]) -> i32 {
        if !head.is_empty() && self.large_error != 0 {
            return self.large_error;
        }
        let mut packet = head.to_vec();
        parts.iter().for_each(|part| packet.extend_from_slice(part.of(buffer)));
        self.delivered.push(packet);
        0
    }
}

struct Inside {
    engine: Engine,
    lists: Lists,
    now: f64,
}

/// The native engine without its thread and its system calls, for tests.
#[pyclass(frozen)]
pub struct MemoryPath {
    inside: Mutex<Inside>,
}

impl Host for MemoryPath {
    type Shell = Lists;
}

impl MemoryPath {
    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn act<T: Send>(
        &self,
        py: Python<'_>,
        act: impl FnOnce(&mut Engine, &mut Lists, f64) -> T + Send,
    ) -> PyResult<T> {
        py.detach(|| {
            let mut inside = self.lock();
            let Inside { engine, lists, now } = &mut *inside;
            Ok(act(engine, lists, *now))
        })
    }

    fn take_events(&self, py: Python<'_>, limit: usize) -> PyResult<Vec<Event>> {
        self.act(py, |engine, lists, now| engine.drain(limit, now, lists))
    }
}

control_methods!(MemoryPath {
    /// An engine whose clock stands at `now`. With `udp`, UDP comes and goes in large packets too.
    #[new]
    fn new(vnet_header: bool, mtu: usize, now: f64, udp: bool) -> PyResult<Self> {
        let merge = Merge { tcp: true, udp };
        let offloads = Offloads { vnet_header, uso: udp, merge, segment: true };
        let engine = Engine::new(offloads, mtu).map_err(refused)?;
        Ok(MemoryPath { inside: Mutex::new(Inside { engine, lists: Lists::default(), now }) })
    }

    fn set_now(&self, now: f64) {
        self.lock().now = now;
    }

    fn set_up(&self, py: Python<'_>, up: bool) -> PyResult<()> {
        self.act(py, |engine, _, _| engine.set_up(up))
    }

    fn add_socket(&self, py: Python<'_>, _fd: i32) -> PyResult<u32> {
        self.act(py, |engine, _, _| engine.add_socket())?.map_err(refused)
    }

    #[pyo3(signature = (server, carrier))]
    fn add_relay(
        &self,
        py: Python<'_>,
        server: Endpoint,
        carrier: Option<i32>,
    ) -> PyResult<u32> {
        let server = route(server)?;
        self.act(py, |engine, _, _| engine.add_relay(server, carrier.is_some()))?.map_err(refused)
    }

    fn remove_via(&self, py: Python<'_>, via: u32) -> PyResult<()> {
        self.act(py, |engine, lists, now| drop(engine.remove_via(via, now, lists)))
    }

    /// What the socket answers, and the TUN to large packets: an errno, or 0.
    fn set_errors(&self, error: i32, large_error: i32) {
        let mut inside = self.lock();
        inside.lists.error = error;
        inside.lists.large_error = large_error;
    }

    /// The first of the candidates that may be an index.
    fn reserve_index(&self, py: Python<'_>, candidates: Vec<u32>) -> PyResult<u32> {
        let mut candidates = candidates.into_iter();
        self.act(py, |engine, _, _| {
            engine.reserve_index(|| candidates.next().expect("a candidate"))
        })
    }

    fn offloads(&self, py: Python<'_>) -> PyResult<Vec<(&'static str, bool)>> {
        self.act(py, |engine, _, _| engine.offloads().to_vec())
    }

    /// One batch of TUN reads, as the kernel gives them: with vnet headers, if there are any.
    fn write(&self, py: Python<'_>, reads: Vec<Vec<u8>>) -> PyResult<()> {
        self.act(py, |engine, lists, now| {
            for read in reads {
                let space = engine.tun_space(now, lists);
                let size = read.len().min(space.len());
                space[..size].copy_from_slice(&read[..size]);
                engine.outbound(size, now, lists);
            }
            engine.flush(now, lists);
        })
    }

    /// One batch of receives: data, the length of each datagram in it or 0, and where from.
    fn take(&self, py: Python<'_>, batch: Vec<(Vec<u8>, usize, Endpoint)>) -> PyResult<()> {
        if batch.len() > SLOTS || batch.iter().any(|(data, _, _)| data.len() > SLOT) {
            return Err(PyValueError::new_err("more than a batch"));
        }
        let batch = batch
            .into_iter()
            .map(|(data, segment, from)| Ok((data, segment, route(from)?)))
            .collect::<PyResult<Vec<_>>>()?;
        self.act(py, |engine, lists, now| {
            for (slot, (data, _, _)) in batch.iter().enumerate() {
                let start = slot * SLOT;
                engine.udp_space()[start..start + data.len()].copy_from_slice(data);
            }
            for (slot, (data, segment, from)) in batch.iter().enumerate() {
                engine.inbound(slot, data.len(), *segment, from, now, lists);
            }
            engine.flush_inbound(now, lists);
        })
    }

    /// A message that comes by a relay's carrier.
    fn take_carried(&self, py: Python<'_>, data: Vec<u8>, relay: u32) -> PyResult<()> {
        if data.len() > SLOT {
            return Err(PyValueError::new_err("more than a slot"));
        }
        self.act(py, |engine, lists, now| {
            engine.udp_space()[..data.len()].copy_from_slice(&data);
            engine.inbound_carried(0, data.len(), relay, now, lists);
            engine.flush_inbound(now, lists);
        })
    }

    /// The datagrams that were sent, with their endpoints; forgets them.
    fn sent<'py>(&self, py: Python<'py>) -> PyResult<Vec<(Bound<'py, PyBytes>, Bound<'py, PyTuple>)>> {
        let sent = std::mem::take(&mut self.lock().lists.sent);
        sent.iter()
            .map(|(data, route)| Ok((PyBytes::new(py, data), endpoint(py, route)?)))
            .collect()
    }

    /// How many datagrams went in each send; forgets them.
    fn trains(&self) -> Vec<usize> {
        std::mem::take(&mut self.lock().lists.trains)
    }

    /// The manners of control datagrams that had any; forgets them.
    fn manners(&self) -> Vec<(u8, bool)> {
        std::mem::take(&mut self.lock().lists.manners)
    }

    /// What went into the TUN; forgets it.
    fn delivered<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyBytes>> {
        let delivered = std::mem::take(&mut self.lock().lists.delivered);
        delivered.iter().map(|packet| PyBytes::new(py, packet)).collect()
    }

    /// How many bytes wait for a decision.
    fn held_bytes(&self, py: Python<'_>) -> PyResult<usize> {
        self.act(py, |engine, _, _| engine.held_bytes())
    }

    /// How many bytes wait for peers that moved.
    fn kept_bytes(&self, py: Python<'_>) -> PyResult<usize> {
        self.act(py, |engine, _, _| engine.kept_bytes())
    }

    /// Let a key pair be as old as `counter` messages.
    fn set_send_counter(&self, py: Python<'_>, peer: u32, counter: u64) -> PyResult<()> {
        self.act(py, |engine, _, _| engine.set_send_counter(peer, counter))
    }
});
