//! Asks scapy, which runs in a Python process of its own and touches no device.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, bail, ensure};

use super::fields::Fields;
use crate::oracle::dissect::hex;

/// Debian's Python, to which its scapy belongs.
const PYTHON: &str = "/usr/bin/python3";

/// Scapy's reading of each frame.
pub fn dissect(frames: &[Vec<u8>]) -> Result<Vec<Fields>> {
    let input: String = frames.iter().map(|frame| hex(frame) + "\n").collect();
    ask(&["dissect"], input)
}

/// All that scapy finds in each frame, under its own names: layer, dot, field.
pub fn explain(frames: &[Vec<u8>]) -> Result<Vec<Fields>> {
    let input: String = frames.iter().map(|frame| hex(frame) + "\n").collect();
    ask(&["explain"], input)
}

/// Frames that scapy makes up, and its reading of them.
pub fn build(seed: u64, count: u32) -> Result<Vec<(Vec<u8>, Fields)>> {
    let made = ask(&["build", &seed.to_string(), &count.to_string()], String::new())?;
    ensure!(made.len() == count as usize, "{} frames made up, {count} expected", made.len());
    made.into_iter()
        .map(|mut fields| {
            let digits = fields.remove("hex").context("a frame without its bytes")?;
            let pairs = (0..digits.len()).step_by(2);
            let bytes = pairs.map(|at| u8::from_str_radix(&digits[at..at + 2], 16));
            Ok((bytes.collect::<Result<_, _>>()?, fields))
        })
        .collect()
}

fn ask(arguments: &[&str], input: String) -> Result<Vec<Fields>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scapy_eye.py");
    let mut child = Command::new(PYTHON)
        .arg(script)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("{PYTHON}, with Debian's python3-scapy"))?;
    let mut pipe = child.stdin.take().context("no standard input")?;
    let writer = thread::spawn(move || pipe.write_all(input.as_bytes()));
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "scapy_eye.py {arguments:?} ended with {}", output.status);
    if let Ok(Err(error)) = writer.join() {
        bail!("scapy_eye.py did not read all frames: {error}");
    }
    let text = String::from_utf8(output.stdout)?;
    text.lines().map(|line| Ok(serde_json::from_str::<BTreeMap<String, String>>(line)?)).collect()
}
