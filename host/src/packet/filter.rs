//! Which frames a packet socket hears, by their VLAN tag: a program of the classic BPF, which the kernel runs.
//!
//! The numbers are those of `linux/filter.h` and `linux/bpf_common.h`. The kernel has taken the tag out of a frame by
//! then: programs read it beside the frame (SKF_AD_VLAN_TAG). It takes out those of IEEE 802.1ad too, which the stack does
//! not tell from what is behind them: a frame with one is a frame without a tag.

use std::io;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, BorrowedFd};

use libc::sock_filter;

use super::PacketSocket;
use crate::socket::{set_option, set_structure};

/// `ld [k]`.
const LOAD: u16 = 0x20;
/// `and #k`.
const AND: u16 = 0x54;
/// `jeq #k`, `jgt #k`, `jge #k`.
const IF_EQUAL: u16 = 0x15;
const IF_GREATER: u16 = 0x25;
const IF_NOT_LESS: u16 = 0x35;
/// `ret #k`: so many octets are heard.
const RETURN: u16 = 0x06;

/// SKF_AD_OFF + SKF_AD_VLAN_TAG_PRESENT, SKF_AD_VLAN_TPID (in the machine's byte order), and SKF_AD_VLAN_TAG.
const TAG_IS_THERE: u32 = 0xffff_f000 + 48;
const TAG_TYPE: u32 = 0xffff_f000 + 60;
const TAG: u32 = 0xffff_f000 + 44;
const ID: u32 = 0xfff;
/// BPF_MAXINSNS.
const LONGEST: usize = 4096;

/// What a socket hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tags {
    /// Frames without a tag of IEEE 802.1Q, or with one of priority alone.
    pub untagged: bool,
    /// Frames with a tag of one of these VLANs.
    pub ids: Vec<RangeInclusive<u16>>,
}

impl PacketSocket {
    /// Hears frames with these tags alone from now on; `None`: all. What has come before is still received. More ids
    /// than a program holds (2,000 apart from each other) are not told apart: all frames are heard.
    ///
    /// # Errors
    /// ENOMEM when the kernel has no room for the filter (`net.core.optmem_max`). After any error all frames are heard.
    pub fn admit(&self, tags: Option<&Tags>) -> io::Result<()> {
        admit(self.as_fd(), tags)
    }
}

/// As [`PacketSocket::admit`].
pub(super) fn admit(fd: BorrowedFd<'_>, tags: Option<&Tags>) -> io::Result<()> {
    let program = tags.map(program).unwrap_or_default();
    if program.is_empty() || program.len() > LONGEST {
        return detach(fd);
    }
    attach(fd, &program).or_else(|_| {
        // An earlier filter takes room until it is gone, and would keep out what is to be heard now.
        detach(fd)?;
        attach(fd, &program)
    })
}

/// Attaches a program of at most [`LONGEST`] steps in place of another.
fn attach(fd: BorrowedFd<'_>, program: &[sock_filter]) -> io::Result<()> {
    // The kernel copies the program and keeps no pointer to it.
    let description = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    set_structure(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &description)
}

fn detach(fd: BorrowedFd<'_>) -> io::Result<()> {
    match set_option(fd, libc::SOL_SOCKET, libc::SO_DETACH_FILTER, 0) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => other,
    }
}

fn program(tags: &Tags) -> Vec<sock_filter> {
    let heard = step(RETURN, u32::MAX);
    let not_heard = step(RETURN, 0);
    let without_tag = if tags.untagged { heard } else { not_heard };
    let mut program = vec![
        step(LOAD, TAG_IS_THERE),
        branch(IF_EQUAL, 0, 0, 1),
        without_tag,
        step(LOAD, TAG_TYPE),
        branch(IF_EQUAL, libc::ETH_P_8021Q as u32, 1, 0),
        without_tag,
        step(LOAD, TAG),
        step(AND, ID),
        branch(IF_EQUAL, 0, 0, 1),
        without_tag,
    ];
    for range in &tags.ids {
        let (first, last) = (u32::from(*range.start()), u32::from(*range.end()));
        match first == last {
            true => program.extend([branch(IF_EQUAL, first, 0, 1), heard]),
            false => {
                program.extend([branch(IF_GREATER, last, 2, 0), branch(IF_NOT_LESS, first, 0, 1), heard]);
            }
        }
    }
    program.push(not_heard);
    program
}

fn step(code: u16, k: u32) -> sock_filter {
    branch(code, k, 0, 0)
}

