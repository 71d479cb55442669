//! Routes of the node's own kernel to what is behind other nodes (`spec.nodeRoutes` of `host` Ports): no device is named,
//! the kernel finds the one that leads to the next hop.
//!
//! Owns what is known of them between passes, so that a change costs only itself. They are known by their protocol, and
//! by not being on a device of Weft's. `plan` is the difference; when to look is left to [`pass`](super::pass).

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use weft_host::Error;
use weft_host::link::{Netlink, ROUTE_PROTOCOL_WEFT, Route};
use weft_stack::Prefix;

use self::plan::{Step, plan};
use super::error::{StepError, told};
use super::observe::Refusal;
use super::observe::kernel::Kernel;
use super::picture::lives;
use super::place::{Marks, Place};
use crate::model::{Attachment, Fabric, Name, Object, Port, PortRoute};

mod plan;

/// As many routes are named when the kernel refuses more.
const NAMED: usize = 3;

/// The routes, and what is known of them.
#[derive(Debug)]
pub struct NodeRoutes {
    /// The Ports whose wish is `wish`.
    ports: Vec<(Name, Arc<Object<Port>>)>,
    wish: BTreeSet<PortRoute>,
    /// What there is, and the index of the device of each; `None`: it has to be looked at.
    seen: Option<BTreeMap<PortRoute, u32>>,
    /// There may be something to do.
    due: bool,
    /// Why routes of these Ports are not as wished.
    troubles: BTreeMap<Name, Refusal>,
}

impl Default for NodeRoutes {
    /// Nothing is known: an earlier daemon may have left some.
    fn default() -> NodeRoutes {
        NodeRoutes {
            ports: Vec::new(),
            wish: BTreeSet::new(),
            seen: None,
            due: true,
            troubles: BTreeMap::new(),
        }
    }
}

impl NodeRoutes {
    /// Takes note of what `fabric` wishes for.
    pub fn want(&mut self, fabric: &Fabric) {
        let wishes = |port: &Object<Port>| {
            port.spec.attachment == Attachment::Host && !port.spec.node_routes.is_empty()
        };
        let ports = fabric.ports.iter().filter(|(_, port)| lives(port) && wishes(port));
        let known = self.ports.iter().map(|(name, port)| (name, port));
        // Most changes are of other Ports.
        if ports.clone().map(|(_, port)| Arc::as_ptr(port)).eq(known.map(|(_, port)| Arc::as_ptr(port))) {
            return;
        }
        self.ports = ports.map(|(name, port)| (name.clone(), Arc::clone(port))).collect();
        self.wish = self.ports.iter().flat_map(|(_, port)| port.spec.node_routes.iter().copied()).collect();
        self.due = true;
    }

    /// Addresses or routes of the node have changed.
    pub fn heard(&mut self) {
        if !(self.wish.is_empty() && self.seen.as_ref().is_some_and(BTreeMap::is_empty)) {
            self.seen = None;
            self.due = true;
        }
    }

    /// A device of the node has changed. The kernel does not tell of each route that goes with one.
    pub fn heard_of_link(&mut self, index: u32) {
        let concerns = self.seen.as_ref().is_none_or(|seen| {
            seen.len() != self.wish.len() || seen.values().any(|carrying| *carrying == index)
        });
        if concerns {
            self.heard();
        }
    }

    /// Whether there may be something to do.
    pub fn is_due(&self) -> bool {
        self.due
    }

    /// Whether nothing is left that nobody wishes for, as far as is known.
    pub fn is_clean(&self) -> bool {
        self.seen.as_ref().is_some_and(|seen| seen.keys().all(|route| self.wish.contains(route)))
    }

    /// Why routes of this Port are not as wished.
    pub fn trouble(&self, port: &Name) -> Option<&Refusal> {
        self.troubles.get(port)
    }

    /// Makes the kernel follow the wish as far as it does. True: what is said of Ports has changed.
    pub fn settle(&mut self, kernel: &mut Kernel) -> bool {
        self.due = false;
        let failed = self.follow(kernel).unwrap_or_else(|error| {
            self.seen = None;
            let told = told(&error);
            self.wish.iter().map(|route| (*route, told.clone())).collect()
        });
        let troubles = self.troubles_of(&failed);
        let changed = troubles != self.troubles;
        if changed {
            for (name, trouble) in &troubles {
                tracing::warn!(object = %format_args!("Port/{name}"), "{}; it is tried again", trouble.message);
            }
        }
        self.troubles = troubles;
        changed
    }

