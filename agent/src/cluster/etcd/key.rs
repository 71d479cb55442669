//! What the keys in etcd are called. Pure.
//!
//! Below the prefix of the configuration: `nodes/NODE`, `alive/NODE`, `pools/POOL`, `blocks/POOL/BLOCK`, and
//! `networks/NAME`, `routers/NAME` and `tunnels/NAME`.

use ipnet::IpNet;

/// What users declare, by the folder of its keys.
const DECLARED: [(&str, &str); 3] = [("networks", "Network"), ("routers", "Router"), ("tunnels", "Tunnel")];

/// What a key is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// How a node is reached.
    Node(String),
    /// A node is heard of.
    Alive(String),
    /// A pool.
    Pool(String),
    /// Whose a block of a pool is.
    Block(String, IpNet),
    /// Something that users declared: its kind and its name.
    Declared(&'static str, String),
}

/// Writes and reads keys below a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    prefix: String,
}

impl Keys {
    /// Those below a prefix; a slash at its end makes no difference.
    pub fn new(prefix: &str) -> Keys {
        Keys { prefix: prefix.trim_end_matches('/').to_owned() }
    }

    /// How a key looks in etcd.
    pub fn text(&self, key: &Key) -> Vec<u8> {
        let rest = match key {
            Key::Node(name) => format!("nodes/{name}"),
            Key::Alive(name) => format!("alive/{name}"),
            Key::Pool(name) => format!("pools/{name}"),
            Key::Block(pool, block) => format!("blocks/{pool}/{block}"),
            Key::Declared(kind, name) => format!("{}/{name}", folder(kind)),
        };
        format!("{}/{rest}", self.prefix).into_bytes()
    }

    /// What a key in etcd is about; none: it is nothing of the agents'.
    pub fn parse(&self, text: &[u8]) -> Option<Key> {
        let rest = std::str::from_utf8(text).ok()?.strip_prefix(&self.prefix)?.strip_prefix('/')?;
        let (folder, name) = rest.split_once('/').filter(|(_, name)| !name.is_empty())?;
        if folder == "blocks" {
            let (pool, block) = name.split_once('/')?;
            return Some(Key::Block(pool.to_owned(), block.parse().ok()?));
        }
        if name.contains('/') {
            return None;
        }
        let name = name.to_owned();
        Some(match folder {
            "nodes" => Key::Node(name),
            "alive" => Key::Alive(name),
            "pools" => Key::Pool(name),
            other => Key::Declared(DECLARED.into_iter().find(|(known, _)| *known == other)?.1, name),
        })
    }

    /// The first and the end of all keys.
    pub fn all(&self) -> (Vec<u8>, Vec<u8>) {
        range(format!("{}/", self.prefix))
    }

    /// The first and the end of the keys in a folder: `nodes`, or `blocks/POOL`.
    pub fn folder(&self, name: &str) -> (Vec<u8>, Vec<u8>) {
        range(format!("{}/{name}/", self.prefix))
    }
}

fn folder(kind: &str) -> &'static str {
    DECLARED.into_iter().find(|(_, known)| *known == kind).map_or("networks", |(folder, _)| folder)
}

/// All that begin with this text, which ends in a slash: that is less than the next character, a `0`.
fn range(start: String) -> (Vec<u8>, Vec<u8>) {
    let start = start.into_bytes();
    let mut end = start.clone();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    (start, end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_they_are_written() {
        let keys = Keys::new("/weft/");
        for (key, text) in [
            (Key::Node("one".into()), "/weft/nodes/one"),
            (Key::Alive("one".into()), "/weft/alive/one"),
            (Key::Pool("pods".into()), "/weft/pools/pods"),
            (Key::Block("pods".into(), "198.18.1.0/24".parse().unwrap()), "/weft/blocks/pods/198.18.1.0/24"),
            (Key::Block("v6".into(), "2001:db8:1::/64".parse().unwrap()), "/weft/blocks/v6/2001:db8:1::/64"),
            (Key::Declared("Router", "blue".into()), "/weft/routers/blue"),
            (Key::Declared("Tunnel", "blue".into()), "/weft/tunnels/blue"),
        ] {
            assert_eq!(String::from_utf8(keys.text(&key)).unwrap(), text);
            assert_eq!(keys.parse(text.as_bytes()), Some(key));
        }
    }

    #[test]
    fn what_is_not_the_agents_is_left_alone() {
        let keys = Keys::new("/weft");
        for text in
            ["/weft", "/weft/nodes/", "/weft/nodes/a/b", "/weft/other/a", "/weftnodes/a", "/weft/blocks/a/b"]
        {
            assert_eq!(keys.parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(keys.parse(b"/weft/nodes/\xff"), None);
    }

    #[test]
    fn a_folder_has_its_own_keys_only() {
        let keys = Keys::new("/weft");
        let (start, end) = keys.folder("nodes");
        let inside = |text: &str| (start.as_slice()..end.as_slice()).contains(&text.as_bytes());
        assert!(inside("/weft/nodes/a") && inside("/weft/nodes/~"));
        assert!(!inside("/weft/nodes") && !inside("/weft/nodesets/a") && !inside("/weft/pools/a"));
    }
}
