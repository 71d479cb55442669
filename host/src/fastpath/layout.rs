//! Keys and values of the maps, as `bpf/fastpath.c` has them.

use std::net::IpAddr;

use super::{Action, Flow};

/// `struct flow`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(super) struct FlowKey {
    ifindex: u32,
    family: u32,
    macs: [[u8; 6]; 2],
    source: [u8; 16],
    destination: [u8; 16],
}

/// `struct action`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(super) struct ActionValue {
    stamps: [u64; 2],
    until: u64,
    ifindex: u32,
    mtu: u32,
    counters: [u32; 2],
    routed: u32,
    macs: [[u8; 6]; 2],
    flow: FlowKey,
    unused: u32,
}

/// `struct totals`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub(super) struct TotalsValue {
    pub rx_packets: u64,
    pub rx_octets: u64,
    pub tx_packets: u64,
    pub tx_octets: u64,
}

// SAFETY: plain numbers in the order of their C namesakes, without padding: all octets are initialized, and any are
// valid.
unsafe impl aya::Pod for FlowKey {}
// SAFETY: as above.
unsafe impl aya::Pod for ActionValue {}
// SAFETY: as above.
unsafe impl aya::Pod for TotalsValue {}

impl FlowKey {
    pub fn new(ifindex: u32, flow: &Flow<'_>) -> FlowKey {
        let (source, destination) = flow.addresses;
        FlowKey {
            ifindex,
            family: if source.is_ipv4() { 4 } else { 6 },
            macs: [flow.destination, flow.source],
            source: octets(source),
            destination: octets(destination),
        }
    }
}

impl ActionValue {
    pub fn new(ifindex: u32, counters: [u32; 2], action: &Action<'_>, flow: FlowKey) -> ActionValue {
        let (destination, source) = action.routed.unwrap_or_default();
        ActionValue {
            stamps: [action.stamps.picture, action.stamps.neighbors],
            until: action.until.unwrap_or(u64::MAX),
            ifindex,
            mtu: action.mtu,
            counters,
            routed: action.routed.is_some().into(),
            macs: [destination, source],
            flow,
            unused: 0,
        }
    }
}

/// An IPv4 address stands in the first four octets.
fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => {
            let mut octets = [0; 16];
            octets[..4].copy_from_slice(&address.octets());
            octets
        }
        IpAddr::V6(address) => address.octets(),
    }
}
