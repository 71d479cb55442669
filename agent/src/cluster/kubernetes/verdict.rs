//! What became of what users declared. All nodes come to the same, so that one speaks for all: the first, or one that
//! has trouble.
//!
//! What stands is seen in the watch, and nothing is asked for. Two nodes that write at once are told apart by the
//! object's version: the later one is refused, hears what stands now, and judges anew. A node that is gone has no say
//! any more, and one that has no WeftNode has none yet.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

use super::known::{Known, Standing};
use super::writer::time;
use super::{DECLARED, condition, resource};
use crate::cluster::{Readiness, Results, spread};
use crate::error::{Error, Result};

/// So long is a result held back that was there before the object: it is that of another one that had its name, unless
/// this node has come to the same by then.
const SETTLE: Duration = Duration::from_secs(15);

/// What this node said of what users declared, and what it is about to say.
#[derive(Debug)]
pub(super) struct Verdicts {
    node: String,
    /// When to say something, and about which generation.
    due: BTreeMap<String, (i64, Instant)>,
    /// Each result, the object that was there when it came, and before when it says nothing of another.
    judged: BTreeMap<String, Judged>,
    /// The version of each object that it said something to last: until another is heard, nothing is known of what
    /// came of that.
    told: BTreeMap<String, Option<String>>,
}

#[derive(Debug)]
struct Judged {
    result: (i64, Readiness),
    uid: Option<String>,
    counts_at: Instant,
}

/// A verdict whose time has come.
#[derive(Debug)]
pub(super) struct Due {
    id: String,
    version: Option<String>,
    condition: Condition,
}

impl Verdicts {
    /// Those of a node that said nothing as yet.
    pub fn new(node: &str) -> Verdicts {
        Verdicts { node: node.into(), due: BTreeMap::new(), judged: BTreeMap::new(), told: BTreeMap::new() }
    }

    /// What is to be said now, and when to look again for what is to be said later.
    pub fn look(&mut self, results: &Results, known: &Known, now: Instant) -> (Vec<Due>, Option<Instant>) {
        self.due.retain(|id, _| results.contains_key(id));
        self.judged.retain(|id, _| results.contains_key(id));
        self.told.retain(|id, _| results.contains_key(id));
        let (mut ready, mut later) = (Vec::new(), None::<Instant>);
        for (id, result) in results {
            let (generation, readiness) = result;
            let standing = known.declared.get(id);
            let counts_at = standing.map_or(now, |standing| self.counts_at(id, result, standing, now));
            let nodes = known.nodes.as_ref();
            let condition = standing.and_then(|it| verdict(&self.node, it, *generation, readiness, nodes));
            let (Some(standing), Some(condition)) = (standing, condition) else {
                self.due.remove(id);
                continue;
            };
            if self.told.get(id) == Some(&standing.version) {
                continue;
            }
            let nodes = nodes.map_or(1, BTreeSet::len);
            let wait = || spread::wait_of_one(&format!("{} {id} {generation}", self.node), nodes);
            let (about, at) = self.due.entry(id.clone()).or_insert_with(|| (*generation, now + wait()));
            if about != generation {
                (*about, *at) = (*generation, now + wait());
            }
            let at = counts_at.max(*at);
            if now < at {
                later = Some(later.map_or(at, |later| later.min(at)));
                continue;
            }
            ready.push(Due { id: id.clone(), version: standing.version.clone(), condition });
        }
        (ready, later)
    }

    /// When a result says something of the object that stands now.
    fn counts_at(
        &mut self,
        id: &str,
        result: &(i64, Readiness),
        standing: &Standing,
        now: Instant,
    ) -> Instant {
        let judged = self.judged.get(id).filter(|judged| judged.result == *result);
        let counts_at = match judged {
            Some(judged) if judged.uid == standing.uid => return judged.counts_at,
            Some(_) => now + SETTLE,
            None => now,
        };
        let judged = Judged { result: result.clone(), uid: standing.uid.clone(), counts_at };
        self.judged.insert(id.to_owned(), judged);
        counts_at
    }

