//! Having the node's kernel translate, and what Ports and Networks hear of it.

use std::time::Instant;

use super::{Reconciliation, Settled};
use crate::model::{Fabric, Name, Network, Object, Port};
use crate::reconcile::agenda::News;
use crate::reconcile::error::told;
use crate::reconcile::nat::{FORWARDING_OFF, are_joined, host_ports};
use crate::reconcile::observe::Refusal;
use crate::reconcile::place::Place;
use crate::reconcile::plan::Subject;
use crate::reconcile::retry::Cause;
use crate::reconcile::scope::Scope;

impl Reconciliation {
    /// Makes the node's table as wished, when there may be something to do.
    pub(super) fn translate(&mut self, scope: &Scope, news: &News, settled: &mut Settled, now: Instant) {
        for (table, generation) in &news.tables {
            self.nat.heard(table, *generation);
        }
        let subject = Subject::Nat;
        // A device that was made anew has lost its parameters.
        let devices = self.nat.is_wanted() && scope.places.contains(&Place::Own);
        let again = self.retries.due(now).any(|due| *due == subject);
        if !(self.nat.is_due() || devices || again) || self.retries.holds(&subject, now) {
            return;
        }
        match self.nat.settle(&mut self.kernel) {
            Ok(()) => {
                self.retries.settled(&subject);
                if self.complaints.remove(&subject).is_some() {
                    self.unpublished = true;
                    settled.retold = true;
                }
            }
            Err(error) => {
                let trouble = Refusal { reason: error.reason(), message: told(&error) };
                self.retries.failed(subject.clone(), Cause::Failed, now);
                settled.retold |= self.complaints.get(&subject) != Some(&trouble);
                self.complain(&subject, trouble);
                settled.failures.entry(subject).or_default().push(error);
            }
        }
    }

    /// Ports beside those that were looked at that have something new to hear: all is well with their devices.
    pub(super) fn retold<'a>(
        &self,
        fabric: &'a Fabric,
        scope: &Scope,
        settled: &Settled,
    ) -> Vec<(&'a Name, &'a Object<Port>)> {
        let concerned = |(name, port): &(&Name, &Object<Port>)| {
            let quiet = port.spec.mappings.is_empty() && port.spec.node_routes.is_empty();
            !quiet
                && !scope.ports.contains(*name)
                && !self.complaints.contains_key(&Subject::Port((*name).clone()))
        };
        let ports = fabric.ports.iter().map(|(name, port)| (name, &**port)).filter(|_| settled.retold);
        ports.filter(concerned).collect()
    }

    /// Why a Port's mappings do not work, or what its routes of the node need.
    pub(super) fn unmapped(&self, port: &Port) -> Option<Refusal> {
        let (mapped, routed) = (!port.mappings.is_empty(), !port.node_routes.is_empty());
        let complaint = self.complaints.get(&Subject::Nat);
        complaint.filter(|it| mapped || (routed && it.reason == FORWARDING_OFF)).cloned()
    }
}

/// What a Port's mappings come to, to be added to what is said of it.
pub(super) fn mapped(fabric: &Fabric, port: &Port) -> String {
    match port.mappings.len() {
        0 => String::new(),
        1 => format!("; a port of the node leads to it{}", way(fabric, &port.network)),
        count => format!("; {count} ports of the node lead to it{}", way(fabric, &port.network)),
    }
}

/// What masquerading comes to, to be added to what is said of a Network.
pub(super) fn masqueraded(fabric: &Fabric, name: &Name, network: &Network) -> String {
    match network.masquerade {
        None => String::new(),
        Some(_) => format!("; the node masquerades it{}", way(fabric, name)),
    }
}

/// What is missing on the way between the node and a Network: a `host` Port, and one that may send for the outside.
fn way(fabric: &Fabric, network: &Name) -> String {
    let mut joined = host_ports(fabric).filter(|(_, port)| are_joined(fabric, &port.network, network));
    let Some((name, first)) = joined.next() else {
        return ", but no Port of type host joins it and the node".to_owned();
    };
    let checked = |port: &Port| port.switching.source_check;
    if checked(first) && joined.all(|(_, port)| checked(port)) {
        return format!(", but Port/{name} lets nothing through from outside: set its sourceCheck to false");
    }
    String::new()
}
