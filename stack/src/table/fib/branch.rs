//! A part of the trie that holds many prefixes: 256 ways to smaller parts, by eight bits of the address.

use std::sync::Arc;

use super::bucket::{Bucket, NONE};
use super::key::{Bits, Key, span};
use super::trie::Entry;

/// A part of the trie.
#[derive(Debug, Clone)]
pub(super) enum Part<K> {
    /// No prefix.
    Empty,
    /// Few prefixes.
    Bucket(Bucket<K>),
    /// Many prefixes.
    Branch(Arc<Branch<K>>),
}

/// What a slot leads to.
#[derive(Debug, Clone)]
pub(super) struct Slot<K> {
    /// The value of the longest prefix of the branch itself that covers the slot, or [`NONE`].
    pub value: u32,
    /// Longer prefixes.
    pub part: Part<K>,
}

/// 256 ways.
#[derive(Debug, Clone)]
pub(super) struct Branch<K> {
    /// The bits before the stride; those from `depth` on are zero.
    path: K,
    /// The bits that must be as in `path`: the first `depth`.
    mask: K,
    /// The bit at which the stride begins.
    depth: u8,
    slots: [Slot<K>; 256],
    /// The prefixes that end in the stride, ordered.
    own: Vec<Entry<K>>,
    /// How many prefixes there are, those below included.
    pub len: usize,
}

impl<K: Key> Branch<K> {
    /// The branch at bit `depth` of `path`, without prefixes.
    pub fn new(path: K, depth: u8) -> Branch<K> {
        let mask = K::mask(depth);
        let slots = std::array::from_fn(|_| Slot { value: NONE, part: Part::Empty });
        Branch { path: path & mask, mask, depth, slots, own: Vec::new(), len: 0 }
    }

    pub fn path(&self) -> K {
        self.path
    }

    pub fn depth(&self) -> u8 {
        self.depth
    }

    /// Whether `key` goes through this branch.
    #[inline]
    pub fn is_on_path_of(&self, key: K) -> bool {
        (key ^ self.path) & self.mask == K::mask(0)
    }

    /// The slot of `key`.
    #[inline]
    pub fn slot(&self, key: K) -> &Slot<K> {
        &self.slots[usize::from(key.byte(self.depth))]
    }

    /// The part of the trie that `key` goes on to.
    pub fn part_mut(&mut self, key: K) -> &mut Part<K> {
        &mut self.slots[usize::from(key.byte(self.depth))].part
    }

    /// The prefixes that end in the branch itself, ordered.
    pub fn own(&self) -> &[Entry<K>] {
        &self.own
    }

    /// Its parts that are not empty.
    pub fn parts(&self) -> impl Iterator<Item = &Part<K>> {
        self.slots.iter().map(|slot| &slot.part).filter(|part| !matches!(part, Part::Empty))
    }

    /// Changes the prefixes that end in the branch itself. They must stay ordered.
    pub fn change_own(&mut self, change: impl FnOnce(&mut Vec<Entry<K>>)) {
        change(&mut self.own);
        self.slots.iter_mut().for_each(|slot| slot.value = NONE);
        // A prefix comes after those that contain it, so the longest has the last word.
        for (prefix, value) in &self.own {
            let (first, count) = span(prefix.position());
            self.slots[usize::from(first)..][..count].iter_mut().for_each(|slot| slot.value = *value);
        }
    }

    /// The value of one of its own prefixes.
    pub fn get(&self, prefix: Bits<K>) -> Option<u32> {
        let at = self.own.binary_search_by_key(&prefix, |(own, _)| *own).ok()?;
        Some(self.own[at].1)
    }

    /// Octets on the heap, without the parts.
    pub fn memory(&self) -> usize {
        let own = self.own.capacity() * size_of::<Entry<K>>();
        2 * size_of::<usize>() + size_of_val(self) + own
    }
}
