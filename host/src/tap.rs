//! TAP devices: making them, taking them over again after a restart, and their queues.
//!
//! The owner of a queue reads what the kernel sends on the device, and writes what the kernel receives there.
//! Each buffer is a virtio-net header of [`VNET_HEADER_LEN`] octets in the machine's byte order (OASIS VIRTIO
//! 1.2 section 5.1.6, legacy layout), followed by an Ethernet frame.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use libc::{c_int, c_uint};

use crate::descriptor::{checked, read, write};
use crate::link::Netlink;
use crate::netns::NetNs;
use crate::{Error, Result};

#[cfg(test)]
mod tests;

/// Octets of the virtio-net header before each frame.
pub const VNET_HEADER_LEN: usize = 10;

/// What the kernel may put in, and take out of, a TAP without doing it itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offloads {
    /// Partial checksums (VIRTIO_NET_HDR_F_NEEDS_CSUM).
    pub checksum: bool,
    /// TCP over IPv4 super-packets.
    pub tso4: bool,
    /// TCP over IPv6 super-packets.
    pub tso6: bool,
    /// TCP super-packets with ECN.
    pub tso_ecn: bool,
    /// UDP super-packets (VIRTIO_NET_HDR_GSO_UDP_L4), over both IPv4 and IPv6.
    pub uso: bool,
}

/// Sets of offloads, best first: the first that the kernel takes is used.
const OFFLOADS: [c_uint; 6] = {
    let csum = libc::TUN_F_CSUM;
    let tso4 = csum | libc::TUN_F_TSO4;
    let tso = tso4 | libc::TUN_F_TSO6;
    let ecn = tso | libc::TUN_F_TSO_ECN;
    [ecn | libc::TUN_F_USO4 | libc::TUN_F_USO6, ecn, tso, tso4, csum, 0]
};

/// An open TAP device. The kernel sees a carrier while at least one queue is open.
#[derive(Debug)]
pub struct Tap {
    /// Its queues; the kernel keeps each flow on one of them.
    pub queues: Vec<TapQueue>,
    /// What was agreed with the kernel.
    pub offloads: Offloads,
    /// The device's name.
    pub name: String,
}

/// One queue of a TAP device: a descriptor that does not block.
#[derive(Debug)]
pub struct TapQueue(OwnedFd);

impl Tap {
    /// Makes the device, or takes over one that nobody has open, in the thread's namespace, with this many
    /// queues (at least one). The device stays when the queues are closed; see [`Netlink::delete_link`].
    ///
    /// # Errors
    /// [`Error::AlreadyUsed`] when the device is no multi-queue TAP or somebody has a queue of it open.
    pub fn open(name: &str, queues: usize) -> Result<Tap> {
        let tap = Tap::attach(name, queues)?;
        tap.persist(true)?;
        Ok(tap)
    }

    /// Like [`Tap::open`], but a device that this makes goes away with its last queue until [`Tap::persist`]
    /// is called: whoever wants to mark it first leaves nothing unmarked behind, whenever it ends.
    pub fn attach(name: &str, queues: usize) -> Result<Tap> {
        check_name(name)?;
        refuse_used(name)?;
        let queues = (0..queues.max(1)).map(|_| open_queue(name)).collect::<Result<Vec<_>>>()?;
        let mut tap = Tap { queues, offloads: Offloads::default(), name: name.to_owned() };
        tap.configure().map_err(|source| Error::os("configure TAP device", name, source))?;
        Ok(tap)
    }

    /// Whether the device stays when its last queue is closed.
    pub fn persist(&self, stays: bool) -> Result<()> {
        let Some(queue) = self.queues.first() else { return Ok(()) };
        // SAFETY: this request takes a number.
        checked(unsafe { libc::ioctl(queue.0.as_raw_fd(), libc::TUNSETPERSIST, c_int::from(stays)) })
            .map_err(|source| Error::os("make persistent TAP device", self.name.as_str(), source))?;
        Ok(())
    }

    /// Agrees on the header and the offloads. All of this belongs to the device, so one queue is enough.
    fn configure(&mut self) -> io::Result<()> {
        let Some(queue) = self.queues.first() else { return Ok(()) };
        let header_length = VNET_HEADER_LEN as c_int;
        let fd = queue.0.as_raw_fd();
        // SAFETY: these requests read a c_int through the pointer.
        checked(unsafe { libc::ioctl(fd, libc::TUNSETVNETHDRSZ, &raw const header_length) })?;
        // Writing must not wait for, or fail on, what a receiver has not read yet.
        let unlimited = c_int::MAX;
        // SAFETY: as above.
        checked(unsafe { libc::ioctl(fd, libc::TUNSETSNDBUF, &raw const unlimited) })?;
        self.offloads = agree_on_offloads(queue)?;
        Ok(())
    }
}

