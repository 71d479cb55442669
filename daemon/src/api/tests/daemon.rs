//! A served API of a test's own, and a reconciler that is always quick and always succeeds.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio_stream::StreamExt;
use tonic::transport::{Channel, Endpoint};
use weft_proto::client::Client;
use weft_proto::v1;

use crate::api::{Api, DRAIN, Node, Realizer};
use crate::dataplane::{Dataplane, WorkerOptions};
use crate::error::Result;
use crate::fixture::resources;
use crate::reconcile::Folders;
use crate::status::{Report, StatusBoard};
use crate::store::Store;

/// Whatever may hang is given this long.
pub const LIMIT: Duration = Duration::from_secs(20);

/// Tries everything at once, and always with success; or nothing, while it is held.
pub struct Prompt {
    pub store: Arc<Store>,
    pub status: Arc<StatusBoard>,
    pub held: AtomicBool,
}

impl Realizer for Prompt {
    fn wake(&self) {
        if self.held.load(Ordering::Relaxed) {
            return;
        }
        let picture = self.store.picture();
        for object in picture.resources.keys() {
            if picture.fabric.is_going(object) {
                self.store.purge(object.kind, &object.name).unwrap();
                self.status.forget(object.kind, &object.name);
            } else {
                self.status.report(object.kind, &object.name, realized(1));
            }
        }
        self.status.pass_done(picture.fabric.revision);
    }

    fn report(&self) -> v1::ReconcilerStatus {
        v1::ReconcilerStatus { passes: 7, ..Default::default() }
    }
}

fn realized(generation: u64) -> Report {
    Report { ready: true, reason: "Realized", message: "as wished".into(), observed: None, generation }
}

/// A served API in a folder of its own.
pub struct Daemon {
    pub folder: PathBuf,
    pub realizer: Arc<Prompt>,
    close: watch::Sender<bool>,
    served: Option<tokio::task::JoinHandle<Result<()>>>,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn folder() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("weft-api-{}-{number}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    folder
}

impl Daemon {
    pub fn prepare() -> (Daemon, Node) {
        let folder = folder();
        let store = Arc::new(Store::open(&folder.join("state"), &folder.join("copy")).unwrap());
        let status = Arc::new(StatusBoard::new());
        let held = AtomicBool::new(false);
        let realizer = Arc::new(Prompt { store: Arc::clone(&store), status: Arc::clone(&status), held });
        let options = WorkerOptions { workers: 1, busy_poll_us: 0, fast_path: None };
        let dataplane = Arc::new(Dataplane::start(&options, |_| {}).unwrap());
        let (close, closing) = watch::channel(false);
        let node = Node {
            store,
            status,
            dataplane,
            realizer: Arc::clone(&realizer) as Arc<dyn Realizer>,
            boot_id: "a boot".to_owned(),
            folders: Folders { netns: folder.join("netns"), run: folder.join("run") },
            started: SystemTime::now(),
            closing,
        };
        (Daemon { folder, realizer, close, served: None }, node)
    }

    pub fn start() -> Daemon {
        let (mut daemon, node) = Daemon::prepare();
        let api = Api::bind(&daemon.socket()).unwrap();
        daemon.served = Some(tokio::spawn(api.serve(node)));
        daemon
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.join("run").join("weftd.sock")
    }

    pub fn client(&self) -> Client {
        Client::connect(self.socket().to_str().unwrap()).unwrap()
    }

    pub async fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("unix://{}", self.socket().display())).unwrap();
        endpoint.connect().await.unwrap()
    }

    pub async fn apply(&self, yaml: &str) -> v1::ApplyResponse {
        let request = v1::ApplyRequest { resources: resources(yaml), ..Default::default() };
        self.client().fabric.apply(request).await.unwrap().into_inner()
    }

    /// Ends serving and says whether that took no force.
    pub async fn stop(mut self) {
        self.close.send_replace(true);
        let served = self.served.take().unwrap();
        tokio::time::timeout(DRAIN, served).await.expect("the API drains in time").unwrap().unwrap();
    }
}

pub fn reference(kind: v1::Kind, name: &str) -> v1::ObjectRef {
    v1::ObjectRef { kind: kind as i32, name: name.into() }
}

pub async fn next<S: StreamExt<Item = std::result::Result<v1::WatchEvent, tonic::Status>> + Unpin>(
    stream: &mut S,
) -> v1::WatchEvent {
    tokio::time::timeout(LIMIT, stream.next()).await.expect("an event comes").unwrap().unwrap()
}
