//! A part of the trie that holds few prefixes, as one block of memory.
//!
//! Most of a lookup's time goes into waiting for memory, so the block is small and what a lookup needs
//! stands together. It is a multibit trie with strides of eight bits. Strides in which nothing happens
//! are left out; neighbouring slots of a stride that lead to the same are one *run*; a bit map says where
//! runs begin, and the rank of a slot in it is its run. The values of shorter prefixes are copied down, so
//! the last stride on the way knows the answer.
//!
//! A block is never changed. Behind the strides stands the record that they are made from, the prefixes;
//! a change makes another block, which cannot forget a prefix that another one covered.
//!
//! The words of a block:
//! ```text
//! 0         where the record begins
//! ...       strides; the outermost comes first
//! record    for each prefix: the path (1 or 4 words), the length, the value
//! ```
//! and of a stride:
//! ```text
//! -2-n      the value to fall back on          } where the bits before the stride
//! -1-n      the bit at which it begins         } are to be compared, which is so
//! -n..-1    the path to it (n = 1 or 4 words)  } for the outermost
//! 0..2      for each word of the map, how many runs begin before it (an octet each)
//! 2..10     the map: a bit for each slot, set where a run begins
//! 10..      for each run its value, or where the stride below begins
//! ```

use std::marker::PhantomData;
use std::sync::Arc;

use super::key::{Bits, Key, span};
use super::trie::{Entry, parting};

/// No value. Values and places in a block are below it.
pub(super) const NONE: u32 = (1 << 30) - 1;
/// The entry of a run is the place of the stride below.
const BELOW: u32 = 1 << 31;
/// The bits before the stride below are to be compared. Where they are not, it takes the next eight bits.
const COMPARE: u32 = 1 << 30;

const RANKS: usize = 0;
const MAP: usize = 2;
const RUNS: usize = 10;

/// The block.
#[derive(Debug, Clone)]
pub(super) struct Bucket<K> {
    words: Arc<[u32]>,
    family: PhantomData<K>,
}

impl<K: Key> Bucket<K> {
    /// The block of these prefixes: at least one, ordered, distinct.
    pub fn new(prefixes: &[Entry<K>]) -> Bucket<K> {
        let mut words = vec![0];
        emit(&mut words, prefixes, NONE, None);
        words[0] = words.len() as u32;
        for (prefix, value) in prefixes {
            words.extend_from_slice(prefix.path.to_words().as_ref());
            words.extend([u32::from(prefix.length), *value]);
        }
        Bucket { words: words.into(), family: PhantomData }
    }

    /// The value of the longest prefix of `key`, or [`NONE`].
    #[inline]
    pub fn lookup(&self, key: K) -> u32 {
        let words = &*self.words;
        let mut entry = BELOW | COMPARE | (1 + preface::<K>() as u32);
        let mut depth = 0;
        while entry & BELOW != 0 {
            let (before, stride) = words.split_at((entry & NONE) as usize);
            if entry & COMPARE == 0 {
                depth += 8;
            } else {
                let preface = &before[before.len() - preface::<K>()..];
                depth = preface[1] as u8;
                if (key ^ K::from_words(&preface[2..])) & K::mask(depth) != K::mask(0) {
                    return preface[0];
                }
            }
            entry = stride[RUNS + run_of(stride, key.byte(depth))];
        }
        entry
    }

    /// The prefixes, ordered.
    pub fn prefixes(&self) -> impl Iterator<Item = Entry<K>> {
        let path = preface::<K>() - 2;
        self.words[self.words[0] as usize..].chunks_exact(path + 2).map(move |record| {
            let prefix = Bits { path: K::from_words(record), length: record[path] as u8 };
            (prefix, record[path + 1])
        })
    }

    /// How many prefixes there are.
    pub fn len(&self) -> usize {
        (self.words.len() - self.words[0] as usize) / preface::<K>()
    }

    /// The value of exactly this prefix.
    pub fn get(&self, prefix: Bits<K>) -> Option<u32> {
        self.prefixes().find(|(own, _)| *own == prefix).map(|(_, value)| value)
    }

