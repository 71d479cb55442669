//! Cases that real programs made: the frames of `tests/frames`, in the order in which they were sent.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::case::{Case, Step};
use super::topology::Wire;

/// All captured cases: one for each block of lines of each file.
pub fn cases() -> Result<Vec<Case>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("frames");
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        files.push(entry?.path());
    }
    files.retain(|file| file.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    ensure!(!files.is_empty(), "no frames in {}", folder.display());
    let mut cases = Vec::new();
    for file in files {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(&file)?;
        for block in blocks(&text) {
            let steps = block.iter().map(|line| step(line)).collect::<Option<Vec<_>>>();
            let steps = steps.with_context(|| format!("{name}: a line is no wire and frame"))?;
            let number = cases.len() as u64;
            cases.push(Case { number, family: "captured", title: name.clone(), steps });
        }
    }
    Ok(cases)
}

/// Lines without a blank one between them, comments left out.
fn blocks(text: &str) -> Vec<Vec<&str>> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    lines.split(|line| line.is_empty()).filter(|block| !block.is_empty()).map(<[&str]>::to_vec).collect()
}

/// A line: the wire's name, and the frame in hexadecimal digits.
fn step(line: &str) -> Option<Step> {
    let (name, digits) = line.split_once(' ')?;
    let from = Wire::ALL.into_iter().find(|wire| wire.name() == name)?;
    let pairs = (0..digits.len()).step_by(2);
    let frame =
        pairs.map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok()).collect::<Option<_>>()?;
    Some(Step { from, frame, asks: false })
}
