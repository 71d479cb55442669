//! Fabrics for tests, briefly.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use weft_stack::MacAddr;

use crate::model::{
    Attachment, Carrier, DeviceName, Fabric, InterfaceAddress, Metadata, Mtu, Name, Namespace, Object, Port,
    PortRoute, Segment, Switching, Tunnel, TunnelForm, Vni, Vxlan, VxlanRemote,
};

pub fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub fn object<T>(text: &str, spec: T) -> Object<T> {
    let metadata = Metadata {
        name: name(text),
        labels: BTreeMap::new(),
        uid: format!("uid-{text}"),
        generation: 1,
        revision: 1,
        created: SystemTime::UNIX_EPOCH,
        deleting: None,
    };
    Object { metadata, spec }
}

pub fn port(text: &str, attachment: Attachment, device: &str) -> Object<Port> {
    let spec = Port {
        network: name("net"),
        attachment,
        device: DeviceName::new(device).unwrap(),
        mac: MacAddr::from_name("port", text),
        addresses: Vec::new(),
        routes: Vec::new(),
        node_routes: Vec::new(),
        mtu: Mtu::DEFAULT,
        txqueuelen: 1000,
        queues: None,
        switching: Switching::default(),
        endpoint: None,
        mappings: Vec::new(),
        bandwidth: weft_stack::config::BandwidthSpec::default(),
    };
    object(text, spec)
}

pub fn address(text: &str) -> InterfaceAddress {
    let (address, length) = text.split_once('/').unwrap();
    InterfaceAddress { address: address.parse().unwrap(), prefix_length: length.parse().unwrap() }
}

pub fn route(prefix: &str, via: &str) -> PortRoute {
    PortRoute { prefix: prefix.parse().unwrap(), via: via.parse().unwrap() }
}

/// A VXLAN tunnel of network `net` to 192.0.2.2, by the port that it has from IANA.
pub fn vxlan() -> Tunnel {
    let remotes = vec![VxlanRemote { address: "192.0.2.2".parse().unwrap(), macs: Vec::new() }];
    let port = NonZeroU16::new(4789).unwrap();
    let vxlan = Vxlan { vni: Vni::new(42).unwrap(), port, remotes, suppress_neighbors: false };
    let segment = Segment { network: name("net"), vlan: 0 };
    let form = TunnelForm::Vxlan { segment, carrier: Carrier::Node, vxlan };
    Tunnel { mtu: None, local: None, form }
}

/// A fabric of made namespaces and these ports.
pub fn fabric(namespaces: &[(&str, Namespace)], ports: Vec<Object<Port>>) -> Fabric {
    Fabric {
        revision: 1,
        namespaces: namespaces.iter().map(|(n, spec)| (name(n), Arc::new(object(n, spec.clone())))).collect(),
        ports: ports.into_iter().map(|port| (port.metadata.name.clone(), Arc::new(port))).collect(),
        ..Fabric::default()
    }
}

pub fn adopt(path: &str) -> Namespace {
    Namespace::Adopt(PathBuf::from(path))
}
