//! Weft side by side with its peers, and its stack alone: runs scenarios and writes one report.
//!
//! `weft-bench` measures; `weft-bench instructions` counts what the processor executes for a packet. `weft-bench send`
//! and `weft-bench count` are the two ends of its own datagram generator, which it starts in the containers, and
//! `weft-bench execute` is what it runs under valgrind. `weft-bench guard` compares such counts with those of the
//! repository.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

use std::io::Write;
use std::net::{SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};

use crate::compare::Plan;
use crate::scenario::{SCENARIOS, Scenario, Work};

mod aim;
mod cluster;
mod cni;
mod compare;
mod daemon;
mod datagrams;
mod generator;
mod guard;
mod machine;
mod measure;
mod microbenchmark;
mod namespaces;
mod report;
mod scenario;
mod site;
mod stack;
mod statistics;
mod version;

/// Measures Weft beside its peers, alternating, and writes a report.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Only this scenario; may be given several times.
    #[arg(long, value_name = "ID", global = true)]
    scenario: Vec<String>,
    /// Runs of each side: 5, or 1 with --quick, unless told otherwise.
    #[arg(long, global = true, value_parser = clap::value_parser!(u32).range(1..))]
    runs: Option<u32>,
    /// Short runs of few containers, to see that all works: no measurement.
    #[arg(long)]
    quick: bool,
    /// Where the report is written: target/bench/report.json, or quick.json there.
    #[arg(long)]
    report: Option<PathBuf>,
    /// List the scenarios and do nothing else.
    #[arg(long)]
    list: bool,
}

impl Arguments {
    /// Where the report is written: what shows no more than that all works takes no measurement's place.
    fn report(&self) -> PathBuf {
        let name = if self.quick { "target/bench/quick.json" } else { "target/bench/report.json" };
        self.report.clone().unwrap_or_else(|| name.into())
    }
}

#[derive(Subcommand)]
enum Command {
    /// Send datagrams as fast as possible and print how many a second.
    #[command(hide = true)]
    Send { sink: SocketAddr, octets: usize, seconds: u64 },
    /// Count the datagrams that come, and print what came as JSON.
    #[command(hide = true)]
    Count { address: SocketAddrV4, seconds: u64 },
    /// Attach or detach containers by a CNI plugin, and print how many milliseconds each took.
    #[command(hide = true)]
    Churn { plugin: PathBuf, verb: String, first: usize, count: usize, at_once: usize },
    /// Measure the peers alone, without Weft.
    Peers,
    /// Count the instructions that the stack executes for a packet; needs valgrind.
    Instructions,
    /// Compare them with the figures of the repository; needs valgrind.
    Guard {
        /// The figures.
        #[arg(long, default_value = "bench/instructions.json")]
        figures: PathBuf,
        /// Write them anew.
        #[arg(long)]
        bless: bool,
    },
    /// Measure an agent in clusters of as many nodes; without any: of 500, 1000 and 5000.
    Cluster { nodes: Vec<u32> },
    /// Do this many rounds of a microbenchmark's work.
    #[command(hide = true)]
    Execute { id: String, rounds: usize },
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut out = std::io::stdout();
    match arguments.command {
        Some(Command::Send { sink, octets, seconds }) => {
            let rate = datagrams::send(sink, octets, Duration::from_secs(seconds))?;
            Ok(writeln!(out, "{rate:.1}")?)
        }
        Some(Command::Count { address, seconds }) => {
            let sink = datagrams::Sink::bind(address)?;
            writeln!(out, "bound")?;
            let arrival = sink.count(Duration::from_secs(seconds))?;
            writeln!(out, "{}", serde_json::to_string(&arrival)?)?;
            // The sender goes on for a while, and would hear that nobody is there. Whoever started this ends it.
            loop {
                std::thread::park();
            }
        }
        Some(Command::Churn { plugin, verb, first, count, at_once }) => {
            cni::churn(&plugin, &verb, first, count, at_once)
        }
        Some(Command::Peers) => peers(&arguments),
        Some(Command::Instructions) => instructions(&arguments),
        Some(Command::Cluster { nodes }) => cluster::run(&nodes),
        Some(Command::Guard { ref figures, bless }) => {
            guard::run(figures, bless, &measure::profiles(&arguments.report()))
        }
        Some(Command::Execute { id, rounds }) => microbenchmark::execute(&id, rounds),
        None if arguments.list => {
            SCENARIOS.iter().try_for_each(|s| writeln!(out, "{:22} {}", s.id, s.about)).map_err(Into::into)
        }
        None => compare(&arguments),
    }
}

fn compare(arguments: &Arguments) -> Result<()> {
    compare::run(&Plan {
        scenarios: &chosen(&arguments.scenario)?,
        runs: arguments.runs,
        quick: arguments.quick,
        lenient: arguments.scenario.is_empty(),
        report: &arguments.report(),
    })
}

/// Prints one line for each scenario with a peer.
fn peers(arguments: &Arguments) -> Result<()> {
    let mut out = std::io::stdout();
    for scenario in chosen(&arguments.scenario)? {
        if let Work::Beside(comparison) = &scenario.work {
            let figures =
                measure::peer(comparison, arguments.runs.unwrap_or(compare::RUNS)).context(scenario.id)?;
            let middle = statistics::median(&figures).unwrap_or_default();
            let (unit, peer) = (comparison.generator.unit(), comparison.peer.name());
            writeln!(out, "{:22} {middle:.2} {unit} ({peer}): {figures:.2?}", scenario.id)?;
        }
    }
    Ok(())
}

/// Prints one line for each microbenchmark.
fn instructions(arguments: &Arguments) -> Result<()> {
    let (mut out, wanted) = (std::io::stdout(), &arguments.scenario);
    let known = || microbenchmark::all().map(|(id, _)| id);
    if let Some(unknown) = wanted.iter().find(|id| !known().any(|known| known == **id)) {
        let known: Vec<_> = known().collect();
        bail!("{unknown} is not of the stack alone, one of {} expected", known.join(", "));
    }
    for id in known().filter(|id| wanted.is_empty() || wanted.iter().any(|wanted| wanted == id)) {
        let count = stack::count_instructions(id, &measure::profiles(&arguments.report()))?;
        writeln!(out, "{id:22} {count:8.1} instructions/packet")?;
    }
    Ok(())
}

fn chosen(ids: &[String]) -> Result<Vec<&'static Scenario>> {
    if ids.is_empty() {
        return Ok(SCENARIOS.iter().collect());
    }
    let known: Vec<_> = SCENARIOS.iter().map(|s| s.id).collect();
    ids.iter()
        .map(|id| match SCENARIOS.iter().find(|s| s.id == id) {
            Some(scenario) => Ok(scenario),
            None => bail!("there is no scenario {id}, one of {} expected", known.join(", ")),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_scenario_is_refused_with_the_known_ones() {
        let error = chosen(&["l9-tcp".into()]).err().unwrap().to_string();
        assert!(error.contains("l9-tcp") && error.contains("l2-tcp1"), "{error}");
    }

    #[test]
    fn scenario_ids_are_unique() {
        let mut ids: Vec<_> = SCENARIOS.iter().map(|s| s.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), SCENARIOS.len());
    }
}
