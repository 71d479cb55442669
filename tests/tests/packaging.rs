//! What packages are made of: the daemon's systemd unit, and the container image. That containerd runs it is shown
//! beside the other tests of runtimes.

#![allow(clippy::unwrap_used)]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use weft_testkit::binaries;

fn unit() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/systemd/weftd.service");
    fs::read_to_string(path).unwrap()
}

/// Makes an image of the plugin, with this mode and so old, in a folder; gives what was said and the archive.
fn image(folder: &Path, mode: u32, changed: SystemTime) -> (String, Vec<u8>) {
    fs::create_dir_all(folder).unwrap();
    let program = folder.join("weft-cni");
    fs::copy(binaries::find("weft-cni").unwrap(), &program).unwrap();
    fs::set_permissions(&program, Permissions::from_mode(mode)).unwrap();
    fs::File::options().append(true).open(&program).unwrap().set_modified(changed).unwrap();
    let archive = folder.join("weft.tar");
    let maker = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/image/archive");
    let words = ["--version", "1.2.3", "--moment", "1700000000", "weft-cni", "--programs"];
    let mut command = Command::new(maker);
    let output = command.args(words).arg(folder).arg("--output").arg(&archive).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    (said, fs::read(archive).unwrap())
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
fn the_image_of_one_program_is_the_same_wherever_and_whenever_it_is_made() {
    let folder = Folder(std::env::temp_dir().join(format!("weft-image-{}", std::process::id())));
    let (said, first) = image(&folder.0.join("one"), 0o755, SystemTime::UNIX_EPOCH);
    assert!(said.contains("weft.dev/weft:1.2.3") && said.contains("sha256:"), "{said}");
    let (_, second) = image(&folder.0.join("another"), 0o700, SystemTime::now());
    assert!(first == second, "two archives of {} and {} octets differ", first.len(), second.len());
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
