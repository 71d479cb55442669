//! What a node's WeftNode says in its status, and when it is written. Pure.
//!
//! The API server sends every write to the agents of all nodes. When many nodes come at once, each hears of each, and
//! the nodes that it does not reach yet change all the time: were that written at once and in full, the API server
//! would send the square of the number of nodes, many times over. So what programs wait for is written at once, and
//! details later and cut short.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::condition;
use crate::cluster::{Readiness, spread};
use crate::crd::node::{MOST_UNREACHED, Unreached, WeftNodeStatus};

/// The shortest time from one write to the next that changes details only; each node adds a part of it again.
const APART: Duration = Duration::from_secs(30);

/// What was written last.
#[derive(Debug)]
pub(super) struct Report {
    apart: Duration,
    written: Option<Written>,
}

#[derive(Debug)]
struct Written {
    uid: Option<String>,
    status: WeftNodeStatus,
    at: Instant,
}

/// When to write.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// That stands already.
    Never,
    /// Now.
    Now,
    /// Not before then.
    At(Instant),
}

impl Report {
    /// That of a node of which nothing was written.
    pub fn new(node: &str) -> Report {
        Report { apart: APART + APART.mul_f64(spread::portion(node)), written: None }
    }

    /// Notes what the API has, unless that is the object of which more is known.
    pub fn found(&mut self, uid: Option<&str>, status: Option<&WeftNodeStatus>, now: Instant) {
        if self.written.as_ref().is_some_and(|written| written.uid.as_deref() == uid) {
            return;
        }
        self.written =
            status.map(|status| Written { uid: uid.map(Into::into), status: status.clone(), at: now });
    }

    /// Notes what was written to that object.
    pub fn wrote(&mut self, uid: Option<&str>, status: WeftNodeStatus, now: Instant) {
        self.written = Some(Written { uid: uid.map(Into::into), status, at: now });
    }

    /// The object is gone.
    pub fn forget(&mut self) {
        self.written = None;
    }

    /// The status that says this.
    pub fn status(
        &self,
        ready: &Readiness,
        unreached: &BTreeMap<String, String>,
        now: Time,
    ) -> WeftNodeStatus {
        let mut before = self.written.iter().flat_map(|written| &written.status.conditions);
        let before = before.find(|before| before.type_ == condition::READY);
        let condition = condition::ready(ready, ready.message.clone(), None, before, now);
        let few = unreached.iter().take(MOST_UNREACHED);
        WeftNodeStatus {
            conditions: vec![condition],
            version: env!("CARGO_PKG_VERSION").into(),
            unreached: few.map(|(node, why)| Unreached { node: node.clone(), why: why.clone() }).collect(),
            unreached_count: u32::try_from(unreached.len()).unwrap_or(u32::MAX),
        }
    }

    /// When to write this status.
    pub fn due(&self, status: &WeftNodeStatus, now: Instant) -> Due {
        let Some(written) = &self.written else { return Due::Now };
        if written.status == *status {
            return Due::Never;
        }
        if head(&written.status) != head(status) || now >= written.at + self.apart {
            return Due::Now;
        }
        Due::At(written.at + self.apart)
    }
}

/// What programs wait for.
fn head(status: &WeftNodeStatus) -> (&str, Vec<(&str, &str)>) {
    let conditions = status.conditions.iter();
    (&status.version, conditions.map(|condition| (&*condition.status, &*condition.reason)).collect())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::*;

    fn ready(ready: bool, reason: &'static str, message: &str) -> Readiness {
        Readiness { ready, reason, message: message.into() }
    }

    fn nodes(count: usize) -> BTreeMap<String, String> {
        (0..count).map(|node| (format!("node-{node:05}"), "it has no prefix for pods".into())).collect()
    }

    fn time(second: i64) -> Time {
        Time(Timestamp::from_second(second).unwrap())
    }

    #[test]
    fn of_many_nodes_that_are_not_reached_few_are_named() {
        let status = Report::new("one").status(&ready(true, "Serving", ""), &nodes(5000), time(0));
        assert_eq!((status.unreached.len(), status.unreached_count), (MOST_UNREACHED, 5000));
        assert_eq!(status.unreached[0].node, "node-00000");
    }

    #[test]
    fn a_condition_is_written_at_once_and_details_after_a_while() {
        let (mut report, start) = (Report::new("one"), Instant::now());
        let first = report.status(&ready(true, "Serving", "fine"), &nodes(1), time(0));
        assert_eq!(report.due(&first, start), Due::Now);
        report.wrote(Some("uid"), first.clone(), start);
        assert_eq!(report.due(&first, start), Due::Never);

        let details = report.status(&ready(true, "Serving", "fine"), &nodes(2), time(1));
        let Due::At(later) = report.due(&details, start) else { panic!("at once") };
        assert!((APART..APART * 2).contains(&(later - start)));
        assert_eq!(report.due(&details, later), Due::Now);

        let broken = report.status(&ready(false, "Waiting", "no"), &nodes(2), time(1));
        assert_eq!(report.due(&broken, start), Due::Now);
    }

    #[test]
    fn a_transition_has_its_time_however_often_details_change() {
        let mut report = Report::new("one");
        let first = report.status(&ready(true, "Serving", ""), &nodes(0), time(7));
        report.wrote(Some("uid"), first, Instant::now());
        let at = |status: WeftNodeStatus| status.conditions[0].last_transition_time.clone();
        assert_eq!(at(report.status(&ready(true, "Serving", ""), &nodes(1), time(8))), time(7));
        assert_eq!(at(report.status(&ready(false, "Waiting", ""), &nodes(1), time(9))), time(9));
    }

    #[test]
    fn what_the_api_has_is_not_written_again_and_another_object_is() {
        let (mut report, now) = (Report::new("one"), Instant::now());
        let stands = report.status(&ready(true, "Serving", ""), &nodes(0), time(0));
        report.found(Some("uid"), Some(&stands), now);
        assert_eq!(report.due(&stands, now), Due::Never);
        // What is heard of the same object later is older than what was written.
        report.found(Some("uid"), None, now);
        assert_eq!(report.due(&stands, now), Due::Never);
        report.found(Some("other"), None, now);
        assert_eq!(report.due(&stands, now), Due::Now);
    }

    #[test]
    fn nodes_write_details_at_different_times() {
        let apart: std::collections::BTreeSet<_> =
            (0..100).map(|node| Report::new(&format!("node-{node}")).apart.as_secs()).collect();
        assert!(apart.len() > 20, "{apart:?}");
    }
}
