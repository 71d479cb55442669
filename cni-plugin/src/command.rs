//! The commands of the specification, one file each, and what they share: calling the daemon, and the plugin for
//! addresses.

use std::time::Duration;

use serde_json::Value;
use weft_proto::v1::{AttachmentKey, DetachRequest};

use crate::daemon::{self, Unanswered};
use crate::document::Document;
use crate::environment::{Environment, Operation};
use crate::failure::{Code, Failure};
use crate::ipam::Ipam;
use crate::settings::{Access, Delegation};
use crate::version::SpecVersion;

mod add;
mod check;
mod del;
mod further;
mod gc;
mod status;

/// Runs a command; what it gives goes to standard output.
pub async fn run(environment: &Environment, document: &Document) -> Result<Option<Value>, Failure> {
    match environment.operation {
        Operation::Add => add::run(environment, document).await.map(Some),
        Operation::Del => del::run(environment, document).await.map(|()| None),
        Operation::Check => check::run(environment, document).await.map(|()| None),
        Operation::Gc => gc::run(environment, document).await.map(|()| None),
        Operation::Status => status::run(environment, document).await.map(|()| None),
        Operation::Version => Ok(Some(SpecVersion::answer())),
    }
}

/// Takes an attachment away.
async fn detach(access: &Access, key: &AttachmentKey) -> Result<(), Unanswered> {
    let request = DetachRequest { key: Some(key.clone()) };
    let answer = daemon::call(access, Duration::ZERO, |mut client| {
        let request = request.clone();
        async move { client.detach(request).await }
    });
    answer.await.map(|_| ())
}

/// The key of all attachments of a container.
fn whole(key: &AttachmentKey) -> AttachmentKey {
    AttachmentKey { container_id: key.container_id.clone(), interface: String::new() }
}

/// Calls the plugin for addresses, if the configuration has one.
fn delegate(environment: &Environment, document: &Document) -> Result<(), Failure> {
    let Delegation { ipam } = document.read()?;
    match ipam.plugin() {
        Some(name) => Ipam::find(name, &environment.path, document)?.call(environment.operation.name()),
        None => Ok(()),
    }
}

/// A failure of the queue of detachments.
fn queue_failed(error: &weft_proto::detach_queue::QueueError) -> Failure {
    Failure::new(Code::Io, "the queue of detachments cannot be used", error.to_string())
}
