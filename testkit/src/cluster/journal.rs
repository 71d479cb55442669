//! The objects in a file, so that a server that returns has them.
//!
//! Each change adds one line of JSON, so that it costs the same however many objects there are and is kept when
//! the server is killed. Opening the file writes it anew with what is left.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::cluster::path::Resource;

/// An open file of changes.
#[derive(Debug)]
pub struct Journal(File);

/// One line.
#[derive(Debug)]
pub enum Line {
    /// This version was given out; also the first line, which says so of those whose objects are gone.
    Version(u64),
    /// An object that is, or one that is gone.
    Change(Entry),
}

/// An object that is, or one that is gone.
#[derive(Debug)]
pub struct Entry {
    /// What it is one of.
    pub resource: Resource,
    /// The object.
    pub object: Value,
    /// Whether it is gone.
    pub deleted: bool,
}

impl Journal {
    /// Reads a file; empty when there is none. A last line that was not written to its end is left out.
    pub fn read(path: &Path) -> Result<Vec<Line>> {
        if !path.exists() {
            return Ok(Vec::new());
        }
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        Ok(text.lines().map_while(parse).collect())
    }

    /// Writes a file anew with the latest version and these objects, and leaves it open for more.
    pub fn create<'a>(
        path: &Path,
        version: u64,
        entries: impl Iterator<Item = (&'a Resource, &'a Value)>,
    ) -> Result<Journal> {
        let mut text = version_line(version);
        text.extend(entries.map(|(resource, object)| line(resource, object, false)));
        let draft = path.with_extension("new");
        fs::write(&draft, text).with_context(|| draft.display().to_string())?;
        fs::rename(&draft, path).with_context(|| path.display().to_string())?;
        let file = OpenOptions::new().append(true).open(path).with_context(|| path.display().to_string())?;
        Ok(Journal(file))
    }

    /// Adds a version without a change.
    pub fn add_version(&mut self, version: u64) -> std::io::Result<()> {
        self.0.write_all(version_line(version).as_bytes())
    }

    /// Adds a change.
    pub fn add(&mut self, resource: &Resource, object: &Value, deleted: bool) -> std::io::Result<()> {
        self.0.write_all(line(resource, object, deleted).as_bytes())
    }
}

fn version_line(version: u64) -> String {
    format!("{}\n", json!({ "version": version }))
}

fn line(resource: &Resource, object: &Value, deleted: bool) -> String {
    let Resource { group, plural } = resource;
    let text = json!({"group": group, "plural": plural, "object": object, "deleted": deleted});
    format!("{text}\n")
}

fn parse(line: &str) -> Option<Line> {
    let mut value: Value = serde_json::from_str(line).ok()?;
    if let Some(version) = value["version"].as_u64() {
        return Some(Line::Version(version));
    }
    let word = |field: &str| value[field].as_str().map(str::to_owned);
    let resource = Resource { group: word("group")?, plural: word("plural")? };
    let deleted = value["deleted"] == true;
    Some(Line::Change(Entry { resource, deleted, object: value["object"].take() }))
}
