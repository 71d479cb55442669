//! The guard: instructions a packet, compared with figures that are kept in the repository. They are the same on a busy
//! machine, so that what a change costs is seen where no time could be measured.
//!
//! They are not the same with another compiler or another valgrind, which the figures say they are of: then what costs
//! more is told, and passes.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};

use self::toolchain::Toolchain;
use crate::statistics::Spread;
use crate::{microbenchmark, stack};

mod toolchain;

/// What a figure may change by, as a share of it.
const TOLERANCE: f64 = 0.05;
/// Counts of which the lowest is taken: hash tables have other seeds each time, and where two keys meet in one of them
/// it costs some in a hundred more.
const REPETITIONS: usize = 3;
/// Counts where the first ones are further apart than [`CLOSE`]: with as many flows as a table has places, many meet.
const MORE: usize = 9;
/// As a share of the lowest.
const CLOSE: f64 = 0.01;

/// The figures of the repository.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Figures {
    /// What they were counted with.
    toolchain: Toolchain,
    /// Instructions a packet, by microbenchmark.
    instructions: BTreeMap<String, f64>,
}

/// What became of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Within,
    Dearer,
    Cheaper,
    /// There was none.
    New,
    /// It is not counted any more.
    Gone,
}

/// A microbenchmark's figures.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    id: String,
    before: Option<f64>,
    now: Option<f64>,
}

/// Counts, and compares with the figures of this file or, to `bless`, writes it. Profiles go into the folder `profiles`.
///
/// # Errors
/// Something costs more than it may, or has no figure, and the figures are of these tools; valgrind failed; the file
/// cannot be read or written.
pub fn run(file: &Path, bless: bool, profiles: &Path) -> Result<()> {
    // Read first: who has no file need not wait for the counts.
    let before = if bless { None } else { Some(read(file)?) };
    let now = Figures { toolchain: Toolchain::here(), instructions: count(profiles)? };
    let mut out = std::io::stdout();
    let Some(before) = before else {
        let text = serde_json::to_string_pretty(&now).context("the figures as JSON")?;
        fs::write(file, text + "\n").with_context(|| file.display().to_string())?;
        let told = "commit it with what it is that costs more or less, and why";
        return Ok(writeln!(out, "{} is written: {told}", file.display())?);
    };
    let rows = rows(&before.instructions, &now.instructions);
    write!(out, "{}", table(&rows))?;
    let differences = before.toolchain.differences(&now.toolchain);
    for difference in &differences {
        writeln!(out, "\nThe figures are of {difference}: some of a change may be of that.")?;
    }
    if let Some(cheaper) = named(&rows, Change::Cheaper) {
        writeln!(
            out,
            "\nCheaper by more than 5 %: {cheaper}. Write the new figures down, `make bless-perf`."
        )?;
    }
    match complaint(&rows, profiles) {
        // Whether it is the change's or the compiler's nobody can tell.
        Some(complaint) if !differences.is_empty() => {
            Ok(writeln!(out, "\nNot judged, but told: {complaint}")?)
        }
        Some(complaint) => Err(anyhow!(complaint)),
        None => Ok(()),
    }
}

fn read(file: &Path) -> Result<Figures> {
    let text = fs::read_to_string(file)
        .with_context(|| format!("{}: no figures to compare with, see `make bless-perf`", file.display()))?;
    serde_json::from_str(&text).with_context(|| file.display().to_string())
}

/// Counts all, one on each processor: what runs beside does not change them.
fn count(profiles: &Path) -> Result<BTreeMap<String, f64>> {
    let waiting: Mutex<VecDeque<_>> = Mutex::new(microbenchmark::all().map(|(id, _)| id).collect());
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let work = || -> Result<Vec<(String, f64)>> {
        std::iter::from_fn(next).map(|id| Ok((id.to_owned(), lowest(id, profiles)?))).collect()
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let mut counts = BTreeMap::new();
        for thread in threads {
            let Ok(counted) = thread.join() else { bail!("a thread ended in a panic") };
            counts.extend(counted?);
        }
        Ok(counts)
    })
}

/// To a tenth, which is more than the figures can tell.
fn lowest(id: &str, profiles: &Path) -> Result<f64> {
    let mut counts = Vec::new();
    while counts.len() < wanted(&counts) {
        counts.push(stack::count_instructions(id, profiles).with_context(|| id.to_owned())?);
    }
    let lowest = counts.into_iter().fold(f64::INFINITY, f64::min);
    Ok((lowest * 10.0).round() / 10.0)
}

/// How many counts it takes, by the first ones.
fn wanted(counts: &[f64]) -> usize {
    match Spread::of(counts) {
        Some(Spread { lowest, highest }) if highest > lowest * (1.0 + CLOSE) => MORE,
        _ => REPETITIONS,
    }
}

fn rows(before: &BTreeMap<String, f64>, now: &BTreeMap<String, f64>) -> Vec<Row> {
    let gone = before.keys().filter(|id| !now.contains_key(*id));
    let row =
        |id: &String| Row { id: id.clone(), before: before.get(id).copied(), now: now.get(id).copied() };
    now.keys().chain(gone).map(row).collect()
}

impl Row {
    /// By which share it grew.
    fn growth(&self) -> Option<f64> {
        Some(self.now? / self.before? - 1.0)
    }

    fn change(&self) -> Change {
        match (self.before, self.now) {
            (Some(before), Some(now)) if now > before * (1.0 + TOLERANCE) => Change::Dearer,
            (Some(before), Some(now)) if now < before * (1.0 - TOLERANCE) => Change::Cheaper,
            (Some(_), Some(_)) => Change::Within,
            (None, _) => Change::New,
            (Some(_), None) => Change::Gone,
        }
    }
}

fn table(rows: &[Row]) -> String {
    let figure = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.1}"));
    let line = |row: &Row| {
        let told = match row.change() {
            Change::Within => "",
            Change::Dearer => "  COSTS MORE",
            Change::Cheaper => "  cheaper",
            Change::New => "  NEW",
            Change::Gone => "  gone",
        };
        let change = row.growth().map_or("-".into(), |growth| format!("{:+.1} %", growth * 100.0));
        let (before, now) = (figure(row.before), figure(row.now));
        format!("{:24} {before:>10} {now:>10} {change:>9}{told}\n", row.id)
    };
    let heading = format!("{:24} {:>10} {:>10} {:>9}\n", "INSTRUCTIONS/PACKET", "BEFORE", "NOW", "CHANGE");
    std::iter::once(heading).chain(rows.iter().map(line)).collect()
}

fn named(rows: &[Row], change: Change) -> Option<String> {
    let ids: Vec<_> = rows.iter().filter(|row| row.change() == change).map(|row| row.id.as_str()).collect();
    (!ids.is_empty()).then(|| ids.join(", "))
}

/// What has to be done before all is well; `None`: nothing.
fn complaint(rows: &[Row], profiles: &Path) -> Option<String> {
    if let Some(dearer) = named(rows, Change::Dearer) {
        return Some(format!(
            "more than 5 % dearer: {dearer}. `callgrind_annotate {}/callgrind.NAME` says where the instructions are. If \
             they are worth it, `make bless-perf` writes the figures anew; commit them with the reason",
            profiles.display()
        ));
    }
    let new = named(rows, Change::New)?;
    Some(format!("no figure to compare with: {new}. `make bless-perf` writes it; commit it"))
}

#[cfg(test)]
mod tests;