    /// Says it.
    pub async fn say(&mut self, client: Client, due: Due) -> Result<()> {
        let Some((kind, name)) = due.id.split_once('/') else { return Ok(()) };
        let Some((kind, plural)) = DECLARED.into_iter().find(|(known, _)| *known == kind) else {
            return Ok(());
        };
        let api = Api::<kube::api::DynamicObject>::all_with(client, &resource(kind, plural));
        let generation = due.condition.observed_generation;
        let patch = json!({
            "metadata": {"resourceVersion": due.version},
            "status": {"conditions": [due.condition], "observedGeneration": generation},
        });
        match api.patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => {}
            // Another node was quicker, or the object is gone: the watch tells.
            Err(kube::Error::Api(status)) if status.code == 409 || is_gone(&status, name) => {}
            Err(error) => return Err(Error::request("patch", &format!("{plural}/status"), error)),
        }
        self.due.remove(&due.id);
        self.told.insert(due.id, due.version);
        Ok(())
    }
}

/// Whether that says that one object is gone, and not that its kind is not known.
pub(super) fn is_gone(status: &kube::core::Status, name: &str) -> bool {
    status.code == 404 && status.details.as_ref().is_some_and(|details| details.name == name)
}

/// The condition that `node` has to write; none: what stands is as good, or tells of a later generation.
fn verdict(
    node: &str,
    standing: &Standing,
    generation: i64,
    readiness: &Readiness,
    nodes: Option<&BTreeSet<String>>,
) -> Option<Condition> {
    if standing.generation.is_some_and(|now| now != generation) {
        // This node has not looked at what is wished for now.
        return None;
    }
    let prefix = format!("node {node}: ");
    let message =
        if readiness.ready { readiness.message.clone() } else { format!("{prefix}{}", readiness.message) };
    let stands = standing.ready.as_ref();
    match stands.and_then(|stands| stands.observed_generation).map(|of| of.cmp(&generation)) {
        Some(std::cmp::Ordering::Greater) => return None,
        Some(std::cmp::Ordering::Equal) => {
            let is_good = stands.is_some_and(|stands| match &*stands.status {
                "True" => readiness.ready,
                // Of several nodes that have trouble one speaks; nobody speaks for it that has none.
                "False" => match speaker(&stands.message) {
                    Some(speaker) if speaker != node => nodes.is_none_or(|nodes| nodes.contains(speaker)),
                    _ => stands.message == message,
                },
                _ => false,
            });
            if is_good {
                return None;
            }
        }
        _ => {}
    }
    Some(condition::ready(readiness, message, Some(generation), stands, time()))
}

