//! Work that a sender left to the device, done by the stack where the device cannot.

pub mod checksum;
