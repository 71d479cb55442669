//! ADD: gives a container a device, all of it or nothing.

use std::time::Duration;

use serde_json::Value;
use tonic::Code as Grpc;
use weft_proto::detach_queue::QueuedDetach;
use weft_proto::v1::attach_request::AddressSource;
use weft_proto::v1::{AttachRequest, AttachedAddress, AttachmentKey, AttachmentState, CheckRequest};

use super::{detach, further, queue_failed, whole};
use crate::daemon::{self, Unanswered};
use crate::document::Document;
use crate::environment::Environment;
use crate::failure::{Code, Failure};
use crate::ipam::{Given, Ipam};
use crate::outcome;
use crate::settings::Access;
use crate::wish::{self, Wish};

/// How long the undoing of an ADD waits for the daemon, in seconds.
const UNDO_SECONDS: u32 = 5;

/// Serves ADD.
pub async fn run(environment: &Environment, document: &Document) -> Result<Value, Failure> {
    let access: Access = document.read()?;
    let mut wish = Wish::read(environment, document)?;
    not_the_nodes_own(environment)?;
    // Before anything is made: while nobody knows, nothing has to be taken back.
    let further = further::requests(environment, document, &wish.request, patience(&access)).await?;
    forget_queued(&access, &whole(&environment.key)).await?;
    forget_queued(&access, &environment.key).await?;
    let name = wish.ipam.take();
    let ipam = name.as_deref().map(|name| Ipam::find(name, &environment.path, document)).transpose()?;
    let (first, dns) = match &ipam {
        None => (attach(&access, wish.request).await?, wish.dns),
        Some(ipam) => {
            let (attachment, given) = attach_given(&access, &wish, ipam).await?;
            (attachment, if wish.dns.is_empty() { given.dns } else { wish.dns })
        }
    };
    let attachments = attach_further(&access, first, further, ipam.as_ref()).await?;
    outcome::render(document, &attachments, &dns)
}

/// Attaches to further Networks. When one of them fails, all that there is is taken back.
async fn attach_further(
    access: &Access,
    first: AttachmentState,
    further: Vec<AttachRequest>,
    ipam: Option<&Ipam<'_>>,
) -> Result<Vec<AttachmentState>, Failure> {
    let mut attachments = vec![first];
    for request in further {
        let place = further::place(&request);
        let key = request.key.clone().unwrap_or_default();
        let attached = match forget_queued(access, &key).await {
            Ok(()) => attach(access, request).await,
            Err(failure) => Err(failure),
        };
        match attached {
            Ok(attachment) => attachments.push(attachment),
            Err(mut failure) => {
                failure.details = format!("{place}: {}", failure.details);
                for key in attachments.iter().rev().filter_map(|attachment| attachment.key.as_ref()) {
                    undo(access, key).await;
                }
                return Err(give_back(ipam, failure));
            }
        }
    }
    Ok(attachments)
}

/// Carries out a DEL that waits for the daemon: it came before this ADD, and must not hit what ADD makes. The
/// order is that of [`weft_proto::detach_queue`].
async fn forget_queued(access: &Access, key: &AttachmentKey) -> Result<(), Failure> {
    let queue = access.queue();
    if !queue.holds(key) {
        return Ok(());
    }
    let request = weft_proto::v1::DetachRequest { key: Some(key.clone()) };
    let answer = daemon::call(access, patience(access), |mut client| {
        let request = request.clone();
        async move { client.detach(request).await }
    });
    answer.await.map_err(Unanswered::failure)?;
    queue.remove(key).map_err(|error| queue_failed(&error))?;
    Ok(())
}

/// Attaches. When it is not known what came of it, it is undone.
async fn attach(access: &Access, request: AttachRequest) -> Result<AttachmentState, Failure> {
    let key = request.key.clone().unwrap_or_default();
    let answer = daemon::call(access, patience(access), |mut client| {
        let request = request.clone();
        async move { client.attach(request).await }
    });
    match answer.await {
        Ok(response) => response.attachment.ok_or_else(|| {
            Failure::new(Code::Daemon, "the daemon failed", "it answered without an attachment")
        }),
        Err(unanswered) => {
            if matches!(unanswered, Unanswered::Silent(_)) {
                undo(access, &key).await;
            }
            Err(unanswered.failure())
        }
    }
}

