//! Which addresses of each Network are free, and who gets which.
//!
//! A lease is the address of a Port: there is no second record that could disagree with it. What was given back
//! and waits is put down beside. Nothing here writes: the [`store`](crate::store) asks, and keeps the ledger in step
//! with what it has put on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::SystemTime;

use thiserror::Error;
use weft_stack::Prefix;
use weft_stack::config::UNTAGGED;

use crate::model::{AddressRange, Fabric, InterfaceAddress, Kind, Name, Network, ObjectRef, Port};
use pool::Pool;

pub use pool::{Obstacle, Usage};

mod pool;
mod spans;
#[cfg(test)]
mod tests;

/// What somebody who attaches asks for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked<'a> {
    /// Whom it is for, NAMESPACE/NAME of a pod; may be empty.
    pub owner: &'a str,
    /// From the subnets of this VLAN; 0 is untagged.
    pub vlan: u16,
    /// The Port that it is for. What a living device has that was made for it is its own.
    pub port: Option<&'a Name>,
    /// Just these, and no others of their families.
    pub wanted: &'a [IpAddr],
    /// From these ranges only, for the families that there is one of.
    pub ranges: &'a [AddressRange],
}

/// An address that was given back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Released {
    /// Who had it; may be empty.
    pub owner: String,
    /// When it was given back.
    pub at: SystemTime,
}

/// Names an address that was given back: its Network and itself.
pub type ReleasedKey = (Name, IpAddr);

/// What changed among the addresses that were given back: `None` for those that no longer wait.
pub type ReleasedChanges = BTreeMap<ReleasedKey, Option<Released>>;

/// Why somebody gets no address.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Error {
    /// There is none left.
    #[error("{}", exhausted(network, pools))]
    Exhausted {
        /// Of this Network.
        network: Name,
        /// The pools of the family, all full.
        pools: Vec<Usage>,
    },
    /// A wanted address is somebody else's.
    #[error("{address} of Network/{network} {}", obstacle(by))]
    Taken {
        /// The Network.
        network: Name,
        /// The address.
        address: IpAddr,
        /// Whose it is.
        by: Obstacle,
    },
    /// A wanted address is of no subnet.
    #[error("{address} is in no subnet of Network/{network}{}, {}", on(*vlan), listed(subnets))]
    Outside {
        /// The Network.
        network: Name,
        /// The VLAN that is meant; 0 is untagged.
        vlan: u16,
        /// The address.
        address: IpAddr,
        /// What subnets there are on it.
        subnets: Vec<Prefix>,
    },
}

/// All addresses of all Networks.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    networks: BTreeMap<Name, Vec<Pool>>,
}

impl Ledger {
    /// The ledger of a fabric, with what was given back before.
    pub fn of(fabric: &Fabric, released: impl IntoIterator<Item = (ReleasedKey, Released)>) -> Ledger {
        let mut ledger = Ledger::default();
        for (name, network) in &fabric.networks {
            ledger.networks.insert(name.clone(), pools(&network.spec));
        }
        for ((network, address), released) in released {
            if let Some(pool) = ledger.pool(&network, address) {
                pool.remember(address, released);
            }
        }
        for (name, port) in &fabric.ports {
            ledger.take(name, &port.spec);
        }
        ledger.hold_all(fabric);
        ledger
    }

    /// Other devices whose Ports are not known were found: nobody gets what `fabric` says that they have.
    pub fn hold(&mut self, fabric: &Fabric, now: SystemTime) {
        let held: BTreeSet<IpAddr> = fabric.survivors.values().flat_map(|it| it.addresses.clone()).collect();
        for pool in self.networks.values_mut().flatten() {
            pool.let_go(&held, now);
        }
        self.hold_all(fabric);
    }

    /// Nobody knows which Network such a device was on, so it counts for all that have its addresses.
    fn hold_all(&mut self, fabric: &Fabric) {
        let held =
            fabric.survivors.iter().flat_map(|(name, it)| it.addresses.iter().map(move |at| (name, at)));
        for (name, address) in held {
            let pools = self.networks.values_mut().flatten();
            for pool in pools.filter(|pool| pool.subnet().prefix.contains(*address)) {
                pool.hold(*address, name);
            }
        }
    }

