//! Tells the daemon what it shall have, and only what changed since.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use tonic::Code;
use weft_proto::Client;
use weft_proto::v1::{self, Resource};

use crate::error::{Error, Result};

/// What the daemon has of the objects with a certain set of labels, and the way to change it.
///
/// Objects with these labels are this program's alone: those that are not wished for are deleted.
#[derive(Debug)]
pub struct Program {
    client: Client,
    labels: BTreeMap<String, String>,
    /// What the daemon has, by kind and name; none: it has to be asked.
    known: Option<BTreeMap<String, Resource>>,
    done: Done,
}

/// What was done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Done {
    /// Calls of the daemon's API.
    pub calls: u64,
    /// Objects that were sent.
    pub objects: u64,
    /// How long the last call that changed something took.
    pub last: Duration,
}

impl Program {
    /// One for the objects with these labels, of which every object carries all.
    pub fn new(client: Client, labels: BTreeMap<String, String>) -> Program {
        Program { client, labels, known: None, done: Done::default() }
    }

    /// What was done so far.
    pub fn done(&self) -> Done {
        self.done
    }

    /// Asks the daemon anew what it has: it was started again, or somebody else changed it.
    pub fn forget(&mut self) {
        self.known = None;
    }

    /// What the daemon has, by kind and name.
    pub async fn known(&mut self) -> Result<&BTreeMap<String, Resource>> {
        let known = match self.known.take() {
            Some(known) => known,
            None => self.list().await?,
        };
        Ok(self.known.insert(known))
    }

    /// Brings the daemon from what it has to `wished`, all or nothing. Gives the names of what was sent.
    ///
    /// With `complete` unset nothing is deleted: what is missing may be what was not heard of yet. An error leaves the
    /// daemon as it was; the next call tries again.
    pub async fn realize(&mut self, wished: &[Resource], complete: bool) -> Result<Vec<String>> {
        let known = self.known().await?;
        let changed: Vec<Resource> =
            wished.iter().filter(|wish| known.get(&wish.id()) != Some(wish)).cloned().collect();
        let names: BTreeSet<String> = wished.iter().map(Resource::id).collect();
        let gone = complete && known.keys().any(|id| !names.contains(id));
        if changed.is_empty() && !gone {
            return Ok(Vec::new());
        }
        let sent: Vec<String> = changed.iter().map(Resource::id).collect();
        // Pruning looks at all that is wished for.
        let (resources, prune) =
            if gone { (wished.to_vec(), self.labels.clone()) } else { (changed, BTreeMap::new()) };
        self.apply(resources, prune).await?;
        if let Some(known) = &mut self.known {
            if gone {
                known.retain(|id, _| names.contains(id));
            }
            known.extend(wished.iter().map(|wish| (wish.id(), wish.clone())));
        }
        Ok(sent)
    }

    async fn apply(&mut self, resources: Vec<Resource>, prune: BTreeMap<String, String>) -> Result<()> {
        self.done.calls += 1;
        self.done.objects += resources.len() as u64;
        let start = Instant::now();
        let request = v1::ApplyRequest { resources, prune, ..Default::default() };
        let answer = self.client.fabric.apply(request).await;
        self.done.last = start.elapsed();
        answer.map(|_| ()).map_err(|status| {
            // Somebody else may have changed what is there: look again before the next try.
            self.known = None;
            Error::from(status)
        })
    }

    async fn list(&mut self) -> Result<BTreeMap<String, Resource>> {
        self.done.calls += 1;
        let request = v1::ListRequest { kind: v1::Kind::Unspecified.into(), labels: self.labels.clone() };
        let found = self.client.fabric.list(request).await?.into_inner().resources;
        let found = found.into_iter().filter(|resource| !is_deleting(resource));
        Ok(found.map(|resource| (resource.id(), as_wished(resource))).collect())
    }

    /// One object as it is; none if there is no such object.
    pub async fn get(&mut self, kind: v1::Kind, name: &str) -> Result<Option<Resource>> {
        self.done.calls += 1;
        let request = v1::GetRequest { kind: kind.into(), name: name.to_owned() };
        match self.client.fabric.get(request).await {
            Ok(answer) => Ok(Some(answer.into_inner())),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(status.into()),
        }
    }

    /// The daemon.
    pub fn client(&self) -> Client {
        self.client.clone()
    }
}

fn is_deleting(resource: &Resource) -> bool {
    resource.metadata.as_ref().is_some_and(|metadata| metadata.deleting.is_some())
}

/// A resource as it was applied: without what the daemon adds.
fn as_wished(resource: Resource) -> Resource {
    let mut resource = resource.without_status();
    if let Some(metadata) = resource.metadata.take() {
        let v1::Metadata { name, labels, .. } = metadata;
        resource.metadata = Some(v1::Metadata { name, labels, ..Default::default() });
    }
    resource
}
