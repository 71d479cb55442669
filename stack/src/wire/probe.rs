//! Loop probes: frames that a node sends by its uplinks, to see whether they come back to it.
//!
//! A protocol of Weft's own, with the EtherType that IEEE 802 clause 9.2 leaves for experiments: magic (4 octets),
//! version (1), three octets of zero, then in network order the node's key (8), the network (8) and the port (4).

use super::ethernet::{self, Header};
use super::{read_u16, read_u32};
use crate::MacAddr;

/// Octets of a frame with a probe: the shortest that Ethernet has.
pub const LENGTH: usize = 60;
/// Where probes go: a group of local significance, which bridges flood.
pub const GROUP: MacAddr = MacAddr([0x03, 0x57, 0x65, 0x66, 0x74, 0x4c]);

/// IEEE Std 802 - Local Experimental Ethertype 1.
const ETHERTYPE: u16 = 0x88b5;
const MAGIC: [u8; 4] = *b"WFTL";
const VERSION: u8 = 1;

/// Who sent a probe, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// The node's key.
    pub node: u64,
    /// The network.
    pub network: u64,
    /// The port's number.
    pub port: u32,
}

impl Probe {
    /// Reads a frame without a VLAN tag. `None`: it is no probe, or one of a version that is not known.
    pub fn parse(frame: &[u8]) -> Option<Probe> {
        let (header, payload) = frame.split_at_checked(ethernet::HEADER_LENGTH)?;
        let payload = payload.first_chunk::<28>()?;
        let ours = header[..6] == GROUP.0 && read_u16(header, 12) == ETHERTYPE;
        if !ours || payload[..4] != MAGIC || payload[4] != VERSION {
            return None;
        }
        let long = |at: usize| u64::from(read_u32(payload, at)) << 32 | u64::from(read_u32(payload, at + 4));
        Some(Probe { node: long(8), network: long(16), port: read_u32(payload, 24) })
    }

    /// Writes the frame into the first [`LENGTH`] octets of `frame`.
    pub fn emit(&self, source: MacAddr, frame: &mut [u8]) {
        let frame = &mut frame[..LENGTH];
        frame.fill(0);
        Header { destination: GROUP, source, ethertype: ETHERTYPE }.emit(frame);
        let payload = &mut frame[ethernet::HEADER_LENGTH..];
        payload[..4].copy_from_slice(&MAGIC);
        payload[4] = VERSION;
        payload[8..16].copy_from_slice(&self.node.to_be_bytes());
        payload[16..24].copy_from_slice(&self.network.to_be_bytes());
        payload[24..28].copy_from_slice(&self.port.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_group_is_local_and_not_reserved() {
        assert_eq!(GROUP.0[0] & 3, 3);
        assert!(!GROUP.is_reserved_multicast());
    }

    #[test]
    fn other_frames_of_the_experimental_type_are_no_probes() {
        let mut frame = [0; LENGTH];
        Probe { node: 1, network: 2, port: 3 }.emit(MacAddr([2, 0, 0, 0, 0, 1]), &mut frame);
        for at in [0, 12, 14, 18] {
            let mut other = frame;
            other[at] ^= 1;
            assert_eq!(Probe::parse(&other), None, "octet {at}");
        }
        assert_eq!(Probe::parse(&frame[..41]), None);
    }

    proptest! {
        #[test]
        fn emit_then_parse_is_the_identity(node in any::<u64>(), network in any::<u64>(), port in any::<u32>()) {
            let (probe, mut frame) = (Probe { node, network, port }, [0; LENGTH]);
            probe.emit(MacAddr([2, 0, 0, 0, 0, 1]), &mut frame);
            prop_assert_eq!(Probe::parse(&frame), Some(probe));
        }

        #[test]
        fn parse_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Probe::parse(&bytes);
        }
    }
}
