//! One round: what the daemon shall have is worked out and told to it, and what came of that is told to the cluster.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::Steward;
use crate::cluster::{NodeRecord, Readiness, Results, Told};
use crate::config::Mode;
use crate::daemon::Keys;
use crate::error::{Error, Result, chain};
use crate::mesh::{self, NotYet, Own, Wish};
use crate::pools;
use crate::program::Trouble;
use crate::status::Peer;

/// Reasons of the daemon's for which something of a node does not work, and all else does: another node that is
/// declared wrongly must not make this one useless.
const BEARABLE: [&str; 2] = ["NodeRouteRefused", "NodeNatUnavailable"];

impl Steward {
    /// Tells the daemon and the cluster what they shall know.
    pub(super) async fn round(&mut self) -> Result<()> {
        // A daemon that comes back is a reason for a round.
        if !self.status.borrow().daemon_answers {
            return Ok(());
        }
        if !self.knows_enough() {
            if self.is_patience_over() {
                let told = self.told.borrow().clone();
                self.say(Told { ready: Some(not_ready("Waiting", self.unheard())), ..told });
            }
            return Ok(());
        }
        self.status.send_modify(|status| status.work.rounds += 1);
        if self.underlay_mtu.is_none() {
            self.measure().await;
        }
        let (source, name) = (self.config.addresses.source, &self.config.node_name);
        let pods = pools::prefixes(&self.view, source, name);
        let claims = pools::claims(&self.view, source, name, &pods);
        let wish = match self.wish(&pods) {
            Ok(wish) => wish,
            Err(not_yet) => {
                let ready = Some(not_ready("Waiting", not_yet.to_string()));
                let record = self.withdrawal(&not_yet);
                self.say(Told { record, claims, ready, ..Told::default() });
                return Ok(());
            }
        };
        let unreached = wish.unreached();
        self.warn_of(&unreached);
        self.status.send_modify(|status| status.mtu = wish.mtu);
        let realized = self.realize(&wish, pods).await;
        if !matches!(realized, Err(Error::DaemonAway(_)) | Ok((_, _, Some(_)))) {
            self.daemon_away = None;
        }
        match realized {
            Ok((record, results, failed)) => {
                let ready = self.readiness(record.as_ref());
                if ready.ready {
                    self.write_conflist();
                }
                let ready = Some(ready);
                self.say(Told { record, ready, unreached, claims, results });
                failed.map_or(Ok(()), Err)
            }
            // It may be about to be started anew: others are told when it stays away.
            Err(error @ Error::DaemonAway(_)) => Err(error),
            Err(error) => {
                let ready = Some(not_ready("NotRealized", chain(&error)));
                let told = self.told.borrow().clone();
                self.say(Told { ready, unreached, claims, ..told });
                Err(error)
            }
        }
    }

    /// Whether what is known of the cluster is something to go by. What is on disk may be older than what the daemon
    /// has: it counts when the cluster is away, or has let itself be waited for.
    fn knows_enough(&self) -> bool {
        let view = &self.view;
        // The daemon may know more than we do as yet.
        let something = (view.heard.own || !view.own.addresses.is_empty())
            && (view.heard.nodes || !view.nodes.is_empty());
        something && (self.has_heard() || self.is_patience_over())
    }

    /// What the cluster has not told, in words.
    fn unheard(&self) -> String {
        let what = match self.view.heard.own || !self.view.own.addresses.is_empty() {
            true => "of the other nodes".to_owned(),
            false => format!("of this node, \"{}\"", self.config.node_name),
        };
        format!("the cluster has not told {what} yet: the agent's log says why")
    }

    /// Takes back what others know of this node's prefixes, when it has lost them.
    fn withdrawal(&self, not_yet: &NotYet) -> Option<NodeRecord> {
        let known = self.view.nodes.get(&self.config.node_name)?;
        let lost = matches!(not_yet, NotYet::NoPrefix | NotYet::NoBlock) && !known.pods.is_empty();
        let record = NodeRecord { pods: Vec::new(), ..known.clone() };
        ((lost || known.pods.is_empty()) && self.has_heard()).then_some(record)
    }

    fn wish(&self, pods: &[IpNet]) -> Result<Wish, NotYet> {
        let keys: Vec<String> = self.keys.iter().flat_map(Keys::all).collect();
        let own = Own {
            name: &self.config.node_name,
            addresses: &self.view.own.addresses,
            pods,
            underlay_mtu: self.underlay_mtu.unwrap_or(1500),
            keys: &keys,
        };
        mesh::wish(&self.settings, &own, self.view.nodes.values())
    }

