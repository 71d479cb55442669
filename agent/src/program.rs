//! Tells the daemon what it shall have, and only what changed since.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

use tokio::time::timeout;
use tonic::{Response, Status};
use weft_proto::Client;
use weft_proto::v1::{self, Resource};

use crate::error::{Error, Result};

/// How long the daemon is waited for. It waits up to 30 s for the kernel before it answers.
const LONGEST_CALL: Duration = Duration::from_secs(40);
/// The daemon's reason of objects that it has not looked at since it started.
const PENDING: &str = "Pending";

/// A call of the daemon, given up when no answer comes.
pub async fn in_time<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T> {
    match timeout(LONGEST_CALL, call).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_) => Err(Error::DaemonAway(format!("no answer within {} s", LONGEST_CALL.as_secs()))),
    }
}

/// What the daemon has of the objects with a certain set of labels, and the way to change it.
///
/// Objects with these labels are this program's alone: those that are not wished for are deleted.
#[derive(Debug)]
pub struct Program {
    client: Client,
    labels: BTreeMap<String, String>,
    /// What the daemon has, by kind and name; none: it has to be asked.
    known: Option<BTreeMap<String, Resource>>,
    /// The daemon's revision that `known` is a picture of.
    revision: u64,
    /// Objects that the daemon has not brought about, by kind and name, and why.
    unready: BTreeMap<String, Trouble>,
    done: Done,
}

/// Why the daemon has not brought an object about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// One CamelCase word for programs.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.message)
    }
}

/// What an object that the daemon told of means to a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noted {
    /// Nothing new.
    Same,
    /// It has come about, or is in trouble now.
    State,
    /// Somebody else changed it: the daemon is asked anew what it has.
    Foreign,
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

/// An object as the daemon told of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// The object, or what it was last.
    pub resource: Resource,
    /// It is there no more, or not for long.
    pub gone: bool,
    /// The daemon's revision when it told.
    pub revision: u64,
}

impl Program {
    /// One for the objects with these labels, of which every object carries all.
    pub fn new(client: Client, labels: BTreeMap<String, String>) -> Program {
        Program { client, labels, known: None, revision: 0, unready: BTreeMap::new(), done: Done::default() }
    }

    /// What was done so far.
    pub fn done(&self) -> Done {
        self.done
    }

    /// Asks the daemon anew what it has: it was started again, or somebody else changed it.
    pub fn forget(&mut self) {
        self.known = None;
    }

    /// Why an object has not come about; none: it has, as far as is known.
    pub fn trouble_of(&self, id: &str) -> Option<&Trouble> {
        self.unready.get(id)
    }

    /// Takes note of an object as the daemon has it now.
    pub fn note(&mut self, seen: &Seen) -> Noted {
        let resource = &seen.resource;
        let known = self.known.as_ref().and_then(|known| known.get(&resource.id()));
        let Some(known) = known else { return Noted::Same };
        let other = if seen.gone {
            seen.revision > self.revision
        } else {
            let changed = resource.metadata.as_ref().map_or(0, |metadata| metadata.revision);
            changed > self.revision && *known != as_wished(resource.clone())
        };
        if other {
            self.known = None;
            return Noted::Foreign;
        }
        if !seen.gone && self.note_state(resource) { Noted::State } else { Noted::Same }
    }

    /// Takes note of whether an object has come about. True: that is other than before.
    fn note_state(&mut self, resource: &Resource) -> bool {
        let id = resource.id();
        match resource.ready_condition() {
            Some(condition) if condition.reason == PENDING => false,
            Some(v1::Condition { status: false, reason, message, .. }) => {
                let trouble = Trouble { reason: reason.clone(), message: message.clone() };
                self.unready.insert(id, trouble.clone()) != Some(trouble)
            }
            _ => self.unready.remove(&id).is_some(),
        }
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
                self.unready.retain(|id, _| names.contains(id));
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
        let answer = in_time(self.client.fabric.apply(request)).await;
        self.done.last = start.elapsed();
        match answer {
            Ok(applied) => {
                self.revision = applied.revision;
                for resource in applied.results.iter().filter_map(|result| result.resource.as_ref()) {
                    self.note_state(resource);
                }
                Ok(())
            }
            Err(error) => {
                // Somebody else may have changed what is there: look again before the next try.
                self.known = None;
                Err(error)
            }
        }
    }

