//! The secrets of tunnels on disk: a file of mode 0600 for each tunnel, beside the state file and not in it.
//!
//! A file is called `<tunnel>.<uid>.<generation>`, of the generation of the spec that its keys came with. So keys and
//! record change together although they are in two places: the file comes first, under a name that nothing refers to;
//! the record makes it the one in use; what is then left over goes. After a crash in between, the record decides.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use weft_stack::tunnel::wireguard::PrivateKey;
use zeroize::Zeroizing;

use super::{folder, records};
use crate::error::{Error, Result};
use crate::model::{Fabric, Metadata, Name, TunnelKeys};

const FOLDER: &str = "keys";
/// The end of a name under which a file is written.
const UNFINISHED: &str = "new";
/// Far more than the keys of ten thousand peers: what is longer is no such file.
const MAX_OCTETS: u64 = 8 << 20;

/// The folder of the files, and which of them are in use.
#[derive(Debug)]
pub(super) struct KeyFolder {
    path: PathBuf,
    /// File names by tunnel.
    used: BTreeMap<Name, String>,
}

impl KeyFolder {
    /// Opens the folder in `state_dir` or makes it, and reads the keys of the tunnels of `fabric`. What belongs to none
    /// of them is removed. Keys that cannot be read are told of in the log, and missing.
    pub fn open(state_dir: &Path, fabric: &Fabric) -> Result<(KeyFolder, BTreeMap<Name, Arc<TunnelKeys>>)> {
        let path = state_dir.join(FOLDER);
        folder::make(&path).map_err(file_error(&path, "made"))?;
        sync(state_dir)?;
        let mut folder = KeyFolder { path, used: BTreeMap::new() };
        let names = folder.names()?;
        let mut keys = BTreeMap::new();
        for (tunnel, object) in &fabric.tunnels {
            if object.spec.wireguard().is_none() {
                continue;
            }
            let Some(name) = latest(&names, &object.metadata) else {
                tracing::error!("Tunnel/{tunnel} has no private key in {}", folder.path.display());
                continue;
            };
            folder.used.insert(tunnel.clone(), name.clone());
            match folder.read(name) {
                Ok(read) => drop(keys.insert(tunnel.clone(), Arc::new(read))),
                Err(error) => {
                    let path = folder.path.join(name);
                    tracing::error!(
                        "the keys of Tunnel/{tunnel} in {} cannot be read: {error}",
                        path.display()
                    );
                }
            }
        }
        folder.sweep()?;
        Ok((folder, keys))
    }

    /// Writes the keys of these tunnels of `fabric`. They are on disk when this returns, and in use once the records
    /// say so.
    pub fn prepare(&self, fabric: &Fabric, changed: &BTreeSet<Name>) -> Result<()> {
        // What an earlier call left that was not followed by its records must not be taken for what comes now.
        self.sweep()?;
        for name in changed {
            if let (Some(tunnel), Some(keys)) = (fabric.tunnels.get(name), fabric.keys.get(name)) {
                self.write(&tunnel.metadata, keys)?;
            }
        }
        Ok(())
    }

    fn write(&self, metadata: &Metadata, keys: &TunnelKeys) -> Result<()> {
        let path = self.path.join(name_of(metadata));
        let unfinished = self.path.join(format!("{}.{UNFINISHED}", name_of(metadata)));
        let written = || -> io::Result<()> {
            let mut options = OpenOptions::new();
            let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
            file.write_all(text(&metadata.name, keys).as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&unfinished, &path)
        };
        written().map_err(file_error(&path, "written"))?;
        sync(&self.path)
    }

    /// The records are those of `fabric` now: what [`KeyFolder::prepare`] wrote is in use, and what was before goes.
    pub fn commit(&mut self, fabric: &Fabric, changed: &BTreeSet<Name>) {
        self.used.retain(|name, _| fabric.tunnels.get(name).is_some_and(|it| it.spec.wireguard().is_some()));
        for name in changed {
            if let Some(tunnel) = fabric.tunnels.get(name) {
                self.used.insert(name.clone(), name_of(&tunnel.metadata));
            }
        }
        if let Err(error) = self.sweep() {
            tracing::warn!("{error}; what is left of it goes at the next change of a Tunnel, or start");
        }
    }

    /// Removes what is not in use.
    fn sweep(&self) -> Result<()> {
        let used: BTreeSet<&String> = self.used.values().collect();
        let names = self.names()?;
        let unused: Vec<&String> = names.iter().filter(|name| !used.contains(name)).collect();
        for name in &unused {
            let path = self.path.join(name);
            std::fs::remove_file(&path).map_err(file_error(&path, "removed"))?;
        }
        if unused.is_empty() { Ok(()) } else { sync(&self.path) }
    }

    /// The files that are the store's own, by their names.
    fn names(&self) -> Result<Vec<String>> {
        let error = || file_error(&self.path, "read");
        let entries = std::fs::read_dir(&self.path).map_err(error())?;
        let entries = entries.collect::<io::Result<Vec<_>>>().map_err(error())?;
        let names = entries.into_iter().filter_map(|entry| entry.file_name().into_string().ok());
        Ok(names.filter(|name| is_own(name)).collect())
    }

