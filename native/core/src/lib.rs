//! wgpy's native data path without its system calls, threads and clock: packets and times in,
//! packets and events out.
//!
//! It does what `wgpy/datapath/engine.py` and `control.py` do, byte for byte; a test drives both
//! with the same events. A shell reads into the buffers that the [`engine::Engine`] lends it and
//! provides the [`engine::Shell`].

#![deny(unsafe_code)]

pub mod allowedips;
pub mod coalesce;
pub mod constants;
pub mod control;
pub mod counters;
pub mod demux;
pub mod engine;
pub mod events;
pub mod filter;
pub mod gate;
pub mod hold;
pub mod icmp;
pub mod inbound;
pub mod outbound;
pub mod packet;
pub mod replay;
pub mod road;
pub mod route;
pub mod segment;
pub mod session;
pub mod shed;
pub mod sum;
pub mod vnet;
pub mod ways;
