//! What switching needs of the picture beside ports and networks themselves: limits that live on, stations that the
//! user placed, mirrors, and the VLANs that are in use.

use std::collections::{BTreeSet, HashSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use super::{Config, FabricSpec, Network, NetworkSpec, Port, PortId, PortSpec, PortVlans, RateSpec};
use crate::limit::SharedBucket;
use crate::replay;
use crate::stage::mirror::Mirror;
use crate::stage::shape::{Bucket, Direction};
use crate::stage::storm::Storm;
use crate::table::fdb::Quota;
use crate::table::group::Groups;

/// A limit that stays as it was counts on.
pub(super) fn quota(id: PortId, spec: &PortSpec, before: Option<&Arc<Port>>) -> Option<Arc<Quota>> {
    let limit = spec.max_macs?;
    let same = before.filter(|port| port.id == id).and_then(|port| port.quota.clone());
    Some(same.filter(|quota| quota.limit() == limit).unwrap_or_else(|| Arc::new(Quota::new(limit))))
}

/// Limits that stay as they were go on from where they are: a change elsewhere gives nobody a fresh burst.
pub(super) fn storm(spec: &PortSpec, before: Option<&Arc<Port>>) -> Option<Arc<Storm>> {
    let same = before.and_then(|port| port.storm.clone()).filter(|storm| storm.limits() == spec.storm);
    same.or_else(|| Storm::new(spec.storm).map(Arc::new))
}

/// How many new verdicts are replayed goes on from where it is.
pub(super) fn replays(spec: &PortSpec, before: Option<&Arc<Port>>) -> Option<Arc<SharedBucket>> {
    let same = before.and_then(|port| port.replays.clone());
    spec.replay.then(|| same.unwrap_or_else(|| Arc::new(replay::bucket())))
}

/// A rate that stays as it was goes on from where it is, too.
pub(super) fn rate(
    spec: Option<RateSpec>,
    direction: Direction,
    before: Option<&Arc<Port>>,
) -> Option<Arc<Bucket>> {
    let spec = spec?;
    let same = before.and_then(|port| port.rate(direction)).filter(|bucket| *bucket.spec() == spec);
    Some(same.cloned().unwrap_or_else(|| Arc::new(Bucket::new(spec))))
}

/// Who listens to which group is known on, while somebody listens in.
pub(super) fn groups(spec: &NetworkSpec, before: Option<&Network>) -> Option<Arc<Groups>> {
    let same = before.and_then(|network| network.groups.clone());
    spec.multicast.snooping.then(|| same.unwrap_or_else(|| Arc::new(Groups::new())))
}

/// Ports, by name, that mirror others and get nothing else.
pub(super) fn destinations(spec: &FabricSpec) -> HashSet<&str> {
    let named: HashSet<&str> =
        spec.ports.iter().filter_map(|port| port.mirror.as_ref()).map(|mirror| mirror.to.as_str()).collect();
    // Who is to watch is not watched itself: there is no mirror of a mirror.
    let mirrored = spec.ports.iter().filter(|port| !named.contains(port.name.as_str()));
    let mirrors = mirrored.filter_map(|port| port.mirror.as_ref());
    let copied = mirrors.filter(|mirror| mirror.received || mirror.sent).map(|mirror| mirror.to.as_str());
    let watching = spec.ports.iter().filter(|port| port.watches).map(|port| port.name.as_str());
    copied.chain(watching).collect()
}

/// A number that no other node has, as the standard library seeds its hashes.
pub(super) fn random_key() -> u64 {
    RandomState::new().build_hasher().finish() | 1
}

impl Config {
    /// Guards uplinks that could make a loop: two or more of a network.
    pub(super) fn place_guards(&mut self, previous: &Config) {
        let networks = self.networks.iter().filter(|network| network.uplinks.len() > 1);
        let uplinks: Vec<PortId> = networks.flat_map(|network| network.uplinks.iter().copied()).collect();
        for id in uplinks {
            let before = previous.port(id).and_then(|port| port.guard.clone());
            // Nobody else has the port yet.
            if let Some(port) = self.ports[id.slot()].as_mut().and_then(Arc::get_mut) {
                port.guard = Some(before.unwrap_or_default());
            }
        }
    }

    /// Has mirrors find their destinations, now that all ports are there. `spec` is what they were made of.
    pub(super) fn place_mirrors(&mut self, spec: &FabricSpec) {
        for port in &spec.ports {
            let Some(mirror) = &port.mirror else { continue };
            let to = self.port_by_name(&mirror.to).filter(|to| to.is_mirror).map(|to| to.id);
            let own = self.port_by_name(&port.name).filter(|own| !own.is_mirror).map(|own| own.id);
            let (Some(to), Some(own)) = (to, own) else { continue };
            let slot = self.ports[own.slot()].as_mut();
            // Nobody else has the port yet.
            if let Some(own) = slot.and_then(Arc::get_mut) {
                own.mirror = Some(Mirror { to, received: mirror.received, sent: mirror.sent });
                self.mirrors_sent |= mirror.sent;
            }
        }
    }

    /// Takes in the stations that the user placed. Those of a port that is not there, for one as it has no device
    /// now, are unknown until it is. A port's own address stays its own.
    pub(super) fn place_static_macs(&mut self, spec: &FabricSpec) {
        for (position, network) in spec.networks.iter().enumerate() {
            for station in &network.static_macs {
                let port = self.port_by_name(&station.port).filter(|port| port.network == position);
                let Some(port) = port.filter(|port| !port.is_mirror).map(|port| port.id) else { continue };
                self.networks[position].stations.entry((station.vlan, station.mac)).or_insert(port);
            }
        }
    }

    /// Lists the VLANs that are in use for certain. A trunk that allows many says nothing about which of them are.
    pub(super) fn list_vlans(&mut self) {
        const FEW: usize = 32;
        for position in 0..self.networks.len() {
            let network = &self.networks[position];
            let mut vlans: BTreeSet<u16> = network.members.keys().copied().collect();
            vlans.extend(network.interfaces.iter().map(|(vlan, _)| *vlan));
            for port in network.trunks.iter().filter_map(|id| self.port(*id)) {
                let PortVlans::Trunk { native, allowed } = &port.vlans else { continue };
                vlans.extend(native);
                if allowed.iter().nth(FEW).is_none() {
                    vlans.extend(allowed.iter());
                }
            }
            self.networks[position].vlans = vlans.into_iter().collect();
        }
    }
}
