//! The gRPC interface as other programs meet it: health, reflection, error details, and slow watchers.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio_stream::StreamExt;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};
use weft_proto::v1::{self, ApplyRequest, EventType, GetRequest, Kind, WatchRequest};
use weft_proto::{Client, error_detail, manifest};
use weft_testkit::{Lab, Manifest, PortKind, topology};

/// Changes that a watcher sleeps through.
const CHANGES: usize = 300;

/// Runs a test against the API of a lab's daemon, with a deadline.
fn with_api<F: Future<Output = Result<()>>>(test: impl FnOnce(String) -> F) {
    Lab::test(|lab| {
        let socket = format!("unix://{}", lab.path("/run/weft/weftd.sock").display());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), test(socket)).await })?
    });
}

async fn channel(socket: &str) -> Result<Channel> {
    Endpoint::try_from(socket.to_owned())?.connect().await.with_context(|| socket.to_owned())
}

fn resources(manifest: &Manifest) -> Result<Vec<v1::Resource>> {
    manifest::parse(&manifest.to_string(), "test").map_err(|errors| anyhow::anyhow!("{errors:?}"))
}

#[test]
fn health_says_serving() {
    with_api(|socket| async move {
        let mut health = HealthClient::new(channel(&socket).await?);
        for service in ["", "weft.v1.Fabric", "weft.v1.Diagnostics", "weft.v1.Endpoints"] {
            // Once what was stored has been tried on the kernel, which may be a moment after the daemon answers.
            let request = HealthCheckRequest { service: service.into() };
            let mut words = health.watch(request).await?.into_inner();
            while words.next().await.context("an end")??.status() != ServingStatus::Serving {}
        }
        Ok(())
    });
}

async fn reflect(socket: &str, request: MessageRequest) -> Result<ServerReflectionResponse> {
    let mut reflection = ServerReflectionClient::new(channel(socket).await?);
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(request) };
    let mut answers = reflection.server_reflection_info(tokio_stream::once(request)).await?.into_inner();
    answers.next().await.context("no answer")?.context("reflection")
}

#[test]
fn reflection_lists_and_describes_the_services() {
    with_api(|socket| async move {
        let listed = reflect(&socket, MessageRequest::ListServices(String::new())).await?;
        let Some(MessageResponse::ListServicesResponse(list)) = listed.message_response else {
            anyhow::bail!("a list of services expected: {listed:?}");
        };
        let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
        for wanted in ["weft.v1.Fabric", "weft.v1.Diagnostics", "grpc.health.v1.Health"] {
            ensure!(names.contains(&wanted), "{wanted} is not among {names:?}");
        }
        let found = reflect(&socket, MessageRequest::FileContainingSymbol("weft.v1.Fabric".into())).await?;
        let found = found.message_response;
        ensure!(matches!(found, Some(MessageResponse::FileDescriptorResponse(_))), "{found:?}");
        Ok(())
    });
}

#[test]
fn wrong_input_carries_field_violations_in_the_status_details() {
    with_api(|socket| async move {
        let mut client = Client::connect(&socket)?;
        let wrong =
            topology::one_network(PortKind::Tap, PortKind::Tap).with("Port", "a", "vlan", json!(4095));
        let request = ApplyRequest { resources: resources(&wrong)?, ..ApplyRequest::default() };
        let Err(status) = client.fabric.apply(request).await else { anyhow::bail!("a refusal expected") };
        ensure!(status.code() == tonic::Code::InvalidArgument, "{status:?}");
        let violations = error_detail::violations(&status);
        let expected = ("Port/a: spec.vlan", "4095 is not a VLAN id, 1 to 4094 expected");
        let found = violations.iter().any(|v| (v.field.as_str(), v.description.as_str()) == expected);
        ensure!(found, "{expected:?} expected: {violations:?}");
        Ok(())
    });
}

#[test]
fn a_missing_object_is_told_from_a_wrong_request() {
    with_api(|socket| async move {
        let mut client = Client::connect(&socket)?;
        let request = GetRequest { kind: Kind::Port.into(), name: "nobody".into() };
        let Err(status) = client.fabric.get(request).await else { anyhow::bail!("a refusal expected") };
        ensure!(status.code() == tonic::Code::NotFound && status.message().contains("nobody"), "{status:?}");
        Ok(())
    });
}

#[test]
fn a_watcher_that_reads_late_gets_the_last_state() {
    with_api(|socket| async move {
        let mut client = Client::connect(&socket)?;
        let request = WatchRequest { kind: Kind::Namespace.into(), ..WatchRequest::default() };
        let mut watch = client.fabric.watch(request).await?.into_inner();
        for n in 1..=CHANGES {
            // Long enough that the changes do not fit into the buffers of the connection.
            let manifest = (0..60).fold(Manifest::new().namespace("x"), |manifest, label| {
                manifest.label(&format!("label{label}"), &"v".repeat(250))
            });
            let manifest = manifest.label("change", &n.to_string());
            let resources = resources(&manifest)?;
            client.fabric.apply(ApplyRequest { resources, no_wait: true, ..ApplyRequest::default() }).await?;
        }
        let (mut events, mut synced) = (0, false);
        loop {
            let event = watch.next().await.context("the watch ended")??;
            events += 1;
            synced |= event.r#type() == EventType::Synced;
            let labels = event.resource.and_then(|r| r.metadata).map(|m| m.labels).unwrap_or_default();
            if labels.get("change").is_some_and(|change| *change == CHANGES.to_string()) {
                break;
            }
        }
        ensure!(synced && events < CHANGES, "{events} events for {CHANGES} changes, synced {synced}");
        Ok(())
    });
}
