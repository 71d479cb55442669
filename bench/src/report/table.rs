//! The figures as Markdown tables: one for what has a peer, and one for the stack alone.

use super::{Beside, Entry, Measured, PeerFigures, Report};
use crate::scenario::Better;
use crate::statistics::{Spread, median};

/// What has a peer.
const BESIDE: [&str; 13] = [
    "SCENARIO",
    "UNIT",
    "BETTER",
    "WEFT",
    "SPREAD",
    "PEER",
    "PEER'S SPREAD",
    "RATIO",
    "PAIRS",
    "AIM",
    "CPU",
    "ALSO",
    "PEER'S NAME",
];
/// What is left behind by doing it again and again.
const GROWTH: [&str; 7] =
    ["SCENARIO", "UNIT", "WEFT FIRST", "WEFT LAST", "PEER FIRST", "PEER LAST", "GROWTH"];
const ALONE: [&str; 9] =
    ["SCENARIO", "LOAD", "UNIT", "WEFT", "SPREAD", "NS", "INSTRUCTIONS", "AIM", "REFERENCE"];

/// The tables that have rows.
pub fn all(report: &Report) -> String {
    let entries = || report.scenarios.iter();
    let beside: Vec<_> = entries().filter_map(beside_peer).collect();
    let growth: Vec<_> = entries().filter_map(growth).collect();
    let alone: Vec<_> = entries().flat_map(alone).collect();
    let tables = [table(BESIDE, &beside), table(GROWTH, &growth), table(ALONE, &alone)];
    tables.into_iter().flatten().collect::<Vec<_>>().join("\n")
}

/// `None`: there is no row.
fn table<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> Option<String> {
    if rows.is_empty() {
        return None;
    }
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
    Some([line(&heading), rule].into_iter().chain(rows.iter().map(line)).collect())
}

fn beside_peer(entry: &Entry) -> Option<[String; 13]> {
    let outcome = &entry.outcome;
    let Measured::Beside(PeerFigures { peer, peer_runs, ratio, pairs, cpu, details, .. }) = &outcome.measured
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
        spread(peer_runs),
        figure(Some(*ratio)),
        spread(pairs),
        aim(entry),
        cpu.as_ref().map_or("-".into(), |cpu| format!("{:.2}/{:.2} {}", cpu.weft, cpu.peer, cpu.unit)),
        also(details),
        (*peer).into(),
    ])
}

fn also(details: &[Beside]) -> String {
    let word = |it: &Beside| format!("{} {:.1}/{:.1} {}", it.name, it.weft, it.peer, it.unit);
    if details.is_empty() { "-".into() } else { details.iter().map(word).collect::<Vec<_>>().join(", ") }
}

fn growth(entry: &Entry) -> Option<[String; 7]> {
    let Measured::Beside(PeerFigures { growth: Some(growth), .. }) = &entry.outcome.measured else {
        return None;
    };
    Some([
        entry.outcome.id.into(),
        entry.outcome.unit.into(),
        figure(Some(growth.weft.first)),
        figure(Some(growth.weft.last)),
        figure(Some(growth.peer.first)),
        figure(Some(growth.peer.last)),
        format!("{:.2}/{:.2}", growth.weft.ratio, growth.peer.ratio),
    ])
}

fn alone(entry: &Entry) -> Vec<[String; 9]> {
    let outcome = &entry.outcome;
    let Measured::Alone { load, nanoseconds, instructions, reference, beside } = &outcome.measured else {
        return Vec::new();
    };
    let row = |load: &str, weft: &[f64], nanoseconds: f64, rest: [String; 3]| {
        let [instructions, aim, reference] = rest;
        [
            outcome.id.into(),
            load.into(),
            outcome.unit.into(),
            figure(median(weft)),
            spread(weft),
            figure(Some(nanoseconds)),
            instructions,
            aim,
            reference,
        ]
    };
    let told = reference.map_or("-".into(), |other| format!("{} ({})", other.figure, other.name));
    let first = row(load, &outcome.weft, *nanoseconds, [figure(*instructions), aim(entry), told]);
    let others = beside.iter().map(|other| {
        let nothing = || String::from("-");
        row(other.load, &other.weft, other.nanoseconds, [nothing(), nothing(), nothing()])
    });
    std::iter::once(first).chain(others).collect()
}

fn aim(entry: &Entry) -> String {
    entry.aim.map_or("-".into(), |judgement| judgement.to_string())
}

fn figure(value: Option<f64>) -> String {
    value.map_or("-".into(), |v| format!("{v:.2}"))
}

fn spread(runs: &[f64]) -> String {
    Spread::of(runs).map_or("-".into(), |Spread { lowest, highest }| format!("{lowest:.2}..{highest:.2}"))
}