    /// The addresses that somebody gets who attaches to a Network: one of each family, of the first subnet that has
    /// one left, in the order of the subnets.
    ///
    /// # Errors
    /// When a wanted address cannot be had, or all pools of a family are exhausted.
    pub fn choose(
        &self,
        name: &Name,
        network: &Network,
        asked: &Asked<'_>,
        now: SystemTime,
    ) -> Result<Vec<InterfaceAddress>, Error> {
        let pools = self.networks.get(name).map(Vec::as_slice).unwrap_or_default();
        let pools: Vec<&Pool> = pools.iter().filter(|pool| pool.subnet().vlan == asked.vlan).collect();
        let mut chosen = Vec::new();
        for address in asked.wanted {
            chosen.push(wanted(name, &pools, *address, asked)?);
        }
        for v4 in families(&pools) {
            if asked.wanted.iter().any(|address| address.is_ipv4() == v4) {
                continue;
            }
            let of_family =
                || pools.iter().filter(|pool| pool.is_open() && pool.subnet().prefix.is_ipv4() == v4);
            let mut found =
                of_family().filter_map(|pool| Some((pool, pool.choose(asked, &network.addressing, now)?)));
            let (pool, address) = found.next().ok_or_else(|| Error::Exhausted {
                network: name.clone(),
                pools: of_family().map(|pool| pool.usage()).collect(),
            })?;
            chosen.push(InterfaceAddress { address, prefix_length: pool.subnet().prefix.length() });
        }
        let first_v6 = pools.first().is_some_and(|pool| !pool.subnet().prefix.is_ipv4());
        chosen.sort_by_key(|own: &InterfaceAddress| own.address.is_ipv4() == first_v6);
        Ok(chosen)
    }

    /// Follows the store from one picture to the next: `written` are the objects that differ. Returns what is to be
    /// put down, in the same transaction, of addresses that were given back.
    pub fn follow(
        &mut self,
        before: &Fabric,
        after: &Fabric,
        written: &BTreeSet<ObjectRef>,
        now: SystemTime,
    ) -> ReleasedChanges {
        let mut changes = ReleasedChanges::new();
        for object in written.iter().filter(|object| object.kind == Kind::Port) {
            let (old, new) = (before.ports.get(&object.name), after.ports.get(&object.name));
            if let Some(old) = old {
                self.leave(&object.name, &old.spec, new.map(|new| &new.spec), now, &mut changes);
            }
        }
        for object in written.iter().filter(|object| object.kind == Kind::Network) {
            self.rebuild(&object.name, after, &mut changes);
        }
        for object in written.iter().filter(|object| object.kind == Kind::Port) {
            let Some(port) = after.ports.get(&object.name) else { continue };
            for address in self.take(&object.name, &port.spec) {
                changes.insert((port.spec.network.clone(), address), None);
            }
        }
        changes
    }

    /// Undoes [`follow`](Self::follow) after its changes could not be put on disk. An address that somebody was about
    /// to get again does not wait any more.
    pub fn go_back(&mut self, fabric: &Fabric, changes: &ReleasedChanges) {
        let released = self.released().into_iter().filter(|(key, _)| !changes.contains_key(key));
        *self = Ledger::of(fabric, released);
    }

    /// What was given back and waits.
    pub fn released(&self) -> Vec<(ReleasedKey, Released)> {
        let pools = self.networks.iter().flat_map(|(name, pools)| pools.iter().map(move |pool| (name, pool)));
        let released = pools.flat_map(|(name, pool)| {
            pool.released().map(move |(address, released)| ((name.clone(), address), released.clone()))
        });
        released.collect()
    }

    /// Lets go of what was given back long enough ago.
    pub fn expire(&mut self, fabric: &Fabric, now: SystemTime) -> ReleasedChanges {
        let mut changes = ReleasedChanges::new();
        for (name, pools) in &mut self.networks {
            let Some(network) = fabric.networks.get(name) else { continue };
            for pool in pools {
                let expired = pool.expire(&network.spec.addressing, now);
                changes.extend(expired.into_iter().map(|address| ((name.clone(), address), None)));
            }
        }
        changes
    }

    /// How full the pools of a Network are, in the order of its subnets; those that nothing is given out of are left
    /// out.
    pub fn usage(&self, network: &Name) -> Vec<Usage> {
        let pools = self.networks.get(network).into_iter().flatten();
        pools.filter(|pool| pool.is_open()).map(Pool::usage).collect()
    }

    fn pool(&mut self, network: &Name, address: IpAddr) -> Option<&mut Pool> {
        let mut pools = self.networks.get_mut(network)?.iter_mut();
        pools.find(|pool| pool.subnet().prefix.contains(address))
    }

    /// The addresses among a Port's that somebody had given back.
    fn take(&mut self, name: &Name, port: &Port) -> Vec<IpAddr> {
        let mut again = Vec::new();
        for own in &port.addresses {
            let pool = self.pool(&port.network, own.address);
            if pool.and_then(|pool| pool.take(own.address, name)).is_some() {
                again.push(own.address);
            }
        }
        again
    }

