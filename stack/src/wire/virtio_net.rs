//! The virtio-net header that TAP devices and packet sockets put before a frame
//! (virtio 1.2 section 5.1.6; the 10-octet form without `num_buffers`, in the machine's byte order).
//!
//! Only what the header itself says is checked here. Whether it is true of the frame is the ingress
//! stage's to find out.

use crate::packet::{Gso, GsoKind, Offload, PartialChecksum};

/// Octets of the header.
pub const HEADER_LENGTH: usize = 10;

const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// The header is cut short, or names a segmentation that the stack does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("virtio-net header of {length} octets with gso type {gso_type:#04x} is not valid")]
pub struct InvalidHeader {
    /// How many octets there were.
    pub length: usize,
    /// What the gso_type field held.
    pub gso_type: u8,
}

/// Reads the header at the start of `bytes`; answers with what it says and with its length.
pub fn parse(bytes: &[u8]) -> Result<(Offload, usize), InvalidHeader> {
    let Some(header) = bytes.first_chunk::<HEADER_LENGTH>() else {
        return Err(InvalidHeader { length: bytes.len(), gso_type: 0 });
    };
    let [flags, gso_type, h0, h1, s0, s1, c0, c1, o0, o1] = *header;
    let kind = match gso_type & !GSO_ECN {
        GSO_NONE if gso_type == GSO_NONE => None,
        GSO_TCPV4 => Some(GsoKind::TcpV4),
        GSO_TCPV6 => Some(GsoKind::TcpV6),
        GSO_UDP_L4 if gso_type == GSO_UDP_L4 => Some(GsoKind::Udp),
        _ => return Err(InvalidHeader { length: bytes.len(), gso_type }),
    };
    let offload = Offload {
        checksum: (flags & NEEDS_CSUM != 0).then(|| PartialChecksum {
            start: u16::from_ne_bytes([c0, c1]),
            offset: u16::from_ne_bytes([o0, o1]),
        }),
        gso: kind.map(|kind| Gso {
            kind,
            size: u16::from_ne_bytes([s0, s1]),
            header_length: u16::from_ne_bytes([h0, h1]),
            ecn: gso_type & GSO_ECN != 0,
        }),
        verified: flags & DATA_VALID != 0,
    };
    Ok((offload, HEADER_LENGTH))
}

/// The header that says this.
pub fn emit(offload: &Offload) -> [u8; HEADER_LENGTH] {
    let mut header = [0; HEADER_LENGTH];
    if let Some(checksum) = offload.checksum {
        header[0] = NEEDS_CSUM;
        header[6..8].copy_from_slice(&checksum.start.to_ne_bytes());
        header[8..10].copy_from_slice(&checksum.offset.to_ne_bytes());
    } else if offload.verified {
        header[0] = DATA_VALID;
    }
    if let Some(gso) = offload.gso {
        header[1] = match gso.kind {
            GsoKind::TcpV4 => GSO_TCPV4,
            GsoKind::TcpV6 => GSO_TCPV6,
            GsoKind::Udp => GSO_UDP_L4,
        } | if gso.ecn { GSO_ECN } else { 0 };
        header[2..4].copy_from_slice(&gso.header_length.to_ne_bytes());
        header[4..6].copy_from_slice(&gso.size.to_ne_bytes());
    }
    header
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_tso_header_as_linux_writes_it() {
        // tcpdump of a TAP queue on x86-64: 1448-octet segments, headers of 66 octets, checksum at 34 + 16.
        let bytes = [1, 1, 66, 0, 0xa8, 0x05, 34, 0, 16, 0];
        let (offload, length) = parse(&bytes).unwrap();
        assert_eq!(length, HEADER_LENGTH);
        assert_eq!(offload.checksum, Some(PartialChecksum { start: 34, offset: 16 }));
        let gso = Gso { kind: GsoKind::TcpV4, size: 1448, header_length: 66, ecn: false };
        assert_eq!(offload.gso, Some(gso));
    }

    #[test]
    fn ufo_and_unknown_types_are_refused() {
        for gso_type in [2, 3, 6, 0x80, 0x85, 0xff] {
            assert!(parse(&[0, gso_type, 0, 0, 0, 0, 0, 0, 0, 0]).is_err(), "{gso_type:#x}");
        }
    }

    proptest! {
        #[test]
        fn parse_never_panics_and_emit_is_its_inverse(bytes in proptest::collection::vec(any::<u8>(), 0..24)) {
            if let Ok((offload, _)) = parse(&bytes) {
                let (again, _) = parse(&emit(&offload)).unwrap();
                prop_assert_eq!(again.gso, offload.gso);
                prop_assert_eq!(again.checksum, offload.checksum);
            }
        }
    }
}
