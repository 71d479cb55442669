//! The other nodes: which of them can be reached, and how.
//!
//! A node says of itself what it likes. One that cannot be reached, or claims what is another's, is left out and told
//! of: it must not keep all others from being reached.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use weft_proto::v1;

use super::Own;
use crate::cluster::{NodeRecord, block};
use crate::config::Mode;

/// Characters of a WireGuard key in Base64.
const KEY_LENGTH: usize = 44;
/// Longest name of a peer, and what is kept of a longer one.
const NAME_LENGTH: usize = 63;
const KEPT_LENGTH: usize = 46;

/// A node that is not reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Its name.
    pub node: String,
    /// Why, in words.
    pub why: String,
}

/// A node that is reached.
#[derive(Debug, Clone)]
pub(super) struct Peer<'a> {
    pub record: &'a NodeRecord,
    /// Its address of the family that this node prefers, if it has one.
    pub address: IpAddr,
    pub pods: Vec<IpNet>,
}

/// Those that are reached, and those that are not.
pub(super) fn choose<'a>(
    mode: Mode,
    own: &Own<'_>,
    others: impl Iterator<Item = &'a NodeRecord>,
) -> (Vec<Peer<'a>>, Vec<Refusal>) {
    let (mut peers, mut refused) = (Vec::new(), Vec::new());
    let mut taken = Taken::new(own);
    for record in others {
        match taken.admit(mode, own, record) {
            Ok(peer) => peers.push(peer),
            Err(why) => refused.push(Refusal { node: record.name.clone(), why }),
        }
    }
    (peers, refused)
}

/// What nodes have that no other may have too.
struct Taken {
    pods: Prefixes,
    keys: HashMap<String, String>,
    addresses: HashMap<IpAddr, String>,
}

impl Taken {
    fn new(own: &Own<'_>) -> Taken {
        let mut pods = Prefixes::default();
        own.pods.iter().for_each(|prefix| pods.insert(*prefix, own.name));
        let addresses = own.addresses.iter().map(|address| (*address, own.name.to_owned())).collect();
        let keys = own.keys.iter().map(|key| (key.clone(), own.name.to_owned())).collect();
        Taken { pods, keys, addresses }
    }

    fn admit<'a>(&mut self, mode: Mode, own: &Own<'_>, record: &'a NodeRecord) -> Result<Peer<'a>, String> {
        let address = shared_family(own.addresses, &record.addresses)
            .ok_or("it has no address of a family that this node has")?;
        if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
            return Err(format!("its address {address} is none that nodes can have"));
        }
        if let Some(other) = self.addresses.get(&address) {
            return Err(format!("its address {address} is that of node {other} too"));
        }
        if record.pods.is_empty() {
            return Err("it has no prefix for pods".into());
        }
        for prefix in &record.pods {
            if prefix.prefix_len() == 0 {
                return Err(format!("its pods' {prefix} is everything"));
            }
            if let Some((taken, other)) = self.pods.overlap(*prefix) {
                return Err(format!("its pods' {prefix} overlaps {taken} of node {other}"));
            }
        }
        if mode == Mode::Wireguard {
            self.check_keys(record)?;
        }
        for key in record.previous_public_keys.iter().chain([&record.public_key]) {
            self.keys.insert(key.clone(), record.name.clone());
        }
        record.pods.iter().for_each(|prefix| self.pods.insert(*prefix, &record.name));
        self.addresses.insert(address, record.name.clone());
        Ok(Peer { record, address, pods: record.pods.iter().map(IpNet::trunc).collect() })
    }

    fn check_keys(&self, record: &NodeRecord) -> Result<(), String> {
        if record.public_key.is_empty() {
            return Err("it has not told its public key yet".into());
        }
        if record.port == 0 {
            return Err("it has not told its port".into());
        }
        for key in record.previous_public_keys.iter().chain([&record.public_key]) {
            if !is_key(key) {
                return Err(format!(
                    "its public key \"{key}\" is none: {KEY_LENGTH} characters of Base64 expected"
                ));
            }
            if let Some(other) = self.keys.get(key) {
                return Err(format!(
                    "its public key is that of node {other} too: one is a copy of the other"
                ));
            }
        }
        Ok(())
    }
}

