//! What the node's kernel shall translate, from the wish. A pure function.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use weft_host::nft::Element;
use weft_stack::Prefix;

use super::rules::{BOUND, DEVICES, HAIRPINS, KEPT, MAPPINGS, SOURCES, sets};
use crate::model::{Attachment, Fabric, Name, Network, Objects, Port, PortMapping};
use crate::reconcile::picture::lives;

/// What the kernel shall do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wish {
    /// The elements of every set and map; nothing: no table is needed.
    pub sets: BTreeMap<&'static str, BTreeSet<Element>>,
    /// The devices of `host` Ports.
    pub devices: BTreeSet<String>,
    /// IPv4 is forwarded.
    pub forwards_v4: bool,
    /// IPv6 is forwarded.
    pub forwards_v6: bool,
    /// 127.0.0.1 has ports that lead to containers.
    pub loopback: bool,
}

impl Wish {
    /// What `fabric` asks for.
    pub fn of(fabric: &Fabric) -> Wish {
        let masqueraded = || living(&fabric.networks).filter(|network| network.masquerade.is_some());
        let mapped = || living(&fabric.ports).filter(|port| !port.mappings.is_empty());
        if masqueraded().next().is_none() && mapped().next().is_none() {
            let mut wish = Wish::default();
            wish.add_node_routes(fabric);
            return wish;
        }
        let sets = sets().iter().map(|set| (set.name, BTreeSet::new())).collect();
        let mut wish = Wish { sets, ..Wish::default() };
        wish.add_devices(fabric);
        wish.add_node_routes(fabric);
        masqueraded().for_each(|network| wish.add_network(fabric, network));
        mapped().for_each(|port| wish.add_mappings(port));
        wish
    }

    /// Whether nothing has to be translated.
    pub fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }

    fn add(&mut self, set: &'static str, element: Element) {
        self.sets.entry(set).or_default().insert(element);
    }

    fn add_devices(&mut self, fabric: &Fabric) {
        let hosts: Vec<&Port> = host_ports(fabric).map(|(_, port)| port).collect();
        for one in &hosts {
            self.devices.insert(one.device.as_str().to_owned());
            self.add(DEVICES, Element::of(device(one)));
            for other in hosts.iter().filter(|other| are_joined(fabric, &one.network, &other.network)) {
                self.add(HAIRPINS, Element::of([device(one), device(other)].concat()));
            }
        }
    }

    /// What goes to other nodes by routes of the node, it forwards.
    fn add_node_routes(&mut self, fabric: &Fabric) {
        for (_, port) in host_ports(fabric).filter(|(_, port)| !port.node_routes.is_empty()) {
            self.forwards_v4 |= port.node_routes.iter().any(|route| route.prefix.is_ipv4());
            self.forwards_v6 |= port.node_routes.iter().any(|route| !route.prefix.is_ipv4());
            self.devices.extend(host_ports(fabric).map(|(_, port)| port.device.as_str().to_owned()));
        }
    }

    fn add_network(&mut self, fabric: &Fabric, network: &Network) {
        let siblings = living(&fabric.networks)
            .filter(|other| network.router.is_some() && other.router == network.router)
            .chain([network]);
        let mut kept: Vec<Prefix> =
            siblings.flat_map(|other| other.subnets.iter().map(|subnet| subnet.prefix)).collect();
        kept.extend(network.masquerade.iter().flat_map(|it| it.except.iter().copied()));
        for source in network.subnets.iter().map(|subnet| subnet.prefix) {
            let family = index(source.is_ipv4());
            self.forwards_v4 |= source.is_ipv4();
            self.forwards_v6 |= !source.is_ipv4();
            for element in interval(source) {
                self.add(SOURCES[family], element);
            }
            for to in outermost(&kept, source.is_ipv4()) {
                let (first, last) = (ends(source), ends(to));
                let element = Element {
                    last: Some([first.1, last.1].concat()),
                    ..Element::of([first.0, last.0].concat())
                };
                self.add(KEPT[family], element);
            }
        }
    }

    fn add_mappings(&mut self, port: &Port) {
        let first = |v4: bool| port.addresses.iter().map(|own| own.address).find(|own| own.is_ipv4() == v4);
        for target in [first(true), first(false)].into_iter().flatten() {
            for mapping in &port.mappings {
                if mapping.host_address.is_some_and(|address| address.is_ipv4() != target.is_ipv4()) {
                    continue;
                }
                self.forwards_v4 |= target.is_ipv4();
                self.forwards_v6 |= target.is_ipv6();
                self.loopback |=
                    target.is_ipv4() && mapping.host_address.is_none_or(|address| address.is_loopback());
                let (set, element) = Lead::of(mapping, target).element();
                self.add(set, element);
            }
        }
    }
}

