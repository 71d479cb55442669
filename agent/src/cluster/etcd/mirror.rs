//! What is in etcd, as it was last heard, and what that says of the cluster. Pure.
//!
//! etcd may lose what it had: its disk, or all since a backup. So what a list lacks that was there before is not gone at once.
//! Nodes stay until they have told it again or are given up ([`Mirror::give_up`]), and this node's own blocks until it has
//! claimed them again ([`Mirror::lost`]), unless what they had is another's now.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::{IpNet, Ipv4Net};
use serde_json::Value;

use super::api::mvccpb::{self, KeyValue};
use super::key::{Key, Keys};
use crate::cluster::{Declared, Event, NodeRecord, Pool, View, block};
use crate::crd::pool::{IPPool, IPPoolSpec};

/// What is in etcd.
#[derive(Debug, Clone)]
pub struct Mirror {
    keys: Keys,
    /// The name of this node.
    own: String,
    nodes: BTreeMap<String, NodeRecord>,
    alive: BTreeSet<String>,
    pools: BTreeMap<String, Pool>,
    blocks: BTreeMap<(String, IpNet), String>,
    declared: BTreeMap<(&'static str, String), Declared>,
    /// Nodes that were there before a list that lacks them.
    missing: BTreeMap<String, NodeRecord>,
    /// Blocks that this node has or had, by pool.
    had: BTreeMap<String, Vec<IpNet>>,
}

/// Which lists changed.
#[derive(Debug, Default)]
struct Changes {
    nodes: Vec<Event>,
    life: bool,
    pools: bool,
    declared: bool,
}

impl Changes {
    fn gone(&mut self, names: Vec<String>) {
        self.life |= !names.is_empty();
        self.nodes.extend(names.into_iter().map(Event::NodeGone));
    }
}

impl Mirror {
    /// One that knows nothing.
    pub fn new(keys: Keys, own: &str) -> Mirror {
        Mirror {
            keys,
            own: own.to_owned(),
            nodes: BTreeMap::new(),
            alive: BTreeSet::new(),
            pools: BTreeMap::new(),
            blocks: BTreeMap::new(),
            declared: BTreeMap::new(),
            missing: BTreeMap::new(),
            had: BTreeMap::new(),
        }
    }

    /// One that knows of nodes and of its own blocks what an agent before it did.
    pub fn remembering(keys: Keys, own: &str, view: &View) -> Mirror {
        let mut mirror = Mirror { nodes: view.nodes.clone(), ..Mirror::new(keys, own) };
        let owned = view.pools.values().map(|pool| (pool.name.clone(), block::owned(pool, own)));
        mirror.had.extend(owned.filter(|(_, blocks)| !blocks.is_empty()));
        mirror
    }

