//! DEL: takes a device of a container away, and those of further Networks with it. It succeeds when there is nothing, and when the daemon is down.

use std::io::{self, Write};

use weft_proto::detach_queue::QueuedDetach;

use super::{delegate, detach, queue_failed, whole};
use crate::document::Document;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::settings::{Access, Further};

/// Serves DEL. The addresses of a plugin are given back last: only then nobody uses them.
pub async fn run(environment: &Environment, document: &Document) -> Result<(), Failure> {
    let access: Access = document.read()?;
    let Further { pod_networks } = document.read()?;
    // The annotations may not be known any more, but the daemon knows what came of them.
    let key = if pod_networks.is_some() { whole(&environment.key) } else { environment.key.clone() };
    match detach(&access, &key).await {
        Ok(()) => {}
        Err(unanswered) if unanswered.is_passing() => {
            let request = QueuedDetach::now(key);
            access.queue().add(&request).map_err(|error| queue_failed(&error))?;
            let reason = unanswered.status().message();
            // For the runtime's log; when nobody listens, it is done all the same.
            let _ = writeln!(io::stderr(), "weft-cni: {reason}; the daemon detaches later");
        }
        Err(unanswered) => return Err(unanswered.failure()),
    }
    delegate(environment, document)
}
