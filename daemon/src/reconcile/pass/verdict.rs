//! A word on each object that was looked at, and what is gone for good.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::nat::{mapped, masqueraded};
use super::{Outcome, Reconciliation, Settled};
use crate::model::{Fabric, Kind, Name, Namespace, Network, Object, Objects, Port, Router, Tunnel};
use crate::reconcile::error::told;
use crate::reconcile::observe::kernel::remove_left_over;
use crate::reconcile::observe::{Device, PlaceState, Refusal};
use crate::reconcile::picture::lives;
use crate::reconcile::picture::tunnel::mtu as tunnel_mtu;
use crate::reconcile::place::{Place, host_end, is_uplink};
use crate::reconcile::plan::{Subject, standing};
use crate::reconcile::retry::Cause;
use crate::reconcile::scope::Scope;
use crate::reconcile::sockets::OpenPort;
use crate::reconcile::underlays::underlay;
use crate::status::{Observed as Seen, Report};

/// What everything that is as wished says.
const REALIZED: &str = "Realized";

impl Reconciliation {
    /// Judges what was looked at, and notes what has to be tried again.
    pub(super) fn verdict(&mut self, scope: &Scope, settled: Settled, now: Instant) -> Outcome {
        let fabric = std::sync::Arc::clone(&self.fabric);
        let gone = self.gone(&fabric, scope, &settled);
        let mut outcome = Outcome { revision: fabric.revision, ..Outcome::default() };
        for name in &scope.ports {
            if let Some(port) = fabric.ports.get(name).filter(|_| !gone.contains(&(Kind::Port, name.clone())))
            {
                let report = self.port_report(name, port, &settled, now);
                outcome.reports.push((Kind::Port, name.clone(), report));
            }
        }
        for (name, port) in self.retold(&fabric, scope, &settled) {
            let report = self.port_report(name, port, &settled, now);
            outcome.reports.push((Kind::Port, name.clone(), report));
        }
        for place in &scope.places {
            let Place::Namespace(name) = place else { continue };
            let object = fabric.namespaces.get(name);
            if let Some(object) = object.filter(|_| !gone.contains(&(Kind::Namespace, name.clone()))) {
                let report = self.namespace_report(name, object, &settled, now);
                outcome.reports.push((Kind::Namespace, name.clone(), report));
            }
        }
        self.judge_ends(scope, &settled, now);
        if settled.published {
            let refused = settled.refused_picture.as_deref();
            outcome.reports.extend(segment_reports(&fabric, refused, &self.complaints));
        }
        for (kind, name) in &gone {
            match kind {
                Kind::Port => self.retries.settled(&Subject::Port(name.clone())),
                Kind::Namespace => self.retries.settled(&Subject::Namespace(name.clone())),
                Kind::Network | Kind::Router | Kind::Tunnel => {}
            }
        }
        outcome.gone = gone.into_iter().collect();
        outcome
    }

    fn port_report(&mut self, name: &Name, port: &Object<Port>, settled: &Settled, now: Instant) -> Report {
        let subject = Subject::Port(name.clone());
        let trouble = trouble(&subject, settled).or_else(|| {
            let left = port.metadata.deleting.is_some();
            left.then(|| Refusal { reason: "Removing", message: "its device is still there".to_owned() })
        });
        self.judged(subject, trouble.as_ref(), settled, now);
        let found = standing(&self.observed, name, &port.spec);
        let open = self.sockets.get(name);
        let observed = found.map(|found| Seen::Port {
            device: found.device.name.clone(),
            ifindex: found.device.index,
            mac: found.device.mac.unwrap_or_default(),
            mtu: mtu(found.device, &port.spec),
            host_device: found.end.map(|end| end.name.clone()),
            host_mac: found.end.and_then(|end| end.mac),
            offloads: open.map(offload_names).unwrap_or_default(),
            queues: open.map_or(0, OpenPort::queues),
        });
        let trouble = trouble.or_else(|| found.and_then(|found| unplugged(found.device, &port.spec)));
        let trouble = trouble.or_else(|| self.unmapped(&port.spec));
        let trouble = trouble.or_else(|| self.node_routes.trouble(name).cloned());
        let well = || {
            let note = found.map(|found| smaller(found.device, &port.spec)).unwrap_or_default();
            let mapped = mapped(&self.fabric, &port.spec);
            format!("{} is up in {}{note}{mapped}", port.spec.device, Place::of(&port.spec))
        };
        report(trouble, well, observed, port.metadata.generation)
    }

