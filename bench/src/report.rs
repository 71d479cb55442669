//! What was measured: as a file for programs and as a table for people.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::scenario::Better;
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
    /// Whom Weft was compared with.
    pub peer: &'static str,
    /// The peer's figures, run by run.
    pub peer_runs: Vec<f64>,
    /// Median of Weft over median of the peer.
    pub ratio: f64,
    /// What the machine spent, where payload was counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuCost>,
}

/// CPU time of the whole machine, medians of the runs.
#[derive(Debug, Serialize)]
pub struct CpuCost {
    /// CPU seconds for each GB that was received.
    pub unit: &'static str,
    /// While Weft moved it.
    pub weft: f64,
    /// While the peer moved it.
    pub peer: f64,
}

impl Report {
    /// Nothing yet.
    pub fn new() -> Report {
        Report { scenarios: Vec::new() }
    }

    /// Writes the report as JSON; folders are made.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).context("the report as JSON")?;
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        fs::write(path, text + "\n").with_context(|| path.display().to_string())
    }

    /// The medians, their ratios and the spread of Weft's runs, as aligned columns.
    pub fn table(&self) -> String {
        let heading =
            ["SCENARIO", "UNIT", "BETTER", "WEFT", "SPREAD", "PEER", "RATIO", "CPU s/GB", "PEER'S NAME"];
        let mut rows = vec![heading.map(str::to_owned)];
        rows.extend(self.scenarios.iter().map(row));
        let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..heading.len()).map(width).collect();
        let line = |row: &[String; 9]| {
            let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, w)| format!("{cell:w$}")).collect();
            cells.join("  ").trim_end().to_owned() + "\n"
        };
        rows.iter().map(line).collect()
    }
}

fn row(outcome: &Outcome) -> [String; 9] {
    let figure = |value: Option<f64>| value.map_or("-".into(), |v| format!("{v:.2}"));
    let lowest = outcome.weft.iter().copied().reduce(f64::min);
    let highest = outcome.weft.iter().copied().reduce(f64::max);
    [
        outcome.id.into(),
        outcome.unit.into(),
        match outcome.better {
            Better::Higher => "higher".into(),
            Better::Lower => "lower".into(),
        },
        figure(median(&outcome.weft)),
        format!("{}..{}", figure(lowest), figure(highest)),
        figure(median(&outcome.peer_runs)),
        figure(Some(outcome.ratio)),
        outcome.cpu.as_ref().map_or("-".into(), |cpu| format!("{:.2}/{:.2}", cpu.weft, cpu.peer)),
        outcome.peer.into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn report() -> Report {
        let outcome = Outcome {
            id: "l2-rr",
            unit: "us",
            better: Better::Lower,
            weft: vec![30.0, 40.0],
            peer: "kernel bridge + veth",
            peer_runs: vec![20.0, 20.0],
            ratio: 1.75,
            cpu: None,
        };
        Report { scenarios: vec![outcome] }
    }

    #[test]
    fn the_file_has_the_agreed_shape() {
        let expected = json!({"scenarios": [{
            "id": "l2-rr", "unit": "us", "better": "lower", "weft": [30.0, 40.0],
            "peer": "kernel bridge + veth", "peer_runs": [20.0, 20.0], "ratio": 1.75,
        }]});
        assert_eq!(serde_json::to_value(report()).unwrap(), expected);
    }

    #[test]
    fn the_table_shows_medians_and_ratio() {
        let table = report().table();
        let row = table.lines().nth(1).unwrap();
        assert_eq!(row.split_whitespace().nth(3), Some("35.00"));
        assert!(row.contains("30.00..40.00") && row.contains("1.75"), "{table}");
    }
}
