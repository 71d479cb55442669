//! Tables of the kernel's packet filter, nf_tables: what is in one, and changing it in one transaction.
//!
//! A table of the family `inet` has chains with rules that do not change, and sets and maps whose elements do. What
//! they say is the caller's matter; only the few expressions are known that it needs. [`Nft`] works in the namespace
//! that the thread was in when it was opened.

use std::collections::{BTreeMap, BTreeSet};

use crate::link::Wish;
use crate::netfilter::{Netfilter, Request, attributes, number};
use crate::{Error, Result};

pub use batch::Batch;
pub use expression::{Base, Expression, Family, Meta, Register, Side};

mod batch;
mod decode;
mod expression;
#[cfg(test)]
mod tests;

/// `NFNL_SUBSYS_NFTABLES`.
pub(crate) const SUBSYSTEM: u8 = 10;
/// `NFPROTO_INET`: rules see IPv4 and IPv6.
const INET: u8 = 1;
/// `NFTA_TABLE_NAME`, and the same number in the messages about chains, rules, sets and elements.
pub(crate) const TABLE: u16 = 1;

/// Kinds of messages (`enum nf_tables_msg_types`).
pub(crate) mod kind {
    pub const NEW_TABLE: u8 = 0;
    pub const GET_TABLE: u8 = 1;
    pub const DELETE_TABLE: u8 = 2;
    pub const NEW_CHAIN: u8 = 3;
    pub const GET_CHAIN: u8 = 4;
    pub const NEW_RULE: u8 = 6;
    pub const GET_RULE: u8 = 7;
    pub const NEW_SET: u8 = 9;
    pub const GET_SET: u8 = 10;
    pub const NEW_ELEMENTS: u8 = 12;
    pub const GET_ELEMENTS: u8 = 13;
    pub const DELETE_ELEMENTS: u8 = 14;
    pub const NEW_GENERATION: u8 = 15;
    pub const GET_GENERATION: u8 = 16;
}

/// Where in the kernel a chain is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// For what has arrived, before its route is known.
    Prerouting,
    /// For what the node itself sends.
    Output,
    /// For what leaves.
    Postrouting,
}

impl Hook {
    /// `NF_INET_…`.
    fn number(self) -> u32 {
        match self {
            Hook::Prerouting => 0,
            Hook::Output => 3,
            Hook::Postrouting => 4,
        }
    }
}

/// What the rules of a chain may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainKind {
    /// Drop packets.
    Filter,
    /// Translate addresses; only the first packet of a connection meets the rules.
    Nat,
}

impl ChainKind {
    fn name(self) -> &'static str {
        match self {
            ChainKind::Filter => "filter",
            ChainKind::Nat => "nat",
        }
    }
}

/// A chain with its rules. What no rule decides about goes on.
#[derive(Debug, Clone)]
pub struct Chain {
    /// Unique in its table; not a word of nft's language.
    pub name: &'static str,
    /// What its rules may do.
    pub kind: ChainKind,
    /// Where it is called.
    pub hook: Hook,
    /// Chains with lower ones are called first.
    pub priority: i32,
    /// In order.
    pub rules: Vec<Rule>,
}

/// A rule.
#[derive(Debug, Clone)]
pub struct Rule {
    /// By which it is known again, and which `nft list` shows; at most 120 bytes.
    pub comment: String,
    /// One after the other, until one does not match.
    pub expressions: Vec<Expression>,
}

/// What a key or a value is made of. Each takes a multiple of four octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Datum {
    /// An IPv4 address.
    Ipv4,
    /// An IPv6 address.
    Ipv6,
    /// A protocol number, in the first octet.
    Protocol,
    /// A port, in the first two octets, in network byte order.
    Port,
    /// A device's name, with zeros behind it.
    Device,
}

impl Datum {
    /// How many octets it takes without padding.
    fn length(self) -> u32 {
        match self {
            Datum::Protocol => 1,
            Datum::Port => 2,
            Datum::Ipv4 => 4,
            Datum::Ipv6 | Datum::Device => 16,
        }
    }

    /// The number of its type in nft's own table of types (`enum datatypes` of its datatype.h): nothing but nft
    /// reads it, to show elements as people write them.
    fn type_number(self) -> u32 {
        match self {
            Datum::Ipv4 => 7,
            Datum::Ipv6 => 8,
            Datum::Protocol => 12,
            Datum::Port => 13,
            Datum::Device => 41,
        }
    }
}

/// A set, or a map when it has values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// Unique in its table; not a word of nft's language.
    pub name: &'static str,
    /// What a key is made of.
    pub key: Vec<Datum>,
    /// What a value is made of; nothing: it is a set.
    pub value: Vec<Datum>,
    /// Elements are intervals of keys.
    pub intervals: bool,
}

