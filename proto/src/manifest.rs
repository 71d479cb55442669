//! Resources as YAML and JSON: `apiVersion`, `kind`, `metadata`, `spec` and `status`.
//!
//! One text may hold several documents, and a document may be a list of resources. JSON is read as the
//! YAML that it is. Only the shape is checked here; what values may be is the daemon's to judge.

use std::collections::BTreeMap;
use std::fmt;

use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use serde_yaml_ng::{Deserializer, Value};

use crate::API_VERSION;
use crate::encoding::is_default;
use crate::v1::{Resource, resource};

mod document;
mod locate;
mod wording;

/// What is wrong with a manifest, and where.
///
/// Shown as `networks.yaml: document 2, line 14: Port/web: spec.vlann: unknown field, expected one of ...`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ManifestError {
    /// The file, or `-`.
    pub source_name: String,
    /// Position of the document in the source, from 1.
    pub document: usize,
    /// Line in the source, from 1, when known.
    pub line: Option<usize>,
    /// `Port/web`, or less when kind or name are not known; empty when neither is.
    pub object: String,
    /// The path of the field; empty when the whole document is wrong.
    pub field: String,
    /// What is wrong and what was expected.
    pub message: String,
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: document {}", self.source_name, self.document)?;
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        for part in [&self.object, &self.field].into_iter().filter(|part| !part.is_empty()) {
            write!(f, ": {part}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Reads every resource of a text; `source` is what errors call it. A status is accepted and ignored.
///
/// Errors: one for each document (or element of a list) that is not a resource, and for each second
/// resource of the same kind and name. After a syntax error or a key that stands twice nothing more is read.
pub fn parse(text: &str, source: &str) -> Result<Vec<Resource>, Vec<ManifestError>> {
    let mut reader =
        Reader { text, source, resources: Vec::new(), seen: BTreeMap::new(), errors: Vec::new() };
    for (index, document) in Deserializer::from_str(text).enumerate() {
        match Value::deserialize(document) {
            Ok(value) => reader.document(index, value),
            Err(error) => {
                reader.errors.push(wording::syntax(text, source, index + 1, &error));
                break;
            }
        }
    }
    if reader.errors.is_empty() { Ok(reader.resources) } else { Err(reader.errors) }
}

/// What was read so far.
struct Reader<'a> {
    text: &'a str,
    source: &'a str,
    resources: Vec<Resource>,
    /// Objects, with the document that declared them.
    seen: BTreeMap<String, usize>,
    errors: Vec<ManifestError>,
}

impl Reader<'_> {
    fn document(&mut self, index: usize, mut value: Value) {
        // `<<: *defaults` takes over the fields of an anchor: YAML 1.1, and in wide use.
        let merged = value.apply_merge().map_err(|error| document::Wrong::whole(error.to_string()));
        match (merged, value) {
            (Err(wrong), _) => self.wrong(index, None, wrong),
            (Ok(()), Value::Null) => {}
            (Ok(()), Value::Sequence(items)) => {
                for (item, value) in items.into_iter().enumerate() {
                    self.resource(index, Some(item), value);
                }
            }
            (Ok(()), value) => self.resource(index, None, value),
        }
    }

    fn resource(&mut self, index: usize, item: Option<usize>, value: Value) {
        match document::resource(value).and_then(|resource| self.unseen(index, resource)) {
            Ok(resource) => self.resources.push(resource),
            Err(wrong) => self.wrong(index, item, wrong),
        }
    }

    fn unseen(&mut self, index: usize, resource: Resource) -> Result<Resource, document::Wrong> {
        match self.seen.insert(resource.id(), index + 1) {
            None => Ok(resource),
            Some(first) => Err(document::Wrong {
                object: resource.id(),
                path: locate::path(&["metadata", "name"]),
                message: format!("declared twice, first in document {first}"),
            }),
        }
    }

    fn wrong(&mut self, index: usize, item: Option<usize>, wrong: document::Wrong) {
        let mut path: Vec<_> = item.map(locate::Step::Index).into_iter().collect();
        path.extend_from_slice(&wrong.path);
        self.errors.push(ManifestError {
            source_name: self.source.to_owned(),
            document: index + 1,
            line: locate::line(self.text, index, &path),
            object: wrong.object,
            field: locate::shown(&wrong.path),
            message: wrong.message,
        });
    }
}

/// YAML documents, separated by `---`. Fields with default values are left out.
pub fn to_yaml(resources: &[Resource]) -> String {
    // Serializing plain maps, strings and numbers into memory cannot fail.
    let documents = resources.iter().map(|resource| serde_yaml_ng::to_string(resource).unwrap_or_default());
    documents.collect::<Vec<_>>().join("---\n")
}

/// A JSON array, indented. Fields with default values are left out.
pub fn to_json(resources: &[Resource]) -> String {
    // As in `to_yaml`.
    serde_json::to_string_pretty(resources).unwrap_or_default()
}

impl Serialize for Resource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("apiVersion", API_VERSION)?;
        map.serialize_entry("kind", self.kind().name())?;
        map.serialize_entry("metadata", &self.metadata.clone().unwrap_or_default())?;
        match &self.kind {
            None => {}
            Some(resource::Kind::Namespace(it)) => entries(&mut map, &it.spec, &it.status)?,
            Some(resource::Kind::Network(it)) => entries(&mut map, &it.spec, &it.status)?,
            Some(resource::Kind::Port(it)) => entries(&mut map, &it.spec, &it.status)?,
            Some(resource::Kind::Router(it)) => entries(&mut map, &it.spec, &it.status)?,
            Some(resource::Kind::Tunnel(it)) => entries(&mut map, &it.spec, &it.status)?,
        }
        map.end()
    }
}

fn entries<M, Spec, Status>(map: &mut M, spec: &Option<Spec>, status: &Option<Status>) -> Result<(), M::Error>
where
    M: SerializeMap,
    Spec: Serialize + Default + Clone,
    Status: Serialize + Default + PartialEq,
{
    map.serialize_entry("spec", &spec.clone().unwrap_or_default())?;
    match status.as_ref().filter(|status| !is_default(*status)) {
        Some(status) => map.serialize_entry("status", status),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
