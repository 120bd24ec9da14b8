//! `wgpy._native`: the data path's calls as Python's, and nothing more.
//!
//! `wgpy/datapath/native.py` makes the contract of them. Every call lets go of Python's lock
//! before it waits for the engine's.

#![forbid(unsafe_code)]

#[macro_use]
mod methods;
mod convert;
mod memory;
mod path;

use pyo3::prelude::*;

/// The module.
#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<path::DataPath>()?;
    module.add_class::<memory::MemoryPath>()
}
