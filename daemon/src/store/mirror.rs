//! A second copy of the state in the run folder, a small file for each object, for the day when the state file is
//! damaged while containers live.
//!
//! The run folder is in memory: it lives exactly as long as devices and containers do. Every file begins with a
//! checksum over its name and the rest. A mirror that cannot be written is told once and marked as incomplete; no
//! change of the state fails for it. Secrets are not in it, as they are not in the records.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use prost::Message;
use weft_proto::v1;

use super::folder;
use super::records::{self, Loaded, Writing};
use crate::ipam::{Released, ReleasedKey};
use crate::model::parse::{self, Resources};
use crate::model::{ObjectRef, fnv1a};

/// Below the run folder.
const FOLDER: &str = "state";
/// Whose mirror it is: the instance, and the state folder, a line each. Written last when a mirror is begun.
const INSTANCE: &str = "instance";
/// The revision that all other files are of; missing while they may not be.
const REVISION: &str = "revision";
/// The name of a file that is being written.
const UNFINISHED: &str = ".new";
/// What the names of addresses that were given back begin with. No kind is called so.
const RELEASED: &str = "released";
/// How long after a failure it is tried again.
const PATIENCE: Duration = Duration::from_secs(10);

/// The mirror, kept in step with the records.
#[derive(Debug)]
pub(super) struct Mirror {
    folder: PathBuf,
    /// The open file of the revision, of the same length for ever: it changes with every commit, in one write.
    revision: Option<File>,
    /// The last time that it could not be written; it does not agree with the records since.
    failed: Option<Instant>,
}

/// What a mirror holds.
#[derive(Debug, Default)]
pub(super) struct Mirrored {
    /// The instance of the state that it is of.
    pub instance: Option<String>,
    /// `None`: it is not known to be complete.
    pub revision: Option<u64>,
    pub resources: Resources,
    pub released: Vec<(ReleasedKey, Released)>,
    /// Files that are damaged, by name.
    pub damaged: Vec<String>,
}

impl Mirrored {
    /// Whether there is anything to be had from it.
    pub fn is_empty(&self) -> bool {
        self.resources.is_empty() && self.released.is_empty() && self.damaged.is_empty()
    }
}

impl Mirror {
    /// The mirror in a run folder; nothing is done yet.
    pub fn of(run_dir: &Path) -> Mirror {
        Mirror { folder: run_dir.join(FOLDER), revision: None, failed: None }
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What is in it. That of another state folder counts as none.
    pub fn read(&self, state_dir: &Path) -> Mirrored {
        let mut found = Mirrored::default();
        let Ok(entries) = fs::read_dir(&self.folder) else { return found };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        for name in names.filter(|name| name != UNFINISHED) {
            let octets = fs::read(self.folder.join(&name)).unwrap_or_default();
            if unsealed(&name, &octets).and_then(|payload| found.take(&name, payload, state_dir)).is_none() {
                found.damaged.push(name);
            }
        }
        let foreign = found.instance.as_deref() == Some("");
        if foreign { Mirrored::default() } else { found }
    }

    /// Makes it say what the records say.
    pub fn agree(&mut self, state_dir: &Path, state: &Loaded) {
        let done = self.try_to_agree(state_dir, state);
        self.judge(done);
    }

    /// Follows the records after a transaction. `state` is asked for all there is, when that is needed.
    pub fn follow(&mut self, writing: &Writing<'_>, state_dir: &Path, state: impl FnOnce() -> Loaded) {
        let done = match self.failed {
            None => self.write_changes(writing),
            Some(at) if at.elapsed() > PATIENCE => self.try_to_agree(state_dir, &state()),
            Some(_) => return,
        };
        self.judge(done);
    }

    /// Tells of a failure once, and of its end.
    fn judge(&mut self, done: io::Result<()>) {
        match done {
            Ok(()) if self.failed.take().is_some() => {
                tracing::info!("the copy of the state in {} is complete again", self.folder.display());
            }
            Ok(()) => {}
            Err(error) => {
                // What is there is good for what it says, but it is not all.
                let _ = self.doubt();
                if self.failed.replace(Instant::now()).is_none() {
                    let folder = self.folder.display();
                    tracing::error!("the copy of the state in {folder} is not complete for now: {error}");
                }
            }
        }
    }

    fn write_changes(&mut self, writing: &Writing<'_>) -> io::Result<()> {
        for object in writing.named {
            let name = object_name(object);
            match writing.resources.get(object) {
                Some(resource) => self.put(&name, &resource.encode_to_vec())?,
                None => self.remove(&name)?,
            }
        }
        for (key, released) in writing.released {
            let name = released_name(key);
            match released {
                Some(released) => self.put(&name, released_text(released).as_bytes())?,
                None => self.remove(&name)?,
            }
        }
        self.vouch(writing.revision)
    }

    fn try_to_agree(&mut self, state_dir: &Path, state: &Loaded) -> io::Result<()> {
        let parent = self.folder.parent().unwrap_or(&self.folder);
        DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
        folder::make(&self.folder)?;
        let instance = format!("{}\n{}\n", state.instance, state_dir.display());
        let mut wanted: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        wanted.insert(INSTANCE.to_owned(), instance.into_bytes());
        for (object, resource) in &state.resources {
            wanted.insert(object_name(object), resource.encode_to_vec());
        }
        for (key, released) in &state.released {
            wanted.insert(released_name(key), released_text(released).into_bytes());
        }
        self.doubt()?;
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if !wanted.contains_key(&name) {
                self.remove(&name)?;
            }
        }
        for (name, payload) in &wanted {
            let there = fs::read(self.folder.join(name)).unwrap_or_default();
            if unsealed(name, &there) != Some(payload) {
                self.put(name, payload)?;
            }
        }
        self.vouch(state.revision)
    }