    /// Takes all that is in etcd for all that there is, but for what is [`Mirror::missing`] then.
    pub fn replace(&mut self, pairs: &[KeyValue]) -> Vec<Event> {
        let mut before = std::mem::replace(self, Mirror::new(self.keys.clone(), &self.own));
        self.had = before.had;
        for pair in pairs {
            self.put(pair, &mut Changes::default());
        }
        before.nodes.append(&mut before.missing);
        before.nodes.retain(|name, _| !self.nodes.contains_key(name));
        self.missing = before.nodes;
        let prefixes =
            self.nodes.values().flat_map(|node| node.pods.iter().map(|prefix| (*prefix, &node.name)));
        let blocks = self.blocks.iter().map(|((_, block), node)| (*block, node));
        let taken: Vec<(IpNet, String)> =
            prefixes.chain(blocks).map(|(prefix, node)| (prefix, node.clone())).collect();
        for (prefix, node) in taken {
            self.take_over(prefix, &node);
        }
        self.note_blocks();
        vec![
            Event::Pools(self.pools()),
            Event::Declared(self.declared.values().cloned().collect()),
            Event::Nodes(self.nodes.values().chain(self.missing.values()).cloned().collect()),
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
        if changes.pools {
            self.note_blocks();
        }
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

    /// The pools with the blocks that are taken, those among them that this node has lost and will claim again.
    pub fn pools(&self) -> Vec<Pool> {
        let mut pools: Vec<Pool> = self.pools.values().map(|pool| self.listed(pool)).collect();
        for pool in &mut pools {
            for block in self.lost_of(pool) {
                pool.blocks.insert(block, self.own.clone());
            }
        }
        pools
    }

    /// Pools where this node had a block that etcd does not know any more, and that nobody else has.
    pub fn lost(&self) -> impl Iterator<Item = String> {
        let without = self.had.keys().filter(|pool| !self.has_block(pool));
        let listed = without.filter_map(|pool| self.pools.get(pool)).map(|pool| self.listed(pool));
        listed.filter(|pool| !self.lost_of(pool).is_empty()).map(|pool| pool.name)
    }

    /// Whether this node has a block of a pool.
    pub fn has_block(&self, pool: &str) -> bool {
        self.blocks_of(pool).any(|(_, node)| *node == self.own)
    }

    /// The blocks of a pool that this node has or had.
    pub fn had(&self, pool: &str) -> &[IpNet] {
        self.had.get(pool).map_or(&[], Vec::as_slice)
    }

    /// Nodes that etcd has said nothing of since a list that lacked them.
    pub fn missing(&self) -> impl Iterator<Item = &NodeRecord> {
        self.missing.values()
    }

    /// Takes the nodes for gone that are missing.
    pub fn give_up(&mut self) -> Vec<Event> {
        let gone = std::mem::take(&mut self.missing);
        let mut events: Vec<Event> = gone.into_keys().map(Event::NodeGone).collect();
        events.push(Event::Silent(self.silent()));
        events
    }

    /// A pool with the blocks that are taken.
    fn listed(&self, pool: &Pool) -> Pool {
        let blocks = self.blocks_of(&pool.name).map(|(block, node)| (block, node.clone()));
        Pool { blocks: blocks.collect(), ..pool.clone() }
    }

    /// The blocks of a pool that are taken, and whose they are.
    fn blocks_of(&self, pool: &str) -> impl Iterator<Item = (IpNet, &String)> {
        let first = (pool.to_owned(), IpNet::V4(Ipv4Net::default()));
        let of_it = self.blocks.range(first..).take_while(move |((of, _), _)| of == pool);
        of_it.map(|((_, block), node)| (*block, node))
    }

    fn lost_of(&self, pool: &Pool) -> Vec<IpNet> {
        if !block::owned(pool, &self.own).is_empty() {
            return Vec::new();
        }
        self.had(&pool.name).iter().copied().filter(|block| block::is_free(pool, *block)).collect()
    }

    fn note_blocks(&mut self) {
        for pool in self.pools.keys() {
            let own = self.blocks_of(pool).filter(|(_, node)| **node == self.own);
            let own: Vec<IpNet> = own.map(|(block, _)| block).collect();
            if !own.is_empty() {
                self.had.insert(pool.clone(), own);
            }
        }
    }

    /// A node has this prefix now: others that are missing and had it are gone. Gives their names.
    fn take_over(&mut self, prefix: IpNet, node: &str) -> Vec<String> {
        let overlaps = |other: &IpNet| other.contains(&prefix) || prefix.contains(other);
        let missing = self.missing.values().filter(|other| other.name != node);
        let gone = missing.filter(|other| other.pods.iter().any(overlaps)).map(|other| other.name.clone());
        let gone: Vec<String> = gone.collect();
        for name in &gone {
            self.missing.remove(name);
        }
        gone
    }

    fn silent(&self) -> BTreeSet<String> {
        let names = self.nodes.keys().chain(self.missing.keys());
        names.filter(|name| !self.alive.contains(*name)).cloned().collect()
    }

    fn put(&mut self, pair: &KeyValue, changes: &mut Changes) {
        let Some(key) = self.keys.parse(&pair.key) else { return };
        match key {
            Key::Node(name) => match serde_json::from_slice::<NodeRecord>(&pair.value) {
                Ok(record) if record.name == name => {
                    self.missing.remove(&name);
                    for prefix in &record.pods {
                        changes.gone(self.take_over(*prefix, &name));
                    }
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
                changes.gone(self.take_over(block, &node));
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
                self.missing.remove(&name);
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
        let mut mirror = Mirror::new(Keys::new("/weft"), "one");
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
        let mut mirror = Mirror::new(Keys::new("/weft"), "one");
        let events = mirror.replace(&[
            pair("/weft/nodes/one", ONE),
            pair("/weft/networks/blue", r#"{"spec":{"mtu":1400,"uplink":{"device":"eth1"}}}"#),
            pair("/weft/other/thing", "x"),
        ]);
        let Event::Declared(declared) = &events[1] else { panic!() };
        assert_eq!(declared[0].id(), "Network/blue");
        assert_eq!(
            (declared[0].generation, &declared[0].uplink),
            (2, &Some(serde_json::json!({"device": "eth1"})))
        );
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
        mirror.change(&[put("/weft/blocks/pods/198.18.2.0/24", "two")]);
        assert_eq!(mirror.pools()[0].blocks.len(), 2);
        let events = mirror.change(&[
            put("/weft/blocks/late/198.19.1.0/24", "one"),
            put("/weft/pools/late", r#"{"cidr":"198.19.0.0/16","blockSize":24,"network":"blue"}"#),
            delete("/weft/blocks/pods/198.18.2.0/24"),
        ]);
        let [Event::Pools(pools)] = &events[..] else { panic!("{events:?}") };
        assert_eq!((pools[0].name.as_str(), pools[0].blocks.len()), ("late", 1));
        assert_eq!((pools[1].name.as_str(), pools[1].blocks.len()), ("pods", 1));
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

    #[test]
    fn what_a_list_lacks_stays_until_it_is_given_up() {
        let mut mirror = mirror();
        let two = ONE.replace("one", "two").replace("198.18.1", "198.18.2");
        mirror.change(&[put("/weft/nodes/two", &two), put("/weft/alive/two", "{}")]);
        // etcd has lost all, and the first node has declared the pools again.
        let events =
            mirror.replace(&[pair("/weft/pools/pods", r#"{"cidr":"198.18.0.0/16","blockSize":24}"#)]);
        let Event::Pools(pools) = &events[0] else { panic!() };
        assert_eq!(pools[0].blocks, BTreeMap::from([("198.18.1.0/24".parse().unwrap(), "one".to_owned())]));
        assert!(matches!(&events[2], Event::Nodes(nodes) if nodes.len() == 2));
        assert_eq!(mirror.lost().collect::<Vec<_>>(), ["pods"]);
        assert_eq!(mirror.had("pods"), ["198.18.1.0/24".parse().unwrap()]);
        assert!(mirror.record("one").is_none(), "so it is told again");
        let events = mirror.change(&[put("/weft/nodes/two", &two)]);
        assert!(matches!(&events[0], Event::Node(node) if node.name == "two"));
        assert_eq!(mirror.missing().map(|node| node.name.as_str()).collect::<Vec<_>>(), ["one"]);
        assert_eq!(mirror.give_up()[0], Event::NodeGone("one".into()));
        assert!(mirror.missing().next().is_none());
    }

    #[test]
    fn what_is_anothers_now_is_not_held() {
        let mut mirror = mirror();
        let pool = pair("/weft/pools/pods", r#"{"cidr":"198.18.0.0/16","blockSize":24}"#);
        mirror.replace(std::slice::from_ref(&pool));
        let events = mirror.change(&[put("/weft/blocks/pods/198.18.1.0/24", "two")]);
        let Event::Pools(pools) = &events[0] else { panic!() };
        assert_eq!(pools[0].blocks.values().collect::<Vec<_>>(), ["two"]);
        assert_eq!(events[1], Event::NodeGone("one".into()));
        assert_eq!(mirror.lost().count(), 0);
        let other = ONE.replace("one", "two");
        let events = self::mirror().replace(&[pool, pair("/weft/nodes/two", &other)]);
        assert!(matches!(&events[2], Event::Nodes(nodes) if nodes.len() == 1 && nodes[0].name == "two"));
    }
}
