//! Runs the chosen scenarios one after the other. The report is written after each, and one that fails costs the
//! others nothing.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::measure;
use crate::namespaces::alone;
use crate::report::Report;
use crate::scenario::{Scenario, Work};
use crate::site::{self, Site};

/// What to run, and how.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    /// One after the other.
    pub scenarios: &'a [&'static Scenario],
    /// Runs of each side; `None`: as usual, [`RUNS`] or, where it is to be quick, one.
    pub runs: Option<u32>,
    /// Whether each scenario is run in its quick form, which shows that it works.
    pub quick: bool,
    /// Whether a scenario whose peer is not on this machine is left out; otherwise it fails.
    pub lenient: bool,
    /// Where the report is written.
    pub report: &'a Path,
}

/// Runs of each side that a measurement has.
pub const RUNS: u32 = 5;

/// Runs all, and prints what came of it.
///
/// # Errors
/// Scenarios failed, which the report says too, or it cannot be written.
pub fn run(plan: &Plan<'_>) -> Result<()> {
    let (start, total) = (Instant::now(), plan.scenarios.len());
    let runs = plan.runs.unwrap_or(if plan.quick { 1 } else { RUNS });
    let mut report = Report::new(plan.quick, runs, site::peers().as_deref());
    let mut out = std::io::stdout();
    if let Some(warning) = report.machine.warning() {
        writeln!(out, "{warning}")?;
    }
    for (number, scenario) in plan.scenarios.iter().enumerate() {
        let (place, elapsed) = (number + 1, minutes(start.elapsed()));
        writeln!(out, "[{place:2}/{total}] {:22} {}, {elapsed} so far", scenario.id, scenario.about)?;
        if plan.lenient && lacks_peer(scenario) {
            writeln!(
                out,
                "        left out: its peer is not on this machine, see `scripts/bench-peers all`"
            )?;
            report.left_out.push(scenario.id);
            continue;
        }
        let scenario = if plan.quick { scenario.quick() } else { **scenario };
        let outcome = alone(|| measure::run(&scenario, runs, plan.report));
        if let Err(error) = &outcome {
            writeln!(out, "        failed: {error:#}")?;
        }
        report.add(scenario.id, outcome);
        report.write(plan.report)?;
    }
    report.finish();
    report.write(plan.report)?;
    write!(out, "\n{}", report.tables())?;
    let (page, elapsed) = (plan.report.with_extension("md"), minutes(start.elapsed()));
    writeln!(
        out,
        "\n{total} scenarios in {elapsed}; report: {} and {}",
        page.display(),
        plan.report.display()
    )?;
    match failed(&report) {
        None => Ok(()),
        Some(ids) => bail!("{} of {total} scenarios failed: {ids}", report.failures.len()),
    }
}

fn failed(report: &Report) -> Option<String> {
    let ids: Vec<_> = report.failures.iter().map(|failure| failure.id).collect();
    (!ids.is_empty()).then(|| ids.join(", "))
}

fn lacks_peer(scenario: &Scenario) -> bool {
    matches!(&scenario.work, Work::Beside(comparison) if !Site::has_peer(comparison))
}

fn minutes(time: Duration) -> String {
    format!("{}:{:02}", time.as_secs() / 60, time.as_secs() % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_have_two_digits_of_seconds() {
        assert_eq!(minutes(Duration::from_secs(125)), "2:05");
        assert_eq!(minutes(Duration::from_millis(59_999)), "0:59");
    }
}