    async fn list(&mut self) -> Result<BTreeMap<String, Resource>> {
        self.done.calls += 1;
        let request = v1::ListRequest { kind: v1::Kind::Unspecified.into(), labels: self.labels.clone() };
        let answer = in_time(self.client.fabric.list(request)).await?;
        self.revision = answer.revision;
        let found: Vec<Resource> =
            answer.resources.into_iter().filter(|resource| !is_deleting(resource)).collect();
        self.unready.retain(|id, _| found.iter().any(|resource| resource.id() == *id));
        for resource in &found {
            self.note_state(resource);
        }
        Ok(found.into_iter().map(|resource| (resource.id(), as_wished(resource))).collect())
    }

    /// The daemon.
    pub fn client(&self) -> Client {
        self.client.clone()
    }
}

/// Whether an object is there no more, or not for long.
pub fn is_deleting(resource: &Resource) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::{Part, object};

    fn router(revision: u64, description: &str) -> Resource {
        let route = v1::Route { prefix: description.into(), ..Default::default() };
        let spec = v1::RouterSpec { routes: vec![route], ..Default::default() };
        let mut resource =
            object("cluster", v1::resource::Kind::Router(v1::Router { spec: Some(spec), status: None }));
        resource.metadata.get_or_insert_default().revision = revision;
        resource
    }

    /// A program to which the daemon answered at revision 7 that it has one Router.
    fn program() -> Program {
        let client = Client::connect("/nowhere.sock").unwrap();
        let had = as_wished(router(5, "192.0.2.0/24"));
        let known = Some(BTreeMap::from([(had.id(), had)]));
        Program { known, revision: 7, ..Program::new(client, Part::Mesh.labels()) }
    }

    #[tokio::test]
    async fn what_somebody_else_changed_is_asked_for_anew() {
        let seen = |resource, gone, revision| Seen { resource, gone, revision };
        for (what, seen, other) in [
            ("its own change", seen(router(7, "192.0.2.0/24"), false, 7), Noted::Same),
            ("one of before", seen(router(5, "198.18.0.0/16"), false, 6), Noted::Same),
            ("figures", seen(router(5, "192.0.2.0/24"), false, 9), Noted::Same),
            ("the same again", seen(router(8, "192.0.2.0/24"), false, 8), Noted::Same),
            ("another route", seen(router(8, "198.18.0.0/16"), false, 8), Noted::Foreign),
            ("gone, and made again since", seen(router(5, "192.0.2.0/24"), true, 6), Noted::Same),
            ("gone", seen(router(5, "192.0.2.0/24"), true, 8), Noted::Foreign),
        ] {
            let mut program = program();
            assert_eq!(program.note(&seen), other, "{what}");
            assert_eq!(program.known.is_none(), other == Noted::Foreign, "{what}");
        }
    }

    #[tokio::test]
    async fn trouble_is_told_once_and_so_is_its_end() {
        let mut program = program();
        let mut note = |status| {
            let mut resource = router(5, "192.0.2.0/24");
            let Some(v1::resource::Kind::Router(router)) = &mut resource.kind else { panic!() };
            let ready = v1::Condition {
                r#type: "Ready".into(),
                status,
                reason: "RouteMissing".into(),
                message: "words".into(),
                changed: None,
            };
            router.status = Some(v1::RouterStatus { conditions: vec![ready], ..Default::default() });
            let noted = program.note(&Seen { resource, gone: false, revision: 9 });
            (noted, program.trouble_of("Router/cluster").map(Trouble::to_string))
        };
        let trouble = Some("RouteMissing: words".to_owned());
        assert_eq!(note(false), (Noted::State, trouble.clone()));
        assert_eq!(note(false), (Noted::Same, trouble));
        assert_eq!(note(true), (Noted::State, None));
        assert_eq!(note(true), (Noted::Same, None));
    }

    #[tokio::test]
    async fn what_the_daemon_has_not_looked_at_yet_is_no_news() {
        let mut program = program();
        let trouble = Trouble { reason: "RouteMissing".into(), message: "words".into() };
        program.unready.insert("Router/cluster".into(), trouble.clone());
        let mut resource = router(5, "192.0.2.0/24");
        let Some(v1::resource::Kind::Router(router)) = &mut resource.kind else { panic!() };
        let pending = v1::Condition { r#type: "Ready".into(), reason: PENDING.into(), ..Default::default() };
        router.status = Some(v1::RouterStatus { conditions: vec![pending], ..Default::default() });
        assert_eq!(program.note(&Seen { resource, gone: false, revision: 9 }), Noted::Same);
        assert_eq!(program.trouble_of("Router/cluster"), Some(&trouble));
    }
}