    fn namespace_report(
        &mut self,
        name: &Name,
        object: &Object<Namespace>,
        settled: &Settled,
        now: Instant,
    ) -> Report {
        let subject = Subject::Namespace(name.clone());
        let trouble = trouble(&subject, settled).or_else(|| {
            let left = object.metadata.deleting.is_some();
            left.then(|| Refusal { reason: "Removing", message: "Ports in it are still there".to_owned() })
        });
        self.judged(subject, trouble.as_ref(), settled, now);
        let place = Place::Namespace(name.clone());
        let path = self.kernel.folders.namespace(name, &object.spec);
        let well = || match object.spec {
            Namespace::Make => format!("made at {}", path.display()),
            Namespace::Adopt(_) => format!("adopted from {}", path.display()),
        };
        let view = self.observed.view(&place);
        let observed = view.map(|view| Seen::Namespace { path: path.clone(), inode: view.id.inode });
        report(trouble, well, observed, object.metadata.generation)
    }

    /// The namespace of the stack's ends has no object to speak for it; it is only tried again.
    fn judge_ends(&mut self, scope: &Scope, settled: &Settled, now: Instant) {
        let unusable = match self.observed.places.get(&Place::Ports) {
            Some(PlaceState::Unusable(refusal)) => Some(refusal.clone()),
            _ => trouble(&Subject::Ports, settled),
        };
        if unusable.is_some() || scope.places.contains(&Place::Ports) {
            self.judged(Subject::Ports, unusable.as_ref(), settled, now);
        }
    }

    /// Notes when to try again, and logs a trouble that is new.
    fn judged(&mut self, subject: Subject, trouble: Option<&Refusal>, settled: &Settled, now: Instant) {
        let Some(trouble) = trouble else {
            self.retries.settled(&subject);
            self.complaints.remove(&subject);
            return;
        };
        let tried = !settled.plan.refusals.contains_key(&subject) && subject != Subject::Ports;
        self.retries.failed(subject.clone(), if tried { Cause::Failed } else { Cause::Refused }, now);
        if self.complaints.get(&subject) != Some(trouble) {
            tracing::warn!(object = %subject, reason = trouble.reason, "{}", trouble.message);
            self.complaints.insert(subject, trouble.clone());
        }
    }

    /// Objects to be taken down that have nothing left, in an order in which nobody refers to the missing.
    fn gone(&self, fabric: &Fabric, scope: &Scope, settled: &Settled) -> BTreeSet<(Kind, Name)> {
        let mut gone = BTreeSet::new();
        if !has_tombstones(fabric) {
            return gone;
        }
        for (name, port) in
            fabric.ports.iter().filter(|(name, port)| !lives(port) && scope.ports.contains(*name))
        {
            if !settled.failures.contains_key(&Subject::Port(name.clone()))
                && self.has_nothing(name, &port.spec)
            {
                gone.insert((Kind::Port, name.clone()));
            }
        }
        let left = |name: &Name| !gone.contains(&(Kind::Port, name.clone()));
        let ports: Vec<_> =
            fabric.ports.iter().filter(|(name, _)| left(name)).map(|(_, port)| &port.spec).collect();
        let used = |name: &Name| ports.iter().any(|port| Place::of(port) == Place::Namespace(name.clone()));
        for (name, namespace) in fabric.namespaces.iter().filter(|(_, namespace)| !lives(namespace)) {
            if !used(name) && self.is_left(name, namespace) {
                gone.insert((Kind::Namespace, name.clone()));
            }
        }
        if !self.refused {
            let attached = |name: &Name| ports.iter().any(|port| port.network == *name);
            let networks =
                fabric.networks.iter().filter(|(name, network)| !lives(network) && !attached(name));
            gone.extend(networks.map(|(name, _)| (Kind::Network, name.clone())));
            let last = |name: &Name| !gone.contains(&(Kind::Network, name.clone()));
            let hangs = |name: &Name| {
                fabric
                    .networks
                    .iter()
                    .any(|(n, network)| last(n) && network.spec.router.as_ref() == Some(name))
            };
            let routers = fabric.routers.iter().filter(|(name, router)| !lives(router) && !hangs(name));
            let routers: Vec<_> = routers.map(|(name, _)| (Kind::Router, name.clone())).collect();
            gone.extend(routers);
            let tunnels = fabric.tunnels.iter().filter(|(_, tunnel)| !lives(tunnel));
            gone.extend(tunnels.map(|(name, _)| (Kind::Tunnel, name.clone())));
        }
        gone
    }

