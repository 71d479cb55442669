//! The further Networks of a pod, which its annotations name: what is asked of the daemon for each.
//!
//! The annotations are the agent's to read ([`crate::agent`]); without a pod, or without an agent, there are none.

use std::time::Duration;

use weft_proto::v1::attach_request::AddressSource;
use weft_proto::v1::{AttachRequest, AttachmentKey, PoolAddresses};

use crate::agent::{self, PodNetwork};
use crate::arguments::Arguments;
use crate::document::Document;
use crate::environment::Environment;
use crate::failure::{Code, Failure};
use crate::settings::Further;

/// What the name of a configuration has behind it for attachments that came of annotations: GC is told of those that
/// the runtime asked for, and must not take these for forgotten.
const ANNOTATIONS: &str = "/annotations";

/// A request for each further Network, after that for the first.
pub async fn requests(
    environment: &Environment,
    document: &Document,
    first: &AttachRequest,
    patience: Duration,
) -> Result<Vec<AttachRequest>, Failure> {
    let Further { pod_networks } = document.read()?;
    let arguments = Arguments::parse(&environment.arguments)?;
    let Some(agent) = pod_networks.filter(|_| !arguments.owner.is_empty()) else { return Ok(Vec::new()) };
    let networks = agent::networks(&agent, &arguments.owner, &arguments.uid, patience).await?;
    networks.into_iter().map(|network| request(environment, first, network)).collect()
}

/// What a request is for, in the words of an error.
pub fn place(request: &AttachRequest) -> String {
    let interface = request.key.as_ref().map_or("", |key| &key.interface);
    format!("{interface} on {}, for an annotation of pod {}", request.network, request.owner)
}

fn request(
    environment: &Environment,
    first: &AttachRequest,
    network: PodNetwork,
) -> Result<AttachRequest, Failure> {
    let AttachmentKey { container_id, interface } = environment.key.clone();
    if network.interface == interface {
        let details = format!(
            "an annotation of pod {} wants {interface} on {}, which is the device of its first network: another \
             interface expected",
            first.owner, network.network
        );
        return Err(Failure::new(Code::InvalidConfig, "an annotation of the pod is wrong", details));
    }
    let wanted = PoolAddresses { wanted: network.ips, ranges: Vec::new() };
    Ok(AttachRequest {
        key: Some(AttachmentKey { container_id, interface: network.interface }),
        network: network.network,
        vlan: network.vlan,
        netns: first.netns.clone(),
        r#type: first.r#type,
        mac: network.mac,
        address_source: Some(AddressSource::Pools(wanted)),
        default_route: Some(false),
        owner: first.owner.clone(),
        configuration: format!("{}{ANNOTATIONS}", first.configuration),
        labels: first.labels.clone(),
        ..AttachRequest::default()
    })
}
