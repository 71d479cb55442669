//! A Tunnel from its message. WireGuard's part is in [`wireguard`].

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::num::NonZeroU16;

use weft_proto::v1;
use weft_stack::Prefix;

use super::network::{reserved_end, station_mac};
use super::port::addresses;
use super::services::vlan;
use super::unicast;
use crate::model::violation::Findings;
use crate::model::{
    Carrier, Gre, InterfaceAddress, Link, Mtu, Name, ObjectRef, Segment, Tunnel, TunnelForm, Violation, Vni,
    Vxlan, VxlanRemote,
};

mod secrets;
mod wireguard;

pub use secrets::take_secrets;

/// RFC 7348 section 5.
const VXLAN_PORT: NonZeroU16 = NonZeroU16::new(4789).unwrap();
const ONE_EXPECTED: &str = "exactly one of vxlan, gre, gretap, wireguard expected";

pub(super) fn parse(object: &ObjectRef, message: Option<&v1::TunnelSpec>) -> Result<Tunnel, Vec<Violation>> {
    let default = v1::TunnelSpec::default();
    let message = message.unwrap_or(&default);
    let mut findings = Findings::of(object);
    let tunnel = read(message, &mut findings);
    findings.finish(tunnel)
}

/// `None` when something without which there is no Tunnel is wrong; the findings say what.
fn read(message: &v1::TunnelSpec, findings: &mut Findings<'_>) -> Option<Tunnel> {
    let local = match message.local.as_str() {
        "" => None,
        text => findings.value("spec.local", unicast(text)),
    };
    let mtu = match message.mtu {
        0 => None,
        given => findings.value("spec.mtu", Mtu::new(given)),
    };
    let form = form(message, local, findings);
    let tunnel = Tunnel { mtu, local, form: form? };
    check_families(&tunnel, findings);
    check_mtu(&tunnel, findings);
    Some(tunnel)
}

fn form(message: &v1::TunnelSpec, local: Option<IpAddr>, findings: &mut Findings<'_>) -> Option<TunnelForm> {
    let given = [
        ("vxlan", message.vxlan.is_some()),
        ("gre", message.gre.is_some()),
        ("gretap", message.gretap.is_some()),
        ("wireguard", message.wireguard.is_some()),
    ];
    let mut given = given.into_iter().filter(|(_, given)| *given).map(|(word, _)| word);
    let Some(word) = given.next() else {
        findings.add("spec", format_args!("nothing given that says how it encapsulates, {ONE_EXPECTED}"));
        return None;
    };
    for other in given {
        findings.add(&format!("spec.{other}"), format_args!("given beside spec.{word}, {ONE_EXPECTED}"));
    }
    refuse_what_is_for_others(word, message, findings);
    // Everything is read before anything that is missing ends it, so that all that is wrong is told.
    if let Some(vxlan) = &message.vxlan {
        let vxlan = self::vxlan(vxlan, findings);
        let (segment, carrier) = (segment(message, findings), carrier(message, local, findings));
        return Some(TunnelForm::Vxlan { segment: segment?, carrier: carrier?, vxlan: vxlan? });
    }
    if let Some(gretap) = &message.gretap {
        let gre = gre("spec.gretap", gretap, local, findings);
        return Some(TunnelForm::Gretap { segment: segment(message, findings)?, gre: gre? });
    }
    let link = link(message, findings);
    if let Some(gre) = &message.gre {
        let gre = self::gre("spec.gre", gre, local, findings);
        let routes = prefixes("spec.routes", &message.routes, findings);
        return Some(TunnelForm::Gre { link: link?, routes, gre: gre? });
    }
    let wireguard = wireguard::parse(message.wireguard.as_ref()?, findings);
    Some(TunnelForm::WireGuard { link: link?, wireguard })
}

/// Fields that the encapsulation has no use for.
fn refuse_what_is_for_others(word: &str, message: &v1::TunnelSpec, findings: &mut Findings<'_>) {
    let ethernet = matches!(word, "vxlan" | "gretap");
    let why = match ethernet {
        true => "which carries Ethernet frames and joins a Network",
        false => "which carries IP packets and joins a Router",
    };
    let given = [
        ("spec.network", !ethernet && !message.network.is_empty()),
        ("spec.vlan", !ethernet && message.vlan != 0),
        ("spec.router", ethernet && !message.router.is_empty()),
        ("spec.addresses", ethernet && !message.addresses.is_empty()),
        ("spec.routes", ethernet && !message.routes.is_empty()),
    ];
    for (field, _) in given.iter().filter(|(_, given)| *given) {
        findings.add(field, format_args!("given, nothing expected for {word}, {why}"));
    }
    if word == "wireguard" && !message.routes.is_empty() {
        let text = "given, nothing expected for wireguard: what its peers are allowed is routed to them";
        findings.add("spec.routes", text);
    }
    if word != "vxlan" && message.carrier.is_some() {
        findings.add("spec.carrier", format_args!("given, nothing expected for {word}, only for vxlan"));
    }
}

fn segment(message: &v1::TunnelSpec, findings: &mut Findings<'_>) -> Option<Segment> {
    let vlan = vlan("spec.vlan", message.vlan, findings);
    if message.network.is_empty() {
        findings.add("spec.network", "not given, the name of a Network expected");
        return None;
    }
    let network = findings.value("spec.network", Name::new(&message.network))?;
    Some(Segment { network, vlan })
}

