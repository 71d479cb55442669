//! Files put in place and taken away: whole or not at all, and never another program's.
//!
//! A file is written under another name in its folder and renamed, so that a plugin that runs is not in the way
//! (ETXTBSY), and no runtime reads half a file. The other name ends in nothing that a runtime looks for.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::PLUGIN;

/// Every build of the plugin contains this, and no other program does.
const MARK: &[u8] = b"weft-cni plugin 8f3c61d2-0b57-4e0a-9a44-2d6be1f7c915";

/// What came of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// It was not there.
    Created,
    /// It was another.
    Replaced,
    /// It was as it should be.
    Unchanged,
    /// It was there.
    Removed,
    /// It was not there.
    Absent,
}

/// A file that is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// It belongs to somebody else.
    #[error("{} is not Weft's, and stays as it is; name another place, or take it away first", .0.display())]
    Foreign(PathBuf),
    /// The system said no.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Done::Created => "created",
            Done::Replaced => "replaced",
            Done::Unchanged => "unchanged",
            Done::Removed => "removed",
            Done::Absent => "was not there",
        })
    }
}

/// Whether a program is the plugin, of any version.
pub fn is_plugin(content: &[u8]) -> bool {
    content.windows(MARK.len()).any(|window| window == MARK)
}

/// Whether a network configuration is Weft's: one of its plugins is.
pub fn is_configuration(content: &[u8]) -> bool {
    let Ok(value) = serde_json::from_slice::<Value>(content) else { return false };
    let plugins = value["plugins"].as_array();
    plugins.is_some_and(|plugins| plugins.iter().any(|plugin| plugin["type"] == PLUGIN))
}

/// Refuses a file that is there and is not one of ours.
pub fn ours_or_none(path: &Path, is_ours: impl Fn(&[u8]) -> bool) -> Result<(), PlaceError> {
    let is_link = fs::symlink_metadata(path).is_ok_and(|data| !data.is_file());
    match read(path)? {
        Some(content) if is_link || !is_ours(&content) => Err(PlaceError::Foreign(path.to_owned())),
        None if is_link => Err(PlaceError::Foreign(path.to_owned())),
        _ => Ok(()),
    }
}

/// Makes a file what it should be. When it returns, it is so also after a power cut.
pub fn put(path: &Path, content: &[u8], mode: u32) -> Result<Done, PlaceError> {
    let old = read(path)?;
    let old_mode = fs::metadata(path).map_or(0, |data| data.permissions().mode() & 0o7777);
    if old.as_deref() == Some(content) && old_mode == mode {
        return Ok(Done::Unchanged);
    }
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder).map_err(|source| failed("make", folder, source))?;
    let temporary = folder.join(format!(".{PLUGIN}-{}-{}", std::process::id(), nanoseconds()));
    let written = write(&temporary, content, mode).and_then(|()| fs::rename(&temporary, path));
    if let Err(source) = written {
        // It may not be there; what matters is told.
        let _ = fs::remove_file(&temporary);
        return Err(failed("write", path, source));
    }
    sync(folder)?;
    Ok(if old.is_some() { Done::Replaced } else { Done::Created })
}

/// Takes a file away.
pub fn remove(path: &Path) -> Result<Done, PlaceError> {
    match fs::remove_file(path) {
        Ok(()) => sync(path.parent().unwrap_or(Path::new("/"))).map(|()| Done::Removed),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Done::Absent),
        Err(source) => Err(failed("remove", path, source)),
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, PlaceError> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(failed("read", path, source)),
    }
}

fn write(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    // The umask does not count here.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.sync_all()
}

fn sync(folder: &Path) -> Result<(), PlaceError> {
    File::open(folder).and_then(|file| file.sync_all()).map_err(|source| failed("sync", folder, source))
}

fn nanoseconds() -> u128 {
    std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos()
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> PlaceError {
    PlaceError::File { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_with_the_mark_is_the_plugin() {
        assert!(is_plugin(&[b"\x7fELF...", MARK, b"..."].concat()));
        assert!(!is_plugin(b"\x7fELF weft-cni"));
        assert!(!is_plugin(b""));
    }

    #[test]
    fn a_configuration_with_the_plugin_is_ours() {
        assert!(is_configuration(br#"{"plugins": [{"type": "loopback"}, {"type": "weft-cni"}]}"#));
        for other in [r#"{"plugins": [{"type": "bridge"}]}"#, r#"{"type": "weft-cni"}"#, "{", ""] {
            assert!(!is_configuration(other.as_bytes()), "{other}");
        }
    }
}