/// Attaches with the addresses of another plugin, which get them back when that fails.
async fn attach_given(
    access: &Access,
    wish: &Wish,
    ipam: &Ipam<'_>,
) -> Result<(AttachmentState, Given), Failure> {
    not_attached(access, &wish.request).await?;
    let given = ipam.add()?;
    let attached = match with_given(wish, &given) {
        Ok(request) => attach(access, request).await,
        Err(failure) => Err(failure),
    };
    match attached {
        Ok(mut attachment) => {
            add_gateways(&mut attachment.addresses, &given);
            Ok((attachment, given))
        }
        Err(failure) => Err(give_back(Some(ipam), failure)),
    }
}

/// Gives a plugin its addresses back after a failure.
fn give_back(ipam: Option<&Ipam<'_>>, mut failure: Failure) -> Failure {
    if let Some(Err(other)) = ipam.map(|ipam| ipam.call("DEL")) {
        failure.details += &format!("; then {other}");
    }
    failure
}

/// The request with the addresses and routes that were given. Default routes are those that were given, unless
/// the configuration says otherwise.
fn with_given(wish: &Wish, given: &Given) -> Result<AttachRequest, Failure> {
    let mut request = wish.request.clone();
    request.address_source = Some(AddressSource::Given(given.addresses()));
    request.default_route = Some(wish.default_route.unwrap_or(false));
    request.routes.extend(wish::routes("routes of the IPAM plugin", &given.routes())?);
    if request.default_route == Some(true) {
        request.routes.retain(|route| !route.prefix.ends_with("/0"));
    }
    Ok(request)
}

/// The plugin's gateways, where the Network has none.
fn add_gateways(addresses: &mut [AttachedAddress], given: &Given) {
    for address in addresses.iter_mut().filter(|address| address.gateway.is_empty()) {
        if let Some(ip) = given.ips.iter().find(|ip| ip.address == address.address) {
            address.gateway.clone_from(&ip.gateway);
        }
    }
}

/// Refuses what is attached already. Plugins for addresses answer a second ADD with an error, after which they are
/// told to DEL: that would free the addresses of a container that lives.
async fn not_attached(access: &Access, request: &AttachRequest) -> Result<(), Failure> {
    let question = CheckRequest { key: request.key.clone(), ..CheckRequest::default() };
    let answer = daemon::call(access, patience(access), |mut client| {
        let question = question.clone();
        async move { client.check(question).await }
    });
    match answer.await {
        Err(Unanswered::Refused(status)) if status.code() == Grpc::NotFound => Ok(()),
        Err(Unanswered::Refused(status)) if status.code() != Grpc::FailedPrecondition => {
            Err(Unanswered::Refused(status).failure())
        }
        Ok(_) | Err(Unanswered::Refused(_)) => {
            let key = request.key.clone().unwrap_or_default();
            let details = format!("{} of {} is attached; DEL first", key.interface, key.container_id);
            Err(Failure::new(Code::Taken, "the container is attached already", details))
        }
        Err(unanswered) => Err(unanswered.failure()),
    }
}

/// Detaches what may have been attached; when the daemon does not answer, it does that later.
async fn undo(access: &Access, key: &AttachmentKey) {
    let soon =
        Access { call_timeout_seconds: UNDO_SECONDS.min(access.call_timeout_seconds), ..access.clone() };
    if detach(&soon, key).await.is_err() {
        // The runtime calls DEL after a failed ADD, which tells when the queue cannot be written.
        let _ = access.queue().add(&QueuedDetach::now(key.clone()));
    }
}

/// Refuses the namespace in which the plugin runs: a runtime that sends it is mistaken.
fn not_the_nodes_own(environment: &Environment) -> Result<(), Failure> {
    use std::os::unix::fs::MetadataExt;
    let identity = |path: &str| std::fs::metadata(path).map(|data| (data.dev(), data.ino())).ok();
    // A namespace that is not there is the daemon's to tell: it may see other mounts.
    match identity(&environment.netns) {
        Some(given) if Some(given) == identity("/proc/self/ns/net") => {
            let details = format!("{} is the node's own network namespace", environment.netns);
            Err(Failure::environment("CNI_NETNS", details))
        }
        _ => Ok(()),
    }
}

fn patience(access: &Access) -> Duration {
    Duration::from_secs(access.daemon_wait_seconds.into())
}
