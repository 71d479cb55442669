//! Brings the daemon to what users declared: what is wrong is told of, and keeps nothing else from working.

use std::collections::BTreeMap;
use std::net::IpAddr;

use weft_proto::Client;
use weft_proto::v1::Resource;

use super::{Outcome, there, wish};
use crate::cluster::{Readiness, Results, View};
use crate::error::{Error, Result, chain};
use crate::mesh::Part;
use crate::program::{Done, Noted, Program, Seen};

/// What the daemon has of what users declared.
#[derive(Debug)]
pub struct Realizer {
    program: Program,
    /// Something was refused, perhaps for a while only.
    again: bool,
}

impl Realizer {
    /// One that has yet to ask the daemon what it has.
    pub fn new(client: Client) -> Realizer {
        Realizer { program: Program::new(client, Part::Declared.labels()), again: false }
    }

    /// What was done so far.
    pub fn done(&self) -> Done {
        self.program.done()
    }

    /// Asks the daemon anew what it has: it was started again.
    pub fn forget(&mut self) {
        self.program.forget();
    }

    /// Takes note of an object as the daemon has it now.
    pub fn note(&mut self, seen: &Seen) -> Noted {
        self.program.note(seen)
    }

    /// Whether something was refused that may be taken later: the device that a Network is on may come.
    pub fn is_to_be_tried_again(&self) -> bool {
        self.again
    }

    /// Brings the daemon to it. Errors: the daemon does not answer.
    pub async fn realize(&mut self, view: &View, node: &str, addresses: &[IpAddr]) -> Result<Results> {
        self.again = false;
        let complete = view.heard.all();
        let wished = wish(view, node, addresses);
        let known = self.program.known().await?.clone();
        // What is refused now stays as it was: others may use it.
        let all = wished.iter().flat_map(|(id, _, it)| it.clone().unwrap_or_else(|_| there(&known, id)));
        let all: Vec<Resource> = all.collect();
        let results = match answered(self.program.realize(&all, complete).await)? {
            Ok(()) => {
                let said = |outcome: Outcome| outcome.map_or_else(refused, |all| self.standing(&all));
                wished.into_iter().map(|(id, generation, it)| (id, (generation, said(it)))).collect()
            }
            Err(_) => self.one_by_one(wished, &known, complete).await?,
        };
        self.again |= results.values().any(|(_, readiness)| !readiness.ready);
        Ok(results)
    }

    /// Finds out which of them the daemon refuses, and brings it to the others.
    async fn one_by_one(
        &mut self,
        wished: Vec<(String, i64, Outcome)>,
        known: &BTreeMap<String, Resource>,
        complete: bool,
    ) -> Result<Results> {
        let mut accepted: Vec<Resource> = Vec::new();
        let mut results = Results::new();
        for (id, generation, outcome) in wished {
            let tried = match outcome {
                Err(message) => Err(message),
                Ok(resources) => {
                    let tried = [accepted.as_slice(), resources.as_slice()].concat();
                    let said = answered(self.program.realize(&tried, false).await)?;
                    said.map(|()| tried).map_err(|error| chain(&error))
                }
            };
            let readiness = match tried {
                Ok(tried) => {
                    let ready = self.standing(&tried[accepted.len()..]);
                    accepted = tried;
                    ready
                }
                Err(message) => {
                    accepted.extend(there(known, &id));
                    refused(message)
                }
            };
            results.insert(id, (generation, readiness));
        }
        if let Err(error) = answered(self.program.realize(&accepted, complete).await)? {
            tracing::warn!("what is not declared any more is still there: {}", chain(&error));
            self.again = true;
        }
        Ok(results)
    }

    /// Whether objects that the daemon took have come about on this node.
    fn standing(&self, resources: &[Resource]) -> Readiness {
        let trouble = |resource: &Resource| {
            let id = resource.id();
            self.program.trouble_of(&id).map(|why| format!("{id}: {why}"))
        };
        match resources.iter().find_map(trouble) {
            Some(message) => Readiness { ready: false, reason: "NotReady", message },
            None => Readiness {
                ready: true,
                reason: "Realized",
                message: "all nodes that said something have it".into(),
            },
        }
    }
}

/// What the daemon said to a wish. Errors: it said nothing.
fn answered(outcome: Result<Vec<String>>) -> Result<Result<()>> {
    match outcome {
        Err(error @ Error::DaemonAway(_)) => Err(error),
        said => Ok(said.map(drop)),
    }
}

fn refused(message: String) -> Readiness {
    Readiness { ready: false, reason: "Refused", message }
}
