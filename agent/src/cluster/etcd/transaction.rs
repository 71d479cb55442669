//! What nodes agree on by transactions: who declares the first pools, whose a name and a block are, and that a node is gone
//! for good.
//!
//! Each transaction names what it was decided by. etcd refuses it if that is no longer so; then it is read anew.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use super::api::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, request_op, response_op,
};
use super::api::mvccpb::KeyValue;
use super::client::Connection;
use super::key::{Key, Keys};
use super::life::Life;
use super::mirror::parse_pool;
use crate::cluster::{Pool, block};
use crate::error::{Error, Result};

/// How often a claim is tried again at once when another node was quicker.
const TRIES: u32 = 12;

/// The pool that is declared for a prefix: its name, and what etcd has of it.
pub fn first_pool(cidr: IpNet) -> (String, Vec<u8>) {
    let name = cidr.to_string().replace('/', "-");
    (name, serde_json::json!({ "cidr": cidr }).to_string().into_bytes())
}

/// Declares pools if there are none at all. True: it was us.
pub async fn declare_pools(connection: &Connection, keys: &Keys, pools: &[IpNet]) -> Result<bool> {
    if pools.is_empty() {
        return Ok(false);
    }
    let (start, end) = keys.folder("pools");
    let none = Compare { range_end: end, ..compare(CompareResult::Equal, start, 0) };
    let puts = pools.iter().map(|cidr| {
        let (name, value) = first_pool(*cidr);
        put(keys.text(&Key::Pool(name)), value)
    });
    let request = TxnRequest { compare: vec![none], success: puts.collect(), failure: Vec::new() };
    Ok(connection.transact(request).await?.succeeded)
}

/// Says with a lease that a node is alive. Refused if another host says so that has the same name.
pub async fn announce(
    connection: &Connection,
    keys: &Keys,
    node: &str,
    life: &Life,
    lease: i64,
) -> Result<()> {
    let key = keys.text(&Key::Alive(node.to_owned()));
    let mut guard = absent(key.clone());
    for _ in 0..TRIES {
        let said = PutRequest { key: key.clone(), value: life.text(), lease };
        let request = TxnRequest {
            compare: vec![guard],
            success: vec![RequestOp { request: Some(request_op::Request::RequestPut(said)) }],
            failure: vec![range(key.clone(), Vec::new(), false)],
        };
        let answer = connection.transact(request).await?;
        if answer.succeeded {
            return Ok(());
        }
        let [there] = pairs_of(answer.responses);
        guard = match there.first() {
            None => absent(key.clone()),
            Some(pair) => {
                let other = Life::parse(&pair.value);
                if !life.is_of_one_host(&other) {
                    return Err(namesake(node, &other));
                }
                modified(key.clone(), pair.mod_revision)
            }
        };
    }
    Err(Error::Etcd(format!("what it has of node {node} changes all the time")))
}

fn namesake(node: &str, other: &Life) -> Error {
    let addresses: Vec<String> = other.addresses.iter().map(ToString::to_string).collect();
    Error::Refused(format!(
        "another host that is called {node} is alive at {}: a name of its own is expected for each (node_name)",
        addresses.join(", ")
    ))
}

/// A claim of a block.
#[derive(Debug)]
pub struct Claim<'a> {
    /// etcd.
    pub connection: &'a Connection,
    /// What its keys are called.
    pub keys: &'a Keys,
    /// Who claims.
    pub node: &'a str,
    /// Blocks that the node had before, which it would rather have again.
    pub had: &'a [IpNet],
    /// What others had and have not claimed again yet.
    pub spared: &'a [IpNet],
}

/// A block that can be taken, and what that is so by.
struct Choice {
    block: IpNet,
    compare: Vec<Compare>,
}

