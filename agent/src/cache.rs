//! What was last heard of the cluster, on disk: a node that starts while nobody answers goes by it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::cluster::View;
use crate::error::Result;
use crate::file::{self, at};

const FILE: &str = "cluster.json";

/// A folder with what was last heard.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// That in a folder, which is made when it is not there.
    pub fn open(folder: &Path) -> Result<Cache> {
        fs::create_dir_all(folder).map_err(at(folder))?;
        Ok(Cache { folder: folder.to_owned() })
    }

    /// What was last heard; nothing if that is not there or cannot be read, which the log says.
    pub fn load(&self) -> View {
        let path = self.folder.join(FILE);
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).unwrap_or_else(|error| {
                tracing::warn!(file = %path.display(), %error, "what was known of the cluster cannot be read: it is asked anew");
                View::default()
            }),
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(file = %path.display(), %error, "what was known of the cluster cannot be read");
                }
                View::default()
            }
        }
    }

    /// Writes what was heard, whole or not at all.
    pub fn save(&self, view: &View) -> Result<()> {
        // Maps with names as keys, strings and numbers: this cannot fail.
        let text = serde_json::to_vec(view).unwrap_or_default();
        file::replace(&self.folder, FILE, &text)
    }
}
