//! What packages are made of: the daemon's systemd unit.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn unit() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/systemd/weftd.service");
    fs::read_to_string(path).unwrap()
}

/// A folder of its own for a test, gone with it.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn systemd_understands_every_line_of_the_unit() {
    let folder = Folder(std::env::temp_dir().join(format!("weft-unit-{}", std::process::id())));
    fs::create_dir_all(&folder.0).unwrap();
    let path = folder.0.join("weftd.service");
    // The daemon need not be installed where the unit has it.
    fs::write(&path, unit().replace("/usr/local/bin/weftd", "/bin/true")).unwrap();
    let output = Command::new("systemd-analyze").arg("verify").arg(&path).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("weftd.service"), "{said}");
}

#[test]
fn the_unit_has_no_option_that_hides_namespaces_from_others() {
    let private = [
        "Private",
        "ProtectSystem",
        "ProtectHome",
        "ProtectProc",
        "ProcSubset",
        "ProtectKernel",
        "ProtectControlGroups",
        "ProtectHostname",
        "ReadWritePaths",
        "ReadOnlyPaths",
        "InaccessiblePaths",
        "ExecPaths",
        "NoExecPaths",
        "BindPaths",
        "BindReadOnlyPaths",
        "TemporaryFileSystem",
        "MountFlags",
        "RootDirectory",
        "DynamicUser",
    ];
    let unit = unit();
    for line in unit.lines().filter(|line| !line.starts_with('#')) {
        assert!(!private.iter().any(|option| line.starts_with(option)), "{line} makes mounts private");
    }
    assert!(unit.contains("\nRuntimeDirectoryPreserve=yes\n"));
}