    /// Octets on the heap.
    pub fn memory(&self) -> usize {
        2 * size_of::<usize>() + size_of_val(&*self.words)
    }

    /// Whether it is the same block in memory.
    #[cfg(test)]
    pub fn address(&self) -> *const u32 {
        self.words.as_ptr()
    }
}

/// How many words stand before a stride whose path is to be compared; a prefix in the record has as many.
const fn preface<K: Key>() -> usize {
    2 + K::WIDTH as usize / 32
}

#[inline]
fn run_of(stride: &[u32], slot: u8) -> usize {
    let (word, bit) = (usize::from(slot / 32), slot % 32);
    let ranks = u64::from(stride[RANKS]) | u64::from(stride[RANKS + 1]) << 32;
    let begun = (stride[MAP + word] << (31 - bit)).count_ones();
    // Slot 0 begins a run, so at least one has begun.
    (ranks >> (8 * word)) as u8 as usize + begun as usize - 1
}

/// Writes the stride that all of `prefixes` go through, and those below it. `inherited` is the value
/// that holds where they have none; `expected` is the depth that needs no comparing. Returns the entry
/// that leads to it.
fn emit<K: Key>(words: &mut Vec<u32>, prefixes: &[Entry<K>], inherited: u32, expected: Option<u8>) -> u32 {
    let depth = parting(prefixes);
    let compare = expected != Some(depth);
    if compare {
        let path = prefixes.first().map_or(K::mask(0), |(prefix, _)| prefix.path & K::mask(depth));
        words.extend([inherited, u32::from(depth)]);
        words.extend_from_slice(path.to_words().as_ref());
    }
    let at = words.len();
    words.resize(at + RUNS, 0);
    let mut values = [inherited; 256];
    // A prefix comes after those that contain it, so the longest has the last word.
    for (prefix, value) in prefixes.iter().filter(|(prefix, _)| prefix.home() == depth) {
        let (first, count) = span(prefix.position());
        values[usize::from(first)..][..count].fill(*value);
    }
    let groups: Vec<_> = below(prefixes, depth).collect();
    let runs = emit_runs(words, at, &values, groups.iter().map(|(slot, _)| *slot));
    for ((slot, group), run) in groups.into_iter().zip(runs) {
        words[run] = emit(words, group, values[usize::from(slot)], Some(depth + 8));
    }
    at as u32 | BELOW | if compare { COMPARE } else { 0 }
}

/// Writes the map and the entries of a stride. Returns where the entries of `ways` are, the slots (in
/// order) that lead to a stride below: they are left open.
fn emit_runs(
    words: &mut Vec<u32>,
    at: usize,
    values: &[u32; 256],
    ways: impl Iterator<Item = u8>,
) -> Vec<usize> {
    let mut ways = ways.peekable();
    let mut open = Vec::new();
    let mut last = None;
    for (slot, value) in values.iter().enumerate() {
        if slot % 32 == 0 {
            let begun = (words.len() - at - RUNS) as u32;
            words[at + RANKS + slot / 128] |= begun << (slot / 32 % 4 * 8);
        }
        let way = ways.next_if(|way| usize::from(*way) == slot);
        if way.is_some() || last != Some(*value) {
            words[at + MAP + slot / 32] |= 1 << (slot % 32);
            open.extend(way.map(|_| words.len()));
            words.push(*value);
        }
        // The slot behind a way begins a run of its own.
        last = Some(*value).filter(|_| way.is_none());
    }
    open
}

/// The prefixes that end below the stride at `depth`, by slot.
pub(super) fn below<K: Key>(prefixes: &[Entry<K>], depth: u8) -> impl Iterator<Item = (u8, &[Entry<K>])> {
    // The stride's own prefixes of a slot come before all that is below it, so what is below stands together.
    let rest = prefixes.split(move |(prefix, _)| prefix.home() == depth);
    let groups = rest
        .flat_map(move |rest| rest.chunk_by(move |(a, _), (b, _)| a.path.byte(depth) == b.path.byte(depth)));
    groups.map(move |group| (group[0].0.path.byte(depth), group))
}
