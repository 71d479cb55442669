//! Devices of this daemon in namespaces that live, whose Ports the state does not know: what is left of containers when
//! the state was damaged, or is an older copy.
//!
//! They are not the reconciler's to remove, and nobody gets their addresses, until they are gone. Deciding that is left
//! to the [`store`](crate::store), which keeps them beside the picture.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use weft_host::netns::{NetNs, NetNsId};

use crate::model::{Fabric, Name, Survivor, Survivors};
use crate::reconcile::{Folders, Marks, Session, id_at};

/// Where `ip netns` and container runtimes mount namespaces.
const NAMED: &str = "/run/netns";

/// Looks for the devices that carry `marks` and whose Ports are not in `fabric`. What was known `before` and cannot be
/// looked at now counts as there. Namespaces that `fabric` names are looked into when `thorough`, or when there is an
/// end of a pair that nobody explains.
pub fn find(
    marks: &Marks,
    fabric: &Fabric,
    folders: &Folders,
    before: &Survivors,
    thorough: bool,
) -> Survivors {
    let search = Search { marks, fabric };
    let ends = search.ends(&folders.ports());
    let mut skipped: Vec<_> = id_at(&folders.ports()).into_iter().collect();
    skipped.extend(NetNs::current().map(|own| own.id()));
    if !thorough && ends.is_empty() {
        let named = fabric.namespaces.iter();
        skipped.extend(named.filter_map(|(name, space)| id_at(&folders.namespace(name, &space.spec))));
    }
    let mut found = Survivors::new();
    for (id, path) in namespaces(&folders.netns).into_iter().filter(|(id, _)| !skipped.contains(id)) {
        match search.look(id, &path) {
            Ok(devices) => found.extend(devices),
            Err(error) if error.is_gone() => {}
            Err(error) => {
                tracing::debug!("{} is not looked into: {error}", path.display());
                let known = before.iter().filter(|(_, survivor)| survivor.namespace_inode == id.inode);
                found.extend(known.map(|(name, survivor)| (name.clone(), survivor.clone())));
            }
        }
    }
    // The other end of a pair is somewhere, though nobody can say where.
    for name in ends {
        found.entry(name.clone()).or_insert_with(|| before.get(&name).cloned().unwrap_or_default());
    }
    found
}

struct Search<'a> {
    marks: &'a Marks,
    fabric: &'a Fabric,
}

impl Search<'_> {
    /// The Port that an alias is of, when nothing is known of it.
    fn unknown(&self, alias: Option<&str>) -> Option<Name> {
        self.marks.owner(alias?).filter(|name| !self.fabric.ports.contains_key(name))
    }

    /// The Ports that the stack's ends of veth pairs were made for.
    fn ends(&self, ports: &Path) -> BTreeSet<Name> {
        let links = || Session::open(NetNs::open(ports)?)?.netlink.links();
        let links = links().unwrap_or_default();
        links.iter().filter_map(|link| self.unknown(link.alias.as_deref())).collect()
    }

    /// The devices in a namespace.
    fn look(&self, id: NetNsId, path: &Path) -> weft_host::Result<BTreeMap<Name, Survivor>> {
        let mut found = BTreeMap::new();
        let namespace = NetNs::open(path)?;
        if namespace.id() != id {
            return Ok(found);
        }
        let mut session = Session::open(namespace)?;
        let links = session.netlink.links()?;
        let marked: Vec<_> =
            links.iter().filter_map(|link| Some((self.unknown(link.alias.as_deref())?, link))).collect();
        if marked.is_empty() {
            return Ok(found);
        }
        let addresses = session.netlink.addresses()?;
        for (name, link) in marked {
            let own = addresses.iter().filter(|it| it.index == link.index && it.global);
            let survivor = Survivor {
                namespace_inode: id.inode,
                place: path.display().to_string(),
                device: link.name.clone(),
                addresses: own.map(|it| it.address).collect(),
            };
            found.insert(name, survivor);
        }
        Ok(found)
    }
}

/// The namespaces that have a name or a process, each with a path that leads there.
fn namespaces(netns: &Path) -> HashMap<NetNsId, PathBuf> {
    let mut found = HashMap::new();
    let entries = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten();
    let named = [netns, Path::new(NAMED)].into_iter().flat_map(entries).map(|entry| entry.path());
    let processes = entries(Path::new("/proc"))
        .filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok())
        .map(|entry| entry.path().join("ns/net"));
    for path in named.chain(processes) {
        if let Some(id) = id_at(&path) {
            found.entry(id).or_insert(path);
        }
    }
    found
}
