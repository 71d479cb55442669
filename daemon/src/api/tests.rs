//! The API over a real socket and a real store; only the kernel's part is played.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::Ordering;

use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use weft_host::netns::NetNs;
use weft_proto::error_detail::{Violation, violations};

use super::*;
use crate::fixture::{BASE, port, resources};
use crate::status::Report;
use daemon::{Daemon, LIMIT, next, reference};

mod daemon;
mod tunnels;

#[tokio::test]
async fn what_is_applied_is_tried_and_shown_with_its_status() {
    let daemon = Daemon::start();
    let answer = daemon.apply(&format!("{BASE}{}", port("web", "  vlan: 7"))).await;
    assert_eq!((answer.revision, answer.results.len()), (1, 5));
    let web = answer.results.last().unwrap();
    assert_eq!((web.kind(), web.name.as_str(), web.change()), (v1::Kind::Port, "web", v1::Change::Created));
    let shown = web.resource.as_ref().unwrap();
    let ready = shown.ready_condition().unwrap();
    assert_eq!((ready.status, &*ready.reason, &*ready.message), (true, "Realized", "as wished"));
    let mut client = daemon.client().fabric;
    let request = v1::GetRequest { kind: v1::Kind::Port as i32, name: "web".into() };
    assert_eq!(&client.get(request).await.unwrap().into_inner(), shown);
    let Some(v1::resource::Kind::Port(port)) = &shown.kind else { panic!("{shown:?}") };
    assert_eq!(port.spec.as_ref().unwrap().vlan, 7);
    assert_eq!(port.status.as_ref().unwrap().device, "eth0");
    daemon.stop().await;
}

#[tokio::test]
async fn list_selects_by_kind_and_labels_in_order() {
    let daemon = Daemon::start();
    daemon.apply(BASE).await;
    let mut client = daemon.client().fabric;
    let mut names = async |kind: v1::Kind, labels: &[(&str, &str)]| {
        let labels = labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        let answer = client.list(v1::ListRequest { kind: kind as i32, labels }).await.unwrap().into_inner();
        answer.resources.iter().map(v1::Resource::id).collect::<Vec<_>>()
    };
    assert_eq!(
        names(v1::Kind::Unspecified, &[]).await,
        ["Namespace/box", "Network/back", "Network/front", "Router/core"]
    );
    assert_eq!(names(v1::Kind::Network, &[("tier", "front")]).await, ["Network/front"]);
    assert_eq!(names(v1::Kind::Network, &[("tier", "rear")]).await, [""; 0]);
}

