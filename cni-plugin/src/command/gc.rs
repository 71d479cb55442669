//! GC: takes away what the runtime has no container for any more.

use std::time::Duration;

use weft_proto::v1::{AttachmentKey, CollectRequest};

use super::delegate;
use crate::daemon;
use crate::document::Document;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::settings::{Access, Survivor, Survivors};

/// Serves GC. Without a list nothing is done, and no plugin is called: one that takes a missing list for an empty
/// one would free addresses in use.
pub async fn run(environment: &Environment, document: &Document) -> Result<(), Failure> {
    let access: Access = document.read()?;
    let Survivors { valid, legacy } = document.read()?;
    let Some(survivors) = valid.or(legacy) else { return Ok(()) };
    let valid = survivors.into_iter().enumerate().map(key).collect::<Result<Vec<_>, _>>()?;
    let request = CollectRequest { configuration: document.name.clone(), valid };
    let answer = daemon::call(&access, Duration::ZERO, |mut client| {
        let request = request.clone();
        async move { client.collect(request).await }
    });
    let collected = answer.await.map(|_| ()).map_err(|unanswered| unanswered.failure());
    both(collected, delegate(environment, document))
}

/// One that lives. A list that cannot be understood must not take anything away.
fn key((index, survivor): (usize, Survivor)) -> Result<AttachmentKey, Failure> {
    let Survivor { container_id, ifname } = survivor;
    if container_id.is_empty() || ifname.is_empty() {
        let field = format!("cni.dev/valid-attachments[{index}]");
        return Err(Failure::field(&field, "containerID and ifname expected"));
    }
    Ok(AttachmentKey { container_id, interface: ifname })
}

/// All that went wrong.
fn both(first: Result<(), Failure>, second: Result<(), Failure>) -> Result<(), Failure> {
    match (first, second) {
        (Err(mut failure), Err(other)) => {
            failure.details += &format!("; and {other}");
            Err(failure)
        }
        (first, second) => first.and(second),
    }
}