    /// Says that all is there as of this revision.
    fn vouch(&mut self, revision: u64) -> io::Result<()> {
        let file = match self.revision.take() {
            Some(file) => file,
            None => {
                let mut options = OpenOptions::new();
                let options = options.write(true).create(true).truncate(true).mode(0o600);
                options.open(self.folder.join(REVISION))?
            }
        };
        file.write_all_at(&sealed(REVISION, format!("{revision:020}").as_bytes()), 0)?;
        self.revision = Some(file);
        Ok(())
    }

    /// Says that it is not known whether all is there.
    fn doubt(&mut self) -> io::Result<()> {
        self.revision = None;
        self.remove(REVISION)
    }

    /// A file appears whole or not at all; in memory there is nothing to be synchronized.
    fn put(&self, name: &str, payload: &[u8]) -> io::Result<()> {
        let unfinished = self.folder.join(UNFINISHED);
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
        file.write_all(&sealed(name, payload))?;
        fs::rename(&unfinished, self.folder.join(name))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        folder::remove_file(&self.folder.join(name))
    }
}

impl Mirrored {
    /// Takes what a file says; `None`: it says nothing that can be understood.
    fn take(&mut self, name: &str, payload: &[u8], state_dir: &Path) -> Option<()> {
        let text = || std::str::from_utf8(payload).ok();
        match name.split_once('.') {
            None if name == INSTANCE => {
                let (instance, state) = text()?.trim_end().split_once('\n')?;
                let ours = Path::new(state) == state_dir;
                self.instance = Some(if ours { instance.to_owned() } else { String::new() });
            }
            None if name == REVISION => self.revision = Some(text()?.parse().ok()?),
            Some((RELEASED, key)) => {
                let (network, address) = key.split_once('.')?;
                let (at, owner) = text()?.split_once(' ')?;
                let entry = records::released(&format!("{network}/{address}"), at.parse().ok()?, owner)?;
                self.released.push(entry);
            }
            Some(_) => {
                let resource = v1::Resource::decode(payload).ok()?;
                let object = parse::identity(0, &resource).ok().filter(|it| object_name(it) == name)?;
                self.resources.insert(object, Arc::new(resource));
            }
            None => return None,
        }
        Some(())
    }
}

fn object_name(object: &ObjectRef) -> String {
    format!("{}.{}", object.kind.as_str(), object.name)
}

fn released_name((network, address): &ReleasedKey) -> String {
    format!("{RELEASED}.{network}.{address}")
}

fn released_text(released: &Released) -> String {
    format!("{} {}", records::seconds(released.at), released.owner)
}

/// Differs when a file is damaged, or has the name of another.
fn checksum(name: &str, payload: &[u8]) -> u64 {
    // A name ends where no text can go on.
    fnv1a(name.bytes().chain([0xff]).chain(payload.iter().copied()))
}

/// What is in a file that says this.
fn sealed(name: &str, payload: &[u8]) -> Vec<u8> {
    let mut octets = checksum(name, payload).to_le_bytes().to_vec();
    octets.extend_from_slice(payload);
    octets
}

/// What a file says; `None`: it is damaged.
fn unsealed<'a>(name: &str, octets: &'a [u8]) -> Option<&'a [u8]> {
    let (sum, payload) = octets.split_first_chunk::<8>()?;
    (u64::from_le_bytes(*sum) == checksum(name, payload)).then_some(payload)
}