    /// Brings the daemon to it, and to what users declared. Gives how others reach this node, what became of what users
    /// declared, and what kept that from being looked at.
    async fn realize(
        &mut self,
        wish: &Wish,
        pods: Vec<IpNet>,
    ) -> Result<(Option<NodeRecord>, Results, Option<Error>)> {
        self.mesh.realize(&wish.resources, self.has_heard()).await?;
        // What users declared keeps nothing of the node's own from being said.
        let (name, addresses) = (&self.config.node_name, &self.view.own.addresses);
        let (results, failed) = match self.declared.realize(&self.view, name, addresses).await {
            Ok(results) => (results, None),
            Err(error) => (self.told.borrow().results.clone(), Some(error)),
        };
        let lost = self.keys.as_ref().is_some_and(|keys| keys.public.is_empty());
        if self.settings.mode == Mode::Wireguard && lost {
            // The daemon waits to be given another one.
            self.rotate(false).await?;
        }
        Ok((self.record(pods), results, failed))
    }

    /// How others reach this node; none before its key is known.
    fn record(&self, pods: Vec<IpNet>) -> Option<NodeRecord> {
        let keys = match self.settings.mode {
            Mode::Wireguard => self.keys.clone().filter(|keys| !keys.public.is_empty())?,
            Mode::Vxlan | Mode::Routes => Keys::default(),
        };
        Some(NodeRecord {
            name: self.config.node_name.clone(),
            addresses: self.view.own.addresses.clone(),
            pods,
            port: self.settings.port,
            public_key: keys.public,
            previous_public_keys: keys.previous,
        })
    }

    /// Whether pods have a network: all that it is made of has come about. The probe is for looking at it only.
    fn readiness(&self, record: Option<&NodeRecord>) -> Readiness {
        let ids = mesh::PARTS.iter().map(|(kind, name)| format!("{kind}/{name}"));
        let troubles = ids.filter_map(|id| self.mesh.trouble_of(&id).map(|trouble| (id, trouble)));
        let (bearable, grave): (Vec<_>, Vec<_>) =
            troubles.partition(|(_, trouble)| BEARABLE.contains(&trouble.reason.as_str()));
        let told = |(id, trouble): &(String, &Trouble)| format!("weftd: {id}: {trouble}");
        if let Some(message) = grave.first().map(told) {
            return not_ready("NotReady", message);
        }
        if record.is_none() {
            return not_ready("NoKey", "weftd has not told the node's key yet".into());
        }
        let serving = "pods on this node have a network";
        let message = match bearable.first().map(told) {
            Some(why) => format!("{serving}; {why}"),
            None => serving.to_owned(),
        };
        Readiness { ready: true, reason: "Serving", message }
    }

    /// The daemon is away for longer than it takes to be started anew.
    pub(super) fn say_daemon_is_away(&mut self) {
        let message = "weftd does not answer: pods go on where it runs, and none can come or go";
        let told = self.told.borrow().clone();
        self.say(Told { ready: Some(not_ready("DaemonAway", message.into())), ..told });
    }

    fn say(&mut self, told: Told) {
        let others = self.view.nodes.values().filter(|node| node.name != self.config.node_name);
        let peers = others.map(|node| {
            let refused = told.unreached.get(&node.name).cloned().unwrap_or_default();
            (node.name.clone(), Peer { addresses: node.addresses.clone(), pods: node.pods.clone(), refused })
        });
        let peers = peers.collect();
        let (mesh, declared) = (self.mesh.done(), self.declared.done());
        self.status.send_modify(|status| {
            if let Some(ready) = &told.ready {
                if status.ready != ready.ready || status.reason != ready.reason {
                    tracing::info!(ready = ready.ready, reason = ready.reason, "{}", ready.message);
                }
                status.note(ready);
            }
            status.record.clone_from(&told.record);
            status.nodes = peers;
            status.work.calls = mesh.calls + declared.calls;
            status.work.objects = mesh.objects + declared.objects;
        });
        self.told.send_if_modified(|known| {
            let changed = *known != told;
            *known = told;
            changed
        });
    }

    fn warn_of(&mut self, unreached: &BTreeMap<String, String>) {
        let new = unreached.iter().filter(|(node, why)| self.warned.get(*node) != Some(*why));
        for (node, why) in new {
            tracing::warn!(node, "its pods are not reached: {why}");
        }
        self.warned.clone_from(unreached);
    }
}

fn not_ready(reason: &'static str, message: String) -> Readiness {
    Readiness { ready: false, reason, message }
}
