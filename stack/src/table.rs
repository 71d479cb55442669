//! Tables: what the stack remembers. Each is bounded, and takes the time as a parameter.

pub mod fdb;
pub mod fib;
pub(crate) mod group;
pub mod neighbor;
pub mod next_hops;
pub mod reassembly;
pub(crate) mod shortcut;
