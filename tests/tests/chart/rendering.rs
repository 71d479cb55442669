//! Runs helm. What the objects must be like is the tests' business.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

/// Versions of Kubernetes that the chart is rendered for: the oldest that it names, the last without a field for
/// AppArmor, the one of kubectl, and the newest.
pub const VERSIONS: [&str; 4] = ["1.25", "1.29", "1.34", "1.37"];
/// The release's name and namespace in tests.
pub const RELEASE: &str = "weft";
pub const NAMESPACE: &str = "kube-system";

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

pub fn chart() -> PathBuf {
    root().join("charts/weft")
}

/// What `scripts/kubernetes-tools` has put there.
pub fn tool(name: &str) -> Result<PathBuf> {
    let path = root().join("target/tools").join(name);
    ensure!(path.exists(), "{} is missing: run scripts/install-deps test", path.display());
    Ok(path)
}

/// The values files of the chart's folder `ci`, by name.
pub fn values_files() -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(chart().join("ci"))?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.sort();
    ensure!(files.len() >= 10, "ten values files expected: {files:?}");
    Ok(files)
}

pub fn name(file: &Path) -> String {
    file.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Runs helm, without the configuration of whoever runs the tests.
pub fn helm(arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(tool("bin/helm")?);
    command.args(arguments).env_clear().env("HOME", "/nonexistent");
    command.output().context("helm")
}

/// Renders the chart for a version of Kubernetes; `options` are further ones of `helm template`.
pub fn template(kubernetes: &str, options: &[&str]) -> Result<Output> {
    let chart = chart();
    let chart = chart.to_str().context("the chart's path")?;
    let version = format!("{kubernetes}.0");
    let fixed = ["template", RELEASE, chart, "--namespace", NAMESPACE, "--kube-version", &version];
    helm(&[&fixed, options].concat())
}

/// The objects that the chart gives with a values file of its folder `ci` and further options.
pub fn objects(kubernetes: &str, values: &str, options: &[&str]) -> Result<Vec<Value>> {
    let file = chart().join("ci").join(format!("{values}.yaml"));
    let file = file.to_str().context("the values file's path")?;
    let output = template(kubernetes, &[&["--values", file], options].concat())?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{values}: {said}");
    let documents = serde_yaml_ng::Deserializer::from_slice(&output.stdout).map(Value::deserialize);
    let objects = documents.collect::<Result<Vec<_>, _>>().with_context(|| values.to_owned())?;
    Ok(objects.into_iter().filter(|object| !object.is_null()).collect())
}

/// The objects for the newest version of Kubernetes.
pub fn newest(values: &str, options: &[&str]) -> Result<Vec<Value>> {
    objects(VERSIONS[VERSIONS.len() - 1], values, options)
}

/// The one object of this kind.
pub fn only<'a>(objects: &'a [Value], kind: &str) -> Result<&'a Value> {
    let mut found = objects.iter().filter(|object| object["kind"] == kind);
    let first = found.next().with_context(|| format!("no {kind}"))?;
    ensure!(found.next().is_none(), "more than one {kind}");
    Ok(first)
}

/// The pods' spec of the DaemonSet.
pub fn pod(objects: &[Value]) -> Result<&Value> {
    Ok(&only(objects, "DaemonSet")?["spec"]["template"]["spec"])
}

/// The elements of a list; nothing when there is none.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// The element of a list with this name.
pub fn named<'a>(elements: &'a Value, name: &str) -> Result<&'a Value> {
    list(elements).iter().find(|element| element["name"] == name).with_context(|| format!("no {name}"))
}