impl Claim<'_> {
    /// Takes a block of a pool unless the node has one there. Gives the block that was taken.
    pub async fn take(&self, name: &str) -> Result<Option<IpNet>> {
        for _ in 0..TRIES {
            let Some((pool, revision)) = self.read(name).await? else { return Ok(None) };
            if !block::owned(&pool, self.node).is_empty() {
                return Ok(None);
            }
            let choice = self.choose(&pool).await?;
            let key = |key: Key| self.keys.text(&key);
            let mut compare = choice.compare;
            compare.push(modified(key(Key::Pool(name.to_owned())), revision));
            // A node that others take for gone claims nothing: it would be taken from it at once.
            compare.push(exists(key(Key::Alive(self.node.to_owned()))));
            let taken = put(key(Key::Block(name.to_owned(), choice.block)), self.node.as_bytes().to_vec());
            let request = TxnRequest { compare, success: vec![taken], failure: Vec::new() };
            if self.connection.transact(request).await?.succeeded {
                return Ok(Some(choice.block));
            }
        }
        Err(Error::Refused(format!("many nodes claim blocks of pool {name} at once: trying again")))
    }

    /// The pool with its blocks at one moment, and the revision of what was declared of it.
    async fn read(&self, name: &str) -> Result<Option<(Pool, i64)>> {
        let key = self.keys.text(&Key::Pool(name.to_owned()));
        let (start, end) = self.keys.folder(&format!("blocks/{name}"));
        let read = vec![range(key, Vec::new(), false), range(start, end, false)];
        let answer = self.connection.transact(TxnRequest { success: read, ..Default::default() }).await?;
        let [declared, blocks] = pairs_of(answer.responses);
        let Some(declared) = declared.first() else { return Ok(None) };
        let Ok(mut pool) = parse_pool(name, &declared.value) else { return Ok(None) };
        let blocks = blocks.iter().filter_map(|pair| match self.keys.parse(&pair.key)? {
            Key::Block(_, block) => Some((block, String::from_utf8_lossy(&pair.value).into_owned())),
            _ => None,
        });
        pool.blocks = blocks.collect();
        Ok(Some((pool, declared.mod_revision)))
    }

    /// The pool with what is spared as taken.
    fn sparing(&self, pool: &Pool) -> Pool {
        let mut pool = pool.clone();
        for prefix in self.spared.iter().filter(|prefix| pool.cidr.contains(*prefix)) {
            pool.blocks.entry(*prefix).or_default();
        }
        pool
    }

    async fn choose(&self, pool: &Pool) -> Result<Choice> {
        let again = self.had.iter().find(|block| block::is_free(pool, **block)).copied();
        let free = || block::free(&self.sparing(pool), block::seed(self.node));
        if let Some(block) = again.or_else(free) {
            let key = self.keys.text(&Key::Block(pool.name.clone(), block));
            return Ok(Choice { block, compare: vec![absent(key)] });
        }
        // Who has told how it is reached keeps its block, and who is alive and has not told it yet.
        let folders = ["nodes", "alive"].map(|folder| self.keys.folder(folder));
        let read = folders.map(|(start, end)| range(start, end, true)).to_vec();
        let answer = self.connection.transact(TxnRequest { success: read, ..Default::default() }).await?;
        let names = pairs_of::<2>(answer.responses).into_iter().flatten();
        let names: Vec<String> = names
            .filter_map(|pair| match self.keys.parse(&pair.key)? {
                Key::Node(name) | Key::Alive(name) => Some(name),
                _ => None,
            })
            .collect();
        let known: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        let block = block::abandoned(pool, &known).ok_or_else(|| Error::PoolsExhausted(pool.name.clone()))?;
        // It is among the pool's blocks: that is where it was found.
        let owner = pool.blocks.get(&block).cloned().unwrap_or_default();
        let key = |key: Key| self.keys.text(&key);
        let compare = vec![
            has_value(key(Key::Block(pool.name.clone(), block)), owner.clone().into_bytes()),
            absent(key(Key::Node(owner.clone()))),
            absent(key(Key::Alive(owner))),
        ];
        Ok(Choice { block, compare })
    }
}

/// Forgets how a node is reached that is gone for good. Its blocks are others' when no more are free.
pub async fn forget(connection: &Connection, keys: &Keys, node: &str) -> Result<()> {
    let (record, alive) = (keys.text(&Key::Node(node.to_owned())), keys.text(&Key::Alive(node.to_owned())));
    let delete = DeleteRangeRequest { key: record.clone(), range_end: Vec::new() };
    let request = TxnRequest {
        compare: vec![exists(record), absent(alive.clone())],
        success: vec![RequestOp { request: Some(request_op::Request::RequestDeleteRange(delete)) }],
        failure: vec![range(alive, Vec::new(), true)],
    };
    let answer = connection.transact(request).await?;
    if answer.succeeded {
        return Ok(());
    }
    let [alive] = pairs_of(answer.responses);
    Err(Error::Refused(match alive.is_empty() {
        true => format!("node {node} is not known"),
        false => format!(
            "node {node} is alive: stop its agent, and forget it when its lease has ended (etcd.lease_seconds)"
        ),
    }))
}

fn pairs_of<const N: usize>(responses: Vec<super::api::etcdserverpb::ResponseOp>) -> [Vec<KeyValue>; N] {
    let mut pairs = responses.into_iter().map(|response| match response.response {
        Some(response_op::Response::ResponseRange(range)) => range.kvs,
        _ => Vec::new(),
    });
    std::array::from_fn(|_| pairs.next().unwrap_or_default())
}

fn put(key: Vec<u8>, value: Vec<u8>) -> RequestOp {
    RequestOp { request: Some(request_op::Request::RequestPut(PutRequest { key, value, lease: 0 })) }
}

fn range(key: Vec<u8>, range_end: Vec<u8>, keys_only: bool) -> RequestOp {
    let request = RangeRequest { key, range_end, keys_only, ..Default::default() };
    RequestOp { request: Some(request_op::Request::RequestRange(request)) }
}

/// Compares the revision that a key was made at; 0: there is no such key.
fn compare(result: CompareResult, key: Vec<u8>, create_revision: i64) -> Compare {
    Compare {
        result: result.into(),
        target: CompareTarget::Create.into(),
        key,
        target_union: Some(TargetUnion::CreateRevision(create_revision)),
        range_end: Vec::new(),
    }
}

fn absent(key: Vec<u8>) -> Compare {
    compare(CompareResult::Equal, key, 0)
}

fn exists(key: Vec<u8>) -> Compare {
    compare(CompareResult::Greater, key, 0)
}

fn modified(key: Vec<u8>, revision: i64) -> Compare {
    Compare {
        target: CompareTarget::Mod.into(),
        target_union: Some(TargetUnion::ModRevision(revision)),
        ..absent(key)
    }
}

fn has_value(key: Vec<u8>, value: Vec<u8>) -> Compare {
    Compare {
        target: CompareTarget::Value.into(),
        target_union: Some(TargetUnion::Value(value)),
        ..absent(key)
    }
}
