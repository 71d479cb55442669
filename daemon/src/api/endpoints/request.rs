//! Requests of runtimes, read once: what is wrong is told with its field.

use std::net::IpAddr;
use std::path::{Component, PathBuf};

use tonic::Status;
use weft_proto::v1;
use weft_proto::v1::attach_request::AddressSource as Source;
use weft_stack::{MacAddr, Prefix};

use super::inspection::Expected;
use crate::api::answer::wrong_field;
use crate::api::{Node, fabric};
use crate::model::{DeviceName, Endpoint, Name, VlanId, parse};
use crate::store::endpoint::{AddressSource, AttachWish};

/// The longest name of a configuration or an owner, in octets.
const MAX_NAME: usize = 253;

/// What an Attach asks for.
pub fn wish(request: v1::AttachRequest, node: &Node) -> Result<AttachWish, Status> {
    let key = request.key.clone().unwrap_or_default();
    check_key(&key)?;
    if request.network.is_empty() {
        return Err(wrong_field("network", "not given, the name of a Network expected"));
    }
    let network = Name::new(&request.network).map_err(|error| wrong_field("network", error))?;
    let vlan = vlan(request.vlan)?;
    for (field, text) in [("owner", &request.owner), ("configuration", &request.configuration)] {
        if text.len() > MAX_NAME || text.chars().any(char::is_control) {
            let description =
                format!("not a name, at most {MAX_NAME} octets without control characters expected");
            return Err(wrong_field(field, description));
        }
    }
    let netns = netns(&request.netns)?;
    let (id, made_namespace) =
        fabric::found_at(&netns, node.store.instance()).map_err(Status::failed_precondition)?;
    let port_type = match request.r#type() {
        v1::PortType::Unspecified | v1::PortType::Veth => v1::PortType::Veth,
        v1::PortType::Tap => v1::PortType::Tap,
        other => {
            let description = format!("{} is not for containers, veth or tap expected", other.as_str_name());
            return Err(wrong_field("type", description));
        }
    };
    Ok(AttachWish {
        endpoint: Endpoint {
            container_id: key.container_id,
            interface: key.interface,
            configuration: request.configuration,
            owner: request.owner,
            boot_id: node.boot_id.clone(),
            namespace_inode: id.inode,
        },
        network,
        vlan,
        netns,
        made_namespace,
        port: v1::PortSpec {
            r#type: port_type as i32,
            mac: request.mac,
            mtu: request.mtu,
            routes: request.routes,
            port_mappings: request.port_mappings,
            bandwidth: request.bandwidth,
            ..Default::default()
        },
        addresses: source(request.address_source)?,
        default_route: request.default_route,
        labels: request.labels,
    })
}

/// What Check looks for.
pub fn expected(request: &v1::CheckRequest) -> Result<Expected, Status> {
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let mac =
        given(&request.mac).map(|mac| mac.parse::<MacAddr>().map_err(|error| wrong_field("mac", error)));
    let mut addresses = Vec::with_capacity(request.addresses.len());
    for (index, text) in request.addresses.iter().enumerate() {
        let address = parse::interface_address(text);
        addresses.push(address.map_err(|error| wrong_field(&format!("addresses[{index}]"), error))?);
    }
    let mut routes = Vec::with_capacity(request.routes.len());
    for (index, route) in request.routes.iter().enumerate() {
        let field = |name: &str| format!("routes[{index}].{name}");
        let prefix: Prefix = route.prefix.parse().map_err(|error| wrong_field(&field("prefix"), error))?;
        let via = match route.via.as_str() {
            "" => None,
            text => Some(address(&field("via"), text)?),
        };
        routes.push((prefix, via));
    }
    Ok(Expected {
        network: given(&request.network),
        vlan: vlan(request.vlan)?,
        netns: given(&request.netns).map(PathBuf::from),
        mac: mac.transpose()?,
        addresses: (!addresses.is_empty()).then_some(addresses),
        routes: (!routes.is_empty()).then_some(routes),
    })
}

/// Refuses a key that names no device of a container.
pub fn check_key(key: &v1::AttachmentKey) -> Result<(), Status> {
    check_container(&key.container_id)?;
    DeviceName::new(&key.interface).map_err(|error| wrong_field("key.interface", error))?;
    Ok(())
}

/// Refuses what is no container's name.
pub fn check_container(id: &str) -> Result<(), Status> {
    if parse::is_container_id(id) {
        return Ok(());
    }
    let expected = "1 to 253 letters, digits, '_', '.' and '-', beginning with a letter or digit, expected";
    Err(wrong_field("key.containerId", format_args!("{id:?} is not a container's name, {expected}")))
}

/// A VLAN that is asked for; 0 stands for none.
pub fn vlan(given: u32) -> Result<Option<VlanId>, Status> {
    let vlan = (given != 0).then(|| VlanId::new(given));
    vlan.transpose().map_err(|error| wrong_field("vlan", error))
}

fn netns(text: &str) -> Result<PathBuf, Status> {
    let path = PathBuf::from(text);
    let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    match path.is_absolute() && plain {
        true => Ok(path),
        false => Err(wrong_field("netns", format_args!("{text:?} is not an absolute path without \"..\""))),
    }
}

fn source(source: Option<Source>) -> Result<AddressSource, Status> {
    match source {
        None => Ok(AddressSource::Pools { wanted: Vec::new(), ranges: Vec::new() }),
        Some(Source::Given(given)) => Ok(AddressSource::Given(given.addresses)),
        Some(Source::Pools(v1::PoolAddresses { wanted, ranges })) => {
            let wanted = wanted.iter().enumerate().map(|(index, text)| {
                address(&format!("pools.wanted[{index}]"), text.split('/').next().unwrap_or_default())
            });
            let ranges = ranges.iter().enumerate().map(|(index, text)| {
                parse::range(text).map_err(|error| wrong_field(&format!("pools.ranges[{index}]"), error))
            });
            Ok(AddressSource::Pools {
                wanted: wanted.collect::<Result<_, _>>()?,
                ranges: ranges.collect::<Result<_, _>>()?,
            })
        }
    }
}

fn address(field: &str, text: &str) -> Result<IpAddr, Status> {
    text.parse().map_err(|_| wrong_field(field, format_args!("{text:?} is not an IP address")))
}
