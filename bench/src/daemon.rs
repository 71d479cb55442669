//! What the daemon costs by itself: memory when idle and for each port, the time that a thousand ports take to come,
//! and the time that they take to come back when it was killed.
//!
//! Each run has a node of its own. The containers' namespaces are the same ones for all runs of a scenario.

use std::time::Duration;

use anyhow::{Context, Result};
use weft_testkit::PortKind;

use crate::measure::progress;
use crate::report::{Measured, Outcome, PeerFigures};
use crate::scenario::{Better, Scenario};
use containers::{Containers, Namespaces};

mod bridge;
mod containers;
mod memory;
mod node;
mod switch;

/// Longest time that anything here may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// Ports of the scenarios that have any.
const PORTS: u32 = 1000;
/// Ports of a run that is to be quick.
const FEW: u32 = 50;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Memory of a daemon that has nothing to do, in MiB; beside it that of Open vSwitch.
    Idle,
    /// Memory that each further port takes, in KiB; beside it that of a veth port of Open vSwitch.
    EachPort(PortKind),
    /// Seconds until ports in namespaces that exist are ready; beside it the same by `ip`, on a bridge.
    Apply(PortKind),
    /// Seconds from SIGKILL until all ports are ready again and a ping crosses; beside it Open vSwitch.
    Restart(PortKind),
}

/// A task, and with how many ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trial {
    task: Task,
    ports: u32,
}

impl Trial {
    /// With a thousand ports, where the task has any.
    pub const fn new(task: Task) -> Trial {
        Trial { task, ports: PORTS }
    }

    /// The same with few ports.
    pub fn quick(self) -> Trial {
        Trial { ports: FEW, ..self }
    }
}

impl Task {
    /// The unit of its figure, of which less is better.
    fn unit(self) -> &'static str {
        match self {
            Task::Idle => "MiB",
            Task::EachPort(_) => "KiB",
            Task::Apply(_) | Task::Restart(_) => "s",
        }
    }

    /// Whom Weft is compared with.
    fn peer(self) -> &'static str {
        match self {
            Task::Apply(_) => "ip -batch, kernel bridge + veth",
            Task::Idle | Task::EachPort(_) | Task::Restart(_) => "Open vSwitch, netdev",
        }
    }

    fn containers(self, count: u32) -> Containers {
        match self {
            Task::Idle => Containers { count: 0, kind: PortKind::Tap },
            Task::EachPort(kind) | Task::Apply(kind) | Task::Restart(kind) => Containers { count, kind },
        }
    }

    /// One run of Weft.
    fn weft(self, namespaces: &Namespaces) -> Result<f64> {
        let (mut node, containers) = (node::Node::start(namespaces)?, namespaces.containers());
        match self {
            Task::Idle => Ok(node.resident()? / 1024.0),
            Task::EachPort(_) => {
                let before = node.resident()?;
                node.apply()?;
                Ok((node.resident()? - before) / f64::from(containers.count))
            }
            Task::Apply(_) => Ok(node.apply()?.as_secs_f64()),
            Task::Restart(_) => {
                node.apply()?;
                containers.introduce(node.lab())?;
                Ok(node.restart()?.as_secs_f64())
            }
        }
    }

    /// One run of its peer.
    fn beside(self, namespaces: &Namespaces) -> Result<f64> {
        if let Task::Apply(_) = self {
            return Ok(bridge::attach(namespaces)?.as_secs_f64());
        }
        let (mut switch, containers) = (switch::Switch::start(namespaces)?, namespaces.containers());
        match self {
            Task::EachPort(_) => {
                let before = switch.resident()?;
                switch.attach()?;
                Ok((switch.resident()? - before) / f64::from(containers.count))
            }
            Task::Restart(_) => {
                switch.attach()?;
                containers.introduce(switch.lab())?;
                Ok(switch.restart()?.as_secs_f64())
            }
            Task::Idle | Task::Apply(_) => Ok(switch.resident()? / 1024.0),
        }
    }
}

/// Runs both sides `runs` times, alternating.
pub fn run(scenario: &Scenario, trial: Trial, runs: u32) -> Result<Outcome> {
    let Trial { task, ports } = trial;
    let namespaces = Namespaces::make(task.containers(ports))?;
    let (mut weft, mut peer_runs) = (Vec::new(), Vec::new());
    for run in 1..=runs {
        let ours = task.weft(&namespaces).context("Weft")?;
        let theirs = task.beside(&namespaces).context(task.peer())?;
        progress(scenario.id, run, task.unit(), [ours, theirs])?;
        weft.push(ours);
        peer_runs.push(theirs);
    }
    let beside = PeerFigures::new(task.peer(), &weft, peer_runs).context("no run was made")?;
    Ok(Outcome {
        id: scenario.id,
        unit: task.unit(),
        better: Better::Lower,
        weft,
        measured: Measured::Beside(beside),
    })
}
