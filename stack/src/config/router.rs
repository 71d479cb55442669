//! A router in the picture: its forwarding tables, who looks into which of them, and what their routes
//! lead to.
//!
//! The forwarding tables hold numbers ([`TargetId`]) that outlive the
//! picture; [`Router::targets`] says what they stand for in it. So a picture shares its tables with the
//! one before, and pays for routes that changed and once for each distinct destination of routes.

mod table;
mod target_ids;

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::fast::{FixedState, RandomState};

use self::table::{Draft, Table};
use self::target_ids::{Destination, TargetIds};
use super::{Hop, Interface, PolicyRule, PortId, RouteAction, RouterSpec};
use crate::Prefix;
use crate::table::fib::{Fib, TargetId};
use crate::table::next_hops::{NextHop, NextHops};

/// What a route leads to.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// The router itself: the destination is one of its addresses.
    Local,
    /// The destination is on the link of this interface (its position in the snapshot).
    Connected(usize),
    /// By one of these.
    Via(NextHops),
    /// Dropped in silence.
    Blackhole,
    /// Dropped, and the sender is told that it cannot be reached.
    Unreachable,
    /// Dropped, and the sender is told that it may not be reached.
    Prohibited,
    /// None of its next hops is on a link of the router: no forwarding table has it.
    Nowhere,
}

/// A router in the picture.
#[derive(Debug)]
pub(crate) struct Router {
    name: Arc<str>,
    main: Table,
    /// The further tables, in the order of the description.
    tables: Vec<(Arc<str>, Table)>,
    /// Who looks into a further table first, in the order in which they are asked.
    rules: Box<[Rule]>,
    /// By number.
    targets: Vec<Target>,
    ids: Arc<TargetIds>,
    /// The router's own addresses on all its networks, without those that it shares with other routers.
    pub addresses: HashSet<IpAddr, RandomState>,
    /// Those that it shares.
    anycast: HashSet<IpAddr, RandomState>,
    /// Goes into the hash of flows, so that routers behind each other do not all decide the same.
    pub seed: u64,
}

/// A policy rule.
#[derive(Debug)]
struct Rule {
    source: Option<Prefix>,
    port: Option<PortId>,
    /// Position in [`Router::tables`].
    table: usize,
}

impl Rule {
    fn matches(&self, source: IpAddr, from: Option<PortId>) -> bool {
        self.port.is_none_or(|port| Some(port) == from)
            && self.source.is_none_or(|prefix| prefix.contains(source))
    }
}

/// The links of a router: what its interfaces reach without a next hop.
pub(super) struct Links<'a> {
    interfaces: &'a [Interface],
    /// Prefix, position of the interface.
    connected: Vec<(Prefix, usize)>,
    /// The same, to look up in.
    positions: Fib,
    addresses: HashSet<IpAddr, RandomState>,
    anycast: HashSet<IpAddr, RandomState>,
}

impl<'a> Links<'a> {
    /// The links of the router at `position`.
    pub fn of(position: usize, interfaces: &'a [Interface]) -> Links<'a> {
        let mut connected = Vec::new();
        let mut addresses = HashSet::default();
        let mut anycast = HashSet::default();
        for (at, interface) in interfaces.iter().enumerate().filter(|(_, own)| own.router == position) {
            let v4 = interface.v4.iter().map(|(own, prefix)| (IpAddr::V4(*own), *prefix));
            let v6 = interface.v6.iter().map(|(own, prefix)| (IpAddr::V6(*own), *prefix));
            for (own, prefix) in v4.chain(v6) {
                connected.push((prefix, at));
                addresses.insert(own);
            }
            connected.extend(interface.routes.iter().map(|prefix| (*prefix, at)));
            anycast.extend(interface.anycast().map(IpAddr::V6));
        }
        let positions = connected.iter().filter_map(|(prefix, at)| Some((*prefix, TargetId::new(*at)?)));
        Links { interfaces, positions: Fib::new(positions), connected, addresses, anycast }
    }

    /// The router's own addresses and its links. They are routes too, so that one look-up finds all.
    fn routes(&self) -> impl Iterator<Item = (Prefix, Destination)> {
        let host =
            |address: &IpAddr| Prefix::containing(*address, if address.is_ipv4() { 32 } else { 128 }).ok();
        let own =
            self.addresses.union(&self.anycast).filter_map(host).map(|prefix| (prefix, Destination::Own));
        let link = |(prefix, at): &(Prefix, usize)| (*prefix, Destination::Link(self.interfaces[*at].id));
        own.chain(self.connected.iter().map(link))
    }

    fn next_hop(&self, hop: &Hop) -> Option<(NextHop, u8)> {
        let interface = self.positions.lookup(hop.address)?.index();
        Some((NextHop { address: hop.address, interface }, hop.weight))
    }
}

impl Router {
    /// The router that `spec` describes, taking over from `before` what did not change. `port` finds a port
    /// by its name.
    pub(super) fn build(
        spec: &RouterSpec,
        links: Links,
        port: impl Fn(&str) -> Option<PortId>,
        before: Option<&Router>,
    ) -> Router {
        let seed = FixedState::default().hash_one(&spec.name);
        let mut ids = before.map(|before| (*before.ids).clone()).unwrap_or_default();
        let main = before.map(|before| before.main.clone()).unwrap_or_default();
        let main = Draft::new(main, links.routes(), &spec.routes, &mut ids);
        let tables = draft_tables(spec, before, &mut ids);
        let targets = resolve(&ids, &links, seed, before);
        let anew = before.is_some_and(|before| before.leads_elsewhere(&ids, &targets));
        let leads_somewhere = |id: TargetId| !matches!(targets[id.index()], Target::Nowhere);
        let main = main.finish(anew, leads_somewhere);
        let tables: Vec<_> =
            tables.into_iter().map(|(name, table)| (name, table.finish(anew, leads_somewhere))).collect();
        let rules = rules(&spec.rules, &tables, port);
        let name = spec.name.as_str().into();
        let Links { addresses, anycast, .. } = links;
        Router { name, main, tables, rules, targets, ids: Arc::new(ids), addresses, anycast, seed }
    }

