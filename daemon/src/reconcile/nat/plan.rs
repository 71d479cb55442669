//! The difference between the table that there is and the one that is wished for. A pure function.

use std::collections::{BTreeMap, BTreeSet};

use weft_host::nft::{Batch, Element, Table};

use super::rules::{BOUND, MAPPINGS, chains, sets};
use super::wish::{Lead, Wish};

/// What has to be done with the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It is as wished.
    Nothing,
    /// It is not there, or its chains, rules or sets are not what they should be: all of it is made anew at once.
    Build,
    /// Only elements differ: by set, those that go and those that come.
    Elements(BTreeMap<&'static str, (Vec<Element>, Vec<Element>)>),
    /// Nobody needs it.
    Remove,
}

/// What makes `seen` as `wish` says.
pub fn plan(seen: Option<&Table>, wish: &Wish) -> Change {
    match (seen, wish.is_empty()) {
        (None, true) => Change::Nothing,
        (Some(_), true) => Change::Remove,
        (None, false) => Change::Build,
        (Some(table), false) if !is_framed(table) => Change::Build,
        (Some(table), false) => elements(table, wish),
    }
}

/// The table as it is once `wish` is carried out.
pub fn wished(wish: &Wish) -> Option<Table> {
    if wish.is_empty() {
        return None;
    }
    let chains = chains().into_iter().map(|chain| {
        let rules = chain.rules.into_iter().map(|rule| rule.comment).collect();
        (chain.name.to_owned(), rules)
    });
    let sets = wish.sets.iter().map(|(name, elements)| ((*name).to_owned(), elements.clone()));
    Some(Table { awake: true, chains: chains.collect(), sets: sets.collect() })
}

/// The change as one transaction.
pub fn batch(table: &str, change: &Change, wish: &Wish) -> Batch {
    let mut batch = Batch::new(table);
    match change {
        Change::Nothing => {}
        Change::Remove => batch.delete_table(),
        Change::Elements(sets) => {
            for (set, (gone, _)) in sets {
                batch.delete_elements(set, gone);
            }
            for (set, (_, new)) in sets {
                batch.add_elements(set, new);
            }
        }
        Change::Build => {
            // Making it first lets the removal find it, whether there was one or not.
            batch.add_table();
            batch.delete_table();
            batch.add_table();
            sets().iter().for_each(|set| batch.add_set(set));
            chains().iter().for_each(|chain| batch.add_chain(chain));
            for (set, elements) in &wish.sets {
                batch.add_elements(set, elements);
            }
        }
    }
    batch
}

/// Whether the table has all chains with their rules and all sets, and no others.
fn is_framed(table: &Table) -> bool {
    let chains = chains();
    let same_rules = |chain: &weft_host::nft::Chain| {
        let seen = table.chains.get(chain.name).into_iter().flatten();
        table.chains.contains_key(chain.name) && seen.eq(chain.rules.iter().map(|rule| &rule.comment))
    };
    let names: BTreeSet<&str> = sets().iter().map(|set| set.name).collect();
    table.awake
        && table.chains.len() == chains.len()
        && chains.iter().all(same_rules)
        && names.iter().copied().eq(table.sets.keys().map(String::as_str))
}

fn elements(table: &Table, wish: &Wish) -> Change {
    let mut sets = BTreeMap::new();
    for (name, wanted) in &wish.sets {
        let Some(seen) = table.sets.get(*name).filter(|seen| *seen != wanted) else { continue };
        let gone = seen.difference(wanted).cloned().collect();
        let new = wanted.difference(seen).cloned().collect();
        sets.insert(*name, (gone, new));
    }
    if sets.is_empty() { Change::Nothing } else { Change::Elements(sets) }
}

/// Ports of the node that do not lead where they did, and such that lead somewhere now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Moved {
    /// Where connections went.
    pub from: BTreeSet<Lead>,
    /// Where they go.
    pub to: BTreeSet<Lead>,
}

/// What `change` does to the node's ports, of which `seen` says where they lead.
pub fn moved(seen: Option<&Table>, change: &Change, wish: &Wish) -> Moved {
    let mut moved = Moved::default();
    let none = BTreeSet::new();
    for map in MAPPINGS.into_iter().chain(BOUND) {
        match change {
            Change::Nothing => {}
            Change::Elements(sets) => {
                let Some((gone, new)) = sets.get(map) else { continue };
                moved.from.extend(gone.iter().filter_map(Lead::read));
                moved.to.extend(new.iter().filter_map(Lead::read));
            }
            Change::Build | Change::Remove => {
                let old = seen.and_then(|table| table.sets.get(map)).unwrap_or(&none);
                let new = wish.sets.get(map).unwrap_or(&none);
                moved.from.extend(old.difference(new).filter_map(Lead::read));
                moved.to.extend(new.difference(old).filter_map(Lead::read));
            }
        }
    }
    moved
}

/// What there is when `change` was carried out.
pub fn changed(seen: Option<Table>, change: &Change, wish: &Wish) -> Option<Table> {
    match (change, seen) {
        (Change::Elements(sets), Some(mut table)) => {
            for (set, (gone, new)) in sets {
                let elements = table.sets.entry((*set).to_owned()).or_default();
                for element in gone {
                    elements.remove(element);
                }
                elements.extend(new.iter().cloned());
            }
            Some(table)
        }
        (Change::Nothing, seen) => seen,
        _ => wished(wish),
    }
}

#[cfg(test)]
mod tests;
