//! What a configuration, the runtime and CNI_ARGS together ask the daemon for: an `AttachRequest`.
//!
//! Where several say the same thing, `runtimeConfig` wins over `args`, that over CNI_ARGS, and that over the
//! configuration (CONVENTIONS.md of CNI). Most values are the daemon's to judge.

use std::collections::BTreeMap;
use std::net::IpAddr;

use weft_proto::v1::attach_request::AddressSource;
use weft_proto::v1::{AttachRequest, Bandwidth, PoolAddresses, PortMapping, PortRoute, PortType, Rate};

use crate::arguments::Arguments;
use crate::document::Document;
use crate::environment::Environment;
use crate::failure::{Code, Failure};
use crate::range;
use crate::settings::{
    Bandwidth as Rates, Delegation, Dns, Ipam, PoolSettings, PortMap, Route, RuntimeDns, VlanSettings, Wishes,
};

/// Bounds of a burst in bits that the daemon takes. Less than a frame lets nothing through.
const BURST_BITS: std::ops::RangeInclusive<u64> = 12_000..=34_359_738_360;
/// What runtimes send when nobody said anything about a burst, in bits: kubelet formerly, containerd, and CRI-O as
/// libcni's bandwidth plugin takes no more. A pod that is limited to 8 Mbit/s would have 512 MiB before it is.
const UNSAID_BURSTS: [u64; 3] = [i32::MAX as u64, u32::MAX as u64, u32::MAX as u64 * 8 - 1];
/// The routing table that Linux looks in unless told otherwise.
const MAIN_TABLE: i64 = 254;

/// What is asked for an attachment.
#[derive(Debug)]
pub struct Wish {
    /// For the daemon, with addresses of its pools; a plugin for addresses changes that.
    pub request: AttachRequest,
    /// What the result is to say about name servers; empty for nothing.
    pub dns: Dns,
    /// The plugin that gives addresses.
    pub ipam: Option<String>,
    /// What the configuration says about default routes.
    pub default_route: Option<bool>,
}

impl Wish {
    /// Reads what ADD is asked for.
    pub fn read(environment: &Environment, document: &Document) -> Result<Wish, Failure> {
        let wishes: Wishes = document.read()?;
        let arguments = Arguments::parse(&environment.arguments)?;
        let Delegation { ipam } = document.read()?;
        let ipam = ipam.plugin().map(str::to_owned);
        let bandwidth = wishes.runtime_config.bandwidth.as_ref().or(wishes.bandwidth.as_ref());
        let request = AttachRequest {
            key: Some(environment.key.clone()),
            network: network(&wishes.network)?,
            vlan: vlan(document)?,
            netns: environment.netns.clone(),
            r#type: port_type(&wishes.port_type)?.into(),
            mac: mac(&wishes, &arguments),
            mtu: wishes.mtu,
            address_source: match ipam {
                Some(_) => None,
                None => Some(AddressSource::Pools(pools(
                    &document.read::<PoolSettings>()?.ipam,
                    &wishes,
                    &arguments,
                )?)),
            },
            routes: routes("routes", &wishes.routes)?,
            default_route: wishes.default_route,
            port_mappings: port_mappings(&wishes.runtime_config.port_mappings),
            bandwidth: bandwidth.and_then(rates),
            owner: arguments.owner,
            configuration: document.name.clone(),
            labels: labels(&wishes),
        };
        let dns = dns(&wishes.runtime_config.dns, wishes.dns);
        Ok(Wish { request, dns, ipam, default_route: wishes.default_route })
    }
}

/// The Network of a configuration; it must name one.
pub fn network(name: &str) -> Result<String, Failure> {
    if name.is_empty() {
        return Err(Failure::field(
            "network",
            "the name of a Weft Network expected; `weft get networks` lists them",
        ));
    }
    Ok(name.to_owned())
}

/// The VLAN that is asked for; 0 stands for none.
pub fn vlan(document: &Document) -> Result<u32, Failure> {
    let VlanSettings { vlan, args } = document.read()?;
    let asked = [("args.cni.vlan", args.cni.vlan), ("vlan", vlan)];
    match asked.into_iter().find_map(|(field, vlan)| Some((field, vlan?))) {
        None => Ok(0),
        Some((_, vlan @ 1..=4094)) => Ok(vlan),
        Some((field, other)) => {
            Err(Failure::field(field, format!("{other} is not a VLAN id, 1 to 4094 expected")))
        }
    }
}