    fn read(&self, name: &str) -> io::Result<TunnelKeys> {
        let mut octets = Zeroizing::new(Vec::new());
        File::open(self.path.join(name))?.take(MAX_OCTETS).read_to_end(&mut octets)?;
        let text = std::str::from_utf8(&octets).map_err(|_| io::Error::other("it is no text"))?;
        keys(text).map_err(io::Error::other)
    }
}

/// Moves the keys in `state_dir` that no Tunnel of `fabric` uses to a folder of this name beside, which is returned;
/// `None`: there are none.
pub(super) fn set_aside(state_dir: &Path, fabric: &Fabric, name: &str) -> Result<Option<PathBuf>> {
    let (folder, aside) = (state_dir.join(FOLDER), state_dir.join(name));
    if !folder.exists() {
        return Ok(None);
    }
    let names = KeyFolder { path: folder.clone(), used: BTreeMap::new() }.names()?;
    let used: BTreeSet<_> =
        fabric.tunnels.values().filter_map(|tunnel| latest(&names, &tunnel.metadata)).collect();
    let unused: Vec<_> = names.iter().filter(|name| !used.contains(name)).collect();
    if unused.is_empty() {
        return Ok(None);
    }
    folder::make(&aside).map_err(file_error(&aside, "made"))?;
    for name in unused {
        let path = folder.join(name);
        std::fs::rename(&path, aside.join(name)).map_err(file_error(&path, "moved"))?;
    }
    sync(&aside)?;
    sync(&folder)?;
    Ok(Some(aside))
}

/// A private key that nobody else has, with the bits set that RFC 7748 section 5 wants set.
pub(super) fn made() -> Result<PrivateKey> {
    let mut octets = Zeroizing::new(records::random::<32>().map_err(records::no_randomness)?);
    octets[0] &= 0xf8;
    octets[31] = (octets[31] & 0x7f) | 0x40;
    Ok(PrivateKey::new(*octets))
}

fn name_of(metadata: &Metadata) -> String {
    format!("{}.{}.{}", metadata.name, metadata.uid, metadata.generation)
}

/// The file of this life of a tunnel with the greatest generation that the record knows of.
fn latest<'a>(names: &'a [String], metadata: &Metadata) -> Option<&'a String> {
    let generation = |name: &String| -> Option<u64> {
        let number = name.strip_prefix(&format!("{}.{}.", metadata.name, metadata.uid))?;
        number.parse().ok().filter(|generation| *generation <= metadata.generation)
    };
    names.iter().filter_map(|name| Some((generation(name)?, name))).max().map(|(_, name)| name)
}

/// Whether a file has a name that [`KeyFolder::write`] gives.
fn is_own(name: &str) -> bool {
    let parts: Vec<&str> = name.split('.').collect();
    match parts[..] {
        [tunnel, _, generation] | [tunnel, _, generation, UNFINISHED] => {
            Name::new(tunnel).is_ok() && generation.parse::<u64>().is_ok()
        }
        _ => false,
    }
}

/// A line for each key, after a word that says what it is.
fn text(name: &Name, keys: &TunnelKeys) -> Zeroizing<String> {
    let secret = |text: String| Zeroizing::new(text);
    // Room for all of it at once, so that no copy is left behind by growing.
    let room = 200 + 64 * (1 + keys.previous().len()) + 128 * keys.all_preshared().len();
    let mut text = Zeroizing::new(String::with_capacity(room));
    text.push_str(&format!("# Tunnel/{name}: whoever has these keys can speak in its name.\n"));
    for (position, key) in keys.private().enumerate() {
        text.push_str(if position == 0 { "private " } else { "previous " });
        text.push_str(&secret(key.to_base64()));
        text.push('\n');
    }
    for (peer, key) in keys.all_preshared() {
        text.push_str(&format!("preshared {peer} "));
        text.push_str(&secret(key.to_base64()));
        text.push('\n');
    }
    text
}

/// What [`text`] was made from. What is wrong is told by its line, and not repeated.
fn keys(text: &str) -> std::result::Result<TunnelKeys, String> {
    let (mut current, mut previous, mut preshared) = (None, Vec::new(), BTreeMap::new());
    for (index, line) in text.lines().enumerate() {
        let wrong = |what: &dyn std::fmt::Display| format!("line {}: {what}", index + 1);
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [] => {}
            [first, ..] if first.starts_with('#') => {}
            ["private", key] => current = Some(key.parse().map_err(|error| wrong(&error))?),
            ["previous", key] => previous.push(key.parse().map_err(|error| wrong(&error))?),
            ["preshared", peer, key] => {
                let peer = peer.parse().map_err(|error| wrong(&error))?;
                preshared.insert(peer, key.parse().map_err(|error| wrong(&error))?);
            }
            _ => return Err(wrong(&"a word that is not known, private, previous or preshared expected")),
        }
    }
    let current = current.ok_or("there is no private key in it")?;
    Ok(TunnelKeys::new(current, previous, preshared))
}

/// Makes names in a folder outlive a power failure.
fn sync(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(file_error(folder, "synchronized"))
}

fn file_error(path: &Path, operation: &'static str) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::File { path, operation, source }
}

#[cfg(test)]
mod tests;
