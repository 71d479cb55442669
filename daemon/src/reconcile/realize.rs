//! Carrying a plan out, through `host`.
//!
//! Every step may be cut off by the daemon's end and is found again by observing; a step whose work is done
//! already succeeds. An error ends what builds on it and nothing else; all of them are handed back.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use weft_host::tap::Tap;

use super::error::{StepError, told};
use super::observe::kernel::{Kernel, Session};
use super::place::{Place, is_veth};
use super::plan::{Action, Operation, Plan, Subject};
use crate::model::{Fabric, Name, Port};

mod device;
mod make;
mod uplink;

/// What became of a plan.
#[derive(Debug, Default)]
pub struct Done {
    /// Errors by whom they concern, in the order in which they happened.
    pub failures: BTreeMap<Subject, Vec<StepError>>,
    /// Places where something may have changed.
    pub touched: BTreeSet<Place>,
    /// Ports whose device may have changed.
    pub ports: BTreeSet<Name>,
    /// TAP devices that were made, with their queues.
    pub taps: HashMap<Name, Tap>,
    /// What succeeded, for the counters.
    pub made: Vec<Subject>,
    /// Namespaces and devices that were removed.
    pub removed: Vec<Subject>,
}

/// Runs all of `plan`; `queues` is how many a TAP gets whose Port does not say.
pub fn realize(kernel: &mut Kernel, fabric: &Fabric, plan: &Plan, queues: u32) -> Done {
    let mut run = Run { kernel, fabric, queues, open: None, indices: HashMap::new(), stuck: HashSet::new() };
    let mut done = Done::default();
    for operation in &plan.operations {
        run.touch(operation, &mut done);
        if run.stuck.contains(&operation.subject) {
            continue;
        }
        match run.step(operation, &mut done) {
            Ok(()) => run.note(operation, &mut done),
            Err(error) => run.failed(operation, error, &mut done),
        }
    }
    done
}

/// A plan being carried out.
struct Run<'a> {
    kernel: &'a mut Kernel,
    fabric: &'a Fabric,
    queues: u32,
    /// The session of the namespace that was worked in last: a plan stays in one for all of a Port's steps.
    open: Option<(Place, Session)>,
    /// Interface indices that were looked up.
    indices: HashMap<(Place, String), u32>,
    /// Whoever's device or namespace could not be made.
    stuck: HashSet<Subject>,
}