fn link(message: &v1::TunnelSpec, findings: &mut Findings<'_>) -> Option<Link> {
    let addresses = addresses(&message.addresses, findings);
    for (index, own) in addresses.iter().enumerate() {
        check_own_address(&format!("spec.addresses[{index}]"), own, findings);
    }
    if message.router.is_empty() {
        findings.add("spec.router", "not given, the name of a Router expected");
        return None;
    }
    let router = findings.value("spec.router", Name::new(&message.router))?;
    Some(Link { router, addresses })
}

fn check_own_address(path: &str, own: &InterfaceAddress, findings: &mut Findings<'_>) {
    let Some(prefix) = own.on_link() else { return };
    if let Some(what) = reserved_end(&prefix, own.address) {
        findings.add(path, format_args!("{} is the {what} address of {prefix}", own.address));
    }
}

fn carrier(message: &v1::TunnelSpec, local: Option<IpAddr>, findings: &mut Findings<'_>) -> Option<Carrier> {
    let Some(carrier) = &message.carrier else { return Some(Carrier::Node) };
    if carrier.router.is_empty() {
        findings.add("spec.carrier.router", "not given, the name of a Router expected");
        return None;
    }
    if local.is_none() && message.local.is_empty() {
        findings.add("spec.local", "not given, an address of the Router in spec.carrier expected");
    }
    findings.value("spec.carrier.router", Name::new(&carrier.router)).map(Carrier::Router)
}

fn vxlan(message: &v1::Vxlan, findings: &mut Findings<'_>) -> Option<Vxlan> {
    let port = udp_port("spec.vxlan.port", message.port, VXLAN_PORT, findings);
    let mut remotes: Vec<VxlanRemote> = Vec::with_capacity(message.remotes.len());
    let mut macs = BTreeSet::new();
    for (index, remote) in message.remotes.iter().enumerate() {
        let path = format!("spec.vxlan.remotes[{index}]");
        let own = remote.macs.iter().enumerate().map(|(index, text)| {
            let path = format!("{path}.macs[{index}]");
            let mac = station_mac(&path, text, findings);
            if !macs.insert(mac) {
                findings.add(&path, format_args!("{mac} is given twice"));
            }
            mac
        });
        let own = own.collect();
        let address = remote_address(&format!("{path}.address"), &remote.address, findings);
        let Some(address) = address else { continue };
        if remotes.iter().any(|other| other.address == address) {
            findings.add(&format!("{path}.address"), format_args!("{address} is given twice"));
        }
        remotes.push(VxlanRemote { address, macs: own });
    }
    let Some(vni) = message.vni else {
        findings.add("spec.vxlan.vni", "not given, 0 to 16777215 expected");
        return None;
    };
    let vni = findings.value("spec.vxlan.vni", Vni::new(vni))?;
    Some(Vxlan { vni, port, remotes, suppress_neighbors: message.suppress_neighbors })
}

fn gre(path: &str, message: &v1::Gre, local: Option<IpAddr>, findings: &mut Findings<'_>) -> Option<Gre> {
    let here = format!("{path}.remote");
    let remote = remote_address(&here, &message.remote, findings)?;
    if local == Some(remote) {
        findings.add(&here, format_args!("{remote} is spec.local, another address expected"));
    }
    let v1::Gre { key, checksum, sequence, .. } = *message;
    Some(Gre { remote, key, checksum, sequence })
}

fn remote_address(path: &str, text: &str, findings: &mut Findings<'_>) -> Option<IpAddr> {
    if text.is_empty() {
        findings.add(path, "not given, the address of the far end expected");
        return None;
    }
    findings.value(path, unicast(text))
}

/// A UDP port; the default for 0, which stands for "not given".
fn udp_port(path: &str, given: u32, default: NonZeroU16, findings: &mut Findings<'_>) -> NonZeroU16 {
    let port = findings.number(path, given, 1..=u32::from(u16::MAX), u32::from(default.get()));
    u16::try_from(port).ok().and_then(NonZeroU16::new).unwrap_or(default)
}

/// Prefixes, each once.
fn prefixes(path: &str, texts: &[String], findings: &mut Findings<'_>) -> Vec<Prefix> {
    let mut prefixes = Vec::with_capacity(texts.len());
    let mut seen = BTreeSet::new();
    for (index, text) in texts.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let Some(prefix) = findings.value(&path, text.parse::<Prefix>()) else { continue };
        if !seen.insert(prefix) {
            findings.add(&path, format_args!("{prefix} is given twice"));
        }
        prefixes.push(prefix);
    }
    prefixes
}

/// Both ends of a way speak the same protocol.
fn check_families(tunnel: &Tunnel, findings: &mut Findings<'_>) {
    let Some(local) = tunnel.local else { return };
    for remote in tunnel.remotes().into_iter().flatten() {
        if remote.is_ipv4() != local.is_ipv4() {
            findings.add("spec.local", format_args!("{local} is not of the same family as {remote}"));
            return;
        }
    }
}

/// Routers carry IPv6 only where its least packets fit. What a Network needs is judged with it at hand.
fn check_mtu(tunnel: &Tunnel, findings: &mut Findings<'_>) {
    let Some(mtu) = tunnel.mtu.filter(|mtu| mtu.get() < Mtu::MIN_IPV6) else { return };
    if let Some((_, prefix)) = tunnel.prefixes().iter().find(|(_, prefix)| !prefix.is_ipv4()) {
        let least = Mtu::MIN_IPV6;
        let text =
            format!("{mtu} is too small for the IPv6 prefix {prefix}, {least} or more octets expected");
        findings.add("spec.mtu", text);
    }
}

#[cfg(test)]
mod tests;
