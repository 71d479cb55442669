//! What is measured of the stack without devices and sockets, and whose instructions are counted: each stack scenario's
//! first load, and WireGuard's sealing and opening.

use anyhow::{Context, Result};

use crate::scenario::{SCENARIOS, Work};
use crate::stack::{self, Load};

/// A batch of work that is done again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Microbenchmark {
    /// The stages.
    Forward(Load),
    /// WireGuard with packets of this many octets, from the IP header on.
    Seal(usize),
    /// The other way.
    Open(usize),
}

/// Those that no scenario has.
const WIREGUARD: &[(&str, Microbenchmark)] = &[
    ("wireguard-seal-1420", Microbenchmark::Seal(1420)),
    ("wireguard-open-1420", Microbenchmark::Open(1420)),
    ("wireguard-seal-64", Microbenchmark::Seal(64)),
    ("wireguard-open-64", Microbenchmark::Open(64)),
];

/// All of them, by name.
pub fn all() -> impl Iterator<Item = (&'static str, Microbenchmark)> {
    let forwarding = SCENARIOS.iter().filter_map(|scenario| match scenario.work {
        Work::Stack { loads, .. } => Some((scenario.id, Microbenchmark::Forward(*loads.first()?))),
        _ => None,
    });
    forwarding.chain(WIREGUARD.iter().copied())
}

/// Does this many rounds of work: what runs under valgrind.
pub fn execute(id: &str, rounds: usize) -> Result<()> {
    let (_, benchmark) =
        all().find(|(known, _)| *known == id).with_context(|| format!("{id} is not of the stack alone"))?;
    let mut subject = match benchmark {
        Microbenchmark::Forward(load) => stack::forwarding(&load)?,
        Microbenchmark::Seal(octets) => stack::sealing(octets)?,
        Microbenchmark::Open(octets) => stack::opening(octets)?,
    };
    for _ in 0..rounds {
        subject.fill();
        subject.process()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_microbenchmark_can_be_executed() {
        for (id, _) in all().filter(|(id, _)| *id != "stack-fib-500k") {
            execute(id, 2).unwrap();
        }
        assert!(execute("l2-tcp1", 1).is_err());
    }
}
