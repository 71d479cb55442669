//! Every difference from Linux that is accepted, with its reason. One that no case needs is an error.

use super::case::Case;
use super::compare::{Kind, Mismatch};
use super::dissect::Dissection;

/// An accepted difference.
pub struct Difference {
    pub name: &'static str,
    /// Why it is right that the stack does otherwise.
    pub reason: &'static str,
    /// Whether a mismatch is of this sort.
    pub accepts: fn(&Finding) -> bool,
}

/// A mismatch, with the case where it was found.
pub struct Finding<'a> {
    pub case: &'a Case,
    /// The frame that the case is about.
    pub sent: &'a Dissection,
    pub mismatch: &'a Mismatch,
}

impl Finding<'_> {
    /// The frame that only Linux sends.
    fn only_linux(&self) -> Option<&Dissection> {
        match &self.mismatch.kind {
            Kind::OnlyLinux(frame) => Some(frame),
            _ => None,
        }
    }

    /// The frame that only the stack sends.
    fn only_ours(&self) -> Option<&Dissection> {
        match &self.mismatch.kind {
            Kind::OnlyOurs(frame) => Some(frame),
            _ => None,
        }
    }

    /// Whether both send a frame, and this field of it differs.
    fn differs_in(&self, field: &str) -> bool {
        matches!(&self.mismatch.kind, Kind::Field { name, .. } if *name == field)
    }
}

/// The list.
pub const DIFFERENCES: &[Difference] = &[];
