//! Reading the kernel: a place as a [`PlaceView`], by netlink.
//!
//! Owns the way into each place. Handles on other people's namespaces are not kept: they would keep a
//! namespace alive that its owner has removed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use weft_host::link::{Link, Netlink, ROUTE_PROTOCOL_WEFT};
use weft_host::netns::{NetNs, NetNsId, namespace_id};
use weft_host::sysctl::OwnParameters;
use weft_host::{Error, Result, sysctl};
use weft_stack::{MacAddr, Prefix};

use super::{Device, DeviceKind, Observed, PlaceState, PlaceView, Refusal};
use crate::model::{Fabric, InterfaceAddress, Namespace, PortRoute};
use crate::reconcile::error::told;
use crate::reconcile::place::{Folders, Marks, Place, is_uplink};
use crate::reconcile::remover::Remover;

mod usage;

/// A namespace and a netlink socket in it.
#[derive(Debug)]
pub struct Session {
    /// To enter it.
    pub namespace: NetNs,
    /// To read and change it.
    pub netlink: Netlink,
}

impl Session {
    /// Opens a socket in `namespace`; the calling thread is back where it was afterwards.
    pub fn open(namespace: NetNs) -> Result<Session> {
        let netlink = {
            let _entered = namespace.enter()?;
            Netlink::open()?
        };
        Ok(Session { namespace, netlink })
    }
}

/// The ways into the kernel. Belongs to the thread that made it.
#[derive(Debug)]
pub struct Kernel {
    /// The marks to read and write.
    pub marks: Marks,
    /// Where namespaces are found.
    pub folders: Folders,
    /// Removes what has no owner any more.
    pub remover: Remover,
    /// To set parameters of devices.
    pub parameters: OwnParameters,
    own: Session,
    ports: Option<Session>,
    /// The numbers under which kernel events name other namespaces.
    numbers: HashMap<i32, NetNsId>,
    /// Which namespace each place was when it got its number.
    numbered: HashMap<Place, NetNsId>,
}

impl Kernel {
    /// Takes the calling thread's namespace as the daemon's own.
    pub fn open(marks: Marks, folders: Folders) -> Result<Kernel> {
        let own = Session::open(NetNs::current()?)?;
        let remover = Remover::start()
            .map_err(|source| Error::os("start", "the thread that removes devices", source))?;
        Ok(Kernel {
            marks,
            folders,
            remover,
            parameters: OwnParameters::default(),
            own,
            ports: None,
            numbers: HashMap::new(),
            numbered: HashMap::new(),
        })
    }

    /// Where `place` is entered; `None` for the daemon's own, and for objects that `fabric` does not have.
    pub fn path(&self, fabric: &Fabric, place: &Place) -> Option<PathBuf> {
        match place {
            Place::Own => None,
            Place::Ports => Some(self.folders.ports()),
            Place::Namespace(name) => {
                fabric.namespaces.get(name).map(|namespace| self.folders.namespace(name, &namespace.spec))
            }
        }
    }

    /// What stands at `place`. The alias of its loopback says whose it is.
    pub fn observe(&mut self, fabric: &Fabric, place: &Place) -> PlaceState {
        let Some(path) = self.path(fabric, place) else {
            return match place {
                Place::Own => {
                    let mut state = state(&self.marks, &mut self.own);
                    if fabric.ports.values().any(|port| is_uplink(&port.spec)) {
                        usage::look(&self.marks, &mut self.own, &mut state);
                    }
                    state
                }
                Place::Ports | Place::Namespace(_) => PlaceState::Absent,
            };
        };
        if *place == Place::Ports {
            self.ports = None;
        }
        let mut session = match NetNs::open(&path).and_then(Session::open) {
            Ok(session) => session,
            Err(error) => {
                self.numbered.remove(place);
                return self.without(fabric, place, &path, &error);
            }
        };
        // Before looking: what changes from now on is heard of.
        self.number(place, &session);
        match self.is_foreign(fabric, place, &path, &mut session) {
            Ok(None) => {}
            Ok(Some(refusal)) => return PlaceState::Unusable(refusal),
            Err(error) => return unreadable(&path, &error),
        }
        let state = state(&self.marks, &mut session);
        if *place == Place::Ports {
            hush(&session);
            // An earlier daemon may have ended too soon.
            if let Ok(ports) = session.namespace.try_clone() {
                self.remover.remove_ends(ports);
            }
            self.ports = Some(session);
        }
        state
    }

