//! A Port from its message and its Network.

use std::net::IpAddr;

use weft_proto::v1;
use weft_stack::{MacAddr, Prefix};

use super::network::station_mac;
use super::{Found, Networks, addressing, bandwidth, nat, node_routes, switching, unicast};
use crate::model::violation::Findings;
use crate::model::{
    Attachment, DeviceName, InterfaceAddress, Mtu, Name, Network, ObjectRef, Port, PortRoute, Violation,
};

const TXQUEUELEN: std::ops::RangeInclusive<u32> = 1..=100_000;
const DEFAULT_TXQUEUELEN: u32 = 1000;
const QUEUES: std::ops::RangeInclusive<u32> = 1..=16;
const DEFAULT_DEVICE: &str = "eth0";
/// The loopback device, and two folders beside the devices' own in `/proc/sys/net/ipv4/conf`.
const KERNELS_OWN: [&str; 3] = ["lo", "all", "default"];

pub(super) fn parse(
    object: &ObjectRef,
    message: Option<&v1::PortSpec>,
    networks: &Networks<'_>,
) -> Result<Port, Vec<Violation>> {
    let default = v1::PortSpec::default();
    let message = message.unwrap_or(&default);
    let mut findings = Findings::of(object);
    let port = read(object, message, networks, &mut findings);
    findings.finish(port)
}

/// `None` when something without which there is no Port is wrong; the findings say what.
fn read(
    object: &ObjectRef,
    message: &v1::PortSpec,
    networks: &Networks<'_>,
    findings: &mut Findings<'_>,
) -> Option<Port> {
    let network_name = network_name(&message.network, findings);
    let attachment = attachment(message, findings);
    if attachment == Some(Attachment::Uplink) {
        refuse_configuration(message, findings);
    }
    let device = device(object, message, findings);
    let addresses = addresses(&message.addresses, findings);
    let switching = switching::parse(object, message, findings);
    let mappings = nat::mappings(message, &addresses, findings);
    let bandwidth = bandwidth::parse(message.bandwidth.as_ref(), findings);
    let mac = match message.mac.as_str() {
        "" => MacAddr::from_name("port", object.name.as_str()),
        text => station_mac("spec.mac", text, findings),
    };
    let txqueuelen = findings.number("spec.txqueuelen", message.txqueuelen, TXQUEUELEN, DEFAULT_TXQUEUELEN);
    let queues = (message.queues != 0).then(|| findings.number("spec.queues", message.queues, QUEUES, 1));
    let endpoint = addressing::endpoint(message.endpoint.as_ref(), findings);
    let network_name = network_name?;
    let (network, via) = match networks.find(&network_name) {
        Found::Network(network) if addresses.len() == message.addresses.len() => {
            (Some(network), Gateways::of(network, &addresses))
        }
        Found::Network(network) => (Some(network), Gateways::Unknown),
        Found::Wrong => return None,
        Found::Missing if networks.port_is_going => (None, Gateways::Unknown),
        Found::Missing => {
            findings.add("spec.network", format_args!("there is no Network/{network_name}"));
            return None;
        }
    };
    let node_routes = node_routes::parse(message, findings);
    let mtu = mtu(message.mtu, network, &addresses, findings);
    let routes = routes(message, &addresses, &via, findings);
    Some(Port {
        network: network_name,
        attachment: attachment?,
        device: device?,
        mac,
        addresses,
        routes,
        node_routes,
        mtu,
        txqueuelen,
        queues,
        switching,
        endpoint,
        mappings,
        bandwidth,
    })
}

fn network_name(text: &str, findings: &mut Findings<'_>) -> Option<Name> {
    if text.is_empty() {
        findings.add("spec.network", "not given, the name of a Network expected");
        return None;
    }
    findings.value("spec.network", Name::new(text))
}

