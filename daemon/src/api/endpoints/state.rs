//! An attachment as it is, for answers.

use std::net::IpAddr;

use weft_proto::v1;
use weft_stack::Prefix;

use crate::api::Node;
use crate::model::{Attachment, Endpoint, Kind, Name, Network, ObjectRef, Port};
use crate::status::Observed;

/// Names the attachment.
pub fn key(endpoint: &Endpoint) -> v1::AttachmentKey {
    v1::AttachmentKey { container_id: endpoint.container_id.clone(), interface: endpoint.interface.clone() }
}

/// The attachment that a Port is; `None`: it is none, or is gone.
pub fn of(node: &Node, name: &Name) -> Option<v1::AttachmentState> {
    let fabric = node.store.fabric();
    let object = fabric.ports.get(name)?;
    let port = &object.spec;
    let endpoint = port.endpoint.as_ref()?;
    let network = fabric.networks.get(&port.network).map(|network| &network.spec);
    let space = port.attachment.namespace()?;
    let netns = node.folders.namespace(space, &fabric.namespaces.get(space)?.spec);
    let observed = node.status.get(&ObjectRef::new(Kind::Port, name.clone()));
    let (host_device, host_mac) = match observed.and_then(|status| status.report.observed) {
        Some(Observed::Port { host_device, host_mac, .. }) => (host_device, host_mac),
        _ => (None, None),
    };
    Some(v1::AttachmentState {
        key: Some(key(endpoint)),
        network: port.network.to_string(),
        netns: netns.to_string_lossy().into_owned(),
        port: name.to_string(),
        r#type: match port.attachment {
            Attachment::Tap(_) => v1::PortType::Tap,
            _ => v1::PortType::Veth,
        } as i32,
        mac: port.mac.to_string(),
        mtu: port.mtu.get(),
        host_device: host_device.unwrap_or_default(),
        host_mac: host_mac.map(|mac| mac.to_string()).unwrap_or_default(),
        addresses: port
            .addresses
            .iter()
            .map(|own| address(own.address, own.prefix_length, network))
            .collect(),
        routes: routes(port),
        configuration: endpoint.configuration.clone(),
        owner: endpoint.owner.clone(),
        created: Some(object.metadata.created.into()),
        vlan: port.switching.vlans.own().map_or(0, u32::from),
    })
}

fn address(address: IpAddr, length: u8, network: Option<&Network>) -> v1::AttachedAddress {
    let subnet =
        network.and_then(|network| network.subnets.iter().find(|subnet| subnet.prefix.contains(address)));
    let gateway = subnet.and_then(|subnet| subnet.gateway);
    v1::AttachedAddress {
        address: format!("{address}/{length}"),
        gateway: gateway.map(|gateway| gateway.to_string()).unwrap_or_default(),
    }
}

/// The routes of a Port, default routes first.
fn routes(port: &Port) -> Vec<v1::PortRoute> {
    let is_default = |prefix: &Prefix| prefix.length() == 0;
    let mut routes: Vec<_> = port.routes.iter().collect();
    routes.sort_by_key(|route| !is_default(&route.prefix));
    let message =
        |(prefix, via): (Prefix, IpAddr)| v1::PortRoute { prefix: prefix.to_string(), via: via.to_string() };
    routes.into_iter().map(|route| message((route.prefix, route.via))).collect()
}
