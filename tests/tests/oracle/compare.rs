//! Two outcomes of one case, field by field.

use std::fmt;

use super::case::Outcome;
use super::dissect::{Dissection, shortened};
use super::topology::Wire;

/// One thing in which the outcomes differ.
#[derive(Debug, Clone)]
pub struct Mismatch {
    /// Where the frame arrived, or should have.
    pub wire: Wire,
    pub kind: Kind,
}

/// In what they differ.
#[derive(Debug, Clone)]
pub enum Kind {
    /// Only the stack sent this.
    OnlyOurs(Dissection),
    /// Only Linux sent this.
    OnlyLinux(Dissection),
    /// Both sent a frame, and this field is not the same; empty: one has no such field.
    Field { name: &'static str, ours: String, linux: String, frame: Dissection },
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wire = self.wire.name();
        match &self.kind {
            Kind::OnlyOurs(frame) => {
                write!(f, "only the stack sends to {wire} a frame of sort {}", frame.sort())
            }
            Kind::OnlyLinux(frame) => {
                write!(f, "only Linux sends to {wire} a frame of sort {}", frame.sort())
            }
            Kind::Field { name, ours, linux, .. } => {
                let (ours, linux) = around_difference(ours, linux);
                write!(f, "at {wire}, {name}: the stack {ours:?}, Linux {linux:?}")
            }
        }
    }
}

/// In what two outcomes differ: frames are paired by wire and sort, in order.
pub fn mismatches(ours: &Outcome, linux: &Outcome) -> Vec<Mismatch> {
    let mut found = Vec::new();
    for wire in Wire::ALL {
        let at = |outcome: &Outcome| -> Vec<Dissection> {
            let frames = outcome.iter().filter(|(to, _)| *to == wire);
            frames.map(|(_, frame)| Dissection::of(frame)).collect()
        };
        found.extend(at_one_wire(at(ours), at(linux)).into_iter().map(|kind| Mismatch { wire, kind }));
    }
    found
}

fn at_one_wire(ours: Vec<Dissection>, mut linux: Vec<Dissection>) -> Vec<Kind> {
    let mut found = Vec::new();
    let mut left = Vec::new();
    for frame in ours {
        match linux.iter().position(|other| *other == frame) {
            Some(same) => drop(linux.remove(same)),
            None => left.push(frame),
        }
    }
    for frame in left {
        match linux.iter().position(|other| other.sort() == frame.sort()) {
            Some(like) => found.extend(fields(&frame, &linux.remove(like))),
            None => found.push(Kind::OnlyOurs(frame)),
        }
    }
    found.extend(linux.into_iter().map(Kind::OnlyLinux));
    found
}

fn fields(ours: &Dissection, linux: &Dissection) -> Vec<Kind> {
    let mut names: Vec<&'static str> = ours.fields.iter().map(|(name, _)| *name).collect();
    names.extend(linux.fields.iter().map(|(name, _)| *name).filter(|name| !ours.has(name)));
    let differing = names.into_iter().filter(|name| ours.get(name) != linux.get(name));
    let describe = |name| Kind::Field {
        name,
        ours: ours.get(name).to_owned(),
        linux: linux.get(name).to_owned(),
        frame: ours.clone(),
    };
    differing.map(describe).collect()
}

/// Long values from a little before where they begin to differ.
fn around_difference(one: &str, other: &str) -> (String, String) {
    let same = one.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    let from = if same > 24 { (same - 8) & !1 } else { 0 };
    let cut = |text: &str| {
        let rest = text.get(from..).unwrap_or_default();
        if from == 0 { shortened(rest) } else { format!("…[{}] {}", from / 2, shortened(rest)) }
    };
    (cut(one), cut(other))
}
