//! What users declared for all nodes, as this node's daemon shall have it. Pure.
//!
//! A VXLAN tunnel without far ends gets all other nodes as such; a Network with pools gives out this node's blocks of
//! them; one that is on a device of the nodes gets a Port there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde_json::json;
use weft_proto::API_VERSION;
use weft_proto::manifest;
use weft_proto::v1::{self, Resource, resource};

use crate::cluster::{Declared, View, block};
use crate::mesh::{Part, RESERVED};

mod realize;
mod uplink;

pub use realize::Realizer;

/// The objects that come of one declaration, or why none do.
pub type Outcome = Result<Vec<Resource>, String>;

/// What comes of each declaration, by kind and name; what others refer to comes first.
pub fn wish(view: &View, node: &str, addresses: &[IpAddr]) -> Vec<(String, i64, Outcome)> {
    let order =
        |declared: &&Declared| ["Router", "Network", "Tunnel"].iter().position(|kind| *kind == declared.kind);
    let mut all: Vec<&Declared> = view.declared.values().collect();
    all.sort_by_key(order);
    let outcome = |declared: &Declared| outcome(view, node, addresses, declared);
    all.into_iter().map(|declared| (declared.id(), declared.generation, outcome(declared))).collect()
}

fn outcome(view: &View, node: &str, addresses: &[IpAddr], declared: &Declared) -> Outcome {
    if RESERVED.contains(&declared.name.as_str()) {
        return Err(format!(
            "metadata.name: \"{}\" is what Weft calls a part of its own, another name expected",
            declared.name
        ));
    }
    let document = json!({
        "apiVersion": API_VERSION, "kind": declared.kind,
        "metadata": {"name": declared.name}, "spec": declared.spec,
    });
    let parsed = manifest::parse(&document.to_string(), &declared.id()).map_err(|errors| {
        let messages = errors.iter().map(|error| format!("{}: {}", error.field, error.message));
        messages.collect::<Vec<_>>().join("; ")
    })?;
    let mut resources: Vec<Resource> = parsed;
    for resource in &mut resources {
        match &mut resource.kind {
            Some(resource::Kind::Tunnel(tunnel)) => {
                fill_remotes(view, node, addresses, tunnel);
                fill_vlan(view, tunnel);
            }
            Some(resource::Kind::Network(network)) => fill_pools(view, node, &declared.name, network),
            _ => {}
        }
    }
    let mut uplinks = Vec::new();
    for resource in &mut resources {
        if let (Some(given), Some(resource::Kind::Network(network))) = (&declared.uplink, &mut resource.kind)
        {
            uplinks.push(uplink::port(&declared.name, given, network.spec.get_or_insert_default())?);
        }
    }
    resources.extend(uplinks);
    for resource in &mut resources {
        resource.metadata.get_or_insert_default().labels = Part::Declared.labels();
    }
    Ok(resources)
}

fn fill_remotes(view: &View, node: &str, addresses: &[IpAddr], tunnel: &mut v1::Tunnel) {
    let Some(vxlan) = tunnel.spec.as_mut().and_then(|spec| spec.vxlan.as_mut()) else { return };
    if !vxlan.remotes.is_empty() {
        return;
    }
    let reached = view.nodes.values().filter(|other| other.name != node).filter_map(|other| {
        let family = |own: &IpAddr| other.addresses.iter().find(|theirs| theirs.is_ipv4() == own.is_ipv4());
        addresses.iter().find_map(family)
    });
    // A node that was renamed is there twice until its old record is gone.
    let reached: BTreeSet<IpAddr> = reached.copied().filter(|address| !addresses.contains(address)).collect();
    let remotes =
        reached.iter().map(|address| v1::VxlanRemote { address: address.to_string(), macs: Vec::new() });
    vxlan.remotes = remotes.collect();
}

/// Far ends are on the VLAN that all of their Network is.
fn fill_vlan(view: &View, tunnel: &mut v1::Tunnel) {
    let Some(spec) = tunnel.spec.as_mut().filter(|spec| spec.vlan == 0 && !spec.network.is_empty()) else {
        return;
    };
    spec.vlan = uplink::vlan_of(view, &spec.network);
}

/// Where pools are for this Network, its subnets give out this node's blocks of them, and nothing before it has any.
fn fill_pools(view: &View, node: &str, name: &str, network: &mut v1::Network) {
    let pools: Vec<_> = view.pools.values().filter(|pool| pool.network == name).collect();
    let subnets = network.spec.iter_mut().flat_map(|spec| &mut spec.subnets);
    for subnet in subnets {
        let Ok(prefix) = subnet.prefix.parse::<ipnet::IpNet>() else { continue };
        let inside: Vec<_> = pools.iter().filter(|pool| prefix.contains(&pool.cidr)).collect();
        if inside.is_empty() {
            continue;
        }
        let blocks = inside.iter().flat_map(|pool| block::owned(pool, node));
        let pool = subnet.pool.get_or_insert_default();
        pool.ranges = blocks.map(|block| block.to_string()).collect();
        pool.disabled = pool.ranges.is_empty();
    }
}