    /// Looks again at one device in the namespace of the stack's ends.
    pub fn observe_end(&mut self, name: &str) -> Result<Option<Device>> {
        let Some(session) = &mut self.ports else { return Ok(None) };
        Ok(session.netlink.link_by_name(name)?.map(|link| device(&self.marks, link)))
    }

    /// The session of a place that the daemon keeps open: its own, and that of the stack's ends.
    pub fn kept(&mut self, place: &Place) -> Option<&mut Session> {
        match place {
            Place::Own => Some(&mut self.own),
            Place::Ports => self.ports.as_mut(),
            Place::Namespace(_) => None,
        }
    }

    /// A session of its own in the namespace of an object.
    pub fn enter(&self, fabric: &Fabric, place: &Place) -> Result<Session> {
        let path = self.path(fabric, place).unwrap_or_default();
        Session::open(NetNs::open(&path)?)
    }

    /// Makes the namespace at `place`, marked.
    pub fn make(&mut self, fabric: &Fabric, place: &Place) -> Result<()> {
        let Some(path) = self.path(fabric, place) else { return Ok(()) };
        let session = Session::open(NetNs::create(&path, &self.mark(place))?)?;
        if *place == Place::Ports {
            hush(&session);
            self.ports = Some(session);
        }
        Ok(())
    }

    /// Asks for all numbers again: that of a namespace that died may have passed to another.
    pub fn number_anew(&mut self) {
        self.numbers.clear();
        self.numbered.clear();
    }

    /// The places that kernel events with this number are about; `None` is the daemon's own.
    pub fn places_numbered(&self, number: Option<i32>, observed: &Observed) -> Vec<Place> {
        let id = match number {
            None => Some(self.own.namespace.id()),
            Some(number) => self.numbers.get(&number).copied(),
        };
        id.map(|id| observed.places_of(id).cloned().collect()).unwrap_or_default()
    }

    fn number(&mut self, place: &Place, session: &Session) {
        let id = session.namespace.id();
        if self.numbered.get(place) == Some(&id) {
            return;
        }
        match namespace_id(&session.namespace) {
            Ok(number) => {
                self.numbers.insert(number, id);
                self.numbered.insert(place.clone(), id);
            }
            Err(error) => {
                tracing::warn!(%place, "its changes are found by full looks only: {}", told(&error))
            }
        }
    }

    /// The mark of a namespace that the daemon makes.
    fn mark(&self, place: &Place) -> String {
        match place {
            Place::Namespace(name) => self.marks.namespace(name),
            Place::Own | Place::Ports => self.marks.ports_namespace(),
        }
    }

    /// What it means that no namespace could be opened at `path`.
    fn without(&self, fabric: &Fabric, place: &Place, path: &Path, error: &Error) -> PlaceState {
        if error.is_gone() {
            return PlaceState::Absent;
        }
        if !matches!(error, Error::NotANamespace { .. }) {
            return unreadable(path, error);
        }
        if is_made(fabric, place) && is_left_over(path) {
            return PlaceState::Absent;
        }
        let message =
            format!("{} is not a network namespace: put one there, or remove the file", path.display());
        PlaceState::Unusable(Refusal { reason: "NotANamespace", message })
    }

    /// Why a namespace that the daemon would have made is not its own.
    fn is_foreign(
        &self,
        fabric: &Fabric,
        place: &Place,
        path: &Path,
        session: &mut Session,
    ) -> Result<Option<Refusal>> {
        if !is_made(fabric, place) {
            return Ok(None);
        }
        let loopback = session.netlink.link_by_name("lo")?;
        if loopback.and_then(|link| link.alias) == Some(self.mark(place)) {
            return Ok(None);
        }
        let advice = match place {
            Place::Namespace(name) => format!("make Namespace/{name} again with it as spec.path"),
            Place::Own | Place::Ports => "stop the other daemon that uses this run directory".to_owned(),
        };
        let message =
            format!("{} exists and this daemon did not make it: remove it, or {advice}", path.display());
        Ok(Some(Refusal { reason: "NamespaceTaken", message }))
    }
}

/// Which namespace a path leads to now, without opening it; `None`: there is no such file.
pub fn id_at(path: &Path) -> Option<NetNsId> {
    let metadata = fs::metadata(path).ok()?;
    Some(NetNsId { device: metadata.dev(), inode: metadata.ino() })
}

/// Removes the empty file that a crash may leave where a namespace was or would have been mounted.
pub fn remove_left_over(path: &Path) -> io::Result<()> {
    if is_left_over(path) { fs::remove_file(path) } else { Ok(()) }
}

