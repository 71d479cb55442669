//! What was measured: as a file for programs and as tables for people.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::scenario::{Better, Reference};
use crate::statistics::median;

/// All scenarios of one invocation.
#[derive(Debug, Serialize)]
pub struct Report {
    /// In the order in which they ran.
    pub scenarios: Vec<Outcome>,
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
    /// Median of Weft over median of the peer.
    pub ratio: f64,
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

impl Report {
    /// Nothing yet.
    pub fn new() -> Report {
        Report { scenarios: Vec::new() }
    }

    /// Writes the report as JSON, and its tables beside it as `.md`; folders are made.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).context("the report as JSON")?;
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        fs::write(path, text + "\n").with_context(|| path.display().to_string())?;
        let tables = path.with_extension("md");
        fs::write(&tables, self.tables()).with_context(|| tables.display().to_string())
    }

    /// The medians and the spread of Weft's runs: a Markdown table for what has a peer and one for the stack alone.
    pub fn tables(&self) -> String {
        let beside: Vec<_> = self.scenarios.iter().filter_map(beside_peer).collect();
        let alone: Vec<_> = self.scenarios.iter().flat_map(alone).collect();
        let mut tables = Vec::new();
        if !beside.is_empty() {
            let heading = [
                "SCENARIO",
                "UNIT",
                "BETTER",
                "WEFT",
                "SPREAD",
                "PEER",
                "RATIO",
                "CPU",
                "GROWTH",
                "ALSO",
                "PEER'S NAME",
            ];
            tables.push(table(heading, &beside));
        }
        if !alone.is_empty() {
            let heading = ["SCENARIO", "LOAD", "UNIT", "WEFT", "SPREAD", "NS", "INSTRUCTIONS", "REFERENCE"];
            tables.push(table(heading, &alone));
        }
        tables.join("\n")
    }
}

fn table<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> String {
    let heading = heading.map(str::to_owned);
    let width = |column: usize| {
        rows.iter().chain([&heading]).map(|row| row[column].chars().count()).max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, w)| format!("{cell:w$}")).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let rule = line(&widths.map(|width| "-".repeat(width)));
    [line(&heading), rule].into_iter().chain(rows.iter().map(line)).collect()
}

fn beside_peer(outcome: &Outcome) -> Option<[String; 11]> {
    let Measured::Beside(PeerFigures { peer, peer_runs, ratio, cpu, growth, details }) = &outcome.measured
    else {
        return None;
    };
    Some([
        outcome.id.into(),
        outcome.unit.into(),
        match outcome.better {
            Better::Higher => "higher".into(),
            Better::Lower => "lower".into(),
        },
        figure(median(&outcome.weft)),
        spread(&outcome.weft),
        figure(median(peer_runs)),
        figure(Some(*ratio)),
        cpu.as_ref().map_or("-".into(), |cpu| format!("{:.2}/{:.2} {}", cpu.weft, cpu.peer, cpu.unit)),
        growth.as_ref().map_or("-".into(), |it| format!("{:.2}/{:.2}", it.weft.ratio, it.peer.ratio)),
        also(details),
        (*peer).into(),
    ])
}

fn also(details: &[Beside]) -> String {
    let word = |it: &Beside| format!("{} {:.1}/{:.1} {}", it.name, it.weft, it.peer, it.unit);
    if details.is_empty() { "-".into() } else { details.iter().map(word).collect::<Vec<_>>().join(", ") }
}

fn alone(outcome: &Outcome) -> Vec<[String; 8]> {
    let Measured::Alone { load, nanoseconds, instructions, reference, beside } = &outcome.measured else {
        return Vec::new();
    };
    let row = |load: &str, weft: &[f64], nanoseconds: f64, rest: [String; 2]| {
        let [instructions, reference] = rest;
        [
            outcome.id.into(),
            load.into(),
            outcome.unit.into(),
            figure(median(weft)),
            spread(weft),
            figure(Some(nanoseconds)),
            instructions,
            reference,
        ]
    };
    let told = reference.map_or("-".into(), |other| format!("{} ({})", other.figure, other.name));
    let first = row(load, &outcome.weft, *nanoseconds, [figure(*instructions), told]);
    let others = beside.iter().map(|other| {
        let nothing = || String::from("-");
        row(other.load, &other.weft, other.nanoseconds, [nothing(), nothing()])
    });
    std::iter::once(first).chain(others).collect()
}

fn figure(value: Option<f64>) -> String {
    value.map_or("-".into(), |v| format!("{v:.2}"))
}

fn spread(runs: &[f64]) -> String {
    let lowest = runs.iter().copied().reduce(f64::min);
    let highest = runs.iter().copied().reduce(f64::max);
    format!("{}..{}", figure(lowest), figure(highest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn report(measured: Measured) -> Report {
        let outcome =
            Outcome { id: "l2-rr", unit: "us", better: Better::Lower, weft: vec![30.0, 40.0], measured };
        Report { scenarios: vec![outcome] }
    }

    fn beside() -> Measured {
        let peer = "kernel bridge + veth";
        Measured::Beside(PeerFigures {
            peer,
            peer_runs: vec![20.0, 20.0],
            ratio: 1.75,
            cpu: None,
            growth: None,
            details: vec![Beside { name: "p99", unit: "us", weft: 90.0, peer: 50.5 }],
        })
    }

    fn alone() -> Measured {
        Measured::Alone {
            load: "1,000 flows",
            nanoseconds: 14.0,
            instructions: Some(350.5),
            reference: Some(Reference { name: "VPP", figure: 134.0 }),
            beside: vec![Figures { load: "1 flow", weft: vec![29.0], nanoseconds: 12.0 }],
        }
    }

    #[test]
    fn the_file_has_the_agreed_shape() {
        let expected = json!({"scenarios": [{
            "id": "l2-rr", "unit": "us", "better": "lower", "weft": [30.0, 40.0],
            "peer": "kernel bridge + veth", "peer_runs": [20.0, 20.0], "ratio": 1.75,
            "details": [{"name": "p99", "unit": "us", "weft": 90.0, "peer": 50.5}],
        }]});
        assert_eq!(serde_json::to_value(report(beside())).unwrap(), expected);
    }

    #[test]
    fn the_stack_alone_has_a_reference_and_no_peer() {
        let expected = json!({"scenarios": [{
            "id": "l2-rr", "unit": "us", "better": "lower", "weft": [30.0, 40.0], "load": "1,000 flows",
            "nanoseconds": 14.0, "instructions": 350.5, "reference": {"name": "VPP", "figure": 134.0},
            "beside": [{"load": "1 flow", "weft": [29.0], "nanoseconds": 12.0}],
        }]});
        assert_eq!(serde_json::to_value(report(alone())).unwrap(), expected);
    }

    #[test]
    fn the_tables_show_medians_and_ratio() {
        let table = report(beside()).tables();
        let row = table.lines().nth(2).unwrap();
        assert_eq!(row.split('|').nth(4).map(str::trim), Some("35.00"));
        assert!(row.contains("30.00..40.00") && row.contains("1.75"), "{table}");
        assert!(row.contains("p99 90.0/50.5 us"), "{table}");
        let table = report(alone()).tables();
        assert_eq!(table.lines().count(), 4, "{table}");
        assert!(
            table.contains("350.50") && table.contains("134 (VPP)") && table.contains("1 flow"),
            "{table}"
        );
    }
}
