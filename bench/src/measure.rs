//! Runs one scenario. Weft and its peer take turns, so that a slow minute of the machine meets both; the stack
//! alone has nobody to take turns with.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cni::{self, Churn, Side};
use crate::daemon;
use crate::generator::{self, Sample};
use crate::report::{Beside, CpuCost, Edges, Figures, Growth, Measured, Outcome, PeerFigures};
use crate::scenario::{Better, Comparison, Reference, Scenario, Work};
use crate::site::Site;
use crate::stack::{self, Figure, Load, Run};
use crate::statistics::{edges, median};

/// What one side gave, run by run.
#[derive(Debug, Default)]
struct Series {
    figures: Vec<f64>,
    /// CPU seconds of the whole machine, in the generator's unit for them.
    cpu: Vec<f64>,
    /// The generator's further figures.
    details: Vec<Vec<f64>>,
}

/// Runs a scenario `runs` times. `report` is where the report goes; profiles lie beside it.
pub fn run(scenario: &Scenario, runs: u32, report: &Path) -> Result<Outcome> {
    let measured = match &scenario.work {
        Work::Beside(comparison) => alternate(scenario, comparison, runs),
        Work::Containers(churn) => containers(scenario, *churn, runs),
        Work::Daemon(task) => daemon::run(scenario, *task, runs),
        Work::Stack { loads, reference } => alone(scenario, loads, *reference, runs, &profiles(report)),
    };
    measured.with_context(|| format!("scenario {}", scenario.id))
}

/// Where the profiles of the stack go.
pub fn profiles(report: &Path) -> PathBuf {
    report.parent().unwrap_or(Path::new("")).join("profiles")
}

/// Runs the stack under each load.
fn alone(
    scenario: &Scenario,
    loads: &[Load],
    reference: Option<Reference>,
    runs: u32,
    profiles: &Path,
) -> Result<Outcome> {
    let mut figures = Vec::new();
    for load in loads {
        let Figure { unit, runs } = stack::measure(load, runs)?;
        let of = |part: fn(&Run) -> f64| runs.iter().map(part).collect::<Vec<_>>();
        let nanoseconds = median(&of(|run| run.nanoseconds)).context("no run was made")?;
        let (weft, middle) = (of(|run| run.ticks), median(&of(|run| run.ticks)).unwrap_or_default());
        let (id, name) = (scenario.id, load.name);
        writeln!(std::io::stdout(), "{id:22} {name}: {middle:.1} {unit}, {nanoseconds:.1} ns")?;
        figures.push((unit, Figures { load: load.name, weft, nanoseconds }));
    }
    let mut figures = figures.into_iter();
    let (unit, first) = figures.next().context("the scenario has no load")?;
    let instructions = match stack::can_count_instructions() {
        true => Some(stack::count_instructions(scenario.id, profiles)?),
        false => None,
    };
    Ok(Outcome {
        id: scenario.id,
        unit,
        better: Better::Lower,
        weft: first.weft,
        measured: Measured::Alone {
            load: first.load,
            nanoseconds: first.nanoseconds,
            instructions,
            reference,
            beside: figures.map(|(_, figures)| figures).collect(),
        },
    })
}

/// Runs the peer's side alone.
pub fn peer(comparison: &Comparison, runs: u32) -> Result<Vec<f64>> {
    let site = Site::peer(comparison)?;
    (0..runs).map(|_| Ok(generator::run(comparison.generator, &site)?.figure)).collect()
}

/// Runs both sides `runs` times, alternating.
fn alternate(scenario: &Scenario, comparison: &Comparison, runs: u32) -> Result<Outcome> {
    let sites = [Site::weft(comparison)?, Site::peer(comparison)?];
    let mut series = [Series::default(), Series::default()];
    for run in 1..=runs {
        for (side, site) in sites.iter().enumerate() {
            series[side].measure(comparison, site)?;
        }
        let [weft, peer] = &series;
        let figures = [last(&weft.figures), last(&peer.figures)];
        progress(scenario.id, run, comparison.generator.unit(), figures)?;
    }
    let [weft, peer] = series;
    outcome(scenario, comparison, weft, peer)
}