/// Where connections to a port of the node go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lead {
    /// The node's address; `None`: any.
    pub address: Option<IpAddr>,
    /// The protocol's number.
    pub protocol: u8,
    /// The node's port.
    pub port: u16,
    /// The container's address and port.
    pub target: SocketAddr,
}

impl Lead {
    fn of(mapping: &PortMapping, target: IpAddr) -> Lead {
        Lead {
            address: mapping.host_address,
            protocol: mapping.protocol.number(),
            port: mapping.host_port,
            target: SocketAddr::new(target, mapping.container_port),
        }
    }

    /// As an element, and the map that it is in.
    fn element(&self) -> (&'static str, Element) {
        let [high, low] = self.port.to_be_bytes();
        let mut key = self.address.map(octets).unwrap_or_default();
        key.extend([self.protocol, 0, 0, 0, high, low, 0, 0]);
        let [high, low] = self.target.port().to_be_bytes();
        let mut value = octets(self.target.ip());
        value.extend([high, low, 0, 0]);
        let family = index(self.target.is_ipv4());
        let set = if self.address.is_some() { BOUND[family] } else { MAPPINGS[family] };
        (set, Element { value: Some(value), ..Element::of(key) })
    }

    /// What an element of one of the maps says.
    pub fn read(element: &Element) -> Option<Lead> {
        let value = element.value.as_deref()?;
        let (target, port) = value.split_at_checked(value.len().checked_sub(4)?)?;
        let (address, rest) = element.key.split_at_checked(element.key.len().checked_sub(8)?)?;
        let number = |octets: &[u8]| Some(u16::from_be_bytes(octets.get(..2)?.try_into().ok()?));
        Some(Lead {
            address: read_address(address),
            protocol: *rest.first()?,
            port: number(rest.get(4..)?)?,
            target: SocketAddr::new(read_address(target)?, number(port)?),
        })
    }
}

/// The `host` Ports.
pub fn host_ports(fabric: &Fabric) -> impl Iterator<Item = (&Name, &Port)> {
    let ports = fabric.ports.iter().filter(|(_, port)| lives(port));
    ports.map(|(name, port)| (name, &port.spec)).filter(|(_, port)| port.attachment == Attachment::Host)
}

/// Whether two Networks reach each other without the node: they are one, or hang on one Router.
pub fn are_joined(fabric: &Fabric, one: &Name, other: &Name) -> bool {
    let router = |name: &Name| fabric.networks.get(name).and_then(|network| network.spec.router.as_ref());
    one == other || router(one).is_some_and(|router_of_one| router(other) == Some(router_of_one))
}

fn living<T>(objects: &Objects<T>) -> impl Iterator<Item = &T> {
    objects.values().filter(|object| lives(object)).map(|object| &object.spec)
}

/// The place of a family in pairs of sets.
fn index(is_v4: bool) -> usize {
    if is_v4 { 0 } else { 1 }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn read_address(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
}

/// A device's name as a key has it.
fn device(port: &Port) -> Vec<u8> {
    let mut name = port.device.as_str().as_bytes().to_vec();
    name.resize(16, 0);
    name
}

/// The first and the last address of a block.
fn ends(block: Prefix) -> (Vec<u8>, Vec<u8>) {
    let first = octets(block.address());
    let mut last = first.clone();
    for (index, octet) in last.iter_mut().enumerate() {
        let fixed = usize::from(block.length()).saturating_sub(8 * index).min(8);
        *octet |= u8::MAX.checked_shr(fixed as u32).unwrap_or(0);
    }
    (first, last)
}

/// A block as elements of a set of intervals.
fn interval(block: Prefix) -> Vec<Element> {
    let (first, last) = ends(block);
    let mut behind = last;
    let mut elements = vec![Element::of(first)];
    // The first octet from the end that can be counted up, and zeros behind it.
    if let Some(place) = behind.iter().rposition(|octet| *octet != u8::MAX) {
        behind[place] += 1;
        behind[place + 1..].fill(0);
        elements.push(Element { begins: false, ..Element::of(behind) });
    }
    elements
}

/// The blocks of a family that are not inside another one.
fn outermost(blocks: &[Prefix], v4: bool) -> BTreeSet<Prefix> {
    let of_family = || blocks.iter().copied().filter(move |block| block.is_ipv4() == v4);
    let is_inside = |block: &Prefix| {
        of_family().any(|wider| wider.length() < block.length() && wider.contains(block.address()))
    };
    of_family().filter(|block| !is_inside(block)).collect()
}

#[cfg(test)]
mod tests;
