//! Changes of a table that are carried out together or not at all.

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL};

use super::expression::{DATA_VALUE, LIST_ELEMENT};
use super::{Chain, Datum, Element, Rule, Set, TABLE, kind, request};
use crate::netfilter::{Attributes, Request};

/// So many elements are told in one message: an attribute is shorter than 64 KiB.
const ELEMENTS_EACH: usize = 256;
/// `NFTA_SET_…`.
mod set {
    pub const NAME: u16 = 2;
    pub const FLAGS: u16 = 3;
    pub const KEY_TYPE: u16 = 4;
    pub const KEY_LENGTH: u16 = 5;
    pub const VALUE_TYPE: u16 = 6;
    pub const VALUE_LENGTH: u16 = 7;
    pub const DESCRIPTION: u16 = 9;
    pub const ID: u16 = 10;
    /// `NFTA_SET_DESC_CONCAT` and `NFTA_SET_FIELD_LEN`.
    pub const CONCATENATION: u16 = 2;
    pub const FIELD_LENGTH: u16 = 1;
    /// `NFT_SET_…`.
    pub const INTERVAL: u32 = 4;
    pub const MAP: u32 = 8;
    pub const CONCATENATED: u32 = 0x80;
}
/// nft's types are six bits each in a number for several.
const TYPE_BITS: u32 = 6;

/// Changes of one table.
#[derive(Debug, Clone)]
pub struct Batch {
    table: String,
    requests: Vec<Request>,
    sets: u32,
}

impl Batch {
    /// No changes yet of this table: at most 255 letters, digits, `-`, `_` and `.`, beginning with a letter.
    pub fn new(table: &str) -> Batch {
        Batch { table: table.to_owned(), requests: Vec::new(), sets: 0 }
    }

    /// The table's name.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// Whether there is nothing to change.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    pub(super) fn requests(&self) -> &[Request] {
        &self.requests
    }

    /// Makes the table, unless it is there.
    pub fn add_table(&mut self) {
        self.push(kind::NEW_TABLE, NLM_F_CREATE, |_| {});
    }

    /// Removes the table, with everything in it.
    pub fn delete_table(&mut self) {
        self.push(kind::DELETE_TABLE, 0, |_| {});
    }

    /// Makes a set or map, empty.
    pub fn add_set(&mut self, set: &Set) {
        self.sets += 1;
        let id = self.sets;
        self.push(kind::NEW_SET, NLM_F_CREATE | NLM_F_EXCL, |it| write_set(it, set, id));
    }

    /// Makes a chain with its rules.
    pub fn add_chain(&mut self, chain: &Chain) {
        self.push(kind::NEW_CHAIN, NLM_F_CREATE | NLM_F_EXCL, |it| {
            // NFTA_CHAIN_NAME, _HOOK with NFTA_HOOK_HOOKNUM and _PRIORITY, _POLICY (NF_ACCEPT), _TYPE.
            it.text(3, chain.name);
            it.nested(4, |hook| {
                hook.number(1, chain.hook.number()).number(2, chain.priority.cast_unsigned());
            });
            it.number(5, 1).text(7, chain.kind.name());
        });
        for rule in &chain.rules {
            let append = NLM_F_CREATE | NLM_F_APPEND;
            self.push(kind::NEW_RULE, append, |it| write_rule(it, chain.name, rule));
        }
    }

    /// Adds elements that are not there yet.
    pub fn add_elements<'a>(&mut self, set: &str, elements: impl IntoIterator<Item = &'a Element>) {
        self.elements(kind::NEW_ELEMENTS, NLM_F_CREATE | NLM_F_EXCL, set, elements);
    }

    /// Removes elements that are there.
    pub fn delete_elements<'a>(&mut self, set: &str, elements: impl IntoIterator<Item = &'a Element>) {
        self.elements(kind::DELETE_ELEMENTS, 0, set, elements);
    }

    fn elements<'a>(
        &mut self,
        kind: u8,
        flags: u16,
        set: &str,
        elements: impl IntoIterator<Item = &'a Element>,
    ) {
        let valued = kind == kind::NEW_ELEMENTS;
        let elements: Vec<&Element> = elements.into_iter().collect();
        for part in elements.chunks(ELEMENTS_EACH) {
            self.push(kind, flags, |it| {
                // NFTA_SET_ELEM_LIST_SET, _ELEMENTS.
                it.text(2, set);
                it.nested(3, |list| part.iter().for_each(|element| write_element(list, element, valued)));
            });
        }
    }

    fn push(&mut self, kind: u8, flags: u16, write: impl FnOnce(&mut Attributes)) {
        let mut request = request(kind, flags);
        request.attributes.text(TABLE, &self.table);
        write(&mut request.attributes);
        self.requests.push(request);
    }
}

