//! The trie of one address family: branches of 256 ways down to where few prefixes are left, which are
//! a bucket.
//!
//! Parts are shared between clones; a change copies the branches on the way to its prefix where another
//! clone has them too, and makes one bucket anew.

use std::sync::Arc;

use super::branch::{Branch, Part};
use super::bucket::{Bucket, NONE, below};
use super::key::{Bits, Key};

/// A prefix and its value.
pub(super) type Entry<K> = (Bits<K>, u32);

/// The most prefixes of a bucket. More make a change slower, fewer take more memory for branches.
pub(super) const BUCKET: usize = if cfg!(test) { TEST_BUCKET } else { 512 };

/// Small, so that the few prefixes of a test have branches.
const TEST_BUCKET: usize = 6;

#[derive(Debug, Clone)]
pub(super) struct Trie<K> {
    root: Part<K>,
}

impl<K> Default for Trie<K> {
    fn default() -> Self {
        Trie { root: Part::Empty }
    }
}

impl<K: Key> Trie<K> {
    /// The trie of these prefixes. Of two values for one prefix the first stays.
    pub fn new(mut prefixes: Vec<Entry<K>>) -> Trie<K> {
        // Stable, so that the first of equals stays the first.
        prefixes.sort_by_key(|(prefix, _)| *prefix);
        prefixes.dedup_by_key(|(prefix, _)| *prefix);
        Trie { root: Part::new(&prefixes) }
    }

    /// How many prefixes there are.
    pub fn len(&self) -> usize {
        self.root.len()
    }

    /// The value of the longest prefix of `key`.
    #[inline]
    pub fn lookup(&self, key: K) -> Option<u32> {
        let mut best = NONE;
        let mut part = &self.root;
        while let Part::Branch(branch) = part {
            if !branch.is_on_path_of(key) {
                return known(best);
            }
            let slot = branch.slot(key);
            best = if slot.value == NONE { best } else { slot.value };
            part = &slot.part;
        }
        let Part::Bucket(bucket) = part else { return known(best) };
        known(bucket.lookup(key)).or(known(best))
    }

    /// The value of exactly this prefix.
    pub fn get(&self, prefix: Bits<K>) -> Option<u32> {
        let mut part = &self.root;
        while let Part::Branch(branch) = part {
            if !branch.is_on_path_of(prefix.path) || branch.depth() > prefix.home() {
                return None;
            }
            if branch.depth() == prefix.home() {
                return branch.get(prefix);
            }
            part = &branch.slot(prefix.path).part;
        }
        let Part::Bucket(bucket) = part else { return None };
        bucket.get(prefix)
    }

    /// Sets the value of a prefix and says what it was. What is set already copies nothing.
    pub fn insert(&mut self, prefix: Bits<K>, value: u32) -> Option<u32> {
        let before = self.get(prefix);
        if before != Some(value) {
            self.root.change(prefix, Some(value), before.is_some());
        }
        before
    }

    /// Forgets a prefix and says what its value was.
    pub fn remove(&mut self, prefix: Bits<K>) -> Option<u32> {
        let before = self.get(prefix)?;
        self.root.change(prefix, None, true);
        Some(before)
    }

    /// Every part, those above before those below.
    pub fn parts(&self) -> impl Iterator<Item = &Part<K>> {
        let mut waiting = vec![&self.root];
        std::iter::from_fn(move || {
            let part = waiting.pop()?;
            if let Part::Branch(branch) = part {
                waiting.extend(branch.parts());
            }
            Some(part)
        })
    }

    #[cfg(test)]
    pub fn parts_beside(&self, other: &Trie<K>) -> usize {
        let known: std::collections::HashSet<_> = other.parts().map(Part::address).collect();
        self.parts().filter(|part| !known.contains(&part.address())).count()
    }

    /// Every prefix and its value.
    pub fn entries(&self) -> impl Iterator<Item = Entry<K>> {
        self.parts().flat_map(Part::own)
    }
}

fn known(value: u32) -> Option<u32> {
    (value != NONE).then_some(value)
}

impl<K: Key> Part<K> {
    /// The part that holds these prefixes, ordered and distinct.
    fn new(prefixes: &[Entry<K>]) -> Part<K> {
        match prefixes.len() {
            0 => Part::Empty,
            1..=BUCKET => Part::Bucket(Bucket::new(prefixes)),
            len => {
                let depth = parting(prefixes);
                let mut branch = Branch::new(prefixes[0].0.path, depth);
                branch.len = len;
                branch.change_own(|own| {
                    own.extend(prefixes.iter().filter(|(prefix, _)| prefix.home() == depth));
                    own.shrink_to_fit();
                });
                for (_, group) in below(prefixes, depth) {
                    *branch.part_mut(group[0].0.path) = Part::new(group);
                }
                Part::Branch(Arc::new(branch))
            }
        }
    }

