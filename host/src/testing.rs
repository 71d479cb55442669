//! For this crate's tests: namespaces that vanish with the test, temporary folders, frames, waiting with a
//! deadline.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::link::{LinkChange, Netlink, VethSpec};
use crate::netns::{Entered, NetNs};
use crate::poll::{Epoll, Events};
use crate::tap::VNET_HEADER_LEN;

/// Nothing here takes this long on a machine that works.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);
/// How long a test waits to be sure that nothing comes.
pub(crate) const SILENCE: Duration = Duration::from_millis(100);

pub(crate) const MAC_A: [u8; 6] = [2, 0, 0x5e, 0, 0, 0xa];
pub(crate) const MAC_B: [u8; 6] = [2, 0, 0x5e, 0, 0, 0xb];

/// The test's thread is in an empty namespace of its own while this lives.
pub(crate) fn own_namespace() -> (Entered, NetNs) {
    let namespace = NetNs::create_anonymous().unwrap();
    (namespace.enter().unwrap(), namespace)
}

/// A veth pair whose near end is in the thread's namespace, both ends up; the near end's index.
pub(crate) fn veth_up(near: &str, far: &str, there: &NetNs) -> u32 {
    let mut netlink = Netlink::open().unwrap();
    netlink
        .add_veth(&VethSpec {
            name: near,
            mac: Some(MAC_A),
            peer_name: far,
            peer_mac: Some(MAC_B),
            peer_netns: there,
            mtu: 1500,
            txqueuelen: 1000,
        })
        .unwrap();
    set_up(far, there);
    let index = netlink.link_by_name(near).unwrap().unwrap().index;
    netlink.set_link(index, &LinkChange { up: Some(true), ..LinkChange::default() }).unwrap();
    index
}

/// Sets a device of a namespace up; its index there.
pub(crate) fn set_up(name: &str, there: &NetNs) -> u32 {
    let _entered = there.enter().unwrap();
    let mut netlink = Netlink::open().unwrap();
    let index = netlink.link_by_name(name).unwrap().unwrap().index;
    netlink.set_link(index, &LinkChange { up: Some(true), ..LinkChange::default() }).unwrap();
    index
}

/// A folder that vanishes with the test.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(test: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("weft-host-{}-{test}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Folder(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        for entry in std::fs::read_dir(&self.0).into_iter().flatten().flatten() {
            let _ = crate::netns::remove(&entry.path());
        }
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A virtio-net header that asks for nothing, and an ARP request (RFC 826) for `target`.
pub(crate) fn arp_request(from: [u8; 6], sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let mut bytes = vec![0; VNET_HEADER_LEN];
    bytes.extend([0xff; 6]);
    bytes.extend(from);
    bytes.extend([0x08, 0x06, 0, 1, 0x08, 0x00, 6, 4, 0, 1]);
    bytes.extend(from);
    bytes.extend(sender);
    bytes.extend([0; 6]);
    bytes.extend(target);
    bytes
}

/// Whether a frame (behind its header) is an ARP reply from `sender`.
pub(crate) fn is_arp_reply(buffer: &[u8], sender: [u8; 4]) -> bool {
    let frame = &buffer[VNET_HEADER_LEN..];
    frame[12..14] == [0x08, 0x06] && frame[20..22] == [0, 2] && frame[28..32] == sender
}

/// Reads frames until one is as wanted, or the time is over.
pub(crate) fn receive(
    device: &impl AsFd,
    recv: impl Fn(&mut [u8]) -> io::Result<usize>,
    within: Duration,
    wanted: impl Fn(&[u8]) -> bool,
) -> Option<Vec<u8>> {
    let (epoll, mut events) = (Epoll::new().unwrap(), Events::with_capacity(1));
    epoll.add(device.as_fd(), 0).unwrap();
    let end = Instant::now() + within;
    let mut buffer = vec![0; 70_000];
    loop {
        match recv(&mut buffer) {
            Ok(length) if wanted(&buffer[..length]) => return Some(buffer[..length].to_vec()),
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}"),
        }
        let left = end.checked_duration_since(Instant::now())?;
        epoll.wait(&mut events, Some(left)).unwrap();
    }
}
