//! Where the programs under test are. Building them is make's business.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The environment variable that names the folder of the built programs.
pub const BIN_DIR: &str = "WEFT_BIN_DIR";

/// The path of a program of this workspace: in `WEFT_BIN_DIR`, else in the folder of the running executable or
/// one of its parents (`target/debug` for a test in `target/debug/deps`).
pub fn find(program: &str) -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os(BIN_DIR) {
        return find_in([Path::new(&folder)], program);
    }
    let executable = std::env::current_exe().context("the path of this executable")?;
    find_in(executable.ancestors().skip(1).take(2), program)
}

fn find_in<'a>(folders: impl IntoIterator<Item = &'a Path>, program: &str) -> Result<PathBuf> {
    let mut looked = Vec::new();
    for folder in folders {
        let path = folder.join(program);
        if path.is_file() {
            return path.canonicalize().with_context(|| path.display().to_string());
        }
        looked.push(path.display().to_string());
    }
    bail!(
        "{program} is not built (looked for {}); run `cargo build --workspace --bins` or `make test`",
        looked.join(" and ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_in_the_first_folder_that_has_it() {
        let path = find_in([Path::new("/nonexistent"), Path::new("/bin")], "sh").unwrap();
        assert!(path.is_absolute() && path.is_file());
    }

    #[test]
    fn a_missing_program_is_told_with_what_to_do() {
        let error = find_in([Path::new("/nonexistent")], "weftd").unwrap_err().to_string();
        assert!(error.contains("/nonexistent/weftd") && error.contains("make test"), "{error}");
    }
}
