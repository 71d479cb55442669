//! Numbers for what routes lead to, which stay the same from picture to picture.
//!
//! A forwarding table holds such numbers. So it is shared with the next picture although interfaces
//! change their positions there: only what the numbers stand for is worked out anew.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::config::RouteAction;
use crate::table::fib::TargetId;

/// What a route leads to, in words that do not depend on the picture.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Destination {
    /// The router itself.
    Own,
    /// The link of the interface with this id.
    Link(u32),
    /// What the user said.
    Given(RouteAction),
}

/// The numbers. Routes that lead to the same share one.
#[derive(Debug, Clone, Default)]
pub(super) struct TargetIds {
    /// By number: what it stands for and how many routes use it; `None`: it is free.
    used: Vec<Option<(Arc<Destination>, usize)>>,
    ids: HashMap<Arc<Destination>, TargetId, RandomState>,
    free: Vec<TargetId>,
}

impl TargetIds {
    /// The number of a destination, for one route more. `None`: there are no more numbers.
    pub fn claim(&mut self, destination: Destination) -> Option<TargetId> {
        if let Some(id) = self.ids.get(&destination) {
            if let Some((_, uses)) = &mut self.used[id.index()] {
                *uses += 1;
            }
            return Some(*id);
        }
        let id = match self.free.pop() {
            Some(id) => id,
            None => {
                let id = TargetId::new(self.used.len())?;
                self.used.push(None);
                id
            }
        };
        let destination = Arc::new(destination);
        self.used[id.index()] = Some((destination.clone(), 1));
        self.ids.insert(destination, id);
        Some(id)
    }

    /// One route less uses the number.
    pub fn release(&mut self, id: TargetId) {
        let Some((destination, uses)) = &mut self.used[id.index()] else { return };
        *uses -= 1;
        if *uses == 0 {
            self.ids.remove(destination);
            self.used[id.index()] = None;
            self.free.push(id);
        }
    }

    /// Whether the number stands for what the user said.
    pub fn stands_for(&self, id: TargetId, action: &RouteAction) -> bool {
        matches!(self.get(id.index()), Some(Destination::Given(given)) if given == action)
    }

    /// What a number stands for.
    pub fn get(&self, index: usize) -> Option<&Destination> {
        self.used.get(index)?.as_ref().map(|(destination, _)| &**destination)
    }

    /// What each number stands for, by number.
    pub fn iter(&self) -> impl Iterator<Item = Option<&Destination>> {
        (0..self.used.len()).map(|index| self.get(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_kept_while_a_route_uses_it_and_then_used_again() {
        let mut ids = TargetIds::default();
        let first = ids.claim(Destination::Given(RouteAction::Blackhole)).unwrap();
        assert_eq!(ids.claim(Destination::Given(RouteAction::Blackhole)), Some(first));
        ids.release(first);
        assert!(ids.stands_for(first, &RouteAction::Blackhole));
        let second = ids.claim(Destination::Link(1)).unwrap();
        assert_ne!(second, first);
        ids.release(first);
        assert_eq!(ids.get(first.index()), None);
        assert_eq!(ids.claim(Destination::Link(2)), Some(first));
        assert_eq!(ids.iter().count(), 2);
    }
}