/// Prefixes that may not overlap, quick to ask.
#[derive(Default)]
struct Prefixes {
    owners: HashMap<IpNet, String>,
    lengths: HashSet<u8>,
    /// Prefixes that have one of `owners` inside them.
    around: HashMap<IpNet, IpNet>,
}

impl Prefixes {
    fn insert(&mut self, prefix: IpNet, owner: &str) {
        let prefix = prefix.trunc();
        self.owners.insert(prefix, owner.to_owned());
        self.lengths.insert(prefix.prefix_len());
        let mut wider = prefix;
        while let Some(next) = wider.supernet() {
            wider = next;
            if self.around.insert(wider, prefix).is_some() {
                break;
            }
        }
    }

    fn overlap(&self, prefix: IpNet) -> Option<(IpNet, &str)> {
        let prefix = prefix.trunc();
        let found = |prefix: &IpNet| self.owners.get(prefix).map(|owner| (*prefix, owner.as_str()));
        let inside = || self.around.get(&prefix).and_then(found);
        let around = || {
            let shorter = self.lengths.iter().filter(|length| **length < prefix.prefix_len());
            shorter
                .filter_map(|length| IpNet::new(prefix.network(), *length).ok())
                .find_map(|it| found(&it.trunc()))
        };
        found(&prefix).or_else(inside).or_else(around)
    }
}

fn shared_family(own: &[IpAddr], other: &[IpAddr]) -> Option<IpAddr> {
    own.iter().find_map(|mine| other.iter().find(|theirs| theirs.is_ipv4() == mine.is_ipv4())).copied()
}

/// 32 octets in Base64: the last digit before the padding has two bits that count for nothing and are zero.
fn is_key(text: &str) -> bool {
    let (digits, padding) = text.split_at_checked(KEY_LENGTH - 1).unwrap_or_default();
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || b"+/".contains(&byte);
    padding == "="
        && digits.bytes().all(is_digit)
        && digits.ends_with(|last| "AEIMQUYcgkosw048".contains(last))
}

impl Peer<'_> {
    /// As a peer of WireGuard. Where it changes its key it is known by both; of several before it, by the newest, which
    /// comes first.
    pub fn wireguard(&self) -> v1::WireGuardPeer {
        let record = self.record;
        let (public_key, next_public_key) = match record.previous_public_keys.first() {
            Some(previous) => (previous.clone(), record.public_key.clone()),
            None => (record.public_key.clone(), String::new()),
        };
        v1::WireGuardPeer {
            name: peer_name(&record.name),
            public_key,
            next_public_key,
            endpoint: SocketAddr::new(self.address, record.port).to_string(),
            allowed_prefixes: self.pods.iter().map(ToString::to_string).collect(),
            ..Default::default()
        }
    }

    /// Routes of the node's kernel to its pods, of the families that it has addresses of.
    pub fn node_routes(&self) -> impl Iterator<Item = v1::PortRoute> {
        self.pods.iter().filter_map(|prefix| {
            let family = |address: &&IpAddr| address.is_ipv4() == prefix.network().is_ipv4();
            let via = self.record.addresses.iter().find(family)?;
            Some(v1::PortRoute { prefix: prefix.to_string(), via: via.to_string() })
        })
    }
}

/// A node's name as objects of Weft may be named: other characters become '-', and a longer or changed name ends in
/// its number, so that no two become the same.
pub(super) fn peer_name(node: &str) -> String {
    let is_fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let mut name: String = node.bytes().map(|byte| if is_fine(byte) { byte.into() } else { '-' }).collect();
    if name == node
        && (1..=NAME_LENGTH).contains(&name.len())
        && !name.starts_with('-')
        && !name.ends_with('-')
    {
        return name;
    }
    name.truncate(KEPT_LENGTH);
    let mut name = name.trim_matches('-').to_owned();
    if !name.is_empty() {
        name.push('-');
    }
    // Writing to a String cannot fail.
    let _ = write!(name, "{:016x}", block::seed(node));
    name
}
