//! A new state file in place of one that is damaged, from the mirror of this boot.
//!
//! The damaged file is kept under another name. The instance stays the same, so that devices go on to be this daemon's.
//! What containers have on the node beside is found, and kept from others, by [`survivors`](crate::survivors).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::SystemTime;

use weft_host::netns::NetNs;

use super::keys;
use super::mirror::{Mirror, Mirrored};
use super::records::{self, FILE_NAME, Loaded, Records};
use crate::error::Result;
use crate::model::parse::{self, Resources};
use crate::model::{Fabric, Kind, ObjectRef};
use crate::reconcile::Marks;

/// A copy of the instance's id beside the state file, and one in the run folder, which lasts as long as devices do. A
/// second line has the state folder that it is of.
const INSTANCE_FILE: &str = "instance";

/// What a state lacks that its mirror has, in words; `None`: it is as new as the mirror.
pub(super) fn lost(state: &Loaded, mirrored: &Mirrored) -> Option<String> {
    if mirrored.instance.as_ref() != Some(&state.instance) {
        let begun_anew = state.revision == 0 && state.resources.is_empty() && !mirrored.is_empty();
        return (begun_anew && mirrored.instance.is_some()).then(|| "all that was in it is lost".to_owned());
    }
    let missing = mirrored.revision?.checked_sub(state.revision).filter(|missing| *missing > 0)?;
    Some(format!("it lacks the last {missing} changes, though they had been written"))
}

/// Puts down the instance's id in a folder.
pub(super) fn keep_instance(folder: &Path, instance: &str, state_dir: &Path) {
    let path = folder.join(INSTANCE_FILE);
    let text = format!("{instance}\n{}\n", state_dir.display());
    if std::fs::read_to_string(&path).is_ok_and(|there| there == text) {
        return;
    }
    if let Err(error) = std::fs::write(&path, text) {
        tracing::warn!("{} cannot be written: {error}", path.display());
    }
}

/// Moves what is left of the state file away and begins a new one with what the mirror has. Tells what was found, what
/// is there again, and what is to be done.
pub(super) fn rebuild(
    state_dir: &Path,
    run_dir: &Path,
    mirror: &Mirror,
    mut mirrored: Mirrored,
    what: &str,
) -> Result<(Records, Loaded)> {
    let stamp = stamp(SystemTime::now());
    let aside = Records::set_aside(state_dir, &format!("{FILE_NAME}.damaged-{stamp}"))?;
    let path = state_dir.join(FILE_NAME);
    match &aside {
        Some(aside) => tracing::warn!(
            "the state file {} is damaged: {what}; it is kept as {}",
            path.display(),
            aside.display()
        ),
        None => tracing::warn!("the state file {} is damaged: {what}", path.display()),
    }
    let resources = std::mem::take(&mut mirrored.resources);
    let (resources, fabric, refused) = sift(resources);
    let loaded = Loaded {
        revision: revision(&fabric, &mirrored) + 1,
        resources,
        released: std::mem::take(&mut mirrored.released),
        instance: instance(state_dir, run_dir, mirrored.instance.take())?,
    };
    let keys = keys::set_aside(state_dir, &fabric, &format!("keys.damaged-{stamp}"))?;
    let records = Records::rebuild(state_dir, &loaded)?;
    tell(mirror, &mirrored, &loaded.resources, &refused);
    if let Some(folder) = keys {
        tracing::warn!(
            "private keys of Tunnels that could not be rebuilt are kept in {}: give them with the Tunnels when these are \
             applied again, or they get new ones",
            folder.display()
        );
    }
    Ok((records, loaded))
}

fn tell(mirror: &Mirror, mirrored: &Mirrored, resources: &Resources, refused: &[String]) {
    let folder = mirror.folder().display();
    let whole = mirrored.revision.is_some() && mirrored.damaged.is_empty() && refused.is_empty();
    match (resources.is_empty(), whole) {
        (true, _) => tracing::warn!(
            "nothing could be rebuilt from {folder}: apply all resources again (weft apply -f); containers that live \
             have no traffic until they are attached again, and nobody gets their addresses"
        ),
        (false, true) => tracing::warn!("all of it was rebuilt from {folder}: {}", counted(resources)),
        (false, false) => tracing::warn!(
            "rebuilt from {folder}, not to the last: {}; apply all resources again (weft apply -f)",
            counted(resources)
        ),
    }
    let files = mirrored.damaged.iter().map(|name| format!("{name}: its copy in {folder} is damaged"));
    for lost in files.chain(refused.iter().cloned()) {
        tracing::warn!("not rebuilt: {lost}");
    }
}

