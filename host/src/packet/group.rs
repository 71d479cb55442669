//! Several packet sockets on one link, over which the kernel spreads the flows.
//!
//! The kernel hashes addresses and ports (PACKET_FANOUT_HASH: `__skb_get_hash_symmetric`), the same for both
//! directions of a flow and on every link. So frame order within a flow stays, and of two links with as many
//! sockets each the answers to what came by the one's nth socket come by the other's nth.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use libc::c_int;

use super::filter::admit;
use super::{PacketOptions, PacketSocket, Tags, bind, failed, forget_error, open};
use crate::Result;
use crate::socket::{option, refuse_all, set_option};

const FLAG_UNIQUE_ID: c_int = 0x2000;
/// The upper half of the option's value; the number of the group is the lower.
const TYPE_SHIFT: c_int = 16;
const GROUP_NUMBER: c_int = 0xffff;

impl PacketSocket {
    /// Binds `count` sockets (at least one) to the link with this index in the thread's namespace; each frame
    /// comes to one of them, all of a flow to the same. More than one need the link to be up. From the first frame on
    /// they hear those with these tags alone; `None`: all.
    ///
    /// # Errors
    /// As [`PacketSocket::bind`] and [`PacketSocket::admit`].
    pub fn bind_group(
        index: u32,
        count: usize,
        options: PacketOptions,
        tags: Option<&Tags>,
    ) -> Result<Vec<PacketSocket>> {
        if count <= 1 {
            return Ok(vec![PacketSocket::bind_with(index, options, tags)?]);
        }
        let mut sockets = Vec::with_capacity(count);
        let mut group = None;
        for _ in 0..count {
            let member = join(index, &mut group, options, tags);
            let member = member.and_then(|fd| PacketSocket::finish(fd, index, options));
            sockets.push(member.map_err(|source| failed(index, source))?);
        }
        Ok(sockets)
    }
}

/// A socket that is a member of `group`; the first makes it. A member hears nothing before it has joined: it
/// would hear once more what goes to another.
fn join(
    index: u32,
    group: &mut Option<c_int>,
    options: PacketOptions,
    tags: Option<&Tags>,
) -> io::Result<OwnedFd> {
    let fd = open(options)?;
    refuse_all(fd.as_fd())?;
    bind(&fd, index)?;
    forget_error(&fd)?;
    let hash = libc::PACKET_FANOUT_HASH as c_int;
    let wanted = match group {
        Some(number) => *number | hash << TYPE_SHIFT,
        None => (hash | FLAG_UNIQUE_ID) << TYPE_SHIFT,
    };
    set_option(fd.as_fd(), libc::SOL_PACKET, libc::PACKET_FANOUT, wanted)?;
    // SAFETY: this option is an int.
    let joined: c_int = unsafe { option(fd.as_fd(), libc::SOL_PACKET, libc::PACKET_FANOUT) }?;
    *group = Some(joined & GROUP_NUMBER);
    admit(fd.as_fd(), tags)?;
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netns::NetNs;
    use crate::tap::VNET_HEADER_LEN;
    use crate::testing::{DEADLINE, MAC_A, MAC_B, own_namespace, socket_at, veth_up};

    const FLOWS: u16 = 64;
    const SOCKETS: usize = 3;

    /// A UDP datagram over IPv4 (RFC 768, RFC 791) without checksums; `back` turns it round.
    fn datagram(flow: u16, back: bool) -> Vec<u8> {
        let (from, to) =
            if back { ([198, 18, 6, 2], [198, 18, 6, 1]) } else { ([198, 18, 6, 1], [198, 18, 6, 2]) };
        let (source, destination) = if back { (53, 10_000 + flow) } else { (10_000 + flow, 53) };
        let mut bytes = vec![0; VNET_HEADER_LEN];
        bytes.extend(MAC_A);
        bytes.extend(MAC_B);
        bytes.extend([0x08, 0x00, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0]);
        bytes.extend(from);
        bytes.extend(to);
        bytes.extend(u16::to_be_bytes(source));
        bytes.extend(u16::to_be_bytes(destination));
        bytes.extend([0, 8, 0, 0]);
        bytes
    }

    /// The flows that each socket hears, each once or more, until all frames have come.
    fn heard(sockets: &[PacketSocket], frames: usize) -> Vec<Vec<u16>> {
        let mut heard = vec![Vec::new(); sockets.len()];
        let end = std::time::Instant::now() + DEADLINE;
        while heard.iter().map(Vec::len).sum::<usize>() < frames {
            assert!(std::time::Instant::now() < end, "{heard:?}");
            for (socket, heard) in sockets.iter().zip(&mut heard) {
                let mut buffer = [0; 2048];
                while let Ok(length) = socket.recv(&mut buffer) {
                    let ports = &buffer[VNET_HEADER_LEN + 34..length.min(VNET_HEADER_LEN + 38)];
                    let numbers = ports.chunks(2).map(|port| u16::from_be_bytes([port[0], port[1]]));
                    heard.extend(numbers.filter(|port| (10_000..10_000 + FLOWS).contains(port)));
                }
            }
        }
        heard
    }

    #[test]
    fn each_flow_comes_to_one_socket_in_both_directions_and_flows_are_spread() {
        let (_entered, _here) = own_namespace();
        let there = NetNs::create_anonymous().unwrap();
        let index = veth_up("h1", "eth0", &there);
        let far = socket_at("eth0", &there);
        let sockets = PacketSocket::bind_group(index, SOCKETS, PacketOptions::default(), None).unwrap();
        for flow in 0..FLOWS {
            far.send(&datagram(flow, false)).unwrap();
            far.send(&datagram(flow, true)).unwrap();
        }
        let heard = heard(&sockets, 2 * usize::from(FLOWS));
        for flow in 10_000..10_000 + FLOWS {
            let counts: Vec<usize> =
                heard.iter().map(|flows| flows.iter().filter(|other| **other == flow).count()).collect();
            assert_eq!(counts.iter().sum::<usize>(), 2, "flow {flow}: {counts:?}");
            assert!(counts.contains(&2), "flow {flow} is split: {counts:?}");
        }
        assert!(heard.iter().all(|flows| !flows.is_empty()), "{heard:?}");
    }

    #[test]
    fn groups_of_other_links_and_earlier_ones_are_no_hindrance() {
        let (_entered, _here) = own_namespace();
        let there = NetNs::create_anonymous().unwrap();
        let (one, two) = (veth_up("h1", "eth0", &there), veth_up("h2", "eth1", &there));
        let options = PacketOptions { promiscuous: true, queueing: true };
        for _ in 0..2 {
            let groups = [one, two].map(|index| PacketSocket::bind_group(index, 2, options, None).unwrap());
            assert!(groups.iter().all(|sockets| sockets.len() == 2));
        }
    }
}
