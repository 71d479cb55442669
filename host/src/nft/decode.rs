//! What the kernel tells of tables, chains, rules, sets and elements.

use super::{Element, TABLE};
use crate::netfilter::{attributes, number, text};

/// `NFTA_SET_ELEM_LIST_SET`.
pub(super) const SET: u16 = 2;

/// `NFTA_TABLE_FLAGS`, and the flag of a table that sleeps.
const TABLE_FLAGS: u16 = 2;
const DORMANT: u32 = 1;
/// `NFTA_CHAIN_NAME`.
const CHAIN_NAME: u16 = 3;
/// `NFTA_RULE_CHAIN` and `NFTA_RULE_USERDATA`.
const RULE_CHAIN: u16 = 2;
const RULE_USERDATA: u16 = 7;
/// `NFTA_SET_NAME`.
const SET_NAME: u16 = 2;
/// `NFTA_SET_ELEM_LIST_ELEMENTS`.
const ELEMENTS: u16 = 3;
/// `NFTA_SET_ELEM_…`.
const KEY: u16 = 1;
const VALUE: u16 = 2;
const FLAGS: u16 = 3;
const KEY_END: u16 = 10;
/// `NFT_SET_ELEM_INTERVAL_END`.
const INTERVAL_END: u32 = 1;

pub(super) fn is_awake(body: &[u8]) -> bool {
    let flags = value(body, TABLE_FLAGS).and_then(number);
    flags.is_none_or(|flags| flags & DORMANT == 0)
}

/// The name of a chain of this table.
pub(super) fn chain(body: &[u8], table: &str) -> Option<String> {
    is_of(body, table).then(|| value(body, CHAIN_NAME).map(text))?
}

/// The chain and the comment of a rule of this table.
pub(super) fn rule(body: &[u8], table: &str) -> Option<(String, String)> {
    let chain = is_of(body, table).then(|| value(body, RULE_CHAIN).map(text))??;
    Some((chain, value(body, RULE_USERDATA).and_then(comment).unwrap_or_default()))
}

/// The name of a set of this table.
pub(super) fn set(body: &[u8], table: &str) -> Option<String> {
    is_of(body, table).then(|| value(body, SET_NAME).map(text))?
}

/// The elements that a message lists.
pub(super) fn elements(body: &[u8]) -> Vec<Element> {
    let list = value(body, ELEMENTS).unwrap_or_default();
    attributes(list).filter_map(|(_, octets)| element(octets)).collect()
}

fn element(octets: &[u8]) -> Option<Element> {
    let data = |kind| value(octets, kind).and_then(|data| value(data, 1)).map(<[u8]>::to_vec);
    let flags = value(octets, FLAGS).and_then(number).unwrap_or(0);
    Some(Element {
        key: data(KEY)?,
        begins: flags & INTERVAL_END == 0,
        last: data(KEY_END),
        value: data(VALUE),
    })
}

fn is_of(body: &[u8], table: &str) -> bool {
    value(body, TABLE).is_some_and(|name| text(name) == table)
}

fn value(octets: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(octets).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

/// The comment in nft's own form of user data: type, length, value; a comment is type 0, and ends with zero.
fn comment(userdata: &[u8]) -> Option<String> {
    let mut rest = userdata;
    while let [kind, length, after @ ..] = rest {
        let value = after.get(..usize::from(*length))?;
        if *kind == 0 {
            return Some(text(value));
        }
        rest = &after[usize::from(*length)..];
    }
    None
}
