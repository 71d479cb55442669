//! One table of a router: its routes as they were given, and the forwarding table made of them.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::target_ids::{Destination, TargetIds};
use crate::Prefix;
use crate::config::StaticRoute;
use crate::table::fib::{Fib, TargetId};

/// A route: a prefix and what it leads to.
type Route = (Prefix, TargetId);

/// Prefixes that changed, and what they lead to now.
type Changes = HashMap<Prefix, Option<TargetId>, RandomState>;

/// A change copies a part of the table: with more changes than a part in so many of the routes, making
/// the table anew is quicker.
const CHANGES: usize = 64;

/// A table.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    pub fib: Fib,
    /// The prefixes of the router's links, which come before all other routes.
    connected: Vec<Route>,
    /// The routes in the order in which they were given, 24 octets each: to see what changed next time.
    given: Arc<[Route]>,
}

/// A table whose routes are known, and whose forwarding table is not made yet.
#[derive(Debug)]
pub(super) struct Draft {
    table: Table,
    /// The prefixes whose routes changed.
    changed: Changes,
}

impl Draft {
    /// The table with these routes, after it was `before`.
    pub fn new(
        before: Table,
        connected: impl Iterator<Item = (Prefix, u32)>,
        routes: &[StaticRoute],
        ids: &mut TargetIds,
    ) -> Draft {
        let mut changed = Changes::default();
        let claim = |(prefix, interface)| Some((prefix, ids.claim(Destination::Link(interface))?));
        let mut connected: Vec<Route> = connected.filter_map(claim).collect();
        // The order in which the links are listed may change; of two for one prefix the first stays.
        connected.sort_by_key(|(prefix, _)| *prefix);
        before.connected.iter().for_each(|(_, id)| ids.release(*id));
        if connected != before.connected {
            changed.extend(connected.iter().chain(&before.connected).map(|(prefix, _)| (*prefix, None)));
        }
        let given = list(&before.given, routes, ids, &mut changed);
        Draft { table: Table { fib: before.fib, connected, given }, changed }
    }

    /// Makes the forwarding table of the routes that `leads_somewhere`; `anew` where that is no longer so
    /// for the same ones as before.
    pub fn finish(self, anew: bool, leads_somewhere: impl Fn(TargetId) -> bool) -> Table {
        let Draft { mut table, mut changed } = self;
        let routes = table.connected.iter().chain(&*table.given).copied();
        let mut routes = routes.filter(|(_, id)| leads_somewhere(*id));
        if anew || changed.len() > table.given.len() / CHANGES {
            table.fib = Fib::new(routes);
        } else if !changed.is_empty() {
            // Of several routes to one prefix the first holds.
            routes.by_ref().for_each(|(prefix, id)| {
                changed.get_mut(&prefix).map(|now| now.get_or_insert(id));
            });
            for (prefix, now) in changed {
                match now {
                    Some(id) => table.fib.insert(prefix, id),
                    None => table.fib.remove(prefix),
                };
            }
        }
        table
    }
}

impl Table {
    /// Gives back the numbers of its routes, since it is gone.
    pub fn dissolve(&self, ids: &mut TargetIds) {
        self.connected.iter().chain(&*self.given).for_each(|(_, id)| ids.release(*id));
    }
}

/// The routes with their numbers. What is the same at the beginning and at the end of the list before is
/// not looked at more closely; what is between goes into `changed`.
fn list(
    before: &Arc<[Route]>,
    routes: &[StaticRoute],
    ids: &mut TargetIds,
    changed: &mut Changes,
) -> Arc<[Route]> {
    let same = |known: &Route, route: &StaticRoute| {
        known.0 == route.prefix && ids.stands_for(known.1, &route.action)
    };
    let head = before.iter().zip(routes).take_while(|(known, route)| same(known, route)).count();
    if head == before.len() && head == routes.len() {
        return before.clone();
    }
    let (old, new) = (&before[head..], &routes[head..]);
    let tail = old.iter().rev().zip(new.iter().rev()).take_while(|(known, route)| same(known, route)).count();
    let (old, new) = (&old[..old.len() - tail], &new[..new.len() - tail]);
    changed.extend(old.iter().map(|(prefix, _)| (*prefix, None)));
    changed.extend(new.iter().map(|route| (route.prefix, None)));
    let claimed: Vec<Route> = new
        .iter()
        .filter_map(|route| Some((route.prefix, ids.claim(Destination::Given(route.action.clone()))?)))
        .collect();
    old.iter().for_each(|(_, id)| ids.release(*id));
    [&before[..head], &claimed, &before[before.len() - tail..]].concat().into()
}
