//! The calls that the data path and its twin in memory share. A macro, for PyO3 wants the methods
//! of a class in one block.

/// `control_methods!(Class { more methods })`: the class has
/// `act(py, |engine, shell, now| ...) -> PyResult<T>`.
macro_rules! control_methods {
    ($class:ty { $($more:tt)* }) => {
        #[pyo3::pymethods]
        impl $class {
            $($more)*

            fn drain<'py>(
                &self,
                py: pyo3::Python<'py>,
                limit: usize,
            ) -> pyo3::PyResult<Vec<pyo3::Bound<'py, pyo3::types::PyTuple>>> {
                let events = self.take_events(py, limit)?;
                events.into_iter().map(|event| $crate::convert::event(py, event)).collect()
            }

            #[pyo3(signature = (kind))]
            fn queue_depth(
                &self,
                py: pyo3::Python<'_>,
                kind: Option<u32>,
            ) -> pyo3::PyResult<usize> {
                self.act(py, |engine, _, _| engine.queue_depth(kind))
            }

            fn counters(
                &self,
                py: pyo3::Python<'_>,
            ) -> pyo3::PyResult<std::collections::BTreeMap<&'static str, u64>> {
                self.act(py, |engine, _, _| engine.counters().into_iter().collect())
            }

            fn set_mtu(&self, py: pyo3::Python<'_>, mtu: usize) -> pyo3::PyResult<()> {
                self.act(py, |engine, _, _| engine.set_mtu(mtu))?
                    .map_err($crate::convert::refused)
            }

            fn set_filter(
                &self,
                py: pyo3::Python<'_>,
                rules: Vec<$crate::convert::FilterRule>,
                mac1_key: [u8; 32],
                seed: [u8; 16],
            ) -> pyo3::PyResult<()> {
                let rules = rules.into_iter().map($crate::convert::rule).collect();
                self.act(py, |engine, _, _| engine.set_filter(rules, mac1_key, seed))?
                    .map_err($crate::convert::refused)
            }

            fn set_cookie_secrets(
                &self,
                py: pyo3::Python<'_>,
                secrets: Vec<[u8; 32]>,
            ) -> pyo3::PyResult<()> {
                let secrets = secrets.into_iter().map(zeroize::Zeroizing::new).collect();
                self.act(py, |engine, _, _| engine.set_cookie_secrets(secrets))
            }

            fn set_stun_sources(
                &self,
                py: pyo3::Python<'_>,
                places: Vec<(Vec<u8>, u16)>,
            ) -> pyo3::PyResult<()> {
                let places = $crate::convert::places(places)?;
                self.act(py, |engine, _, _| engine.set_stun_sources(places))
            }

            fn set_path_ids(
                &self,
                py: pyo3::Python<'_>,
                ids: Vec<[u8; 8]>,
            ) -> pyo3::PyResult<()> {
                self.act(py, |engine, _, _| engine.set_path_ids(ids.into_iter().collect()))
            }

            /// The address and port of the peer on a channel, or None.
            #[pyo3(signature = (relay, number, peer))]
            fn set_channel(
                &self,
                py: pyo3::Python<'_>,
                relay: u32,
                number: u16,
                peer: Option<(Vec<u8>, u16)>,
            ) -> pyo3::PyResult<()> {
                let peer = $crate::convert::places(peer.into_iter().collect())?;
                let peer = peer.first().copied();
                self.act(py, |engine, _, _| engine.set_channel(relay, number, peer))?
                    .map_err($crate::convert::refused)
            }

            fn set_roaming(
                &self,
                py: pyo3::Python<'_>,
                peer: u32,
                applied: bool,
            ) -> pyo3::PyResult<()> {
                self.act_on(py, peer, |engine, _, _| engine.set_roaming(peer, applied))
            }

            fn add_peer(&self, py: pyo3::Python<'_>) -> pyo3::PyResult<u32> {
                self.act(py, |engine, _, _| engine.add_peer())
            }

            fn remove_peer(&self, py: pyo3::Python<'_>, peer: u32) -> pyo3::PyResult<()> {
                self.act_on(py, peer, |engine, _, _| engine.remove_peer(peer))
            }

            fn set_allowed_ips(
                &self,
                py: pyo3::Python<'_>,
                changes: Vec<$crate::convert::AllowedIp>,
            ) -> pyo3::PyResult<()> {
                let changes = changes
                    .into_iter()
                    .map($crate::convert::operation)
                    .collect::<pyo3::PyResult<Vec<_>>>()?;
                self.act(py, |engine, _, _| engine.set_allowed_ips(&changes))
            }

            fn allowed_ips<'py>(
                &self,
                py: pyo3::Python<'py>,
                peer: u32,
            ) -> pyo3::PyResult<Vec<(pyo3::Bound<'py, pyo3::types::PyBytes>, u8)>> {
                let prefixes = self.act(py, |engine, _, _| engine.allowed_ips(peer))?;
                Ok(prefixes.into_iter().map(|one| $crate::convert::prefix(py, one)).collect())
            }

            #[pyo3(signature = (peer, endpoint, hold))]
            fn set_endpoint(
                &self,
                py: pyo3::Python<'_>,
                peer: u32,
                endpoint: Option<$crate::convert::Endpoint>,
                hold: f64,
            ) -> pyo3::PyResult<()> {
                let route = endpoint.map($crate::convert::route).transpose()?;
                self.act_on(py, peer, |engine, shell, now| {
                    engine.set_endpoint(peer, route, hold, now, shell)
                })
            }

            fn let_go(&self, py: pyo3::Python<'_>, peer: u32) -> pyo3::PyResult<()> {
                self.act_on(py, peer, |engine, shell, now| engine.let_go(peer, now, shell))
            }

            #[pyo3(signature = (peer))]
            fn clear_source(&self, py: pyo3::Python<'_>, peer: Option<u32>) -> pyo3::PyResult<()> {
                self.act(py, |engine, _, _| engine.clear_source(peer))
            }

            fn free_index(&self, py: pyo3::Python<'_>, index: u32) -> pyo3::PyResult<()> {
                self.act(py, |engine, _, _| engine.free_index(index))
            }

            #[allow(clippy::too_many_arguments)]
            fn install(
                &self,
                py: pyo3::Python<'_>,
                peer: u32,
                next: bool,
                keys: (
                    pyo3::Bound<'_, pyo3::types::PyByteArray>,
                    pyo3::Bound<'_, pyo3::types::PyByteArray>,
                ),
                indices: (u32, u32),
                times: (f64, f64, f64),
                kick: bool,
                gated: bool,
            ) -> pyo3::PyResult<()> {
                use wgpy_core::control::Slot;
                let pair = wgpy_core::session::NewKeyPair {
                    send_key: $crate::path::take_key(&keys.0)?,
                    receive_key: $crate::path::take_key(&keys.1)?,
                    local_index: indices.0,
                    remote_index: indices.1,
                    reject_after: times.0,
                    notify_send_after: times.1,
                    notify_receive_after: times.2,
                };
                if gated {
                    return self.act_on(py, peer, |engine, _, _| engine.install_gated(peer, pair));
                }
                let slot = if next { Slot::Next } else { Slot::Current };
                self.act_on(py, peer, |engine, shell, now| {
                    engine.install(peer, slot, pair, kick, now, shell)
                })
            }

            fn release(&self, py: pyo3::Python<'_>, peer: u32) -> pyo3::PyResult<bool> {
                self.act_on(py, peer, |engine, shell, now| engine.release(peer, now, shell))
            }

            fn refuse(&self, py: pyo3::Python<'_>, peer: u32) -> pyo3::PyResult<()> {
                self.act_on(py, peer, |engine, _, _| engine.refuse(peer))
            }

            fn drop_keys(&self, py: pyo3::Python<'_>, peer: u32) -> pyo3::PyResult<()> {
                self.act_on(py, peer, |engine, _, _| engine.drop_keys(peer))
            }

            fn session_count(&self, py: pyo3::Python<'_>) -> pyo3::PyResult<usize> {
                self.act(py, |engine, _, _| engine.session_count())
            }

            fn send_keepalive(&self, py: pyo3::Python<'_>, peer: u32) -> pyo3::PyResult<()> {
                self.act_on(py, peer, |engine, shell, now| {
                    engine.send_keepalive(peer, now, shell)
                })
            }

            fn drop_staged(&self, py: pyo3::Python<'_>, peer: u32) -> pyo3::PyResult<()> {
                self.act_on(py, peer, |engine, _, _| engine.drop_staged(peer))
            }

            /// Returns an errno, or None.
            #[pyo3(signature = (data, to, peer, ttl, whole))]
            fn send(
                &self,
                py: pyo3::Python<'_>,
                data: &[u8],
                to: Option<$crate::convert::Endpoint>,
                peer: Option<u32>,
                ttl: u8,
                whole: bool,
            ) -> pyo3::PyResult<Option<i32>> {
                let to = to.map($crate::convert::route).transpose()?;
                let how = wgpy_core::engine::Manner { ttl, whole };
                let send = |engine: &mut wgpy_core::engine::Engine, shell: &mut _, now| {
                    engine.send(data, (to, peer), how, now, shell)
                };
                let error = match peer {
                    Some(peer) => self.act_on(py, peer, send)?,
                    None => self.act(py, send)?,
                };
                Ok(Some(error).filter(|&error| error != 0))
            }

            fn heard(
                &self,
                py: pyo3::Python<'_>,
                peer: u32,
                size: u64,
                when: f64,
            ) -> pyo3::PyResult<()> {
                self.act_on(py, peer, |engine, _, _| engine.heard(peer, size, when))
            }

            /// The times, the bytes and the staged packets, in the order of `Activity`.
            #[allow(clippy::type_complexity)]
            fn activity(
                &self,
                py: pyo3::Python<'_>,
                peer: u32,
            ) -> pyo3::PyResult<(f64, f64, f64, f64, f64, f64, u64, u64, usize)> {
                let found = self.act(py, |engine, _, _| engine.activity(peer))?;
                let (a, staged) = found.ok_or_else(|| $crate::convert::unknown_peer(peer))?;
                Ok((
                    a.last_sent,
                    a.last_received,
                    a.first_data_sent_unanswered,
                    a.first_data_received_unanswered,
                    a.last_data_sent,
                    a.last_data_received,
                    a.tx_bytes,
                    a.rx_bytes,
                    staged,
                ))
            }

            fn rest(&self, py: pyo3::Python<'_>, peer: u32) -> pyo3::PyResult<()> {
                self.act_on(py, peer, |engine, _, _| engine.rest(peer))
            }
        }

        impl $class {
            /// As `act`, for a peer that must be there.
            fn act_on<T: Send>(
                &self,
                py: pyo3::Python<'_>,
                peer: u32,
                act: impl FnOnce(&mut wgpy_core::engine::Engine, &mut <$class as $crate::path::Host>::Shell, f64) -> T
                    + Send,
            ) -> pyo3::PyResult<T> {
                self.act(py, |engine, shell, now| {
                    engine.has_peer(peer).then(|| act(engine, shell, now))
                })?
                .ok_or_else(|| $crate::convert::unknown_peer(peer))
            }
        }
    };
}
