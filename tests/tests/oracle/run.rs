//! A run: every case through both sides, the verdict on each, and the report.

use std::collections::BTreeMap;
use std::env;
use std::fmt::Write;

use anyhow::{Context, Result, bail};

use super::captured;
use super::case::{Case, Outcome};
use super::compare::{Mismatch, mismatches};
use super::differences::{self, Difference, Finding};
use super::dissect::Dissection;
use super::generate;
use super::linux::Linux;
use super::subject::Subject;

const CASES: u64 = 5_000;
const SEED: u64 = 0x5745_4654;
/// Failing cases that are shown in full, unless `WEFT_ORACLE_SHOW` says otherwise.
const SHOWN: u64 = 12;

/// Runs what the environment asks for.
pub fn all() -> Result<()> {
    let seed = number("WEFT_ORACLE_SEED")?.unwrap_or(SEED);
    let count = number("WEFT_ORACLE_CASES")?.unwrap_or(CASES);
    let mut run = Run::start()?;
    if let Some(one) = number("WEFT_ORACLE_CASE")? {
        return run.show(&generate::case(seed, one));
    }
    for case in captured::cases()? {
        run.judge(&case)?;
    }
    for case in (0..count).map(|number| generate::case(seed, number)) {
        run.judge(&case)?;
    }
    run.report(seed, seed == SEED && count >= CASES)
}

fn number(variable: &str) -> Result<Option<u64>> {
    let Ok(text) = env::var(variable) else { return Ok(None) };
    Ok(Some(text.parse().with_context(|| format!("{variable}={text} is no number"))?))
}

/// The two sides, and what was found so far.
struct Run {
    subject: Subject,
    linux: Linux,
    cases: u64,
    /// How many cases needed each entry of the list.
    accepted: BTreeMap<&'static str, u64>,
    /// The entry whose cases are to be shown.
    watched: Option<String>,
    failures: Vec<String>,
}

impl Run {
    fn start() -> Result<Run> {
        let linux = Linux::start().context("the kernel's side")?;
        Ok(Run {
            subject: Subject::new()?,
            linux,
            cases: 0,
            accepted: BTreeMap::new(),
            watched: env::var("WEFT_ORACLE_ENTRY").ok(),
            failures: Vec::new(),
        })
    }

    /// Puts a case through both sides. What does not agree is looked at again, closely.
    fn judge(&mut self, case: &Case) -> Result<()> {
        self.cases += 1;
        let (mut ours, mut linux) = self.outcomes(case, false)?;
        if !unexplained(case, &mismatches(&ours, &linux)).is_empty() {
            (ours, linux) = self.outcomes(case, true)?;
        }
        let found = mismatches(&ours, &linux);
        let left = unexplained(case, &found);
        if left.is_empty() {
            let needed = entries(case, &found);
            if self.watched.as_ref().is_some_and(|name| needed.iter().any(|entry| entry.name == name)) {
                say(&account(case, &ours, &linux, &found.iter().collect::<Vec<_>>()));
            }
            for entry in needed {
                *self.accepted.entry(entry.name).or_default() += 1;
            }
        } else {
            self.failures.push(account(case, &ours, &linux, &left));
        }
        Ok(())
    }

    fn outcomes(&mut self, case: &Case, closely: bool) -> Result<(Outcome, Outcome)> {
        let ours = self.subject.run(case);
        let linux = self.linux.run(case, ours.len(), closely).with_context(|| case.to_string())?;
        Ok((ours, linux))
    }

    /// Shows one case and both its outcomes.
    fn show(&mut self, case: &Case) -> Result<()> {
        let (ours, linux) = self.outcomes(case, true)?;
        let found = mismatches(&ours, &linux);
        say(&account(case, &ours, &linux, &found.iter().collect::<Vec<_>>()));
        let left = unexplained(case, &found);
        if left.is_empty() { Ok(()) } else { bail!("{} mismatches are not on the list", left.len()) }
    }

    /// Tells what was accepted; an error where something failed, or an entry of the list is not needed.
    fn report(&self, seed: u64, complete: bool) -> Result<()> {
        say(&format!("{} cases, seed {seed}; accepted differences:", self.cases));
        for entry in differences::all() {
            let count = self.accepted.get(entry.name).copied().unwrap_or(0);
            say(&format!("{count:7} {}: {}", entry.name, entry.reason));
        }
        let mut text = String::new();
        let shown = number("WEFT_ORACLE_SHOW")?.unwrap_or(SHOWN) as usize;
        for failure in self.failures.iter().take(shown) {
            writeln!(text, "{failure}")?;
        }
        if !self.failures.is_empty() {
            bail!(
                "{text}{} of {} cases differ from Linux, with WEFT_ORACLE_SEED={seed}; \
                 add WEFT_ORACLE_CASE=<number> to run one",
                self.failures.len(),
                self.cases
            );
        }
        let unused = differences::all().filter(|entry| !self.accepted.contains_key(entry.name));
        let unused: Vec<&str> = unused.map(|entry| entry.name).collect();
        if complete && !unused.is_empty() {
            bail!("no case needs these entries of the list, so they must go: {}", unused.join(", "));
        }
        Ok(())
    }
}

/// The entry of the list that accepts a mismatch.
fn entry(case: &Case, mismatch: &Mismatch) -> Option<&'static Difference> {
    let sent = case.sent();
    differences::all().find(|entry| (entry.accepts)(&Finding { case, sent: &sent, mismatch }))
}

/// The entries that a case needs, each once.
fn entries(case: &Case, found: &[Mismatch]) -> Vec<&'static Difference> {
    let mut needed: Vec<_> = found.iter().filter_map(|mismatch| entry(case, mismatch)).collect();
    needed.sort_by_key(|entry| entry.name);
    needed.dedup_by_key(|entry| entry.name);
    needed
}

fn unexplained<'a>(case: &Case, found: &'a [Mismatch]) -> Vec<&'a Mismatch> {
    found.iter().filter(|mismatch| entry(case, mismatch).is_none()).collect()
}

/// The test's own words go where the test runner looks for them.
#[allow(clippy::print_stdout)]
fn say(text: &str) {
    println!("{text}");
}

/// All that there is to know about a case that failed.
fn account(case: &Case, ours: &Outcome, linux: &Outcome, left: &[&Mismatch]) -> String {
    let mut text = case.to_string();
    for (who, outcome) in [("the stack", ours), ("Linux", linux)] {
        let _ = writeln!(text, "  {who} sends {}", if outcome.is_empty() { "nothing" } else { "this" });
        for (wire, frame) in outcome {
            let _ = writeln!(text, "   to {}:\n{}", wire.name(), Dissection::of(frame));
        }
    }
    for mismatch in left {
        let _ = writeln!(text, "  * {mismatch}");
    }
    text
}
