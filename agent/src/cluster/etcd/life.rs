//! What a node says of itself as long as it lives, and by which it is told from another node of the same name.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cluster::Told;

/// So many nodes that are not reached are named, and so much that was refused: all hosts are told of each change.
const MOST_DETAILS: usize = 8;
/// The shortest time from one change of details to the next.
pub const APART: Duration = Duration::from_secs(30);

/// What a node says of itself as long as it lives.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Life {
    /// The agent's version.
    pub version: String,
    /// Pods on it have a network.
    pub ready: bool,
    /// Why, or why not: one word for programs.
    pub reason: String,
    /// The same for people.
    pub message: String,
    /// Nodes that it does not reach, and why: the first of them.
    pub unreached: BTreeMap<String, String>,
    /// How many more there are.
    pub unreached_more: usize,
    /// What users declared and it refused, and why: the first of it.
    pub refused: BTreeMap<String, String>,
    /// How much more there is.
    pub refused_more: usize,
    /// Which network stack speaks: that of this namespace since this boot.
    pub instance: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

impl Life {
    /// That of this node.
    pub fn of(told: &Told, addresses: &[IpAddr], instance: &str) -> Life {
        let ready = told.ready.as_ref();
        let refused = told.results.iter().filter(|(_, (_, it))| !it.ready);
        let refused = refused.map(|(id, (_, it))| (id.clone(), it.message.clone()));
        let unreached = told.unreached.iter().map(|(node, why)| (node.clone(), why.clone()));
        let (unreached, unreached_more) = first(unreached);
        let (refused, refused_more) = first(refused);
        Life {
            version: env!("CARGO_PKG_VERSION").into(),
            ready: ready.is_some_and(|it| it.ready),
            reason: ready.map_or("Starting", |it| it.reason).into(),
            message: ready.map_or("", |it| it.message.as_str()).into(),
            unreached,
            unreached_more,
            refused,
            refused_more,
            instance: instance.to_owned(),
            addresses: addresses.to_vec(),
        }
    }

    /// Whether it differs from what was said before in details only, which may be told later.
    pub fn differs_in_details(&self, before: &Life) -> bool {
        self.head() == before.head()
    }

    /// What is told at once.
    fn head(&self) -> (&str, bool, &str, &str, &[IpAddr]) {
        (&self.version, self.ready, &self.reason, &self.instance, &self.addresses)
    }

    /// How it is kept in etcd.
    pub fn text(&self) -> Vec<u8> {
        // Names, addresses and words: this cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// What etcd has; what cannot be read says nothing.
    pub fn parse(text: &[u8]) -> Life {
        serde_json::from_slice(text).unwrap_or_default()
    }

    /// Whether both were said by one host: by the same network stack, which an agent that was started again shares with the
    /// one before it, or at the same address, which a host keeps that was started again. Who does not say is believed.
    pub fn is_of_one_host(&self, other: &Life) -> bool {
        other.instance.is_empty()
            || self.instance == other.instance
            || self.addresses.iter().any(|address| other.addresses.contains(address))
    }
}

/// The first few, and how many more there are.
fn first(all: impl Iterator<Item = (String, String)>) -> (BTreeMap<String, String>, usize) {
    let mut all = all.fuse();
    let few = all.by_ref().take(MOST_DETAILS).collect();
    (few, all.count())
}

/// The network stack of this namespace since this boot, which stays the same as long as this process lives.
pub fn instance() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let namespace = fs::read_link("/proc/self/ns/net").unwrap_or_default();
    format!("{} {}", boot.trim(), namespace.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_known_by_its_stack_or_an_address() {
        let life = |instance: &str, address: &str| Life {
            instance: instance.into(),
            addresses: vec![address.parse().unwrap()],
            ..Life::default()
        };
        let this = life("a", "192.0.2.1");
        assert!(this.is_of_one_host(&life("a", "192.0.2.9")), "it moved");
        assert!(this.is_of_one_host(&life("b", "192.0.2.1")), "it was started again");
        assert!(!this.is_of_one_host(&life("b", "192.0.2.2")));
        assert!(this.is_of_one_host(&Life::parse(br#"{"ready":true}"#)), "it does not say");
    }

    #[test]
    fn of_many_nodes_that_are_not_reached_few_are_named() {
        let why = |node| (format!("node-{node:04}"), "words".to_owned());
        let of =
            |count| Life::of(&Told { unreached: (0..count).map(why).collect(), ..Told::default() }, &[], "");
        assert_eq!((of(8).unreached.len(), of(8).unreached_more), (8, 0));
        assert_eq!((of(1000).unreached.len(), of(1000).unreached_more), (8, 992));
        assert_eq!(of(1000).unreached.keys().next().unwrap(), "node-0000");
    }

    #[test]
    fn what_programs_wait_for_is_no_detail() {
        let life = Life::default();
        let message = Life { message: "words".into(), unreached_more: 7, ..Life::default() };
        assert!(message.differs_in_details(&life));
        assert!(!Life { ready: true, ..Life::default() }.differs_in_details(&life));
        assert!(!Life { reason: "Serving".into(), ..Life::default() }.differs_in_details(&life));
    }

    #[test]
    fn what_is_kept_is_read_again() {
        let life = Life::of(&Told::default(), &["2001:db8::1".parse().unwrap()], &instance());
        assert_eq!(Life::parse(&life.text()), life);
        assert!(life.instance.contains("net:["), "{}", life.instance);
    }
}