    /// Whether a packet's way depends on its destination alone.
    pub fn has_rules(&self) -> bool {
        !self.rules.is_empty()
    }

    /// The lowest of its addresses of one family: what speaks for it where the link has none.
    pub fn lowest_address(&self, v4: bool) -> Option<IpAddr> {
        self.addresses.iter().copied().filter(|own| own.is_ipv4() == v4).min()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where a packet from `source`, which came in by `from`, goes; none: the router made it itself.
    ///
    /// The tables of the rules that match are asked in the order of the rules, and at last the main table.
    /// The first that has a route for the destination decides, as with Linux: it may be a shorter prefix
    /// than a later table has. The router's own addresses are its own by any rule.
    #[inline]
    pub fn route(&self, source: IpAddr, destination: IpAddr, from: Option<PortId>) -> Option<&Target> {
        let id = self.by_rule(source, destination, from).or_else(|| self.main.fib.lookup(destination))?;
        Some(&self.targets[id.index()])
    }

    fn by_rule(&self, source: IpAddr, destination: IpAddr, from: Option<PortId>) -> Option<TargetId> {
        let own = || self.addresses.contains(&destination) || self.anycast.contains(&destination);
        if self.rules.is_empty() || own() {
            return None;
        }
        let rules = self.rules.iter().filter(|rule| rule.matches(source, from));
        rules.map(|rule| self.tables[rule.table].1.fib.lookup(destination)).find_map(|found| found)
    }

    /// Prefixes in all tables, the router's own addresses included.
    #[cfg(test)]
    pub fn prefix_count(&self) -> usize {
        self.main.fib.len() + self.tables.iter().map(|(_, table)| table.fib.len()).sum::<usize>()
    }

    fn table(&self, name: &str) -> Option<&Table> {
        self.tables.iter().find(|(own, _)| **own == *name).map(|(_, table)| table)
    }

    /// Whether there is a destination that led somewhere and does not with the next picture's links, or
    /// the other way round.
    fn leads_elsewhere(&self, next: &TargetIds, targets: &[Target]) -> bool {
        let known = self.ids.iter().zip(&self.targets).zip(next.iter().zip(targets));
        known
            .filter(|((old, _), (new, _))| old == new)
            .any(|((_, old), (_, new))| matches!(old, Target::Nowhere) != matches!(new, Target::Nowhere))
    }
}

/// The further tables of `spec`. Those of `before` that are gone give their numbers back.
fn draft_tables(spec: &RouterSpec, before: Option<&Router>, ids: &mut TargetIds) -> Vec<(Arc<str>, Draft)> {
    let mut drafts = Vec::new();
    for table in &spec.tables {
        let known = before.and_then(|before| before.table(&table.name)).cloned().unwrap_or_default();
        let draft = Draft::new(known, std::iter::empty(), &table.routes, ids);
        drafts.push((table.name.as_str().into(), draft));
    }
    for (name, table) in before.iter().flat_map(|before| &before.tables) {
        if spec.tables.iter().all(|kept| kept.name != **name) {
            table.dissolve(ids);
        }
    }
    drafts
}

/// What the numbers stand for in the picture that has these links.
fn resolve(ids: &TargetIds, links: &Links, seed: u64, before: Option<&Router>) -> Vec<Target> {
    let at = links.connected.iter().map(|(_, at)| (links.interfaces[*at].id, *at));
    let at: HashMap<u32, usize, RandomState> = at.collect();
    let target = |(index, destination): (usize, Option<&Destination>)| match destination {
        None => Target::Nowhere,
        Some(Destination::Own) => Target::Local,
        Some(Destination::Link(id)) => at.get(id).map_or(Target::Nowhere, |at| Target::Connected(*at)),
        Some(Destination::Given(RouteAction::Via(hops))) => {
            let known = match before.and_then(|before| before.targets.get(index)) {
                Some(Target::Via(hops)) => Some(hops),
                _ => None,
            };
            let hops: Vec<_> = hops.iter().filter_map(|hop| links.next_hop(hop)).collect();
            NextHops::new(&hops, seed, known).map_or(Target::Nowhere, Target::Via)
        }
        Some(Destination::Given(RouteAction::Blackhole)) => Target::Blackhole,
        Some(Destination::Given(RouteAction::Unreachable)) => Target::Unreachable,
        Some(Destination::Given(RouteAction::Prohibit)) => Target::Prohibited,
    };
    ids.iter().enumerate().map(target).collect()
}

/// The rules in the order in which they are asked. One for a port that does not exist matches nothing, and
/// one for a table that does not exist finds nothing: both are left out.
fn rules(
    given: &[PolicyRule],
    tables: &[(Arc<str>, Table)],
    port: impl Fn(&str) -> Option<PortId>,
) -> Box<[Rule]> {
    let mut given: Vec<&PolicyRule> = given.iter().collect();
    // Stable: of two with one priority the one given first.
    given.sort_by_key(|rule| rule.priority);
    let rule = |rule: &PolicyRule| {
        let from = match &rule.port {
            Some(name) => Some(port(name)?),
            None => None,
        };
        let table = tables.iter().position(|(name, _)| **name == *rule.table)?;
        Some(Rule { source: rule.source, port: from, table })
    };
    given.into_iter().filter_map(rule).collect()
}

#[cfg(test)]
mod tests;
