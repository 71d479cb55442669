//! Files that are replaced whole: whoever reads finds the text before or the text after, also when the power fails.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use crate::error::{Error, Result};

/// Writes `text` to the file `name` of a folder, which is made when it is not there.
///
/// What is under way has a name of its own, `.NAME.new`: no program takes it for the file.
pub fn replace(folder: &Path, name: &str, text: &[u8]) -> Result<()> {
    fs::create_dir_all(folder).map_err(at(folder))?;
    let (path, new) = (folder.join(name), folder.join(format!(".{name}.new")));
    let written = File::create(&new).and_then(|mut file| {
        file.write_all(text)?;
        file.sync_all()
    });
    written.map_err(at(&new))?;
    fs::rename(&new, &path).map_err(at(&path))
}

/// The error of a file.
pub fn at(path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::File { path: path.to_owned(), source }
}
