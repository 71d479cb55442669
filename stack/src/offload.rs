//! Work that a sender left to the device, done by the stack where the device cannot.
//!
//! [`segment`] and [`coalesce`] are each other's inverse: what one has merged, the other cuts into the
//! same octets again.

pub mod checksum;
pub mod coalesce;
pub mod segment;

#[cfg(test)]
mod tests;
