//! Detachments that the daemon has not heard of: a folder that the CNI plugin writes and the daemon drains.
//!
//! One file a request, named after its attachment: asked again, it is the same file. A file is either whole
//! or not there, also after a power cut. What to do with a request is the daemon's and the plugin's business;
//! nothing here speaks with either.
//!
//! # Order
//!
//! A queued detachment must never take away an attachment that was made after it. So:
//!
//! 1. The daemon drains the queue at its start, before it serves `Attach`, and now and then.
//! 2. To drain a request it takes the lock that `Attach` takes for the same key, looks with
//!    [`DetachQueue::holds`] whether the request is still there, detaches, calls [`DetachQueue::remove`], and
//!    only then lets go of the lock.
//! 3. A plugin that is to attach and finds a request for the same key calls `Detach`, then
//!    [`DetachQueue::remove`], and only then `Attach`.
//!
//! A request without an interface is for all attachments of its container, as `Detach` has it. A plugin that is to
//! attach looks for such a request too.
//!
//! When `Attach` has the lock, the request is gone already (3), so that the daemon skips it (2). When the
//! daemon has it, `Attach` waits until the old attachment and the request are gone.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::v1::AttachmentKey;

/// Where the queue is unless told otherwise.
pub const DEFAULT_FOLDER: &str = "/var/lib/weft/cni/detach";

/// How the names of files begin that are not whole yet.
const TEMPORARY: &str = ".new-";
/// How the names of requests end.
const ENDING: &str = ".json";
/// Longest name of a request that is told apart by its key alone. With more it has a checksum.
const LONGEST: usize = 200;
/// After this time a temporary file is what a crash left.
const ABANDONED: Duration = Duration::from_secs(3600);

/// A folder of requests.
#[derive(Debug, Clone)]
pub struct DetachQueue {
    folder: PathBuf,
}

/// A request to detach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedDetach {
    /// Which attachment; without an interface: all of the container's.
    pub key: AttachmentKey,
    /// When it was asked for; for people only, clocks jump.
    pub time: SystemTime,
}

/// What the folder holds.
#[derive(Debug, Default)]
pub struct Queued {
    /// The requests, oldest first.
    pub requests: Vec<QueuedDetach>,
    /// Files that are no request, each with the reason. They are left alone.
    pub unreadable: Vec<(PathBuf, String)>,
}

/// What could not be done with a file or the folder.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct QueueError {
    action: &'static str,
    path: PathBuf,
    /// What the system said.
    #[source]
    source: io::Error,
}

/// A request as its file has it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Content {
    container_id: String,
    interface: String,
    /// RFC 3339.
    time: String,
}

impl DetachQueue {
    /// The queue in a folder, which need not be there.
    pub fn new(folder: impl Into<PathBuf>) -> DetachQueue {
        DetachQueue { folder: folder.into() }
    }

    /// Writes a request. When it returns, the request survives a power cut. A request for the same key
    /// takes the place of the one before.
    pub fn add(&self, request: &QueuedDetach) -> Result<(), QueueError> {
        self.make_folder()?;
        let content = Content {
            container_id: request.key.container_id.clone(),
            interface: request.key.interface.clone(),
            time: prost_types::Timestamp::from(request.time).to_string(),
        };
        let temporary = self.folder.join(temporary_name());
        let written = write(&temporary, &content).map_err(|error| failed("write", &temporary, error));
        let named = written.and_then(|()| {
            let path = self.path(&request.key);
            fs::rename(&temporary, &path).map_err(|error| failed("write", &path, error))
        });
        if named.is_err() {
            // It may not be there; what matters is told already.
            let _ = fs::remove_file(&temporary);
        }
        named?;
        self.sync()
    }

    /// Whether there is a request for a key.
    pub fn holds(&self, key: &AttachmentKey) -> bool {
        self.path(key).exists()
    }