/// Skips `jt` steps when it is so, `jf` when it is not.
fn branch(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::netns::NetNs;
    use crate::packet::PacketOptions;
    use crate::tap::VNET_HEADER_LEN;
    use crate::testing::{DEADLINE, MAC_A, MAC_B, own_namespace, socket_at, veth_up};

    /// The ethertypes of tags.
    const Q: u16 = 0x8100;
    const AD: u16 = 0x88a8;

    /// A frame that says its number, behind tags of these types and with these TCIs.
    fn frame(number: u8, tags: &[(u16, u16)]) -> Vec<u8> {
        let mut bytes = vec![0; VNET_HEADER_LEN];
        bytes.extend(MAC_A);
        bytes.extend(MAC_B);
        bytes.extend(tags.iter().flat_map(|(tpid, tci)| [tpid.to_be_bytes(), tci.to_be_bytes()].concat()));
        bytes.extend([0x88, 0xb5]);
        bytes.extend([number; 46]);
        bytes
    }

    /// The numbers of what is heard up to frame 255, which always is.
    fn heard(socket: &PacketSocket) -> Vec<u8> {
        let (mut heard, end) = (Vec::new(), std::time::Instant::now() + DEADLINE);
        while heard.last() != Some(&255) {
            assert!(std::time::Instant::now() < end, "{heard:?}");
            let mut buffer = [0; 2048];
            if let Ok(length) = socket.recv(&mut buffer) {
                heard.push(buffer[length - 1]);
            }
        }
        heard
    }

    #[test]
    fn the_tag_decides_and_all_is_heard_again_without_a_filter() {
        let (_entered, _here) = own_namespace();
        let there = NetNs::create_anonymous().unwrap();
        let index = veth_up("h1", "eth0", &there);
        let far = socket_at("eth0", &there);
        let frames = [
            (1, &[][..]),
            (2, &[(Q, 0x6000)]),
            (3, &[(Q, 20)]),
            (4, &[(Q, 0x6000 | 20)]),
            (5, &[(Q, 29)]),
            (6, &[(Q, 30)]),
            (7, &[(Q, 39)]),
            (8, &[(Q, 40)]),
            (9, &[(Q, 4094)]),
            (10, &[(AD, 20)]),
            (11, &[(AD, 0), (Q, 20)]),
            (12, &[(Q, 20), (AD, 40)]),
            (255, &[(Q, 100)]),
        ];
        let socket = PacketSocket::bind(index).unwrap();
        let tagged = Tags { untagged: false, ids: vec![20..=20, 30..=39, 100..=100] };
        let plain = Tags { untagged: true, ids: vec![100..=100] };
        for (tags, expected) in [
            (Some(&tagged), &[3, 4, 6, 7, 12, 255][..]),
            (Some(&plain), &[1, 2, 10, 11, 255]),
            (None, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 255]),
            (None, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 255]),
        ] {
            socket.admit(tags).unwrap();
            for (number, behind) in frames {
                far.send(&frame(number, behind)).unwrap();
            }
            assert_eq!(heard(&socket), expected, "{tags:?}");
        }
    }

    #[test]
    fn a_socket_that_is_bound_with_tags_never_hears_others() {
        let (_entered, _here) = own_namespace();
        let there = NetNs::create_anonymous().unwrap();
        let index = veth_up("h1", "eth0", &there);
        let far = socket_at("eth0", &there);
        let tags = Tags { untagged: false, ids: vec![100..=100] };
        let options = PacketOptions { promiscuous: true, queueing: true };
        for count in [1, 2] {
            let done = AtomicBool::new(false);
            let groups = std::thread::scope(|scope| {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        // Refused when the link is full.
                        let _ = far.send(&frame(20, &[(Q, 20)]));
                    }
                });
                let bind = |_| PacketSocket::bind_group(index, count, options, Some(&tags));
                let bound: Vec<_> = (0..20).map(bind).collect();
                done.store(true, Ordering::Relaxed);
                bound
            });
            for socket in groups.into_iter().flat_map(Result::unwrap) {
                let received = socket.recv(&mut [0; 2048]);
                assert_eq!(received.map_err(|error| error.kind()), Err(io::ErrorKind::WouldBlock), "{count}");
            }
        }
    }

    #[test]
    fn more_ids_than_a_program_holds_or_the_kernel_has_room_for_are_heard_with_all_others() {
        let (_entered, _here) = own_namespace();
        let there = NetNs::create_anonymous().unwrap();
        let index = veth_up("h1", "eth0", &there);
        let far = socket_at("eth0", &there);
        let socket = PacketSocket::bind(index).unwrap();
        let few = Tags { untagged: false, ids: vec![1..=1, 4094..=4094] };
        let tags = |count: u16| Tags { untagged: true, ids: (1..=count).map(|n| 2 * n..=2 * n).collect() };
        assert!(program(&tags(2000)).len() <= LONGEST && program(&tags(2047)).len() > LONGEST);
        // A kernel that has this limit for the whole machine alone does not show it here.
        let limited = std::fs::write("/proc/sys/net/core/optmem_max", "8192").is_ok();
        for count in [2000, 2047] {
            socket.admit(Some(&few)).unwrap();
            let result = socket.admit(Some(&tags(count)));
            assert!(count != 2000 || !limited || result.is_err());
            for (number, id) in [(1, 4000), (2, 4001), (255, 2)] {
                far.send(&frame(number, &[(Q, id)])).unwrap();
            }
            let all = count == 2047 || result.is_err();
            let expected: &[u8] = if all { &[1, 2, 255] } else { &[1, 255] };
            assert_eq!(heard(&socket), expected, "{count}: {result:?}");
        }
    }
}