    fn len(&self) -> usize {
        match self {
            Part::Empty => 0,
            Part::Bucket(bucket) => bucket.len(),
            Part::Branch(branch) => branch.len,
        }
    }

    /// The prefixes that it holds itself, those of parts of its own left out.
    fn own(&self) -> Vec<Entry<K>> {
        match self {
            Part::Empty => Vec::new(),
            Part::Bucket(bucket) => bucket.prefixes().collect(),
            Part::Branch(branch) => branch.own().to_vec(),
        }
    }

    /// Where it is in memory.
    #[cfg(test)]
    pub fn address(&self) -> usize {
        match self {
            Part::Empty => 0,
            Part::Bucket(bucket) => bucket.address().addr(),
            Part::Branch(branch) => Arc::as_ptr(branch).addr(),
        }
    }

    /// Octets on the heap, without parts of its own.
    pub fn memory(&self) -> usize {
        match self {
            Part::Empty => 0,
            Part::Bucket(bucket) => bucket.memory(),
            Part::Branch(branch) => branch.memory(),
        }
    }

    /// Sets or forgets (`None`) the value of a prefix, which it holds already if `known`.
    fn change(&mut self, prefix: Bits<K>, value: Option<u32>, known: bool) {
        match self {
            Part::Empty => {
                *self = Part::new(&value.map(|value| (prefix, value)).into_iter().collect::<Vec<_>>())
            }
            Part::Bucket(bucket) => {
                let mut prefixes: Vec<_> = bucket.prefixes().collect();
                change(&mut prefixes, prefix, value);
                *self = Part::new(&prefixes);
            }
            Part::Branch(branch) => {
                let parting = parting_of(branch.path(), prefix.path).min(prefix.home());
                if parting < branch.depth() {
                    self.add_above(prefix, value, parting);
                } else {
                    change_below(Arc::make_mut(branch), prefix, value, known);
                    self.make_compact();
                }
            }
        }
    }

    /// Puts a branch at bit `depth`, where the way to `prefix` leaves the way to this part or ends.
    fn add_above(&mut self, prefix: Bits<K>, value: Option<u32>, depth: u8) {
        let Part::Branch(old) = std::mem::replace(self, Part::Empty) else { return };
        let mut above = Branch::new(prefix.path, depth);
        above.len = old.len;
        let path = old.path();
        *above.part_mut(path) = Part::Branch(old);
        change_below(&mut above, prefix, value, false);
        *self = Part::Branch(Arc::new(above));
    }

    /// Puts something smaller in the place of a branch that has no need to be one any more.
    fn make_compact(&mut self) {
        let Part::Branch(branch) = self else { return };
        // Half of what would make a bucket a branch, so that a route that comes and goes costs little.
        if branch.len <= BUCKET / 2 {
            let part = Trie { root: std::mem::replace(self, Part::Empty) };
            let mut prefixes: Vec<_> = part.entries().collect();
            prefixes.sort_unstable();
            *self = Part::new(&prefixes);
        } else if branch.own().is_empty() && branch.parts().count() == 1 {
            let only = branch.parts().next().cloned();
            *self = only.unwrap_or(Part::Empty);
        }
    }
}

fn change_below<K: Key>(branch: &mut Branch<K>, prefix: Bits<K>, value: Option<u32>, known: bool) {
    branch.len = branch.len + usize::from(value.is_some()) - usize::from(known);
    if branch.depth() == prefix.home() {
        branch.change_own(|own| change(own, prefix, value));
    } else {
        branch.part_mut(prefix.path).change(prefix, value, known);
    }
}

fn change<K: Key>(prefixes: &mut Vec<Entry<K>>, prefix: Bits<K>, value: Option<u32>) {
    match (prefixes.binary_search_by_key(&prefix, |(own, _)| *own), value) {
        (Ok(at), Some(value)) => prefixes[at].1 = value,
        (Ok(at), None) => _ = prefixes.remove(at),
        (Err(at), Some(value)) => prefixes.insert(at, (prefix, value)),
        (Err(_), None) => {}
    }
}

/// The bit at which the stride begins in which these prefixes, ordered, part or the first of them ends.
pub(super) fn parting<K: Key>(prefixes: &[Entry<K>]) -> u8 {
    let (Some((first, _)), Some((last, _))) = (prefixes.first(), prefixes.last()) else { return 0 };
    let home = prefixes.iter().map(|(prefix, _)| prefix.home()).min();
    parting_of(first.path, last.path).min(home.unwrap_or(0))
}

/// The bit at which the stride begins in which two ways part.
fn parting_of<K: Key>(a: K, b: K) -> u8 {
    (a.common(b) / 8 * 8).min(K::WIDTH - 8)
}