    /// Whether a Port has no device left where the daemon may look, and the node none of its routes.
    fn has_nothing(&self, name: &Name, port: &Port) -> bool {
        let nothing_at = |place: &Place| match self.observed.places.get(place) {
            Some(PlaceState::Present(view)) => view.owned_by(name).next().is_none(),
            Some(PlaceState::Unusable(refusal)) => refusal.reason != "Unreadable",
            Some(PlaceState::Absent) | None => true,
        };
        let end = self.observed.view(&Place::Ports).and_then(|view| view.named(&host_end(name)));
        let end = end.filter(|end| !end.retired && end.owner.as_ref().is_none_or(|owner| owner == name));
        let routes = port.node_routes.is_empty() || self.node_routes.is_clean();
        nothing_at(&Place::of(port)) && end.is_none() && routes
    }

    /// Whether the daemon is done with a namespace that is to be taken down.
    fn is_left(&self, name: &Name, namespace: &Object<Namespace>) -> bool {
        if namespace.spec != Namespace::Make {
            return true;
        }
        match self.observed.places.get(&Place::Namespace(name.clone())) {
            Some(PlaceState::Present(_)) => false,
            Some(PlaceState::Unusable(refusal)) => refusal.reason != "Unreadable",
            Some(PlaceState::Absent) => {
                let path = self.kernel.folders.namespace(name, &namespace.spec);
                if let Err(error) = remove_left_over(&path) {
                    tracing::warn!("{} stays behind: {}", path.display(), told(&error));
                }
                true
            }
            None => false,
        }
    }
}

/// Whether any object is to be taken down.
fn has_tombstones(fabric: &Fabric) -> bool {
    fn any<T>(objects: &Objects<T>) -> bool {
        objects.values().any(|object| !lives(object))
    }
    any(&fabric.ports)
        || any(&fabric.namespaces)
        || any(&fabric.networks)
        || any(&fabric.routers)
        || any(&fabric.tunnels)
}

/// The largest IP packet that passes a Port: a network card's own limit is left as it is.
fn mtu(device: &Device, port: &Port) -> u32 {
    if is_uplink(port) { device.mtu.min(port.mtu.get()) } else { device.mtu }
}

/// Says that a network card takes less than its Port was to.
fn smaller(device: &Device, port: &Port) -> String {
    match mtu(device, port) {
        mtu if mtu < port.mtu.get() => {
            format!("; its MTU of {mtu} is less than the {} that the Port was to have", port.mtu)
        }
        _ => String::new(),
    }
}

/// A network card with nothing at its other end. There is nothing to try again: the kernel tells when there is.
fn unplugged(device: &Device, port: &Port) -> Option<Refusal> {
    let message = || format!("{} has no carrier: look at its cable, or at the other end", device.name);
    (is_uplink(port) && !device.carrier).then(|| Refusal { reason: "NoCarrier", message: message() })
}

/// Why `subject` is not as wished after all rounds.
fn trouble(subject: &Subject, settled: &Settled) -> Option<Refusal> {
    if let Some(refusal) = settled.plan.refusals.get(subject) {
        return Some(refusal.clone());
    }
    if let Some(errors) = settled.failures.get(subject).filter(|errors| !errors.is_empty()) {
        let message = errors.iter().map(|error| told(error)).collect::<Vec<_>>().join("; ");
        return Some(Refusal { reason: errors[0].reason(), message });
    }
    let unsettled = settled.plan.operations.iter().any(|operation| operation.subject == *subject);
    unsettled.then(|| Refusal {
        reason: "Unsettled",
        message: "it does not stay as it is set: look for another program that changes it".to_owned(),
    })
}

fn report(
    trouble: Option<Refusal>,
    well: impl FnOnce() -> String,
    observed: Option<Seen>,
    generation: u64,
) -> Report {
    match trouble {
        None => Report { ready: true, reason: REALIZED, message: well(), observed, generation },
        Some(Refusal { reason, message }) => Report { ready: false, reason, message, observed, generation },
    }
}

/// What a Network that is in the picture does.
fn switched(fabric: &Fabric, name: &Name, network: &Network) -> String {
    let silent = network.router.is_none() && network.subnets.iter().any(|subnet| subnet.gateway.is_some());
    let note = if silent { "; no gateway answers, as it hangs on no Router" } else { "" };
    format!("frames are switched{note}{}", masqueraded(fabric, name, network))
}

