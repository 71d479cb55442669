//! What a node says of itself as long as it lives, and by which it is told from another node of the same name.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::cluster::Told;

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
    /// Nodes that it does not reach, and why.
    pub unreached: BTreeMap<String, String>,
    /// What users declared and it refused, and why.
    pub refused: BTreeMap<String, String>,
    /// Which network stack speaks: that of this namespace since this boot.
    pub instance: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

impl Life {
    /// That of this node.
    pub fn of(told: &Told, addresses: &[IpAddr]) -> Life {
        let ready = told.ready.as_ref();
        let refused = told.results.iter().filter(|(_, (_, it))| !it.ready);
        Life {
            version: env!("CARGO_PKG_VERSION").into(),
            ready: ready.is_some_and(|it| it.ready),
            reason: ready.map_or("Starting", |it| it.reason).into(),
            message: ready.map_or("", |it| it.message.as_str()).into(),
            unreached: told.unreached.clone(),
            refused: refused.map(|(id, (_, it))| (id.clone(), it.message.clone())).collect(),
            instance: instance(),
            addresses: addresses.to_vec(),
        }
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

fn instance() -> String {
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
    fn what_is_kept_is_read_again() {
        let life = Life::of(&Told::default(), &["2001:db8::1".parse().unwrap()]);
        assert_eq!(Life::parse(&life.text()), life);
        assert!(life.instance.contains("net:["), "{}", life.instance);
    }
}
