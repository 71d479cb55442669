//! The manual's table of values says what `values.yaml` says, and the schema has the same values.
//! `WEFT_BLESS=1` writes the table anew.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use super::rendering::{chart, root};

const BEGIN: &str = "<!-- values: begin -->\n";
const END: &str = "<!-- values: end -->\n";
/// What the schema has beyond `values.yaml`: what Helm adds, and parts of Kubernetes' own types.
const BEYOND: [&str; 10] = [
    "global",
    "agent.resources.claims",
    "agent.resources.limits",
    "resources.claims",
    "resources.limits",
    "seLinuxOptions.role",
    "seLinuxOptions.user",
    "affinity.nodeAffinity",
    "affinity.podAffinity",
    "affinity.podAntiAffinity",
];

/// A value with its comment, which begins with `# -- `.
struct Row {
    path: String,
    about: String,
}

fn values() -> (String, Value) {
    let text = fs::read_to_string(chart().join("values.yaml")).unwrap();
    let parsed = serde_yaml_ng::from_str(&text).unwrap();
    (text, parsed)
}

/// The values that have a comment, in the order of the file.
fn rows(text: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut parents: Vec<(usize, &str)> = Vec::new();
    let mut about = None;
    for line in text.lines() {
        let inner = line.trim_start();
        if let Some(words) = inner.strip_prefix("# -- ") {
            about = Some(words.to_owned());
        }
        let Some((key, _)) = inner.split_once(':').filter(|(key, _)| !key.starts_with(['#', '-'])) else {
            continue;
        };
        let depth = line.len() - inner.len();
        parents.retain(|(other, _)| *other < depth);
        parents.push((depth, key));
        let path = parents.iter().map(|(_, key)| *key).collect::<Vec<_>>().join(".");
        rows.extend(about.take().map(|about| Row { path, about }));
    }
    rows
}

fn at<'a>(values: &'a Value, path: &str) -> &'a Value {
    values.pointer(&format!("/{}", path.replace('.', "/"))).unwrap_or_else(|| panic!("{path} is not there"))
}

fn table(text: &str, values: &Value) -> String {
    let mut table = "| value | default | meaning |\n|---|---|---|\n".to_owned();
    for Row { path, about } in rows(text) {
        table.push_str(&format!("| `{path}` | `{}` | {about} |\n", at(values, &path)));
    }
    table
}

/// The paths of all values that are no maps, and of maps that are empty.
fn leaves(value: &Value, path: &str, found: &mut Vec<String>) {
    match value.as_object().filter(|map| !map.is_empty()) {
        Some(map) => map.iter().for_each(|(key, value)| leaves(value, &format!("{path}.{key}"), found)),
        None => found.push(path.trim_start_matches('.').to_owned()),
    }
}

/// The paths that a schema names, without those of lists' elements.
fn known(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    for (key, inner) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{key}");
        found.insert(path.trim_start_matches('.').to_owned());
        known(inner, &path, found);
    }
}

#[test]
fn the_manual_lists_all_values_with_their_defaults() {
    let path = root().join("docs/kubernetes.md");
    let manual = fs::read_to_string(&path).unwrap();
    let (before, rest) = manual.split_once(BEGIN).unwrap();
    let (listed, after) = rest.split_once(END).unwrap();
    let (text, parsed) = values();
    let table = table(&text, &parsed);
    if std::env::var_os("WEFT_BLESS").is_some() {
        fs::write(&path, format!("{before}{BEGIN}\n{table}\n{END}{after}")).unwrap();
        return;
    }
    assert_eq!(listed.trim(), table.trim(), "write it anew with WEFT_BLESS=1");
}

#[test]
fn every_value_has_a_comment_of_its_own_or_of_what_it_is_part_of() {
    let (text, parsed) = values();
    let told = rows(&text);
    assert!(told.len() > 50, "{} values with comments", told.len());
    let mut all = Vec::new();
    leaves(&parsed, "", &mut all);
    for path in all {
        let covers = |row: &Row| path == row.path || path.starts_with(&format!("{}.", row.path));
        assert!(told.iter().any(covers), "{path} has no comment");
    }
}

#[test]
fn the_schema_names_no_value_that_is_not_in_the_file() {
    let schema = fs::read(chart().join("values.schema.json")).unwrap();
    let mut paths = BTreeSet::new();
    known(&serde_json::from_slice(&schema).unwrap(), "", &mut paths);
    let (_, parsed) = values();
    let missing = |path: &&String| parsed.pointer(&format!("/{}", path.replace('.', "/"))).is_none();
    let beyond: BTreeSet<&str> = paths.iter().filter(missing).map(String::as_str).collect();
    assert_eq!(beyond, BTreeSet::from(BEYOND));
}
