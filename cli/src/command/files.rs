//! Reading manifests from files, folders and stdin.

use std::borrow::Cow;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use weft_proto::manifest;
use weft_proto::v1::Resource;

use crate::error::Error;

/// The resources of all of these, in order. Wrong manifests are all reported, of every file.
pub fn read(files: &[PathBuf]) -> Result<Vec<Resource>, Error> {
    let mut resources = Vec::new();
    let mut errors = Vec::new();
    for file in files.iter().map(|file| expand(file)).collect::<Result<Vec<_>, _>>()?.concat() {
        match manifest::parse(&text(&file)?, &called(&file)) {
            Ok(more) => resources.extend(more),
            Err(more) => errors.extend(more),
        }
    }
    if !errors.is_empty() {
        return Err(Error::Manifest(errors));
    }
    if resources.is_empty() {
        let names: Vec<_> = files.iter().map(|file| called(file)).collect();
        return Err(Error::Nothing(names.join(", ")));
    }
    Ok(resources)
}

/// What messages call a file.
pub fn called(file: &Path) -> Cow<'_, str> {
    if is_stdin(file) { Cow::Borrowed("stdin") } else { file.to_string_lossy() }
}

fn is_stdin(file: &Path) -> bool {
    file == Path::new("-")
}

/// A folder's manifests by name, or the file itself.
fn expand(file: &Path) -> Result<Vec<PathBuf>, Error> {
    if is_stdin(file) || !file.is_dir() {
        return Ok(vec![file.to_owned()]);
    }
    let entries = file.read_dir().and_then(|entries| entries.collect::<io::Result<Vec<_>>>());
    let entries = entries.map_err(|source| Error::File { path: file.to_owned(), source })?;
    let mut files: Vec<_> =
        entries.into_iter().map(|entry| entry.path()).filter(|file| is_manifest(file)).collect();
    files.sort();
    Ok(files)
}

fn is_manifest(file: &Path) -> bool {
    let extension = file.extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("yaml" | "yml" | "json")) && file.is_file()
}

/// The text of a file or of stdin.
pub fn text(file: &Path) -> Result<String, Error> {
    let text = match is_stdin(file) {
        true => {
            let mut text = String::new();
            io::stdin().lock().read_to_string(&mut text).map(|_| text)
        }
        false => std::fs::read_to_string(file),
    };
    text.map_err(|source| Error::File { path: called(file).as_ref().into(), source })
}