/// Has containers come or go on both sides `runs` times, alternating.
fn containers(scenario: &Scenario, churn: Churn, runs: u32) -> Result<Outcome> {
    let mut sides = [Side::weft(churn.port)?, Side::reference()?];
    let (mut figures, mut times) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for run in 1..=runs {
        for (side, place) in sides.iter_mut().enumerate() {
            let taken = place.run(churn)?;
            figures[side].push(median(&taken).context("no container was made")?);
            times[side].extend(taken);
        }
        progress(scenario.id, run, "ms", [last(&figures[0]), last(&figures[1])])?;
    }
    let [weft, peer_runs] = figures;
    let growth = churn.grows().then(|| growth(&times)).flatten();
    let figures = PeerFigures::new(cni::PEER, &weft, peer_runs).context("no run was made")?;
    let beside = PeerFigures { growth, ..figures };
    Ok(Outcome {
        id: scenario.id,
        unit: "ms",
        better: Better::Lower,
        weft,
        measured: Measured::Beside(beside),
    })
}

/// What the containers that are there already add to the time of the next one.
fn growth([weft, peer]: &[Vec<f64>; 2]) -> Option<Growth> {
    let of = |times: &[f64]| {
        let [first, last] = edges(times)?;
        Some(Edges { first, last, ratio: last / first })
    };
    Some(Growth { weft: of(weft)?, peer: of(peer)? })
}

impl Series {
    fn measure(&mut self, comparison: &Comparison, site: &Site) -> Result<()> {
        let Sample { figure, cpu, details } = generator::run(comparison.generator, site)?;
        self.figures.push(figure);
        self.cpu.push(cpu);
        self.details.push(details);
        Ok(())
    }

    /// The median of one of the generator's further figures.
    fn detail(&self, index: usize) -> Option<f64> {
        median(&self.details.iter().filter_map(|run| run.get(index).copied()).collect::<Vec<_>>())
    }
}

fn last(figures: &[f64]) -> f64 {
    figures.last().copied().unwrap_or_default()
}

/// Says how a run of both sides went.
pub fn progress(id: &str, run: u32, unit: &str, [weft, peer]: [f64; 2]) -> Result<()> {
    writeln!(std::io::stdout(), "{id:22} run {run}: weft {weft:.2} {unit}, peer {peer:.2} {unit}")?;
    Ok(())
}

fn outcome(scenario: &Scenario, comparison: &Comparison, weft: Series, peer: Series) -> Result<Outcome> {
    let generator = comparison.generator;
    let unit = generator.cpu_unit();
    let cpu = median(&weft.cpu).zip(median(&peer.cpu)).map(|(weft, peer)| CpuCost { unit, weft, peer });
    let details = generator.details().iter().enumerate().filter_map(|(index, detail)| {
        let (weft, peer) = weft.detail(index).zip(peer.detail(index))?;
        Some(Beside { name: detail.name, unit: detail.unit, weft, peer })
    });
    let details = details.collect();
    let figures = PeerFigures::new(comparison.peer.name(), &weft.figures, peer.figures);
    let figures = figures.context("no run was made")?;
    Ok(Outcome {
        id: scenario.id,
        unit: generator.unit(),
        better: generator.better(),
        measured: Measured::Beside(PeerFigures { cpu, details, ..figures }),
        weft: weft.figures,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::SCENARIOS;

    #[test]
    fn the_ratio_is_the_median_of_the_pairs_and_details_are_medians() {
        let weft =
            Series { figures: vec![10.0, 30.0, 20.0], details: vec![vec![7.0], vec![9.0]], cpu: vec![] };
        let peer = Series { figures: vec![50.0, 40.0, 16.0], details: vec![vec![4.0]], cpu: vec![] };
        let Work::Beside(comparison) = &SCENARIOS[0].work else { panic!("the first scenario has a peer") };
        let outcome = outcome(&SCENARIOS[0], comparison, weft, peer).unwrap();
        let Measured::Beside(figures) = outcome.measured else { panic!("compared with a peer") };
        assert_eq!(figures.pairs, [0.2, 0.75, 1.25]);
        assert_eq!((figures.ratio, figures.ratio_of_medians), (0.75, 0.5));
        assert!(figures.cpu.is_none());
        let [Beside { name: "context switches", unit: "/GB", weft: 8.0, peer: 4.0 }] = figures.details[..]
        else {
            panic!("{:?}", figures.details)
        };
    }
}
