//! Tunnels over the API: keys go in and never come back.

use std::os::unix::fs::PermissionsExt;

use tonic::Code;
use weft_proto::error_detail::violations;
use weft_proto::v1;

use super::daemon::{Daemon, next, reference};
use crate::fixture::{BASE, object, resources};

const PRIVATE: &str = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=";
const PUBLIC: &str = "HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw=";
const PEER: &str = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
const SHARED: &str = "FpCyhws9cxwWoV4xELtfJvjJN+zQVRPISllRWgeopVE=";

fn wireguard(more: &str) -> String {
    let peer = format!("{{name: far, publicKey: '{PEER}', endpoint: '192.0.2.2:51820'{more}}}");
    let spec = format!("  router: core\n  wireguard: {{privateKey: '{PRIVATE}', peers: [{peer}]}}");
    object("Tunnel", "wg", &spec)
}

fn tunnel(resource: v1::Resource) -> v1::Tunnel {
    match resource.kind {
        Some(v1::resource::Kind::Tunnel(tunnel)) => tunnel,
        other => panic!("{other:?}"),
    }
}

fn assert_without_secrets(resource: &v1::Resource) {
    let text = format!("{}{}", weft_proto::manifest::to_json(std::slice::from_ref(resource)), resource.id());
    assert!(text.contains(PUBLIC) && !text.contains(PRIVATE) && !text.contains(SHARED), "{text}");
    let wireguard = tunnel(resource.clone()).spec.unwrap().wireguard.unwrap();
    assert!(wireguard.private_key.is_empty() && wireguard.peers[0].preshared_key.is_empty());
}

#[tokio::test]
async fn keys_never_come_back() {
    let daemon = Daemon::start();
    let yaml = format!("{BASE}{}", wireguard(&format!(", presharedKey: '{SHARED}'")));
    let applied = daemon.apply(&yaml).await;
    assert_without_secrets(applied.results.last().unwrap().resource.as_ref().unwrap());
    let mut client = daemon.client().fabric;
    let request = v1::GetRequest { kind: v1::Kind::Tunnel.into(), name: "wg".into() };
    assert_without_secrets(&client.get(request).await.unwrap().into_inner());
    let request = v1::ListRequest { kind: v1::Kind::Tunnel.into(), ..Default::default() };
    assert_without_secrets(&client.list(request.clone()).await.unwrap().into_inner().resources[0]);
    let request = v1::WatchRequest { kind: request.kind, ..Default::default() };
    let mut events = client.watch(request).await.unwrap().into_inner();
    assert_without_secrets(&next(&mut events).await.resource.unwrap());
    let folder = daemon.folder.join("state").join("keys");
    let files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()).collect();
    assert_eq!(files.len(), 1);
    assert_eq!(files[0].metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn what_was_answered_can_be_applied_again_and_keeps_the_key() {
    let daemon = Daemon::start();
    let applied = daemon.apply(&format!("{BASE}{}", wireguard(""))).await;
    let answered = applied.results.last().unwrap().resource.clone().unwrap();
    let request = v1::ApplyRequest { resources: vec![answered], ..Default::default() };
    let again = daemon.client().fabric.apply(request).await.unwrap().into_inner();
    assert_eq!(again.results[0].change(), v1::Change::Unchanged);
    let status = tunnel(again.results[0].resource.clone().unwrap()).status.unwrap();
    assert_eq!((status.public_key.as_str(), status.listen_port, status.mtu), (PUBLIC, 51820, 1440));
    let far = &status.remotes[0];
    assert_eq!((&*far.name, &*far.address, &*far.public_key), ("far", "192.0.2.2:51820", PEER));
    assert!(status.conditions[0].status);
}

#[tokio::test]
async fn wrong_fields_are_named_and_secrets_not_repeated() {
    let daemon = Daemon::start();
    let yaml =
        wireguard(", presharedKey: hunter2, allowedPrefixes: [198.18.9.1/24]").replace(PRIVATE, "hunter3");
    let request = v1::ApplyRequest { resources: resources(&format!("{BASE}{yaml}")), ..Default::default() };
    let status = daemon.client().fabric.apply(request).await.unwrap_err();
    let fields: Vec<String> = violations(&status).into_iter().map(|wrong| wrong.field).collect();
    assert_eq!(
        fields,
        ["Tunnel/wg: spec.wireguard.privateKey", "Tunnel/wg: spec.wireguard.peers[0].presharedKey"]
    );
    assert!(!format!("{status:?}").contains("hunter"));
}

#[tokio::test]
async fn a_key_is_rotated_and_the_rotation_finished() {
    let daemon = Daemon::start();
    daemon.apply(&format!("{BASE}{}", wireguard(""))).await;
    let mut client = daemon.client().tunnels;
    let request =
        |finish, key: &str| v1::RotateKeyRequest { name: "wg".into(), finish, private_key: key.into() };
    let answered = client.rotate_key(request(false, "")).await.unwrap().into_inner().tunnel.unwrap();
    assert_eq!(answered.metadata.as_ref().unwrap().generation, 2);
    let rotated = tunnel(answered).status.unwrap();
    assert_ne!(rotated.public_key, PUBLIC);
    assert_eq!(rotated.previous_public_keys, [PUBLIC]);
    let finished = client.rotate_key(request(true, "")).await.unwrap().into_inner().tunnel.unwrap();
    let finished = tunnel(finished).status.unwrap();
    assert_eq!((&finished.public_key, finished.previous_public_keys.len()), (&rotated.public_key, 0));
    let given = client.rotate_key(request(false, PRIVATE)).await.unwrap().into_inner().tunnel.unwrap();
    assert_eq!(tunnel(given).status.unwrap().public_key, PUBLIC);
}

#[tokio::test]
async fn rotations_that_cannot_be_have_their_codes() {
    let daemon = Daemon::start();
    daemon
        .apply(&format!("{BASE}{}", object("Tunnel", "gre", "  router: core\n  gre: {remote: 192.0.2.2}")))
        .await;
    let mut client = daemon.client().tunnels;
    let mut told = async |name: &str, finish, key: &str| {
        let request = v1::RotateKeyRequest { name: name.into(), finish, private_key: key.into() };
        let status = client.rotate_key(request).await.unwrap_err();
        (status.code(), status.message().to_owned())
    };
    assert_eq!(told("none", false, "").await, (Code::NotFound, "there is no Tunnel/none".into()));
    assert_eq!(told("gre", true, "").await.0, Code::FailedPrecondition);
    assert_eq!(told("No", true, "").await.0, Code::InvalidArgument);
    let (code, message) = told("gre", true, PRIVATE).await;
    assert_eq!(
        (code, &*message),
        (Code::InvalidArgument, "privateKey: given, nothing expected beside finish")
    );
    let (code, message) = told("gre", false, "hunter2").await;
    assert!(code == Code::InvalidArgument && !message.contains("hunter2"), "{message}");
}

#[tokio::test]
async fn a_deleted_tunnel_takes_its_keys_along() {
    let daemon = Daemon::start();
    daemon.apply(&format!("{BASE}{}", wireguard(""))).await;
    let request =
        v1::DeleteRequest { objects: vec![reference(v1::Kind::Tunnel, "wg")], ..Default::default() };
    daemon.client().fabric.delete(request).await.unwrap();
    assert_eq!(std::fs::read_dir(daemon.folder.join("state").join("keys")).unwrap().count(), 0);
}
