//! The pods of this node, of which only the annotations about networks are kept. What they mean is
//! [`crate::pods`]'s.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1 as core;
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;

use super::Listener;
use crate::error::chain;
use crate::pods::annotation::{OWN, STANDARD};
use crate::pods::{Pod, Pods, Source};

/// How long the API may take to tell of one pod.
const BOUND: Duration = Duration::from_secs(2);
/// The annotation of a static pod's image in the API: the uid by which the kubelet knows it.
const MIRROR: &str = "kubernetes.io/config.mirror";

impl Listener {
    /// Hears of the pods of node `name`.
    pub(super) async fn pods(self, name: String, pods: Arc<Pods>) {
        let config = watcher::Config::default().fields(&format!("spec.nodeName={name}"));
        let mut list = BTreeMap::new();
        self.follow(Api::<core::Pod>::all, config, "pods", |event| {
            match event {
                watcher::Event::Init => list.clear(),
                watcher::Event::InitApply(pod) => drop(list.insert(key(&pod), pod_of(&pod))),
                watcher::Event::InitDone => pods.change(|known| *known = std::mem::take(&mut list)),
                watcher::Event::Apply(pod) => {
                    pods.change(|known| drop(known.insert(key(&pod), pod_of(&pod))));
                }
                watcher::Event::Delete(pod) => pods.change(|known| drop(known.remove(&key(&pod)))),
            }
            None
        })
        .await;
    }
}

/// Asks the API for one pod.
#[derive(Clone)]
pub(super) struct Inquiry(pub watch::Receiver<Client>);

impl Source for Inquiry {
    async fn ask(&self, namespace: &str, name: &str) -> Result<Option<Pod>, String> {
        let api = Api::<core::Pod>::namespaced(self.0.borrow().clone(), namespace);
        match tokio::time::timeout(BOUND, api.get_opt(name)).await {
            Ok(Ok(pod)) => Ok(pod.as_ref().map(pod_of)),
            Ok(Err(error)) => Err(format!("the Kubernetes API: {}", chain(&error))),
            Err(_) => Err(format!("the Kubernetes API gave no answer in {} s", BOUND.as_secs())),
        }
    }
}

fn key(pod: &core::Pod) -> String {
    format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any())
}

fn pod_of(pod: &core::Pod) -> Pod {
    let annotation = |name: &str| pod.annotations().get(name).cloned();
    Pod {
        uid: annotation(MIRROR).or_else(|| pod.uid()).unwrap_or_default(),
        standard: annotation(STANDARD),
        own: annotation(OWN),
    }
}
