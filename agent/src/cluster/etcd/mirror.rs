//! What is in etcd, as it was last heard, and what that says of the cluster. Pure.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use serde_json::Value;

use super::api::mvccpb::{self, KeyValue};
use super::key::{Key, Keys};
use crate::cluster::{Declared, Event, NodeRecord, Pool};
use crate::crd::pool::{IPPool, IPPoolSpec};

/// What is in etcd.
#[derive(Debug, Clone)]
pub struct Mirror {
    keys: Keys,
    nodes: BTreeMap<String, NodeRecord>,
    alive: BTreeSet<String>,
    pools: BTreeMap<String, Pool>,
    blocks: BTreeMap<(String, IpNet), String>,
    declared: BTreeMap<(&'static str, String), Declared>,
}

/// Which lists changed.
#[derive(Debug, Default)]
struct Changes {
    nodes: Vec<Event>,
    life: bool,
    pools: bool,
    declared: bool,
}

impl Mirror {
    /// One that knows nothing.
    pub fn new(keys: Keys) -> Mirror {
        Mirror {
            keys,
            nodes: BTreeMap::new(),
            alive: BTreeSet::new(),
            pools: BTreeMap::new(),
            blocks: BTreeMap::new(),
            declared: BTreeMap::new(),
        }
    }

    /// Takes all that is in etcd for all that there is.
    pub fn replace(&mut self, pairs: &[KeyValue]) -> Vec<Event> {
        *self = Mirror::new(self.keys.clone());
        for pair in pairs {
            self.put(pair, &mut Changes::default());
        }
        vec![
            Event::Pools(self.pools()),
            Event::Declared(self.declared.values().cloned().collect()),
            Event::Nodes(self.nodes.values().cloned().collect()),
            Event::Silent(self.silent()),
        ]
    }

    /// Takes changes in, in their order. Each list that is told whole is told once.
    pub fn change(&mut self, events: &[mvccpb::Event]) -> Vec<Event> {
        let mut changes = Changes::default();
        for event in events {
            let Some(pair) = &event.kv else { continue };
            if event.r#type() == mvccpb::event::EventType::Put {
                self.put(pair, &mut changes);
            } else {
                self.delete(pair, &mut changes);
            }
        }
        let mut told = Vec::new();
        told.extend(changes.pools.then(|| Event::Pools(self.pools())));
        told.extend(changes.declared.then(|| Event::Declared(self.declared.values().cloned().collect())));
        told.extend(changes.nodes);
        told.extend(changes.life.then(|| Event::Silent(self.silent())));
        told
    }

    /// How a node is reached, as etcd has it.
    pub fn record(&self, node: &str) -> Option<&NodeRecord> {
        self.nodes.get(node)
    }

    /// Whether etcd says that this node is alive.
    pub fn hears(&self, node: &str) -> bool {
        self.alive.contains(node)
    }

    /// The pools, with the blocks that are taken.
    pub fn pools(&self) -> Vec<Pool> {
        let mut pools = self.pools.clone();
        for ((pool, block), node) in &self.blocks {
            if let Some(pool) = pools.get_mut(pool) {
                pool.blocks.insert(*block, node.clone());
            }
        }
        pools.into_values().collect()
    }

    fn silent(&self) -> BTreeSet<String> {
        self.nodes.keys().filter(|name| !self.alive.contains(*name)).cloned().collect()
    }

    fn put(&mut self, pair: &KeyValue, changes: &mut Changes) {
        let Some(key) = self.keys.parse(&pair.key) else { return };
        match key {
            Key::Node(name) => match serde_json::from_slice::<NodeRecord>(&pair.value) {
                Ok(record) if record.name == name => {
                    changes.nodes.push(Event::Node(record.clone()));
                    changes.life |= self.nodes.insert(name, record).is_none();
                }
                Ok(record) => {
                    tracing::warn!(node = name, "its record is that of {}: it is left out", record.name)
                }
                Err(error) => {
                    tracing::warn!(node = name, %error, "its record cannot be read: it is left out")
                }
            },
            Key::Alive(name) => changes.life |= self.alive.insert(name),
            Key::Pool(name) => {
                changes.pools = true;
                match parse_pool(&name, &pair.value) {
                    Ok(pool) => _ = self.pools.insert(name, pool),
                    Err(error) => {
                        tracing::warn!(pool = name, error, "it is left out");
                        self.pools.remove(&name);
                    }
                }
            }
            Key::Block(pool, block) => {
                changes.pools = true;
                let node = String::from_utf8_lossy(&pair.value).into_owned();
                self.blocks.insert((pool, block), node);
            }
            Key::Declared(kind, name) => {
                changes.declared = true;
                match serde_json::from_slice::<Value>(&pair.value) {
                    Ok(mut object) => {
                        let spec = object.get_mut("spec").map(Value::take).unwrap_or_default();
                        let declared = Declared::new(kind, &name, pair.version, spec);
                        self.declared.insert((kind, name), declared);
                    }
                    Err(error) => {
                        tracing::warn!(kind, name, %error, "no JSON: what was there before stays in force")
                    }
                }
            }
        }
    }