impl Run<'_> {
    fn step(&mut self, operation: &Operation, done: &mut Done) -> Result<(), StepError> {
        let place = &operation.place;
        match (&operation.action, &operation.subject) {
            (Action::MakeNamespace, _) => Ok(self.kernel.make(self.fabric, place)?),
            (Action::RemoveNamespace, _) => self.remove_namespace(place),
            (Action::RemoveDevice { index, name }, Subject::Port(port)) => {
                if self.remove_device(place, port, *index, name)? {
                    tracing::info!(object = %operation.subject, %place, device = %name, "device removed");
                    done.removed.push(operation.subject.clone());
                }
                Ok(())
            }
            (Action::MakeTap(device), Subject::Port(port)) => {
                done.taps.insert(port.clone(), self.make_tap(place, port, device)?);
                Ok(())
            }
            (Action::MakeVeth { device, host_end }, Subject::Port(port)) => {
                self.make_veth(place, port, device, host_end)
            }
            (Action::Take(device), Subject::Port(port)) => self.take(place, port, device),
            (Action::Release { index, name, before, used }, Subject::Port(port)) => {
                self.release(place, port, (*index, name), before, *used)
            }
            (Action::Inherit { device, from, before }, Subject::Port(heir)) => {
                self.inherit(place, (from, heir), device, before)
            }
            (Action::Up(device), _) => self.bring_up(place, device),
            (Action::Down(device), _) => self.take_down(place, device),
            (Action::Change(device, change), _) => self.change(place, device, change),
            (Action::AddAddress(device, address), _) => self.add_address(place, device, address),
            (Action::RemoveAddress(device, address), _) => self.remove_address(place, device, address),
            (Action::AddRoute(device, route), Subject::Port(port)) => {
                let covers = |port: &Port| port.addresses.iter().any(|address| address.is_on_link(route.via));
                let onlink = !self.port(port).is_some_and(covers);
                self.add_route(place, device, port, route, onlink)
            }
            (Action::RemoveRoute(device, route), _) => self.remove_route(place, device, route),
            // Only Ports have devices.
            (
                _,
                Subject::Ports
                | Subject::Namespace(_)
                | Subject::Underlay(_)
                | Subject::Nat
                | Subject::NodeRoutes,
            ) => Ok(()),
        }
    }

    fn touch(&self, operation: &Operation, done: &mut Done) {
        if operation.place != Place::Ports || operation.action == Action::MakeNamespace {
            done.touched.insert(operation.place.clone());
        }
        if let Subject::Port(name) = &operation.subject {
            let has_end = self.port(name).is_none_or(is_veth);
            if has_end || operation.place == Place::Ports {
                done.ports.insert(name.clone());
            }
        }
    }

    /// Logs and counts a step that succeeded.
    fn note(&self, operation: &Operation, done: &mut Done) {
        let (subject, place) = (&operation.subject, &operation.place);
        match &operation.action {
            Action::MakeNamespace => {
                tracing::info!(object = %subject, "namespace made");
                done.made.push(subject.clone());
            }
            Action::MakeTap(device) | Action::MakeVeth { device, .. } => {
                tracing::info!(object = %subject, %place, device = %device.name, "device made");
                done.made.push(subject.clone());
            }
            Action::RemoveNamespace => {
                tracing::info!(object = %subject, "namespace removed");
                done.removed.push(subject.clone());
            }
            Action::Take(device) => tracing::info!(object = %subject, %place, %device, "device taken"),
            Action::Release { name, .. } => {
                tracing::info!(object = %subject, %place, device = %name, "device given back");
            }
            // Told where it is known whether it was there still.
            Action::RemoveDevice { .. } => {}
            other => tracing::debug!(object = %subject, %place, step = ?other, "done"),
        }
    }

    fn failed(&mut self, operation: &Operation, error: StepError, done: &mut Done) {
        let Operation { subject, place, action } = operation;
        tracing::warn!(object = %subject, %place, "{}; it is tried again", told(&error));
        if matches!(
            action,
            Action::MakeNamespace | Action::MakeTap(_) | Action::MakeVeth { .. } | Action::Take(_)
        ) {
            self.stuck.insert(subject.clone());
        }
        if *action == Action::MakeNamespace {
            self.block(place, done);
        }
        done.failures.entry(subject.clone()).or_default().push(error);
    }

    /// Nothing can be made at a place that could not be made itself.
    fn block(&mut self, place: &Place, done: &mut Done) {
        for (name, port) in &self.fabric.ports {
            if Place::of(&port.spec) == *place || (*place == Place::Ports && is_veth(&port.spec)) {
                let subject = Subject::Port(name.clone());
                done.failures.entry(subject.clone()).or_default().push(StepError::NoGround);
                self.stuck.insert(subject);
            }
        }
    }

    fn remove_namespace(&mut self, place: &Place) -> Result<(), StepError> {
        self.open = None;
        if let Some(path) = self.kernel.path(self.fabric, place) {
            weft_host::netns::remove(&path)?;
        }
        Ok(())
    }

    /// The session to work in at `place`.
    fn session(&mut self, place: &Place) -> Result<&mut Session, StepError> {
        if *place == Place::Own || *place == Place::Ports {
            return self.kernel.kept(place).ok_or(StepError::NoGround);
        }
        if self.open.as_ref().is_none_or(|(open, _)| open != place) {
            self.open = None;
            self.open = Some((place.clone(), self.kernel.enter(self.fabric, place)?));
        }
        self.open.as_mut().map(|(_, session)| session).ok_or(StepError::NoGround)
    }

    fn port(&self, name: &Name) -> Option<&Port> {
        self.fabric.ports.get(name).map(|port| &port.spec)
    }
}
