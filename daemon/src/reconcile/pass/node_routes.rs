//! Having the node's kernel route to other nodes, and what Ports hear of it.

use std::time::Instant;

use super::{Reconciliation, Settled};
use crate::reconcile::agenda::News;
use crate::reconcile::plan::Subject;
use crate::reconcile::retry::Cause;

impl Reconciliation {
    /// Makes the node's routes as wished, when there may be something to do. News are reason enough to try again at
    /// once what was refused: an attempt that fails makes none.
    pub(super) fn route_node(&mut self, news: &News, settled: &mut Settled, now: Instant) {
        if news.addresses.contains(&None) {
            self.node_routes.heard();
        }
        for device in news.links.iter().filter(|device| device.namespace.is_none()) {
            self.node_routes.heard_of_link(device.index);
        }
        let subject = Subject::NodeRoutes;
        let again = self.retries.due(now).any(|due| *due == subject);
        if !self.node_routes.is_due() && !again {
            return;
        }
        settled.retold |= self.node_routes.settle(&mut self.kernel);
        if self.node_routes.is_behind() {
            self.retries.failed(subject.clone(), Cause::Refused, now);
            settled.failures.entry(subject).or_default().extend(self.node_routes.errors());
        } else {
            self.retries.settled(&subject);
        }
    }
}