fn attachment(message: &v1::PortSpec, findings: &mut Findings<'_>) -> Option<Attachment> {
    let kind = v1::PortType::try_from(message.r#type);
    let place = message.namespace.as_str();
    match kind {
        Ok(kind @ (v1::PortType::Host | v1::PortType::Uplink)) => {
            let (word, attachment) = match kind {
                v1::PortType::Host => ("a host", Attachment::Host),
                _ => ("an uplink", Attachment::Uplink),
            };
            if !place.is_empty() {
                let description = format!("\"{place}\" given, nothing expected for {word} port");
                findings.add("spec.namespace", description);
            }
            Some(attachment)
        }
        Ok(kind @ (v1::PortType::Tap | v1::PortType::Veth)) => {
            if place.is_empty() {
                findings.add("spec.namespace", "not given, the name of a Namespace expected");
                return None;
            }
            let name = findings.value("spec.namespace", Name::new(place))?;
            Some(if kind == v1::PortType::Tap { Attachment::Tap(name) } else { Attachment::Veth(name) })
        }
        Ok(v1::PortType::Unspecified) => {
            findings.add("spec.type", "not given, one of tap, veth, host, uplink expected");
            None
        }
        Err(_) => {
            let description =
                format!("{} is not a type of Port, one of tap, veth, host, uplink expected", message.r#type);
            findings.add("spec.type", description);
            None
        }
    }
}

/// A network card is the node's: only what Weft itself does with it can be wished for.
fn refuse_configuration(message: &v1::PortSpec, findings: &mut Findings<'_>) {
    let given = [
        ("spec.mac", !message.mac.is_empty()),
        ("spec.addresses", !message.addresses.is_empty()),
        ("spec.routes", !message.routes.is_empty()),
        ("spec.defaultRoute", message.default_route),
        ("spec.txqueuelen", message.txqueuelen != 0),
    ];
    for (field, _) in given.iter().filter(|(_, given)| *given) {
        findings.add(field, "given, nothing expected for an uplink port: the device is the node's");
    }
    if message.source_check == Some(true) {
        let description = "true given, false expected for an uplink port: its sources are all of the outside";
        findings.add("spec.sourceCheck", description);
    }
}

fn device(object: &ObjectRef, message: &v1::PortSpec, findings: &mut Findings<'_>) -> Option<DeviceName> {
    let host = message.r#type == v1::PortType::Host as i32;
    let name = match message.device.as_str() {
        "" if host => DeviceName::new(object.name.as_str()).map_err(|_| {
            let (name, most) = (&object.name, DeviceName::MAX_LENGTH);
            format!("not given, and the Port's name \"{name}\" is too long for a device, 1 to {most} bytes expected")
        }),
        "" if message.r#type == v1::PortType::Uplink as i32 => {
            Err("not given, the name of a network device of the node expected".to_owned())
        }
        "" => DeviceName::new(DEFAULT_DEVICE).map_err(|error| error.to_string()),
        text => DeviceName::new(text).map_err(|error| error.to_string()),
    };
    let name = name.and_then(|name| match KERNELS_OWN.contains(&name.as_str()) {
        true => Err(format!("\"{name}\" is a name that the kernel keeps for itself, another one expected")),
        false => Ok(name),
    });
    findings.value("spec.device", name)
}

pub(super) fn addresses(texts: &[String], findings: &mut Findings<'_>) -> Vec<InterfaceAddress> {
    let mut addresses: Vec<InterfaceAddress> = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        let path = format!("spec.addresses[{index}]");
        let Some(address) = findings.value(&path, interface_address(text)) else { continue };
        if addresses.iter().any(|other| other.address == address.address) {
            findings.add(&path, format_args!("{} is given twice", address.address));
        }
        addresses.push(address);
    }
    addresses
}

/// An address with its prefix length, as text.
pub fn interface_address(text: &str) -> Result<InterfaceAddress, String> {
    let syntax =
        || format!("\"{text}\" is not an address with a prefix length, such as 198.18.1.10/24 expected");
    let (address, length) = text.split_once('/').ok_or_else(syntax)?;
    if !length.bytes().all(|b| b.is_ascii_digit()) {
        return Err(syntax());
    }
    let prefix_length: u8 = length.parse().map_err(|_| syntax())?;
    let address = unicast(address)?;
    Prefix::containing(address, prefix_length).map_err(|error| error.to_string())?;
    Ok(InterfaceAddress { address, prefix_length })
}