    fn delete(&mut self, pair: &KeyValue, changes: &mut Changes) {
        match self.keys.parse(&pair.key) {
            Some(Key::Node(name)) => {
                self.nodes.remove(&name);
                changes.life = true;
                changes.nodes.push(Event::NodeGone(name));
            }
            Some(Key::Alive(name)) => changes.life |= self.alive.remove(&name),
            Some(Key::Pool(name)) => changes.pools |= self.pools.remove(&name).is_some(),
            Some(Key::Block(pool, block)) => changes.pools |= self.blocks.remove(&(pool, block)).is_some(),
            Some(Key::Declared(kind, name)) => {
                changes.declared |= self.declared.remove(&(kind, name)).is_some()
            }
            None => {}
        }
    }
}

/// A pool as etcd has it: the spec of an IPPool in JSON. Errors: the field, its value, and what was expected.
pub fn parse_pool(name: &str, value: &[u8]) -> Result<Pool, String> {
    let spec: IPPoolSpec = serde_json::from_slice(value).map_err(|error| error.to_string())?;
    IPPool::new(name, spec).pool()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(key: &str, value: &str) -> KeyValue {
        KeyValue { key: key.into(), value: value.into(), version: 2, ..Default::default() }
    }

    fn event(kind: mvccpb::event::EventType, pair: KeyValue) -> mvccpb::Event {
        mvccpb::Event { r#type: kind.into(), kv: Some(pair) }
    }

    fn put(key: &str, value: &str) -> mvccpb::Event {
        event(mvccpb::event::EventType::Put, pair(key, value))
    }

    fn delete(key: &str) -> mvccpb::Event {
        event(mvccpb::event::EventType::Delete, pair(key, ""))
    }

    const ONE: &str =
        r#"{"name":"one","addresses":["192.0.2.1"],"pods":["198.18.1.0/24"],"port":51820,"publicKey":"k"}"#;

    fn mirror() -> Mirror {
        let mut mirror = Mirror::new(Keys::new("/weft"));
        mirror.replace(&[
            pair("/weft/nodes/one", ONE),
            pair("/weft/alive/one", "{}"),
            pair("/weft/pools/pods", r#"{"cidr":"198.18.0.0/16","blockSize":24}"#),
            pair("/weft/blocks/pods/198.18.1.0/24", "one"),
        ]);
        mirror
    }

    #[test]
    fn a_list_says_everything_at_once() {
        let mut mirror = Mirror::new(Keys::new("/weft"));
        let events = mirror.replace(&[
            pair("/weft/nodes/one", ONE),
            pair("/weft/networks/blue", r#"{"spec":{"mtu":1400,"uplink":{"device":"eth1"}}}"#),
            pair("/weft/other/thing", "x"),
        ]);
        let Event::Declared(declared) = &events[1] else { panic!() };
        assert_eq!(declared[0].id(), "Network/blue");
        assert_eq!((declared[0].generation, declared[0].uplink.as_deref()), (2, Some("eth1")));
        assert_eq!(declared[0].spec, serde_json::json!({"mtu": 1400}));
        assert!(matches!(&events[2], Event::Nodes(nodes) if nodes.len() == 1));
        assert_eq!(events[3], Event::Silent(BTreeSet::from(["one".to_owned()])), "no lease of it is there");
    }

    #[test]
    fn a_lease_that_ends_makes_a_node_silent_and_takes_nothing_else() {
        let mut mirror = mirror();
        let events = mirror.change(&[delete("/weft/alive/one")]);
        assert_eq!(events, [Event::Silent(BTreeSet::from(["one".to_owned()]))]);
        assert!(mirror.record("one").is_some());
        assert_eq!(mirror.change(&[put("/weft/alive/one", "{}")]), [Event::Silent(BTreeSet::new())]);
        assert_eq!(mirror.change(&[put("/weft/alive/one", r#"{"ready":true}"#)]), []);
    }

    #[test]
    fn blocks_belong_to_their_pool_whichever_came_first() {
        let mut mirror = mirror();
        assert_eq!(mirror.pools()[0].blocks.len(), 1);
        let events = mirror.change(&[
            put("/weft/blocks/late/198.19.1.0/24", "one"),
            put("/weft/pools/late", r#"{"cidr":"198.19.0.0/16","blockSize":24,"network":"blue"}"#),
            delete("/weft/blocks/pods/198.18.1.0/24"),
        ]);
        let [Event::Pools(pools)] = &events[..] else { panic!("{events:?}") };
        assert_eq!((pools[0].name.as_str(), pools[0].blocks.len()), ("late", 1));
        assert_eq!((pools[1].name.as_str(), pools[1].blocks.len()), ("pods", 0));
    }

    #[test]
    fn what_cannot_be_read_is_left_out_and_a_forgotten_node_is_gone() {
        let mut mirror = mirror();
        assert_eq!(mirror.change(&[put("/weft/nodes/two", ONE)]), []);
        assert_eq!(mirror.change(&[put("/weft/nodes/one", "?")]), []);
        assert!(mirror.record("one").is_some(), "the last that was understood");
        let events = mirror.change(&[put("/weft/pools/pods", r#"{"cidr":"198.18.0.1/16"}"#)]);
        assert_eq!(events, [Event::Pools(vec![])]);
        let events = mirror.change(&[delete("/weft/nodes/one")]);
        assert_eq!(events[0], Event::NodeGone("one".into()));
    }
}