#[tokio::test]
async fn wrong_fields_come_with_their_places() {
    let daemon = Daemon::start();
    let yaml = format!("{BASE}{}", port("web", "  vlan: 4095\n  mtu: 9000"));
    let request = v1::ApplyRequest { resources: resources(&yaml), ..Default::default() };
    let status = daemon.client().fabric.apply(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let told: Vec<String> = violations(&status).iter().map(Violation::line).collect();
    assert_eq!(
        told,
        [
            "Port/web: spec.vlan: 4095 is not a VLAN id, 1 to 4094 expected",
            "Port/web: spec.mtu: 9000 is more than the Network's 1500",
        ]
    );
    assert_eq!(daemon.realizer.store.revision(), 0);
}

#[tokio::test]
async fn a_path_is_adopted_when_it_is_somebody_elses_namespace() {
    let daemon = Daemon::start();
    let file = daemon.folder.join("file");
    std::fs::write(&file, "").unwrap();
    let mut client = daemon.client().fabric;
    let mut told = async |path: &Path| {
        let yaml = crate::fixture::object("Namespace", "pod", &format!("  path: {}", path.display()));
        let request = v1::ApplyRequest { resources: resources(&yaml), ..Default::default() };
        client.apply(request).await.unwrap_err().message().to_owned()
    };
    let missing = daemon.folder.join("missing");
    let expected = format!("Namespace/pod: spec.path: {} does not exist", missing.display());
    assert_eq!(told(&missing).await, expected);
    let expected = format!("Namespace/pod: spec.path: {} is not a network namespace", file.display());
    let got = told(&file).await;
    assert!(got.starts_with(&expected), "{got}");
    let own = told(Path::new("/proc/self/ns/net")).await;
    assert!(own.ends_with("is the namespace of the daemon, where ports of type host appear"), "{own}");
    let other = NetNs::create_anonymous().unwrap();
    let path = format!("  path: /proc/self/fd/{}", other.as_fd().as_raw_fd());
    let yaml = crate::fixture::object("Namespace", "pod", &path);
    assert_eq!(daemon.apply(&yaml).await.results.len(), 1);
}

#[tokio::test]
async fn missing_and_used_objects_have_their_codes() {
    let daemon = Daemon::start();
    daemon.apply(&format!("{BASE}{}", port("web", ""))).await;
    let mut client = daemon.client().fabric;
    let get = |kind: v1::Kind, name: &str| v1::GetRequest { kind: kind as i32, name: name.into() };
    let status = client.get(get(v1::Kind::Port, "none")).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::NotFound, "there is no Port/none"));
    assert_eq!(client.get(get(v1::Kind::Unspecified, "x")).await.unwrap_err().code(), Code::InvalidArgument);
    let delete = |objects, ignore_missing| v1::DeleteRequest { objects, ignore_missing, no_wait: false };
    let status = client.delete(delete(vec![reference(v1::Kind::Network, "front")], false)).await.unwrap_err();
    let expected = "Network/front is used by Port/web; delete or change those first";
    assert_eq!((status.code(), status.message()), (Code::FailedPrecondition, expected));
    let status = client.delete(delete(vec![reference(v1::Kind::Port, "no")], false)).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    let all = vec![reference(v1::Kind::Port, "no"), reference(v1::Kind::Port, "web")];
    let answer = client.delete(delete(all, true)).await.unwrap().into_inner();
    assert_eq!(answer.deleted, [reference(v1::Kind::Port, "web")]);
    assert_eq!(client.get(get(v1::Kind::Port, "web")).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_dry_run_shows_changes_and_makes_none() {
    let daemon = Daemon::start();
    let request = v1::ApplyRequest { resources: resources(BASE), dry_run: true, ..Default::default() };
    let answer = daemon.client().fabric.apply(request).await.unwrap().into_inner();
    assert_eq!(answer.results[0].change(), v1::Change::Created);
    assert!(answer.results[0].resource.is_none());
    assert_eq!(daemon.realizer.store.revision(), 0);
}

#[tokio::test]
async fn no_wait_answers_before_anything_was_tried() {
    let daemon = Daemon::start();
    daemon.realizer.held.store(true, Ordering::Relaxed);
    let request = v1::ApplyRequest { resources: resources(BASE), no_wait: true, ..Default::default() };
    let answer = daemon.client().fabric.apply(request).await.unwrap().into_inner();
    let ready = answer.results[0].resource.as_ref().unwrap().ready_condition().cloned().unwrap();
    assert_eq!((ready.status, &*ready.reason), (false, "Pending"));
}

#[tokio::test]
async fn delete_waits_until_the_object_is_gone() {
    let daemon = Daemon::start();
    daemon.apply(BASE).await;
    daemon.realizer.held.store(true, Ordering::Relaxed);
    let mut client = daemon.client().fabric;
    let objects = vec![reference(v1::Kind::Namespace, "box")];
    let request = v1::DeleteRequest { objects, ..Default::default() };
    let answer = tokio::spawn(async move { client.delete(request).await });
    let mut revision = daemon.realizer.store.subscribe();
    tokio::time::timeout(LIMIT, revision.wait_for(|revision| *revision == 2)).await.unwrap().unwrap();
    assert!(!answer.is_finished());
    daemon.realizer.held.store(false, Ordering::Relaxed);
    daemon.realizer.wake();
    let answer = tokio::time::timeout(LIMIT, answer).await.unwrap().unwrap().unwrap().into_inner();
    assert_eq!((answer.deleted.len(), answer.revision), (1, 2));
}

#[tokio::test]
async fn a_watch_tells_the_present_then_changes() {
    let daemon = Daemon::start();
    daemon.apply(BASE).await;
    let mut client = daemon.client().fabric;
    let labels = BTreeMap::from([("tier".to_owned(), "front".to_owned())]);
    let request = v1::WatchRequest { kind: v1::Kind::Network as i32, labels };
    let mut events = client.watch(request).await.unwrap().into_inner();
    let event = next(&mut events).await;
    assert_eq!(
        (event.r#type(), event.resource.unwrap().id().as_str()),
        (v1::EventType::Present, "Network/front")
    );
    let event = next(&mut events).await;
    assert_eq!((event.r#type(), event.resource), (v1::EventType::Synced, None));
    let down = Report { ready: false, reason: "Broken", message: "no".into(), observed: None, generation: 1 };
    let front = crate::model::Name::new("front").unwrap();
    daemon.realizer.status.report(crate::model::Kind::Network, &front, down);
    let event = next(&mut events).await;
    assert_eq!(event.r#type(), v1::EventType::Changed);
    assert_eq!(event.resource.unwrap().ready_condition().unwrap().reason, "Broken");
    daemon.realizer.held.store(true, Ordering::Relaxed);
    let relabelled = BASE.replace("{tier: front}", "{tier: edge}");
    let request = v1::ApplyRequest { resources: resources(&relabelled), no_wait: true, ..Default::default() };
    client.apply(request).await.unwrap();
    let event = next(&mut events).await;
    assert_eq!((event.r#type(), event.revision), (v1::EventType::Deleted, 2));
    let last = event.resource.unwrap();
    assert_eq!((last.id().as_str(), last.labels().unwrap()["tier"].as_str()), ("Network/front", "front"));
}

#[tokio::test]
async fn a_slow_reader_skips_states_but_not_the_last_one() {
    let (daemon, node) = Daemon::prepare();
    daemon.realizer.held.store(true, Ordering::Relaxed);
    let (store, node) = (Arc::clone(&node.store), Arc::new(node));
    let apply = |vlan: u32| {
        let yaml = format!("{BASE}{}", port("web", &format!("  vlan: {vlan}")));
        let wish = crate::store::Wish { resources: resources(&yaml), ..Default::default() };
        store.apply(wish, &|_| Ok(())).unwrap();
    };
    apply(1);
    let kind = Some(crate::model::Kind::Port);
    let mut events: ReceiverStream<_> = watching::start(Arc::clone(&node), kind, BTreeMap::new());
    assert_eq!(next(&mut events).await.r#type(), v1::EventType::Present);
    assert_eq!(next(&mut events).await.r#type(), v1::EventType::Synced);
    const LAST: u32 = 200;
    for vlan in 2..=LAST {
        apply(vlan);
        // Lets the watch run: it would pile up one event a change here if it kept them.
        tokio::task::yield_now().await;
    }
    let mut count = 0;
    loop {
        let event = next(&mut events).await;
        count += 1;
        let Some(v1::resource::Kind::Port(port)) = event.resource.unwrap().kind else { panic!("a Port") };
        if port.spec.unwrap().vlan == LAST {
            break;
        }
    }
    assert!(count < 30, "{count} events");
}

#[tokio::test]
async fn a_watch_does_not_hold_up_the_stop() {
    let daemon = Daemon::start();
    let mut client = daemon.client().fabric;
    let mut events = client.watch(v1::WatchRequest::default()).await.unwrap().into_inner();
    assert_eq!(next(&mut events).await.r#type(), v1::EventType::Synced);
    let socket = daemon.socket();
    daemon.stop().await;
    assert!(!socket.exists());
}

#[tokio::test]
async fn the_socket_is_for_its_owner_and_replaces_a_stale_one() {
    let daemon = Daemon::start();
    let mode = std::fs::metadata(daemon.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(matches!(Api::bind(&daemon.socket()), Err(Error::SocketTaken { .. })));
    assert_eq!(std::fs::read_dir(daemon.folder.join("run")).unwrap().count(), 1);
    let stale = daemon.folder.join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    let bound = Api::bind(&stale).unwrap();
    assert!(std::os::unix::net::UnixStream::connect(&stale).is_ok());
    drop(bound);
    let file = daemon.folder.join("file");
    std::fs::write(&file, "x").unwrap();
    assert!(matches!(Api::bind(&file), Err(Error::Socket { operation: "replaced", .. })));
    assert!(file.exists());
}

#[tokio::test]
async fn health_says_serving_after_the_first_pass() {
    use tonic_health::pb::health_check_response::ServingStatus;
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    let daemon = Daemon::start();
    let mut client = HealthClient::new(daemon.channel().await);
    let request = HealthCheckRequest { service: "weft.v1.Fabric".into() };
    let mut states = client.watch(request).await.unwrap().into_inner();
    let mut serving = async || {
        let state = tokio::time::timeout(LIMIT, states.next()).await.unwrap().unwrap().unwrap();
        state.status() == ServingStatus::Serving
    };
    assert!(!serving().await);
    daemon.realizer.wake();
    while !serving().await {}
}

#[tokio::test]
async fn reflection_knows_the_services() {
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    };
    let daemon = Daemon::start();
    let mut client = ServerReflectionClient::new(daemon.channel().await);
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers =
        client.server_reflection_info(tokio_stream::iter([request])).await.unwrap().into_inner();
    let answer = answers.next().await.unwrap().unwrap().message_response;
    let Some(MessageResponse::ListServicesResponse(list)) = answer else { panic!("{answer:?}") };
    let names: Vec<&str> = list.service.iter().map(|service| service.name.as_str()).collect();
    for expected in ["weft.v1.Fabric", "weft.v1.Diagnostics", "grpc.health.v1.Health"] {
        assert!(names.contains(&expected), "{names:?}");
    }
}

#[tokio::test]
async fn diagnostics_tell_of_the_daemon_and_its_counters() {
    let daemon = Daemon::start();
    daemon.apply(&format!("{BASE}{}", port("web", ""))).await;
    let mut client = daemon.client().diagnostics;
    let status = client.status(v1::StatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.pid, status.revision, status.workers.len()), (std::process::id(), 1, 1));
    assert_eq!(status.reconciler.unwrap().passes, 7);
    let networks = status.kinds.iter().find(|count| count.kind() == v1::Kind::Network).unwrap();
    assert_eq!((networks.total, networks.ready), (2, 2));
    let counters = client.counters(v1::CountersRequest::default()).await.unwrap().into_inner();
    assert!(!counters.drops.is_empty());
    let request = v1::CountersRequest { port: "none".into() };
    assert_eq!(client.counters(request).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn traces_that_cannot_be_made_say_why() {
    let daemon = Daemon::start();
    daemon.apply(&format!("{BASE}{}", port("web", ""))).await;
    let mut client = daemon.client().diagnostics;
    let mut told = async |port: &str, spec: Option<v1::PacketSpec>| {
        let packet = spec.map(v1::trace_request::Packet::Spec);
        let status = client.trace(v1::TraceRequest { port: port.into(), packet }).await.unwrap_err();
        (status.code(), status.message().to_owned())
    };
    let to = |destination: &str| v1::PacketSpec { destination: destination.into(), ..Default::default() };
    assert_eq!(told("none", None).await, (Code::NotFound, "there is no Port/none".into()));
    let (code, message) = told("web", None).await;
    assert_eq!((code, &*message), (Code::InvalidArgument, "packet: not given, a spec or a frame expected"));
    let (_, message) = told("web", Some(to(""))).await;
    assert_eq!(message, "spec.destination: not given, an IP address expected");
    let (_, message) = told("web", Some(v1::PacketSpec { source: "::1".into(), ..to("198.18.1.1") })).await;
    assert_eq!(message, "spec.source: ::1 is not of the same family as 198.18.1.1");
    let (_, message) = told("web", Some(v1::PacketSpec { source_port: 65_536, ..to("198.18.1.1") })).await;
    assert_eq!(message, "spec.sourcePort: 65536 is out of range, 0 to 65535 expected");
    let (_, message) = told("web", Some(v1::PacketSpec { ttl: 256, ..to("198.18.1.1") })).await;
    assert_eq!(message, "spec.ttl: 256 is out of range, 1 to 255 expected");
    let (code, message) = told("web", Some(to("198.18.1.1"))).await;
    assert_eq!(code, Code::FailedPrecondition);
    assert_eq!(message, "Port/web cannot be traced: its device is not there yet");
}
