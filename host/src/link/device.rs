//! Devices: listing, veth pairs, changes, removal.

use std::os::fd::{AsFd, AsRawFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage,
};

use super::{Link, LinkChange, Netlink, VethSpec, Wish, decode};
use crate::{Error, Result};

impl Netlink {
    /// All devices of the namespace.
    pub fn links(&mut self) -> Result<Vec<Link>> {
        let mut request = LinkMessage::default();
        // Counters are most of the answer, and nobody here reads them.
        request.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        let wish = Wish { operation: "list", object: "links" };
        let request = RouteNetlinkMessage::GetLink(request);
        self.dump(&request, libc::RTM_NEWLINK, |payload| decode::link(payload).map(Some), wish)
    }

    /// The device of this name, or `None`.
    pub fn link_by_name(&mut self, name: &str) -> Result<Option<Link>> {
        self.find(name, decode::link)
    }

    /// How many frames the device of this name has lost on the way out, by its own count.
    ///
    /// # Errors
    /// [`Error::is_gone`] when it does not exist.
    pub(crate) fn transmit_drops(&mut self, name: &str) -> Result<u64> {
        let drops = self.find(name, decode::transmit_drops)?.ok_or(libc::ENODEV);
        drops
            .map_err(std::io::Error::from_raw_os_error)
            .map_err(|source| Error::os("read the counters of", format!("link {name}"), source))
    }

    /// How many queues of the TAP (or TUN) device are open: `None` when there is no device of this name, and
    /// `Some(None)` when it is another kind of device.
    pub(crate) fn tun_queues(&mut self, name: &str) -> Result<Option<Option<u32>>> {
        self.find(name, decode::tun_queues)
    }

    /// Makes both ends of a veth pair, with one queue each, in one step: there is never half a pair. Both are
    /// down and have no alias.
    ///
    /// # Errors
    /// [`Error::is_exists`] when one of the names is taken.
    pub fn add_veth(&mut self, spec: &VethSpec<'_>) -> Result<()> {
        let mut peer = LinkMessage::default();
        peer.attributes = veth_end(spec.peer_name, spec.peer_mac, spec);
        peer.attributes.push(LinkAttribute::NetNsFd(spec.peer_netns.as_fd().as_raw_fd()));
        let mut request = LinkMessage::default();
        request.attributes = veth_end(spec.name, spec.mac, spec);
        request.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]));
        let object = format!("{} to {}", spec.name, spec.peer_name);
        let wish = Wish { operation: "add veth pair", object: &object };
        self.change(RouteNetlinkMessage::NewLink(request), NLM_F_CREATE | NLM_F_EXCL, wish)
    }

    /// Changes a device. Name, MAC address, MTU, queue length and alias are set before it goes up.
    pub fn set_link(&mut self, index: u32, change: &LinkChange) -> Result<()> {
        let mut request = LinkMessage::default();
        request.header.index = index;
        if let Some(up) = change.up {
            request.header.change_mask = LinkFlags::Up;
            request.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
        }
        let attributes = [
            change.name.clone().map(LinkAttribute::IfName),
            change.mac.map(|mac| LinkAttribute::Address(mac.to_vec())),
            change.mtu.map(LinkAttribute::Mtu),
            change.txqueuelen.map(LinkAttribute::TxQueueLen),
            change.gso_max_size.map(LinkAttribute::GsoMaxSize),
            change.alias.clone().map(LinkAttribute::IfAlias),
            change.group.map(LinkAttribute::Group),
        ];
        request.attributes = attributes.into_iter().flatten().collect();
        let object = format!("link {index}");
        self.change(RouteNetlinkMessage::SetLink(request), 0, Wish { operation: "change", object: &object })
    }

    /// Removes a device; with one end of a veth pair, the other goes too.
    ///
    /// # Errors
    /// [`Error::is_gone`] when it does not exist.
    pub fn delete_link(&mut self, index: u32) -> Result<()> {
        let mut request = LinkMessage::default();
        request.header.index = index;
        let object = format!("link {index}");
        self.change(RouteNetlinkMessage::DelLink(request), 0, Wish { operation: "remove", object: &object })
    }

    /// Removes all devices of a group, however many in about the time that one takes: the kernel waits once for those
    /// who may still look at them. With one end of a veth pair, the other goes too.
    ///
    /// # Errors
    /// [`Error::is_gone`] when there are none.
    pub fn delete_group(&mut self, group: u32) -> Result<()> {
        let mut request = LinkMessage::default();
        request.attributes.push(LinkAttribute::Group(group));
        let object = format!("links of group {group}");
        self.change(RouteNetlinkMessage::DelLink(request), 0, Wish { operation: "remove", object: &object })
    }

    /// Brings the loopback device up, and marks it.
    /// Brings the loopback device up, and marks it if there is a mark.
    pub fn bring_loopback_up(&mut self, mark: Option<&str>) -> Result<()> {
        let object = "loopback device lo";
        let loopback = self
            .link_by_name("lo")?
            .ok_or_else(|| Error::os("find", object, std::io::Error::from_raw_os_error(libc::ENODEV)))?;
        let change = LinkChange { alias: mark.map(str::to_owned), up: Some(true), ..LinkChange::default() };
        self.set_link(loopback.index, &change)
    }

    fn find<T>(
        &mut self,
        name: &str,
        decode: impl Fn(&[u8]) -> std::result::Result<T, netlink_packet_core::DecodeError>,
    ) -> Result<Option<T>> {
        let mut request = LinkMessage::default();
        request.attributes.push(LinkAttribute::IfName(name.to_owned()));
        let object = format!("link {name}");
        let wish = Wish { operation: "find", object: &object };
        match self.get(RouteNetlinkMessage::GetLink(request), libc::RTM_NEWLINK, wish) {
            Ok(payload) => decode(&payload).map(Some).map_err(|error| Error::Malformed {
                operation: wish.operation,
                object: object.clone(),
                reason: error.to_string(),
            }),
            Err(error) if error.is_gone() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn veth_end(name: &str, mac: Option<[u8; 6]>, spec: &VethSpec<'_>) -> Vec<LinkAttribute> {
    let mut attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::Mtu(spec.mtu),
        LinkAttribute::TxQueueLen(spec.txqueuelen),
        LinkAttribute::NumTxQueues(1),
        LinkAttribute::NumRxQueues(1),
    ];
    attributes.extend(mac.map(|mac| LinkAttribute::Address(mac.to_vec())));
    attributes
}