/// Whether this kernel knows UDP super-packets in virtio-net headers (Linux 6.2). It says so of a TAP only, and knows the same
/// at packet sockets; where there are no TAPs, the answer is no.
///
/// # Errors
/// When there is no namespace for a TAP that nobody else sees.
pub fn knows_udp_super_packets() -> Result<bool> {
    let _entered = NetNs::create_anonymous()?.enter()?;
    Ok(Tap::attach("probe", 1).is_ok_and(|tap| tap.offloads.uso))
}

impl TapQueue {
    /// Reads one header and frame; returns their length together. A frame that is longer than the buffer is
    /// cut.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing to read; EBADFD when the device is gone.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        read(self.0.as_fd(), buffer)
    }

    /// Writes one header and frame.
    ///
    /// # Errors
    /// EINVAL when the header contradicts the frame; EIO when the device is down; EBADFD when it is gone.
    pub fn send(&self, buffer: &[u8]) -> io::Result<usize> {
        write(self.0.as_fd(), buffer)
    }

    /// How many frames the device (all of its queues) has lost since they were not read in time, or since no
    /// queue was open.
    ///
    /// # Errors
    /// [`Error::is_gone`] when the device is gone.
    pub fn device_drops(&self) -> Result<u64> {
        let _entered = NetNs::of_tap(self.0.as_fd())?.enter()?;
        let name = self.device_name().map_err(|source| Error::os("name", "the device of a queue", source))?;
        Netlink::open()?.transmit_drops(&name)
    }

    /// The present name of the device, which may not be the one that it was opened by.
    fn device_name(&self) -> io::Result<String> {
        let mut request = empty_request();
        // SAFETY: the request is a live ifreq, which the kernel fills.
        checked(unsafe { libc::ioctl(self.0.as_raw_fd(), libc::TUNGETIFF, &raw mut request) })?;
        let octets = request.ifr_name.iter().take_while(|octet| **octet != 0).map(|octet| *octet as u8);
        String::from_utf8(octets.collect()).map_err(io::Error::other)
    }
}

impl AsFd for TapQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The kernel makes a number of "%d", and refuses what could not be a file name.
fn check_name(name: &str) -> Result<()> {
    let fits = (1..libc::IFNAMSIZ).contains(&name.len()) && name != "." && name != "..";
    let plain = |byte: u8| !matches!(byte, b'/' | b':' | b'%' | 0) && !byte.is_ascii_whitespace();
    if fits && name.bytes().all(plain) { Ok(()) } else { Err(Error::DeviceName { name: name.to_owned() }) }
}

/// A multi-queue device lets anybody open one queue more, so whether it is in use has to be asked for.
fn refuse_used(name: &str) -> Result<()> {
    let reason = match Netlink::open()?.tun_queues(name)? {
        None | Some(Some(0)) => return Ok(()),
        Some(None) => "it is no TAP device".to_owned(),
        Some(Some(queues)) => format!("{queues} of its queues are open"),
    };
    Err(Error::AlreadyUsed { name: name.to_owned(), reason })
}

fn open_queue(name: &str) -> Result<TapQueue> {
    let failed = |source| Error::os("open TAP device", name, source);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open("/dev/net/tun")
        .map_err(failed)?;
    match set_interface(&file, name) {
        Ok(()) => Ok(TapQueue(file.into())),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EBUSY)) => {
            Err(Error::AlreadyUsed {
                name: name.to_owned(),
                reason: "it is no multi-queue TAP device".into(),
            })
        }
        Err(error) => Err(failed(error)),
    }
}

fn empty_request() -> libc::ifreq {
    libc::ifreq { ifr_name: [0; libc::IFNAMSIZ], ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: 0 } }
}

fn set_interface(file: &File, name: &str) -> io::Result<()> {
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_MULTI_QUEUE;
    let mut request = empty_request();
    // The flags are bits of a short of which 0x8000 is not used here, so nothing is lost.
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    // SAFETY: the request is a live ifreq with a terminated name (check_name leaves room for the NUL).
    checked(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })?;
    Ok(())
}

fn agree_on_offloads(queue: &TapQueue) -> io::Result<Offloads> {
    let mut refused = io::Error::from(io::ErrorKind::Unsupported);
    for flags in OFFLOADS {
        // SAFETY: this request takes a number.
        match checked(unsafe {
            libc::ioctl(queue.0.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(flags))
        }) {
            Ok(_) => return Ok(Offloads::from_flags(flags)),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

impl Offloads {
    fn from_flags(flags: c_uint) -> Offloads {
        let has = |flag: c_uint| flags & flag != 0;
        Offloads {
            checksum: has(libc::TUN_F_CSUM),
            tso4: has(libc::TUN_F_TSO4),
            tso6: has(libc::TUN_F_TSO6),
            tso_ecn: has(libc::TUN_F_TSO_ECN),
            uso: has(libc::TUN_F_USO4) && has(libc::TUN_F_USO6),
        }
    }
}
