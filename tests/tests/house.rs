//! Who may use whom: the rules of ARCHITECTURE.md, held by a test.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn metadata() -> Result<Value> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["metadata", "--format-version", "1", "--no-deps", "--offline"]).current_dir(root());
    serde_json::from_slice(&command.output()?.stdout).context("cargo metadata")
}

/// The dependencies of a crate that are not for its tests alone.
fn dependencies(package: &str) -> Result<BTreeSet<String>> {
    let metadata = metadata()?;
    let packages = metadata["packages"].as_array().context("packages")?;
    let found = packages.iter().find(|p| p["name"] == package).with_context(|| package.to_owned())?;
    let listed = found["dependencies"].as_array().context("dependencies")?;
    let names = listed.iter().filter(|d| d["kind"].is_null()).filter_map(|d| d["name"].as_str());
    Ok(names.map(str::to_owned).collect())
}

fn sources(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(sources(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(found)
}

#[test]
fn crates_use_only_what_the_architecture_allows() {
    let allowed: [(&str, &[&str]); 6] = [
        ("weft-proto", &[]),
        ("weft-stack", &[]),
        ("weft-host", &[]),
        ("weft", &["weft-proto"]),
        ("weft-cni", &["weft-proto"]),
        ("weftd", &["weft-proto", "weft-stack", "weft-host"]),
    ];
    for (package, allowed) in allowed {
        let used = dependencies(package).unwrap();
        let ours = used.iter().filter(|name| name.starts_with("weft"));
        for name in ours {
            assert!(allowed.contains(&name.as_str()), "{package} uses {name}");
        }
    }
}

#[test]
fn the_stack_has_no_runtime_no_system_calls_and_no_clock() {
    let used = dependencies("weft-stack").unwrap();
    for banned in ["tokio", "libc", "nix", "rustix", "mio", "socket2"] {
        assert!(!used.contains(banned), "weft-stack uses {banned}");
    }
    for path in sources(&root().join("stack/src")).unwrap() {
        let text = fs::read_to_string(&path).unwrap();
        for banned in [
            "Instant::now",
            "SystemTime::now",
            "std::net::TcpStream",
            "std::net::UdpSocket",
            "std::fs",
            "libc::",
        ] {
            assert!(!text.contains(banned), "{} uses {banned}", path.display());
        }
    }
}

#[test]
fn only_the_host_crate_may_contain_unsafe_code() {
    let roots = [
        "proto/src/lib.rs",
        "stack/src/lib.rs",
        "daemon/src/lib.rs",
        "cli/src/main.rs",
        "cni-plugin/src/main.rs",
        "testkit/src/lib.rs",
    ];
    for path in roots {
        let text = fs::read_to_string(root().join(path)).unwrap();
        assert!(text.contains("#![forbid(unsafe_code)]"), "{path} does not forbid unsafe code");
    }
}

#[test]
fn every_source_file_says_what_it_owns() {
    for part in [
        "proto/src",
        "stack/src",
        "host/src",
        "daemon/src",
        "cli/src",
        "cni-plugin/src",
        "testkit/src",
        "tests/tests",
        "bench/src",
    ] {
        for path in sources(&root().join(part)).unwrap() {
            let text = fs::read_to_string(&path).unwrap();
            let generated = path.components().any(|c| c.as_os_str() == "generated");
            assert!(generated || text.starts_with("//!"), "{} does not open with //!", path.display());
        }
    }
}

#[test]
fn every_drop_reason_and_counter_has_a_row_in_the_operators_manual() {
    use weft_stack::counters::StackCounters;
    use weft_stack::verdict::DropReason;
    let manual = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let counters = StackCounters::default();
    let names =
        DropReason::ALL.iter().map(|reason| reason.name()).chain(counters.values().map(|(name, _)| name));
    let missing: Vec<&str> = names.filter(|name| !manual.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "docs/operations.md does not tell of {missing:?}");
}