/// What the daemon has of a declaration, by kind and name.
pub fn there(known: &BTreeMap<String, Resource>, id: &str) -> Vec<Resource> {
    let uplink = id.strip_prefix("Network/").map(|name| format!("Port/{name}-uplink"));
    [Some(id.to_owned()), uplink].into_iter().flatten().filter_map(|id| known.get(&id).cloned()).collect()
}

/// Pools for declared Networks that this node has no block of.
pub fn claims<'a>(view: &'a View, node: &'a str) -> impl Iterator<Item = String> + 'a {
    let networks = view.declared.values().filter(|declared| declared.kind == "Network");
    networks.flat_map(move |network| {
        let pools = view.pools.values().filter(|pool| pool.network == network.name);
        pools.filter(|pool| block::owned(pool, node).is_empty()).map(|pool| pool.name.clone())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Event, NodeRecord, Pool};

    fn view(declared: Vec<Declared>) -> View {
        let mut view = View::default();
        view.take(Event::Declared(declared));
        let node = |name: &str, address: &str| NodeRecord {
            name: name.into(),
            addresses: vec![address.parse().unwrap()],
            pods: Vec::new(),
            port: 0,
            public_key: String::new(),
            previous_public_keys: Vec::new(),
        };
        view.take(Event::Nodes(vec![node("one", "192.0.2.1"), node("two", "192.0.2.2")]));
        view
    }

    fn declared(kind: &str, name: &str, spec: serde_json::Value) -> Declared {
        Declared { kind: kind.into(), name: name.into(), generation: 3, spec, uplink: None }
    }

    fn only(view: &View) -> Outcome {
        wish(view, "one", &["192.0.2.1".parse().unwrap()]).remove(0).2
    }

    #[test]
    fn a_tunnel_without_far_ends_reaches_all_other_nodes() {
        let tunnel = declared("Tunnel", "blue", json!({"network": "blue", "vxlan": {"vni": 7}}));
        let resources = only(&view(vec![tunnel])).unwrap();
        let Some(resource::Kind::Tunnel(tunnel)) = &resources[0].kind else { panic!() };
        let remotes = &tunnel.spec.as_ref().unwrap().vxlan.as_ref().unwrap().remotes;
        assert_eq!(remotes.iter().map(|remote| &*remote.address).collect::<Vec<_>>(), ["192.0.2.2"]);
    }

    #[test]
    fn a_network_gives_out_this_nodes_block_and_nothing_before_it_has_one() {
        let spec = json!({"subnets": [{"prefix": "198.18.64.0/18"}]});
        let mut view = view(vec![declared("Network", "blue", spec)]);
        let pool = Pool {
            name: "blue".into(),
            cidr: "198.18.64.0/18".parse().unwrap(),
            block_size: 24,
            network: "blue".into(),
            blocks: BTreeMap::new(),
        };
        let given = |view: &View| {
            let resources = only(view).unwrap();
            let Some(resource::Kind::Network(network)) = &resources[0].kind else { panic!() };
            network.spec.as_ref().unwrap().subnets[0].pool.clone().unwrap()
        };
        view.take(Event::Pools(vec![pool.clone()]));
        assert!(given(&view).disabled);
        assert_eq!(claims(&view, "one").collect::<Vec<_>>(), ["blue"]);
        let blocks = BTreeMap::from([("198.18.65.0/24".parse().unwrap(), "one".to_owned())]);
        view.take(Event::Pools(vec![Pool { blocks, ..pool }]));
        assert_eq!((given(&view).ranges, given(&view).disabled), (vec!["198.18.65.0/24".to_owned()], false));
        assert_eq!(claims(&view, "one").count(), 0);
    }

    #[test]
    fn a_network_on_a_device_gets_a_port_there() {
        let network = Declared {
            uplink: Some(json!({"device": "eth1", "vlan": 20})),
            ..declared("Network", "blue", json!({}))
        };
        let resources = only(&view(vec![network])).unwrap();
        assert_eq!(resources[1].id(), "Port/blue-uplink");
        assert!(
            matches!(&resources[1].kind, Some(resource::Kind::Port(port)) if port.spec.as_ref().unwrap().trunk.is_some())
        );
        assert!(resources.iter().all(|resource| resource.labels().unwrap().len() == 2));
    }

    #[test]
    fn what_is_wrong_is_told_and_names_of_the_mesh_are_refused() {
        let wrong = only(&view(vec![declared("Network", "blue", json!({"mtuu": 1}))])).unwrap_err();
        assert!(wrong.starts_with("spec.mtuu: unknown field"), "{wrong}");
        let taken = only(&view(vec![declared("Network", "pods", json!({}))])).unwrap_err();
        assert!(taken.starts_with("metadata.name: \"pods\""), "{taken}");
    }
}