/// Networks, Routers and Tunnels live in the workers' picture alone.
fn segment_reports(
    fabric: &Fabric,
    refused: Option<&str>,
    complaints: &BTreeMap<Subject, Refusal>,
) -> Vec<(Kind, Name, Report)> {
    let trouble = || refused.map(|message| Refusal { reason: "PictureRefused", message: message.to_owned() });
    let mut reports = Vec::new();
    for (name, network) in fabric.networks.iter().filter(|(_, network)| lives(network)) {
        let well = || switched(fabric, name, &network.spec);
        let nat = complaints.get(&Subject::Nat).filter(|_| network.spec.masquerade.is_some());
        let trouble = trouble().or_else(|| nat.cloned());
        let report = report(trouble, well, Some(Seen::Network {}), network.metadata.generation);
        reports.push((Kind::Network, name.clone(), report));
    }
    for (name, router) in fabric.routers.iter().filter(|(_, router)| lives(router)) {
        let well = || "packets are routed".to_owned();
        let observed = router_state(fabric, name, &router.spec);
        let report = report(trouble(), well, Some(observed), router.metadata.generation);
        reports.push((Kind::Router, name.clone(), report));
    }
    for (name, tunnel) in fabric.tunnels.iter().filter(|(_, tunnel)| lives(tunnel)) {
        let closed = underlay(&tunnel.spec).and_then(|it| complaints.get(&Subject::Underlay(it)).cloned());
        let trouble = without_keys(fabric, name, &tunnel.spec).or(closed).or_else(trouble);
        let observed = Some(Seen::Tunnel { mtu: tunnel_mtu(fabric, &tunnel.spec).get() });
        let report = report(trouble, || carried(&tunnel.spec), observed, tunnel.metadata.generation);
        reports.push((Kind::Tunnel, name.clone(), report));
    }
    reports
}

/// What a Tunnel that is in the picture does.
fn carried(tunnel: &Tunnel) -> String {
    match tunnel.remotes().len() {
        1 => format!("{} to one far end", tunnel.word()),
        ends => format!("{} to {ends} far ends", tunnel.word()),
    }
}

/// A Tunnel whose keys were lost is left out of the picture.
fn without_keys(fabric: &Fabric, name: &Name, tunnel: &Tunnel) -> Option<Refusal> {
    let missing = tunnel.wireguard().is_some() && !fabric.keys.contains_key(name);
    let message = "the file with its private key is missing or cannot be read: rotate the key, or apply one";
    missing.then(|| Refusal { reason: "KeyMissing", message: message.to_owned() })
}

fn router_state(fabric: &Fabric, name: &Name, router: &Router) -> Seen {
    let hangs = |network: &Object<Network>| lives(network) && network.spec.router.as_ref() == Some(name);
    let attached: Vec<_> = fabric.networks.iter().filter(|(_, network)| hangs(network)).collect();
    // A subnet without a gateway is nobody's to route to.
    let subnets = attached.iter().flat_map(|(_, network)| &network.spec.subnets);
    let connected = subnets.filter(|subnet| subnet.gateway.is_some()).map(|subnet| subnet.prefix);
    let prefixes: BTreeSet<_> = connected.chain(router.routes.iter().map(|route| route.prefix)).collect();
    Seen::Router {
        networks: attached.iter().map(|(name, _)| (*name).clone()).collect(),
        // A fabric has far fewer routes than this holds.
        routes: u32::try_from(prefixes.len()).unwrap_or(u32::MAX),
    }
}

fn offload_names(open: &OpenPort) -> Vec<&'static str> {
    let offloads = open.terms.offloads;
    let names = [
        (offloads.checksum, "csum"),
        (offloads.tso4, "tso4"),
        (offloads.tso6, "tso6"),
        (offloads.uso, "uso"),
    ];
    names.into_iter().filter(|(taken, _)| *taken).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn a_network_without_a_router_says_that_its_gateway_is_silent() {
        let alone = "  subnets: [{prefix: 198.18.1.0/24, gateway: 198.18.1.1}]";
        let fabric = fixture::fabric(&fixture::object("Network", "front", alone));
        let reports = segment_reports(&fabric, None, &BTreeMap::new());
        let (.., report) = &reports[0];
        assert!(report.ready);
        assert_eq!(report.message, "frames are switched; no gateway answers, as it hangs on no Router");
    }
}
