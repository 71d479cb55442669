//! Claims blocks of pools for this node. Whoever was quicker wins; the pool is then read anew.
//!
//! It is a task of its own: a pool that is used up keeps nothing else from being said.

use std::collections::BTreeSet;
use std::time::Duration;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use kube::api::{ListParams, PostParams};
use kube::{Api, ResourceExt};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::Listener;
use super::known::Known;
use super::pools::pool_of;
use super::writer::{FIRST_PAUSE, LONGEST_PAUSE};
use crate::cluster::{Pool, Told, block, spread};
use crate::crd::IPPool;
use crate::error::{Error, Result};

/// How often a claim is tried again at once when another node was quicker.
const TRIES: u32 = 12;
/// The pause after the first time; it doubles.
const FIRST_TRY_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_TRY_PAUSE: Duration = Duration::from_secs(2);

pub(super) struct Claimer {
    pub name: String,
    pub listener: Listener,
    pub tellings: watch::Receiver<Told>,
    pub own_node: watch::Receiver<Option<Node>>,
    pub known: watch::Receiver<Known>,
    /// Hears of every pool that was read.
    pub read: mpsc::Sender<IPPool>,
}

impl Claimer {
    pub async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let claims = self.tellings.borrow_and_update().claims.clone();
            let here = self.own_node.borrow_and_update().is_some();
            let mut failed = false;
            for pool in claims.iter().filter(|_| here) {
                if let Err(error) = self.claim(pool).await {
                    failed = true;
                    self.listener.request_failed("claims", &error).await;
                }
            }
            if !failed {
                // Also where nothing is claimed any more.
                self.listener.reached("claims").await;
            }
            pause = if failed { (pause * 2).min(LONGEST_PAUSE) } else { FIRST_PAUSE };
            tokio::select! {
                () = sleep(pause), if failed => {}
                changed = self.tellings.changed(), if !failed => if changed.is_err() { return },
                _ = self.own_node.changed(), if !failed => {}
                () = self.listener.sender.closed() => return,
            }
        }
    }

    async fn claim(&self, pool: &str) -> Result<()> {
        let api = Api::<IPPool>::all(self.listener.client());
        let mut alive = None;
        for attempt in 0..TRIES {
            let found = api.get_opt(pool).await.map_err(|error| Error::request("get", "ippools", error))?;
            let Some((mut object, known)) = found.and_then(|it| pool_of(&it).map(|known| (it, known))) else {
                return Ok(());
            };
            // Who listens ends with the agent.
            let _ = self.read.send(object.clone()).await;
            if !block::owned(&known, &self.name).is_empty() {
                return Ok(());
            }
            let has_room = (known.blocks.len() as u128) < block::block_count(&known);
            let block = match block::free(&known, block::seed(&self.name)) {
                Some(block) if has_room => block,
                _ => self.abandoned(&known, &mut alive).await?,
            };
            let mut blocks = known.blocks;
            blocks.insert(block, self.name.clone());
            object.status = Some(object.status.unwrap_or_default().with(&blocks));
            match api.replace_status(pool, &PostParams::default(), &object).await {
                Ok(written) => {
                    let _ = self.read.send(written).await;
                    tracing::info!(pool, %block, "claimed a block for this node");
                    return Ok(());
                }
                Err(kube::Error::Api(status)) if status.code == 409 => sleep(self.try_pause(attempt)).await,
                Err(error) => return Err(Error::request("update", "ippools/status", error)),
            }
        }
        Err(Error::Refused(format!("many nodes claim blocks of IPPool/{pool} at once: trying again")))
    }

    /// Nodes that were too slow at once do not come again at once.
    fn try_pause(&self, attempt: u32) -> Duration {
        let longest = (FIRST_TRY_PAUSE * 2_u32.pow(attempt)).min(LONGEST_TRY_PAUSE);
        longest.mul_f64(0.5 + spread::portion(&format!("{} {attempt}", self.name)))
    }

    /// A block whose node is gone. A node without a WeftNode may have come just now: Nodes tell, and they are listed
    /// once for a claim, and not at all where each block has a node that is known. Theirs are many octets.
    async fn abandoned(&self, pool: &Pool, alive: &mut Option<BTreeSet<String>>) -> Result<IpNet> {
        let used_up = || Error::PoolsExhausted(pool.name.clone());
        let all_known = match &self.known.borrow().nodes {
            Some(nodes) => block::abandoned(pool, &names(nodes)).is_none(),
            None => false,
        };
        if all_known {
            return Err(used_up());
        }
        if alive.is_none() {
            let api = Api::<Node>::all(self.listener.client());
            let nodes = api.list_metadata(&ListParams::default()).await;
            let nodes = nodes.map_err(|error| Error::request("list", "nodes", error))?;
            *alive = Some(nodes.items.iter().map(ResourceExt::name_any).collect());
        }
        alive.as_ref().and_then(|alive| block::abandoned(pool, &names(alive))).ok_or_else(used_up)
    }
}

fn names(names: &BTreeSet<String>) -> BTreeSet<&str> {
    names.iter().map(String::as_str).collect()
}