fn write_set(it: &mut Attributes, set: &Set, id: u32) {
    let concatenated = set.intervals && set.key.len() > 1;
    let flags = [
        (set.intervals, set::INTERVAL),
        (!set.value.is_empty(), set::MAP),
        (concatenated, set::CONCATENATED),
    ];
    let flags = flags.iter().filter(|(has, _)| *has).fold(0, |all, (_, flag)| all | flag);
    it.text(set::NAME, set.name).number(set::FLAGS, flags);
    it.number(set::KEY_TYPE, type_number(&set.key)).number(set::KEY_LENGTH, length(&set.key));
    if !set.value.is_empty() {
        it.number(set::VALUE_TYPE, type_number(&set.value)).number(set::VALUE_LENGTH, length(&set.value));
    }
    if concatenated {
        it.nested(set::DESCRIPTION, |description| {
            description.nested(set::CONCATENATION, |fields| {
                for datum in &set.key {
                    fields.nested(LIST_ELEMENT, |field| {
                        field.number(set::FIELD_LENGTH, datum.length());
                    });
                }
            });
        });
    }
    it.number(set::ID, id);
}

/// The length of one datum, or of several with their padding.
fn length(data: &[Datum]) -> u32 {
    match data {
        [one] => one.length(),
        several => several.iter().map(|datum| datum.length().next_multiple_of(4)).sum(),
    }
}

fn type_number(data: &[Datum]) -> u32 {
    data.iter().fold(0, |all, datum| all << TYPE_BITS | datum.type_number())
}

/// `NFTA_RULE_CHAIN`, `_EXPRESSIONS`, `_USERDATA`. User data is in nft's own form: type 0, length, a comment.
fn write_rule(it: &mut Attributes, chain: &str, rule: &Rule) {
    it.text(2, chain);
    it.nested(4, |list| rule.expressions.iter().for_each(|expression| expression.write(list)));
    // nft takes no longer comment than 128 bytes either.
    let comment = rule.comment.as_bytes().get(..120).unwrap_or(rule.comment.as_bytes());
    let mut userdata = vec![0, comment.len() as u8 + 1];
    userdata.extend(comment);
    userdata.push(0);
    it.put(7, &userdata);
}

/// `NFTA_SET_ELEM_KEY`, `_DATA`, `_FLAGS` (`NFT_SET_ELEM_INTERVAL_END`), `_KEY_END`.
fn write_element(list: &mut Attributes, element: &Element, valued: bool) {
    list.nested(LIST_ELEMENT, |it| {
        if !element.begins {
            it.number(3, 1);
        }
        it.nested(1, |key| {
            key.put(DATA_VALUE, &element.key);
        });
        if let Some(value) = element.value.as_ref().filter(|_| valued) {
            it.nested(2, |data| {
                data.put(DATA_VALUE, value);
            });
        }
        if let Some(last) = &element.last {
            it.nested(10, |key| {
                key.put(DATA_VALUE, last);
            });
        }
    });
}
