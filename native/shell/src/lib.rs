//! The shell around `wgpy-core`: one worker thread, an epoll, the TUN and the sockets.
//!
//! `path.rs` has the locks and the thread, `io.rs` the batches of system calls, `sockets.rs` the
//! descriptors; `sys.rs` and `messages.rs` alone have unsafe code.

#![deny(unsafe_code)]

pub mod io;
pub mod messages;
pub mod path;
pub mod sockets;
pub mod sys;
pub mod wire;
