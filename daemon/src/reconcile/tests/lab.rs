//! A namespace for a daemon, and folders of its own.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use weft_host::link::LinkChange;
use weft_host::netns::{Entered, NetNs};
use weft_stack::MacAddr;
use weft_stack::config::FabricSpec;

use crate::model::{Addressing, Fabric, Mtu, Network, Services};
use crate::reconcile::ReconcileOptions;
use crate::reconcile::agenda::News;
use crate::reconcile::observe::kernel::{Kernel, Session};
use crate::reconcile::pass::{Outcome, Publish, Reconciliation};
use crate::reconcile::place::{Folders, Marks, Place};

static NUMBER: AtomicU32 = AtomicU32::new(0);

pub struct Lab {
    pub work: Reconciliation,
    pub folder: Folder,
    shown: Arc<Mutex<Vec<FabricSpec>>>,
    own: Session,
    _entered: Entered,
}

impl Lab {
    pub fn new() -> Lab {
        let _entered = NetNs::create_anonymous().unwrap().enter().unwrap();
        let folder = Folder::new();
        let shown = Arc::default();
        let own = Session::open(NetNs::current().unwrap()).unwrap();
        Lab { work: start(&folder, &shown), folder, shown, own, _entered }
    }

    /// What remains when a daemon ends and the next starts.
    pub fn restart(&mut self) {
        // Two daemons cannot have a TAP's queues at once: the old one's go first.
        self.work = start(&Folder::new(), &self.shown);
        self.work = start(&self.folder, &self.shown);
    }

    pub fn pass(&mut self, fabric: &Fabric) -> Outcome {
        self.pass_at(fabric, &News::default(), Instant::now())
    }

    pub fn look_at_everything(&mut self, fabric: &Fabric) -> Outcome {
        self.pass_at(fabric, &News { everything: true, ..News::default() }, Instant::now())
    }

    /// A pass some seconds from now, when the paths of namespaces are looked at again.
    pub fn later(&mut self, fabric: &Fabric) -> Outcome {
        let due = self.work.next_pass() + Duration::from_secs(2);
        self.pass_at(fabric, &News::default(), due)
    }

    pub fn pass_at(&mut self, fabric: &Fabric, news: &News, now: Instant) -> Outcome {
        self.work.pass(Arc::new(fabric.clone()), news, now)
    }

    /// What the workers were shown last.
    pub fn picture(&self) -> FabricSpec {
        self.shown.lock().unwrap().last().cloned().unwrap_or_default()
    }

    /// How many pictures the workers were shown.
    pub fn pictures(&self) -> usize {
        self.shown.lock().unwrap().len()
    }

    pub fn netns_path(&self, name: &str) -> PathBuf {
        self.folder.0.join("netns").join(name)
    }

    pub fn enter(&self, name: &str) -> Session {
        Session::open(NetNs::open(&self.netns_path(name)).unwrap()).unwrap()
    }

    /// Index and name of the devices at a place, without the loopback.
    pub fn devices(&mut self, place: &Place) -> Vec<(u32, String)> {
        let links = match place {
            Place::Own => self.own.netlink.links(),
            Place::Ports => self.ends().netlink.links(),
            Place::Namespace(name) => self.enter(name.as_str()).netlink.links(),
        };
        let links = links.unwrap().into_iter().filter(|link| link.name != "lo");
        links.map(|link| (link.index, link.name)).collect()
    }

    pub fn remove_link(&self, namespace: &str, device: &str) {
        remove(&mut self.enter(namespace), device);
    }

    pub fn unmark(&self, namespace: &str, device: &str) {
        unmark(&mut self.enter(namespace), device);
    }

    pub fn unmark_end(&self, device: &str) {
        unmark(&mut self.ends(), device);
    }

    fn ends(&self) -> Session {
        Session::open(NetNs::open(&self.folder.0.join("run/netns/ports")).unwrap()).unwrap()
    }
}

fn unmark(session: &mut Session, device: &str) {
    let index = session.netlink.link_by_name(device).unwrap().unwrap().index;
    let change = LinkChange { alias: Some(String::new()), ..LinkChange::default() };
    session.netlink.set_link(index, &change).unwrap();
}

pub fn remove(session: &mut Session, device: &str) {
    let index = session.netlink.link_by_name(device).unwrap().unwrap().index;
    session.netlink.delete_link(index).unwrap();
}

/// A folder that goes away with all namespaces mounted in it.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Folder {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("weft-reconcile-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub fn options(&self) -> ReconcileOptions {
        ReconcileOptions {
            fast_path: None,
            run_dir: self.0.join("run"),
            netns_dir: self.0.join("netns"),
            workers: 2,
            instance: "test".to_owned(),
            debounce: Duration::from_millis(2),
            resync: Duration::from_secs(3600),
            retry_max: Duration::from_secs(1),
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        for folder in ["netns", "run/netns"] {
            for file in std::fs::read_dir(self.0.join(folder)).into_iter().flatten().flatten() {
                let _ = weft_host::netns::remove(&file.path());
            }
        }
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn start(folder: &Folder, shown: &Arc<Mutex<Vec<FabricSpec>>>) -> Reconciliation {
    let options = folder.options();
    let folders = Folders { netns: options.netns_dir.clone(), run: options.run_dir.clone() };
    let kernel = Kernel::open(Marks::new(&options.instance), folders).unwrap();
    Reconciliation::new(kernel, record(shown), &options)
}

/// Workers that only remember what they were shown.
pub fn record(shown: &Arc<Mutex<Vec<FabricSpec>>>) -> Publish {
    let shown = Arc::clone(shown);
    Box::new(move |spec, _| {
        shown.lock().unwrap().push(spec);
        Ok(())
    })
}

pub fn network() -> Network {
    Network {
        subnets: Vec::new(),
        router: None,
        mtu: Mtu::DEFAULT,
        ageing: Duration::from_secs(300),
        max_macs: 16,
        max_neighbors: 16,
        gateway_mac: MacAddr([2, 0, 0, 0, 0, 1]),
        static_neighbors: Default::default(),
        masquerade: None,
        services: Services::default(),
        addressing: Addressing::default(),
    }
}

pub fn delete_everything(fabric: &mut Fabric) {
    let now = Some(SystemTime::UNIX_EPOCH);
    fabric.ports.values_mut().for_each(|object| std::sync::Arc::make_mut(object).metadata.deleting = now);
    fabric
        .namespaces
        .values_mut()
        .for_each(|object| std::sync::Arc::make_mut(object).metadata.deleting = now);
    fabric.networks.values_mut().for_each(|object| std::sync::Arc::make_mut(object).metadata.deleting = now);
}