/// An element of a set or map.
///
/// An interval of keys with one datum is two elements: its first key, and the key behind its last one, which does not
/// begin one (nothing when there is no key behind it). An interval of keys with several is one element, with `last`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Element {
    /// The key.
    pub key: Vec<u8>,
    /// False: an interval ended before this key. In order such an element comes before one that begins here.
    pub begins: bool,
    /// Where the interval ends, included.
    pub last: Option<Vec<u8>>,
    /// The value.
    pub value: Option<Vec<u8>>,
}

impl Element {
    /// A single key of a set.
    pub fn of(key: Vec<u8>) -> Element {
        Element { key, begins: true, last: None, value: None }
    }
}

/// What there is in a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    /// It is in use; a table can be put to sleep.
    pub awake: bool,
    /// The comments of the rules of each chain, in order; a rule without one has an empty text.
    pub chains: BTreeMap<String, Vec<String>>,
    /// The elements of each set and map.
    pub sets: BTreeMap<String, BTreeSet<Element>>,
}

/// The way to nf_tables.
#[derive(Debug)]
pub struct Nft {
    netfilter: Netfilter,
}

impl Nft {
    /// Opens the way in the namespace of the calling thread.
    ///
    /// # Errors
    /// Where the kernel has no netfilter.
    pub fn open() -> Result<Nft> {
        Ok(Nft { netfilter: Netfilter::open()? })
    }

    /// A number that grows by one with each transaction of anybody, in all tables of this namespace.
    pub fn generation(&mut self) -> Result<u32> {
        let wish = Wish { operation: "find the generation of", object: "nf_tables" };
        let mut generation = None;
        self.netfilter
            .ask(&request(kind::GET_GENERATION, 0), |body| {
                generation = generation.or(generation_of(body));
                Ok(())
            })
            .map_err(|failure| wish.failed(failure))?;
        generation.ok_or_else(|| malformed(wish, "it has no number"))
    }

    /// Carries out all of `batch`, or nothing of it.
    pub fn commit(&mut self, batch: &Batch) -> Result<()> {
        let wish = Wish { operation: "change the nf_tables table", object: batch.table() };
        self.netfilter.commit(SUBSYSTEM, batch.requests()).map_err(|failure| wish.failed(failure))
    }

    /// What is in a table; `None` when there is none of this name.
    pub fn table(&mut self, name: &str) -> Result<Option<Table>> {
        let wish = Wish { operation: "read the nf_tables table", object: name };
        match self.read(name).map_err(|failure| wish.failed(failure)) {
            Err(error) if error.is_gone() => Ok(None),
            other => other.map(Some),
        }
    }

    fn read(&mut self, name: &str) -> std::result::Result<Table, crate::link::Failure> {
        let mut table = Table::default();
        let mut get = request(kind::GET_TABLE, 0);
        get.attributes.text(TABLE, name);
        self.netfilter.ask(&get, |body| {
            table.awake = decode::is_awake(body);
            Ok(())
        })?;
        let chains = self.netfilter.dump(&request(kind::GET_CHAIN, 0), |body| decode::chain(body, name))?;
        table.chains = chains.into_iter().map(|chain| (chain, Vec::new())).collect();
        let mut get = request(kind::GET_RULE, 0);
        get.attributes.text(TABLE, name);
        for (chain, comment) in self.netfilter.dump(&get, |body| decode::rule(body, name))? {
            table.chains.entry(chain).or_default().push(comment);
        }
        let mut get = request(kind::GET_SET, 0);
        get.attributes.text(TABLE, name);
        for set in self.netfilter.dump(&get, |body| decode::set(body, name))? {
            let mut get = request(kind::GET_ELEMENTS, 0);
            get.attributes.text(TABLE, name).text(decode::SET, &set);
            let parts = self.netfilter.dump(&get, |body| Some(decode::elements(body)))?;
            table.sets.insert(set, parts.into_iter().flatten().collect());
        }
        Ok(table)
    }
}

/// A message about the family `inet`, without attributes.
fn request(kind: u8, flags: u16) -> Request {
    let kind = u16::from_be_bytes([SUBSYSTEM, kind]);
    Request { kind, family: INET, flags, attributes: Default::default() }
}

/// The generation that a message tells (`NFTA_GEN_ID`).
pub(crate) fn generation_of(body: &[u8]) -> Option<u32> {
    attributes(body).find(|(kind, _)| *kind == 1).and_then(|(_, value)| number(value))
}

fn malformed(wish: Wish<'_>, reason: &str) -> Error {
    Error::Malformed { operation: wish.operation, object: wish.object.to_owned(), reason: reason.to_owned() }
}
