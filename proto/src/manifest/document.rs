//! One document of a manifest as a resource.

use serde::de::DeserializeOwned;
use serde_yaml_ng::{Mapping, Value};

use super::locate::{Step, path};
use super::wording;
use crate::v1::{Kind, Metadata, Namespace, Network, Port, Resource, Router, Tunnel, resource};
use crate::{API_VERSION, encoding::Words};

const FIELDS: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];

/// What is wrong in one document.
#[derive(Debug)]
pub(super) struct Wrong {
    /// `Port/web`, as far as it is known.
    pub object: String,
    /// The field.
    pub path: Vec<Step>,
    /// What was expected.
    pub message: String,
}

impl Wrong {
    /// Something is wrong with the document as a whole.
    pub fn whole(message: impl Into<String>) -> Wrong {
        Wrong { object: String::new(), path: Vec::new(), message: message.into() }
    }

    fn field(field: &str, message: impl Into<String>) -> Wrong {
        Wrong { object: String::new(), path: path(&[field]), message: message.into() }
    }
}

/// The resource that a document describes.
pub(super) fn resource(value: Value) -> Result<Resource, Wrong> {
    let Value::Mapping(mut document) = value else {
        return Err(Wrong::whole(format!(
            "{} given, a mapping with apiVersion, kind, metadata and spec expected",
            wording::found(&value)
        )));
    };
    let object = object(&document);
    read(&mut document).map_err(|wrong| Wrong { object, ..wrong })
}

fn read(document: &mut Mapping) -> Result<Resource, Wrong> {
    api_version(document)?;
    let kind = kind(document)?;
    known_fields(document)?;
    let metadata: Metadata = section(document, "metadata")?;
    if metadata.name.is_empty() {
        let path = path(&["metadata", "name"]);
        return Err(Wrong { object: String::new(), path, message: "missing, a name expected".to_owned() });
    }
    let kind = match kind {
        Kind::Namespace => resource::Kind::Namespace(Namespace { spec: spec(document)?, status: None }),
        Kind::Network => resource::Kind::Network(Network { spec: spec(document)?, status: None }),
        Kind::Port => resource::Kind::Port(Port { spec: spec(document)?, status: None }),
        Kind::Router => resource::Kind::Router(Router { spec: spec(document)?, status: None }),
        Kind::Tunnel => resource::Kind::Tunnel(Tunnel { spec: spec(document)?, status: None }),
        Kind::Unspecified => return Err(Wrong::field("kind", "missing")),
    };
    Ok(Resource { metadata: Some(metadata), kind: Some(kind) })
}

/// Kind and name as far as they can be read, to name the object in errors.
fn object(document: &Mapping) -> String {
    let kind = document.get("kind").and_then(Value::as_str).unwrap_or_default();
    let name = document.get("metadata").and_then(|metadata| metadata.get("name")).and_then(Value::as_str);
    match name {
        Some(name) => format!("{kind}/{name}"),
        None => kind.to_owned(),
    }
}

fn known_fields(document: &Mapping) -> Result<(), Wrong> {
    let unknown = document.keys().find(|key| !key.as_str().is_some_and(|key| FIELDS.contains(&key)));
    match unknown {
        None => Ok(()),
        Some(Value::String(key)) => {
            Err(Wrong::field(key, format!("unknown field, expected one of {}", FIELDS.join(", "))))
        }
        Some(key) => {
            let found = wording::found(key);
            Err(Wrong::whole(format!("key {found}: unknown field, expected one of {}", FIELDS.join(", "))))
        }
    }
}

fn api_version(document: &Mapping) -> Result<(), Wrong> {
    match document.get("apiVersion") {
        Some(Value::String(version)) if version == API_VERSION => Ok(()),
        Some(other) => {
            let found = wording::found(other);
            Err(Wrong::field("apiVersion", format!("{found} is not supported, {API_VERSION} expected")))
        }
        None => Err(Wrong::field("apiVersion", format!("missing, {API_VERSION} expected"))),
    }
}

fn kind(document: &Mapping) -> Result<Kind, Wrong> {
    let kinds = || Kind::WORDS.iter().map(|(_, name)| *name).collect::<Vec<_>>().join(", ");
    let Some(value) = document.get("kind") else {
        return Err(Wrong::field("kind", format!("missing, one of {} expected", kinds())));
    };
    let known = value.as_str().and_then(Kind::from_name);
    let wrong =
        || format!("{} is not a kind of {API_VERSION}, one of {} expected", wording::found(value), kinds());
    known.ok_or_else(|| Wrong::field("kind", wrong()))
}

fn spec<T: DeserializeOwned + Default>(document: &mut Mapping) -> Result<Option<T>, Wrong> {
    section(document, "spec").map(Some)
}

/// A part of the document; left out or empty, it has all defaults.
fn section<T: DeserializeOwned + Default>(document: &mut Mapping, name: &str) -> Result<T, Wrong> {
    let value = match document.remove(name) {
        None | Some(Value::Null) => return Ok(T::default()),
        Some(value) => value,
    };
    serde_path_to_error::deserialize(value).map_err(|error| {
        let mut path = path(&[name]);
        path.extend(error.path().iter().filter_map(Step::of));
        Wrong { object: String::new(), path, message: wording::reworded(&error.inner().to_string()) }
    })
}
