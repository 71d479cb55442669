//! A case: frames that are sent one after the other, and what came of them.

use std::fmt;
use std::net::IpAddr;

use super::dissect::Dissection;
use super::topology::{Net, Wire};

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
}

/// A frame that a container sends.
#[derive(Debug, Clone)]
pub struct Step {
    pub from: Wire,
    pub frame: Vec<u8>,
    /// It is a question that hosts are given time to answer.
    pub asks: bool,
}

/// Frames as they arrived, in the order of arrival at each wire.
pub type Outcome = Vec<(Wire, Vec<u8>)>;

/// The gateway's question for a neighbour's address (ARP or neighbour solicitation) that a frame is, and the
/// network where it is asked.
pub fn question(frame: &[u8]) -> Option<(IpAddr, Net)> {
    let net = Net::ALL.into_iter().find(|net| frame[6..12] == net.segment().gateway_mac)?;
    match frame[12..14] {
        [0x08, 0x06] if frame[20..22] == [0, 1] => {
            let octets: [u8; 4] = frame[38..42].try_into().ok()?;
            Some((octets.into(), net))
        }
        [0x86, 0xdd] if frame[20] == 58 && frame.get(54) == Some(&135) => {
            let octets: [u8; 16] = frame[62..78].try_into().ok()?;
            Some((octets.into(), net))
        }
        _ => None,
    }
}

/// Whether a gateway is left waiting for a neighbour: more comes when its timers run out.
pub fn is_waiting(outcome: &Outcome) -> bool {
    outcome.iter().any(|(_, frame)| question(frame).is_some())
}

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
