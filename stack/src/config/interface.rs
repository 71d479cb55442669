//! A router's interface: its gateway addresses on one VLAN of a network, and the neighbours there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::{AdvertisementSpec, DhcpSpec, NetworkSpec, StaticNeighbors};
use crate::stage::advertise::Schedule;
use crate::stage::neighbor::announce::Defences;
use crate::table::neighbor::Neighbors;
use crate::{MacAddr, Prefix};

/// An interface in the picture.
#[derive(Debug)]
pub(crate) struct Interface {
    /// Unique among all interfaces there ever were.
    pub id: u32,
    /// Position in [`Config::networks`](super::Config).
    pub network: usize,
    /// The VLAN that it is on; 0 is untagged.
    pub vlan: u16,
    /// Position in [`Config::routers`](super::Config).
    pub router: usize,
    /// Largest IP packet in octets.
    pub mtu: usize,
    pub mac: MacAddr,
    pub v4: Vec<(Ipv4Addr, Prefix)>,
    pub v6: Vec<(Ipv6Addr, Prefix)>,
    pub link_local: Ipv6Addr,
    /// It is a tunnel: the MAC address that stands for its far end, which nobody needs to ask for.
    pub far: Option<MacAddr>,
    /// What is reached by it beside its own prefixes.
    pub routes: Vec<Prefix>,
    /// The IPv6 prefixes of its VLAN, with and without a gateway address.
    pub on_link: Vec<Prefix>,
    pub neighbors: Arc<Neighbors>,
    /// Those that nobody is asked for.
    pub static_neighbors: Arc<StaticNeighbors>,
    pub defences: Arc<Defences>,
    pub advertisements: Option<AdvertisementSpec>,
    pub schedule: Arc<Schedule>,
    pub proxy_neighbors: bool,
    pub dhcp: Option<DhcpSpec>,
}

impl Interface {
    /// Takes the gateway addresses of `spec` on this VLAN.
    pub fn take_addresses(&mut self, spec: &NetworkSpec) {
        for subnet in spec.subnets.iter().filter(|subnet| subnet.vlan == self.vlan) {
            match subnet.gateway {
                Some(IpAddr::V4(address)) => self.v4.push((address, subnet.prefix)),
                Some(IpAddr::V6(address)) => self.v6.push((address, subnet.prefix)),
                None => {}
            }
            if !subnet.prefix.is_ipv4() {
                self.on_link.push(subnet.prefix);
            }
        }
    }

    /// Its IPv6 addresses with the link-local one; none where it has no other.
    pub fn all_v6(&self) -> impl Iterator<Item = Ipv6Addr> + '_ {
        let link_local = (!self.v6.is_empty()).then_some(self.link_local);
        link_local.into_iter().chain(self.v6.iter().map(|(own, _)| *own))
    }

    /// Whether it answers ARP for this address.
    pub fn has_v4(&self, address: Ipv4Addr) -> bool {
        self.v4.iter().any(|(own, _)| *own == address)
    }

    /// The addresses that it has together with the other routers of its subnets.
    pub fn anycast(&self) -> impl Iterator<Item = Ipv6Addr> + '_ {
        self.v6.iter().filter_map(|(_, prefix)| prefix.routers_anycast())
    }

    /// Whether it answers neighbour solicitations for this address.
    pub fn has_v6(&self, address: Ipv6Addr) -> bool {
        self.all_v6().chain(self.anycast()).any(|own| own == address)
    }

    /// Whether the address is its own, and nobody else's: what it sends may come from there.
    pub fn speaks_from(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.has_v4(address),
            IpAddr::V6(address) => self.all_v6().any(|own| own == address),
        }
    }

    /// Whether packets to the address are for it.
    pub fn has(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.has_v4(address),
            IpAddr::V6(address) => self.has_v6(address),
        }
    }

    /// Whether the address means all hosts of a subnet of its link.
    pub fn is_broadcast(&self, address: Ipv4Addr) -> bool {
        self.v4.iter().any(|(_, prefix)| prefix.broadcast() == Some(address))
    }

    /// Its address to speak to `peer` from; none where it has none of that family.
    pub fn source_for(&self, peer: IpAddr) -> Option<IpAddr> {
        match peer {
            IpAddr::V4(peer) => self.source_v4(peer).map(IpAddr::V4),
            IpAddr::V6(peer) => self.source_v6(peer).map(IpAddr::V6),
        }
    }

    /// Its address to speak to `peer` from: of its subnet, or else the first.
    pub fn source_v4(&self, peer: Ipv4Addr) -> Option<Ipv4Addr> {
        let in_subnet = self.v4.iter().find(|(_, prefix)| prefix.contains(peer.into()));
        in_subnet.or(self.v4.first()).map(|(own, _)| *own)
    }

    /// Its address to speak to `peer` from; none where it has no IPv6 address.
    pub fn source_v6(&self, peer: Ipv6Addr) -> Option<Ipv6Addr> {
        let first = self.v6.first()?;
        if peer.is_unicast_link_local() {
            return Some(self.link_local);
        }
        Some(self.v6.iter().find(|(_, prefix)| prefix.contains(peer.into())).unwrap_or(first).0)
    }
}