    /// All requests; none when there is no folder. Temporary files that a crash left are taken away.
    pub fn list(&self) -> Result<Queued, QueueError> {
        let mut queued = Queued::default();
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(queued),
            entries => entries.map_err(|error| failed("read", &self.folder, error))?,
        };
        for entry in entries {
            let path = entry.map_err(|error| failed("read", &self.folder, error))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with(TEMPORARY) {
                remove_abandoned(&path);
                continue;
            }
            match read(&path) {
                // Somebody else took it away meanwhile.
                Err(_) if !path.exists() => {}
                Err(reason) => queued.unreadable.push((path, reason)),
                Ok(request) if self.path(&request.key) != path => {
                    queued.unreadable.push((path, "its name is not that of its content".into()));
                }
                Ok(request) => queued.requests.push(request),
            }
        }
        queued.requests.sort_by_key(|request| request.time);
        Ok(queued)
    }

    /// Takes away the request for a key; true when there was one.
    pub fn remove(&self, key: &AttachmentKey) -> Result<bool, QueueError> {
        let path = self.path(key);
        match fs::remove_file(&path) {
            Ok(()) => self.sync().map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed("remove", &path, error)),
        }
    }

    /// Makes the folder, for its owner only, and makes sure that it stays.
    fn make_folder(&self) -> Result<(), QueueError> {
        if self.folder.is_dir() {
            return Ok(());
        }
        let parent = self.folder.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(parent).map_err(|error| failed("make", parent, error))?;
        match DirBuilder::new().mode(0o700).create(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed("make", &self.folder, error));
            }
            _ => {}
        }
        sync_folder(parent)
    }

    fn sync(&self) -> Result<(), QueueError> {
        sync_folder(&self.folder)
    }

    fn path(&self, key: &AttachmentKey) -> PathBuf {
        self.folder.join(name(key))
    }
}

impl QueuedDetach {
    /// A request that is made now.
    pub fn now(key: AttachmentKey) -> QueuedDetach {
        QueuedDetach { key, time: SystemTime::now() }
    }
}

/// The name of the file of a key. Container ids have no "@", so that no two keys share one.
fn name(key: &AttachmentKey) -> String {
    let AttachmentKey { container_id, interface } = key;
    let whole = format!("{container_id}@{interface}");
    if whole.len() <= LONGEST {
        return whole + ENDING;
    }
    let start: String = container_id.chars().take(LONGEST / 2).collect();
    format!("{start}@{interface}@{:016x}{ENDING}", checksum(whole.as_bytes()))
}

/// FNV-1a of 64 bits, as draft-eastlake-fnv has it.
fn checksum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A name that no other process and no other thread has.
fn temporary_name() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let thread = format!("{:?}", std::thread::current().id());
    let thread: String = thread.chars().filter(char::is_ascii_digit).collect();
    format!("{TEMPORARY}{}-{thread}-{}", std::process::id(), now.as_nanos())
}

fn write(path: &Path, content: &Content) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    serde_json::to_writer(&file, content)?;
    file.write_all(b"\n")?;
    file.sync_all()
}

fn read(path: &Path) -> Result<QueuedDetach, String> {
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    let content: Content = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    let time: prost_types::Timestamp =
        content.time.parse().map_err(|_| format!("\"{}\" is not a time", content.time))?;
    let time = SystemTime::try_from(time).map_err(|error| error.to_string())?;
    let Content { container_id, interface, .. } = content;
    Ok(QueuedDetach { key: AttachmentKey { container_id, interface }, time })
}

/// Takes a temporary file away whose writer must be dead.
fn remove_abandoned(path: &Path) {
    let age = fs::metadata(path).and_then(|data| data.modified()).ok().and_then(|time| time.elapsed().ok());
    if age.is_some_and(|age| age > ABANDONED) {
        // The next look tries again.
        let _ = fs::remove_file(path);
    }
}

fn sync_folder(folder: &Path) -> Result<(), QueueError> {
    File::open(folder).and_then(|file| file.sync_all()).map_err(|error| failed("sync", folder, error))
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> QueueError {
    QueueError { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests;
