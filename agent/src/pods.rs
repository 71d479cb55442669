//! Which further networks the pods of this node shall have, for the CNI plugin: it asks over a Unix socket.
//!
//! `GET /pods/NAMESPACE/NAME/networks` answers 200 and a JSON list; 404 when there is no such pod, 422 and a line when
//! an annotation is wrong, 503 and a line when it cannot be known now. With `?uid=UID` a pod that is known by another
//! uid is not meant: one of the same name was before it. What pods say is heard by
//! [`crate::cluster::kubernetes`]; what annotations mean is [`annotation`]'s.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::{UnixListener, UnixStream};

use crate::config::Config;
use crate::error::{Result, chain};
use crate::file::{self, at};

pub mod annotation;

/// The file of what was last heard, so that an agent that starts while nobody answers goes by it.
const FILE: &str = "pods.json";
/// Pause after a connection that could not be taken: out of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// What matters of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pod {
    /// Tells it from others of the same name, as the kubelet has it.
    pub uid: String,
    /// Its annotation `k8s.v1.cni.cncf.io/networks`.
    pub standard: Option<String>,
    /// Its annotation `weft.dev/networks`.
    pub own: Option<String>,
}

/// The pods of this node, by NAMESPACE/NAME.
#[derive(Debug)]
pub struct Pods {
    known: Mutex<BTreeMap<String, Pod>>,
    folder: PathBuf,
}

/// Where the plugin asks.
#[derive(Debug)]
pub struct Counter {
    /// What is known.
    pub pods: Arc<Pods>,
    listener: UnixListener,
}

/// Asks for one pod whose name is NAMESPACE and NAME. `None`: there is none. Errors: why that is not known.
pub trait Source: Clone + Send + Sync + 'static {
    /// Asks.
    fn ask(
        &self,
        namespace: &str,
        name: &str,
    ) -> impl Future<Output = std::result::Result<Option<Pod>, String>> + Send;
}

impl Pods {
    /// What is on disk.
    fn load(folder: &Path) -> Pods {
        let text = fs::read(folder.join(FILE)).unwrap_or_default();
        // A file that is not there, or cannot be read: everything is asked anew.
        let known = serde_json::from_slice(&text).unwrap_or_default();
        Pods { known: Mutex::new(known), folder: folder.to_owned() }
    }

    /// Changes what is known, and writes it down when it is other than before.
    pub fn change(&self, change: impl FnOnce(&mut BTreeMap<String, Pod>)) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known.clone();
        change(&mut known);
        if *known != before
            && let Err(error) = self.save(&known)
        {
            tracing::warn!("what is known of pods is not on disk: {}", chain(&error));
        }
    }

    fn get(&self, namespace: &str, name: &str) -> Option<Pod> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&format!("{namespace}/{name}")).cloned()
    }

    fn save(&self, known: &BTreeMap<String, Pod>) -> Result<()> {
        // Maps with names as keys and strings: this cannot fail.
        let text = serde_json::to_vec(known).unwrap_or_default();
        file::replace(&self.folder, FILE, &text)
    }
}

impl Counter {
    /// Listens at the socket of a configuration, for root alone, in place of one that is there.
    pub fn open(config: &Config) -> Result<Counter> {
        let path = &config.plugin_socket;
        let mut new = path.clone().into_os_string();
        new.push(".new");
        let new = PathBuf::from(new);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(at(folder))?;
        }
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&new)(error)),
            _ => {}
        }
        let listener = UnixListener::bind(&new).map_err(at(&new))?;
        fs::set_permissions(&new, Permissions::from_mode(0o600)).map_err(at(&new))?;
        fs::rename(&new, path).map_err(at(path))?;
        Ok(Counter { pods: Arc::new(Pods::load(&config.state_dir)), listener })
    }

    /// Serves until the runtime ends; pods that are not known yet are asked for.
    pub async fn serve(self, source: impl Source) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => drop(tokio::spawn(talk(stream, self.pods.clone(), source.clone()))),
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}

async fn talk(stream: UnixStream, pods: Arc<Pods>, source: impl Source) {
    let service = service_fn(|request: Request<Incoming>| {
        let (pods, source) = (pods.clone(), source.clone());
        async move { Ok::<_, Infallible>(answer(&pods, &source, request.into_parts().0).await) }
    });
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // Whoever asked went away: it asks again.
    let _ = connection.await;
}

async fn answer(pods: &Pods, source: &impl Source, request: Parts) -> Response<Full<Bytes>> {
    let path: Vec<&str> = request.uri.path().split('/').collect();
    let (&Method::GET, ["", "pods", namespace, name, "networks"]) = (&request.method, path.as_slice()) else {
        let line = "GET /pods/NAMESPACE/NAME/networks expected\n";
        return told(StatusCode::BAD_REQUEST, line.to_owned());
    };
    let uid = request.uri.query().and_then(|query| query.strip_prefix("uid=")).unwrap_or_default();
    let (code, body) = networks(pods, source, namespace, name, uid).await;
    told(code, body)
}

/// What is answered for a pod.
async fn networks(
    pods: &Pods,
    source: &impl Source,
    namespace: &str,
    name: &str,
    uid: &str,
) -> (StatusCode, String) {
    let known = pods.get(namespace, name).filter(|pod| uid.is_empty() || pod.uid == uid);
    let pod = match known {
        Some(pod) => Ok(Some(pod)),
        None => source.ask(namespace, name).await,
    };
    match pod {
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("pod {namespace}/{name}: {why}\n")),
        Ok(None) => (StatusCode::NOT_FOUND, format!("there is no pod {namespace}/{name}\n")),
        Ok(Some(pod)) => match annotation::networks(pod.standard.as_deref(), pod.own.as_deref()) {
            Ok(networks) => {
                // Strings and lists of them: this cannot fail.
                (StatusCode::OK, serde_json::to_string(&networks).unwrap_or_default() + "\n")
            }
            Err(wrong) => (StatusCode::UNPROCESSABLE_ENTITY, format!("pod {namespace}/{name}: {wrong}\n")),
        },
    }
}

fn told(code: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = code;
    answer
}

#[cfg(test)]
mod tests;