/// How many there are of each kind.
fn counted(resources: &Resources) -> String {
    let mut counts: BTreeMap<Kind, usize> = BTreeMap::new();
    for object in resources.keys() {
        *counts.entry(object.kind).or_default() += 1;
    }
    let each = counts.iter().map(|(kind, count)| format!("{count} {}{}", kind.as_str(), plural(*count)));
    each.collect::<Vec<_>>().join(", ")
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// The objects that can be understood together, and why others cannot.
fn sift(resources: Resources) -> (Resources, Fabric, Vec<String>) {
    if let Ok(fabric) = parse::fabric(&resources, 0) {
        return (resources, fabric, Vec::new());
    }
    let (mut kept, mut fabric, mut refused) = (Resources::new(), Fabric::default(), Vec::new());
    // The order of kinds puts a Network before the Ports on it.
    for (object, resource) in resources {
        kept.insert(object.clone(), resource);
        match parse::follow(&fabric, &kept, &BTreeSet::from([object.clone()]), 0) {
            Ok(next) => fabric = next,
            Err(wrong) => {
                kept.remove(&object);
                refused.push(wrong.first().map_or_else(|| object.to_string(), ToString::to_string));
            }
        }
    }
    (kept, fabric, refused)
}

/// The last revision that anything is known of.
fn revision(fabric: &Fabric, mirrored: &Mirrored) -> u64 {
    let all = fabric.networks.keys().map(|name| ObjectRef::new(Kind::Network, name.clone()));
    let all = all.chain(fabric.ports.keys().map(|name| ObjectRef::new(Kind::Port, name.clone())));
    let last = all.filter_map(|object| fabric.metadata(&object)).map(|metadata| metadata.revision).max();
    last.max(mirrored.revision).unwrap_or_default()
}

/// An empty state of the instance that devices of this boot were made for; `None`: there are no traces of one.
pub(super) fn begin_anew(state_dir: &Path, run_dir: &Path) -> Result<Option<(Records, Loaded)>> {
    let Some(instance) = known_instance(state_dir, run_dir) else { return Ok(None) };
    tracing::warn!("the state file is gone, and nothing of it is known: apply what was declared again");
    let loaded = Loaded { revision: 0, resources: BTreeMap::new(), released: Vec::new(), instance };
    let records = Records::rebuild(state_dir, &loaded)?;
    Ok(Some((records, loaded)))
}

/// The id that the marks carry, from where it is still known; else a new one.
fn instance(state_dir: &Path, run_dir: &Path, mirrored: Option<String>) -> Result<String> {
    match mirrored.or_else(|| known_instance(state_dir, run_dir)) {
        Some(instance) => Ok(instance),
        None => records::new_instance().map_err(records::no_randomness),
    }
}

/// The id, from beside the state file, from the run folder, or from the mark of the namespace of veth host ends.
fn known_instance(state_dir: &Path, run_dir: &Path) -> Option<String> {
    let is_id = |text: &String| !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_hexdigit());
    let kept = |folder: &Path| {
        let text = std::fs::read_to_string(folder.join(INSTANCE_FILE)).ok()?;
        let mut lines = text.lines().map(str::to_owned);
        Some((lines.next().filter(is_id)?, lines.next()))
    };
    let beside = || kept(state_dir).map(|(instance, _)| instance);
    // Of another state folder it is another daemon's.
    let ours = |(_, state): &(String, Option<String>)| *state == Some(state_dir.display().to_string());
    let in_run = || kept(run_dir).filter(ours).map(|(instance, _)| instance);
    let marked = || {
        let ports = NetNs::open(&run_dir.join("netns").join("ports")).ok()?;
        Marks::instance_of_ports(&ports.mark().ok()??).map(str::to_owned)
    };
    beside().or_else(in_run).or_else(marked)
}

/// A time as a part of a file's name, such as 20260131T235959Z.
fn stamp(at: SystemTime) -> String {
    let mut at = prost_types::Timestamp::from(at);
    at.nanos = 0;
    at.to_string().chars().filter(|letter| !matches!(letter, '-' | ':')).collect()
}

#[cfg(test)]
mod tests;
