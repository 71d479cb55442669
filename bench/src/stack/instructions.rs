//! Instructions a packet: this program runs itself under valgrind's callgrind, which counts within
//! [`Drive::process`](super::drive::Drive::process), and what is its like for WireGuard, alone.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use weft_stack::batch::BATCH;

/// Rounds of one count.
const ROUNDS: usize = 500;
/// What callgrind knows the functions as.
const FUNCTIONS: [&str; 3] =
    ["*drive::Drive::process*", "*wireguard::Sealing as *process*", "*wireguard::Opening as *process*"];

/// Whether valgrind is installed.
pub fn available() -> bool {
    let mut command = Command::new("valgrind");
    command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Instructions a packet of a microbenchmark. What was executed where is in `folder` afterwards, for
/// callgrind_annotate.
pub fn count(microbenchmark: &str, folder: &Path) -> Result<f64> {
    let program = std::env::current_exe().context("the path of this executable")?;
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let profile = folder.join(format!("callgrind.{microbenchmark}"));
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no"])
        .args(FUNCTIONS.map(|function| format!("--toggle-collect={function}")))
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(program)
        .args(["execute", microbenchmark, &ROUNDS.to_string()])
        .output()
        .context("valgrind")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "valgrind failed: {said}");
    per_packet(&said).with_context(|| format!("callgrind counted nothing: {said}"))
}

fn per_packet(said: &str) -> Option<f64> {
    let collected = said.lines().find_map(|line| line.split_once("Collected :"))?.1;
    let instructions: f64 = collected.trim().parse().ok()?;
    (instructions > 0.0).then_some(instructions / (ROUNDS * BATCH) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found_among_what_callgrind_says() {
        let said =
            "==7== Events    : Ir\n==7== Collected : 32000000\n==7==\n==7== I   refs:      32,000,000\n";
        assert_eq!(per_packet(said), Some(1000.0));
        assert_eq!(per_packet("==7== Collected : 0\n"), None);
    }
}