/// Routes for the daemon. What it cannot set is refused, with key and value as the specification wants.
pub fn routes(field: &str, routes: &[Route]) -> Result<Vec<PortRoute>, Failure> {
    let route = |(index, route): (usize, &Route)| {
        let unsupported = [
            ("mtu", Some(route.mtu), 0),
            ("advmss", Some(route.advmss), 0),
            ("priority", Some(route.priority), 0),
            ("table", route.table, MAIN_TABLE),
            ("scope", route.scope, 0),
        ];
        for (key, value, usual) in unsupported {
            if let Some(value) = value.filter(|value| *value != usual && *value != 0) {
                let message = format!("{field}[{index}].{key}: {value} is not supported");
                let details = "Weft sets routes by destination and next hop only; leave it out";
                return Err(Failure::new(Code::UnsupportedField, message, details));
            }
        }
        if route.dst.is_empty() {
            return Err(Failure::field(
                &format!("{field}[{index}].dst"),
                "a destination in CIDR form expected",
            ));
        }
        Ok(PortRoute { prefix: route.dst.clone(), via: route.gw.clone() })
    };
    routes.iter().enumerate().map(route).collect()
}

fn port_type(name: &str) -> Result<PortType, Failure> {
    match name {
        "" | "veth" => Ok(PortType::Veth),
        "tap" => Ok(PortType::Tap),
        other => Err(Failure::field("portType", format!("{other:?}: veth or tap expected"))),
    }
}

fn mac(wishes: &Wishes, arguments: &Arguments) -> String {
    let asked = [&wishes.runtime_config.mac, &wishes.args.cni.mac, &arguments.mac, &wishes.mac];
    asked.into_iter().find(|mac| !mac.is_empty()).cloned().unwrap_or_default()
}

fn pools(ipam: &Ipam, wishes: &Wishes, arguments: &Arguments) -> Result<PoolAddresses, Failure> {
    let sources = [
        ("runtimeConfig.ips", &wishes.runtime_config.ips),
        ("args.cni.ips", &wishes.args.cni.ips),
        ("IP of CNI_ARGS", &arguments.ips),
        ("ipam.addresses", &ipam.addresses),
    ];
    let wanted = sources.into_iter().find(|(_, addresses)| !addresses.is_empty());
    let wanted = match wanted {
        Some((field, addresses)) => {
            addresses.iter().map(|text| host(field, text)).collect::<Result<Vec<_>, _>>()?
        }
        None => Vec::new(),
    };
    let dynamic = range::from_runtime(&wishes.runtime_config.ip_ranges)?;
    let ranges = if dynamic.is_empty() { ipam.ranges.clone() } else { dynamic };
    Ok(PoolAddresses { wanted, ranges })
}

/// An address without the prefix length that it may have: the daemon knows the subnet.
fn host(field: &str, text: &str) -> Result<String, Failure> {
    let address = text.split_once('/').map_or(text, |(address, _)| address);
    let parsed: Result<IpAddr, _> = address.parse();
    parsed.map(|address| address.to_string()).map_err(|_| {
        Failure::field(field, format!("{text:?} is no address, such as 198.18.1.9 or 198.18.1.9/24"))
    })
}

fn port_mappings(mappings: &[PortMap]) -> Vec<PortMapping> {
    // Runtimes list ports that are only exposed too.
    let mapped = mappings.iter().filter(|mapping| mapping.host_port != 0);
    mapped
        .map(|mapping| PortMapping {
            protocol: mapping.protocol.to_ascii_lowercase(),
            host_port: mapping.host_port,
            container_port: mapping.container_port,
            host_address: match mapping.host_ip.parse::<IpAddr>() {
                Ok(address) if address.is_unspecified() => String::new(),
                _ => mapping.host_ip.clone(),
            },
        })
        .collect()
}

fn rates(rates: &Rates) -> Option<Bandwidth> {
    let rate = |bits_per_second: u64, burst: u64| {
        let unsaid = burst == 0 || UNSAID_BURSTS.contains(&burst);
        let burst_bits = if unsaid { 0 } else { burst.clamp(*BURST_BITS.start(), *BURST_BITS.end()) };
        (bits_per_second > 0).then(|| Rate { bits_per_second, burst_bits, ..Rate::default() })
    };
    let ingress = rate(rates.ingress_rate, rates.ingress_burst);
    let egress = rate(rates.egress_rate, rates.egress_burst);
    (ingress.is_some() || egress.is_some()).then_some(Bandwidth { ingress, egress })
}

fn labels(wishes: &Wishes) -> BTreeMap<String, String> {
    wishes.args.cni.labels.iter().map(|label| (label.key.clone(), label.value.clone())).collect()
}

fn dns(asked: &RuntimeDns, configured: Dns) -> Dns {
    let RuntimeDns { servers, searches, options } = asked;
    if servers.is_empty() && searches.is_empty() && options.is_empty() {
        return configured;
    }
    Dns {
        nameservers: servers.clone(),
        search: searches.clone(),
        options: options.clone(),
        domain: configured.domain,
    }
}

#[cfg(test)]
mod tests;