    /// What went wrong, for who counts.
    pub fn errors(&self) -> impl Iterator<Item = StepError> + '_ {
        self.troubles.values().cloned().map(StepError::Refused)
    }

    /// Whether something is to be tried again.
    pub fn is_behind(&self) -> bool {
        !self.troubles.is_empty() || !self.is_clean()
    }

    /// The routes that the kernel refused, and why.
    fn follow(&mut self, kernel: &mut Kernel) -> Result<BTreeMap<PortRoute, String>, StepError> {
        let marks = kernel.marks.clone();
        let session = kernel.kept(&Place::Own).ok_or(StepError::NoGround)?;
        let seen = match &mut self.seen {
            Some(seen) => seen,
            none => none.insert(look(&marks, &mut session.netlink)?),
        };
        let mut failed = BTreeMap::new();
        for step in plan(seen, &self.wish) {
            let (old, new) = step.routes();
            if let Err(error) = carry_out(&mut session.netlink, &step) {
                let route = new.or(old);
                failed.extend(route.map(|route| (route, refused(&error))));
                continue;
            }
            if let Some(old) = old {
                seen.remove(&old);
            }
            // Its device is told of, and looked up then.
            seen.extend(new.map(|new| (new, 0)));
        }
        Ok(failed)
    }

    fn troubles_of(&self, failed: &BTreeMap<PortRoute, String>) -> BTreeMap<Name, Refusal> {
        let mut troubles = BTreeMap::new();
        if failed.is_empty() {
            return troubles;
        }
        for (name, port) in &self.ports {
            let own: Vec<&str> = port
                .spec
                .node_routes
                .iter()
                .filter_map(|route| failed.get(route))
                .map(String::as_str)
                .collect();
            if !own.is_empty() {
                troubles.insert(name.clone(), refusal(&own));
            }
        }
        troubles
    }
}

/// The routes that are Weft's and lead by devices of others.
fn look(marks: &Marks, netlink: &mut Netlink) -> Result<BTreeMap<PortRoute, u32>, Error> {
    let is_wefts = |alias: &Option<String>| alias.as_deref().is_some_and(|alias| marks.is_wefts(alias));
    let own: HashSet<u32> =
        netlink.links()?.into_iter().filter(|link| is_wefts(&link.alias)).map(|link| link.index).collect();
    let read = |found: Route| {
        let (index, via) = (found.index?, found.via?);
        let prefix = Prefix::containing(found.prefix.0, found.prefix.1).ok()?;
        let counts = found.protocol == ROUTE_PROTOCOL_WEFT && !own.contains(&index);
        counts.then_some((PortRoute { prefix, via }, index))
    };
    Ok(netlink.routes()?.into_iter().filter_map(read).collect())
}

fn carry_out(netlink: &mut Netlink, step: &Step) -> Result<(), Error> {
    match step {
        Step::Add(new) => netlink.add_route(&as_route(new)),
        Step::Replace(_, new) => netlink.replace_route(&as_route(new)),
        Step::Remove(old) => match netlink.remove_route(&as_route(old)) {
            Err(error) if error.is_gone() => Ok(()),
            answer => answer,
        },
    }
}

fn as_route(route: &PortRoute) -> Route {
    Route {
        prefix: (route.prefix.address(), route.prefix.length()),
        via: Some(route.via),
        index: None,
        protocol: ROUTE_PROTOCOL_WEFT,
        metric: None,
        onlink: false,
    }
}

fn refused(error: &Error) -> String {
    let by_others = if error.is_exists() { ", another program has a route there" } else { "" };
    format!("{}{by_others}", told(error))
}

fn refusal(failed: &[&str]) -> Refusal {
    let named = failed[..failed.len().min(NAMED)].join("; ");
    let more = match failed.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    let message = format!("routes of the node are missing, its kernel refuses them: {named}{more}");
    Refusal { reason: "NodeRouteRefused", message }
}

#[cfg(test)]
mod tests;
