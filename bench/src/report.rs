//! What was measured: as a file for programs, and as tables and a chart for people.

mod chart;
pub mod machine;
mod page;
mod table;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::aim::{self, Judgement};
use crate::report::machine::{Burden, Machine};
use crate::scenario::{Better, Reference};
use crate::statistics::median;

/// All scenarios of one invocation.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Whether short runs were to show that all works, and not how fast it is.
    pub quick: bool,
    /// Runs of each side.
    pub runs: u32,
    /// Where it was measured.
    pub machine: Machine,
    /// In the order in which they ran.
    pub scenarios: Vec<Entry>,
    /// Those that gave no figures.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<Failure>,
    /// Those whose peer is not on the machine.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<&'static str>,
}

/// A scenario's figures, and what they are worth.
#[derive(Debug, Serialize)]
pub struct Entry {
    /// The figures.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// Where the scenario has an aim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aim: Option<Judgement>,
}

/// A scenario that gave no figures.
#[derive(Debug, Serialize)]
pub struct Failure {
    /// The scenario.
    pub id: &'static str,
    /// Why.
    pub error: String,
}

/// One scenario's figures.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// The scenario.
    pub id: &'static str,
    /// Of all figures.
    pub unit: &'static str,
    /// Which way is better.
    pub better: Better,
    /// Weft's figures, run by run.
    pub weft: Vec<f64>,
    /// What else was measured.
    #[serde(flatten)]
    pub measured: Measured,
}

/// What stands beside Weft's figures.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Measured {
    /// Those of a peer.
    Beside(PeerFigures),
    /// More about the stack alone.
    Alone {
        /// What the stack had to do.
        load: &'static str,
        /// Median of the runs, for each packet.
        nanoseconds: f64,
        /// Executed for each packet, as callgrind counts; where valgrind is installed.
        #[serde(skip_serializing_if = "Option::is_none")]
        instructions: Option<f64>,
        /// What somebody else has published.
        #[serde(skip_serializing_if = "Option::is_none")]
        reference: Option<Reference>,
        /// Other loads.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        beside: Vec<Figures>,
    },
}

/// What the peer gave.
#[derive(Debug, Serialize)]
pub struct PeerFigures {
    /// Whom Weft was compared with.
    pub peer: &'static str,
    /// The peer's figures, run by run.
    pub peer_runs: Vec<f64>,
    /// Weft over the peer: the median of the pairs' ratios.
    pub ratio: f64,
    /// Of each run of Weft and the run of the peer right after it, which met the same machine.
    pub pairs: Vec<f64>,
    /// Median of Weft over median of the peer.
    pub ratio_of_medians: f64,
    /// What the machine spent, where payload was counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuCost>,
    /// What came of doing it again and again, where each time leaves something behind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub growth: Option<Growth>,
    /// What else was told of both.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<Beside>,
}

/// A further figure of both sides, medians of the runs.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Beside {
    /// What it is.
    pub name: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// With Weft.
    pub weft: f64,
    /// With the peer.
    pub peer: f64,
}

/// How a series goes on from its first fifty values to its last fifty.
#[derive(Debug, Serialize)]
pub struct Growth {
    /// With Weft.
    pub weft: Edges,
    /// With the peer.
    pub peer: Edges,
}

/// Both ends of a series, in the scenario's unit.
#[derive(Debug, Serialize)]
pub struct Edges {
    /// Median of the first values.
    pub first: f64,
    /// Median of the last values.
    pub last: f64,
    /// Last over first: 1 is no growth.
    pub ratio: f64,
}

/// CPU time of the whole machine, medians of the runs.
#[derive(Debug, Serialize)]
pub struct CpuCost {
    /// CPU seconds by what arrived: for each GB, million packets, or thousand round trips.
    pub unit: &'static str,
    /// While Weft moved it.
    pub weft: f64,
    /// While the peer moved it.
    pub peer: f64,
}

/// The stack under one load.
#[derive(Debug, Serialize)]
pub struct Figures {
    /// What the stack had to do.
    pub load: &'static str,
    /// Run by run, in the scenario's unit.
    pub weft: Vec<f64>,
    /// Median of the runs, for each packet.
    pub nanoseconds: f64,
}

impl PeerFigures {
    /// The peer's runs, each of which came right after one of Weft's. `None`: there was no run.
    pub fn new(peer: &'static str, weft: &[f64], peer_runs: Vec<f64>) -> Option<PeerFigures> {
        let pairs: Vec<f64> = weft.iter().zip(&peer_runs).map(|(weft, peer)| weft / peer).collect();
        Some(PeerFigures {
            peer,
            ratio: median(&pairs)?,
            ratio_of_medians: median(weft)? / median(&peer_runs)?,
            pairs,
            peer_runs,
            cpu: None,
            growth: None,
            details: Vec::new(),
        })
    }
}

impl Outcome {
    /// Weft over the peer, where there is one.
    fn ratio(&self) -> Option<f64> {
        match &self.measured {
            Measured::Beside(figures) => Some(figures.ratio),
            _ => None,
        }
    }
}

impl Report {
    /// Nothing yet. `peers` is the folder of `scripts/bench-peers`; the machine is watched for a second.
    pub fn new(quick: bool, runs: u32, peers: Option<&Path>) -> Report {
        Report {
            quick,
            runs,
            machine: Machine::look(peers),
            scenarios: Vec::new(),
            failures: Vec::new(),
            left_out: Vec::new(),
        }
    }

    /// Takes in what a scenario gave.
    pub fn add(&mut self, id: &'static str, outcome: Result<Outcome>) {
        match outcome {
            Ok(outcome) => self.scenarios.push(Entry::new(outcome, self.quick)),
            Err(error) => self.failures.push(Failure { id, error: format!("{error:#}") }),
        }
    }

    /// Watches the machine for a second, now that nothing is measured any more.
    pub fn finish(&mut self) {
        self.machine.after = Some(Burden::watch());
    }

    /// Writes the report as JSON, beside it as a page (`.md`), and the page's chart (`.svg`); folders are made.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).context("the report as JSON")?;
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        let chart = path.with_extension("svg");
        let drawn = chart::draw(self);
        let name = chart.file_name().map(|name| name.to_string_lossy().into_owned());
        let page = page::write(self, name.filter(|_| drawn.is_some()).as_deref());
        let put = |path: &Path, text: &str| fs::write(path, text).with_context(|| path.display().to_string());
        put(path, &(text + "\n"))?;
        put(&path.with_extension("md"), &page)?;
        match drawn {
            Some(drawn) => put(&chart, &drawn),
            None => {
                // One of an earlier report is no part of this one. Mostly there is none.
                let _ = fs::remove_file(&chart);
                Ok(())
            }
        }
    }

    /// The figures as Markdown tables.
    pub fn tables(&self) -> String {
        table::all(self)
    }
}

impl Entry {
    /// A quick look is judged by no aim.
    fn new(outcome: Outcome, quick: bool) -> Entry {
        let judge = |aim: aim::Aim| aim.judge(outcome.ratio(), median(&outcome.weft), outcome.unit);
        Entry { aim: aim::of(outcome.id).filter(|_| !quick).and_then(judge), outcome }
    }
}

#[cfg(test)]
mod tests;
