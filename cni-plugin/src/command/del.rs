//! DEL: takes a device of a container away. It succeeds when there is nothing, and when the daemon is down.

use std::io::{self, Write};

use weft_proto::detach_queue::QueuedDetach;

use super::{delegate, detach, queue_failed};
use crate::document::Document;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::settings::Access;

/// Serves DEL. The addresses of a plugin are given back last: only then nobody uses them.
pub async fn run(environment: &Environment, document: &Document) -> Result<(), Failure> {
    let access: Access = document.read()?;
    match detach(&access, &environment.key).await {
        Ok(()) => {}
        Err(unanswered) if unanswered.is_passing() => {
            let request = QueuedDetach::now(environment.key.clone());
            access.queue().add(&request).map_err(|error| queue_failed(&error))?;
            let reason = unanswered.status().message();
            // For the runtime's log; when nobody listens, it is done all the same.
            let _ = writeln!(io::stderr(), "weft-cni: {reason}; the daemon detaches later");
        }
        Err(unanswered) => return Err(unanswered.failure()),
    }
    delegate(environment, document)
}