    fn leave(
        &mut self,
        name: &Name,
        old: &Port,
        new: Option<&Port>,
        now: SystemTime,
        changes: &mut ReleasedChanges,
    ) {
        let stays = |address| {
            new.is_some_and(|new| {
                new.network == old.network && new.addresses.iter().any(|own| own.address == address)
            })
        };
        for own in old.addresses.iter().filter(|own| !stays(own.address)) {
            let Some(pool) =
                self.pool(&old.network, own.address).filter(|pool| pool.is_of(own.address, name))
            else {
                continue;
            };
            match &old.endpoint {
                // Others may still send to the one who had it.
                Some(endpoint) => {
                    let released = Released { owner: endpoint.owner.clone(), at: now };
                    pool.give_back(own.address, released.clone());
                    changes.insert((old.network.clone(), own.address), Some(released));
                }
                None => pool.free(own.address),
            }
        }
    }

    /// The pools of a Network whose specification may have changed.
    fn rebuild(&mut self, name: &Name, fabric: &Fabric, changes: &mut ReleasedChanges) {
        let old = self.networks.remove(name).unwrap_or_default();
        let released: Vec<_> =
            old.iter().flat_map(|pool| pool.released().map(|(address, it)| (address, it.clone()))).collect();
        if let Some(network) = fabric.networks.get(name) {
            self.networks.insert(name.clone(), pools(&network.spec));
        }
        for (address, released) in released {
            match self.pool(name, address) {
                Some(pool) => pool.remember(address, released),
                None => drop(changes.insert((name.clone(), address), None)),
            }
        }
        let ports: Vec<_> = fabric.ports.iter().filter(|(_, port)| port.spec.network == *name).collect();
        for (port, object) in ports {
            self.take(port, &object.spec);
        }
        self.hold_all(fabric);
    }
}

fn pools(network: &Network) -> Vec<Pool> {
    network.subnets.iter().map(|subnet| Pool::of(subnet, network)).collect()
}

/// The families that there are pools of; IPv4 is true.
fn families(pools: &[&Pool]) -> Vec<bool> {
    let mut families: Vec<bool> = Vec::new();
    for v4 in pools.iter().filter(|pool| pool.is_open()).map(|pool| pool.subnet().prefix.is_ipv4()) {
        if !families.contains(&v4) {
            families.push(v4);
        }
    }
    families
}

fn wanted(
    name: &Name,
    pools: &[&Pool],
    address: IpAddr,
    asked: &Asked<'_>,
) -> Result<InterfaceAddress, Error> {
    let Some(pool) = pools.iter().find(|pool| pool.subnet().prefix.contains(address)) else {
        let subnets = pools.iter().map(|pool| pool.subnet().prefix).collect();
        return Err(Error::Outside { network: name.clone(), vlan: asked.vlan, address, subnets });
    };
    match pool.refuses(address, asked) {
        Some(by) => Err(Error::Taken { network: name.clone(), address, by }),
        None => Ok(InterfaceAddress { address, prefix_length: pool.subnet().prefix.length() }),
    }
}

fn exhausted(network: &Name, pools: &[Usage]) -> String {
    let each = pools.iter().map(|pool| {
        let Usage { prefix, size, used, quarantined, reserved } = pool;
        format!("{prefix}: {used} of {size} in use, {quarantined} given back a short time ago, {reserved} reserved")
    });
    let each: Vec<_> = each.collect();
    format!("Network/{network} has no address left ({})", each.join("; "))
}

fn obstacle(by: &Obstacle) -> String {
    match by {
        Obstacle::Port(port) => format!("is Port/{port}'s"),
        Obstacle::Survivor(port) => {
            format!("is in use by a living device that was made for Port/{port}, which is not known any more")
        }
        Obstacle::Reserved(owner) => format!("is reserved for {owner}"),
        Obstacle::NotForHosts => "is the gateway's, or not a host's address".to_owned(),
    }
}

/// Where on a Network, unless that is untagged.
fn on(vlan: u16) -> String {
    if vlan == UNTAGGED { String::new() } else { format!(" on VLAN {vlan}") }
}

fn listed(subnets: &[Prefix]) -> String {
    let texts: Vec<_> = subnets.iter().map(Prefix::to_string).collect();
    if texts.is_empty() {
        "which has none".to_owned()
    } else {
        format!("one of {} expected", texts.join(", "))
    }
}
