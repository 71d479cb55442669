//! A case: frames that are sent one after the other, and what came of them.

use std::fmt;

use super::dissect::Dissection;
use super::topology::Wire;

/// Frames to send, and what they are about.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its number in the run; captured ones are counted on their own.
    pub number: u64,
    /// The family of cases that it belongs to.
    pub family: &'static str,
    /// What is special about it.
    pub title: String,
    /// What is sent, in order.
    pub steps: Vec<Step>,
    /// Answers come only after timers have run out.
    pub slow: bool,
}

/// A frame that a container sends.
#[derive(Debug, Clone)]
pub struct Step {
    pub from: Wire,
    pub frame: Vec<u8>,
}

/// Frames as they arrived, in the order of arrival at each wire.
pub type Outcome = Vec<(Wire, Vec<u8>)>;

impl Case {
    /// The frame that the case is about: the last one.
    pub fn sent(&self) -> Dissection {
        self.steps.last().map(|step| Dissection::of(&step.frame)).unwrap_or_default()
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "case {} ({}): {}", self.number, self.family, self.title)?;
        for step in &self.steps {
            writeln!(f, "  {} sends {} octets", step.from.name(), step.frame.len())?;
            writeln!(f, "{}", Dissection::of(&step.frame))?;
        }
        Ok(())
    }
}
