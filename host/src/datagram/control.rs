//! Control messages: what goes with a datagram beside its octets and its address.

use std::mem::{MaybeUninit, size_of};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ptr;

use libc::{c_int, c_uint};

use super::Message;

/// Room for all that a socket asks for or sends, an error with its offender included.
const ROOM: usize = 192;

/// A buffer of control messages.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Control {
    octets: [u8; ROOM],
}

/// A control message that was received.
#[derive(Debug, Clone, Copy)]
pub(super) struct Item<'a> {
    pub level: c_int,
    pub kind: c_int,
    pub data: &'a [u8],
}

/// Octets from the start of a control message to its data.
// SAFETY: the macro only calculates.
const DATA_AT: usize = unsafe { libc::CMSG_LEN(0) } as usize;

impl Control {
    pub const EMPTY: Control = Control { octets: [0; ROOM] };

    pub const LENGTH: usize = ROOM;

    /// Writes what a datagram is to be sent with; returns the octets used.
    pub fn write(&mut self, message: &Message<'_>) -> usize {
        let mut used = 0;
        match message.local {
            Some(IpAddr::V4(local)) => used += self.put(used, libc::SOL_IP, libc::IP_PKTINFO, from_v4(local)),
            Some(IpAddr::V6(local)) => {
                used += self.put(used, libc::SOL_IPV6, libc::IPV6_PKTINFO, from_v6(local));
            }
            None => {}
        }
        if message.tos != 0 {
            let tos = c_int::from(message.tos);
            used += match message.destination.is_ipv4() {
                true => self.put(used, libc::SOL_IP, libc::IP_TOS, tos),
                false => self.put(used, libc::SOL_IPV6, libc::IPV6_TCLASS, tos),
            };
        }
        if message.is_run() {
            // A segment of more octets than any datagram has is refused by the kernel, as it should be.
            let segment = u16::try_from(message.segment).unwrap_or(u16::MAX);
            used += self.put(used, libc::SOL_UDP, libc::UDP_SEGMENT, segment);
        }
        used
    }

    /// Writes one message at `at`; returns the octets that it takes.
    fn put<T: Copy>(&mut self, at: usize, level: c_int, kind: c_int, data: T) -> usize {
        let size = size_of::<T>() as c_uint;
        // SAFETY: the macros only calculate.
        let (length, space) = unsafe { (libc::CMSG_LEN(size), libc::CMSG_SPACE(size) as usize) };
        // SAFETY: all zero is a valid cmsghdr: plain numbers.
        let mut header: libc::cmsghdr = unsafe { MaybeUninit::zeroed().assume_init() };
        header.cmsg_len = length as _;
        header.cmsg_level = level;
        header.cmsg_type = kind;
        let room = &mut self.octets[at..at + space];
        // SAFETY: the slice has CMSG_SPACE octets: a header and, at DATA_AT, a `T`.
        unsafe {
            ptr::write_unaligned(room.as_mut_ptr().cast(), header);
            ptr::write_unaligned(room.as_mut_ptr().add(DATA_AT).cast(), data);
        }
        space
    }

    /// The messages in the first `length` octets, which the kernel has written.
    pub fn items(&self, length: usize) -> impl Iterator<Item = Item<'_>> {
        let mut rest = &self.octets[..length.min(ROOM)];
        std::iter::from_fn(move || {
            let header = rest.get(..size_of::<libc::cmsghdr>())?;
            // SAFETY: the slice is as long as a cmsghdr, which is plain numbers.
            let header: libc::cmsghdr = unsafe { ptr::read_unaligned(header.as_ptr().cast()) };
            let data = rest.get(DATA_AT..header.cmsg_len as usize)?;
            // SAFETY: the macro only calculates. The data is shorter than ROOM.
            let space = unsafe { libc::CMSG_SPACE(data.len() as c_uint) } as usize;
            rest = rest.get(space..).unwrap_or(&[]);
            Some(Item { level: header.cmsg_level, kind: header.cmsg_type, data })
        })
    }
}

