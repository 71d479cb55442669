//! What Weft is to reach: the aims of the project, by scenario. A scenario that has none here is measured all the same.

use std::fmt;

use serde::{Serialize, Serializer, ser::SerializeMap};

/// What a value has to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// This much or more.
    AtLeast(f64),
    /// This much or less.
    AtMost(f64),
}

/// What a scenario is to reach.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Aim {
    /// In relation to the peer: Weft's figure over the peer's.
    Ratio(Bound),
    /// By itself, in this unit.
    Figure(&'static str, Bound),
}

/// An aim, and whether it is met.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judgement {
    /// What was to be reached.
    pub aim: Aim,
    /// Whether it was.
    pub met: bool,
}

impl Bound {
    /// The value at the edge.
    pub fn edge(self) -> f64 {
        match self {
            Bound::AtLeast(edge) | Bound::AtMost(edge) => edge,
        }
    }

    /// Whether a value is within it.
    pub fn holds(self, value: f64) -> bool {
        match self {
            Bound::AtLeast(edge) => value >= edge,
            Bound::AtMost(edge) => value <= edge,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bound::AtLeast(edge) => write!(f, ">= {edge}"),
            Bound::AtMost(edge) => write!(f, "<= {edge}"),
        }
    }
}

impl Aim {
    /// The aim's bound.
    pub fn bound(self) -> Bound {
        match self {
            Aim::Ratio(bound) | Aim::Figure(_, bound) => bound,
        }
    }

    /// Whether it is met by this ratio to the peer, where there is one, and this figure of Weft, in this unit. `None`: the
    /// aim is of something else.
    pub fn judge(self, ratio: Option<f64>, figure: Option<f64>, unit: &str) -> Option<Judgement> {
        let value = match self {
            Aim::Ratio(_) => ratio?,
            Aim::Figure(wanted, _) if wanted == unit => figure?,
            Aim::Figure(..) => return None,
        };
        Some(Judgement { aim: self, met: self.bound().holds(value) })
    }
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.aim.bound(), if self.met { "met" } else { "missed" })
    }
}

impl Serialize for Judgement {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        let of = if matches!(self.aim, Aim::Ratio(_)) { "ratio" } else { "figure" };
        map.serialize_entry("of", of)?;
        let side = if matches!(self.aim.bound(), Bound::AtLeast(_)) { "at_least" } else { "at_most" };
        map.serialize_entry(side, &self.aim.bound().edge())?;
        map.serialize_entry("met", &self.met)?;
        map.end()
    }
}

const fn at_least(ratio: f64) -> Aim {
    Aim::Ratio(Bound::AtLeast(ratio))
}

const fn at_most(ratio: f64) -> Aim {
    Aim::Ratio(Bound::AtMost(ratio))
}

/// By scenario. Those of veth ports beside the kernel's bridge are for the fast path.
const AIMS: &[(&str, Aim)] = &[
    ("l2-tcp1", at_least(1.0)),
    ("l2-rr", at_most(2.5)),
    ("l2-tcp1-veth", at_least(1.05)),
    ("l2-rr-veth", at_most(0.7)),
    ("l2-tcp1-ovs", at_least(1.3)),
    ("l2-tcp1-ovs-veth", at_least(1.3)),
    ("l2-udp64", at_least(2.0)),
    ("l2-udp64-veth", at_least(2.0)),
    ("wg-tcp1", at_least(2.0)),
    ("wg-tcp1-veth", at_least(2.0)),
    ("wg-tcp1-boringtun", at_least(2.0)),
    ("wg-tcp1-gotatun", at_least(2.0)),
    ("vxlan-tcp1", at_least(0.8)),
    ("vxlan-tcp1-veth", at_least(0.8)),
    ("cni-add", at_most(0.4)),
    ("cni-add-tap", at_most(0.4)),
    ("cni-del", at_most(0.4)),
    ("cni-del-tap", at_most(0.4)),
    ("daemon-rss-idle", Aim::Figure("MiB", Bound::AtMost(40.0))),
    ("port-rss", Aim::Figure("KiB", Bound::AtMost(64.0))),
    ("port-rss-veth", Aim::Figure("KiB", Bound::AtMost(64.0))),
    ("stack-v4-64", Aim::Figure("cycles/packet", Bound::AtMost(200.0))),
];

/// The aim of a scenario, where it has one.
pub fn of(scenario: &str) -> Option<Aim> {
    AIMS.iter().find(|(id, _)| *id == scenario).map(|(_, aim)| *aim)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::scenario::SCENARIOS;

    #[test]
    fn every_aim_is_of_a_scenario() {
        for (id, _) in AIMS {
            assert!(SCENARIOS.iter().any(|scenario| scenario.id == *id), "{id}");
        }
    }

    #[test]
    fn an_aim_is_met_at_its_edge_and_missed_beyond() {
        let judged = |aim: Aim, ratio| aim.judge(Some(ratio), None, "ms").unwrap();
        assert!(judged(at_most(0.4), 0.4).met);
        assert_eq!(judged(at_most(0.4), 0.41).to_string(), "<= 0.4 missed");
        assert!(judged(at_least(2.0), 2.0).met);
        assert_eq!(judged(at_least(2.0), 1.99).to_string(), ">= 2 missed");
    }

    #[test]
    fn a_figure_in_another_unit_is_not_judged() {
        let aim = of("stack-v4-64").unwrap();
        assert_eq!(aim.judge(None, Some(78.0), "ns/packet"), None);
        assert!(aim.judge(None, Some(191.0), "cycles/packet").unwrap().met);
    }

    #[test]
    fn the_file_says_what_the_aim_is_of() {
        let judged = at_least(2.0).judge(Some(1.5), None, "Gbit/s").unwrap();
        let expected = json!({"of": "ratio", "at_least": 2.0, "met": false});
        assert_eq!(serde_json::to_value(judged).unwrap(), expected);
    }
}
