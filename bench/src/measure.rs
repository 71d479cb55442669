//! Runs one scenario: Weft and its peer in turn, so that a slow minute of the machine meets both.

use std::fs;
use std::io::Write;

use anyhow::{Context, Result};

use crate::generator::{self, Sample};
use crate::report::{CpuCost, Outcome};
use crate::scenario::Scenario;
use crate::site::Site;
use crate::statistics::{busy_seconds, median};

/// What one side gave, run by run.
#[derive(Debug, Default)]
struct Series {
    figures: Vec<f64>,
    /// CPU seconds of the whole machine for each GB received.
    cpu: Vec<f64>,
}

/// Runs both sides `runs` times, alternating.
pub fn alternate(scenario: &Scenario, runs: u32) -> Result<Outcome> {
    let context = || format!("scenario {}", scenario.id);
    let sites = [Site::weft(scenario).with_context(context)?, Site::peer(scenario).with_context(context)?];
    let mut series = [Series::default(), Series::default()];
    for run in 1..=runs {
        for (side, site) in sites.iter().enumerate() {
            series[side].measure(scenario, site).with_context(context)?;
        }
        progress(scenario, run, &series)?;
    }
    let [weft, peer] = series;
    outcome(scenario, weft, peer)
}

impl Series {
    fn measure(&mut self, scenario: &Scenario, site: &Site) -> Result<()> {
        let before = busy()?;
        let Sample { figure, octets } = generator::run(scenario.generator, site)?;
        self.figures.push(figure);
        if octets > 0.0 {
            self.cpu.push((busy()? - before) / (octets / 1e9));
        }
        Ok(())
    }
}

fn busy() -> Result<f64> {
    busy_seconds(&fs::read_to_string("/proc/stat")?).context("/proc/stat has no line of all CPUs")
}

fn progress(scenario: &Scenario, run: u32, [weft, peer]: &[Series; 2]) -> Result<()> {
    let last = |series: &Series| series.figures.last().copied().unwrap_or_default();
    let (id, unit) = (scenario.id, scenario.generator.unit());
    writeln!(
        std::io::stdout(),
        "{id:14} run {run}: weft {:.2} {unit}, peer {:.2} {unit}",
        last(weft),
        last(peer)
    )?;
    Ok(())
}

fn outcome(scenario: &Scenario, weft: Series, peer: Series) -> Result<Outcome> {
    let middle = |figures: &[f64]| median(figures).context("no run was made");
    let cpu =
        median(&weft.cpu).zip(median(&peer.cpu)).map(|(weft, peer)| CpuCost { unit: "s/GB", weft, peer });
    Ok(Outcome {
        id: scenario.id,
        unit: scenario.generator.unit(),
        better: scenario.generator.better(),
        ratio: middle(&weft.figures)? / middle(&peer.figures)?,
        weft: weft.figures,
        peer: scenario.peer.name(),
        peer_runs: peer.figures,
        cpu,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::SCENARIOS;

    #[test]
    fn the_ratio_is_that_of_the_medians() {
        let weft = Series { figures: vec![10.0, 30.0, 20.0], cpu: vec![] };
        let peer = Series { figures: vec![50.0, 40.0, 1.0], cpu: vec![] };
        let outcome = outcome(&SCENARIOS[0], weft, peer).unwrap();
        assert_eq!(outcome.ratio, 0.5);
        assert!(outcome.cpu.is_none());
    }
}
