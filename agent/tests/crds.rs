//! The chart's definitions are those of the types. `WEFT_BLESS=1` writes them.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use weft_agent::crd;

const HEADER: &str = "# Written from the agent's types (make bless), as `weft-agent crds` prints it.\n";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/weft/crds")
}

/// A file a kind, by name.
fn definitions() -> BTreeMap<String, String> {
    let definitions = crd::definitions();
    let file = |plural: &str| format!("{plural}.yaml");
    definitions
        .iter()
        .map(|it| (file(&it.spec.names.plural), format!("{HEADER}{}", serde_yaml_ng::to_string(it).unwrap())))
        .collect()
}

fn files() -> BTreeMap<String, String> {
    let entries = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap()))
        .collect()
}

#[test]
fn the_chart_has_a_file_for_each_kind_and_no_other() {
    let definitions = definitions();
    assert!(definitions.contains_key("ippools.yaml") && definitions.contains_key("weftnodes.yaml"));
    if std::env::var_os("WEFT_BLESS").is_some() {
        for name in files().keys().filter(|name| !definitions.contains_key(*name)) {
            fs::remove_file(folder().join(name)).unwrap();
        }
        for (name, text) in &definitions {
            fs::write(folder().join(name), text).unwrap();
        }
    }
    let files = files();
    assert!(files.keys().eq(definitions.keys()), "{:?} were {:?}", definitions.keys(), files.keys());
    for (name, text) in &definitions {
        assert!(files[name] == *text, "{name} is not what the types say: write it anew with WEFT_BLESS=1");
    }
}
