//! The table of receiver indices: what a number that peers write into their messages means to us.
//!
//! Workers look up with every run of messages. The table is in parts, each behind a lock of its own that is taken for
//! writing only when a handshake begins or a session ends.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use foldhash::fast::FixedState;

use super::mac;
use super::peer::Peer;
use super::session::Session;

const PARTS: usize = 64;

/// What an index stands for.
#[derive(Clone)]
pub(super) enum Entry {
    /// A handshake that this peer was asked for.
    Handshake(Arc<Peer>),
    /// A session with this peer.
    Session(Arc<Peer>, Arc<Session>),
}

type Part = RwLock<HashMap<u32, Entry, FixedState>>;

/// Who is meant by which index.
pub(super) struct IndexTable {
    parts: [Part; PARTS],
}

impl IndexTable {
    pub fn new() -> IndexTable {
        IndexTable { parts: std::array::from_fn(|_| Part::default()) }
    }

    fn part(&self, index: u32) -> &Part {
        &self.parts[index as usize % PARTS]
    }

    /// What `index` stands for.
    #[inline]
    pub fn get(&self, index: u32) -> Option<Entry> {
        self.part(index).read().unwrap_or_else(PoisonError::into_inner).get(&index).cloned()
    }

    /// A free index, which nobody can guess, for what `entry` makes of it. `None`: there is no randomness.
    pub fn insert(&self, mut entry: impl FnMut(u32) -> Entry) -> Option<u32> {
        loop {
            let index = u32::from_le_bytes(mac::random()?);
            let mut part = self.part(index).write().unwrap_or_else(PoisonError::into_inner);
            if let std::collections::hash_map::Entry::Vacant(vacant) = part.entry(index) {
                vacant.insert(entry(index));
                return Some(index);
            }
        }
    }

    /// Lets an index that is taken mean something else.
    pub fn replace(&self, index: u32, entry: Entry) {
        self.part(index).write().unwrap_or_else(PoisonError::into_inner).insert(index, entry);
    }

    pub fn remove(&self, index: u32) {
        let entry = self.part(index).write().unwrap_or_else(PoisonError::into_inner).remove(&index);
        // What it held may be the last of its kind: that is let go without the lock.
        drop(entry);
    }

    pub fn clear(&self) {
        for part in &self.parts {
            drop(std::mem::take(&mut *part.write().unwrap_or_else(PoisonError::into_inner)));
        }
    }

    /// How many indices are taken.
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.read().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }
}

impl fmt::Debug for IndexTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} indices", self.len())
    }
}
