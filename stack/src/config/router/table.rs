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
    /// The router's own addresses and links, which come before all other routes.
    connected: Vec<Route>,
    /// The routes in the order in which they were given, 24 octets each: to see what changed next time.
    given: Arc<Vec<Route>>,
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
        connected: impl Iterator<Item = (Prefix, Destination)>,
        routes: &[StaticRoute],
        ids: &mut TargetIds,
    ) -> Draft {
        let mut changed = Changes::default();
        let claim = |(prefix, destination)| Some((prefix, ids.claim(destination)?));
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
        let routes = table.connected.iter().chain(&**table.given).copied();
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
        self.connected.iter().chain(&**self.given).for_each(|(_, id)| ids.release(*id));
    }
}

/// How far a difference between two lists may reach for what is behind it to be found again.
const DIFFERENCE: usize = 16;

/// The routes with their numbers, those that `before` has not or no more in `changed`. Lists that differ in
/// few places are walked through side by side, without a look-up for each route.
fn list(
    before: &Arc<Vec<Route>>,
    routes: &[StaticRoute],
    ids: &mut TargetIds,
    changed: &mut Changes,
) -> Arc<Vec<Route>> {
    let (mut old, mut new) = (&before[..], routes);
    let mut list = Vec::new();
    let mut gone = Vec::new();
    loop {
        let same = old.iter().zip(new).take_while(|(old, new)| is_same(ids, old, new)).count();
        if same == before.len() && same == routes.len() {
            return before.clone();
        }
        list.reserve_exact(new.len());
        list.extend_from_slice(&old[..same]);
        (old, new) = (&old[same..], &new[same..]);
        if old.is_empty() && new.is_empty() {
            break;
        }
        let (less, more) = difference(ids, old, new);
        gone.extend_from_slice(&old[..less]);
        changed.extend(new[..more].iter().map(|route| (route.prefix, None)));
        list.extend(
            new[..more].iter().filter_map(|route| {
                Some((route.prefix, ids.claim(Destination::Given(route.action.clone()))?))
            }),
        );
        (old, new) = (&old[less..], &new[more..]);
    }
    changed.extend(gone.iter().map(|(prefix, _)| (*prefix, None)));
    // Last, so that a destination that other routes lead to now keeps its number.
    gone.iter().for_each(|(_, id)| ids.release(*id));
    list.shrink_to_fit();
    Arc::new(list)
}

fn is_same(ids: &TargetIds, old: &Route, new: &StaticRoute) -> bool {
    old.0 == new.prefix && ids.stands_for(old.1, &new.action)
}

/// How many routes of each list to pass over to where they are the same again.
fn difference(ids: &TargetIds, old: &[Route], new: &[StaticRoute]) -> (usize, usize) {
    let meet = |(less, more): &(usize, usize)| match (old.get(*less), new.get(*more)) {
        (Some(old), Some(new)) => is_same(ids, old, new),
        _ => (*less, *more) == (old.len(), new.len()),
    };
    let near = (1..=DIFFERENCE).flat_map(|n| [(n, 0), (0, n), (n, n)]).find(meet);
    near.unwrap_or_else(|| {
        let ends = old.iter().rev().zip(new.iter().rev());
        let tail = ends.take_while(|(old, new)| is_same(ids, old, new)).count();
        (old.len() - tail, new.len() - tail)
    })
}
