//! Who gets which addresses of a Network: pools, reservations, and the containers that have some.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use weft_stack::Prefix;

use super::{Name, Subnet};

/// Addresses from one to another, both included, of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressRange {
    /// The first one.
    pub first: IpAddr,
    /// The last one.
    pub last: IpAddr,
}

impl AddressRange {
    /// All of a block.
    pub fn of(prefix: &Prefix) -> AddressRange {
        AddressRange { first: prefix.address(), last: prefix.last() }
    }

    /// One address.
    pub fn single(address: IpAddr) -> AddressRange {
        AddressRange { first: address, last: address }
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// What may be given out of a subnet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressPool {
    /// From these; empty: from the whole subnet.
    pub ranges: Vec<AddressRange>,
    /// Never these.
    pub exclude: Vec<AddressRange>,
}

/// How a Network gives addresses out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addressing {
    /// How long an address that was given back waits.
    pub quarantine: Duration,
    /// How long it is remembered who had it.
    pub sticky: Duration,
    /// Addresses that are kept, and for whom.
    pub reservations: BTreeMap<IpAddr, String>,
}

impl Default for Addressing {
    fn default() -> Self {
        Addressing {
            quarantine: Duration::from_secs(60),
            sticky: Duration::ZERO,
            reservations: BTreeMap::new(),
        }
    }
}

/// The container that a Port was made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its name at its runtime.
    pub container_id: String,
    /// The device's name in it.
    pub interface: String,
    /// The name of the runtime's network configuration.
    pub configuration: String,
    /// NAMESPACE/NAME of its pod; may be empty.
    pub owner: String,
    /// The boot of the node in which it was made.
    pub boot_id: String,
    /// The inode number of its namespace.
    pub namespace_inode: u64,
}

impl Subnet {
    /// Whether an address is not a host's, as the subnet's first or last one.
    pub fn keeps(&self, address: IpAddr) -> bool {
        super::parse::reserved_end(&self.prefix, address).is_some()
    }
}

/// A device in a living namespace whose Port is not known any more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survivor {
    /// The inode of its namespace; 0: nobody knows where it is.
    pub namespace_inode: u64,
    /// A path that leads there.
    pub place: String,
    /// Its name there.
    pub device: String,
    /// What it has of global scope.
    pub addresses: Vec<IpAddr>,
}

/// Devices by the Port that they were made for.
pub type Survivors = BTreeMap<Name, Survivor>;