impl Item<'_> {
    /// The data as a plain C structure.
    ///
    /// # Safety
    /// Any octets must be a valid `T`.
    pub unsafe fn read<T: Copy>(&self) -> Option<T> {
        let data = self.data.get(..size_of::<T>())?;
        // SAFETY: the slice is as long as a T, and by the caller's word any octets are one.
        Some(unsafe { ptr::read_unaligned(data.as_ptr().cast()) })
    }

    /// The data as an int.
    pub fn number(&self) -> Option<c_int> {
        self.data.get(..size_of::<c_int>())?.try_into().ok().map(c_int::from_ne_bytes)
    }

    /// The address of this node that a datagram was sent to, if this tells it.
    pub fn local(&self) -> Option<IpAddr> {
        match (self.level, self.kind) {
            (libc::SOL_IP, libc::IP_PKTINFO) => {
                // SAFETY: plain numbers.
                let info: libc::in_pktinfo = unsafe { self.read() }?;
                // The address that an answer comes from: of a broadcast, the interface's own.
                Some(Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes()).into())
            }
            (libc::SOL_IPV6, libc::IPV6_PKTINFO) => {
                // SAFETY: plain numbers.
                let info: libc::in6_pktinfo = unsafe { self.read() }?;
                Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into())
            }
            _ => None,
        }
    }

    /// The TOS or traffic class, if this tells it.
    pub fn tos(&self) -> Option<u8> {
        match (self.level, self.kind) {
            (libc::SOL_IP, libc::IP_TOS) => self.data.first().copied(),
            // The kernel gives no more than eight bits.
            (libc::SOL_IPV6, libc::IPV6_TCLASS) => self.number().map(|class| class as u8),
            _ => None,
        }
    }

    /// The size of the datagrams that were put together, if this tells it.
    pub fn segment(&self) -> Option<usize> {
        let gro = (self.level, self.kind) == (libc::SOL_UDP, libc::UDP_GRO);
        gro.then(|| self.number()).flatten().and_then(|size| usize::try_from(size).ok())
    }
}

fn from_v4(address: Ipv4Addr) -> libc::in_pktinfo {
    let address = libc::in_addr { s_addr: u32::from_ne_bytes(address.octets()) };
    libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: address, ipi_addr: libc::in_addr { s_addr: 0 } }
}

fn from_v6(address: Ipv6Addr) -> libc::in6_pktinfo {
    libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: address.octets() }, ipi6_ifindex: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: Message<'_> = Message { segment: 1, octets: &[1, 2, 3], ..Message::NONE };

    #[test]
    fn a_plain_datagram_needs_none() {
        let plain = Message { octets: &[1, 2, 3], ..Message::NONE };
        for message in [plain, Message { segment: 3, ..plain }] {
            let mut control = Control::EMPTY;
            assert_eq!(control.write(&message), 0);
        }
    }

    #[test]
    fn each_message_is_found_where_the_length_of_the_one_before_says() {
        let mut control = Control::EMPTY;
        let used =
            control.write(&Message { tos: 0xb9, local: Some([198, 18, 0, 1].into()), segment: 1, ..RUN });
        let items: Vec<_> = control.items(used).collect();
        assert_eq!(items.len(), 3);
        assert_eq!(items[0].local(), Some([198, 18, 0, 1].into()));
        assert_eq!((items[1].tos(), items[1].data.len()), (Some(0xb9), 4));
        assert_eq!((items[2].kind, items[2].data), (libc::UDP_SEGMENT, &1u16.to_ne_bytes()[..]));
    }

    #[test]
    fn what_is_cut_short_is_left_out() {
        let mut control = Control::EMPTY;
        let used = control.write(&Message { tos: 1, ..RUN });
        assert_eq!(control.items(used - 24).count(), 1);
        assert_eq!(control.items(7).count(), 0);
        assert_eq!(control.items(0).count(), 0);
    }
}