fn mtu(
    given: u32,
    network: Option<&Network>,
    addresses: &[InterfaceAddress],
    findings: &mut Findings<'_>,
) -> Mtu {
    let most = network.map_or(Mtu::DEFAULT, |network| network.mtu);
    if given == 0 {
        return most;
    }
    let Some(mtu) = findings.value("spec.mtu", Mtu::new(given)) else { return most };
    if network.is_some() && mtu > most {
        findings.add("spec.mtu", format_args!("{mtu} is more than the Network's {most}"));
    }
    if let Some(address) = addresses.iter().find(|address| address.address.is_ipv6())
        && mtu.get() < Mtu::MIN_IPV6
    {
        let (address, least) = (address.address, Mtu::MIN_IPV6);
        findings.add(
            "spec.mtu",
            format_args!(
                "{mtu} is too small for the IPv6 address {address}, {least} or more octets expected"
            ),
        );
    }
    mtu
}

/// The gateways that a Port can reach: those on the link of an address of it.
enum Gateways {
    /// The first of each family.
    Known { v4: Option<IpAddr>, v6: Option<IpAddr> },
    /// The Network is gone, or an address is wrong, which is said elsewhere: what follows from it is not.
    Unknown,
}

impl Gateways {
    fn of(network: &Network, addresses: &[InterfaceAddress]) -> Gateways {
        let is_inside =
            |own: &InterfaceAddress| network.subnets.iter().any(|subnet| subnet.prefix.contains(own.address));
        if !addresses.iter().all(is_inside) {
            return Gateways::Unknown;
        }
        let first = |v4: bool| {
            addresses.iter().filter(|own| own.address.is_ipv4() == v4).find_map(|own| {
                let subnet = network.subnets.iter().find(|subnet| subnet.prefix.contains(own.address))?;
                subnet.gateway.filter(|gateway| own.is_on_link(*gateway))
            })
        };
        Gateways::Known { v4: first(true), v6: first(false) }
    }
}

fn routes(
    message: &v1::PortSpec,
    addresses: &[InterfaceAddress],
    gateways: &Gateways,
    findings: &mut Findings<'_>,
) -> Vec<PortRoute> {
    let mut routes: Vec<PortRoute> = Vec::new();
    for (index, message) in message.routes.iter().enumerate() {
        let Some(route) = route(index, message, addresses, gateways, findings) else { continue };
        if routes.iter().any(|other| other.prefix == route.prefix) {
            findings.add(
                &format!("spec.routes[{index}].prefix"),
                format_args!("{} is given twice", route.prefix),
            );
        }
        routes.push(route);
    }
    if message.default_route {
        add_default_routes(gateways, &mut routes, findings);
    }
    routes
}

fn add_default_routes(gateways: &Gateways, routes: &mut Vec<PortRoute>, findings: &mut Findings<'_>) {
    let Gateways::Known { v4, v6 } = gateways else { return };
    if v4.is_none() && v6.is_none() {
        let description = "the Network has no gateway on the link of any of this Port's addresses";
        findings.add("spec.defaultRoute", description);
    }
    for via in [v4, v6].into_iter().flatten().copied() {
        let Ok(prefix) = Prefix::containing(via, 0) else { continue };
        if routes.iter().any(|route| route.prefix == prefix) {
            findings.add("spec.defaultRoute", format_args!("spec.routes has a route to {prefix} already"));
        }
        routes.push(PortRoute { prefix, via });
    }
}

fn route(
    index: usize,
    message: &v1::PortRoute,
    addresses: &[InterfaceAddress],
    gateways: &Gateways,
    findings: &mut Findings<'_>,
) -> Option<PortRoute> {
    let path = format!("spec.routes[{index}].via");
    let prefix = findings.value(&format!("spec.routes[{index}].prefix"), message.prefix.parse::<Prefix>())?;
    if message.via.is_empty() {
        let Gateways::Known { v4, v6 } = gateways else { return None };
        let via = if prefix.is_ipv4() { v4 } else { v6 };
        if via.is_none() {
            findings.add(
                &path,
                "not given, and the Network has no gateway on the link of any of this Port's addresses",
            );
        }
        return via.map(|via| PortRoute { prefix, via });
    }
    let via = findings.value(&path, unicast(&message.via))?;
    if via.is_ipv4() != prefix.is_ipv4() {
        findings.add(&path, format_args!("{via} is not of the same family as {prefix}"));
    } else if addresses.iter().any(|own| own.address == via) {
        findings.add(&path, format_args!("{via} is this Port's own address"));
    } else if !addresses.iter().any(|own| own.is_on_link(via)) {
        findings.add(&path, format_args!("{via} is not on the link of any of this Port's addresses"));
    }
    Some(PortRoute { prefix, via })
}
