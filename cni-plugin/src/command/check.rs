//! CHECK: whether a container's device is what ADD, and the plugins after it, made it.

use std::time::Duration;

use tonic::Code as Grpc;
use weft_proto::v1::{AttachmentState, CheckRequest};

use super::delegate;
use crate::daemon::{self, Unanswered, details};
use crate::document::Document;
use crate::environment::Environment;
use crate::failure::{Code, Failure};
use crate::outcome;
use crate::settings::{Access, StatusSettings};
use crate::wish;

/// Serves CHECK.
pub async fn run(environment: &Environment, document: &Document) -> Result<(), Failure> {
    let access: Access = document.read()?;
    let settings: StatusSettings = document.read()?;
    let request =
        outcome::expected(environment, document, wish::network(&settings.network)?, wish::vlan(document)?)?;
    delegate(environment, document)?;
    let answer = daemon::call(&access, Duration::ZERO, |mut client| {
        let request = request.clone();
        async move { client.check(request).await }
    });
    match answer.await {
        Ok(response) => same_mac(&request, &response.attachment.unwrap_or_default()),
        Err(Unanswered::Refused(status)) if status.code() == Grpc::NotFound => {
            Err(Failure::new(Code::NotAttached, "the daemon knows of no such attachment", details(&status)))
        }
        Err(Unanswered::Refused(status)) if status.code() == Grpc::FailedPrecondition => {
            let message = "the attachment is not what it was made to be";
            Err(Failure::new(Code::Different, message, details(&status)))
        }
        Err(unanswered) => Err(unanswered.failure()),
    }
}

/// A later plugin may have changed the MAC address in the kernel. The daemon then drops all that the container sends,
/// since it does not have that address.
fn same_mac(request: &CheckRequest, attachment: &AttachmentState) -> Result<(), Failure> {
    let (seen, own) = (&request.mac, &attachment.mac);
    if seen.is_empty() || seen.eq_ignore_ascii_case(own) {
        return Ok(());
    }
    let details = format!(
        "another plugin gave the device the MAC address {seen}, and Weft lets it send with {own} only; ask Weft for \
         the address (\"capabilities\": {{\"mac\": true}})"
    );
    Err(Failure::new(Code::Different, "the attachment is not what it was made to be", details))
}