/// The node whose trouble a message tells of.
fn speaker(message: &str) -> Option<&str> {
    message.strip_prefix("node ")?.split_once(": ").map(|(node, _)| node)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn fine() -> Readiness {
        Readiness { ready: true, reason: "Realized", message: "all have it".into() }
    }

    fn broken() -> Readiness {
        Readiness { ready: false, reason: "Refused", message: "no eth1".into() }
    }

    fn standing(generation: i64, ready: Option<Condition>) -> Standing {
        Standing { uid: Some("u".into()), generation: Some(generation), version: Some("7".into()), ready }
    }

    /// That of a node in a cluster of three.
    fn verdict(node: &str, standing: &Standing, generation: i64, readiness: &Readiness) -> Option<Condition> {
        let nodes = ["one", "two", "three"].map(str::to_owned).into();
        super::verdict(node, standing, generation, readiness, Some(&nodes))
    }

    /// What a node says of a generation on which nothing stands.
    fn said(node: &str, generation: i64, readiness: &Readiness) -> Condition {
        verdict(node, &standing(generation, None), generation, readiness).unwrap()
    }

    #[test]
    fn the_first_node_speaks_and_others_that_find_the_same_do_not() {
        let first = said("one", 3, &fine());
        assert_eq!((&*first.status, first.observed_generation), ("True", Some(3)));
        assert_eq!(verdict("two", &standing(3, Some(first)), 3, &fine()), None);
    }

    #[test]
    fn a_verdict_on_a_later_generation_stays() {
        let later = said("one", 4, &fine());
        // A node whose watch is behind knows neither the spec nor the status of now.
        assert_eq!(verdict("two", &standing(3, Some(later.clone())), 3, &broken()), None);
        // And one that has heard of the spec has not looked at it yet.
        assert_eq!(verdict("two", &standing(4, None), 3, &broken()), None);
        let later = verdict("two", &standing(5, Some(later)), 5, &fine()).unwrap();
        assert_eq!(later.observed_generation, Some(5));
    }

    #[test]
    fn trouble_of_one_node_is_told_by_it_alone_and_taken_back_by_it_alone() {
        let stands = said("one", 3, &fine());
        let told = verdict("two", &standing(3, Some(stands)), 3, &broken()).unwrap();
        assert_eq!((&*told.status, &*told.message), ("False", "node two: no eth1"));
        let told = standing(3, Some(told));
        assert_eq!(verdict("one", &told, 3, &fine()), None, "one that is fine");
        assert_eq!(verdict("three", &told, 3, &broken()), None, "one that has trouble too");
        assert_eq!(verdict("two", &told, 3, &broken()), None);
        assert_eq!(verdict("two", &told, 3, &fine()).unwrap().status, "True");
    }

    #[test]
    fn trouble_of_a_node_that_is_gone_is_over() {
        let told = standing(3, Some(said("four", 3, &broken())));
        assert_eq!(verdict("one", &told, 3, &fine()).unwrap().status, "True");
        assert_eq!(verdict("two", &told, 3, &broken()).unwrap().message, "node two: no eth1");
        assert_eq!(super::verdict("one", &told, 3, &fine(), None), None, "nodes are not known yet");
    }

    #[test]
    fn a_transition_keeps_its_time_over_generations() {
        let before = said("one", 3, &fine());
        let after = verdict("one", &standing(4, Some(before.clone())), 4, &fine()).unwrap();
        assert_eq!(after.last_transition_time, before.last_transition_time);
    }

    #[test]
    fn what_was_said_is_not_said_again_before_the_watch_tells_what_came_of_it() {
        let mut known = Known::default();
        known.declared.insert("Network/blue".into(), standing(3, None));
        let results = BTreeMap::from([("Network/blue".to_owned(), (3, fine()))]);
        let (mut verdicts, start) = (Verdicts::new("one"), Instant::now());
        let soon = start + Duration::from_secs(1);
        assert!(verdicts.look(&results, &known, start).1.is_none_or(|later| later < soon));
        assert_eq!(verdicts.look(&results, &known, soon).0.len(), 1);
        verdicts.told.insert("Network/blue".into(), Some("7".into()));
        assert!(verdicts.look(&results, &known, soon).0.is_empty());
        let other = Standing { version: Some("8".into()), ..standing(3, None) };
        known.declared.insert("Network/blue".into(), other);
        assert_eq!(verdicts.look(&results, &known, soon).0.len(), 1);
    }

    #[test]
    fn what_was_found_of_an_object_is_not_said_of_another_that_has_its_name() {
        let mut known = Known::default();
        known.declared.insert("Network/blue".into(), standing(1, Some(said("one", 1, &broken()))));
        let results = |readiness| BTreeMap::from([("Network/blue".to_owned(), (1, readiness))]);
        let (mut verdicts, start) = (Verdicts::new("one"), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(verdicts.look(&results(broken()), &known, start).0.is_empty(), "it stands");
        let other = Standing { uid: Some("other".into()), ..standing(1, None) };
        known.declared.insert("Network/blue".into(), other);
        let (due, later) = verdicts.look(&results(broken()), &known, after(1));
        assert!(due.is_empty() && later == Some(after(1) + SETTLE), "{due:?} {later:?}");
        assert!(verdicts.look(&results(broken()), &known, after(2)).0.is_empty());
        // The node finds that the other one is fine, or after a while no other than before.
        assert_eq!(verdicts.look(&results(broken()), &known, after(1) + SETTLE).0.len(), 1);
        verdicts.due.clear();
        verdicts.look(&results(fine()), &known, after(40));
        assert_eq!(verdicts.look(&results(fine()), &known, after(41)).0.len(), 1);
    }
}