/// Whether the daemon itself makes what stands at `place`.
fn is_made(fabric: &Fabric, place: &Place) -> bool {
    match place {
        Place::Own => false,
        Place::Ports => true,
        Place::Namespace(name) => {
            fabric.namespaces.get(name).is_some_and(|namespace| namespace.spec == Namespace::Make)
        }
    }
}

fn is_left_over(path: &Path) -> bool {
    let metadata = fs::symlink_metadata(path);
    let nothing_mounted = || matches!(NetNs::open(path), Err(Error::NotANamespace { .. }));
    metadata.is_ok_and(|file| file.is_file() && file.len() == 0) && nothing_mounted()
}

fn unreadable(path: &Path, error: &Error) -> PlaceState {
    let message = format!("{} could not be read: {}", path.display(), told(error));
    PlaceState::Unusable(Refusal { reason: "Unreadable", message })
}

/// The stack's ends speak no IPv6 by themselves: no link-local addresses, no router solicitations.
fn hush(ports: &Session) {
    let set = || -> Result<()> {
        let _entered = ports.namespace.enter()?;
        sysctl::set("net/ipv6/conf/default/disable_ipv6", "1")
    };
    match set() {
        Err(error) if !error.is_gone() => {
            tracing::warn!("IPv6 stays on at the stack's ends of veth ports: {}", told(&error));
        }
        _ => {}
    }
}

fn state(marks: &Marks, session: &mut Session) -> PlaceState {
    match view(marks, session) {
        Ok(view) => PlaceState::Present(view),
        Err(error) => {
            let message = format!("the namespace could not be read: {}", told(&error));
            PlaceState::Unusable(Refusal { reason: "Unreadable", message })
        }
    }
}

fn view(marks: &Marks, session: &mut Session) -> Result<PlaceView> {
    let links = session.netlink.links()?.into_iter().filter(|link| link.name != "lo");
    let mut devices: BTreeMap<_, _> = links.map(|link| (link.index, device(marks, link))).collect();
    // Most of what there is belongs to others; only the daemon's own devices are looked at closer.
    if devices.values().any(|device| device.owner.is_some()) {
        addresses(session, &mut devices)?;
        routes(session, &mut devices)?;
    }
    Ok(PlaceView { id: session.namespace.id(), devices })
}

fn addresses(session: &mut Session, devices: &mut BTreeMap<u32, Device>) -> Result<()> {
    for found in session.netlink.addresses()? {
        if let Some(device) = devices.get_mut(&found.index).filter(|_| found.permanent && found.global) {
            let address = InterfaceAddress { address: found.address, prefix_length: found.prefix_length };
            device.addresses.insert(address);
        }
    }
    Ok(())
}

fn routes(session: &mut Session, devices: &mut BTreeMap<u32, Device>) -> Result<()> {
    for found in session.netlink.routes()? {
        let (Some(index), Some(via), ROUTE_PROTOCOL_WEFT) = (found.index, found.via, found.protocol) else {
            continue;
        };
        let Ok(prefix) = Prefix::containing(found.prefix.0, found.prefix.1) else { continue };
        // By devices of others, they are the node's (`node_routes`).
        if let Some(device) = devices.get_mut(&index).filter(|device| device.owner.is_some()) {
            device.routes.insert(PortRoute { prefix, via });
        }
    }
    Ok(())
}

fn device(marks: &Marks, link: Link) -> Device {
    let kind = match link.kind.as_deref() {
        Some("tun") => DeviceKind::Tap,
        Some("veth") => DeviceKind::Veth,
        _ => DeviceKind::Other,
    };
    let alias = link.alias.as_deref();
    let (taken_for, taken) = alias.and_then(|alias| marks.taken_for(alias)).unzip();
    Device {
        index: link.index,
        owner: alias.and_then(|alias| marks.owner(alias)).or(taken_for),
        retired: alias == Some(marks.retired().as_str()),
        taken,
        alias_room: Marks::MAX_LENGTH.saturating_sub(alias.map_or(0, str::len)),
        name: link.name,
        kind,
        mac: link.mac.map(MacAddr),
        mtu: link.mtu,
        txqueuelen: link.txqueuelen,
        gso_max_size: link.gso_max_size,
        up: link.up,
        peer: link.peer_index.filter(|_| kind == DeviceKind::Veth),
        carrier: link.carrier,
        used_for: None,
        addresses: BTreeSet::new(),
        routes: BTreeSet::new(),
    }
}
