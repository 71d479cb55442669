//! Opening and closing the sockets of the node that Tunnels need.

use std::time::Instant;

use super::{Reconciliation, Settled};
use crate::reconcile::error::told;
use crate::reconcile::observe::Refusal;
use crate::reconcile::plan::Subject;
use crate::reconcile::retry::Cause;
use crate::reconcile::underlays::underlays;

impl Reconciliation {
    /// Opens what is wished for and not open, unless it has failed just now.
    pub(super) fn open_underlays(&mut self, settled: &mut Settled, now: Instant) {
        if self.unpublished {
            self.underlays.want(underlays(&self.fabric));
        }
        for underlay in self.underlays.missing() {
            let subject = Subject::Underlay(underlay);
            if self.retries.holds(&subject, now) {
                continue;
            }
            match self.underlays.open(&mut self.kernel, underlay, self.queues) {
                Ok(()) => {
                    tracing::info!(object = %subject, "opened");
                    self.unpublished = true;
                    self.retries.settled(&subject);
                    self.complaints.remove(&subject);
                }
                Err(error) => {
                    let trouble = Refusal { reason: error.reason(), message: told(&error) };
                    self.retries.failed(subject.clone(), Cause::Failed, now);
                    self.complain(&subject, trouble);
                    settled.failures.entry(subject).or_default().push(error);
                }
            }
        }
    }

    /// Closes what is no longer wished for, unless the workers still have it.
    pub(super) fn close_underlays(&mut self) {
        if !self.unpublished && !self.refused {
            self.underlays.close();
        }
    }

    /// Logs a trouble that is new, and has all Tunnels and Networks told of it.
    pub(super) fn complain(&mut self, subject: &Subject, trouble: Refusal) {
        if self.complaints.get(subject) != Some(&trouble) {
            tracing::warn!(object = %subject, reason = trouble.reason, "{}; it is tried again", trouble.message);
            self.complaints.insert(subject.clone(), trouble);
            self.unpublished = true;
        }
    }
}
